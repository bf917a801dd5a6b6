"""Worker processes for parsing what strangers wrote: an item may crash, hang or eat memory, alone.

A worker is a fresh interpreter with a memory limit, a time limit for each item, a fixed hash seed, UTC
as its time zone and none of the caller's environment, where tokens may be. One that dies costs the
item that it held and is replaced; one that served many items is replaced too, since parsers leak.

What a worker receives is pickled: it comes from us. What it answers is JSON: a parser taken over by a
hostile page can then tell lies, but cannot run code in the process that collects the answers.
"""

import contextlib
import ctypes
import json
import os
import pickle
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

from collectors.document import UserError

Item = TypeVar("Item")

SECONDS = 60.0
"""Time for an item: far beyond what an honest one takes, so that results do not depend on the machine."""

MEMORY = 2 << 30
"""Address space of a worker in bytes."""

RECYCLE_AFTER = 500
"""Items that a worker serves."""

MAX_ANSWER = 256 << 20
"""Bytes of an answer; a longer one counts as a crash."""

_AHEAD = 4  # finished results that may wait for an earlier item, per worker
_START_SECONDS = 120.0
_BETWEEN_PARTS = 5.0  # seconds between the parts of an answer
_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that a process gets when its parent ends
_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of an item.

    Attributes:
        value: what the function returned, as JSON gives it back: tuples are lists. None after a failure.
        reason: empty, or `time-limit`, `memory-limit`, `crash` (the process died) or `error` (the
            function raised).
        detail: for people: the exception, or how the process ended.
    """

    value: Any = None
    reason: str = ""
    detail: str = ""


def run(
    function: Callable[[Item], Any],
    items: Iterable[Item],
    *,
    workers: int = 1,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Iterator[Result]:
    """Yield the result of a function for each item, in the order of the items.

    Items are taken as they are needed: at most a few per worker are under way or wait for an earlier
    one. Closing the iterator ends all workers.

    Args:
        function: importable by its module's name, or a partial of such; returns what JSON can hold.
        items: what it is called with; anything that can be pickled.
        workers: how many processes.
        seconds: wall-clock time for an item.
        memory: address space of a worker, bytes.

    Raises:
        UserError: when there is to be no worker, or workers cannot start.
    """
    if workers < 1:
        raise UserError(f"{workers} workers cannot extract anything; give 1 or more")
    return _run(pickle.dumps(function), iter(items), workers, seconds, memory)


@dataclass(slots=True, kw_only=True)
class _Job:
    payload: bytes
    result: Result | None = None


def _run(
    function: bytes, items: Iterator[Any], workers: int, seconds: float, memory: int
) -> Iterator[Result]:
    pool: list[_Worker] = []
    pending: deque[_Job] = deque()  # in the order of the items, until yielded
    queue: deque[_Job] = deque()  # those of them that no worker has taken
    try:
        while True:
            for item in islice(items, _AHEAD * workers - len(pending)):
                pending.append(_Job(payload=pickle.dumps(item)))
                queue.append(pending[-1])
            if not pending:
                return
            busy = sum(worker.job is not None for worker in pool)
            while len(pool) < min(workers, busy + len(queue)):
                pool.append(_Worker(function, seconds, memory))
            for worker in pool:
                if worker.idle and queue:
                    worker.take(queue.popleft())
            if pending[0].result is None:
                pool = _wait(pool)
            while pending and (result := pending[0].result) is not None:
                pending.popleft()
                yield result
    finally:
        for worker in pool:
            worker.end()


def _wait(pool: list["_Worker"]) -> list["_Worker"]:
    """Wait until a worker answers, dies or is out of time, and return those that serve on."""
    with selectors.DefaultSelector() as selector:
        for worker in pool:
            if not worker.idle:
                selector.register(worker.answers, selectors.EVENT_READ, worker)
        deadline = min(key.data.deadline for key in selector.get_map().values())
        ready = [key.data for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
    for worker in ready:
        worker.receive()
    for worker in pool:
        if not worker.idle and worker not in ready and time.monotonic() > worker.deadline:
            worker.fail("time-limit", f"longer than {worker.seconds:g} s")
    return [worker for worker in pool if not worker.ended]


class _Worker:
    """A worker process, seen from outside.

    Attributes:
        job: what it works on, if anything.
        deadline: on the monotonic clock, when it must have answered.
        seconds: time for an item.
        ended: whether it is gone.
        answers: where its answers arrive.
    """

    def __init__(self, function: bytes, seconds: float, memory: int) -> None:
        self.job: _Job | None = None
        self.seconds = seconds
        self.deadline = time.monotonic() + _START_SECONDS
        self.ended = False
        self._ready = False
        self._served = 0
        self._received = bytearray()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "collectors.pages.worker", str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # an interrupt from the keyboard is ours to handle
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self.answers = cast("IO[bytes]", self._process.stdout)
        self._send(function)

    @property
    def idle(self) -> bool:
        """Whether it can take a job."""
        return self._ready and self.job is None and not self.ended

    def take(self, job: _Job) -> None:
        """Give it a job."""
        self.job = job
        self.deadline = time.monotonic() + self.seconds
        self._send(job.payload)

    def receive(self) -> None:
        """Read what has arrived; with a whole answer, or the process gone, the job has its result."""
        chunk = self.answers.read(1 << 20)
        if not chunk:
            self.fail("crash", "")
            return
        self._received += chunk
        # A long answer waits in its pipe while the caller is busy elsewhere, and is not late for that.
        self.deadline = max(self.deadline, time.monotonic() + _BETWEEN_PARTS)
        if len(self._received) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(self._received)
        if length > MAX_ANSWER:
            self.fail("crash", "an answer without bound")
        elif len(self._received) >= _LENGTH.size + length:
            answer = bytes(self._received[_LENGTH.size :])
            self._received.clear()
            self._answered(answer)

    def _answered(self, answer: bytes) -> None:
        try:
            result = Result(**json.loads(answer))
        except (ValueError, TypeError, RecursionError):
            self.fail("crash", "an answer that is none")
            return
        if not self._ready and not result.reason:
            self._ready = True
        elif self.job is None or result.reason == "memory-limit":
            self.fail(result.reason, result.detail)
        else:
            self.job.result, self.job = result, None
            self._served += 1
            if self._served >= RECYCLE_AFTER:
                self.end()

    def fail(self, reason: str, detail: str) -> None:
        """End it; the job that it held, if any, failed.

        Raises:
            UserError: when it has not even begun to serve.
        """
        self.end()
        status = self._process.returncode
        if self.job is None:
            raise UserError(
                f"worker processes cannot start ({detail or f'exit status {status}'}); `make setup`, or give "
                "them more memory"
            )
        self.job.result = Result(reason=reason, detail=detail or f"exit status {status}")
        self.job = None

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.ended = True
        self._process.kill()
        self._requests.close()
        self.answers.close()
        self._process.wait()

    def _send(self, payload: bytes) -> None:
        # A worker that died meanwhile is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError):
            for part in (_LENGTH.pack(len(payload)), payload):
                view = memoryview(part)
                while view:
                    view = view[self._requests.write(view) :]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "OPENBLAS_NUM_THREADS": "1",  # each thread of it reserves address space
    }


def _serve(memory: int) -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # what libraries print is no answer
    # Should the caller be killed, nothing else would end an endless loop.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        function = pickle.loads(_read(requests))  # noqa: S301  from the process that started this one
    except Exception as error:  # whatever importing it raises is told
        _write(answers, {"reason": "error", "detail": _line(error)})
        return
    _write(answers, {})
    while payload := _read(requests):
        _write(answers, _answer(function, payload))


def _answer(function: Callable[[Any], Any], payload: bytes) -> bytes | dict[str, Any]:
    try:
        return json.dumps({"value": function(pickle.loads(payload))}).encode()  # noqa: S301  likewise
    except MemoryError:
        return {"reason": "memory-limit"}
    except Exception as error:  # the item's failure, whatever it is
        return {"reason": "error", "detail": _line(error)}


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def _read(stream: BinaryIO) -> bytes:
    """Return the next message, empty at the end."""
    header = stream.read(_LENGTH.size)
    return stream.read(_LENGTH.unpack(header)[0]) if header else b""


def _write(stream: BinaryIO, message: bytes | dict[str, Any]) -> None:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
