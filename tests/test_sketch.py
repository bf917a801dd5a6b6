"""Sketches of word n-grams, and which documents share them with other texts."""

import gzip
import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from collectors import references, sketch
from collectors.__main__ import main
from collectors.build import write_corpus
from collectors.document import UserError
from collectors.minhash import ngrams, shingles
from collectors.sketch import Input
from samples import REQUEST, make_document

# Without the clock: a test is known by its parameters.
zipped = partial(gzip.compress, mtime=0)


def words(n: int, seed: int) -> list[str]:
    """Return words of no language, the same for the same seed."""
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghij", k=5)) for _ in range(n)]


def sketch_of(texts: list[str], n: int, n_ngrams: int = 10_000) -> sketch.Sketch:
    """Return a sketch of texts."""
    made = sketch.empty(n_ngrams, n)
    for _ in sketch.extend(made, Input(name="texts", sha256="0"), [("", text) for text in texts]):
        pass
    return made


@given(st.lists(st.text("ab c.", max_size=40), max_size=6), st.text("ab c.", max_size=60), st.integers(1, 4))
def test_a_sketch_finds_what_a_set_of_words_finds(texts: list[str], text: str, n: int) -> None:
    """Never less, and with so few n-grams hardly ever more: shares and runs equal those of a set."""

    def tuples(text: str) -> list[tuple[str, ...]]:
        split = text.replace(".", " ").split()
        return [tuple(split[i : i + n]) for i in range(len(split) - n + 1)]

    held = {gram for other in texts for gram in tuples(other)}
    expected = [gram in held for gram in tuples(text)]
    runs = "".join("x" if hit else " " for hit in expected).split()
    (found,) = sketch.overlaps(sketch_of(texts, n), [("d", text)])
    assert found.n_ngrams == len(expected)
    assert found.n_found == sum(expected)
    assert found.share == pytest.approx(sum(expected) / len(expected) if expected else 0, abs=1e-6)
    assert found.longest == (max(map(len, runs)) + n - 1 if runs else 0)


def test_ngrams_are_shingles_in_their_order() -> None:
    """The hashes are those of deduplication; a text of fewer words than an n-gram has none."""
    text = " ".join(words(50, 1))
    assert np.array_equal(np.unique(ngrams(text, 5)), shingles(text, 5))
    assert len(ngrams(text, 50)) == 1
    assert len(ngrams(text, 51)) == 0
    assert np.array_equal(ngrams("ＡB  C\n", 3), ngrams("ab, c", 3))


@pytest.mark.parametrize("load", [0.25, 1.0, 2.0])
def test_the_rate_of_chance_finds_is_the_one_stated(load: float) -> None:
    """Measured on n-grams that are not held: as the fill of the blocks says, and small where the size was right."""
    rng = np.random.default_rng(1)
    made = sketch.empty(100_000)
    made.add(rng.integers(0, 2**64, int(load * 100_000), dtype=np.uint64))
    others = rng.integers(0, 2**64, 400_000, dtype=np.uint64)
    measured = made.holds(others).mean()
    assert measured == pytest.approx(made.false_positive_rate, rel=0.15, abs=1e-5)
    if load == 1.0:
        assert made.false_positive_rate < 0.002
    assert made.blocks.nbytes == pytest.approx(2 * 100_000, rel=0.01)


def test_the_share_is_corrected_for_chance() -> None:
    """In a sketch that is far too full, a text that shares half is still said to share half."""
    rng = np.random.default_rng(1)
    made = sketch.empty(2_000, 3)
    own, other = words(3_000, 1), words(3_000, 2)
    made.add(rng.integers(0, 2**64, 8_000, dtype=np.uint64))
    made.add(ngrams(" ".join(own), 3))
    assert made.false_positive_rate > 0.3
    (found,) = sketch.overlaps(made, [("half", " ".join(own + other))])
    assert found.n_found / found.n_ngrams > 0.6
    assert found.share == pytest.approx(0.5, abs=0.03)


def test_a_sketch_is_read_as_it_was_written(tmp_path: Path) -> None:
    """To the bit, with what it was made of."""
    made = sketch_of([" ".join(words(500, 1))], 4)
    sketch.write(tmp_path / "s", made)
    again = sketch.read(tmp_path / "s")
    assert np.array_equal(again.blocks, made.blocks)
    assert (again.words, again.n_ngrams, again.inputs) == (made.words, made.n_ngrams, made.inputs)
    assert made.inputs == [Input(name="texts", sha256="0", n_texts=1, complete=True)]
    sketch.write(tmp_path / "t", again)
    assert (tmp_path / "t").read_bytes() == (tmp_path / "s").read_bytes()


def test_every_damage_is_refused(tmp_path: Path) -> None:
    """A flipped byte anywhere, a cut anywhere, a byte more; never a traceback."""
    sketch.write(tmp_path / "s", sketch_of(["a b c d e"], 2, n_ngrams=64))
    whole = (tmp_path / "s").read_bytes()
    path = tmp_path / "damaged"
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match="damaged is "):
            sketch.read(path)
    for damaged in (b"", whole[:10], whole[:-1], whole[: len(whole) // 2], whole + b"x", b"{}\n"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged is "):
            sketch.read(path)


def test_an_interrupted_sketch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the texts that it has, and comes to the same bits."""
    monkeypatch.setattr(sketch, "_AT_A_TIME", 2)
    texts = [(str(i), " ".join(words(30, i))) for i in range(7)]
    whole, part = sketch.empty(1_000, 3), sketch.empty(1_000, 3)
    for _ in sketch.extend(whole, Input(name="t", sha256="0"), texts):
        pass
    growing = sketch.extend(part, Input(name="t", sha256="0"), texts)
    next(growing)
    next(growing)
    (so_far,) = part.inputs
    assert (so_far.n_texts, so_far.complete) == (4, False)
    read: list[str] = []
    for _ in sketch.extend(part, so_far, (read.append(i) or (i, t) for i, t in texts)):  # type: ignore[func-returns-value]
        pass
    assert np.array_equal(part.blocks, whole.blocks)
    assert (part.n_ngrams, part.inputs) == (whole.n_ngrams, whole.inputs)


TEXT = " ".join(words(40, 7))


def test_references_of_every_kind_give_their_texts(tmp_path: Path) -> None:
    """Plain, JSON lines, compressed, Parquet, in folders; rows without `text` give all strings in them."""
    rows = [{"text": TEXT, "n": 1}, {"question": "What grows?", "choices": {"a": ["Moss", "Stone"]}, "n": 2}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    folder = tmp_path / "dump" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "b.jsonl.gz").write_bytes(zipped(lines))
    (folder / "c.jsonl.zst").write_bytes(zstandard.compress(lines))
    (folder / "d.txt").write_text(TEXT)
    (folder / "g.txt.gz").write_bytes(zipped(TEXT.encode()))
    (folder / "h.txt.zst").write_bytes(zstandard.compress(TEXT.encode()))
    (folder / "notes.md").write_text("no reference")
    pq.write_table(pa.table({"text": [TEXT], "id": ["one"]}), folder / "e.parquet")
    pq.write_table(
        pa.table({"question": ["What grows?"], "choices": [["Moss", "Stone"]]}), folder / "f.parquet"
    )
    found = {
        path.name: [text for _, text in references.texts(path, 5)] for path in references.files([tmp_path])
    }
    both = [TEXT, "What grows?\nMoss\nStone"]
    assert found == {
        **dict.fromkeys(("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"), both),
        "d.txt": [TEXT],
        "g.txt.gz": [TEXT],
        "h.txt.zst": [TEXT],
        "e.parquet": [TEXT],
        "f.parquet": [both[1]],
    }


def test_no_ngram_is_lost_where_a_plain_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces share words; none is invented by a cut within a word."""
    monkeypatch.setattr(references, "_CHUNK", 64)
    text = " ".join(words(300, 3))
    (tmp_path / "long.txt").write_text(text)
    pieces = [piece for _, piece in references.texts(tmp_path / "long.txt", 4)]
    assert len(pieces) > 10
    found = set(np.concatenate([ngrams(piece, 4) for piece in pieces]).tolist())
    assert found == set(ngrams(text, 4).tolist())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"{broken\n", "line 1 of .*a.jsonl is no JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 of .*a.jsonl is no JSON"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz cannot be read"),
        ("a.jsonl.gz", zipped(b"{}" * 99)[:-9], "a.jsonl.gz cannot be read"),
        ("a.jsonl.zst", b"no zstd", "a.jsonl.zst cannot be read"),
        ("a.txt.gz", zipped(b"moss" * 99)[:-9], "a.txt.gz cannot be read"),
        ("a.parquet", b"PAR1", "a.parquet cannot be read"),
        ("a.md", b"text", "a.md holds no file that ends in .txt"),
    ],
)
def test_hostile_references_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """In one line."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        [list(references.texts(path, 5)) for path in references.files([tmp_path / name])]
    with pytest.raises(UserError, match="missing does not exist"):
        references.files([tmp_path / "missing"])


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb of one line is not held in memory."""
    monkeypatch.setattr(references, "_LONGEST_LINE", 1_000)
    (tmp_path / "bomb.jsonl.gz").write_bytes(zipped(b'"' + b"x" * 1_000_000))
    with pytest.raises(UserError, match="line 1 of .*bomb.jsonl.gz is longer than 64 MiB"):
        list(references.texts(tmp_path / "bomb.jsonl.gz", 5))


def test_documents_that_stood_in_a_dump_are_named(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A planted copy, a planted half and a stranger; the sketch answers again without the dump."""
    copy, half, own, other = (words(200, seed) for seed in range(4))
    texts = [" ".join(copy), " ".join(half[:100] + own[:100]), " ".join(own)]
    documents = [make_document(text, i) for i, text in enumerate(texts, 1)]
    write_corpus(workspace / "corpora" / REQUEST.name, REQUEST, documents)
    dump = [" ".join(other + copy + other), "Before. " + " ".join(half).upper()]
    (workspace / "dump.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in dump))
    asked = ["overlap", REQUEST.name, "--with", "dump.jsonl", "--sketch", "dump.sketch"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shares = {row["document"]: row for row in found["documents"]}
    ids = [document.id for document in documents]
    assert [shares[i]["share"] for i in ids] == pytest.approx([1.0, 88 / 188, 0.0], abs=0.01)
    assert [shares[i]["longest"] for i in ids] == [200, 100, 0]
    assert found["n_above"] == 2
    (workspace / "dump.jsonl").unlink()
    assert main(["overlap", REQUEST.name, "--sketch", "dump.sketch"]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 documents share 10% or more of their 13-grams with 1 file" in out
    assert out.startswith("100.0%")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t.txt"], "name them by --with, or a sketch of them by --sketch"),
        (["t.txt", "--sketch", "missing"], "missing is missing"),
        (["t.txt", "--sketch", "t.txt"], "t.txt is no sketch of this version"),
        (["missing", "--with", "t.txt"], "missing does not exist"),
        (["t.txt", "--with", "missing.txt"], "missing.txt does not exist"),
        (["t.txt", "--with", "t.txt", "--sketch", "s", "--words", "9"], "s holds n-grams of 5 words, not 9"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """In one line that says what to give."""
    (workspace / "t.txt").write_text(TEXT)
    assert main(["overlap", "t.txt", "--with", "t.txt", "--sketch", "s", "--words", "5"]) == 0
    capsys.readouterr()
    assert main(["overlap", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
