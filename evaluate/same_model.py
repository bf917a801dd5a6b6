"""Whether two genomes are of one model: a test with a p-value.

A sample of probes is held against another sample, or against the exact distributions it would come from. Two
exact genomes are equal or not: of these it is asked whether so many probes of each would tell.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from collectors.document import UserError
from evaluate.distances import FLOOR, Array, Counts, Overlaps, overlaps, similarity, standard_errors
from evaluate.genomes import Genome

LEVEL = 0.05
"""P-values below this call models different."""

DRAWS = 400
"""Draws of probes of two exact genomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SameModel:
    """A test of the hypothesis that two genomes are of one model.

    Attributes:
        models: what the two are called.
        null: how the statistic's distribution under the hypothesis was made: `permuted` probes of two samples,
            probes `drawn` from the exact genome, or `simulated` probes of what lies between two exact genomes.
        n_probes: probes per gene of the two, for an exact genome beside a sample None.
        n_genes: genes.
        permutations: values drawn from that distribution.
        statistic: sum_a (p - q)^2, mean over genes: its unbiased estimate, and of two exact genomes itself.
        p_value: (1 + values at least as large as the statistic) / (1 + permutations); of two exact genomes
            twice the median over draws of probes, 1 at most.
        power: share of these draws whose own p-value is below `LEVEL`; None unless both are exact.
        distance: `unbiased` D; None where there is none, as the two share no allele or a sample has none twice.
        standard_error: of the distance, over genes; None where there is none, as of one gene (see
            `standard_errors`).
    """

    models: tuple[str, str]
    null: str
    n_probes: tuple[int | None, int | None]
    n_genes: int
    permutations: int
    statistic: float
    p_value: float
    power: float | None
    distance: float | None
    standard_error: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The distance's 95 % interval over sets of genes such as these, by Student's t; None without its error."""
        if self.distance is None or self.standard_error is None:
            return None
        width = float(stdtrit(self.n_genes - 1, 0.975)) * self.standard_error
        return self.distance - width, self.distance + width


def same_model(
    first: Genome, second: Genome, *, n_probes: int | None = None, permutations: int = 999, seed: int = 0
) -> SameModel:
    """Test the hypothesis that two genomes are of one model.

    The statistic is the squared maximum mean discrepancy with the identity kernel (Gretton et al. 2012), summed
    over genes. Two samples are held against each other with the probes of each gene dealt anew, which the
    hypothesis leaves as likely; a sample and an exact genome with samples drawn from that genome, whose pruned
    mass goes where it makes the two most alike, as it may have come from there.

    Of two exact genomes, `n_probes` are drawn `DRAWS` times, as one draw is a lottery. Each is held against the
    same pairs of samples of the mean of both genomes, which under the hypothesis is either. Twice the median of
    p-values is a p-value however they depend on each other (Rueger 1978; Meinshausen, Meier and Buehlmann 2009,
    JASA 104:1671).

    A small p-value says that models differ, not by how much: that is what the distance says. A large one says
    that these probes do not tell them apart.

    Args:
        first: a genome.
        second: a genome on the same genes.
        n_probes: probes per gene to draw of two exact genomes, of what was kept of them; None for others.
        permutations: values to draw of the statistic under the hypothesis, 1 or more.
        seed: of these, and of probes.

    Raises:
        UserError: when `n_probes` is missing or superfluous, when a sampled genome has one probe or is not made
            of whole probes, and as `overlaps`.
    """
    sampled = [genome for genome in (first, second) if genome.n_probes is not None]
    if bool(sampled) == (n_probes is not None):
        raise UserError(
            f"n_probes is {n_probes} with {len(sampled)} sampled genomes of 2: give it for two exact ones alone"
        )
    if permutations < 1 or (n_probes is not None and n_probes < 2):
        raise UserError(
            f"permutations is {permutations}, n_probes {n_probes}: they start at 1 and at 2; give more"
        )
    found = overlaps((first, second))
    n_genes = len(found.genes)
    rng = np.random.default_rng(seed)
    n_observed = 1 if sampled else DRAWS
    total, exactly = np.zeros(n_observed + permutations), 0.0
    for gene in range(n_genes):
        p, q = _aligned(first.alleles[gene], second.alleles[gene])
        if n_probes is not None:
            p, q = p / p.sum(), q / q.sum()
            exactly += float(((p - q) ** 2).sum())
            total += _simulated(p, q, n_probes, permutations, rng)
        elif len(sampled) == 2:
            total += _permuted(_counts(p, first), _counts(q, second), permutations, rng)
        elif first is sampled[0]:
            total += _drawn(_counts(p, first), q, second.pruned[gene], permutations, rng)
        else:
            total += _drawn(_counts(q, second), p, first.pruned[gene], permutations, rng)
    total /= n_genes
    # Equal counts give sums that differ by rounding: a tie counts against a difference.
    as_large = (total[n_observed:] >= total[:n_observed, None] - 1e-12).sum(axis=1)
    p_values = (1 + as_large) / (1 + permutations)
    distance, error = _distance(found)
    return SameModel(
        models=(first.model, second.model),
        null=("simulated", "drawn", "permuted")[len(sampled)],
        n_probes=(first.n_probes or n_probes, second.n_probes or n_probes),
        n_genes=n_genes,
        permutations=permutations,
        statistic=float(total[0]) if sampled else exactly / n_genes,
        p_value=float(p_values[0]) if sampled else min(1.0, 2 * float(np.median(p_values))),
        power=None if sampled else float((p_values < LEVEL).mean()),
        distance=distance,
        standard_error=error,
    )


def _distance(found: Overlaps) -> tuple[float | None, float | None]:
    """Return the distance of two genomes and its standard error, each None where there is none."""
    try:
        similar = float(similarity(found)[0, 1])
    except UserError:  # a sample has no allele twice: the p-value stands without a distance
        return None, None
    if similar <= FLOOR:
        return None, None
    error = float(standard_errors(found)[0, 1]) if len(found.genes) > 1 else math.nan
    return 0.0 - math.log(similar), None if math.isnan(error) else error


def _aligned(*genes: Mapping[str, float]) -> tuple[Array, ...]:
    """Return the shares of two genomes' alleles, in one order."""
    alleles = sorted(set().union(*genes))
    return tuple(np.array([gene.get(a, 0.0) for a in alleles]) for gene in genes)


def _counts(shares: Array, genome: Genome) -> Counts:
    """Return how many probes gave each allele."""
    n = genome.n_probes or 0
    counts = np.rint(shares * n)
    if counts.sum() != n or np.abs(shares * n - counts).max() > 1e-6 * n:
        raise UserError(
            f"shares of {genome.model} are not those of {n} whole probes in each gene: give it as sampled"
        )
    return counts.astype(np.int64)


def _simulated(p: Array, q: Array, n: int, permutations: int, rng: np.random.Generator) -> Array:
    """Return the statistic of draws of n probes of each of two exact genes, and of samples of their mean."""
    # Draws end with the last probe: most probable alleles first, they end after few.
    order = np.argsort(-(p + q), kind="stable")
    p, q = p[order], q[order]
    x, y = (
        np.vstack([rng.multinomial(n, own, size=DRAWS), rng.multinomial(n, mean, size=permutations)])
        for own, mean in ((p, (p + q) / 2), (q, (p + q) / 2))
    )
    return _discrepancies(x, y)


def _permuted(x: Counts, y: Counts, permutations: int, rng: np.random.Generator) -> Array:
    """Return the statistic of two samples' counts, and of the same probes dealt anew."""
    seen = x + y > 0
    x, y = x[seen], y[seen]
    dealt = np.vstack([x, rng.multivariate_hypergeometric(x + y, x.sum(), size=permutations)])
    return _discrepancies(dealt, x + y - dealt)


def _discrepancies(x: Counts, y: Counts) -> Array:
    """Return the statistic of the counts of two samples, row by row."""
    n, m = x[0].sum(), y[0].sum()
    xx, yy, xy = (np.einsum("ij,ij->i", *pair) for pair in ((x, x), (y, y), (x, y)))
    made: Array = (xx - n) / (n * (n - 1)) + (yy - m) / (m * (m - 1)) - 2 * xy / (n * m)
    return made


def _drawn(x: Counts, kept: Array, pruned: float, permutations: int, rng: np.random.Generator) -> Array:
    """Return the statistic of a sample's counts held against an exact gene, and of samples of that gene."""
    n = x.sum()
    q = _completed(kept / kept.sum() * (1 - pruned), x / n, pruned)
    # Draws end with the last probe: most probable alleles first, they end after few.
    order = np.argsort(-q, kind="stable")
    x, q = x[order], q[order] / q.sum()
    drawn = np.vstack([x, rng.multinomial(n, q, size=permutations)])
    made: Array = (
        ((drawn**2).sum(axis=1) - n) / (n * (n - 1)) + (q**2).sum() - 2 * (drawn * q).sum(axis=1) / n
    )
    return made


def _completed(kept: Array, shares: Array, pruned: float) -> Array:
    """Return an exact gene with its pruned mass added where that brings it closest to a sample's shares.

    That is a projection onto a simplex: a level is found above which the excess of shares adds up to the mass.
    No completion has a smaller statistic, the true one included, so that the test errs towards one model.
    """
    excess = np.sort(shares - kept)[::-1]
    levels = (np.cumsum(excess) - pruned) / np.arange(1, len(excess) + 1)
    level = levels[np.flatnonzero(excess >= levels)[-1]]
    made: Array = kept + np.maximum(shares - kept - level, 0)
    return made
