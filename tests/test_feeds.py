"""Feeds and sitemaps as sites really serve them, and as an attacker would."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.news import feeds
from collectors.news.feeds import Child, Entry, feed, identity, site_of, sitemap
from collectors.web.untrusted import HostileError, MalformedError

BASE = "https://news.example.org/feed.xml"
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def rss(*items: str, head: str = '<?xml version="1.0" encoding="utf-8"?>') -> bytes:
    """Return an RSS 2.0 feed of items."""
    inner = "".join(f"<item>{item}</item>" for item in items)
    return f'{head}<rss version="2.0"><channel><title>T</title>{inner}</channel></rss>'.encode()


def item(link: str = "https://news.example.org/a", date: str = "Mon, 02 Nov 2026 12:00:00 GMT") -> str:
    """Return what an RSS item holds."""
    return f"<title>A  title</title><link>{link}</link><pubDate>{date}</pubDate>"


def only(payload: bytes, media_type: str = "application/rss+xml") -> Entry:
    """Return the one entry of a feed."""
    (entry,) = feed(payload, base=BASE, media_type=media_type)
    return entry


def test_rss_gives_address_date_and_title() -> None:
    """The date in UTC and as written."""
    assert only(rss(item(date="Mon, 02 Nov 2026 14:00:00 +0200"))) == Entry(
        url="https://news.example.org/a",
        published=NOON,
        raw_date="Mon, 02 Nov 2026 14:00:00 +0200",
        kind="feed",
        title="A title",
    )


def test_atom_tells_published_from_updated() -> None:
    """An article that was only updated in the window was not published in it."""
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>A</title><link rel="edit" href="/edit"/>'
        '<link href="../a"/>{}<updated>2026-11-03T08:00:00Z</updated></entry></feed>'
    )
    both = only(atom.format("<published>2026-11-02T13:00:00+01:00</published>").encode())
    assert (both.url, both.published) == ("https://news.example.org/a", NOON)
    assert both.modified == datetime(2026, 11, 3, 8, tzinfo=UTC)
    updated = only(atom.format("").encode())
    assert (updated.published, updated.raw_date) == (None, "")
    assert updated.modified == datetime(2026, 11, 3, 8, tzinfo=UTC)


def test_rdf_has_the_date_of_dublin_core() -> None:
    """RSS 1.0 knows no other, and it is no date of a change."""
    rdf = (
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/"><item rdf:about="https://news.example.org/a">'
        b"<title>A</title><link>https://news.example.org/a</link><dc:date>2026-11-02T12:00:00Z</dc:date>"
        b"</item></rdf:RDF>"
    )
    assert (only(rdf).published, only(rdf).modified) == (NOON, None)


def test_old_rss_with_its_document_type_is_read() -> None:
    """RSS 0.91 names a DTD, which is never loaded."""
    head = (
        '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" '
        '"http://my.netscape.com/publish/formats/rss-0.91.dtd">'
    )
    assert only(rss(item(), head=head)).published == NOON


@pytest.mark.parametrize(
    "broken",
    [
        rss(item(), "<title>A & B</title><link>https://news.example.org/b</link>"),
        rss(item())[: -len("</channel></rss>")],
        b"\n\n" + rss(item()),
        rss(item()).replace(b"A  title", b"caf\xe9 &nbsp; na\xefve"),
    ],
    ids=["ampersand", "truncated", "blank start", "wrong bytes"],
)
def test_a_feed_that_is_not_well_formed_is_read(broken: bytes) -> None:
    """What feedparser mends is no reason to drop a feed."""
    assert feed(broken, base=BASE)[0].published == NOON


@pytest.mark.parametrize("reference", ["&#xD800;", "&#1114112;", f"&#{'9' * 5_000};"])
def test_a_broken_feed_that_refers_to_no_character_is_malformed(reference: str) -> None:
    """Feedparser raises whatever Python does."""
    broken = rss(item().replace("A  title", reference))[: -len("</channel></rss>")]
    with pytest.raises(MalformedError, match="cannot be mended"):
        feed(broken, base=BASE)


def test_the_declared_encoding_counts_before_that_of_the_server() -> None:
    """A server's default says less than what wrote the feed; without a declaration it is all there is."""
    latin = rss(item(), head="<?xml version='1.0' encoding='iso-8859-1'?>").replace(b"A  title", b"caf\xe9")
    assert only(latin, "text/xml; charset=utf-8").title == "café"
    assert (
        only(rss(item()).replace(b"A  title", "café".encode()), "text/xml; charset=iso-8859-1").title
        == "café"
    )
    bare = rss(item(), head="").replace(b"A  title", "мир".encode("windows-1251"))
    assert only(bare, "application/rss+xml; charset=windows-1251").title == "мир"
    assert only(rss(item(), head="").decode().encode("utf-16")).published == NOON


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("Mon, 02 Nov 26 12:00:00 GMT", NOON),
        ("2026-11-02T12:00:00Z", NOON),
        ("2026-11-02", datetime(2026, 11, 2, tzinfo=UTC)),
        ("Mon, 02 Nov 2026 07:00 EST", NOON),
        ("", None),
        ("2026", None),
        ("Mon, 02 Nov", None),
        ("yesterday", None),
        ("99999999999999999999", None),
        ("0000-00-00 00:00:00", None),
    ],
)
def test_odd_dates_are_kept_as_written_and_read_if_they_can_be(
    written: str, published: datetime | None
) -> None:
    """Two-digit years of RFC 822 and date-only stamps are read, half a date is not made a whole one."""
    entry = only(rss(item(date=written)))
    assert (entry.raw_date, entry.published) == (written, published)


def test_an_entry_without_a_date_or_title_is_an_entry() -> None:
    """Its page may still say when it was published."""
    entry = only(rss("<link>/a</link>"))
    assert (entry.url, entry.published, entry.raw_date, entry.title) == (
        "https://news.example.org/a",
        None,
        "",
        "",
    )


def test_entries_that_lead_nowhere_are_left_out() -> None:
    """Only http and https are addresses of articles; a permalink serves as one."""
    found = feed(
        rss(
            *(
                item(link)
                for link in ("javascript:alert(1)", "file:///etc/passwd", "mailto:a@example.org", "http://[")
            ),
            "<title>none</title>",
            "<guid>https://news.example.org/permalink</guid>",
        ),
        base=BASE,
    )
    assert [entry.url for entry in found] == ["https://news.example.org/permalink"]


def test_an_article_listed_twice_is_one_entry_unless_its_dates_differ() -> None:
    """Another date is other evidence."""
    other = "Tue, 03 Nov 2026 12:00:00 GMT"
    found = feed(rss(item(), item("https://news.example.org/a?utm_source=rss"), item(date=other)), base=BASE)
    assert [entry.raw_date for entry in found] == ["Mon, 02 Nov 2026 12:00:00 GMT", other]


def test_the_original_address_counts_behind_a_redirector() -> None:
    """Feed services list their own counting links, and the article's beside them."""
    payload = (
        b'<rss version="2.0" xmlns:feedburner="http://rssnamespace.org/feedburner/ext/1.0"><channel><item>'
        b"<link>https://feeds.example.net/~r/1</link>"
        b"<feedburner:origLink>https://news.example.org/a</feedburner:origLink></item></channel></rss>"
    )
    assert only(payload).url == "https://news.example.org/a"


BOMB = '<!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("tail", ["", "<broken"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_declared_entities_are_refused(tail: str, encoding: str) -> None:
    """Whether well-formed or not, and in any width of character."""
    payload = rss("<title>&b;</title><link>/a</link>", head=BOMB).decode() + tail
    with pytest.raises(HostileError):
        feed(payload.encode(encoding), base=BASE)


def test_a_broken_feed_beyond_the_bound_is_refused() -> None:
    """Mending takes more time and memory than parsing."""
    with pytest.raises(HostileError):
        feed(rss(item()) + b" " * feeds.MAX_MENDED_BYTES + b"<", base=BASE)


def test_bytes_that_name_a_file_are_not_opened(tmp_path: Path) -> None:
    """Feedparser would open a path, or an address, that it is given in place of a feed."""
    (tmp_path / "feed.xml").write_bytes(rss(item()))
    for payload in (str(tmp_path / "feed.xml").encode(), b"http://127.0.0.1:9/feed.xml"):
        with pytest.raises(MalformedError):
            feed(payload, base=BASE)


@pytest.mark.parametrize(
    "page", [b"", b"<html><body><p>Down for maintenance</p></body></html>", b"\x00\xff", b"{}"]
)
def test_what_is_no_feed_is_malformed(page: bytes) -> None:
    """An error page served with status 200 is not a feed that lists nothing."""
    with pytest.raises(MalformedError):
        feed(page, base=BASE)


def test_an_empty_feed_lists_nothing() -> None:
    """It is a feed all the same."""
    assert feed(rss(), base=BASE) == []


NEWS = (
    b'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:n="http://www.google.com/schemas/sitemap-news/0.9">'
    b"<!-- a comment --><url><loc> https://news.example.org/a?id=1&amp;utm_medium=x </loc>"
    b"<lastmod>2026-11-03</lastmod><n:news><n:publication><n:name>N</n:name><n:language>en</n:language>"
    b"</n:publication><n:publication_date>2026-11-02T12:00Z</n:publication_date><n:title>A title</n:title>"
    b"</n:news></url><url><loc>/b</loc><lastmod>2026-11-01T00:00:01+00:00</lastmod></url></urlset>"
)


@pytest.mark.parametrize("payload", [NEWS, gzip.compress(NEWS)], ids=["plain", "gzip"])
def test_a_news_sitemap_dates_its_articles(payload: bytes) -> None:
    """Whatever the prefix; `lastmod` alone is no date of publication."""
    entries, children = sitemap(payload, base=BASE)
    assert entries == [
        Entry(
            url="https://news.example.org/a?id=1",
            published=NOON,
            raw_date="2026-11-02T12:00Z",
            kind="sitemap",
            title="A title",
            modified=datetime(2026, 11, 3, tzinfo=UTC),
        ),
        Entry(
            url="https://news.example.org/b",
            published=None,
            raw_date="",
            kind="sitemap",
            title="",
            modified=datetime(2026, 11, 1, 0, 0, 1, tzinfo=UTC),
        ),
    ]
    assert children == []


def test_an_index_leads_to_sitemaps() -> None:
    """With when they last changed, where it says so."""
    payload = (
        b'<sitemapindex xmlns="http://www.google.com/schemas/sitemap/0.84"><sitemap><loc>/1.xml.gz</loc>'
        b"<lastmod>2026-11-02</lastmod></sitemap><sitemap><loc>ftp://news.example.org/2</loc></sitemap>"
        b"<sitemap><loc>https://news.example.org/3.xml</loc></sitemap></sitemapindex>"
    )
    assert sitemap(payload, base=BASE) == (
        [],
        [
            Child(url="https://news.example.org/1.xml.gz", modified=datetime(2026, 11, 2, tzinfo=UTC)),
            Child(url="https://news.example.org/3.xml", modified=None),
        ],
    )


def test_a_sitemap_lists_no_more_than_its_protocol_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after is not read."""
    monkeypatch.setattr(feeds, "MAX_ENTRIES", 2)
    inner = b"".join(b"<url><loc>/%d</loc></url>" % i for i in range(5))
    entries, _ = sitemap(b"<urlset>" + inner + b"</urlset>", base=BASE)
    assert [entry.url[-2:] for entry in entries] == ["/0", "/1"]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"<html/>", MalformedError),
        (NEWS[:-3], MalformedError),
        (gzip.compress(NEWS)[:-9], MalformedError),
        (NEWS.replace(b"<urlset", b'<!DOCTYPE x [<!ENTITY a "b">]><urlset', 1), HostileError),
        (gzip.compress(b" " * (feeds.MAX_BYTES + 1)), HostileError),
    ],
    ids=["html", "truncated", "truncated gzip", "entities", "gzip bomb"],
)
def test_a_bad_sitemap_is_refused(payload: bytes, error: type[Exception]) -> None:
    """Damage and attacks are told apart."""
    with pytest.raises(error):
        sitemap(payload, base=BASE)


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("HTTPS://News.Example.ORG:443", "https://news.example.org/"),
        ("/a/../b?x=1&utm_source=r&fbclid=2#part", "https://news.example.org/b?x=1"),
        ("//cdn.example.org:8443/a b", "https://cdn.example.org:8443/a%20b"),
        ("http://user:secret@example.org/?at_medium=RSS", "http://example.org/"),
        ("https://münchen.example/ö?q=a+b&cmp=1", "https://xn--mnchen-3ya.example/%C3%B6?q=a+b"),
        ("\thttps://example.org/a\n", "https://example.org/a"),
        ("https://example.org/?utmost=1&id=&b", "https://example.org/?utmost=1&id=&b"),
        ("data:text/html,x", ""),
        ("http://", ""),
        ("http://example.org:99999/", ""),
        ("http://example.org/" + "a" * 2_030, ""),
    ],
)
def test_identity_is_what_an_article_is_known_by(url: str, known: str) -> None:
    """Where a reader came from is no part of it, everything else is."""
    assert identity(url, BASE) == known


@given(
    st.text() | st.from_regex(r"https?://[a-zà-ü.]{1,9}(:[0-9]{1,5})?/[a-z%&=?#öutm_ ]{0,20}", fullmatch=True)
)
def test_identity_of_an_identity_is_itself(url: str) -> None:
    """So that what was stored can be compared with what is listed."""
    known = identity(url)
    assert identity(known) == known
    assert not known or known.startswith(("http://", "https://"))
    assert "#" not in known
    assert not any(c.isspace() for c in known)


def test_a_site_is_a_host_and_what_lies_below_it() -> None:
    """The nearest one counts, and a name that only ends alike is another site."""
    hosts = ["example.org", "news.example.org"]
    assert site_of("https://www.news.example.org/a", hosts) == "news.example.org"
    assert site_of("https://Example.org", hosts) == "example.org"
    assert site_of("https://notexample.org/", hosts) == ""
    assert site_of("https://[bad", hosts) == ""
