"""From feeds, sitemaps and CC-NEWS to dated, licensed articles, through a web on loopback."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from test_cc_news import archive, path, response, warc

from collectors.document import DateEvidence, Document, UserError
from collectors.news import source as news
from collectors.request import Request
from samples import InstantClock, collected
from world import Answer, Asked, World

HOST = "news.example"
FEED = f"https://{HOST}/feed.xml"
NINE = datetime(2026, 11, 1, 9, tzinfo=UTC)
BEFORE = datetime(2026, 10, 31, 23, tzinfo=UTC)
OPEN = datetime(2026, 11, 1, 12, tzinfo=UTC)
OLD = f"https://{HOST}/old"


def wanted(*sites: dict[str, Any], **fields: Any) -> Request:
    """Return a request for 1 November from some sites, a feed of `HOST` by default."""
    settings = {"sites": list(sites) or [{"host": HOST, "feeds": [FEED], "license": "CC-BY-4.0"}]}
    return Request(
        name="news-2026-11",
        source="news",
        content="news",
        since=datetime(2026, 11, 1, tzinfo=UTC),
        until=datetime(2026, 11, 2, tzinfo=UTC),
        settings={**settings, **fields.pop("settings", {})},
        **fields,
    )


def prose(number: int, sentences: int = 6) -> str:
    """Return paragraphs that no other number has."""
    return "\n".join(
        f"The council of town number {number} decided on Sunday that bridge {number}.{i} over the river will be "
        f"repaired before the winter, and that its cost of {number + i} million would be shared by everyone."
        for i in range(sentences)
    )


def html(
    text: str,
    *,
    title: str = "A headline",
    head: str = "",
    charset: str = "utf-8",
    **meta: str,
) -> bytes:
    """Return a page with an article in it."""
    metas = "".join(
        f'<meta property="{name.replace("_", ":", 1)}" content="{value}">' for name, value in meta.items()
    )
    paragraphs = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    return (
        f"<!DOCTYPE html><html lang='en'><head><title>{title}</title>{metas}{head}</head><body><nav>Menu</nav>"
        f"<article><h1>{title}</h1>{paragraphs}</article><footer>Legal</footer></body></html>"
    ).encode(charset)


def rss(*items: tuple[str, datetime | None]) -> Answer:
    """Return a feed of addresses and their dates; one of them is of the day before the window."""
    entries = "".join(
        f"<item><title>T</title><link>{url}</link>"
        + (f"<pubDate>{format_datetime(at)}</pubDate>" if at else "")
        + "</item>"
        for url, at in ((OLD, BEFORE), *items)
    )
    body = f"<?xml version='1.0'?><rss version='2.0'><channel>{entries}</channel></rss>".encode()
    return Answer(body=body, media_type="application/rss+xml")


def serve(world: World, names: Sequence[str], *, host: str = HOST, **page: Any) -> list[str]:
    """Put articles on the web, and return their addresses."""
    world.on(host, "/old", html(prose(99), article_published_time="2026-10-31T23:00:00Z"))
    for number, name in enumerate(names):
        world.on(host, f"/{name}", html(prose(number), **page))
    return [f"https://{host}/{name}" for name in names]


def kept(documents: Sequence[Document]) -> dict[str, Document]:
    """Return the documents that were not dropped, by the last part of their addresses."""
    return {d.url.rpartition("/")[2]: d for d in documents if not d.drop_reason}


def run(
    tmp_path: Path, world: World, request: Request, clock: InstantClock | None = None
) -> tuple[list[Document], tuple[str, ...]]:
    """Collect and extract; return the documents and the gaps."""
    snapshot, records = collected(tmp_path, world, request, news, clock)
    return list(news.extract(records, request, 1)), snapshot.gaps


def at(moment: datetime) -> InstantClock:
    """Return a clock that shows a moment."""
    return InstantClock(time=moment.timestamp())


def test_an_article_of_a_feed_is_a_document_with_its_proof(tmp_path: Path, world: World) -> None:
    """The address it names as its own, its date from two kinds of evidence, the licence of its site."""
    (url,) = serve(world, ["a"], article_published_time="2026-11-01T09:00:00+00:00")
    world.on(HOST, "/feed.xml", rss((f"{url}?utm_source=feed", NINE)))
    documents, gaps = run(tmp_path, world, wanted())
    old, document = documents if documents[0].url == OLD else documents[::-1]
    assert (document.source, document.native_id, document.version, document.url) == ("news", url, "1", url)
    assert document.text == "A headline\n" + prose(0)
    assert document.title == "A headline"
    assert (document.published, document.published_precision) == (NINE, "second")
    assert {DateEvidence(kind="feed", value="Sun, 01 Nov 2026 09:00:00 +0000")} < set(document.date_evidence)
    assert "meta" in {evidence.kind for evidence in document.date_evidence}
    assert (document.license, document.license_evidence, document.redistributable) == (
        "CC-BY-4.0",
        "declared",
        True,
    )
    assert document.language == "en"
    assert document.fetched == document.first_seen == datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert document.extractor.startswith("news/1 trafilatura/")
    assert document.metadata["site"] == HOST
    assert old.drop_reason == "before-window"
    assert gaps == ()


def test_each_article_is_fetched_once_over_the_rounds(tmp_path: Path, world: World) -> None:
    """New ones as they are listed; a feed that has not changed is not sent again."""
    a, b = serve(world, ["a", "b"])

    def unchanged(asked: Asked) -> Answer:
        assert asked.headers["if-none-match"] == '"1"'
        return Answer(status=304)

    first = replace(rss((a, NINE)), headers={"ETag": '"1"'})
    world.on(HOST, "/feed.xml", first, unchanged, rss((a, NINE), (b, OPEN)))
    for _ in range(2):
        with pytest.raises(UserError, match="its window is open"):
            run(tmp_path, world, wanted(), at(OPEN))
    documents, gaps = run(tmp_path, world, wanted())
    assert set(kept(documents)) == {"a", "b"}
    assert world.paths(HOST) == ["/feed.xml", "/old", "/a", "/feed.xml", "/feed.xml", "/b"]
    assert gaps == ()


def test_polls_without_overlap_are_a_gap(tmp_path: Path, world: World) -> None:
    """What was listed between them is not known."""
    a, b = serve(world, ["a", "b"])
    later = Answer(body=rss((b, OPEN)).body.replace(OLD.encode(), b"https://news.example/older"))
    world.on(HOST, "/feed.xml", rss((a, NINE)), later)
    with pytest.raises(UserError, match="its window is open"):
        run(tmp_path, world, wanted(), at(OPEN))
    documents, gaps = run(tmp_path, world, wanted())
    assert set(kept(documents)) == {"a", "b"}
    assert len(gaps) == 1
    assert "nothing in common" in gaps[0]


def test_a_first_poll_that_does_not_reach_back_is_a_gap(tmp_path: Path, world: World) -> None:
    """And so is a feed that does not say how far it reaches."""
    (a,) = serve(world, ["a"])
    world.on(
        HOST, "/feed.xml", Answer(body=rss((a, NINE)).body.replace(b"31 Oct 2026 23", b"01 Nov 2026 08"))
    )
    snapshot, _ = collected(tmp_path / "1", world, wanted(), news)
    assert "reached back to 2026-11-01 08:00" in snapshot.gaps[0]
    world.on(HOST, "/feed.xml", Answer(body=b"<rss version='2.0'><item><link>/a</link></item></rss>"))
    snapshot, _ = collected(tmp_path / "2", world, wanted(), news)
    assert "gives no dates" in snapshot.gaps[0]


def test_a_feed_that_is_down_is_tried_again_by_the_next_run(tmp_path: Path, world: World) -> None:
    """Nothing is finished without it, unless a person says so; other sites do not wait for it."""
    other = {"host": "other.example", "feeds": ["https://other.example/feed.xml"]}
    (a,), (b,) = serve(world, ["a"]), serve(world, ["b"], host="other.example")
    world.on(HOST, "/feed.xml", Answer(status=503))
    world.on("other.example", "/feed.xml", rss((b, NINE)))
    request = wanted(*wanted().settings["sites"], other)
    with pytest.raises(UserError, match=r"503.*run the same command again"):
        run(tmp_path, world, request)
    assert "/b" in world.paths("other.example")
    partial, gaps = run(tmp_path / "partial", world, replace(request, partial=True))
    assert set(kept(partial)) == {"b"}
    assert "503" in gaps[0]
    world.on(HOST, "/feed.xml", rss((a, NINE)))
    documents, gaps = run(tmp_path, world, request)
    assert set(kept(documents)) == {"a", "b"}
    assert gaps == ()
    assert world.paths("other.example").count("/b") == 2


def test_an_outage_that_the_next_poll_bridges_is_no_gap(tmp_path: Path, world: World) -> None:
    """A round without a feed is over; what counts is whether the polls around it meet."""
    a, b = serve(world, ["a", "b"])
    world.on(HOST, "/feed.xml", rss((a, NINE)), *[Answer(status=500)] * 6, rss((a, NINE), (b, OPEN)))
    for _ in range(2):
        with pytest.raises(UserError, match="its window is open"):
            run(tmp_path, world, wanted(), at(OPEN))
    documents, gaps = run(tmp_path, world, wanted())
    assert (set(kept(documents)), gaps) == ({"a", "b"}, ())


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(body=b"<html>Maintenance</html>")])
def test_a_feed_that_is_none_is_a_gap(answer: Answer, tmp_path: Path, world: World) -> None:
    """Its answer is kept, and asking again would not help."""
    (b,) = serve(world, ["b"], host="other.example")
    world.on(HOST, "/feed.xml", answer)
    world.on("other.example", "/feed.xml", rss((b, NINE)))
    other = {"host": "other.example", "feeds": ["https://other.example/feed.xml"]}
    documents, gaps = run(tmp_path, world, wanted(*wanted().settings["sites"], other))
    assert set(kept(documents)) == {"b"}
    assert len(gaps) == 1
    assert FEED in gaps[0]


def test_only_what_may_be_of_the_window_is_fetched(tmp_path: Path, world: World) -> None:
    """A day of slack, and whatever has no date that can be read; never another site."""
    new = serve(world, ["a", "undated", "ancient", "future"])
    day = [NINE, None, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 9, tzinfo=UTC)]
    world.on(HOST, "/feed.xml", rss(*zip(new, day, strict=True), ("https://elsewhere.example/x", NINE)))
    documents, _ = run(tmp_path, world, wanted())
    assert world.paths(HOST) == ["/feed.xml", "/old", "/a", "/undated"]
    assert world.paths("elsewhere.example") == []
    reasons = {d.url.rpartition("/")[2]: d.drop_reason for d in documents}
    assert reasons == {"a": "", "old": "before-window", "undated": "no-date-evidence"}


def test_what_robots_or_a_guard_forbids_is_left(tmp_path: Path, world: World) -> None:
    """A disallowed page is not asked for, a redirect to a private address not followed, a 404 an answer."""
    urls = serve(world, ["a", "private/b", "c"])
    world.on(HOST, "/robots.txt", Answer(body=b"User-agent: *\nDisallow: /private/", media_type="text/plain"))
    world.on(HOST, "/c", Answer(status=302, headers={"Location": "http://10.0.0.1/secret"}))
    world.on(HOST, "/feed.xml", rss(*((url, NINE) for url in [*urls, f"https://{HOST}/gone"])))
    documents, gaps = run(tmp_path, world, wanted())
    assert set(kept(documents)) == {"a"}
    assert "/private/b" not in world.paths(HOST)
    assert {asked.host for asked in world.asked} == {HOST}
    assert gaps == ()


def test_pages_of_sites_are_fetched_in_turn(tmp_path: Path, world: World) -> None:
    """So that nobody waits for one host while another could be asked."""
    sites = []
    for host in ("one.example", "two.example"):
        urls = serve(world, ["a", "b"], host=host)
        body = rss(*((url, NINE) for url in urls)).body.replace(HOST.encode(), host.encode())
        world.on(host, "/feed.xml", Answer(body=body))
        sites.append({"host": host, "feeds": [f"https://{host}/feed.xml"]})
    collected(tmp_path, world, wanted(*sites), news)
    order = [asked.host for asked in world.asked if asked.path in {"/a", "/b", "/old"}]
    assert order == ["one.example", "two.example"] * 3


SITEMAP = (
    "<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9' "
    "xmlns:news='http://www.google.com/schemas/sitemap-news/0.9'>{}</urlset>"
)


def test_a_tree_of_sitemaps_is_followed_on_its_own_host(tmp_path: Path, world: World) -> None:
    """Gzipped ones too; those that have not changed since before the window are left."""
    a, b = serve(world, ["a", "b"])
    index = (
        f"<sitemapindex><sitemap><loc>https://{HOST}/new.xml.gz</loc></sitemap>"
        f"<sitemap><loc>https://{HOST}/2019.xml</loc><lastmod>2019-12-31</lastmod></sitemap>"
        f"<sitemap><loc>https://{HOST}/gone.xml</loc></sitemap>"
        "<sitemap><loc>https://elsewhere.example/x.xml</loc></sitemap></sitemapindex>"
    )
    new = SITEMAP.format(
        f"<url><loc>{OLD}</loc><news:news><news:publication_date>2026-10-31T23:00:00Z</news:publication_date>"
        f"</news:news></url><url><loc>{a}</loc><news:news><news:publication_date>2026-11-01T09:00:00Z"
        f"</news:publication_date><news:title>T</news:title></news:news></url>"
        f"<url><loc>{b}</loc><lastmod>2020-01-01</lastmod></url>"
    )
    world.on(HOST, "/sitemap.xml", Answer(body=index.encode(), media_type="text/xml"))
    world.on(HOST, "/new.xml.gz", Answer(body=gzip.compress(new.encode()), media_type="application/gzip"))
    documents, gaps = run(
        tmp_path, world, wanted({"host": HOST, "sitemaps": [f"https://{HOST}/sitemap.xml"]})
    )
    assert world.paths(HOST) == ["/sitemap.xml", "/new.xml.gz", "/gone.xml", "/old", "/a"]
    document = kept(documents)["a"]
    assert (document.published, document.license, document.redistributable) == (NINE, "", False)
    assert DateEvidence(kind="sitemap", value="2026-11-01T09:00:00Z") in document.date_evidence
    assert gaps == (f"https://{HOST}/gone.xml answers 404",)


def test_sitemaps_that_list_each_other_are_read_once(tmp_path: Path, world: World) -> None:
    """However often they do."""
    (a,) = serve(world, ["a"])
    names = ["sitemap", "more", "last"]
    links = "".join(f"<sitemap><loc>https://{HOST}/{name}.xml</loc></sitemap>" for name in names)
    for name in names[:2]:
        index = f"<sitemapindex>{links * 300}</sitemapindex>"
        world.on(HOST, f"/{name}.xml", Answer(body=index.encode(), media_type="text/xml"))
    last = SITEMAP.format(f"<url><loc>{a}</loc></url>")
    world.on(HOST, "/last.xml", Answer(body=last.encode(), media_type="text/xml"))
    _, gaps = run(tmp_path, world, wanted({"host": HOST, "sitemaps": [f"https://{HOST}/sitemap.xml"]}))
    assert world.paths(HOST) == ["/sitemap.xml", "/more.xml", "/last.xml", "/a"]
    assert gaps == ()


def test_an_earlier_date_on_the_page_rejects_it(tmp_path: Path, world: World) -> None:
    """A feed that lists an old article anew does not make it new."""
    (a,) = serve(world, ["a"], article_published_time="2024-05-01T09:00:00Z")
    json_ld = {"@type": "NewsArticle", "datePublished": "2024-05-01T09:00:00Z"}
    head = f'<script type="application/ld+json">{json.dumps(json_ld)}</script>'
    world.on(HOST, "/a", html(prose(0), head=head, article_published_time="2024-05-01T09:00:00Z"))
    world.on(HOST, "/feed.xml", rss((a, NINE)))
    documents, _ = run(tmp_path, world, wanted())
    assert kept(documents) == {}


def test_a_page_in_a_wrongly_declared_encoding_is_read(tmp_path: Path, world: World) -> None:
    """The server says UTF-8, the bytes are windows-1252."""
    (a,) = serve(world, ["a"])
    text = prose(0).replace("winter", "café’s long hiver")
    page = html(text, charset="windows-1252", head="<meta charset='windows-1252'>")
    world.on(HOST, "/a", Answer(body=page, media_type="text/html; charset=utf-8"))
    world.on(HOST, "/feed.xml", rss((a, NINE)))
    documents, _ = run(tmp_path, world, wanted())
    assert "café’s long hiver" in kept(documents)["a"].text


def test_copies_of_an_article_are_one_document(tmp_path: Path, world: World) -> None:
    """AMP and print pages name the address of the article; what lists say of any copy counts for it."""
    a, amp, elsewhere = serve(world, ["a", "amp", "elsewhere"])
    world.on(HOST, "/amp", html(prose(0), head=f"<link rel='canonical' href='{a}?utm_source=amp'>"))
    world.on(
        HOST, "/elsewhere", html(prose(2), head="<link rel='canonical' href='https://agency.example/1'>")
    )
    world.on(HOST, "/feed.xml", rss((amp, NINE), (a, None), (elsewhere, NINE)))
    documents, _ = run(tmp_path, world, wanted())
    assert set(kept(documents)) == {"a", "elsewhere"}
    document = kept(documents)["a"]
    assert (document.metadata["copies"], document.published) == ("2", NINE)
    assert (document.native_id, document.version) == (a, "1")


@pytest.mark.parametrize(
    ("link", "license_", "redistributable"),
    [
        ("https://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0", False),
        ("https://creativecommons.org/licenses/by-sa/3.0/", "CC-BY-SA-3.0", True),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", True),
        ("https://creativecommons.org/licenses/by/3.0/igo/", "CC-BY-3.0-IGO", True),
        ("https://news.example/terms", "", False),
    ],
)
def test_a_licence_of_the_page_comes_before_that_of_the_site(
    link: str, license_: str, redistributable: bool, tmp_path: Path, world: World
) -> None:
    """A person declares what the terms of a site say; a page may say otherwise, known to us or not."""
    (a,) = serve(world, ["a"], head=f"<link rel='license' href='{link}'>")
    world.on(HOST, "/feed.xml", rss((a, NINE)))
    document = kept(run(tmp_path, world, wanted())[0])["a"]
    assert (document.license, document.redistributable) == (license_, redistributable)
    assert document.metadata["license_url"] == link
    assert document.license_evidence == "rel=license"


def test_what_is_not_free_or_has_no_text_is_dropped(tmp_path: Path, world: World) -> None:
    """With the reason, and never in silence."""
    a, b = serve(world, ["a", "b"])
    json_ld = {"@type": "NewsArticle", "isAccessibleForFree": False}
    world.on(
        HOST, "/a", html(prose(0), head=f'<script type="application/ld+json">{json.dumps(json_ld)}</script>')
    )
    world.on(HOST, "/b", Answer(body=b"%PDF-1.7 \x00\x01", media_type="application/pdf"))
    world.on(HOST, "/feed.xml", rss((a, NINE), (b, NINE)))
    documents, _ = run(tmp_path, world, wanted())
    reasons = {d.url: (d.drop_reason, d.metadata.get("extraction", "")) for d in documents}
    assert reasons[a] == ("paywall", "")
    assert reasons[b][0] == "unreadable"
    assert reasons[b][1]


def test_footers_go_and_what_names_people_is_masked(tmp_path: Path, world: World) -> None:
    """Both are counted, the masks in the text that is left."""
    names = ["a", "b", "c", "d"]
    urls = serve(world, names)
    footer = "Send your story ideas to stories@news.example or call us on 0800 496 0123."
    for number, name in enumerate(names):
        told = f"Write to {name}@news.example about it, says the mayor of town {number}."
        own = "\n".join((prose(number), told, prose(number + 50, 1), footer))
        world.on(HOST, f"/{name}", html(own, title=f"Bridges of town {number}"))
    world.on(HOST, "/feed.xml", rss(*((url, NINE) for url in urls)))
    documents, _ = run(tmp_path, world, wanted())
    for document in kept(documents).values():
        assert "story ideas" not in document.text
        assert "Write to <email> about it" in document.text
        assert document.metadata["boilerplate_lines"] == "1"
        assert document.metadata["masked_email"] == "1"
        assert "masked_phone" not in document.metadata


def test_cc_news_adds_what_the_feeds_missed(tmp_path: Path, world: World) -> None:
    """With the address and the moment of the crawl, which is no evidence of a date."""
    (a,) = serve(world, ["a"])
    world.on(HOST, "/feed.xml", rss((a, NINE)))
    stated = f"{NINE:%Y-%m-%dT%H:%M:%SZ}"
    json_ld = {"@type": "NewsArticle", "datePublished": stated}
    head = f'<script type="application/ld+json">{json.dumps(json_ld)}</script>'
    proven = html(prose(7), head=head, article_published_time=stated)
    crawled = [
        response(f"https://www.{HOST}/missed", proven, date="2026-11-01T11:00:00Z"),
        response(f"https://{HOST}/undated", html(prose(8)), date="2026-11-01T11:00:00Z"),
        response(a, html(prose(0)), date="2026-11-01T11:00:00Z"),
    ]
    files = {path(f"202611{day}0000"): b"" for day in ("0105", "0112", "0120")}
    archive(world, {name: warc(crawled if "0112" in name else []) for name in files})
    site = {"host": HOST, "feeds": [FEED], "cc_news": True}
    documents, gaps = run(tmp_path, world, wanted(site))
    assert set(kept(documents)) == {"a", "missed"}
    eleven = datetime(2026, 11, 1, 11, tzinfo=UTC)
    assert kept(documents)["missed"].fetched == eleven
    assert (kept(documents)["a"].metadata["copies"], kept(documents)["a"].fetched) == ("2", eleven)
    assert {d.drop_reason for d in documents if d.url.endswith("undated")} == {"no-date-evidence"}
    assert gaps == ("CC-NEWS was read on 2026-11-02, and adds pages of the window until 2026-11-05",)


def test_max_documents_stops_the_collection(tmp_path: Path, world: World) -> None:
    """And the snapshot says that it stopped."""
    urls = serve(world, ["a", "b", "c"])
    world.on(HOST, "/feed.xml", rss(*((url, NINE) for url in urls)))
    snapshot, _ = collected(tmp_path, world, wanted(max_documents=2), news)
    assert world.paths(HOST) == ["/feed.xml", "/old", "/a"]
    assert snapshot.gaps == ("stopped at max_documents = 2",)


def test_the_same_web_gives_the_same_snapshot_and_documents(tmp_path: Path, world: World) -> None:
    """Whatever the number of workers, and in whichever folder."""
    urls = serve(world, ["a", "b", "c"])
    world.on(HOST, "/feed.xml", rss(*((url, NINE) for url in urls)))
    one, records = collected(tmp_path / "1", world, wanted(), news)
    two, _ = collected(tmp_path / "2", world, wanted(), news)
    assert one.shards == two.shards
    alone = list(news.extract(records, wanted(), 1))
    assert alone == list(news.extract(iter(records), wanted(), 2))
    assert alone == sorted(alone, key=lambda d: d.url)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": []}, "needs `sites`"),
        ({"sites": [{"host": HOST, "feeds": [FEED]}] * 2}, "each host once"),
        ({"sites": ["news.example"]}, "needs a host"),
        ({"sites": [{"host": "News.Example/", "feeds": [FEED]}]}, "needs a host"),
        ({"sites": [{"host": HOST, "feed": FEED}]}, "cannot have feed"),
        ({"sites": [{"host": HOST, "feeds": FEED}]}, "cannot have feeds"),
        ({"sites": [{"host": HOST, "feeds": ["ftp://news.example/feed"]}]}, "no http or https address"),
        ({"sites": [{"host": HOST}]}, "gives nothing to read"),
        ({"sites": [{"host": HOST, "feeds": [FEED], "license": "free"}]}, "no SPDX expression"),
        ({"engine": "magic"}, "engine 'magic'"),
        ({"boilerplate_documents": 1}, "boilerplate_documents of 2 or more"),
        ({"boilerplate_share": 2.0}, "boilerplate_share from 0 to 1"),
        ({"languages": ["en"]}, "unknown to source news"),
    ],
)
def test_wrong_settings_are_named(
    settings: dict[str, Any], message: str, tmp_path: Path, world: World
) -> None:
    """Before anything is asked."""
    with pytest.raises(UserError, match=message):
        collected(tmp_path, world, wanted(settings=settings), news)
    assert world.asked == []


def test_the_sites_of_a_first_look_are_valid() -> None:
    """A snapshot without settings takes them."""
    assert list(news.extract([], replace(wanted(), settings={}), 1)) == []
