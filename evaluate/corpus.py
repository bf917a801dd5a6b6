"""The texts that are scored: a built corpus, a user's own file, or a folder of Parquet and JSON lines."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.document import UserError, sha256_of

BUILT = "documents.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Texts under one digest.

    Attributes:
        name: what to call it.
        content: what kind of text it holds, empty for a user's own.
        sha256: hex digest of the files it was read from.
        files: those files.
        column: the field that holds the text; empty when a file is one text.
        empty: whether the pipeline built it and kept no document.
    """

    name: str
    content: str
    sha256: str
    files: tuple[Path, ...]
    column: str
    empty: bool = False

    def documents(self) -> list[tuple[str, str]]:
        """Return (id, text) pairs in the order of files and rows.

        Raises:
            UserError: for text that is not UTF-8, a missing column, a row that is no text, or no text at all.
        """
        rows = [row for path in self.files for row in _rows(path, self.column)]
        if not any(text for _, text in rows):
            raise UserError(f"{self.name} holds no text; name a file or folder that is not empty")
        return rows


def built_corpus(folder: Path) -> Corpus:
    """Return a corpus that the pipeline, or a first look, built.

    Raises:
        UserError: when the folder holds none, or one of another name.
    """
    try:
        facts = json.loads((folder / "corpus.json").read_text())
        name, content, digest = (_text_of(facts, key) for key in ("name", "content", "documents_sha256"))
        empty = facts["n_documents"] == 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder} holds no built corpus; build it with `dvc repro`") from error
    if name != folder.resolve().name:
        raise UserError(f"corpus.json in {folder} describes {name!r}; restore the folder with `dvc checkout`")
    path = folder / BUILT
    if not path.is_file() or sha256_of(path) != digest:
        raise UserError(
            f"{path} is not the file that corpus.json beside it describes; restore both with `dvc repro`"
        )
    return Corpus(name=name, content=content, sha256=digest, files=(path,), column="text", empty=empty)


def _text_of(facts: dict[str, Any], key: str) -> str:
    value = facts[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}")
    return value


def text_file(path: Path) -> Corpus:
    """Return a UTF-8 text file as a corpus of one document."""
    if not path.is_file():
        raise UserError(f"text file {path} does not exist or is no plain file; check the path")
    return Corpus(name=path.name, content="", sha256=sha256_of(path), files=(path,), column="")


def folder(path: Path, column: str) -> Corpus:
    """Return the .parquet and .jsonl files of a folder, or a single one, as one corpus.

    A folder that the pipeline built is read as such, without the documents it dropped.
    """
    if (path / "corpus.json").is_file():
        return built_corpus(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path")
    found = [path] if path.is_file() else path.glob("*")
    files = sorted(p for p in found if p.suffix in {".parquet", ".jsonl"} and p.is_file())
    if not files:
        raise UserError(
            f"{path} holds no .parquet and no .jsonl file, folders inside it not counted; use --text for plain text"
        )
    digest = hashlib.sha256(
        "".join(f"{p.name} {sha256_of(p)} {column}\n" for p in files).encode()
    ).hexdigest()
    return Corpus(name=path.resolve().name, content="", sha256=digest, files=tuple(files), column=column)


def _rows(path: Path, column: str) -> Iterator[tuple[str, str]]:
    if not column:
        yield path.name, _utf8(path)
    elif path.suffix == ".parquet":
        yield from _parquet_rows(path, column)
    else:
        yield from _json_rows(path, column)


def _utf8(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at offset {error.start}); "
            "convert it first, for instance with `iconv -t UTF-8`"
        ) from error


def _parquet_rows(path: Path, column: str) -> Iterator[tuple[str, str]]:
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if names.count(column) != 1:
            raise _no_column(path, column, names)
        wanted = [name for name in dict.fromkeys(("id", column)) if name in names]
        number = 0
        for batch in file.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                yield _row(path, number, row, column)
                number += 1
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no readable Parquet file ({str(error).splitlines()[0]})") from error


def _json_rows(path: Path, column: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_utf8(path).split("\n")):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"line {number + 1} of {path} is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"line {number + 1} of {path} is no JSON object; write one object a line")
        if column not in row:
            raise _no_column(path, column, list(row))
        yield _row(path, number, row, column)


def _row(path: Path, number: int, row: dict[str, object], column: str) -> tuple[str, str]:
    text = row[column]
    if not isinstance(text, str):
        raise UserError(f"row {number + 1} of {path} has no text in {column!r} but {type(text).__name__}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(
            f"row {number + 1} of {path} holds a lone surrogate, which no UTF-8 text has; remove it"
        )
    return str(row.get("id", f"{path.name}:{number + 1}")), text


def _no_column(path: Path, column: str, names: list[str]) -> UserError:
    found = "several columns" if column in names else "no column"
    listing = ", ".join(map(repr, names)) or "none"
    return UserError(f"{path} has {found} {column!r}; name one with --column: {listing}")
