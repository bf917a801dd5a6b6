"""What is to blame for a difference between two versions, planted one cause at a time; metadata that differ."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_versions import CONFIG, compared, edited, jaccard, make, rows, said, words

from collectors import document
from collectors.commands.diff import _lines
from collectors.document import Document, RawRecord
from samples import make_document


def blamed(folder: Path, before: Sequence[Document], after: Sequence[Document], **chosen: Any) -> list[str]:
    """Return `because` of the one row between two versions, forth and back.

    Args:
        folder: to make them in.
        before: documents of the earlier version.
        after: of the later one.
        chosen: parameters of `make` that differ, each with both values.
    """
    for side, (name, documents) in enumerate((("a", before), ("b", after))):
        make(folder / name, {"moss": documents}, **{key: values[side] for key, values in chosen.items()})
    found = [compared(folder / one, folder / other) for one, other in ("ab", "ba")]
    assert [each.rows.num_rows for each in found] == [1, 1]
    return [str(each.rows["because"][0].as_py()) for each in found]


LONG, SHORT = words(1), "no more than thirty characters"
FILTERED: dict[str, tuple[Document, Document | None, Any, Any, str]] = {
    "a floor that the value was above": (
        make_document(SHORT, 1),
        None,
        {"min_characters": 20}, {"min_characters": 31},
        "filters.prose.min_characters 20 → 31",
    ),
    "a floor that the value would have been below, too": (
        make_document(LONG, 1), make_document(SHORT, 1), {"min_characters": 40}, {"min_characters": 45}, "other text",
    ),
    "a floor that was lowered": (
        make_document(LONG, 1), make_document(SHORT, 1), {"min_characters": 45}, {"min_characters": 40}, "other text",
    ),
    "a floor, and a text that came under it": (
        make_document(LONG, 1), make_document(SHORT, 1, extractor="test/2"),
        {"min_characters": 20}, {"min_characters": 45},
        "filters.prose.min_characters 20 → 45; extractor test/1 → test/2",
    ),
    "a floor, and a text that is as long as it was": (
        make_document(SHORT, 1), make_document(SHORT.upper(), 1), {"min_characters": 20}, {"min_characters": 45},
        "filters.prose.min_characters 20 → 45",
    ),
    "a ceiling that the value was below": (
        make_document(LONG, 1),
        None,
        {"max_line_length": 9000}, {"max_line_length": 100},
        "filters.prose.max_line_length 9000 → 100",
    ),
    "a ceiling that the value would have been above, too": (
        make_document(SHORT, 1), make_document(LONG, 1), {"max_line_length": 200}, {"max_line_length": 100},
        "other text",
    ),
    "a filter that is new": (
        make_document(SHORT, 1),
        None,
        {}, {"min_characters": 45}, "filters.prose.min_characters unset → 45",
    ),
    "a licence that is no longer on the list": (
        make_document(LONG, 1, license="MIT OR ISC"),
        None,
        {"license": ["MIT"]}, {"license": ["BSD-3-Clause"]},
        'filters.prose.license ["MIT"] → ["BSD-3-Clause"]',
    ),
    "another licence, which neither list has": (
        make_document(LONG, 1, license="MIT"), make_document(LONG, 1, license=""),
        {"license": ["MIT"]}, {"license": ["MIT", "ISC"]}, "license MIT → unknown",
    ),
    "another licence, which the earlier list had": (
        make_document(LONG, 1, license="MIT"), make_document(LONG, 1, license="ISC"),
        {"license": ["MIT", "ISC"]}, {"license": ["MIT"]},
        'filters.prose.license ["MIT", "ISC"] → ["MIT"]',
    ),
    "a language that is asked for with more certainty": (
        make_document(LONG, 1, language="en", language_probability=0.8),
        None,
        {"language": {"en": 0.7}}, {"language": {"en": 0.9}}, "filters.prose.language.en 0.7 → 0.9",
    ),
    "another language that is asked for": (
        make_document(LONG, 1, language="en", language_probability=0.8),
        None,
        {"language": {"en": 0.7}}, {"language": {"de": 0.7}},
        "filters.prose.language.de unset → 0.7; filters.prose.language.en 0.7 → unset",
    ),
    "a document of another language": (
        make_document(LONG, 1, language="en", language_probability=0.8),
        make_document(LONG, 1, language="de", language_probability=0.8),
        {"language": {"en": 0.5}}, {"language": {"en": 0.7}}, "language en → de",
    ),
    "a document of a less certain language": (
        make_document(LONG, 1, language="en", language_probability=0.8),
        make_document(LONG, 1, language="en", language_probability=0.4),
        {"language": {"en": 0.5}}, {"language": {"en": 0.7}}, "other value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", FILTERED.values(), ids=FILTERED)
def test_a_filter_is_to_blame_if_it_changed_its_verdict(
    tmp_path: Path, planted: tuple[Document, Document | None, Any, Any, str]
) -> None:
    """Else the document is: what it said then would have been refused before; in both directions."""
    before, after, old, new, because = planted
    forth, back = blamed(tmp_path, [before], [after or before], filters=({"prose": old}, {"prose": new}))
    assert forth == because
    assert sorted(re.findall("[^ ;]+", back)) == sorted(re.findall("[^ ;]+", forth)), (
        "the same, with values swapped"
    )


def test_a_profile_is_to_blame_if_it_changed_the_verdict(tmp_path: Path) -> None:
    """A snapshot of another content is held against other filters."""
    profiles = {"prose": {"min_characters": 20}, "code": {"min_characters": 45}}
    one = [make_document(SHORT, 1)]
    contents: Any = ({"content": "prose"}, {"content": "code"})
    assert blamed(tmp_path, one, one, filters=(profiles, profiles), moss=contents) == [
        'snapshots.moss.content "prose" → "code"',
        'snapshots.moss.content "code" → "prose"',
    ]


def test_a_threshold_of_duplicates_is_to_blame_if_it_changed_the_verdict(tmp_path: Path) -> None:
    """Not where the text came as near as either asks for; with other shingles both may be why."""
    one, other, near, far = (make_document(edited(words(1), n), n != 0) for n in (0, 60, 1, 3))
    thresholds = (0.7, 0.75)
    assert jaccard(one.text, near.text) > 0.75
    assert blamed(tmp_path / "text", [one, other], [one, near], threshold=thresholds) == ["other text"] * 2
    shingled = (CONFIG, replace(CONFIG, words=3))
    assert jaccard(one.text, far.text) < 0.7
    assert blamed(tmp_path / "words", [one, far], [one, far], config=shingled) == [
        "dedup.minhash.words 5 → 3",
        "dedup.minhash.words 3 → 5",
    ]
    both = blamed(tmp_path / "both", [one, far], [one, far], config=shingled, threshold=(0.7, 0.72))
    assert both[0] == "dedup.minhash.words 5 → 3; dedup.threshold 0.7 → 0.72"


@pytest.mark.parametrize(
    ("key", "value", "to_blame"),
    [
        ("until", "2026-09-15", True),
        ("until", "2026-09-20", True),
        ("until", "2026-09-21", False),
        ("since", "2026-09-21", True),
        ("since", "2026-09-20", False),
        ("pages", 3, True),
    ],
)
def test_a_window_is_to_blame_for_what_it_leaves_out(
    tmp_path: Path, key: str, value: Any, *, to_blame: bool
) -> None:
    """What the source no longer gives although its date is inside has another cause; of other settings none can say."""
    one = make_document(words(1), 1, published=datetime(2026, 9, 20, tzinfo=UTC))
    forth, back = blamed(tmp_path, [one], [], moss=({}, {key: value}))
    assert (forth != "", back != "") == (to_blame, to_blame)
    assert forth.startswith(f"snapshots.moss.{key} ") == to_blame


def test_settings_of_a_snapshot_do_not_explain_another_extractor(tmp_path: Path) -> None:
    """It explains the text by itself."""
    old, new = make_document(words(1), 1), make_document(words(2), 1, extractor="test/2")
    assert blamed(tmp_path, [old], [new], moss=({}, {"pages": 3})) == [
        "extractor test/1 → test/2",
        "extractor test/2 → test/1",
    ]


RAW = RawRecord(shard="test.warc.gz", offset=0, sha256="2" * 64)
ELSEWHERE = datetime(2026, 9, 30, tzinfo=UTC)
STATED: dict[str, Any] = {
    "url": "https://elsewhere.example", "title": "Another", "published": ELSEWHERE, "published_precision": "month",
    "date_evidence": (), "first_seen": ELSEWHERE, "fetched": ELSEWHERE, "license": "GPL-3.0-only",
    "license_evidence": "elsewhere", "redistributable": False, "language": "de", "language_probability": 0.25,
    "raw": RAW, "extractor": "test/2", "metadata": {"author": "A"},
}  # fmt: skip
TEXT = {"id", "source", "native_id", "version", "text", "text_sha256", "n_characters", "n_bytes"}
VERDICTS = {"filters", "drop_reason", "duplicate"}


def test_every_column_but_the_text_is_metadata() -> None:
    """The next test has one more to change when documents get another column."""
    assert STATED.keys() == set(document.SCHEMA.names) - TEXT - VERDICTS


@pytest.mark.parametrize("name", STATED)
def test_metadata_that_differ_alone_are_named(tmp_path: Path, name: str) -> None:
    """A change of its own kind, with the column and both values, and the cause that a changed text would have."""
    old = make_document(words(1), 1)
    new, stays = replace(old, **{name: STATED[name]}), make_document(words(2), 2)
    make(tmp_path / "a", {"moss": [old, stays]})
    make(tmp_path / "b", {"moss": [new, stays]})
    found = compared(tmp_path / "a", tmp_path / "b")
    (row,) = rows(found).values()
    because = "extractor test/1 → test/2" if name == "extractor" else ""
    assert said(row) == (
        "metadata",
        {"raw": "source", "extractor": "extractor"}.get(name, "code"),
        name,
        because,
    )
    ((field, before, after),) = (each.values() for each in row["fields"])
    assert field == name
    shown = {
        "raw": ("0" * 64, "2" * 64),
        "extractor": ("test/1", "test/2"),
        "redistributable": ("true", "false"),
    }
    if name in shown:
        assert (before, after) == shown[name]
    assert before != after
    assert (found.snapshots[0].documents("metadata"), found.snapshots[0].documents("changed")) == (1, 0)
    assert found.snapshots[0].characters("metadata") == old.n_characters
    assert found.facts()["snapshots"][0]["changes"][0]["reason"] == name


def test_what_the_pipeline_found_of_a_text_is_not_its_metadata(tmp_path: Path) -> None:
    """Another threshold that it passes, and another place of the same bytes in the shards, leave it as it is."""
    old = make_document(words(1), 1)
    make(tmp_path / "a", {"moss": [old]})
    new = replace(old, raw=replace(old.raw, shard="other.warc.gz", offset=7))
    make(tmp_path / "b", {"moss": [new]}, filters={"prose": {"min_characters": 45}})
    assert compared(tmp_path / "a", tmp_path / "b").rows.num_rows == 0


def test_documents_of_other_metadata_are_counted_by_what_differs(tmp_path: Path) -> None:
    """With the setting that explains it; a match that differs in nothing else explains no duplicate."""
    documents = [make_document(words(n), n) for n in range(5)]
    copy = make_document(documents[0].text, 9)
    first, second = sorted((documents[0], copy), key=lambda d: d.id)
    freed = [replace(d, license="CC0-1.0", license_evidence="its file") for d in (first, *documents[1:3])]
    dated = replace(documents[3], published=ELSEWHERE)
    make(tmp_path / "a", {"moss": [first, *documents[1:]]}, moss={"license": "MIT"})
    make(tmp_path / "b", {"moss": [*freed, dated, documents[4], second]}, moss={"license": "CC0-1.0"})
    found = compared(tmp_path / "a", tmp_path / "b")
    because = 'snapshots.moss.license "MIT" → "CC0-1.0"'
    assert [(c.change, c.cause, c.reason, c.because, c.documents) for c in found.snapshots[0].changes] == [
        ("metadata", "code", "license, license_evidence", because, 3),
        ("metadata", "code", "published", because, 1),
    ]
    fields = rows(found)[documents[1].id]["fields"]
    assert fields == [
        {"name": "license", "before": documents[1].license, "after": "CC0-1.0"},
        {"name": "license_evidence", "before": documents[1].license_evidence, "after": "its file"},
    ]
    lines = _lines(found)
    assert lines[-3].split()[-4:] == ["0", "0", "0", "4"]
    size = sum(d.n_characters for d in freed)
    assert lines[-2] == f"  =3 code, metadata license, license_evidence ({because}): {size:,} characters"
