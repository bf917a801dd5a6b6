"""Genetic similarities and distances between models' genomes.

With p and q the probabilities of allele a of gene g in two models (Yax et al. 2024, PhyloLM,
arXiv 2404.04671, after Nei 1972), and J_xy = sum_g sum_a p q,

    S = J_xy / sqrt(J_xx J_yy)      sums over genes before the ratio
    D = -ln max(S, 1e-10)

`plug-in` takes shares of N probes for p, as published. Of a gene's sum_a p^2 = j it then expects
j + (1 - j) / N, so that two samples of one model seem apart, the further the fewer the probes. `unbiased`
takes (N j - 1) / (N - 1) for a gene of a sampled genome (Nei 1978); sum_a p q needs no correction, and
neither does an exact genome. Its S may exceed 1, and D fall below 0, for models that are alike: such values
are kept, as averages over them are right, and `clipped` makes of them what a tree takes.

`bhattacharyya` has S = mean_g sum_a sqrt(p q) in the same D. Its values cannot be compared with those of the
other two. Its square roots have no unbiased estimate, so that it is for exact genomes alone.

Mass that exact expansion pruned is missing from every J. For `bhattacharyya` what was kept of a gene is
scaled to sum to 1, so that equal genomes have S = 1. `pruning_bounds` says how far either may be off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.genomes import Genome

ESTIMATORS = ("unbiased", "plug-in", "bhattacharyya")
FLOOR = 1e-10
"""Similarities below this count as this: models that share no allele are 23.03 apart."""

_ALIKE = 1e-12  # what rounding makes of the distance of equal genomes
_NO_PAIR = 1e-12  # and of the identity of probes of which no two are equal

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """What every two genomes share in every gene: similarities and their errors are made of it.

    Attributes:
        labels: the models, in the order of rows and columns.
        estimator: one of `ESTIMATORS`.
        genes: [genes, n, n], symmetric: sum_a p q, on the diagonal sum_a p^2 as the estimator has it; for
            `bhattacharyya` sum_a sqrt(p q), on the diagonal 1.
    """

    labels: tuple[str, ...]
    estimator: str
    genes: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningBounds:
    """The values that identities and similarities may take, whichever alleles the pruned mass belongs to.

    Nothing of a sampled genome is pruned: bounds say nothing about sampling error.

    Attributes:
        labels: the models, in the order of rows and columns.
        identity: lowest and highest J_xy, as a mean over genes; each [n, n].
        similarity: lowest and highest S; each [n, n].
    """

    labels: tuple[str, ...]
    identity: tuple[Array, Array]
    similarity: tuple[Array, Array]


def overlaps(genomes: Sequence[Genome], estimator: str = "unbiased") -> Overlaps:
    """Return what every two genomes share in every gene.

    Raises:
        UserError: when the estimator is unknown or not for such genomes, or genomes differ in their number of
            genes, or a gene has no allele.
    """
    _check(genomes, estimator)
    n = len(genomes)
    made = np.empty((len(genomes[0].alleles), n, n))
    for gene, square in enumerate(made):
        rows, codes, shares = _coded(genomes, gene)
        if estimator == "bhattacharyya":
            mass = np.bincount(rows, shares, minlength=n)
            square[:] = _cross(n, rows, codes, np.sqrt(shares / mass[rows]))
            np.fill_diagonal(square, 1.0)
        else:
            square[:] = _cross(n, rows, codes, shares)
            own = np.bincount(rows, shares**2, minlength=n)
            for i, genome in enumerate(genomes):
                if estimator == "unbiased" and genome.n_probes is not None:
                    own[i] = (genome.n_probes * own[i] - 1) / (genome.n_probes - 1)
            np.fill_diagonal(square, own)
    return Overlaps(labels=tuple(genome.model for genome in genomes), estimator=estimator, genes=made)


def similarity(overlaps: Overlaps) -> Array:
    """Return S of every two models: [n, n], symmetric, 1 on the diagonal.

    Raises:
        UserError: when a model has no similarity by this estimator, as no gene of it has an allele twice.
    """
    own = np.einsum("gii->i", overlaps.genes)
    if (own <= _NO_PAIR).any():
        raise UserError(
            f"no gene of {overlaps.labels[int(np.argmin(own))]} has an allele twice, so that its unbiased "
            "similarity is undefined: take more probes or genes, or plug-in"
        )
    return _similarity(overlaps, np.ones(len(overlaps.genes)))


def distances(overlaps: Overlaps) -> Array:
    """Return D of every two models: [n, n], symmetric, 0 on the diagonal, slightly below 0 for some alike.

    Raises:
        UserError: as `similarity`.
    """
    return _distance(similarity(overlaps))


def clipped(distances: Array) -> Array:
    """Return distances for a tree or a map: those below 0, which `unbiased` gives models that are alike, as 0.

    So are those that rounding alone keeps from 0.
    """
    return np.where(distances <= _ALIKE, 0.0, distances)


def resampled_distances(overlaps: Overlaps, *, replicates: int = 100, seed: int = 0) -> Iterator[Array]:
    """Yield D over genes drawn with replacement, the same genes for all pairs: trees of them show clade support.

    A draw of genes in which a model has no similarity is left out: there are fewer than `replicates` then.
    """
    rng = np.random.default_rng(seed)
    n_genes = len(overlaps.genes)
    for _ in range(replicates):
        times = np.bincount(rng.integers(n_genes, size=n_genes), minlength=n_genes)
        drawn = _distance(_similarity(overlaps, times.astype(np.float64)))
        if not np.isnan(drawn).any():
            yield drawn


def standard_errors(overlaps: Overlaps) -> Array:
    """Return the standard error of each D by the jackknife over genes: [n, n].

    Genes differ and so do draws of probes: both are in it, as every gene has probes of its own. It is NaN where
    S is at its floor or undefined, of all genes or without one of them: one gene then makes the distance.

    Raises:
        UserError: when there is only one gene, or as `similarity`.
    """
    n_genes = len(overlaps.genes)
    if n_genes < 2:
        raise UserError(f"{n_genes} gene has no standard error: it takes 2 genes or more")
    centre = _measured(similarity(overlaps))
    first, second = np.zeros_like(centre), np.zeros_like(centre)
    for gene in range(n_genes):
        others = np.ones(n_genes)
        others[gene] = 0
        deviation = _measured(_similarity(overlaps, others)) - centre
        first += deviation
        second += deviation**2
    variance = (n_genes - 1) / n_genes * np.maximum(second - first**2 / n_genes, 0)
    return np.sqrt(variance)


def pruning_bounds(genomes: Sequence[Genome], estimator: str = "unbiased") -> PruningBounds:
    """Return the values that identities and similarities may take, whatever the pruned mass is.

    Of a gene with pruned masses m and n, sum_a p q rises by at most m max q + n max p + m n. The square roots
    of a distribution are a point of the unit sphere, where sum_a sqrt(p q) is the cosine of an angle; what was
    kept is arcsin sqrt(m) away from the whole, so that angles are off by at most the sum of two of these. S
    divides the bounds of one identity by those of others, so that its own are wider than what can occur.

    Raises:
        UserError: as `overlaps` and `similarity`.
    """
    found = overlaps(genomes, estimator)
    pruned = np.array([genome.pruned for genome in genomes]).T
    top = np.array([[max(alleles.values()) for alleles in genome.alleles] for genome in genomes]).T
    j = found.genes if estimator != "bhattacharyya" else overlaps(genomes).genes
    gain = pruned[:, :, None] * top[:, None, :]
    high_j = (j + gain + gain.transpose(0, 2, 1) + pruned[:, :, None] * pruned[:, None, :]).mean(axis=0)
    low_j = j.mean(axis=0)
    value = similarity(found)
    if estimator == "bhattacharyya":
        kept = np.sqrt(1 - pruned)
        low = (found.genes * kept[:, :, None] * kept[:, None, :]).mean(axis=0)
        away = np.arcsin(np.sqrt(pruned))
        angle = np.arccos(np.minimum(found.genes, 1)) - away[:, :, None] - away[:, None, :]
        high = np.cos(np.maximum(angle, 0)).mean(axis=0)
    else:
        low = low_j / np.sqrt(np.outer(np.diag(high_j), np.diag(high_j)))
        high = high_j / np.sqrt(np.outer(np.diag(low_j), np.diag(low_j)))
        # No two distributions are more than alike, though estimates of some are.
        high = np.minimum(high, np.maximum(value, 1))
    np.fill_diagonal(low, 1.0)
    np.fill_diagonal(high, 1.0)
    return PruningBounds(labels=found.labels, identity=(low_j, high_j), similarity=(low, high))


def _check(genomes: Sequence[Genome], estimator: str) -> None:
    if estimator not in ESTIMATORS:
        raise UserError(f"estimator {estimator!r} is none of {', '.join(ESTIMATORS)}")
    if not genomes:
        raise UserError("0 genomes have no distances: give 1 or more")
    for genome in genomes:
        if not 0 < len(genome.alleles) == len(genomes[0].alleles):
            raise UserError(
                f"{genome.model} has {len(genome.alleles)} genes and {genomes[0].model} "
                f"{len(genomes[0].alleles)}: genomes to compare are made on the same genes, 1 or more"
            )
        if empty := [str(gene) for gene, alleles in enumerate(genome.alleles) if not any(alleles.values())]:
            raise UserError(
                f"gene {empty[0]} of {genome.model} has no allele, as all was pruned: lower the threshold"
            )
        if genome.n_probes is not None and estimator == "bhattacharyya":
            raise UserError(
                f"{genome.model} has {genome.n_probes} probes per gene; bhattacharyya is for exact genomes: "
                "expand it exactly, or take unbiased"
            )
        if genome.n_probes == 1 and estimator == "unbiased":
            raise UserError(f"{genome.model} has 1 probe per gene; unbiased takes 2 or more: take plug-in")


def _coded(genomes: Sequence[Genome], gene: int) -> tuple[Counts, Counts, Array]:
    """Return row of the genome, number of the allele, and share, of each allele of a gene in each genome."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(a, len(numbers)) for genome in genomes for a in genome.alleles[gene]]
    shares = np.array([share for genome in genomes for share in genome.alleles[gene].values()])
    rows = np.repeat(np.arange(len(genomes)), [len(genome.alleles[gene]) for genome in genomes])
    return rows, np.array(codes), shares


def _cross(n: int, rows: Counts, codes: Counts, values: Array) -> Array:
    """Return the sums over alleles of products of two genomes' values; the diagonal is incomplete.

    An allele that only one genome has adds to no pair. Most alleles are such, and the product of matrices is
    spared them.
    """
    common = np.bincount(codes) > 1
    places = np.cumsum(common) - 1
    chosen = common[codes]
    dense = np.zeros((n, int(common.sum())))
    dense[rows[chosen], places[codes[chosen]]] = values[chosen]
    product: Array = dense @ dense.T
    return product


def _similarity(overlaps: Overlaps, times: Array) -> Array:
    """Return S with each gene taken so many times, NaN where a model has no allele twice in these."""
    total = np.tensordot(times, overlaps.genes, 1)
    total = (total + total.T) / 2  # the product may round the two halves differently
    if overlaps.estimator == "bhattacharyya":
        made: Array = total / times.sum()
    else:
        own = np.where(np.diag(total) > _NO_PAIR, np.diag(total), np.nan)
        made = total / np.sqrt(np.outer(own, own))
    np.fill_diagonal(made, 1.0)
    return made


def _distance(similarity: Array) -> Array:
    made: Array = 0.0 - np.log(np.maximum(similarity, FLOOR))  # 0.0 - 0.0 is 0.0, not -0.0
    return made


def _measured(similarity: Array) -> Array:
    """Return D, and NaN where S is at its floor."""
    return _distance(np.where(similarity <= FLOOR, np.nan, similarity))
