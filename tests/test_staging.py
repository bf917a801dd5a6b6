"""Collections in progress: nothing stored is done twice, and interruptions leave no trace."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import staging
from collectors.document import UserError, sha256_of
from collectors.request import Request
from collectors.snapshot import read_records, read_snapshot
from collectors.staging import Staging
from collectors.warc import Record
from samples import REQUEST


def page(number: int) -> Record:
    """Return a record that differs from every other."""
    return Record(
        uri=f"test:page/{number}",
        date=datetime(2026, 9, 2, 3, 4, 5, tzinfo=UTC),
        media_type="text/plain",
        payload=f"page {number}\n".encode() * (number + 1),
    )


def opened(folder: Path) -> Staging:
    """Return the staging of the sample request."""
    return Staging(folder / "staging", REQUEST, "test/1")


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a snapshot."""
    return {path.name: sha256_of(path) for path in folder.iterdir()}


def undisturbed(folder: Path, n: int) -> dict[str, str]:
    """Collect pages 0 to n in one go."""
    with opened(folder) as log:
        for number in range(n):
            log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
        log.finish(folder / "raw", [])
    return digests(folder / "raw")


def test_a_step_is_done_once(tmp_path: Path) -> None:
    """The second time it is answered from disk, in this run and in the next."""
    asked = []

    def produce() -> Iterator[Record]:
        asked.append(1)
        yield page(1)
        yield page(2)

    for _ in range(2):
        with opened(tmp_path) as log:
            for _ in range(2):
                entries = log.once("pages", produce)
                assert [log.read(entry) for entry in entries] == [page(1), page(2)]
    assert asked == [1]


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    """All of a step's records are kept, or none."""

    def failing() -> Iterator[Record]:
        yield page(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as log:
        log.once("first", lambda: [page(0)])
        with pytest.raises(OSError, match="No space"):
            log.once("pages", failing)
        assert "pages" not in log
        log.once("pages", lambda: [page(1)])
        log.finish(tmp_path / "raw", [])
    assert [record for _, record in read_records(tmp_path / "raw")] == [page(0), page(1)]


def test_the_snapshot_is_in_the_order_of_the_last_run(tmp_path: Path) -> None:
    """A step that failed once and came later stands where it would have stood."""
    with opened(tmp_path / "a") as log:
        for number in (0, 2, 3):
            log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
    with opened(tmp_path / "a") as log:
        for number in range(4):
            log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
        log.finish(tmp_path / "a/raw", [])
    assert digests(tmp_path / "a/raw") == undisturbed(tmp_path / "b", 4)


def test_what_no_run_asks_for_any_more_is_left_out(tmp_path: Path) -> None:
    """The snapshot is what the last run saw."""
    with opened(tmp_path / "a") as log:
        for number in (0, 9, 1):
            log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
    with opened(tmp_path / "a") as log:
        for number in (0, 1):
            log.once(f"page {number}", lambda: pytest.fail("asked again"))
        log.finish(tmp_path / "a/raw", [])
    assert digests(tmp_path / "a/raw") == undisturbed(tmp_path / "b", 2)


def test_steps_come_after_those_they_needed(tmp_path: Path) -> None:
    """Also when they are answered from disk, where what they needed is not asked for."""
    for _ in range(2):
        with opened(tmp_path) as log:
            if "page" not in log:
                with log.needing() as needed:
                    log.once("rules", lambda: [page(7)])
                assert needed == ["rules"]
            log.once("page", lambda: [page(1)], after=["rules"])
    with opened(tmp_path) as log:
        log.once("page", list)
        log.finish(tmp_path / "raw", [])
    assert [record.uri for _, record in read_records(tmp_path / "raw")] == ["test:page/7", "test:page/1"]


def _cut_journal(folder: Path) -> None:
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-5])


def _tail_records(folder: Path) -> None:
    with (folder / "records").open("ab") as file:
        file.write(b"half a record")


def _garbage_journal(folder: Path) -> None:
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(
            b"\0" * 100 + b"\n" + json.dumps({"key": "x", "entries": [], "after": []}).encode() + b"\n"
        )


@pytest.mark.parametrize("damage", [_cut_journal, _tail_records, _garbage_journal])
def test_the_ends_of_a_lost_power_supply_are_cut_off(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """What the journal does not vouch for is done again; the snapshot shows nothing of it."""
    with opened(tmp_path / "a") as log:
        for number in range(3):
            log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
    damage(log.folder)
    with opened(tmp_path / "a") as log:
        assert "x" not in log
        for number in range(3):
            log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
        log.finish(tmp_path / "a/raw", [])
    assert digests(tmp_path / "a/raw") == undisturbed(tmp_path / "b", 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("call", [1, 2])
def test_an_interruption_at_the_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException
) -> None:
    """Neither while records are written nor while the journal is: it never promises what is not there."""
    done = os.fsync
    calls = []

    def interrupted(number: int) -> None:
        done(number)
        calls.append(number)
        if len(calls) == call:
            raise error

    with opened(tmp_path / "a") as log:
        log.once("page 0", lambda: [page(0)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupted)
            with pytest.raises(type(error)):
                log.once("page 1", lambda: [page(1)])
    with opened(tmp_path / "a") as log:
        assert "page 0" in log
        log.once("page 0", lambda: pytest.fail("asked again"))
        log.once("page 1", lambda: [page(1)])
        log.finish(tmp_path / "a/raw", [])
    assert digests(tmp_path / "a/raw") == undisturbed(tmp_path / "b", 2)


def test_half_a_line_of_the_journal_is_taken_back(tmp_path: Path) -> None:
    """A file that could not grow goes on from its last whole line, in the same run and in the next."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(tmp_path) as log:
        log.once("first", list)
        size = (log.folder / "journal.jsonl").stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
            with pytest.raises(OSError, match="File too large"):
                log.once("x" * 100, list)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        log.once("second", list)
    with opened(tmp_path) as log:
        assert ["first" in log, "x" * 100 in log, "second" in log] == [True, False, True]


def test_staging_may_be_on_another_file_system(tmp_path: Path) -> None:
    """The snapshot is made beside its place, so that it can be moved there by a rename."""
    elsewhere = Path("/dev/shm")
    with (
        TemporaryDirectory(dir=elsewhere if elsewhere.is_dir() else tmp_path) as other,
        opened(tmp_path) as log,
    ):
        log.once("page", lambda: [page(1)])
        log.finish(Path(other) / "corpora/raw", [])
        assert [path.name for path in (Path(other) / "corpora").iterdir()] == ["raw"]
        assert [record for _, record in read_records(Path(other) / "corpora/raw")] == [page(1)]


def test_lost_records_are_said(tmp_path: Path) -> None:
    """A journal that promises more than there is cannot be gone on with."""
    with opened(tmp_path) as log:
        log.once("page", lambda: [page(1)])
    (log.folder / "records").write_bytes(b"")
    with pytest.raises(UserError, match="has lost a part of its records"), opened(tmp_path):
        pass


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second collection of the same snapshot is told to wait."""
    with opened(tmp_path), pytest.raises(UserError, match="is being collected by another process"):
        opened(tmp_path).__enter__()
    with opened(tmp_path):
        pass


def test_a_changed_request_is_not_mixed_in(tmp_path: Path) -> None:
    """What another request collected is neither used nor lost; whether gaps are accepted is no part of it."""
    with opened(tmp_path) as log:
        log.once("page", lambda: [page(1)])
    fields = {name: getattr(REQUEST, name) for name in REQUEST.__dataclass_fields__}
    changed = Staging(tmp_path / "staging", Request(**{**fields, "settings": {}}), "test/1")
    with pytest.raises(UserError, match="when it asked for something else; ask for that again"):
        changed.__enter__()
    assert (log.folder / "journal.jsonl").is_file()
    with Staging(tmp_path / "staging", Request(**{**fields, "partial": True}), "test/2") as same:
        assert "page" in same


def test_a_snapshot_is_written_once(tmp_path: Path) -> None:
    """Nothing collected is ever overwritten, and what was collected for nothing stays in staging."""
    before = undisturbed(tmp_path, 2)
    with pytest.raises(UserError, match="exists and is never rewritten"):
        undisturbed(tmp_path, 3)
    assert digests(tmp_path / "raw") == before
    assert (opened(tmp_path).folder / "journal.jsonl").is_file()


def test_an_empty_source_is_no_snapshot(tmp_path: Path) -> None:
    """Nothing collected is an error, not an empty corpus."""
    with pytest.raises(UserError, match="gave nothing"):
        undisturbed(tmp_path, 0)


def test_a_finished_collection_leaves_no_staging(tmp_path: Path) -> None:
    """Its bytes are not kept twice."""
    undisturbed(tmp_path, 2)
    assert not (tmp_path / "staging").exists()


def test_gaps_make_a_snapshot_incomplete(tmp_path: Path) -> None:
    """The manifest says what is missing."""
    with opened(tmp_path) as log:
        log.once("page", lambda: [page(1)])
        log.finish(tmp_path / "raw", ["page 2 did not answer"])
    assert read_snapshot(tmp_path / "raw").gaps == ("page 2 did not answer",)
    assert json.loads((tmp_path / "raw/snapshot.json").read_text())["complete"] is False


def test_full_shards_are_followed_by_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of many bytes is many files."""
    monkeypatch.setattr(staging, "SHARD_BYTES", 10)
    undisturbed(tmp_path, 3)
    assert len(list((tmp_path / "raw").glob("*.warc.gz"))) == 3
    assert [record for _, record in read_records(tmp_path / "raw")] == [page(n) for n in range(3)]


def test_rounds_are_counted_over_runs(tmp_path: Path) -> None:
    """An interrupted round goes on; a closed one is followed by the next."""
    with opened(tmp_path) as log:
        assert log.round == 1
    with opened(tmp_path) as log:
        assert log.round == 1
        log.close_round()
    with opened(tmp_path) as log:
        assert log.round == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
def test_any_history_of_failures_ends_in_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, bool]]
) -> None:
    """Whatever was stored in whatever order before, the last run decides."""
    folder = tmp_path_factory.mktemp("history")
    log = opened(folder).__enter__()
    for number, restart in history:
        log.once(f"page {number}", lambda number=number: [page(number)])  # type: ignore[misc]
        if restart:
            log.__exit__(None, None, None)
            log = opened(folder).__enter__()
    log.__exit__(None, None, None)
    found = undisturbed(folder, 6)
    assert found == undisturbed(tmp_path_factory.mktemp("plain"), 6)


SLOW_COLLECTION = """
import sys, time
from pathlib import Path
from test_staging import opened, page
folder = Path(sys.argv[1])
with opened(folder) as log:
    for number in range(40):
        def produce():
            with (folder / "asked").open("a") as file:
                file.write(f"{number}\\n")
            yield page(number)
            time.sleep(0.004)
            yield page(number + 1000)
        log.once(f"page {number}", produce)
    log.finish(folder / "raw", [])
"""


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    """Kill -9 at ten random moments: the same bytes, and no step that was stored is done again."""
    rng = random.Random(1)
    root = Path(staging.__file__).parent.parent
    command = [sys.executable, "-c", SLOW_COLLECTION]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"}
    (tmp_path / "a").mkdir()
    for _ in range(10):
        process = subprocess.Popen([*command, str(tmp_path / "a")], env=environment)
        asked = tmp_path / "a" / "asked"
        before = len(asked.read_text().split()) if asked.is_file() else 0
        stop = before + rng.randint(1, 3)
        while process.poll() is None and (not asked.is_file() or len(asked.read_text().split()) < stop):
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(tmp_path / "a")], env=environment, check=True)
    (tmp_path / "b").mkdir()
    subprocess.run([*command, str(tmp_path / "b")], env=environment, check=True)
    assert digests(tmp_path / "a/raw") == digests(tmp_path / "b/raw")
    asked_for = (tmp_path / "a/asked").read_text().split()
    assert set(asked_for) == {str(n) for n in range(40)}
    assert len(asked_for) <= 40 + 10  # at most the step in hand at each kill
