"""Every token read once: a rolling cache of keys and values whose first tokens stay, as attention sinks.

Xiao et al. 2023 (StreamingLLM, arXiv 2309.17453): a model leans on its first tokens whatever they
say, so a cache that evicts them is off by 12 to 14 % of the rate, one that keeps four by hundredths
of a percent. Positions are counted inside the cache: only distances between tokens matter to rotary
and ALiBi attention, so the latest tokens stay where they are and the sinks move up behind them.
A sink depends on nothing but the sinks before it, so instead of rotating stored keys, which each
architecture does in its own way, the few tokens are read again at every place they will stand.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from evaluate.windows import FURTHEST, SINKS


def refusal(decoder: Any, vocabulary: int) -> str:
    """Return why a decoder cannot be read through a rolling cache, empty where it can.

    It is tried rather than looked up: a few tokens must come out the same through a cache of keys
    and values, and the same again far from where a text begins.

    Args:
        decoder: a model without its output layer.
        vocabulary: number of token ids.
    """
    device = next(decoder.parameters()).device
    tokens = torch.arange(16, device=device)[None] * 7 % vocabulary
    # First, for a rotation that adapts to the furthest place it has seen comes back at the near ones.
    moved = None if _places_end(decoder) else _tried(decoder, tokens, DynamicCache(), FURTHEST)
    whole = decoder(input_ids=tokens, use_cache=False)[0]
    cache = DynamicCache()
    _tried(decoder, tokens[:, :9], cache, 0)
    cached = _tried(decoder, tokens[:, 9:], cache, 9)
    if cached is None or not _keys_only(cache, 16):
        return "it keeps a state, or a cache of another kind, that cannot forget single tokens"
    if not _close(cached, whole[:, 9:]):
        return "what it computes through a cache differs from what it computes at once"
    if moved is None or not _close(moved, whole):
        return (
            "its positions are absolute or end early, so that sinks cannot move up behind the latest tokens"
        )
    return ""


def steps(
    decoder: Any, tokens: torch.Tensor, lengths: Sequence[int], *, window: int, stride: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield where each step begins, and the hidden states of the rows that reach so far.

    Args:
        decoder: a model without its output layer, for which `refusal` is empty.
        tokens: token ids, shape [rows, length], on the decoder's device.
        lengths: how many of them each row has, in descending order; the rest is padding.
        window: tokens the cache may hold, those being read included.
        stride: tokens read at a time after the first window.

    Yields:
        The position of the step's first input, and hidden states of shape [rows, inputs, d]; behind
        the end of a row they mean nothing.
    """
    starts = range(window, tokens.shape[1], stride)
    if not starts:
        yield 0, decoder(input_ids=tokens, use_cache=False)[0]
        return
    keep = window - stride - SINKS
    sinks = _sinks(decoder, tokens, [start - keep - SINKS for start in starts])
    cache: Any = Cache(layers=rolling(sinks.layers, len(tokens), window))
    yield 0, _read(decoder, tokens[:, :window], cache, [0])
    for step, start in enumerate(starts):
        going = sum(length > start for length in lengths)
        here = slice(step * len(tokens), step * len(tokens) + going)
        for layer, first in zip(cache.layers, sinks.layers, strict=True):
            layer.forget(first.keys[here], first.values[here], keep)
        yield start, _read(decoder, tokens[:going, start : start + stride], cache, [start])


def rolling(layers: Sequence[Any], rows: int, window: int) -> list[Any]:
    """Return layers of a cache with room for a window, all of it in one piece of memory.

    As a hundred pieces it would lie between whatever else is allocated, and double what a process holds.
    """
    like = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    shapes = [(rows, tensor.shape[1], window, tensor.shape[3]) for tensor in like]
    piece = like[0].new_empty(sum(math.prod(shape) for shape in shapes))
    parts = torch.split(piece, [math.prod(shape) for shape in shapes])
    views = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [_Rolling(layer, views[2 * i : 2 * i + 2]) for i, layer in enumerate(layers)]


class _Rolling(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer of the cache that stays where it is in memory: a window of keys and of values for each row."""

    def __init__(self, like: Any, rooms: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(like.keys, like.values)
        self._rooms = rooms
        self._length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start, self._length = self._length, self._length + key_states.shape[-2]
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[: len(new), :, start : self._length] = new
        self.keys, self.values = (room[: len(key_states), :, : self._length] for room in self._rooms)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self._length

    def forget(self, first_keys: torch.Tensor, first_values: torch.Tensor, keep: int) -> None:
        """Leave the given first tokens and the latest `keep`, of as many rows."""
        for room, first in zip(self._rooms, (first_keys, first_values), strict=True):
            latest = room[: len(first), :, self._length - keep : self._length].clone()
            room[: len(first), :, :SINKS] = first
            room[: len(first), :, SINKS : SINKS + keep] = latest
        self._length = SINKS + keep


def _read(decoder: Any, tokens: torch.Tensor, cache: Cache, positions: list[int]) -> torch.Tensor:
    """Return the hidden states of tokens behind what is in the cache; the rows begin at the positions."""
    first = torch.tensor(positions, device=tokens.device)[:, None]
    places = {"position_ids": first + torch.arange(tokens.shape[1], device=tokens.device)}
    if "position_ids" not in inspect.signature(decoder.forward).parameters:
        places = {}
    hidden: torch.Tensor = decoder(input_ids=tokens, past_key_values=cache, use_cache=True, **places)[0]
    return hidden


def _tried(decoder: Any, tokens: torch.Tensor, cache: Cache, position: int) -> torch.Tensor | None:
    """Return what `_read` does, None where an architecture has no such cache or place and fails in its own way."""
    try:
        return _read(decoder, tokens, cache, [position])
    except Exception:
        return None


def _places_end(decoder: Any) -> bool:
    """Whether a table of positions ends early: reading behind its end is an error that CUDA does not survive."""
    words = decoder.get_input_embeddings()
    tables = [m.weight for m in decoder.modules() if isinstance(m, torch.nn.Embedding) and m is not words]
    tables += [buffer for buffer in decoder.buffers() if buffer.dim() == 2]
    return any(len(table) <= FURTHEST for table in tables)


def _sinks(decoder: Any, tokens: torch.Tensor, positions: list[int]) -> Any:
    """Return the keys and values of each row's first tokens at each of the positions, position by position."""
    cache = DynamicCache()
    rows = tokens[:, :SINKS].repeat(len(positions), 1)
    _read(decoder, rows, cache, [position for position in positions for _ in range(len(tokens))])
    return cache


def _keys_only(cache: DynamicCache, length: int) -> bool:
    return bool(cache.layers) and all(
        type(layer) is DynamicLayer and layer.get_seq_length() == length for layer in cache.layers
    )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether hidden states agree to 2 % of their norm, well above the rounding of bfloat16."""
    return bool((a - b).float().norm() <= 0.02 * b.float().norm())
