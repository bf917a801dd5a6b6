"""The report: what the page computes, what it refuses, and how it looks in a real browser."""

import csv
import json
import math
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from collectors.document import UserError
from evaluate import trees
from evaluate.corpus import Corpus
from evaluate.model import Conditions, Likelihood, ModelEntry
from evaluate.report import page as report
from evaluate.report import wording
from evaluate.report.records import (
    MonthlyRate,
    Place,
    Prediction,
    Relative,
    ReportData,
    ScalingFit,
    ScalingPoint,
    Score,
)
from evaluate.report.results import read, table
from evaluate.scores import Scored, summarise, write_scores

HOSTILE = "<script>alert(1)</script>\"' onload=alert(2) {{ 7*7 }} &amp; \u202e\x1b"
NAMES = ["news-2026-07", "packages-2026-07"]
DIGEST = "0123456789abcdef" * 4
SCORE = {
    "family": "",
    "n_parameters": "",
    "revision": "c0ffee" * 7,
    "corpus_sha256": DIGEST,
    "protocol": "full/1900/512",
    "prefix": "bos <s> (1)",
    "first_token": "prefix",
    "context_length": 8192,
    "dtype": "float32",
    "quantization": "",
    "device": "cpu",
    "attention": "sdpa",
    "unused_ids": 0,
    "softcap": "",
    "tied_embeddings": "True",
    "special_text": "plain",
    "nll": 40_000,
    "deviation": "",
    "deviation_low": "",
    "deviation_high": "",
    "n_deviation": 0,
    "n_documents": 40,
    "n_unscored_documents": 0,
    "n_characters": 52_000,
    "n_bytes": 53_000,
    "n_tokens": 12_000,
    "n_unscored_tokens": 0,
    "n_lossy": 0,
    "repair_nll": 0,
    "cutoff": "2025-03",
    "cutoff_evidence": "declared",
    "freshness": "after",
    "software": "torch 2.13.0",
}
# What a row of a compressor leaves empty.
CONDITIONS = (
    *("prefix", "first_token", "context_length", "dtype", "quantization", "device", "attention"),
    *("softcap", "tied_embeddings", "special_text", "n_tokens"),
    *("cutoff", "cutoff_evidence", "freshness"),
)
APPROXIMATE = "sink/1900/512"
SINK: dict[str, object] = {
    "protocol": APPROXIMATE,
    "deviation": 0.00021,
    "deviation_low": -0.0001,
    "deviation_high": 0.00052,
    "n_deviation": 8,
}
EXACT: dict[str, object] = {}
PRECISE: dict[str, object] = {"n_documents": 30, "n_unscored_documents": 10}
FIT = {
    "dataset": "published",
    "study": "Huang et al. 2024",
    "area": "math",
    "form": "linear",
    "n": 3,
    "slope": -2,
    "intercept": 1.2,
    "pearson": -0.9812,
    "pearson_low": -0.9931,
    "pearson_high": -0.9123,
    "spearman": -1,
    "r2": 0.96,
    "rmse": 0.0311,
    "loo_rmse": 0.05,
    "best_form": "linear",
    "refused": "",
}
REFUSAL = "1 model has a published score; three are needed"


def score_rows(text: str = "", small: Mapping[str, object] = EXACT) -> list[dict[str, object]]:
    """Return rows of scores.csv: two language models and two compressors on two corpora.

    Args:
        text: follows every text in them.
        small: columns in which the better language model differs.
    """
    texts = (
        "protocol",
        "prefix",
        "first_token",
        "dtype",
        "quantization",
        "device",
        "attention",
        "special_text",
    )
    rows = []
    for corpus, content in (("packages-2026-07", "code"), ("news-2026-07", "prose")):
        for model, value, own in (("tiny", 1.2, {}), ("small", 0.9, {"n_lossy": 3, **small})):
            base = {**SCORE, "model": model, "name": f"org/{model}-1b{text}", "backend": "transformers"}
            base |= {"corpus": corpus, "content": content, **own}
            base |= {name: f"{base[name]}{text}" for name in texts}
            for metric, factor in (("bits_per_character", 1), ("bits_per_byte", 0.98), ("bits_per_token", 4)):
                rate = value * factor
                rows.append({**base, "metric": metric, "value": rate, "low": rate * 0.9, "high": rate * 1.1})
        for model, value in (("gzip", 2.4), ("xz", 2.0)):
            for protocol, factor in (("document", 1.25), ("stream", 1.0)):
                base = {
                    **SCORE,
                    **dict.fromkeys(CONDITIONS, ""),
                    "model": model,
                    "name": "",
                    "backend": "compressors",
                }
                base |= {"corpus": corpus, "content": content, "protocol": protocol, "low": "", "high": ""}
                base |= {"metric": "bits_per_character", "value": value * factor}
                rows += [base, {**base, "metric": "bits_per_byte", "value": value * factor * 0.98}]
    return rows


def month_rows(
    months: Sequence[str] = ("2025-02", "2025-03", "2025-06"), text: str = "", **other: object
) -> list[dict[str, object]]:
    """Return rows of trend.csv: two language models and a compressor, all trained until the end of March 2025.

    Args:
        months: of publication.
        text: follows every text in them.
        other: columns of the first language model that differ.
    """
    known: dict[str, object] = {
        "cutoff": "2025-03",
        "cutoff_evidence": "declared",
        "cutoff_until": "2025-04-01",
    }
    known["cutoff_source"] = f"https://example.org/card{text}"
    rows = []
    for model, level in (("small", 0.9), ("tiny", 1.2), ("xz", 2.4)):
        classical = model == "xz"
        base: dict[str, object] = {
            "model": f"{model}{text}",
            "name": "" if classical else f"org/{model}-1b{text}",
            "backend": "compressors" if classical else "transformers",
            "content": f"prose{text}",
            "protocol": "document" if classical else f"full/1900/512{text}",
            "corpora": f"{NAMES[0]}{text}",
            "n_documents": 40,
            **({} if classical else known),
            **(other if model == "small" else {}),
        }
        for i, month in enumerate(months):
            rate = level * (1 + 0.1 * i)
            row = {**base, "month": month, "bits_per_character": rate, "low": 0.9 * rate, "high": 1.1 * rate}
            if base.get("cutoff"):
                row["freshness"] = "after" if f"{month}-01" >= str(base["cutoff_until"]) else "not-after"
            elif not classical:
                row["freshness"] = "unknown"
            rows.append(row)
    return rows


def write_months(results: Path, rows: Sequence[Mapping[str, object]] = ()) -> None:
    """Write trend.csv, with its header alone where there are no rows."""
    write_csv(results / "trend.csv", list(rows), [field.name for field in fields(MonthlyRate)])


def difference_rows(text: str = "", protocol: str = "full/1900/512") -> list[dict[str, object]]:
    """Return rows of differences.csv: the two language models, on one corpus hardly to be told apart."""
    protocols = {"protocol": f"full/1900/512{text}", "other_protocol": f"{protocol}{text}"}
    compressor = {"model": "gzip", "other": "small", **protocols, "protocol": "document"}
    return [
        {"corpus": corpus, **models, "difference": 0.3, "low": low, "high": 0.3123, "n_documents": 40}
        for corpus, low in ((NAMES[0], 0.2891), (NAMES[1], -0.0004))
        for models in (compressor, {"model": "tiny", "other": "small", **protocols})
    ]


def fit_rows(text: str = "") -> list[dict[str, object]]:
    """Return rows of fits.csv: overall, an area, a single benchmark, and a refused one of ours."""
    return [
        {
            **FIT,
            "area": "overall",
            "x": "mean of the three corpora",
            "y": f"average of the three areas{text}",
        },
        {**FIT, "x": "ArXiv-Math", "y": "math average"},
        {**FIT, "x": "ArXiv-Math", "y": "GSM8K"},
        {**FIT, "x": "ArXiv-Math", "y": "GSM8K", "form": "log", "slope": -1},
        {**FIT, "x": "ArXiv-Math", "y": "GSM8K of a leaderboard", "pearson": -0.7},
        {"dataset": "measured", "x": "news-2026-07", "y": "MMLU", "n": 1, "refused": REFUSAL},
    ]


PROFILE = ("model", "name", "corpus", "layer", "n_layers", "metric", "value", "low", "high", "ceiling")
SCALING = [field.name for field in fields(ScalingFit)]
SCALING_POINT = [field.name for field in fields(ScalingPoint)]
ENTROPY = "entropy/512"
# By metric: the value of the first model at layer 0, what a layer and what a model adds, and the ceiling.
FIGURES: dict[str, tuple[float, float, float, float | str]] = {
    "matrix_entropy_a": (0.4, 0.02, -0.03, 0.97),
    "matrix_entropy_b": (0.08, 0.01, -0.01, 0.83),
    "matrix_entropy_c": (0.09, 0.01, -0.01, 0.83),
    "effective_rank": (60.5, 2, -7, 479.25),
    "nuclear_norm": (321.5, 10, 5, ""),
    "log_anisotropy": (11.25, 0.1, 0.2, ""),
    "semantic_cv": (1234.5, 10, 100, ""),
    "smoothed_compression": (432.1, -1, 40, ""),
    "diff_erank": (150.5, 0, 12, ""),
}
DRAWN = ("matrix_entropy_a", "effective_rank", "diff_erank")


def profile_rows(models: Mapping[str, str], corpus: str, n_layers: int = 2) -> list[dict[str, object]]:
    """Return rows of entropy.csv for models, by slug and published name, on one corpus."""
    return [
        {
            **dict(zip(PROFILE, (model, name, corpus, layer, n_layers, metric), strict=False)),
            "value": (value := start + layer * step + i * other),
            "low": 0.9 * value,
            "high": 1.1 * value,
            "ceiling": ceiling,
            "n_documents": 38,
            "n_skipped": 2,
        }
        for i, (model, name) in enumerate(models.items())
        for metric, (start, step, other, ceiling) in FIGURES.items()
        for layer in range(n_layers + 1)
        if metric != "diff_erank" or layer == n_layers
    ]


def entropy_scores(models: Mapping[str, str], corpus: str, **other: object) -> list[dict[str, object]]:
    """Return rows of scores.csv for the last layers of the same models; the i-th has 10^(8 + i) parameters."""
    base = {**SCORE, "backend": "transformers", "corpus": corpus, "content": "prose", "protocol": ENTROPY}
    return [
        {
            **base,
            "model": model,
            "name": name,
            "metric": metric,
            "nll": "",
            "value": start + 2 * step + i * other_step,
            "n_parameters": 10 ** (8 + i),
            **other,
        }
        for i, (model, name) in enumerate(models.items())
        for metric, (start, step, other_step, _) in FIGURES.items()
    ]


def write_measured_entropies(results: Path, n: int = 1, text: str = "") -> None:
    """Add matrix entropies of n models on the first corpus to the inputs, as the pipeline writes them.

    Those of three models or more are fitted against parameters in both forms, bits per character and a
    benchmark, all together and as a family.

    Args:
        results: folder of inputs that `write_inputs` wrote.
        n: models; their slugs are m0, m1 and so on.
        text: follows every text in the tables.
    """
    corpus = NAMES[0]
    models = {f"m{i}{text}": f"org/model-{i}{text}" for i in range(n)}
    scored = entropy_scores(models, corpus, family=f"family{text}")
    with (results / "scores.csv").open(newline="", encoding="utf-8") as file:
        rates = list(csv.DictReader(file))
    write_csv(results / "scores.csv", [*scored, *rates], list(rates[0]))
    refused = f"{n} model{'' if n == 1 else 's'}; a fit needs 3 or more" if n < 3 else ""
    series = [("parameters", f"{metric} on {corpus}") for metric in DRAWN]
    series += [(f"bits per character on {corpus}", f"{metric} on {corpus}") for metric in DRAWN]
    series += [(f"matrix_entropy_a on {corpus}", f"PIQA{text}")]
    figures: dict[str, object] = {
        "a": 0.9,
        "b": -0.025,
        "b_low": -0.0301,
        "b_high": -0.0199,
        "pearson": -0.91,
        "pearson_low": -0.99,
    }
    figures |= {"pearson_high": -0.8, "r2": 0.83, "rmse": 0.0123, "loo_rmse": 0.0234}
    fits = [
        {"family": family, "x": x, "y": y, "form": form, "n": n, "refused": refused}
        | ({} if refused else {**figures, "best_form": "power" if x == "parameters" else ""})
        for family in ("", f"family{text}")
        for x, y in series
        for form in (("log", "power") if x == "parameters" else ("linear",))
    ]
    points = [
        {
            "family": family,
            "x": x,
            "y": y,
            "model": model,
            "x_value": 10 ** (8 + i) if x == "parameters" else 0.9 - 0.1 * i,
            "y_value": 0.44 - 0.03 * i,
            "ceiling": 0.97 if y.startswith("matrix") else "",
            "used": "true",
            "reason": "",
        }
        for family in ("", f"family{text}")
        for x, y in series
        for i, model in enumerate(models)
    ]
    write_entropies(results, profile_rows(models, corpus), fits, points)


def write_entropies(
    results: Path,
    profiles: Sequence[Mapping[str, object]] = (),
    fits: Sequence[Mapping[str, object]] = (),
    points: Sequence[Mapping[str, object]] = (),
) -> None:
    """Write entropy.csv, scaling.csv and scaling_points.csv, with their headers alone where there are no rows."""
    columns = (*PROFILE, "n_documents", "n_skipped")
    write_csv(results / "entropy.csv", list(profiles), columns)
    write_csv(results / "scaling.csv", list(fits), SCALING)
    write_csv(results / "scaling_points.csv", list(points), SCALING_POINT)


def relative_rows(distances: Any, models: Mapping[str, str], **other: object) -> list[dict[str, object]]:
    """Return rows of relatives.csv for distances [n, n] of models, by slug and published name."""
    rows: list[dict[str, object]] = []
    for i, (model, name) in enumerate(models.items()):
        for j, (fellow, fellow_name) in list(enumerate(models.items()))[i + 1 :]:
            far = float(distances[i, j])
            row: dict[str, object] = {
                "model": model,
                "name": name,
                "other": fellow,
                "other_name": fellow_name,
            }
            row |= {"alleles": "exact/1.0/0.001", "estimator": "unbiased", "n_genes": 128}
            row |= {"similarity": math.exp(-far), "similarity_low": 0.9 * math.exp(-far)}
            row |= {"similarity_high": math.exp(-far), "distance": far, "standard_error": far / 8}
            rows.append({**row, **other})
    return rows


def write_compared(
    results: Path, distances: Any, models: Mapping[str, str], predictions: Sequence[Mapping[str, object]] = ()
) -> None:
    """Write relatives.csv, tree.json, map.csv and predictions.csv for distances [n, n] of models.

    Args:
        results: folder of inputs.
        distances: n may be 0: tables hold their headers alone then.
        models: published names by slug, in the order of the rows.
        predictions: rows of predictions.csv.
    """
    labels = list(models)
    joined: dict[str, object] = {}
    if len(labels) > 1:
        unrooted = trees.neighbour_joining(distances, labels)
        rng = np.random.default_rng(0)
        replicates = []
        for _ in range(20):
            noise = np.triu(rng.normal(1, 0.2, distances.shape), 1)
            replicates.append(trees.neighbour_joining(distances * (noise + noise.T), labels))
        tree = trees.midpoint_rooted(trees.with_support(unrooted, replicates))
        joined = {"newick": trees.newick(tree), "root": "midpoint", "path_rmse": 0.0123}
        joined |= {"negative_branches": trees.negative_branches(unrooted), "tree": trees.as_json(tree)}
    (results / "tree.json").write_text(json.dumps(joined))
    places: list[dict[str, object]] = []
    if labels:
        coordinates, shares = trees.classical_mds(distances)
        places = [
            {"model": model, "x": x, "y": y, "share_x": shares[0], "share_y": shares[1]}
            for model, (x, y) in zip(labels, coordinates, strict=True)
        ]
    write_csv(results / "map.csv", places, [field.name for field in fields(Place)])
    relatives = relative_rows(distances, models)
    write_csv(results / "relatives.csv", relatives, [field.name for field in fields(Relative)])
    write_csv(results / "predictions.csv", list(predictions), [field.name for field in fields(Prediction)])


def write_measured_relatives(results: Path, n: int, text: str = "") -> None:
    """Write what is known of n models with the slugs of `write_measured_entropies`, and one prediction.

    Each is a point of a plane; the second lies by the first, the fourth by the third, and so on.
    """
    rng = np.random.default_rng(1)
    points = np.repeat(rng.normal(size=((n + 1) // 2, 2)), 2, axis=0)[:n] + rng.normal(scale=0.1, size=(n, 2))
    distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    study = {"benchmark": f"PIQA{text}", "study": f"a study{text}", "n": n, "n_families": 3}
    found = {"pearson": 0.8, "pearson_low": 0.5, "pearson_high": 0.9, "rmse": 0.05, "skill": 0.6}
    found |= {"skill_low": 0.2, "skill_high": 0.75}
    predictions = [
        {**study, "method": "ridge", **found},
        {**study, "method": f"size{text}", **found, "rmse": 0.07},
        {**study, "method": "bits per character", "refused": f"none has a rate{text}"},
        {**study, "benchmark": "MMLU", "method": "ridge", "refused": f"2 families; 3 are needed{text}"},
    ]
    models = {f"m{i}{text}": f"org/model-{i}{text}" for i in range(n)}
    write_compared(results, distances, models, predictions)


def write_inputs(folder: Path, text: str = "") -> tuple[Path, Path]:
    """Write small input files, every text in them followed by `text`; return results and corpora.

    There are no matrix entropies, no months and no relatives among them.
    """
    results, corpora = folder / "results", folder / "corpora"
    results.mkdir(parents=True)
    fits = fit_rows(text)
    points = [
        {
            "dataset": "published",
            "x": fit["x"],
            "y": fit["y"],
            "model": f"model-{i}{text}",
            "x_value": 0.4 + 0.05 * i,
            "y_value": 0.4 - 0.1 * i + 0.01 * i * i,
            "fitted": 0.4 - 0.1 * i,
            "residual": 0,
            "loo_residual": 0,
            "used": "true" if i < 3 else "false",
            "reason": "" if i < 3 else f"named as contaminated{text}",
            "freshness": "",
        }
        for fit in fits[:3]
        for i in range(4)
    ]
    law = [
        {"kind": "main", "benchmark": f"average of the three areas{text}", "corpus": "mean of the three corpora",
         "published_pearson": -0.931, "pearson": -0.9312, "published_rmse": 0.031, "rmse": 0.0311,
         "difference": -0.0002, "n": 19, "location": "Fig 1", "note": ""},
        {"kind": "main", "benchmark": "math average", "corpus": "ArXiv-Math", "published_pearson": -0.953,
         "pearson": -0.949, "published_rmse": 0.031, "rmse": 0.031, "difference": 0.004, "n": 19,
         "location": "Fig 4", "note": ""},
        {"kind": "benchmark", "benchmark": "GSM8K", "corpus": "ArXiv-Math", "published_pearson": -0.922,
         "pearson": -0.921, "published_rmse": 0.068, "rmse": 0.068, "difference": 0.001, "n": 19,
         "location": "Table 9", "note": ""},
        {"kind": "ablation", "benchmark": "PAL-GSM8K", "corpus": "ArXiv-Math", "published_pearson": -0.787,
         "location": "Fig 8", "note": f"no table holds its scores{text}"},
    ]  # fmt: skip
    write_csv(results / "scores.csv", score_rows(text))
    write_months(results)
    write_csv(results / "differences.csv", difference_rows(text))
    write_csv(results / "fits.csv", fits)
    write_csv(results / "points.csv", points)
    write_csv(results / "law.csv", law)
    write_csv(results / "unmatched.csv", [{"model": f"tiny{text}", "reason": f"no published score{text}"}])
    write_entropies(results)
    write_compared(results, np.zeros((0, 0)), {})
    for name, content in zip(NAMES, (f"prose{text}", f"code{text}"), strict=True):
        (corpora / name).mkdir(parents=True)
        facts = {
            "name": name,
            "source": f"source{text}",
            "content": content,
            "since": "2026-07-01",
            "until": "2026-08-01",
            "documents_sha256": DIGEST,
            "n_documents": 40,
            "n_characters": 52_000,
            "n_bytes": 53_000,
            "published_from": "2026-07-01",
            "published_until": "2026-07-31",
            "dropped": {f"duplicate{text}": 7, "too short": 12},
            "licenses": {f"MIT{text}": 30, "": 10},
            "date_evidence": {f"index-upload-time{text}": 40},
            "gaps": [f"a feed was down{text}"] if name == NAMES[0] else [],
            "kept_for_later": True,
        }
        (corpora / name / "corpus.json").write_text(json.dumps(facts))
    return results, corpora


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows under these columns, or those of the first row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace a text in a file that holds it."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    """The sample inputs, read."""
    return read(*write_inputs(tmp_path), NAMES)


class Tags(HTMLParser):
    """Collects the elements and attributes that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep one element."""
        self.seen.append((tag, dict(attrs)))


def words(page: str) -> str:
    """Return what is left of a page without its markup, spaces collapsed."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_advantage_is_computed(data: ReportData) -> None:
    """The saving is one minus the ratio of the best model to the best compressor, over all variants."""
    page = words(report.render(data))
    assert "org/small-1b needs 0.900 bits per character, 55.0 % fewer than the best" in page
    assert "xz (one stream), with 2.000." in page
    assert "−55 %" in page
    assert "on 2 of 2 corpora" in page


def test_disadvantage_is_said_too(data: ReportData) -> None:
    """A model that needs more bits than the best compressor is reported as such."""
    scores = tuple(
        replace(score, value=3.0 if score.corpus.startswith("news") else score.value)
        if score.backend == "transformers" else score
        for score in data.scores
    )  # fmt: skip
    page = words(report.render(replace(data, scores=scores)))
    assert "on 1 of 2 corpora: 55.0 % fewer on packages-2026-07, 50.0 % more on news-2026-07" in page
    assert "−55 % to +50 %" in page


def test_law_is_summarised(data: ReportData) -> None:
    """The largest difference is that of the rows that could be recomputed, and their number is told."""
    page = words(report.render(data))
    assert "r = −0.981" in page
    assert "95 % interval −0.993 to −0.912" in page
    assert (
        "Of 4 figures that the paper prints, 3 were recomputed; the largest difference of r is 0.004" in page
    )
    assert "not recomputed" in page
    assert "no table holds its scores" in page


def test_charts_are_grouped_by_what_the_paper_prints(data: ReportData) -> None:
    """Averages are drawn large, single benchmarks small, and other studies stand in a table alone."""
    page = report.render(data)
    sizes = re.findall(r'viewBox="0 0 (\d+) \d+"[^>]*><title>(.*?)\. r', page)
    assert sizes == [("360", "average of the three areas"), ("360", "math average"), ("180", "GSM8K")]
    assert "GSM8K of a leaderboard ArXiv-Math 3 r = −0.700 [−0.993, −0.912]" in words(page)


def test_refused_fit_is_said_plainly(data: ReportData) -> None:
    """A refused fit shows its reason, and no coefficient."""
    page = words(report.render(data))
    assert f"measured here: {REFUSAL}." in page
    assert f"MMLU news-2026-07 {REFUSAL}" in page


def test_measured_fit_is_drawn(data: ReportData) -> None:
    """A fit of measured scores gets its own chart and its row, with the interval."""
    (refused,) = (fit for fit in data.fits if fit.dataset == "measured")
    fit = replace(data.fits[1], dataset="measured", x=refused.x, y=refused.y, n=3, spearman=-0.5)
    points = tuple(
        replace(point, dataset="measured", x=fit.x, y=fit.y) for point in data.points if point.y == "GSM8K"
    )
    drawn = replace(data, fits=(*data.fits[:-1], fit), points=(*data.points, *points))
    before, after = (Tags(report.render(d)).seen for d in (data, drawn))
    assert sum(tag == "figure" for tag, _ in after) == sum(tag == "figure" for tag, _ in before) + 1
    assert "over 3 measured models, 95 % interval −0.993 to −0.912." in words(report.render(drawn))


def test_tables_hold_rates_intervals_and_lossy_documents(data: ReportData) -> None:
    """Bits per character, byte and token stand in the table; what a tokenizer does not restore is flagged."""
    page = words(report.render(data))
    assert "small-1b full/1900/512 0.900 0.810 to 0.990 0.882 3.600 40 3 not restored" in page
    assert "xz one stream 2.000 – 1.960 – –" in page
    assert "tiny-1b full/1900/512 1.200 1.080 to 1.320 1.176 4.800 40 xz" in page
    assert page.count("not restored") == 2


def test_infinite_bits_are_named_not_drawn(tmp_path: Path) -> None:
    """A model that calls a text impossible is named beside the chart, and does not count as best or worst."""
    results, corpora = write_inputs(tmp_path)
    rows = score_rows()
    for score in rows:
        if score["model"] == "small":
            score |= {"value": "inf", "low": "", "high": ""}
    write_csv(results / "scores.csv", rows)
    page = words(report.render(read(results, corpora, NAMES)))
    assert "org/tiny-1b needs 1.200 bits per character, 40.0 % fewer" in page
    assert "Not shown, because their bits are not finite: org/small-1b." in page


def test_a_deviation_and_what_was_left_out_stand_beside_the_rate(tmp_path: Path) -> None:
    """A sink row tells how far it is from full, one that a precision cut short what its interval is of."""
    results, corpora = write_inputs(tmp_path)
    write_csv(results / "scores.csv", score_rows(small={**SINK, **PRECISE}))
    page = report.render(read(results, corpora, NAMES))
    assert (
        "small-1b sink/1900/512 0.900 0.810 to 0.990 0.882 3.600 30 3 not restored "
        "30 of 40 documents, interval of the whole corpus’s rate; "
        "sink deviates by +0.02 % [−0.01, +0.05] from full, on 8 documents tiny-1b"
    ) in words(page)
    assert page.count('rowspan="2"') == page.count('<tr class="note">') == len(NAMES)
    assert "reads each once" in words(page)


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        (
            {**SINK, "deviation_low": "", "deviation_high": "", "n_deviation": 1},
            "+0.02 % from full, on 1 document ",
        ),
        ({**SINK, "deviation": -1e-5}, "sink deviates by +0.00 % ["),
        ({"protocol": "sink/1900/512"}, "not restored sink was not compared with full here tiny"),
        ({**PRECISE, "low": ""}, "not restored 30 of 40 documents, "),
    ],
)
def test_notes_say_only_what_is_known(tmp_path: Path, columns: dict[str, object], note: str) -> None:
    """One document has no interval, what rounds to zero no minus, and a deviation may not be measured."""
    results, corpora = write_inputs(tmp_path)
    write_csv(results / "scores.csv", score_rows(small=columns))
    assert note in words(report.render(read(results, corpora, NAMES)))


def test_exact_and_complete_rates_carry_no_note(data: ReportData) -> None:
    """Where nothing is approximate and nothing left out, nothing is added."""
    page = report.render(data)
    assert "rowspan" not in page
    assert "sink" not in words(page)
    assert "interval of the whole corpus" not in words(page)


def test_neighbours_are_compared_on_what_both_have_scored(data: ReportData) -> None:
    """Each language model against the next better one, with its interval, and whether that settles the order."""
    page = words(report.render(data))
    assert "1 of 2 pairs of neighbours is told apart in this order" in page
    assert "news-2026-07 tiny-1b small-1b +0.3000 +0.2891 to +0.3123 40 packages-2026-07" in page
    assert "packages-2026-07 tiny-1b small-1b +0.3000 not told apart −0.0004 to +0.3123 40" in page
    assert "gzip small-1b" not in page


def test_a_difference_against_the_ranking_is_said(data: ReportData) -> None:
    """A model that is dearer overall and cheaper on the shared documents shows a negative difference."""
    turned = [
        replace(
            d, model=d.other, other=d.model, protocol=d.other_protocol, other_protocol=d.protocol, low=0.01
        )
        for d in data.differences
        if d.model == "tiny"
    ]
    page = words(report.render(replace(data, differences=tuple(turned))))
    assert "None of 2 pairs of neighbours is told apart in this order" in page
    assert page.count("tiny-1b small-1b −0.3000 the other way round −0.3123 to −0.0100 40") == len(NAMES)


def test_a_single_model_has_no_neighbour(data: ReportData) -> None:
    """With one language model there is no order to be sure of, and no model to be treated unlike."""
    scores = tuple(score for score in data.scores if score.model != "tiny")
    page = words(report.render(replace(data, scores=scores)))
    assert "How sure the order is" not in page
    assert "For the one language model: Protocol full/1900/512 Context length 8,192 tokens" in page
    assert "differ" not in page.partition("What can move a rate")[2].partition("Scores are in")[0]


def test_models_treated_alike_are_told_so(tmp_path: Path) -> None:
    """Conditions that all share stand once, and what applies to none is not there."""
    results, corpora = write_inputs(tmp_path)
    write_csv(results / "scores.csv", score_rows(small={"n_lossy": 0}))
    page = words(report.render(read(results, corpora, NAMES)))
    assert (
        "All 2 language models were treated alike: Protocol full/1900/512 Context length 8,192 tokens "
        "A document’s first token behind bos &lt;s&gt; (1), which predicts it Precision float32 Device cpu "
        "Attention sdpa Tied embeddings yes Text that spells a special token read as characters Scores are in"
    ) in page


def test_a_model_that_was_treated_in_two_ways_shows_both(data: ReportData) -> None:
    """Two corpora under different protocols are no secret, and the model is not like the others."""
    scores = tuple(
        replace(score, protocol=APPROXIMATE) if (score.model, score.corpus) == ("tiny", NAMES[0]) else score
        for score in data.scores
    )
    page = words(report.render(replace(data, scores=scores)))
    assert "tiny-1b sink/1900/512; full/1900/512 – Scores are in" in page


def test_conditions_that_differ_are_told_by_model(tmp_path: Path) -> None:
    """What differs stands in a table with one row for each model, and nowhere else."""
    results, corpora = write_inputs(tmp_path)
    other = {
        "prefix": "none",
        "first_token": "uniform",
        "context_length": "",
        "dtype": "bfloat16",
        "quantization": "bitsandbytes-8bit",
        "unused_ids": 1024,
        "softcap": 30,
        "tied_embeddings": "False",
        "n_unscored_tokens": 500,
        "repair_nll": 400,
    }
    write_csv(results / "scores.csv", score_rows(small=other))
    page = words(report.render(read(results, corpora, NAMES)))
    shared, _, differing = page.partition("Where the 2 language models differ")
    assert shared.rstrip().endswith(
        "The same for all 2 language models: Protocol full/1900/512 Device cpu Attention sdpa "
        "Text that spells a special token read as characters"
    )
    assert (
        "Model Context length A document’s first token Precision Quantised weights Output ids that no token has "
        "Soft-cap of logits Tied embeddings Not restored by the tokenizer Tokens nobody paid for "
        "small-1b no limit known behind nothing, charged log₂ of the vocabulary bfloat16 bitsandbytes-8bit 1,024 30 no "
        "6 of 80 documents; to mend them, 1,154 bits, 1.00 % of all 1,000 of 25,000 "
        "tiny-1b 8,192 tokens behind bos &lt;s&gt; (1), which predicts it float32 – – – yes – –"
    ) in differing


def test_the_page_reads_scores_as_the_pipeline_writes_them(tmp_path: Path) -> None:
    """What scoring summarises comes back column by column, in the kinds that the page knows."""
    likelihood = Likelihood(
        document="d",
        nll=7.0,
        n_tokens=3,
        n_characters=10,
        n_bytes=11,
        lossless=False,
        repair_nll=2.0,
        exact_nll=6.5,
    )
    scored = Scored(
        protocol=APPROXIMATE,
        revision="1",
        software="s",
        likelihoods=[likelihood, replace(likelihood, document="e")],
        prefix="none",
        first_token="uniform",
        conditions=Conditions(dtype="float32", softcap=30.0),
    )
    corpus = Corpus(name=NAMES[0], content="prose", sha256=DIGEST, files=(), column="text")
    rows = summarise(ModelEntry(slug="m", backend="transformers"), corpus, scored)
    write_scores(tmp_path / "scores.csv", rows)
    read_back = table(tmp_path / "scores.csv", Score)
    assert len(read_back) == len(rows) == 3
    for row, back in zip(sorted(rows, key=lambda r: r.metric), read_back, strict=True):
        for field in fields(Score):
            written, seen = getattr(row, field.name), getattr(back, field.name)
            assert seen == (pytest.approx(written) if isinstance(written, float) else written), field.name


def test_without_hidden_states_the_page_says_so(data: ReportData) -> None:
    """Tables of matrix entropy that hold their headers alone give one sentence, and no chart or table."""
    page = report.render(data)
    part = entropy_part(page)
    assert words(part).strip() == (
        "Matrix entropy No hidden states were measured, so there is no matrix entropy to show."
    )
    assert '<a href="#entropy">' in page


def entropy_part(page: str) -> str:
    """Return the section on matrix entropy."""
    return page.partition('<section aria-labelledby="entropy">')[2].partition("</section>")[0]


def measured(folder: Path, n: int) -> ReportData:
    """Read the sample inputs with matrix entropies of n models."""
    results, corpora = write_inputs(folder)
    write_measured_entropies(results, n)
    return read(results, corpora, NAMES)


def test_one_model_is_shown_and_its_fits_are_refused_in_words(tmp_path: Path) -> None:
    """Its profile is drawn, its last layer stands in the table, and no fit is made up."""
    part = entropy_part(report.render(measured(tmp_path, 1)))
    text = words(part)
    assert "At its last layer model-0 has matrix entropy a: 0.440, of at most 0.970." in text
    assert (
        "model-0 family, 100 M parameters 0.4400 0.3960 to 0.4840 of 0.9700 0.100 of 0.830 0.110 of 0.830 "
        "64.5 58.1 to 71.0 of 479 150 135 to 166 342 11.4 1,254 430 38 2 skipped"
    ) in text
    assert part.count("<figure>") == 1
    assert 'class="fit' not in part.partition("</ul>")[2]
    for models in ("all models", "family"):
        for against, n in (("parameters", 6), ("bits per character", 3), ("benchmark scores", 1)):
            assert f"{models} {against} {n} 1 model; a fit needs 3 or more" in text
    assert "Fits of matrix entropy" not in text


def test_two_models_are_drawn_without_a_fit(tmp_path: Path) -> None:
    """Their points against size and rate, with the reason why no line joins them."""
    part = entropy_part(report.render(measured(tmp_path, 2)))
    assert part.count("<figure>") == 6
    assert "no log, power fit: 2 models; a fit needs 3 or more" in words(part)
    assert "no linear fit: 2 models; a fit needs 3 or more" in words(part)
    assert 'class="fit' not in part.partition("</ul>")[2]


def test_fits_of_entropy_are_drawn_and_listed(tmp_path: Path) -> None:
    """Both forms of size are curves, bits per character a line, and every fit a row of its family."""
    part = entropy_part(report.render(measured(tmp_path, 3)))
    text = words(part)
    assert (
        "At its last layer model-2 has the lowest matrix entropy a of 3 models: 0.380, of at most 0.970."
        in text
    )
    drawn = part.partition("</ul>")[2]
    assert [drawn.count(f'class="{kind}"') for kind in ("fit log", "fit power", "fit")] == [3, 3, 3]
    assert part.count("<figure>") == 7
    assert "log: b = −0.0250 [−0.0301, −0.0199], R² = 0.83" in text
    listed = "parameters power 3 0.9000 −0.0250 [−0.0301, −0.0199] 0.830 0.0123 0.0234 power"
    for metric in ("Matrix entropy a", "Effective rank", "Diff-eRank"):
        assert text.count(f"{metric} on news-2026-07 {listed}") == 2
    assert text.count("PIQA Matrix entropy a on news-2026-07 linear 3 0.9000") == 2
    assert "without a fit" not in text


def test_ceilings_stand_beside_the_points(tmp_path: Path) -> None:
    """Charts of matrix entropy a have a dash above every model, and its profile one along the layers."""
    charts = entropy_part(report.render(measured(tmp_path, 3))).split("<figure>")[1:]
    dashes = {
        (
            re.findall(r"<title>(.*?)\.", chart)[0],
            re.findall(r"against (.*?) for", chart)[0] if i else "",
        ): len(re.findall(r'class="ceiling', chart))
        for i, chart in enumerate(charts[:6])
    }
    assert dashes == {
        ("Layer by layer on news-2026-07", ""): 3,
        ("Matrix entropy a", "parameters"): 3,
        ("Matrix entropy a", "bits per character on news-2026-07"): 3,
        ("Effective rank", "parameters"): 0,
        ("Diff-eRank", "parameters"): 0,
        ("Diff-eRank", "bits per character on news-2026-07"): 0,
    }


def test_models_without_a_point_are_named(tmp_path: Path) -> None:
    """A model of unknown size has no place on the axis; it is named, with the reason, and the others are drawn."""
    data = measured(tmp_path, 3)
    reason = "its number of parameters is not known"
    points = tuple(
        replace(point, x_value=None, used=False, reason=reason)
        if (point.x, point.model) == ("parameters", "m1") else point
        for point in data.scaling_points
    )  # fmt: skip
    text = words(report.render(replace(data, scaling_points=points)))
    assert f"Without a point, because {reason}: model-1." in text
    assert "Matrix entropy a on news-2026-07 against parameters for 2 models" in text


def test_a_law_beyond_any_scale_is_shown(tmp_path: Path) -> None:
    """Sizes and factors of power laws may go where no rate does; a factor that is no number draws no curve."""
    results, corpora = write_inputs(tmp_path)
    write_measured_entropies(results, 3)
    rewrite(results / "scaling.csv", ",power,3,0.9,-0.025,", ",power,3,4.25e+174,17.5,")
    rewrite(results / "scaling_points.csv", ",10000000000,", ",10400000000000,")
    part = entropy_part(report.render(read(results, corpora, NAMES)))
    assert "4.250 · 10¹⁷⁴ 17.5" in words(part)
    assert part.count('class="fit power"') == 4
    rewrite(results / "scaling.csv", ",power,3,4.25e+174,17.5,", ",power,3,,17.5,")
    part = entropy_part(report.render(read(results, corpora, NAMES)))
    assert part.count('class="fit power"') == 1
    assert "parameters power 3 – 17.5" in words(part)


def test_figures_of_a_layer_that_is_not_the_last_are_no_row(tmp_path: Path) -> None:
    """Where the last layer was not measured the profile is drawn alone."""
    data = measured(tmp_path, 1)
    profiles = tuple(row for row in data.profiles if row.layer < row.n_layers)
    part = entropy_part(report.render(replace(data, profiles=profiles)))
    assert "Layer by layer" in part
    assert "Last layer on" not in part
    assert "At its last layer" not in part


def test_a_figure_that_is_not_finite_is_a_dash(tmp_path: Path) -> None:
    """In the table, and missing in the profile."""
    data = measured(tmp_path, 1)
    profiles = tuple(replace(row, value=None, low=None, high=None, ceiling=None) for row in data.profiles)
    text = words(entropy_part(report.render(replace(data, profiles=profiles))))
    assert "model-0 family, 100 M parameters – – – – – – – – – 38 2 skipped" in text


def test_entropies_leave_the_rates_alone(tmp_path: Path) -> None:
    """Rows of matrix entropy in scores.csv are no rates: what the page says on those is the same without them."""
    data = measured(tmp_path, 3)
    rates = replace(data, scores=tuple(score for score in data.scores if score.is_rate))
    assert len(rates.scores) < len(data.scores)
    unknown = tuple(score if score.is_rate else replace(score, value=None) for score in data.scores)
    data = replace(data, scores=unknown)
    pages = [report.render(d).replace(entropy_part(report.render(d)), "") for d in (data, rates)]
    assert pages[0] == pages[1]


def test_entropies_of_an_unknown_corpus_are_refused(tmp_path: Path) -> None:
    """A profile over documents that the report knows nothing of is named."""
    results, corpora = write_inputs(tmp_path)
    write_entropies(results, profile_rows({"m0": "org/m"}, "gone-2026-01"))
    with pytest.raises(
        UserError, match=r"entropy\.csv cannot be read: m0 was read on gone-2026-01, which is no"
    ):
        read(results, corpora, NAMES)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (0.44, "0.440"),
        (-0.04996, "−0.0500"),
        (150.52, "151"),
        (123456.7, "123,457"),
        (1.2345e6, "1.23 · 10⁶"),
        (-4.2e-12, "−4.20 · 10⁻¹²"),
    ],
)
def test_figures_of_any_size_are_legible(value: float | None, shown: str) -> None:
    """Three significant digits, separators of thousands, and a power of ten where neither helps."""
    assert wording.significant(value, 3) == shown


def test_data_versions_are_listed(data: ReportData) -> None:
    """Each corpus shows window, sizes, counts from the largest, and its digest, whole in the title."""
    page = report.render(data)
    text = words(page)
    assert "2026-07-01 to 2026-08-01" in text
    assert "too short 12 duplicate 7" in text
    assert "MIT 30 unknown 10" in text
    assert f'title="{DIGEST}">{DIGEST[:12]}</code>' in page
    assert "git log -1 dvc.lock" in text


def test_nothing_measured_yet_still_gives_a_page() -> None:
    """Without any row the page says so, and shows no empty table."""
    page = report.render(
        ReportData(
            scores=(),
            trend=(),
            differences=(),
            fits=(),
            points=(),
            law=(),
            unmatched=(),
            profiles=(),
            scaling=(),
            scaling_points=(),
            relatives=(),
            phylogeny=None,
            places=(),
            predictions=(),
            corpora=(),
        )
    )
    assert "Nothing yet" in page
    assert "0 language models and 0 classical compressors on 0 corpora" in words(page)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Markup in any name, note, condition or licence is shown as text, in the page and inside its charts."""
    results, corpora = write_inputs(tmp_path, HOSTILE)
    write_csv(results / "scores.csv", score_rows(HOSTILE, {**SINK, "dtype": "bfloat16"}))
    write_csv(results / "differences.csv", difference_rows(HOSTILE, APPROXIMATE))
    write_months(results, month_rows(text=HOSTILE))
    write_measured_entropies(results, 4, HOSTILE)
    write_measured_relatives(results, 4, HOSTILE)
    page = report.render(read(results, corpora, NAMES))
    assert "told apart in this order" in page
    assert "sink deviates by" in page
    assert "Fits of matrix entropy" in page
    assert "Predictions beside their baselines" in page
    assert "Tree of models" in page
    for name in ("Protocol", "Precision", "A document’s first token", "Attention"):
        assert name in page
    seen = Tags(page).seen
    assert "script" not in {tag for tag, _ in seen}
    assert not [name for _, attributes in seen for name in attributes if name.startswith("on")]
    assert "alert(1)" in page
    assert "49" not in re.sub(r'[a-z0-9]+="[^"]*"', "", words(page)).split()
    assert "<script" not in page
    root = ET.fromstring(report.law_figure(results))  # noqa: S314 - our own output
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}


def test_page_refers_to_nothing_outside(data: ReportData) -> None:
    """No element names another address, and a content policy forbids what a browser could still load."""
    seen = Tags(report.render(data)).seen
    for tag, attributes in seen:
        assert tag not in {"script", "iframe", "object", "embed", "img", "base", "form"}
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
    (policy,) = (a["content"] for _, a in seen if a.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none';")


def test_structure_is_accessible(data: ReportData) -> None:
    """Tables have captions and scoped headers, charts a title and a description, links a target."""
    page = report.render(data)
    seen = Tags(page).seen
    tags = [tag for tag, _ in seen]
    assert tags.count("table") == tags.count("caption") > 3
    assert all(attributes.get("scope") for tag, attributes in seen if tag == "th")
    charts = [a for tag, a in seen if tag == "svg" and "aria-hidden" not in a]
    assert len(charts) == tags.count("desc") == 7
    ids = [attributes["id"] for _, attributes in seen if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {(a.get("href") or "")[1:] for tag, a in seen if tag == "a"} <= set(ids)
    assert [tag for tag in tags if tag in {"h1", "h2"}][:2] == ["h1", "h2"]


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    """Two writes are equal, whatever the order of the rows in scores.csv."""
    results, corpora = write_inputs(tmp_path)
    report.write(results, corpora, NAMES, tmp_path / "one.html")
    write_csv(results / "scores.csv", score_rows()[::-1])
    report.write(results, corpora, NAMES, tmp_path / "two" / "two.html")
    first, second = (tmp_path / "one.html").read_bytes(), (tmp_path / "two" / "two.html").read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first
    assert b"\r" not in first


def test_lone_surrogates_can_be_written(tmp_path: Path) -> None:
    """A surrogate that JSON can spell and UTF-8 cannot does not stop the page."""
    results, corpora = write_inputs(tmp_path)
    rewrite(corpora / "news-2026-07" / "corpus.json", '"source": "source"', '"source": "\\ud800"')
    report.write(results, corpora, NAMES, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "name",
    [
        *("scores.csv", "trend.csv", "differences.csv", "fits.csv", "points.csv", "law.csv", "unmatched.csv"),
        *("entropy.csv", "scaling.csv", "scaling_points.csv", "corpus.json"),
        *("relatives.csv", "tree.json", "map.csv", "predictions.csv"),
    ],
)
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """A missing input is a user's error that names the file and how to make it."""
    results, corpora = write_inputs(tmp_path)
    path = corpora / "news-2026-07" / name if name == "corpus.json" else results / name
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} cannot be read: .*; rebuild it with `dvc repro`"):
        report.write(results, corpora, NAMES, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("scores.csv", "corpus_sha256", "digest", "it has no column 'corpus_sha256'"),
        ("scores.csv", "bits_per_character,1.2", "bits_per_character,much", "line 2, column 'value'"),
        (
            "scores.csv",
            ",True,",
            ",perhaps,",
            "column 'tied_embeddings': 'perhaps' is neither true nor false",
        ),
        ("differences.csv", "0.3123", "inf", "column 'high': inf is no finite measurement"),
        ("points.csv", ",0.4,", ",nan,", "nan is no finite measurement"),
        ("scores.csv", DIGEST, "f" * 64, "another version of packages-2026-07"),
        ("points.csv", "true", "maybe", "line 2, column 'used': 'maybe' is neither true nor false"),
        ("unmatched.csv", "tiny,no published score", "tiny", "line 2, column 'reason': the line ends"),
        ("law.csv", "main,average", '"main,average', "law.csv cannot be read"),
    ],
)
def test_broken_table_is_named(tmp_path: Path, name: str, old: str, new: str, why: str) -> None:
    """A table without a column, or with a value that is none, is refused with the place and the reason."""
    results, corpora = write_inputs(tmp_path)
    rewrite(results / name, old, new)
    with pytest.raises(UserError, match=re.escape(why)):
        read(results, corpora, NAMES)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A table that is not UTF-8 is named."""
    results, corpora = write_inputs(tmp_path)
    (results / "law.csv").write_bytes(b"kind,\xff\n")
    with pytest.raises(UserError, match=r"law\.csv cannot be read"):
        read(results, corpora, NAMES)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n_documents": "40"}, "its 'n_documents' is '40'"),
        ({"licenses": ["MIT"]}, "its 'licenses' is ['MIT']"),
        ({"name": "other"}, "it describes 'other'"),
        ({"until": None}, "its 'until' is None"),
        ({"gaps": [1]}, "its 'gaps' is [1]"),
    ],
)
def test_broken_corpus_is_named(tmp_path: Path, change: dict[str, object], why: str) -> None:
    """A corpus.json that lacks a fact, or holds another kind of value, is refused."""
    results, corpora = write_inputs(tmp_path)
    path = corpora / "news-2026-07" / "corpus.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=re.escape(why)):
        read(results, corpora, NAMES)


def test_an_incomplete_corpus_says_so(data: ReportData) -> None:
    """Beside its documents, with the first gap."""
    assert re.findall(r"<small>(not complete[^<]*)</small>", report.render(data)) == [
        "not complete: a feed was down"
    ]


def test_rate_without_bits_per_character_is_refused(data: ReportData) -> None:
    """A model that has bits per byte alone cannot be placed, and is named."""
    scores = tuple(s for s in data.scores if (s.model, s.metric) != ("xz", "bits_per_character"))
    with pytest.raises(UserError, match="no bits_per_character of xz on packages-2026-07"):
        report.render(replace(data, scores=scores))


def test_law_figure_is_a_file_of_its_own(tmp_path: Path) -> None:
    """The figure for the README holds n, r with its interval and the source, and needs no page."""
    results, _ = write_inputs(tmp_path)
    figure = report.law_figure(results)
    text = " ".join(ET.fromstring(figure).itertext())  # noqa: S314 - our own output
    assert "3 models: Pearson r = −0.981 [−0.993, −0.912] (95 %), RMSE 0.031" in text
    assert "Huang et al. 2024, Tables 4, 6, 8" in text
    assert figure == report.law_figure(results)
    rewrite(results / "fits.csv", ",overall,", ",elsewhere,")
    with pytest.raises(UserError, match=r"fits\.csv cannot be read: it holds no linear fit"):
        report.law_figure(results)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; a machine without one skips, continuous integration fails."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        reason = "no chromium, chromium-browser or google-chrome on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the sample inputs, with long and hostile names, as a file address."""
    folder = tmp_path_factory.mktemp("page")
    text = f" {HOSTILE} {'x' * 60}"
    results, corpora = write_inputs(folder, text)
    write_csv(results / "scores.csv", score_rows(text, {**SINK, **PRECISE, "dtype": "bfloat16"}))
    write_csv(results / "differences.csv", difference_rows(text, APPROXIMATE))
    write_months(results, month_rows(text=text))
    write_measured_entropies(results, 5, text)
    write_measured_relatives(results, 5, text)
    report.write(results, corpora, NAMES, folder / "report.html")
    return (folder / "report.html").as_uri()


def opened(browser: Browser, address: str, *, width: int, scheme: Any = "light") -> tuple[Page, list[str]]:
    """Open a page; return it with every complaint and request that it made."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    noted: list[str] = []
    page.on("console", lambda message: noted.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: noted.append(f"error: {error}"))
    page.on("request", lambda request: noted.append(f"request: {request.url}"))
    page.goto(address, wait_until="networkidle")
    return page, noted


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_loads_alone_and_fits(browser: Browser, address: str, width: int, scheme: str) -> None:
    """On a phone and a desk, light and dark: no complaint, one request, no sideways scrolling of the page."""
    page, noted = opened(browser, address, width=width, scheme=scheme)
    assert noted == [f"request: {address}"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.slow
def test_light_and_dark_differ(browser: Browser, address: str) -> None:
    """The page and the ink inside its charts follow the reader's colour scheme; print stays light."""
    style = "e => [getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(e).fill]"
    looks = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, address, width=800, scheme=scheme)
        looks.append(page.eval_on_selector(".chart .title", style))
        page.emulate_media(media="print", color_scheme="dark")
        assert page.eval_on_selector(".chart .title", style) == looks[0]
        page.close()
    assert looks[0][0] != looks[1][0]
    assert looks[0][1] != looks[1][1]


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
def test_charts_are_visible_and_hold_their_text(browser: Browser, address: str, width: int) -> None:
    """Every chart has an area, and no text in it, shown or waiting for the pointer, leaves its view box."""
    page, _ = opened(browser, address, width=width)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg.chart')].flatMap(chart => {
            const box = chart.viewBox.baseVal, area = chart.getBoundingClientRect();
            const wrong = area.width * area.height > 0 ? [] : ['a chart without area'];
            for (const text of chart.querySelectorAll('text')) {
                const b = text.getBBox();
                const turned = chart.getScreenCTM().inverse().multiply(text.getScreenCTM());
                for (const x of [b.x, b.x + b.width]) for (const y of [b.y, b.y + b.height]) {
                    const p = new DOMPoint(x, y).matrixTransform(turned);
                    if (p.x < -1 || p.y < -1 || p.x > box.width + 1 || p.y > box.height + 1)
                        wrong.push(text.textContent);
                }
            }
            return wrong;
        })"""
    )
    assert outside == []
    page.close()


@pytest.mark.slow
def test_model_is_named_on_focus(browser: Browser, address: str) -> None:
    """A point that takes the focus shows its model."""
    page, _ = opened(browser, address, width=800)
    point = page.locator("svg .point:has(.readout)").first
    readout = point.locator(".readout")
    assert readout.evaluate("e => getComputedStyle(e).opacity") == "0"
    point.focus()
    assert readout.evaluate("e => getComputedStyle(e).opacity") == "1"
    page.close()


@pytest.mark.slow
def test_law_figure_renders(browser: Browser, tmp_path: Path) -> None:
    """The standalone figure loads by itself, without complaint, and paints its own background."""
    results, _ = write_inputs(tmp_path)
    figure = tmp_path / "law.svg"
    figure.write_text(report.law_figure(results), encoding="utf-8")
    page, noted = opened(browser, figure.as_uri(), width=800, scheme="dark")
    assert noted == [f"request: {figure.as_uri()}"]
    fill = page.eval_on_selector(".paper", "e => getComputedStyle(e).fill")
    assert fill == "rgb(21, 23, 26)"
    page.close()
