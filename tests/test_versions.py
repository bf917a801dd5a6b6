"""What differs between two versions, and why."""

import functools
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import build, filters
from collectors.__main__ import main
from collectors.changes import SCHEMA
from collectors.dedup import Earlier, deduplicate, hold
from collectors.document import Document, RawRecord, UserError, read_documents, write_documents
from collectors.minhash import MinHashConfig, sign, write_signatures
from collectors.request import request
from collectors.resemblance import Texts, repeats
from collectors.revisions import WORKSPACE, open_revision
from collectors.versions import Diff, diff
from samples import make_document

CONFIG = MinHashConfig()
FILTERS = {"prose": {"min_characters": 20}}
Snapshots = Mapping[str, Sequence[Document]]


def words(seed: int, count: int = 60) -> str:
    """Return words that no other seed gives."""
    rng = random.Random(seed)
    return " ".join(f"w{seed}x{rng.randrange(10**6)}" for _ in range(count))


def edited(text: str, places: int) -> str:
    """Return the text with words replaced, evenly spread."""
    found = text.split()
    for place in range(places):
        found[(place * len(found)) // places] = f"edited{place}"
    return " ".join(found)


def make(
    folder: Path,
    snapshots: Snapshots,
    removed: Mapping[str, str] | None = None,
    config: MinHashConfig = CONFIG,
    threshold: float = 0.7,
    **chosen: Any,
) -> None:
    """Build the corpora of a version in a folder, as the pipeline does."""
    entry = {"source": "test", "content": "prose", "since": "2026-09-01", "until": "2026-10-01"}
    identity = {
        "words": config.words,
        "permutations": config.permutations,
        "seed": config.seed,
        "bands": config.bands,
    }
    params = {
        "snapshots": {name: {**entry, **chosen.get(name, {})} for name in snapshots},
        "filters": chosen.get("filters", FILTERS),
        "dedup": {"threshold": threshold, "minhash": identity},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    earlier: list[Earlier] = []
    for name, documents in snapshots.items():
        signed = sign([d for d in documents if not d.drop_reason], config)
        write_documents(folder / "corpora" / "documents" / f"{name}.parquet", documents)
        write_signatures(folder / "corpora" / "documents" / f"{name}.signatures.parquet", signed)
        rules = filters.filters(params["filters"][params["snapshots"][name]["content"]])
        judged = list(hold(filters.run(documents, rules), earlier))
        fresh = deduplicate(
            [d for d in judged if not d.drop_reason], signed, earlier, corpus=name, threshold=threshold
        )
        final = build.remove([*fresh, *(d for d in judged if d.drop_reason)], removed or {})
        build.write_corpus(folder / "corpora" / name, request(name, params["snapshots"][name]), final)
        texts = {d.id: d.text for d in documents}
        earlier.append(Earlier(name=name, signed=signed, texts=lambda ids, t=texts: ((i, t[i]) for i in ids)))  # type: ignore[misc]


def compared(before: Path, after: Path, names: Sequence[str] | None = None) -> Diff:
    """Return what differs between two folders."""
    return diff(open_revision(WORKSPACE, before), open_revision(WORKSPACE, after), names)


def rows(found: Diff) -> dict[str, dict[str, Any]]:
    """Return the rows by id; every id must stand in one alone."""
    listed = found.rows.to_pylist()
    assert found.rows.schema == SCHEMA
    assert len({row["id"] for row in listed}) == len(listed)
    return {row["id"]: row for row in listed}


def said(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return change, cause, reason and because of a row."""
    return row["change"], row["cause"], row["reason"], row["because"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Document]]:
    """Two versions, and the documents that leave or change between them by name of what befalls them."""
    folder = tmp_path_factory.mktemp("planted")
    stays, short, copied, listed, secret, gone, lost, reworked, recollected, recoded = (
        make_document(words(number), number) for number in range(10)
    )
    short = make_document("a text of forty-four characters, no fewer...", 1)
    before = [stays, short, copied, listed, secret, gone, lost, reworked, recollected, recoded]
    rewritten = make_document(reworked.text + " more", 7, extractor="test/2")
    other_raw = make_document(
        recollected.text + " more", 8, raw=RawRecord(shard="test.warc.gz", offset=0, sha256="1" * 64)
    )
    original = make_document(edited(copied.text, 2), 99, published=datetime(2026, 8, 1, tzinfo=UTC))
    after = [
        stays, short, copied, listed, replace(secret, drop_reason="secret"), lost, rewritten, other_raw,
        make_document(recoded.text + " more", 9),
    ]  # fmt: skip
    make(folder / "before", {"moss": before})
    make(
        folder / "after",
        {"moss": [*after, original]},
        {listed.id: "its author asked"},
        filters={"prose": {"min_characters": 45}},
    )
    kept = [d for d in read_documents(folder / "after/corpora/moss/documents.parquet") if d.id != lost.id]
    write_documents(folder / "after/corpora/moss/documents.parquet", kept)
    return folder / "before", folder / "after", {
        "stays": stays, "short": short, "copied": copied, "listed": listed, "secret": secret, "gone": gone,
        "lost": lost, "reworked": reworked, "recollected": recollected, "recoded": recoded, "original": original,
    }  # fmt: skip


def test_every_cause_is_found(planted: tuple[Path, Path, dict[str, Document]]) -> None:
    """One document for each way out of a corpus, and for each way to another text."""
    before, after, documents = planted
    found = rows(compared(before, after))
    threshold = "filters.prose.min_characters 20 → 45"
    expected = {
        "short": ("removed", "filter", "min_characters", threshold),
        "copied": ("removed", "duplicate", "duplicate-near", "its match was added"),
        "listed": ("removed", "removal", "its author asked", ""),
        "secret": ("removed", "rule", "secret", ""),
        "gone": ("removed", "source", "", ""),
        "lost": ("removed", "unbuilt", "", ""),
        "reworked": ("changed", "extractor", "", "extractor test/1 → test/2"),
        "recollected": ("changed", "source", "", ""),
        "recoded": ("changed", "code", "", ""),
        "original": ("added", "source", "", ""),
    }
    assert {name: said(found[documents[name].id]) for name in expected} == expected
    assert documents["stays"].id not in found
    assert len(found) == len(expected)

    short, copied = found[documents["short"].id], found[documents["copied"].id]
    assert (short["value"], short["threshold"]) == (44.0, 45.0)
    assert (copied["match_id"], copied["match_corpus"]) == (documents["original"].id, "moss")
    assert copied["similarity"] == pytest.approx(
        jaccard(documents["copied"].text, documents["original"].text)
    )
    original = found[documents["original"].id]
    assert (original["near_id"], original["near_corpus"]) == (documents["copied"].id, "moss")
    assert original["near_similarity"] == copied["similarity"]


def test_what_was_asked_to_be_removed_is_not_named(planted: tuple[Path, Path, dict[str, Document]]) -> None:
    """Its id and digest stay; a list of differences must not bring back its name."""
    before, after, documents = planted
    for found in (compared(before, after), compared(after, before)):
        row = rows(found)[documents["listed"].id]
        assert (row["native_id"], row["url"]) == ("", "")
        assert documents["listed"].native_id not in json.dumps(found.facts())
        assert rows(found)[documents["gone"].id]["native_id"] == documents["gone"].native_id


def test_the_way_back_is_the_mirror_image(planted: tuple[Path, Path, dict[str, Document]]) -> None:
    """What one direction removes the other adds, for the same cause, with before and after swapped."""
    before, after, _ = planted
    forth, back = rows(compared(before, after)), rows(compared(after, before))
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    assert forth.keys() == back.keys()
    for id_, row in forth.items():
        other = back[id_]
        assert other["change"] == opposite[row["change"]]
        same = (
            "cause",
            "reason",
            "value",
            "threshold",
            "match_id",
            "match_corpus",
            "similarity",
            "native_id",
        )
        assert [other[name] for name in same] == [row[name] for name in same]
        for name in ("text_sha256", "n_characters", "extractor"):
            assert (other[f"{name}_before"], other[f"{name}_after"]) == (
                row[f"{name}_after"],
                row[f"{name}_before"],
            )


def test_a_version_does_not_differ_from_itself(planted: tuple[Path, Path, dict[str, Document]]) -> None:
    """Nothing is said of what is the same."""
    before, _, _ = planted
    found = compared(before, before)
    assert (found.rows.num_rows, found.parameters, [s.changes for s in found.snapshots]) == (0, (), [()])
    assert found.snapshots[0].before == found.snapshots[0].after


def test_parameters_that_decide_are_listed(tmp_path: Path) -> None:
    """By key with both values; those of other contents and of absent corpora decide nothing here."""
    one = make_document(words(1), 1)
    rules = {"prose": {"min_characters": 20, "language": {"en": 0.5}}, "code": {"min_characters": 1}}
    make(tmp_path / "a", {"moss": [one], "fern": []}, filters=rules)
    rules = {"prose": {"min_characters": 20, "max_line_length": 10**6}, "code": {"min_characters": 2}}
    make(tmp_path / "b", {"moss": [one], "new": []}, filters=rules, threshold=0.75, moss={"pages": [1, 2]})
    found = compared(tmp_path / "a", tmp_path / "b")
    assert [str(parameter) for parameter in found.parameters] == [
        "dedup.threshold 0.7 → 0.75",
        "filters.prose.language.en 0.5 → unset",
        "filters.prose.max_line_length unset → 1000000",
        "snapshots.moss.pages unset → [1, 2]",
    ]
    assert [s.name for s in found.snapshots] == ["moss", "fern", "new"]


def test_a_threshold_of_duplicates_explains_them(tmp_path: Path) -> None:
    """A lower one drops what the higher one kept, and the row says so."""
    first, second = make_document(words(1), 1), make_document(edited(words(1), 2), 2)
    close = jaccard(first.text, second.text)
    assert 0.7 < close < 0.9
    make(tmp_path / "a", {"moss": [first, second]}, threshold=0.9)
    make(tmp_path / "b", {"moss": [first, second]}, threshold=0.7)
    (row,) = compared(tmp_path / "a", tmp_path / "b").rows.to_pylist()
    assert said(row) == ("removed", "duplicate", "duplicate-near", "dedup.threshold 0.9 → 0.7")
    (row,) = compared(tmp_path / "b", tmp_path / "a").rows.to_pylist()
    assert said(row) == ("added", "duplicate", "duplicate-near", "dedup.threshold 0.7 → 0.9")
    assert row["near_similarity"] is None, "below the threshold of the later version"


def test_an_earlier_corpus_that_is_new_explains_duplicates(tmp_path: Path) -> None:
    """A document leaves because a corpus before its own came to hold it."""
    one, two = make_document(words(1), 1), make_document(words(2), 2)
    copy = make_document(one.text, 3)
    make(tmp_path / "a", {"moss": [one, two]})
    make(tmp_path / "b", {"fern": [copy], "moss": [one, two]})
    found = rows(compared(tmp_path / "a", tmp_path / "b"))
    assert said(found[one.id]) == ("removed", "duplicate", "duplicate-exact", "corpus fern is new")
    assert said(found[copy.id]) == ("added", "snapshot", "", "")
    assert (found[copy.id]["near_id"], found[copy.id]["near_similarity"]) == (one.id, 1.0)
    back = rows(compared(tmp_path / "b", tmp_path / "a"))
    assert said(back[one.id]) == ("added", "duplicate", "duplicate-exact", "corpus fern is gone")


def test_a_text_that_another_extractor_broke_says_so(tmp_path: Path) -> None:
    """The filter is the cause, and the other text the explanation."""
    long, brief = make_document(words(1), 1), make_document("too brief", 1, extractor="test/2")
    make(tmp_path / "a", {"moss": [long]})
    make(tmp_path / "b", {"moss": [brief]})
    (row,) = compared(tmp_path / "a", tmp_path / "b").rows.to_pylist()
    assert said(row) == ("removed", "filter", "min_characters", "extractor test/1 → test/2")
    assert (row["extractor_before"], row["extractor_after"]) == ("test/1", "test/2")
    make(tmp_path / "c", {"moss": [make_document("too brief", 1)]})
    (row,) = compared(tmp_path / "a", tmp_path / "c").rows.to_pylist()
    assert said(row) == ("removed", "filter", "min_characters", "other text")


def test_a_renamed_corpus_holds_what_it_held(tmp_path: Path) -> None:
    """All of it goes and comes, and all that comes is known."""
    documents = [make_document(words(number), number) for number in range(5)]
    make(tmp_path / "a", {"moss": documents})
    make(tmp_path / "b", {"lichen": documents})
    found = compared(tmp_path / "a", tmp_path / "b")
    moss, lichen = found.snapshots
    assert (moss.after, lichen.before) == (None, None)
    assert (moss.documents("removed"), lichen.documents("added")) == (5, 5)
    assert [change.repeated for change in (*moss.changes, *lichen.changes)] == [None, 5]


def test_signatures_of_another_kind_are_said_to_be_incomparable(tmp_path: Path) -> None:
    """Everything else is compared, and no count is made up."""
    make(tmp_path / "a", {"moss": [make_document(words(1), 1)]})
    make(tmp_path / "b", {"moss": [make_document(words(1), 2)]}, config=MinHashConfig(seed=2))
    found = compared(tmp_path / "a", tmp_path / "b")
    assert "'seed': 2" in found.incomparable
    assert "'seed': 1" in found.incomparable
    assert {c.change: c.repeated for c in found.snapshots[0].changes} == {"added": None, "removed": None}


TEXTS = st.integers(0, 5).map(lambda seed: words(seed, 12))


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.integers(0, 9), TEXTS), st.dictionaries(st.integers(0, 9), TEXTS))
def test_every_document_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, left: dict[int, str], right: dict[int, str]
) -> None:
    """A dictionary of ids agrees, and what came and went is the difference of the totals."""
    folder = tmp_path_factory.mktemp("pair")
    for name, texts in (("a", left), ("b", right)):
        make(folder / name, {"moss": [make_document(text, number) for number, text in texts.items()]})
    kept = [
        {d.id: d for d in read_documents(folder / name / "corpora/moss/documents.parquet")} for name in "ab"
    ]
    expected = {
        id_: "removed" if id_ not in kept[1] else "added" if id_ not in kept[0] else "changed"
        for id_ in kept[0].keys() | kept[1].keys()
        if id_ not in kept[0] or id_ not in kept[1] or kept[0][id_].text != kept[1][id_].text
    }
    found = compared(folder / "a", folder / "b")
    assert {id_: row["change"] for id_, row in rows(found).items()} == expected
    (snapshot,) = found.snapshots
    assert snapshot.before is not None
    assert snapshot.after is not None
    came = snapshot.documents("added") - snapshot.documents("removed")
    assert snapshot.after.documents - snapshot.before.documents == came
    dates = sorted(d.published for d in kept[1].values())
    assert [snapshot.after.published_from, snapshot.after.published_until] == (
        [dates[0], dates[-1]] if dates else [None, None]
    )
    assert snapshot.after.characters == sum(d.n_characters for d in kept[1].values())
    removed = [d.n_characters for id_, d in kept[0].items() if expected.get(id_) == "removed"]
    assert snapshot.characters("removed") == sum(removed)


@functools.cache
def grams(text: str) -> frozenset[tuple[str, ...]]:
    """Return the word 5-grams of a text."""
    found = text.split()
    return frozenset(tuple(found[k : k + 5]) for k in range(len(found) - 4))


def jaccard(left: str, right: str) -> float:
    """Return the Jaccard similarity of the sets of word 5-grams, from its definition."""
    one, other = grams(left), grams(right)
    return len(one & other) / len(one | other)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Texts], list[list[Document]]]:
    """Three corpora of 60 texts; those of the second and third are edits of the first's, at graded rates."""
    folder = tmp_path_factory.mktemp("family")
    originals = [words(number, 200) for number in range(60)]
    corpora = [
        [make_document(text, number) for number, text in enumerate(originals)],
        [make_document(edited(text, 1 + k % 12), 100 + k) for k, text in enumerate(originals)],
        [make_document(edited(text, 1 + k % 7), 200 + k) for k, text in enumerate(originals[:40])],
    ]
    listed = []
    for number, documents in enumerate(corpora):
        texts = Texts(
            name=f"c{number}", documents=folder / f"{number}.parquet", signatures=folder / f"{number}.sig"
        )
        write_documents(texts.documents, documents)
        write_signatures(texts.signatures, sign(documents, CONFIG))
        listed.append(texts)
    return listed, corpora


def test_near_duplicates_across_corpora_are_verified(
    family: tuple[list[Texts], list[list[Document]]],
) -> None:
    """Every match is one by its definition, the best one, and the bands miss few."""
    (own, *others), (mine, *theirs) = family
    found = repeats(own, sorted(d.id for d in mine), others, CONFIG, 0.7)
    best = {}
    for document in mine:
        scored = [
            (-jaccard(document.text, other.text), age, other.id)
            for age, corpus in enumerate(theirs)
            for other in corpus
        ]
        if min(scored)[0] <= -0.7:
            best[document.id] = min(scored)
    assert 20 < len(best) < 60
    assert found.keys() <= best.keys()
    assert len(found) >= 0.95 * len(best)
    for id_, match in found.items():
        assert match.similarity == pytest.approx(-best[id_][0])
        assert (match.id, match.corpus) == (best[id_][2], others[best[id_][1]].name)


def test_a_document_meets_the_same_alone_and_in_company(
    family: tuple[list[Texts], list[list[Document]]],
) -> None:
    """Batches change nothing."""
    (own, *others), (mine, *_) = family
    ids = sorted(d.id for d in mine)
    together = repeats(own, ids, others, CONFIG, 0.7)
    alone = [repeats(own, [id_], others, CONFIG, 0.7) for id_ in ids]
    assert together == {id_: match for each in alone for id_, match in each.items()}
    assert repeats(own, [], others, CONFIG, 0.7) == {}
    assert repeats(own, ids, [], CONFIG, 0.7) == {}


def test_documents_that_were_dropped_are_matched_with_nothing(
    family: tuple[list[Texts], list[list[Document]]], tmp_path: Path
) -> None:
    """Signatures of all are kept; only the corpus's own documents count."""
    (own, other, _), (mine, theirs, _) = family
    few = tmp_path / "few.parquet"
    write_documents(few, theirs[:1])
    found = repeats(own, sorted(d.id for d in mine), [replace(other, documents=few)], CONFIG, 0.7)
    assert [match.id for match in found.values()] == [theirs[0].id]
    write_documents(few, [])
    assert repeats(own, [mine[0].id], [replace(other, documents=few)], CONFIG, 0.7) == {}


def test_a_document_without_a_signature_is_named(family: tuple[list[Texts], list[list[Document]]]) -> None:
    """A corpus that its signatures do not belong to is not half compared."""
    (own, *others), _ = family
    with pytest.raises(UserError, match=f"document {'f' * 64} of c0 has no signature"):
        repeats(own, ["f" * 64], others, CONFIG, 0.7)


def test_a_corpus_that_neither_has_is_named(planted: tuple[Path, Path, dict[str, Document]]) -> None:
    """With those there are."""
    with pytest.raises(
        UserError, match="neither the workspace nor the workspace has the corpus 'fern'; they have moss"
    ):
        compared(planted[0], planted[1], ["fern"])


def test_a_file_that_is_no_corpus_is_said_to_be(tmp_path: Path) -> None:
    """Damage ends in one line."""
    make(tmp_path / "a", {"moss": [make_document(words(1), 1)]})
    make(tmp_path / "b", {"moss": []})
    (tmp_path / "b/corpora/moss/documents.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        UserError, match="cannot be compared .*; compare versions whose files have the columns"
    ):
        compared(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("damage", [b"garbage", b"", None])
def test_damaged_signatures_are_named(tmp_path: Path, damage: bytes | None) -> None:
    """With the corpus that they are of, in one line."""
    make(tmp_path / "a", {"moss": [make_document(words(1), 1)]})
    make(tmp_path / "b", {"moss": [make_document(words(2), 2)]})
    path = tmp_path / "a/corpora/documents/moss.signatures.parquet"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(UserError, match=r"^the signatures of corpus moss cannot be read \(.*\); delete .*$"):
        compared(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("threshold", ["abc", True, [0.7]])
def test_a_threshold_that_is_no_number_is_named(tmp_path: Path, threshold: Any) -> None:
    """As `dedup` says it."""
    make(tmp_path / "a", {"moss": [make_document(words(1), 1)]})
    stated = yaml.safe_load((tmp_path / "a/params.yaml").read_text())
    stated["dedup"]["threshold"] = threshold
    (tmp_path / "a/params.yaml").write_text(yaml.safe_dump(stated))
    with pytest.raises(UserError, match="`dedup.threshold` in params.yaml must be a number, not"):
        compared(tmp_path / "a", tmp_path / "a")


def test_a_corpus_that_is_listed_and_not_there_is_unbuilt(tmp_path: Path) -> None:
    """Not one of which the version knows nothing, in both directions; it says how to have it back."""
    documents = [make_document(words(1), 1)]
    make(tmp_path / "a", {"moss": documents})
    make(tmp_path / "b", {"moss": documents})
    make(tmp_path / "c", {"fern": []})
    (tmp_path / "b/corpora/moss/documents.parquet").rename(tmp_path / "away.parquet")
    because = "corpora/moss is not there; restore it with `dvc checkout`, or build it with `dvc repro`"
    for before, after, change in (("a", "b", "removed"), ("b", "a", "added")):
        (row,) = compared(tmp_path / before, tmp_path / after).rows.to_pylist()
        assert said(row) == (change, "unbuilt", "", because)
    (row,) = compared(tmp_path / "a", tmp_path / "c").rows.to_pylist()
    assert said(row) == ("removed", "snapshot", "", "")


def test_corpora_that_were_built_under_other_parameters_are_said_to_be(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An edit without `dvc repro` changes no document: the parameter that DVC recorded is shown beside the new one."""
    make(workspace, {"moss": [make_document(words(1), 1)]})
    stated = yaml.safe_load(Path("params.yaml").read_text())
    lock = {"schema": "2.0", "stages": {"dedup@moss": {"cmd": "dedup", "params": {"params.yaml": stated}}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert main(["diff", "workspace", "workspace"]) == 0
    assert capsys.readouterr().out.endswith("\nno document differs\n")
    parameter = "filters.prose.min_characters 20 → 45"
    stated["filters"]["prose"]["min_characters"] = 45
    Path("params.yaml").write_text(yaml.safe_dump(stated))
    assert main(["diff", "workspace", "workspace"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "no document differs",
        f"the corpora on disk were built under other parameters ({parameter}); run `dvc repro`",
    ]
    assert main(["diff", "workspace", "workspace", "--json"]) == 0
    shown = {"key": "filters.prose.min_characters", "before": "20", "after": "45"}
    assert json.loads(capsys.readouterr().out)["outdated"] == [shown]
    Path("dvc.lock").write_text("stages: []\n")
    assert main(["diff", "workspace", "workspace"]) == 0
    Path("dvc.lock").write_text("stages: [\n")
    assert main(["diff", "workspace", "workspace"]) == 2
    assert "dvc.lock of the workspace cannot be read" in capsys.readouterr().err


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder as somebody."""
    who = ("-c", "user.name=Moss", "-c", "user.email=moss@freshbits.example")
    subprocess.run(("git", *who, *arguments), cwd=folder, check=True)


@pytest.mark.slow
def test_versions_of_git_and_dvc_are_compared(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command on real revisions: a table, JSON, and Parquet of the same bytes every time."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(workspace / "site"))
    one, two, three = (make_document(words(number), number) for number in range(3))
    dvc = (sys.executable, "-m", "dvc")
    git(workspace, "init", "--quiet")
    subprocess.run((*dvc, "init", "--quiet"), check=True)
    for version, documents in (("v1", [one, two]), ("v2", [two, three])):
        make(workspace, {"moss": documents})
        subprocess.run((*dvc, "add", "--quiet", "corpora"), check=True)
        git(workspace, "add", "params.yaml", "corpora.dvc")
        git(workspace, "commit", "--quiet", "-m", version)
        git(workspace, "tag", version)
    make(workspace, {"moss": [two, three], "fern": [one]})

    assert main(["diff", "v1", "v2", "--parquet", "rows.parquet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("v1 (")
    assert lines[-2:] == [
        f"  +1 source: {three.n_characters:,} characters",
        f"  −1 source: {one.n_characters:,} characters",
    ]
    first = Path("rows.parquet").read_bytes()
    assert pq.read_table("rows.parquet")["change"].to_pylist() in (["added", "removed"], ["removed", "added"])
    assert main(["diff", "v1", "v2", "--parquet", "rows.parquet", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["after"]["revision"] == "v2"
    assert [change["change"] for change in facts["snapshots"][0]["changes"]] == ["added", "removed"]
    assert Path("rows.parquet").read_bytes() == first

    assert main(["diff", "v2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("v2 (")
    assert f"+1 snapshot: {one.n_characters:,} characters" in out
    assert main(["diff", "v2", "--corpus", "moss"]) == 0
    assert capsys.readouterr().out.endswith("no document differs\n")
    assert main(["diff", "v3"]) == 2
    assert "git knows no revision 'v3'" in capsys.readouterr().err
