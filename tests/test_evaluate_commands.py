"""`python -m evaluate` as a user types it."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
import yaml
from test_transformers_model import WIDE, save_model

from collectors.build import write_corpus
from evaluate import scores
from evaluate.__main__ import COMMANDS, main
from samples import REQUEST, make_document

TEXT = "The quick brown fox jumps over the lazy dog, and then some — żółw.\n" * 5


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with params.yaml, a tiny model and a built corpus."""
    save_model(workspace / "tiny", transformers.LlamaConfig(**WIDE))
    write_corpus(
        workspace / "corpora" / REQUEST.name, REQUEST, [make_document(TEXT, 1), make_document(TEXT[:99], 2)]
    )
    params = {
        "snapshots": {REQUEST.name: {}},
        "models": {
            "tiny": {"backend": "transformers", "source": "tiny", "separator": "<|endoftext|>"},
            "gzip": {"backend": "compressors"},
        },
        "score": {"protocol": "full", "window": 100, "stride": 30},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its status and what it printed."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command that succeeds with --json; return what it says."""
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_without_arguments_every_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, in the order of the pipeline."""
    status, out, _ = run(capsys)
    assert status == 0
    lines = [line.split(None, 1) for line in out.splitlines() if line.startswith("  ")]
    assert [(name, text) for name, text in lines if name in COMMANDS] == list(COMMANDS.items())


def test_a_text_file_is_scored_by_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The number one wants first, with everything that says what it is."""
    (project / "a.txt").write_text(TEXT)
    result = run_json(capsys, "score", "--model", "tiny", "--text", "a.txt")
    assert result["n_characters"] == len(TEXT)
    assert result["n_bytes"] == result["n_tokens"] == len(TEXT.encode())
    assert result["bits_per_character"] == pytest.approx(result["nll_nats"] / math.log(2) / len(TEXT))
    assert result["bits_per_byte"] == pytest.approx(result["bits_per_token"])
    assert (result["protocol"], result["prefix"]) == ("full/100/30", "separator <|endoftext|> (0)")
    assert result["interval"] is None
    assert (result["model"], result["revision"][:7]) == ("tiny", "sha256:")
    status, out, _ = run(capsys, "score", "--model", "tiny", "--text", "a.txt")
    assert status == 0
    assert f"{result['bits_per_character']:.4f} bits per character" in out


def test_a_folder_is_scored_without_params(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model folder and a folder of Parquet and JSON lines, nothing else."""
    save_model(workspace / "models" / "own", transformers.LlamaConfig(**WIDE))
    (workspace / "texts").mkdir()
    pq.write_table(pa.table({"body": [TEXT, TEXT[:50]]}), workspace / "texts" / "a.parquet")
    (workspace / "texts" / "b.jsonl").write_text(json.dumps({"body": "third"}) + "\n")
    result = run_json(
        capsys,
        "score",
        "--model",
        "models/own",
        "--corpus",
        "texts",
        "--column",
        "body",
        "--protocol",
        "full",
    )
    assert result["n_documents"] == 3
    low, high = result["interval"]
    assert low <= result["bits_per_character"] <= high
    assert (result["protocol"], result["prefix"]) == ("full/512/137", "none")


def test_a_corpus_is_scored_by_its_folder_as_by_its_name(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recorded cell and a score of one's own agree; a current cell is not scored again."""
    (recorded,) = run_json(capsys, "score", "--model", "tiny")
    own = run_json(capsys, "score", "--model", "tiny", "--corpus", f"corpora/{REQUEST.name}")
    assert own["nll_nats"] == recorded["nll_nats"]
    cell = project / "results" / "scores" / "tiny" / f"{REQUEST.name}.parquet"
    stamp = cell.stat().st_mtime_ns
    _, _, err = run(capsys, "score", "--model", "tiny")
    assert "0 of 1 corpora scored, 1 unchanged" in err
    assert cell.stat().st_mtime_ns == stamp
    assert not list((project / ".staging").rglob("*.jsonl"))


@pytest.mark.usefixtures("project")
def test_compressors_give_two_results(capsys: pytest.CaptureFixture[str]) -> None:
    """Each document alone, and the corpus as one stream."""
    results = run_json(capsys, "score", "--model", "gzip")
    assert [r["protocol"] for r in results] == ["document", "stream"]
    own = run_json(capsys, "score", "--model", "gzip", "--corpus", f"corpora/{REQUEST.name}")
    assert own == results


def test_a_shorter_context_is_said_and_recorded(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The window that was used stands in the result."""
    (project / "a.txt").write_text(TEXT)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["score"] = {"protocol": "full", "window": 1900, "stride": 512}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    status, out, err = run(capsys, "score", "--model", "tiny", "--text", "a.txt", "--json")
    assert status == 0
    assert "tiny reads 512 tokens, fewer than the window of 1900: scored as full/512/137" in err
    assert json.loads(out)["protocol"] == "full/512/137"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nobody", "--text", "a.txt"), "model 'nobody' is neither in params.yaml (gzip, tiny)"),
        (("--model", "org/none", "--text", "a.txt"), "model 'org/none' does not load"),
        (("--model", "tiny", "--text", "missing.txt"), "text file missing.txt does not exist"),
        (("--model", "tiny", "--text", "latin.txt"), "latin.txt is not UTF-8"),
        (("--model", "tiny", "--text", "empty.txt"), "empty.txt holds no text"),
        (("--model", "tiny", "--corpus", "texts", "--column", "body"), "has no column 'body'"),
        (("--model", "bad.gguf", "--text", "a.txt"), "bad.gguf is no readable GGUF file"),
        (("--model", "tiny", "--dtype", "bfloat16"), "--dtype would record scores under settings"),
        (("--model", "tiny", "--protocol", "huang2024"), "--protocol would record scores under settings"),
        (("--model", "tiny", "--text", "a.txt", "--separator", "<eod>"), "separator '<eod>' is no token"),
        (("--model", "tiny", "--text", "a.txt", "--protocol", "huang2024"), "scores nothing below 101"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    """Value, rule and remedy; no traceback."""
    (project / "a.txt").write_text("a text")
    (project / "latin.txt").write_bytes(b"caf\xe9")
    (project / "empty.txt").write_text("")
    (project / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    (project / "texts").mkdir()
    (project / "texts" / "a.jsonl").write_text('{"text": "a"}\n')
    status, out, err = run(capsys, "score", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("models: [", "params.yaml cannot be read"),
        ("- a", "must hold the mappings `models` and `snapshots`"),
        ("{models: {m: null}, snapshots: {}}", "model m in params.yaml must be a mapping with a `backend`"),
        ("{models: {m: {}}, snapshots: {}, score: {stride: 9999}}", "stride 9999 must be"),
        ("{models: {m: {}}, snapshots: {}, score: {speed: 9}}", "takes protocol, window and stride"),
        ("{models: {m: {}}, snapshots: {}, score: {window: wide}}", "must be whole numbers"),
        ("{models: {m: {backend: compressors}}, snapshots: {s: {}}}", "corpora/s holds no built corpus"),
        (
            "{models: {m: {backend: compressors}}, snapshots: {}, score: [1]}",
            "`score` in params.yaml must be",
        ),
        ("{models: {m: {}}, snapshots: {}, score: {window: 1900.5}}", "must be whole numbers"),
    ],
)
def test_a_wrong_params_file_is_one_line(
    workspace: Path, capsys: pytest.CaptureFixture[str], params: str, message: str
) -> None:
    """Whatever stands in it."""
    (workspace / "params.yaml").write_text(params)
    status, _, err = run(capsys, "score", "--model", "m")
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_other_weights_are_scored_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell belongs to its weights, wherever they lie."""
    (before,) = run_json(capsys, "score", "--model", "tiny")
    save_model(project / "tiny", transformers.LlamaConfig(**{**WIDE, "num_hidden_layers": 1}))
    (after,) = run_json(capsys, "score", "--model", "tiny")
    assert after["revision"] != before["revision"]
    assert after["nll_nats"] != before["nll_nats"]


def test_recorded_scores_need_a_pinned_model(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hub id may change under its name, so params.yaml must say which commit."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["models"]["hub"] = {"backend": "transformers", "source": "org/Some-1.7B"}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    status, _, err = run(capsys, "score", "--model", "hub")
    assert status == 2
    assert "is a hub id without a `revision`" in err


def test_renaming_a_model_scores_nothing_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The published name joins scores with benchmarks; no number depends on it."""
    run(capsys, "score", "--model", "gzip")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["models"]["gzip"]["name"] = "GNU zip"
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    _, _, err = run(capsys, "score", "--model", "gzip")
    assert "0 of 1 corpora scored" in err
    cell = project / "results/scores/gzip" / f"{REQUEST.name}.parquet"
    assert {s.name for s in scores.read_cell(cell, "GNU zip")} == {"GNU zip"}
