"""Raw snapshots: what a source gave, byte for byte, written once and verified on every read.

A snapshot is a folder with `snapshot.json` (the request it answers, what it holds and whether that is
all), `records.jsonl` (where each record lies, and its digest) and WARC/1.1 shards, one gzip member per
record. Digests are our own: the common WARC readers take a truncated shard for a complete one without
a word.
"""

import json
import operator
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from collectors import warc
from collectors.document import RawRecord, UserError, sha256_of
from collectors.warc import Record

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a snapshot folder holds.

    Attributes:
        name: its key in `params.yaml`.
        request: what it answers, as `Request.facts` gives it.
        collector: source and version that made it.
        n_records: records in its shards.
        n_bytes: bytes of their payloads.
        shards: sha256 of each shard file, and of `records.jsonl`.
        gaps: what it should hold and does not; a snapshot without gaps is complete.
    """

    name: str
    request: dict[str, Any]
    collector: str
    n_records: int
    n_bytes: int
    shards: dict[str, str]
    gaps: tuple[str, ...] = ()


def refuse_existing(folder: Path) -> None:
    """Raise if there is a snapshot in the place of one that is to be made."""
    if folder.exists():
        raise UserError(
            f"snapshot {folder} exists and is never rewritten; collect under another name, or remove the folder first"
        )


def write_manifest(folder: Path, snapshot: Snapshot) -> None:
    """Write `snapshot.json`, the last file of a snapshot that is being made."""
    facts = {"format": FORMAT, "complete": not snapshot.gaps, **asdict(snapshot)}
    if not snapshot.gaps:
        del facts["gaps"]
    (folder / "snapshot.json").write_text(
        json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def read_snapshot(folder: Path) -> Snapshot:
    """Return what a snapshot folder says it holds.

    Raises:
        UserError: when there is no snapshot, or it is of another format, or names no gap and yet does
            not call itself complete.
    """
    try:
        facts = json.loads((folder / "snapshot.json").read_text())
        gaps = tuple(str(gap) for gap in facts.pop("gaps", ()))
        if facts.pop("format") != FORMAT or facts.pop("complete") is not (not gaps):
            raise UserError(
                f"snapshot {folder} is incomplete or of another format than {FORMAT}; collect it anew"
            )
        counts = {name: operator.index(facts[name]) for name in ("n_records", "n_bytes")}
        return Snapshot(**{**facts, **counts, "shards": dict(facts["shards"]), "gaps": gaps})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder} holds no readable snapshot; restore it with `dvc checkout`") from error


def read_records(folder: Path) -> Iterator[tuple[RawRecord, Record]]:
    """Yield every record but the requests, in the order of the collection, each digest verified.

    Raises:
        UserError: naming the record, when a shard is missing, truncated or altered.
    """
    snapshot = read_snapshot(folder)
    index = folder / "records.jsonl"
    if not index.is_file() or sha256_of(index) != snapshot.shards.get("records.jsonl"):
        raise _altered(index, "its index")
    verified: set[str] = set()
    with index.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["shard"] not in verified:
                    _verify(folder, entry["shard"], snapshot, index)
                    verified.add(entry["shard"])
                if entry.get("kind") != "request":
                    yield _read(folder / entry["shard"], entry)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise _altered(index, "its index") from error


def _verify(folder: Path, name: str, snapshot: Snapshot, index: Path) -> None:
    """Raise unless a shard has the digest that was recorded, naming the first record that is damaged."""
    shard = folder / Path(name).name
    if name == shard.name and shard.is_file() and sha256_of(shard) == snapshot.shards.get(name):
        return
    with index.open("rb") as lines:
        for entry in map(json.loads, lines):
            if entry["shard"] == name:
                _read(shard, entry)
    raise _altered(shard, "the header of a record")


def _read(shard: Path, entry: Mapping[str, Any]) -> tuple[RawRecord, Record]:
    raw = RawRecord(shard=entry["shard"], offset=entry["offset"], sha256=entry["sha256"])
    return raw, read_member(shard, entry)


def read_member(file: Path, entry: Mapping[str, Any]) -> Record:
    """Return the record that an index entry points to, verified.

    Args:
        file: the shard.
        entry: its `uri`, `offset`, `length` and `sha256`, and `requested` where it was asked for.

    Raises:
        UserError: when the record is not what the entry says.
    """
    try:
        with file.open("rb") as stream:
            stream.seek(entry["offset"])
            member = stream.read(min(entry["length"], warc.MAX_RECORD_BYTES))
        record = warc.parse(member, requested=entry.get("requested", ""))
    except (OSError, EOFError) as error:
        raise _altered(file, entry["uri"]) from error
    if sha256(record.payload).hexdigest() != entry["sha256"] or record.uri != entry["uri"]:
        raise _altered(file, entry["uri"])
    return record


def _altered(shard: Path, uri: str) -> UserError:
    return UserError(f"{shard} is truncated or altered at {uri}; restore the snapshot with `dvc checkout`")
