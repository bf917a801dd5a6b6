"""Language models from GGUF files through llama.cpp, their quantised weights used as they are.

Needs llama-cpp-python, the extra `llama`. Its C functions are called as they stand, for the classes
above them compute the logits of every token, and lose what a token spells beyond 32 bytes.

Where weights are quantised, llama.cpp rounds the activations to 8 bits before each product, and its
rates differ by a few tenths of a percent from those of the same file in transformers, which expands
the weights and multiplies in float32. Nothing else differs: with the weights of SmolLM2 expanded to a
float32 file, the two agree to 2e-7. The cache is float32, for the float16 of the default moves rates too.
"""

import ctypes
import functools
import importlib
import mmap
import os
import re
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.backends.weights import identity
from evaluate.model import Conditions, Prefix, Tokens

# Logits at a time, 64 MiB of float32 whatever the vocabulary, and tokens at a time; neither moves a number.
LOGITS_AT_A_TIME = 2**24
TOKENS_AT_A_TIME = 512

_ERROR = 4  # GGML_LOG_LEVEL_ERROR of ggml.h; what goes on in the next message has level 5
_CONTINUED = 5
_OUT_OF_MEMORY = -2  # of llama_decode
_FLOATS = {"all F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GgufModel:
    """A `LanguageModel` that runs in llama.cpp; build one with `load`."""

    name: str
    revision: str
    context_length: int | None
    vocabulary_size: int
    prefix: Prefix
    conditions: Conditions
    software: str
    runtime: "_Runtime"
    # Rows are read one by one, so that none moves another's last bits: a batch is what one call does.
    batch_tokens: int = 2048
    sink_refusal: str = "llama.cpp keeps its own cache; use backend transformers for protocol sink"

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts as plain text; see `LanguageModel.encode`."""
        return [self.runtime.tokens(text) for text in texts]

    def decode(self, tokens: Tokens) -> str:
        """Return the text that the tokens restore; see `LanguageModel.decode`."""
        return self.runtime.spelled(tokens).decode(errors="replace")

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Return -ln p of each target; see `LanguageModel.nll`. Every row starts from an empty memory."""
        self.runtime.make_room(max((len(row) for row in inputs), default=0))
        return [self.runtime.costs(row, wanted) for row, wanted in zip(inputs, targets, strict=True)]

    def sink_nll(
        self,
        inputs: Sequence[Tokens],  # noqa: ARG002  the signature is the protocol's
        targets: Sequence[Tokens],  # noqa: ARG002
        *,
        window: int,  # noqa: ARG002
        stride: int,  # noqa: ARG002
    ) -> list[NDArray[np.float64]]:
        """Refuse, for `sink_refusal`; see `LanguageModel.sink_nll`."""
        raise UserError(f"model {self.name} cannot score with protocol sink: {self.sink_refusal}")


def load(source: str, *, name: str, sha256: str | None = None, separator: str | None = None) -> GgufModel:
    """Load a causal language model from a GGUF file, onto a GPU where llama.cpp was built for one.

    It takes as many threads as there are physical cores, or OMP_NUM_THREADS; the numbers do not depend on it.

    Args:
        source: the GGUF file.
        name: what to call it.
        sha256: what the file must hash to.
        separator: the token that stands before a document where the tokenizer adds no BOS.

    Raises:
        UserError: when llama-cpp-python is missing, or the file is missing, damaged, a part of several, not
            what `sha256` promises, or no causal language model.
        MemoryError: when the weights do not fit.
    """
    if Path(source).suffix != ".gguf":
        raise UserError(
            f"model {source!r} is no .gguf file, and llama.cpp reads no other; use backend transformers"
        )
    revision = identity(source, sha256=sha256)
    runtime = _Runtime(source)
    c, model, vocab = runtime.library, runtime.model, runtime.vocab
    if int(runtime.metadata("split.count") or 0) > 1:
        raise UserError(
            f"{source} is one of several parts, and a digest of one identifies no model; join them with "
            "llama-gguf-split --merge"
        )
    if c.llama_model_has_encoder(model) or c.llama_model_is_diffusion(model):
        raise UserError(f"{source} is no causal language model; name one that predicts the next token")
    unused = sum(
        bool(c.llama_vocab_get_attr(vocab, i) & c.LLAMA_TOKEN_ATTR_UNUSED) for i in range(runtime.rows)
    )
    softcap = runtime.metadata(f"{runtime.metadata('general.architecture')}.final_logit_softcapping")
    weights = c.llama_ftype_name(c.llama_model_ftype(model)).decode()
    device = _device(c)
    return GgufModel(
        name=name,
        revision=revision,
        context_length=None if c.llama_model_is_recurrent(model) else c.llama_model_n_ctx_train(model),
        vocabulary_size=runtime.rows - unused,
        prefix=_prefix(runtime, separator, source),
        conditions=Conditions(
            dtype=_FLOATS.get(weights, "float32 by int8 products"),
            quantization="" if weights in _FLOATS else weights,
            device=device,
            attention="llama.cpp",
            unused_ids=unused,
            softcap=float(softcap) if softcap else None,
            tied_embeddings=not _has_tensor(Path(source), b"output.weight"),
        ),
        software=f"llama-cpp-python {importlib.import_module('llama_cpp').__version__}, "
        f"llama.cpp {c.llama_version().decode()}, {weights}, {device}",
        runtime=runtime,
    )


class _Runtime:
    """A model in llama.cpp with a context that grows as windows ask for it; both go when this does."""

    def __init__(self, source: str) -> None:
        self.library, self.complaints = _library()
        c = self.library
        self.complaints.clear()
        self.model = c.llama_model_load_from_file(os.fsencode(source), c.llama_model_default_params())
        if not self.model:
            reason = self._complaint()
            raise UserError(
                f"{source} does not load in llama.cpp ({reason}); fetch it again and check its sha256, or use "
                "backend transformers where it is whole"
            )
        weakref.finalize(self, c.llama_model_free, self.model)
        self.vocab = c.llama_model_get_vocab(self.model)
        self.rows: int = c.llama_vocab_n_tokens(self.vocab)
        self.length = 0
        self.context: Any = None
        self._free_context: Any = None
        # SentencePiece reads every text as if a space stood before it.
        self.adds_space = self._bytes(self.tokens("a")).startswith(b" ")

    def metadata(self, key: str) -> str:
        """Return a value of the file's header as text, empty where it has none."""
        value = ctypes.create_string_buffer(256)
        self.library.llama_model_meta_val_str(self.model, key.encode(), value, len(value))
        return value.value.decode(errors="replace")

    def tokens(self, text: str) -> Tokens:
        """Return the ids of a text, special tokens neither added nor recognised."""
        data = text.encode()
        room = len(data) + 1
        while True:
            ids = np.empty(room, dtype=np.int32)
            into = ids.ctypes.data_as(self.library.llama_token_p)
            n = self.library.llama_tokenize(self.vocab, data, len(data), into, room, False, False)
            if n >= 0:
                return ids[:n].astype(np.int64)
            room = -n

    def spelled(self, tokens: Tokens) -> bytes:
        """Return the bytes that the tokens of a whole text stand for."""
        data = self._bytes(tokens)
        return data.removeprefix(b" ") if self.adds_space else data

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token; SmolLM2 has tokens of 64, so a first buffer may be too short."""
        room = 32
        while True:
            piece = ctypes.create_string_buffer(room)
            n: int = self.library.llama_token_to_piece(self.vocab, token, piece, room, 0, True)
            if n >= 0:
                return piece.raw[:n]
            room = -n

    def make_room(self, length: int) -> None:
        """Make a context that holds `length` tokens, unless there is one."""
        if length <= self.length:
            return
        if self._free_context:
            self._free_context()
            self.length = 0
        c = self.library
        options = c.llama_context_default_params()
        options.n_ctx = -(-length // 256) * 256
        options.n_batch = options.n_ubatch = TOKENS_AT_A_TIME
        options.n_outputs_max = self._rows_at_a_time()
        options.n_threads = options.n_threads_batch = _threads()
        options.type_k = options.type_v = c.GGML_TYPE_F32
        options.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.complaints.clear()
        self.context = c.llama_init_from_model(self.model, options)
        if not self.context:
            raise UserError(f"llama.cpp makes no context of {options.n_ctx} tokens: {self._complaint()}")
        self._free_context = weakref.finalize(self, c.llama_free, self.context)
        self.length = options.n_ctx

    def costs(self, tokens: Tokens, targets: Tokens) -> NDArray[np.float64]:
        """Return -ln p of the targets that follow the last inputs, shape [n]."""
        c = self.library
        c.llama_memory_clear(c.llama_get_memory(self.context), True)
        first = len(tokens) - len(targets)
        steps = [
            *range(0, first, TOKENS_AT_A_TIME),
            *range(first, len(tokens), self._rows_at_a_time()),
            len(tokens),
        ]
        costs = np.empty(len(targets))
        for start, end in pairwise(steps):
            self._read(tokens[start:end], scored=start >= first)
            if start >= first:
                logits = np.ctypeslib.as_array(c.llama_get_logits(self.context), (end - start, self.rows))
                costs[start - first : end - first] = _costs(logits, targets[start - first : end - first])
        return costs

    def _read(self, tokens: Tokens, *, scored: bool) -> None:
        """Read tokens into the memory, with logits for all or none of them."""
        c = self.library
        ids = tokens.astype(np.int32)
        wanted = np.full(len(ids), scored, dtype=np.int8)
        # Positions follow on what the memory holds, and the sequence is the first, where a batch names none.
        batch = c.llama_batch(
            n_tokens=len(ids),
            token=ids.ctypes.data_as(ctypes.POINTER(c.llama_token)),
            logits=wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        self.complaints.clear()
        failure = c.llama_decode(self.context, batch)
        if failure == _OUT_OF_MEMORY:
            raise MemoryError(self._complaint())
        if failure:
            raise UserError(f"llama.cpp fails to read {len(ids)} tokens ({failure}): {self._complaint()}")

    def _rows_at_a_time(self) -> int:
        return min(TOKENS_AT_A_TIME, max(1, LOGITS_AT_A_TIME // self.rows))

    def _bytes(self, tokens: Tokens) -> bytes:
        ids = tokens.tolist()
        pieces = {token: self.piece(token) for token in set(ids)}
        return b"".join(pieces[token] for token in ids)

    def _complaint(self) -> str:
        """Return what llama.cpp said last, for a UserError; a lack of memory is none.

        Raises:
            MemoryError: when it said that memory ran out.
        """
        said = re.sub(r"\b(llama|ggml|gguf)_\w+: ", "", " ".join("".join(self.complaints).split()))
        if re.search(r"alloc|out of memory", said):
            raise MemoryError(said[:300])
        return said[:300] or "no reason given"


def _costs(logits: NDArray[np.float32], targets: Tokens) -> NDArray[np.float64]:
    """Return -ln p of each target in float64, from a log-softmax in float32; the logits are overwritten."""
    wanted = logits[np.arange(len(targets)), targets].astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    np.exp(np.subtract(logits, top, out=logits), out=logits)
    costs: NDArray[np.float64] = np.log(logits.sum(axis=1)).astype(np.float64) + top[:, 0] - wanted
    return costs


def _prefix(runtime: _Runtime, separator: str | None, source: str) -> Prefix:
    c, vocab = runtime.library, runtime.vocab
    bos = c.llama_vocab_bos(vocab)
    if bos >= 0 and c.llama_vocab_get_add_bos(vocab):
        return Prefix(kind="bos", token=bos, text=c.llama_vocab_get_text(vocab, bos).decode(errors="replace"))
    if separator is None:
        return Prefix(kind="none", token=None)
    wanted = separator.encode()
    token = next((i for i in range(runtime.rows) if c.llama_vocab_get_text(vocab, i) == wanted), None)
    if token is None:
        raise UserError(
            f"separator {separator!r} is no token of {source}; name one that is, or leave the separator out"
        )
    return Prefix(kind="separator", token=token, text=separator)


@functools.cache
def _library() -> tuple[Any, list[str]]:
    """Return llama.cpp's C functions, and a list that its complaints go to instead of standard error."""
    try:
        c: Any = importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:  # the last for a library that does not link
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"a GGUF file in llama.cpp needs the extra `llama` ({reason}); run `pip install llama-cpp-python` in "
            "this environment, or use backend transformers"
        ) from error
    complaints: list[str] = []
    severe = False

    @c.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(level: int, text: bytes | None, _data: Any) -> None:
        nonlocal severe
        severe = severe if level == _CONTINUED else level == _ERROR
        if severe and text:
            complaints.append(text.decode(errors="replace"))

    c.llama_log_set(listen, None)
    c.llama_backend_init()
    # llama.cpp keeps a bare pointer to it to the end of the process.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(listen))
    return c, complaints


def _threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return min(psutil.cpu_count(logical=False) or 1, len(psutil.Process().cpu_affinity() or [0]))


def _device(c: Any) -> str:
    """Return the first backend that llama.cpp lists: `cuda`, `metal`, or `cpu`, which stands last."""
    if not c.llama_supports_gpu_offload():
        return "cpu"
    return str(re.findall(r"(\w+) : ", c.llama_print_system_info().decode())[0]).lower()


def _has_tensor(path: Path, name: bytes) -> bool:
    """Whether a GGUF file lists a matrix of that name: length, name and number of dimensions.

    Readers of the whole header in Python take seconds to minutes for what else stands in it.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(struct.pack("<Q", len(name)) + name + struct.pack("<I", 2)) >= 0
