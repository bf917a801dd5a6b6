"""Signatures are what MinHash promises, stay the same for ever, and survive their file."""

import itertools
import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import datasketch
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from collectors.document import Document, UserError
from collectors.minhash import (
    MinHashConfig,
    Signed,
    band_keys,
    jaccard,
    normalised,
    read_signatures,
    shingles,
    sign,
    signature,
    with_words,
    write_signatures,
)
from samples import make_document

CONFIG = MinHashConfig()
SENTENCE = "It was the best of times, it was the worst of times."


def a_document(native_id: str, text: str) -> Document:
    """Return a document of which only identity, date and text matter here."""
    return make_document(text, native_id=native_id, published=datetime(2026, 10, 1, tzinfo=UTC))


def random_texts(count: int, words: int = 60) -> list[str]:
    """Return unrelated texts."""
    rng = random.Random(count)
    return [" ".join(f"w{rng.randrange(5000)}" for _ in range(words)) for _ in range(count)]


def grams(text: str) -> set[tuple[str, ...]]:
    """Return a text's word 5-grams as tuples: the definition, without hashes."""
    words = re.findall(r"\w+", normalised(text))
    return {tuple(words[k : k + 5]) for k in range(max(1, len(words) - 4))} if words else set()


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    """The normalised text is its own normalised text."""
    assert normalised(normalised(text)) == normalised(text)


def test_every_character_normalises_once() -> None:
    """No single code point needs a second normalisation."""
    characters = map(chr, itertools.chain(range(0xD800), range(0xE000, 0x110000)))
    assert all(normalised(normalised(c)) == normalised(c) for c in characters)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("A  line\r\n\tof text ", "a line of text"),
        ("STRASSE", "straße"),
        ("ﬁne\u00a0ｗｉｄｅ", "fine wide"),
        ("cafe\u0301", "CAFÉ"),
    ],
)
def test_form_case_and_white_space_do_not_count(left: str, right: str) -> None:
    """Texts that differ in compatibility form, case or white space alone are exactly equal."""
    assert normalised(left) == normalised(right)


def test_punctuation_counts_for_equality_and_not_for_shingles() -> None:
    """A comma makes two texts unequal, with the same shingles."""
    left, right = "one, two — three four five six", "one two three four five six"
    assert normalised(left) != normalised(right)
    assert np.array_equal(shingles(left), shingles(right))


@given(
    st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab _.\n’é漢। ")), max_size=80)
)
def test_shingles_are_the_distinct_word_5_grams(text: str) -> None:
    """There are as many shingles as distinct tuples of five words, sorted, in every script."""
    found = shingles(text)
    assert len(found) == len(grams(text))
    assert np.array_equal(found, np.unique(found))


def test_signatures_have_pinned_values() -> None:
    """The hashes of a known text never change unless the algorithm version does."""
    assert shingles("one two three four five six").tolist() == [8546555144458285707, 13250693786483293856]
    values = signature(shingles(SENTENCE), CONFIG).tolist()
    assert values[:5] == [279015574, 317959963, 386370943, 1247020222, 157919033]
    assert sum(values) == 49444133133


def test_a_short_text_is_one_shingle_and_an_empty_one_none() -> None:
    """Fewer than five words give one shingle of all of them, no word gives none."""
    assert len(shingles("two words")) == len(shingles("one two three four five")) == 1
    assert not np.array_equal(shingles("two words"), shingles("words two"))
    assert len(shingles("")) == len(shingles("… !? —\n")) == 0


WORDS = st.lists(st.sampled_from("abcd"), max_size=30).map(" ".join)


@given(WORDS, WORDS)
def test_jaccard_is_that_of_the_sets_of_word_tuples(left: str, right: str) -> None:
    """The similarity of hashed shingles is the naive one of Python sets."""
    a, b = grams(left), grams(right)
    expected = len(a & b) / len(a | b) if a and b else 0.0
    assert jaccard(shingles(left), shingles(right)) == expected


HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20).map(lambda h: np.array(h, np.uint64))


@given(HASHES, HASHES)
def test_the_signature_of_a_union_is_the_minimum_of_signatures(left: np.ndarray, right: np.ndarray) -> None:
    """Each value is a minimum over the set, so it distributes over unions."""
    union = signature(np.concatenate((left, right)), CONFIG)
    assert np.array_equal(union, np.minimum(signature(left, CONFIG), signature(right, CONFIG)))


def test_signature_is_the_least_of_each_permutation() -> None:
    """Python's integers give the same minima as the blocks of numpy, over more than one block."""
    config = MinHashConfig(permutations=4, bands=2, seed=7)
    hashes = shingles(random_texts(1, words=3000)[0])
    assert len(hashes) > 2048
    for i, value in enumerate(signature(hashes, config).tolist()):
        a = xxhash.xxh64_intdigest(f"multiplier {i}".encode(), seed=7) >> 32 | 1
        b = xxhash.xxh64_intdigest(f"increment {i}".encode(), seed=7) >> 32
        assert value == min((a * (x >> 32) + b) % 2**32 for x in hashes.tolist())


def test_another_seed_gives_another_signature() -> None:
    """The seed decides the permutations."""
    other = signature(shingles(SENTENCE), replace(CONFIG, seed=2))
    assert not np.array_equal(other, signature(shingles(SENTENCE), CONFIG))


def test_estimates_agree_with_the_exact_similarity_as_well_as_datasketch() -> None:
    """Agreement of signatures estimates Jaccard without bias, within five binomial deviations."""
    rng = random.Random(3)
    errors = []
    for common in range(20, 200, 3):
        pool = random_texts(common, words=260)[0].split()
        left, right = pool[:200], pool[200 - common :]
        rng.shuffle(left)
        sets = [shingles(" ".join(words), words=1) for words in (left, right)]
        exact = jaccard(sets[0], sets[1])
        ours = float(np.mean(signature(sets[0], CONFIG) == signature(sets[1], CONFIG)))
        peers = [datasketch.MinHash(num_perm=112, hashfunc=int) for _ in sets]
        for peer, hashes in zip(peers, sets, strict=True):
            peer.update_batch((hashes >> np.uint64(32)).tolist())
        deviation = max(0.02, (exact * (1 - exact) / CONFIG.permutations) ** 0.5)
        assert abs(ours - exact) < 5 * deviation
        assert abs(peers[0].jaccard(peers[1]) - exact) < 5 * deviation
        errors.append(ours - exact)
    assert abs(np.mean(errors)) < 0.02


def test_recall_of_the_bands_has_its_closed_form_and_a_margin() -> None:
    """28 bands of 4 rows find a pair at 0.7 with probability 1 - (1 - 0.7^4)^28."""
    assert pytest.approx(1 - (1 - 0.7**4) ** 28) == CONFIG.recall(0.7)
    assert CONFIG.recall(0.7) > 0.999
    assert CONFIG.recall(0.0) == 0.0
    assert CONFIG.recall(1.0) == 1.0


@pytest.mark.parametrize("change", [{"bands": 30}, {"bands": 0}, {"permutations": 0}, {"words": 0}])
def test_a_configuration_that_cannot_be_split_is_refused(change: dict[str, int]) -> None:
    """Bands must divide the permutations, and every number is positive."""
    with pytest.raises(UserError, match="bands that divide"):
        MinHashConfig(**change)


@given(st.lists(st.lists(st.integers(0, 2), min_size=8, max_size=8), min_size=1, max_size=8))
def test_band_keys_are_equal_exactly_when_bands_are(rows: list[list[int]]) -> None:
    """A key stands for its band's place and values, nothing else."""
    config = MinHashConfig(permutations=8, bands=4)
    keys = band_keys(np.array(rows, np.uint32), config)
    bands = [(k % 4, tuple(row[2 * k : 2 * k + 2])) for row in rows for k in range(4)]
    assert keys.shape == (len(rows), 4)
    for (a, x), (b, y) in itertools.combinations(zip(bands, keys.ravel().tolist(), strict=True), 2):
        assert (a == b) == (x == y)


def signed_texts(texts: list[str], workers: int = 1) -> Signed:
    """Return the signatures of numbered documents."""
    return sign([a_document(str(k), text) for k, text in enumerate(texts)], CONFIG, workers)


def test_signing_orders_by_id_and_keeps_rows_together() -> None:
    """Ids ascend, and each row belongs to its id."""
    texts = [*random_texts(5), "!!!"]
    signed = signed_texts(texts)
    by_id = {a_document(str(k), text).id: text for k, text in enumerate(texts)}
    assert signed.ids == sorted(by_id)
    for id_, values in zip(signed.ids, signed.signatures, strict=True):
        assert np.array_equal(values, signature(shingles(by_id[id_]), CONFIG))
    assert [
        by_id[i] for i, has in zip(signed.ids, with_words(signed.signatures), strict=True) if not has
    ] == ["!!!"]


def test_workers_do_not_change_signatures() -> None:
    """Two processes give the digests and signatures that one gives."""
    texts = random_texts(600)
    one, two = signed_texts(texts), signed_texts(texts, workers=2)
    assert one.ids == two.ids
    assert one.digests == two.digests
    assert np.array_equal(one.signatures, two.signatures)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_signatures_survive_their_file(tmp_path: Path, count: int) -> None:
    """What is read is what was written, for no document too."""
    signed = signed_texts(random_texts(count))
    write_signatures(tmp_path / "s.parquet", signed)
    read = read_signatures(tmp_path / "s.parquet", CONFIG)
    assert (read.ids, read.published, read.digests) == (signed.ids, signed.published, signed.digests)
    assert np.array_equal(read.signatures, signed.signatures)
    assert read.signatures.dtype == np.uint32
    assert read.signatures.shape == (count, 112)


def test_the_same_documents_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    """A signature file depends on its documents alone."""
    documents = [a_document(str(k), text) for k, text in enumerate(random_texts(9))]
    write_signatures(tmp_path / "a.parquet", sign(documents, CONFIG))
    write_signatures(tmp_path / "b.parquet", sign(reversed(documents), CONFIG))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_other_tools_read_the_file(tmp_path: Path) -> None:
    """DuckDB sees the four columns, and one value per permutation."""
    path = tmp_path / "s.parquet"
    write_signatures(path, signed_texts(random_texts(3)))
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        assert [column[0] for column in rows.description or []] == [
            "id",
            "published",
            "normalised_sha256",
            "signature",
        ]
        assert {len(row[3]) for row in rows.fetchall()} == {112}


@pytest.mark.parametrize("change", [{"words": 4}, {"permutations": 56}, {"seed": 2}])
def test_signatures_of_another_configuration_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    """The message names what the file holds, what was asked for, and the remedy."""
    path = tmp_path / "s.parquet"
    write_signatures(path, signed_texts(random_texts(2)))
    name, value = next(iter(change.items()))
    with pytest.raises(UserError, match=f"'{name}': {getattr(CONFIG, name)}.*'{name}': {value}.*dvc repro"):
        read_signatures(path, replace(CONFIG, **change))


def test_another_split_into_bands_reads_the_same_signatures(tmp_path: Path) -> None:
    """Bands only group the values, so they may change without signing again."""
    write_signatures(tmp_path / "s.parquet", signed_texts(random_texts(2)))
    assert read_signatures(tmp_path / "s.parquet", replace(CONFIG, bands=16)).config.rows == 7


def test_a_file_without_signatures_is_refused(tmp_path: Path) -> None:
    """A missing file, another format and another table all name the remedy."""
    path = tmp_path / "s.parquet"
    with pytest.raises(UserError, match="dvc repro"):
        read_signatures(path, CONFIG)
    path.write_text("no Parquet")
    with pytest.raises(UserError, match="dvc repro"):
        read_signatures(path, CONFIG)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(UserError, match="dvc repro"):
        read_signatures(path, CONFIG)
