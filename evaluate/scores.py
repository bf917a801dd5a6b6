"""Cells of model and corpus, each a Parquet file of likelihoods, scored once for what they were made from.

A cell's file repeats in every row which model, revision, protocol and corpus digest it came from,
so that `SELECT … FROM 'results/scores/*/*.parquet'` needs nothing else. Its key is a digest of those;
a cell whose key still matches is not scored again, whoever made it: this machine, a cluster, a cache.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.document import UserError, replacing
from evaluate import compressors
from evaluate.corpus import Corpus
from evaluate.likelihood import Unit, interval, likelihoods, rate
from evaluate.model import LanguageModel, Likelihood
from evaluate.weights import identity
from evaluate.windows import ScoringProtocol

# Part of every key: raise it when the same inputs would give other numbers.
ARITHMETIC = 1
BACKENDS = ("transformers", "compressors")
METRICS: dict[str, Unit] = {
    "bits_per_character": "character",
    "bits_per_byte": "byte",
    "bits_per_token": "token",
}

_CELL = pa.schema(
    [(n, pa.string()) for n in ("model", "backend", "revision", "corpus", "content", "corpus_sha256")]
    + [(n, pa.string()) for n in ("protocol", "prefix", "document")]
    + [(n, pa.int64()) for n in ("n_tokens", "n_characters", "n_bytes")]
    + [("nll", pa.float64()), ("lossless", pa.bool_()), ("software", pa.string())]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model as `params.yaml` lists it.

    Attributes:
        slug: its key there, and the name of its folder of cells.
        backend: one of `BACKENDS`.
        name: its published name, which joins it with benchmark scores.
        options: what the backend is told: `source`, `sha256`, `separator`, … or `codec`.
    """

    slug: str
    backend: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Likelihoods under one protocol, and what they depend on.

    Attributes:
        protocol: such as `full/1900/512`; for compressors `document` or `stream`.
        revision: of the model.
        prefix: what stood before the first token.
        software: versions that the numbers depend on.
        likelihoods: one for each document, or a single one for a stream.
    """

    protocol: str
    revision: str
    prefix: str
    software: str
    likelihoods: list[Likelihood]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number with its interval and provenance: a row of `results/scores.csv`.

    Attributes:
        value: bits per character, byte or token, as `metric` says.
        nll: nats that the whole corpus costs.
        low: lower end of the 95 % bootstrap interval over documents, None for a single document.
        high: upper end.
        n_lossy: documents that the model's tokenizer does not restore exactly.
    """

    model: str
    name: str
    backend: str
    revision: str
    corpus: str
    content: str
    corpus_sha256: str
    protocol: str
    prefix: str
    metric: str
    value: float
    nll: float
    low: float | None
    high: float | None
    n_documents: int
    n_characters: int
    n_bytes: int
    n_tokens: int | None
    n_lossy: int
    software: str


Scorer = Callable[[Corpus, Path], list[Scored]]


def scorer(entry: ModelEntry, protocol: ScoringProtocol, warn: Callable[[str], None]) -> Scorer:
    """Return what scores a corpus with a model, loaded once; the scorer's second argument is its journal.

    Raises:
        UserError: when the backend is unknown, an option is wrong, or the model does not load.
    """
    if entry.backend == "compressors":
        wrong = set(entry.options) - {"codec"}
        if wrong:
            raise UserError(
                f"model {entry.slug} in params.yaml has wrong options: {', '.join(sorted(wrong))}"
            )
        return _compressor_scorer(str(entry.options.get("codec", entry.slug)))
    if entry.backend != "transformers":
        raise UserError(
            f"backend {entry.backend!r} of {entry.slug} is unknown; choose one of {', '.join(BACKENDS)}"
        )
    from evaluate.transformers_model import load

    wrong = set(entry.options) - set(signature(load).parameters)
    if wrong or "source" not in entry.options:
        raise UserError(
            f"model {entry.slug} in params.yaml has wrong options ({', '.join(sorted(wrong)) or 'no source'}); it "
            f"takes {', '.join(signature(load).parameters)}"
        )
    model = load(**{**entry.options, "name": entry.slug})
    fitted = protocol.within(model.context_length)
    if fitted != protocol:
        warn(
            f"{entry.slug} reads {model.context_length} tokens, fewer than the window of {protocol.window}: "
            f"scored as {fitted}, which is not comparable with {protocol}"
        )
    return _language_model_scorer(model, fitted)


def _compressor_scorer(codec: str) -> Scorer:
    settings = compressors.codec(codec).settings

    def score(corpus: Corpus, _journal: Path) -> list[Scored]:
        alone, stream = compressors.likelihoods(codec, corpus.documents())
        return [
            Scored(protocol=protocol, revision=settings, prefix="", software=settings, likelihoods=rows)
            for protocol, rows in (("document", alone), ("stream", [stream]))
        ]

    return score


def _language_model_scorer(model: LanguageModel, protocol: ScoringProtocol) -> Scorer:
    def score(corpus: Corpus, journal: Path) -> list[Scored]:
        rows = likelihoods(
            model,
            corpus.documents(),
            protocol,
            journal_file=journal,
            key=_digest([model.revision, model.software, str(model.prefix), str(protocol), corpus.sha256]),
            label=f"{model.name} on {corpus.name}",
        )
        return [
            Scored(
                protocol=str(protocol),
                revision=model.revision,
                prefix=str(model.prefix),
                software=model.software,
                likelihoods=rows,
            )
        ]

    return score


def weights_of(entry: ModelEntry) -> str:
    """Return what identifies an entry's weights, or its codec; empty for a hub id without a revision.

    Raises:
        UserError: when a local model is missing or not what its entry declares.
    """
    if entry.backend == "transformers":
        wanted = {name: entry.options.get(name) for name in ("revision", "sha256")}
        return identity(str(entry.options.get("source")), **wanted)
    return f"codec:{entry.options.get('codec', entry.slug)}"


def cell_key(entry: ModelEntry, weights: str, protocol: ScoringProtocol, corpus: Corpus) -> str:
    """Return the digest of what makes a cell's numbers: model and weights, protocol, texts, our arithmetic.

    Library versions are recorded in the cell and not part of its key: an upgrade scores nothing again.
    """
    options = dict(entry.options)
    return _digest([ARITHMETIC, entry.slug, entry.backend, options, weights, str(protocol), corpus.sha256])


def is_current(path: Path, key: str) -> bool:
    """Return whether a cell's file was made under this key."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return bool(metadata.get(b"key") == key.encode())


def write_cell(path: Path, entry: ModelEntry, corpus: Corpus, scored: Sequence[Scored], key: str) -> None:
    """Write a cell by rename; its key stands in the file's metadata, for a cell may have no rows."""
    rows = [{**_origin(entry, corpus, part), **asdict(row)} for part in scored for row in part.likelihoods]
    with replacing(path) as temporary:
        table = pa.Table.from_pylist(rows, schema=_CELL.with_metadata({"key": key}))
        pq.write_table(table, temporary, compression="zstd")


def read_cell(path: Path, name: str) -> list[Score]:
    """Return the scores of a cell, every metric of every protocol in it.

    Args:
        path: the cell's file.
        name: the model's published name, which may change without any number changing.

    Raises:
        UserError: when the file is no cell.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing; make it with `python -m evaluate score --model {path.parent.name}`"
        )
    try:
        rows = pq.read_table(path, schema=_CELL).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no readable cell of scores; delete it and run `dvc repro`") from error
    scores = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        part = [row for row in rows if row["protocol"] == protocol]
        own = [f.name for f in fields(Likelihood)]
        paid = [Likelihood(**{column: row[column] for column in own}) for row in part]
        origin = {column: part[0][column] for column in _CELL.names if column not in own}
        origin["name"] = name
        scores += [score for metric in METRICS for score in _summarise(paid, metric, origin)]
    return scores


def summarise(entry: ModelEntry, corpus: Corpus, scored: Scored) -> list[Score]:
    """Return every metric of likelihoods that just came from a scorer."""
    origin = {**_origin(entry, corpus, scored), "name": entry.name}
    return [score for metric in METRICS for score in _summarise(scored.likelihoods, metric, origin)]


def _origin(entry: ModelEntry, corpus: Corpus, scored: Scored) -> dict[str, str]:
    return {
        "model": entry.slug,
        "backend": entry.backend,
        "revision": scored.revision,
        "corpus": corpus.name,
        "content": corpus.content,
        "corpus_sha256": corpus.sha256,
        "protocol": scored.protocol,
        "prefix": scored.prefix,
        "software": scored.software,
    }


def _summarise(rows: Sequence[Likelihood], metric: str, origin: Mapping[str, Any]) -> list[Score]:
    unit = METRICS[metric]
    if unit == "token" and not any(row.n_tokens for row in rows):
        return []
    low, high = interval(rows, unit) or (None, None)
    counted = [row.n_tokens for row in rows if row.n_tokens is not None]
    return [
        Score(
            **origin,
            metric=metric,
            value=rate(rows, unit),
            nll=sum(row.nll for row in rows),
            low=low,
            high=high,
            n_documents=len(rows),
            n_characters=sum(row.n_characters for row in rows),
            n_bytes=sum(row.n_bytes for row in rows),
            n_tokens=sum(counted) if counted else None,
            n_lossy=sum(not row.lossless for row in rows),
        )
    ]


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write scores as CSV, sorted, by rename; floats with nine significant digits."""
    names = [f.name for f in fields(Score)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for score in sorted(scores, key=lambda s: (s.model, s.corpus, s.protocol, s.metric)):
            values = (getattr(score, name) for name in names)
            writer.writerow([f"{value:.9g}" if isinstance(value, float) else value for value in values])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
