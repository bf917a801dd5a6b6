"""What a model may continue a context with, token by token: next-token logits, and the text of tokens.

Keys and values of a context are computed once for all of its continuations. Contexts that share a
batch have one length, so that no token is padding and nothing has to be masked, whatever the
architecture. A decoder that keeps anything but keys and values, such as a state that is updated in
place, reads context and continuation afresh at every step instead: the same numbers, more slowly.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from collectors.document import UserError
from evaluate.backends.pretrained import memory_errors
from evaluate.backends.transformers_model import LOGITS_AT_A_TIME, TransformersModel
from evaluate.model import Tokens

REPLACEMENT = "\ufffd"

# Tokens of keys and values at a time; a tree that is walked to a depth of five holds as many batches.
CACHED_TOKENS = {"cpu": 2**12, "cuda": 2**13}


def contexts(model: TransformersModel, texts: Sequence[str], n_tokens: int) -> list[Tokens]:
    """Tokenise texts as plain text, each behind the model's prefix.

    Args:
        model: the model.
        texts: what is to be continued.
        n_tokens: how many tokens shall follow.

    Raises:
        UserError: when a text comes to no token, or leaves no room for those that shall follow.
    """
    prefix = [] if model.prefix.token is None else [model.prefix.token]
    rows = [np.concatenate([prefix, tokens]).astype(np.int64) for tokens in model.encode(texts)]
    for text, row in zip(texts, rows, strict=True):
        if not len(row):
            raise UserError(f"{text!r} is no token of {model.name}, which has no prefix either; lengthen it")
        if model.context_length is not None and len(row) + n_tokens > model.context_length:
            raise UserError(
                f"{text[:40]!r}… and {n_tokens} tokens behind it are {len(row) + n_tokens} tokens, more than the "
                f"{model.context_length} of {model.name}; shorten it"
            )
    return rows


def end_tokens(model: TransformersModel) -> tuple[int, ...]:
    """Return the ids that end a text.

    They are the end of text of the tokenizer, those at which the model's own generation stops, and the
    separator that its entry names: behind it another document begins.
    """
    own = getattr(getattr(model.head, "generation_config", None), "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    separator = model.prefix.token if model.prefix.kind == "separator" else None
    ends = {model.tokenizer.eos_token_id, *listed, separator} - {None}
    return tuple(sorted(end for end in ends if end < model.rows_of_logits))


def token_names(model: TransformersModel) -> list[str]:
    """Return how the tokenizer writes each id, `#id` for one that is none of its tokens, shape [rows of logits]."""
    written = {id_: token for token, id_ in model.tokenizer.get_vocab().items()}
    return [written.get(id_, f"#{id_}") for id_ in range(model.rows_of_logits)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Continuations:
    """Where a batch of texts stands.

    Attributes:
        logits: of the next token, in float32, shape [rows, rows of logits].
        tokens: what was read so far, shape [rows, length].
        cache: its keys and values; None where the decoder must read it afresh.
    """

    logits: torch.Tensor
    tokens: torch.Tensor
    cache: Any


def begun(
    model: TransformersModel, texts: Sequence[str], n_tokens: int, *, cached: bool
) -> Iterator[tuple[list[int], Continuations]]:
    """Read all contexts, those of one length together.

    Args:
        model: the model.
        texts: what is to be continued.
        n_tokens: how many tokens shall follow.
        cached: whether to keep keys and values; see `caches`.

    Yields:
        Which texts were read, as places in `texts`, and where they stand.

    Raises:
        UserError: as `contexts`.
        MemoryError: when a batch does not fit.
    """
    rows = contexts(model, texts, n_tokens)
    for length in sorted({len(row) for row in rows}):
        alike = [i for i, row in enumerate(rows) if len(row) == length]
        size = room(model, length)
        for start in range(0, len(alike), size):
            batch = alike[start : start + size]
            yield batch, begin(model, [rows[i] for i in batch], cached=cached)


def room(model: TransformersModel, length: int) -> int:
    """Return how many texts of a length are read at a time, for keys and values and for logits to fit."""
    place = model.decoder.device.type
    tokens, logits = (limits.get(place, limits["cpu"]) for limits in (CACHED_TOKENS, LOGITS_AT_A_TIME))
    return max(1, min(tokens // length, logits // model.rows_of_logits))


@torch.inference_mode()
def begin(model: TransformersModel, rows: Sequence[Tokens], *, cached: bool) -> Continuations:
    """Read contexts of one length.

    Args:
        model: the model.
        rows: token ids of each, shape [length], the same for all.
        cached: whether to keep keys and values; see `caches`.

    Raises:
        MemoryError: when the batch does not fit.
    """
    with memory_errors():
        tokens = torch.from_numpy(np.stack(rows)).to(model.decoder.device)
        return _read(model, tokens, tokens, DynamicCache() if cached else None)


@torch.inference_mode()
def extend(
    model: TransformersModel, state: Continuations, rows: Sequence[int], tokens: Sequence[int]
) -> Continuations:
    """Read one more token behind some rows, and leave the state as it is, for other tokens to follow.

    Args:
        model: the model.
        state: where its texts stand.
        rows: which of them are continued, one as often as it has continuations.
        tokens: what each is continued with, as many.

    Raises:
        MemoryError: when the batch does not fit.
    """
    with memory_errors():
        device = state.tokens.device
        chosen = torch.tensor(rows, device=device)
        new = torch.tensor(tokens, device=device)[:, None]
        whole = torch.cat([state.tokens[chosen], new], dim=1)
        if state.cache is None:
            return _read(model, whole, whole, None)
        cache = copy.copy(state.cache)
        cache.layers = [copy.copy(layer) for layer in state.cache.layers]
        cache.batch_select_indices(chosen)
        return _read(model, whole, new, cache)


def caches(model: TransformersModel) -> bool:
    """Whether a decoder computes through a cache of keys and values what it computes at once: it is tried."""
    ids = np.arange(12, dtype=np.int64).reshape(2, 6) * 7 % model.rows_of_logits
    try:
        state = begin(model, list(ids[:, :4]), cached=True)
        if not all(
            type(layer) is DynamicLayer and layer.get_seq_length() == 4 for layer in state.cache.layers
        ):
            return False
        for column in (4, 5):
            state = extend(model, state, [0, 1], ids[:, column].tolist())
    except MemoryError:
        raise
    except Exception:  # an architecture without such a cache fails in its own way
        return False
    whole = begin(model, list(ids), cached=False)
    # 2 % of the norm is well above the rounding of bfloat16.
    return bool((state.logits - whole.logits).norm() <= 0.02 * whole.logits.norm())


def _read(model: TransformersModel, whole: torch.Tensor, new: torch.Tensor, cache: Any) -> Continuations:
    kept = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
    hidden = model.decoder(input_ids=new, **kept)[0][:, -1:]
    logits = model.head(inputs_embeds=hidden, use_cache=False).logits[:, -1].float()
    return Continuations(logits=logits, tokens=whole, cache=cache)


class Texts:
    """The text of paths of tokens behind a context, which ends in a letter.

    It is what the model's own generation would show: special tokens, and ids that are no token, are
    left out, nothing is cleaned up, and bytes that are no UTF-8 become U+FFFD. A decoder that takes the
    space from the first word of a text does not take it here.

    Attributes:
        of_tokens: the text of each id behind whole characters, shape [rows of logits].
        certain_of_tokens: what of that no further token can change.
        joins: ids whose text depends on unfinished characters before them, shape [n]: those that spell
            nothing, and those that do not begin with a character of their own.
    """

    def __init__(self, model: TransformersModel) -> None:
        self._tokenizer = model.tokenizer
        self._anchor = model.encode(["a"])[0].tolist()
        self._anchor_length = len(self._decoded([()])[0])
        # A tokenizer that falls back on bytes reads a run of them as a whole: one byte that does not fit
        # spoils all characters of the run.
        byte = re.compile("<0x[0-9A-F]{2}>")
        self._bytes = {id_ for id_, name in enumerate(token_names(model)) if byte.fullmatch(name)}
        self.of_tokens = self._spelled([(id_,) for id_ in range(model.rows_of_logits)])
        self._silent = {id_ for id_, text in enumerate(self.of_tokens) if not text}
        self.certain_of_tokens = [
            "" if id_ in self._bytes else text.rstrip(REPLACEMENT) for id_, text in enumerate(self.of_tokens)
        ]
        joins = {id_ for id_, text in enumerate(self.of_tokens) if text.startswith(REPLACEMENT)}
        self.joins = np.array(sorted(joins | self._bytes | self._silent), dtype=np.int64)

    def of(self, path: Sequence[int]) -> str:
        """Return the text of a path."""
        return self._spelled([path])[0]

    def certain(self, path: Sequence[int]) -> str:
        """Return what of the text of a path no further token can change."""
        while path and (path[-1] in self._bytes or path[-1] in self._silent):
            path = path[:-1]
        return self.of(path).rstrip(REPLACEMENT)

    def _spelled(self, paths: Sequence[Sequence[int]]) -> list[str]:
        return [text[self._anchor_length :] for text in self._decoded(paths)]

    def _decoded(self, paths: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(
            [[*self._anchor, *path] for path in paths],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return texts
