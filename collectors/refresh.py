"""What the next refresh adds: for every series of snapshots from the web, the windows after its newest.

A series is a source under one stem of names (`papers` of `papers-2026-10`) or with the same settings; its newest
entry says what the next one asks. What has been asked for once is never asked for again, so that a refresh that is
run twice adds nothing the second time.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from collectors import params
from collectors.document import UserError
from collectors.request import Request
from collectors.source import source

_MONTH = re.compile(r"[-_][0-9]{4}[-_][0-9]{2}(?:[-_][0-9]{2})?$")
Window = tuple[date, date]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A snapshot to ask for.

    Attributes:
        name: its key in `params.yaml`, stem and month of the series.
        like: the entry whose source and settings it takes.
        section: `snapshots`, or `upcoming` while its window is open.
        since: start of its window.
        until: its end, not included.
    """

    name: str
    like: str
    section: str
    since: date
    until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Snapshots that continue one another, the newest window first."""

    stem: str
    requests: tuple[Request, ...]

    @property
    def newest(self) -> Request:
        """The entry that the next one is like."""
        return self.requests[0]


def series(known: Mapping[str, Any]) -> list[Series]:
    """Return all series of sources on the web that go on, in the order in which params.yaml begins them.

    Raises:
        UserError: when an entry is wrong.
    """
    requests = [
        asked
        for section in ("snapshots", "upcoming")
        for asked in (
            params.request(name, dict(known), section) for name in params.section(dict(known), section)
        )
        if _goes_on(asked.source)
    ]
    groups: list[list[Request]] = []
    for asked in requests:
        same = [group for group in groups if any(_continues(asked, other) for other in group)]
        groups = [group for group in groups if group not in same]
        groups.append([other for group in same for other in group] + [asked])
    groups.sort(key=lambda group: min(map(requests.index, group)))
    ordered = (sorted(group, key=lambda asked: asked.until, reverse=True) for group in groups)
    return [Series(stem=_stem(group[0].name), requests=tuple(group)) for group in ordered]


def plan(known: Mapping[str, Any], now: datetime, window: Window | None = None) -> list[Addition]:
    """Return the snapshots that a refresh adds.

    Args:
        known: the parameters.
        now: UTC.
        window: what to ask all series for. By default those that are asked once get every month from their newest
            window to the last that is over and settled, and those that are polled the month that is open.

    Raises:
        UserError: when the window is open and a source is asked once, or it overlaps what a series has, or a name
            is taken.
    """
    taken = {*known["snapshots"], *params.section(dict(known), "upcoming")}
    additions = []
    for one in series(known):
        polls = source(one.newest.source).POLLS
        if window:
            windows = _asked(one, window, now)
        else:
            windows = [_open(one.newest, now)] if polls else list(_over(one.newest, now))
        for since, until in windows:
            if since >= until:
                continue
            name = _name(one.stem, since, taken)
            taken.add(name)
            section = "upcoming" if until > now.date() else "snapshots"
            additions.append(
                Addition(name=name, like=one.newest.name, section=section, since=since, until=until)
            )
    return additions


def missed(one: Series, now: datetime) -> Window | None:
    """Return the past in which a source that forgets was not polled: only a window of its own asks for that."""
    since, until = one.newest.until.date(), now.date().replace(day=1)
    return (since, until) if source(one.newest.source).POLLS and since < until else None


def due(known: Mapping[str, Any], now: datetime) -> list[str]:
    """Return the entries under `upcoming` to collect now: a round while the window is open, or the last one.

    Raises:
        UserError: when an entry is wrong, or the section no mapping.
    """
    upcoming = (
        params.request(name, dict(known), "upcoming") for name in params.section(dict(known), "upcoming")
    )
    return [
        asked.name
        for asked in upcoming
        if (source(asked.source).POLLS and asked.since <= now < asked.until)
        or now >= asked.until + source(asked.source).lag(asked)
    ]


def _goes_on(name: str) -> bool:
    """Whether a source has something else every month: not what is on this machine, nor what a revision pins."""
    return source(name).NETWORK and "revision" not in source(name).SETTINGS


def _continues(asked: Request, other: Request) -> bool:
    window = {"since", "until"}
    facts = [{key: value for key, value in r.facts().items() if key not in window} for r in (asked, other)]
    return asked.source == other.source and (_stem(asked.name) == _stem(other.name) or facts[0] == facts[1])


def _stem(name: str) -> str:
    return _MONTH.sub("", name) or name


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _over(newest: Request, now: datetime) -> Iterator[Window]:
    since = newest.until.date()
    settled = now - source(newest.source).lag(newest)
    while (until := _next_month(since)) <= settled.date():
        yield since, until
        since = until


def _open(newest: Request, now: datetime) -> Window:
    return max(newest.until.date(), now.date().replace(day=1)), _next_month(now.date())


def _asked(one: Series, window: Window, now: datetime) -> Sequence[Window]:
    since, until = window
    newest = one.newest
    if not source(newest.source).POLLS and until > now.date():
        raise UserError(
            f"the window {since} until {until} is not over, and source {newest.source} of {newest.name} is asked "
            "once, when it is; end it earlier"
        )
    for held in one.requests:
        if held.since.date() <= since and until <= held.until.date():
            return []
        if since < held.until.date() and held.since.date() < until:
            raise UserError(
                f"the window {since} until {until} overlaps that of {held.name}, {held.since:%Y-%m-%d} until "
                f"{held.until:%Y-%m-%d}; choose one before or after it"
            )
    return [window]


def _name(stem: str, since: date, taken: set[str]) -> str:
    names = [f"{stem}-{since:%Y-%m}", f"{stem}-{since:%Y-%m-%d}"]
    for name in names if since.day == 1 else reversed(names):
        if name not in taken:
            return name
    raise UserError(
        f"a snapshot from {since} would be called {names[0]} or {names[1]}, and params.yaml has both; rename one"
    )
