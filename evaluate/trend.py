"""Bits per character by month of publication: whether a model does worse on what it cannot have seen.

Documents that a model has scored are joined with their dates in the corpora, and pooled by month over all
corpora of one kind of content (after Li et al. 2024, arXiv 2402.00861). A rise behind a model's cutoff says
that it knew what came before; but months hold different documents, and the text itself may have become
harder: compressors were never trained, but for brotli, whose dictionary was made of web text, and their rows
tell how much of a rise is the text's.

Documents of one origin resemble each other, so origins are what an interval counts (see `origins`): it is that of
the logarithm of the rate, by the jackknife over origins and Student's t. Degrees of freedom are 1 less than the number
of origins of equal length that would be worth as much, 1 over the sum of the squared shares in the characters of the
month; where one origin makes up most of it there is no interval. It assumes that origins are independent.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import stdtrit

from collectors.document import UserError
from evaluate import origins
from evaluate.bootstrap import FEWEST
from evaluate.corpus import BUILT, built_corpus
from evaluate.model import Likelihood, ModelEntry
from evaluate.rates import rate, unit_counts
from evaluate.scores import write_records

# Protocols that read a corpus as one stream know of no document, and so of no month.
_STREAMS = re.compile(r"stream|huang2024/.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedCorpus:
    """A built corpus with the dates of its documents.

    Attributes:
        name: its own.
        content: what kind of text it holds.
        since: first day of its window, ISO.
        months: month of publication of each document, `YYYY-MM` in UTC, by id.
        origins: by id, of each document that has one.
    """

    name: str
    content: str
    since: str
    months: Mapping[str, str]
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one model paid for the documents of one corpus, under one protocol."""

    corpus: DatedCorpus
    protocol: str
    likelihoods: Sequence[Likelihood]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyRate:
    """A row of results/trend.csv: one model on what was published in one month.

    Attributes:
        name: the model's published name.
        month: `YYYY-MM`, UTC.
        protocol: `full/…` for `sink/…` too, which is `full` read faster.
        bits_per_character: of all documents of the month together.
        low: lower end of the 95 % interval over origins, None where they are worth fewer than `FEWEST` of equal length.
        high: upper end.
        n_documents: documents scored; where a precision left some out, the others are a random part.
        corpora: those that the documents are from, with spaces between.
        cutoff: as in `scores.Score`, like `cutoff_evidence`.
        cutoff_source: address of the evidence.
        cutoff_until: first day after the cutoff, ISO; empty where it is unknown.
        freshness: whether the whole month lies behind the cutoff, or what the corpora's windows hold of it: as in
            `scores.Score`.
    """

    model: str
    name: str
    backend: str
    content: str
    month: str
    protocol: str
    bits_per_character: float
    low: float | None
    high: float | None
    n_documents: int
    n_characters: int
    corpora: str
    cutoff: str
    cutoff_evidence: str
    cutoff_source: str
    cutoff_until: str
    freshness: str


def read(folder: Path) -> DatedCorpus:
    """Return a corpus that the pipeline built, with the months of its documents.

    Raises:
        UserError: when the folder holds none, or documents without an id or a date.
    """
    corpus = built_corpus(folder)
    try:
        since = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["since"]
        since = date.fromisoformat(since).isoformat()
        table = pq.ParquetFile(folder / BUILT).read(columns=["id", "published"])
        dates = table["published"].cast(pa.timestamp("us", tz="UTC")).to_pylist()
        months = {
            row: f"{published.astimezone(UTC):%Y-%m}"
            for row, published in zip(table["id"].to_pylist(), dates, strict=True)
        }
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        pa.ArrowException,
    ) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{folder} does not say when its text was published ({why}); rebuild it with `dvc repro`"
        ) from error
    return DatedCorpus(
        name=corpus.name, content=corpus.content, since=since, months=months, origins=origins.of(corpus)
    )


def trend(entry: ModelEntry, parts: Iterable[Part]) -> list[MonthlyRate]:
    """Return a model's rates by content, month and protocol, in that order.

    Protocols that read a whole corpus as one stream are left out, as are months of which no text was scored.

    Args:
        entry: the model's.
        parts: one for each corpus and protocol.

    Raises:
        UserError: when a document that was scored is not in its corpus.
    """
    pooled: dict[tuple[str, str, str], list[tuple[str, Likelihood]]] = {}
    corpora: dict[tuple[str, str, str], dict[str, str]] = {}
    for part in parts:
        if _STREAMS.fullmatch(part.protocol):
            continue
        protocol = re.sub("^sink/", "full/", part.protocol)
        for row in part.likelihoods:
            if row.document not in part.corpus.months:
                raise UserError(
                    f"{entry.slug} scored document {row.document!r}, which {part.corpus.name} does not hold; score "
                    "this version of the corpus with `dvc repro`"
                )
            key = part.corpus.content, part.corpus.months[row.document], protocol
            pooled.setdefault(key, []).append((part.corpus.origins.get(row.document, row.document), row))
            corpora.setdefault(key, {})[part.corpus.name] = part.corpus.since
    return [
        _row(entry, key, documents, corpora[key])
        for key, documents in sorted(pooled.items())
        if any(row.n_characters for _, row in documents)
    ]


def write(path: Path, rows: Iterable[MonthlyRate]) -> None:
    """Write trend.csv as `scores.write_records` does, sorted."""
    order = sorted(rows, key=lambda row: (row.content, row.model, row.protocol, row.month))
    write_records(path, MonthlyRate, order)


def _row(
    entry: ModelEntry,
    key: tuple[str, str, str],
    documents: Sequence[tuple[str, Likelihood]],
    corpora: Mapping[str, str],
) -> MonthlyRate:
    content, month, protocol = key
    likelihoods = [row for _, row in documents]
    low, high = _interval([name for name, _ in documents], likelihoods) or (None, None)
    trained, end = entry.backend != "compressors", entry.cutoff.first_after
    return MonthlyRate(
        model=entry.slug,
        name=entry.name,
        backend=entry.backend,
        content=content,
        month=month,
        protocol=protocol,
        bits_per_character=rate(likelihoods, "character"),
        low=low,
        high=high,
        n_documents=len(likelihoods),
        n_characters=sum(row.n_characters for row in likelihoods),
        corpora=" ".join(corpora),
        cutoff=entry.cutoff.date,
        cutoff_evidence=entry.cutoff.evidence if trained else "",
        cutoff_source=entry.cutoff.source,
        cutoff_until=end.isoformat() if end else "",
        freshness=entry.cutoff.freshness(max(f"{month}-01", min(corpora.values()))) if trained else "",
    )


def _interval(names: Sequence[str], likelihoods: Sequence[Likelihood]) -> tuple[float, float] | None:
    """Return the 95 % interval of the rate of documents of these origins, or None of too few."""
    value, numbers = rate(likelihoods, "character"), np.unique(names, return_inverse=True)[1]
    nll = np.bincount(numbers, [row.nll for row in likelihoods]) / math.log(2)
    characters = np.bincount(numbers, unit_counts(likelihoods, "character"))
    n, shares = np.count_nonzero(characters), characters / characters.sum()
    alike = round(1 / float(shares @ shares), 9)
    if alike < FEWEST or not math.isfinite(value):
        return None
    if not value:
        return value, value
    deleted = (nll / characters.sum() - value * shares) / (1 - shares)
    error = math.sqrt((n - 1) / n * float(deleted @ deleted)) / value
    width = float(stdtrit(alike - 1, 0.975)) * error
    return value * math.exp(-width), value * math.exp(width)
