"""Rates of a corpus, and how sure they are: sums over documents, resampled by document.

The rate of a corpus is sum(nll) / (ln 2 * sum(characters)), as in equation 2 of Huang et al. 2024
(arXiv 2404.09937). Every interval is a 95 % percentile bootstrap of the ratio: documents are the unit
of sampling, because tokens within one are not independent (Efron and Tibshirani 1993, chapter 13).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.model import Likelihood

Unit = Literal["character", "byte", "token"]

RESAMPLES = 2000
# Indices drawn at once, 8 MB of them: enough to leave Python's loop, few enough to stay in cache.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much dearer one model is than another on the documents that both have scored.

    Attributes:
        value: rate of the first less rate of the second, in bits per unit.
        low: lower end of the 95 % interval.
        high: upper end.
        n_documents: documents both have scored.
    """

    value: float
    low: float
    high: float
    n_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far an approximate protocol is from the exact one, on the documents scored under both.

    Attributes:
        value: relative, positive where the approximate protocol is dearer.
        low: lower end of the 95 % interval, None for a single document.
        high: upper end.
        n_documents: documents scored under both.
    """

    value: float
    low: float | None
    high: float | None
    n_documents: int


def unit_counts(likelihoods: Sequence[Likelihood], unit: Unit) -> NDArray[np.float64]:
    """Return the characters, bytes or tokens of each document; 0 tokens for compressors."""
    if unit == "character":
        return np.array([row.n_characters for row in likelihoods], dtype=np.float64)
    if unit == "byte":
        return np.array([row.n_bytes for row in likelihoods], dtype=np.float64)
    return np.array([row.n_tokens or 0 for row in likelihoods], dtype=np.float64)


def rate(likelihoods: Sequence[Likelihood], unit: Unit) -> float:
    """Return bits per character, byte or token of a corpus: total bits over total units.

    Raises:
        UserError: when there is nothing to divide by.
    """
    units = unit_counts(likelihoods, unit)
    if not units.sum():
        raise UserError(f"a corpus without a single {unit} has no rate")
    return float(sum(row.nll for row in likelihoods) / units.sum() / np.log(2))


def interval(likelihoods: Sequence[Likelihood], unit: Unit, *, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of `rate` by resampling documents, or None where fewer than two hold any text."""
    nll = np.array([row.nll for row in likelihoods])
    units = unit_counts(likelihoods, unit)
    if np.count_nonzero(units) < 2:
        return None
    low, high = _quantiles(_resampled(seed, (nll, units))) / np.log(2)
    return float(low), float(high)


def difference(
    a: Sequence[Likelihood], b: Sequence[Likelihood], unit: Unit, *, seed: int = 0
) -> Difference | None:
    """Return how much dearer `a` is than `b`, or None where fewer than two documents in common hold any text.

    Both rates are over the documents that both hold, and a resample takes the same documents of both:
    what makes a document hard for every model cancels. Documents are joined by id; where an id
    occurs more than once, by order of occurrence.
    """
    theirs = dict(zip(_occurrences(b), b, strict=True))
    pairs = [(row, theirs[key]) for key, row in zip(_occurrences(a), a, strict=True) if key in theirs]
    columns = []
    for rows in ([row for row, _ in pairs], [row for _, row in pairs]):
        units = unit_counts(rows, unit)
        if np.count_nonzero(units) < 2:
            return None
        columns.append((np.array([row.nll for row in rows]), units))
    (nll_a, units_a), (nll_b, units_b) = columns
    value = nll_a.sum() / units_a.sum() - nll_b.sum() / units_b.sum()
    first, second = _resampled(seed, *columns)
    low, high = _quantiles(first - second) / np.log(2)
    return Difference(
        value=float(value / np.log(2)), low=float(low), high=float(high), n_documents=len(pairs)
    )


def deviation(likelihoods: Sequence[Likelihood], *, seed: int = 0) -> Deviation | None:
    """Return how far `nll` is from `exact_nll`, or None where no document with any text has the latter.

    Both hold the nats of the repair, which are the same under every protocol: they are taken off
    both, so that a tokenizer which loses much does not hide what the protocol changes.
    """
    rows = [
        (row.nll - row.repair_nll, row.exact_nll - row.repair_nll)
        for row in likelihoods
        if row.exact_nll is not None
    ]
    nll, exact = np.array(rows).reshape(-1, 2).T
    if not exact.sum():
        return None
    value = float(nll.sum() / exact.sum() - 1)
    if np.count_nonzero(exact) < 2:
        return Deviation(value=value, low=None, high=None, n_documents=len(rows))
    low, high = _quantiles(_resampled(seed, (nll, exact))) - 1
    return Deviation(value=value, low=float(low), high=float(high), n_documents=len(rows))


def _occurrences(likelihoods: Sequence[Likelihood]) -> Iterator[tuple[str, int]]:
    seen: Counter[str] = Counter()
    for row in likelihoods:
        yield row.document, seen[row.document]
        seen[row.document] += 1


def _resampled(seed: int, *columns: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the ratio of sums of each (numerator, denominator), shape [columns, RESAMPLES].

    NaN where a resample holds no unit.
    """
    random = np.random.default_rng(seed)
    n = len(columns[0][0])
    ratios = np.full((len(columns), RESAMPLES), np.nan)
    step = max(1, _CHUNK // n)
    for begin in range(0, RESAMPLES, step):
        end = min(begin + step, RESAMPLES)
        sample = random.integers(n, size=(end - begin, n))
        for row, (numerator, denominator) in zip(ratios, columns, strict=True):
            total = denominator[sample].sum(axis=1)
            np.divide(numerator[sample].sum(axis=1), total, out=row[begin:end], where=total != 0)
    return ratios


def _quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Between a finite rate and that of a text which a model calls impossible lies no number.
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanquantile(values, (0.025, 0.975)))
