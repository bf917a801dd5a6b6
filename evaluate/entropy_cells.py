"""Cells of matrix entropy, and what they come to: a profile over layers, and rows of the score table.

A cell keeps the figures of every document and layer, of the model and of its untrained twin, so that every
aggregate is derived and none is stored.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from collectors.document import UserError
from evaluate import cells, entropy
from evaluate.entropy import Figures
from evaluate.scores import Score

# Of the bootstrap over documents.
SEED = 1

_ORIGIN = (
    [(n, pa.string()) for n in ("model", "backend", "revision", "corpus", "content", "corpus_sha256")]
    + [(n, pa.string()) for n in ("protocol", "prefix")]
    + [("seed", pa.int64()), ("initializer_range", pa.float64()), ("context_length", pa.int64())]
    + [(n, pa.string()) for n in ("dtype", "quantization", "device", "attention")]
    + [("unused_ids", pa.int64()), ("softcap", pa.float64()), ("tied_embeddings", pa.bool_())]
    + [("special_text", pa.string()), ("n_parameters", pa.int64()), ("n_layers", pa.int64())]
    + [("software", pa.string())]
)
_FIGURES = [(f.name, pa.int64() if f.type in (int, "int") else pa.float64()) for f in fields(Figures)]
SCHEMA = pa.schema(
    [
        *_ORIGIN,
        ("document", pa.string()),
        ("layer", pa.int64()),
        ("untrained", pa.bool_()),
        ("skipped", pa.string()),
        *_FIGURES,
    ]
)
_FILLED = {
    "model",
    "corpus",
    "corpus_sha256",
    "protocol",
    "n_layers",
    "document",
    "layer",
    "untrained",
    "skipped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFigure:
    """A row of results/entropy.csv: an aggregate over the documents of a corpus, at one layer.

    Attributes:
        layer: 0 for the embeddings, `n_layers` for the last hidden states, behind the final norm.
        metric: one of `entropy.METRICS`, or `diff_erank`.
        low: lower end of the 95 % bootstrap interval over documents, None for a single document.
        high: upper end.
        ceiling: the same aggregate of what the documents' entropies can be at most; None without a bound.
        n_documents: documents measured.
        n_skipped: documents with nothing to measure: too short, or alike at every token.
    """

    model: str
    name: str
    corpus: str
    layer: int
    n_layers: int
    metric: str
    value: float
    low: float | None
    high: float | None
    ceiling: float | None
    n_documents: int
    n_skipped: int


def is_current(path: Path, key: str) -> bool:
    """Return whether a cell was made under this key; see `cells.is_current`."""
    return cells.is_current(path, SCHEMA, key)


def write(path: Path, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    """Write a cell; see `cells.write`."""
    cells.write(path, SCHEMA, key, rows)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a cell: a document, a layer, trained or not, in each.

    Raises:
        UserError: when the file is no such cell.
    """
    rows = cells.read(path, SCHEMA, "entropy", _FILLED)
    measured = [row for row in rows if not row["skipped"]]
    cells.check_measured(path, measured, [name for name, _ in _FIGURES])
    trained, twins = (
        Counter(row["layer"] for row in rows if row["untrained"] is twin) for twin in (False, True)
    )
    # A twin reads what its model has read, at the last layer alone.
    if any(n != trained[layer] for layer, n in twins.items()) or not all(map(_is_possible, measured)):
        raise UserError(f"{path} holds figures that no text has; delete it and run `dvc repro`")
    return rows


def _is_possible(row: Mapping[str, Any]) -> bool:
    """Whether figures can be aggregated: entropy is at most the logarithm of a width, anisotropy has one."""
    return (
        row["n_tokens"] > 1
        and row["width"] > 1
        and abs(row["entropy"]) <= row["width"]
        and row["anisotropy"] > 0
        and all(math.isfinite(row[name]) for name, _ in _FIGURES)
    )


def profile(rows: Sequence[Mapping[str, Any]], name: str) -> list[LayerFigure]:
    """Return every aggregate at every layer that was measured.

    Args:
        rows: of one cell.
        name: the model's published name.
    """
    layers: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        layers.setdefault(row["layer"], []).append(row)
    found = []
    for layer, own in sorted(layers.items()):
        trained = [_figures(row) for row in own if not row["untrained"]]
        twin = [_figures(row) for row in own if row["untrained"]]
        measured = [figures for figures in trained if figures]
        # Both read the documents in the same order; their ids are the user's, and may repeat.
        paired = [(a, b) for a, b in zip(twin, trained, strict=True) if a and b] if twin else []
        aggregates = [
            (each, len(measured)) for each in (entropy.aggregate(measured, seed=SEED) if measured else [])
        ]
        if paired:
            aggregates.append((entropy.diff_erank(*zip(*paired, strict=True), seed=SEED), len(paired)))
        found += [
            LayerFigure(
                model=own[0]["model"],
                name=name,
                corpus=own[0]["corpus"],
                layer=layer,
                n_layers=own[0]["n_layers"],
                n_documents=n,
                n_skipped=len(trained) - n,
                **asdict(aggregate),
            )
            for aggregate, n in aggregates
        ]
    return found


def scores(rows: Sequence[Mapping[str, Any]], figures: Sequence[LayerFigure], family: str) -> list[Score]:
    """Return the aggregates at the last layer as rows of results/scores.csv.

    Args:
        rows: of one cell.
        figures: its profile.
        family: of models that it belongs to.
    """
    own = {
        "document",
        "layer",
        "untrained",
        "skipped",
        "n_layers",
        "initializer_range",
        *(f.name for f in fields(Figures)),
    }
    return [
        Score(
            **{column: rows[0][column] for column in SCHEMA.names if column not in own},
            name=figure.name,
            family=family,
            precision=None,
            first_token="",
            metric=figure.metric,
            value=figure.value,
            nll=None,
            low=figure.low,
            high=figure.high,
            ceiling=figure.ceiling,
            deviation=None,
            deviation_low=None,
            deviation_high=None,
            n_deviation=0,
            n_documents=figure.n_documents,
            n_unscored_documents=figure.n_skipped,
            n_characters=None,
            n_bytes=None,
            n_tokens=sum(
                row["n_tokens"]
                for row in rows
                if row["layer"] == figure.layer and not row["untrained"] and not row["skipped"]
            ),
            n_unscored_tokens=0,
            n_lossy=0,
            repair_nll=0.0,
        )
        for figure in figures
        if figure.layer == figure.n_layers
    ]


def _figures(row: Mapping[str, Any]) -> Figures | None:
    return None if row["skipped"] else Figures(**{f.name: row[f.name] for f in fields(Figures)})
