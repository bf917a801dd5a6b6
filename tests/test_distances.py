"""Distances between genomes: closed forms, a naive oracle, planted trees, and calibrated tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from collectors.document import UserError
from evaluate.distances import (
    ESTIMATORS,
    FLOOR,
    clipped,
    distances,
    overlaps,
    pruning_bounds,
    resampled_distances,
    similarity,
    standard_errors,
)
from evaluate.genomes import Genome
from evaluate.same_model import LEVEL, SameModel, same_model

Array = NDArray[np.float64]
Splits = set[frozenset[int]]
LEAVES, GENES, ALLELES = 16, 128, 12


def exact(model: str, *genes: Mapping[str, float], pruned: Sequence[float] | None = None) -> Genome:
    """Return an exact genome."""
    return Genome(model=model, alleles=genes, n_probes=None, pruned=tuple(pruned or [0.0] * len(genes)))


def of_array(model: str, shares: Array, n_probes: int | None = None) -> Genome:
    """Return a genome of shares [genes, alleles]."""
    genes = [{f"a{i}": float(p) for i, p in enumerate(gene) if p > 0} for gene in shares]
    return Genome(model=model, alleles=tuple(genes), n_probes=n_probes, pruned=(0.0,) * len(genes))


def sample(model: str, shares: Array, n_probes: int, rng: np.random.Generator) -> Genome:
    """Return a genome of probes drawn from shares [genes, alleles]."""
    counts = rng.multinomial(n_probes, shares / shares.sum(axis=1, keepdims=True))
    return of_array(model, counts / n_probes, n_probes)


def drifted(seed: int = 0) -> Array:
    """Return shares [leaves, genes, alleles] that drifted down a balanced binary tree; leaf i turns by its bits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (1, GENES, ALLELES))
    while len(logits) < LEAVES:
        logits = np.repeat(logits, 2, axis=0)
        logits += rng.normal(0, 0.5, logits.shape)
    shares = np.exp(logits)
    normalised: Array = shares / shares.sum(axis=2, keepdims=True)
    return normalised


def planted_splits() -> Splits:
    """Return the clades of the balanced tree that split its leaves, as the side without leaf 0."""
    clades = [
        frozenset(range(i, i + size)) for size in (2, 4, 8) for i in range(0, LEAVES, size) if size < LEAVES
    ]
    return {clade if 0 not in clade else frozenset(range(LEAVES)) - clade for clade in clades}


def joined_splits(matrix: Array) -> Splits:
    """Return the splits of the neighbour-joining tree (Saitou and Nei 1987), as the side without leaf 0."""
    clades = [frozenset([i]) for i in range(len(matrix))]
    d = matrix.copy()
    found = set()
    while len(clades) > 3:
        n = len(clades)
        q = (n - 2) * d - d.sum(axis=0) - d.sum(axis=1)[:, None]
        np.fill_diagonal(q, np.inf)
        i, j = sorted(divmod(int(np.argmin(q)), n))
        others = [k for k in range(n) if k not in {i, j}]
        to_new = (d[i] + d[j] - d[i, j])[others] / 2
        d = np.block([[d[np.ix_(others, others)], to_new[:, None]], [to_new[None], np.zeros((1, 1))]])
        clades = [*(clades[k] for k in others), clades[i] | clades[j]]
        found.add(clades[-1])
    everything = frozenset(range(len(matrix)))
    return {clade if 0 not in clade else everything - clade for clade in found}


def naive_similarity(first: Genome, second: Genome) -> float:
    """Return the published similarity, as its formula is written."""

    def identity(x: Genome, y: Genome) -> float:
        pairs = zip(x.alleles, y.alleles, strict=True)
        return math.fsum(p[a] * q[a] for p, q in pairs for a in p if a in q)

    return identity(first, second) / math.sqrt(identity(first, first) * identity(second, second))


@st.composite
def genomes(draw: st.DrawFn, least: int = 2) -> list[Genome]:
    """Draw exact genomes of few genes with alleles that some of them share, and pruned mass."""
    n_genes = draw(st.integers(1, 5))
    made = []
    for number in range(draw(st.integers(least, 5))):
        genes, pruned = [], []
        for _ in range(n_genes):
            names = draw(st.lists(st.sampled_from(["", "a", "b", "cd", " e", "\n"]), min_size=1, unique=True))
            weights = draw(st.lists(st.integers(1, 50), min_size=len(names), max_size=len(names)))
            pruned.append(draw(st.sampled_from([0.0, 0.0, 0.01, 0.3])))
            total = sum(weights) / (1 - pruned[-1])
            genes.append({name: weight / total for name, weight in zip(names, weights, strict=True)})
        made.append(exact(f"m{number}", *genes, pruned=pruned))
    return made


@given(genomes())
def test_the_published_similarity_is_its_formula(drawn: list[Genome]) -> None:
    """Every entry is the double sum over genes and alleles, divided by the root of two others."""
    found = similarity(overlaps(drawn, "plug-in"))
    for i, first in enumerate(drawn):
        for j, second in enumerate(drawn):
            assert found[i, j] == pytest.approx(naive_similarity(first, second), abs=1e-12)


def test_a_similarity_by_hand() -> None:
    """Genes are summed before the ratio: a mean of ratios over genes would be 0.5 here."""
    first = exact("x", {"a": 1.0}, {"a": 0.5, "b": 0.5})
    second = exact("y", {"a": 1.0}, {"c": 0.5, "d": 0.5})
    assert similarity(overlaps([first, second]))[0, 1] == pytest.approx(1 / 1.5)
    assert distances(overlaps([first, second]))[0, 1] == pytest.approx(math.log(1.5))
    assert similarity(overlaps([first, second], "bhattacharyya"))[0, 1] == pytest.approx(0.5)


@given(genomes(), st.sampled_from(ESTIMATORS), st.integers(0, 2**32 - 1))
def test_similarities_are_a_similarity(drawn: list[Genome], estimator: str, seed: int) -> None:
    """Symmetric, within [0, 1], 1 for itself and an equal genome, whatever alleles and genes are called."""
    twin = Genome(model="twin", alleles=drawn[0].alleles, n_probes=drawn[0].n_probes, pruned=drawn[0].pruned)
    found = similarity(overlaps([*drawn, twin], estimator))
    assert (found == found.T).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12
    assert (np.diag(found) == 1).all()
    assert found[0, -1] == pytest.approx(1, abs=1e-12)

    order = np.random.default_rng(seed).permutation(len(twin.alleles))
    renamed = [
        Genome(
            model=g.model,
            alleles=tuple(
                {f"{gene}{a}!": g.alleles[gene][a] for a in sorted(g.alleles[gene])} for gene in order
            ),
            n_probes=None,
            pruned=tuple(g.pruned[gene] for gene in order),
        )
        for g in [*drawn, twin]
    ]
    assert similarity(overlaps(renamed, estimator)) == pytest.approx(found, abs=1e-12)


def test_models_without_a_common_allele_are_at_the_floor() -> None:
    """Their distance is finite, and no standard error is claimed of it."""
    found = overlaps([exact("x", {"a": 1.0}, {"a": 1.0}), exact("y", {"b": 1.0}, {"b": 1.0})])
    assert distances(found)[0, 1] == pytest.approx(-math.log(FLOOR))
    assert np.isnan(standard_errors(found)[0, 1])
    assert standard_errors(found)[0, 0] == 0


def test_the_unbiased_estimator_corrects_samples_alone() -> None:
    """Nei's correction by hand: of 4 probes 2 pairs in 6 agree; an exact genome beside them stays as it is."""
    mixed = [
        Genome(model="x", alleles=({"a": 0.5, "b": 0.5},), n_probes=4, pruned=(0.0,)),
        exact("y", {"a": 0.5, "b": 0.5}),
    ]
    assert overlaps(mixed).genes[0].tolist() == [[pytest.approx(2 / 6), 0.5], [0.5, 0.5]]
    assert overlaps(mixed, "plug-in").genes[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert similarity(overlaps(mixed))[0, 1] == pytest.approx(0.5 / math.sqrt(0.5 / 3))
    assert distances(overlaps(mixed))[0, 1] < 0
    assert clipped(distances(overlaps(mixed)))[0, 1] == 0


@pytest.mark.parametrize("n_probes", [8, 16, 32])
def test_bias_is_as_theory_has_it(n_probes: int) -> None:
    """Published distances exceed the truth by half the logs of 1 + (1 - J) / (N J) of both; unbiased ones do not."""
    rng = np.random.default_rng(n_probes)
    p, q = drifted()[[0, 5]]
    truth = distances(overlaps([of_array("p", p), of_array("q", q)]))[0, 1]
    errors: dict[str, list[float]] = {"unbiased": [], "plug-in": []}
    for _ in range(100):
        drawn = [sample("p", p, n_probes, rng), sample("q", q, n_probes, rng)]
        for estimator, found in errors.items():
            found.append(float(distances(overlaps(drawn, estimator))[0, 1]) - truth)
    own = [float((shares**2).sum(axis=1).mean()) for shares in (p, q)]
    expected = sum(math.log1p((1 - j) / (n_probes * j)) for j in own) / 2
    assert expected > 0.05
    assert np.mean(errors["plug-in"]) == pytest.approx(expected, abs=0.01)
    assert np.mean(errors["unbiased"]) == pytest.approx(0, abs=0.01)


def test_identical_models_are_zero_apart_on_average() -> None:
    """Two samples of one model, or a sample and the exact model, are as often below zero as above it."""
    rng = np.random.default_rng(5)
    p = drifted()[3]
    found = np.array(
        [
            distances(overlaps([of_array("p", p), *(sample(name, p, 16, rng) for name in "xy")]))
            for _ in range(100)
        ]
    )
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert abs(found[:, i, j].mean()) < 0.005
        assert 0.3 < (found[:, i, j] < 0).mean() < 0.7


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_exact_distances_recover_a_planted_tree(estimator: str) -> None:
    """Models that drifted down a known tree of 16 leaves give that tree, and most resamples of genes do."""
    found = overlaps([of_array(f"m{i}", shares) for i, shares in enumerate(drifted())], estimator)
    assert joined_splits(clipped(distances(found))) == planted_splits()
    resampled = [joined_splits(clipped(d)) for d in resampled_distances(found, replicates=20, seed=1)]
    support = [sum(split in splits for splits in resampled) for split in planted_splits()]
    assert min(support) >= 14


@pytest.mark.parametrize("n_probes", [16, 32])
@pytest.mark.parametrize("estimator", ["unbiased", "plug-in"])
def test_sampled_distances_recover_a_planted_tree(estimator: str, n_probes: int) -> None:
    """Sixteen probes of each of 128 genes are enough."""
    rng = np.random.default_rng(7)
    for seed in range(5):
        drawn = [sample(f"m{i}", shares, n_probes, rng) for i, shares in enumerate(drifted(seed))]
        assert joined_splits(clipped(distances(overlaps(drawn, estimator)))) == planted_splits()


def test_two_probes_do_not_recover_it() -> None:
    """The planted tree is not so plain that anything would find it."""
    rng = np.random.default_rng(7)
    lost = 0
    for _ in range(5):
        drawn = [sample(f"m{i}", shares, 2, rng) for i, shares in enumerate(drifted())]
        lost += len(planted_splits() - joined_splits(clipped(distances(overlaps(drawn)))))
    assert lost / 5 > 1


def delta_method(genes: Array, i: int, j: int) -> float:
    """Return the standard error of D over genes from the gradient of -ln A + ln(B C) / 2."""
    a, b, c = genes[:, i, j], genes[:, i, i], genes[:, j, j]
    influence = -a / a.mean() + b / b.mean() / 2 + c / c.mean() / 2
    return float(influence.std(ddof=1) / math.sqrt(len(genes)))


@pytest.mark.parametrize("n_probes", [None, 16])
def test_standard_errors_agree_with_three_other_ways(n_probes: int | None) -> None:
    """The jackknife, the delta method, the bootstrap, and the spread over genes drawn anew."""
    rng = np.random.default_rng(11)

    def drawn() -> list[Genome]:
        logits = rng.normal(0, 1.5, (1, GENES, ALLELES)) + rng.normal(0, 0.8, (2, GENES, ALLELES))
        shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        return [sample("m", s, n_probes, rng) if n_probes else of_array("m", s) for s in shares]

    found = [overlaps(drawn()) for _ in range(150)]
    errors = [standard_errors(each)[0, 1] for each in found]
    for each, error in zip(found[:10], errors, strict=False):
        assert error == pytest.approx(delta_method(each.genes, 0, 1), rel=0.05)
    bootstrap = np.std([d[0, 1] for d in resampled_distances(found[0], replicates=500, seed=2)])
    assert errors[0] == pytest.approx(bootstrap, rel=0.15)
    assert np.mean(errors) == pytest.approx(np.std([distances(each)[0, 1] for each in found]), rel=0.15)


def test_the_jackknife_is_its_formula() -> None:
    """The root of (G - 1) / G times the squares about the mean of D without each gene."""
    shares = drifted()[:2, :5]
    without = []
    for gene in range(5):
        fewer = [of_array("m", np.delete(each, gene, axis=0)) for each in shares]
        without.append(-math.log(naive_similarity(*fewer)))
    expected = math.sqrt(4 / 5 * np.var(without) * 5)
    found = standard_errors(overlaps([of_array("m", each) for each in shares]))
    assert found[0, 1] == pytest.approx(expected)


def test_a_mean_has_the_standard_error_of_a_mean() -> None:
    """Bhattacharyya's S is a mean over genes: the jackknife of its log is the error of the mean by S."""
    found = overlaps([of_array(f"m{i}", shares) for i, shares in enumerate(drifted()[:2])], "bhattacharyya")
    values = found.genes[:, 0, 1]
    expected = values.std(ddof=1) / math.sqrt(GENES) / values.mean()
    assert standard_errors(found)[0, 1] == pytest.approx(expected, rel=0.01)


def test_resampling_is_seeded_and_common_to_all_pairs() -> None:
    """The same seed draws the same genes, for two models as for three."""
    three = [of_array(f"m{i}", shares) for i, shares in enumerate(drifted()[:3])]
    whole = list(resampled_distances(overlaps(three), replicates=3, seed=4))
    pair = list(resampled_distances(overlaps(three[:2]), replicates=3, seed=4))
    other = list(resampled_distances(overlaps(three), replicates=3, seed=5))
    for a, b, c in zip(whole, pair, other, strict=True):
        assert a[:2, :2] == pytest.approx(b, abs=1e-12)
        assert np.diag(a).tolist() == [0, 0, 0]
        assert abs(a[0, 1] - c[0, 1]) > 1e-6


def completed(genome: Genome, rng: np.random.Generator) -> Genome:
    """Return an exact genome with its pruned mass dealt at random to alleles seen and unseen."""
    genes = []
    for alleles, pruned in zip(genome.alleles, genome.pruned, strict=True):
        names = ["", "a", "b", "cd", " e", "\n", "new", f"of {genome.model}"]
        dealt = rng.dirichlet(np.full(len(names), rng.choice([0.05, 1.0]))) * pruned
        genes.append({name: alleles.get(name, 0) + float(p) for name, p in zip(names, dealt, strict=True)})
    return exact(genome.model, *genes)


@given(genomes(), st.sampled_from(ESTIMATORS), st.integers(0, 2**32 - 1))
def test_bounds_hold_wherever_pruned_mass_belongs(drawn: list[Genome], estimator: str, seed: int) -> None:
    """What the whole distributions have lies between the bounds, and so does what was computed of the kept."""
    rng = np.random.default_rng(seed)
    bounds = pruning_bounds(drawn, estimator)
    low, high = bounds.similarity
    assert (similarity(overlaps(drawn, estimator)) >= low - 1e-12).all()
    assert (similarity(overlaps(drawn, estimator)) <= high + 1e-7).all()
    for _ in range(5):
        whole = [completed(genome, rng) for genome in drawn]
        truth = similarity(overlaps(whole, estimator))
        assert (truth >= low - 1e-12).all()
        assert (truth <= high + 1e-7).all()  # arccos is exact to the root of a rounding error near 1
        identity = overlaps(whole).genes.mean(axis=0)
        assert (identity >= bounds.identity[0] - 1e-12).all()
        assert (identity <= bounds.identity[1] + 1e-12).all()


def test_bounds_are_attained() -> None:
    """Mass that each model of two without a common allele may have where the other's is; and on its own allele."""
    x, y = exact("x", {"a": 0.9}, pruned=[0.1]), exact("y", {"b": 0.8}, pruned=[0.2])
    same = exact("x", {"a": 0.9, "b": 0.1}), exact("y", {"a": 0.2, "b": 0.8})
    low, high = pruning_bounds([x, y], "bhattacharyya").similarity
    assert low[0, 1] == 0
    assert high[0, 1] == pytest.approx(similarity(overlaps(same, "bhattacharyya"))[0, 1])
    identity = pruning_bounds([x, y]).identity
    assert identity[0][0, 0] == pytest.approx(0.81)
    assert identity[1][0, 0] == pytest.approx(1.0)


@given(genomes(), st.sampled_from(ESTIMATORS))
def test_nothing_pruned_leaves_nothing_open(drawn: list[Genome], estimator: str) -> None:
    """Both bounds are then the value itself."""
    rng = np.random.default_rng(0)
    whole = [completed(genome, rng) for genome in drawn]
    bounds = pruning_bounds(whole, estimator)
    for bound in bounds.similarity:
        assert bound == pytest.approx(similarity(overlaps(whole, estimator)), abs=1e-7)
    for bound in bounds.identity:
        assert bound == pytest.approx(overlaps(whole).genes.mean(axis=0), abs=1e-12)


def test_bounds_of_samples_are_their_estimates() -> None:
    """Sampling prunes nothing, and an unbiased similarity above 1 stays what it is."""
    rng = np.random.default_rng(0)
    drawn = [sample(f"m{i}", drifted()[3], 8, rng) for i in range(6)]
    value = similarity(overlaps(drawn))
    assert value.max() > 1.001
    for bound in pruning_bounds(drawn).similarity:
        assert bound == pytest.approx(value)


def p_values(kind: str, p: Array, q: Array, times: int = 400, n_probes: int = 8) -> Array:
    """Return p-values of genomes of shares p and q, so often drawn."""
    rng = np.random.default_rng(17)
    found = []
    for seed in range(times):
        if kind == "permuted":
            result = same_model(
                sample("p", p, n_probes, rng), sample("q", q, 2 * n_probes, rng), permutations=99, seed=seed
            )
        elif kind == "drawn":
            result = same_model(of_array("p", p), sample("q", q, n_probes, rng), permutations=99, seed=seed)
        else:
            result = same_model(
                of_array("p", p), of_array("q", q), n_probes=n_probes, permutations=99, seed=seed
            )
        assert result.null == kind
        found.append(result.p_value)
    return np.array(found)


@pytest.mark.parametrize("kind", ["permuted", "drawn"])
def test_p_values_of_one_model_are_uniform(kind: str) -> None:
    """At every level as many samples of one model are called different as the level says."""
    p = drifted()[2][:20]
    found = p_values(kind, p, p)
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert (found <= level).mean() == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / 400))


def between(share: float, seed: int = 0) -> SameModel:
    """Return the test of two exact genomes, the second that share of the way from the first to another leaf."""
    p, q = drifted()[[2, 9]][:, :20]
    return same_model(
        of_array("p", p), of_array("q", (1 - share) * p + share * q), n_probes=16, permutations=199, seed=seed
    )


def test_draws_of_equal_genomes_keep_the_level() -> None:
    """Of single draws as many call them different as the level says, and of verdicts over all draws none."""
    found = [between(0, seed) for seed in range(60)]
    assert np.mean([result.power for result in found]) == pytest.approx(LEVEL, abs=0.012)
    assert min(result.p_value for result in found) > 0.5


def test_the_verdict_on_exact_genomes_is_no_lottery() -> None:
    """Where one draw in three tells them apart, all seeds give nearly the same p-value."""
    found = [between(0.3, seed) for seed in range(8)]
    assert all(result.power and 0.25 < result.power < 0.5 for result in found)
    p_values = [result.p_value for result in found]
    assert max(p_values) - min(p_values) < 0.15
    assert min(p_values) > LEVEL


def test_power_rises_with_the_difference() -> None:
    """From the level to certainty; the statistic is the difference itself, and p-values fall to the least."""
    found = [between(share) for share in (0, 0.3, 0.45, 0.6, 1)]
    powers = [result.power or 0 for result in found]
    assert powers == sorted(powers)
    assert powers[0] < 0.15
    assert powers[-1] == 1
    assert found[-1].p_value == 2 / 200
    p, q = drifted()[[2, 9]][:, :20]
    whole = ((p - q) ** 2).sum(axis=1).mean()
    assert [result.statistic for result in found] == pytest.approx(
        [share**2 * whole for share in (0, 0.3, 0.45, 0.6, 1)]
    )


@pytest.mark.parametrize("kind", ["permuted", "drawn", "simulated"])
def test_a_planted_difference_is_found(kind: str) -> None:
    """Eight probes of each of 20 genes tell two leaves of the tree apart."""
    p, q = drifted()[[2, 9]]
    assert (p_values(kind, p[:20], q[:20], times=40) <= 0.05).mean() >= 0.9


def test_pruned_mass_is_never_held_against_a_model() -> None:
    """Samples of a model whose exact genome lacks up to half its mass are called different no more than the level."""
    rng = np.random.default_rng(23)
    p = drifted()[2][:20]
    kept = np.where(p < 0.1, 0, p)
    pruned = 1 - kept.sum(axis=1)
    assert pruned.max() > 0.25
    genes = [{f"a{i}": float(x) for i, x in enumerate(gene) if x > 0} for gene in kept]
    expanded = exact("p", *genes, pruned=list(pruned))
    found = np.array(
        [same_model(sample("q", p, 16, rng), expanded, permutations=99, seed=i).p_value for i in range(100)]
    )
    assert (found <= 0.05).mean() <= 0.05
    other = np.array(
        [
            same_model(sample("q", drifted()[9][:20], 16, rng), expanded, permutations=99, seed=i).p_value
            for i in range(20)
        ]
    )
    assert (other <= 0.05).mean() >= 0.9


def test_ties_count_against_a_difference() -> None:
    """Models that only ever say one thing, the same one, are not told apart at any level."""
    always = exact("x", *[{"a": 1.0}] * 3)
    probes = Genome(model="y", alleles=always.alleles, n_probes=7, pruned=always.pruned)
    for result in (
        same_model(probes, probes, permutations=19),
        same_model(always, probes, permutations=19),
        same_model(always, always, n_probes=5, permutations=19),
    ):
        assert result.p_value == 1
        assert result.statistic == pytest.approx(0, abs=1e-12)


def test_the_statistic_is_the_squared_distance_of_distributions() -> None:
    """It has the mean of sum_a (p - q)^2 over genes, whichever of the two were sampled; order does not matter."""
    rng = np.random.default_rng(29)
    p, q = drifted()[[1, 12]]
    expected = ((p - q) ** 2).sum(axis=1).mean()
    both = [
        same_model(sample("p", p, 16, rng), sample("q", q, 24, rng), permutations=1).statistic
        for _ in range(30)
    ]
    assert np.mean(both) == pytest.approx(expected, rel=0.05)
    one = [same_model(sample("p", p, 16, rng), of_array("q", q), permutations=1).statistic for _ in range(30)]
    assert np.mean(one) == pytest.approx(expected, rel=0.05)
    x, y = sample("p", p, 16, rng), of_array("q", q)
    assert same_model(x, y).statistic == pytest.approx(same_model(y, x).statistic)


def test_a_result_says_how_different_models_are() -> None:
    """Distance and its interval, over genes, hold the distance that all of the mass has."""
    p, q = drifted()[[1, 12]]
    x, y = of_array("p", p), of_array("q", q)
    result = same_model(x, y, n_probes=16, seed=3)
    assert result.models == ("p", "q")
    assert (result.n_probes, result.n_genes, result.permutations) == ((16, 16), GENES, 999)
    assert result.p_value == 0.002
    assert result.distance == pytest.approx(distances(overlaps([x, y]))[0, 1])
    assert result.standard_error == pytest.approx(standard_errors(overlaps([x, y]))[0, 1])
    assert result == same_model(x, y, n_probes=16, seed=3)
    sampled = same_model(sample("p", p, 8, np.random.default_rng(0)), y)
    assert sampled.n_probes == (8, None)
    assert sampled.power is None


@pytest.mark.parametrize("n_genes", [2, 3, 12, 77, 128])
def test_the_interval_is_students(n_genes: int) -> None:
    """Few genes know their own spread badly: with two of them it is 12.7 standard errors to either side."""
    p, q = drifted()[[1, 12]][:, :n_genes]
    result = same_model(of_array("p", p), of_array("q", q), n_probes=4, permutations=1)
    assert result.interval
    assert result.distance
    assert result.standard_error
    half = stats.t.ppf(0.975, n_genes - 1) * result.standard_error
    assert result.interval == pytest.approx((result.distance - half, result.distance + half), rel=1e-9)


def test_one_gene_gives_a_p_value_without_an_error() -> None:
    """It keeps its level; of the distance no error is known."""
    p = drifted()[2][:1]
    rng = np.random.default_rng(41)
    found = [
        same_model(sample("p", p, 16, rng), sample("q", p, 16, rng), permutations=99, seed=seed)
        for seed in range(300)
    ]
    for level in (0.05, 0.25):
        share = np.mean([result.p_value <= level for result in found])
        assert share <= level + 3.5 * math.sqrt(level * (1 - level) / 300)
    assert {result.standard_error for result in found} == {None}
    assert {result.interval for result in found} == {None}
    assert all(result.distance is not None for result in found)
    far = same_model(of_array("p", p), of_array("q", drifted()[9][:1]), n_probes=200)
    assert far.p_value < LEVEL


@pytest.mark.parametrize("n_genes", [1, 5])
def test_models_without_a_distance_have_a_p_value(n_genes: int) -> None:
    """Where they share no allele, or a sample has none twice; what is not known is None, never NaN."""
    x = exact("x", *[{"a": 0.5, "b": 0.5}] * n_genes)
    y = exact("y", *[{"c": 1.0}] * n_genes)
    once = Genome(model="z", alleles=({"a": 0.5, "b": 0.5},) * n_genes, n_probes=2, pruned=(0.0,) * n_genes)
    for result in (same_model(x, y, n_probes=16), same_model(once, x), same_model(once, once)):
        assert (result.distance, result.standard_error, result.interval) == (None, None, None)
        assert 0 < result.p_value <= 1
    assert same_model(x, y, n_probes=16).p_value == 0.002
    assert same_model(once, once).p_value == 1


def test_a_distance_that_rests_on_one_gene_has_no_error() -> None:
    """Without that gene a sample has no allele twice, or the models share none."""
    twice = Genome(
        model="x",
        alleles=({"a": 1.0}, {"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}),
        n_probes=2,
        pruned=(0.0,) * 3,
    )
    y = exact("y", *[{"a": 0.5, "b": 0.5}] * 3)
    other = exact("z", {"a": 0.5, "b": 0.5}, {"c": 1.0}, {"c": 1.0})
    for result in (same_model(twice, y), same_model(y, other, n_probes=4)):
        assert result.distance is not None
        assert (result.standard_error, result.interval) == (None, None)
    errors = standard_errors(overlaps([y, twice, other, replace(y, model="w")]))
    assert np.isfinite(errors).tolist() == [
        [True, False, False, True],
        [False, True, False, False],
        [False, False, True, False],
        [True, False, False, True],
    ]


def test_draws_of_genes_without_a_similarity_are_left_out() -> None:
    """All others are those of the seed, and there may be none."""
    rng = np.random.default_rng(5)
    sets = [rng.integers(3, size=3) for _ in range(40)]
    twice = Genome(
        model="x",
        alleles=({"a": 1.0}, {"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}),
        n_probes=2,
        pruned=(0.0,) * 3,
    )
    found = overlaps([twice, exact("y", *[{"a": 0.5, "b": 0.5}] * 3)])
    expected = [distances(replace(found, genes=found.genes[genes]))[0, 1] for genes in sets if 0 in genes]
    drawn = list(resampled_distances(found, replicates=40, seed=5))
    assert 0 < len(drawn) < 40
    assert [d[0, 1] for d in drawn] == pytest.approx(expected)
    assert np.isfinite(drawn).all()
    without = next(seed for seed in range(99) if 0 not in np.random.default_rng(seed).integers(3, size=3))
    assert list(resampled_distances(found, replicates=1, seed=without)) == []


def test_equal_genomes_are_no_distance_apart_in_a_tree() -> None:
    """Rounding keeps some of them off 0; a distance that is small, and one that is not known, stay."""
    rng = np.random.default_rng(0)
    rounded = 0
    for _ in range(20):
        p = rng.dirichlet(np.full(30, 0.3), size=8)
        apart = distances(overlaps([of_array("x", p), of_array("y", p), of_array("z", p[:, ::-1])]))
        rounded += apart[0, 1] != 0
        assert clipped(apart)[0, 1] == 0
        assert clipped(apart)[0, 2] == apart[0, 2] > 0
    assert rounded
    assert clipped(np.array([-0.1, 2e-16, 1e-11, np.nan])).tolist() == pytest.approx(
        [0, 0, 1e-11, np.nan], nan_ok=True
    )
    assert clipped(np.array([2e-16]))[0] == 0


@pytest.mark.parametrize("n_probes", [5, 10, 32])
def test_rounding_makes_no_pair_of_probes(n_probes: int) -> None:
    """A sample with every allele once has no similarity, however 1 / n is rounded."""
    once = of_array("x", np.full((2, n_probes), 1 / n_probes), n_probes)
    with pytest.raises(UserError, match="no gene of x has an allele twice"):
        similarity(overlaps([once, exact("y", {"a0": 1.0}, {"a0": 1.0})]))


def test_mistakes_are_named() -> None:
    """Each names the value, the rule and the remedy."""
    one, two = exact("x", {"a": 1.0}), exact("y", {"a": 1.0}, {"a": 1.0})
    lone = Genome(model="z", alleles=({"a": 1.0},), n_probes=1, pruned=(0.0,))
    unlike = Genome(model="w", alleles=({"a": 0.5, "b": 0.5},), n_probes=2, pruned=(0.0,))
    odd = Genome(model="v", alleles=({"a": 0.4, "b": 0.6},) * 2, n_probes=4, pruned=(0.0, 0.0))
    nothing = exact("u", {}, pruned=[1.0])
    with pytest.raises(UserError, match="estimator 'nei' is none of unbiased, plug-in, bhattacharyya"):
        overlaps([one], "nei")
    with pytest.raises(UserError, match="0 genomes"):
        overlaps([])
    with pytest.raises(UserError, match="y has 2 genes and x 1"):
        overlaps([one, two])
    with pytest.raises(UserError, match="gene 0 of u has no allele"):
        overlaps([one, nothing])
    with pytest.raises(UserError, match="z has 1 probe per gene"):
        overlaps([lone])
    with pytest.raises(UserError, match="w has 2 probes per gene; bhattacharyya is for exact genomes"):
        overlaps([unlike], "bhattacharyya")
    with pytest.raises(UserError, match="no gene of w has an allele twice"):
        similarity(overlaps([one, unlike]))
    with pytest.raises(UserError, match="1 gene has no standard error"):
        standard_errors(overlaps([one]))
    with pytest.raises(UserError, match="n_probes is None with 0 sampled genomes"):
        same_model(two, two)
    with pytest.raises(UserError, match="n_probes is 8 with 1 sampled genomes"):
        same_model(two, odd, n_probes=8)
    with pytest.raises(UserError, match="n_probes 1: they start at 1 and at 2"):
        same_model(two, two, n_probes=1)
    with pytest.raises(UserError, match="permutations is 0"):
        same_model(two, two, n_probes=2, permutations=0)
    with pytest.raises(UserError, match="shares of v are not those of 4 whole probes"):
        same_model(two, odd)


def test_errors_cover_many_samples_of_one_model() -> None:
    """All pairs of 127 samples of one model: zero apart on average, and as far off as their errors say."""
    rng = np.random.default_rng(31)
    shares = rng.dirichlet(np.full(60, 0.1), size=GENES)
    found = overlaps([sample(f"m{i}", shares, 32, rng) for i in range(127)])
    d, errors = distances(found), standard_errors(found)
    pairs = np.triu_indices(127, 1)
    assert abs(d[pairs].mean()) < 0.002
    assert np.sqrt((d[pairs] ** 2).mean()) == pytest.approx(errors[pairs].mean(), rel=0.1)
