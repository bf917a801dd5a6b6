"""What a web page states about its own publication date: every statement, with its kind.

Kinds are `json-ld`, `meta`, `htmldate` (what its visible text says) and `url`; and `json-ld-modified` and
`meta-modified`, which prove nothing. Feeds and sitemaps add their own, see `collectors.pages.dates`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from htmldate import extractors, find_date
from lxml import etree
from lxml.html import HtmlElement

from collectors.document import DateEvidence

_LONGEST = 100  # characters of a value
_NOT_ITS_TEXT = ("meta", "link", "script", "style", "noscript", "aside", "nav", "footer", "a")
_PUBLISHED = frozenset(
    {
        "article:published",
        "article:published_time",
        "article_published_time",
        "bt:pubdate",
        "citation_online_date",
        "citation_publication_date",
        "cxenseparse:recs:publishtime",
        "date",
        "datepublished",
        "dc.date",
        "dc.date.issued",
        "dc.date.published",
        "dcterms.date",
        "dcterms.issued",
        "og:article:published_time",
        "og:published_time",
        "parsely-pub-date",
        "prism.publicationdate",
        "pubdate",
        "publication_date",
        "publicationdate",
        "publish-date",
        "publish_date",
        "publish_time",
        "publishdate",
        "published_at",
        "published_date",
        "published_time",
        "publisheddate",
        "rnews:datepublished",
        "sailthru.date",
    }
)
_MODIFIED = frozenset(
    {
        "article:modified_time",
        "article_modified_time",
        "datemodified",
        "dc.date.modified",
        "dcterms.modified",
        "last-modified",
        "lastmod",
        "modified_time",
        "og:article:modified_time",
        "og:updated_time",
    }
)

_DAY_IN_PATH = re.compile(r"(?<!\d)((?:19|20)\d\d)([-/_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_MONTH_IN_PATH = re.compile(r"/((?:19|20)\d\d)/(0[1-9]|1[0-2])(?=/)")


def date_evidence(
    tree: HtmlElement, articles: Sequence[Mapping[str, Any]], *, url: str, fetched: datetime
) -> tuple[DateEvidence, ...]:
    """Return everything that a page and its address state about its date, in a fixed order.

    Args:
        tree: the parsed page; left as it is.
        articles: the JSON-LD objects that describe it; none about comments or related pages.
        url: its address.
        fetched: when it was fetched: the text of a page is searched for no later date.
    """
    found = [*_in_json_ld(articles), *_in_meta(tree), *_in_text(tree, fetched), *_in_address(url)]
    return tuple(DateEvidence(kind=kind, value=value) for kind, value in dict.fromkeys(found))


def _in_json_ld(articles: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for node in articles:
        for name, kind in (("datePublished", "json-ld"), ("dateModified", "json-ld-modified")):
            if isinstance(value := node.get(name), str | int) and str(value).strip():
                # Escapes of JSON can name halves of characters.
                yield kind, str(value).strip()[:_LONGEST].encode("utf-8", "replace").decode()


def _in_meta(tree: HtmlElement) -> Iterator[tuple[str, str]]:
    for element in tree.iter("meta"):
        name = element.get("property") or element.get("name") or element.get("itemprop") or ""
        value = (element.get("content") or "").strip()[:_LONGEST]
        if value and name.lower() in _PUBLISHED:
            yield "meta", value
        elif value and name.lower() in _MODIFIED:
            yield "meta-modified", value


def _in_text(tree: HtmlElement, fetched: datetime) -> Iterator[tuple[str, str]]:
    """Yield the date that a reader of the page would find.

    The page is searched without its meta elements and scripts: those are kinds of their own, and one
    string read twice is no second evidence. Side matter and links go too, for their dates are those of
    other pages.
    """
    body = deepcopy(tree)
    etree.strip_elements(body, *_NOT_ITS_TEXT, with_tail=False)
    latest = (fetched + timedelta(days=1)).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    # The extensive search guesses: a copyright year becomes the first of January.
    if found := find_date(body, extensive_search=False, original_date=True, url="", max_date=latest):
        yield "htmldate", found


def _unless_partial(string: str, **options: Any) -> datetime:
    """Parse as dateutil does, but raise ValueError where it would complete a date from the clock."""
    readings = {_dateutil(string, default=default, **options) for default in _DEFAULTS}
    if len(readings) > 1:
        raise ValueError(string)
    return readings.pop()


_DEFAULTS = (datetime(2000, 1, 1), datetime(2003, 2, 2))  # noqa: DTZ001  naive, as dateutil wants them
# There is no option for it: htmldate completes "March 2024" with today's day, and extraction must not know today.
_dateutil: Callable[..., datetime] = vars(extractors)["dateutil_parse"]
vars(extractors)["dateutil_parse"] = _unless_partial


def _in_address(url: str) -> Iterator[tuple[str, str]]:
    path = urlsplit(url).path
    if found := _DAY_IN_PATH.search(path):
        yield "url", f"{found[1]}-{found[3]}-{found[4]}"
    elif found := _MONTH_IN_PATH.search(path):
        yield "url", f"{found[1]}-{found[2]}"
