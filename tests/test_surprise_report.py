"""How surprising a model found a text: shades, what cannot be seen made visible, and the page in a real browser."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser
from test_ladder_report import PIECES, compressed, inputs, part, passage, plant, table
from test_report import HOSTILE, NAMES, Tags, browser, opened, words, write_inputs  # noqa: F401  a fixture

from evaluate.passage_cells import Piece
from evaluate.report import page, surprise, svg

BIDI = "\u202e\u2066\u200f\ufeff\u200b\x00\x1b\x7f\x85\u2028\ue000"
TEXT = f"<script>alert(1)</script> {{{{ 7*7 }}}} \"' onload=x &amp; {BIDI}\n\tend"


class Passages(HTMLParser):
    """Collects title and text of each piece of a passage, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[tuple[str, str]] = []
        self.inside = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a piece."""
        title = dict(attrs).get("title") or ""
        self.inside = (tag == "span" and "bits" in title) or (self.inside and tag == "i")
        if tag == "span" and "bits" in title:
            self.pieces.append((title, ""))

    def handle_endtag(self, tag: str) -> None:
        """End a piece."""
        self.inside = self.inside and tag != "span"

    def handle_data(self, data: str) -> None:
        """Keep its text."""
        if self.inside:
            title, text = self.pieces[-1]
            self.pieces[-1] = (title, text + data)


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb`, by the definition of WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, by the definition of WCAG 2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("palette", "shades", "sign"), [(svg.LIGHT, surprise.LIGHT, -1), (svg.DARK, surprise.DARK, 1)]
)
def test_shades_leave_the_paper_step_by_step_and_text_legible(
    palette: dict[str, str], shades: tuple[str, ...], sign: int
) -> None:
    """Ordered from the paper on, and every one with a contrast of 4.5 or more to the ink."""
    course = [luminance(colour) for colour in (palette["paper"], *shades)]
    assert len(shades) == len(surprise.STEPS)
    assert course == sorted(course, reverse=sign < 0)
    assert all(contrast(palette["ink"], colour) >= 4.5 for colour in shades)
    assert all(contrast(one, other) > 1.05 for one, other in pairwise(shades))


@pytest.mark.parametrize(
    ("text", "bits", "level"),
    [
        ("a", 0.0, 0),
        ("a", 0.2499, 0),
        ("a", 0.25, 1),
        ("ab", 1.0, 2),
        ("a", 7.9, 5),
        ("a", 8.0, 6),
        ("a", 99.0, 6),
    ],
)
def test_a_piece_is_shaded_by_its_bits_per_character(text: str, bits: float, level: int) -> None:
    """A step begins at its bound, and the last has no end."""
    assert surprise.shade(Piece(text=text, bits=bits)) == level


def test_the_legend_names_every_shade() -> None:
    """From below the first bound to beyond the last."""
    assert surprise.legend() == [
        (0, "below 0.25"),
        (1, "0.25 to 0.5"),
        (2, "0.5 to 1"),
        (3, "1 to 2"),
        (4, "2 to 4"),
        (5, "4 to 8"),
        (6, "8 or more"),
    ]


def test_half_of_the_bits_by_hand() -> None:
    """One dear character of four has more than half; equal ones need half of them; without bits there is none."""
    assert surprise.half([Piece(text="abc", bits=3.0), Piece(text="d", bits=4.0)]) == 0.25
    assert surprise.half([Piece(text=c, bits=1.0) for c in "abcd"]) == 0.5
    assert surprise.half([Piece(text="ab", bits=0.0)]) == 0


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=9), st.floats(0, 50)), min_size=1, max_size=8))
def test_the_dearest_pieces_are_hardly_more_than_need_be(pieces: list[tuple[str, float]]) -> None:
    """Held against every set of pieces that has half of the bits: at most one piece more than the shortest."""
    cost = [(len(text), bits) for text, bits in pieces]
    total = sum(bits for _, bits in cost)
    found = surprise.half([Piece(text=text, bits=bits) for text, bits in pieces]) * sum(n for n, _ in cost)
    least = min(
        sum(cost[i][0] for i in range(len(cost)) if chosen >> i & 1)
        for chosen in range(1 << len(cost))
        if sum(cost[i][1] for i in range(len(cost)) if chosen >> i & 1) >= total / 2
    )
    assert found <= least + max(n for n, _ in cost) + 1e-9
    assert found >= least - 1e-9


def test_a_passage_is_shown_piece_by_piece(tmp_path: Path) -> None:
    """Each with its shade and bits; joined they are the passage, and what cost most stands in the table."""
    section = part(inputs(tmp_path, [passage("small"), compressed("xz", 70)]))
    assert (
        '<span class="s4" title="10.00 bits, 2.00 per character">to be</span>'
        '<span class="s3" title="4.00 bits, 1.33 per character"> or</span>'
        '<span class="s3" title="1.50 bits"><i aria-hidden="true">↵</i>\n</span></div>'
    ) in section
    assert "9 characters in 3 pieces for 16 bits, half of them for 56 % of the characters." in words(section)
    costliest = table(section, f"Costliest pieces for small-1b on {NAMES[0]}")
    assert " ".join(costliest.split()) == "to be 10.00 2.00 or to be 4.00 1.33 ↵ to be or 1.50 1.50"
    assert section.count('class="passage') == 1  # a compressor does not say where its bits went


def test_models_are_shown_one_at_a_time(tmp_path: Path) -> None:
    """Each unfolds by itself, the first is open, and opening one closes the other; no script takes part."""
    section = part(inputs(tmp_path, [passage("small"), passage("tiny")]))
    details = [attributes for tag, attributes in Tags(section).seen if tag == "details"]
    assert [(a["name"], "open" in a) for a in details] == [("surprise", True), ("surprise", False)]
    assert re.findall("<summary>(.*?)</summary>", section) == ["small-1b", "tiny-1b"]
    ids = [attributes["id"] for _, attributes in Tags(section).seen if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_hostile_passages_stay_text(tmp_path: Path) -> None:
    """Markup is shown as it was written; what turns or hides text is shown by its number, even in names."""
    pieces = [Piece(text=TEXT[:20], bits=3.0), Piece(text=TEXT[20:], bits=30.0)]
    data = inputs(
        tmp_path,
        [passage("small", pieces, title=HOSTILE, license=HOSTILE, document=HOSTILE, content=HOSTILE)],
    )
    whole = page.render(data)
    section = part(data)
    seen = Tags(whole).seen
    assert "script" not in {tag for tag, _ in seen}
    assert not [name for _, attributes in seen for name in attributes if name.startswith("on")]
    text = "".join(text for _, text in Passages(section).pieces)
    shown = "".join(f"[U+{ord(character):04X}]" for character in BIDI)
    assert text == TEXT.replace(BIDI, shown).replace("\n", "↵\n")
    passages = section.partition('class="passage')[2].partition("</div>")[0]
    assert not set(BIDI) & set(passages)


def test_joiners_are_left_in_words() -> None:
    """Persian and emoji need them; spaces of other scripts are text."""
    text = "می\u200cخواهم 👩\u200d💻\u3000"
    assert surprise.shown(text) == text


@pytest.mark.parametrize(
    "character", "\u034f\u115f\u17b4\u180b\u2800\u3164\ufe0f\ufeff\uffa0\U000e0100\U000e0041"
)
def test_what_has_no_shape_is_told(character: str) -> None:
    """Letters, marks and symbols of which nothing is seen can carry a hidden text."""
    assert surprise.shown(f"a{character}b") == f"a<i>[U+{ord(character):04X}]</i>b"


def test_structure_stays_accessible(tmp_path: Path) -> None:
    """With passages too: captions, scoped headers, headings without a gap, regions with names."""
    seen = Tags(page.render(inputs(tmp_path, [passage("small"), compressed("xz", 70)]))).seen
    tags = [tag for tag, _ in seen]
    assert tags.count("table") == tags.count("caption")
    assert all(attributes.get("scope") for tag, attributes in seen if tag == "th")
    assert all(a.get("aria-label") for _, a in seen if a.get("role") == "region")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(later - level <= 1 for level, later in pairwise(levels))


LADDER = [Piece(text=f"{level}x", bits=2 * bits) for level, bits in enumerate((0.1, 0.3, 0.7, 1.5, 3, 6, 12))]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page whose passages have a piece of every shade, long words, long lines and hostile text."""
    folder = tmp_path_factory.mktemp("page")
    results, corpora = write_inputs(folder)
    pieces = [*LADDER, Piece(text="y" * 900, bits=9.0), Piece(text=TEXT, bits=9.0), *PIECES]
    plant(
        results,
        [
            passage("small", pieces, title="z" * 300),
            passage("tiny", pieces, corpus=NAMES[1], content="code"),
            compressed("xz", 70, "".join(piece.text for piece in pieces)),
        ],
    )
    page.write(results, corpora, NAMES, folder / "report.html")
    return (folder / "report.html").as_uri()


def brightness(colour: str) -> float:
    """Return the luminance of a computed `rgb(…)`."""
    channels = [int(channel) for channel in re.findall(r"\d+", colour)[:3]]
    return luminance("#" + "".join(f"{channel:02x}" for channel in channels))


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "sign"), [("light", -1), ("dark", 1)])
def test_computed_shades_are_ordered_by_bits(browser: Browser, address: str, scheme: str, sign: int) -> None:  # noqa: F811
    """In both schemes the dearer piece lies further from the paper, under ink that stays legible."""
    opened_page, _ = opened(browser, address, width=1200, scheme=scheme)
    looks: list[Any] = opened_page.eval_on_selector_all(
        "details[open] .passage span",
        "spans => spans.map(s => [getComputedStyle(s).backgroundColor, getComputedStyle(s).color, s.title])",
    )
    paper = opened_page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    course = [
        brightness(paper if look[0] == "rgba(0, 0, 0, 0)" else look[0]) for look in looks[: len(LADDER)]
    ]
    assert looks[0][0] == "rgba(0, 0, 0, 0)"
    assert len(set(course)) == len(LADDER)
    assert course == sorted(course, reverse=sign < 0)
    for ground, (_, ink, _) in zip(course, looks, strict=False):
        low, high = sorted((ground, brightness(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    assert [look[2] for look in looks[:2]] == [
        "0.20 bits, 0.10 per character",
        "0.60 bits, 0.30 per character",
    ]
    opened_page.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_passages_fit_their_page(browser: Browser, address: str, width: int, scheme: str) -> None:  # noqa: F811
    """Neither a word of 900 letters nor a long title moves the page sideways; nothing is complained of."""
    opened_page, noted = opened(browser, address, width=width, scheme=scheme)
    assert noted == [f"request: {address}"]
    assert opened_page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = opened_page.eval_on_selector_all(
        "details[open] .passage", "all => all.map(e => [e.scrollWidth, e.clientWidth])"
    )
    assert boxes
    assert all(scrolled <= seen for scrolled, seen in boxes)
    opened_page.close()


@pytest.mark.slow
def test_the_keyboard_opens_another_model(browser: Browser, address: str) -> None:  # noqa: F811
    """The second model's name takes the focus, unfolds its passages and folds up those of the first."""
    opened_page, _ = opened(browser, address, width=800)
    assert opened_page.locator(".passage:visible").count() == 1
    opened_page.locator("summary").nth(1).focus()
    opened_page.keyboard.press("Enter")
    folds = opened_page.eval_on_selector_all("details", "all => all.map(e => e.open)")
    assert folds == [False, True]
    assert opened_page.locator(".passage:visible").inner_text().startswith("0x1x")
    opened_page.close()
