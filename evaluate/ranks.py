"""How often documents of one corpus rank above those of another, where every origin is one witness.

Documents of one origin, a package or an author, resemble each other whether they were trained on or not. Each has
the weight 1 / (documents of its origin in its corpus), so that origins count alike however large they are (Datta
and Satten 2005, Journal of the American Statistical Association 100:908-915), and the AUC is that of random
origins. Pairs are of one stratum. Where every document is an origin of its own, all this is the usual AUC.

- The p-value permutes whole origins: which corpus one belongs to, and of one with documents in both, which are
  which. Large origins vary less than small ones, so that every arrangement is divided by a standard error of its
  own (Neubert and Brunner 2007, Computational Statistics & Data Analysis 51:5192-5204). Where few origins that vary
  more are held against many that vary less, arrangements mix the two and are less extreme than what is observed.
  No p-value is therefore below that of the interval, nor below 2^-n, n the origins of the corpus that has fewer:
  of two corpora with a true AUC of 0.5 one wins all pairs no more often, for n of the pairs are independent.
- The interval is that of clustered data (Obuchowski 1997, Biometrics 53:567-578), the one of DeLong et al. (1988,
  Biometrics 44:837-845) where there are no clusters, by logit, and by Student's t with as many degrees of freedom as
  the corpus of fewer origins has, less 1.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Labels permuted at once, 8 MB of them.
_CHUNK = 1 << 20

# Arrangements that differ by less are equal, but for rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Documents of two corpora, in strata that each hold some of both.

    Attributes:
        own: whether each is of the corpus in question, shape [n].
        strata: that each is in, numbered from 0, shape [n].
        origins: of each, numbered from 0 over both corpora, shape [n].
    """

    own: NDArray[np.bool_]
    strata: Indices
    origins: Indices

    @property
    def weights(self) -> Array:
        """One over the documents of the same origin in the same corpus, shape [n]."""
        witness = 2 * self.origins + self.own
        return 1 / np.bincount(witness)[witness]

    @property
    def pairs(self) -> float:
        """How many pairs there are, by weight."""
        sides = [np.bincount(self.strata, self.weights * side) for side in (self.own, ~self.own)]
        return float(sides[0] @ sides[1])

    def n_origins(self, *, own: bool) -> int:
        """Return how many origins one corpus has."""
        return len(np.unique(self.origins[self.own == own]))

    @property
    def fewer(self) -> int:
        """How many origins the corpus of fewer has."""
        return min(self.n_origins(own=own) for own in (True, False))


def auc(values: Array, compared: Compared) -> float:
    """Return the chance that a document of the corpus in question has the higher value; ties count half."""
    return 0.5 + float((compared.weights * _excess(values, compared))[compared.own].sum()) / compared.pairs


def p_value(
    values: Array, compared: Compared, *, seed: int, permutations: int, widened: float = 1.0
) -> float:
    """Return the chance of as high an AUC or a higher one if the true one is 0.5, the largest of three.

    By permutation, by Student's distribution as in the interval, and of all pairs won.

    Args:
        values: of each document, shape [n].
        compared: the documents.
        seed: of the permutations.
        permutations: how many.
        widened: factor of every arrangement's distance from 0.5, and of the interval's standard error.
    """
    drawn = permuted(values, compared, seed=seed, permutations=permutations, widened=widened)
    centre, error = auc(values, compared), widened * _error(values, compared)
    beyond = float(stdtr(max(1, compared.fewer - 1), -_logit(centre) / error)) if error else 0.0
    return max(drawn, beyond, 0.5**compared.fewer)


def permuted(
    values: Array, compared: Compared, *, seed: int, permutations: int, widened: float = 1.0
) -> float:
    """Return the share of arrangements, the one observed among them, with as high an AUC or a higher one.

    High in standard errors: the root of the sum over origins of (sum of (z - p) * weight * excess)^2, where z is
    whether a document is of the corpus in question, and p the share of that corpus in the weight of a stratum.

    Args:
        values: of each document, shape [n].
        compared: the documents.
        seed: of the permutations.
        permutations: how many.
        widened: factor of every arrangement's distance from 0.5.
    """
    sides = [compared.own, ~compared.own]
    sums, weight = (
        np.stack([_table(part * side, compared) for side in sides])
        for part in (compared.weights * _excess(values, compared), compared.weights)
    )
    total, size = sums.sum(axis=0), weight.sum(axis=(0, 1))
    own, against = (side.any(axis=1) for side in weight)
    shared = own & against
    # An origin in one corpus alone counts as of that in question whole or not at all, another by either part.
    for part in (sums, weight):
        part[0, ~shared], part[1, ~shared] = part[:, ~shared].sum(axis=0), 0

    def studentised(labels: Array) -> Array:
        """Return the AUC's distance from 0.5 over its standard error, for labels of shape [b, origins]."""
        gained = sums[1].sum(axis=1) + labels * (sums[0] - sums[1]).sum(axis=1)
        share = (weight[1].sum(axis=0) + labels @ (weight[0] - weight[1])) / size
        parts = gained - share @ total.T
        spread = np.sqrt((parts**2).sum(axis=1))
        return np.where(spread > _ROUNDING, parts.sum(axis=1) / np.maximum(spread, _ROUNDING), 0.0)

    labels = own[None].astype(np.float64)
    least = studentised(labels)[0] - _ROUNDING
    reached, random, step = 1, np.random.default_rng(seed), max(1, _CHUNK // labels.size)
    for begin in range(0, permutations, step):
        drawn = np.repeat(labels, min(step, permutations - begin), axis=0)
        drawn[:, ~shared] = random.permuted(drawn[:, ~shared], axis=1)
        drawn[:, shared] = random.integers(2, size=(len(drawn), int(shared.sum())))
        reached += int((studentised(drawn) * widened >= least).sum())
    return reached / (1 + permutations)


def interval(values: Array, compared: Compared, widened: float = 1.0) -> tuple[float, float]:
    """Return the 95 % interval of the AUC.

    Args:
        values: of each document, shape [n].
        compared: the documents.
        widened: factor of the standard error.
    """
    centre, error, n = auc(values, compared), widened * _error(values, compared), compared.fewer
    if not error:
        # As many origins as the smaller corpus has won all; their common chance may yet be this.
        least = 0.025 ** (1 / n)
        return (least, 1.0) if centre == 1 else (0.0, 1 - least) if centre == 0 else (centre, centre)
    reach = float(stdtrit(max(1, n - 1), 0.975)) * error
    low, high = (1 / (1 + math.exp(-_logit(centre) - sign * reach)) for sign in (-1, 1))
    return low, high


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _error(values: Array, compared: Compared) -> float:
    """Return the standard error of the AUC's logit; 0 where nothing varies."""
    centre = auc(values, compared)
    if not 0 < centre < 1:
        return 0.0
    cells = 2 * compared.strata + compared.own
    weights, won = compared.weights, _ranks(values, compared.strata, compared.weights)
    won = won - _ranks(values, cells, weights)  # of the other corpus alone
    mean = np.bincount(cells, weights * won) / np.maximum(np.bincount(cells, weights), _ROUNDING)
    witnesses = np.bincount(np.unique(np.stack([cells, compared.origins]), axis=1)[0])[cells]
    beyond = weights * (won - mean[cells]) * np.sqrt(witnesses / np.maximum(witnesses - 1, 1))
    variance = float((np.bincount(compared.origins, np.where(compared.own, beyond, -beyond)) ** 2).sum())
    return math.sqrt(variance) / compared.pairs / (centre * (1 - centre))


def _excess(values: Array, compared: Compared) -> Array:
    """Return by how much of the stratum's weight each document exceeds the middle; by weight their sum is 0."""
    strata, weights = compared.strata, compared.weights
    return _ranks(values, strata, weights) - np.bincount(strata, weights)[strata] / 2


def _ranks(values: Array, groups: Indices, weights: Array) -> Array:
    """Return the weight in its group that each value is above, equal values counted half."""
    ranks = np.unique(values, return_inverse=True)[1]
    places = np.unique(groups * len(values) + ranks, return_inverse=True)[1]
    weight = np.bincount(places, weights)
    total = np.bincount(groups, weights)
    return np.asarray((np.cumsum(weight) - weight / 2)[places] - (np.cumsum(total) - total)[groups])


def _table(values: Array, compared: Compared) -> Array:
    """Return sums by origin and stratum."""
    n_origins, n_strata = int(compared.origins.max()) + 1, int(compared.strata.max()) + 1
    sums = np.bincount(compared.origins * n_strata + compared.strata, values, n_origins * n_strata)
    return np.asarray(sums.reshape(n_origins, n_strata), dtype=np.float64)
