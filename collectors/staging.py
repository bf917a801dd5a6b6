"""A collection in progress: what it was given is on disk before it goes on, so that any end can be resumed.

A collection is a sequence of steps, each with a key and done once. A step's records are written, then a
line in the journal says so; after a kill, whatever the journal does not name is cut off, and a step
that it names is answered from disk. So the same command replays what is there and goes on where it
stopped. The finished snapshot holds the steps in the order in which the last run asked for them: how
often a collection was interrupted leaves no trace in it.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from collectors.document import UserError, sha256_of
from collectors.request import Request
from collectors.snapshot import Snapshot, read_member, refuse_existing, write_manifest
from collectors.warc import Record, members

SHARD_BYTES = 256 << 20
_CHUNK = 1 << 20
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The index entries of a step's records, and the steps that it needed first."""

    entries: list[Entry]
    after: tuple[str, ...]


class Staging:
    """The folder of one collection; open it as a context manager.

    Attributes:
        started: UTC; when the collection first began.
        round: number of the round that this run makes, from 1; see `close_round`.
    """

    started: datetime
    round: int

    def __init__(self, folder: Path, request: Request, collector: str) -> None:
        asked = json.dumps(request.facts(), sort_keys=True)
        self.request = request
        self.collector = collector
        self.folder = folder / f"{request.name}-{sha256(asked.encode()).hexdigest()[:12]}"
        self._steps: dict[str, _Step] = {}
        self._order: dict[str, None] = {}
        self._needed: list[list[str]] = []
        self._safe = 0, 0  # bytes of the journal, and of the records that it promises

    def __enter__(self) -> Self:
        """Take the folder for this process, and read what an earlier run left in it.

        Raises:
            UserError: when another process is collecting the same snapshot, or an earlier run collected
                under its name for another request.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            lock = files.enter_context((self.folder / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"snapshot {self.request.name} is being collected by another process; wait for it, or stop it first"
                ) from error
            self._refuse_other()
            shutil.rmtree(self.folder / "scratch", ignore_errors=True)
            # Without a buffer, which on a full disk would keep half a line and write it later.
            self._journal = files.enter_context((self.folder / "journal.jsonl").open("ab", buffering=0))
            files.callback(lambda: self._records.close())  # noqa: PLW0108  the file may be another by then
            self._records = self._truncated(None)
            self._resume()
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder; what is in it stays."""
        self._files.close()

    def _refuse_other(self) -> None:
        """Raise if something was collected under this name for another request."""
        for folder in self.folder.parent.glob(f"{self.request.name}-*"):
            own = re.fullmatch(rf"{re.escape(self.request.name)}-[0-9a-f]{{12}}", folder.name)
            journal = folder / "journal.jsonl"
            # The first line says when it began; what follows is worth keeping.
            if own and folder != self.folder and journal.is_file() and journal.read_bytes().count(b"\n") > 1:
                raise UserError(
                    f"{folder} holds what was collected for snapshot {self.request.name} when it asked for something "
                    "else; ask for that again, choose another name, or remove the folder to give it up"
                )

    def _truncated(self, end: int | None) -> BinaryIO:
        """Open the records to write on at a position, or at their end."""
        records = (self.folder / "records").open("ab")
        if end is not None:
            records.truncate(end)
        records.seek(0, os.SEEK_END)
        return records

    def _resume(self) -> None:
        lines = (self.folder / "journal.jsonl").read_bytes().split(b"\n")[:-1]
        whole = end = 0
        started, self.round = "", 1
        for number, line in enumerate(lines):
            try:
                said = json.loads(line)
                if number == 0:
                    started = said["started"]
                elif "closed" in said:
                    self.round = int(said["closed"]) + 1
                else:
                    end = max([end, *(e["offset"] + e["length"] for e in said["entries"])])
                    self._steps[said["key"]] = _Step(entries=said["entries"], after=tuple(said["after"]))
            except (ValueError, KeyError, TypeError):
                break  # a disk that lost its last writes: what follows is not trusted
            whole += len(line) + 1
        if self._records.tell() < end:
            raise UserError(
                f"{self.folder} has lost a part of its records; remove that folder and collect anew"
            )
        self._safe = whole, end
        self._rewind()
        if not started:
            started = datetime.now(UTC).replace(microsecond=0).isoformat()
            self._write({"started": started, "request": self.request.facts()})
        self.started = datetime.fromisoformat(started)

    def _write(self, said: dict[str, Any], n_bytes: int = 0) -> None:
        """Write a line of the journal, which promises so many more bytes of records."""
        line = json.dumps(said).encode() + b"\n"
        left = memoryview(line)
        while left:
            left = left[self._journal.write(left) :]
        os.fsync(self._journal.fileno())
        # One assignment, so that an interruption finds both as they were or both as they are.
        self._safe = self._safe[0] + len(line), self._safe[1] + n_bytes

    def __contains__(self, key: str) -> bool:
        """Return whether a step has been done."""
        return key in self._steps

    @contextmanager
    def needing(self) -> Iterator[list[str]]:
        """Note the steps asked for inside the block, for the step that they are a part of."""
        self._needed.append([])
        try:
            yield self._needed[-1]
        finally:
            self._needed.pop()

    def once(
        self, key: str, produce: Callable[[], Iterable[Record]], *, after: Sequence[str] = ()
    ) -> list[Entry]:
        """Do a step unless it has been done; return the index entries of its records.

        Args:
            key: names the step in this collection.
            produce: gives its records; all of them are kept, or none if it fails.
            after: steps that this one needed, which come before it in the snapshot.
        """
        if key not in self._steps:
            entries: list[Entry] = []
            try:
                for record in produce():
                    entries += self._append(record)
                self._records.flush()
                os.fsync(self._records.fileno())
                n_bytes = sum(entry["length"] for entry in entries)
                self._write({"key": key, "after": list(after), "entries": entries}, n_bytes)
            except BaseException:
                self._rewind()
                raise
            self._steps[key] = _Step(entries=entries, after=tuple(after))
        self._place(key)
        return self._steps[key].entries

    def _append(self, record: Record) -> list[Entry]:
        entries = []
        for kind, member, payload in members(record):
            entry: Entry = {
                "uri": record.uri,
                "offset": self._records.tell(),
                "length": len(member),
                "sha256": sha256(payload).hexdigest(),
                "size": len(payload),
            }
            if kind != "resource":
                entry |= {"kind": kind, "requested": record.requested}
            self._records.write(member)
            entries.append(entry)
        return entries

    def _rewind(self) -> None:
        """Forget what a failed step wrote, its promise first; on a full disk the buffer cannot be flushed."""
        said, end = self._safe
        self._journal.truncate(said)
        with suppress(OSError):
            self._records.close()
        self._records = self._truncated(end)

    def _place(self, key: str) -> None:
        for needed in self._steps[key].after:
            self._place(needed)
        self._order.setdefault(key)
        for outer in self._needed:
            outer.append(key)

    def read(self, entry: Entry) -> Record:
        """Return the record of an entry that `once` gave, verified."""
        return read_member(self.folder / "records", entry)

    def last(self, key: str) -> Record:
        """Return the last record of a step that has been done."""
        return self.read(self._steps[key].entries[-1])

    def close_round(self) -> None:
        """End this round: the next run begins another one, and replays this one before it."""
        self._write({"closed": self.round})

    def finish(self, folder: Path, gaps: Sequence[str]) -> Snapshot:
        """Make the snapshot of the steps this run asked for, and move it into place by one rename.

        Args:
            folder: where it goes; must not exist, for a snapshot is written once.
            gaps: what it should hold and does not.

        Raises:
            UserError: when the folder exists, or the source gave nothing.
        """
        refuse_existing(folder)
        entries = [entry for key in self._order for entry in self._steps[key].entries]
        if not entries:
            raise UserError(
                f"the source of snapshot {self.request.name} gave nothing; check its settings in params.yaml"
            )
        # Beside the snapshot, because staging may be on another file system.
        work = folder.parent / f".{self.folder.name}.tmp"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self._copy(entries, work)
        snapshot = Snapshot(
            name=self.request.name,
            request=self.request.facts(),
            collector=self.collector,
            n_records=len(entries),
            n_bytes=sum(entry["size"] for entry in entries),
            shards={path.name: sha256_of(path) for path in sorted(work.iterdir())},
            gaps=tuple(gaps),
        )
        write_manifest(work, snapshot)
        for path in (*work.iterdir(), work):
            _sync(path)
        work.replace(folder)
        _sync(folder.parent)  # the only copy goes next
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()  # unless other collections are in progress
        return snapshot

    def _copy(self, entries: Sequence[Entry], work: Path) -> None:
        """Copy the members into shards in the order of the entries, and write their index."""
        shard, out = "", None
        try:
            with (
                (self.folder / "records").open("rb") as records,
                (work / "records.jsonl").open("w", encoding="utf-8") as index,
            ):
                for number, entry in enumerate(entries):
                    if out is None or out.tell() > SHARD_BYTES:
                        if out:
                            out.close()
                        shard = f"{self.request.name}-{number:08d}.warc.gz"
                        out = (work / shard).open("wb")
                    placed = {"uri": entry["uri"], "shard": shard, "offset": out.tell()}
                    rest = {
                        name: entry[name]
                        for name in ("length", "sha256", "kind", "requested")
                        if name in entry
                    }
                    index.write(json.dumps(placed | rest) + "\n")
                    records.seek(entry["offset"])
                    left = entry["length"]
                    while left and (chunk := records.read(min(left, _CHUNK))):
                        out.write(chunk)
                        left -= len(chunk)
        finally:
            if out:
                out.close()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
