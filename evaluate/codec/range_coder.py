"""A range coder over integer frequencies, precise enough that its output is as long as the model says.

Martin 1979 (Range encoding: an algorithm for removing redundancy from a digitised message), with a
carry that is added to the bytes already written. `low` and `range` are of 64 bits, frequencies of a symbol are out of a
total of at most 2**32.

What precision costs, in bits for each symbol, at most:

- A symbol narrows the range to `range // total * frequency`. The range is above 2**56 before, so
  `range // total` is at least 2**24, and dropping its fraction loses less than one part in 2**24:
  -log2(1 - 2**-24) = 8.6e-8.
- `frequencies` gives a symbol of probability p at least p * (2**32 - V) of 2**32, where V is the number of symbols,
  short of it by a part of V / 2**40 + 3e-10 at most: 1.7e-5 bits for a vocabulary of 49,152, and 8.9e-5 for one of
  262,144.

The end costs at most a byte. A vocabulary of this size needs this precision: frequencies of 24 bits, each at least
1, give 0.3 % of all probability to tokens that have none.
"""

import math

import numpy as np
from numpy.typing import NDArray

TOTAL = 1 << 32

_WHOLE = 1 << 64
_LEAST = 1 << 56
_BYTES = 8
_LN2 = 0.6931471805599453
_WEIGHT = 1 << 40


class Encoder:
    """Writes symbols, each as its part of a whole; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _WHOLE
        self._written = bytearray()

    @property
    def n_bits(self) -> float:
        """How many bits all that was written comes to."""
        return 8 * len(self._written) + 64 - math.log2(self._range)

    def encode(self, left: int, frequency: int, total: int) -> None:
        """Write the symbol that has the part [left, left + frequency) of a total of at most `TOTAL`.

        Raises:
            ValueError: when that is no part of the total.
        """
        if not (left >= 0 and frequency > 0 and left + frequency <= total <= TOTAL):
            raise ValueError(f"[{left}, {left} + {frequency}) is no part of {total}")
        step = self._range // total
        self._low += step * left
        self._range = step * frequency
        if self._low >= _WHOLE:
            self._low -= _WHOLE
            self._carry()
        while self._range <= _LEAST:
            self._written.append(self._low >> 56)
            self._low = self._low << 8 & _WHOLE - 1
            self._range <<= 8

    def finish(self) -> bytes:
        """Return all that was written, with a byte that tells it from anything else if zeros behind it do not."""
        if self._low + self._range <= _WHOLE and self._low:
            self._written.append(-(-self._low >> 56))
        elif self._low:
            self._carry()
        return bytes(self._written)

    def _carry(self) -> None:
        place = len(self._written) - 1
        while self._written[place] == 0xFF:
            self._written[place] = 0
            place -= 1
        self._written[place] += 1


class Decoder:
    """Reads symbols as `Encoder` wrote them: `position` tells where the next one lies, `consume` takes it.

    Both raise ValueError where no encoder wrote so: whatever is read, it is not much longer than its symbols cost.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._read = _BYTES
        self._offset = int.from_bytes(data[:_BYTES].ljust(_BYTES, b"\0"))
        self._range = _WHOLE

    def position(self, total: int) -> int:
        """Return a number of [0, total) that lies in the next symbol's part."""
        position = self._offset // (self._range // total)
        if position >= total:
            raise ValueError("it holds a symbol that is none")
        return position

    def consume(self, left: int, frequency: int, total: int) -> None:
        """Take the symbol that has the part [left, left + frequency), in which `position` lies."""
        step = self._range // total
        self._offset -= step * left
        self._range = step * frequency
        while self._range <= _LEAST:
            if self._read >= len(self._data) + _BYTES:
                raise ValueError("it ends before its last symbol")
            byte = self._data[self._read] if self._read < len(self._data) else 0
            self._read += 1
            self._offset = self._offset << 8 | byte
            self._range <<= 8


def frequencies(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the symbols' parts of `TOTAL`: symbol i has [bounds[i], bounds[i + 1]).

    Equal logits give equal parts on any machine: behind them are only float64 operations that IEEE 754 rounds in one
    way, and sums of integers. Libraries' exponentials differ by the machine. Each symbol has a part, for any may come.
    The parts do not always fill the total.

    Args:
        logits: unnormalised log-probabilities, shape [vocabulary].

    Returns:
        Bounds in ascending order, shape [vocabulary + 1].

    Raises:
        ValueError: when a logit is NaN or +inf, or all are -inf (a probability of 0), or there are none or more than
            2**20.
    """
    if not 0 < len(logits) <= 1 << 20:
        raise ValueError(f"{len(logits)} logits are not between 1 and {1 << 20}")
    # -inf is a probability of 0, which some models give ids that are no token.
    if not np.isfinite(logits.max()):
        raise ValueError("a logit is not finite")
    weights = np.ceil(_exp(logits.astype(np.float64) - float(logits.max())) * _WEIGHT)
    shares = weights * ((TOTAL - len(logits)) / int(weights.astype(np.int64).sum()))
    bounds = np.zeros(len(logits) + 1, dtype=np.int64)
    np.cumsum(shares.astype(np.int64) + 1, out=bounds[1:])
    return bounds


def _exp(exponents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return e to the power of numbers that are not positive, to 3e-10; what is less than e**-40 becomes that."""
    exponents = np.maximum(exponents, -40.0)
    halvings = np.rint(exponents / _LN2)
    rest = exponents - halvings * _LN2
    # Taylor's series, whose remainder is (ln 2 / 2)**9 / 9!.
    found = np.ones_like(rest)
    for k in range(8, 0, -1):
        found *= rest
        found /= k
        found += 1.0
    return np.ldexp(found, halvings.astype(np.int32))


def part(bounds: NDArray[np.int64], symbol: int) -> tuple[int, int]:
    """Return a symbol's left bound and its frequency."""
    left = int(bounds[symbol])
    return left, int(bounds[symbol + 1]) - left


def symbol_at(bounds: NDArray[np.int64], position: int) -> int:
    """Return the symbol whose part a position lies in; the number of symbols where it lies in none."""
    return int(np.searchsorted(bounds, position, side="right")) - 1
