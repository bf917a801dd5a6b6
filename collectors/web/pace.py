"""How often a service may be asked: one limit for all threads and processes of this machine.

Every bucket (a host, or a name that hosts share) has two small files. The first holds the moment when
the latest request started, and its lock is held from before the wait until the request is over, so a
service sees one connection at a time. The second holds the moment until which the service asked to be
left alone. The kernel drops the locks of a killed process.
"""

import fcntl
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol

BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 300.0


def backoff(attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """Return how long to wait after a failed try: 1 to 2 s, 2 to 4 s, 4 to 8 s, up to 150 to 300 s.

    Half of the doubling wait is fixed and half is random ("equal jitter" in Marc Brooker,
    *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015), so it never comes near zero and
    workers that failed together do not return together.

    Args:
        attempt: how many tries failed before this one.
        jitter: gives numbers in [0, 1).
    """
    doublings = min(attempt, math.ceil(math.log2(LONGEST_BACKOFF_SECONDS / BACKOFF_SECONDS)))
    return min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0**doublings) * (1 + jitter()) / 2


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds an answer asks to be left alone, None if it does not ask.

    `Retry-After` counts first, in seconds or as a date (RFC 9110, section 10.2.3); else
    `X-RateLimit-Reset`, in seconds since the epoch, when `X-RateLimit-Remaining` is 0 (GitHub,
    *Rate limits for the REST API*). A moment that is over gives 0; what cannot be read asks nothing.

    Args:
        headers: of the response, by lower-case name.
        now: seconds since the epoch.
    """
    value = headers.get("retry-after", "").strip()
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        pass
    if headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = _number(headers.get("x-ratelimit-reset", "").strip())
        return None if reset is None else max(0.0, reset - now)
    return None


def _number(text: str) -> float | None:
    """Return a decimal number of at most twelve digits before the point, None for anything else."""
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else None


class Clock(Protocol):
    """What waiting needs; after `sleep(s)`, `now()` has grown by `s` or more."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Return after so many seconds."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float, /) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)


class Pace:
    """The limits of all services, kept in a folder that everyone who asks them shares.

    Attributes:
        clock: tells the time and waits.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self._folder = folder

    @contextmanager
    def turn(self, bucket: str, interval: float, report: Callable[[float, str], None]) -> Iterator[None]:
        """Run the block alone among all that ask this bucket, when it may be asked again.

        Blocks of one bucket exclude each other, so they cannot be nested.

        Args:
            bucket: the service.
            interval: least seconds between the starts of two blocks.
            report: told, before each wait, its seconds and its reason.
        """
        with self._locked(bucket, "start") as file:
            now = self.clock.now()
            due, reason = now, ""
            if content := file.read():
                (started,) = _numbers(content, 1) or (now,)
                # A start that lies ahead was noted before the clock was set back.
                due, reason = min(started, now) + interval, f"{bucket} is asked once in {interval:g} s"
            waited = -math.inf
            while True:
                quiet = self._quiet_until(bucket)
                if quiet > due:
                    due, reason = quiet, f"{bucket} is left alone for a while"
                # No moment is waited for twice: the clock may be set back during the wait.
                if due <= max(self.clock.now(), waited):
                    break
                seconds = due - self.clock.now()
                report(seconds, reason)
                self.clock.sleep(seconds)
                waited = due
            _rewrite(file, self.clock.now())
            yield

    def postpone(self, bucket: str, until: float) -> None:
        """Hold back all blocks of a bucket that have not started; an earlier promise is never shortened.

        Args:
            bucket: the service; this may be called inside its block or outside.
            until: seconds since the epoch.
        """
        with self._locked(bucket, "quiet") as file:
            now = self.clock.now()
            _rewrite(file, now, max(until, _promise(file.read(), now)))

    def quiet(self, bucket: str) -> float:
        """Return for how many seconds more a bucket is to be left alone."""
        return max(0.0, self._quiet_until(bucket) - self.clock.now())

    def _quiet_until(self, bucket: str) -> float:
        """Return until when a bucket is to be left alone, in seconds since the epoch."""
        with self._locked(bucket, "quiet") as file:
            now = self.clock.now()
            content = file.read()
            until = _promise(content, now)
            if content and until > now:
                _rewrite(file, now, until)  # from here on counted by the clock as it is now
            return until

    @contextmanager
    def _locked(self, bucket: str, kind: str) -> Iterator[BinaryIO]:
        """Open one of a bucket's files, for one holder at a time among all threads and processes."""
        readable = re.sub(r"[^a-z0-9.]+", "-", bucket.lower())[:80]
        name = f"{readable}-{sha256(bucket.encode()).hexdigest()[:12]}.{kind}"
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


def _promise(content: bytes, now: float) -> float:
    """Return until when a bucket is to be left alone; -inf if nothing, or nonsense, was noted.

    If the clock was set back since, the promise lasts as long as when it was given: nobody waits for
    a moment that lies a year ahead by mistake.
    """
    numbers = _numbers(content, 2)
    if numbers is None:
        return -math.inf
    noted, until = numbers
    return until if noted <= now else now + (until - noted)


def _numbers(content: bytes, count: int) -> list[float] | None:
    """Return the numbers that a file holds, None if it holds anything else."""
    try:
        numbers = [float(word) for word in content.split()]
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _rewrite(file: BinaryIO, *numbers: float) -> None:
    # In place, not by rename: the lock is on this file, and others wait for it.
    file.truncate(0)
    file.write(" ".join(map(repr, numbers)).encode())
    file.flush()
