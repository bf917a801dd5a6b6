"""CC-NEWS is streamed, and only whole HTML pages of the wanted sites are kept of it."""

import gzip
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from collectors.news import cc_news
from collectors.news import source as news
from collectors.request import Request
from collectors.warc import Record
from samples import fetching
from world import Answer, World

HOST = "data.commoncrawl.org"
REQUEST = Request(
    name="news-2026-02",
    source="news",
    content="news",
    since=datetime(2026, 1, 20, tzinfo=UTC),
    until=datetime(2026, 1, 22, tzinfo=UTC),
    settings={},
)
PAGE = b"<html><body><p>An article.</p></body></html>"


def response(url: str, payload: bytes = PAGE, **given_: Any) -> dict[str, Any]:
    """Return what a WARC response holds."""
    fields = {
        "status": "200 OK",
        "media_type": "text/html",
        "date": "2026-01-20T10:00:00Z",
        "headers": [],
        "more": {},
    }
    return {"url": url, "payload": payload, **fields, **given_}


def warc(responses: Sequence[dict[str, Any]]) -> bytes:
    """Return a WARC file such as the crawler writes, with a request before every response."""
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=True)
    for given_ in responses:
        headers = [("Content-Type", given_["media_type"]), ("Set-Cookie", "id=1"), *given_["headers"]]
        for kind, line, body in (
            ("request", StatusAndHeaders("GET / HTTP/1.1", [("Host", "x")], is_http_request=True), b""),
            ("response", StatusAndHeaders(given_["status"], headers, protocol="HTTP/1.1"), given_["payload"]),
        ):
            writer.write_record(
                writer.create_warc_record(
                    given_["url"],
                    kind,
                    payload=io.BytesIO(body),
                    length=len(body),
                    http_headers=line,
                    warc_headers_dict={
                        "WARC-Date": given_["date"],
                        "WARC-Block-Digest": f"sha256:{sha256(line.to_ascii_bytes() + body).hexdigest()}",
                        "WARC-Payload-Digest": f"sha256:{sha256(body).hexdigest()}",
                        **given_["more"],
                    },
                )
            )
    return stream.getvalue()


def path(stamp: str, number: int = 1) -> str:
    """Return the path of a file by the moment at which it was opened."""
    return f"crawl-data/CC-NEWS/{stamp[:4]}/{stamp[4:6]}/CC-NEWS-{stamp}-{number:05}.warc.gz"


def archive(world: World, files: dict[str, bytes]) -> None:
    """Put files and the lists of their months on the web."""
    for name, body in files.items():
        world.on(HOST, f"/{name}", Answer(body=body, media_type="application/octet-stream"))
    for month in {name[:27] for name in files}:
        paths = "".join(f"{name}\n" for name in files if name.startswith(month)).encode()
        world.on(
            HOST,
            f"/{month}warc.paths.gz",
            Answer(body=gzip.compress(paths), media_type="application/gzip"),
        )


def collected(
    tmp_path: Path, world: World, hosts: Sequence[str], request: Request = REQUEST
) -> tuple[list[Record], list[str]]:
    """Return the records that a collection keeps, and its gaps."""
    kept: list[Record] = []
    with fetching(tmp_path, world, request, news) as fetcher:
        keep = fetcher.keep

        def noting(key: str, produce: Callable[[], Iterable[Record]]) -> list[Record]:
            records = keep(key, produce)
            kept.extend(records)
            return records

        fetcher.keep = noting  # type: ignore[method-assign]
        for _ in fetcher.rounds():
            cc_news.collect(request, fetcher, hosts)
        return kept, fetcher.gaps


DAYS = {path(f"202601{day}{hour}0000"): warc([]) for day in (19, 20, 21, 22) for hour in ("05", "17")}


def test_only_pages_of_the_sites_are_kept(tmp_path: Path, world: World) -> None:
    """Hosts and what lies below them, HTML with status 200; the rest is never stored."""
    page = response(
        "https://www.news.example/a?id=1",
        headers=[("ETag", '"1"'), ("Date", "Tue, 20 Jan 2026 09:59:59 GMT")],
        media_type="text/html; charset=iso-8859-1",
    )
    others = [
        response("https://notnews.example/a"),
        response("https://news.example/gone", status="404 Not Found"),
        response("https://news.example/picture", media_type="image/png"),
        response("https://news.example/cut", more={"WARC-Truncated": "length"}),
        response("https://news.example/br", headers=[("Content-Encoding", "br")]),
        response("dns:news.example"),
    ]
    archive(world, {**DAYS, path("20260120100000"): warc([*others, page])})
    kept, gaps = collected(tmp_path, world, ["news.example"])
    assert kept == [
        Record(
            uri="https://www.news.example/a?id=1",
            date=datetime(2026, 1, 20, 10, tzinfo=UTC),
            media_type="text/html; charset=iso-8859-1",
            payload=PAGE,
            kind="response",
            requested="https://www.news.example/a?id=1",
            status=200,
            headers={
                "content-type": "text/html; charset=iso-8859-1",
                "date": "Tue, 20 Jan 2026 09:59:59 GMT",
                "etag": '"1"',
            },
        )
    ]
    assert gaps == []


def test_pages_are_decoded_as_far_as_the_bound(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that claims to be compressed and is not is read as it is; one that never ends is left out."""
    monkeypatch.setattr(cc_news, "MAX_PAGE_BYTES", 1 << 16)
    coded = [("Content-Encoding", "gzip")]
    pages = [
        response("https://news.example/1", gzip.compress(PAGE), headers=coded),
        response("https://news.example/2", headers=coded),
        response("https://news.example/3", gzip.compress(b" " * (1 << 24)), headers=coded),
        response("https://news.example/4", headers=[("Transfer-Encoding", "chunked")]),
    ]
    archive(world, {**DAYS, path("20260120100000"): warc(pages)})
    kept, _ = collected(tmp_path, world, ["news.example"])
    assert [(record.uri[-1], record.payload) for record in kept] == [("1", PAGE), ("2", PAGE), ("4", PAGE)]


@pytest.mark.parametrize("cut", [3, 40, 200, "checksum"])
def test_a_damaged_file_is_a_gap_and_the_others_are_kept(
    cut: int | str, tmp_path: Path, world: World
) -> None:
    """A file that ends early is not taken for a complete one, wherever it ends."""
    whole = warc([response("https://news.example/a")])
    broken = bytearray(whole[:-cut] if isinstance(cut, int) else whole)
    if cut == "checksum":
        broken[-6] ^= 1
    good = warc([response("https://news.example/b")])
    archive(world, {**DAYS, path("20260120100000"): bytes(broken), path("20260120110000"): good})
    kept, gaps = collected(tmp_path, world, ["news.example"])
    assert [record.uri for record in kept] == ["https://news.example/b"]
    (gap,) = gaps
    assert path("20260120100000") in gap
    assert "damaged" in gap


def test_a_transfer_that_breaks_off_is_tried_again(tmp_path: Path, world: World) -> None:
    """Nothing of the first try is kept twice."""
    body = warc([response("https://news.example/a"), response("https://news.example/b")])
    archive(world, DAYS)
    world.on(
        HOST,
        f"/{path('20260121050000')}",
        Answer(body=body[:-30], length=len(body)),
        Answer(body=body),
    )
    kept, gaps = collected(tmp_path, world, ["news.example"])
    assert [record.uri[-1] for record in kept] == ["a", "b"]
    assert gaps == []


def test_a_file_is_streamed_once_in_a_collection(tmp_path: Path, world: World) -> None:
    """A run that goes on where another stopped takes it from staging."""
    archive(world, {**DAYS, path("20260120100000"): warc([response("https://news.example/a")])})
    first, _ = collected(tmp_path, world, ["news.example"])
    again, _ = collected(tmp_path, world, ["news.example"])
    assert first == again
    assert world.paths(HOST).count(f"/{path('20260120100000')}") == 1


def test_files_of_the_window_and_shortly_around_it_are_read(tmp_path: Path, world: World) -> None:
    """A file is open for hours, and a page may be crawled days after it was published."""
    stamps = ["20260101000000", "20260118230000", "20260119010000", "20260124230000", "20260125010000"]
    archive(world, {**DAYS, **{path(stamp): warc([]) for stamp in stamps}})
    collected(tmp_path, world, ["news.example"])
    asked = [name for name in world.paths(HOST) if name.endswith(".warc.gz")]
    assert asked == sorted(asked)
    assert {name for name in asked if name[1:] not in DAYS} == {f"/{path(stamp)}" for stamp in stamps[2:4]}


def test_days_without_a_file_are_a_gap(tmp_path: Path, world: World) -> None:
    """The archive has them, and at the end of a month the list may not be there yet."""
    archive(world, {name: body for name, body in DAYS.items() if "/CC-NEWS-2026012" not in name})
    _, gaps = collected(tmp_path, world, ["news.example"])
    assert gaps == ["CC-NEWS lists no file from 2026-01-20 00:00 to 2026-01-22 00:00"]


def test_a_list_that_cannot_be_read_is_a_gap(tmp_path: Path, world: World) -> None:
    """And so are the days that it should have named."""
    world.on(HOST, "/crawl-data/CC-NEWS/2026/01/warc.paths.gz", b"<html>Not a list</html>")
    _, gaps = collected(tmp_path, world, ["news.example"])
    assert len(gaps) == 2
    assert "neither tar nor gzip nor zip" in gaps[0]


def test_only_paths_of_the_archive_are_followed(tmp_path: Path, world: World) -> None:
    """A line in a list is a stranger's word."""
    lines = b"https://evil.example/x.warc.gz\n../../secret\ncrawl-data/CC-NEWS/2026/01/CC-NEWS-2026-1.warc.gz\n\xff\n"
    world.on(HOST, "/crawl-data/CC-NEWS/2026/01/warc.paths.gz", gzip.compress(lines))
    collected(tmp_path, world, ["news.example"])
    assert [asked.host for asked in world.asked] == [HOST]


def test_max_documents_stops_between_files(tmp_path: Path, world: World) -> None:
    """A file is kept whole, and no further one is read."""
    request = Request(
        name="few",
        source="news",
        content="news",
        since=REQUEST.since,
        until=REQUEST.until,
        settings={},
        max_documents=1,
    )
    one, two = (warc([response(f"https://news.example/{n}{m}") for m in range(2)]) for n in range(2))
    archive(world, {path("20260120010000"): one, path("20260120020000"): two})
    kept, gaps = collected(tmp_path, world, ["news.example"], request)
    assert len(kept) == 2
    assert "max_documents" in gaps[-1]
    assert f"/{path('20260120020000')}" not in world.paths(HOST)


@given(st.dates(date(2016, 8, 1), date(2030, 1, 1)), st.timedeltas(timedelta(0), timedelta(days=900)))
def test_months_are_those_of_every_day(day: date, length: timedelta) -> None:
    """From 20 January to 10 February there are two, which counting months from a day misses."""
    first = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    days = [first + timedelta(days=n) for n in range(length.days + 1)] + [first + length]
    assert cc_news.months(first, first + length) == sorted({(at.year, at.month) for at in days})
