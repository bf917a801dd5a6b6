"""Worker processes: one item's crash, hang or hunger costs that item alone."""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from collectors.document import UserError
from collectors.pages import worker
from collectors.pages.worker import Result, run


def work(item: list[Any]) -> Any:
    """Do in a worker what the item says: the name of an action and its arguments."""
    name, *arguments = item
    return ACTIONS[name](*arguments)


def loop() -> None:
    """Never end."""
    while True:
        pass


def say() -> str:
    """Write where answers used to go."""
    os.write(1, b"\x00" * 100)
    return "said"


def surroundings() -> list[Any]:
    """Return process, environment and loaded modules."""
    return [os.getpid(), dict(os.environ), sorted(name for name in sys.modules if "." not in name)]


ACTIONS: dict[str, Callable[..., Any]] = {
    "return": lambda value: value,
    "sleep": time.sleep,
    "loop": loop,
    "allocate": lambda n: len(bytearray(n)),
    "segfault": lambda: ctypes.string_at(0),
    "exit": os._exit,
    "raise": lambda text: [][text],
    "say": say,
    "lie": lambda fd: os.write(fd, b"\xff" * 8),
    "object": lambda: {"no", "JSON"},
    "surroundings": surroundings,
}


def values(*numbers: int) -> list[list[Any]]:
    """Return items that give back numbers."""
    return [["return", number] for number in numbers]


def children() -> list[psutil.Process]:
    """Return the worker processes of this one."""
    return [p for p in psutil.Process().children() if "collectors.pages.worker" in p.cmdline()]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    """Whoever finishes first, and however many work."""
    items = [["sleep", 0.2], *values(*range(20))]
    assert [r.value for r in run(work, items, workers=workers)] == [None, *range(20)]
    assert not children()


def test_no_item_is_no_worker() -> None:
    """Nothing is started for nothing."""
    assert list(run(work, [])) == []


@pytest.mark.parametrize(
    ("item", "reason", "detail"),
    [
        (["segfault"], "crash", "exit status -11"),
        (["exit", 0], "crash", "exit status 0"),
        (["loop"], "time-limit", "longer than 1 s"),
        (["sleep", 60], "time-limit", "longer than 1 s"),
        (["allocate", 4 << 30], "memory-limit", ""),
        (["raise", "a\nb"], "error", "TypeError: list indices"),
        (["object"], "error", "not JSON serializable"),
    ],
)
def test_a_bad_item_costs_itself_alone(item: list[Any], reason: str, detail: str) -> None:
    """Those before and after it are answered, and the failure is named."""
    before, bad, after = run(work, [*values(1), item, *values(2)], seconds=1)
    assert (before, after) == (Result(value=1), Result(value=2))
    assert (bad.value, bad.reason) == (None, reason)
    assert detail in bad.detail
    assert not children()


def test_one_bad_item_does_not_touch_its_neighbours_in_other_workers() -> None:
    """Every second item kills its worker; every other one is answered."""
    items = [item for number in range(4) for item in (*values(number), ["exit", 0])]
    results = list(run(work, items, workers=2))
    assert [r.value for r in results[::2]] == [0, 1, 2, 3]
    assert {r.reason for r in results[1::2]} == {"crash"}


def test_what_a_library_prints_is_no_answer() -> None:
    """Standard output of a worker leads nowhere."""
    assert [r.value for r in run(work, [["say"], *values(1)])] == ["said", 1]


def test_a_worker_that_lies_about_its_answer_is_a_crash() -> None:
    """A length without bound, written where answers go, neither fills our memory nor breaks us."""
    results = list(run(work, [item for fd in range(3, 9) for item in (["lie", fd], *values(fd))]))
    assert [r.detail for r in results if r.reason == "crash"] == ["an answer without bound"]
    assert [r.value for r in results[1::2]] == list(range(3, 9))


def test_answers_are_what_json_gives_back() -> None:
    """Text of any kind survives; tuples are lists."""
    value = {"text": "żółw \x00 \ud800 <script>", "list": (1, 2.5, None)}
    (result,) = run(work, [["return", value]])
    assert result.value == {**value, "list": [1, 2.5, None]}


def test_items_and_answers_may_be_large() -> None:
    """Longer than any pipe."""
    text = "x" * (3 << 20)
    results = run(work, [["return", text]] * 4, workers=2)
    assert [r.value == text for r in results] == [True] * 4


def test_a_long_answer_is_not_late_because_the_caller_was_busy_elsewhere() -> None:
    """Time runs for the work on an item; once its answer arrives, each part of it has time again."""
    one = worker._Worker(pickle.dumps(work), seconds=0.5, memory=worker.MEMORY)
    try:
        while not one.idle:
            one.receive()
        one.take(worker._Job(payload=pickle.dumps(["return", "x" * (3 << 20)])))
        time.sleep(0.7)
        one.receive()
        assert one.deadline > time.monotonic()
    finally:
        one.end()


def test_items_are_taken_as_they_are_needed() -> None:
    """A source without end is read a bounded number of items ahead."""
    taken = 0

    def endless() -> Iterator[list[Any]]:
        nonlocal taken
        while True:
            taken += 1
            yield ["return", taken]

    results = run(work, endless(), workers=2)
    assert [next(results).value for _ in range(20)] == list(range(1, 21))
    assert taken <= 20 + 2 * worker._AHEAD
    assert children()
    results.close()  # type: ignore[attr-defined]
    assert not children()


def test_an_error_of_the_caller_ends_the_workers() -> None:
    """An exception while results are used leaves no process behind."""

    def failing() -> None:
        for result in run(work, [*values(1), ["loop"]], workers=2):
            raise KeyError(result.value)

    with pytest.raises(KeyError):
        failing()
    assert not children()


def test_a_worker_knows_nothing_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token is in its environment, its hash seed and time zone are fixed, and no torch is loaded."""
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    (result,) = run(work, [["surroundings"]])
    _, environment, modules = result.value
    assert "secret" not in environment.values()
    assert (environment["PYTHONHASHSEED"], environment["TZ"]) == ("0", "UTC")
    assert "torch" not in modules


def test_workers_are_replaced_after_some_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a parser leaks is given back."""
    monkeypatch.setattr(worker, "RECYCLE_AFTER", 3)
    results = list(run(work, [["surroundings"]] * 7))
    processes = [r.value[0] for r in results]
    assert [len(set(processes[k : k + 3])) for k in (0, 3, 6)] == [1, 1, 1]
    assert len(set(processes)) == 3


def test_workers_that_cannot_start_are_one_line() -> None:
    """No worker to answer is the caller's mistake, not an item's."""
    with pytest.raises(UserError, match="cannot start .*more memory"):
        list(run(work, values(1), memory=1 << 20))
    with pytest.raises(UserError, match="0 workers"):
        list(run(work, values(1), workers=0))
    assert not children()


COMMAND = """
import signal
import test_worker
from collectors.pages.worker import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in the background without it
for result in run(test_worker.work, [["return", 1], *[["loop"]] * 4], workers=2):
    print(result.value, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_ends_leaves_no_worker(sent: signal.Signals) -> None:
    """Ctrl-C, a polite kill and kill -9 end the workers too, in the middle of an endless loop."""
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        workers = psutil.Process(process.pid).children()
        while len(workers) < 2 or min(sum(w.cpu_times()[:2]) for w in workers) < 1:
            time.sleep(0.05)
            workers = psutil.Process(process.pid).children()
        process.send_signal(sent)
        process.wait(20)
    _, alive = psutil.wait_procs(workers, timeout=10)
    for left in alive:
        left.kill()
    assert not alive
