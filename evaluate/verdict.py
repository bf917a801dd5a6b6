"""Whether a corpus is more familiar to a model than another: a verdict with the assumptions it rests on.

Documents of one corpus are held against those of another, matched one that is known to be unseen, or as
unseen as can be. The figure is the chance that a document of the first has the higher statistic, over pairs of
about the same length. Its p-value comes from permuting which corpus a document belongs to, within strata
of length: exact whatever the statistic's distribution, given that the two corpora are alike but for training.

They seldom are: corpora of different months are told apart without any model (Das, Zhang and Tramèr 2024,
arXiv 2406.16201). A reference that was trained on neither is therefore taken off, document by document, and what
it sees on its own is reported beside the verdict.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.membership import Array

# False alarms among corpora that were not trained on.
LEVEL = 0.01

PERMUTATIONS, RESAMPLES = 9999, 1000

# Five strata remove more than nine tenths of what a confounder does (Cochran 1968, Biometrics 24:295-313);
# fewer where one would hold fewer documents than this.
STRATA, LEAST = 5, 8

# Values permuted at once, 8 MB of them.
_CHUNK = 1 << 20

_ALIKE = "the two corpora differ in nothing but training: same kind of text, same pipeline"
_REFERENCE = (
    "the reference was trained on neither corpus, or on both alike",
    "whatever else sets the corpora apart moves model and reference by as much",
)
_DOCUMENTS = (
    "documents are independent: those of one author or project count as several witnesses where they are one",
    "the other corpus was not trained on; where it was, training on this one goes unseen",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Documents of a corpus.

    Attributes:
        statistics: of each, higher where it looks more like one that was trained on, shape [n]; NaN where it
            was not measured.
        lengths: tokens of each that were predicted, shape [n].
        reference: the same statistic under a reference, shape [n]; None without one.
    """

    statistics: Array
    lengths: NDArray[np.int64]
    reference: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the comparison came to.

    Attributes:
        contaminated: whether p is at most the level.
        level: false alarms that are accepted.
        p_value: of so high an AUC, or a higher one, if training made no difference; one-sided.
        auc: chance that a document of the corpus has a higher statistic than one of the other corpus in the
            same stratum of length, ties counted half; 0.5 where training made no difference.
        low: lower end of its 95 % bootstrap interval over documents.
        high: upper end.
        reference_auc: of the reference alone; None without one. Far from 0.5 the corpora are not alike.
        n_documents: documents of the corpus that were compared.
        n_against: documents of the other.
        n_strata: of length, with documents of both.
        n_left_out: documents of either that were not measured, or have no counterpart of their length.
        assumptions: what the verdict rests on, each a clause.
    """

    contaminated: bool
    level: float
    p_value: float
    auc: float
    low: float
    high: float
    reference_auc: float | None
    n_documents: int
    n_against: int
    n_strata: int
    n_left_out: int
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stratum:
    """Documents of about one length, by rank of what is compared."""

    own: NDArray[np.int64]
    against: NDArray[np.int64]

    @property
    def pairs(self) -> int:
        return len(self.own) * len(self.against)


def judge(
    corpus: Sample, against: Sample, *, seed: int = 1, level: float = LEVEL, permutations: int = PERMUTATIONS
) -> Verdict:
    """Return whether a corpus is more familiar to a model than another.

    With a reference, what is compared is the difference of differences: every document's statistic less
    that of the reference.

    Args:
        corpus: documents in question.
        against: documents of a matched corpus.
        seed: of permutations and bootstrap.
        level: false alarms that are accepted.
        permutations: how many; no p-value is below 1 / (permutations + 1).

    Raises:
        UserError: when there are too few documents for any verdict at that level.
        ValueError: when one sample has a reference and the other has none.
    """
    if (corpus.reference is None) != (against.reference is None):
        raise ValueError("both samples need a reference, or neither")
    kept = [_measured(sample) for sample in (corpus, against)]
    rows = [_compared(sample) for sample in kept]
    places = _places([sample.lengths for sample in kept])
    strata = _strata(rows, places)
    _check_enough(strata, level)
    random = np.random.default_rng(seed)
    found = _auc(strata)
    p_value = _p_value(strata, random, permutations)
    low, high = _interval(strata, random)
    n_documents = sum(len(stratum.own) for stratum in strata)
    n_against = sum(len(stratum.against) for stratum in strata)
    alone = [sample.reference for sample in kept if sample.reference is not None]
    return Verdict(
        contaminated=p_value <= level,
        level=level,
        p_value=p_value,
        auc=found,
        low=low,
        high=high,
        reference_auc=_auc(_strata(alone, places)) if alone else None,
        n_documents=n_documents,
        n_against=n_against,
        n_strata=len(strata),
        n_left_out=len(corpus.statistics) + len(against.statistics) - n_documents - n_against,
        assumptions=(*(_REFERENCE if alone else (_ALIKE,)), *_DOCUMENTS),
    )


def _measured(sample: Sample) -> Sample:
    wanted = np.isfinite(sample.statistics)
    if sample.reference is not None:
        wanted &= np.isfinite(sample.reference)
    return Sample(
        statistics=sample.statistics[wanted],
        lengths=sample.lengths[wanted],
        reference=None if sample.reference is None else sample.reference[wanted],
    )


def _compared(sample: Sample) -> Array:
    return sample.statistics if sample.reference is None else sample.statistics - sample.reference


def _places(lengths: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Return the stratum of each document, by quantiles of all lengths together."""
    pooled = np.concatenate(lengths)
    n = max(1, min(STRATA, len(pooled) // LEAST))
    if not len(pooled):
        return lengths
    # The greatest length of each stratum but the last: equal lengths are never parted.
    edges = np.unique(np.quantile(pooled, np.arange(1, n) / n, method="inverted_cdf"))
    return [np.searchsorted(edges, own, side="left") for own in lengths]


def _strata(rows: list[Array], places: list[NDArray[np.int64]]) -> list[_Stratum]:
    """Return the strata that hold documents of both."""
    ranks = np.unique(np.concatenate(rows), return_inverse=True)[1]
    own, against = np.split(ranks, [len(rows[0])])
    shared = np.intersect1d(places[0], places[1])
    return [_Stratum(own=own[places[0] == i], against=against[places[1] == i]) for i in shared]


def _check_enough(strata: list[_Stratum], level: float) -> None:
    arrangements = math.prod(math.comb(len(s.own) + len(s.against), len(s.own)) for s in strata)
    if arrangements < 1 / level:
        own, against = sum(len(s.own) for s in strata), sum(len(s.against) for s in strata)
        raise UserError(
            f"{own} documents against {against} of about the same length are too few for a verdict at the "
            f"{level:.0%} level; add documents to either corpus"
        )


def _auc(strata: list[_Stratum]) -> float:
    return _wins(strata) / sum(s.pairs for s in strata)


def _wins(strata: list[_Stratum]) -> float:
    """Return how many pairs the corpus in question wins, ties counted half."""
    return sum(
        float(_weighted_wins(s, np.ones((1, len(s.own))), np.ones((1, len(s.against))))[0]) for s in strata
    )


def _weighted_wins(stratum: _Stratum, own: Array, against: Array) -> Array:
    """Return the same of several resamples at once, shape [resamples].

    Args:
        stratum: of documents.
        own: how often each document of the corpus in question was drawn, shape [resamples, documents].
        against: how often each of the other was, likewise.
    """
    order = np.argsort(stratum.against)
    lower = np.pad(np.cumsum(against[:, order], axis=1), ((0, 0), (1, 0)))
    below, up_to = (
        np.searchsorted(stratum.against[order], stratum.own, side=side) for side in ("left", "right")
    )
    return np.asarray((own * (lower[:, below] + lower[:, up_to])).sum(axis=1) / 2)


def _p_value(strata: list[_Stratum], random: np.random.Generator, permutations: int) -> float:
    """Return the share of permutations, the one observed among them, that win as many pairs or more."""
    observed = _wins(strata)
    totals = np.zeros(permutations)
    for stratum in strata:
        n = len(stratum.own)
        ranks = _midranks(np.concatenate([stratum.own, stratum.against]))
        step = max(1, _CHUNK // len(ranks))
        for begin in range(0, permutations, step):
            end = min(begin + step, permutations)
            drawn = random.permuted(np.tile(ranks, (end - begin, 1)), axis=1)
            totals[begin:end] += drawn[:, :n].sum(axis=1) - n * (n + 1) / 2
    # Sums of halves are exact.
    return (1 + int((totals >= observed).sum())) / (1 + permutations)


def _midranks(values: NDArray[np.int64]) -> Array:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    inverse, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def _interval(strata: list[_Stratum], random: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % percentile interval of the AUC, documents of each corpus and stratum resampled."""
    wins = np.zeros(RESAMPLES)
    for stratum in strata:
        sizes = len(stratum.own), len(stratum.against)
        step = max(1, _CHUNK // sum(sizes))
        for begin in range(0, RESAMPLES, step):
            end = min(begin + step, RESAMPLES)
            own, against = (
                random.multinomial(n, np.full(n, 1 / n), size=end - begin).astype(np.float64) for n in sizes
            )
            wins[begin:end] += _weighted_wins(stratum, own, against)
    low, high = np.quantile(wins / sum(s.pairs for s in strata), (0.025, 0.975))
    return float(low), float(high)
