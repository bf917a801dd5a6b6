"""Web pages: text, metadata and evidence from bytes that strangers wrote."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.pages import extraction as pages
from collectors.pages.encoding import decode
from collectors.pages.extraction import Engine, Extracted, Page, extract, extractor, texts

FETCHED = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENGINES: tuple[Engine, ...] = ("trafilatura", "resiliparse")
PARAGRAPHS = [
    "The harbour of Tarnow was closed on Monday after a crane had fallen into the water near the old pier.",
    "Nobody was hurt, said the harbour master, who had watched the accident from the window of her office.",
    "Engineers expect to lift the crane before the end of the week, if the wind allows them to work at all.",
    "Until then ferries leave from the northern quay, ten minutes on foot from the station of the tramway.",
]


def html(*, head: str = "", body: str = "", paragraphs: list[str] = PARAGRAPHS, root: str = "") -> str:
    """Return a small news page."""
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f"<!DOCTYPE html><html {root}><head><title>Crane | News</title>{head}</head><body>"
        f'<nav><ul><li><a href="/">Home</a></li><li><a href="/sport">Sport</a></li></ul></nav>'
        f"<main><article><h1>Crane falls</h1>{text}</article></main>{body}</body></html>"
    )


def page(source: str | bytes, media_type: str = "text/html; charset=utf-8") -> Page:
    """Return a fetched page."""
    payload = source.encode() if isinstance(source, str) else source
    return Page(
        url="https://news.example/2026/11/14/crane", payload=payload, media_type=media_type, fetched=FETCHED
    )


def ld(**facts: Any) -> str:
    """Return a JSON-LD script about an article."""
    return f'<script type="application/ld+json">{json.dumps({"@type": "NewsArticle", **facts})}</script>'


@pytest.mark.parametrize("engine", ENGINES)
def test_the_text_of_an_article_without_what_surrounds_it(engine: Engine) -> None:
    """Its paragraphs, a line each, and neither navigation nor footer."""
    found = extract(page(html(body="<footer>All rights reserved by everybody.</footer>")), engine=engine)
    lines = [line for line in found.text.split("\n") if line]
    assert lines[-4:] == PARAGRAPHS
    assert "Sport" not in found.text
    assert "rights" not in found.text
    assert found.reason == ""
    assert extractor(engine).startswith(f"{engine}/")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_page_gives_the_same_text_each_time(engine: Engine) -> None:
    """Nothing is remembered from one page to the next, in one worker or several."""
    same = [page(html())] * 6
    results = list(texts(same, engine=engine, workers=2))
    assert results == [extract(same[0], engine=engine)] * 6


@pytest.mark.parametrize("engine", ENGINES)
def test_markup_written_as_text_stays_text(engine: Engine) -> None:
    """Escaped markup is what an author wrote about, and is neither run nor removed."""
    written = "Write &lt;script&gt;alert(1)&lt;/script&gt; into a page to see what a browser does with it."
    found = extract(page(html(paragraphs=[*PARAGRAPHS, written])), engine=engine)
    assert "Write <script>alert(1)</script> into a page" in found.text


@pytest.mark.parametrize("engine", ENGINES)
def test_scripts_and_comments_are_no_text(engine: Engine) -> None:
    """What a reader does not see is not extracted."""
    hidden = "<script>var secret = 'hidden words here';</script><!-- hidden words here -->"
    assert "hidden words" not in extract(page(html(body=hidden, head=hidden)), engine=engine).text


def test_text_is_normalised() -> None:
    """NFC, line feeds only, whatever the page used."""
    found = extract(page(html(paragraphs=[*PARAGRAPHS, "cafe\u0301 in\r\nTarnow, " * 8])))
    assert "café" in found.text
    assert "\r" not in found.text


RUSSIAN = "Кран упал в воду у старого причала в понедельник утром. " * 4
POLISH = "Żuraw runął do wody przy starym nabrzeżu w poniedziałek rano, gdy wiał silny wiatr. " * 4


@pytest.mark.parametrize(
    ("text", "encoding", "header", "meta"),
    [
        (POLISH, "utf-8", "utf-8", ""),
        (POLISH, "utf-8", "iso-8859-1", ""),  # the server's default
        (POLISH, "utf-8", "", "windows-1250"),
        (POLISH, "utf-8-sig", "iso-8859-1", ""),
        (POLISH, "utf-16", "utf-8", ""),
        (POLISH, "iso-8859-2", "iso-8859-2", ""),
        (POLISH, "iso-8859-2", "utf-8", "iso-8859-2"),
        (RUSSIAN, "cp1251", "utf-8", "windows-1251"),
        (RUSSIAN, "cp1251", "utf-8", ""),  # nothing true is declared
        (RUSSIAN, "koi8-r", "no-such-charset", ""),
        ("事故は月曜日の朝に古い桟橋の近くで起きた。" * 4, "shift_jis", "", "Shift_JIS"),
        ("事故は月曜日の朝に古い桟橋の近くで起きた。" * 4, "euc_jp", "utf-8", ""),
        ("事故は月曜日の朝に古い桟橋の近くで起きた。" * 4, "iso2022_jp", "iso-2022-jp", ""),
        ("“Quoted” – with a dash… " * 4, "cp1252", "iso-8859-1", ""),  # as browsers read it
    ],
)
def test_the_encoding_is_found_though_a_wrong_one_is_declared(
    text: str, encoding: str, header: str, meta: str
) -> None:
    """Bytes decide over what the server and the page say."""
    source = html(head=f'<meta charset="{meta}">' if meta else "", paragraphs=[text])
    read, _ = decode(source.encode(encoding), f"text/html; charset={header}" if header else "")
    assert read == source


def test_a_few_broken_bytes_do_not_change_the_encoding() -> None:
    """A page cut in the middle of a character is still UTF-8."""
    read, encoding = decode(
        POLISH.encode()[:-1].replace("ó".encode(), b"\xff") + b"\xc5", "text/html; charset=utf-8"
    )
    assert encoding == "utf-8"
    assert read.startswith("Żuraw runął do wody")


@given(
    st.binary(max_size=300), st.sampled_from(["", "utf-8", "utf-16", "iso-8859-1", "shift_jis", "x", "utf-7"])
)
def test_any_bytes_are_read_as_something(payload: bytes, charset: str) -> None:
    """No bytes and no declaration raise, and what is read can be written."""
    read, _ = decode(payload, f"text/html; charset={charset}")
    read.encode("utf-8")


@pytest.mark.parametrize(
    "payload", [b"", b" \n", b"just words", b"%PDF-1.7 \xff\xfe\x00", b"\x00" * 50, b'{"a": 1}']
)
def test_what_is_no_page_is_said_so(payload: bytes) -> None:
    """Empty answers and other formats give no text, and a reason."""
    assert extract(page(payload)).reason == "not-html"


def test_a_page_without_text_is_said_so() -> None:
    """Its metadata is kept all the same."""
    found = extract(page("<html><head><title>Nothing</title></head><body><img src=x></body></html>"))
    assert (found.text, found.title, found.reason) == ("", "Nothing", "no-text")


def test_pages_beyond_bounds_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes, too many elements, too deep a nest."""
    assert extract(page(b"<p>" + b" " * pages.MAX_BYTES)).reason == "too-large"
    assert extract(page("<div>" * 5_000 + "text")).reason == "too-deep"
    assert extract(page("<table><tr><td>" * 1_000 + "text")).reason == "too-deep"
    monkeypatch.setattr(pages, "MAX_ELEMENTS", 50)
    assert extract(page("<p>text</p>" * 60)).reason == "too-large"


def test_nested_tables_end() -> None:
    """Tables in tables, as deep as is let in: the next page is read as always."""
    cell = "<table><tr><td>" + "some words in a cell " * 50
    bomb, after = texts([page(f"<html><body>{cell * 60}</body></html>"), page(html())])
    assert bomb.reason in ("", "no-text", "time-limit", "memory-limit", "crash", "too-deep")
    assert after.text


def test_metadata_is_what_the_page_states() -> None:
    """Structured statements come before those for social media, these before what is printed."""
    found = extract(
        page(
            html(
                root='lang="en-GB"',
                head=ld(
                    headline="A crane &amp; a harbour",
                    author=[{"name": "Ada  B."}, {"name": "Eve"}, "Ada B."],
                )
                + '<meta property="og:title" content="Other"><link rel="canonical" href="/crane?x=1">',
            )
        )
    )
    assert found.title == "A crane & a harbour"
    assert found.authors == ("Ada B.", "Eve")
    assert found.canonical == "https://news.example/crane?x=1"
    assert not found.paywalled
    plain = extract(page(html(head='<meta name="author" content="Eve">')))
    assert (plain.title, plain.authors, plain.canonical) == ("Crane falls", ("Eve",), "")


@pytest.mark.parametrize("stray", ["\x01", "\ufffe", "&#x1;", "&#31;", "&#xFFFE;", "&#65535;", "\0", "&#0;"])
def test_a_control_character_costs_no_page(stray: str) -> None:
    """It goes; what only begins like its reference stays."""
    found = extract(
        page(html(paragraphs=[*PARAGRAPHS, f"A st{stray}ray &#167;&#x1F6A2; mark &#10004; in the text."]))
    )
    assert found.text.endswith("A stray §🚢 mark ✔ in the text.")


def test_halves_of_characters_are_replaced() -> None:
    r"""JSON can name them, as \ud800; no file can hold them."""
    half = json.loads('"\\ud800"')
    node = {
        "headline": f"A{half}",
        "author": f"B{half}",
        "datePublished": half,
        "license": f"https://l.example/{half}",
    }
    found = extract(page(html(head=ld(**node))))
    assert (found.title, found.authors, found.license_url) == ("A?", ("B?",), "https://l.example/")
    assert ("json-ld", "?") in [(item.kind, item.value) for item in found.dates]


def test_a_script_in_a_heading_is_no_title() -> None:
    """Nor are styles."""
    heading = "<h1><script>track()</script>Crane <i>falls</i><style>i {}</style></h1>"
    assert extract(page(f"<html><body>{heading}<p>Words.</p></body></html>")).title == "Crane falls"


@pytest.mark.parametrize(
    "script",
    [
        "{",
        "[" * 100_000,
        " " * 1_000_000 + "{" + " " * 1_000_000 + "x",
        "null",
        "[[], 3]",
        '{"@graph": 7}',
        '{"@type": {"a": []}}',
        "//",
    ],
)
def test_broken_json_ld_is_passed_over(script: str) -> None:
    """A page with it is read as if it had none."""
    broken = f'<script type="application/ld+json">{script}</script>'
    assert extract(page(html(head=broken))) == extract(page(html()))


@pytest.mark.parametrize(
    "wrap", ["<!--\n{}\n-->", "//<![CDATA[\n{}\n//]]>", "{};", "[{}]", '{{"@graph": [{}]}}']
)
def test_json_ld_is_read_however_it_is_wrapped(wrap: str) -> None:
    """Publishing systems wrap it in comments, lists and graphs."""
    script = wrap.format('{"@type": ["Thing", "NewsArticle"], "headline": "Line\nbreak"}')
    head = f'<script type="application/ld+json">{script}</script>'
    assert extract(page(html(head=head))).title == "Line break"


@pytest.mark.parametrize(
    ("value", "paywalled"),
    [
        (False, True),
        ("False", True),
        ("http://schema.org/False", True),
        (True, False),
        ("true", False),
        (None, False),
    ],
)
def test_a_paywall_is_what_the_page_states(value: object, paywalled: bool) -> None:
    """In any of the ways in which pages write false."""
    assert extract(page(html(head=ld(isAccessibleForFree=value)))).paywalled == paywalled


BY = "https://creativecommons.org/licenses/by/4.0/"
SA = "https://creativecommons.org/licenses/by-sa/4.0/"


@pytest.mark.parametrize(
    ("head", "body", "license_url", "evidence"),
    [
        (ld(license=BY), f'<footer><a href="{SA}">CC</a></footer>', BY, "json-ld"),
        (ld(license={"@id": BY}), "", BY, "json-ld"),
        (f'<link rel="license" href="{BY}">', "", BY, "rel=license"),
        (
            "",
            '<a rel="nofollow license" href="/terms">Terms</a>',
            "https://news.example/terms",
            "rel=license",
        ),
        ("", f'<div class="site-footer"><p><a href="{BY}">CC BY</a></p></div>', BY, "footer"),
        ("", f'<figure><a rel="license" href="{BY}">Photo</a></figure>', "", ""),
        ("", f'<p>Photo: <a href="{BY}">CC BY</a></p>', "", ""),
        ("", f'<footer><a href="{BY}">CC BY</a> <a href="{SA}">CC BY-SA</a></footer>', "", ""),
        ("", f'<footer><a href="{BY}">CC BY</a> <a href="{BY}">here</a></footer>', BY, "footer"),
        ("", '<footer><a href="https://creativecommons.org/about">CC</a></footer>', "", ""),
        ('<link rel="license" href="javascript:alert(1)">', "", "", ""),
        ('<link rel="license" href="https://[">', "", "", ""),
    ],
)
def test_a_licence_is_one_link_about_the_page(head: str, body: str, license_url: str, evidence: str) -> None:
    """Pictures' licences, several licences and links that are none give nothing."""
    found = extract(page(html(head=head, body=body)))
    assert (found.license_url, found.license_evidence) == (license_url, evidence)


def dates(head: str = "", body: str = "") -> list[tuple[str, str]]:
    """Return the evidence of a page, that of its address left out."""
    found = extract(page(html(head=head, body=body)))
    return [(item.kind, item.value) for item in found.dates if item.kind != "url"]


def test_dates_are_kept_with_their_kind() -> None:
    """Everything that states when the page was published or changed."""
    head = ld(datePublished="2026-11-14T12:00:00Z", dateModified="2026-11-15") + (
        '<meta property="article:published_time" content="2026-11-14T12:00:00Z">'
        '<meta property="article:modified_time" content="2026-11-16">'
        '<meta itemprop="datePublished" content="2026-11-14">'
    )
    assert dates(head, '<time datetime="2026-11-13">13 November</time>') == [
        ("json-ld", "2026-11-14T12:00:00Z"),
        ("json-ld-modified", "2026-11-15"),
        ("meta", "2026-11-14T12:00:00Z"),
        ("meta-modified", "2026-11-16"),
        ("meta", "2026-11-14"),
        ("htmldate", "2026-11-13"),
    ]


def test_one_string_is_not_two_kinds() -> None:
    """What meta elements and scripts state is not found again in the text."""
    head = ld(datePublished="2026-11-14") + '<meta property="article:published_time" content="2026-11-14">'
    assert [kind for kind, _ in dates(head)] == ["json-ld", "meta"]


@pytest.mark.parametrize("place", ["aside", "nav", "footer", "a href='/other'"])
def test_dates_of_other_pages_are_no_evidence(place: str) -> None:
    """Teasers, side matter and links speak of other pages."""
    name = place.partition(" ")[0]
    assert dates(body=f'<{place}><time datetime="2019-03-04">4 March 2019</time></{name}>') == []


def test_only_what_the_page_is_about_dates_it() -> None:
    """Comments, images and related articles in JSON-LD have dates of their own."""
    other = {"@type": "NewsArticle", "datePublished": "2019-03-04"}
    about = {"@type": "Article", "datePublished": "2026-11-14"}
    assert dates(ld(comment=[other], image=other, isPartOf=other, mentions=[other])) == []
    page_and_article = ld(**{"@type": "WebPage", "datePublished": "2026-01-01", "mainEntity": about})
    assert dates(page_and_article) == [("json-ld", "2026-11-14")]
    assert dates(ld(**{"@type": "WebPage", "datePublished": "2026-11-14"})) == [("json-ld", "2026-11-14")]
    assert dates(ld(**{"@type": "ImageObject", "datePublished": "2026-11-14"})) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/2026/11/14/crane", "2026-11-14"),
        ("/news/2026-11-14-crane.html", "2026-11-14"),
        ("/crane-20261114.html", "2026-11-14"),
        ("/2026/11/crane", "2026-11"),
        ("/2026/13/14/crane", None),
        ("/crane-1202611145", None),
        ("/crane?date=2026-11-14", None),
    ],
)
def test_the_address_may_state_a_date(path: str, value: str | None) -> None:
    """A day in the path, or year and month; no longer number and no query."""
    given_page = Page(url=f"https://news.example{path}", payload=html().encode(), fetched=FETCHED)
    assert [item.value for item in extract(given_page).dates if item.kind == "url"] == (
        [value] if value else []
    )


@pytest.mark.parametrize("text", ["2026 12:30", "2026 Tuesday 10:00"])
def test_a_partial_date_is_not_completed_from_the_clock(text: str) -> None:
    """Extraction years later gives the same evidence."""
    assert dates(body=f'<time datetime="{text}">{text}</time>') == []


def test_a_page_that_breaks_extraction_costs_itself_alone() -> None:
    """An exception in a worker is a reason, whatever raised it."""
    unknown: Any = "lynx"
    assert list(texts([page(html())] * 2, engine=unknown)) == [Extracted(reason="unreadable")] * 2


@given(st.text(alphabet="<>/=\"'! -apbtdivrle\n&;#0", max_size=300))
def test_no_markup_breaks_extraction(source: str) -> None:
    """Whatever stands between angle brackets, there is an answer."""
    for engine in ENGINES:
        found = extract(page(source), engine=engine)
        assert bool(found.text) == (found.reason == "")
