"""The verdict on a corpus: planted truths, false alarms counted, and oracles that enumerate."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t

from collectors.document import UserError
from evaluate import ranks
from evaluate.ranks import Compared
from evaluate.verdict import LEVEL, Sample, Verdict, judge


def sample(
    statistics: NDArray[np.float64],
    lengths: object = 512,
    reference: NDArray[np.float64] | None = None,
    origins: Sequence[str] | None = None,
) -> Sample:
    """Return documents, all of one length unless lengths are given."""
    return Sample(
        statistics=statistics,
        lengths=np.broadcast_to(np.asarray(lengths, dtype=np.int64), statistics.shape),
        reference=reference,
        origins=origins,
    )


def drawn(seed: int, n: int, mean: float = 0.0) -> NDArray[np.float64]:
    """Return standard normal statistics around a mean."""
    return np.random.default_rng(seed).normal(mean, 1, n)


def naive_auc(own: NDArray[np.float64], against: NDArray[np.float64]) -> float:
    """Return the share of pairs that the first wins, ties counted half."""
    return float(np.mean([(a > b) + (a == b) / 2 for a, b in itertools.product(own, against)]))


def naive_p_value(own: NDArray[np.float64], against: NDArray[np.float64], *origins: Sequence[str]) -> float:
    """Return the share of all arrangements of one stratum whose studentised AUC is as high, or higher.

    An origin of one corpus goes to either as a whole, one of both exchanges its documents, or not.
    """
    pooled, names = np.concatenate([own, against]), [*origins[0], *origins[1]]
    side = [*[True] * len(own), *[False] * len(against)]
    witnesses = list(zip(names, side, strict=True))
    weights = np.array([1 / witnesses.count(witness) for witness in witnesses])
    middle = weights.sum() / 2
    excess = [sum(weights * ((x > pooled) + (x == pooled) / 2)) - middle for x in pooled]
    both = sorted(set(origins[0]) & set(origins[1]))
    alone = sorted({*names} - {*both})
    n_own = len(set(origins[0]) - set(both))

    def studentised(ours: Sequence[str], exchanged: Sequence[str]) -> float:
        labels = [
            name in ours if name not in both else own != (name in exchanged)
            for name, own in zip(names, side, strict=True)
        ]
        share = sum(w for w, z in zip(weights, labels, strict=True) if z) / weights.sum()
        parts = [
            sum(
                w * e * (z - share)
                for w, e, z, n in zip(weights, excess, labels, names, strict=True)
                if n == name
            )
            for name in {*names}
        ]
        return float(sum(parts) / math.sqrt(sum(part**2 for part in parts)))

    observed = studentised([name for name in origins[0] if name not in both], [])
    every = [
        studentised(ours, exchanged)
        for ours in itertools.combinations(alone, n_own)
        for n in range(len(both) + 1)
        for exchanged in itertools.combinations(both, n)
    ]
    return float(np.mean(np.array(every) >= observed - 1e-9))


@given(
    st.lists(st.integers(0, 6), min_size=5, max_size=12), st.lists(st.integers(0, 6), min_size=5, max_size=12)
)
def test_the_figure_is_the_share_of_pairs_won(own: list[int], against: list[int]) -> None:
    """Held against all pairs, ties among them."""
    a, b = np.array(own, dtype=np.float64), np.array(against, dtype=np.float64)
    found = judge(sample(a), sample(b), level=0.5, permutations=1)
    assert found.auc == pytest.approx(naive_auc(a, b))
    assert found.low <= found.high
    swapped = judge(sample(b), sample(a), level=0.5, permutations=1)
    assert swapped.auc == pytest.approx(1 - found.auc)


ALONE = list("abcdef"), list("mnopqrs")
# Of two, three or one document, one in both corpora.
GROUPED = list("aabbbcdefgg"), list("gghijklmno")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("origins", [ALONE, GROUPED])
def test_the_p_value_is_that_of_all_arrangements(
    shift: float, ties: bool, origins: tuple[list[str], list[str]]
) -> None:
    """All of some thousand ways to arrange origins are enumerated, the drawn ones come as close as chance lets them."""
    own, against = drawn(1, len(origins[0]), shift), drawn(2, len(origins[1]))
    if ties:
        own, against = own.round(), against.round()
    exact = naive_p_value(own, against, *origins)
    samples = sample(own, origins=origins[0]), sample(against, origins=origins[1])
    compared = Compared(
        own=np.repeat([True, False], [len(own), len(against)]),
        strata=np.zeros(len(own) + len(against), dtype=np.int64),
        origins=np.unique([*origins[0], *origins[1]], return_inverse=True)[1],
    )
    p_value = ranks.permuted(np.concatenate([own, against]), compared, seed=1, permutations=20_000)
    assert p_value == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000) + 1e-4)
    found = judge(*samples, level=0.02)
    assert (found.n_origins, found.n_origins_against) == tuple(len(set(names)) for names in origins)


@pytest.mark.parametrize("n", [(7, 7), (8, 40), (20, 20)])
def test_what_is_flagged_lies_above_a_half_in_its_interval(n: tuple[int, int]) -> None:
    """No p-value is below that of Student's distribution for the same error, nor that of as many origins all won."""
    larger = 0
    for seed in range(40):
        found = judge(*clustered(seed, 0.5, seed / 20, n=n), seed=seed, permutations=199)
        least = 0.5 ** min(n)
        if 0 < found.auc < 1:
            low, centre, high = (math.log(x / (1 - x)) for x in (found.low, found.auc, found.high))
            freedom = min(n) - 1
            least = max(least, t.sf(centre / ((high - low) / 2 / t.isf(0.025, freedom)), freedom))
        assert found.p_value >= least * (1 - 1e-9)
        larger += found.p_value > least * (1 + 1e-9)
    assert 0 < larger < 40  # permutations decide some of them, not all


def test_origins_count_alike_however_many_documents_they_have() -> None:
    """The figure is the mean over pairs of origins of the share of their pairs of documents that is won."""
    origins = list("aaaaabcdef"), list("mmmnopqrrr")
    own, against = drawn(1, 10, 0.5), drawn(2, 10)
    by_name = [
        {name: values[np.array(names) == name] for name in names}
        for values, names in zip((own, against), origins, strict=True)
    ]
    expected = np.mean([naive_auc(a, b) for a in by_name[0].values() for b in by_name[1].values()])
    found = judge(sample(own, origins=origins[0]), sample(against, origins=origins[1]), level=0.5)
    assert found.auc == pytest.approx(expected)


def test_an_origin_that_is_copied_tells_no_more() -> None:
    """Each document ten times over gives the same verdict, where ten documents of one origin are known as such."""
    own, against = drawn(1, 12, 1.0), drawn(2, 12)
    one = judge(sample(own), sample(against))
    names = [[f"{side} {i}" for i in range(12)] for side in "ab"]
    ten = judge(
        sample(np.repeat(own, 10), origins=np.repeat(names[0], 10).tolist()),
        sample(np.repeat(against, 10), origins=np.repeat(names[1], 10).tolist()),
    )
    assert (ten.auc, ten.low, ten.high, ten.p_value) == pytest.approx(
        (one.auc, one.low, one.high, one.p_value)
    )
    assert (ten.n_documents, ten.n_origins) == (120, 12)
    unknown = judge(sample(np.repeat(own, 10)), sample(np.repeat(against, 10)))
    assert unknown.p_value < one.p_value
    assert unknown.n_origins == 120


def clustered(
    seed: int,
    likeness: float,
    shift: float = 0.0,
    n: tuple[int, int] = (20, 20),
    mean: tuple[int, int] = (4, 4),
) -> list[Sample]:
    """Return corpora of origins with geometric numbers of documents, alike by a correlation within origins."""
    random = np.random.default_rng(seed)
    made = []
    for side in (0, 1):
        names = np.repeat(np.arange(n[side]), random.geometric(1 / mean[side], n[side]))
        of_origin, alone = random.normal(0, 1, n[side]), random.normal(0, 1, len(names))
        values = math.sqrt(likeness) * of_origin[names] + math.sqrt(1 - likeness) * alone
        made.append(
            sample(
                values + shift * (side == 0),
                random.integers(50, 513, len(names)),
                origins=[f"{side} {name}" for name in names],
            )
        )
    return made


def most(n: int, level: float) -> int:
    """Return how many of n alarms a binomial variable exceeds in one of two thousand cases."""
    share = np.cumsum([math.comb(n, k) * level**k * (1 - level) ** (n - k) for k in range(n // 4)])
    return int(np.searchsorted(share, 1 - 5e-4))


def within(n: int, level: float) -> Callable[[int], bool]:
    """Return whether so many of n alarms are what a binomial variable leaves in all but one of a thousand cases."""
    share = np.cumsum([math.comb(n, k) * level**k * (1 - level) ** (n - k) for k in range(n // 4)])
    low, high = np.searchsorted(share, [5e-4, 1 - 5e-4])
    return lambda alarms: bool(low <= alarms <= high)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("likeness", "n", "mean"), [(0.0, (20, 20), (4, 4)), (0.5, (20, 20), (4, 4)), (0.5, (10, 30), (8, 2))]
)
def test_documents_of_one_origin_raise_no_false_alarms(
    likeness: float, n: tuple[int, int], mean: tuple[int, int]
) -> None:
    """However alike they are and however many: as many alarms as the levels say, and intervals that cover."""
    runs = 600
    found = [
        judge(*clustered(seed, likeness, n=n, mean=mean), seed=seed, permutations=199) for seed in range(runs)
    ]
    for level in (0.01, 0.05):
        assert within(runs, level)(sum(one.p_value <= level for one in found))
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 0.93 * runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("likeness", "n", "mean"),
    [
        (0.05, (10, 60), (1, 50)),
        (0.05, (60, 10), (50, 1)),
        (0.2, (10, 40), (1, 10)),
        (0.5, (10, 30), (1, 8)),
    ],
)
def test_few_small_origins_against_large_ones_raise_no_false_alarms(
    likeness: float, n: tuple[int, int], mean: tuple[int, int]
) -> None:
    """No more than the levels say, where permutations alone flag up to five times as many."""
    runs = 400
    found = [
        judge(*clustered(seed, likeness, n=n, mean=mean), seed=seed, permutations=199) for seed in range(runs)
    ]
    for level in (0.01, 0.05):
        assert sum(one.p_value <= level for one in found) <= most(runs, level)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "spread"), [((8, 100), 5.0), ((100, 8), 0.2), ((20, 100), 5.0), ((7, 7), 5.0)])
def test_unequal_variances_raise_no_false_alarms(n: tuple[int, int], spread: float) -> None:
    """No more than the levels say, of documents that are origins of their own."""
    runs = 400
    found = [
        judge(sample(spread * drawn(2 * i, n[0])), sample(drawn(2 * i + 1, n[1])), seed=i, permutations=199)
        for i in range(runs)
    ]
    for level in (0.01, 0.05):
        assert sum(one.p_value <= level for one in found) <= most(runs, level)


def test_documents_that_pass_for_independent_raise_false_alarms() -> None:
    """What the origins are for: without them the same corpora are flagged several times as often as stated."""
    alarms = 0
    for seed in range(200):
        samples = [replace(one, origins=None) for one in clustered(seed, 0.5)]
        alarms += judge(*samples, seed=seed, permutations=199).p_value <= 0.05
    assert alarms > 3 * 0.05 * 200


@pytest.mark.slow
def test_what_a_reference_leaves_is_alike_within_origins_too() -> None:
    """Text of the first corpus is easier; habits of origins under model and reference alike raise no false alarm."""
    runs, alarms = 400, 0
    for seed in range(runs):
        random, samples = np.random.default_rng(seed), []
        for side in (0, 1):
            names = np.repeat(np.arange(20), random.geometric(0.25, 20))
            text, model, reference = (
                (random.normal(0, 1, 20)[names] + random.normal(0, 1, len(names))) * spread
                for spread in (1.0, 0.4, 0.4)
            )
            text = text + (side == 0)
            origins = [f"{side} {name}" for name in names]
            samples.append(sample(text + model, reference=text + reference, origins=origins))
        alarms += judge(*samples, seed=seed, permutations=199).p_value <= 0.05
    assert within(runs, 0.05)(alarms)


def test_training_is_found_among_documents_of_few_origins() -> None:
    """A shift of one and a half standard deviations, half of whose variance lies between 20 origins."""
    found = [judge(*clustered(seed, 0.5, 1.5), seed=seed, permutations=199) for seed in range(50)]
    assert sum(one.contaminated for one in found) >= 47


@pytest.mark.parametrize(("n", "judged"), [((6, 40), False), ((7, 7), True), ((2, 2), False)])
def test_few_origins_are_no_verdict_however_many_documents(n: tuple[int, int], judged: bool) -> None:
    """One clear line says how many there are, and what would mend it."""
    samples = [
        sample(drawn(side, 40), origins=[f"{side} {i % n[side]}" for i in range(40)]) for side in (0, 1)
    ]
    if judged:
        assert judge(*samples).n_origins == n[0]
        return
    with pytest.raises(
        UserError, match=f"of {n[0]} and {n[1]} origins, are too few .* other origins"
    ) as caught:
        judge(*samples)
    assert "\n" not in str(caught.value)


def test_origins_of_both_corpora_exchange_their_documents() -> None:
    """Six sites in both have 64 arrangements, seven 128: enough for one in a hundred, if they win all pairs."""
    names = [f"site {i}" for i in range(7)]
    values = drawn(1, 7)
    with pytest.raises(UserError, match="of 6 and 6 origins"):
        judge(sample(values[:6] + 1, origins=names[:6]), sample(values[:6], origins=names[:6]))
    found = judge(sample(values + 9, origins=names), sample(values, origins=names), permutations=20_000)
    assert found.p_value == pytest.approx(1 / 128, abs=2e-3)
    assert found.p_value >= 1 / 128
    assert not judge(sample(values, origins=names), sample(values, origins=names)).contaminated


def test_no_p_value_is_zero() -> None:
    """The arrangement that was observed is one of them."""
    found = judge(sample(np.arange(100.0, 120.0)), sample(np.arange(20.0)), permutations=999)
    assert (found.p_value, found.auc, found.high) == (1 / 1000, 1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))  # all of 20 documents won
    assert found.contaminated
    assert judge(sample(np.arange(20.0)), sample(np.arange(100.0, 120.0)), permutations=999).p_value == 1.0


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_no_scale_matters(scale: float, shift: float) -> None:
    """Ranks alone count: what rises with the statistic gives the same verdict."""
    own, against = drawn(3, 10, 0.5), drawn(4, 12)
    one = judge(sample(own), sample(against), permutations=99)
    other = judge(
        sample(np.exp(own * scale + shift)), sample(np.exp(against * scale + shift)), permutations=99
    )
    assert one == other


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated() -> None:
    """Of 400 pairs of corpora without a difference, 5 % are flagged at the 5 % level, within chance."""
    lengths = np.random.default_rng(0).integers(50, 513, (2, 40))
    flagged = sum(
        judge(
            sample(drawn(2 * i, 40), lengths[0]),
            sample(drawn(2 * i + 1, 40), lengths[1]),
            seed=i,
            level=0.05,
            permutations=199,
        ).contaminated
        for i in range(400)
    )
    assert flagged / 400 == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 400))


def test_a_planted_difference_is_found() -> None:
    """And its interval holds the truth: Phi(shift / sqrt 2) for normal statistics."""
    shift = 1.0
    found = judge(sample(drawn(1, 120, shift)), sample(drawn(2, 120)))
    assert found.contaminated
    assert found.p_value <= LEVEL
    assert found.low < NormalDist().cdf(shift / math.sqrt(2)) < found.high


@pytest.mark.slow
@pytest.mark.parametrize(("n", "n_against"), [(8, 200), (20, 20), (50, 50)])
def test_the_interval_covers_the_truth(n: int, n_against: int) -> None:
    """About nineteen times of twenty, however few documents a corpus has, and of whatever lengths."""
    truth = NormalDist().cdf(0.8 / math.sqrt(2))
    covered = 0
    for i in range(300):
        lengths = [np.random.default_rng(1000 + i).integers(50, 513, size) for size in (n, n_against)]
        own = sample(drawn(2 * i, n, 0.8), lengths[0])
        found = judge(own, sample(drawn(2 * i + 1, n_against), lengths[1]), permutations=1, level=0.5)
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / 300 < 1


def test_strata_have_enough_of_either_corpus_for_a_variance() -> None:
    """Those of fewer than 5 documents are joined with their neighbours; fewer than 5 in all are no verdict."""
    lengths = np.arange(8) * 60, np.arange(200) * 2
    found = judge(sample(drawn(1, 8), lengths[0]), sample(drawn(2, 200), lengths[1]))
    assert (found.n_strata, found.n_documents, found.n_against, found.n_left_out) == (1, 8, 200, 0)
    lengths = np.arange(12) * 40, np.arange(200) * 2
    found = judge(sample(drawn(1, 12), lengths[0]), sample(drawn(2, 200), lengths[1]))
    assert (found.n_strata, found.n_documents) == (2, 12)
    with pytest.raises(
        UserError, match="4 documents against 200 of about the same length, of 4 and 200 origins"
    ):
        judge(sample(drawn(1, 4)), sample(drawn(2, 200)))


def harder(seed: int, *, slope: float, shift: float, seen: float = 0.0) -> tuple[Sample, Sample]:
    """Return corpora that differ by a shift for whoever reads them; the statistic moves `slope` as much."""
    random = np.random.default_rng(seed)
    own, against = random.normal(shift, 1, 60), random.normal(0, 1, 60)
    noise = random.normal(0, 0.2, (4, 60))
    return (
        sample(slope * (own + noise[0]) + seen, reference=own + noise[1]),
        sample(slope * (against + noise[2]), reference=against + noise[3]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_reference_may_be_on_another_scale(slope: float, shift: float) -> None:
    """Text that is easier, or harder, is no evidence whatever the slope; text that was seen is found all the same."""
    alarms = found = 0
    for seed in range(100):
        untouched = judge(*harder(seed, slope=slope, shift=shift), seed=seed, level=0.05, permutations=199)
        alarms += untouched.contaminated
        seen = harder(seed, slope=slope, shift=shift, seen=0.3 * slope)
        found += judge(*seen, seed=seed, level=0.05, permutations=199).contaminated
    assert alarms <= 14  # of 100 at 5 %: four standard errors
    assert found >= 90


def test_a_reference_that_tells_the_corpora_apart_is_told() -> None:
    """Corpora that are alike under the reference are not."""
    assert judge(*harder(1, slope=1, shift=1)).alike is False
    assert judge(*harder(1, slope=1, shift=0)).alike is True
    assert judge(sample(drawn(1, 20)), sample(drawn(2, 20))).alike is None


def test_the_model_itself_as_its_reference_leaves_nothing() -> None:
    """Whatever is left is rounding, and all documents tie."""
    own, against = drawn(1, 30, 1.0), drawn(2, 30)
    found = judge(sample(own, reference=own), sample(against, reference=against))
    assert (found.auc, found.p_value) == (0.5, 1.0)


def confounded(seed: int) -> tuple[Sample, Sample]:
    """Return corpora of which the first has longer documents, and statistics that grow with length alone."""
    random = np.random.default_rng(seed)
    lengths = random.integers(100, 500, 200), random.integers(50, 450, 200)
    own, against = (length / 100 + random.normal(0, 1, 200) for length in lengths)
    return sample(own, lengths[0]), sample(against, lengths[1])


def test_length_is_no_evidence() -> None:
    """Longer documents have higher statistics; strata take nine tenths of that away."""
    own, against = confounded(1)
    found = judge(own, against)
    naive = judge(
        sample(own.statistics), sample(against.statistics)
    )  # as if all documents were of one length
    assert naive.contaminated
    assert not found.contaminated
    assert abs(found.auc - 0.5) < abs(naive.auc - 0.5) / 2
    assert (found.n_strata, naive.n_strata) == (5, 1)


def test_documents_of_one_length_are_never_parted() -> None:
    """Most documents are longer than what is read of them, and stand in one stratum."""
    lengths = np.array([512] * 30 + [100] * 10)
    found = judge(sample(drawn(1, 40), lengths), sample(drawn(2, 40), lengths))
    assert found.n_strata == 2
    by_hand = [
        naive_auc(drawn(1, 40)[part], drawn(2, 40)[part]) * n**2
        for part, n in ((slice(30), 30), (slice(30, 40), 10))
    ]
    assert found.auc == pytest.approx(sum(by_hand) / (30**2 + 10**2))


def test_documents_without_a_counterpart_are_left_out_and_counted() -> None:
    """So are those that were not measured, under the model or under its reference."""
    own = drawn(1, 30)
    own[0] = np.nan
    reference = drawn(2, 30)
    reference[1] = np.nan
    lengths = np.array([100] * 20 + [500] * 10)
    found = judge(sample(own, lengths, reference), sample(drawn(3, 30), 100, drawn(4, 30)))
    assert (found.n_documents, found.n_against, found.n_left_out, found.n_strata) == (18, 30, 12, 1)


def test_a_reference_takes_off_what_is_easy_for_everyone() -> None:
    """The first corpus is easier by two deviations; only what the model alone finds easier counts."""
    easy, hard = drawn(1, 80, 2.0), drawn(2, 80)
    noise = [drawn(seed, 80) / 4 for seed in (3, 4, 5, 6)]
    own, against = sample(easy + noise[0]), sample(hard + noise[1])
    assert judge(own, against).contaminated
    without = judge(
        sample(own.statistics, reference=easy + noise[2]),
        sample(against.statistics, reference=hard + noise[3]),
    )
    assert not without.contaminated
    assert without.reference_auc == pytest.approx(naive_auc(easy + noise[2], hard + noise[3]))
    assert without.auc == pytest.approx(naive_auc(noise[0] - noise[2], noise[1] - noise[3]), abs=0.03)
    assert without.alike is False
    trained = judge(
        sample(own.statistics + 1, reference=easy + noise[2]),
        sample(against.statistics, reference=hard + noise[3]),
    )
    assert trained.contaminated


def test_the_verdict_says_what_it_assumes() -> None:
    """Without a reference that the corpora are alike, with one that it has seen neither."""
    alone = judge(sample(drawn(1, 20)), sample(drawn(2, 20)))
    referred = judge(
        sample(drawn(1, 20), reference=drawn(3, 20)), sample(drawn(2, 20), reference=drawn(4, 20))
    )
    assert alone.reference_auc is None
    assert alone.assumptions[0].startswith("the two corpora differ in nothing but training")
    assert referred.assumptions[0].startswith("the reference was trained on neither corpus")
    for found in (alone, referred):
        assert any(
            a.startswith("origins are independent, and alike in both corpora") for a in found.assumptions
        )
    with pytest.raises(ValueError, match="or neither"):
        judge(sample(drawn(1, 20), reference=drawn(3, 20)), sample(drawn(2, 20)))


def test_the_same_documents_give_the_same_verdict() -> None:
    """A seed decides what is drawn; another one moves p by chance alone."""
    arguments = sample(drawn(1, 60, 0.3)), sample(drawn(2, 50))
    found = [judge(*arguments, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].auc == found[2].auc
    assert found[0].p_value != found[2].p_value
    assert found[0].p_value == pytest.approx(found[2].p_value, abs=0.02)


@pytest.mark.parametrize(("own", "against"), [(4, 4), (0, 20), (20, 0), (0, 0), (1, 98), (6, 98)])
def test_too_few_documents_are_no_verdict(own: int, against: int) -> None:
    """Where not even one that wins all pairs is as rare as the level."""
    with pytest.raises(UserError, match=r"documents against .* are too few for a verdict at the 1% level"):
        judge(sample(drawn(1, own)), sample(drawn(2, against)))


def test_enough_documents_are_a_verdict() -> None:
    """Seven documents of either corpus, all pairs won, are rarer than one in a hundred; by permutation far rarer."""
    found = judge(sample(drawn(1, 7, 9.0)), sample(drawn(2, 7)))
    assert isinstance(found, Verdict)
    assert (found.contaminated, found.p_value) == (True, 1 / 128)
