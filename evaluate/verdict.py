"""Whether a corpus is more familiar to a model than another: a verdict with the assumptions it rests on.

Documents of one corpus are held against those of another, matched one that is known to be unseen, or as
unseen as can be. The figure is the chance that a document of the first has the higher statistic, over pairs of
about the same length. Its p-value comes from permuting which corpus a document belongs to, within strata
of length: exact whatever the statistic's distribution, given that the two corpora are alike but for training.

They seldom are: corpora of different months are told apart without any model (Das, Zhang and Tramèr 2024,
arXiv 2406.16201). What a reference that was trained on neither explains is therefore taken off, document by
document, and what it sees on its own is reported beside the verdict.

How much a reference explains is a slope, for it may be on another scale. Least squares within the corpora find
too flat a one where the reference is itself noisy; the ratio of standard deviations within the corpora corrects
for a reference as noisy as the statistic (reduced major axis). Text is flagged under both alone. That the slope
is estimated widens the permutations as it widens the difference of an analysis of covariance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.membership import Array

# False alarms among corpora that were not trained on.
LEVEL = 0.01

PERMUTATIONS = 9999

# Five strata remove more than nine tenths of what a confounder does (Cochran 1968, Biometrics 24:295-313);
# fewer where one would hold fewer documents than this, or too few of either corpus for a variance.
STRATA, LEAST, LEAST_OF_EACH = 5, 8, 5

# Values permuted at once, 8 MB of them.
_CHUNK = 1 << 20

# Of adjusted statistics, in standard deviations: what differs by less is a tie.
_DECIMALS = 9

_ALIKE = "the two corpora differ in nothing but training: same kind of text, same pipeline"
_REFERENCE = (
    "the reference was trained on neither corpus, or on both alike",
    "whatever else sets the corpora apart moves model and reference in the same proportion as it does within them",
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
        low: lower end of its 95 % interval over documents (DeLong et al. 1988, Biometrics 44:837-845, by logit).
        high: upper end.
        reference_auc: of the reference alone; None without one.
        alike: whether the interval of `reference_auc` holds 0.5; None without a reference. Where it does not, the
            corpora differ in more than training.
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
    alike: bool | None
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

    With a reference, what is compared is what it leaves unexplained of every document's statistic.

    Args:
        corpus: documents in question.
        against: documents of a matched corpus.
        seed: of the permutations.
        level: false alarms that are accepted.
        permutations: how many; no p-value is below 1 / (permutations + 1).

    Raises:
        UserError: when there are too few documents for any verdict at that level.
        ValueError: when one sample has a reference and the other has none.
    """
    if (corpus.reference is None) != (against.reference is None):
        raise ValueError("both samples need a reference, or neither")
    kept = [_measured(sample) for sample in (corpus, against)]
    places = _places([sample.lengths for sample in kept])
    alone = [sample.reference for sample in kept if sample.reference is not None]
    _check_enough(_strata([sample.statistics for sample in kept], places), level)
    p_value, strata, widened = max(
        (
            (_p_value(strata, np.random.default_rng(seed), permutations, widened), strata, widened)
            for strata, widened in _adjusted(kept, places)
        ),
        key=lambda found: found[0],
    )
    low, high = _interval(strata, widened)
    apart = _strata(alone, places) if alone else []
    ends = _interval(apart, 1.0) if alone else (0.0, 1.0)
    n_documents = sum(len(stratum.own) for stratum in strata)
    n_against = sum(len(stratum.against) for stratum in strata)
    return Verdict(
        contaminated=p_value <= level,
        level=level,
        p_value=p_value,
        auc=_auc(strata),
        low=low,
        high=high,
        reference_auc=_auc(apart) if alone else None,
        alike=ends[0] <= 0.5 <= ends[1] if alone else None,
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


def _adjusted(
    samples: Sequence[Sample], places: list[NDArray[np.int64]]
) -> Iterator[tuple[list[_Stratum], float]]:
    """Yield the strata of what is compared, for each slope on the reference, and the factor of its spread."""
    rows = [sample.statistics for sample in samples]
    references = [sample.reference for sample in samples if sample.reference is not None]
    if not references:
        yield _strata(rows, places), 1.0
        return
    kept = np.isin(np.concatenate(places), np.intersect1d(places[0], places[1]))
    groups = np.repeat([0.0, 1.0], [len(row) for row in rows])[kept]
    strata = np.concatenate(places)[kept]
    y, x = (np.concatenate(parts)[kept] for parts in (rows, references))
    cells = 2 * strata + groups.astype(np.int64)
    within_y, within_x = _centred(y, cells), _centred(x, cells)
    spread_x, spread_y = np.linalg.norm(within_x), np.linalg.norm(within_y)
    slope = float(within_x @ within_y / spread_x**2) if spread_x > 0 else 0.0
    slopes = (slope, float(spread_y / spread_x)) if slope > 0 else (0.0,)
    apart, between = _centred(groups, strata), _centred(x, strata)
    # As the variance of the group's coefficient grows with what the reference tells of the group.
    told = (apart @ between) ** 2 / ((apart @ apart) * (between @ between)) if spread_x > 0 else 0.0
    unit = float(spread_y) / math.sqrt(len(y)) or 1.0
    for one in slopes:
        left = [
            np.round((row - one * reference) / unit, _DECIMALS)
            for row, reference in zip(rows, references, strict=True)
        ]
        yield _strata(left, places), 1 / math.sqrt(max(1 - told, 1e-9))


def _centred(values: Array, groups: NDArray[np.int64]) -> Array:
    """Return values less the mean of their group."""
    inverse = np.unique(groups, return_inverse=True)[1]
    return np.asarray(values - (np.bincount(inverse, values) / np.bincount(inverse))[inverse])


def _places(lengths: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Return the stratum of each document, by quantiles of all lengths together."""
    pooled = np.concatenate(lengths)
    n = max(1, min(STRATA, len(pooled) // LEAST))
    if not len(pooled):
        return lengths
    # The greatest length of each stratum but the last: equal lengths are never parted.
    edges = np.unique(np.quantile(pooled, np.arange(1, n) / n, method="inverted_cdf"))
    return _merged([np.searchsorted(edges, own, side="left") for own in lengths])


def _merged(places: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Join strata that hold too few documents of either corpus, but some of both, with a neighbour."""
    shared = np.intersect1d(places[0], places[1])
    own, against = (np.array([(place == i).sum() for i in shared], dtype=np.int64) for place in places)
    labels, begin = np.arange(len(shared)), 0
    for i in range(len(shared)):
        labels[begin : i + 1] = begin
        if min(own[begin : i + 1].sum(), against[begin : i + 1].sum()) >= LEAST_OF_EACH:
            begin = i + 1
    if 0 < begin < len(shared):  # the last ones are too few by themselves
        labels[begin:] = labels[begin - 1]
    joined = dict(zip(shared.tolist(), shared[labels].tolist(), strict=True))
    return [np.array([joined.get(i, i) for i in place.tolist()], dtype=np.int64) for place in places]


def _strata(rows: list[Array], places: list[NDArray[np.int64]]) -> list[_Stratum]:
    """Return the strata that hold documents of both."""
    ranks = np.unique(np.concatenate(rows), return_inverse=True)[1]
    own, against = np.split(ranks, [len(rows[0])])
    shared = np.intersect1d(places[0], places[1])
    return [_Stratum(own=own[places[0] == i], against=against[places[1] == i]) for i in shared]


def _check_enough(strata: list[_Stratum], level: float) -> None:
    arrangements = math.prod(math.comb(len(s.own) + len(s.against), len(s.own)) for s in strata)
    own, against = sum(len(s.own) for s in strata), sum(len(s.against) for s in strata)
    if arrangements < 1 / level or min(own, against) < LEAST_OF_EACH:
        raise UserError(
            f"{own} documents against {against} of about the same length are too few for a verdict at the "
            f"{level:.0%} level; add documents to either corpus"
        )


def _auc(strata: list[_Stratum]) -> float:
    return _wins(strata) / sum(s.pairs for s in strata)


def _wins(strata: list[_Stratum]) -> float:
    """Return how many pairs the corpus in question wins, ties counted half."""
    return sum(float(_won(s.own, s.against).sum()) for s in strata)


def _won(own: NDArray[np.int64], against: NDArray[np.int64]) -> Array:
    """Return how many of `against` each document of `own` is above, ties counted half."""
    ordered = np.sort(against)
    below, up_to = (np.searchsorted(ordered, own, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / 2)


def _p_value(strata: list[_Stratum], random: np.random.Generator, permutations: int, widened: float) -> float:
    """Return the share of permutations, the one observed among them, that win as many pairs or more.

    Their distance from half of all pairs is multiplied by `widened`.
    """
    half = sum(s.pairs for s in strata) / 2
    observed = _wins(strata) - half
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
    return (1 + int(((totals - half) * widened >= observed).sum())) / (1 + permutations)


def _midranks(values: NDArray[np.int64]) -> Array:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    inverse, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def _interval(strata: list[_Stratum], widened: float) -> tuple[float, float]:
    """Return the 95 % interval of the AUC, its standard error multiplied by `widened`."""
    pairs, auc = sum(s.pairs for s in strata), _auc(strata)
    variance = sum(
        len(theirs) ** 2 * len(ours) * float(np.var(_won(ours, theirs) / len(theirs), ddof=1))
        for s in strata
        for ours, theirs in ((s.own, s.against), (s.against, s.own))
    )
    if not 0 < auc < 1 or not variance:
        # As many documents as the smaller corpus has won all; their common chance may yet be this.
        least = 0.025 ** (1 / min(sum(len(s.own) for s in strata), sum(len(s.against) for s in strata)))
        return (least, 1.0) if auc == 1 else (0.0, 1 - least) if auc == 0 else (auc, auc)
    error = widened * math.sqrt(variance) / pairs
    centre, reach = math.log(auc / (1 - auc)), NormalDist().inv_cdf(0.975) * error / (auc * (1 - auc))
    low, high = (1 / (1 + math.exp(-(centre + sign * reach))) for sign in (-1, 1))
    return low, high
