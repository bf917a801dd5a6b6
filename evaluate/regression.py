"""Straight lines through benchmark scores and bits per character, for many series at once, in SQL.

Two forms are fitted by least squares, y = a + b x and y = a + b ln x; both have two coefficients, so
their errors on models that were left out of the fit compare them fairly. Huang et al. 2024
(arXiv 2404.09937, section 4) fit the first and report Pearson's correlation and the root of the mean
squared residual, with scores on the scale from 0 to 1; so do we.

x and y are centred before anything is multiplied, so that no variance is a difference of large sums.
The engine runs on one thread: floating-point sums depend on their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from collectors.document import UserError

FORMS = ("linear", "log")
MAX_RESAMPLES = 100_000

# Why a form cannot be fitted to a series, else empty; `u` is what the form is linear in.
_PREPARE = """
CREATE OR REPLACE TABLE transformed AS
SELECT series, form, point, used, y,
    CASE WHEN form = 'linear' THEN x WHEN x > 0 THEN ln(x) END AS u,
    CASE WHEN isfinite(x) AND isfinite(y) THEN greatest(abs(x), abs(y)) <= 1e12 ELSE false END AS sound
FROM observations CROSS JOIN (VALUES ('linear'), ('log')) AS forms(form)
ORDER BY series, form, point;

CREATE OR REPLACE TABLE prepared AS
WITH bounds AS (
    SELECT series, form,
        count(*) FILTER (used) AS n,
        min(point) FILTER (used AND NOT sound) AS unsound,
        min(point) FILTER (used AND u IS NULL) AS unlogged,
        min(u) FILTER (used AND sound) AS low_u, max(u) FILTER (used AND sound) AS high_u,
        min(y) FILTER (used AND sound) AS low_y, max(y) FILTER (used AND sound) AS high_y
    FROM transformed GROUP BY series, form
)
SELECT series, form, n, low_u, low_y,
    CASE
        WHEN n < 3 THEN format('{} {}; a fit needs 3 or more', n, if(n = 1, 'model', 'models'))
        WHEN unsound IS NOT NULL THEN format('{} is not finite or beyond 1e12; leave it out', unsound)
        WHEN unlogged IS NOT NULL THEN format('x of {} is not above 0, where ln x ends; leave it out', unlogged)
        WHEN high_u - low_u <= 1e-12 * greatest(1, abs(low_u), abs(high_u))
            THEN 'x is the same for every model; a fit needs it to vary'
        WHEN high_y - low_y <= 1e-12 * greatest(1, abs(low_y), abs(high_y))
            THEN 'y is the same for every model; a correlation needs it to vary'
        ELSE ''
    END AS refused
FROM bounds ORDER BY series, form;
"""

# A point with leverage h has the residual e / (1 - h) about the line through the other points. Where
# those share one x there is no such line (h = 1): the residual is NULL, and so is the error made of it.
_FIT = """
CREATE OR REPLACE TABLE sample AS
SELECT t.series, t.form, t.point, t.used, p.n, p.low_u, p.low_y, t.u - p.low_u AS u, t.y - p.low_y AS y
FROM transformed t JOIN prepared p USING (series, form)
WHERE p.refused = '' AND t.sound AND t.u IS NOT NULL
ORDER BY ALL;

CREATE OR REPLACE TABLE lines AS
WITH means AS (SELECT series, form, avg(u) AS u, avg(y) AS y FROM sample WHERE used GROUP BY series, form),
sums AS (
    SELECT series, form, any_value(m.u) AS mean_u, any_value(m.y) AS mean_y, any_value(s.n) AS n,
        any_value(s.low_u) AS low_u, any_value(s.low_y) AS low_y,
        sum((s.u - m.u) ** 2) AS suu, sum((s.y - m.y) ** 2) AS syy, sum((s.u - m.u) * (s.y - m.y)) AS suy
    FROM sample s JOIN means m USING (series, form) WHERE s.used GROUP BY series, form
)
SELECT *, suy / suu AS slope, greatest(-1, least(1, suy / sqrt(suu * syy))) AS pearson,
    low_y + mean_y - suy / suu * (low_u + mean_u) AS intercept
FROM sums ORDER BY series, form;

CREATE OR REPLACE TABLE residuals AS
WITH errors AS (
    SELECT series, form, s.point, s.used, s.low_y + s.y AS y,
        s.y - l.mean_y - l.slope * (s.u - l.mean_u) AS residual,
        1 - 1 / l.n - (s.u - l.mean_u) ** 2 / l.suu AS freedom
    FROM sample s JOIN lines l USING (series, form)
)
SELECT series, form, point, used, y - residual AS fitted, residual,
    CASE WHEN used AND freedom > 1e-9 THEN residual / freedom END AS loo_residual
FROM errors ORDER BY series, form, point;
"""

# The i-th model of resample b is hash(hash(hash(seed) ^ b) ^ i) % n. Not hash(seed, b, i): that is an
# exclusive or of three hashes, whose low bits only permute the models, so that of 8 models it draws 8
# different resamples in all. A resample in which x or y does not vary has no correlation: it is left out,
# and `resamples` counts the others.
_SPREAD = """
CREATE OR REPLACE TABLE intervals AS
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY series, form ORDER BY point) - 1 AS i FROM sample WHERE used
),
sizes AS (SELECT DISTINCT n FROM lines),
slots AS (SELECT n, b, unnest(range(n)) AS slot FROM sizes CROSS JOIN range(getvariable('resamples')) AS r(b)),
draws AS (
    SELECT n, b, (hash(xor(state, slot::UBIGINT)) % n::UBIGINT)::BIGINT AS i
    FROM (SELECT *, hash(xor(hash(getvariable('seed')::BIGINT), b::UBIGINT)) AS state FROM slots)
),
drawn AS (
    SELECT series, form, b, min(u) < max(u) AND min(y) < max(y) AS varies, corr(u, y) AS r,
        regr_slope(y, u) AS slope
    FROM draws JOIN numbered USING (n, i) GROUP BY series, form, b
)
SELECT series, form, count(*) AS resamples,
    quantile_cont(greatest(-1, least(1, r)), 0.025) AS pearson_low,
    quantile_cont(greatest(-1, least(1, r)), 0.975) AS pearson_high,
    quantile_cont(slope, 0.025) AS slope_low, quantile_cont(slope, 0.975) AS slope_high
FROM drawn WHERE varies AND isfinite(r) AND isfinite(slope) GROUP BY series, form;

CREATE OR REPLACE TABLE rank_correlations AS
WITH ranks AS (
    SELECT series, form,
        rank() OVER (PARTITION BY series, form ORDER BY u)
            + (count(*) OVER (PARTITION BY series, form, u) - 1) / 2 AS u,
        rank() OVER (PARTITION BY series, form ORDER BY y)
            + (count(*) OVER (PARTITION BY series, form, y) - 1) / 2 AS y
    FROM sample WHERE used
)
SELECT series, form, greatest(-1, least(1, corr(u, y))) AS spearman FROM ranks GROUP BY series, form;

CREATE OR REPLACE TABLE fits AS
WITH errors AS (
    SELECT series, form, sqrt(avg(residual ** 2)) AS rmse,
        CASE WHEN count(loo_residual) = count(*) THEN sqrt(avg(loo_residual ** 2)) END AS loo_rmse
    FROM residuals WHERE used GROUP BY series, form
),
best AS (
    SELECT series, CASE WHEN count(loo_rmse) = 2 THEN arg_min(form, (loo_rmse, form)) ELSE '' END AS best_form
    FROM errors GROUP BY series
)
SELECT p.series, p.form, p.n, p.refused, l.slope, i.slope_low, i.slope_high, l.intercept, l.pearson,
    i.pearson_low, i.pearson_high, coalesce(i.resamples, 0) AS resamples, k.spearman, l.pearson ** 2 AS r2,
    e.rmse, e.loo_rmse, coalesce(best_form, '') AS best_form
FROM prepared p LEFT JOIN lines l USING (series, form) LEFT JOIN intervals i USING (series, form)
    LEFT JOIN rank_correlations k USING (series, form) LEFT JOIN errors e USING (series, form)
    LEFT JOIN best USING (series)
ORDER BY p.series, p.form;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A least-squares line of y on x, or on ln x where `form` is `log`.

    Attributes:
        n: points.
        slope: change of y per unit of x, or of ln x.
        slope_low: lower end of its 95 % percentile bootstrap interval; None without one.
        slope_high: upper end.
        intercept: y where x, or ln x, is 0.
        pearson: correlation of y with x, or with ln x.
        pearson_low: lower end of its interval, from the same resamples.
        pearson_high: upper end.
        resamples: resamples that the intervals rest on; those in which x or y does not vary are left out.
        spearman: correlation of mid-ranks.
        r2: share of the variance of y that the line explains.
        rmse: root of the mean squared residual, in units of y.
        loo_rmse: the same of the leave-one-out residuals; None where one of them does not exist.
        residuals: y minus the line, in the order of the points.
        loo_residuals: y minus the line through the other points; None where they share one x.
    """

    form: str
    n: int
    slope: float
    slope_low: float | None
    slope_high: float | None
    intercept: float
    pearson: float
    pearson_low: float | None
    pearson_high: float | None
    resamples: int
    spearman: float
    r2: float
    rmse: float
    loo_rmse: float | None
    residuals: tuple[float, ...]
    loo_residuals: tuple[float | None, ...]


def connect() -> duckdb.DuckDBPyConnection:
    """Return an in-memory engine on one thread."""
    db = duckdb.connect(":memory:")
    db.execute("SET threads = 1")
    return db


def fit(
    x: Sequence[float], y: Sequence[float], *, form: str = "linear", seed: int = 0, resamples: int = 2000
) -> Fit:
    """Fit y on x.

    Args:
        x: such as bits per character.
        y: such as benchmark scores from 0 to 1; as many as `x`.
        form: one of `FORMS`.
        seed: of the bootstrap.
        resamples: of the bootstrap; 0 leaves the interval out.

    Raises:
        UserError: when there are fewer than three points, x or y does not vary, a value is not finite or
            beyond 1e12, or the form is log and an x is not above 0.
    """
    if form not in FORMS:
        raise UserError(f"form {form!r} is none of {', '.join(FORMS)}: use one of them")
    if len(x) != len(y):
        raise UserError(f"{len(x)} x do not pair with {len(y)} y: give as many of each")
    db = connect()
    given = pa.table(
        {
            "series": pa.array([0] * len(x), pa.int64()),
            "point": pa.array([f"point {i:0{len(str(len(x)))}}" for i in range(len(x))], pa.string()),
            "used": pa.array([True] * len(x), pa.bool_()),
            "x": pa.array(map(float, x), pa.float64()),
            "y": pa.array(map(float, y), pa.float64()),
        }
    )
    db.from_arrow(given).create("observations")
    fit_all(db, seed=seed, resamples=resamples)
    found = db.execute("SELECT * FROM fits WHERE form = ?", [form])
    rows = [
        dict(zip([column[0] for column in found.description], row, strict=True)) for row in found.fetchall()
    ]
    refused = rows[0]["refused"] if rows else "0 models; a fit needs 3 or more"
    if refused:
        raise UserError(refused)
    residuals = db.execute(
        "SELECT residual, loo_residual FROM residuals WHERE form = ? ORDER BY point", [form]
    ).fetchall()
    return Fit(
        **{name: value for name, value in rows[0].items() if name in Fit.__dataclass_fields__},
        residuals=tuple(row[0] for row in residuals),
        loo_residuals=tuple(row[1] for row in residuals),
    )


def check_bootstrap(seed: object, resamples: object) -> None:
    """Raise unless a bootstrap can have this seed and so many resamples.

    Raises:
        UserError: when either is not a whole number from 0 to its bound.
    """
    for name, value, bound in (("seed", seed, 2**63 - 1), ("resamples", resamples, MAX_RESAMPLES)):
        if type(value) is not int or not 0 <= value <= bound:
            raise UserError(
                f"{name} {value!r} is no whole number from 0 to {bound}: correct `fit` in params.yaml"
            )


def fit_all(db: duckdb.DuckDBPyConnection, *, seed: int, resamples: int) -> None:
    """Fit both forms to every series of the table `observations`: series, point, used, x, y.

    Leaves the tables `fits`, one row per series and form, in which `refused` says why there is no fit
    and the rest is then NULL; and `residuals`, one row per series, form and point, in which points that
    are not `used` have a residual about the line of the others.

    Raises:
        UserError: when seed or resamples is not a whole number from 0 to its bound.
    """
    check_bootstrap(seed, resamples)
    db.execute(f"SET VARIABLE seed = {seed}")
    db.execute(f"SET VARIABLE resamples = {resamples}")
    db.execute(_PREPARE + _FIT + _SPREAD)
