"""Texts to compare with: a benchmark's test set, a training dump, a corpus; plain, JSON lines or Parquet."""

import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from collectors.document import UserError

_PLAIN = (".txt", ".txt.gz", ".txt.zst")
SUFFIXES = (*_PLAIN, ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")

_LONGEST_LINE = 2**26
_CHUNK = 2**20
_BUILT = "documents.parquet"


def files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that paths name: themselves, or all that a folder holds; of a built corpus what was kept.

    Raises:
        UserError: when a path is missing, or holds no file of `SUFFIXES`.
    """
    found: list[Path] = []
    for path in paths:
        if (path / "corpus.json").is_file():
            own = [path / _BUILT]
        elif path.is_dir():
            own = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
        else:
            own = [path] if path.name.endswith(SUFFIXES) else []
        if not path.exists():
            raise UserError(f"{path} does not exist; check the path")
        if not own:
            raise UserError(
                f"{path} holds no file that ends in {', '.join(SUFFIXES)}; convert it to one of these"
            )
        found += own
    return list(dict.fromkeys(found))


def texts(path: Path, words: int) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of a file: a row or an object each, a plain file in pieces of a mebibyte.

    A row or object gives its field `text`; without one all strings in it, one behind the other, as a
    question, its choices and its answer have fields of their own.

    Args:
        path: one of `files`.
        words: of an n-gram: pieces of a plain file repeat one word less than that of the piece before.

    Raises:
        UserError: when the file cannot be read, is damaged, or has a line of more than 64 MiB.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet_texts(path)
        else:
            opened: Callable[[Path], IO[bytes]] = {".gz": _gzipped, ".zst": _zstandard}.get(
                path.suffix, _plain
            )
            with opened(path) as file:
                if path.name.endswith(_PLAIN):
                    plain = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
                    yield from _pieces(path, plain, words)
                else:
                    yield from _json_texts(path, file)
    except (OSError, EOFError, pa.ArrowException, zstandard.ZstdError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read ({said}); check the file") from error


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _gzipped(path: Path) -> IO[bytes]:
    return io.BufferedReader(gzip.open(path, "rb"))


def _zstandard(path: Path) -> IO[bytes]:
    return io.BufferedReader(zstandard.open(path, "rb"))


def _pieces(path: Path, file: IO[str], words: int) -> Iterator[tuple[str, str]]:
    rest, number = "", 0
    piece = file.read(_CHUNK)
    while piece:
        number, whole = number + 1, rest + piece
        piece = file.read(_CHUNK)
        if piece and " " in whole:
            # The last words stand at the head of the next piece too, so that n-grams across the cut are seen.
            whole, _, cut = whole.rpartition(" ")
            rest = " ".join([*whole.rsplit(None, words - 1)[1:], cut])
        else:
            rest = ""
        yield f"{path.name}:{number}", whole


def _json_texts(path: Path, lines: IO[bytes]) -> Iterator[tuple[str, str]]:
    number = 0
    while line := lines.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise UserError(f"line {number} of {path} is longer than 64 MiB; cut it into several")
        if not line.strip():
            continue
        try:
            text = _text(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"line {number} of {path} is no JSON ({error}); mend or remove it") from error
        yield f"{path.name}:{number}", text


def _parquet_texts(path: Path) -> Iterator[tuple[str, str]]:
    file = pq.ParquetFile(path)
    columns = [name for name in ("id", "text") if name in file.schema_arrow.names]
    number = 0
    for batch in file.iter_batches(batch_size=256, columns=columns if "text" in columns else None):
        for row in batch.to_pylist():
            number += 1
            yield str(row.get("id") or f"{path.name}:{number}"), _text(row)


def _text(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return str(value["text"])
    return "\n".join(_strings(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
