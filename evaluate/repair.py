"""What it costs to mend a text that a tokenizer does not restore: the length of a real patch.

A tokenizer that composes accents, lower-cases or drops what it has no token for lets its model pay for
an easier text than the one that was asked for. `encode_repair` writes the bytes from which, beside
the restored text, the original follows; their bits are added to the model's. Like a compressor's
output, a patch costs whole bytes. It is the shortest of these, the first byte saying which:

- one of `TRANSFORMS` of the restored text is the original: that byte is all;
- such a text with one passage replaced: what its start and end share with the original, and the passage;
- the original by Zstandard (RFC 8878), with such a text as its dictionary.

One transform is the empty text, so a patch never costs more than the original, compressed or plain,
and a few bytes. Every patch but the empty one tells its own end.
"""

import math
from collections.abc import Callable
from unicodedata import normalize

import numpy as np
import zstandard

NATS_PER_BYTE = 8 * math.log(2)

# Their order is part of the format.
TRANSFORMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: normalize("NFC", text),
    lambda text: normalize("NFD", text),
    lambda text: normalize("NFKC", text),
    lambda text: normalize("NFKD", text),
    lambda text: text.replace("\n", "\r\n"),
    lambda _: "",
)
_EXACTLY, _SPLICED, _ZSTANDARD = range(3)
# The first finds out which transform serves best, the second is for that one alone: it takes thirty times as long.
_QUICK, _STRONG = 9, 19


def repair_nll(text: str, restored: str) -> float:
    """Return nats that turn what the tokens restore into the original, 0 where they restore it.

    Both must be Unicode text: no lone surrogates.
    """
    return NATS_PER_BYTE * len(encode_repair(text, restored))


def encode_repair(text: str, restored: str) -> bytes:
    """Return a patch from which `apply_repair` makes the text, empty where nothing is to mend."""
    if text == restored:
        return b""
    target = text.encode()
    patches = {}
    seen = set()
    for number, transform in enumerate(TRANSFORMS):
        reference = transform(restored).encode()
        if reference == target:
            return bytes([_head(_EXACTLY, number)])
        if reference in seen:
            continue
        seen.add(reference)
        patches[number] = min(
            bytes([_head(_SPLICED, number)]) + _splice(target, reference),
            bytes([_head(_ZSTANDARD, number)]) + _compress(target, reference, _QUICK),
            key=len,
        )
    number = min(patches, key=lambda number: len(patches[number]))
    reference = TRANSFORMS[number](restored).encode()
    strong = bytes([_head(_ZSTANDARD, number)]) + _compress(target, reference, _STRONG)
    return min(patches[number], strong, key=len)


def apply_repair(patch: bytes, restored: str, most: int) -> str:
    """Return the original text.

    Args:
        patch: of `encode_repair`.
        restored: the text that it mends.
        most: bytes that the original has at most.

    Raises:
        ValueError: when it is no such patch.
    """
    if not patch:
        return restored
    form, number = divmod(patch[0], len(TRANSFORMS))
    reference = TRANSFORMS[number](restored).encode()
    if form == _EXACTLY:
        return reference.decode()
    if form == _SPLICED:
        return _unsplice(patch[1:], reference).decode()
    if form == _ZSTANDARD:
        return _decompress(patch[1:], reference, most).decode()
    raise ValueError(f"a patch does not begin with {patch[0]}")


def _head(form: int, number: int) -> int:
    return form * len(TRANSFORMS) + number


def _splice(target: bytes, reference: bytes) -> bytes:
    start = _n_shared(target, reference)
    end = _n_shared(target[start:][::-1], reference[start:][::-1])
    passage = target[start : len(target) - end]
    return _number(start) + _number(end) + _number(len(passage)) + passage


def _n_shared(a: bytes, b: bytes) -> int:
    """Return how many bytes are the same at the start of both."""
    n = min(len(a), len(b))
    differs = np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n)
    return int(differs.argmax()) if differs.any() else n


def _unsplice(patch: bytes, reference: bytes) -> bytes:
    start, patch = _read_number(patch)
    end, patch = _read_number(patch)
    length, patch = _read_number(patch)
    return reference[:start] + patch[:length] + reference[len(reference) - end :]


def _number(value: int) -> bytes:
    """Return an unsigned LEB128: seven bits a byte, the lowest first, the high bit where more follow."""
    head, rest = value & 0x7F, value >> 7
    return bytes([head | 0x80]) + _number(rest) if rest else bytes([head])


def _read_number(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for position, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[position + 1 :]
    raise ValueError("the patch ends within a number")


def _compress(target: bytes, reference: bytes, level: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(target),
        dict_size=len(reference),
        # What has left the window can no longer be copied: it must hold both.
        window_log=_window_log(len(target) + len(reference)),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(reference))
    return bytes(compressor.compress(target))


def _decompress(data: bytes, reference: bytes, most: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(
        dict_data=_dictionary(reference),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        max_window_size=1 << _window_log(most + len(reference)),
    )
    try:
        text = decompressor.stream_reader(data).read(most + 1)
    except zstandard.ZstdError as error:
        raise ValueError(f"the patch is damaged: {error}") from error
    if len(text) > most:
        raise ValueError(f"the patch makes more than {most} bytes")
    return text


def _window_log(n: int) -> int:
    return max(zstandard.WINDOWLOG_MIN, min(n.bit_length(), zstandard.WINDOWLOG_MAX))


def _dictionary(reference: bytes) -> zstandard.ZstdCompressionDict | None:
    if not reference:
        return None
    return zstandard.ZstdCompressionDict(reference, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
