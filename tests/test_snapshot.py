"""Raw snapshots: deterministic, written once, verified on every read."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from collectors import snapshot
from collectors.document import UserError, sha256_of
from collectors.snapshot import Request, Resource, read_records, read_snapshot, write_snapshot

REQUEST = Request(
    name="test-2026-09",
    source="test",
    content="prose",
    since=datetime(2026, 9, 1, tzinfo=UTC),
    until=datetime(2026, 10, 1, tzinfo=UTC),
    settings={"pages": 3},
)
RESOURCES = [
    Resource(
        uri=f"test:page/{i}",
        date=datetime(2026, 9, 2, 3, 4, 5, tzinfo=UTC),
        media_type="text/plain",
        payload=(f"page {i} żółw\r\n\r\n" * (i * 50)).encode() + bytes(range(256)),
    )
    for i in range(3)
]


def write(tmp_path: Path, name: str = "raw", resources: list[Resource] = RESOURCES) -> Path:
    """Write the sample snapshot and return its folder."""
    folder = tmp_path / name
    write_snapshot(folder, tmp_path / "staging", resources, request=REQUEST, collector="test/1")
    return folder


def test_records_return_to_the_byte(tmp_path: Path) -> None:
    """What the source gave is what extraction reads, in order."""
    folder = write(tmp_path)
    assert [resource for _, resource in read_records(folder)] == RESOURCES
    facts = read_snapshot(folder)
    assert facts.n_records == 3
    assert facts.n_bytes == sum(len(r.payload) for r in RESOURCES)
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
    assert records == [(r.uri, r.payload) for r in RESOURCES]
    assert gzip.decompress(shard.read_bytes()).startswith(b"WARC/1.1\r\n")


def test_full_shards_are_followed_by_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of many bytes is many files."""
    monkeypatch.setattr(snapshot, "SHARD_BYTES", 10)
    folder = write(tmp_path)
    assert len(list(folder.glob("*.warc.gz"))) == 3
    assert [resource for _, resource in read_records(folder)] == RESOURCES


def test_a_snapshot_is_written_once(tmp_path: Path) -> None:
    """Nothing collected is ever overwritten."""
    folder = write(tmp_path)
    before = sha256_of(folder / "records.jsonl")
    with pytest.raises(UserError, match="exists and is never rewritten"):
        write(tmp_path, resources=RESOURCES[:1])
    assert sha256_of(folder / "records.jsonl") == before


def test_a_failed_collection_leaves_no_snapshot(tmp_path: Path) -> None:
    """The folder appears by one rename, whole; the next attempt starts clean."""

    def failing() -> list[Resource]:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  any failure of a source
        write_snapshot(
            tmp_path / "raw",
            tmp_path / "staging",
            (r for part in (RESOURCES[:1], failing()) for r in part),
            request=REQUEST,
            collector="test/1",
        )
    assert not (tmp_path / "raw").exists()
    assert len(list(read_records(write(tmp_path)))) == 3


def test_an_empty_source_is_no_snapshot(tmp_path: Path) -> None:
    """Nothing collected is an error, not an empty corpus."""
    with pytest.raises(UserError, match="gave nothing"):
        write(tmp_path, resources=[])


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
    monkeypatch.setattr(snapshot, "MAX_PAYLOAD_BYTES", 100)
    with pytest.raises(UserError, match="cannot be stored"):
        write(tmp_path)
    with pytest.raises(UserError, match="cannot be stored"):
        write(tmp_path, resources=[replace(RESOURCES[0], uri="a b", payload=b"")])
    assert not (tmp_path / "raw").exists()
    assert not list((tmp_path / "staging").iterdir())


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


def test_a_record_cannot_unpack_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that would fill the memory is refused like an altered one."""
    folder = write(tmp_path)
    monkeypatch.setattr(snapshot, "MAX_RECORD_BYTES", 100)
    with pytest.raises(UserError, match="truncated or altered"):
        list(read_records(folder))
