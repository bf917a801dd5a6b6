"""From a figure in the report to what it came from: model, protocol, texts, documents and commits.

Every row of a table leads to the cells that it was made of. A cell says in its own columns which revision of
which model read which texts, and how; dvc.lock and its history say which commits recorded the cell, the texts
and the table.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collectors.document import UserError
from evaluate import benchmarks, figures, history, row_cells
from evaluate.figures import TABLES, Found, Tables
from evaluate.history import History, Recorded
from evaluate.row_cells import GENOMES

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
class GenomeCell:
    """What one model continues the genes with, and what that was measured from.

    Attributes:
        model: its name in params.yaml.
        revision: of the model.
        alleles: what kind, as `phylogeny.Settings` writes it.
        genes_sha256: digest of the genes.
        n_genes: how many.
        path: of the cell's file.
        recorded: the stage that made the cell, from the corpora of its commit.
        notes: what on disk is not what is recorded.
    """

    model: str
    revision: str
    alleles: str
    genes_sha256: str
    n_genes: int
    path: str
    recorded: Recorded
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
        address: what leads to this row alone.
        recorded: the stage that wrote the table.
        notes: what on disk is not what is recorded, or not what the row was made from.
        cells: that it was computed from; none for what others published.
        genomes: that it was computed from.
        published: where the published figures that it rests on were printed.
    """

    table: str
    line: int
    column: str
    value: str
    row: Mapping[str, str]
    address: str
    recorded: Recorded
    notes: tuple[str, ...]
    cells: tuple[Cell, ...]
    genomes: tuple[GenomeCell, ...]
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


class _Sources:
    """Cells and the history of stages, each read once for all figures."""

    def __init__(self, root: Path, tables: Tables) -> None:
        self._root = root
        self._tables = tables
        self._cells: dict[tuple[str, str, str], list[Cell]] = {}
        self._genomes: dict[str, GenomeCell] = {}
        self._history = History(root)
        self._recorded: dict[str, Recorded] = {}
        self._stale = self._history.settings(_STAGE, "fit").get("stale") == "true"
        self._unlike: dict[str, tuple[str, ...]] = {}

    def traced(self, found: Iterable[Found]) -> Iterator[Figure]:
        for hit in found:
            path = (RESULTS / hit.table).as_posix()
            names = row_cells.names(self._tables, hit, self._root / BENCHMARKS, stale=self._stale)
            cells = [cell for name in names if name[0] != GENOMES for cell in self._parts(*name)]
            genomes = [self._genome(model) for kind, model, *_ in names if kind == GENOMES]
            yield Figure(
                table=path,
                line=hit.line,
                column=hit.column,
                value=hit.row[hit.column],
                row={key: hit.row[key] for key in TABLES[hit.table].keys if key in hit.row},
                address=hit.address,
                recorded=self._stage(_STAGE),
                notes=(*self._changed(_STAGE, path), *_outdated(hit, cells, genomes)),
                cells=tuple(cells),
                genomes=tuple(genomes),
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
        rows = _columns(self._root, path, [*_ORIGIN, "document", measured])
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

    def _genome(self, model: str) -> GenomeCell:
        if model not in self._genomes:
            folder = RESULTS / GENOMES / model
            stage, path = f"{GENOMES}@{model}", folder / "genome.parquet"
            own = ["revision", "alleles", "genes_sha256"]
            parts = (
                _columns(self._root, path, [*own, "gene"])
                .group_by(own)
                .aggregate([("gene", "count_distinct")])
            )
            if parts.num_rows != 1:
                raise UserError(f"{path} holds no genome of {model}; delete it and run `dvc repro`")
            (part,) = parts.to_pylist()
            self._genomes[model] = GenomeCell(
                model=model,
                **{name: part[name] for name in own},
                n_genes=part["gene_count_distinct"],
                path=path.as_posix(),
                recorded=self._stage(stage),
                notes=self._changed(stage, folder.as_posix()),
            )
        return self._genomes[model]

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


def _columns(root: Path, path: Path, names: list[str]) -> pa.Table:
    try:
        return pq.ParquetFile(root / path).read(names)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} cannot be read; restore it with `dvc checkout` or `dvc pull`, or make it with `dvc repro`"
        ) from error


def _outdated(found: Found, cells: Iterable[Cell], genomes: Iterable[GenomeCell]) -> Iterator[str]:
    """Say that a row that names what its cells are was made from others than those on disk."""
    if found.table == "relatives.csv":
        for genome in genomes:
            for name, was in (("alleles", genome.alleles), ("n_genes", str(genome.n_genes))):
                if found.row[name] != was:
                    yield f"the row has the {name} {found.row[name]}, {genome.path} on disk {was}; run `dvc repro`"
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
    elif found.table == "predictions.csv":
        study, axes = row["study"], {row["benchmark"]}
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
