"""The audit judges again: a verdict, a match or a signature that does not follow from the texts is named."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from collectors.__main__ import main
from collectors.audit import verdicts
from collectors.audit.finding import Finding
from collectors.build import write_corpus
from collectors.commands.audit import _rules
from collectors.document import Document, FilterResult, Match, read_documents
from collectors.minhash import Signed, read_signatures, write_signatures
from collectors.params import read, request

CORPORA = Path("corpora")
EARLIER, OWN = "notes-2026-08", "notes-2026-09"
DOCUMENTS, DROPPED = (f"corpora/{OWN}/{half}.parquet" for half in ("documents", "dropped"))


def prose(seed: int, n: int = 200) -> str:
    """Return n random words."""
    return " ".join("".join(random.Random(seed * 1000 + word).choices("ehlmnorst", k=5)) for word in range(n))


TEXTS = {
    EARLIER: {"old": prose(1), "older": prose(2)},
    OWN: {
        "new": prose(3),
        "other": prose(4),
        "short": prose(5, 12),
        "copy": prose(1),
        "nearly old": f"{prose(1)} and more",
        "twin": prose(3).upper(),
        "nearly new": f"{prose(3)} and more",
        "nearly nearly": f"{prose(3)} and more than that",
    },
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots; the second repeats the first, and itself."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        known: dict[str, Any] = {"snapshots": {}, "filters": {"prose": {"min_characters": 200}}}
        for name, texts in TEXTS.items():
            # In the order of titles: one of a kind that stands first is the one that stays.
            lines = [
                {"title": title, "text": text, "date": f"{name[-7:]}-{day:02}"}
                for day, (title, text) in enumerate(texts.items(), 1)
            ]
            Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
            known["snapshots"][name] = {
                "source": "imported", "content": "prose", "path": f"{name}.jsonl", "license": "MIT",
                "date": "date", "language": "en",
                "since": f"{name[-7:]}-01", "until": f"2026-{int(name[-2:]) + 1:02}-01",
            }  # fmt: skip
            Path("params.yaml").write_text(yaml.safe_dump(known, sort_keys=False))
            for step in ("collect", "extract", "dedup"):
                assert main([step, name]) == 0
    return folder


@pytest.fixture
def folder(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of them as the working directory."""
    monkeypatch.chdir(shutil.copytree(built, tmp_path / "copy"))
    return tmp_path / "copy"


def rows() -> dict[str, Document]:
    """Return all rows of the second corpus by title."""
    return {row.title: row for path in (DOCUMENTS, DROPPED) for row in read_documents(Path(path))}


def audit(*titles: str, intact: Callable[[Path], bool] = lambda _: True) -> list[Finding]:
    """Judge the documents of these titles again, or all."""
    known, found = read(), rows()
    chosen = [found[title].id for title in titles or found]
    return list(verdicts.check(OWN, CORPORA, _rules(request(OWN, known), known), chosen, intact, workers=1))


def plant(**changed: Document) -> None:
    """Write the second corpus again, with other rows of these titles, and all that it says of itself."""
    edited = {**rows(), **{title.replace("_", " "): row for title, row in changed.items()}}
    write_corpus(CORPORA / OWN, request(OWN, read()), edited.values())


def like(title: str, similarity: float = 0.9, corpus: str = OWN) -> Match:
    """Return a match with a document of a corpus."""
    (found,) = [d for d in read_documents(CORPORA / "documents" / f"{corpus}.parquet") if d.title == title]
    return Match(id=found.id, corpus=corpus, similarity=similarity)


@pytest.mark.usefixtures("folder")
def test_what_dedup_decides_is_clean() -> None:
    """Each kind of verdict is there; judged all at once or one by one, nothing is found."""
    assert {title: row.drop_reason for title, row in rows().items()} == {
        "new": "", "other": "", "short": "min_characters", "copy": "duplicate-exact", "nearly old": "duplicate-near",
        "twin": "duplicate-exact", "nearly new": "duplicate-near", "nearly nearly": "duplicate-near",
    }  # fmt: skip
    assert audit() == []
    assert [audit(title) for title in TEXTS[OWN]] == [[]] * len(TEXTS[OWN])


def kept(row: Document) -> Document:
    """Return a row as if nothing spoke against it."""
    passed = tuple(replace(result, value=9000.0, passed=True) for result in row.filters)
    return replace(row, filters=passed, drop_reason="", duplicate=None)


def bare(row: Document) -> Document:
    """Return a row as if it repeated nothing."""
    return replace(row, drop_reason="", duplicate=None)


def near(match: Callable[[], Match]) -> Callable[[Document], Document]:
    """Return how to make a row a near duplicate."""
    return lambda row: replace(row, drop_reason="duplicate-near", duplicate=match())


LIES: dict[str, tuple[str, Callable[[Document], Document], str]] = {
    "a filter's value": ("other", kept, verdicts._FILTERED),
    "a filter too many": (
        "other",
        lambda row: replace(row, filters=(*row.filters, FilterResult(name="x", value=1, threshold=1, passed=True))),
        verdicts._FILTERED,
    ),
    "kept with forged values": ("short", kept, verdicts._FILTERED),
    "kept with a broken filter": ("short", lambda row: replace(row, drop_reason=""), verdicts._FILTERED),
    "dropped by a filter that passed": (
        "other", lambda row: replace(row, drop_reason="min_characters"), verdicts._FILTERED,
    ),
    "no copy of an earlier text": ("other", near(lambda: like("old", corpus=EARLIER)), verdicts._MATCHED),
    "no copy of a text of its own": ("other", near(lambda: like("new")), verdicts._MATCHED),
    "a copy of itself": ("other", near(lambda: like("other", 1.0)), verdicts._MATCHED),
    "a copy of nothing": ("other", near(lambda: replace(like("new"), id="0" * 64)), verdicts._MATCHED),
    "a copy of a snapshot that is not there": (
        "other", near(lambda: replace(like("new"), corpus="x")), verdicts._MATCHED,
    ),
    "a copy of what was dropped": ("nearly nearly", near(lambda: like("nearly new", 0.99)), verdicts._MATCHED),
    "a copy of what came later": ("new", near(lambda: like("other")), verdicts._MATCHED),
    "more similar than it is": ("nearly new", near(lambda: like("new", 0.995)), verdicts._MATCHED),
    "more similar to an earlier one": (
        "nearly old", near(lambda: like("old", 0.995, EARLIER)), verdicts._MATCHED,
    ),
    "exact that is near": (
        "nearly new", lambda row: replace(row, drop_reason="duplicate-exact"), verdicts._MATCHED,
    ),
    "near that is exact": ("twin", lambda row: replace(row, drop_reason="duplicate-near"), verdicts._MATCHED),
    "the same as an earlier one": (
        "copy", lambda row: replace(row, drop_reason="duplicate-id"), verdicts._MATCHED,
    ),
    "another earlier one": (
        "copy", lambda row: replace(row, duplicate=like("older", 1.0, EARLIER)), verdicts._MATCHED,
    ),
    "an earlier text that is kept": ("copy", bare, verdicts._MATCHED),
    "a nearly earlier text that is kept": (
        "nearly old", bare, verdicts._MATCHED,
    ),
    "kept with a match": ("nearly old", lambda row: replace(row, drop_reason=""), verdicts._MATCHED),
    "another reason": ("nearly new", lambda row: replace(row, drop_reason="language"), verdicts._MATCHED),
    "removed with a match that is none": (
        "other",
        lambda row: replace(row, drop_reason="removed", duplicate=like("old", 0.9, EARLIER)),
        verdicts._MATCHED,
    ),
}  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("lie", LIES)
def test_a_false_verdict_is_named(lie: str) -> None:
    """Every file agrees with every other, and only the texts do not: of all documents, or of that one alone."""
    title, edit, rule = LIES[lie]
    edited = edit(rows()[title])
    plant(**{title.replace(" ", "_"): edited})
    for found in (audit(), audit(title)):
        assert {finding.rule for finding in found} >= {rule}
        assert {finding.where for finding in found} == {DROPPED if edited.drop_reason else DOCUMENTS}
        assert {finding.remedy for finding in found} == {
            f"`dvc repro --force --single-item dedup@{OWN}`, then `dvc repro`"
        }
        assert all(finding.what.startswith(f"document {edited.id} ") for finding in found)
    assert audit("other" if title == "new" else "new") == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("title", ["twin", "nearly new"])
def test_a_repeated_text_that_is_kept_is_named_where_all_are_judged(title: str) -> None:
    """Alone a document has nothing in its own snapshot to be held against."""
    plant(**{title.replace(" ", "_"): bare(rows()[title])})
    assert [finding.rule for finding in audit()] == [verdicts._MATCHED]
    assert audit(title) == []


@pytest.mark.usefixtures("folder")
def test_the_first_of_two_is_the_one_that_stays() -> None:
    """A true similarity to a text that came later is no reason to drop the earlier one."""
    first, second = near(lambda: like("nearly new", 196 / 198))(rows()["new"]), bare(rows()["nearly new"])
    plant(new=first, nearly_new=second)
    (found,) = audit("new")
    assert found.what.endswith("that is no document which came before it")
    assert {f.where for f in audit()} == {DOCUMENTS, DROPPED}


@pytest.mark.usefixtures("folder")
def test_a_removed_document_keeps_its_match() -> None:
    """Removal comes last: a document that is removed was filtered, and held against others, who still repeat it."""
    listed = "".join(f"{rows()[title].id},asked\n" for title in ("new", "copy", "short"))
    (CORPORA / "removed.csv").write_text(f"id,reason\n{listed}")
    assert main(["dedup", OWN]) == 0
    assert rows()["nearly new"].duplicate == like("new", 196 / 198)
    assert audit() == []
    assert [audit(row.title) for row in rows().values()] == [[]] * len(rows())


def flipped(signed: Signed, place: int) -> Signed:
    """Return signatures with one value that differs in a bit."""
    values = signed.signatures.copy()
    values[place, 7] ^= np.uint32(1)
    return replace(signed, signatures=values)


def without(signed: Signed, places: list[int]) -> Signed:
    """Return the signatures of these places, in this order."""
    return replace(
        signed,
        ids=[signed.ids[place] for place in places],
        published=[signed.published[place] for place in places],
        digests=[signed.digests[place] for place in places],
        signatures=signed.signatures[places],
    )


FORGED: dict[str, tuple[Callable[[Signed, int], Signed], str]] = {
    "value": (flipped, "document {} has another signature than its text gives"),
    "digest": (
        lambda s, at: replace(s, digests=[*s.digests[:at], "0" * 64, *s.digests[at + 1 :]]),
        "document {} has another signature than its text gives",
    ),
    "date": (
        lambda s, at: replace(s, published=[*s.published[:at], s.published[at - 1], *s.published[at + 1 :]]),
        "document {} has another signature than its text gives",
    ),
    "left out": (
        lambda s, at: without(s, [place for place in range(len(s.ids)) if place != at]),
        "document {} has no signature",
    ),
    "added": (
        lambda s, _: replace(
            without(s, [*range(len(s.ids)), 0]), ids=[*s.ids, "f" * 64],
        ),
        f"document {'f' * 64} has a signature",
    ),
    "order": (
        lambda s, _: without(s, [1, 0, *range(2, len(s.ids))]),
        "documents are not in order, each once",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", FORGED)
def test_a_signature_that_its_text_does_not_give_is_named(name: str) -> None:
    """A value with a flipped bit, another digest or date; one that is missing, or of no document."""
    edit, what = FORGED[name]
    path, known = CORPORA / "documents" / f"{OWN}.signatures.parquet", read()
    signed = read_signatures(path, _rules(request(OWN, known), known).minhash)
    chosen = rows()["nearly new"]
    write_signatures(path, edit(signed, signed.ids.index(chosen.id)))
    for found in (audit(), audit("nearly new")):
        assert [(f.where, f.rule, f.what) for f in found] == [
            (f"{path}", verdicts._SIGNED, what.format(chosen.id))
        ]
        assert found[0].remedy.startswith(f"`dvc repro --force --single-item extract@{OWN}`")
    assert audit(intact=lambda place: place != path) == []


@pytest.mark.usefixtures("folder")
def test_what_was_named_already_is_not_judged_by() -> None:
    """With an earlier snapshot that is damaged, filters are still held against texts, and matches are not."""
    earlier = CORPORA / "documents" / f"{EARLIER}.parquet"
    earlier.write_bytes(b"PAR1")
    plant(short=kept(rows()["short"]), copy=bare(rows()["copy"]))
    (found,) = audit(intact=lambda place: place != earlier)
    assert (found.rule, rows()["short"].id in found.what) == (verdicts._FILTERED, True)
