"""Finished work that survives a killed process: one JSON line for each finished batch, with its checksum."""

import fcntl
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collectors.document import UserError


def digest(*parts: str) -> str:
    """Return a key that names everything results depend on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextmanager
def journal(path: Path | None, key: str) -> Iterator[tuple[dict[int, Any], Callable[[int, Any], None]]]:
    """Give what earlier runs finished under the same key, and a function that adds to it.

    Args:
        path: the journal file; None keeps nothing.
        key: what the results depend on; a journal written under another key is started afresh.

    Raises:
        UserError: when another process is writing it.

    Yields:
        Results by batch number, and `add(number, result)`, which is safe against `kill -9` once it
        returns. A line that is torn in half or altered is cut off, with all behind it.
    """
    if path is None:
        yield {}, lambda _number, _result: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path} is being written: the same is measured already; wait for it to end"
            ) from None
        done, intact = _read(path, key)
        file.truncate(intact)
        if not intact:
            file.write(json.dumps({"key": key}).encode() + b"\n")

        def add(number: int, result: Any) -> None:
            file.write(json.dumps([number, result, _checksum(number, result)]).encode() + b"\n")
            file.flush()

        yield done, add


def _checksum(number: int, result: Any) -> int:
    return zlib.crc32(json.dumps([number, result]).encode())


def _read(path: Path, key: str) -> tuple[dict[int, Any], int]:
    """Return the results under the key and how many bytes of the file are intact."""
    done: dict[int, Any] = {}
    intact = 0
    if not path.exists():
        return done, intact
    with path.open("rb") as file:
        for i, line in enumerate(file):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                entry = None
            if i == 0 and entry != {"key": key}:
                break
            if i > 0:
                if not (isinstance(entry, list) and len(entry) == 3 and type(entry[0]) is int):
                    break
                number, result, checksum = entry
                if checksum != _checksum(number, result):
                    break
                done[number] = result
            intact += len(line)
    return done, intact
