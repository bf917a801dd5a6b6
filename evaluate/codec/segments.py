"""A file as what a tokenizer can read, and the bytes that it cannot.

Text is cut where bytes are no UTF-8, and where it is long; a tokenizer that does not restore a piece of it
is mended by a patch (see `repair`), or does without that piece. Joined again, the segments are the file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluate.model import LanguageModel, Tokens
from evaluate.repair import encode_repair

# A tokenizer takes a hundred bytes of memory for a character that it reads, for as long as it reads.
BLOCK_CHARACTERS = 1_000_000

# Less text than this among bytes that are none is not worth the numbers that tell where it begins and ends.
LEAST_CHARACTERS = 16

# A normaliser may spell one character by many. What no tokenizer asks for need not be believed of a file either.
MOST_TOKENS_PER_BYTE = 4

# Python's `surrogateescape` reads bytes that are no UTF-8 as these, which UTF-8 itself cannot hold.
_NO_TEXT = re.compile("[\udc80-\udcff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some bytes, and text behind them.

    Attributes:
        escaped: the bytes.
        tokens: of the text, shape [n_tokens]; none where there is no text.
        patch: what makes the text from what the tokens restore; see `repair.encode_repair`.
    """

    escaped: bytes
    tokens: Tokens
    patch: bytes


def segments(model: LanguageModel, data: bytes) -> Iterator[Segment]:
    """Yield the segments of a file, in order.

    Raises:
        UserError: when the tokenizer does not belong to the model.
    """
    escaped, none = bytearray(), np.empty(0, dtype=np.int64)
    for is_text, piece in _pieces(data):
        if not is_text:
            escaped += piece
            continue
        text = piece.decode()
        for start in range(0, len(text), BLOCK_CHARACTERS):
            block = text[start : start + BLOCK_CHARACTERS]
            (tokens,) = model.encode([block])
            patch = encode_repair(block, model.decode(tokens))
            own = block.encode()
            if len(tokens) > MOST_TOKENS_PER_BYTE * len(own) or (patch and len(patch) >= order0_bytes(own)):
                escaped += own
                continue
            yield Segment(escaped=bytes(escaped), tokens=tokens, patch=patch)
            escaped.clear()
    if escaped:
        yield Segment(escaped=bytes(escaped), tokens=none, patch=b"")


def order0_bytes(data: bytes) -> float:
    """Return the empirical entropy of bytes one by one, in bytes for all of them, at least one."""
    counts = np.bincount(np.frombuffer(data, np.uint8))
    counts = counts[counts > 0]
    return float((counts * np.log2(len(data) / counts)).sum()) / 8


def _pieces(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """Yield what is text and what is not; neither is empty."""
    whole = data.decode("utf-8", "surrogateescape")
    end = 0
    for gap in _NO_TEXT.finditer(whole):
        if gap.start() > end:
            yield gap.start() - end >= LEAST_CHARACTERS, _bytes(whole[end : gap.start()])
        yield False, _bytes(gap[0])
        end = gap.end()
    if end < len(whole):
        yield not end or len(whole) - end >= LEAST_CHARACTERS, _bytes(whole[end:])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
