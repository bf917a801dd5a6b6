"""Whether a corpus is more familiar to a model than another: a verdict with the assumptions it rests on.

Documents of one corpus are held against those of another, matched one that is known to be unseen, or as
unseen as can be. The figure is the chance that a document of the first has the higher statistic, over pairs of
about the same length. Its p-value comes from permuting which corpus an origin belongs to, a package or an author
with all its documents, and from Student's distribution, whichever is larger (see `ranks`). Where origins of the two
corpora are alike but for training, in size too, permutations alone are exact whatever the statistic's distribution
and however alike documents of one origin are. Where sizes or variances differ nothing is exact: few small origins
against many large ones raise up to five times as many alarms as stated by permutations alone, in simulations, and
about as many as stated by the larger p-value. Were documents permuted instead, a level of 1 % would be one of 4 %
with three documents to an origin and half of the variance between origins.

Corpora are seldom alike: those of different months are told apart without any model (Das, Zhang and Tramèr 2024,
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

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate import ranks
from evaluate.membership import Array
from evaluate.ranks import Compared, Indices

# False alarms among corpora that were not trained on.
LEVEL = 0.01

PERMUTATIONS = 9999

# Five strata remove more than nine tenths of what a confounder does (Cochran 1968, Biometrics 24:295-313);
# fewer where one would hold fewer witnesses than this, or origins of either corpus too few for a variance.
STRATA, LEAST, LEAST_OF_EACH = 5, 8, 5

# Of adjusted statistics, in standard deviations: what differs by less is a tie.
_DECIMALS = 9

_ALIKE = "the two corpora differ in nothing but training: same kind of text, same pipeline"
_REFERENCE = (
    "the reference was trained on neither corpus, or on both alike",
    "whatever else sets the corpora apart moves model and reference in the same proportion as it does within them",
)
_DOCUMENTS = (
    "origins are independent, and alike in both corpora: a package, a repository, a site or a first author counts once",
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
        origins: name of each one's origin, the same in both corpora, empty where it is unknown; None where all are.
    """

    statistics: Array
    lengths: Indices
    reference: Array | None = None
    origins: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the comparison came to.

    Attributes:
        contaminated: whether p is at most the level.
        level: false alarms that are accepted.
        p_value: of so high an AUC, or a higher one, if training made no difference; one-sided.
        auc: chance that a document of the corpus has a higher statistic than one of the other corpus in the
            same stratum of length, ties counted half, origins of equal weight; 0.5 where training made no difference.
        low: lower end of its 95 % interval over origins.
        high: upper end.
        reference_auc: of the reference alone; None without one.
        alike: whether the interval of `reference_auc` holds 0.5; None without a reference. Where it does not, the
            corpora differ in more than training.
        n_documents: documents of the corpus that were compared.
        n_against: documents of the other.
        n_origins: origins of the corpus's documents.
        n_origins_against: of the other's; one may be among both.
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
    n_origins: int
    n_origins_against: int
    n_strata: int
    n_left_out: int
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pooled:
    """Documents of both corpora that can be compared."""

    statistics: Array
    reference: Array | None
    compared: Compared


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
        permutations: how many; no p-value is below 1 / (permutations + 1), nor below 2 to the power of less the
            number of origins in the corpus that has fewer.

    Raises:
        UserError: when there are too few origins for any verdict at that level.
        ValueError: when one sample has a reference and the other has none.
    """
    if (corpus.reference is None) != (against.reference is None):
        raise ValueError("both samples need a reference, or neither")
    pooled = _pooled(corpus, against)
    compared = pooled.compared
    n_origins, n_origins_against = (compared.n_origins(own=own) for own in (True, False))
    n_documents, n_against = int(compared.own.sum()), int((~compared.own).sum())
    if compared.fewer < LEAST_OF_EACH or 0.5**compared.fewer > level:
        raise UserError(
            f"{n_documents} documents against {n_against} of about the same length, of {n_origins} and "
            f"{n_origins_against} origins, are too few for a verdict at the {level:.0%} level; add documents of other "
            "origins to either corpus"
        )
    p_value, values, widened = max(
        (
            (
                ranks.p_value(values, compared, seed=seed, permutations=permutations, widened=widened),
                values,
                widened,
            )
            for values, widened in _adjusted(pooled)
        ),
        key=lambda found: found[0],
    )
    low, high = ranks.interval(values, compared, widened)
    alone = pooled.reference
    ends = (0.0, 1.0) if alone is None else ranks.interval(alone, compared)
    return Verdict(
        contaminated=p_value <= level,
        level=level,
        p_value=p_value,
        auc=ranks.auc(values, compared),
        low=low,
        high=high,
        reference_auc=None if alone is None else ranks.auc(alone, compared),
        alike=None if alone is None else ends[0] <= 0.5 <= ends[1],
        n_documents=n_documents,
        n_against=n_against,
        n_origins=n_origins,
        n_origins_against=n_origins_against,
        n_strata=len(np.unique(compared.strata)),
        n_left_out=len(corpus.statistics) + len(against.statistics) - n_documents - n_against,
        assumptions=(*((_ALIKE,) if alone is None else _REFERENCE), *_DOCUMENTS),
    )


def _pooled(*samples: Sample) -> _Pooled:
    """Return the documents that were measured and have counterparts of about their length."""
    statistics, lengths = (
        np.concatenate([getattr(sample, name) for sample in samples]) for name in ("statistics", "lengths")
    )
    references = [sample.reference for sample in samples if sample.reference is not None]
    reference = np.concatenate(references) if references else None
    own = np.repeat([True, False], [len(sample.statistics) for sample in samples])
    names = [
        name or (side, i)
        for side, sample in enumerate(samples)
        for i, name in enumerate(sample.origins or [""] * len(sample.statistics))
    ]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    origins = np.array([numbers[name] for name in names], dtype=np.int64)
    kept = np.isfinite(statistics) if reference is None else np.isfinite(statistics) & np.isfinite(reference)
    strata = np.full(len(own), -1)
    strata[kept] = _strata(lengths[kept], own[kept], origins[kept])
    kept = strata >= 0
    compared = Compared(
        own=own[kept],
        strata=np.unique(strata[kept], return_inverse=True)[1],
        origins=np.unique(origins[kept], return_inverse=True)[1],
    )
    return _Pooled(
        statistics=statistics[kept],
        reference=None if reference is None else reference[kept],
        compared=compared,
    )


def _adjusted(pooled: _Pooled) -> Iterator[tuple[Array, float]]:
    """Yield what is compared, for each slope on the reference, and the factor of its spread."""
    y, x, compared = pooled.statistics, pooled.reference, pooled.compared
    if x is None:
        yield y, 1.0
        return
    weights, strata, group = compared.weights, compared.strata, compared.own.astype(np.float64)
    cells = 2 * strata + compared.own
    within_y, within_x = _centred(y, cells, weights), _centred(x, cells, weights)
    spread_x, spread_y = np.linalg.norm(within_x), np.linalg.norm(within_y)
    slope = float(within_x @ within_y / spread_x**2) if spread_x > 0 else 0.0
    slopes = (slope, float(spread_y / spread_x)) if slope > 0 else (0.0,)
    apart, between = _centred(group, strata, weights), _centred(x, strata, weights)
    # As the variance of the group's coefficient grows with what the reference tells of the group.
    told = (apart @ between) ** 2 / ((apart @ apart) * (between @ between)) if spread_x > 0 else 0.0
    unit = float(spread_y) / math.sqrt(weights.sum()) or 1.0
    for one in slopes:
        yield np.round((y - one * x) / unit, _DECIMALS), 1 / math.sqrt(max(1 - told, 1e-9))


def _centred(values: Array, groups: Indices, weights: Array) -> Array:
    """Return values less the mean of their group, by the root of their weight."""
    inverse = np.unique(groups, return_inverse=True)[1]
    means = np.bincount(inverse, weights * values) / np.bincount(inverse, weights)
    return np.asarray(np.sqrt(weights) * (values - means[inverse]))


def _strata(lengths: Indices, own: NDArray[np.bool_], origins: Indices) -> Indices:
    """Return the stratum of each document, by quantiles of all lengths; -1 in those without documents of both."""
    if not len(lengths):
        return lengths
    witnesses = np.unique(2 * origins + own)
    n = max(1, min(STRATA, len(witnesses) // LEAST))
    # The greatest length of each stratum but the last: equal lengths are never parted.
    edges = np.unique(np.quantile(lengths, np.arange(1, n) / n, method="inverted_cdf"))
    places = np.searchsorted(edges, lengths, side="left")
    shared = np.intersect1d(places[own], places[~own]).tolist()
    joined = np.full(n, -1)
    joined[shared] = _merged(
        [[set(origins[(places == i) & side].tolist()) for side in (own, ~own)] for i in shared]
    )
    return np.asarray(joined[places])


def _merged(origins: Sequence[Sequence[set[int]]]) -> list[int]:
    """Number strata, joining those that hold too few origins of either corpus with a neighbour."""
    labels: list[int] = []
    number, found = 0, [set[int](), set[int]()]
    for both in origins:
        labels.append(number)
        found = [known | more for known, more in zip(found, both, strict=True)]
        if min(map(len, found)) >= LEAST_OF_EACH:
            number, found = number + 1, [set(), set()]
    # The last ones may be too few by themselves.
    return [min(label, max(number - 1, 0)) for label in labels]
