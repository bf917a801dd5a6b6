"""Feeds and sitemaps: which articles a site lists, and when it says that it published them.

Everything here is pure and takes bytes from strangers. RSS, RDF and Atom are read by feedparser, which
mends what is not well-formed; sitemaps by the protocol of sitemaps.org with Google's news extension.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from time import struct_time
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import feedparser
from requests.exceptions import RequestException
from requests.utils import requote_uri

from collectors.pages import dates
from collectors.web.untrusted import HostileError, MalformedError, members, xml

MAX_BYTES = 50 << 20  # of a sitemap, by its protocol; feeds are smaller
MAX_MENDED_BYTES = 2 << 20  # of a feed that is not well-formed, which takes its time
MAX_ENTRIES = 50_000  # likewise
MAX_URL = 2_048  # characters, likewise
_GZIP = b"\x1f\x8b"
_PORTS = {"http": 80, "https": 443}
_TRACKING = re.compile(
    r"(?:utm|mtm|at|hsa)_\w+|pk_(?:campaign|kwd|keyword|source|medium|content|cid)|(?:fb|g|d|y|tt|tw)clid|"
    r"msclkid|[gw]braid|gclsrc|igshid|_hs\w+|_g[al]|mc_[ce]id|ns_(?:mchannel|source|campaign|linkname|fee)|"
    r"wt_(?:mc|zmc)|cmp|cmpid|ocid|msockid|__twitter_impression|ftag|smid|smtyp|soc_(?:src|trk)|traffic_source",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An article as a feed or a sitemap lists it.

    Attributes:
        url: its address, as `identity` gives it.
        published: UTC; what `raw_date` states, None where it states nothing that can be read.
        raw_date: the publication date as written, empty where there is none.
        kind: `feed` or `sitemap`.
        title: its headline, possibly empty.
        modified: UTC; when it last changed, so that an article without a date is known to be old.
    """

    url: str
    published: datetime | None
    raw_date: str
    kind: str
    title: str
    modified: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A sitemap that an index lists, and when it last changed."""

    url: str
    modified: datetime | None


def identity(url: str, base: str = "") -> str:
    """Return the address by which an article is known, or an empty string for what is no web address.

    It is absolute, http or https, quoted, and without fragment, default port, user name, and the
    parameters that only say where a reader came from.
    """
    try:
        parts = urlsplit(urljoin(base, re.sub(r"[\t\r\n]", "", url.strip())))
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        if not url.strip() or parts.scheme not in _PORTS or not host:
            return ""
        authority = f"[{host}]" if ":" in host else host
        if port and port != _PORTS[parts.scheme]:
            authority += f":{port}"
        pieces = [
            piece for piece in parts.query.split("&") if not _TRACKING.fullmatch(piece.partition("=")[0])
        ]
        known = requote_uri(urlunsplit((parts.scheme, authority, parts.path or "/", "&".join(pieces), "")))
    except (ValueError, RequestException):
        return ""
    return known if len(known) <= MAX_URL else ""


def site_of(url: str, hosts: Sequence[str]) -> str:
    """Return which of some hosts an address belongs to: equal or a parent domain, the nearest one."""
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
    return max((h for h in hosts if host == h or host.endswith(f".{h}")), key=len, default="")


def feed(payload: bytes, *, base: str, media_type: str = "") -> list[Entry]:
    """Return the entries of an RSS, RDF or Atom feed, in its order, well-formed or not.

    Args:
        payload: the feed.
        base: its address, for relative links.
        media_type: its Content-Type; its charset counts where the XML declares none.

    Raises:
        HostileError: when it declares entities, or is larger than what is mended.
        MalformedError: when nothing in it is a feed.
    """
    _refuse_entities(payload)
    # A stream, for feedparser takes bytes that happen to be a path for a file, and text for an address.
    try:
        parsed = feedparser.parse(
            BytesIO(payload),
            response_headers=_headers(payload, base, media_type),
            resolve_relative_uris=False,
            sanitize_html=False,
        )
    except (ValueError, OverflowError, LookupError, RecursionError) as error:
        # What it lets through for references to characters that there are none of.
        raise MalformedError(f"{base} holds a feed that cannot be mended: {error}") from error
    version = parsed.get("version", "")
    if not version and not parsed.entries:
        raise MalformedError(f"{base} holds no feed")
    atom = version.startswith("atom")
    return _distinct(_feed_entry(item, base, atom=atom) for item in parsed.entries)


def _refuse_entities(payload: bytes) -> None:
    try:
        xml(payload)
    except MalformedError:
        # Feedparser reads tag soup, too, whose declarations nothing has looked at.
        if len(payload) > MAX_MENDED_BYTES:
            raise HostileError(
                f"a broken feed of {len(payload):,} bytes, which is too much to mend"
            ) from None
        if re.search(rb"<!ENTITY", payload.replace(b"\0", b""), re.IGNORECASE):
            raise HostileError("a broken feed that declares entities") from None


def _headers(payload: bytes, base: str, media_type: str) -> dict[str, str]:
    """Return what feedparser is to know of the answer: it takes a server's charset before the XML's own."""
    wide = {b"\xff\xfe": "le", b"<\0": "le", b"\xfe\xff": "be", b"\0<": "be"}.get(payload[:2])
    if wide:
        media_type = f"application/xml; charset=utf-16{wide}"
    elif re.search(rb"<\?xml[^>]{0,100}encoding", payload[:200]):
        media_type = "application/xml"
    return {"content-location": base, "content-type": media_type}


def _feed_entry(item: Any, base: str, *, atom: bool) -> Entry:
    # `get` of these dictionaries falls back from one date to the other, with a warning.
    raw, parsed = dict.get(item, "published", ""), dict.get(item, "published_parsed")
    changed, changed_parsed = dict.get(item, "updated", ""), dict.get(item, "updated_parsed")
    if not raw and not atom:
        # Dublin Core's `date`, the only one that RSS 1.0 has. Atom's `updated` is that of any change.
        raw, parsed, changed, changed_parsed = changed, changed_parsed, "", None
    link = item.get("feedburner_origlink") or item.get("link") or ""
    return Entry(
        url=identity(str(link), base),
        published=_read(str(raw), parsed),
        raw_date=str(raw),
        kind="feed",
        title=" ".join(str(item.get("title", "")).split()),
        modified=_read(str(changed), changed_parsed),
    )


def _read(raw: str, parsed: struct_time | None = None) -> datetime | None:
    """Return the start of what a date states, UTC."""
    if moment := dates.parse(raw):
        return moment.stated
    # Feedparser reads more formats, in UTC, but makes 1 January of a truncated date.
    if not parsed or ":" not in raw or parsed.tm_year < 1:
        return None
    return datetime(*parsed[:5], min(parsed.tm_sec, 59), tzinfo=UTC)


def sitemap(payload: bytes, *, base: str) -> tuple[list[Entry], list[Child]]:
    """Return the articles of a sitemap and the sitemaps of a sitemap index, in its order.

    A `lastmod` says when a page changed, and is no publication date.

    Args:
        payload: XML, gzipped or not.
        base: its address.

    Raises:
        HostileError: when it declares entities or exceeds a bound.
        MalformedError: when it is damaged or no sitemap.
    """
    if payload.startswith(_GZIP):
        payload = b"".join(members(payload, max_bytes=MAX_BYTES, max_members=1).values())
    root = xml(payload)
    name = _local(root)
    if name == "sitemapindex":
        children = [Child(url=_location(node, base), modified=_read(_text(node, "lastmod"))) for node in root]
        return [], [child for child in children if child.url]
    if name != "urlset":
        raise MalformedError(f"{base} holds no sitemap but <{name}>")
    return _distinct(_sitemap_entry(node, base) for node in root), []


def _sitemap_entry(node: Any, base: str) -> Entry:
    news = next((child for child in node if _local(child) == "news"), ())
    raw = _text(news, "publication_date")
    return Entry(
        url=_location(node, base),
        published=_read(raw),
        raw_date=raw,
        kind="sitemap",
        title=" ".join(_text(news, "title").split()),
        modified=_read(_text(node, "lastmod")),
    )


def _location(node: Any, base: str) -> str:
    return identity(_text(node, "loc"), base)


def _text(node: Iterable[Any], name: str) -> str:
    """Return the text of a child by its local name: prefixes and even namespaces vary."""
    return next(((child.text or "").strip() for child in node if _local(child) == name), "")


def _local(node: Any) -> str:
    """Return an element's name without its namespace; of a comment, an empty string."""
    return str(node.tag).rpartition("}")[2] if isinstance(node.tag, str) else ""


def _distinct(entries: Iterator[Entry]) -> list[Entry]:
    """Return entries with an address, each statement once: two dates of one article are two statements."""
    return list({(entry.url, entry.raw_date): entry for entry in _first(entries) if entry.url}.values())


def _first(entries: Iterator[Entry]) -> Iterator[Entry]:
    for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
        yield entry
