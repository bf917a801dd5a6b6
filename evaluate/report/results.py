"""What the pipeline wrote for the report: small tables, read strictly, as records."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from collectors.document import UserError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The columns of scores.csv that the page shows: one rate of one model on one corpus.

    Attributes:
        metric: the unit of `value`: `bits_per_character`, `bits_per_byte` or `bits_per_token`.
        value: None where a model calls the text impossible, so that its bits are not finite.
        low: lower end of the 95 % interval of `value`, as `high` is its upper end; None without one.
        nll: nats that the documents scored cost, None where they are not finite.
        n_unscored_documents: documents that a precision left out.

    The others are those of `scores.Score`.
    """

    model: str
    name: str
    backend: str
    revision: str
    corpus: str
    corpus_sha256: str
    protocol: str
    prefix: str
    first_token: str
    context_length: int | None
    dtype: str
    quantization: str
    device: str
    attention: str
    unused_ids: int
    softcap: float | None
    tied_embeddings: bool | None
    special_text: str
    metric: str
    value: float | None
    nll: float | None
    low: float | None
    high: float | None
    deviation: float | None
    deviation_low: float | None
    deviation_high: float | None
    n_deviation: int
    n_documents: int
    n_unscored_documents: int
    n_tokens: int | None
    n_unscored_tokens: int
    n_lossy: int
    repair_nll: float
    software: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row of differences.csv: bits per character of `model` less those of `other`, on shared documents."""

    corpus: str
    model: str
    other: str
    protocol: str
    other_protocol: str
    difference: float
    low: float
    high: float
    n_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A row of fits.csv: benchmark score against bits per character; `refused` says why there is none."""

    dataset: str
    study: str
    area: str
    x: str
    y: str
    form: str
    n: int
    slope: float | None
    intercept: float | None
    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    spearman: float | None
    rmse: float | None
    loo_rmse: float | None
    best_form: str
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A row of points.csv: one model in one fit; `reason` says why one that is not used is left out."""

    dataset: str
    x: str
    y: str
    model: str
    x_value: float
    y_value: float
    used: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A row of law.csv: a published correlation and ours, which is None where it cannot be recomputed."""

    kind: str
    benchmark: str
    corpus: str
    published_pearson: float | None
    pearson: float | None
    published_rmse: float | None
    rmse: float | None
    difference: float | None
    n: int | None
    location: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A row of unmatched.csv: a scored model that enters no fit."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """A corpus.json: what a corpus holds, from a half-open window of ISO dates, and what was dropped."""

    name: str
    source: str
    content: str
    since: str
    until: str
    documents_sha256: str
    n_documents: int
    n_characters: int
    n_bytes: int
    published_from: str | None
    published_until: str | None
    dropped: dict[str, int]
    licenses: dict[str, int]
    date_evidence: dict[str, int]
    gaps: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything the page shows, one field per kind of input file."""

    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    fits: tuple[Fit, ...]
    points: tuple[Observation, ...]
    law: tuple[Law, ...]
    unmatched: tuple[Unmatched, ...]
    corpora: tuple[CorpusFacts, ...]


def read(results: Path, corpora: Path, names: Sequence[str]) -> ReportData:
    """Read what the pipeline wrote.

    Args:
        results: folder of scores.csv, differences.csv, fits.csv, points.csv, law.csv and unmatched.csv.
        corpora: folder that holds one folder with a corpus.json per corpus.
        names: the corpora that the report is about, in its order.

    Raises:
        UserError: when a file is missing or broken, or a score belongs to another version of its corpus.
    """
    scores = table(results / "scores.csv", Score)
    facts = {name: _corpus(corpora / name / "corpus.json") for name in names}
    for score in scores:
        if score.corpus not in facts or score.corpus_sha256 != facts[score.corpus].documents_sha256:
            raise broken(
                results / "scores.csv",
                f"{score.model} was scored on another version of {score.corpus} than corpora/ holds",
            )
    return ReportData(
        scores=scores,
        differences=table(results / "differences.csv", Difference),
        fits=table(results / "fits.csv", Fit),
        points=table(results / "points.csv", Observation),
        law=table(results / "law.csv", Law),
        unmatched=table(results / "unmatched.csv", Unmatched),
        corpora=tuple(facts.values()),
    )


def table(path: Path, record: type[T]) -> tuple[T, ...]:
    """Read a CSV file as records: every field needs its column, additional columns are ignored.

    Raises:
        UserError: when the file is missing, lacks a column, or holds a value of another kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for field in fields(record):  # type: ignore[arg-type]
                if field.name not in (reader.fieldnames or ()):
                    raise broken(path, f"it has no column {field.name!r}")
            return tuple(_record(path, reader.line_num, row, record) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise broken(path, str(error)) from error


def _record(path: Path, line: int, row: dict[str, str | None], record: type[T]) -> T:
    values = {}
    for field in fields(record):  # type: ignore[arg-type]
        try:
            values[field.name] = _value(row[field.name], field.type)
        except ValueError as error:
            raise broken(path, f"line {line}, column {field.name!r}: {error}") from error
    return record(**values)


def _value(text: str | None, kind: Any) -> object:
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
    # No rate or coefficient comes near this bound; beyond it no axis can be drawn.
    if kind is float and not abs(value) < 1e12:
        raise ValueError(f"{text} is no finite measurement")
    return value


def _corpus(path: Path) -> CorpusFacts:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise broken(path, str(error)) from error
    for field in fields(CorpusFacts):
        if not isinstance(values, dict) or field.name not in values:
            raise broken(path, f"it has no {field.name!r}")
        value = values[field.name]
        if field.type == dict[str, int]:
            right = isinstance(value, dict) and all(type(count) is int for count in value.values())
        elif field.type == list[str]:
            right = isinstance(value, list) and all(type(item) is str for item in value)
        else:
            right = type(value) in (get_args(field.type) or (field.type,))
        if not right:
            raise broken(path, f"its {field.name!r} is {value!r}")
    if values["name"] != path.parent.name:
        raise broken(path, f"it describes {values['name']!r}")
    return CorpusFacts(**{field.name: values[field.name] for field in fields(CorpusFacts)})


def broken(path: Path, why: str) -> UserError:
    """Return the error for an input that is not what the pipeline writes."""
    return UserError(f"{path} cannot be read: {why}; rebuild it with `dvc repro`")
