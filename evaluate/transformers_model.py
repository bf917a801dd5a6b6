"""Language models through transformers: a local folder, a GGUF file or a hub id.

The decoder runs once over a window, the output layer only over scored positions and a few rows at a
time, so that no [batch, window, vocabulary] tensor exists. The output layer is the model's own
forward with its decoder taken out, which keeps whatever the model does to its logits (soft-capping,
scaling); that both routes agree is checked when a model is loaded.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.gguf_conversion import converted
from evaluate.model import Prefix, Tokens
from evaluate.weights import identity

# Rows of logits at a time: 64 MiB of float32, whatever the vocabulary.
LOGITS_AT_A_TIME = 2**24

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransformersModel:
    """A `LanguageModel` that runs in PyTorch; build one with `load`."""

    name: str
    revision: str
    context_length: int | None
    vocabulary_size: int
    prefix: Prefix
    software: str
    tokenizer: Any
    decoder: Any
    head: Any
    device: torch.device

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts as plain text; see `LanguageModel.encode`."""
        if not texts:
            return []
        batch = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
        )
        tokens = [np.array(ids, dtype=np.int64) for ids in batch["input_ids"]]
        if max((ids.max() for ids in tokens if len(ids)), default=0) >= self.vocabulary_size:
            raise UserError(
                f"the tokenizer of {self.name} gives ids beyond the {self.vocabulary_size} that the model knows; "
                "the two do not belong together"
            )
        return tokens

    def decode(self, tokens: Tokens) -> str:
        """Return the text that the tokens restore; see `LanguageModel.decode`."""
        return str(self.tokenizer.decode(tokens.tolist(), clean_up_tokenization_spaces=False))

    @torch.inference_mode()
    def nll(self, inputs: Tokens, targets: Tokens) -> NDArray[np.float64]:
        """Return -ln p of each target; see `LanguageModel.nll`.

        Logits are taken to float32 before the log-softmax: in bfloat16 the loss itself would be
        rounded, which costs 0.5 % of bits per character.
        """
        n_targets = targets.shape[1]
        hidden = self.decoder(input_ids=torch.from_numpy(inputs).to(self.device), use_cache=False)[0]
        hidden = hidden[:, -n_targets:].reshape(1, targets.size, -1)
        wanted = torch.from_numpy(targets.reshape(-1, 1)).to(self.device)
        rows = max(1, LOGITS_AT_A_TIME // self.vocabulary_size)
        nll = np.empty(targets.size)
        for start in range(0, targets.size, rows):
            part = slice(start, start + rows)
            logits = self.head(inputs_embeds=hidden[:, part], use_cache=False).logits[0].float()
            cost = logits.logsumexp(-1) - logits.gather(-1, wanted[part])[:, 0]
            nll[part] = cost.double().cpu().numpy()
        return nll.reshape(targets.shape)


def load(
    source: str,
    *,
    name: str,
    revision: str | None = None,
    sha256: str | None = None,
    separator: str | None = None,
    dtype: Dtype = "float32",
    device: str = "",
    trust_remote_code: bool = False,
    cache: Path = Path("models/converted"),
) -> TransformersModel:
    """Load a causal language model.

    Args:
        source: a GGUF file, a folder with safetensors, or a hub id.
        name: what to call it.
        revision: commit of a hub id.
        sha256: what a local model must hash to; see `weights.identity`.
        separator: the token that stands before a document where the tokenizer adds no BOS.
        dtype: precision of weights and activations.
        device: where it runs; empty takes a GPU if there is one.
        trust_remote_code: run Python code that comes with the model. Leave it off unless you read it.
        cache: folder for converted GGUF files.

    Raises:
        UserError: when the model is missing, damaged or incomplete, not what `sha256` promises, has no
            safetensors, needs code of its own, or computes its logits in a way that cannot be taken apart.
    """
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if dtype not in get_args(Dtype):
        raise UserError(f"dtype {dtype!r} is unknown; choose one of {', '.join(get_args(Dtype))}")
    if not isinstance(trust_remote_code, bool):
        raise UserError(f"trust_remote_code of {name} must be true or false, not {trust_remote_code!r}")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    known = identity(source, revision=revision, sha256=sha256)
    folder = source
    if Path(source).suffix == ".gguf":
        folder = str(converted(Path(source), known.removeprefix("sha256:"), cache))
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        auto: Any = transformers.AutoModelForCausalLM
        model, found = auto.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **options
        )
        model.eval().to(place)
        config = model.config.get_text_config()
        decoder, head = _take_apart(model, source)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # a model's files are untrusted, and fail anywhere in the readers with any type
        raise UserError(f"model {source!r} does not load: {_first_line(error)}") from error
    # What a file lacks is filled at random, and says so only in a log.
    wrong = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in found[kind]]
    if wrong:
        raise UserError(
            f"model {source!r} has other weights than its config.json describes, {wrong[0]} among {len(wrong)}; "
            "fetch it again"
        )
    return TransformersModel(
        name=name,
        revision=known or str(getattr(model.config, "_commit_hash", None) or "unknown"),
        context_length=getattr(config, "max_position_embeddings", None),
        vocabulary_size=config.vocab_size,
        prefix=_prefix(tokenizer, separator, source),
        software=f"torch {torch.__version__}, transformers {transformers.__version__}, {dtype}, {place.type}",
        tokenizer=tokenizer,
        decoder=decoder,
        head=head,
        device=place,
    )


def _prefix(tokenizer: Any, separator: str | None, source: str) -> Prefix:
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("a")["input_ids"][:1] == [bos]:
        return Prefix(kind="bos", token=bos, text=tokenizer.bos_token)
    if separator is None:
        return Prefix(kind="none", token=None)
    token = tokenizer.get_vocab().get(separator)
    if token is None:
        raise UserError(
            f"separator {separator!r} is no token of {source}; name one that is, or leave the separator out"
        )
    return Prefix(kind="separator", token=token, text=separator)


class _Given:
    """A decoder's output that holds nothing but hidden states, whatever else a head asks for."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, _name: str) -> None:
        return None

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]


class _NoDecoder(torch.nn.Module):
    """Stands where the decoder was, and hands on the hidden states it is given."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> _Given:
        return _Given(inputs_embeds)


def _take_apart(model: Any, source: str) -> tuple[Any, Any]:
    """Return the model's decoder and the rest of the model, which turns hidden states into logits."""
    prefix = model.base_model_prefix
    decoder: Any = getattr(model, prefix, None)
    head = copy.copy(model)
    head._modules = {**model._modules, prefix: _NoDecoder()}  # noqa: SLF001  the copy shares all weights
    probe = torch.arange(min(8, model.config.get_text_config().vocab_size), device=model.device)[None]
    with torch.inference_mode():
        whole = model(input_ids=probe, use_cache=False).logits
        apart = head(inputs_embeds=decoder(input_ids=probe, use_cache=False)[0], use_cache=False).logits
        agree = torch.allclose(whole.float(), apart.float(), rtol=1e-3, atol=1e-3)
    if not agree:
        raise UserError(f"model {source!r} computes its logits from more than the last hidden states")
    return decoder, head


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
