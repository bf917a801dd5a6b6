"""Where documents come from, as every source of ours and a file of one's own say it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collectors.build import write_corpus
from collectors.document import UserError
from evaluate import corpus, origins
from samples import REQUEST, ROOT, make_document


@pytest.mark.parametrize(
    ("golden", "kinds"),
    [
        ("packages", {"distribution"}),
        ("github", {"repository"}),
        ("news", {"site"}),
        ("arxiv", {"authors"}),
    ],
)
def test_documents_of_every_source_have_an_origin(golden: str, kinds: set[str]) -> None:
    """Of what their records hold, whatever was kept or dropped."""
    found = json.loads((ROOT / "tests" / "golden" / f"{golden}.documents.json").read_text())
    stated = [origins.origin(row) for row in found if row["metadata"]]
    assert stated
    assert {name.partition(" ")[0] for name in stated} <= kinds | {""}
    assert any(stated)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"metadata": {"distribution": "MarkupSafe"}}, "distribution markupsafe"),
        ({"metadata": [{"key": "repository", "value": "One/Two"}]}, "repository one/two"),
        ({"metadata": {"authors": "A. Mean, B. Median", "site": "news.example"}}, "site news.example"),
        ({"metadata": {"authors": "A. Mean, B. Median"}}, "authors a. mean"),
        ({"metadata": {"authors": "A. Mean and B. Median"}}, "authors a. mean"),
        ({"metadata": {"site": "news.example"}, "origin": " My blog "}, "origin my blog"),
        ({"metadata": {"site": " "}, "origin": 3}, ""),
        ({"metadata": "site"}, ""),
        ({}, ""),
    ],
)
def test_a_row_states_its_origin(row: dict[str, object], expected: str) -> None:
    """A column of its own goes first; case says nothing, and of authors the first counts."""
    assert origins.origin(row) == expected


def test_a_built_corpus_and_files_of_ones_own_are_read_alike(tmp_path: Path) -> None:
    """By id; a document without an origin is not among them, and a plain text has none."""
    documents = [
        make_document(f"text {i}", i, metadata={"distribution": f"d{i % 2}"} if i else {}) for i in range(4)
    ]
    write_corpus(tmp_path / REQUEST.name, REQUEST, documents)
    expected = {document.id: f"distribution d{i % 2}" for i, document in enumerate(documents) if i}
    assert origins.of(corpus.built_corpus(tmp_path / REQUEST.name)) == expected
    own = tmp_path / "own"
    own.mkdir()
    rows = [
        {"id": "a", "text": "x", "origin": "One"},
        {"id": "b", "text": "y"},
        {"text": "z", "origin": "One"},
    ]
    (own / "one.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    pq.write_table(pa.table({"id": ["c"], "text": ["x"], "origin": ["Two"]}), own / "two.parquet")
    assert origins.of(corpus.folder(own, "text")) == {"a": "origin one", "c": "origin two"}
    (tmp_path / "plain.txt").write_text("text")
    assert origins.of(corpus.text_file(tmp_path / "plain.txt")) == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """On one line."""
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(UserError, match="broken.jsonl does not say where its documents come from") as caught:
        origins.of(corpus.folder(tmp_path, "text"))
    assert "\n" not in str(caught.value)
