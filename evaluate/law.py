"""The published law: which models, benchmarks and corpora Huang et al. 2024 correlate, and what they print.

Their rules, from arXiv 2404.09937v2 sections 3.3 and 4.1 and appendix A.3. Knowledge is fitted against
text of Common Crawl, coding against Python of GitHub, math against papers of arXiv; an area's average is
over its benchmarks. Code models count only in coding and math models only in math. The three Qwen models
are left out of math on arXiv, as contaminated, but stay in math on Common Crawl. The overall figure is
the mean of the three area averages: their text says the mean of the twelve benchmarks, which gives -0.942
where they print -0.931, and the mean of the areas gives that.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import duckdb
import pyarrow as pa

from collectors.document import UserError
from evaluate import benchmarks
from evaluate.benchmarks import BenchmarkScore

PUBLISHED_COLUMNS = ("kind", "benchmark", "corpus", "pearson", "rmse", "location", "note", "source")

# The twelve benchmarks and the one of an ablation, with the shots that the paper gives them (its table 3),
# and each area's corpus.
_RULES = """
CREATE TABLE paper_benchmarks AS SELECT * FROM (VALUES
    ('knowledge', 'HellaSwag', 0), ('knowledge', 'ARC-Challenge', 25), ('knowledge', 'NaturalQuestions', 5),
    ('knowledge', 'TriviaQA', 5), ('knowledge', 'MMLU (cloze)', 5),
    ('coding', 'HumanEval', 0), ('coding', 'MBPP', 3), ('coding', 'DS-1000', 0),
    ('math', 'GSM8K', 5), ('math', 'MATH', 4), ('math', 'SAT-Math', 4), ('math', 'MMLU-Math', 5),
    (NULL, 'MMLU (multiple choice)', 5)
) AS t(averaged_in, benchmark, shots);

CREATE TABLE area_corpora AS SELECT * FROM (VALUES
    ('knowledge', 'Common Crawl'), ('coding', 'GitHub Python'), ('math', 'ArXiv-Math'),
    ('overall', 'mean of the three corpora')
) AS t(area, corpus);

CREATE TABLE contaminated AS SELECT unnest(['qwen/qwen-7b', 'qwen/qwen-14b', 'qwen/qwen-72b']) AS identity;
"""

# `targets` is every y: a benchmark in one study, or an average over the paper's study, from 0 to 1.
# A label names the study unless it is the paper's, so that two studies never share one.
_TARGETS = """
CREATE TABLE models AS SELECT identity, max(category) AS category FROM benchmark_scores GROUP BY identity;

CREATE TABLE labelled AS
SELECT s.*, averaged_in, CASE unit WHEN 'percent' THEN value / 100 ELSE value END AS scaled,
    CASE WHEN study = 'huang2024' AND (p.benchmark IS NOT NULL OR unit = 'bits_per_character') THEN s.benchmark
        ELSE title END AS label
FROM benchmark_scores s LEFT JOIN paper_benchmarks p
    ON s.study = 'huang2024' AND s.benchmark = p.benchmark AND s.shots = p.shots
ORDER BY identity, study, s.benchmark, s.shots;

CREATE TABLE area_averages AS
SELECT identity, study, averaged_in AS area, avg(scaled) AS value
FROM labelled WHERE averaged_in IS NOT NULL GROUP BY identity, study, averaged_in
HAVING count(*) = (SELECT count(*) FROM paper_benchmarks p WHERE p.averaged_in = labelled.averaged_in);

CREATE TABLE targets AS
SELECT identity, study, area, label AS y, scaled AS value FROM labelled WHERE unit <> 'bits_per_character'
UNION ALL
SELECT identity, study, area, area || ' average', value FROM area_averages
UNION ALL
SELECT identity, study, 'overall', 'average of the three areas', avg(value)
FROM area_averages GROUP BY identity, study HAVING count(*) = 3;
"""

_PUBLISHED = """
CREATE TABLE published_points AS
WITH corpora AS (
    SELECT identity, model, benchmark AS corpus, label AS x, scaled AS value
    FROM labelled WHERE unit = 'bits_per_character'
    UNION ALL
    SELECT identity, min(model), 'mean of the three corpora', 'mean of the three corpora', avg(scaled)
    FROM labelled JOIN area_corpora c ON c.corpus = benchmark AND study = 'huang2024'
    GROUP BY identity HAVING count(*) = 3
),
pairs AS (
    SELECT DISTINCT area, y, study, x, corpora.corpus
    FROM targets JOIN area_corpora USING (area) JOIN corpora USING (corpus)
    UNION
    SELECT DISTINCT area, y, study, corpus, corpus
    FROM targets JOIN published ON published.benchmark = y AND study = 'huang2024'
)
SELECT 'published' AS dataset, study, area, x, y, model, corpora.value AS x_value, targets.value AS y_value,
    identity, area = 'math' AND corpus = 'ArXiv-Math' AND identity IN (FROM contaminated) AS is_contaminated
FROM pairs JOIN targets USING (area, y, study) JOIN corpora USING (x, corpus, identity);
"""

_REPRODUCE = """
CREATE TABLE law AS
SELECT kind, benchmark, corpus, p.pearson AS published_pearson, f.pearson AS pearson, p.rmse AS published_rmse,
    f.rmse AS rmse, f.pearson - p.pearson AS difference, f.n AS n, location,
    CASE WHEN f.pearson IS NULL AND note = '' THEN 'not recomputed: its scores are missing' ELSE note END AS note,
    position
FROM published p LEFT JOIN fitted f
    ON f.y = benchmark AND f.x = corpus AND f.study = 'huang2024' AND f.dataset = 'published' AND f.form = 'linear'
    AND p.pearson IS NOT NULL;
"""


def load(db: duckdb.DuckDBPyConnection, rows: Sequence[BenchmarkScore], published: Path) -> None:
    """Create `targets`, every y of every model, and `published_points`, their pairs with published x.

    Args:
        db: an empty engine.
        rows: of benchmarks.csv.
        published: table of the correlations that the paper prints, with `PUBLISHED_COLUMNS`.

    Raises:
        UserError: when `published` cannot be read, or a model has two hub ids.
    """
    identity = benchmarks.identities(rows)
    scores = [
        {
            **asdict(row),
            "identity": identity[row.model.casefold()],
            "area": benchmarks.area(row.benchmark),
            "title": row.title,
        }
        for row in rows
    ]
    names = (
        "model",
        "hf_id",
        "category",
        "benchmark",
        "unit",
        "study",
        "source",
        "identity",
        "area",
        "title",
    )
    fields = [(name, pa.string()) for name in names] + [("shots", pa.int64()), ("value", pa.float64())]
    db.from_arrow(pa.Table.from_pylist(scores, schema=pa.schema(fields))).create("benchmark_scores")
    _load_published(db, published)
    db.execute(_RULES + _TARGETS + _PUBLISHED)


def reproduce(db: duckdb.DuckDBPyConnection) -> None:
    """Create `law`, each figure that the paper prints beside ours, in the paper's order.

    Figures that need data the paper does not print stay, with NULL for ours and the reason in `note`.

    Args:
        db: an engine after `load`, with the table `fitted` of fits by dataset, study, x, y and form.
    """
    db.execute(_REPRODUCE)


def _load_published(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        values = [
            {name: row[name] for name in PUBLISHED_COLUMNS}
            | {name: _figure(row[name]) for name in ("pearson", "rmse")}
            | {"position": position}
            for position, row in enumerate(rows)
        ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        raise UserError(
            f"{path.name} is no readable table of {', '.join(PUBLISHED_COLUMNS)} ({error!r}): restore it from git"
        ) from error
    fields = [
        (name, pa.float64() if name in {"pearson", "rmse"} else pa.string()) for name in PUBLISHED_COLUMNS
    ]
    schema = pa.schema([*fields, ("position", pa.int64())])
    db.from_arrow(pa.Table.from_pylist(values, schema=schema)).create("published")


def _figure(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not -1 <= value <= 1:  # scores lie between 0 and 1, and so do their errors
        raise ValueError(f"{text} is not from -1 to 1")
    return value
