"""The fit stage: what was measured here and what is published, against benchmarks; tables for the report.

Of models measured here, every benchmark and every average that `law` knows is fitted against every
corpus and protocol. The law's rules on which model counts where hold for them too, and a model whose
math scores are contaminated is left out of math on every corpus. So is a model on a corpus that does not
postdate its training cutoff; one whose cutoff is unknown stays, and its points say so. Matrix entropies are
fitted in `scaling`, by the same rules.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from collectors.document import UserError, replacing
from evaluate import benchmarks, law, regression, scaling

MEASURED_COLUMNS = (
    *("model", "name", "backend", "family", "corpus", "protocol", "metric"),
    *("value", "ceiling", "n_parameters", "cutoff", "cutoff_evidence", "freshness"),
)
_NUMBERS = ("value", "ceiling", "n_parameters")

# A protocol is part of a corpus's label where models were scored under several; `sink` is `full`, read
# faster, and scores.csv says how close it is. Two entries of one published model have the same benchmark
# scores: the first by name of those that may count stands for both. What is published here has no freshness:
# the law's own corpora are those of its paper.
_RULES = """
CREATE TABLE measured AS
SELECT m.*, CASE WHEN count(DISTINCT cut) OVER (PARTITION BY corpus) = 1 THEN corpus
    ELSE format('{} ({})', corpus, cut) END AS x
FROM (SELECT *, regexp_replace(protocol, '^sink/', 'full/') AS cut FROM measured_scores
    WHERE backend <> 'compressors' AND metric = 'bits_per_character') m;

CREATE MACRO paired(scores) AS TABLE
SELECT 'measured' AS dataset, study, area, x, y, model, s.value AS x_value, t.value AS y_value, identity,
    area = 'math' AND identity IN (FROM contaminated) AS is_contaminated, freshness, stale
FROM query_table(scores) s JOIN targets t USING (identity) WHERE isfinite(s.value);

CREATE MACRO judged(pairs) AS TABLE
SELECT p.* EXCLUDE (is_contaminated, identity, stale), CASE
    WHEN stale <> '' THEN stale
    WHEN is_contaminated THEN 'its math scores are contaminated (arXiv 2404.09937v2, section 4.1)'
    WHEN category = 'code' AND area <> 'coding' THEN 'a code model: the law counts it in coding only'
    WHEN category = 'math' AND area <> 'math' THEN 'a math model: the law counts it in math only'
    WHEN first_value(model) OVER same <> model
        THEN format('the same published model as {}', first_value(model) OVER same)
    ELSE '' END AS reason
FROM query_table(pairs) p JOIN models USING (identity)
WINDOW same AS (PARTITION BY dataset, study, x, y, identity, coalesce(stale, '') = '' ORDER BY model);
"""

_POINTS = """
CREATE TABLE pairs AS
SELECT *, '' AS freshness, '' AS stale FROM published_points UNION ALL BY NAME FROM paired('measured');

CREATE TABLE points AS
SELECT *, reason = '' AS used, dense_rank() OVER (ORDER BY dataset, study, area, x, y) AS series
FROM judged('pairs') ORDER BY series, model;

CREATE TABLE observations AS
SELECT series, model AS point, used, x_value AS x, y_value AS y FROM points ORDER BY series, model;
"""

# A series that no form fits becomes one row without a form.
_RESULTS = """
CREATE TABLE fitted AS
WITH series AS (SELECT DISTINCT series, dataset, study, area, x, y FROM points),
refusals AS (SELECT series, count(*) = 2 AS everywhere FROM fits WHERE refused <> '' GROUP BY series)
SELECT dataset, study, area, x, y, if(coalesce(everywhere, false), '', form) AS form, n, slope,
    intercept, pearson, pearson_low, pearson_high, spearman, r2, rmse, loo_rmse, best_form, refused, resamples,
    series
FROM fits JOIN series USING (series) LEFT JOIN refusals USING (series)
WHERE NOT coalesce(everywhere, false) OR form = 'linear'
ORDER BY dataset DESC, study, area, x, y, form;

CREATE TABLE fitted_points AS
SELECT area, dataset, study, x, y, model, x_value, y_value, fitted, residual, loo_residual, p.used, reason,
    freshness
FROM points p LEFT JOIN residuals r ON r.series = p.series AND point = model AND form = 'linear';

CREATE TABLE unmatched AS
WITH fitted_models AS (
    SELECT DISTINCT model FROM points JOIN fitted USING (series)
    WHERE points.dataset = 'measured' AND used AND refused = ''
),
obstacles AS (
    SELECT model, string_agg(DISTINCT coalesce(nullif(reason, ''), refused), '; ' ORDER BY
        coalesce(nullif(reason, ''), refused)) AS why
    FROM points JOIN fitted USING (series) WHERE points.dataset = 'measured' GROUP BY model
)
SELECT DISTINCT model, CASE
    WHEN name = '' THEN 'it has no published name in params.yaml to look up benchmark scores by'
    WHEN identity IS NULL OR identity NOT IN (SELECT identity FROM targets)
        THEN format('there is no benchmark score under the name {}', name)
    ELSE coalesce('none of its benchmarks is fitted: ' || why, 'no score of it is finite')
    END AS reason
FROM measured LEFT JOIN obstacles USING (model) WHERE model NOT IN (FROM fitted_models)
UNION
SELECT model, format('its bits per character on {} are not finite', x) FROM measured WHERE NOT isfinite(value);
"""

_FITS = """
SELECT * EXCLUDE (series) FROM fitted ORDER BY dataset DESC, study, area, x, y, form
"""
_POINTS_CSV = """
SELECT * EXCLUDE (area) FROM fitted_points ORDER BY dataset DESC, study, area, x, y, model
"""

# The paper's four lines, each on the corpus of its own area.
_MAIN_FITS = """
SELECT CASE fitted.area WHEN 'overall' THEN 'overall' ELSE y END, pearson, rmse
FROM fitted JOIN area_corpora ON area_corpora.area = fitted.area AND corpus = x
WHERE dataset = 'published' AND study = 'huang2024' AND form = 'linear' AND contains(y, 'average')
"""


def run(
    scores_csv: Path,
    benchmarks_csv: Path,
    published_csv: Path,
    out: Path,
    seed: int = 0,
    resamples: int = 2000,
    stale: bool = False,
) -> None:
    """Fit everything and write one table of each kind, and metrics.json.

    Fits of bits per character go to fits.csv, points.csv, law.csv and unmatched.csv, those of matrix entropy
    to scaling.csv and scaling_points.csv.

    Scores are on the scale from 0 to 1, floats are rounded to nine decimals, and the bytes depend on the
    arguments alone. What `fitted` and the residuals of points.csv refer to is the linear form.

    Args:
        scores_csv: scores measured here, with `MEASURED_COLUMNS` among its columns.
        benchmarks_csv: published scores, as `benchmarks.read` reads them.
        published_csv: correlations that the paper prints, as `law.load` reads them.
        out: folder to write to.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        stale: lets scores on corpora that do not postdate a model's cutoff count like all others.

    Raises:
        UserError: when an input cannot be read, or seed or resamples is out of bounds.
    """
    rows = benchmarks.read(benchmarks_csv)
    measured = _read_measured(scores_csv, benchmarks.identities(rows))
    db = regression.connect()
    law.load(db, rows, published_csv)
    _load_measured(db, measured, stale=stale)
    db.execute(_RULES + _POINTS)
    regression.fit_all(db, seed=seed, resamples=resamples)
    db.execute(_RESULTS)
    law.reproduce(db)
    scaling.run(db, seed=seed, resamples=resamples)
    _write(out / "fits.csv", db.execute(_FITS))
    _write(out / "points.csv", db.execute(_POINTS_CSV))
    _write(out / "law.csv", db.execute("SELECT * EXCLUDE (position) FROM law ORDER BY position"))
    _write(out / "unmatched.csv", db.execute("FROM unmatched ORDER BY ALL"))
    _write(out / "scaling.csv", db.execute("SELECT * EXCLUDE (series) FROM scaling ORDER BY series"))
    _write(out / "scaling_points.csv", db.execute("FROM scaling_points ORDER BY family, x, y, model"))
    with replacing(out / "metrics.json") as temporary:
        metrics = {**_summary(db), "bits_per_character": _rates(measured)}
        temporary.write_text(json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False) + "\n")


def _read_measured(path: Path, identity: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows in bits per character or of matrix entropy, each with its model as benchmarks know it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names, lines = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, str(error)) from error
    missing = [name for name in MEASURED_COLUMNS if name not in names]
    if missing:
        raise _broken(path, f"it has no column {missing[0]!r}")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, line in enumerate(lines, 2):
        if None in line.values():
            raise _broken(path, f"line {number} ends too early")
        if line["metric"] != "bits_per_character" and not scaling.is_fitted(line["protocol"], line["metric"]):
            continue
        key = line["model"], line["corpus"], line["protocol"], line["metric"]
        if key in rows:
            raise _broken(path, f"line {number} repeats the score of {' '.join(key)}")
        numbers = {name: _number(path, number, name, line[name]) for name in _NUMBERS}
        rows[key] = {**line, **numbers, "identity": identity.get(line["name"].casefold())}
    return list(rows.values())


def _number(path: Path, line: int, name: str, text: str) -> float | None:
    if not text and name != "value":
        return None
    try:
        return float(text)
    except ValueError:
        raise _broken(path, f"{name} {text[:40]!r} of line {line} is no number") from None


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path.name} cannot be read: {why}; rebuild it with `dvc repro`")


def _load_measured(
    db: duckdb.DuckDBPyConnection, measured: Sequence[Mapping[str, Any]], *, stale: bool
) -> None:
    """Create `measured_scores`; its column `stale` says why a score may not count, and is empty for all others."""
    names = (*MEASURED_COLUMNS, "identity", "stale")
    schema = pa.schema([(name, pa.float64() if name in _NUMBERS else pa.string()) for name in names])
    rows = [{**row, "stale": "" if stale else _stale(row)} for row in measured]
    db.from_arrow(pa.Table.from_pylist(rows, schema=schema)).create("measured_scores")


def _stale(row: Mapping[str, Any]) -> str:
    if row["freshness"] != "not-after":
        return ""
    if row["cutoff_evidence"] == "release":
        return f"{row['corpus']} is not shown to postdate its training text: it was released {row['cutoff']}"
    return f"{row['corpus']} does not postdate its training cutoff, {row['cutoff']}"


def _summary(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return how well the published law is reproduced, and how many models are in no fit."""
    recomputed = db.execute(
        "SELECT difference, coalesce(rmse - published_rmse, 0) FROM law WHERE pearson IS NOT NULL"
    ).fetchall()
    figures = {
        f"{y.split()[0]}_{name}": value
        for y, *values in db.execute(_MAIN_FITS).fetchall()
        for name, value in zip(("pearson", "rmse"), map(_rounded, values), strict=True)
    }
    differences = [abs(value) for row in recomputed for value in row]
    largest = {"largest_difference": _rounded(max(differences))} if differences else {}
    (unmatched,) = db.execute("SELECT count(DISTINCT model) FROM unmatched").fetchone() or (0,)
    return {"law": {**largest, "n_recomputed": len(recomputed), **figures}, "n_unmatched": unmatched}


def _rates(measured: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return bits per character by model and corpus, and by protocol too where there are several."""
    rates: dict[str, dict[str, Any]] = {}
    for row in measured:
        if row["metric"] == "bits_per_character" and math.isfinite(row["value"]):
            by_corpus = rates.setdefault(row["model"], {})
            by_corpus.setdefault(row["corpus"], {})[row["protocol"]] = _rounded(row["value"])
    for by_corpus in rates.values():
        for corpus, by_protocol in by_corpus.items():
            if len(by_protocol) == 1:
                by_corpus[corpus] = next(iter(by_protocol.values()))
    return rates


def _write(path: Path, table: duckdb.DuckDBPyConnection) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column[0] for column in table.description)
        writer.writerows(map(_cell, row) for row in table.fetchall())


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float) -> float:
    """Return the value at nine decimals: rounding noise becomes 0, and -0 becomes 0."""
    return round(value, 9) + 0.0
