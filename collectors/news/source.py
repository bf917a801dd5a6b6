"""News from a list of sites: RSS and Atom feeds, news sitemaps, and Common Crawl's CC-NEWS files.

Feeds and sitemaps are polled while the window is open, and each new article is fetched once.

An article is known by the address that it names as its own, whatever copies of it were fetched, and has
one version: pages change with every visit, and the text that counts is the one met first.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, get_args
from urllib.parse import urlsplit

from packaging.licenses import InvalidLicenseExpression

from collectors.document import Document, RawRecord, UserError, document
from collectors.language import detect
from collectors.licenses import OPEN_CONTENT, canonical, satisfied, spdx_of_url
from collectors.news import cc_news
from collectors.news.boilerplate import frequent, strip
from collectors.news.feeds import Entry, identity, site_of
from collectors.news.listings import Listing, Statements, evidence, poll, wanted
from collectors.news.masks import mask
from collectors.pages import dates
from collectors.pages import extraction as pages
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit, UnavailableError

VERSION = "news/1"
NETWORK = True
POLLS = True
CONTENT = "news"
TOKENS: Mapping[str, str] = {}
LIMITS: Mapping[str, Limit] = {}
SETTINGS: Mapping[str, Any] = {
    "sites": [
        {"host": "globalvoices.org", "feeds": ["https://globalvoices.org/feed/"], "license": "CC-BY-3.0"},
        {
            "host": "nasa.gov",
            "feeds": ["https://www.nasa.gov/news-release/feed/"],
            "license": "LicenseRef-Public-Domain",
        },
    ],
    "engine": "trafilatura",
    "boilerplate_documents": 3,
    "boilerplate_share": 0.005,
}

_SITE = {"host": str, "feeds": list, "sitemaps": list, "license": str, "cc_news": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """A site of the settings; `license` is what a person read in its terms."""

    host: str
    feeds: tuple[str, ...]
    sitemaps: tuple[str, ...]
    license: str
    cc_news: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """A page as it was fetched, without its bytes."""

    raw: RawRecord
    url: str
    requested: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Article:
    """An article: its address, the copy of it that counts, all copies, and what lists said of it."""

    url: str
    host: str
    page: pages.Extracted
    fetched: _Fetched
    copies: Sequence[_Fetched]
    listed: Sequence[Entry]


def lag(request: Request) -> timedelta:
    """Feeds name an article at once; the crawler of CC-NEWS comes by later."""
    sites = request.settings.get("sites")
    crawled = isinstance(sites, list) and any(
        isinstance(site, dict) and site.get("cc_news") for site in sites
    )
    return timedelta(days=3 if crawled else 0)


def collect(request: Request, fetcher: Fetcher, /) -> None:
    """Poll every feed and sitemap, fetch the new articles of the window, then take those of CC-NEWS.

    Raises:
        UserError: when the settings are wrong.
    """
    sites, _ = _settings(request)
    hosts = [site.host for site in sites]
    listings = [
        Listing(url=url, kind=kind)
        for site in sites
        for kind, urls in (("feed", site.feeds), ("sitemap", site.sitemaps))
        for url in urls
    ]
    seen: set[str] = set()
    for _ in fetcher.rounds():
        new: dict[str, list[str]] = {host: [] for host in hosts}
        for listing in listings:
            for entry in poll(listing, request, fetcher):
                host = site_of(entry.url, hosts)
                if host and entry.url not in seen and wanted(entry, request):
                    seen.add(entry.url)
                    new[host].append(entry.url)
        if not _fetch(new.values(), fetcher):
            return
    troubles = [trouble for listing in listings for trouble in listing.troubles]
    if troubles and all(listing.urls is None for listing in listings):
        raise UserError(
            f"no feed or sitemap of snapshot {request.name} could be read ({troubles[0]}); correct their addresses, or "
            "run the same command again"
        )
    for trouble in troubles:
        fetcher.gap(trouble)
    crawled = [site.host for site in sites if site.cc_news]
    if crawled:
        cc_news.collect(request, fetcher, crawled)


def _fetch(new: Iterable[Sequence[str]], fetcher: Fetcher) -> bool:
    """Fetch pages, a page of every site in turn so that the waits for them overlap; False to stop."""
    for turn in zip_longest(*new, fillvalue=""):
        for url in filter(None, turn):
            if not fetcher.room():
                return False
            try:
                fetcher.get(url, accept="text/html,application/xhtml+xml", max_bytes=pages.MAX_BYTES)
            except UnavailableError as error:
                fetcher.gap(error)
    return True


def extract(
    records: Iterable[tuple[RawRecord, Record]], request: Request, workers: int, /
) -> Iterator[Document]:
    """Yield an article for each address, by address, dropped or not.

    Raises:
        UserError: when the settings are wrong.
    """
    sites, chosen = _settings(request)
    lists = Statements(
        kinds={identity(url): "feed" for site in sites for url in site.feeds}
        | {identity(url): "sitemap" for site in sites for url in site.sitemaps}
    )
    hosts = [site.host for site in sites]
    fetched: list[_Fetched] = []
    extracted = pages.texts(_pages(records, lists, hosts, fetched), engine=chosen["engine"], workers=workers)
    found = list(zip(list(extracted), fetched, strict=True))
    articles = _articles(found, lists, hosts)
    for site in sites:
        of_site = [article for article in articles if article.host == site.host]
        lines = frequent(
            (article.page.text for article in of_site),
            documents=chosen["boilerplate_documents"],
            share=chosen["boilerplate_share"],
        )
        for article in of_site:
            yield _document(article, site, lines, request, chosen["engine"])


def _pages(
    records: Iterable[tuple[RawRecord, Record]],
    lists: Statements,
    hosts: Sequence[str],
    fetched: list[_Fetched],
) -> Iterator[pages.Page]:
    """Yield the pages of the sites, noting each in `fetched`, and take in the feeds and sitemaps."""
    for raw, record in records:
        if lists.take(record) or record.kind != "response" or record.status != 200:
            continue
        if not site_of(record.uri, hosts) or urlsplit(record.uri).path == "/robots.txt":
            continue
        fetched.append(_Fetched(raw=raw, url=record.uri, requested=record.requested, at=record.date))
        yield pages.Page(
            url=record.uri, payload=record.payload, media_type=record.media_type, fetched=record.date
        )


def _articles(
    found: Sequence[tuple[pages.Extracted, _Fetched]], lists: Statements, hosts: Sequence[str]
) -> list[_Article]:
    """Return the articles by address; of several copies the one at the address itself, then the first."""
    copies: dict[str, list[tuple[pages.Extracted, _Fetched]]] = defaultdict(list)
    for page, fetched in found:
        copies[_address(page, fetched, hosts)].append((page, fetched))
    articles = []
    for url, group in sorted(copies.items()):
        page, fetched = min(
            group,
            key=lambda copy: (not copy[0].text, identity(copy[1].url) != url, copy[1].at, copy[1].url),
        )
        urls = {url} | {identity(address) for _, copy in group for address in (copy.url, copy.requested)}
        articles.append(
            _Article(
                url=url,
                host=site_of(fetched.url, hosts),
                page=page,
                fetched=fetched,
                copies=[copy for _, copy in group],
                listed=[entry for address in sorted(urls) for entry in lists.entries.get(address, ())],
            )
        )
    return articles


def _address(page: pages.Extracted, fetched: _Fetched, hosts: Sequence[str]) -> str:
    """Return the address that a page names as its own, unless that is another site or no article."""
    canonical = identity(page.canonical, fetched.url) if page.canonical else ""
    same = canonical and site_of(canonical, hosts) == site_of(fetched.url, hosts)
    return canonical if same and urlsplit(canonical).path != "/" else identity(fetched.url)


def _document(
    article: _Article, site: _Site, lines: frozenset[str], request: Request, engine: pages.Engine
) -> Document:
    page, fetched = article.page, article.fetched
    listed = (item for entry in article.listed for item in evidence(entry))
    stated = (*page.dates, *dict.fromkeys(listed))
    verdict = dates.judge(stated, fetched=fetched.at, since=request.since, until=request.until)
    text, n_lines = strip(page.text, lines)
    text, masked = mask(text)
    language, probability = detect(text)
    license_, license_evidence = _license(page, site)
    facts = {
        "site": site.host,
        "authors": "; ".join(page.authors),
        "license_url": page.license_url,
        "extraction": page.reason,
        "boilerplate_lines": str(n_lines or ""),
        "copies": str(len(article.copies)) if len(article.copies) > 1 else "",
        **{f"masked_{kind}": str(n or "") for kind, n in masked.items()},
    }
    return document(
        source="news",
        native_id=article.url,
        version="1",
        url=article.url,
        title=page.title or next((entry.title for entry in article.listed if entry.title), ""),
        text=text,
        published=verdict.published or fetched.at.replace(hour=0, minute=0, second=0, microsecond=0),
        published_precision=verdict.precision or "day",
        date_evidence=stated,
        first_seen=min(copy.at for copy in article.copies),
        fetched=fetched.at,
        license=license_,
        license_evidence=license_evidence,
        redistributable=satisfied(license_, OPEN_CONTENT),
        language=language,
        language_probability=probability,
        raw=fetched.raw,
        extractor=f"{VERSION} {pages.extractor(engine)}",
        drop_reason="unreadable" if not text else "paywall" if page.paywalled else verdict.reason,
        metadata={name: value for name, value in facts.items() if value},
    )


def _license(page: pages.Extracted, site: _Site) -> tuple[str, str]:
    """Return the licence that a page names, known or not, else the one that was declared for its site."""
    if page.license_url:
        return spdx_of_url(page.license_url), page.license_evidence
    return site.license, "declared" if site.license else ""


def _settings(request: Request) -> tuple[list[_Site], dict[str, Any]]:
    chosen = request.chosen(SETTINGS)
    if chosen["engine"] not in get_args(pages.Engine):
        raise UserError(
            f"engine {chosen['engine']!r} of snapshot {request.name} is unknown; choose one of "
            f"{', '.join(get_args(pages.Engine))}"
        )
    if chosen["boilerplate_documents"] < 2 or not 0 <= chosen["boilerplate_share"] <= 1:
        raise UserError(
            f"snapshot {request.name} needs boilerplate_documents of 2 or more and a boilerplate_share from 0 to 1"
        )
    sites = [_site(entry, request) for entry in chosen["sites"]]
    if not sites or len({site.host for site in sites}) < len(sites):
        raise UserError(f"snapshot {request.name} needs `sites`, each host once")
    return sites, chosen


def _site(entry: Any, request: Request) -> _Site:
    where = f"a site of snapshot {request.name}"
    if not isinstance(entry, dict) or not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", str(entry.get("host"))):
        raise UserError(f"{where} needs a host in lower case, such as {{host: example.org}}, not {entry!r}")
    where = f"site {entry['host']} of snapshot {request.name}"
    for name, value in entry.items():
        if name not in _SITE or not isinstance(value, _SITE[name]):
            raise UserError(f"{where} cannot have {name}: {value!r}; it takes {', '.join(_SITE)}")
    lists = [*entry.get("feeds", []), *entry.get("sitemaps", [])]
    for url in lists:
        if not isinstance(url, str) or not identity(url):
            raise UserError(f"{where} lists {url!r}, which is no http or https address; correct it")
    if not lists and not entry.get("cc_news"):
        raise UserError(f"{where} gives nothing to read; give it feeds, sitemaps or `cc_news: true`")
    try:
        license_ = canonical(entry["license"]) if "license" in entry else ""
    except InvalidLicenseExpression as error:
        raise UserError(
            f"{where} has license {entry['license']!r}, which is no SPDX expression; write one such as CC-BY-4.0"
        ) from error
    return _Site(
        host=entry["host"],
        feeds=tuple(entry.get("feeds", [])),
        sitemaps=tuple(entry.get("sitemaps", [])),
        license=license_,
        cc_news=entry.get("cc_news", False),
    )
