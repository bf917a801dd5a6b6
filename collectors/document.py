"""The record that the whole project passes around, its Parquet file, and the error a person can act on.

This is the only module of `collectors` that `evaluate` may import: a corpus is a Parquet file of
`Document` rows, and any tool that reads Parquet can read it without us.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PRECISIONS = ("second", "minute", "day", "month")
ELSEWHERE = frozenset({"after-window", "earlier-version"})
"""Reasons to drop a document that another snapshot may hold: it gets no signature, and is held against none."""


class UserError(Exception):
    """Something a person can mend: the message names the value, the rule and the remedy.

    The commands print it on one line, without a traceback, and exit with status 2.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class DateEvidence:
    """One reason to believe a publication date.

    Attributes:
        kind: where the date comes from, such as `index-upload-time` or `declared-month`.
        value: the date as that evidence states it.
    """

    kind: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """Where the bytes that a document was extracted from lie in its raw snapshot.

    Attributes:
        shard: file name of the WARC shard inside the snapshot folder.
        offset: byte offset of the record's gzip member in the shard.
        sha256: hex digest of the record's payload.
    """

    shard: str
    offset: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterResult:
    """What one quality filter measured, the threshold it was held against, and whether it passed."""

    name: str
    value: float
    threshold: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The document that makes another one a duplicate.

    Attributes:
        id: the matching document's id.
        corpus: the snapshot that holds it.
        similarity: exact Jaccard similarity of word 5-gram sets, 1.0 for equal normalised text and
            for the same document.
    """

    id: str
    corpus: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text with proof of when it was published and under which terms.

    Build one with `document()`, which normalises the text and derives identity and counts.

    Attributes:
        id: sha256 of source, native id and version: stable across collections.
        source: the source module that produced it.
        native_id: the source's own name for it, such as `trafilatura/core.py`.
        version: the source's version of it, such as a release or a commit.
        url: where a person can look at it.
        title: a short name for people.
        text: the whole text, NFC, line feeds only, never truncated.
        text_sha256: hex digest of the text in UTF-8.
        n_characters: Unicode code points in the text.
        n_bytes: bytes of the text in UTF-8.
        published: UTC; the start of the period that `published_precision` names.
        published_precision: one of `PRECISIONS`.
        date_evidence: every piece of evidence for `published`.
        first_seen: UTC, when a collection first met this text; None where the source cannot say.
        fetched: UTC, when its bytes came over the network; None for sources that need none.
        license: SPDX expression, empty when unknown.
        license_evidence: where the licence was read.
        redistributable: whether the licence lets the full text leave the machine.
        language: ISO 639-1 code for prose, the programming language for code, empty when unknown.
        language_probability: the detector's confidence, 1.0 where the source states the language.
        raw: the raw record it was extracted from.
        extractor: name and version of what made the text from the raw bytes.
        filters: results of the quality filters, in the order they ran.
        drop_reason: empty for kept documents, else the first rule it broke.
        duplicate: the match that made it a duplicate.
        metadata: whatever else the source knows, as strings.
    """

    id: str
    source: str
    native_id: str
    version: str
    url: str
    title: str
    text: str
    text_sha256: str
    n_characters: int
    n_bytes: int
    published: datetime
    published_precision: str
    date_evidence: tuple[DateEvidence, ...]
    first_seen: datetime | None = None
    fetched: datetime | None = None
    license: str
    license_evidence: str
    redistributable: bool
    language: str
    language_probability: float
    raw: RawRecord
    extractor: str
    filters: tuple[FilterResult, ...] = ()
    drop_reason: str = ""
    duplicate: Match | None = None
    metadata: dict[str, str] = field(default_factory=dict)


_TIMESTAMP = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("native_id", pa.string()),
        ("version", pa.string()),
        ("url", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("text_sha256", pa.string()),
        ("n_characters", pa.int64()),
        ("n_bytes", pa.int64()),
        ("published", _TIMESTAMP),
        ("published_precision", pa.string()),
        ("date_evidence", pa.list_(pa.struct([("kind", pa.string()), ("value", pa.string())]))),
        ("first_seen", _TIMESTAMP),
        ("fetched", _TIMESTAMP),
        ("license", pa.string()),
        ("license_evidence", pa.string()),
        ("redistributable", pa.bool_()),
        ("language", pa.string()),
        ("language_probability", pa.float64()),
        ("raw", pa.struct([("shard", pa.string()), ("offset", pa.int64()), ("sha256", pa.string())])),
        ("extractor", pa.string()),
        (
            "filters",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("value", pa.float64()),
                        ("threshold", pa.float64()),
                        ("passed", pa.bool_()),
                    ]
                )
            ),
        ),
        ("drop_reason", pa.string()),
        (
            "duplicate",
            pa.struct([("id", pa.string()), ("corpus", pa.string()), ("similarity", pa.float64())]),
        ),
        # A map would say it better, but `datasets` has no such type.
        ("metadata", pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))),
    ]
)

OPTIONAL = frozenset({"first_seen", "fetched", "duplicate"})
"""Columns whose cells may be null."""


def normalise(text: str) -> str:
    """Return the text in NFC with line feeds only, as the corpus keeps it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def document(*, source: str, native_id: str, version: str, text: str, **fields: Any) -> Document:
    """Build a `Document`: normalise its text and derive id, digest and counts.

    Raises:
        UserError: when the publication precision is unknown or the date has no time zone.
    """
    text = normalise(text)
    encoded = text.encode()
    if fields["published_precision"] not in PRECISIONS:
        raise UserError(
            f"precision {fields['published_precision']!r} of {native_id} is none of {', '.join(PRECISIONS)}"
        )
    if fields["published"].tzinfo is None:
        raise UserError(f"publication date of {native_id} has no time zone: give it in UTC")
    return Document(
        id=hashlib.sha256(f"{source}\0{native_id}\0{version}".encode()).hexdigest(),
        source=source,
        native_id=native_id,
        version=version,
        text=text,
        text_sha256=hashlib.sha256(encoded).hexdigest(),
        n_characters=len(text),
        n_bytes=len(encoded),
        **fields,
    )


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents as Parquet, sorted by id, by rename; return how many.

    The bytes depend on the documents alone: one thread, fixed writer options, no clock.
    """
    rows = sorted(documents, key=lambda d: d.id)
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row in rows:
        values = asdict(row)
        values["metadata"] = [{"key": key, "value": row.metadata[key]} for key in sorted(row.metadata)]
        for name, column in columns.items():
            column.append(values[name])
    table = pa.table(columns, schema=SCHEMA)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=10_000)
    return len(rows)


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a Parquet file in its order (by id), a row group at a time.

    Raises:
        UserError: when the file is missing, is no Parquet, lacks a column, or a cell of one.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with `dvc repro`, or with the step before this one")
    try:
        file = pq.ParquetFile(path)
        check_columns(path, file.schema_arrow, SCHEMA)
        for batch in file.iter_batches(batch_size=1_000, columns=SCHEMA.names):
            check_filled(path, batch, OPTIONAL)
            yield from map(_from_row, batch.to_pylist())
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{path} is no readable Parquet file ({said}); rebuild it with `dvc repro`"
        ) from error


def check_columns(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    """Raise unless a table has every column that is wanted, once and with its type.

    Raises:
        UserError: naming the first that it has not.
    """
    for column in wanted:
        place = found.get_field_index(column.name)  # -1 for a name that several columns have, too
        if place < 0 or not found.field(place).type.equals(column.type):
            raise UserError(
                f"{path} has no column {column.name!r} of type {column.type}; see corpora/README.md for the columns, "
                "and rebuild the file with `dvc repro`"
            )


def check_filled(path: Path, batch: pa.RecordBatch | pa.Table, optional: Collection[str]) -> None:
    """Raise if a cell of a table is null, or a part of one, in a column that is not optional.

    Raises:
        UserError: naming the first such column.
    """
    for name in batch.schema.names:
        column = batch[name].drop_null() if name in optional else batch[name]
        if _holds_null(column):
            raise UserError(f"{path} has an empty cell in column {name!r}; rebuild the file with `dvc repro`")


def _holds_null(column: pa.Array | pa.ChunkedArray) -> bool:
    if isinstance(column, pa.ChunkedArray):
        return any(map(_holds_null, column.chunks))
    if pa.types.is_struct(column.type):
        return bool(column.null_count) or any(map(_holds_null, column.flatten()))
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return bool(column.null_count) or _holds_null(column.flatten())
    return bool(column.null_count)


def _from_row(row: dict[str, Any]) -> Document:
    for name in ("published", "first_seen", "fetched"):
        if row[name] is not None:
            row[name] = row[name].astimezone(UTC)
    row["date_evidence"] = tuple(DateEvidence(**value) for value in row["date_evidence"])
    row["raw"] = RawRecord(**row["raw"])
    row["filters"] = tuple(FilterResult(**value) for value in row["filters"])
    row["duplicate"] = Match(**row["duplicate"]) if row["duplicate"] else None
    row["metadata"] = {item["key"]: item["value"] for item in row["metadata"]}
    return Document(**row)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and move it into place if the block ends well.

    A killed process leaves the old file, or none, never half of one; what it leaves under the
    temporary name is overwritten by the next attempt.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    temporary.replace(path)


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
