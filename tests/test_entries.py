"""Entries of params.yaml copied and moved as text."""

from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from collectors.document import UserError
from collectors.entries import copied, moved
from samples import ROOT

WINDOW: dict[str, Any] = {"since": date(2026, 10, 1), "until": date(2026, 11, 1)}
TEXT = """\
# Everything.
snapshots:
  # Papers of three fields.
  papers-2026-09: &papers
    source: arxiv   # one request in 3 s
    content: papers
    since: "2026-09-01"
    until: 2026-10-01
    partial: true
    # of interest
    categories: [cs.CL]
    # and no others
  # Code.
  code-2026-09: {source: github, content: code, since: "2026-09-01", until: "2026-10-01"}  # popular

# Not built yet.
upcoming:
    # The town's own paper.
    # It forgets.
    news-2026-10:
        source: news
        content: news
        since: "2026-10-01"
        until: "2026-11-01"
        sites:
          - host: town.example   # quiet
            feeds: ["https://town.example/feed"]

filters: {papers: {min_characters: 2000}}  # last
"""
PAPERS = """\
  papers-2026-10:
    source: arxiv   # one request in 3 s
    content: papers
    since: "2026-10-01"
    until: "2026-11-01"
    partial: false
    # of interest
    categories: [cs.CL]
    # and no others
"""
POPULAR = "# popular\n"


def test_a_copy_ends_the_section_and_leaves_all_else_as_it_is() -> None:
    """Comments inside an entry come along, anchors and `partial` do not; every other byte stays."""
    text = copied(TEXT, "papers-2026-10", like="papers-2026-09", section="snapshots", **WINDOW)
    assert text == TEXT.replace(POPULAR, POPULAR + PAPERS)


def test_a_copy_takes_the_indentation_of_its_section() -> None:
    """An entry of one line, or of another depth, stands in the other section as its own entries do."""
    text = copied(TEXT, "code-2026-10", like="code-2026-09", section="upcoming", **WINDOW)
    line = '    code-2026-10: {source: github, content: code, since: "2026-10-01", until: "2026-11-01"}  # popular\n'
    assert text == TEXT.replace('/feed"]\n', f'/feed"]\n{line}')


@pytest.mark.parametrize(
    ("upcoming", "made"),
    [
        ("upcoming: {}  # none yet\n", "upcoming:  # none yet\n"),
        ("upcoming:\n", "upcoming:\n"),
        ("", "\nupcoming:\n"),
        ("upcoming: {}", "upcoming:\n"),
    ],
)
def test_a_section_without_entries_gets_its_first(upcoming: str, made: str) -> None:
    """Empty in braces, empty without, missing, or at the end of a file without a line feed."""
    head = TEXT[: TEXT.index("upcoming")]
    text = copied(head + upcoming, "papers-2026-10", like="papers-2026-09", section="upcoming", **WINDOW)
    assert text == head + made + PAPERS


def test_an_entry_moves_with_the_comments_right_above_it() -> None:
    """It ends `snapshots`, and what it leaves behind is an empty section."""
    text = moved(TEXT, "news-2026-10")
    entry = TEXT[TEXT.index("    # The town's") : TEXT.index("\nfilters")]
    there = "".join(line[2:] + "\n" for line in entry.splitlines())
    expected = TEXT.replace("upcoming:\n" + entry, "upcoming: {}\n").replace(POPULAR, POPULAR + there)
    assert text == expected


def test_a_copy_that_waits_moves_as_if_it_had_been_made_there() -> None:
    """Copying to `upcoming` and moving is copying to `snapshots`."""
    waits = copied(TEXT, "papers-2026-10", like="papers-2026-09", section="upcoming", **WINDOW)
    assert moved(waits, "papers-2026-10") == copied(
        TEXT, "papers-2026-10", like="papers-2026-09", section="snapshots", **WINDOW
    )


def test_the_own_params_take_a_copy_of_every_entry() -> None:
    """In the file as it is, lines are added and none is changed."""
    text = (ROOT / "params.yaml").read_text()
    for name in yaml.safe_load(text)["snapshots"]:
        for section in ("snapshots", "upcoming"):
            grown = copied(text, "new-2026-10", like=name, section=section, **WINDOW)
            kept = iter(grown.replace("upcoming:\n", "upcoming: {}\n").splitlines())
            assert all(line in kept for line in text.splitlines()), name


def test_line_ends_stay_what_they_are() -> None:
    """A file that was written on Windows has no line of another kind afterwards."""
    windows = TEXT.replace("\n", "\r\n")
    grown = copied(windows, "papers-2026-10", like="papers-2026-09", section="snapshots", **WINDOW)
    assert grown == TEXT.replace(POPULAR, POPULAR + PAPERS).replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        'snapshots: {old: {source: arxiv, since: "2026-09-01", until: "2026-10-01"}}\n',
        "base: &b {since: a, until: b}\nsnapshots:\n  old: *b\n",
        "base: &b {since: a, until: b}\nsnapshots:\n  old:\n    <<: *b\n",
        "day: &d 2026-09-01\nsnapshots:\n  old: {since: *d, until: 2026-10-01}\n",
    ],
)
def test_what_cannot_be_copied_safely_is_refused(text: str) -> None:
    """Sections in braces, and windows that are aliases or come by a merge: the text to change stands elsewhere."""
    with pytest.raises(UserError, match=r"entry old cannot|entry snapshots cannot"):
        copied(text, "new", like="old", section="snapshots", **WINDOW)


KEYS = st.sampled_from(["categories", "sites", "b", "long name", "e: f", "#g"])
VALUES = st.recursive(
    st.text(max_size=12) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=3).map(
    lambda settings: {"source": "arxiv", **settings, "since": "2026-09-01", "until": "2026-10-01"}
)


@given(st.lists(ENTRIES, min_size=1, max_size=3), st.lists(ENTRIES, max_size=2), st.integers(0, 2), st.data())
def test_any_entry_is_copied_and_moved(
    listed: list[Any], waiting: list[Any], width: int, data: st.DataObject
) -> None:
    """Whatever its settings hold, the file then says what it said, and the copy besides."""
    params: dict[str, Any] = {
        "a": [1],
        "snapshots": {f"s{i}": entry for i, entry in enumerate(listed)},
        "upcoming": {f"u{i}": entry for i, entry in enumerate(waiting)},
        "z": {"k": "v"},
    }
    text = yaml.safe_dump(params, sort_keys=False, width=[20, 80, 1000][width], allow_unicode=True)
    name = data.draw(st.sampled_from(sorted({*params["snapshots"], *params["upcoming"]})))
    grown = copied(text, "new", like=name, section="upcoming", **WINDOW)
    final = moved(grown, "new")
    entry = {**params["snapshots"], **params["upcoming"]}[name]
    new = {**entry, "since": "2026-10-01", "until": "2026-11-01"}
    assert yaml.safe_load(grown) == {**params, "upcoming": {**params["upcoming"], "new": new}}
    assert yaml.safe_load(final) == {**params, "snapshots": {**params["snapshots"], "new": new}}
