"""Cells of membership: how familiar every document of a corpus is to a model, and what that comes to.

A cell keeps the figures of every document, so that every aggregate and every comparison of corpora is derived.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from collectors.document import UserError
from evaluate import cells
from evaluate.entropy import interval, resampled_means
from evaluate.membership import Array, Familiarity, saving

# Of the bootstrap over documents.
SEED, RESAMPLES = 1, 1000

_FIGURES = [(f.name, pa.int64() if f.type in (int, "int") else pa.float64()) for f in fields(Familiarity)]
SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("model", "backend", "revision", "corpus", "content", "corpus_sha256")]
    + [(n, pa.string()) for n in ("protocol", "prefix")]
    + [("context_length", pa.int64())]
    + [(n, pa.string()) for n in ("dtype", "quantization", "device", "attention")]
    + [("unused_ids", pa.int64()), ("softcap", pa.float64()), ("tied_embeddings", pa.bool_())]
    + [(n, pa.string()) for n in ("special_text", "software", "document", "skipped")]
    + _FIGURES
)
_FILLED = {"model", "corpus", "corpus_sha256", "protocol", "document", "skipped"}

Row = Mapping[str, Any]

# By name, the statistic of a document, higher where it looks more like one that was trained on.
STATISTICS: dict[str, Callable[[Row], float]] = {
    "min_k_plus_plus": lambda row: float(row["min_k_plus_plus"]),
    "min_k": lambda row: float(row["min_k"]),
    "bits": lambda row: -float(row["bits"] / row["n_characters"]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFigure:
    """An aggregate over the documents of a corpus.

    Attributes:
        protocol: how many tokens were read, and which share of them counts.
        metric: `min_k` in nats or `min_k_plus_plus` in standard deviations, means over documents;
            `bits_per_character`, all bits over all characters; or `saving`, the mean over documents of the
            bits per character that the model saves against a reference.
        reference: the slug of that reference, empty for the other metrics.
        low: lower end of the 95 % bootstrap interval over documents, None for a single document.
        high: upper end.
        n_documents: documents measured.
        n_skipped: documents without a token to predict.
    """

    model: str
    corpus: str
    protocol: str
    metric: str
    reference: str = ""
    value: float
    low: float | None
    high: float | None
    n_documents: int
    n_skipped: int


def is_current(path: Path, key: str) -> bool:
    """Return whether a cell was made under this key; see `cells.is_current`."""
    return cells.is_current(path, SCHEMA, key)


def write(path: Path, rows: Sequence[Row], key: str) -> None:
    """Write a cell; see `cells.write`."""
    cells.write(path, SCHEMA, key, rows)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a cell, one for each document.

    Raises:
        UserError: when the file is no such cell.
    """
    rows = cells.read(path, SCHEMA, "membership", _FILLED)
    measured = [row for row in rows if not row["skipped"]]
    cells.check_measured(path, measured, [name for name, _ in _FIGURES])
    if not all(map(_is_possible, measured)):
        raise UserError(f"{path} holds figures that no text has; delete it and run `dvc repro`")
    return rows


def _is_possible(row: Row) -> bool:
    finite = all(math.isfinite(row[name]) for name, _ in _FIGURES)
    return finite and row["n_characters"] > 0 and re.fullmatch(r".+/[0-9.e-]+", row["protocol"]) is not None


def statistics(rows: Sequence[Row], name: str) -> Array:
    """Return one of `STATISTICS` for each document, NaN where it was skipped, shape [documents]."""
    return np.array([math.nan if row["skipped"] else STATISTICS[name](row) for row in rows])


def summary(rows: Sequence[Row]) -> list[CorpusFigure]:
    """Return every aggregate of a cell; none where no document was measured."""
    measured = [row for row in rows if not row["skipped"]]
    if not measured:
        return []
    names = ("min_k", "min_k_plus_plus", "bits", "n_characters")
    columns = np.array([[row[name] for row in measured] for name in names], dtype=np.float64)
    values, drawn = columns.mean(1), resampled_means(columns, SEED, RESAMPLES)
    return [
        _figure(rows, "min_k", values[0], drawn[0]),
        _figure(rows, "min_k_plus_plus", values[1], drawn[1]),
        _figure(rows, "bits_per_character", values[2] / values[3], drawn[2] / drawn[3]),
    ]


def saved(rows: Sequence[Row], reference: Sequence[Row], name: str) -> CorpusFigure | None:
    """Return what a model saves against a reference, or None where no document was measured under both.

    Args:
        rows: of the model's cell.
        reference: rows of the same documents, in the same order, with `bits`, `n_characters` and `skipped`.
        name: the reference's slug.
    """
    pairs = [
        (own["bits"], own["n_characters"], other["bits"], other["n_characters"])
        for own, other in zip(rows, reference, strict=True)
        if not own["skipped"] and not other["skipped"]
    ]
    if not pairs:
        return None
    savings = saving(*np.array(pairs, dtype=np.float64).T)
    (drawn,) = resampled_means(savings[None], SEED, RESAMPLES)
    return _figure(rows, "saving", savings.mean(), drawn, name, len(pairs))


def _figure(
    rows: Sequence[Row],
    metric: str,
    value: float,
    drawn: Array,
    reference: str = "",
    n_documents: int | None = None,
) -> CorpusFigure:
    low, high = interval(drawn)
    n = sum(not row["skipped"] for row in rows) if n_documents is None else n_documents
    return CorpusFigure(
        model=rows[0]["model"],
        corpus=rows[0]["corpus"],
        protocol=rows[0]["protocol"],
        metric=metric,
        reference=reference,
        value=float(value),
        low=low,
        high=high,
        n_documents=n,
        n_skipped=len(rows) - n,
    )
