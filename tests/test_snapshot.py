"""Raw snapshots: deterministic, written once, verified on every read."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from collectors import warc
from collectors.document import UserError, sha256_of
from collectors.snapshot import read_records, read_snapshot
from collectors.staging import Staging
from collectors.warc import Record, note
from samples import REQUEST

RECORDS = [
    Record(
        uri=f"test:page/{i}",
        date=datetime(2026, 9, 2, 3, 4, 5, tzinfo=UTC),
        media_type="text/plain",
        payload=(f"page {i} żółw\r\n\r\n" * (i * 50)).encode() + bytes(range(256)),
    )
    for i in range(3)
]


RESPONSE = Record(
    uri="https://news.example/a?b=c",
    date=datetime(2026, 9, 2, tzinfo=UTC),
    media_type="text/html; charset=utf-8",
    payload=b"<p>stone</p>",
    kind="response",
    requested="https://news.example/start",
    status=200,
    headers={"content-type": "text/html; charset=utf-8", "etag": '"7"'},
)


def write(tmp_path: Path, name: str = "raw", records: list[Record] = RECORDS) -> Path:
    """Write a snapshot and return its folder."""
    folder = tmp_path / name
    with Staging(tmp_path / "staging", REQUEST, "test/1") as staging:
        staging.once("all", lambda: records)
        staging.finish(folder, [])
    return folder


def test_records_return_to_the_byte(tmp_path: Path) -> None:
    """What the source gave is what extraction reads, in order."""
    folder = write(tmp_path)
    assert [record for _, record in read_records(folder)] == RECORDS
    facts = read_snapshot(folder)
    assert facts.n_records == 3
    assert facts.n_bytes == sum(len(r.payload) for r in RECORDS)
    assert facts.request == REQUEST.facts()


def test_two_writes_are_identical_in_every_byte(tmp_path: Path) -> None:
    """No clock and no random id enters a snapshot."""
    first, second = write(tmp_path, "a"), write(tmp_path, "b")
    names = sorted(p.name for p in first.iterdir())
    assert names == sorted(p.name for p in second.iterdir())
    assert [sha256_of(first / n) for n in names] == [sha256_of(second / n) for n in names]


def test_shards_are_warc_that_others_read(tmp_path: Path) -> None:
    """Warcio reads WARC/1.1 resource records, one gzip member each."""
    (shard,) = write(tmp_path).glob("*.warc.gz")
    with shard.open("rb") as file:
        records = [
            (r.rec_headers["WARC-Target-URI"], r.content_stream().read()) for r in ArchiveIterator(file)
        ]
    assert records == [(r.uri, r.payload) for r in RECORDS]
    assert gzip.decompress(shard.read_bytes()).startswith(b"WARC/1.1\r\n")


@pytest.mark.parametrize(
    "record",
    [
        RESPONSE,
        replace(RESPONSE, status=404, payload=b""),
        replace(
            RESPONSE, status=799, headers={"content-type": "a/b", "link": "<x>; rel=y"}, media_type="a/b"
        ),
        replace(RESPONSE, status=304, payload=b"", kind="revisit"),
        note(
            "https://news.example/b", RESPONSE.date, requested="https://news.example/b", refused="robots.txt"
        ),
    ],
)
def test_every_kind_of_record_returns(tmp_path: Path, record: Record) -> None:
    """Responses, unchanged pages and notes; the request before a response is for readers of WARC."""
    assert [r for _, r in read_records(write(tmp_path, records=[record]))] == [record]


def test_an_exchange_is_a_request_and_a_response(tmp_path: Path) -> None:
    """Both with their HTTP headers, each with the digest of its block."""
    folder = write(tmp_path, records=[RESPONSE])
    (shard,) = folder.glob("*.warc.gz")
    with shard.open("rb") as file:
        kinds = [
            (r.rec_type, r.http_headers.statusline) for r in ArchiveIterator(file, check_digests="raise")
        ]
    assert kinds == [("request", "/a?b=c HTTP/1.1"), ("response", "200 OK")]
    entries = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [entry["kind"] for entry in entries] == ["request", "response"]
    assert read_snapshot(folder).n_records == 2


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink])
@pytest.mark.parametrize("pattern", ["*.warc.gz", "records.jsonl"])
def test_damage_is_found_and_named(tmp_path: Path, damage: Callable[[Path], None], pattern: str) -> None:
    """A truncated, altered or missing shard or index: the common readers would say nothing."""
    folder = write(tmp_path)
    (path,) = folder.glob(pattern)
    damage(path)
    with pytest.raises(UserError, match=f"{path.name} is truncated or altered at .*dvc checkout"):
        list(read_records(folder))


def test_an_altered_header_is_found(tmp_path: Path) -> None:
    """Nothing in a shard may change, not only the payloads."""
    (shard,) = write(tmp_path).glob("*.warc.gz")
    data = gzip.decompress(shard.read_bytes())
    shard.write_bytes(gzip.compress(data.replace(b"2026-09-02", b"1999-09-02")))
    with pytest.raises(UserError, match="truncated or altered"):
        list(read_records(shard.parent))


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload beyond the bound, an address with white space: refused before a snapshot holds them."""
    monkeypatch.setattr(warc, "MAX_PAYLOAD_BYTES", 100)
    with pytest.raises(UserError, match="cannot be stored"):
        write(tmp_path)
    with pytest.raises(UserError, match="cannot be stored"):
        write(tmp_path, records=[replace(RECORDS[0], uri="a b", payload=b"")])
    assert not (tmp_path / "raw").exists()


def test_incomplete_snapshots_never_pass_for_complete(tmp_path: Path) -> None:
    """The manifest says whether the request was answered to the end."""
    path = write(tmp_path) / "snapshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "complete": False}))
    with pytest.raises(UserError, match="is incomplete"):
        list(read_records(path.parent))


@pytest.mark.parametrize("manifest", ["", "[]", "null", '{"format": 1}', "{" * 50])
def test_broken_manifests_are_one_line(tmp_path: Path, manifest: str) -> None:
    """Whatever the file says, no traceback."""
    (tmp_path / "snapshot.json").write_text(manifest)
    with pytest.raises(UserError, match="holds no readable snapshot"):
        read_snapshot(tmp_path)


@pytest.mark.parametrize("count", ["12", None, [1], 1.5])
def test_an_edited_count_is_one_line(tmp_path: Path, count: object) -> None:
    """A count is a whole number, or the manifest is not ours."""
    path = write(tmp_path) / "snapshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_records": count}))
    with pytest.raises(UserError, match="holds no readable snapshot"):
        read_snapshot(path.parent)


@pytest.mark.parametrize(
    "line", ["{}", "[]", "5", "{", '{"shard": 1}', '{"shard": "x", "offset": "y", "sha256": 1}']
)
def test_an_edited_index_is_one_line(tmp_path: Path, line: str) -> None:
    """Even where its digest was edited with it."""
    folder = write(tmp_path)
    (folder / "records.jsonl").write_text(f"{line}\n")
    facts = json.loads((folder / "snapshot.json").read_text())
    facts["shards"]["records.jsonl"] = sha256_of(folder / "records.jsonl")
    (folder / "snapshot.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="is truncated or altered"):
        list(read_records(folder))


def test_a_record_cannot_unpack_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that would fill the memory is refused like an altered one."""
    folder = write(tmp_path)
    monkeypatch.setattr(warc, "MAX_RECORD_BYTES", 100)
    with pytest.raises(UserError, match="truncated or altered"):
        list(read_records(folder))
