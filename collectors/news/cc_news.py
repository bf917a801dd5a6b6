"""CC-NEWS: the news crawl of Common Crawl, of which only the pages of the wanted sites are kept.

Each month has a list of its WARC files, `crawl-data/CC-NEWS/YYYY/MM/warc.paths.gz`; a file of about a
gigabyte is named after the moment at which the crawler opened it, streamed once and never stored. When
a page was crawled says nothing about when it was published, and is used for nothing but choosing files.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, BinaryIO

from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed

from collectors.news.feeds import site_of
from collectors.request import Request
from collectors.warc import Record, utc_second
from collectors.web.fetch import KEPT_HEADERS, Fetcher, kept_headers
from collectors.web.polite import UnavailableError
from collectors.web.untrusted import UntrustedError, members

ROOT = "https://data.commoncrawl.org/"
MAX_LIST_BYTES = 4 << 20
MAX_FILE_BYTES = 4 << 30
MAX_PAGE_BYTES = 10 << 20

# A file is filled for hours, and a page may be crawled days after it was published.
_BEFORE, _AFTER = timedelta(days=1), timedelta(days=3)
_LONGEST_PAUSE = timedelta(days=1)
_PATH = re.compile(r"crawl-data/CC-NEWS/\d{4}/\d\d/CC-NEWS-(\d{14})-\d+\.warc\.gz")
_HTML = ("text/html", "application/xhtml+xml")
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})


def collect(request: Request, fetcher: Fetcher, hosts: Sequence[str]) -> None:
    """Keep the pages of some hosts and their subdomains that were crawled in the window or soon after.

    Noted as gaps: files that cannot be read whole, days without any file, which the archive has, and a list
    that was read when pages of the window were still to come.
    """
    files = _files(request, fetcher)
    crawled = [at for at, _ in files if request.since < at < request.until]
    for earlier, later in pairwise([request.since, *crawled, request.until]):
        if later - earlier > _LONGEST_PAUSE:
            fetcher.gap(f"CC-NEWS lists no file from {earlier:%Y-%m-%d %H:%M} to {later:%Y-%m-%d %H:%M}")
    for _, path in files:
        try:
            records = fetcher.keep(path, partial(_pages, fetcher, path, tuple(hosts)))
        except UnavailableError as error:
            fetcher.gap(error)
            continue
        for _ in records:
            if not fetcher.room():
                return


def months(first: datetime, last: datetime) -> list[tuple[int, int]]:
    """Return every year and month from one moment to another, both included."""
    count = (last.year - first.year) * 12 + last.month - first.month
    numbers = [first.year * 12 + first.month - 1 + n for n in range(count + 1)]
    return [(number // 12, number % 12 + 1) for number in numbers]


def _files(request: Request, fetcher: Fetcher) -> list[tuple[datetime, str]]:
    """Return the files that may hold pages of the window, with their dates, in the order of these."""
    begin, end = request.since - _BEFORE, request.until + _AFTER
    found: set[tuple[datetime, str]] = set()
    for year, month in months(begin, end):
        url = f"{ROOT}crawl-data/CC-NEWS/{year}/{month:02}/warc.paths.gz"
        try:
            answer = fetcher.get(url, robots=False, poll=True, max_bytes=MAX_LIST_BYTES)
        except UnavailableError as error:
            fetcher.gap(error)
            continue
        if answer.status not in {200, 304}:
            continue  # a month that has no files yet shows as days without any
        if answer.date < end and (year, month) == (end.year, end.month):
            fetcher.gap(
                f"CC-NEWS was read on {answer.date:%Y-%m-%d}, and adds pages of the window until {end:%Y-%m-%d}"
            )
        for line in _lines(answer, fetcher):
            if name := _PATH.fullmatch(line.strip()):
                at = datetime.strptime(name[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                if begin <= at < end:
                    found.add((at, line.strip()))
    return sorted(found)


def _lines(answer: Record, fetcher: Fetcher) -> list[str]:
    try:
        text = b"".join(members(answer.payload, max_bytes=MAX_LIST_BYTES, max_members=1).values())
    except UntrustedError as error:
        fetcher.gap(f"{answer.uri}: {error}")
        return []
    return text.decode("ascii", "replace").splitlines()


def _pages(fetcher: Fetcher, path: str, hosts: Sequence[str]) -> Iterator[Record]:
    """Yield the HTML pages of some hosts in a file.

    Raises:
        UnavailableError: when the file is truncated or damaged, or cannot be had.
    """
    with fetcher.stream(ROOT + path, max_bytes=MAX_FILE_BYTES) as body:
        try:
            for record in ArchiveIterator(_Unpacked(body)):
                if page := _page(record, hosts):
                    yield page
        except (_DamagedError, ArchiveLoadFailed, ValueError) as error:
            raise UnavailableError(f"{ROOT}{path} is damaged: {error}", retry=False) from error


class _DamagedError(Exception):
    """A gzip stream that breaks off or does not match its checksum."""


class _Unpacked:
    """A gzipped file, read as what it holds; warcio itself takes a truncated one for a complete one."""

    def __init__(self, body: BinaryIO) -> None:
        self._file = gzip.GzipFile(fileobj=body)

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _DamagedError(str(error)) from error


def _page(record: Any, hosts: Sequence[str]) -> Record | None:
    """Return a WARC record as ours; None for what is no whole HTML page of the hosts."""
    url = "".join((record.rec_headers.get_header("WARC-Target-URI") or "").split())
    if record.rec_type != "response" or not record.http_headers or not site_of(url, hosts):
        return None
    http = record.http_headers
    media_type = http.get_header("Content-Type") or ""
    if http.get_statuscode() != "200" or not media_type.lower().startswith(_HTML):
        return None
    if record.rec_headers.get_header("WARC-Truncated"):
        return None
    if (http.get_header("Content-Encoding") or "").strip().lower() not in _ENCODINGS:
        return None
    payload = _content(record.content_stream())
    if payload is None:
        return None
    try:
        date = utc_second(datetime.fromisoformat(record.rec_headers.get_header("WARC-Date") or ""))
    except (ValueError, OverflowError):
        return None
    headers = kept_headers({name: value for name in KEPT_HEADERS if (value := http.get_header(name))})
    return Record(
        uri=url,
        date=date,
        media_type=headers["content-type"],
        payload=payload,
        kind="response",
        requested=url,
        status=200,
        headers=headers,
    )


def _content(stream: Any) -> bytes | None:
    """Return a page's bytes, decoded; None when there are too many."""
    pieces, size = [], 0
    while piece := stream.read(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_PAGE_BYTES:
            return None
    return b"".join(pieces)
