"""Classical compressors as models: what a text costs without any knowledge of language.

A compressor pays 8 bits for each byte of its output, container included, because that is what a
file on a disk costs. It scores each document alone, where it starts with nothing, and the corpus as
one stream, where it may learn from earlier documents. Settings are each format's strongest.
"""

import bz2
import gzip
import lzma
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import brotli
import pyppmd
import zstandard

from collectors.document import UserError
from evaluate.codec import order0
from evaluate.model import Likelihood

NATS_PER_BYTE = 8 * math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A format's strongest setting: how to compress and restore bytes, and what to call it."""

    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]
    settings: str


def _unppmd(data: bytes) -> bytes:
    restored = pyppmd.decompress(data, max_order=8, mem_size=64 << 20)
    return restored if isinstance(restored, bytes) else restored.encode()


def _xz(data: bytes) -> bytes:
    # The preset's 64 MiB dictionary costs 700 MB to set up, for every document again.
    dictionary = min(max(len(data), 4096), 64 << 20)
    settings = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}
    return lzma.compress(data, format=lzma.FORMAT_XZ, filters=[settings])


CODECS = {
    "order-0": Codec(
        compress=order0.compress,
        decompress=order0.decompress,
        settings="adaptive counts of single bytes, 64-bit range coder",
    ),
    "gzip": Codec(
        compress=lambda data: gzip.compress(data, compresslevel=9, mtime=0),
        decompress=gzip.decompress,
        settings=f"zlib {zlib.ZLIB_RUNTIME_VERSION}, level 9",
    ),
    "bzip2": Codec(
        compress=lambda data: bz2.compress(data, compresslevel=9),
        decompress=bz2.decompress,
        settings="libbz2, level 9",
    ),
    "xz": Codec(
        compress=_xz,
        decompress=lzma.decompress,
        settings="liblzma, LZMA2, preset 9 extreme",
    ),
    "zstd": Codec(
        compress=lambda data: zstandard.ZstdCompressor(level=22).compress(data),
        decompress=lambda data: zstandard.ZstdDecompressor().decompress(data),
        settings=f"zstandard {version('zstandard')}, level 22",
    ),
    "brotli": Codec(
        compress=lambda data: brotli.compress(data, quality=11, lgwin=24),
        decompress=brotli.decompress,
        settings=f"brotli {version('brotli')}, quality 11, window 2^24",
    ),
    "ppmd": Codec(
        compress=lambda data: pyppmd.compress(data, max_order=8, mem_size=64 << 20),
        decompress=_unppmd,
        settings=f"pyppmd {version('pyppmd')}, PPMd variant I, order 8, 64 MiB",
    ),
}


def codec(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        UserError: when there is none.
    """
    if name not in CODECS:
        raise UserError(f"codec {name!r} is unknown; choose one of {', '.join(CODECS)}")
    return CODECS[name]


def likelihoods(name: str, documents: Sequence[tuple[str, str]]) -> tuple[list[Likelihood], Likelihood]:
    """Return what each document costs alone, and what all of them cost as one stream.

    Args:
        name: a name in `CODECS`.
        documents: (id, text) pairs; the stream joins the texts in this order.

    Raises:
        UserError: when the codec is unknown or there is no text.
    """
    chosen = codec(name)
    if not any(text for _, text in documents):
        raise UserError("the corpus holds no text; collect or name at least one document that is not empty")
    alone = [_likelihood(chosen, identifier, text) for identifier, text in documents]
    return alone, _likelihood(chosen, "", "".join(text for _, text in documents))


def _likelihood(chosen: Codec, document: str, text: str) -> Likelihood:
    data = text.encode()
    compressed = chosen.compress(data)
    return Likelihood(
        document=document,
        nll=len(compressed) * NATS_PER_BYTE,
        n_tokens=None,
        n_characters=len(text),
        n_bytes=len(data),
        lossless=chosen.decompress(compressed) == data,
    )
