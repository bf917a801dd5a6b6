"""Cells of model and corpus."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from collectors.build import write_corpus
from collectors.document import UserError
from evaluate import scores
from evaluate.corpus import Corpus, built_corpus
from evaluate.model import Likelihood
from evaluate.scores import ModelEntry, Scored
from evaluate.windows import ScoringProtocol
from samples import REQUEST, make_document

ENTRY = ModelEntry(slug="tiny", backend="transformers", name="org/tiny", options={"source": "x"})
ROWS = [
    Likelihood(document="a", nll=30.0, n_tokens=10, n_characters=20, n_bytes=25, lossless=True),
    Likelihood(document="b", nll=10.0, n_tokens=5, n_characters=20, n_bytes=20, lossless=False),
]
SCORED = Scored(
    protocol="full/1900/512", revision="sha256:1", prefix="none", software="torch 1", likelihoods=ROWS
)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A built corpus of two texts."""
    folder = tmp_path / REQUEST.name
    write_corpus(folder, REQUEST, [make_document("one text " * 9, 1), make_document("another text", 2)])
    return built_corpus(folder)


def test_a_cell_returns_every_metric_with_its_provenance(tmp_path: Path, corpus: Corpus) -> None:
    """Sums over documents, divided once; the same from the file as from the scorer."""
    path = tmp_path / "cell.parquet"
    scores.write_cell(path, ENTRY, corpus, [SCORED], "key")
    found = {score.metric: score for score in scores.read_cell(path, "org/tiny")}
    assert found["bits_per_character"].value == pytest.approx(1 / math.log(2))
    assert found["bits_per_byte"].value == pytest.approx(40 / 45 / math.log(2))
    assert found["bits_per_token"].value == pytest.approx(40 / 15 / math.log(2))
    assert list(found.values()) == scores.summarise(ENTRY, corpus, SCORED)
    first = found["bits_per_character"]
    assert (first.nll, first.n_documents, first.n_lossy) == (40.0, 2, 1)
    assert (first.corpus, first.corpus_sha256) == (corpus.name, corpus.sha256)
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.value < first.high


def test_cells_are_queried_without_us(tmp_path: Path, corpus: Corpus) -> None:
    """Every row carries what it came from."""
    scores.write_cell(tmp_path / "cells" / "tiny" / "c.parquet", ENTRY, corpus, [SCORED], "key")
    query = "SELECT model, protocol, sum(nll) FROM read_parquet(?) GROUP BY ALL"
    assert duckdb.execute(query, [str(tmp_path / "cells" / "*" / "*.parquet")]).fetchall() == [
        ("tiny", "full/1900/512", 40.0)
    ]


def test_the_key_changes_with_everything_a_number_depends_on(corpus: Corpus) -> None:
    """Weights, options, backend, codec, protocol, corpus; not with the published name."""
    protocol = ScoringProtocol()
    keys = {
        scores.cell_key(ENTRY, "w", protocol, corpus),
        scores.cell_key(ENTRY, "other weights", protocol, corpus),
        scores.cell_key(replace(ENTRY, slug="other"), "w", protocol, corpus),
        scores.cell_key(replace(ENTRY, options={"source": "y"}), "w", protocol, corpus),
        scores.cell_key(replace(ENTRY, backend="compressors"), "w", protocol, corpus),
        scores.cell_key(ENTRY, "w", ScoringProtocol(window=100, stride=50), corpus),
        scores.cell_key(ENTRY, "w", ScoringProtocol(name="huang2024"), corpus),
        scores.cell_key(ENTRY, "w", protocol, replace(corpus, sha256="other")),
    }
    assert len(keys) == 8
    assert scores.cell_key(replace(ENTRY, name="z"), "w", protocol, corpus) in keys


def test_a_cell_is_current_only_under_its_key(tmp_path: Path, corpus: Corpus) -> None:
    """Missing, damaged and foreign files are not."""
    path = tmp_path / "cell.parquet"
    assert not scores.is_current(path, "key")
    scores.write_cell(path, ENTRY, corpus, [SCORED], "key")
    assert scores.is_current(path, "key")
    assert not scores.is_current(path, "other")
    path.write_bytes(path.read_bytes()[:-9])
    assert not scores.is_current(path, "key")
    with pytest.raises(UserError, match="is no readable cell of scores; delete it and run `dvc repro`"):
        scores.read_cell(path, "")


def test_compressors_are_scored_alone_and_as_a_stream(tmp_path: Path, corpus: Corpus) -> None:
    """Two protocols in one cell; bits per token do not exist; a stream has no interval."""
    entry = ModelEntry(slug="gzip", backend="compressors")
    run = scores.scorer(entry, ScoringProtocol(), print)
    found = [score for part in run(corpus, tmp_path / "j") for score in scores.summarise(entry, corpus, part)]
    assert [(s.protocol, s.metric, s.low is None, s.n_tokens) for s in found] == [
        ("document", "bits_per_character", False, None),
        ("document", "bits_per_byte", False, None),
        ("stream", "bits_per_character", True, None),
        ("stream", "bits_per_byte", True, None),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ModelEntry(slug="m", backend="vllm"), "backend 'vllm' of m is unknown; choose one of transformers"),
        (
            ModelEntry(slug="m", backend="transformers", options={"speed": 9}),
            "model m .* has wrong options .speed",
        ),
        (
            ModelEntry(slug="m", backend="transformers", options={"source": "x", "dtype": "int8"}),
            "dtype 'int8'",
        ),
        (ModelEntry(slug="gzip", backend="compressors", options={"level": 3}), "wrong options: level"),
        (ModelEntry(slug="zip", backend="compressors"), "codec 'zip' is unknown"),
    ],
)
def test_wrong_entries_are_one_line(entry: ModelEntry, message: str) -> None:
    """Backend, option or codec is named."""
    with pytest.raises(UserError, match=message):
        scores.scorer(entry, ScoringProtocol(), print)


def test_the_table_is_sorted_and_rounded(tmp_path: Path, corpus: Corpus) -> None:
    """Equal scores give equal bytes, whatever order they came in."""
    rows = scores.summarise(ENTRY, corpus, SCORED)
    scores.write_scores(tmp_path / "a.csv", rows)
    scores.write_scores(tmp_path / "b.csv", reversed(rows))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    table = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["metric"] for row in table] == ["bits_per_byte", "bits_per_character", "bits_per_token"]
    assert table[1]["value"] == f"{1 / math.log(2):.9g}"
