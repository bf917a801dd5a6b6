"""As many documents as a precision needs, and no more: a seeded order, looks, and an interval that allows for them.

A corpus is finite and its lengths are known, so only what the unscored documents cost is uncertain.
Documents are scored in an order that depends on the corpus and a seed, never on the model: what two
models have scored are prefixes of one order. At each of a few sizes, the looks, the 95 % interval of
the corpus rate is computed, and scoring stops when half its width is at most `precision` of the rate.

- The rate is estimated by total bits over total characters of what is scored, a ratio estimator
  (Cochran 1977, chapter 6).
- Its variance is the larger of two estimates from the residuals e = nll - rate * characters. The
  jackknife, with the finite-population correction, follows the documents met so far. The predictive
  one (Royall and Cumberland 1981) adds up what the error of every document is expected to be, in
  proportion to its length: it knows of the long documents that are still to come.
- The quantile is Student's, with degrees of freedom from the spread of e^2 (Satterthwaite 1946): few
  where a few documents make up the variance.
- Looking repeatedly, and stopping at a look that happens to be narrow, would cover too little. The
  quantiles are those of a group-sequential boundary: were the errors of documents normal, the intervals
  of all looks together would miss with 5 %, for the information 1 / (1/n - 1/N) at n of N documents
  (recursive integration of Armitage, McPherson and Rowe 1969). It falls as 1 + sqrt(30 / n): early looks,
  where the normal law serves worst, are the strictest.

`benchmarks/stopping.py` measures the coverage, beside that of other corrections. What it cannot cover is
what no sample shows: a few documents in a hundred that are several times as dear as all others.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from collectors.document import UserError
from evaluate.model import Likelihood
from evaluate.rates import Unit, rate, unit_counts

FIRST_LOOK = 30
GROWTH = 1.25
MISSES = 0.05

_NORMAL = NormalDist()
# Gauss and Legendre's nodes and weights on [-1, 1]: beyond machine precision for the integrands below.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def check_precision(precision: float) -> float:
    """Return the precision.

    Raises:
        UserError: when it is not between 0 and 0.5.
    """
    if isinstance(precision, bool) or not isinstance(precision, int | float) or not 0 < precision < 0.5:
        raise UserError(
            f"precision {precision!r} must be a number above 0 and below 0.5: half the width of the "
            "interval relative to the rate, such as 0.005"
        )
    return float(precision)


def order(n: int, seed: int, corpus_sha256: str) -> NDArray[np.int64]:
    """Return the indices of a corpus's `n` documents in the order in which every model scores them.

    They are sorted by a digest, so that the order is the same on every machine and with every version.
    """
    digests = [hashlib.sha256(f"{corpus_sha256}/{seed}/{i}".encode()).digest() for i in range(n)]
    return np.array(sorted(range(n), key=digests.__getitem__), dtype=np.int64)


def looks(n: int) -> list[int]:
    """Return the numbers of scored documents at which a corpus of `n` is looked at; the last is `n`."""
    sizes = []
    size = FIRST_LOOK
    while size < n:
        sizes.append(size)
        size = math.ceil(size * GROWTH)
    return [*sizes, n]


def level(n: int, size: int) -> float:
    """Return the error level of the look at `n` of `size` documents."""
    return 2 * _NORMAL.cdf(-_boundary(size) * _shape(n))


def half_width(
    nll: NDArray[np.float64], units: NDArray[np.float64], population: NDArray[np.float64], error: float
) -> NDArray[np.float64]:
    """Return half the width of the interval of a corpus's rate, relative to that rate.

    Args:
        nll: nats of the documents scored so far, a random sample; shape [..., n].
        units: their characters, bytes or tokens, same shape.
        population: units of all documents, in any order; shape [..., N].
        error: level of the interval: `level(n, N)`, where others are not to be compared.

    Returns:
        Shape [...]; 0 where all documents are scored, infinite where fewer than two hold any text.
    """
    n, size = nll.shape[-1], population.shape[-1]
    total, scored = population.sum(-1), units.sum(-1)
    if n == size:
        return np.zeros_like(scored)
    shares = units / np.maximum(scored, 1)[..., None]
    residuals = nll - nll.sum(-1, keepdims=True) * shares
    with np.errstate(divide="ignore", invalid="ignore"):
        deleted = residuals**2 / (1 - shares)
        jackknife = (1 - n / size) * (n - 1) / n * (deleted / (1 - shares)).sum(-1) / scored**2
        squares = (units**2).sum(-1)
        unscored = (total - scored) ** 2 / scored**2 + ((population**2).sum(-1) - squares) / squares
        predictive = unscored * deleted.sum(-1) / total**2
        relative = np.sqrt(np.maximum(jackknife, predictive)) / (nll.sum(-1) / scored)
        width = relative * -stdtrit(_degrees_of_freedom(residuals, n), error / 2)
    return np.where((np.count_nonzero(units, -1) > 1) & ~np.isnan(width), width, np.inf)


def interval(
    likelihoods: Sequence[Likelihood], population: Sequence[int] | NDArray[np.int64], unit: Unit
) -> tuple[float, float]:
    """Return the 95 % interval of the rate of a whole corpus, valid at the look where scoring stops.

    Args:
        likelihoods: the documents scored so far: the first of `order`.
        population: units of all documents of the corpus, in any order.
        unit: of the rate; what `population` counts.

    Returns:
        Bits per unit, low and high; both are the rate itself where every document is scored.

    Raises:
        UserError: when no document holds a unit.
    """
    value, width = rate(likelihoods, unit), _width(likelihoods, population, unit)
    return max(0.0, value * (1 - width)), value * (1 + width)


def precise(
    likelihoods: Sequence[Likelihood],
    population: Sequence[int] | NDArray[np.int64],
    unit: Unit,
    precision: float,
) -> bool:
    """Return whether scoring may stop here; to be asked at `looks` alone, arguments as for `interval`."""
    return _width(likelihoods, population, unit) <= precision


def expected_documents(
    likelihoods: Sequence[Likelihood],
    population: Sequence[int] | NDArray[np.int64],
    unit: Unit,
    precision: float,
) -> int:
    """Return the look at which scoring would stop if documents varied as much as the given ones.

    Args:
        likelihoods: some or all documents under another model, such as a fast compressor.
        population: units of all documents of the corpus.
        unit: what `population` counts.
        precision: as for `precise`.
    """
    everything = np.asarray(population, dtype=np.float64)
    size = len(everything)
    nll = np.array([row.nll for row in likelihoods])
    units = unit_counts(likelihoods, unit)
    if np.count_nonzero(units) < 2 or not nll.sum():
        return size
    residuals = nll / nll.sum() - units / units.sum()
    # The variance of a document's error, in proportion to its squared length, over the whole corpus.
    spread = (residuals**2).sum() / (units**2).sum() * units.sum() ** 2
    spread *= size * (everything**2).sum() / everything.sum() ** 2
    for n in looks(size)[:-1]:
        quantile = -stdtrit(_degrees_of_freedom(residuals, n), level(n, size) / 2)
        if math.sqrt((1 / n - 1 / size) * spread) * quantile <= precision:
            return n
    return size


def _width(
    likelihoods: Sequence[Likelihood], population: Sequence[int] | NDArray[np.int64], unit: Unit
) -> float:
    nll = np.array([row.nll for row in likelihoods])
    everything = np.asarray(population, dtype=np.float64)
    error = level(len(nll), len(everything))
    return float(half_width(nll, unit_counts(likelihoods, unit), everything, error))


def _degrees_of_freedom(residuals: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return those of a mean of squares of `n` documents: n where they are normal, few where tails are heavy."""
    squares = residuals**2
    excess = (squares**2).mean(-1) / np.maximum(squares.mean(-1) ** 2, np.finfo(float).tiny) - 1
    return np.asarray(np.clip(2 * n / np.maximum(excess, 0.5), 2, max(2, n - 1)))


def _shape(n: int) -> float:
    return 1 + math.sqrt(FIRST_LOOK / n)


@cache
def _boundary(size: int) -> float:
    """Return the normal quantile that the looks at a large number of documents approach."""
    sizes = np.array(looks(size)[:-1], dtype=np.float64)
    shape = np.array([_shape(n) for n in looks(size)[:-1]])
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        inside = _stays_within(middle * shape, 1 / (1 / sizes - 1 / size)) > 1 - MISSES
        low, high = (low, middle) if inside else (middle, high)
    return high


def _stays_within(bounds: NDArray[np.float64], information: NDArray[np.float64]) -> float:
    """Return the probability that a standardised Brownian motion stays within its bound at every look."""
    if not len(bounds):
        return 1.0
    z, weights = bounds[0] * _NODES, bounds[0] * _WEIGHTS
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for k in range(1, len(bounds)):
        correlation = math.sqrt(information[k - 1] / information[k])
        spread = math.sqrt(1 - correlation**2)
        after = bounds[k] * _NODES
        steps = (after[:, None] - correlation * z) / spread
        density = np.exp(-(steps**2) / 2) / (spread * math.sqrt(2 * math.pi)) @ (weights * density)
        z, weights = after, bounds[k] * _WEIGHTS
    return float(weights @ density)
