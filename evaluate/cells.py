"""Cells: Parquet files of what one model gave on one corpus, computed once for what they depend on.

A cell repeats in every row which model, corpus and protocol it came from, so that
`SELECT … FROM 'results/scores/*/*.parquet'` needs nothing else. Its key, a digest of all that its numbers depend
on, stands in the file's metadata, for a cell may have no rows. A cell whose key still matches is not
computed again, whoever made it: this machine, a cluster, a cache.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collectors.document import UserError, replacing
from evaluate.corpus import Corpus
from evaluate.model import LanguageModel, ModelEntry


def key(arithmetic: int, entry: ModelEntry, weights: str, settings: str, sha256: str) -> str:
    """Return the digest of what makes a cell's numbers: our arithmetic, model and weights, settings, texts.

    Library versions are recorded in the cell and not part of its key: an upgrade computes nothing again.

    Args:
        arithmetic: raised when the same inputs would give other numbers.
        entry: the model's.
        weights: what identifies them.
        settings: how the texts are read.
        sha256: digest of the texts.
    """
    parts = [arithmetic, entry.slug, entry.backend, dict(entry.options), weights, settings, sha256]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def origin(entry: ModelEntry, model: LanguageModel, corpus: Corpus, protocol: str) -> dict[str, Any]:
    """Return the columns that say what a model's figures on a corpus came from."""
    return {
        "model": entry.slug,
        "backend": entry.backend,
        "revision": model.revision,
        "corpus": corpus.name,
        "content": corpus.content,
        "corpus_sha256": corpus.sha256,
        "protocol": protocol,
        "prefix": str(model.prefix),
        "context_length": model.context_length,
        **asdict(model.conditions),
        "software": model.software,
    }


def is_current(path: Path, schema: pa.Schema, key: str) -> bool:
    """Return whether a cell was made under this key, and by this version of it."""
    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    return found.names == schema.names and (found.metadata or {}).get(b"key") == key.encode()


def write(path: Path, schema: pa.Schema, key: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a cell by rename."""
    with replacing(path) as temporary:
        table = pa.Table.from_pylist(list(rows), schema=schema.with_metadata({"key": key}))
        pq.write_table(table, temporary, compression="zstd")


def read(path: Path, schema: pa.Schema, command: str, filled: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows of a cell; see `table`."""
    rows: list[dict[str, Any]] = table(path, schema, command, filled).to_pylist()
    return rows


def table(path: Path, schema: pa.Schema, command: str, filled: Collection[str]) -> pa.Table:
    """Return a cell as it is.

    Args:
        path: the cell's file.
        schema: of such cells.
        command: of `python -m evaluate` that makes them.
        filled: columns that have a value in every row.

    Raises:
        UserError: when the file is no such cell.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing; make it with `python -m evaluate {command} --model {path.parent.name}`"
        )
    try:
        found = pq.ParquetFile(path).read()
        found.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no readable cell of {command}; delete it and run `dvc repro`") from error
    if not found.schema.equals(schema):
        raise UserError(f"{path} is a cell of another version; make it again with `dvc repro`")
    for field, column in zip(found.schema, found.columns, strict=True):
        not_a_number = pa.types.is_floating(field.type) and pc.any(pc.is_nan(column)).as_py()
        if not_a_number or (field.name in filled and column.null_count):
            raise UserError(f"{path} lacks a value of {field.name!r}; delete it and run `dvc repro`")
    return found


def check_measured(path: Path, rows: Iterable[Mapping[str, Any]], names: Collection[str]) -> None:
    """Raise if a row of something that was measured lacks one of these figures.

    Raises:
        UserError: naming the figure and its document.
    """
    for row in rows:
        if lacking := [name for name in names if row[name] is None]:
            raise UserError(
                f"{path} lacks {lacking[0]!r} of document {row['document']!r}; delete it and run `dvc repro`"
            )
