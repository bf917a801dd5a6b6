"""Raw snapshots: what a source gave, byte for byte, written once and verified on every read.

A snapshot is a folder with `snapshot.json` (the request it answers and what it holds), `records.jsonl`
(where each record lies, and its digest) and WARC/1.1 shards, one gzip member per record. Record ids
and dates derive from the content, so the same bytes give the same files. Digests are our own: the
common WARC readers take a truncated shard for a complete one without a word.
"""

import gzip
import io
import json
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed
from warcio.warcwriter import WARCWriter

from collectors.document import RawRecord, UserError, sha256_of

FORMAT = 1
SHARD_BYTES = 256 << 20
MAX_PAYLOAD_BYTES = 64 << 20
MAX_RECORD_BYTES = MAX_PAYLOAD_BYTES + (1 << 20)  # its headers too
_NAMESPACE = uuid.UUID("6f1a4a0e-8c1b-5c0a-9d5e-0b1f3c2d4e5f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a snapshot is to hold: an entry of `snapshots` in `params.yaml`.

    Attributes:
        name: slug of the snapshot.
        source: name of the source module.
        content: `code` or `prose`; decides which filters apply.
        since: start of the publication window, UTC.
        until: its end, not included.
        settings: what else the source needs.
    """

    name: str
    source: str
    content: str
    since: datetime
    until: datetime
    settings: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return the request as plain values for JSON."""
        return {
            "source": self.source,
            "content": self.content,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "settings": dict(self.settings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Bytes from a source.

    Attributes:
        uri: what names them.
        date: UTC; when the source published or served them.
        media_type: such as `text/x-python`.
        payload: the bytes.
    """

    uri: str
    date: datetime
    media_type: str
    payload: bytes


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
    """

    name: str
    request: dict[str, Any]
    collector: str
    n_records: int
    n_bytes: int
    shards: dict[str, str]


def write_snapshot(
    folder: Path,
    staging: Path,
    resources: Iterable[Resource],
    *,
    request: Request,
    collector: str,
) -> Snapshot:
    """Write a snapshot in staging and move it into place by one rename.

    Args:
        folder: where it goes; must not exist, for a snapshot is written once.
        staging: scratch folder on the same file system.
        resources: what the source gives.
        request: what the snapshot answers.
        collector: source and version.

    Raises:
        UserError: when the folder exists, or the source gives nothing.
    """
    if folder.exists():
        raise UserError(
            f"snapshot {folder} exists and is never rewritten; collect under another name, or remove the folder first"
        )
    # A folder of this process's own: two collections at once must not mix.
    work = staging / f"{request.name}-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        snapshot = _write(work, resources, request, collector)
        folder.parent.mkdir(parents=True, exist_ok=True)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return snapshot


def _write(work: Path, resources: Iterable[Resource], request: Request, collector: str) -> Snapshot:
    name = request.name
    n_records = n_bytes = 0
    shard = ""
    with ExitStack() as files:
        index = files.enter_context((work / "records.jsonl").open("w", encoding="utf-8"))
        stream: Any = None
        for resource in resources:
            if stream is None or stream.tell() > SHARD_BYTES:
                shard = f"{name}-{n_records:08d}.warc.gz"
                stream = files.enter_context((work / shard).open("wb"))
            offset = stream.tell()
            _write_record(stream, resource)
            entry = {
                "uri": resource.uri,
                "shard": shard,
                "offset": offset,
                "length": stream.tell() - offset,
                "sha256": sha256(resource.payload).hexdigest(),
            }
            index.write(json.dumps(entry) + "\n")
            n_records += 1
            n_bytes += len(resource.payload)
    if not n_records:
        raise UserError(f"the source of snapshot {name} gave nothing; check its settings in params.yaml")
    snapshot = Snapshot(
        name=name,
        request=request.facts(),
        collector=collector,
        n_records=n_records,
        n_bytes=n_bytes,
        shards={path.name: sha256_of(path) for path in sorted(work.iterdir())},
    )
    facts = {"format": FORMAT, "complete": True, **asdict(snapshot)}
    (work / "snapshot.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return snapshot


def _write_record(stream: Any, resource: Resource) -> None:
    if len(resource.payload) > MAX_PAYLOAD_BYTES or not re.fullmatch(r"\S+", resource.uri):
        raise UserError(
            f"resource {resource.uri!r} of {len(resource.payload):,} bytes cannot be stored: an address has no white "
            f"space, a payload at most {MAX_PAYLOAD_BYTES:,} bytes"
        )
    moment = resource.date.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    digest = sha256(resource.payload).hexdigest()
    identity = f"{resource.uri} {moment} {digest}"
    writer = WARCWriter(stream, gzip=True, warc_version="WARC/1.1")
    writer.write_record(
        writer.create_warc_record(
            resource.uri,
            "resource",
            payload=io.BytesIO(resource.payload),
            length=len(resource.payload),
            warc_content_type=resource.media_type,
            warc_headers_dict={
                "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(_NAMESPACE, identity)}>",
                "WARC-Date": moment,
                "WARC-Block-Digest": f"sha256:{digest}",
                "WARC-Payload-Digest": f"sha256:{digest}",
            },
        )
    )


def read_snapshot(folder: Path) -> Snapshot:
    """Return what a snapshot folder says it holds.

    Raises:
        UserError: when there is no snapshot, or it is of another format or incomplete.
    """
    try:
        facts = json.loads((folder / "snapshot.json").read_text())
        if facts.pop("format") != FORMAT or not facts.pop("complete"):
            raise UserError(
                f"snapshot {folder} is incomplete or of another format than {FORMAT}; collect it anew"
            )
        return Snapshot(**{**facts, "shards": dict(facts["shards"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder} holds no readable snapshot; restore it with `dvc checkout`") from error


def read_records(folder: Path) -> Iterator[tuple[RawRecord, Resource]]:
    """Yield every record of a snapshot in the order it was written, its digest verified.

    Raises:
        UserError: naming the record, when a shard is missing, truncated or altered.
    """
    snapshot = read_snapshot(folder)
    index = folder / "records.jsonl"
    if not index.is_file() or sha256_of(index) != snapshot.shards.get("records.jsonl"):
        raise _altered(index, "its index")
    verified: set[str] = set()
    with index.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["shard"] not in verified:
                _verify(folder, entry["shard"], snapshot, index)
                verified.add(entry["shard"])
            yield _read_record(folder / entry["shard"], entry)


def _verify(folder: Path, name: str, snapshot: Snapshot, index: Path) -> None:
    """Raise unless a shard has the digest that was recorded, naming the first record that is damaged."""
    shard = folder / Path(name).name
    if name == shard.name and shard.is_file() and sha256_of(shard) == snapshot.shards.get(name):
        return
    with index.open(encoding="utf-8") as lines:
        for entry in map(json.loads, lines):
            if entry["shard"] == name:
                _read_record(shard, entry)
    raise _altered(shard, "the header of a record")


def _read_record(shard: Path, entry: dict[str, Any]) -> tuple[RawRecord, Resource]:
    try:
        with shard.open("rb") as file:
            file.seek(entry["offset"])
            member = file.read(min(entry["length"], MAX_RECORD_BYTES))
        record = next(iter(ArchiveIterator(io.BytesIO(_gunzip(member)))))
        payload = record.content_stream().read()
        headers = record.rec_headers
        resource = Resource(
            uri=headers["WARC-Target-URI"],
            date=datetime.fromisoformat(headers["WARC-Date"]),
            media_type=headers["Content-Type"],
            payload=payload,
        )
    except (OSError, EOFError, zlib.error, ArchiveLoadFailed, StopIteration, ValueError, TypeError) as error:
        raise _altered(shard, entry["uri"]) from error
    if sha256(payload).hexdigest() != entry["sha256"] or resource.uri != entry["uri"]:
        raise _altered(shard, entry["uri"])
    return RawRecord(shard=entry["shard"], offset=entry["offset"], sha256=entry["sha256"]), resource


def _gunzip(member: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(member)) as file:
        data = file.read(MAX_RECORD_BYTES + 1)
    if len(data) > MAX_RECORD_BYTES:
        raise EOFError
    return data


def _altered(shard: Path, uri: str) -> UserError:
    return UserError(f"{shard} is truncated or altered at {uri}; restore the snapshot with `dvc checkout`")
