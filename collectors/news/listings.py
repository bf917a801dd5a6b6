"""What sites list, over time: feeds and sitemaps are polled, and what they say is kept by article.

A list holds an article for days only. Where a first poll does not reach back to the start of the window,
or where two polls have nothing in common, articles may be missing, and that is noted as a gap.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from collectors.document import DateEvidence
from collectors.news.feeds import MAX_BYTES, Child, Entry, feed, identity, sitemap
from collectors.pages import dates
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import UnavailableError
from collectors.web.untrusted import UntrustedError

MAX_SITEMAPS = 500  # below one address
MAX_DEPTH = 3
_DAY = timedelta(days=1)


@dataclass(slots=True, kw_only=True)
class Listing:
    """A feed or sitemap over the rounds of a collection.

    Attributes:
        url: its address.
        kind: `feed` or `sitemap`.
        urls: the articles of the last poll that gave any; None before the first.
        troubles: what was wrong with the last poll.
    """

    url: str
    kind: str
    urls: set[str] | None = None
    troubles: list[str | UnavailableError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Statements:
    """What feeds and sitemaps in records say about articles.

    Attributes:
        kinds: `feed` or `sitemap`, by address; those that an index leads to are added as it is read.
        entries: every distinct entry, by address of the article, in the order of the records.
    """

    kinds: dict[str, str]
    entries: dict[str, dict[Entry, None]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, record: Record) -> bool:
        """Take in a record; return whether its address is that of a feed or sitemap."""
        kind = self.kinds.get(identity(record.requested))
        if kind and record.kind == "response" and record.status == 200:
            try:
                entries, children = _parsed(record, kind)
            except UntrustedError:
                return True
            self.kinds.update(dict.fromkeys((child.url for child in children), "sitemap"))
            for entry in entries:
                self.entries[entry.url].setdefault(entry)
        return bool(kind)


def poll(listing: Listing, request: Request, fetcher: Fetcher) -> list[Entry]:
    """Return what a feed or a tree of sitemaps lists in this round, and note what seems to be missing."""
    listing.troubles = []
    entries = list(_tree(listing, request, fetcher))
    urls = {entry.url for entry in entries}
    if listing.urls is None and (urls or not listing.troubles):
        dated = [entry.published for entry in entries if entry.published]
        if dated and min(dated) > request.since:
            fetcher.gap(f"{listing.url} reached back to {min(dated):%Y-%m-%d %H:%M} when it was first read")
        elif not dated and listing.kind == "feed":
            fetcher.gap(f"{listing.url} gives no dates, so that nothing shows how far it reaches back")
        listing.urls = urls
    elif urls:
        if listing.urls and not urls & listing.urls:
            fetcher.gap(f"{listing.url} had nothing in common with the time before, when it was read again")
        listing.urls = urls
    return entries


def wanted(entry: Entry, request: Request) -> bool:
    """Return whether an article may be of the window: its page decides, so a doubt speaks for it."""
    if entry.published:
        return request.since - _DAY <= entry.published < request.until + _DAY
    return _recent(entry.modified, request)


def evidence(entry: Entry) -> Iterator[DateEvidence]:
    """Yield what an entry states about dates."""
    if entry.raw_date:
        # What `dates.parse` does not know and feedparser did stands as feedparser read it.
        as_written = dates.parse(entry.raw_date) or not entry.published
        yield DateEvidence(kind=entry.kind, value=entry.raw_date if as_written else _iso(entry.published))
    if entry.modified:
        yield DateEvidence(kind=f"{entry.kind}-modified", value=_iso(entry.modified))


def _iso(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _tree(listing: Listing, request: Request, fetcher: Fetcher) -> Iterator[Entry]:
    """Yield the entries of a feed, or of a sitemap and those below it that changed since the window began."""
    level, met = [listing.url], set[str]()
    for _ in range(MAX_DEPTH):
        below: list[str] = []
        for url in dict.fromkeys(level):
            if url in met:
                continue
            met.add(url)
            if len(met) > MAX_SITEMAPS:
                listing.troubles.append(
                    f"{listing.url} leads to more than {MAX_SITEMAPS} sitemaps; list those that matter"
                )
                return
            try:
                answer = fetcher.get(url, poll=True, max_bytes=MAX_BYTES)
                if answer.status not in {200, 304}:
                    listing.troubles.append(
                        f"{url} answers {answer.status}" if answer.status else f"{url} is refused"
                    )
                    continue
                entries, children = _parsed(answer, listing.kind)
            except UnavailableError as error:
                listing.troubles.append(error)
            except UntrustedError as error:
                listing.troubles.append(f"{url}: {error}")
            else:
                yield from entries
                below += [child.url for child in children if _recent(child.modified, request)]
        level = below
    if set(level) - met:
        listing.troubles.append(
            f"{listing.url} has sitemaps below more than {MAX_DEPTH} others; list those that matter"
        )


def _parsed(record: Record, kind: str) -> tuple[list[Entry], list[Child]]:
    if kind == "feed":
        return feed(record.payload, base=record.uri, media_type=record.media_type), []
    entries, children = sitemap(record.payload, base=record.uri)
    # The protocol lets an index name the sitemaps of its own site alone.
    host = urlsplit(record.uri).hostname
    return entries, [child for child in children if urlsplit(child.url).hostname == host]


def _recent(modified: datetime | None, request: Request) -> bool:
    return modified is None or modified >= request.since - _DAY
