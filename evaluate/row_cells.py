"""Which cells a row of a table was computed from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evaluate import benchmarks, figures
from evaluate.benchmarks import BenchmarkScore
from evaluate.figures import Found, Tables
from evaluate.prediction import METHODS

Name = tuple[str, str, str, str]
"""Kind, model, corpus and protocol of a cell, the last empty for whichever it has; a genome is of no corpus."""

GENOMES = "phylogeny"


def names(tables: Tables, found: Found, published: Path, *, stale: bool = False) -> list[Name]:
    """Return the cells behind a row.

    Args:
        tables: of the results.
        found: the row.
        published: table of benchmark scores.
        stale: whether means of bits per character are over corpora, too, that a model may have seen.

    Raises:
        UserError: when a table cannot be read.
    """
    row = found.row
    match found.table:
        case "scores.csv":
            return [(_kind(row["protocol"]), row["model"], row["corpus"], row["protocol"])]
        case "entropy.csv":
            return [("entropy", row["model"], row["corpus"], "")]
        case "differences.csv":
            pair = (row["model"], row["protocol"]), (row["other"], row["other_protocol"])
            return [("scores", model, row["corpus"], protocol) for model, protocol in pair]
        case "trend.csv":
            return sorted(
                {
                    ("scores", score["model"], score["corpus"], score["protocol"])
                    for score in tables.rows("scores.csv")
                    if score["model"] == row["model"]
                    and score["corpus"] in row["corpora"].split()
                    and _full(score["protocol"]) == row["protocol"]
                }
            )
        case "fits.csv" if row["dataset"] == "measured":
            models = _used(tables, "points.csv", ("dataset", "study", "x", "y"), row)
            return sorted(_labelled(tables, f"bits_per_character on {row['x']}", models))
        case "scaling.csv":
            models = _used(tables, "scaling_points.csv", ("family", "x", "y"), row)
            labels = [re.sub("^bits per character on ", "bits_per_character on ", row[axis]) for axis in "xy"]
            return sorted({name for label in labels for name in _labelled(tables, label, models)})
        case "relatives.csv" | "distances.csv":
            return [(GENOMES, model, "", "") for model in (row["model"], row["other"])]
        case "predictions.csv":
            return sorted(set(_predicting(tables, row, benchmarks.read(published), stale=stale)))
    return []


def _predicting(
    tables: Tables, row: Mapping[str, str], published: Sequence[BenchmarkScore], *, stale: bool
) -> Iterator[Name]:
    """Yield genomes and scores of the models whose benchmark scores were predicted, as far as the method needs them."""
    identity = benchmarks.identities(published)
    scored = {
        identity[score.model.casefold()]
        for score in published
        if (score.title, score.study) == (row["benchmark"], row["study"])
        and score.unit != "bits_per_character"
    }
    pairs = tables.rows("relatives.csv")
    titles = {
        pair[side]: pair[name]
        for pair in pairs
        for side, name in (("model", "name"), ("other", "other_name"))
    }
    models = {model for model, title in titles.items() if identity.get(title.casefold()) in scored}
    if row["method"].startswith("bits per character"):
        scores = [score for score in tables.rows("scores.csv") if score["metric"] == "bits_per_character"]
        seen = {score["corpus"] for score in tables.rows("scores.csv") if score["freshness"] == "not-after"}
        rates = [
            score
            for score in scores
            if score["model"] in models
            and (stale or score["corpus"] not in seen)
            and figures.number(score["value"]) is not None
        ]
        models = {score["model"] for score in rates}
        yield from (("scores", score["model"], score["corpus"], score["protocol"]) for score in rates)
    if row["method"] in METHODS or row["method"].endswith("ridge"):
        yield from ((GENOMES, model, "", "") for model in models)


def _used(tables: Tables, points: str, series: tuple[str, ...], row: Mapping[str, str]) -> set[str]:
    """Return the models that a line was drawn through."""
    return {
        point["model"]
        for point in tables.rows(points)
        if point["used"] == "true" and all(point[key] == row[key] for key in series)
    }


def _labelled(tables: Tables, label: str, models: set[str]) -> Iterator[Name]:
    """Yield cells of models behind the label of an axis: `METRIC on CORPUS`, or with ` (PROTOCOL)` behind it."""
    for row in tables.rows("scores.csv"):
        plain = f"{row['metric']} on {row['corpus']}"
        if row["model"] in models and label in (plain, f"{plain} ({_full(row['protocol'])})"):
            yield _kind(row["protocol"]), row["model"], row["corpus"], row["protocol"]


def _full(protocol: str) -> str:
    """Return what a protocol stands under in tables: sink is full read faster."""
    return re.sub("^sink/", "full/", protocol)


def _kind(protocol: str) -> str:
    return "entropy" if protocol.startswith("entropy/") else "scores"
