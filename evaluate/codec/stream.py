"""Any bytes to fewer and back, with the probabilities that a model gives every next token.

What stands in the stream, in the order in which it is decoded:

1. how many segments the file has, and for each how many bytes are escaped, how many tokens follow, and how long its
   patch is;
2. all escaped bytes and patches, by an adaptive model of order 0;
3. all tokens, by the language model, in the windows of protocol `full`: each costs -log2 of what `score`
   gives it, up to the order in which floats are added, and 32 bits at most.

Beyond its original positions a LongRoPE model turns all of a window as its length asks, which a cache cannot follow:
there, bits differ from those of `score` by percents.

The tokens of a file are one text to the model, whatever bytes lie between them. Both directions compute logits
by the same `Reader`; without a prefix the first token has nothing before it, and all are equally likely.
"""

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from collectors.document import UserError
from evaluate.backends.next_token import Reader
from evaluate.backends.transformers_model import TransformersModel
from evaluate.codec.order0 import ByteModel
from evaluate.codec.range_coder import TOTAL, Decoder, Encoder, frequencies, part, symbol_at
from evaluate.codec.segments import BLOCK_CHARACTERS, MOST_TOKENS_PER_BYTE, segments
from evaluate.journal import journal
from evaluate.model import Tokens
from evaluate.repair import apply_repair
from evaluate.windows import ScoringProtocol, Window, full_windows

Bounds = NDArray[np.int64]
Coded = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """What a file has become.

    Attributes:
        payload: the stream.
        tokens: ids of all tokens of the file, shape [n_tokens].
        token_bits: what each costs in the stream, shape [n_tokens].
        side_bits: what all else costs.
    """

    payload: bytes
    tokens: Tokens
    token_bits: NDArray[np.float64]
    side_bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a long run is shown, and goes on after a kill.

    Attributes:
        journal_file: keeps finished windows; see `likelihood.likelihoods`.
        key: what the stream depends on.
        label: what the progress bar says.
    """

    journal_file: Path | None = None
    key: str = ""
    label: str = ""


def encode(
    model: TransformersModel, data: bytes, protocol: ScoringProtocol, progress: Progress = Progress()
) -> Stream:
    """Return a file as a stream.

    Args:
        model: the model, under `next_token.reproducible`.
        data: the file.
        protocol: `full`, within the model's context.
        progress: journal and bar.

    Raises:
        UserError: when the model's logits are not finite or a window does not fit into memory.
    """
    found = list(segments(model, data))
    coder = Encoder()
    _write_number(coder, len(found))
    for segment in found:
        for number in (len(segment.escaped), len(segment.tokens), len(segment.patch)):
            _write_number(coder, number)
    escapes = ByteModel()
    for segment in found:
        escapes.encode(coder, segment.escaped)
        escapes.encode(coder, segment.patch)
    side_bits = coder.n_bits
    tokens = np.concatenate([np.empty(0, dtype=np.int64), *(segment.tokens for segment in found)])

    def write(place: int, bounds: Bounds) -> Coded:
        token = int(tokens[place])
        return token, *part(bounds, token)

    bits = np.empty(len(tokens))
    coded = _walk(model, len(tokens), protocol, write, coder.encode, progress)
    for place, (token, _, frequency) in enumerate(coded):
        if token != tokens[place]:
            raise UserError(f"{progress.journal_file} holds windows of another file; delete it")
        bits[place] = math.log2(TOTAL / frequency)
    return Stream(payload=coder.finish(), tokens=tokens, token_bits=bits, side_bits=side_bits)


def decode(
    model: TransformersModel,
    payload: bytes,
    n_tokens: int,
    n_bytes: int,
    protocol: ScoringProtocol,
    progress: Progress = Progress(),
) -> Iterator[bytes]:
    """Yield the parts of the file that became a stream; see `encode`.

    Args:
        model: the same model, likewise.
        payload: the stream.
        n_tokens: how many tokens it holds.
        n_bytes: how long the file is.
        protocol: the same.
        progress: journal and bar.

    Raises:
        ValueError: when it is no such stream.
        UserError: as `encode`.
    """
    coder = Decoder(payload)
    # A segment holds so many bytes of text at most: what goes beyond would be asked of memory before it is noticed.
    block = min(n_bytes, 4 * BLOCK_CHARACTERS)
    limits = n_bytes, MOST_TOKENS_PER_BYTE * block, block
    found = [[_read_number(coder, most) for most in limits] for _ in range(_read_number(coder, n_bytes))]
    totals = [sum(of) for of in zip(*found, strict=True)] or [0, 0, 0]
    if totals[1] != n_tokens or max(totals[0], totals[2]) > n_bytes:
        raise ValueError("its segments are not those of such a file")
    escapes = ByteModel()
    aside = [(escapes.decode(coder, n), n_own, escapes.decode(coder, n_patch)) for n, n_own, n_patch in found]

    def read(_: int, bounds: Bounds) -> Coded:
        token = symbol_at(bounds, coder.position(TOTAL))
        if token + 1 == len(bounds):
            raise ValueError("it holds a token that is none")
        return token, *part(bounds, token)

    coded = _walk(model, n_tokens, protocol, read, coder.consume, progress)
    room = n_bytes
    for escaped, n_own, patch in aside:
        own = np.fromiter((token for token, _, _ in islice(coded, n_own)), np.int64, n_own)
        text = apply_repair(patch, model.decode(own), most=block).encode() if n_own or patch else b""
        room -= len(escaped) + len(text)
        if room < 0:
            raise ValueError("it holds more than the file")
        yield escaped + text


def _walk(
    model: TransformersModel,
    n_tokens: int,
    protocol: ScoringProtocol,
    choose: Callable[[int, Bounds], Coded],
    take: Callable[[int, int, int], object],
    progress: Progress,
) -> Iterator[Coded]:
    """Yield each token with its part of `TOTAL`, window by window: its left bound and its frequency.

    Args:
        model: the model.
        n_tokens: how many there are.
        protocol: their windows.
        choose: tells the token at a place, with its part, from the bounds of all tokens.
        take: codes a part of a total.
        progress: journal and bar.
    """
    prefix = model.prefix.token is not None
    known = array("q")
    reader = Reader(model, protocol.window)

    with (
        journal(progress.journal_file, progress.key) as (done, add),
        tqdm(total=n_tokens, unit="tok", desc=progress.label, disable=None) as bar,
    ):
        windows = full_windows(n_tokens, protocol, prefix=prefix)
        if n_tokens and not prefix:
            windows = chain([Window(begin=0, first=0, end=1)], windows)
        for number, window in enumerate(windows):
            before = done.pop(number, None)
            coded: list[Coded] = []
            for place in range(window.n_targets):
                token, left, size = (
                    before[place] if before else choose(len(known), _bounds(model, reader, window, known))
                )
                take(left, size, TOTAL)
                known.append(token)
                coded.append((token, left, size))
                if before and not bar.disable:
                    bar.initial += 1
                bar.update()
            if not before:
                add(number, coded)
            yield from coded


def _bounds(model: TransformersModel, reader: Reader, window: Window, known: "array[int]") -> Bounds:
    """Return the parts of all tokens at the place behind those that are known."""
    head = [] if model.prefix.token is None else [model.prefix.token]
    place = len(known)
    if not place and not head:
        return np.arange(model.rows_of_logits + 1) * (TOTAL // model.rows_of_logits)
    try:
        if place > window.first:
            return frequencies(reader.step(known[-1]))
        return frequencies(reader.restart(np.array([*head, *known[window.begin : place]], dtype=np.int64)))
    except ValueError as error:
        raise UserError(
            f"{model.name} gives logits that cannot be coded: {error}; its weights are damaged or overflow in this "
            "precision: try --dtype float32"
        ) from error


def _write_number(coder: Encoder, number: int) -> None:
    """Write an unsigned LEB128: seven bits a byte, the lowest first, the high bit where more follow."""
    while number > 0x7F:
        coder.encode(number & 0x7F | 0x80, 1, 256)
        number >>= 7
    coder.encode(number, 1, 256)


def _read_number(coder: Decoder, most: int) -> int:
    number = shift = 0
    while True:
        byte = coder.position(256)
        coder.consume(byte, 1, 256)
        number |= (byte & 0x7F) << shift
        shift += 7
        if number > most or shift > 63:
            raise ValueError(f"a number in it is above {most}")
        if byte < 0x80:
            return number
