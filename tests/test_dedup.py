"""Every repeat is dropped for a true reason, and nothing else decides what survives."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import datasketch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.dedup import CLOSEST, Earlier, candidates, deduplicate, hold
from collectors.document import Document, Match, UserError
from collectors.minhash import MinHashConfig, band_keys, normalised, sign
from samples import make_document

CONFIG = MinHashConfig()
THRESHOLD = 0.7
VOCABULARY = [f"w{number}" for number in range(5000)]


def a_document(native_id: str, text: str, day: int = 0) -> Document:
    """Return a document published `day` days after the first of October."""
    published = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=day)
    return make_document(text, native_id=native_id, published=published)


def words(rng: random.Random, count: int) -> list[str]:
    """Return random words."""
    return rng.choices(VOCABULARY, k=count)


def with_edits(text: str, edits: int, rng: random.Random) -> str:
    """Return the text with words at random places replaced."""
    result = text.split()
    for place in rng.sample(range(len(result)), edits):
        result[place] = rng.choice(VOCABULARY)
    return " ".join(result)


def grams(text: str) -> set[tuple[str, ...]]:
    """Return a text's word 5-grams as tuples: the definition, without hashes."""
    found = re.findall(r"\w+", normalised(text))
    return {tuple(found[k : k + 5]) for k in range(max(1, len(found) - 4))} if found else set()


def similarity(left: str, right: str) -> float:
    """Return the exact Jaccard similarity of two texts, naively."""
    a, b = grams(left), grams(right)
    return len(a & b) / len(a | b) if a and b else 0.0


def snapshot(name: str, documents: Sequence[Document], config: MinHashConfig = CONFIG) -> Earlier:
    """Return documents as an earlier snapshot."""
    text_of = {d.id: d.text for d in documents}

    def texts(ids: Sequence[str]) -> Iterable[tuple[str, str]]:
        assert list(ids) == sorted(set(ids))
        return [(id_, text_of[id_]) for id_ in reversed(ids)]

    return Earlier(name=name, signed=sign(documents, config), texts=texts)


def run(
    documents: Sequence[Document], earlier: Sequence[Earlier] = (), config: MinHashConfig = CONFIG
) -> list[Document]:
    """Deduplicate as the snapshot `new`."""
    return deduplicate(documents, sign(documents, config), earlier, corpus="new", threshold=THRESHOLD)


def outcome(documents: Iterable[Document]) -> dict[str, tuple[str, Match | None]]:
    """Return reason and match of each document by its native id."""
    return {d.native_id: (d.drop_reason, d.duplicate) for d in documents}


def naive(
    documents: Sequence[Document], earlier: Sequence[tuple[str, Sequence[Document]]]
) -> list[tuple[str, str, Match | None]]:
    """Return id, reason and match of each document: the rules, every pair compared, nothing hashed."""
    verdicts: dict[str, tuple[str, Match | None]] = {}
    survivors: list[Document] = []
    for d in sorted(documents, key=lambda d: (d.published, d.id)):
        held = [
            (normalised(o.text) != normalised(d.text), -similarity(o.text, d.text), age, o.id)
            for age, (_, others) in enumerate(earlier)
            for o in others
        ]
        near = [match for match in held if not match[0] or -match[1] >= THRESHOLD]
        met = [
            (normalised(o.text) != normalised(d.text), -similarity(o.text, d.text), rank)
            for rank, o in enumerate(survivors)
        ]
        repeat = [match for match in met if not match[0] or -match[1] >= THRESHOLD]
        if near:
            different, negative, age, id_ = min((x, s if x else -1.0, a, i) for x, s, a, i in near)
            match = Match(id=id_, corpus=earlier[age][0], similarity=-negative)
        elif repeat:
            different, negative, rank = min((x, s if x else -1.0, r) for x, s, r in repeat)
            match = Match(id=survivors[rank].id, corpus="new", similarity=-negative)
        else:
            verdicts[d.id] = ("", None)
            survivors.append(d)
            continue
        verdicts[d.id] = ("duplicate-near" if different else "duplicate-exact", match)
    return [(id_, *verdict) for id_, verdict in sorted(verdicts.items())]


def planted(seed: int, families: int, size: int) -> list[Document]:
    """Return families of near duplicates over both sides of the threshold, on few days."""
    rng = random.Random(seed)
    documents = []
    for family in range(families):
        base = " ".join(words(rng, 200))
        for member in range(size):
            text = with_edits(base, rng.choice((0, 1, 3, 6, 8, 12)), rng)
            text = text.upper() if rng.random() < 0.2 else text
            documents.append(a_document(f"{seed}-{family}-{member}", text, day=rng.randrange(3)))
    return documents


def test_planted_families_keep_one_each() -> None:
    """Of each family of close copies, the one published first survives."""
    rng = random.Random(1)
    documents = []
    for family in range(30):
        base = " ".join(words(rng, 300))
        documents += [a_document(f"{family}-{k}", with_edits(base, k, rng), day=k) for k in range(5)]
    kept = {d.native_id for d in run(documents) if not d.drop_reason}
    assert kept == {f"{family}-0" for family in range(30)}


SMALL = MinHashConfig(permutations=64, bands=64)
"""Bands of one row make the chance of missing a pair at the threshold 0.3^64: the rules stay alone."""


@st.composite
def editions(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Draw three snapshots of short texts of few families, with their days of publication."""
    bases = [[f"{family}{k}" for k in range(24)] for family in "ab"]
    texts = st.builds(
        lambda base, start, stop, swap, mark: (
            " ".join([*base[start:12], *swap, *base[12:stop]]) + ("!" if mark else "")
        ),
        st.sampled_from(bases),
        st.integers(0, 3),
        st.integers(20, 24),
        st.lists(st.sampled_from("xyz"), max_size=1),
        st.booleans(),
    )
    dated = st.tuples(st.one_of(texts, st.sampled_from(["", "?", "a b", "A  b"])), st.integers(0, 2))
    return [draw(st.lists(dated, max_size=size)) for size in (10, 5, 5)]


@given(editions(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_rules_hold_in_every_order(edition: list[list[tuple[str, int]]], rng: random.Random) -> None:
    """Reasons, matches and similarities are those of the naive rules, however documents arrive."""
    new, *old = [
        [a_document(f"{name}{k}", text, day) for k, (text, day) in enumerate(texts)]
        for name, texts in zip(("new", "old", "older"), edition, strict=True)
    ]
    expected = naive(new, [("older", old[1]), ("old", old[0])])
    rng.shuffle(new)
    result = run(new, [snapshot("older", old[1], SMALL), snapshot("old", old[0], SMALL)], SMALL)
    assert [(d.id, d.drop_reason, d.duplicate) for d in result] == expected


def test_documents_come_back_whole_in_the_order_of_ids() -> None:
    """Nothing but the reason and the match changes, and no document is lost."""
    documents = planted(seed=2, families=10, size=4)
    result = run(documents)
    assert [replace(d, drop_reason="", duplicate=None) for d in result] == sorted(
        documents, key=lambda d: d.id
    )


def test_every_drop_names_a_true_match() -> None:
    """The similarity stated is the exact one, reaches the threshold, and the match named survived."""
    documents = planted(seed=3, families=60, size=6)
    earlier = planted(seed=4, families=20, size=2)
    documents += [a_document(f"again-{d.native_id}", d.text) for d in earlier[::3]]
    corpora = {"new": {d.id: d for d in documents}, "old": {d.id: d for d in earlier}}
    result = run(documents, [snapshot("old", earlier)])
    kept = {d.id for d in result if not d.drop_reason}
    dropped = [d for d in result if d.duplicate]
    assert len(dropped) > 150
    for d in dropped:
        assert d.duplicate is not None
        match = corpora[d.duplicate.corpus][d.duplicate.id]
        assert d.duplicate.similarity == similarity(d.text, match.text) >= THRESHOLD
        assert d.duplicate.corpus == "old" or match.id in kept
        assert (d.drop_reason == "duplicate-exact") == (normalised(d.text) == normalised(match.text))


def test_survivors_do_not_repeat_each_other() -> None:
    """No two survivors reach the threshold, over families that straddle it."""
    kept = [d for d in run(planted(seed=5, families=15, size=8)) if not d.drop_reason]
    family = [d.native_id.split("-")[1] for d in kept]
    pairs = [(a, b) for a in range(len(kept)) for b in range(a) if family[a] == family[b]]
    assert pairs
    assert all(similarity(kept[a].text, kept[b].text) < THRESHOLD for a, b in pairs)


def test_recall_exceeds_that_of_datasketch() -> None:
    """The bands propose nearly all pairs above the threshold, and no fewer than datasketch's."""
    rng = random.Random(6)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < 300:
        text = " ".join(words(rng, 200))
        copy = with_edits(text, rng.randint(1, 9), rng)
        if similarity(text, copy) >= THRESHOLD:
            pairs.append((text, copy))
    left, right = (
        sign([a_document(f"{k:03}", pair[side]) for k, pair in enumerate(pairs)], CONFIG) for side in (0, 1)
    )
    assert left.ids == right.ids
    keys = [band_keys(side.signatures, CONFIG) for side in (left, right)]
    ours = sum(row in others for row, others in candidates(keys[0], keys[1]))

    index = datasketch.MinHashLSH(threshold=THRESHOLD, num_perm=CONFIG.permutations)
    peers = []
    for number, pair in enumerate(pairs):
        sets = [[" ".join(gram).encode() for gram in grams(text)] for text in pair]
        first, second = datasketch.MinHash.generator(sets, num_perm=CONFIG.permutations)
        index.insert(number, first)
        peers.append(second)
    peer = sum(number in index.query(signature) for number, signature in enumerate(peers))
    assert ours >= 0.99 * len(pairs)
    assert ours >= peer


def test_the_threshold_itself_is_enough() -> None:
    """Seven shingles of ten make a similarity of 0.7, which is a near duplicate of 0.7."""
    text = [f"w{number}" for number in range(14)]
    short, long = a_document("a", " ".join(text[:11])), a_document("b", " ".join(text), day=1)
    expected = ("duplicate-near", Match(id=short.id, corpus="new", similarity=0.7))
    assert outcome(run([short, long], config=SMALL))["b"] == expected
    [result] = run([long], [snapshot("old", [short], SMALL)], SMALL)
    assert result.duplicate == Match(id=short.id, corpus="old", similarity=0.7)


def test_the_earliest_published_survives_then_the_lowest_id() -> None:
    """Publication decides before the id does."""
    text = "the same text in all of them"
    documents = [a_document(name, text, day) for name, day in (("a", 1), ("b", 0), ("c", 0), ("d", 2))]
    kept = [d for d in run(documents) if not d.drop_reason]
    assert kept == [min(documents[1:3], key=lambda d: d.id)]


def test_a_repeat_of_a_dropped_document_alone_survives() -> None:
    """A document close to one that was dropped, and to no survivor, is kept."""
    text = words(random.Random(7), 100)
    texts = [" ".join(text[start : start + 80]) for start in (0, 10, 20)]
    documents = [a_document(name, t, day) for day, (name, t) in enumerate(zip("abc", texts, strict=True))]
    result = outcome(run(documents))
    assert result["b"] == (
        "duplicate-near",
        Match(id=documents[0].id, corpus="new", similarity=similarity(texts[0], texts[1])),
    )
    assert result["c"] == ("", None)


def test_the_best_earlier_match_is_named() -> None:
    """The highest similarity wins over the earlier snapshot, the earlier snapshot over a tie."""
    rng = random.Random(8)
    text = " ".join(words(rng, 200))
    close, closer = with_edits(text, 4, rng), with_edits(text, 1, rng)
    older = snapshot("older", [a_document("x", close)])
    old = snapshot("old", [a_document("y", closer)])
    newest = snapshot("newest", [a_document("z", closer)])
    expected = Match(id=a_document("y", "").id, corpus="old", similarity=similarity(text, closer))
    assert outcome(run([a_document("n", text)], [older, old, newest]))["n"] == ("duplicate-near", expected)


def test_an_equal_text_is_named_before_one_that_only_shares_all_shingles() -> None:
    """An exact match outranks a near one of similarity 1, though its snapshot is later."""
    older = snapshot("older", [a_document("x", "one, two, three, four, five, six")])
    old = snapshot("old", [a_document("y", "ONE two three four five six")])
    expected = Match(id=a_document("y", "").id, corpus="old", similarity=1.0)
    result = outcome(run([a_document("n", "one two three four five six")], [older, old]))
    assert result["n"] == ("duplicate-exact", expected)


def test_texts_are_read_for_candidates_alone() -> None:
    """An earlier snapshot without candidates is asked for no text, another one for each of them once."""
    rng = random.Random(9)
    asked: list[list[str]] = []
    base = " ".join(words(rng, 100))
    documents = [a_document(str(k), " ".join(words(rng, 100))) for k in range(50)]
    documents += [a_document("wordless", "!!!"), a_document("copy", base + " more")]
    whole = snapshot("old", documents)

    def texts(ids: Sequence[str]) -> Iterable[tuple[str, str]]:
        asked.append(list(ids))
        return whole.texts(ids)

    recording = Earlier(name="old", signed=whole.signed, texts=texts)
    run([a_document("unrelated", " ".join(words(rng, 100))), a_document("marks", "???")], [recording])
    assert asked == []
    run([a_document("new", base), a_document("other", base + " again")], [recording])
    assert asked == [[documents[-1].id]]


def test_a_large_family_costs_a_bounded_number_of_comparisons() -> None:
    """Of hundreds of near copies in an earlier snapshot only the closest are read."""
    asked: list[str] = []
    base = " ".join(words(random.Random(10), 100))
    whole = snapshot("old", [a_document(str(k), f"{base} {k}") for k in range(200)])

    def texts(ids: Sequence[str]) -> Iterable[tuple[str, str]]:
        asked.extend(ids)
        return whole.texts(ids)

    result = run([a_document("new", base)], [Earlier(name="old", signed=whole.signed, texts=texts)])
    assert result[0].drop_reason == "duplicate-near"
    assert len(asked) == CLOSEST


def test_texts_without_words_are_never_near_duplicates() -> None:
    """Different wordless texts survive side by side, equal ones are exact duplicates."""
    documents = [a_document(str(k), text, day=k) for k, text in enumerate(("!!!", "???", "", " !!! "))]
    earlier = [snapshot("old", [a_document("x", "…")])]
    assert [outcome(run(documents, earlier))[str(k)][0] for k in range(4)] == ["", "", "", "duplicate-exact"]


def test_empty_inputs_give_empty_results() -> None:
    """No document, no earlier document, one document: nothing to compare, nothing dropped."""
    empty = snapshot("old", [])
    alone = a_document("only", "one document with a few words")
    assert run([], [empty]) == []
    assert run([], [snapshot("old", [alone])]) == []
    assert run([alone], [empty]) == [alone]


def test_the_signatures_of_a_whole_snapshot_serve_the_documents_that_passed() -> None:
    """Signatures of documents that the filters dropped are passed over."""
    documents = planted(seed=11, families=5, size=4)
    passed = documents[::2]
    result = deduplicate(passed, sign(documents, CONFIG), [], corpus="new", threshold=THRESHOLD)
    assert result == run(passed)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_a_threshold_that_is_no_similarity_is_refused(threshold: float) -> None:
    """The message names the value and the rule."""
    with pytest.raises(UserError, match=f"{threshold} is no similarity"):
        deduplicate([], sign([], CONFIG), [], corpus="new", threshold=threshold)


def test_a_threshold_that_the_bands_would_miss_is_refused() -> None:
    """28 bands of 4 rows find too few pairs at 0.3, which is said instead of missed in silence."""
    with pytest.raises(
        UserError, match=r"28 bands of 4 rows find 20% .* 0\.3, .* raise it or use more bands"
    ):
        deduplicate([], sign([], CONFIG), [], corpus="new", threshold=0.3)


def test_a_document_without_signature_is_refused() -> None:
    """Signatures of an older state of the snapshot are noticed."""
    with pytest.raises(UserError, match=r"has no signature.*dvc repro"):
        deduplicate([a_document("a", "x")], sign([], CONFIG), [], corpus="new", threshold=THRESHOLD)


def test_an_earlier_signature_without_text_is_refused() -> None:
    """Signatures of an older state of an earlier snapshot are noticed."""
    old = a_document("a", "one two three four five six")
    lacking = Earlier(name="old", signed=sign([old], CONFIG), texts=lambda _: [])
    with pytest.raises(UserError, match=f"snapshot old .* no text of document {old.id}.*dvc repro"):
        run([a_document("b", "one, two three four five six")], [lacking])


PROGRAM = """
import hashlib
from tests.test_dedup import planted, run, snapshot
result = run(planted(seed=12, families=12, size=5), [snapshot("old", planted(seed=13, families=6, size=2))])
shown = repr([(d.id, d.drop_reason, d.duplicate) for d in result])
print(hashlib.sha256(shown.encode()).hexdigest())
"""


def test_the_hash_seed_changes_nothing() -> None:
    """Two processes with different hash seeds drop the same documents for the same reasons."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "tests"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_the_same_document_is_held_by_its_id() -> None:
    """Whatever its text is by now, and with the reason that it may have already; the first holder is named."""
    old = [
        snapshot("2026-08", [a_document("a", "one text")]),
        snapshot("2026-09", [a_document("a", "another")]),
    ]
    changed = a_document("a", "a third text")
    gone = replace(changed, drop_reason="earlier-version")
    match = Match(id=changed.id, corpus="2026-08", similarity=1.0)
    assert list(hold([changed, gone, a_document("b", "one text")], old)) == [
        replace(changed, drop_reason="duplicate-id", duplicate=match),
        replace(gone, duplicate=match),
        a_document("b", "one text"),
    ]
