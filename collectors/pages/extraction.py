"""Web pages: from the bytes of an HTML page to its text, and to what it says about itself.

Extraction is a function of the bytes, the address and the moment of fetching alone. `texts` runs it in
worker processes, which hostile or broken pages may kill without harm; so does everything that treats
many pages. Text comes from trafilatura, which finds article text best, or from resiliparse, which is
several times faster.
"""

import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import trafilatura
from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring
from resiliparse.extract.html2text import extract_plain_text

from collectors.document import DateEvidence, normalise
from collectors.pages import worker
from collectors.pages.date_evidence import date_evidence
from collectors.pages.encoding import decode

Engine = Literal["trafilatura", "resiliparse"]

MAX_BYTES = 10 << 20
MAX_ELEMENTS = 100_000
MAX_DEPTH = 250  # elements inside each other; libxml2 flattens what lies deeper than 256
_MAX_AUTHORS = 20
_LONGEST = 1_000  # characters of a title, a name, an address

# Top-level JSON-LD and these links lead to what a page is about; others to comments, images, related pages.
_ABOUT = ("@graph", "mainEntity", "mainEntityOfPage")
_POSTS = frozenset(
    {"BlogPosting", "LiveBlogPosting", "SocialMediaPosting", "DiscussionForumPosting", "Report"}
)

_CREATIVE_COMMONS = re.compile(
    r"^(?:https?:)?//(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/", re.IGNORECASE
)
# What XML has no place for, and trafilatura gives up a page for; as it stands, and as a reference to it.
_NO_CHARACTER = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
    "|&#0{0,9}(?:[0-8]|1[124-9]|2[0-9]|3[01]|6553[45])(?![0-9]);?"
    "|&#[xX]0{0,9}(?:[0-8bcefBCEF]|1[0-9a-fA-F]|[fF]{3}[eEfF])(?![0-9a-fA-F]);?"
)
_HTML = ("text/html", "application/xhtml+xml", "application/octet-stream")  # the last says nothing
_WRAPPING = re.compile(r"^(?:<!--|(?://)?\s{0,9}<!\[CDATA\[)|(?:-->|(?://)?\s{0,9}\]\]>|;)$")
_FOOTER = re.compile(r"foot|copyright|licen[cs]e|colophon|legal", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page as it was fetched.

    Attributes:
        url: the address that answered.
        payload: its bytes, without any content encoding.
        media_type: the whole Content-Type header; empty when there was none.
        fetched: UTC.
    """

    url: str
    payload: bytes
    media_type: str = ""
    fetched: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a page holds.

    Attributes:
        text: its main text, NFC, line feeds only; empty when there is a `reason`.
        title: its headline.
        authors: names, in the page's order.
        canonical: the address that it names as its own; empty when it names none.
        license_url: the licence that it links to as its own; empty when none, or when it names several.
        license_evidence: where that link was read: `json-ld`, `rel=license` or `footer`.
        paywalled: whether it states that its text is not free to read.
        dates: all evidence of when it was published, for `collectors.pages.dates.judge`.
        encoding: the character encoding that its bytes were read in.
        reason: empty, or why there is no text: `not-html`, `too-large`, `too-deep`, `no-text`,
            `time-limit`, `memory-limit`, `crash`, `unreadable`.
    """

    text: str = ""
    title: str = ""
    authors: tuple[str, ...] = ()
    canonical: str = ""
    license_url: str = ""
    license_evidence: str = ""
    paywalled: bool = False
    dates: tuple[DateEvidence, ...] = ()
    encoding: str = ""
    reason: str = ""


def extractor(engine: Engine = "trafilatura") -> str:
    """Return name and version of what makes the text, such as `trafilatura/2.3.1`."""
    return f"{engine}/{version(engine)}"


def texts(pages: Iterable[Page], *, engine: Engine = "trafilatura", workers: int = 1) -> Iterator[Extracted]:
    """Yield what each page holds, in the order of the pages, extracted in worker processes.

    Pages are taken as they are needed. One that kills its worker, or takes too long or too much
    memory, is yielded with the reason and nothing else.
    """
    for result in worker.run(partial(_facts, engine=engine), pages, workers=workers):
        if result.reason:
            yield Extracted(reason="unreadable" if result.reason == "error" else result.reason)
        else:
            yield _extracted(result.value)


def _facts(page: Page, engine: Engine) -> dict[str, Any]:
    return asdict(extract(page, engine=engine))


def _extracted(facts: dict[str, Any]) -> Extracted:
    facts["authors"] = tuple(facts["authors"])
    facts["dates"] = tuple(DateEvidence(**item) for item in facts["dates"])
    return Extracted(**facts)


def extract(page: Page, *, engine: Engine = "trafilatura") -> Extracted:
    """Return what a page holds, in this process: for one page that may be trusted, else use `texts`."""
    if len(page.payload) > MAX_BYTES:
        return Extracted(reason="too-large")
    stated = page.media_type.partition(";")[0].strip().lower()
    if stated and stated not in _HTML:
        return Extracted(reason="not-html")
    source, encoding = decode(page.payload, page.media_type)
    source = _NO_CHARACTER.sub(lambda found: " " if found[0] in "\v\f" else "", source)
    tree = _parsed(source)
    if tree is None:
        return Extracted(reason="not-html", encoding=encoding)
    if reason := _beyond_bounds(tree):
        return Extracted(reason=reason, encoding=encoding)
    nodes = list(_nodes(tree))
    articles = _articles(nodes)
    license_url, license_evidence = _license(tree, articles, page.url)
    facts: dict[str, Any] = {
        "title": _title(tree, articles),
        "authors": _authors(tree, articles),
        "canonical": _canonical(tree, page.url),
        "license_url": license_url,
        "license_evidence": license_evidence,
        "paywalled": any(_is_false(node.get("isAccessibleForFree")) for node in articles),
        "dates": date_evidence(tree, articles, url=page.url, fetched=page.fetched),
        "encoding": encoding,
    }
    text = _ENGINES[engine](tree, source)
    return Extracted(text=text, reason="" if text else "no-text", **facts)


def _parsed(source: str) -> HtmlElement | None:
    parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, collect_ids=False)
    try:
        tree = document_fromstring(source.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:
        return None
    return tree if "<" in source else None


def _beyond_bounds(tree: HtmlElement) -> str:
    depth = elements = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        elements += event == "start"
        if depth > MAX_DEPTH:
            return "too-deep"
        if elements > MAX_ELEMENTS:
            return "too-large"
    return ""


def _by_trafilatura(tree: HtmlElement, _: str) -> str:
    found = trafilatura.extract(tree, favor_precision=True, include_comments=False, deduplicate=False)
    return normalise(found or "").strip()


def _by_resiliparse(_: HtmlElement, source: str) -> str:
    found = extract_plain_text(
        source, main_content=True, list_bullets=False, alt_texts=False, comments=False, post_meta=False
    )
    return normalise(found).strip()


_ENGINES: dict[Engine, Callable[[HtmlElement, str], str]] = {
    "trafilatura": _by_trafilatura,
    "resiliparse": _by_resiliparse,
}


def _nodes(tree: HtmlElement) -> Iterator[Any]:
    """Yield the top-level JSON-LD objects; a script that cannot be read is passed over."""
    for script in tree.iter("script"):
        if (script.get("type") or "").strip().lower() != "application/ld+json":
            continue
        # Publishing systems wrap it for the sake of old browsers, or end it like a statement.
        text = _WRAPPING.sub("", (script.text or "").strip())
        try:
            found = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            continue
        yield from found if isinstance(found, list) else [found]


def _articles(nodes: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Return the nodes that describe what the page is: articles, or else the page itself."""
    about = list(_about(nodes))
    articles = [node for node, types in about if any(t.endswith("Article") or t in _POSTS for t in types)]
    return articles or [node for node, types in about if "WebPage" in types]


def _about(nodes: Iterable[Any], depth: int = 0) -> Iterator[tuple[Mapping[str, Any], list[str]]]:
    for node in nodes:
        if isinstance(node, dict):
            yield node, [t for t in _listed(node.get("@type")) if isinstance(t, str)]
            for name in _ABOUT if depth < 3 else ():
                yield from _about(_listed(node.get(name)), depth + 1)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_false(value: object) -> bool:
    return str(value).rpartition("/")[2].lower() == "false"


def _title(tree: HtmlElement, articles: Sequence[Mapping[str, Any]]) -> str:
    stated = [node.get("headline") or node.get("name") for node in articles]
    headings = tree.findall(".//h1")
    return next(
        filter(
            None,
            map(
                _clean,
                [
                    *stated,
                    *_meta(tree, "og:title"),
                    *([_visible(headings[0])] if len(headings) == 1 else []),
                    tree.findtext(".//title"),
                ],
            ),
        ),
        "",
    )


def _visible(element: HtmlElement) -> str:
    return "".join(element.xpath(".//text()[not(ancestor::script or ancestor::style)]"))


def _authors(tree: HtmlElement, articles: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    people = [person for node in articles for person in _listed(node.get("author"))]
    names = [_clean(person.get("name") if isinstance(person, dict) else person) for person in people]
    if not any(names):
        names = [_clean(name) for name in (*_meta(tree, "author"), *_meta(tree, "article:author"))]
    return tuple(dict.fromkeys(name for name in names if name and "://" not in name))[:_MAX_AUTHORS]


def _canonical(tree: HtmlElement, url: str) -> str:
    links = [link.get("href") for link in tree.iter("link") if _has_rel(link, "canonical")]
    return next(_addresses(links, url), "")


def _license(tree: HtmlElement, articles: Sequence[Mapping[str, Any]], url: str) -> tuple[str, str]:
    stated = [item for node in articles for item in _listed(node.get("license"))]
    places: dict[str, list[Any]] = {
        "json-ld": [
            item.get("@id") or item.get("url") if isinstance(item, dict) else item for item in stated
        ],
        "rel=license": [
            link.get("href")
            for link in tree.iter("a", "link")
            # A picture's licence is not the text's.
            if _has_rel(link, "license") and next(link.iterancestors("figure", "figcaption"), None) is None
        ],
        "footer": [
            link.get("href")
            for link in tree.iter("a")
            if _CREATIVE_COMMONS.search(link.get("href") or "") and _in_footer(link)
        ],
    }
    for evidence, links in places.items():
        found = set(_addresses(links, url))
        if found:
            return (found.pop(), evidence) if len(found) == 1 else ("", "")
    return "", ""


def _in_footer(element: HtmlElement) -> bool:
    return any(
        parent.tag == "footer" or _FOOTER.search(f"{parent.get('id')} {parent.get('class')}")
        for parent in element.iterancestors()
    )


def _has_rel(link: HtmlElement, value: str) -> bool:
    return value in (link.get("rel") or "").lower().split()


def _addresses(links: Iterable[Any], url: str) -> Iterator[str]:
    for link in links:
        try:
            address = urljoin(url, _clean(link))
            if isinstance(link, str) and urlsplit(address).scheme in ("http", "https"):
                yield address
        except ValueError:
            continue


def _meta(tree: HtmlElement, name: str) -> list[str]:
    return [
        element.get("content") or ""
        for element in tree.iter("meta")
        if name in (element.get(key, "").lower() for key in ("property", "name", "http-equiv"))
    ]


def _clean(value: object) -> str:
    if not isinstance(value, str):
        return ""
    # Escapes of JSON can name halves of characters.
    whole = html.unescape(value).encode("utf-8", "replace").decode()
    return " ".join(whole.split())[:_LONGEST]
