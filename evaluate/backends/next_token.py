"""What a model says of the next token, computed in one way alone, so that a second run computes it to the bit.

Floating-point sums depend on their order, and kernels choose it by shape, by the number of threads and by
what a machine can do. Here one text is read at a time, token by token behind a cache of keys and values,
with a given number of threads. A window that begins later reads what it knows at once: both sides of a
codec know it, and its length follows from the protocol.
"""

import hashlib
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.cache_utils import Cache

from collectors.document import UserError
from evaluate.backends import sinks
from evaluate.backends.continuations import caches
from evaluate.backends.pretrained import first_line, memory_errors
from evaluate.backends.transformers_model import TransformersModel
from evaluate.model import Tokens

Logits = NDArray[np.float32]


class Reader:
    """Reads one text, and gives the logits of the token that comes next.

    A model that keeps more than keys and values reads the whole window again at every step: the same
    numbers, more slowly.
    """

    def __init__(self, model: TransformersModel, window: int) -> None:
        """Prepare to read windows of at most so many tokens, the prefix counted."""
        self._model = model
        self.window = window
        self._caches = caches(model)
        self._read = torch.empty((1, 0), dtype=torch.int64)
        self._cache: Cache | None = None

    @torch.inference_mode()
    def restart(self, tokens: Tokens) -> Logits:
        """Forget everything, read some tokens, at least one; return logits of shape [rows of logits].

        Raises:
            UserError: when they do not fit into memory.
        """
        with self._fitting():
            self._read = torch.from_numpy(np.ascontiguousarray(tokens))[None].to(self._model.decoder.device)
            if not self._caches:
                return self._logits(self._model.decoder(input_ids=self._read, use_cache=False)[0])
            cache: Any = DynamicCache()
            hidden = self._model.decoder(input_ids=self._read, past_key_values=cache, use_cache=True)[0]
            rooms = sinks.rolling(cache.layers, 1, self.window)
            for room, layer in zip(rooms, cache.layers, strict=True):
                room.update(layer.keys, layer.values)
            self._cache = Cache(layers=rooms)
            return self._logits(hidden)

    @torch.inference_mode()
    def step(self, token: int) -> Logits:
        """Read one more token; return logits as `restart` does."""
        with self._fitting():
            new = self._read.new_tensor([[token]])
            if self._cache is not None:
                hidden = self._model.decoder(input_ids=new, past_key_values=self._cache, use_cache=True)[0]
            else:
                self._read = torch.cat([self._read, new], dim=1)
                hidden = self._model.decoder(input_ids=self._read, use_cache=False)[0]
            return self._logits(hidden)

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        try:
            with memory_errors():
                yield
        except MemoryError as error:
            raise UserError(
                f"a window of {self.window} tokens does not fit into memory with {self._model.name} ({error}); choose "
                "a smaller window, dtype bfloat16 or another device"
            ) from error
        except RuntimeError as error:
            # PyTorch refuses what it has no kernel for that gives one sum every time.
            if "deterministic" not in str(error):
                raise
            raise UserError(
                f"{self._model.name} computes something on {self._read.device} that PyTorch cannot repeat to the bit "
                f"({first_line(error)}); run it with --device cpu, or with another `attention`"
            ) from error

    def _logits(self, hidden: torch.Tensor) -> Logits:
        logits: Any = self._model.head(inputs_embeds=hidden[:, -1:], use_cache=False).logits
        row: Logits = logits[0, -1].float().cpu().numpy()
        return row


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Have PyTorch compute with so many threads, by kernels that give the same sum every time, for a while."""
    # cuBLAS reads it when it is first used; without it two streams may share room, and sum in another order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
    )
    try:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.backends.cuda.matmul.allow_tf32 = False
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.backends.cuda.matmul.allow_tf32 = before[2]


def threads() -> int:
    """Return how many threads PyTorch uses if it is not told."""
    return torch.get_num_threads()


def machine(model: TransformersModel) -> str:
    """Return the class of device that computes a model: what kernels are chosen by."""
    device = model.decoder.device
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    if device.type == "cpu":
        return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{device.type} {platform.machine()}"


def fingerprint(reader: Reader, lengths: Sequence[int], vocabulary: int) -> str:
    """Return a digest of what a model says at the end of some fixed texts, and of a few tokens behind each.

    Machines whose arithmetic differs give different ones, unless it differs only later or in another text.

    Args:
        reader: of the model.
        lengths: tokens of each text, less than the window.
        vocabulary: number of token ids.
    """
    said = hashlib.sha256()
    for length in lengths:
        # Multiplying by an odd number spreads them over the vocabulary, whatever its size.
        tokens = np.arange(min(length + 4, reader.window), dtype=np.int64) * 2654435761 % 2**32 % vocabulary
        said.update(reader.restart(tokens[:length]).tobytes())
        for token in tokens[length:]:
            said.update(reader.step(int(token)).tobytes())
    return said.hexdigest()
