"""Corpora: byte-identical, explained, and readable by other tools."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from collectors.build import covering, escaped, read_removals, remove, write_corpus
from collectors.document import DateEvidence, FilterResult, Match, UserError, read_documents, sha256_of
from samples import REQUEST, ROOT, make_document

DOCUMENTS = [
    make_document("the first text", 1),
    make_document("the second text, żółw", 2, license="Apache-2.0"),
    make_document(
        "bad", 3, drop_reason="min_characters",
        filters=(FilterResult(name="min_characters", value=3, threshold=10, passed=False),),
    ),
    make_document(
        "the first text", 4, drop_reason="duplicate-exact",
        duplicate=Match(id="1", corpus="test-2026-08", similarity=1.0),
    ),
]  # fmt: skip


def test_a_corpus_says_what_it_holds_and_what_it_dropped(tmp_path: Path) -> None:
    """Counts, digest, reasons, licences and evidence in corpus.json."""
    facts = write_corpus(tmp_path, REQUEST, DOCUMENTS)
    written = json.loads((tmp_path / "corpus.json").read_text())
    assert written["n_documents"] == facts.n_documents == 2
    assert written["n_characters"] == len("the first text") + len("the second text, żółw")
    assert written["n_bytes"] == written["n_characters"] + 3
    assert written["dropped"] == {"duplicate-exact": 1, "min_characters": 1}
    assert written["licenses"] == {"Apache-2.0": 1, "MIT": 1}
    assert written["date_evidence"] == {"declared-month": 2}
    assert (written["since"], written["until"]) == ("2026-09-01", "2026-10-01")
    assert written["published_from"] == "2026-09-02T00:00:00+00:00"
    assert written["documents_sha256"] == sha256_of(tmp_path / "documents.parquet")
    dropped = {d.drop_reason: d for d in read_documents(tmp_path / "dropped.parquet")}
    assert dropped["duplicate-exact"].duplicate == Match(id="1", corpus="test-2026-08", similarity=1.0)
    assert dropped["min_characters"].filters[0].value == 3


def test_datasets_loads_the_folder_offline(tmp_path: Path) -> None:
    """The card's configs are a dataset: the corpus by default, the dropped documents by name."""
    folder, cache = tmp_path / "corpus", str(tmp_path / "cache")
    write_corpus(folder, REQUEST, DOCUMENTS)
    kept = datasets.load_dataset(str(folder), cache_dir=cache)["test"]
    assert sorted(kept["text"]) == ["the first text", "the second text, żółw"]
    dropped = datasets.load_dataset(str(folder), "dropped", cache_dir=cache)["test"]
    assert sorted(dropped["drop_reason"]) == ["duplicate-exact", "min_characters"]
    header = (folder / "README.md").read_text().split("---")[1]
    assert yaml.safe_load(header)["language"] == ["en"]


def test_an_empty_corpus_is_written_and_says_so(tmp_path: Path) -> None:
    """Everything dropped is a finding, not a crash."""
    facts = write_corpus(tmp_path, REQUEST, DOCUMENTS[2:])
    assert (facts.n_documents, facts.published_from) == (0, "")
    assert "| none | 0 |" in (tmp_path / "README.md").read_text()


def test_hostile_licences_do_not_break_the_card(tmp_path: Path) -> None:
    """A licence with table and line breaks stays in its cell."""
    hostile = make_document(
        "x", license="a|b\n# heading", date_evidence=(DateEvidence(kind="k|", value="v"),)
    )
    write_corpus(tmp_path, REQUEST, [hostile])
    card = (tmp_path / "README.md").read_text()
    assert "| a\\|b # heading | 1 |" in card


@given(st.text(min_size=1) | st.text("[]()<>!|`*_~#&-+=\\1.:/ab \n\u202e", min_size=1))
@example("1. <script>alert(1)</script>")
@example("![x](https://pond.example/pixel.png) **bold** [moss](javascript:moss)")
def test_a_strangers_text_shows_as_it_is(text: str) -> None:
    """In a list and in a table, to a reader of Markdown: one text, neither link nor picture nor anything else."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assume(shown)
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for page, kinds in (
        (f"- {escaped(text)}", ["list_item", "paragraph"]),
        (f"| a | b |\n|---|---|\n| {escaped(text)} | 1 |", ["tbody", "tr", "td", "td"]),
    ):
        tokens = reader.parse(page)
        opened = [token.type.removesuffix("_open") for token in tokens if token.type.endswith("_open")]
        assert opened[-len(kinds) :] == kinds
        inline = [token for token in tokens if token.type == "inline"]
        cell = inline[-2 if kinds[-1] == "td" else 0].children
        assert cell
        assert {token.type for token in cell} == {"text"}
        assert "".join(token.content for token in cell) == shown


def test_an_incomplete_snapshot_makes_a_corpus_that_says_so(tmp_path: Path) -> None:
    """In its facts and on its card, in cells that a hostile reason does not break."""
    gaps = [f"https://news.example/{number}: |\n# it answers 500" for number in range(25)]
    write_corpus(tmp_path, REQUEST, DOCUMENTS, gaps)
    assert json.loads((tmp_path / "corpus.json").read_text())["gaps"] == gaps
    card = (tmp_path / "README.md").read_text()
    assert "**This snapshot is not complete:**" in card
    assert card.count("it answers 500") == 20
    assert "- and 5 more" in card
    assert "\n# it answers" not in card


def test_a_removed_document_leaves_its_digest_alone(tmp_path: Path) -> None:
    """What it said, where it stood and who wrote it are gone; that it was removed, and why, stays."""
    listed = tmp_path / "removed.csv"
    listed.write_text(f'id,reason\n{DOCUMENTS[0].id},"its author asked, politely"\n{"0" * 64},other\n')
    documents = [replace(d, url="https://a.example", metadata={"authors": "A"}) for d in DOCUMENTS]
    facts = write_corpus(tmp_path, REQUEST, remove(documents, read_removals(listed)))
    assert (facts.n_documents, facts.dropped["removed"]) == (1, 1)
    (gone,) = [d for d in read_documents(tmp_path / "dropped.parquet") if d.drop_reason == "removed"]
    assert (gone.text, gone.title, gone.url) == ("", "", "")
    assert gone.metadata == {"removal": "its author asked, politely"}
    assert (gone.id, gone.text_sha256) == (DOCUMENTS[0].id, DOCUMENTS[0].text_sha256)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("id\n", 1),
        ("id,reason\n12,short\n", 2),
        (f"id,reason\n{'0' * 64}\n", 2),
        ("id,reason\nauthor:A,asked\nurl:**?,all of them\n", 3),
        ("id,reason\ntitle:Walk,no such kind\n", 2),
        ("id,reason\nurl:*e*,asked\n", 2),
        ("id,reason\nurl:https://*,asked\n", 2),
        ("id,reason\nurl:https://www.*.com/*,asked\n", 2),
        ("id,reason\nurl:*[a-z][mossy]*.e?u*,asked\n", 2),
        ("id,reason\nauthor:*ne*,asked\n", 2),
        ("\xff", None),
    ],
)
def test_a_broken_removal_list_is_one_line(tmp_path: Path, text: str, line: int | None) -> None:
    """Nothing is built on a list that cannot be read; no file means no removals."""
    path = tmp_path / "removed.csv"
    assert read_removals(path) == {}
    path.write_bytes(text.encode("latin-1"))
    message = f"line {line} of {path} is no removal" if line and text else f"{path} "
    with pytest.raises(UserError, match=message):
        read_removals(path)


def test_a_removal_list_is_never_passed_over(tmp_path: Path) -> None:
    """Not one with the byte order mark of a spreadsheet, and not a folder in its place."""
    path = tmp_path / "removed.csv"
    path.write_text(f"id,reason\n{'0' * 64},other\n", encoding="utf-8-sig")
    assert read_removals(path) == {"0" * 64: "other"}
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_removals(path)


@pytest.mark.parametrize(
    ("first", "second"), [("0" * 64, "0" * 64), ("url:https://wall.example/*", "url:HTTPS://wall.example/*")]
)
def test_what_is_removed_twice_is_named(tmp_path: Path, first: str, second: str) -> None:
    """With both lines: no reason is lost, and none is chosen for whoever wrote them."""
    path = tmp_path / "removed.csv"
    path.write_text(f"id,reason\n{first},its author\n{'1' * 64},other\n{second},its site\n")
    with pytest.raises(UserError, match=r"line 4 of .* removes what line 2 does; keep one of them"):
        read_removals(path)


URL = "https://Wall.example/moss/Walk?page=1"


@pytest.mark.parametrize(
    ("line", "covered"),
    [
        ("url:https://wall.example/*", True),
        ("url:*/MOSS/*", True),
        ("url:*://wall.example/moss/walk?page=1", True),
        ("url:*wall.example", False),
        ("url:wall.example/*", False),
        ("url:*/moss/[a-v]*", False),
        ("url:https://m.os/*", False),
        ("author:jane doe", True),
        ("author:J* DOE", True),
        ("author:doe", False),
        ("author:*doe*", True),
        ("author:Müller, Jörg", True),
        ("author:jörg", True),
        ("author:Al", False),
        ("author:nobody", False),
    ],
)
def test_a_pattern_covers_a_whole_address_or_a_whole_name(tmp_path: Path, line: str, covered: bool) -> None:
    """In any case and composition, and one of several authors as news names them."""
    authors = "Ali Baba; Jane  Doe; Mu\u0308ller, Jo\u0308rg"
    document = make_document("x", url=URL, metadata={"authors": authors})
    (tmp_path / "removed.csv").write_text(f'id,reason\n"{line}",asked\n')
    removals = read_removals(tmp_path / "removed.csv")
    assert covering(removals)(document) == ([line] if covered else [])
    assert covering(removals)(make_document("x")) == []


@pytest.mark.parametrize(
    "authors",
    [
        "Jane Doe",
        "John Roe, Jane Doe",
        "John Roe and Jane Doe (University of Moss)",
        "Jane Doe (1), J. Roe (2)",
    ],
)
@pytest.mark.parametrize("field", ["author", "authors"])
def test_authors_are_told_apart_as_every_source_writes_them(authors: str, field: str) -> None:
    """Between commas and "and", and without what stands in parentheses, as arXiv has them."""
    document = make_document("x", metadata={field: authors})
    assert covering({"author:Jane Doe": "asked"})(document) == ["author:Jane Doe"]
    assert covering({"author:Jane": "asked"})(document) == []


def test_a_document_that_several_lines_cover_is_removed_for_the_first_reason() -> None:
    """Its own id before patterns, these in the order of the list; what nothing covers stays as it is."""
    document, other = make_document("x", 1, url=URL), make_document("y", 2)
    removals = {"url:*moss*": "pattern", "url:*wall*": "another", document.id: "id"}
    assert covering(removals)(document) == [document.id, "url:*moss*", "url:*wall*"]
    gone, kept = remove([document, other], removals)
    assert gone.metadata == {"removal": "id"}
    assert kept == other


BUILD = """
import sys
from collectors.__main__ import main
for snapshot in ("code-2025-12", "code-2026-03"):
    assert main(["collect", snapshot]) == 0
    assert main(["extract", snapshot, "--workers", sys.argv[1]]) == 0
    assert main(["dedup", snapshot]) == 0
"""


@pytest.mark.slow
def test_a_corpus_is_byte_identical_under_any_hash_seed_and_worker_count(tmp_path: Path) -> None:
    """Two listed snapshots twice, in other processes: the same bytes, and those that dvc.lock records."""
    runs = []
    for seed, workers in (("0", "1"), ("4711", "3")):
        work = tmp_path / seed
        work.mkdir()
        shutil.copy(ROOT / "params.yaml", work)
        subprocess.run(
            [sys.executable, "-c", BUILD, workers],
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        files = sorted(p for p in (work / "corpora").rglob("*") if p.is_file())
        runs.append({str(p.relative_to(work)): sha256_of(p) for p in files})
    assert runs[0] == runs[1]
    assert len(runs[0]) == 2 * (3 + 2 + 4)
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["extract@code-2025-12"]["outs"]
    for out in lock:
        found = (tmp_path / "0" / out["path"]).read_bytes()
        assert hashlib.md5(found, usedforsecurity=False).hexdigest() == out["md5"], (
            "collect the snapshot anew"
        )
    (repeat,) = [
        d for d in read_documents(tmp_path / "0/corpora/code-2026-03/dropped.parquet") if d.duplicate
    ]
    assert (repeat.title, repeat.drop_reason) == ("scmrepo/compat.py", "duplicate-exact")
    assert repeat.duplicate is not None
    assert repeat.duplicate.corpus == "code-2025-12"
