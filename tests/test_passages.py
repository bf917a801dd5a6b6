"""Passages: which text is chosen, its pieces, and `python -m evaluate passages` from corpora to cells."""

import gzip
import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_ladder_report import PIECES, passage
from test_transformers_model import WIDE, read, save_model

from collectors.build import write_corpus
from collectors.document import UserError
from commands import change, run, run_json
from evaluate import backends, passage_cells, passages
from evaluate.codec import files
from evaluate.corpus import Corpus, built_corpus
from evaluate.model import ModelEntry, Tokens
from evaluate.passage_cells import Passage, Piece
from evaluate.passages import Settings
from evaluate.windows import ScoringProtocol
from samples import REQUEST, ROOT, make_document

TEXT = "A heron stands in the shallow water.\nIt waits, “as ever”, for a fish 🐟.\n" * 3
CLOSED = "Nobody may pass this on, however long it is.\n" * 9
SHORT = "Too short.\n"
PROTOCOL = ScoringProtocol(window=60, stride=20)
ENTRY = ModelEntry(
    slug="tiny", backend="transformers", options={"source": "tiny", "separator": "<|endoftext|>"}
)
MODELS: dict[str, Any] = {
    "tiny": {"backend": "transformers", **ENTRY.options},
    "gzip": {"backend": "compressors"},
}


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with a tiny model and a corpus: one text to show, one closed, one short."""
    save_model(workspace / "tiny", transformers.LlamaConfig(**WIDE))
    documents = [
        make_document(TEXT, 1),
        make_document(CLOSED, 2, redistributable=False),
        make_document(SHORT, 3),
    ]
    write_corpus(workspace / "corpora" / REQUEST.name, REQUEST, documents)
    params = {
        "snapshots": {REQUEST.name: {}},
        "models": MODELS,
        "score": {"window": 60, "stride": 20},
        "passages": {"characters": 120},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


@pytest.fixture
def corpus(project: Path) -> Corpus:
    """The corpus of the project."""
    return built_corpus(project / "corpora" / REQUEST.name)


def cell(project: Path, model: str = "tiny") -> Path:
    """Return where a model's cell is."""
    return project / "results" / "passages" / model / f"{REQUEST.name}.parquet"


def made(project: Path, model: str = "tiny") -> Passage:
    """Return the passage of a cell that has one."""
    found = passage_cells.read(cell(project, model))
    assert found
    return found


def utf8(tokens: Tokens) -> str:
    """Decode tokens that are bytes, as byte-level tokenizers do."""
    return bytes(tokens.tolist()).decode(errors="replace")


@given(st.text(min_size=1, max_size=40), st.data())
def test_pieces_are_the_text_and_its_bits(text: str, data: st.DataObject) -> None:
    """Joined they are the text, none is empty, and no bit is lost, whatever bytes a token holds."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    bits = data.draw(st.lists(st.floats(0, 20), min_size=len(ids), max_size=len(ids)))
    found = passages.pieces(text, ids, bits, 0.0, utf8)
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text for piece in found)
    assert math.fsum(piece.bits for piece in found) == pytest.approx(math.fsum(bits))


def test_a_character_of_several_tokens_is_one_piece() -> None:
    """Its bits are theirs together."""
    found = passages.pieces("a🐟b", np.array([97, *"🐟".encode(), 98]), [1, 2, 3, 4, 5, 6], 9, utf8)
    assert found == (Piece(text="a", bits=1), Piece(text="🐟", bits=14), Piece(text="b", bits=6))


def test_a_token_without_text_is_paid_with_its_neighbour() -> None:
    """With the piece behind it, the last with the one before."""
    found = passages.pieces(
        "ab", np.array([0, 97, 0, 98, 0]), [1, 2, 3, 4, 5], 9, lambda ids: utf8(ids[ids > 0])
    )
    assert found == (Piece(text="a", bits=3), Piece(text="b", bits=12))


@pytest.mark.parametrize(
    ("tokens", "bits", "expected"),
    [
        ([], [], (Piece(text="Ab", bits=9),)),
        ([65], [1], (Piece(text="A", bits=1), Piece(text="b", bits=9))),
        ([65, 66], [1, 2], (Piece(text="A", bits=1), Piece(text="b", bits=11))),
    ],
)
def test_what_tokens_do_not_restore_is_paid_aside(
    tokens: list[int], bits: list[float], expected: tuple[Piece, ...]
) -> None:
    """The rest of the text is one piece, with the bits of its tokens and of the patch that mends it."""
    assert passages.pieces("Ab", np.array(tokens, dtype=np.int64), bits, 9, utf8) == expected


@pytest.mark.parametrize(
    ("text", "characters", "expected"),
    [
        ("one\ntwo\nthree", 9, "one\ntwo\n"),
        ("one\ntwo\nthree", 8, "one\ntwo\n"),
        ("a\nlong line", 9, "a\nlong li"),
        ("abc\ndef", 7, "abc\n"),
        ("abcd", 2, "ab"),
    ],
)
def test_a_passage_ends_with_a_line_if_that_keeps_half(text: str, characters: int, expected: str) -> None:
    """Else in the middle of one."""
    assert passages.beginning(text, characters) == expected


def test_the_first_open_document_by_digest_is_chosen(workspace: Path) -> None:
    """Held against a sort; the seed gives another order, and what is closed or short is passed over."""
    texts = [f"{i} " + "x" * 50 for i in range(20)]
    documents = [make_document(text, i, redistributable=i % 2 == 0) for i, text in enumerate(texts)]
    documents.append(make_document("brief", 99))
    write_corpus(workspace / "c" / REQUEST.name, REQUEST, documents)
    corpus = built_corpus(workspace / "c" / REQUEST.name)
    firsts = set()
    for seed in range(8):
        order = sorted(
            (d for d in documents if d.redistributable and d.n_characters >= 40),
            key=lambda d: hashlib.sha256(f"{seed}:{d.id}".encode()).hexdigest(),
        )
        found = passages.choose(corpus, Settings(characters=40, seed=seed))
        assert found
        assert (found.document.id, found.text) == (order[0].id, order[0].text[:40])
        firsts.add(found.document.id)
    assert len(firsts) > 2
    assert passages.choose(corpus, Settings(characters=1000)) is None


@torch.inference_mode()
def naive(folder: Path, text: str) -> list[float]:
    """Return the bits of each byte of a text that fits into one window, from all logits of a plain forward."""
    ids = [0, *transformers.AutoTokenizer.from_pretrained(folder)(text).input_ids]
    logits = read(folder)(input_ids=torch.tensor(ids)[None]).logits[0, :-1]
    nats = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(ids[1:]), reduction="none")
    return [float(cost) / math.log(2) for cost in nats]


def test_a_model_compresses_a_passage_and_restores_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the corpus to the cell: bits as defined, payload and scoring agree, nothing is left behind."""
    change(project, passages={"characters": 100}, score={"window": 400, "stride": 100})
    (result,) = run_json(capsys, "passages", "--model", "tiny")
    found = made(project)
    assert found.text == TEXT[: TEXT.index("🐟.\n") + 3]
    assert "“" in found.text
    assert (found.n_characters, found.n_bytes) == (len(found.text), len(found.text.encode()))
    assert found.restored
    expected = naive(project / "tiny", found.text)
    assert sum(piece.bits for piece in found.pieces) == pytest.approx(sum(expected), rel=1e-4)
    assert found.pieces[0].bits == pytest.approx(expected[0], rel=1e-3)
    assert found.nll / math.log(2) == pytest.approx(sum(expected), rel=1e-5)
    assert 0 < 8 * found.payload_bytes - sum(expected) < 80
    assert found.decoder_bytes == (project / "tiny" / "model.safetensors").stat().st_size
    assert found.protocol == "full/400/100"
    assert (found.title, found.license) == ("Document 1", "MIT")
    assert {name: result[name] for name in ("restored", "file_bytes", "nll")} == {
        "restored": True,
        "file_bytes": found.file_bytes,
        "nll": found.nll,
    }
    (row, *_) = pq.read_table(cell(project)).to_pylist()
    assert row["prefix"] == "separator <|endoftext|> (0)"
    assert row["dtype"] == "float32"
    assert row["revision"].startswith("sha256:")
    assert not list((project / ".staging").rglob("*.jsonl"))


def test_windows_are_those_of_scoring(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A passage longer than a window costs what scoring charges too, with the window cut to the context."""
    save_model(project / "short", transformers.LlamaConfig(**{**WIDE, "max_position_embeddings": 48}))
    change(project, models={"short": {**MODELS["tiny"], "source": "short"}})
    status, out, err = run(capsys, "passages", "--all")
    assert status == 0, err
    found = made(project, "short")
    assert found.protocol == "full/48/16"
    assert len(found.text.encode()) > 2 * 48
    assert sum(piece.bits for piece in found.pieces) == pytest.approx(found.nll / math.log(2), rel=1e-4)
    assert f"short on {REQUEST.name}: {found.n_characters} characters in {found.file_bytes} bytes, " in out
    assert out.endswith("; restored\n")


def test_a_compressor_has_one_piece(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of its file, for the same passage."""
    status, out, err = run(capsys, "passages", "--all")
    assert status == 0, err
    found, text = made(project, "gzip"), made(project).text
    n = len(gzip.compress(text.encode(), 9, mtime=0))
    assert found.pieces == (Piece(text=text, bits=8.0 * n),)
    assert (found.file_bytes, found.payload_bytes, found.decoder_bytes) == (n, n, 0)
    assert found.nll == pytest.approx(8 * n * math.log(2))
    assert (found.restored, found.classical, found.protocol) == (True, True, "document")
    assert f"gzip on {REQUEST.name}: {len(text)} characters in {n} bytes; {8 * n / len(text):.3f} bits" in out


def test_a_cell_is_made_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Again only where something that it depends on has changed, and then the same."""
    run(capsys, "passages", "--all")
    stamp, content = cell(project).stat().st_mtime_ns, cell(project).read_bytes()
    status, out, err = run(capsys, "passages", "--all")
    assert (status, cell(project).stat().st_mtime_ns) == (0, stamp)
    assert "tiny: passages of 0 of 1 corpora compressed, 1 unchanged" in err
    assert out.count("restored") == 2
    cell(project).unlink()
    assert "tiny: passages of 1 of 1 corpora compressed" in run(capsys, "passages", "--model", "tiny")[2]
    assert cell(project).read_bytes() == content
    change(project, score={"window": 50, "stride": 20})
    _, _, err = run(capsys, "passages", "--all")
    assert "tiny: passages of 1 of 1" in err
    assert "gzip: passages of 0 of 1" in err
    change(project, passages={"characters": 90})
    _, _, err = run(capsys, "passages", "--all")
    assert err.count("passages of 1 of 1") == 2


def test_the_key_changes_with_everything_a_cell_depends_on(corpus: Corpus) -> None:
    """Weights, options, corpus, settings and windows; never family, price or published name."""

    def key(
        entry: ModelEntry = ENTRY,
        weights: str = "w",
        corpus: Corpus = corpus,
        protocol: ScoringProtocol = PROTOCOL,
        **settings: int,
    ) -> str:
        return passages.key(entry, weights, Settings(**settings), protocol, corpus)

    keys = [
        key(),
        key(weights="other"),
        key(corpus=replace(corpus, sha256="other")),
        key(replace(ENTRY, options={**ENTRY.options, "dtype": "bfloat16"})),
        key(protocol=replace(PROTOCOL, stride=19)),
        key(characters=99),
        key(seed=2),
    ]
    assert len(set(keys)) == len(keys)
    assert key(replace(ENTRY, name="org/tiny", family="small", price={"per_hour": 1.0})) == keys[0]
    other = replace(PROTOCOL, stride=19)
    gzip_ = ModelEntry(slug="gzip", backend="compressors")
    assert key(gzip_) == key(gzip_, protocol=other)


@pytest.mark.parametrize("documents", [[], [make_document(CLOSED, 2, redistributable=False)]])
def test_without_a_text_to_show_a_cell_is_empty(
    project: Path, capsys: pytest.CaptureFixture[str], documents: Sequence[Any]
) -> None:
    """So that the stage passes; a line says why, and nothing is printed."""
    write_corpus(project / "corpora" / REQUEST.name, REQUEST, list(documents))
    status, out, err = run(capsys, "passages", "--all")
    assert (status, out) == (0, ""), err
    assert err.count(f"{REQUEST.name} has no document of 120 characters or more that may be passed on") == 2
    assert passage_cells.read(cell(project)) is None
    assert passage_cells.read(cell(project, "gzip")) is None
    assert "0 of 1 corpora compressed, 1 unchanged" in run(capsys, "passages", "--all")[2]


def test_a_backend_without_distributions_has_empty_cells(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said in a line, and the other models go on."""
    (project / "a.gguf").write_bytes(b"GGUF")
    change(project, models={"served": {"backend": "llama.cpp", "source": "a.gguf"}, "gzip": MODELS["gzip"]})
    status, out, err = run(capsys, "passages", "--all")
    assert status == 0, err
    assert (
        "served: backend llama.cpp does not show the distribution of its next token, so it compresses" in err
    )
    assert passage_cells.read(cell(project, "served")) is None
    assert out.startswith("gzip on ")


def test_a_file_that_is_not_restored_is_recorded_and_said(project: Path, corpus: Corpus) -> None:
    """Its figures are kept, and a reader is told: here the entry names other weights than were loaded."""
    model = backends.load_open(ENTRY)
    chosen = passages.choose(corpus, Settings(characters=60))
    assert chosen
    save_model(project / "other", transformers.LlamaConfig(**{**WIDE, "intermediate_size": 32}))
    other = replace(ENTRY, options={**ENTRY.options, "source": "other"})
    said: list[str] = []
    found, _ = passages.coded(model, other, PROTOCOL, corpus, chosen, journals=project / "j", say=said.append)
    assert not found.restored
    assert len(said) == 1
    assert "tiny on test-2026-09: the passage was compressed and not restored: " in said[0]


def test_an_interrupted_run_goes_on_where_it_stopped(project: Path, corpus: Corpus) -> None:
    """Windows that were coded are read from the journal, and the passage is the same."""
    model = backends.load_open(ENTRY)
    chosen = passages.choose(corpus, Settings(characters=120))
    assert chosen

    def coded(journals: str) -> Passage:
        return passages.coded(model, ENTRY, PROTOCOL, corpus, chosen, journals=project / journals, say=print)[
            0
        ]

    whole = coded("j")
    path = project / "j" / "compress.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) > 3
    path.write_text("".join(lines[:3]))
    assert coded("j") == whole == coded("k")
    assert path.read_text() == "".join(lines)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_of_a_hub_id_are_measured_in_memory(project: Path, tied: bool) -> None:
    """Each once, where the output layer is the embedding too."""
    folder = save_model(project / "own", transformers.LlamaConfig(**WIDE, tie_word_embeddings=tied))
    entry = replace(ENTRY, options={"source": str(folder)})
    model = backends.load_open(entry)
    elsewhere = replace(entry, options={"source": "org/name"})
    assert passages.decoder_bytes(model, elsewhere) == 4 * sum(p.numel() for p in read(folder).parameters())
    (project / "a.gguf").write_bytes(bytes(77))
    assert passages.decoder_bytes(model, replace(entry, options={"source": "a.gguf"})) == 77


def test_torch_is_imported_to_compress_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither for a compressor, nor where every cell is current."""
    status, _, err = run(capsys, "passages", "--all")
    assert status == 0, err
    cell(project, "gzip").unlink()
    program = """
import sys
from evaluate.__main__ import main
assert main(["passages", "--all"]) == 0
assert not {"torch", "transformers"} & sys.modules.keys()
"""
    started = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert "tiny: passages of 0 of 1 corpora compressed, 1 unchanged" in started.stderr
    assert "gzip: passages of 1 of 1 corpora compressed, 0 unchanged" in started.stderr


@pytest.mark.parametrize(
    ("arguments", "sections", "message"),
    [
        (["--model", "none"], {}, "model 'none' is not in params.yaml (gzip, tiny), whose models alone have"),
        (["--model", "./tiny"], {}, "model './tiny' is not in params.yaml"),
        (
            ["--all"],
            {"passages": {"characters": 0}},
            "characters 0 of `passages` must be a whole number from 1",
        ),
        (["--all"], {"passages": {"seed": "x"}}, "seed 'x' of `passages` must be a whole number"),
        (
            ["--all"],
            {"passages": {"words": 3}},
            "`passages` in params.yaml takes characters, seed, not words",
        ),
        (["--all"], {"models": {"x": {"backend": "compressors"}}}, "codec 'x' is unknown"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sections: dict[str, Any],
    message: str,
) -> None:
    """The value, the rule and the remedy, without a traceback."""
    change(project, **sections)
    status, out, err = run(capsys, "passages", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_cell_comes_back_as_it_was(tmp_path: Path) -> None:
    """Piece by piece; under another key it is not current."""
    path = tmp_path / "cell.parquet"
    whole = passage("m")
    passage_cells.write(path, whole, {"prefix": "none"}, "key")
    assert passage_cells.read(path) == whole
    assert passage_cells.is_current(path, "key")
    assert not passage_cells.is_current(path, "other")
    assert pq.read_table(path).column("piece").to_pylist() == [0, 1, 2]


@pytest.mark.parametrize(
    "other",
    [
        {"n_characters": 8},
        {"n_bytes": 10},
        {"nll": math.inf},
        {"nll": -1.0},
        {"payload_bytes": 1000},
        {"file_bytes": 0, "payload_bytes": 0},
        {"decoder_bytes": -1},
        {"pieces": (*PIECES[:2], Piece(text="\n", bits=-1.0))},
        {"pieces": (*PIECES, Piece(text="", bits=1.0))},
    ],
)
def test_a_cell_that_no_compression_gives_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    """With its name and the remedy."""
    path = tmp_path / "cell.parquet"
    passage_cells.write(path, replace(passage("m"), **other), {}, "key")
    with pytest.raises(
        UserError, match=r"cell\.parquet holds no passage that could be .*; delete it and run"
    ):
        passage_cells.read(path)


def test_rows_of_two_passages_are_no_cell(tmp_path: Path) -> None:
    """Nor is one whose pieces are out of order, or missing."""
    path = tmp_path / "cell.parquet"
    passage_cells.write(path, passage("m"), {}, "key")
    table = pq.read_table(path)
    for rows in ([1, 0, 2], [1, 2]):
        pq.write_table(table.take(rows), path)
        with pytest.raises(UserError, match="holds no passage"):
            passage_cells.read(path)
    two = table.to_pylist()
    two[1]["document"] = "another"
    pq.write_table(type(table).from_pylist(two, schema=table.schema), path)
    with pytest.raises(UserError, match="holds no passage"):
        passage_cells.read(path)


def test_the_file_is_what_compress_writes(project: Path, corpus: Corpus) -> None:
    """Nothing is left out of what the cell counts: the same bytes as the codec gives for the text."""
    model = backends.load_open(ENTRY)
    chosen = passages.choose(corpus, Settings(characters=60))
    assert chosen
    found, _ = passages.coded(model, ENTRY, PROTOCOL, corpus, chosen, journals=project / "j", say=print)
    alone = files.compress(chosen.text.encode(), model, ENTRY, PROTOCOL)
    assert found.file_bytes == len(alone.file)
    assert found.payload_bytes == alone.header.n_payload
