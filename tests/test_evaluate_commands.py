"""`python -m evaluate` as a user types it."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
import yaml
from test_transformers_model import WIDE, save_model

from collectors.build import write_corpus
from commands import change, run, run_json
from evaluate import scores
from evaluate.__main__ import COMMANDS
from samples import REQUEST, ROOT, make_document

TEXT = "The quick brown fox jumps over the lazy dog, and then some — żółw.\n" * 5
MODELS: dict[str, Any] = {
    "tiny": {"backend": "transformers", "source": "tiny", "separator": "<|endoftext|>"},
    "gzip": {"backend": "compressors"},
}
SCORE = {"protocol": "full", "window": 100, "stride": 30}


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with params.yaml, a tiny model and a built corpus."""
    save_model(workspace / "tiny", transformers.LlamaConfig(**WIDE))
    write_corpus(
        workspace / "corpora" / REQUEST.name, REQUEST, [make_document(TEXT, 1), make_document(TEXT[:99], 2)]
    )
    params = {"snapshots": {REQUEST.name: {}}, "models": MODELS, "score": SCORE}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


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
    change(project, score={"protocol": "full", "window": 1900, "stride": 512})
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
        (("--model", "tiny", "--dtype", "bfloat16"), "--dtype would record figures under settings"),
        (("--model", "tiny", "--protocol", "huang2024"), "--protocol would record figures under settings"),
        (("--model", "tiny", "--text", "a.txt", "--separator", "<eod>"), "separator '<eod>' is no token"),
        (("--model", "tiny", "--text", "a.txt", "--protocol", "huang2024"), "scores nothing below 101"),
        (("--model", "tiny", "--precision", "0.1"), "--precision would record figures under settings"),
        (
            ("--model", "tiny", "--text", "a.txt", "--precision", "2"),
            "precision 2.0 must be a number above 0",
        ),
        (
            ("--model", "tiny", "--text", "a.txt", "--precision", "0"),
            "precision 0.0 must be a number above 0",
        ),
        (("--model", "tiny", "--text", "a.txt", "--quantization", "int3"), "quantization 'int3' is unknown"),
        (("--model", "gpt2", "--text", "a.txt", "--protocol", "sink"), "use protocol full or auto"),
        (("--model", "gzip", "--text", "a.txt", "--protocol", "full"), "gzip is a compressor"),
        (("--model", "tiny", "--corpus", "nothing"), "nothing holds no .parquet and no .jsonl file"),
        (("--model", "tiny", "--corpus", "blank"), "blank holds no text"),
        (("--all", "--text", "a.txt"), "--all reads the corpora of params.yaml"),
        (
            ("--model", "tiny", "--text", "a.txt", "--protocol", "huang2024", "--precision", "0.1"),
            "use protocol full, sink or auto",
        ),
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
    for name, content in (("texts", '{"text": "a"}\n'), ("nothing", None), ("blank", '{"text": ""}\n')):
        (project / name).mkdir()
        if content:
            (project / name / "a.jsonl").write_text(content)
    gpt2 = transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    if "gpt2" in arguments:
        arguments = tuple(str(save_model(project / "gpt2", gpt2)) if a == "gpt2" else a for a in arguments)
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
        ("{models: {m: {}}, snapshots: {}, score: {speed: 9}}", "takes protocol, window, stride, precision,"),
        ("{models: {m: {}}, snapshots: {}, score: {window: wide}}", "must be whole numbers"),
        ("{models: {m: {backend: compressors}}, snapshots: {s: {}}}", "corpora/s holds no built corpus"),
        (
            "{models: {m: {backend: compressors}}, snapshots: {}, score: [1]}",
            "`score` in params.yaml must be",
        ),
        ("{models: {m: {}}, snapshots: {}, score: {window: 1900.5}}", "must be whole numbers"),
        ("{models: {m: {}}, snapshots: {}, score: {window: 0}}", "which must be at least 2"),
        ("{models: {m: {}}, snapshots: {}, score: {protocol: best}}", "protocol 'best' is unknown"),
        ("{models: {m: {}}, snapshots: {}, score: {seed: x}}", "seed 'x' must be a whole number"),
        ("{models: {m: {}}, snapshots: {}, score: {engine: spark}}", "engine 'spark' is unknown"),
        ("{models: {m: {}}, snapshots: {}, score: {precision: 2}}", "precision 2 must be a number above 0"),
        ("{models: {m: {backend: compressors, price: 2}}, snapshots: {}}", "`price` of model m"),
        ("{models: {m: {backend: endpoint}}, snapshots: {}}", "lacks url, model, tokenizer, revision"),
        ("{models: {m: {backend: transformers}}, snapshots: {}}", "model m in params.yaml lacks source"),
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
    change(project, models={"hub": {"backend": "transformers", "source": "org/Some-1.7B"}})
    status, _, err = run(capsys, "score", "--model", "hub")
    assert status == 2
    assert "is a hub id without a `revision`" in err


def test_renaming_a_model_scores_nothing_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The published name joins scores with benchmarks; no number depends on it."""
    run(capsys, "score", "--model", "gzip")
    change(project, models={"gzip": {"backend": "compressors", "name": "GNU zip"}})
    _, _, err = run(capsys, "score", "--model", "gzip")
    assert "0 of 1 corpora scored" in err
    cell = project / "results/scores/gzip" / f"{REQUEST.name}.parquet"
    assert {s.name for s in scores.read_cell(cell, "GNU zip")} == {"GNU zip"}


def write_texts(folder: Path, n: int, length: int) -> Path:
    """Write a folder of JSON lines: texts of words, none like another."""
    chosen = random.Random(n)
    folder.mkdir()
    texts = ["".join(chosen.choices("abcdefgh ", k=chosen.randint(length // 2, length))) for _ in range(n)]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def test_sink_is_scored_and_its_deviation_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every token is scored, close to what the exact protocol says of a model whose sinks are random."""
    (project / "a.txt").write_text(TEXT)
    exact = run_json(capsys, "score", "--model", "tiny", "--text", "a.txt")
    status, out, err = run(
        capsys, "score", "--model", "tiny", "--text", "a.txt", "--protocol", "sink", "--json"
    )
    result = json.loads(out)
    assert (status, result["protocol"]) == (0, "sink/100/30")
    assert result["n_tokens"] == exact["n_tokens"]
    deviation = result["nll_nats"] / exact["nll_nats"] - 1
    assert deviation != 0
    assert f"tiny on a.txt: sink deviates by {deviation:+.3%} from full on 1 document" in err


def test_auto_reads_a_single_text_exactly(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To know how far sink deviates on it would be to score it twice."""
    (project / "a.txt").write_text(TEXT)
    exact = run_json(capsys, "score", "--model", "tiny", "--text", "a.txt", "--protocol", "full")
    status, out, err = run(
        capsys, "score", "--model", "tiny", "--text", "a.txt", "--protocol", "auto", "--json"
    )
    assert (status, err) == (0, "")
    assert json.loads(out) == exact


def test_a_precision_scores_no_more_than_it_needs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And its interval holds what all documents cost."""
    write_texts(project / "texts", 150, 60)
    arguments = ("score", "--model", "tiny", "--corpus", "texts", "--protocol", "full")
    every = run_json(capsys, *arguments)
    some = run_json(capsys, *arguments, "--precision", "0.05")
    assert (every["n_documents"], some["n_documents"] < 150) == (150, True)
    low, high = some["interval"]
    assert low < every["bits_per_character"] < high
    assert (high - low) / 2 <= 0.05 * some["bits_per_character"]
    assert some["corpus_sha256"] == every["corpus_sha256"]


@pytest.mark.parametrize("protocol", ["full", "sink", "auto"])
@pytest.mark.parametrize("separator", [(), ("--separator", "<|endoftext|>")])
@pytest.mark.usefixtures("project")
def test_a_text_may_be_one_character(
    protocol: str, separator: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It costs log2 of the vocabulary without a prefix, and what the model says with one."""
    Path("a.txt").write_text("x")
    own = ("score", "--model", "./tiny", "--text", "a.txt", "--protocol", protocol)
    result = run_json(capsys, *own, *separator)
    assert (result["n_characters"], result["n_tokens"], result["n_documents"]) == (1, 1, 1)
    uniform = result["bits_per_character"] == pytest.approx(math.log2(258))
    assert uniform == (separator == ())


def test_json_says_what_a_number_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field that a program needs to use it, with one value for a text and a list for recorded corpora."""
    (project / "a.txt").write_text(TEXT)
    result = run_json(capsys, "score", "--model", "tiny", "--text", "a.txt")
    (recorded,) = run_json(capsys, "score", "--model", "tiny")
    assert recorded.keys() == result.keys()
    assert result.keys() >= {
        *("bits_per_character", "bits_per_byte", "bits_per_token", "interval", "nll_nats"),
        *("n_documents", "n_tokens", "n_characters", "n_bytes", "n_lossy"),
        *("model", "revision", "software", "corpus", "corpus_sha256", "protocol", "prefix"),
    }
    assert result["corpus_sha256"] != recorded["corpus_sha256"]


def test_an_empty_corpus_is_scored_with_a_word(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that the pipeline built and that kept no document has a cell and no score."""
    write_corpus(project / "corpora" / REQUEST.name, REQUEST, [])
    status, out, err = run(capsys, "score", "--model", "tiny")
    assert (status, out) == (0, "")
    assert f"{REQUEST.name} kept no document, so there is nothing to score" in err
    status, _, err = run(capsys, "score", "--model", "tiny", "--corpus", f"corpora/{REQUEST.name}")
    assert status == 2
    assert "holds no text" in err


def test_all_scores_every_model(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each result under the name of its model, although protocol and corpus are the same."""
    change(project, models={**MODELS, "other": {"backend": "transformers", "source": "tiny"}})
    results = run_json(capsys, "score", "--all")
    found = {(result["model"], result["protocol"], result["prefix"]) for result in results}
    assert found == {
        ("tiny", "full/100/30", "separator <|endoftext|> (0)"),
        ("other", "full/100/30", "none"),
        ("gzip", "document", ""),
        ("gzip", "stream", ""),
    }
    _, _, err = run(capsys, "score", "--all")
    assert [
        line for line in err.splitlines() if "0 of 1 corpora scored, 1 unchanged" in line
    ] == err.splitlines()


def test_settings_that_draw_are_part_of_a_cell(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another precision or seed scores again; another engine or price does not."""
    score: dict[str, Any] = dict(SCORE)

    def scored(**settings: Any) -> bool:
        score.update(settings)
        change(project, score=score)
        status, _, err = run(capsys, "score", "--model", "tiny")
        assert status == 0, err
        return "1 of 1 corpora scored" in err

    assert scored()
    assert not scored(seed=2)
    assert scored(precision=0.1)
    assert scored(seed=3)
    change(project, models={"tiny": {**MODELS["tiny"], "price": {"per_hour": 1}}})
    assert not scored()
    assert not scored(engine="ray")
    assert scored(engine="local", precision=None, protocol="auto")


def test_torch_is_imported_to_measure_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither for a compressor, nor where every cell is current: most stages of `dvc repro` are either."""
    change(project, phylogeny={"alleles": "first-token"})
    commands = ("score", "entropy", "membership", "phylogeny", "passages")
    for each in commands:
        status, _, err = run(capsys, each, "--all")
        assert status == 0, err
    program = """
import sys
from evaluate.__main__ import main
for command in sys.argv[1:]:
    assert main([command, "--all"]) == 0
    assert not {"torch", "transformers"} & sys.modules.keys(), command
"""
    started = subprocess.run(
        [sys.executable, "-c", program, *commands],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert started.stderr.count("unchanged") == 2 + len(
        commands
    )  # of tiny; `score` and `passages` of gzip too


def command(*arguments: str) -> "subprocess.Popen[bytes]":
    """Start the command as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "evaluate", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def journalled() -> bytes:
    """Return what the journal of the only shard holds."""
    files = list(Path(".staging").rglob("*.jsonl"))
    return files[0].read_bytes() if files else b""


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_stopped(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A `kill -9`, twice: what a journal holds stays in it, and the number is that of a run without any kill."""
    change(project, score={**SCORE, "stride": 20})
    write_texts(project / "texts", 80, 400)
    arguments = ("score", "--model", "tiny", "--corpus", "texts")
    expected = run_json(capsys, *arguments)
    held = b""
    for _ in range(2):
        with command(*arguments) as process:
            while journalled().count(b"\n") < held.count(b"\n") + 10 and process.poll() is None:
                time.sleep(0.005)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        finished = journalled()
        assert finished.startswith(held[: held.rfind(b"\n") + 1])
        held = finished
    places = [json.loads(line)[0] for line in held.splitlines()[1:-1]]
    assert len(set(places)) == len(places) >= 18
    assert run_json(capsys, *arguments) == expected
    assert not list(Path(".staging").rglob("*.jsonl"))


@pytest.mark.slow
def test_ray_writes_the_files_that_one_process_writes(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models on two corpora, as tasks of a local Ray: the same cells."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    second = replace(REQUEST, name="second-2026-09")
    write_corpus(project / "corpora" / second.name, second, [make_document(TEXT[5:], n) for n in range(3)])
    snapshots: dict[str, Any] = {name: {} for name in (REQUEST.name, second.name)}
    models = {**MODELS, "other": {"backend": "transformers", "source": "tiny"}}
    change(project, snapshots=snapshots, models=models)
    status, _, err = run(capsys, "score", "--all")
    assert status == 0, err
    shutil.move("results", "local")
    change(project, score={**SCORE, "engine": "ray"})
    with command("score", "--all") as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    cells = sorted(path.relative_to("local") for path in Path("local").rglob("*.parquet"))
    assert len(cells) == 6
    for cell in cells:
        ours, theirs = pq.read_table("local" / cell), pq.read_table("results" / cell)
        assert ours.drop_columns("nll") == theirs.drop_columns("nll")
        assert theirs["nll"].to_pylist() == pytest.approx(ours["nll"].to_pylist(), rel=1e-6)
        assert ours.schema.metadata == theirs.schema.metadata
    assert not list(Path(".staging").rglob("*.jsonl"))
