"""What the pipeline wrote for the report: small tables, read strictly."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar, get_args

from collectors.document import UserError
from evaluate import passage_cells
from evaluate.passage_cells import Passage
from evaluate.report.records import (
    CorpusFacts,
    Difference,
    Fit,
    Law,
    MonthlyRate,
    Observation,
    Phylogeny,
    Place,
    Prediction,
    Profile,
    Relative,
    ReportData,
    ScalingFit,
    ScalingPoint,
    Score,
    Unmatched,
)
from evaluate.trees import from_json, leaves, nodes

T = TypeVar("T")

# No rate comes near this bound; beyond it no axis can be drawn. A field may name another as `largest`.
LARGEST = 1e12


def read(results: Path, corpora: Path, names: Sequence[str]) -> ReportData:
    """Read what the pipeline wrote.

    Args:
        results: folder of the tables: scores.csv, entropy.csv and what the fit stage writes; and of the cells
            in passages, where there are any.
        corpora: folder that holds one folder with a corpus.json per corpus.
        names: the corpora that the report is about, in its order.

    Raises:
        UserError: when a file is missing or broken, or a score or passage belongs to another version of its corpus.
    """
    scores = table(results / "scores.csv", Score)
    facts = {name: _corpus(corpora / name / "corpus.json") for name in names}
    for score in scores:
        if score.corpus not in facts or score.corpus_sha256 != facts[score.corpus].documents_sha256:
            raise broken(
                results / "scores.csv",
                f"{score.model} was scored on another version of {score.corpus} than corpora/ holds",
            )
    profiles = table(results / "entropy.csv", Profile)
    for profile in profiles:
        if profile.corpus not in facts:
            raise broken(
                results / "entropy.csv", f"{profile.model} was read on {profile.corpus}, which is no snapshot"
            )
    relatives = table(results / "relatives.csv", Relative)
    models = _compared(results / "relatives.csv", relatives)
    places = table(results / "map.csv", Place)
    # A single model has a place and no relative.
    if models and sorted(place.model for place in places) != models:
        raise broken(results / "map.csv", "its models are not those of relatives.csv, each once")
    return ReportData(
        scores=scores,
        trend=_months(results / "trend.csv"),
        differences=table(results / "differences.csv", Difference),
        fits=table(results / "fits.csv", Fit),
        points=table(results / "points.csv", Observation),
        law=table(results / "law.csv", Law),
        unmatched=table(results / "unmatched.csv", Unmatched),
        profiles=profiles,
        scaling=table(results / "scaling.csv", ScalingFit),
        scaling_points=table(results / "scaling_points.csv", ScalingPoint),
        relatives=relatives,
        phylogeny=_phylogeny(results / "tree.json", models),
        places=places,
        predictions=table(results / "predictions.csv", Prediction),
        corpora=tuple(facts.values()),
        passages=tuple(_passages(results / "passages", {score.model for score in scores}, facts)),
    )


def table(path: Path, record: type[T]) -> tuple[T, ...]:
    """Read a CSV file as records: every field needs its column, additional columns are ignored.

    Raises:
        UserError: when the file is missing, lacks a column, or holds a value of another kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for column in fields(record):  # type: ignore[arg-type]
                if column.name not in (reader.fieldnames or ()):
                    raise broken(path, f"it has no column {column.name!r}")
            return tuple(_record(path, reader.line_num, row, record) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise broken(path, str(error)) from error


def _passages(folder: Path, models: Collection[str], facts: Mapping[str, CorpusFacts]) -> Iterator[Passage]:
    """Yield the passages of the models that were scored; what an earlier params.yaml left behind is passed over."""
    for name, corpus in facts.items():
        for path in sorted(folder.glob(f"*/{name}.parquet")):
            passage = passage_cells.read(path) if path.parent.name in models else None
            if passage and (passage.model, passage.corpus) != (path.parent.name, name):
                raise broken(path, f"it holds a passage of {passage.corpus} by {passage.model}")
            if passage and passage.corpus_sha256 != corpus.documents_sha256:
                raise broken(path, f"its passage is of another version of {name} than corpora/ holds")
            if passage:
                yield passage


def _months(path: Path) -> tuple[MonthlyRate, ...]:
    """Read a trend.csv, whose months and cutoffs must be such."""
    rows = table(path, MonthlyRate)
    for row in rows:
        try:
            _check_day(f"{row.month}-01")
            if row.cutoff or row.cutoff_until:
                _check_day(row.cutoff_until)
        except ValueError as error:
            raise broken(path, f"{row.model} in {row.month!r}: {error}") from error
    return rows


def _check_day(text: str) -> None:
    if date.fromisoformat(text).isoformat() != text:
        raise ValueError(f"{text!r} is no day")


def _compared(path: Path, rows: Sequence[Relative]) -> list[str]:
    """Return the models that are compared, sorted; every two of them are, once and in the same way."""
    seen: set[frozenset[str]] = set()
    for row in rows:
        pair = frozenset((row.model, row.other))
        if len(pair) < 2 or pair in seen:
            why = "a model with itself" if len(pair) < 2 else "these two twice"
            raise broken(path, f"{row.model} and {row.other}: it compares {why}")
        seen.add(pair)
        for name in ("alleles", "estimator", "n_genes"):
            if getattr(row, name) != getattr(rows[0], name):
                values = f"{getattr(rows[0], name)!r} and {getattr(row, name)!r}"
                raise broken(path, f"distances of two kinds do not compare: its {name!r} is {values}")
    models = sorted(frozenset[str]().union(*seen))
    for a, b in combinations(models, 2):
        if frozenset((a, b)) not in seen:
            raise broken(path, f"it does not compare {a} and {b}")
    return models


def _phylogeny(path: Path, models: Sequence[str]) -> Phylogeny | None:
    """Read a tree.json, which is `{}` where there are no models to join."""
    values = _json(path)
    if values == {} and not models:
        return None
    match values:
        case {
            "root": "midpoint",
            "path_rmse": float() | int() as miss,
            "negative_branches": list(negative),
            "tree": nested,
        }:
            lengths = [miss, *negative]
        case _:
            raise broken(path, "it holds no tree with a root at its midpoint")
    try:
        tree = from_json(nested)
    except UserError as error:
        raise broken(path, str(error)) from error
    lengths += [node.length for node in nodes(tree)]
    if not all(type(length) in {int, float} and abs(length) < LARGEST for length in lengths):
        raise broken(path, "a length in it is no finite measurement")
    if sorted(leaves(tree)) != models:
        raise broken(path, "its models are not those of relatives.csv, each once")
    return Phylogeny(tree=tree, path_rmse=miss, negative_branches=tuple(map(float, negative)))


def _record(path: Path, line: int, row: dict[str, str | None], record: type[T]) -> T:
    values = {}
    for column in fields(record):  # type: ignore[arg-type]
        try:
            values[column.name] = _value(
                row[column.name], column.type, column.metadata.get("largest", LARGEST)
            )
        except ValueError as error:
            raise broken(path, f"line {line}, column {column.name!r}: {error}") from error
    return record(**values)


def _value(text: str | None, kind: Any, largest: float) -> object:
    if text is None:
        raise ValueError("the line ends before it")
    kind, *optional = get_args(kind) or (kind,)
    if optional and text.lower() in {"", "inf", "nan"}:
        return None
    if kind is bool:
        if text.lower() not in {"true", "false"}:
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    value = kind(text)
    if kind is float and not abs(value) < largest:
        raise ValueError(f"{text} is no finite measurement")
    return value


def _corpus(path: Path) -> CorpusFacts:
    values = _json(path)
    for fact in fields(CorpusFacts):
        if not isinstance(values, dict) or fact.name not in values:
            raise broken(path, f"it has no {fact.name!r}")
        value = values[fact.name]
        if fact.type == dict[str, int]:
            right = isinstance(value, dict) and all(type(count) is int for count in value.values())
        elif fact.type == list[str]:
            right = isinstance(value, list) and all(type(item) is str for item in value)
        else:
            right = type(value) in (get_args(fact.type) or (fact.type,))
        if not right:
            raise broken(path, f"its {fact.name!r} is {value!r}")
    if values["name"] != path.parent.name:
        raise broken(path, f"it describes {values['name']!r}")
    return CorpusFacts(**{fact.name: values[fact.name] for fact in fields(CorpusFacts)})


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path, str(error)) from error


def broken(path: Path, why: str) -> UserError:
    """Return the error for an input that is not what the pipeline writes."""
    return UserError(f"{path} cannot be read: {why}; rebuild it with `dvc repro`")
