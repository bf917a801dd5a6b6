"""Where the documents of a corpus come from: what makes several of them one witness.

Files of one package, pages of one site and papers of one author resemble each other more than they resemble
others, so that what is concluded from documents has to count origins. A document's origin is what its file says
in a column `origin`; else, of what our sources keep in `metadata`, the first of distribution, repository, site and
author. A document without any is an origin of its own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.document import UserError
from evaluate.corpus import Corpus

KEYS = ("distribution", "repository", "site", "authors")
"""Of a document's metadata, in this order: of packages, GitHub, the news, and arXiv, where the first author counts."""

_COLUMNS = ("id", "origin", "metadata")


def of(corpus: Corpus) -> dict[str, str]:
    """Return the origin of every document of a corpus that has one, by id.

    Raises:
        UserError: when a file of the corpus cannot be read.
    """
    found = {}
    for row in (row for path in corpus.files if corpus.column for row in _rows(path)):
        if "id" in row and (name := origin(row)):
            found[str(row["id"])] = name
    return found


def origin(row: Mapping[str, Any]) -> str:
    """Return the origin that a document's row states, with what kind it is, or an empty string."""
    stated = row.get("origin")
    if isinstance(stated, str) and stated.strip():
        return f"origin {stated.strip().casefold()}"
    facts = row.get("metadata") or {}
    if isinstance(facts, list):  # as the corpus has them: pairs of key and value
        facts = {fact["key"]: fact["value"] for fact in facts if isinstance(fact, dict) and len(fact) == 2}
    for key in KEYS if isinstance(facts, dict) else ():
        if isinstance(value := facts.get(key), str) and value.strip():
            name = re.split(r"[,;]|\sand\s", value)[0] if key == "authors" else value
            return f"{key} {name.strip().casefold()}"
    return ""


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            names = [name for name in _COLUMNS if file.schema_arrow.names.count(name) == 1]
            for batch in file.iter_batches(columns=names):
                yield from batch.to_pylist()
        else:
            with path.open(encoding="utf-8") as lines:
                yield from (row for row in map(json.loads, filter(str.strip, lines)) if isinstance(row, dict))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path} does not say where its documents come from ({said}); restore it") from error
