"""Fits agree with independent implementations, and refuse what has no line."""

import math
from fractions import Fraction

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from collectors.document import UserError
from evaluate import regression

X = [0.62, 0.55, 0.71, 0.55, 0.48, 0.66, 0.59, 0.80]
Y = [0.48, 0.57, 0.39, 0.61, 0.63, 0.48, 0.50, 0.31]

decimals = st.integers(10, 2000).map(lambda n: n / 1000)
points = st.lists(st.tuples(decimals, decimals), min_size=4, max_size=25)


def left_out(x: list[float], y: list[float]) -> list[float]:
    """Refit without each point in turn and return what it misses the line by."""
    misses = []
    for i in range(len(x)):
        slope, intercept = np.polyfit(x[:i] + x[i + 1 :], y[:i] + y[i + 1 :], 1)
        misses.append(y[i] - (intercept + slope * x[i]))
    return misses


def engine(rows: list[tuple[int, str, bool, float, float]]) -> duckdb.DuckDBPyConnection:
    """An engine with the table that fit_all() reads."""
    columns = dict(
        zip(("series", "point", "used", "x", "y"), map(list, zip(*rows, strict=True)), strict=True)
    )
    db = regression.connect()
    db.from_arrow(pa.table(columns)).create("observations")
    return db


def drawn(n: int, seed: int, resamples: int) -> npt.NDArray[np.int64]:
    """Which points the resamples take, shape (resamples, n), computed by the formula that fit() states."""
    hashes = duckdb.execute(
        "SELECT hash(xor(hash(xor(hash($seed::BIGINT), b::UBIGINT)), i::UBIGINT)) "
        "FROM range($resamples) r(b), range($n) s(i) ORDER BY b, i",
        {"seed": seed, "resamples": resamples, "n": n},
    ).fetchall()
    index = np.array([h for (h,) in hashes], dtype=np.uint64) % np.uint64(n)
    return index.astype(np.int64).reshape(resamples, n)


def resampled(x: list[float], y: list[float], seed: int, resamples: int) -> npt.NDArray[np.float64]:
    """Correlations and slopes of the resamples that fit() draws, computed by numpy, shape (resamples, 2)."""
    n = len(x)
    figures = []
    for row in drawn(n, seed, resamples):
        a, b = np.array(x)[row], np.array(y)[row]
        if np.ptp(a) > 0 and np.ptp(b) > 0:
            figures.append((np.corrcoef(a, b)[0, 1], np.polyfit(a, b, 1)[0]))
    return np.array(figures)


def test_exact_line_is_recovered() -> None:
    """Points on a line give its coefficients, a correlation of -1 and no error."""
    x = [0.4, 0.5, 0.65, 0.9]
    found = regression.fit(x, [1.25 - 1.5 * v for v in x])
    assert found.slope == pytest.approx(-1.5, abs=1e-12)
    assert found.intercept == pytest.approx(1.25, abs=1e-12)
    assert (found.pearson, found.spearman, found.r2) == pytest.approx((-1, -1, 1), abs=1e-12)
    assert found.rmse == pytest.approx(0, abs=1e-12)
    assert found.loo_rmse == pytest.approx(0, abs=1e-12)


def test_exact_logarithm_is_recovered() -> None:
    """Points on y = a + b ln x give a and b in the log form."""
    x = [0.4, 0.5, 0.65, 0.9]
    found = regression.fit(x, [0.3 - 0.7 * math.log(v) for v in x], form="log")
    assert (found.slope, found.intercept, found.rmse) == pytest.approx((-0.7, 0.3, 0), abs=1e-12)


@pytest.mark.parametrize("form", regression.FORMS)
def test_fit_agrees_with_numpy_and_scipy(form: str) -> None:
    """Every figure, ties included, is that of independent implementations."""
    found = regression.fit(X, Y, form=form)
    u = X if form == "linear" else [math.log(v) for v in X]
    line = stats.linregress(u, Y)
    residuals = np.array(Y) - line.intercept - line.slope * np.array(u)
    misses = left_out(u, Y)
    assert found.n == len(X)
    assert (found.slope, found.intercept) == pytest.approx((line.slope, line.intercept), abs=1e-9)
    assert found.pearson == pytest.approx(stats.pearsonr(u, Y).statistic, abs=1e-9)
    assert found.spearman == pytest.approx(stats.spearmanr(X, Y).statistic, abs=1e-9)
    assert found.r2 == pytest.approx(
        1 - np.sum(residuals**2) / np.sum((np.array(Y) - np.mean(Y)) ** 2), abs=1e-9
    )
    assert found.rmse == pytest.approx(math.sqrt(np.mean(residuals**2)), abs=1e-9)
    assert found.residuals == pytest.approx(list(residuals), abs=1e-9)
    assert found.loo_residuals == pytest.approx(misses, abs=1e-9)
    assert found.loo_rmse == pytest.approx(math.sqrt(np.mean(np.square(misses))), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(points)
def test_any_points_agree_with_numpy_and_scipy(pairs: list[tuple[float, float]]) -> None:
    """Points of any shape either fit as elsewhere, or are refused where nothing varies; never NaN."""
    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(x)) == 1 or len(set(y)) == 1:
        with pytest.raises(UserError, match="vary"):
            regression.fit(x, y, resamples=0)
        return
    found = regression.fit(x, y, resamples=20)
    line = stats.linregress(x, y)
    assert found.slope == pytest.approx(line.slope, rel=1e-9, abs=1e-9)
    assert found.pearson == pytest.approx(line.rvalue, abs=1e-9)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert -1 <= found.pearson <= 1
    assert sum(found.residuals) == pytest.approx(0, abs=1e-9)
    for i, value in enumerate(found.loo_residuals):
        others = set(x[:i] + x[i + 1 :])
        assert (value is None) == (len(others) == 1)
    numbers = [found.r2, found.rmse, found.pearson_low, found.pearson_high, found.loo_rmse]
    assert all(math.isfinite(value) for value in numbers if value is not None)


@settings(max_examples=12, deadline=None)
@given(points, st.floats(0.1, 10), st.floats(-5, 5))
def test_correlation_ignores_scale_and_offset(
    pairs: list[tuple[float, float]], scale: float, offset: float
) -> None:
    """Scaling and shifting x leaves both correlations and the error as they were."""
    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    moved = [scale * v + offset for v in x]
    assume(len(set(moved)) == len(set(x)))
    before, after = regression.fit(x, y, resamples=0), regression.fit(moved, y, resamples=0)
    assert after.pearson == pytest.approx(before.pearson, abs=1e-9)
    assert after.spearman == pytest.approx(before.spearman, abs=1e-9)
    assert after.rmse == pytest.approx(before.rmse, abs=1e-9)


def test_large_offset_costs_no_precision() -> None:
    """An x far from 0 is centred first: the correlation is that of exact arithmetic."""
    x, y = [2.0**30 + v for v in (0, 1, 3, 7)], [0.5, 0.25, 0.125, 0.375]
    a, b = [Fraction(v) for v in x], [Fraction(v) for v in y]
    p, q = [v - sum(a) / 4 for v in a], [v - sum(b) / 4 for v in b]
    exact = sum(i * j for i, j in zip(p, q, strict=True)) ** 2 / (
        sum(i * i for i in p) * sum(j * j for j in q)
    )
    assert regression.fit(x, y, resamples=0).r2 == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize(("x", "y"), [(X, Y), ([0.1, 0.1, 0.4, 0.9], [0.5, 0.2, 0.2, 0.2])])
def test_interval_is_that_of_numpy_on_the_same_resamples(x: list[float], y: list[float]) -> None:
    """The 95 % intervals are of percentiles of correlations and slopes; resamples without variance do not count."""
    found = regression.fit(x, y, seed=7, resamples=400)
    figures = resampled(x, y, seed=7, resamples=400)
    assert found.resamples == len(figures)
    ends = [(found.pearson_low, found.slope_low), (found.pearson_high, found.slope_high)]
    assert np.array(ends) == pytest.approx(np.quantile(figures, [0.025, 0.975], axis=0), abs=1e-9)


def test_seed_decides_the_interval() -> None:
    """The same seed gives the same interval, another one another, and no resamples give none."""
    one, again, other = (regression.fit(X, Y, seed=seed, resamples=200) for seed in (1, 1, 2))
    assert one == again
    assert (one.pearson_low, one.pearson_high) != (other.pearson_low, other.pearson_high)
    none = regression.fit(X, Y, resamples=0)
    assert (none.pearson_low, none.slope_high, none.resamples) == (None, None, 0)


@pytest.mark.parametrize("n", [5, 8, 16, 28])
def test_resamples_are_independent_draws(n: int) -> None:
    """Each resample holds 1 - (1 - 1/n)^n of the points on average, and no two slots go together."""
    index = drawn(n, seed=1, resamples=4000)
    share = np.mean([len(set(row)) for row in index.tolist()]) / n
    assert share == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.01)
    pairs = np.histogram2d(index[:, 0], index[:, 1], bins=n)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-4


def test_interval_covers_the_planted_correlation() -> None:
    """Of 200 samples with correlation -0.9, about 95 in 100 intervals hold it."""
    rng = np.random.default_rng(0)
    rows = []
    for series in range(200):
        x, noise = rng.normal(size=30), rng.normal(size=30)
        y = -0.9 * x + math.sqrt(1 - 0.81) * noise
        rows += [
            (series, f"{i:02}", True, float(a), float(b)) for i, (a, b) in enumerate(zip(x, y, strict=True))
        ]
    db = engine(rows)
    regression.fit_all(db, seed=0, resamples=400)
    intervals = db.execute("SELECT pearson_low, pearson_high FROM fits WHERE form = 'linear'").fetchall()
    covered = sum(low <= -0.9 <= high for low, high in intervals)
    assert 0.88 <= covered / 200 <= 0.99


def test_order_of_points_does_not_matter() -> None:
    """Reversed points give the same figures, apart from the resamples."""
    one, other = regression.fit(X, Y, resamples=0), regression.fit(X[::-1], Y[::-1], resamples=0)
    assert (one.slope, one.pearson, one.loo_rmse) == pytest.approx(
        (other.slope, other.pearson, other.loo_rmse), abs=1e-12
    )
    assert one.residuals == pytest.approx(other.residuals[::-1], abs=1e-12)


def test_best_form_has_the_least_left_out_error() -> None:
    """A planted logarithm is fitted best by the log form, a planted line by the linear one."""
    x = [0.1 * i for i in range(1, 12)]
    shapes = {"linear": [1 - 0.3 * v for v in x], "log": [1 - 0.3 * math.log(v) for v in x]}
    for planted, y in shapes.items():
        db = engine([(0, f"{i:02}", True, a, b) for i, (a, b) in enumerate(zip(x, y, strict=True))])
        regression.fit_all(db, seed=0, resamples=0)
        assert db.execute("SELECT DISTINCT best_form FROM fits").fetchall() == [(planted,)]


def test_point_not_used_has_only_a_residual() -> None:
    """A point left out of a fit does not move the line, and its residual is about the line of the others."""
    db = engine(
        [
            (1, "a", True, 1.0, 1.0),
            (1, "b", True, 2.0, 2.0),
            (1, "c", True, 3.0, 3.0),
            (1, "d", False, 4.0, 9.0),
        ]
    )
    regression.fit_all(db, seed=0, resamples=0)
    row = db.execute(
        "SELECT fitted, residual, loo_residual FROM residuals WHERE point = 'd' AND form = 'linear'"
    ).fetchone()
    assert row is not None
    assert row[:2] == pytest.approx((4, 5))
    assert row[2] is None


def test_leverage_of_one_has_no_left_out_residual() -> None:
    """Where the other points share one x there is no line without the point, and no error made of it."""
    found = regression.fit([0.5, 0.5, 0.5, 0.9], [0.4, 0.5, 0.6, 0.1], resamples=0)
    assert found.loo_residuals[3] is None
    assert found.loo_rmse is None
    assert None not in found.loo_residuals[:3]


@pytest.mark.parametrize(
    ("x", "y", "form", "rule"),
    [
        ([], [], "linear", "0 models; a fit needs 3 or more"),
        ([0.5], [0.5], "linear", "1 model; a fit needs 3 or more"),
        ([0.5, 0.6], [0.5, 0.4], "log", "2 models; a fit needs 3 or more"),
        ([0.5] * 3, [0.1, 0.2, 0.3], "linear", "x is the same for every model"),
        ([0.1] * 3, [0.1, 0.2, 0.3], "log", "x is the same for every model"),
        ([0.1, 0.2, 0.3], [0.1] * 3, "linear", "y is the same for every model"),
        ([0.1, 0.2, math.nan], [0.1, 0.2, 0.3], "linear", "point 2 is not finite"),
        ([0.1, 0.2, 0.3], [0.1, math.inf, 0.3], "linear", "point 1 is not finite"),
        ([0.1, 0.2, -math.inf], [0.1, 0.2, 0.3], "log", "point 2 is not finite"),
        ([0.1, 0.2, 1e300], [0.1, 0.2, 0.3], "linear", "point 2 is not finite or beyond 1e12"),
        ([0.1, 0.2, 0.0], [0.1, 0.2, 0.3], "log", "x of point 2 is not above 0"),
        ([0.1, 0.2, -0.3], [0.1, 0.2, 0.3], "log", "x of point 2 is not above 0"),
        ([0.1, 0.2], [0.1], "linear", "2 x do not pair with 1 y"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.4], "cubic", "form 'cubic' is none of linear, log"),
    ],
)
def test_what_has_no_line_is_refused(x: list[float], y: list[float], form: str, rule: str) -> None:
    """A series without a fit is refused by name of the rule, never answered with NaN."""
    with pytest.raises(UserError, match=rule):
        regression.fit(x, y, form=form)


@pytest.mark.parametrize(
    ("seed", "resamples"), [(-1, 10), (0, -1), (0, 10**9), (True, 10), (0, "10"), (0.5, 10)]
)
def test_seed_and_resamples_are_checked(seed: int, resamples: int) -> None:
    """What is no whole number in its range is refused before anything runs."""
    with pytest.raises(UserError, match="no whole number"):
        regression.fit(X, Y, seed=seed, resamples=resamples)


def test_series_do_not_disturb_each_other() -> None:
    """A refused series beside a good one leaves the good one's figures as they are alone."""
    alone = regression.fit(X, Y, seed=3, resamples=100)
    rows = [(1, f"{i}", True, a, b) for i, (a, b) in enumerate(zip(X, Y, strict=True))]
    rows += [
        (2, "a", True, 0.5, 0.5),
        (3, "a", True, -1.0, 0.5),
        (3, "b", True, 1.0, 0.2),
        (3, "c", True, 2.0, 0.1),
    ]
    db = engine(rows)
    regression.fit_all(db, seed=3, resamples=100)
    beside = db.execute(
        "SELECT pearson, pearson_low, loo_rmse FROM fits WHERE series = 1 AND form = 'linear'"
    ).fetchone()
    assert beside == pytest.approx((alone.pearson, alone.pearson_low, alone.loo_rmse), abs=1e-12)
    refused = dict(db.execute("SELECT (series, form), refused FROM fits WHERE series > 1").fetchall())
    assert "3 or more" in refused[2, "linear"]
    assert refused[3, "linear"] == ""
    assert "not above 0" in refused[3, "log"]
