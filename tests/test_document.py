"""The record and its Parquet file."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.document import (
    FilterResult,
    Match,
    UserError,
    normalise,
    read_documents,
    replacing,
    sha256_of,
    write_documents,
)
from samples import make_document

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@settings(deadline=None, max_examples=40)
@given(
    texts=st.lists(TEXT, max_size=5),
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    value=st.floats(allow_nan=False),
    moment=st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
)
def test_documents_return_from_parquet_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    metadata: dict[str, str],
    value: float,
    moment: datetime,
) -> None:
    """Any Unicode, any date, any float: what is written is what is read, in the order of ids."""
    documents = [
        make_document(
            text,
            number,
            published=moment.replace(tzinfo=UTC),
            metadata=metadata,
            filters=(FilterResult(name="f", value=value, threshold=0.5, passed=False),),
            duplicate=Match(id="x", corpus="y", similarity=0.75) if number % 2 else None,
        )
        for number, text in enumerate(texts)
    ]
    path = tmp_path_factory.mktemp("documents") / "d.parquet"
    assert write_documents(path, documents) == len(documents)
    assert list(read_documents(path)) == sorted(documents, key=lambda d: d.id)


def test_the_file_depends_on_the_documents_alone(tmp_path: Path) -> None:
    """Input order changes no byte."""
    documents = [make_document(f"text {i}", i) for i in range(50)]
    write_documents(tmp_path / "a.parquet", documents)
    write_documents(tmp_path / "b.parquet", reversed(documents))
    assert sha256_of(tmp_path / "a.parquet") == sha256_of(tmp_path / "b.parquet")


def test_a_corpus_is_readable_without_us(tmp_path: Path) -> None:
    """DuckDB sees lists and structures."""
    write_documents(tmp_path / "a.parquet", [make_document("one"), make_document("three", 1)])
    query = "SELECT sum(n_characters), any_value(date_evidence[1].kind) FROM read_parquet(?)"
    rows = duckdb.execute(query, [str(tmp_path / "a.parquet")]).fetchall()
    assert rows == [(8, "declared-month")]


def test_text_is_kept_as_nfc_with_line_feeds() -> None:
    """Windows and old Mac line ends, decomposed accents."""
    assert normalise("a\r\nb\rc\n") == "a\nb\nc\n"
    assert normalise("e\u0301") == "é"
    document = make_document("e\u0301\r\n")
    assert (document.text, document.n_characters, document.n_bytes) == ("é\n", 2, 3)


def test_ids_are_stable_and_distinguish_versions() -> None:
    """The id depends on source, native id and version, not on the text."""
    first = make_document("a")
    assert first.id == make_document("b").id
    assert first.id != make_document("a", version="2").id
    assert first.id == hashlib.sha256(b"test\0document-0\x001").hexdigest()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"published_precision": "decade"}, "precision 'decade' of document-0 is none of second"),
        ({"published": datetime(2026, 9, 1)}, "has no time zone"),  # noqa: DTZ001
    ],
)
def test_dates_must_be_usable(fields: dict[str, Any], message: str) -> None:
    """An unknown precision or a date without a zone is refused."""
    with pytest.raises(UserError, match=message):
        make_document("a", **fields)


def test_files_that_are_no_corpus_are_one_line(tmp_path: Path) -> None:
    """Missing, not Parquet, or lacking a column: each named."""
    with pytest.raises(UserError, match="is missing; make it with `dvc repro`"):
        list(read_documents(tmp_path / "missing.parquet"))
    (tmp_path / "words.parquet").write_text("words")
    with pytest.raises(UserError, match="no readable Parquet"):
        list(read_documents(tmp_path / "words.parquet"))
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "thin.parquet")
    with pytest.raises(UserError, match="has no column 'source'"):
        list(read_documents(tmp_path / "thin.parquet"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Files move into place whole or not at all."""
    path = tmp_path / "file"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_documents_are_immutable() -> None:
    """A step returns a new document, it changes none."""
    document = make_document("a")
    assert replace(document, drop_reason="x").drop_reason == "x"
    with pytest.raises(AttributeError):
        document.text = "b"  # type: ignore[misc]
