"""Publication dates: what a page, its address, a feed and a sitemap state, and what that proves.

A date counts as proven when two kinds of evidence state it, or when a feed or a news sitemap gives its
timestamp, and when nothing plausible is earlier. So the accepted date is always the earliest one that
anything states. All evidence is kept, with its kind. Nothing here asks the clock: what lies in the
future is decided by when the page was fetched.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from itertools import combinations

from collectors.document import DateEvidence

ALONE = frozenset({"feed", "sitemap"})
"""Kinds whose timestamp needs no second kind: a publisher's list of what is new."""

PROOF = ALONE | {"json-ld", "meta", "htmldate", "url"}
"""Kinds that state when a page was published. Others, such as `json-ld-modified`, are only recorded."""

TOLERANCE = timedelta(hours=12)
"""How far apart two timestamps may lie and still state the same publication.

Those of one page are mostly equal to the minute; what moves them is a time zone left out or misnamed,
by half a day at most.
"""

EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)
"""Earlier dates are no plausible dates of a web page but zeros of some database."""

# Where no zone is stated, midnight is half a day away at most; days next to each other then agree,
# others do not.
_ZONE = timedelta(hours=12)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A stated date. Two of them agree when their spans overlap.

    Attributes:
        stated: in UTC; the start of what `precision` names. A time without a zone states its day.
        precision: `second`, `minute`, `day` or `month`.
        first: start of the span in which the publication may lie, UTC.
        last: its end, not included.
    """

    stated: datetime
    precision: str
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the evidence proves.

    Attributes:
        published: UTC, the start of the period that `precision` names; None when nothing is proven.
        precision: `second`, `minute` or `day`; empty when nothing is proven.
        reason: empty when the date is accepted, else one of `no-date-evidence`, `single-date-evidence`,
            `dates-disagree`, `earlier-date`, `day-month-swap`, `future-date`, `before-window`,
            `after-window`.
    """

    published: datetime | None
    precision: str
    reason: str


_ISO = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-/]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[T ]+(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,]\d+)?)?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?(?::\d\d)?)?)?",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"(\d{10})(?:\d{3})?")  # seconds or milliseconds since 1970
_MONTH = re.compile(r"(\d{4})[-/](\d\d)")


def parse(value: str) -> Moment | None:
    """Return what a date string states, or None when it is none or may be read in two ways.

    Read are ISO 8601 and its common variants, RFC 5322 (feeds), seconds or milliseconds since 1970,
    and a year with a month. `03/04/2026` is not read: nothing says which number is the month.
    Midnight to the second states a day: publishing systems write it where they know no time.
    """
    value = value.strip()
    try:
        if found := _ISO.fullmatch(value):
            return _from_iso(found)
        if found := _MONTH.fullmatch(value):
            return _month(int(found[1]), int(found[2]))
        if found := _EPOCH.fullmatch(value):
            return _exact(datetime.fromtimestamp(int(found[1]), UTC), "second")
        return _from_mail(value)
    except (ValueError, OverflowError):
        return None


def _from_iso(found: re.Match[str]) -> Moment:
    day = datetime(int(found["year"]), int(found["month"]), int(found["day"]), tzinfo=UTC)
    if found["hour"] is None:
        return _day(day)
    time = day.replace(hour=int(found["hour"]), minute=int(found["minute"]), second=int(found["second"] or 0))
    offset = _offset(found["zone"]) if found["zone"] else None
    return _time(time, offset, "minute" if found["second"] is None else "second")


def _offset(zone: str) -> timedelta:
    if zone[0] not in "+-":
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
    if offset > timedelta(hours=14):
        raise ValueError(zone)
    return -offset if zone[0] == "-" else offset


def _from_mail(value: str) -> Moment | None:
    fields = parsedate_tz(value)
    if fields is None or not re.search(r"\d{4}", value):
        return None
    # An unknown name of a zone is given as no offset, or as UTC: only what is surely stated counts.
    sure = fields[9] is not None and re.search(r"(?:[+-]\d{4}|\b(?:GMT|UTC?|Z|[ECMP][SD]T))$", value)
    offset = timedelta(seconds=fields[9] or 0) if sure else None
    return _time(datetime(*fields[:6], tzinfo=UTC), offset, "second" if value.count(":") == 2 else "minute")


def _time(written: datetime, offset: timedelta | None, precision: str) -> Moment:
    midnight = written.replace(hour=0, minute=0, second=0)
    return _day(midnight) if offset is None or written == midnight else _exact(written - offset, precision)


def _exact(time: datetime, precision: str) -> Moment:
    half = TOLERANCE / 2
    return Moment(stated=time, precision=precision, first=time - half, last=time + half)


def _day(day: datetime) -> Moment:
    return Moment(stated=day, precision="day", first=day - _ZONE, last=day + _DAY + _ZONE)


def _month(year: int, month: int) -> Moment:
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Moment(stated=start, precision="month", first=start - _ZONE, last=end + _ZONE)


def judge(
    evidence: Iterable[DateEvidence], *, fetched: datetime, since: datetime, until: datetime
) -> Verdict:
    """Return the publication date that the evidence proves, or why it proves none.

    The earliest date that anything states is accepted if two kinds of evidence state it, or one that
    needs no other. Later ones do no harm: pages are revised. The order of the evidence does not
    matter. Passed over is what cannot be read, lies before 1995 or is of a kind that proves nothing.

    Args:
        evidence: everything known about the page, values as `parse` reads them.
        fetched: when the page was fetched, UTC; what lies more than a day later is in the future.
        since: start of the window, UTC.
        until: its end, not included.
    """
    stated = [
        (item.kind, moment)
        for item in evidence
        if item.kind in PROOF and (moment := parse(item.value)) and moment.stated >= EARLIEST
    ]
    if not stated:
        return _rejected("no-date-evidence")
    if any(moment.stated > fetched + _DAY for _, moment in stated):
        return _rejected("future-date")
    if any(_swapped(a, b) for (_, a), (_, b) in combinations(stated, 2)):
        return _rejected("day-month-swap")
    earliest = min((moment for _, moment in stated), key=lambda moment: (moment.last, moment.first))
    agreeing = [(kind, moment) for kind, moment in stated if not _later(moment, earliest)]
    later = [(kind, moment) for kind, moment in stated if _later(moment, earliest)]
    if not _proven(agreeing):
        if not later:
            return _rejected("single-date-evidence")
        return _rejected("earlier-date" if _proven(later) else "dates-disagree")
    published = min(
        (moment for _, moment in agreeing if moment.precision != "month"),
        key=lambda moment: (moment.precision == "day", moment.stated, moment.precision),
    )
    if published.stated < since:
        return _rejected("before-window")
    if published.stated >= until:
        return _rejected("after-window")
    return Verdict(published=published.stated, precision=published.precision, reason="")


def _proven(stated: Sequence[tuple[str, Moment]]) -> bool:
    kinds = {kind for kind, moment in stated if moment.precision != "month"}
    return bool(kinds & ALONE) or len(kinds) >= 2


def _later(a: Moment, b: Moment) -> bool:
    return a.first >= b.last


def _swapped(a: Moment, b: Moment) -> bool:
    """Return whether two dates that disagree would agree with day and month of one exchanged."""
    if not (_later(a, b) or _later(b, a)) or "month" in (a.precision, b.precision):
        return False
    return any(
        other.stated.day <= 12
        and not _later(
            one,
            swapped := _day(datetime(other.stated.year, other.stated.day, other.stated.month, tzinfo=UTC)),
        )
        and not _later(swapped, one)
        for one, other in ((a, b), (b, a))
    )


def _rejected(reason: str) -> Verdict:
    return Verdict(published=None, precision="", reason=reason)
