"""The fit stage: the published law comes out, planted measurements are recovered, nothing is dropped in silence."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from collectors.document import UserError
from evaluate import benchmarks, fit
from samples import ROOT

BENCHMARKS = ROOT / "evaluate" / "benchmarks.csv"
PUBLISHED = ROOT / "evaluate" / "published_correlations.csv"
TABLES = ("fits.csv", "points.csv", "law.csv", "unmatched.csv", "scaling.csv", "scaling_points.csv")
OUTPUTS = (*TABLES, "metrics.json")

RECOMPUTED = {
    ("average of the three areas", "mean of the three corpora"),
    ("knowledge average", "Common Crawl"),
    ("HellaSwag", "Common Crawl"),
    ("ARC-Challenge", "Common Crawl"),
    ("NaturalQuestions", "Common Crawl"),
    ("TriviaQA", "Common Crawl"),
    ("MMLU (cloze)", "Common Crawl"),
    ("coding average", "GitHub Python"),
    ("HumanEval", "GitHub Python"),
    ("MBPP", "GitHub Python"),
    ("DS-1000", "GitHub Python"),
    ("math average", "ArXiv-Math"),
    ("GSM8K", "ArXiv-Math"),
    ("MATH", "ArXiv-Math"),
    ("SAT-Math", "ArXiv-Math"),
    ("MMLU-Math", "ArXiv-Math"),
    ("math average", "Common Crawl"),
    ("knowledge average", "GitHub Python"),
    ("MMLU (multiple choice)", "Common Crawl"),
}

# Slug, published name, and bits per character of five models on one corpus.
PLANTED = [
    ("a", "Org/A", 0.9),
    ("b", "org/b", 0.8),
    ("c", "Model C", 0.75),
    ("d", "org/d", 0.6),
    ("e", "org/e", 0.5),
]


def scored(
    model: str,
    name: str,
    value: float | str,
    *,
    corpus: str = "arxiv",
    protocol: str = "full/1900/512",
    backend: str = "transformers",
    metric: str = "bits_per_character",
    family: str = "",
    ceiling: float | str = "",
    n_parameters: float | str = "",
    freshness: str = "after",
    evidence: str = "declared",
) -> dict[str, str]:
    """A line of scores.csv."""
    return {
        "model": model,
        "name": name,
        "backend": backend,
        "revision": "0" * 40,
        "corpus": corpus,
        "corpus_sha256": "1" * 64,
        "protocol": protocol,
        "metric": metric,
        "value": str(value),
        "family": family,
        "ceiling": str(ceiling),
        "n_parameters": str(n_parameters),
        "cutoff": "2024-06",
        "cutoff_evidence": evidence,
        "freshness": freshness,
    }


def planted_benchmarks(path: Path, *, benchmark: str = "PIQA", study: str = "planted") -> Path:
    """Scores of the planted models on the line 1.2 - 0.8 x, some in percent."""
    benchmarks.add(
        path,
        [
            benchmarks.BenchmarkScore(
                model="Model C" if slug == "c" else f"name of {slug}",
                hf_id=f"org/{slug}",
                category="",
                benchmark=benchmark,
                shots=0,
                value=round((1.2 - 0.8 * x) * (100 if slug < "c" else 1), 9),
                unit="percent" if slug < "c" else "fraction",
                study=study,
                source="planted",
            )
            for slug, _, x in PLANTED
        ],
    )
    return path


def run(
    folder: Path,
    scores: Iterable[dict[str, str]],
    table: Path = BENCHMARKS,
    seed: int = 0,
    *,
    stale: bool = False,
) -> Path:
    """Run the stage on these lines of scores.csv; return the folder of its outputs."""
    path = folder / "scores.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(scored("", "", "")), lineterminator="\n")
        writer.writeheader()
        writer.writerows(scores)
    fit.run(path, table, PUBLISHED, folder / "out", seed=seed, resamples=100, stale=stale)
    return folder / "out"


def rows(path: Path, **where: str) -> list[dict[str, str]]:
    """The lines of an output that hold these values."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in where.items())]


def measured(
    *, table: Iterable[tuple[str, str, float]] = PLANTED, corpus: str = "arxiv"
) -> list[dict[str, str]]:
    """Lines of scores.csv for planted models."""
    return [scored(slug, name, value, corpus=corpus) for slug, name, value in table]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs without any model measured here."""
    return run(tmp_path_factory.mktemp("published"), [])


def test_published_table_is_reproduced(published: Path) -> None:
    """Exactly these 19 figures are recomputed, each to 0.005; the others say what data they need."""
    law = rows(published / "law.csv")
    done = [row for row in law if row["pearson"]]
    assert {(row["benchmark"], row["corpus"]) for row in done} == RECOMPUTED
    assert len(done) == 19
    for row in done:
        assert float(row["difference"]) == pytest.approx(
            float(row["pearson"]) - float(row["published_pearson"]), abs=1e-8
        )
        assert abs(float(row["difference"])) <= 0.005
        assert abs(float(row["rmse"]) - float(row["published_rmse"])) <= 0.005
    left = [row for row in law if not row["pearson"]]
    assert all(row["note"].startswith("needs data the paper does not print: ") for row in left)
    assert {row["benchmark"] for row in left if row["published_pearson"]} == {"PAL-GSM8K", "MMLU (cloze)"}
    assert len(law) == 25


def test_metrics_summarise_the_law(published: Path) -> None:
    """What `dvc metrics show` prints: the four main lines, how many figures, and the largest difference."""
    metrics = json.loads((published / "metrics.json").read_text())
    law = metrics["law"]
    assert law["n_recomputed"] == 19
    assert 0 < law["largest_difference"] <= 0.005
    printed = {"overall": -0.931, "knowledge": -0.935, "coding": -0.937, "math": -0.953}
    assert {name: law[f"{name}_pearson"] for name in printed} == pytest.approx(printed, abs=1e-3)
    errors = {"overall": 0.031, "knowledge": 0.019, "coding": 0.040, "math": 0.031}
    assert {name: law[f"{name}_rmse"] for name in errors} == pytest.approx(errors, abs=1e-3)
    assert (metrics["n_unmatched"], metrics["bits_per_character"]) == (0, {})


def test_contaminated_models_are_shown_and_not_used(published: Path) -> None:
    """The Qwen points stay in points.csv with the reason; the fits count 19 of 22 models."""
    points = rows(published / "points.csv", x="ArXiv-Math", y="math average")
    unused = [row for row in points if row["used"] == "false"]
    assert (len(points), sorted(row["model"] for row in unused)) == (22, ["Qwen-14b", "Qwen-72b", "Qwen-7b"])
    assert all("contaminated" in row["reason"] and not row["loo_residual"] for row in unused)
    (line,) = rows(published / "fits.csv", x="ArXiv-Math", y="math average", form="linear")
    assert line["n"] == "19"
    for row in points:
        fitted = float(line["intercept"]) + float(line["slope"]) * float(row["x_value"])
        assert float(row["fitted"]) == pytest.approx(fitted, abs=1e-8)
        assert float(row["residual"]) == pytest.approx(float(row["y_value"]) - fitted, abs=1e-8)


def test_studies_are_fitted_apart(published: Path) -> None:
    """10-shot HellaSwag of the leaderboard has a line of its own, and two models of another study have none."""
    lines = {row["study"]: row for row in rows(published / "fits.csv") if row["y"].startswith("HellaSwag")}
    assert {study: row["n"] for study, row in lines.items()} == {
        "huang2024": "19",
        "open-llm-leaderboard": "26",
        "ruan2024": "2",
    }
    assert lines["ruan2024"]["refused"] == "2 models; a fit needs 3 or more"


def test_planted_measurements_are_recovered(tmp_path: Path) -> None:
    """Five models on a line give its coefficients, matched by name or hub id in any case, percent or not."""
    out = run(tmp_path, measured(), planted_benchmarks(tmp_path / "b.csv"))
    (line,) = rows(out / "fits.csv", dataset="measured", form="linear")
    assert (line["x"], line["y"], line["area"]) == ("arxiv", "PIQA (0-shot, planted)", "knowledge")
    found = {name: float(line[name]) for name in ("slope", "intercept", "pearson", "rmse", "loo_rmse")}
    assert found == {"slope": -0.8, "intercept": 1.2, "pearson": -1, "rmse": 0, "loo_rmse": 0}
    assert (line["n"], line["best_form"], line["refused"]) == ("5", "linear", "")
    points = rows(out / "points.csv", dataset="measured")
    assert {row["model"]: float(row["x_value"]) for row in points} == {slug: x for slug, _, x in PLANTED}
    assert all(0 <= float(row["y_value"]) <= 1 for row in points)
    assert rows(out / "unmatched.csv") == []


def test_outputs_depend_on_their_inputs_alone(tmp_path: Path) -> None:
    """Two runs, the second on reversed lines, write the same bytes and leave no temporary file."""
    lines = [*measured(), scored("xz", "", 2.5, backend="compressors", protocol="stream")]
    contents = []
    for name, given in (("one", lines), ("two", lines[::-1])):
        (tmp_path / name).mkdir()
        out = run(tmp_path / name, given, planted_benchmarks(tmp_path / "b.csv"))
        assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)
        contents.append([(out / output).read_bytes() for output in OUTPUTS])
    assert contents[0] == contents[1]
    assert all(str(tmp_path).encode() not in content for content in contents[0])


def test_seed_moves_intervals_alone(tmp_path: Path) -> None:
    """Another seed changes bounds of intervals and nothing else."""
    one, other = (rows(run(tmp_path, [], seed=seed) / "fits.csv", form="linear") for seed in (1, 2))
    changed = {key for a, b in zip(one, other, strict=True) for key in a if a[key] != b[key]}
    assert changed == {"pearson_low", "pearson_high"}


def test_unmatched_models_are_reported(tmp_path: Path) -> None:
    """A model without a name, without scores, or with too few companions says so; a compressor needs none."""
    lines = [
        scored("nameless", "", 0.8),
        scored("unknown", "org/unknown", 0.8),
        scored("smol", "HuggingFaceTB/SmolLM2-135M-Instruct", 0.9),
        scored("xz", "", 2.5, backend="compressors", protocol="stream"),
    ]
    out = run(tmp_path, lines)
    reasons = {row["model"]: row["reason"] for row in rows(out / "unmatched.csv")}
    assert reasons == {
        "nameless": "it has no published name in params.yaml to look up benchmark scores by",
        "unknown": "there is no benchmark score under the name org/unknown",
        "smol": "none of its benchmarks is fitted: 1 model; a fit needs 3 or more",
    }
    refused = rows(out / "fits.csv", dataset="measured")
    assert {row["form"] for row in refused} == {""}
    assert {row["refused"] for row in refused} == {"1 model; a fit needs 3 or more"}
    assert all(row["slope"] == row["pearson"] == row["best_form"] == "" for row in refused)
    assert json.loads((out / "metrics.json").read_text())["n_unmatched"] == 3


def test_scores_that_are_not_finite_are_left_out_and_reported(tmp_path: Path) -> None:
    """An infinite score enters neither a fit nor the metrics, and the others are fitted as without it."""
    lines = [
        *measured(),
        scored("e", "org/e", "inf", corpus="news"),
        scored("a", "org/a", "nan", corpus="news"),
    ]
    out = run(tmp_path, lines, planted_benchmarks(tmp_path / "b.csv"))
    assert {row["x"] for row in rows(out / "fits.csv", dataset="measured")} == {"arxiv"}
    assert rows(out / "unmatched.csv") == [
        {"model": model, "reason": "its bits per character on news are not finite"} for model in ("a", "e")
    ]
    assert "news" not in json.loads((out / "metrics.json").read_text())["bits_per_character"]["e"]
    assert not any("nan" in (out / name).read_text().lower().split(",") for name in OUTPUTS)


def test_protocols_are_fitted_apart(tmp_path: Path) -> None:
    """Where a corpus was scored under two protocols, each has its fits and its rate in the metrics."""
    lines = [*measured(), *(scored(s, n, 2 * x, protocol="first/1900/512") for s, n, x in PLANTED)]
    out = run(tmp_path, lines, planted_benchmarks(tmp_path / "b.csv"))
    slopes = {
        row["x"]: float(row["slope"]) for row in rows(out / "fits.csv", dataset="measured", form="linear")
    }
    assert slopes == {"arxiv (full/1900/512)": -0.8, "arxiv (first/1900/512)": -0.4}
    rates = json.loads((out / "metrics.json").read_text())["bits_per_character"]
    assert rates["e"] == {"arxiv": {"full/1900/512": 0.5, "first/1900/512": 1.0}}


def test_one_published_model_counts_once(tmp_path: Path) -> None:
    """A second entry of the same published model is shown and not used: its benchmark score is no new one."""
    lines = [*measured(), scored("a-quantised", "org/a", 1.1)]
    out = run(tmp_path, lines, planted_benchmarks(tmp_path / "b.csv"))
    (twin,) = rows(out / "points.csv", model="a-quantised")
    assert (twin["used"], twin["reason"]) == ("false", "the same published model as a")
    (line,) = rows(out / "fits.csv", dataset="measured", form="linear")
    assert (line["n"], float(line["slope"])) == ("5", -0.8)


def test_a_corpus_that_the_model_may_have_seen_is_shown_and_not_used(tmp_path: Path) -> None:
    """A cell that does not postdate the cutoff leaves the fit, with what is known as its reason."""
    seen = [
        scored("z", "org/a", 0.1, freshness="not-after"),
        scored("y", "org/b", 0.1, freshness="not-after", evidence="release"),
    ]
    table = planted_benchmarks(tmp_path / "b.csv")
    out = run(tmp_path, [*measured(), *seen], table)
    (line,) = rows(out / "fits.csv", dataset="measured", form="linear")
    assert (line["n"], float(line["slope"])) == ("5", -0.8)
    found = {row["model"]: row for row in rows(out / "points.csv", dataset="measured")}
    assert {found[model]["used"] for model in "zy"} == {"false"}
    assert found["z"]["reason"] == "arxiv does not postdate its training cutoff, 2024-06"
    assert found["y"]["reason"] == (
        "arxiv is not shown to postdate its training text: it was released 2024-06"
    )
    assert (found["z"]["freshness"], found["a"]["freshness"]) == ("not-after", "after")


def test_a_seen_corpus_keeps_no_other_entry_of_its_model_out(tmp_path: Path) -> None:
    """Where the first entry of a published model by name may have seen the corpus, the next one stands for both."""
    lines = [scored(*planted, freshness="not-after" if planted[0] == "a" else "after") for planted in PLANTED]
    out = run(tmp_path, [*lines, scored("b2", "org/a", 0.9)], planted_benchmarks(tmp_path / "b.csv"))
    reasons = {row["model"]: row["reason"] for row in rows(out / "points.csv", dataset="measured")}
    assert reasons == {
        "a": "arxiv does not postdate its training cutoff, 2024-06",
        **dict.fromkeys(("b", "b2", "c", "d", "e"), ""),
    }
    (line,) = rows(out / "fits.csv", dataset="measured", form="linear")
    assert (line["n"], float(line["slope"])) == ("5", -0.8)


def test_an_unknown_cutoff_is_kept_and_marked(tmp_path: Path, published: Path) -> None:
    """Nobody says that the model has seen the corpus: its point counts, and tells."""
    lines = [scored(*planted, freshness="unknown") for planted in PLANTED]
    out = run(tmp_path, lines, planted_benchmarks(tmp_path / "b.csv"))
    found = rows(out / "points.csv", dataset="measured")
    assert {(row["used"], row["freshness"]) for row in found} == {("true", "unknown")}
    assert {row["freshness"] for row in rows(published / "points.csv")} == {""}


def test_what_may_have_been_seen_counts_on_request(tmp_path: Path) -> None:
    """With `stale` the fits are those of the same scores on a corpus behind the cutoff, and the points still tell."""
    table = planted_benchmarks(tmp_path / "b.csv")
    outs = []
    for name, freshness in (("seen", "not-after"), ("fresh", "after")):
        (tmp_path / name).mkdir()
        lines = [scored(*planted, freshness=freshness) for planted in PLANTED]
        outs.append(run(tmp_path / name, lines, table, stale=True))
    fits = [rows(out / "fits.csv", dataset="measured") for out in outs]
    assert fits[0] == fits[1] != []
    assert {row["freshness"] for row in rows(outs[0] / "points.csv", dataset="measured")} == {"not-after"}


def test_a_model_that_may_have_seen_everything_is_in_no_fit(tmp_path: Path) -> None:
    """It is reported with the reason, and too few others refuse the fit."""
    lines = [scored(*planted, freshness="not-after") for planted in PLANTED[:3]]
    lines += [scored(*planted) for planted in PLANTED[3:]]
    out = run(tmp_path, lines, planted_benchmarks(tmp_path / "b.csv"))
    assert [row["refused"] for row in rows(out / "fits.csv", dataset="measured")] == [
        "2 models; a fit needs 3 or more"
    ]
    reasons = {row["model"]: row["reason"] for row in rows(out / "unmatched.csv")}
    assert reasons["a"] == (
        "none of its benchmarks is fitted: arxiv does not postdate its training cutoff, 2024-06"
    )
    assert json.loads((out / "metrics.json").read_text())["bits_per_character"]["a"] == {"arxiv": 0.9}


def test_rules_of_the_law_hold_for_measured_models(tmp_path: Path) -> None:
    """A code model counts in coding alone, and contaminated math scores on no corpus."""
    names = ["Codellama-7b", "Qwen-7b", "Llama-2-7b", "Falcon-7b", "Mistral-7b", "Yi-6b"]
    lines = [scored(name.lower(), name, 0.5 + 0.1 * i, corpus="news") for i, name in enumerate(names)]
    out = run(tmp_path, lines)
    counted = {
        row["y"]: int(row["n"])
        for row in rows(out / "fits.csv", dataset="measured", study="huang2024", form="linear")
    }
    averages = ("coding average", "knowledge average", "math average", "average of the three areas")
    assert [counted[name] for name in averages] == [6, 5, 4, 5]
    (qwen,) = rows(out / "points.csv", dataset="measured", y="GSM8K", model="qwen-7b")
    assert (qwen["used"], "contaminated" in qwen["reason"]) == ("false", True)


def test_measured_figures_agree_with_numpy(tmp_path: Path) -> None:
    """On a measured corpus, the fit of the paper's knowledge average is that of numpy."""
    with BENCHMARKS.open(newline="") as file:
        paper = [row for row in csv.DictReader(file) if row["study"] == "huang2024"]
    bpc = {row["model"]: float(row["value"]) for row in paper if row["benchmark"] == "Common Crawl"}
    knowledge = {"HellaSwag", "ARC-Challenge", "NaturalQuestions", "TriviaQA", "MMLU (cloze)"}
    y = {
        m: [float(r["value"]) / 100 for r in paper if (r["model"], r["benchmark"] in knowledge) == (m, True)]
        for m in bpc
    }
    models = [model for model in sorted(bpc) if y[model]]
    out = run(tmp_path, [scored(f"m{i}", model, bpc[model]) for i, model in enumerate(models)])
    (line,) = rows(out / "fits.csv", dataset="measured", y="knowledge average", form="linear")
    expected = np.corrcoef([bpc[m] for m in models], [np.mean(y[m]) for m in models])[0, 1]
    assert int(line["n"]) == 19
    assert float(line["pearson"]) == pytest.approx(expected, abs=1e-8)


def test_broken_scores_are_refused(tmp_path: Path) -> None:
    """A missing file or column, a word for a number, and a score given twice name the file and the remedy."""
    path = tmp_path / "scores.csv"
    header = ",".join(fit.MEASURED_COLUMNS)
    row = "a,org/a,transformers,,arxiv,full,bits_per_character,0.5,,,,,"
    cases = {
        "No such file": None,
        "it has no column 'backend'": "model,name\na,b\n",
        "value 'half' of line 2 is no number": f"{header}\n{row.replace('0.5', 'half')}\n",
        "line 2 ends too early": f"{header}\na,b\n",
        "line 3 repeats the score of a arxiv full": f"{header}\n{row}\n{row}\n",
    }
    for rule, text in cases.items():
        if text is not None:
            path.write_text(text)
        with pytest.raises(
            UserError, match=rf"scores\.csv cannot be read: .*{rule}.*; rebuild it with `dvc repro`"
        ):
            fit.run(path, BENCHMARKS, PUBLISHED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bootstrap_settings_are_checked(tmp_path: Path) -> None:
    """Settings out of bounds are refused before anything is written."""
    path = tmp_path / "scores.csv"
    path.write_text(",".join(fit.MEASURED_COLUMNS) + "\n")
    for seed, resamples in ((-1, 100), (0, 10**7)):
        with pytest.raises(UserError, match="no whole number from 0"):
            fit.run(path, BENCHMARKS, PUBLISHED, tmp_path / "out", seed=seed, resamples=resamples)
    assert not (tmp_path / "out").exists()
