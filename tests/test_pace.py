"""Waits between requests, on a clock that needs no time and on the real one."""

import random
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.web.pace import Pace, SystemClock, backoff, retry_after
from samples import ROOT

NOON = 1_800_000_000.0


class InstantClock:
    """A clock that moves only when someone sleeps, and remembers for how long."""

    def __init__(self, now: float = NOON) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.time += seconds


def ask(pace: Pace, bucket: str = "example.org", interval: float = 3.0) -> list[tuple[float, str]]:
    """Take one turn and return the waits that were reported."""
    reports: list[tuple[float, str]] = []
    with pace.turn(bucket, interval, lambda seconds, reason: reports.append((seconds, reason))):
        pass
    return reports


@pytest.fixture
def clock() -> InstantClock:
    """A clock at noon."""
    return InstantClock()


@pytest.fixture
def pace(tmp_path: Path, clock: InstantClock) -> Pace:
    """A pace that nobody has used."""
    return Pace(tmp_path / "pace", clock)


def test_starts_are_an_interval_apart(pace: Pace, clock: InstantClock) -> None:
    """The first turn comes at once, the next ones after what is left of the interval."""
    assert ask(pace) == []
    clock.time += 1
    assert ask(pace) == [(2.0, "example.org is asked once in 3 s")]
    clock.time += 3
    assert ask(pace) == []
    assert clock.slept == [2.0]


def test_the_interval_runs_from_start_to_start(pace: Pace, clock: InstantClock) -> None:
    """A request that took longer than the interval is followed at once."""
    with pace.turn("example.org", 3, lambda *_: None):
        clock.time += 10
    assert ask(pace) == []


def test_a_failed_request_counts(pace: Pace) -> None:
    """The service was asked all the same."""
    with pytest.raises(RuntimeError), pace.turn("example.org", 3, lambda *_: None):
        raise RuntimeError
    assert [seconds for seconds, _ in ask(pace)] == [3.0]


def test_the_past_is_remembered_by_the_folder(tmp_path: Path, clock: InstantClock) -> None:
    """Another process that starts later keeps the limit too."""
    ask(Pace(tmp_path, clock))
    assert [seconds for seconds, _ in ask(Pace(tmp_path, clock))] == [3.0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("example.org", "example.com"),
        ("../../../etc/passwd", "etc/passwd"),
        ("a/b", "a-b"),
        (".", ".."),
        ("", "\0"),
        ("[::1]:80", "[::1]:81"),
        ("x" * 300 + "1", "x" * 300 + "2"),
        ("münchen.example", "m-nchen.example"),
    ],
)
def test_buckets_are_apart_whatever_their_names(tmp_path: Path, one: str, other: str) -> None:
    """Each has its own limit, and no name leads out of the folder."""
    folder = tmp_path / "pace"
    pace = Pace(folder, InstantClock())
    assert [ask(pace, one), ask(pace, other)] == [[], []]
    assert len(ask(pace, one)) == 1
    assert list(tmp_path.iterdir()) == [folder]
    assert len(list(folder.glob("*.start"))) == 2


def test_a_clock_that_was_set_back_costs_one_interval_at_most(pace: Pace, clock: InstantClock) -> None:
    """The noted start then lies in the future."""
    ask(pace)
    clock.time -= 365 * 86_400
    assert [seconds for seconds, _ in ask(pace)] == [3.0]
    assert [seconds for seconds, _ in ask(pace)] == [3.0]


@pytest.mark.parametrize("garbage", [b"\xff\0", b"nan", b"inf", b"1 2", b"   ", b"-1e999"])
def test_a_file_of_garbage_costs_one_interval(pace: Pace, tmp_path: Path, garbage: bytes) -> None:
    """Nobody knows when the service was last asked, so it could have been now."""
    ask(pace)
    (start,) = (tmp_path / "pace").glob("*.start")
    start.write_bytes(garbage)
    (quiet,) = (tmp_path / "pace").glob("*.quiet")
    quiet.write_bytes(garbage)
    assert [seconds for seconds, _ in ask(pace)] == [3.0]
    assert float(start.read_text()) == NOON + 3


def test_a_postponed_service_is_left_alone_by_all(tmp_path: Path, clock: InstantClock) -> None:
    """One worker is told to wait, and another one waits; other services are asked as before."""
    Pace(tmp_path, clock).postpone("example.org", NOON + 60)
    other = Pace(tmp_path, clock)
    assert ask(other, "example.com") == []
    assert ask(other) == [(60.0, "example.org is left alone for a while")]
    assert [seconds for seconds, _ in ask(other)] == [3.0]


def test_a_longer_promise_stands(pace: Pace, clock: InstantClock) -> None:
    """Postponing again can prolong the wait, not shorten it."""
    for seconds in (60, 10, 90, 20):
        pace.postpone("example.org", NOON + seconds)
    ask(pace)
    assert clock.slept == [90.0]


def test_postponing_works_from_inside_a_turn(pace: Pace, clock: InstantClock) -> None:
    """Where the answer that asks for it is read."""
    with pace.turn("example.org", 3, lambda *_: None):
        pace.postpone("example.org", NOON + 7)
    ask(pace)
    assert clock.slept == [7.0]


def test_who_waits_already_waits_longer_when_a_service_is_postponed(tmp_path: Path) -> None:
    """A Retry-After that another worker sees during the wait holds this one back too."""

    class Interrupted(InstantClock):
        def sleep(self, seconds: float, /) -> None:
            super().sleep(seconds)
            if len(self.slept) == 1:
                Pace(tmp_path, self).postpone("example.org", self.time + 30)

    waiting = Pace(tmp_path, Interrupted())
    ask(waiting)
    assert [seconds for seconds, _ in ask(waiting)] == [3.0, 30.0]


def test_a_promise_lasts_its_time_when_the_clock_is_set_back(pace: Pace, clock: InstantClock) -> None:
    """Not until a date that is now a year away."""
    pace.postpone("example.org", NOON + 60)
    clock.time -= 365 * 86_400
    ask(pace)
    assert clock.slept == [60.0]


@pytest.mark.parametrize("postponed", [0.0, 60.0])
def test_a_clock_that_is_set_back_during_a_wait_does_not_prolong_it(tmp_path: Path, postponed: float) -> None:
    """Who has waited has waited."""

    class SetBack(InstantClock):
        def sleep(self, seconds: float, /) -> None:
            super().sleep(seconds)
            self.time -= 3_600

    clock = SetBack()
    pace = Pace(tmp_path, clock)
    ask(pace)
    if postponed:
        pace.postpone("example.org", NOON + postponed)
    ask(pace)
    assert clock.slept == [postponed or 3.0]


WORKER = """
import sys, time
from pathlib import Path
from collectors.web.pace import Pace, SystemClock

folder = Path(sys.argv[1])
pace = Pace(folder, SystemClock())
for _ in range(int(sys.argv[2])):
    with pace.turn("example.org", 0.1, lambda *_: None):
        (noted,) = folder.glob("*.start")
        print(noted.read_text(), flush=True)
        time.sleep(float(sys.argv[3]))
        print(time.time(), flush=True)
"""


def worker(folder: Path, turns: int, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that takes turns of so many seconds and prints when each began and ended."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(turns), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_processes_take_turns(tmp_path: Path) -> None:
    """Two that share a folder start an interval apart and are never inside at once."""
    processes = [worker(tmp_path, 6, 0.03) for _ in range(2)]
    moments = [list(map(float, process.communicate(timeout=30)[0].split())) for process in processes]
    turns = sorted(turn for printed in moments for turn in zip(printed[::2], printed[1::2], strict=True))
    assert len(turns) == 12
    for (start, end), (following, _) in pairwise(turns):
        assert following - start >= 0.0999
        assert following >= end


def test_threads_take_turns(tmp_path: Path) -> None:
    """One lock holds for those of one process too."""
    pace = Pace(tmp_path, SystemClock())
    inside: list[int] = []
    crowds: list[int] = []

    def work() -> None:
        for _ in range(5):
            with pace.turn("example.org", 0.005, lambda *_: None):
                inside.append(1)
                crowds.append(len(inside))
                SystemClock().sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowds == [1] * 20


def test_a_killed_process_leaves_nothing_locked(tmp_path: Path) -> None:
    """The kernel takes its lock away in the middle of its turn."""
    with worker(tmp_path, 1, 60.0) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    reports = ask(Pace(tmp_path, SystemClock()), interval=0.2)
    assert sum(seconds for seconds, _ in reports) <= 0.2


def at(seconds: float) -> str:
    """Return an HTTP date."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": at(NOON + 90)}, 90.0),
        ({"retry-after": at(NOON - 90)}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:00 -0000"}, 60.0),
        ({"retry-after": "Friday, 15-Jan-27 08:01:00 GMT"}, 60.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Fri, 99 Jan 2027 08:01:00 GMT"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOON) + 30)}, 30.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOON) - 30)}, 0.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "later"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": str(int(NOON) + 30)}, None),
        ({"retry-after": "5", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOON) + 30)}, 5.0),
        ({"retry-after": "?", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOON) + 30)}, 30.0),
    ],
)  # fmt: skip
def test_what_an_answer_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, a date in any of the three forms of HTTP, a reset of the limit; garbage asks nothing."""
    assert retry_after(headers, NOON) == seconds


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"]),
        st.one_of(st.text(max_size=30), st.integers().map(str), st.datetimes().map(format_datetime), st.just("0")),
    )
)  # fmt: skip
def test_whatever_an_answer_says_is_understood_or_ignored(headers: dict[str, str]) -> None:
    """Never an error, never a negative wait."""
    seconds = retry_after(headers, NOON)
    assert seconds is None or 0 <= seconds < 1e12


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_doubles_up_to_its_bound(attempt: int, fraction: float) -> None:
    """Half of 2, 4, 8, … 300 seconds is certain, the other half is drawn."""
    whole = min(300.0, 2.0 * 2 ** min(attempt, 30))
    seconds = backoff(attempt, lambda: fraction)
    assert seconds == pytest.approx(whole / 2 + whole / 2 * fraction)


def test_workers_that_failed_together_part() -> None:
    """The drawn half differs."""
    assert len({backoff(3, random.Random(seed).random) for seed in range(20)}) == 20
    assert len({backoff(3) for _ in range(20)}) == 20


def test_the_system_clock_waits_as_long_as_it_is_told() -> None:
    """Its own now() says so."""
    clock: Any = SystemClock()
    before = clock.now()
    clock.sleep(0.02)
    assert 0.019 <= clock.now() - before < 1
