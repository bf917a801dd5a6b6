"""How matrix entropy goes with a model's size, with its bits per character and with its benchmark scores.

Against the number of parameters N, two forms are fitted to every figure y: `log`, y = a + b ln N, and
`power`, y = a N^-b, the latter by least squares of ln y on ln N, which needs every y above 0. Both have two
coefficients, and their errors are told in units of y, so that those on models left out of the fit compare
them. Against bits per character, and benchmark scores against a figure, the form is `linear`, y = a + b x.
Families of models that differ in size alone are fitted apart as well as all together.

Wei et al. 2024 (arXiv 2401.17139) report that the entropy falls as a power of size. Coefficients that they
print could not be found, in their repositories as little as elsewhere: nothing here is compared with them.
"""

import duckdb

from evaluate import regression

METRICS = ("matrix_entropy_a", "effective_rank", "diff_erank")

# A figure's protocol is part of its label where a corpus was read under several. A point without x, or
# left out by the rules of the law, stays in the table with its reason. Models that have no family are
# fitted among all models alone. Of several entries of one published model, such as quantisations, the first by
# name stands for all.
_POINTS = """
CREATE TABLE entropies AS
SELECT model, family, corpus, identity, value, ceiling, freshness, stale,
    first_value(model) OVER (
        PARTITION BY corpus, protocol, metric, if(name = '', model, lower(name)), stale = '' ORDER BY model
    ) AS published_first,
    CASE WHEN n_parameters > 0 AND isfinite(n_parameters) THEN n_parameters END AS n_parameters,
    format('{} on {}', metric, CASE WHEN count(DISTINCT protocol) OVER (PARTITION BY corpus) = 1 THEN corpus
        ELSE format('{} ({})', corpus, protocol) END) AS x
FROM measured_scores WHERE metric <> 'bits_per_character' AND isfinite(value);

CREATE TABLE entropy_pairs AS FROM paired('entropies');

CREATE TABLE scaling_points AS
WITH rates AS (SELECT DISTINCT corpus, x FROM measured),
found AS (
    SELECT 'parameters' AS x, e.x AS y, model, n_parameters AS x_value, value AS y_value, ceiling, freshness,
        CASE WHEN stale <> '' THEN stale
            WHEN n_parameters IS NULL THEN 'its number of parameters is not known'
            WHEN published_first <> model THEN format('the same published model as {}', published_first)
            ELSE '' END AS reason
    FROM entropies e
    UNION ALL BY NAME
    SELECT 'bits per character on ' || r.x AS x, e.x AS y, e.model, m.value AS x_value, e.value AS y_value,
        e.ceiling, e.freshness, CASE WHEN e.stale <> '' THEN e.stale
            WHEN m.value IS NULL THEN 'it has no bits per character there under that protocol'
            WHEN published_first <> e.model THEN format('the same published model as {}', published_first)
            ELSE '' END AS reason
    FROM entropies e JOIN rates r USING (corpus)
        LEFT JOIN measured m ON m.model = e.model AND m.x = r.x AND isfinite(m.value)
    UNION ALL BY NAME
    SELECT x, y, model, x_value, y_value, freshness, reason FROM judged('entropy_pairs')
),
families AS (SELECT DISTINCT model, unnest(if(family = '', [''], ['', family])) AS family FROM entropies)
SELECT family, x, y, model, x_value, y_value, ceiling, reason = '' AS used, reason, freshness
FROM found JOIN families USING (model);

CREATE TABLE scaling_series AS
SELECT *, row_number() OVER (ORDER BY family, x, y, form) AS series FROM (
    SELECT family, x, y, unnest(if(x = 'parameters', ['log', 'power'], ['linear'])) AS form,
        min(model) FILTER (used AND y_value <= 0) AS unlogged
    FROM scaling_points GROUP BY family, x, y
);

CREATE OR REPLACE TABLE observations AS
SELECT series, model AS point, used,
    CASE WHEN form = 'linear' THEN x_value WHEN x_value > 0 THEN ln(x_value) END AS x,
    CASE WHEN form <> 'power' THEN y_value WHEN y_value > 0 THEN ln(y_value) END AS y
FROM scaling_points JOIN scaling_series USING (family, x, y) ORDER BY series, model;
"""

# Every series is a straight line in what `observations` holds. A power law is turned back: its misses are
# differences of y, not of ln y. One beyond 1e12 is no prediction, and an a beyond e^300 no number.
_RESULTS = """
CREATE MACRO raised(form, v) AS CASE WHEN form <> 'power' THEN v WHEN v < ln(1e12) THEN exp(v) END;

CREATE TABLE scaling AS
WITH missed AS (
    SELECT series, y_value AS y, y_value - raised(form, fitted) AS residual,
        y_value - raised(form, fitted + residual - loo_residual) AS loo_residual
    FROM (SELECT * EXCLUDE (form) FROM residuals WHERE form = 'linear') r JOIN scaling_series USING (series)
        JOIN scaling_points p USING (family, x, y)
    WHERE p.model = point AND p.used
),
spread AS (SELECT series, avg(y) AS mean FROM missed GROUP BY series),
errors AS (
    SELECT series, 1 - sum(residual ** 2) / sum((y - mean) ** 2) AS r2, sqrt(avg(residual ** 2)) AS rmse,
        CASE WHEN count(loo_residual) = count(*) THEN sqrt(avg(loo_residual ** 2)) END AS loo_rmse
    FROM missed JOIN spread USING (series) GROUP BY series
),
best AS (
    SELECT family, x, y, CASE WHEN count(loo_rmse) = 2 THEN arg_min(form, (loo_rmse, form)) END AS best_form
    FROM errors JOIN scaling_series USING (series) GROUP BY family, x, y
)
SELECT family, x, y, s.form, n,
    CASE WHEN s.form <> 'power' THEN (round(intercept, 9) + 0)::VARCHAR
        WHEN abs(intercept) < 300 THEN format('{:.12g}', exp(intercept)) END AS a,
    if(s.form = 'power', -slope, slope) AS b,
    if(s.form = 'power', -slope_high, slope_low) AS b_low, if(s.form = 'power', -slope_low, slope_high) AS b_high,
    pearson, pearson_low, pearson_high, spearman, e.r2, e.rmse, e.loo_rmse, coalesce(best.best_form, '') AS best_form,
    CASE WHEN s.form <> 'power' OR n < 3 OR refused = '' OR unlogged IS NULL THEN refused
        ELSE format('y of {} is not above 0, where no power law goes', unlogged) END AS refused,
    series
FROM scaling_series s JOIN fits f USING (series) LEFT JOIN errors e USING (series)
    LEFT JOIN best USING (family, x, y)
WHERE f.form = 'linear';
"""


def is_fitted(protocol: str, metric: str) -> bool:
    """Return whether a row of scores.csv is a figure of matrix entropy that is fitted here."""
    return protocol.startswith("entropy/") and metric in METRICS


def run(db: duckdb.DuckDBPyConnection, *, seed: int, resamples: int) -> None:
    """Create `scaling`, one row per family, x, y and form, and `scaling_points`, the models in each.

    `scaling` has n models and y = a + b x, a + b ln x or a x^-b as `form` says, with the 95 % percentile
    bootstrap interval of b over models; `pearson` is of what the form is a line in (ln y with ln x for
    `power`); r2, rmse and loo_rmse, that of each model about the fit to the others, are in units of y; and
    `refused` says why there is no fit. `a` is text, because a power law's has no scale to round it to.
    The family '' is all models together. `ceiling` of a point is the most that its figure can be.

    The tables `observations`, `fits` and `residuals` of `regression` are replaced.

    Args:
        db: an engine with `measured_scores`, `measured`, `targets`, `models` and the macros `paired` and
            `judged` of `fit`.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    db.execute(_POINTS)
    regression.fit_all(db, seed=seed, resamples=resamples)
    db.execute(_RESULTS)
