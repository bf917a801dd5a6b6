"""Records as WARC/1.1: one gzip member each, the same bytes for the same record.

Ids derive from what a record holds and dates from its source, so two writes of an exchange are equal.
Reading is bounded: a member that would unpack without end is damage like any other.
"""

import gzip
import io
import json
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from collectors.document import UserError

MAX_PAYLOAD_BYTES = 64 << 20
MAX_RECORD_BYTES = MAX_PAYLOAD_BYTES + (1 << 20)  # its headers too
AGENT = "freshbits"
KINDS = ("resource", "response", "revisit", "metadata")
_NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
_NAMESPACE = uuid.UUID("6f1a4a0e-8c1b-5c0a-9d5e-0b1f3c2d4e5f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Bytes from a source, or a note on why there are none.

    Attributes:
        uri: what names them; for a response the address that answered.
        date: UTC; when the source published or served them.
        media_type: such as `text/x-python`; for a response its Content-Type.
        payload: the bytes, without any content encoding.
        kind: one of `KINDS`: `revisit` is a page unchanged since an earlier round, without a payload,
            `metadata` a note of the collector's own.
        requested: the address that the source asked for; empty for a resource.
        status: the HTTP status of a response, 0 for everything else.
        headers: those headers of a response that are kept, by lower-case name.
    """

    uri: str
    date: datetime
    media_type: str
    payload: bytes
    kind: str = "resource"
    requested: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


def utc_second(moment: datetime) -> datetime:
    """Return a moment in UTC and whole seconds, as WARC dates have it; one without a zone is in UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


def members(record: Record) -> list[tuple[str, bytes, bytes]]:
    """Return the WARC records that hold a record: type, gzip member and payload of each.

    A response is preceded by the request that it answers, without any header that names a person.

    Raises:
        UserError: when the record could not be read back.
    """
    if len(record.payload) > MAX_PAYLOAD_BYTES or not re.fullmatch(r"\S+", record.uri):
        raise UserError(
            f"record {record.uri!r} of {len(record.payload):,} bytes cannot be stored: an address has no white "
            f"space, a payload at most {MAX_PAYLOAD_BYTES:,} bytes"
        )
    if record.kind not in {"response", "revisit"}:
        return [(record.kind, _member(record, record.kind, record.payload), record.payload)]
    address = urlsplit(record.uri)
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    question = StatusAndHeaders(
        f"GET {target} HTTP/1.1",
        [("Host", address.netloc.rpartition("@")[2]), ("User-Agent", AGENT)],
        is_http_request=True,
    )
    answer = StatusAndHeaders(
        f"{record.status} {_phrase(record.status)}".strip(),
        sorted(record.headers.items()),
        protocol="HTTP/1.1",
    )
    return [
        ("request", _member(record, "request", b"", question), b""),
        (record.kind, _member(record, record.kind, record.payload, answer), record.payload),
    ]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _member(record: Record, kind: str, payload: bytes, http: StatusAndHeaders | None = None) -> bytes:
    moment = utc_second(record.date).isoformat().replace("+00:00", "Z")
    head = http.to_ascii_bytes() if http else b""
    digest = sha256(payload).hexdigest()
    # Resources have been named by address, date and digest since before there were other kinds.
    identity = f"{record.uri} {moment} {digest}"
    if kind != "resource":
        identity += f" {kind} {record.requested} {sha256(head).hexdigest()}"
    headers = {
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(_NAMESPACE, identity)}>",
        "WARC-Date": moment,
        "WARC-Block-Digest": f"sha256:{sha256(head + payload).hexdigest()}",
        "WARC-Payload-Digest": f"sha256:{digest}",
    }
    if kind == "revisit":
        headers["WARC-Profile"] = _NOT_MODIFIED
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=True, warc_version="WARC/1.1")
    media_type = f"application/http; msgtype={kind}" if http else record.media_type
    if kind == "revisit":
        media_type = "application/http; msgtype=response"
    writer.write_record(
        writer.create_warc_record(
            record.uri,
            kind,
            payload=io.BytesIO(payload),
            length=len(payload),
            warc_content_type=media_type,
            warc_headers_dict=headers,
            http_headers=http,
        )
    )
    return stream.getvalue()


def parse(member: bytes, *, requested: str = "") -> Record:
    """Return the record in a gzip member.

    Args:
        member: the whole member.
        requested: the address that the source asked for, which WARC has no header for.

    Raises:
        EOFError: when the member is truncated, altered or larger than `MAX_RECORD_BYTES`.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(member)) as file:
            data = file.read(MAX_RECORD_BYTES + 1)
        if len(data) > MAX_RECORD_BYTES:
            raise EOFError("too large")
        record = next(iter(ArchiveIterator(io.BytesIO(data))))
        payload = record.content_stream().read()
        headers = record.rec_headers
        http = record.http_headers
        kept = {str(name): str(value) for name, value in http.headers} if http else {}
        return Record(
            uri=headers["WARC-Target-URI"],
            date=datetime.fromisoformat(headers["WARC-Date"]),
            media_type=kept.get("content-type", "") if http else headers["Content-Type"],
            payload=payload,
            kind=record.rec_type,
            requested=requested,
            status=int(http.get_statuscode()) if http and record.rec_type != "request" else 0,
            headers=kept,
        )
    except (OSError, zlib.error, ArchiveLoadFailed, StopIteration, ValueError, TypeError, KeyError) as error:
        raise EOFError("no readable WARC record") from error


def note(uri: str, date: datetime, *, requested: str, **facts: Any) -> Record:
    """Return a metadata record that says in JSON what became of an address."""
    return Record(
        uri=uri,
        date=date,
        media_type="application/json",
        payload=json.dumps(facts, sort_keys=True).encode(),
        kind="metadata",
        requested=requested,
    )
