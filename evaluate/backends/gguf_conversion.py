"""A GGUF file as a folder of safetensors with the tokenizer that the file names.

Reading a GGUF through transformers takes half a minute, and what it rebuilds is not always the
model's tokenizer: transformers 5.23 knows no `smollm` pre-tokenizer and merges whitespace across
digits, which changes 38 of 1,250 news, wiki and Python texts. The conversion happens once, repairs
the pre-tokenizer, and is cached under the file's digest.
"""

import io
import shutil
import sys
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collectors.document import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

# Part of the cache's key: raise it when a conversion would come out different.
CONVERSION = 1


def converted(path: Path, digest: str, cache: Path) -> Path:
    """Return a transformers folder that holds the model of a GGUF file.

    Args:
        path: the GGUF file.
        digest: its sha256, which the caller has computed to identify the model.
        cache: folder that keeps conversions.

    Raises:
        UserError: when the file is damaged, or names a pre-tokenizer that nobody here knows.
    """
    folder = cache / f"{digest[:16]}-{CONVERSION}"
    if not folder.exists():
        pre_tokenizer = _pre_tokenizer(path)
        temporary = cache / f".{folder.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        _convert(path, temporary, pre_tokenizer)
        temporary.replace(folder)
    return folder


def _convert(path: Path, folder: Path, pre_tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # transformers draws its bars whether or not anybody watches.
    quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    try:
        with quiet:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
    except Exception as error:  # a damaged file fails anywhere inside the readers, with any type
        raise _damaged(path, error) from error
    if pre_tokenizer is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _pre_tokenizer(path: Path) -> Any:
    """Return the pre-tokenizer to install, or None where transformers installs the right one."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    try:
        fields = GGUFReader(path).fields
        kind, name = (
            fields[key].contents() if key in fields else ""
            for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre")
        )
    except Exception as error:  # as above
        raise _damaged(path, error) from error
    if kind != "gpt2" or name in GGUF_PRE_TOKENIZER_SPLITS:
        return None

    def byte_level() -> Any:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

    def single_digits() -> Any:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])

    # The names and their rules are llama.cpp's (src/llama-vocab.cpp).
    known: dict[str, Callable[[], Any]] = {
        "gpt-2": byte_level,
        "smollm": single_digits,
        "starcoder": single_digits,
        "refact": single_digits,
        "codeshell": single_digits,
    }
    if name not in known:
        raise UserError(
            f"{path} names the pre-tokenizer {name!r}, which is not known here, so its text would be cut "
            "into other tokens than in training; use the model's original safetensors folder (known: "
            f"{', '.join(sorted({*known, *GGUF_PRE_TOKENIZER_SPLITS}))})"
        )
    return known[name]()


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path} is no readable GGUF file ({reason}); fetch it again and check its sha256")
