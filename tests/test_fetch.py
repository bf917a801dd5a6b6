"""The fetcher: asked once, politely, within bounds, and without a trace of secrets."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from collectors.document import Document, RawRecord, UserError, sha256_of
from collectors.request import Request
from collectors.warc import Record
from collectors.web import polite
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit, UnavailableError
from samples import ROOT, InstantClock, collected, fetching
from world import Answer, Asked, World, running

SITE = "https://news.example"
REQUEST = Request(
    name="test-2026-09",
    source="toy",
    content="prose",
    since=datetime(2026, 9, 1, tzinfo=UTC),
    until=datetime(2026, 10, 1, tzinfo=UTC),
    settings={},
)


@dataclass
class Toy:
    """A source that fetches what it is told to."""

    run: Callable[[Fetcher], object] = lambda fetcher: fetcher.get(f"{SITE}/a")
    VERSION: str = "toy/1"
    NETWORK: bool = True
    POLLS: bool = False
    CONTENT: str = "prose"
    TOKENS: Mapping[str, str] = field(default_factory=lambda: {"api.example": "TOY_TOKEN"})
    LIMITS: Mapping[str, Limit] = field(
        default_factory=lambda: {
            "slow.example": Limit(interval=3.0, bucket="slow"),
            "api.example": Limit(interval=0.0, forbidden_waits=True),
        }
    )
    SETTINGS: Mapping[str, Any] = field(default_factory=dict)

    def lag(self, _request: Request, /) -> timedelta:
        return timedelta(0)

    def collect(self, _request: Request, fetcher: Fetcher, /) -> None:
        self.run(fetcher)

    def extract(
        self, _records: Iterable[tuple[RawRecord, Record]], _request: Request, _workers: int, /
    ) -> Iterator[Document]:
        yield from ()


@pytest.fixture
def clock() -> InstantClock:
    """A clock that nobody waits for."""
    return InstantClock()


@pytest.fixture
def fetcher(tmp_path: Path, world: World, clock: InstantClock) -> Iterator[Fetcher]:
    """A fetcher of the world on loopback."""
    with fetching(tmp_path, world, REQUEST, Toy(), clock) as opened:
        yield opened


def test_an_address_is_asked_once(world: World, fetcher: Fetcher) -> None:
    """The second answer comes from staging, with all that was kept of the first."""
    world.on("news.example", "/a", Answer(body=b"text", headers={"ETag": '"1"', "Set-Cookie": "id=7"}))
    first, second = fetcher.get(f"{SITE}/a"), fetcher.get(f"{SITE}/a#part")
    assert first == second
    assert (first.status, first.payload, first.kind) == (200, b"text", "response")
    assert first.headers["etag"] == '"1"'
    assert "set-cookie" not in first.headers
    assert first.date == datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert world.paths("news.example") == ["/a"]


def test_redirects_are_followed_and_kept(tmp_path: Path, world: World) -> None:
    """Every hop is a record that names what was asked for."""
    world.on("news.example", "/a", Answer(status=301, headers={"Location": "https://other.example/b c"}))
    world.on("other.example", "/b%20c", b"there")
    _, records = collected(tmp_path, world, REQUEST, Toy())
    hops = [(r.uri, r.requested, r.status) for _, r in records if "robots" not in r.requested]
    assert hops == [
        (f"{SITE}/a", f"{SITE}/a", 301),
        ("https://other.example/b%20c", f"{SITE}/a", 200),
    ]


def test_endless_redirects_end(world: World, fetcher: Fetcher) -> None:
    """More than ten hops are no answer."""
    world.on("news.example", "/a", Answer(status=302, headers={"Location": "/a"}))
    record = fetcher.get(f"{SITE}/a")
    assert (record.kind, record.status) == ("metadata", 0)
    assert "more than 10 redirects" in json.loads(record.payload)["refused"]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://localhost:8080/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "file:///etc/passwd",
        "ftp://news.example/",
        "http://[broken",
        "https://user:mellon@news.example/",
    ],
)
def test_redirects_lead_nowhere_private(world: World, fetcher: Fetcher, location: str) -> None:
    """A guard looks at every hop; what it refuses is noted and not asked for."""
    world.on("news.example", "/a", Answer(status=302, headers={"Location": location}))
    record = fetcher.get(f"{SITE}/a")
    assert (record.kind, record.status) == ("metadata", 0)
    assert json.loads(record.payload)["refused"]
    assert "mellon" not in record.uri + record.payload.decode()
    assert len(world.paths("news.example")) == 1


@pytest.mark.parametrize(
    "location",
    ["http://[\xe9", "<http://[x>", "http://[\x00x", "//[", f"/{'x' * 9_000}", "http://a@b@[/\xa0"],
)
def test_an_odd_redirect_is_noted_and_read_back(world: World, fetcher: Fetcher, location: str) -> None:
    """Whatever a server says can be stored, and does not stop the collection."""
    world.on("news.example", "/a", Answer(status=302, headers={"Location": location}))
    record = fetcher.get(f"{SITE}/a")
    assert record.status in {0, 404}
    assert fetcher.get(f"{SITE}/a") == record


def test_an_address_that_is_no_unicode_is_noted(fetcher: Fetcher) -> None:
    """A lone surrogate, as JSON can hold it."""
    assert "refused" in json.loads(fetcher.get("https://news.example/\ud800").payload)


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 -0100", "Mon, 32 Nov 2026 12:00:00 GMT", "soon"])
def test_a_date_that_is_none_does_not_stop_the_collection(world: World, fetcher: Fetcher, date: str) -> None:
    """Such an answer has the date of the collection."""
    world.on("news.example", "/a", Answer(body=b"a", headers={"Date": date}))
    assert fetcher.get(f"{SITE}/a").date > REQUEST.since


def test_robots_txt_decides(tmp_path: Path, world: World) -> None:
    """A disallowed address is recorded as such and never fetched; the longest match wins."""
    rules = "User-agent: *\nDisallow: /private\nAllow: /private/open\nUser-agent: freshbits\nDisallow: /a\n"
    world.on("news.example", "/robots.txt", Answer(body=rules.encode(), media_type="text/plain"))
    _, records = collected(tmp_path, world, REQUEST, Toy())
    (disallowed,) = [r for _, r in records if r.requested == f"{SITE}/a"]
    assert "robots.txt disallows it" in json.loads(disallowed.payload)["refused"]
    assert world.paths("news.example") == []


def test_the_same_answers_make_the_same_snapshot(tmp_path: Path, world: World) -> None:
    """Whenever they are collected, refusals included."""
    world.on("news.example", "/robots.txt", b"User-agent: *\nDisallow: /b")
    world.on("news.example", "/a", Answer(status=302, headers={"Location": "http://10.0.0.1/"}))

    def run(fetcher: Fetcher) -> None:
        fetcher.get(f"{SITE}/a")
        fetcher.get(f"{SITE}/b")
        fetcher.get("ftp://news.example/")

    for name in ("first", "second"):
        collected(tmp_path / name, world, REQUEST, Toy(run))
        time.sleep(1.1)
    for file in (tmp_path / "first/raw").iterdir():
        assert sha256_of(file) == sha256_of(tmp_path / "second/raw" / file.name)


def test_robots_txt_is_not_asked_for_interfaces(world: World, fetcher: Fetcher) -> None:
    """Documented interfaces for programs are not crawled."""
    world.on("news.example", "/robots.txt", b"User-agent: *\nDisallow: /")
    world.on("news.example", "/api", b"yes")
    assert fetcher.get(f"{SITE}/api", robots=False).payload == b"yes"
    assert [asked.path for asked in world.asked] == ["/api"]


def test_robots_txt_that_cannot_be_had_forbids(world: World, fetcher: Fetcher) -> None:
    """RFC 9309: a server in trouble is left alone; no file at all allows everything."""
    world.on("news.example", "/robots.txt", Answer(status=503))
    with pytest.raises(UnavailableError, match=r"robots.txt: it answers 503"):
        fetcher.get(f"{SITE}/a")
    world.on("free.example", "/a", b"yes")
    assert fetcher.get("https://free.example/a").status == 200


def test_a_crawl_delay_is_kept(world: World, fetcher: Fetcher, clock: InstantClock) -> None:
    """What robots.txt asks for, where it is more than our own second."""
    world.on("news.example", "/robots.txt", b"User-agent: *\nCrawl-delay: 7")
    world.on("news.example", "/a", b"a")
    world.on("news.example", "/b", b"b")
    fetcher.get(f"{SITE}/a")
    before = clock.time
    fetcher.get(f"{SITE}/b")
    assert clock.time - before == pytest.approx(7.0)


def test_hosts_share_a_bucket(tmp_path: Path, world: World, clock: InstantClock) -> None:
    """One request per three seconds over all hosts of a service, whoever asks."""
    for host in ("a.slow.example", "b.slow.example"):
        for path in ("/1", "/2"):
            world.on(host, path, b"x")
    started = clock.time
    for part in ("a", "b"):
        with fetching(tmp_path, world, replace(REQUEST, name=part), Toy(), clock) as opened:
            for path in ("/1", "/2"):
                opened.get(f"https://{part}.slow.example{path}", robots=False)
    assert clock.time - started == pytest.approx(9.0, abs=0.01)


@pytest.mark.parametrize(
    ("trouble", "least"),
    [
        (Answer(status=429, headers={"Retry-After": "120"}), 120),
        (Answer(status=503, headers={"Retry-After": "Mon, 02 Nov 2026 12:05:00 GMT"}), 290),
        (Answer(status=500), 1),
        (Answer(body=b"cut", length=100), 1),
        (Answer(body=b"\x1f\x8b\x08broken", headers={"Content-Encoding": "gzip"}), 1),
    ],
)
def test_trouble_is_waited_out(
    world: World, fetcher: Fetcher, clock: InstantClock, trouble: Answer, least: float
) -> None:
    """What may get better is tried again, when the server says so, and never kept."""
    world.on("news.example", "/a", trouble, trouble, b"at last")
    started = clock.time
    assert fetcher.get(f"{SITE}/a", robots=False).payload == b"at last"
    assert clock.time - started >= least
    assert len(world.paths("news.example")) == 3


def test_a_limit_in_disguise_is_waited_out(world: World, fetcher: Fetcher, clock: InstantClock) -> None:
    """A bare 403 of a service that uses it so: at least a minute, then longer."""
    world.on("api.example", "/a", Answer(status=403), Answer(status=403), b"yes")
    started = clock.time
    assert fetcher.get("https://api.example/a", robots=False).payload == b"yes"
    assert clock.time - started >= 60 + 120


def test_a_plain_403_is_an_answer(world: World, fetcher: Fetcher) -> None:
    """Elsewhere it is what the site says."""
    world.on("news.example", "/a", Answer(status=403, body=b"no"))
    assert fetcher.get(f"{SITE}/a").status == 403
    assert world.paths("news.example") == ["/a"]


def test_a_wait_of_hours_is_left_for_another_run(world: World, fetcher: Fetcher, clock: InstantClock) -> None:
    """Nobody sits through a day; the gap can be mended later."""
    world.on("news.example", "/a", Answer(status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(UnavailableError, match="asks for 24.0 hours of patience") as caught:
        fetcher.get(f"{SITE}/a", robots=False)
    assert caught.value.retry
    assert clock.slept == []
    world.on("news.example", "/b", b"later")
    with pytest.raises(UnavailableError, match="asked to be left alone for 24.0 hours more"):
        fetcher.get(f"{SITE}/b", robots=False)
    assert (clock.slept, world.paths("news.example")) == ([], ["/a"])
    clock.time += 86400
    assert fetcher.get(f"{SITE}/b", robots=False).payload == b"later"


def test_a_host_that_is_down_is_not_waited_for_again(world: World, fetcher: Fetcher) -> None:
    """After three addresses that could not be had, the others are not tried in this run."""
    for number in range(6):
        world.on("news.example", f"/{number}", Answer(status=500))
        with pytest.raises(UnavailableError):
            fetcher.get(f"{SITE}/{number}", robots=False)
    assert len(world.paths("news.example")) == 3 * polite.TRIES


def test_a_host_with_wrong_answers_is_not_down(world: World, fetcher: Fetcher) -> None:
    """Answers that cannot be right are asked for again, and say nothing of other addresses."""
    for number in range(5):
        world.on("news.example", f"/{number}", b"")
        with pytest.raises(UnavailableError, match="an empty page"):
            fetcher.get(
                f"{SITE}/{number}", robots=False, check=lambda r: "" if r.payload else "an empty page"
            )
    world.on("news.example", "/good", b"good")
    assert fetcher.get(f"{SITE}/good", robots=False).payload == b"good"


def test_a_stream_waits_as_it_is_told(world: World, fetcher: Fetcher, clock: InstantClock) -> None:
    """A limit counts for what is streamed as for what is fetched."""
    world.on("files.example", "/big", Answer(status=429, headers={"Retry-After": "500"}), b"abc")

    def produce() -> Iterator[Record]:
        with fetcher.stream("https://files.example/big", max_bytes=100) as body:
            yield Record(uri="piece:1", date=REQUEST.since, media_type="", payload=body.read())

    started = clock.time
    assert [r.payload for r in fetcher.keep("big", produce)] == [b"abc"]
    assert clock.time - started >= 500


def test_a_token_raises_the_limit(tmp_path: Path, world: World) -> None:
    """Where a service says so, those who send a token may ask more often."""
    source = Toy(LIMITS={"api.example": Limit(interval=9.0, with_token=2.0)})
    for variables, seconds in (({}, 9.0), ({"TOY_TOKEN": TOKEN}, 2.0)):
        clock = InstantClock()
        folder = tmp_path / f"{seconds}"
        given: dict[str, Any] = variables
        with fetching(folder, world, REQUEST, source, clock, **given) as opened:
            opened.get("https://api.example/1", robots=False)
            before = clock.time
            opened.get("https://api.example/2", robots=False)
        assert clock.time - before == pytest.approx(seconds)


def test_an_answer_that_cannot_be_right_is_asked_for_again(world: World, fetcher: Fetcher) -> None:
    """An empty page in the middle of a result, for one."""
    world.on("news.example", "/a", b"", b"", b"full")
    record = fetcher.get(f"{SITE}/a", check=lambda r: "" if r.payload else "an empty page")
    assert record.payload == b"full"
    world.on("news.example", "/b", b"")
    with pytest.raises(UnavailableError, match="an empty page, after 6 tries"):
        fetcher.get(f"{SITE}/b", check=lambda r: "" if r.payload else "an empty page")


def test_too_much_is_refused_and_noted(world: World, fetcher: Fetcher) -> None:
    """A body beyond the bound is not stored, and not asked for again."""
    world.on("news.example", "/a", Answer(body=b"x" * 1000))
    record = fetcher.get(f"{SITE}/a", max_bytes=100)
    assert (record.kind, fetcher.get(f"{SITE}/a", max_bytes=100)) == ("metadata", record)
    assert world.paths("news.example") == ["/a"]


TOKEN = "canary-0123456789abcdef"


def test_a_token_reaches_its_host_and_nothing_else(
    tmp_path: Path, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not another host, not a record, not a file, not a message, not even when the server sends it back."""

    def echo(asked: Asked) -> Answer:
        said = asked.headers.get("authorization", "none")
        return Answer(body=f"you said {said}".encode(), headers={"ETag": said, "Link": f"<{said}>"})

    def away(asked: Asked) -> Answer:
        return Answer(status=302, headers={"Location": f"{SITE}/away?{asked.headers['authorization'][7:]}"})

    world.on("api.example", "/echo", echo)
    world.on("api.example", "/away", away)
    world.on("api.example", "/broken", lambda a: Answer(body=a.headers["authorization"].encode(), length=99))
    world.on("api.example", "/angry", lambda a: Answer(status=500, body=a.headers["authorization"].encode()))
    world.on("api.example", "/refused", lambda _: Answer(status=302, headers={"Location": f"ftp://{TOKEN}/"}))
    world.on("news.example", "/away", echo)

    def run(fetcher: Fetcher) -> None:
        assert b"[token]" in fetcher.get("https://api.example/echo", robots=False).payload
        fetcher.get("https://api.example/away", robots=False)
        fetcher.get("https://api.example/refused", robots=False)
        fetcher.get("http://api.example/echo", robots=False)
        note = Record(uri="x:y", date=REQUEST.since, media_type="text/plain", payload=TOKEN.encode())
        fetcher.keep("note", lambda: [note])
        for path in ("broken", "angry"):
            with pytest.raises(UnavailableError) as caught:
                fetcher.get(f"https://api.example/{path}?t={TOKEN}", robots=False)
            assert TOKEN not in repr(caught.value) + str(caught.value)
            fetcher.gap(caught.value)

    with pytest.raises(UserError) as caught:
        collected(tmp_path, world, REQUEST, Toy(run), TOY_TOKEN=TOKEN)
    assert TOKEN not in str(caught.value)
    finished = replace(REQUEST, partial=True)
    collected(tmp_path, world, finished, Toy(run), TOY_TOKEN=TOKEN)
    spoken = [a for a in world.asked if TOKEN in a.headers.get("authorization", "")]
    assert {a.host for a in spoken} == {"api.example"}
    assert {a.headers["x-forwarded-proto"] for a in spoken} == {"https"}
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert TOKEN.encode() not in (gzip.decompress(data) if path.name.endswith(".gz") else data), path
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "said",
    [
        f"https://{TOKEN}.example/",
        f"https://news.example/{TOKEN}",
        f"https://news.example/?t={TOKEN.upper()}",
        f"https://news.example/{''.join(f'%{ord(c):02X}' for c in TOKEN)}",
        f"https://news.example/{TOKEN.replace('-', '%25252d')}",
    ],
)
def test_no_redirect_carries_a_token_on(tmp_path: Path, world: World, said: str) -> None:
    """However it is spelt: no server is asked for it, and no record, journal or file name has it."""
    world.on("api.example", "/a", Answer(status=302, headers={"Location": said}))
    with fetching(tmp_path, world, REQUEST, Toy(), TOY_TOKEN=TOKEN) as fetcher:
        fetcher.get(f"https://api.example/a?t={TOKEN}")
    assert not any(TOKEN in unquote(f"{a.host}{a.path}{a.query}").lower() for a in world.asked[2:])
    for path in tmp_path.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        while data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        kept = f"{path.name} {data.decode('latin-1')}"
        assert TOKEN not in unquote(unquote(unquote(kept))).lower()


def test_a_token_that_is_not_accepted_is_said_and_not_kept(tmp_path: Path, world: World) -> None:
    """The next run, with another token, asks again."""
    world.on(
        "api.example",
        "/a",
        lambda a: b"in" if "right-token" in a.headers.get("authorization", "") else Answer(status=401),
    )
    source = Toy(lambda fetcher: fetcher.get("https://api.example/a", robots=False))
    with pytest.raises(UserError, match=r"api.example does not accept the token; correct it"):
        collected(tmp_path, world, REQUEST, source, TOY_TOKEN="wrong-token")
    _, records = collected(tmp_path, world, REQUEST, source, TOY_TOKEN="right-token")
    assert [r.payload for _, r in records] == [b"in"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FRESHBITS_CONTACT": ""}, "FRESHBITS_CONTACT is not set"),
        ({"TOY_TOKEN": "a b"}, "TOY_TOKEN is no token"),
        ({"TOY_TOKEN": "api.example"}, "TOY_TOKEN is no token"),
        ({"FRESHBITS_LOOPBACK": "x"}, "FRESHBITS_LOOPBACK is 'x' and must be a port"),
        ({"FRESHBITS_LOOPBACK": "65536"}, "must be a port from 1 to 65535"),
    ],
)
def test_what_is_needed_is_said(
    tmp_path: Path, world: World, variables: dict[str, Any], message: str
) -> None:
    """Before anything is asked."""
    with pytest.raises(UserError, match=message):
        collected(tmp_path, world, REQUEST, Toy(), **variables)
    assert world.asked == []


def test_the_user_agent_names_project_and_contact_but_no_record_does(tmp_path: Path, world: World) -> None:
    """Sites can reach whoever asks; readers of a snapshot need not."""
    collected(tmp_path, world, REQUEST, Toy())
    assert {a.headers["user-agent"] for a in world.asked} == {"freshbits/0.1 (+tests@freshbits.example)"}
    (shard,) = (tmp_path / "raw").glob("*.gz")
    assert b"User-Agent: freshbits\r\n" in gzip.decompress(shard.read_bytes())
    assert b"tests@freshbits.example" not in gzip.decompress(shard.read_bytes())


def test_failures_end_in_one_line_and_the_next_run_tries_only_them(tmp_path: Path, world: World) -> None:
    """A snapshot with a hole that may be mended is not finished; in the end no trace of it remains."""

    def run(fetcher: Fetcher) -> None:
        for path in ("/a", "/b", "/c"):
            try:
                fetcher.get(f"{SITE}{path}")
            except UnavailableError as error:
                fetcher.gap(error)

    for path in ("/a", "/c"):
        world.on("news.example", path, path.encode())
    world.on("news.example", "/b", Answer(status=500))
    with pytest.raises(
        UserError, match=r"lacks 1 of what it should hold \(https://news.example/b: it answers 500"
    ):
        collected(tmp_path / "a", world, REQUEST, Toy(run))
    assert not (tmp_path / "a/raw").exists()
    world.on("news.example", "/b", b"/b")
    world.asked.clear()
    snapshot, _ = collected(tmp_path / "a", world, REQUEST, Toy(run))
    assert [asked.path for asked in world.asked] == ["/b"]
    assert snapshot.gaps == ()
    collected(tmp_path / "b", world, REQUEST, Toy(run))
    for file in (tmp_path / "a/raw").iterdir():
        assert sha256_of(file) == sha256_of(tmp_path / "b/raw" / file.name)


def test_a_person_may_finish_without(tmp_path: Path, world: World) -> None:
    """`partial: true` finishes, and the snapshot says what it lacks."""

    def run(fetcher: Fetcher) -> None:
        fetcher.get(f"{SITE}/a")
        fetcher.gap(UnavailableError("b is down"))
        fetcher.gap(UnavailableError("b is down"))

    snapshot, _ = collected(tmp_path, world, replace(REQUEST, partial=True), Toy(run))
    assert snapshot.gaps == ("b is down",)


def test_a_limit_reached_is_a_gap(tmp_path: Path, world: World) -> None:
    """A snapshot that stops early never passes for a complete one."""

    def run(fetcher: Fetcher) -> None:
        fetcher.get(f"{SITE}/a")
        assert [fetcher.room() for _ in range(4)] == [True, True, False, False]

    snapshot, _ = collected(tmp_path, world, replace(REQUEST, max_documents=2), Toy(run))
    assert snapshot.gaps == ("stopped at max_documents = 2",)


def test_an_unfinished_window_is_not_collected(tmp_path: Path, world: World) -> None:
    """Only a source that polls may start before the window is over."""
    request = replace(REQUEST, until=datetime(2026, 12, 1, tzinfo=UTC))
    with pytest.raises(UserError, match="ends on 2026-12-01, and source toy is asked once, when it is over"):
        collected(tmp_path, world, request, Toy())


def poll(fetcher: Fetcher) -> None:
    """Poll a feed and fetch the page that it names."""
    for _ in fetcher.rounds():
        try:
            feed = fetcher.get(f"{SITE}/feed", poll=True)
        except UnavailableError as error:
            fetcher.gap(error)
            continue
        for path in feed.payload.decode().split():
            fetcher.get(f"{SITE}{path}")


def test_rounds_ask_conditionally_and_replay_what_was(tmp_path: Path, world: World) -> None:
    """Each run is a round; an unchanged feed is a revisit; the last round finishes the snapshot."""

    def feed(asked: Asked) -> Answer:
        now = etags[0]
        if asked.headers.get("if-none-match") == now:
            return Answer(status=304)
        return Answer(body={'"1"': b"/a", '"2"': b"/a /b"}[now], headers={"ETag": now})

    etags = ['"1"']
    world.on("news.example", "/feed", feed)
    world.on("news.example", "/a", b"a")
    world.on("news.example", "/b", b"b")
    request = replace(REQUEST, until=datetime(2026, 11, 10, tzinfo=UTC))
    source = Toy(poll, POLLS=True)
    clock = InstantClock()
    for number in (1, 2):
        with pytest.raises(UserError, match=f"round {number} of snapshot .* open until 2026-11-10"):
            collected(tmp_path, world, request, source, clock)
        clock.time += 86400
    etags[0] = '"2"'
    clock.time += 10 * 86400
    snapshot, records = collected(tmp_path, world, request, source, clock)
    assert snapshot.gaps == ()
    feeds = [(r.kind, r.status, r.payload) for _, r in records if r.uri == f"{SITE}/feed"]
    assert feeds == [("response", 200, b"/a"), ("revisit", 304, b""), ("response", 200, b"/a /b")]
    assert world.paths("news.example") == ["/feed", "/a", "/feed", "/feed", "/b"]


def test_a_round_that_missed_a_feed_is_a_gap_for_ever(tmp_path: Path, world: World) -> None:
    """What was not polled then cannot be polled now, so no later run is asked to."""
    world.on("news.example", "/feed", Answer(status=500))
    request = replace(REQUEST, until=datetime(2026, 11, 10, tzinfo=UTC))
    clock = InstantClock()
    with pytest.raises(UserError, match="round 1"):
        collected(tmp_path, world, request, Toy(poll, POLLS=True), clock)
    world.on("news.example", "/feed", b"/a")
    clock.time += 20 * 86400
    snapshot, _ = collected(tmp_path, world, request, Toy(poll, POLLS=True), clock)
    assert snapshot.gaps == (f"{SITE}/feed was not had in round 1",)


def test_a_page_that_an_earlier_round_missed_is_asked_for_again(tmp_path: Path, world: World) -> None:
    """Also where it was robots.txt that did not answer then: today's rules are asked."""
    world.on(
        "news.example", "/robots.txt", *[Answer(status=503)] * 2 * polite.TRIES, "User-agent: *\nDisallow: /b"
    )
    world.on("news.example", "/a", b"a")

    def run(fetcher: Fetcher) -> None:
        for _ in fetcher.rounds():
            for name in "ab":
                try:
                    fetcher.get(f"{SITE}/{name}")
                except UnavailableError as error:
                    fetcher.gap(error)

    source = Toy(run, POLLS=True)
    clock = InstantClock(time=datetime(2026, 9, 2, tzinfo=UTC).timestamp())
    with pytest.raises(UserError, match="round 1 of snapshot"):
        collected(tmp_path, world, REQUEST, source, clock)
    snapshot, records = collected(tmp_path, world, REQUEST, source)
    assert (snapshot.gaps, world.paths("news.example")) == ((), ["/a"])
    assert [record.payload for _, record in records if record.status == 200][-1] == b"a"


def test_kept_steps_are_made_again_when_they_break(world: World, fetcher: Fetcher) -> None:
    """A stream that breaks off starts again as a whole; nothing of the first try is kept."""
    world.on("files.example", "/big", Answer(body=b"abc", length=9), b"abcdefghi")

    def produce() -> Iterator[Record]:
        with fetcher.stream("https://files.example/big", max_bytes=100) as body:
            while piece := body.read(3):
                yield Record(uri=f"piece:{piece.decode()}", date=REQUEST.since, media_type="", payload=piece)

    assert [r.payload for r in fetcher.keep("big", produce)] == [b"abc", b"def", b"ghi"]
    assert [r.payload for r in fetcher.keep("big", produce)] == [b"abc", b"def", b"ghi"]
    assert world.paths("files.example") == ["/big", "/big"]


def test_a_stream_that_is_not_there_is_a_gap_that_stays(world: World, fetcher: Fetcher) -> None:
    """404 is no trouble that passes."""

    def produce() -> Iterator[Record]:
        with fetcher.stream("https://files.example/none", max_bytes=100):
            yield from ()

    with pytest.raises(UnavailableError, match="answers 404") as caught:
        fetcher.keep("none", produce)
    assert not caught.value.retry
    assert world.paths("files.example") == ["/none"]


def test_a_stream_follows_redirects_to_other_hosts(world: World, fetcher: Fetcher) -> None:
    """Large files lie with another host; what cannot be had is named by the address that was asked for."""
    signed = "https://store.example/blob?signature=s3cret"
    world.on("files.example", "/big", Answer(status=302, headers={"Location": signed}))
    world.on("files.example", "/round", Answer(status=307, headers={"Location": "/round"}))
    world.on("files.example", "/inside", Answer(status=302, headers={"Location": "http://10.0.0.1/"}))
    world.on("store.example", "/blob", b"abc", Answer(status=404))

    def body(path: str) -> bytes:
        with fetcher.stream(f"https://files.example{path}", max_bytes=100) as file:
            return file.read()

    assert body("/big") == b"abc"
    for path, reason in (("/big", "answers 404"), ("/round", "more than 10 redirects"), ("/inside", "")):
        with pytest.raises(UnavailableError, match=f"^https://files.example{path}.*{reason}") as caught:
            body(path)
        assert "s3cret" not in str(caught.value)
    assert world.paths("store.example") == ["/blob", "/blob"]


SLOW_COLLECTION = """
import sys
from pathlib import Path
from samples import InstantClock, environment
from test_fetch import REQUEST, SITE, Toy
from collectors.collect import collect
from world import World

def run(fetcher):
    for number in range(30):
        fetcher.get(f"{SITE}/{number}")

folder = Path(sys.argv[1])
collect(Toy(run), REQUEST, folder / "raw", folder / "staging", environment=environment(folder, World(int(sys.argv[2]))),
        clock=InstantClock())
"""


@pytest.mark.slow
def test_ten_kills_of_a_collection_leave_no_trace(tmp_path: Path) -> None:
    """Kill -9 at random moments, resumed each time: the same manifest, and nothing stored is fetched again."""
    rng = random.Random(2)
    with running() as world:
        for number in range(30):
            world.on("news.example", f"/{number}", f"page {number}".encode() * 1000)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}

        def start(name: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-c", SLOW_COLLECTION, str(tmp_path / name), str(world.port)]
            return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

        for _ in range(10):
            process, stop = start("a"), len(world.asked) + rng.randint(1, 3)
            while process.poll() is None and len(world.asked) < stop:
                time.sleep(0.0005)
            time.sleep(rng.random() * 0.004)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert start("a").wait() == 0
        assert set(world.paths("news.example")) == {f"/{n}" for n in range(30)}
        assert len(world.asked) <= 30 + 1 + 10  # at most the exchange in hand at each kill
        assert start("b").wait() == 0
    for file in (tmp_path / "b/raw").iterdir():
        assert sha256_of(file) == sha256_of(tmp_path / "a/raw" / file.name)
