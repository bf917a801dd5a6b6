"""Cells of likelihoods, and the scores that they come to: the rows of results/scores.csv."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from collectors.document import replacing
from evaluate import cells, stopping
from evaluate.corpus import Corpus
from evaluate.model import Conditions, Likelihood, ModelEntry
from evaluate.rates import Unit, deviation, interval, rate, unit_counts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

# Part of every key: raise it when the same inputs would give other numbers.
ARITHMETIC = 2
METRICS: dict[str, Unit] = {
    "bits_per_character": "character",
    "bits_per_byte": "byte",
    "bits_per_token": "token",
}

_CELL = pa.schema(
    [(n, pa.string()) for n in ("model", "backend", "revision", "corpus", "content", "corpus_sha256")]
    + [(n, pa.string()) for n in ("protocol", "prefix", "first_token")]
    + [("precision", pa.float64()), ("seed", pa.int64()), ("context_length", pa.int64())]
    + [(n, pa.string()) for n in ("dtype", "quantization", "device", "attention")]
    + [("unused_ids", pa.int64()), ("softcap", pa.float64()), ("tied_embeddings", pa.bool_())]
    + [(n, pa.string()) for n in ("special_text", "document")]
    + [(n, pa.int64()) for n in ("n_tokens", "n_unscored", "n_characters", "n_bytes")]
    + [(n, pa.float64()) for n in ("nll", "exact_nll", "repair_nll")]
    + [("lossless", pa.bool_()), ("software", pa.string())]
)
_FILLED = {"model", "corpus", "corpus_sha256", "protocol", "document", "n_characters", "n_bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Likelihoods under one protocol, and what they depend on.

    Attributes:
        protocol: such as `full/1900/512`; for compressors `document` or `stream`.
        revision: of the model.
        software: versions that the numbers depend on.
        likelihoods: one for each document that was scored, or a single one for a stream.
        unscored: id, characters and bytes of each document that a precision left out.
        prefix: what stood before the first token.
        first_token: what was done with it; see `likelihood.first_token`.
        context_length: the most tokens that the model was built for, None without a limit.
        conditions: what else can move the numbers; None for compressors.
        precision: half the width of the interval, relative, at which scoring was to stop; None without.
        seed: of the order in which documents were scored or sampled; None where none was drawn.
    """

    protocol: str
    revision: str
    software: str
    likelihoods: list[Likelihood]
    unscored: list[tuple[str, int, int]] = field(default_factory=list)
    prefix: str = ""
    first_token: str = ""
    context_length: int | None = None
    conditions: Conditions | None = None
    precision: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number with its interval and provenance: a row of `results/scores.csv`.

    Attributes:
        precision: half the width of the interval, relative, at which scoring was to stop; None without.
        seed: of the order in which documents were scored or sampled; None where none was drawn.
        first_token: what was done with a document's first token; see `likelihood.first_token`.
        dtype: this and the following up to `special_text` as in `model.Conditions`.
        value: bits per character, byte or token, or a figure of `entropy`, as `metric` says.
        nll: nats that the documents scored cost; None where nothing was to be predicted.
        low: lower end of the 95 % interval: of the corpus's own rate where a precision left documents
            out, else of a bootstrap over documents, which asks how much another such corpus would
            differ. None for a single document.
        high: upper end.
        ceiling: the most that `value` can be, for figures of `entropy` that have such a bound.
        deviation: of an approximate protocol from the exact one, relative; None for an exact one.
        deviation_low: lower end of its 95 % interval, None for a single document.
        deviation_high: upper end.
        n_deviation: documents scored under both protocols.
        n_unscored_documents: documents that a precision left out, or that have no entropy.
        n_unscored_tokens: tokens that nobody paid for, in the documents scored.
        n_lossy: documents that the model's tokenizer does not restore exactly.
        repair_nll: nats, within `nll`, that mend them.
        family: of models that differ in size alone, as params.yaml names it; empty without one.
        n_parameters: weights of the model, where they were counted.
        cutoff: ISO day, month or year that the model's training text may reach into; empty where it is unknown.
        cutoff_evidence: one of `model.Evidence`; empty for compressors, and before `dated` was asked.
        freshness: whether the corpus postdates the cutoff: one of `model.Freshness`, empty likewise.
    """

    model: str
    name: str
    family: str
    backend: str
    revision: str
    corpus: str
    content: str
    corpus_sha256: str
    protocol: str
    prefix: str
    precision: float | None
    seed: int | None
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
    value: float
    nll: float | None
    low: float | None
    high: float | None
    ceiling: float | None = None
    deviation: float | None
    deviation_low: float | None
    deviation_high: float | None
    n_deviation: int
    n_documents: int
    n_unscored_documents: int
    n_characters: int | None
    n_bytes: int | None
    n_tokens: int | None
    n_unscored_tokens: int
    n_lossy: int
    repair_nll: float
    n_parameters: int | None = None
    cutoff: str = ""
    cutoff_evidence: str = ""
    freshness: str = ""
    software: str


def cell_key(entry: ModelEntry, weights: str, settings: str, corpus: Corpus) -> str:
    """Return the key of a cell; see `cells.key`."""
    return cells.key(ARITHMETIC, entry, weights, settings, corpus.sha256)


def is_current(path: Path, key: str) -> bool:
    """Return whether a cell was made under this key; see `cells.is_current`."""
    return cells.is_current(path, _CELL, key)


def write_cell(path: Path, entry: ModelEntry, corpus: Corpus, scored: Sequence[Scored], key: str) -> None:
    """Write a cell, see `cells.write`."""
    rows = (
        {**_origin(entry, corpus, part), **row}
        for part in scored
        for row in [
            *(asdict(row) for row in part.likelihoods),
            *(
                {"document": document, "n_characters": characters, "n_bytes": n_bytes}
                for document, characters, n_bytes in part.unscored
            ),
        ]
    )
    cells.write(path, _CELL, key, rows)


def read_cell(path: Path, name: str, family: str = "") -> list[Score]:
    """Return the scores of a cell, every metric of every protocol in it.

    Args:
        path: the cell's file.
        name: the model's published name, which may change without any number changing.
        family: likewise, of the family of models that it belongs to.

    Raises:
        UserError: when the file is no cell.
    """
    rows = _read(path)
    scores = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        part = [row for row in rows if row["protocol"] == protocol]
        paid = [_likelihood(row) for row in part if row["nll"] is not None]
        unscored = [(row["n_characters"], row["n_bytes"]) for row in part if row["nll"] is None]
        own = {f.name for f in fields(Likelihood)}
        origin = {column: part[0][column] for column in _CELL.names if column not in own}
        scores += _summaries(paid, unscored, {**origin, "name": name, "family": family})
    return scores


def paid(path: Path) -> dict[str, list[Likelihood]]:
    """Return by protocol what the documents that a cell scores cost.

    Raises:
        UserError: when the file is no cell.
    """
    found: dict[str, list[Likelihood]] = {}
    for row in _read(path):
        if row["nll"] is not None:
            found.setdefault(row["protocol"], []).append(_likelihood(row))
    return found


def summarise(entry: ModelEntry, corpus: Corpus, scored: Scored) -> list[Score]:
    """Return every metric of likelihoods that were just computed."""
    origin = {**_origin(entry, corpus, scored), "name": entry.name, "family": entry.family}
    unscored = [(characters, n_bytes) for _, characters, n_bytes in scored.unscored]
    return _summaries(scored.likelihoods, unscored, origin)


def dated(rows: Iterable[Score], entry: ModelEntry, since: str) -> list[Score]:
    """Return scores of a model on one corpus with its cutoff, and whether the corpus postdates it.

    Args:
        rows: of `read_cell`, or of `entropy_cells.scores`.
        entry: the model's; a compressor was not trained, and its rows stay as they are.
        since: first day of the corpus's window, ISO.
    """
    if entry.backend == "compressors":
        return list(rows)
    cutoff, freshness = entry.cutoff, entry.cutoff.freshness(since)
    return [
        replace(row, cutoff=cutoff.date, cutoff_evidence=cutoff.evidence, freshness=freshness) for row in rows
    ]


def _origin(entry: ModelEntry, corpus: Corpus, scored: Scored) -> dict[str, Any]:
    named = scored.conditions or Conditions(dtype="", device="", special_text="")
    return {
        "model": entry.slug,
        "backend": entry.backend,
        "revision": scored.revision,
        "corpus": corpus.name,
        "content": corpus.content,
        "corpus_sha256": corpus.sha256,
        "protocol": scored.protocol,
        "prefix": scored.prefix,
        "precision": scored.precision,
        "seed": scored.seed,
        "first_token": scored.first_token,
        "context_length": scored.context_length,
        **asdict(named),
        "software": scored.software,
    }


def _summaries(
    rows: Sequence[Likelihood], unscored: Sequence[tuple[int, int]], origin: Mapping[str, Any]
) -> list[Score]:
    found = deviation(rows)
    counted = [row.n_tokens for row in rows if row.n_tokens is not None]
    common = {
        **origin,
        "nll": sum(row.nll for row in rows),
        "deviation": found and found.value,
        "deviation_low": found and found.low,
        "deviation_high": found and found.high,
        "n_deviation": found.n_documents if found else 0,
        "n_documents": len(rows),
        "n_unscored_documents": len(unscored),
        "n_characters": sum(row.n_characters for row in rows),
        "n_bytes": sum(row.n_bytes for row in rows),
        "n_tokens": sum(counted) if counted else None,
        "n_unscored_tokens": sum(row.n_unscored for row in rows),
        "n_lossy": sum(not row.lossless for row in rows),
        "repair_nll": sum(row.repair_nll for row in rows),
    }
    scores = []
    for metric, unit in METRICS.items():
        if unit == "token" and not any(counted):
            continue
        low, high = _interval(rows, unscored, unit) or (None, None)
        scores.append(Score(**common, metric=metric, value=rate(rows, unit), low=low, high=high))
    return scores


def _interval(
    rows: Sequence[Likelihood], unscored: Sequence[tuple[int, int]], unit: Unit
) -> tuple[float, float] | None:
    if not unscored:
        return interval(rows, unit)
    if unit == "token":  # how many the others have is not known
        return None
    column = 0 if unit == "character" else 1
    population = [*unit_counts(rows, unit).astype(int), *(counts[column] for counts in unscored)]
    return stopping.interval(rows, population, unit)


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write scores as `write_records` does, sorted."""
    write_records(path, Score, sorted(scores, key=lambda s: (s.model, s.corpus, s.protocol, s.metric)))


def write_records(path: Path, kind: type[T], records: Iterable[T]) -> None:
    """Write dataclasses of one kind as CSV, by rename; floats with nine significant digits."""
    names = [f.name for f in fields(kind)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for record in records:
            values = (getattr(record, name) for name in names)
            writer.writerow([f"{value:.9g}" if isinstance(value, float) else value for value in values])


def _read(path: Path) -> list[dict[str, Any]]:
    rows = cells.read(path, _CELL, "score", _FILLED)
    paid_for = (row for row in rows if row["nll"] is not None)
    cells.check_measured(path, paid_for, ("n_unscored", "repair_nll", "lossless"))
    return rows


def _likelihood(row: Mapping[str, Any]) -> Likelihood:
    return Likelihood(**{f.name: row[f.name] for f in fields(Likelihood)})
