"""What Huang et al. 2024 print is recomputed, by the SQL and by an independent reading of the tables."""

import csv
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pytest

from collectors.document import UserError
from evaluate import benchmarks, law, regression
from samples import ROOT

BENCHMARKS = ROOT / "evaluate" / "benchmarks.csv"
PUBLISHED = ROOT / "evaluate" / "published_correlations.csv"

AREAS = {
    "knowledge": ["HellaSwag", "ARC-Challenge", "NaturalQuestions", "TriviaQA", "MMLU (cloze)"],
    "coding": ["HumanEval", "MBPP", "DS-1000"],
    "math": ["GSM8K", "MATH", "SAT-Math", "MMLU-Math"],
}
CORPORA = {"knowledge": "Common Crawl", "coding": "GitHub Python", "math": "ArXiv-Math"}
QWEN = ["Qwen-7b", "Qwen-14b", "Qwen-72b"]


@pytest.fixture
def db() -> duckdb.DuckDBPyConnection:
    """An engine with the published points."""
    engine = regression.connect()
    law.load(engine, benchmarks.read(BENCHMARKS), PUBLISHED)
    return engine


def paper() -> dict[str, dict[str, float]]:
    """The paper's tables by benchmark or corpus and model, scores from 0 to 1, read without any SQL."""
    values: dict[str, dict[str, float]] = {}
    with BENCHMARKS.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["study"] == "huang2024" and row["source"].startswith("arXiv"):
                scale = 100 if row["unit"] == "percent" else 1
                values.setdefault(row["benchmark"], {})[row["model"]] = float(row["value"]) / scale
    return values


def mean(tables: list[dict[str, float]]) -> dict[str, float]:
    """The mean over tables of the models that are in all of them."""
    models = set.intersection(*map(set, tables))
    return {model: sum(table[model] for table in tables) / len(tables) for model in models}


def naive(x: dict[str, float], y: dict[str, float], without: list[str]) -> tuple[int, float, float]:
    """Number of models, Pearson correlation and RMSE by numpy."""
    models = sorted(set(x) & set(y) - set(without))
    u: npt.NDArray[np.float64] = np.array([x[m] for m in models])
    v: npt.NDArray[np.float64] = np.array([y[m] for m in models])
    misses = v - np.polyval(np.polyfit(u, v, 1), u)
    return len(models), float(np.corrcoef(u, v)[0, 1]), float(np.sqrt(np.mean(misses**2)))


def sql(db: duckdb.DuckDBPyConnection, x: str, y: str) -> tuple[int, float, float]:
    """The same of the published points, those of contaminated scores left out."""
    found = db.execute(
        "SELECT x_value, y_value FROM published_points WHERE study = 'huang2024' AND x = $x AND y = $y "
        "AND NOT is_contaminated ORDER BY model",
        {"x": x, "y": y},
    ).fetchall()
    fit = regression.fit([a for a, _ in found], [b for _, b in found], resamples=0)
    return fit.n, fit.pearson, fit.rmse


@pytest.mark.parametrize("area", AREAS)
def test_areas_agree_with_an_independent_reading(db: duckdb.DuckDBPyConnection, area: str) -> None:
    """Each benchmark and each average is that of numpy on the file: 19 models, 28 in coding."""
    tables, x = paper(), CORPORA[area]
    without = QWEN if area == "math" else []
    ys = {name: tables[name] for name in AREAS[area]}
    ys[f"{area} average"] = mean([tables[name] for name in AREAS[area]])
    for name, y in ys.items():
        expected = naive(tables[x], y, without)
        assert sql(db, x, name) == pytest.approx(expected, abs=1e-9)
        assert expected[0] == (28 if area == "coding" else 19)


def test_overall_is_the_mean_of_the_areas(db: duckdb.DuckDBPyConnection) -> None:
    """The mean of three area averages gives the printed figure; that of twelve benchmarks does not."""
    tables = paper()
    x = mean([tables[corpus] for corpus in CORPORA.values()])
    by_area = mean([mean([tables[name] for name in names]) for names in AREAS.values()])
    by_benchmark = mean([tables[name] for names in AREAS.values() for name in names])
    expected = naive(x, by_area, [])
    assert sql(db, "mean of the three corpora", "average of the three areas") == pytest.approx(
        expected, abs=1e-9
    )
    assert expected == pytest.approx((19, -0.931, 0.031), abs=5e-4)
    assert naive(x, by_benchmark, []) == pytest.approx((19, -0.942, 0.027), abs=5e-4)


def test_contaminated_models_count_on_common_crawl_only(db: duckdb.DuckDBPyConnection) -> None:
    """The Qwen models are out of math on arXiv and in on Common Crawl, as the paper's figures need it."""
    tables = paper()
    y = mean([tables[name] for name in AREAS["math"]])
    assert sql(db, "Common Crawl", "math average") == pytest.approx(
        naive(tables["Common Crawl"], y, []), abs=1e-9
    )
    assert naive(tables["Common Crawl"], y, QWEN)[1:] == pytest.approx((-0.792, 0.061), abs=1e-3)
    assert naive(tables["ArXiv-Math"], y, [])[1] == pytest.approx(-0.894, abs=1e-3)
    marked = db.execute(
        "SELECT DISTINCT model, area, x FROM published_points WHERE is_contaminated"
    ).fetchall()
    assert sorted(marked) == sorted((model, "math", "ArXiv-Math") for model in QWEN)


def test_studies_share_no_label(db: duckdb.DuckDBPyConnection) -> None:
    """A fit is named by x and y: no pair of labels belongs to two studies or holds a model twice."""
    found = db.execute("SELECT x, y, study, model FROM published_points").fetchall()
    assert len(found) == len({(x, y, model) for x, y, _, model in found})
    assert len({(x, y) for x, y, _, _ in found}) == len({(x, y, study) for x, y, study, _ in found})


def test_averages_need_every_benchmark(tmp_path: Path) -> None:
    """A model without one of an area's benchmarks has no average, and other shots do not stand in for it."""
    rows = [
        row
        for row in benchmarks.read(BENCHMARKS)
        if (row.model, row.benchmark, row.study) != ("Falcon-7b", "TriviaQA", "huang2024")
    ]
    path = tmp_path / "b.csv"
    lacking = benchmarks.BenchmarkScore(
        model="Falcon-7b",
        hf_id="tiiuae/falcon-7b",
        category="general",
        benchmark="TriviaQA",
        shots=64,
        value=52.3,
        unit="percent",
        study="huang2024",
        source="elsewhere",
    )
    benchmarks.add(path, [*rows, lacking])
    engine = regression.connect()
    law.load(engine, benchmarks.read(path), PUBLISHED)
    averaged = engine.execute(
        "SELECT area FROM targets WHERE identity = 'tiiuae/falcon-7b' AND contains(y, 'average')"
    ).fetchall()
    assert sorted(averaged) == [("coding",), ("math",)]
    labels = engine.execute("SELECT DISTINCT y FROM targets WHERE contains(y, 'TriviaQA (64')").fetchall()
    assert labels == [("TriviaQA (64-shot, huang2024)",)]


def test_broken_table_of_published_figures_is_refused(tmp_path: Path) -> None:
    """A missing file, column or number names the file and the remedy."""
    path = tmp_path / "published.csv"
    for text in (None, "kind,benchmark\nmain,x\n", PUBLISHED.read_text().replace("-0.935", "high")):
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError, match=r"published\.csv is no readable table .* restore it from git"):
            law.load(regression.connect(), [], path)
