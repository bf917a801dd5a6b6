"""The texts that are scored."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collectors.build import write_corpus
from collectors.document import UserError
from evaluate.corpus import built_corpus, folder, text_file
from samples import REQUEST, make_document


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    """Bytes are decoded as UTF-8 and nothing is changed."""
    path = tmp_path / "a.txt"
    path.write_bytes("żółw\r\n".encode())
    assert text_file(path).documents() == [("a.txt", "żółw\r\n")]


def test_a_folder_is_its_parquet_and_json_lines(tmp_path: Path) -> None:
    """Files in order of name, rows in order, ids where there are any."""
    pq.write_table(pa.table({"text": ["p"], "id": ["x1"]}), tmp_path / "b.parquet")
    (tmp_path / "a.jsonl").write_text('{"text": "j\\u00e9"}\n\n{"text": "k"}\n')
    (tmp_path / "notes.md").write_text("ignored")
    corpus = folder(tmp_path, "text")
    assert corpus.documents() == [("a.jsonl:1", "jé"), ("a.jsonl:3", "k"), ("x1", "p")]
    assert corpus.name == tmp_path.name
    (tmp_path / "a.jsonl").write_text('{"text": "other"}\n')
    assert folder(tmp_path, "text").sha256 != corpus.sha256


def test_a_single_file_of_rows_is_a_corpus_too(tmp_path: Path) -> None:
    """--corpus takes one .jsonl or .parquet file as well as a folder of them."""
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "two"}\n')
    assert folder(tmp_path / "b.jsonl", "text").documents() == [("b.jsonl:1", "two")]


def test_a_built_corpus_is_read_without_what_it_dropped(tmp_path: Path) -> None:
    """The same by --corpus and by name, under the digest that corpus.json gives."""
    kept, dropped = make_document("kept", 1), make_document("dropped", 2, drop_reason="license")
    tmp_path /= REQUEST.name
    facts = write_corpus(tmp_path, REQUEST, [kept, dropped])
    corpus = folder(tmp_path, "ignored")
    assert corpus.documents() == [(kept.id, "kept")]
    assert (corpus.name, corpus.content, corpus.sha256) == ("test-2026-09", "prose", facts.documents_sha256)
    (tmp_path / "documents.parquet").write_bytes((tmp_path / "dropped.parquet").read_bytes())
    with pytest.raises(UserError, match="is not the file that corpus.json beside it describes"):
        built_corpus(tmp_path)
    with pytest.raises(UserError, match="describes 'test-2026-09'; restore the folder"):
        built_corpus(tmp_path.rename(tmp_path.with_name("other")))


@pytest.mark.parametrize("facts", ["", "[]", '{"name": "a"}', "null"])
def test_a_folder_without_a_corpus_is_refused(tmp_path: Path, facts: str) -> None:
    """Whatever corpus.json says."""
    (tmp_path / "corpus.json").write_text(facts)
    with pytest.raises(UserError, match="holds no built corpus; build it with `dvc repro`"):
        built_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"caf\xe9", r"is not UTF-8 \(byte 0xe9 at offset 3\)"),
        ("a.txt", b"", "holds no text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 of .* is no JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 of .* is no JSON"),
        ("a.jsonl", b'["text"]', "is no JSON object"),
        ("a.jsonl", b'{"body": "a"}', "has no column 'text'; name one with --column: 'body'"),
        ("a.jsonl", b'{"text": 5}', "row 1 of .* has no text in 'text' but int"),
        ("a.jsonl", b'{"text": "\\ud800"}', "lone surrogate"),
        ("a.jsonl", b"\xff", "is not UTF-8"),
        ("a.jsonl", b"", "holds no text"),
        ("a.parquet", b"PAR1 not really", "is no readable Parquet"),
    ],
)
def test_unreadable_texts_are_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """File, place and remedy are named."""
    (tmp_path / name).write_bytes(data)
    corpus = text_file(tmp_path / name) if name.endswith(".txt") else folder(tmp_path, "text")
    with pytest.raises(UserError, match=message):
        corpus.documents()


def test_parquet_columns_are_checked(tmp_path: Path) -> None:
    """A missing column, a null and a number."""
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has no column 'text'"):
        folder(tmp_path, "text").documents()
    with pytest.raises(UserError, match="has no text in 'n' but int"):
        folder(tmp_path, "n").documents()
    twice = pa.table([["a"], ["b"]], names=["text", "text"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has several columns 'text'"):
        folder(tmp_path, "text").documents()
    pq.write_table(pa.table({"text": pa.array([None], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has no text in 'text' but NoneType"):
        folder(tmp_path, "text").documents()


def test_missing_paths_are_one_line(tmp_path: Path) -> None:
    """A file or folder that is not there."""
    with pytest.raises(UserError, match="does not exist or is no plain file"):
        text_file(tmp_path / "a.txt")
    with pytest.raises(UserError, match="does not exist; check the path"):
        folder(tmp_path / "nowhere", "text")


def test_the_digest_of_a_folder_names_what_was_read(tmp_path: Path) -> None:
    """Another column is another corpus."""
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": "x", "b": "y"}))
    assert folder(tmp_path, "a").sha256 != folder(tmp_path, "b").sha256
