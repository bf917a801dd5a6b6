"""From a figure in the report to what it came from: model, protocol, texts, documents and commits.

Every row of a table leads to the cells that it was made of. A cell says in its own columns which revision of
which model read which texts, and how; dvc.lock and its history say which commits recorded the cell, the texts
and the table.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collectors.document import UserError
from evaluate import benchmarks, figures, history
from evaluate.figures import TABLES, Found, Tables
from evaluate.history import History, Recorded

RESULTS = Path("results")
CORPORA = Path("corpora")
BENCHMARKS = Path("evaluate/benchmarks.csv")
PUBLISHED = Path("evaluate/published_correlations.csv")

# The stage that writes every table.
_STAGE = "fit"
_ORIGIN = ["revision", "protocol", "corpus_sha256"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one model gave on one corpus under one protocol, and what it was computed from.

    Attributes:
        model: its name in params.yaml.
        revision: of the model: a commit, a digest of the weights, or a version.
        protocol: how the texts were read.
        corpus: name of the corpus.
        corpus_sha256: digest of its documents.parquet.
        documents: path of that file.
        n_documents: documents that were measured; None where all were read as one stream.
        path: of the cell's file.
        recorded: the stage that made the cell.
        built: the stage that built the corpus.
        notes: what on disk is no longer what the cell was made from, or not what is recorded.
    """

    model: str
    revision: str
    protocol: str
    corpus: str
    corpus_sha256: str
    documents: str
    n_documents: int | None
    path: str
    recorded: Recorded
    built: Recorded
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of a table, and all that it came from.

    Attributes:
        table: path of the table.
        line: number of its row in the file, 1 for the header.
        column: that it stands in.
        value: as the table has it.
        row: the columns that tell the row apart.
        recorded: the stage that wrote the table.
        notes: what on disk is not what is recorded, or not what the row was made from.
        cells: that it was computed from; none for what others published.
        published: where the published figures that it rests on were printed.
    """

    table: str
    line: int
    column: str
    value: str
    row: Mapping[str, str]
    recorded: Recorded
    notes: tuple[str, ...]
    cells: tuple[Cell, ...]
    published: tuple[str, ...]


def trace(figure: str, root: Path = Path()) -> list[Figure]:
    """Return every figure that a number or an address stands for, with what it came from.

    Args:
        figure: see `figures.find`.
        root: of the repository.

    Raises:
        UserError: when it stands for nothing, or a table, a cell or dvc.lock cannot be read.
    """
    tables = Tables(root / RESULTS)
    found = figures.find(tables, figure)
    return list(_Sources(root, tables).traced(found))


_Name = tuple[str, str, str, str]  # kind, model, corpus and protocol, empty for whichever a cell has


class _Sources:
    """Cells and the history of stages, each read once for all figures."""

    def __init__(self, root: Path, tables: Tables) -> None:
        self._root = root
        self._tables = tables
        self._cells: dict[tuple[str, str, str], list[Cell]] = {}
        self._history = History(root)
        self._recorded: dict[str, Recorded] = {}
        self._unlike: dict[str, tuple[str, ...]] = {}

    def traced(self, found: Iterable[Found]) -> Iterator[Figure]:
        for hit in found:
            path = (RESULTS / hit.table).as_posix()
            cells = [cell for name in _names(self._tables, hit) for cell in self._parts(*name)]
            yield Figure(
                table=path,
                line=hit.line,
                column=hit.column,
                value=hit.row[hit.column],
                row={key: hit.row[key] for key in TABLES[hit.table].keys if key in hit.row},
                recorded=self._stage(_STAGE),
                notes=(*self._changed(_STAGE, path), *_outdated(hit, cells)),
                cells=tuple(cells),
                published=tuple(_published(self._root, hit)),
            )

    def _parts(self, kind: str, model: str, corpus: str, protocol: str) -> list[Cell]:
        key = kind, model, corpus
        if key not in self._cells:
            self._cells[key] = list(self._read(*key))
        return [part for part in self._cells[key] if protocol in ("", part.protocol)]

    def _read(self, kind: str, model: str, corpus: str) -> Iterator[Cell]:
        folder = RESULTS / kind / model
        path = folder / f"{corpus}.parquet"
        stage = f"{'score' if kind == 'scores' else kind}@{model}"
        measured = "nll" if kind == "scores" else "entropy"
        try:
            rows = pq.ParquetFile(self._root / path).read([*_ORIGIN, "document", measured])
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{path} cannot be read; restore it with `dvc checkout` or `dvc pull`, or make it with `dvc repro`"
            ) from error
        documents = (CORPORA / corpus / "documents.parquet").as_posix()
        now = _corpus_sha256(self._root / CORPORA / corpus)
        measured_rows = rows.filter(pc.is_valid(rows[measured]))
        parts = measured_rows.group_by(_ORIGIN).aggregate([("document", "distinct")]).sort_by("protocol")
        for part in parts.to_pylist():
            ids = part["document_distinct"]
            notes = [
                *self._changed(stage, folder.as_posix()),
                *self._changed(f"dedup@{corpus}", (CORPORA / corpus).as_posix()),
            ]
            if now != part["corpus_sha256"]:
                notes.append(f"{documents} on disk is {f'another version, {now}' if now else 'missing'}")
            yield Cell(
                model=model,
                **{name: part[name] for name in _ORIGIN},
                corpus=corpus,
                documents=documents,
                n_documents=None if ids == [""] else len(ids),
                path=path.as_posix(),
                recorded=self._stage(stage),
                built=self._stage(f"dedup@{corpus}"),
                notes=tuple(notes),
            )

    def _stage(self, stage: str) -> Recorded:
        if stage not in self._recorded:
            self._recorded[stage] = self._history.recorded(stage)
        return self._recorded[stage]

    def _changed(self, stage: str, output: str) -> tuple[str, ...]:
        """Say that an output on disk is not the one that dvc.lock records."""
        if output not in self._unlike:
            same = self._history.outputs(stage).get(output) == history.digest(self._root / output)
            note = f"{output} on disk is not what dvc.lock records; `dvc repro` mends that"
            self._unlike[output] = () if same else (note,)
        return self._unlike[output]


def _names(tables: Tables, found: Found) -> list[_Name]:
    """Return the cells behind a row."""
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
    return []


def _used(tables: Tables, points: str, series: tuple[str, ...], row: Mapping[str, str]) -> set[str]:
    """Return the models that a line was drawn through."""
    return {
        point["model"]
        for point in tables.rows(points)
        if point["used"] == "true" and all(point[key] == row[key] for key in series)
    }


def _labelled(tables: Tables, label: str, models: set[str]) -> Iterator[_Name]:
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


def _outdated(found: Found, cells: Iterable[Cell]) -> Iterator[str]:
    """Say that a row of the score table was made from another cell than the one on disk."""
    if found.table == "scores.csv":
        for cell in cells:
            for name, now in (("revision", cell.revision), ("corpus_sha256", cell.corpus_sha256)):
                if found.row[name] != now:
                    yield f"the row has the {name} {found.row[name]}, the cell on disk another; run `dvc repro`"


def _published(root: Path, found: Found) -> Iterator[str]:
    """Say where the published figures behind a row were printed."""
    row = found.row
    if found.table == "law.csv":
        for printed in Tables(root / PUBLISHED.parent).rows(PUBLISHED.name):
            if all(printed[key] == row[key] for key in TABLES[found.table].keys):
                yield f"{printed['source']}, {printed['location']} ({PUBLISHED})"
        study, axes = "huang2024", {row["benchmark"], row["corpus"]}
    elif found.table == "fits.csv":
        study, axes = row["study"], {row["x"], row["y"]}
    elif found.table == "scaling.csv":
        study, axes = "", {row["y"]}
    else:
        return
    scores = [score for score in benchmarks.read(root / BENCHMARKS) if study in ("", score.study)]
    titled = [score for score in scores if axes & {score.title, score.benchmark}]
    # An average has no title of its own: it is over the whole study.
    whole = study and len({score.benchmark for score in titled}) < len(axes)
    for source in sorted({score.source for score in (scores if whole else titled)}):
        yield f"{source} ({BENCHMARKS})"


def _corpus_sha256(folder: Path) -> str:
    """Return the digest that a corpus states, empty where there is none."""
    try:
        return str(json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["documents_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
