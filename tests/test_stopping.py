"""When to stop scoring, and what is then known of the whole corpus."""

import math
from inspect import signature
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student

from collectors.document import UserError
from evaluate.model import Likelihood
from evaluate.rates import rate
from evaluate.stopping import (
    check_precision,
    expected_documents,
    half_width,
    interval,
    level,
    looks,
    order,
    precise,
)

Array = NDArray[np.float64]


def corpora(
    runs: int,
    size: int,
    *,
    seed: int = 0,
    sigma: float = 1.2,
    genre: tuple[float, float] = (0.15, 1.8),
    heavy: float = 0.1,
) -> tuple[Array, Array]:
    """Return lengths and costs, shapes [runs, size], short documents dearer per character.

    Args:
        runs: number of corpora.
        size: documents in each.
        seed: of all draws.
        sigma: of the logarithm of the length.
        genre: share of documents of the second genre, and how many times as dear it is.
        heavy: scale of the logarithm of the noise, which has a Student's tail.
    """
    random = np.random.default_rng(seed)
    lengths = np.exp(random.normal(math.log(2000), sigma, (runs, size))).clip(20).round()
    factor = np.where(random.random((runs, size)) < genre[0], genre[1], 1.0)
    noise = np.exp(heavy * random.standard_t(3, (runs, size)).clip(-8, 12))
    return lengths, lengths * (0.6 + 12 / np.sqrt(lengths)) * factor * noise


def rows(nll: Array, lengths: Array) -> list[Likelihood]:
    """Return documents with those costs, in nats, and lengths, in characters."""
    return [
        Likelihood(
            document=str(i), nll=float(x), n_tokens=None, n_characters=int(n), n_bytes=int(n), lossless=True
        )
        for i, (x, n) in enumerate(zip(nll, lengths, strict=True))
    ]


def stopped(lengths: Array, nll: Array, precision: float, error: float | None = None) -> tuple[float, float]:
    """Return coverage at the look where scoring stops, and the share of documents scored by then."""
    size = lengths.shape[1]
    truth = nll.sum(1) / lengths.sum(1)
    running, covered, scored = np.ones(len(truth), dtype=bool), 0, 0
    for n in looks(size):
        risk = level(n, size) if error is None else error
        half = half_width(nll[:, :n], lengths[:, :n], lengths, risk)
        estimate = nll[:, :n].sum(1) / lengths[:, :n].sum(1)
        stops = running & (half <= precision)
        running &= ~stops
        held = np.abs(estimate - truth) <= half * estimate + 1e-12
        covered += int(np.count_nonzero(held & stops))
        scored += n * int(np.count_nonzero(stops))
    assert not running.any()
    return covered / len(truth), scored / len(truth) / size


@pytest.mark.parametrize("genre", [(0.15, 1.8), (0.05, 0.1), (0.0, 1.0)])
@pytest.mark.parametrize(("size", "precision"), [(100, 0.05), (800, 0.05), (800, 0.02)])
def test_the_interval_covers_where_scoring_stops(
    size: int, precision: float, genre: tuple[float, float]
) -> None:
    """In 1,000 corpora at least 94 % of the intervals hold the rate of all documents, and documents are saved."""
    lengths, nll = corpora(1000, size, seed=size, genre=genre)
    coverage, share = stopped(lengths, nll, precision)
    assert coverage >= 0.94
    assert share < 0.99
    if size * precision == 40:
        assert share < 0.7


def test_looking_without_a_correction_covers_too_little() -> None:
    """What the levels are for: 5 % at every look misses far more often."""
    lengths, nll = corpora(1000, 800, sigma=1.5, genre=(0.05, 0.1), heavy=0.05)
    assert stopped(lengths, nll, 0.05, error=0.05)[0] < 0.9
    assert stopped(lengths, nll, 0.05)[0] >= 0.94


def test_all_looks_together_miss_with_five_percent() -> None:
    """For normal errors, by drawing them: scores of growing information, every look counted."""
    size = 2000
    sizes = np.array(looks(size)[:-1])
    information = 1 / (1 / sizes - 1 / size)
    steps = np.random.default_rng(0).standard_normal((100_000, len(sizes)))
    scores = (steps * np.sqrt(np.diff(information, prepend=0))).cumsum(1) / np.sqrt(information)
    bounds = student.isf([level(n, size) / 2 for n in sizes.tolist()], 1e9)
    assert np.mean((np.abs(scores) > bounds).any(1)) == pytest.approx(0.05, abs=0.002)
    assert (np.diff(bounds) < 0).all()


def test_a_single_look_has_the_whole_error() -> None:
    """With one look before the end nothing is to be corrected."""
    assert looks(31) == [30, 31]
    assert level(30, 31) == pytest.approx(0.05, abs=1e-8)


def test_looks_grow_by_a_quarter_and_end_with_the_corpus() -> None:
    """Few looks at many documents, none before thirty."""
    assert looks(1) == [1]
    assert looks(30) == [30]
    assert looks(100) == [30, 38, 48, 60, 75, 94, 100]
    assert len(looks(100_000)) < 40


@given(st.integers(1, 5000))
def test_looks_ascend(n: int) -> None:
    """Every look sees more than the last, whatever the size."""
    sizes = looks(n)
    assert sizes[-1] == n
    assert all(a < b for a, b in pairwise(sizes))


def test_the_order_depends_on_corpus_and_seed_alone() -> None:
    """It is fixed for all time, and no model is asked: what models have scored are prefixes of one order."""
    assert order(8, 0, "ab" * 32).tolist() == [6, 5, 2, 4, 1, 7, 3, 0]
    assert list(signature(order).parameters) == ["n", "seed", "corpus_sha256"]
    everything = order(500, 0, "ab" * 32)
    assert sorted(everything.tolist()) == list(range(500))
    for seed, digest in ((1, "ab" * 32), (0, "cd" * 32)):
        assert not np.array_equal(order(500, seed, digest), everything)


def test_the_order_is_a_fair_shuffle() -> None:
    """Over many corpora each document is as likely in the first tenth as any other."""
    first = np.concatenate([order(50, 0, str(i))[:5] for i in range(2000)])
    counts = np.bincount(first, minlength=50)
    assert ((counts - 200) ** 2 / 200).sum() < 90


def naive_half_width(nll: Array, units: Array, population: Array, error: float) -> float:
    """Leave out one document after the other, and add up the error expected of each document."""
    n, size = len(nll), len(population)
    value = nll.sum() / units.sum()
    left = [np.delete(nll, i).sum() / np.delete(units, i).sum() for i in range(n)]
    jackknife = (1 - n / size) * (n - 1) / n * sum((x - value) ** 2 for x in left)
    squares = [(x - value * u) ** 2 for x, u in zip(nll, units, strict=True)]
    per_square = sum(s / (1 - u / units.sum()) for s, u in zip(squares, units, strict=True))
    ratio = (population.sum() - units.sum()) / units.sum()
    unscored = (population**2).sum() - (units**2).sum()
    predictive = ratio**2 * per_square + unscored * per_square / (units**2).sum()
    variance = max(jackknife, predictive / population.sum() ** 2)
    kurtosis = np.mean(np.square(squares)) / np.mean(squares) ** 2
    freedom = min(max(2 * n / max(kurtosis - 1, 0.5), 2), n - 1)
    return float(student.isf(error / 2, freedom) * math.sqrt(variance) / value)


@pytest.mark.parametrize("n", [3, 30, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_width_equals_its_naive_computation(n: int, seed: int) -> None:
    """Jackknife and predictive variance by their definitions, many corpora at once or one alone."""
    lengths, nll = corpora(4, 120, seed=seed)
    together = half_width(nll[:, :n], lengths[:, :n], lengths, 0.01)
    assert together.shape == (4,)
    for found, x, u in zip(together, nll, lengths, strict=True):
        assert found == pytest.approx(naive_half_width(x[:n], u[:n], u, 0.01), rel=1e-8)


def test_a_corpus_scored_to_the_end_is_known_exactly() -> None:
    """The interval is the rate itself: nothing is left to be estimated."""
    lengths, nll = corpora(1, 90)
    documents = rows(nll[0], lengths[0])
    value = rate(documents, "character")
    assert interval(documents, lengths[0].astype(int), "character") == (value, value)
    assert precise(documents, lengths[0].astype(int), "character", 1e-9)


def test_the_interval_shrinks_as_documents_are_scored() -> None:
    """Look by look in the median, and to a tenth from first to last."""
    lengths, nll = corpora(50, 1000)
    widths = [
        float(np.median(half_width(nll[:, :n], lengths[:, :n], lengths, level(n, 1000)))) for n in looks(1000)
    ]
    assert all(a > b for a, b in pairwise(widths))
    assert widths[-2] < widths[0] / 10


def test_the_interval_is_centred_on_the_rate_and_stops_by_its_width() -> None:
    """`precise` says whether half the interval is within the precision."""
    lengths, nll = corpora(1, 400)
    documents, population = rows(nll[0, :94], lengths[0, :94]), lengths[0].astype(int)
    low, high = interval(documents, population, "character")
    value = rate(documents, "character")
    assert (low + high) / 2 == pytest.approx(value)
    relative = (high - low) / 2 / value
    assert precise(documents, population, "character", relative * 1.001)
    assert not precise(documents, population, "character", relative * 0.999)


def test_known_lengths_widen_the_interval_before_long_documents() -> None:
    """Thirty short documents say little about a corpus whose text is in a few long ones."""
    lengths, nll = corpora(1, 30, sigma=0.2)
    alike = np.concatenate([lengths[0], np.full(70, 2000.0)])
    long = np.concatenate([lengths[0], np.full(65, 2000.0), np.full(5, 400_000.0)])
    narrow, wide = (float(half_width(nll[0], lengths[0], p, 0.05)) for p in (alike, long))
    assert wide > 2.5 * narrow


def test_documents_of_one_rate_need_no_more_than_the_first_look() -> None:
    """Where nothing varies thirty documents tell all, documents without text included."""
    lengths = np.append(np.arange(1, 500), 0)[::-1]
    documents = rows(lengths[:30] * 1.5, lengths[:30].astype(float))
    assert precise(documents, lengths, "character", 1e-6)
    assert expected_documents(documents, lengths, "character", 1e-6) == 30


def test_too_little_text_says_nothing() -> None:
    """One document with text, or none, leaves everything open."""
    single = rows(np.array([5.0, 0, 0]), np.array([9.0, 0, 0]))
    assert not precise(single, [9, 0, 0, 7, 7], "character", 0.49)
    assert interval(single, [9, 0, 0, 7, 7], "character") == (0.0, math.inf)
    assert not precise(single[1:], [0, 0, 0, 7, 7], "character", 0.49)
    assert expected_documents(single, [9, 0, 0, *[7] * 50], "character", 0.49) == 53
    with pytest.raises(UserError, match="without a single character"):
        interval(single[1:], [0, 0, 0, 7, 7], "character")


@pytest.mark.parametrize("precision", [0.02, 0.05, 0.1])
def test_the_estimate_of_documents_is_near_what_is_needed(precision: float) -> None:
    """From the costs under another model of the same spread: within two looks in the median."""
    lengths, nll = corpora(30, 2000, sigma=1.0)
    other_lengths, other = corpora(30, 2000, sigma=1.0, seed=1)
    sizes = looks(2000)
    misses = []
    for u, x, v, y in zip(lengths, nll, other_lengths, other, strict=True):
        expected = expected_documents(rows(y, v), u.astype(int), "character", precision)
        needed = next(n for n in sizes if half_width(x[:n], u[:n], u, level(n, 2000)) <= precision)
        misses.append(sizes.index(expected) - sizes.index(needed))
    assert abs(float(np.median(misses))) <= 2


def test_the_estimate_of_documents_is_a_closed_form() -> None:
    """The first look at which the finite-population variance is small enough, all documents given."""
    lengths, nll = corpora(1, 150, sigma=0.5)
    u, x = lengths[0], nll[0]
    squares = (x - x.sum() / u.sum() * u) ** 2
    excess = np.mean(squares**2) / np.mean(squares) ** 2 - 1
    for precision in (0.01, 0.02, 0.03, 0.05, 0.1):
        fits = [
            n
            for n in looks(150)
            if student.isf(level(n, 150) / 2, min(n - 1, 2 * n / excess))
            * math.sqrt((1 / n - 1 / 150) * squares.mean())
            <= precision * x.mean()
        ]
        assert expected_documents(rows(x, u), u.astype(int), "character", precision) == fits[0]


def test_more_precision_needs_more_documents() -> None:
    """And the most that can be needed is all of them."""
    lengths, nll = corpora(1, 3000)
    documents, population = rows(nll[0, :200], lengths[0, :200]), lengths[0].astype(int)
    found = [
        expected_documents(documents, population, "character", p) for p in (0.2, 0.1, 0.05, 0.02, 0.01, 1e-6)
    ]
    assert found == sorted(found)
    assert found[0] < 600
    assert found[-1] == 3000


@pytest.mark.parametrize("value", [0, -0.01, 0.5, 1, math.nan, math.inf, True, "0.005", None])
def test_a_precision_out_of_range_is_refused(value: object) -> None:
    """The value and the rule are named."""
    with pytest.raises(UserError, match=r"precision .* must be a number above 0 and below 0\.5") as refused:
        check_precision(value)  # type: ignore[arg-type]
    assert repr(value) in str(refused.value)


def test_a_precision_in_range_is_returned() -> None:
    """As a number, as YAML may give it."""
    assert check_precision(0.005) == 0.005
