"""Bytes by how often each came before: what is coded of a file that no model can say.

An adaptive model of order 0: each of the 256 bytes counts one at the start (Laplace's rule of succession) and
one more whenever it comes. Both sides count alike, so no table is stored.
"""

import numpy as np
from tqdm import tqdm

from evaluate.codec.range_coder import Decoder, Encoder, part, symbol_at

# Old counts fade: halved whenever there are so many, which lets the model follow a file that changes.
MOST = 1 << 20


class ByteModel:
    """Counts of bytes, which the coding of each changes."""

    def __init__(self) -> None:
        # What all bytes below one count, shape [257].
        self._bounds = np.arange(257)

    def encode(self, coder: Encoder, data: bytes) -> None:
        """Write bytes."""
        for byte in tqdm(data, desc="bytes", unit="B", unit_scale=True, disable=_quiet(len(data))):
            coder.encode(*part(self._bounds, byte), int(self._bounds[256]))
            self._count(byte)

    def decode(self, coder: Decoder, n: int) -> bytes:
        """Read n bytes."""
        data = bytearray()
        for _ in tqdm(range(n), desc="bytes", unit="B", unit_scale=True, disable=_quiet(n)):
            total = int(self._bounds[256])
            byte = symbol_at(self._bounds, coder.position(total))
            coder.consume(*part(self._bounds, byte), total)
            self._count(byte)
            data.append(byte)
        return bytes(data)

    def _count(self, byte: int) -> None:
        self._bounds[byte + 1 :] += 1
        if self._bounds[256] >= MOST:
            np.cumsum((np.diff(self._bounds) + 1) // 2, out=self._bounds[1:])


def _quiet(n: int) -> bool | None:
    # A megabyte takes seconds; what takes less needs no bar, and None leaves it to terminals.
    return None if n >= 1 << 20 else True


def compress(data: bytes) -> bytes:
    """Return the length and the bytes, coded."""
    coder = Encoder()
    ByteModel().encode(coder, data)
    return len(data).to_bytes(8) + coder.finish()


def decompress(coded: bytes) -> bytes:
    """Return what `compress` was given."""
    return ByteModel().decode(Decoder(coded[8:]), int.from_bytes(coded[:8]))
