"""Publication dates: what is read, what proves a date, and what rejects it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collectors.document import DateEvidence
from collectors.pages.dates import EARLIEST, TOLERANCE, Verdict, judge, parse

FETCHED = datetime(2026, 11, 20, 12, tzinfo=UTC)
SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 14, 12, tzinfo=UTC)
KINDS = ("json-ld", "meta", "htmldate", "url")


def verdict(*stated: tuple[str, str], since: datetime = SINCE) -> Verdict:
    """Judge kinds and values of evidence, fetched on 20 November 2026, for that November."""
    evidence = [DateEvidence(kind=kind, value=value) for kind, value in stated]
    return judge(evidence, fetched=FETCHED, since=since, until=UNTIL)


def accepted(published: datetime, precision: str = "second") -> Verdict:
    """Return the verdict that accepts a date."""
    return Verdict(published=published, precision=precision, reason="")


@pytest.mark.parametrize(
    ("value", "stated", "precision"),
    [
        ("2026-11-14T12:00:01Z", "2026-11-14T12:00:01", "second"),
        ("2026-11-14T12:00:01.123+01:00", "2026-11-14T11:00:01", "second"),
        ("2026-11-14T23:30:00-0800", "2026-11-15T07:30:00", "second"),
        ("2026-11-14 00:30 +02", "2026-11-13T22:30:00", "minute"),
        ("20261114T120001Z", "2026-11-14T12:00:01", "second"),
        ("Sat, 14 Nov 2026 12:00:00 +0530", "2026-11-14T06:30:00", "second"),
        ("14 Nov 2026 12:00 GMT", "2026-11-14T12:00:00", "minute"),
        ("Sat, 14 Nov 2026 12:00:00 EST", "2026-11-14T17:00:00", "second"),
        ("1794657600", "2026-11-14T12:00:00", "second"),
        ("1794657600000", "2026-11-14T12:00:00", "second"),
        ("Sat, 14 Nov 2026 09:30:00 -0000", "2026-11-14T09:30:00", "second"),
        ("2026-11-14", "2026-11-14T00:00:00", "day"),
        ("2026/11/14", "2026-11-14T00:00:00", "day"),
        ("2026-11", "2026-11-01T00:00:00", "month"),
    ],
)
def test_dates_are_read_as_written(value: str, stated: str, precision: str) -> None:
    """ISO 8601 and its variants, dates of feeds, and seconds since 1970, with the zone they state."""
    moment = parse(f" {value}\n")
    assert moment is not None
    assert (moment.stated, moment.precision) == (datetime.fromisoformat(stated + "Z"), precision)


@pytest.mark.parametrize("value", ["2026-11-14T09:30:00", "Sat, 14 Nov 2026 09:30:00 XYZT"])
def test_a_time_without_a_known_zone_states_its_day(value: str) -> None:
    """Nobody knows which hour of UTC it means."""
    moment = parse(value)
    assert moment is not None
    assert (moment.stated, moment.precision) == (datetime(2026, 11, 14, tzinfo=UTC), "day")


@pytest.mark.parametrize("value", ["2026-11-14T00:00:00+02:00", "Sat, 14 Nov 2026 00:00:00 GMT"])
def test_midnight_states_the_day_as_written(value: str) -> None:
    """Midnight to the second is what systems write that know no time."""
    assert parse(value) == parse("2026-11-14")


@pytest.mark.parametrize(
    "value",
    ["03/04/2026", "2026-13-01", "2026-02-30", "yesterday", "", "2026", "2026-11-14T12:00:00+99:00", "0" * 99,
     "2026-11-14T25:00:00Z", "Sat, 14 Nov", "2026-11-14 and more", "9999-12-31", "-1"],
)  # fmt: skip
def test_what_may_be_read_in_two_ways_is_no_date(value: str) -> None:
    """Ambiguous, impossible and partial dates state nothing, and raise nothing."""
    assert parse(value) is None


@given(
    st.text(max_size=40)
    | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?([+-]\d\d:\d\d|Z)?", fullmatch=True)
)
def test_no_string_breaks_the_reader(value: str) -> None:
    """Whatever a page writes as its date, the answer is a moment or None."""
    moment = parse(value)
    assert moment is None or moment.first < moment.last


@given(st.integers(800_000_000, 4_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_the_same_instant_in_any_zone_is_the_same_moment(seconds: int, minutes: int) -> None:
    """A moment is an instant of UTC, midnight as written apart."""
    instant = datetime.fromtimestamp(seconds, UTC)
    offset = timedelta(minutes=minutes)
    local = (instant + offset).replace(tzinfo=None)
    assume(local.time() != datetime.min.time())
    assume(instant.time() != datetime.min.time())
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    assert parse(f"{local.isoformat()}{sign}{hours:02}:{rest:02}") == parse(instant.isoformat())


def test_two_kinds_that_agree_prove_a_date() -> None:
    """The more precise statement gives the date."""
    assert verdict(("json-ld", "2026-11-14T12:00:00Z"), ("meta", "2026-11-14T12:00:30Z")) == accepted(NOON)
    assert verdict(("url", "2026-11-14"), ("json-ld", "2026-11-14T12:00:00Z")) == accepted(NOON)
    assert verdict(("url", "2026-11-14"), ("htmldate", "2026-11-14")) == accepted(
        datetime(2026, 11, 14, tzinfo=UTC), "day"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_proves_nothing_however_often_it_says_so(kind: str) -> None:
    """One string printed twice is one evidence."""
    once, twice = (kind, "2026-11-14T12:00:00Z"), (kind, "2026-11-14")
    assert verdict(once).reason == "single-date-evidence"
    assert verdict(once, once, twice).reason == "single-date-evidence"


@pytest.mark.parametrize("kind", ["feed", "sitemap"])
def test_a_feed_or_a_sitemap_stands_alone(kind: str) -> None:
    """A publisher's list of what is new needs no second kind."""
    assert verdict((kind, "Sat, 14 Nov 2026 12:00:00 GMT")) == accepted(NOON)


def test_a_month_supports_no_date_but_may_be_earlier() -> None:
    """An address of another month shows that a page was published anew."""
    assert verdict(("url", "2026-11"), ("json-ld", "2026-11-14T12:00:00Z")).reason == "single-date-evidence"
    old = verdict(("url", "2018-04"), ("json-ld", "2026-11-14T12:00:00Z"), ("meta", "2026-11-14T12:00:00Z"))
    assert old.reason == "earlier-date"


def test_no_evidence_is_said_so() -> None:
    """Nothing, nothing readable, zeros of a database, and changes of a page prove nothing."""
    assert verdict().reason == "no-date-evidence"
    stated = [
        ("json-ld", "soon"),
        ("meta", "1970-01-01"),
        ("json-ld-modified", "2026-11-14"),
        ("x", "2026-11-14"),
    ]
    assert verdict(*stated, ("meta-modified", "2026-11-14")).reason == "no-date-evidence"


def test_two_kinds_that_differ_prove_nothing() -> None:
    """Neither of two dates is taken over the other."""
    assert verdict(("json-ld", "2026-11-14"), ("meta", "2026-11-17")).reason == "dates-disagree"


def test_a_later_date_does_no_harm() -> None:
    """What two kinds state stands, though a third shows a revision."""
    stated = [
        ("json-ld", "2026-11-14T12:00:00Z"),
        ("meta", "2026-11-14T12:00:00Z"),
        ("htmldate", "2026-11-19"),
    ]
    assert verdict(*stated) == accepted(NOON)


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2026-11-14T23:30:00-08:00", "2026-11-15"),  # 15 November in UTC
        ("2026-11-14T23:30:00-08:00", "2026-11-14"),  # as written
        ("2026-11-15T00:30:00+13:00", "2026-11-15"),
        ("2026-11-14T11:30:00Z", "2026-11-15"),  # the day of New Zealand
        ("2026-11-14T01:00:00Z", "2026-11-14T09:00:00Z"),  # a zone left out
        ("2026-11-14", "2026-11-15"),
    ],
)
def test_dates_around_midnight_agree(early: str, late: str) -> None:
    """The same night has two dates, in one zone and another."""
    assert verdict(("json-ld", early), ("meta", late)).reason == ""
    assert verdict(("meta", early), ("json-ld", late)).reason == ""


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2026-11-13", "2026-11-15"),
        ("2026-11-13T09:00:00Z", "2026-11-15"),
        ("2026-11-14T01:00:00Z", "2026-11-14T13:00:00Z"),
    ],
)
def test_other_days_do_not_agree(early: str, late: str) -> None:
    """Slack is for time zones, not for days."""
    assert verdict(("json-ld", early), ("meta", late)).reason == "dates-disagree"


@pytest.mark.parametrize(
    ("one", "other"),
    [("2026-11-10", "2026-10-11"), ("2026-10-11", "2026-11-10"), ("2026-11-10T08:00:00Z", "2026-10-11")],
)
def test_exchanged_day_and_month_are_suspected(one: str, other: str) -> None:
    """Dates that agree only with day and month exchanged reject each other, whatever else is stated."""
    assert verdict(("json-ld", one), ("htmldate", other)).reason == "day-month-swap"
    assert verdict(("json-ld", one), ("meta", one), ("htmldate", other)).reason == "day-month-swap"
    assert verdict(("feed", one), ("htmldate", other)).reason == "day-month-swap"


def test_future_dates_are_rejected() -> None:
    """A day of slack, for zones and clocks; what lies beyond it is wrong, whoever else agrees."""
    assert verdict(("feed", "2026-11-21T11:00:00Z")).reason == ""
    assert verdict(("feed", "2026-11-21T13:00:00Z")).reason == "future-date"
    two = [("json-ld", "2026-11-14T12:00:00Z"), ("meta", "2026-11-14T12:00:00Z")]
    assert verdict(*two, ("url", "2026-11-25")).reason == "future-date"


def test_the_window_is_half_open() -> None:
    """Its start belongs to it, its end does not."""
    assert verdict(("feed", "2026-11-01")).reason == ""
    assert verdict(("feed", "2026-10-31T23:59:59Z")).reason == "before-window"
    evidence = [DateEvidence(kind="feed", value="2026-11-14T12:00:00Z")]
    assert judge(evidence, fetched=FETCHED, since=SINCE, until=NOON).reason == "after-window"
    assert judge(evidence, fetched=FETCHED, since=NOON, until=UNTIL) == accepted(NOON)


moments = st.integers(1, 19 * 24 * 3600).map(
    lambda seconds: (SINCE + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
)
values = moments | moments.map(lambda value: value[:10]) | moments.map(lambda value: value[:19])
statements = st.lists(st.tuples(st.sampled_from([*KINDS, "feed", "sitemap"]), values), max_size=6)


@given(statements, st.randoms())
def test_order_and_repetition_do_not_matter(stated: list[tuple[str, str]], random: object) -> None:
    """A verdict depends on what is stated, not on where it stands."""
    other = [*stated, *stated[:2]]
    random.shuffle(other)  # type: ignore[attr-defined]
    assert verdict(*stated) == verdict(*other)


@given(statements, st.sampled_from(KINDS), st.timedeltas(timedelta(days=3), timedelta(days=9_000)))
def test_any_plausible_earlier_date_rejects(
    stated: list[tuple[str, str]], kind: str, before: timedelta
) -> None:
    """One more kind that states an earlier date ends what was proven."""
    proven = verdict(*stated)
    assume(proven.published is not None)
    assert proven.published is not None
    earlier = proven.published - before
    assume(earlier >= EARLIEST)
    after = verdict(*stated, (kind, earlier.isoformat()))
    assert after.published is None
    assert after.reason in ("earlier-date", "day-month-swap")


@given(statements, st.sampled_from([*KINDS, "feed"]), values)
def test_agreeing_evidence_never_changes_the_publication(
    stated: list[tuple[str, str]], kind: str, value: str
) -> None:
    """What agrees with an accepted date may make it more precise; it moves it by no more than the slack."""
    proven = verdict(*stated)
    more = verdict(*stated, (kind, value), since=datetime(2026, 10, 30, tzinfo=UTC))
    assume(proven.published is not None)
    assume(more.published is not None)
    assert proven.published is not None
    assert more.published is not None
    slack = TOLERANCE if proven.precision != "day" and more.precision != "day" else timedelta(days=2)
    agrees = parse(value)
    assert agrees is not None
    if abs(agrees.stated - proven.published) <= TOLERANCE:
        assert abs(more.published - proven.published) <= slack


@given(statements)
def test_an_accepted_date_is_one_that_was_stated(stated: list[tuple[str, str]]) -> None:
    """Nothing is averaged, nothing stated is earlier by more than the slack, and two kinds or a list agree."""
    proven = verdict(*stated)
    if proven.published is None:
        return
    read = [(kind, moment) for kind, value in stated if (moment := parse(value))]
    assert proven.published in {moment.stated for _, moment in read}
    assert all(moment.stated >= proven.published - timedelta(days=2) for _, moment in read)
    near = {kind for kind, moment in read if abs(moment.stated - proven.published) <= timedelta(days=2)}
    assert near & {"feed", "sitemap"} or len(near) >= 2
