"""Rates, their intervals, differences of models, and deviations of protocols."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate import rates
from evaluate.model import Likelihood
from evaluate.rates import RESAMPLES, Unit, deviation, difference, interval, rate

UNITS: tuple[Unit, ...] = ("character", "byte", "token")


def row(
    document: str = "d",
    nll: float = 1.0,
    n: int = 1,
    *,
    tokens: int | None = 1,
    repair: float = 0.0,
    exact: float | None = None,
) -> Likelihood:
    """Return a document of `n` characters, each of two bytes."""
    return Likelihood(
        document=document,
        nll=nll,
        n_tokens=tokens,
        n_characters=n,
        n_bytes=2 * n,
        lossless=True,
        repair_nll=repair,
        exact_nll=exact,
    )


def corpus(
    n: int, *, seed: int = 0, dearer: float = 1.0, noise: float = 0.0, lengths: int = 7
) -> list[Likelihood]:
    """Return documents whose difficulty varies by a factor of two and a half.

    Args:
        n: number of documents.
        seed: of the noise.
        dearer: factor of every cost.
        noise: spread of the cost of a document between models.
        lengths: seed of difficulty and length, shared by the models of a corpus.
    """
    shared, own = np.random.default_rng(lengths), np.random.default_rng(seed)
    sizes = shared.integers(50, 2000, n)
    nats = shared.uniform(0.4, 1.0, n) * sizes * dearer * (1 + noise * own.standard_normal(n))
    return [
        row(f"d{i}", nll=float(x), n=int(c), tokens=int(c) // 4)
        for i, (x, c) in enumerate(zip(nats, sizes, strict=True))
    ]


def naive_interval(rows: Sequence[Likelihood], seed: int) -> tuple[float, float]:
    """Resample documents one draw after the other."""
    random = np.random.default_rng(seed)
    nll = np.array([r.nll for r in rows])
    units = np.array([r.n_characters for r in rows], dtype=np.float64)
    ratios = []
    for _ in range(RESAMPLES):
        sample = random.integers(len(rows), size=len(rows))
        total = units[sample].sum()
        ratios.append(nll[sample].sum() / total if total else math.nan)
    low, high = np.nanquantile(ratios, (0.025, 0.975)) / np.log(2)
    return float(low), float(high)


def test_a_rate_is_total_bits_over_total_units() -> None:
    """Not the mean of the documents' rates."""
    rows = [row(nll=math.log(2) * 100, n=10, tokens=5), row(nll=math.log(2) * 20, n=50, tokens=7)]
    assert rate(rows, "character") == pytest.approx(120 / 60)
    assert rate(rows, "byte") == pytest.approx(120 / 120)
    assert rate(rows, "token") == pytest.approx(120 / 12)


def test_a_corpus_without_units_has_no_rate() -> None:
    """Nothing to divide by is said, not returned as infinity."""
    for rows, unit in (([], "character"), ([row(n=0)], "byte"), ([row(tokens=None)], "token")):
        with pytest.raises(UserError, match=f"without a single {unit} has no rate"):
            rate(rows, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [2, 3, 9, 130, 1001])
def test_the_interval_equals_one_resample_after_the_other(n: int) -> None:
    """To the last bit, whatever is drawn at once, documents without text included."""
    rows = [*corpus(n), row(nll=0.0, n=0)]
    assert interval(rows, "character", seed=n) == naive_interval(rows, n)


def test_the_interval_does_not_depend_on_how_much_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on memory is not part of the result."""
    rows = corpus(37)
    expected = interval(rows, "character")
    for chunk in (1, 500, 37 * 7):
        monkeypatch.setattr(rates, "_CHUNK", chunk)
        assert interval(rows, "character") == expected


def test_the_interval_holds_the_rate_and_has_a_fixed_seed() -> None:
    """The same rows give the same interval, another seed another one."""
    rows = corpus(50)
    low, high = interval(rows, "character") or (0.0, 0.0)
    assert low < rate(rows, "character") < high
    assert interval(rows, "character") == (low, high)
    assert interval(rows, "character", seed=1) != (low, high)


def test_the_interval_covers_the_truth() -> None:
    """In 300 corpora drawn from a known law, some 95 % of the intervals hold its rate."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        sizes = random.integers(100, 1000, 80)
        nats = sizes * random.gamma(20, 1 / 20, 80) * math.log(2)
        rows = [row(nll=float(x), n=int(c)) for x, c in zip(nats, sizes, strict=True)]
        low, high = interval(rows, "character") or (0.0, 0.0)
        held += low <= 1.0 <= high
    assert 0.91 <= held / 300 <= 0.99


def test_documents_of_one_rate_leave_no_doubt() -> None:
    """Every resample has the same ratio."""
    rows = [row(nll=3.0 * n, n=n, tokens=n) for n in (1, 5, 40)]
    for unit in UNITS:
        low, high = interval(rows, unit) or (0.0, 1.0)
        assert low == pytest.approx(high, rel=1e-12) == pytest.approx(rate(rows, unit))


def test_fewer_than_two_documents_have_no_interval() -> None:
    """Empty documents are not counted, nor are compressors' tokens."""
    assert interval([], "character") is None
    assert interval([row(n=5), row(n=0), row(n=0)], "character") is None
    assert interval([row(tokens=None), row(tokens=None)], "token") is None


def test_a_difference_is_that_of_the_rates() -> None:
    """Closed form: on the same documents the rates are subtracted, and their order sets the sign."""
    a, b = corpus(30, dearer=1.1), corpus(30)
    for unit in UNITS:
        found = difference(a, b, unit)
        assert found is not None
        assert found.value == pytest.approx(rate(a, unit) - rate(b, unit), rel=1e-12)
        assert found.low < found.value < found.high
        assert found.n_documents == 30
        reverse = difference(b, a, unit)
        assert reverse is not None
        assert (reverse.value, reverse.low, reverse.high) == pytest.approx(
            (-found.value, -found.high, -found.low)
        )


def test_only_documents_of_both_are_compared() -> None:
    """Those that one model alone has scored do not count, wherever they stand."""
    a, b = corpus(40, dearer=1.1), corpus(40)
    alone = difference(a[:25], b[:25], "character")
    extra = [row("only a", nll=1e6, n=1)]
    assert difference([*extra, *a[:25]], [*b, row("only b", nll=1e6, n=1)], "character") == alone
    shuffled = [b[i] for i in np.random.default_rng(0).permutation(40)]
    assert difference(a[:25], shuffled, "character") == alone


def test_equal_ids_are_paired_by_occurrence() -> None:
    """The second document of an id is compared with the second, and a third alone with nobody."""
    a = [row("x", nll=2.0, n=10), row("y", nll=3.0, n=10), row("x", nll=30.0, n=10)]
    b = [row("x", nll=1.0, n=10), row("x", nll=29.0, n=10), row("y", nll=2.0, n=10), row("x", nll=99.0, n=10)]
    found = difference(a, b, "character")
    assert found is not None
    assert found.n_documents == 3
    assert found.value == pytest.approx(0.1 / math.log(2))
    assert found.high - found.low == pytest.approx(0.0, abs=1e-12)


def test_pairing_is_what_makes_a_difference_narrow() -> None:
    """What is hard for both cancels: far narrower than the intervals of either model."""
    a, b = corpus(200, seed=1, dearer=1.02, noise=0.01), corpus(200, seed=2, noise=0.01)
    found, alone = difference(a, b, "character"), interval(a, "character")
    assert found is not None
    assert alone is not None
    assert found.low > 0
    assert found.high - found.low < (alone[1] - alone[0]) / 5


def test_a_difference_equals_the_naive_paired_bootstrap() -> None:
    """Oracle: the same documents of both models, one resample after the other."""
    a, b = corpus(23, seed=1, dearer=1.02, noise=0.05), corpus(23, seed=2, noise=0.05)
    random = np.random.default_rng(3)
    values = []
    for _ in range(RESAMPLES):
        sample = random.integers(23, size=23)
        values.append(rate([a[i] for i in sample], "token") - rate([b[i] for i in sample], "token"))
    found = difference(a, b, "token", seed=3)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), rel=1e-9)


def test_fewer_than_two_common_documents_have_no_difference() -> None:
    """Nor do documents without text, or tokens of a compressor."""
    assert difference([], [], "character") is None
    assert difference([row("a"), row("b")], [row("b"), row("c")], "character") is None
    assert difference([row("a"), row("b", n=0)], [row("a"), row("b", n=0)], "character") is None
    assert difference([row("a"), row("b")], [row("a", tokens=None), row("b", tokens=None)], "token") is None


def test_a_deviation_is_relative_and_over_sampled_documents_only() -> None:
    """Closed form: total nats under one protocol over those under the other, less one."""
    rows = [row(nll=101.0, exact=100.0), row(nll=306.0, exact=300.0), row(nll=7e9)]
    found = deviation(rows)
    assert found is not None
    assert found.value == pytest.approx(7 / 400)
    assert found.n_documents == 2
    assert (found.low, found.high) == pytest.approx((0.01, 0.02))


def test_the_repair_does_not_hide_a_deviation() -> None:
    """It is paid under both protocols and taken off both."""
    plain = [row(nll=100.0 + i, exact=99.0) for i in range(9)]
    mended = [row(nll=600.0 + i, exact=599.0, repair=500.0) for i in range(9)]
    assert deviation(plain) == deviation(mended)


def test_a_deviation_needs_documents() -> None:
    """None without any, no interval for a single one."""
    assert deviation([]) is None
    assert deviation([row(), row()]) is None
    assert deviation([row(nll=0.0, exact=0.0)]) is None
    single = deviation([row(nll=2.0, exact=1.0), row(nll=0.0, exact=0.0)])
    assert single is not None
    assert (single.value, single.low, single.high) == (1.0, None, None)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 1e6), st.integers(0, 10**6), st.floats(0.9, 1.1)), min_size=2, max_size=12
    )
)
def test_intervals_lie_between_the_extremes(
    values: list[tuple[float, int, float]],
) -> None:
    """No resample leaves the range of the documents' own ratios."""
    rows = [row(f"d{i}", nll=x, n=n, exact=x * f) for i, (x, n, f) in enumerate(values)]
    found, moved = interval(rows, "character"), deviation(rows)
    assert moved is not None
    assert moved.low is not None
    assert moved.high is not None
    inverse = [1 / f - 1 for _, _, f in values]
    assert min(inverse) - 1e-9 <= moved.low <= moved.high <= max(inverse) + 1e-9
    assert (found is None) == (sum(n > 0 for _, n, _ in values) < 2)
