"""`python -m evaluate entropy`: a model's hidden states on texts, from tokens to the score table."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
import yaml
from test_hidden_states import GEMMA3N
from test_transformers_model import WIDE, read, save_model

from collectors.build import write_corpus
from collectors.document import UserError
from commands import add_published, change, run, run_json
from evaluate import entropy, entropy_cells, representations
from evaluate.corpus import Corpus, built_corpus
from evaluate.model import ModelEntry
from evaluate.representations import Settings
from samples import REQUEST, ROOT, make_document, replant

TEXTS = ["A heron stands in the shallow water and waits.\n" * 4, "Rain again, said the ferryman.\n", "x"]
ENTRY = ModelEntry(
    slug="tiny", backend="transformers", options={"source": "tiny", "separator": "<|endoftext|>"}
)


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with params.yaml, a tiny model of two blocks and a corpus of three texts."""
    save_model(workspace / "tiny", transformers.LlamaConfig(**WIDE))
    documents = [make_document(text, i) for i, text in enumerate(TEXTS, 1)]
    write_corpus(workspace / "corpora" / REQUEST.name, REQUEST, documents)
    params = {
        "snapshots": {REQUEST.name: {}},
        "models": {
            "tiny": {"backend": "transformers", "family": "small", **ENTRY.options},
            "gzip": {"backend": "compressors"},
        },
        "score": {"protocol": "full", "window": 100, "stride": 30},
        "entropy": {"tokens": 100},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


@pytest.fixture
def corpus(project: Path) -> Corpus:
    """The corpus of the project."""
    return built_corpus(project / "corpora" / REQUEST.name)


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[tuple[int, str], dict[str, Any]]:
    """Measure with --json; return the figures by layer and metric."""
    return {(row["layer"], row["metric"]): row for row in run_json(capsys, "entropy", *arguments)}


@torch.inference_mode()
def naive(whole: Any, tokens: list[int]) -> list[float]:
    """Return the matrix entropy of every layer, by the formula and the singular values of the covariance."""
    found = []
    for states in whole(input_ids=torch.tensor([tokens]), output_hidden_states=True).hidden_states:
        rows = states[0].double() - states[0].double().mean(0)
        rows = rows / rows.norm(dim=1, keepdim=True)
        covariance = rows.T @ rows / len(rows)
        spectrum = torch.linalg.svdvals(covariance / covariance.trace())
        found.append(float(-(spectrum * spectrum.log()).nansum()))
    return found


def test_every_layer_equals_the_formula(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the text to the figure: prefix and first tokens of each document, mean over documents."""
    found = figures(capsys, "--model", "tiny")
    whole = read(project / "tiny")
    inputs = [[0, *(byte + 2 for byte in _as_tokens(project, text))][:100] for text in TEXTS]
    by_layer = np.array([naive(whole, tokens) for tokens in inputs]).T
    assert {layer for layer, _ in found} == {0, 1, 2}
    for layer, values in enumerate(by_layer):
        row = found[layer, "matrix_entropy_a"]
        assert row["value"] == pytest.approx(values.mean() / math.log(32), abs=1e-6)
        assert row["low"] <= row["value"] <= min(row["high"], row["ceiling"])
        assert (row["n_documents"], row["n_skipped"], row["n_layers"]) == (3, 0, 2)
        assert found[layer, "effective_rank"]["value"] == pytest.approx(math.exp(values.mean()), rel=1e-5)
    ceilings = [math.log(min(len(tokens) - 1, 32)) / math.log(32) for tokens in inputs]
    assert found[2, "matrix_entropy_a"]["ceiling"] == pytest.approx(np.mean(ceilings))
    assert (0, "diff_erank") not in found
    assert found[2, "diff_erank"]["ceiling"] is None


def _as_tokens(project: Path, text: str) -> list[int]:
    ids: list[int] = transformers.AutoTokenizer.from_pretrained(project / "tiny")(text).input_ids
    return [i - 2 for i in ids]


@pytest.mark.usefixtures("project")
def test_diff_erank_compares_with_the_model_as_it_was_initialised(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The untrained twin has the seed's weights: an untrained model with that seed differs from itself by 0."""
    torch.manual_seed(5)
    auto: Any = transformers.AutoModel
    config = transformers.AutoConfig.from_pretrained("tiny")
    untrained = auto.from_config(config)
    decoder_only: Any = transformers.AutoModelForCausalLM.from_pretrained("tiny")
    decoder_only.model.load_state_dict(untrained.state_dict())
    decoder_only.save_pretrained("fresh")
    transformers.AutoTokenizer.from_pretrained("tiny").save_pretrained("fresh")
    change(Path(), entropy={"seed": 5})
    Path("a.txt").write_text(TEXTS[0])
    same = figures(capsys, "--model", "fresh/", "--text", "a.txt")
    assert same[2, "diff_erank"]["value"] == pytest.approx(0, abs=1e-9)
    change(Path(), entropy={"seed": 6})
    other = figures(capsys, "--model", "fresh/", "--text", "a.txt")
    assert other[2, "diff_erank"]["value"] != pytest.approx(0, abs=1e-3)
    change(Path(), entropy={"seed": None})
    assert (2, "diff_erank") not in figures(capsys, "--model", "fresh/", "--text", "a.txt")


def test_a_cell_is_measured_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Again only where something that its numbers depend on has changed."""
    cell = project / "results" / "entropy" / "tiny" / f"{REQUEST.name}.parquet"
    first = figures(capsys, "--model", "tiny")
    stamp = cell.stat().st_mtime_ns
    status, out, err = run(capsys, "entropy", "--all")
    assert (status, cell.stat().st_mtime_ns) == (0, stamp)
    assert "tiny: hidden states of 0 of 1 corpora measured, 1 unchanged" in err
    assert "gzip: backend compressors shows no hidden states, so there is no entropy of it" in err
    value = first[2, "matrix_entropy_a"]["value"]
    assert f"tiny on {REQUEST.name} (layer 2 of 2): matrix entropy {value:.4g} [" in out
    assert not list((project / ".staging").rglob("*.jsonl"))
    change(project, entropy={"tokens": 99})
    assert "1 of 1 corpora measured" in run(capsys, "entropy", "--all")[2]


def test_the_key_changes_with_everything_a_number_depends_on(corpus: Corpus) -> None:
    """Weights, options, corpus and settings; never family, price or published name."""

    def key(entry: ModelEntry = ENTRY, weights: str = "w", sha256: str = "", **settings: Any) -> str:
        chosen = replace(corpus, sha256=sha256) if sha256 else corpus
        return representations.key(entry, weights, Settings(**settings), chosen)

    keys = [
        key(),
        key(weights="other"),
        key(sha256="other"),
        key(replace(ENTRY, options={**ENTRY.options, "dtype": "bfloat16"})),
        key(replace(ENTRY, initializer_range=0.04)),
        key(tokens=99),
        key(fixed=True),
        key(layers="last"),
        key(layers=[0, 2]),
        key(seed=2),
        key(seed=None),
    ]
    assert len(set(keys)) == len(keys)
    assert key(replace(ENTRY, name="org/tiny", family="small", price={"per_hour": 1.0})) == keys[0]
    assert key(layers=[2, 0, 2]) == key(layers=[0, 2])


def test_a_fixed_number_of_tokens_leaves_short_documents_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every matrix then has as many rows, and one ceiling; what is left out is counted."""
    change(project, entropy={"tokens": 20, "fixed": True})
    row = figures(capsys, "--model", "tiny")[2, "matrix_entropy_a"]
    assert (row["n_documents"], row["n_skipped"]) == (2, 1)
    assert row["ceiling"] == pytest.approx(math.log(19) / math.log(32))
    change(project, entropy={"tokens": 500, "fixed": True})
    status, out, err = run(capsys, "entropy", "--model", "tiny")
    assert status == 0, err
    assert out == ""
    assert "no document" in err


def test_a_context_that_is_shorter_is_said_and_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No figure stands under more tokens than the model has read."""
    short = transformers.LlamaConfig(**{**WIDE, "max_position_embeddings": 24})
    save_model(project / "short", short)
    change(project, models={"short": {"backend": "transformers", "source": "short"}}, entropy={"fixed": True})
    status, out, err = run(capsys, "entropy", "--all")
    assert status == 0, err
    assert "short reads 24 tokens, fewer than the 512 of `entropy`: measured as entropy/24/fixed" in err
    assert "2 documents, 1 skipped" in out
    rows = entropy_cells.read(project / "results" / "entropy" / "short" / f"{REQUEST.name}.parquet")
    assert {(row["protocol"], row["n_tokens"]) for row in rows if not row["skipped"]} == {
        ("entropy/24/fixed", 24)
    }


def test_documents_of_one_id_are_all_measured(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's ids may repeat."""
    lines = [json.dumps({"id": "same", "text": text}) for text in TEXTS]
    (project / "own.jsonl").write_text("\n".join(lines))
    found = figures(capsys, "--model", "tiny", "--corpus", "own.jsonl")
    assert found[2, "matrix_entropy_a"]["n_documents"] == 3
    assert found[2, "diff_erank"]["n_documents"] == 3


def test_a_document_that_the_twin_cannot_be_measured_on_counts_as_skipped_for_diff_erank(
    project: Path, corpus: Corpus
) -> None:
    """Its pair is left out, and the other metrics keep it."""
    subject = representations.load(ENTRY, Settings(tokens=100), print)
    rows = representations.measure(subject, corpus, journals=project / "j")
    twin = next(row for row in rows if row["untrained"])
    twin |= {"skipped": "its rows are all alike"}
    counts = {
        figure.metric: (figure.n_documents, figure.n_skipped)
        for figure in entropy_cells.profile(rows, "")
        if figure.layer == 2
    }
    assert counts["diff_erank"] == (2, 1)
    assert counts["matrix_entropy_a"] == (3, 0)


def test_inner_layers_that_cannot_be_had_are_left_out(project: Path, corpus: Corpus) -> None:
    """One such model among others stops nobody: its last layer is measured, and it is said."""
    save_model(project / "gemma", GEMMA3N)
    entry = ModelEntry(slug="gemma", backend="transformers", options={"source": "gemma"})
    said: list[str] = []
    subject = representations.load(entry, Settings(tokens=50), said.append)
    assert subject.layers == (2,)
    assert said[0].startswith("gemma: ")
    assert said[0].endswith("; measured at its last layer")
    rows = representations.measure(subject, corpus, journals=project / "j")
    assert {row["layer"] for row in rows} == {2}


def test_without_the_last_layer_the_score_table_stays_empty_and_it_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that comes after is made of the last layer."""
    change(project, entropy={"layers": [0]})
    status, _, err = run(capsys, "entropy", "--all")
    assert status == 0
    assert "tiny: layer 2, the last, is left out: the score table and all fits are made of it alone" in err


def test_layers_are_chosen(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last alone, or by number."""
    (project / "a.txt").write_text(TEXTS[0])
    chosen = ("--model", "tiny", "--text", "a.txt", "--layers")
    every = figures(capsys, *chosen, "all")
    assert {layer for layer, _ in figures(capsys, *chosen, "last")} == {2}
    some = figures(capsys, *chosen, "0,1")
    assert {key: row["value"] for key, row in some.items()} == {
        key: row["value"] for key, row in every.items() if key[0] < 2
    }


def test_an_empty_text_and_an_empty_corpus(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text without a character is refused, a corpus that kept no document is an empty cell."""
    (project / "a.txt").write_text("")
    status, _, err = run(capsys, "entropy", "--model", "tiny", "--text", "a.txt")
    assert (status, err) == (2, "error: a.txt holds no text; name a file or folder that is not empty\n")
    write_corpus(project / "corpora" / REQUEST.name, REQUEST, [])
    status, out, err = run(capsys, "entropy", "--all")
    assert (status, out) == (0, ""), err
    assert f"{REQUEST.name} kept no document to measure; its dropped.parquet says why" in err
    cell = project / "results" / "entropy" / "tiny" / f"{REQUEST.name}.parquet"
    assert entropy_cells.read(cell) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "gzip", "--text", "a.txt"],
            "model gzip runs in backend 'compressors', which shows no hidden",
        ),
        (["--model", "none"], "model 'none' is neither in params.yaml (gzip, tiny) nor"),
        (["--model", "tiny", "--tokens", "50"], "--tokens would record"),
        (["--model", "tiny", "--fixed"], "--fixed would record"),
        (["--model", "tiny", "--text", "a.txt", "--tokens", "1"], "tokens 1 of `entropy` must be a whole"),
        (
            ["--model", "tiny", "--text", "a.txt", "--layers", "0,3"],
            "tiny has no layer 3; its layers go from 0",
        ),
        (["--all", "--text", "a.txt"], "--all reads the corpora of params.yaml"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The value, the rule and the remedy, without a traceback."""
    (project / "a.txt").write_text(TEXTS[0])
    status, out, err = run(capsys, "entropy", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_without_a_model_that_shows_its_states_there_is_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage passes, and so do those after it."""
    add_published(project)
    change(project, models={"gzip": {"backend": "compressors"}})
    for command in (["entropy", "--all"], ["score", "--all"], ["fit"], ["report"]):
        status, _, err = run(capsys, *command)
        assert status == 0, err
    (cell,) = (project / "results" / "entropy" / "gzip").iterdir()
    assert pq.read_table(cell).num_rows == 0
    assert (project / "results" / "entropy.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"token": 5}, "`entropy` in params.yaml takes tokens, fixed, layers, seed, not token"),
        ({"tokens": "512"}, "tokens '512' of `entropy` must be a whole number from 2"),
        ({"fixed": "no"}, "fixed 'no' of `entropy` must be true or false"),
        ({"layers": []}, "layers [] of `entropy` must be all, last, or whole numbers"),
        ({"layers": [-1]}, "layers [-1] of `entropy` must be all, last, or whole numbers"),
        ({"layers": "first"}, "layers 'first' of `entropy` must be all, last, or whole numbers"),
        ({"seed": -1}, "seed -1 of `entropy` must be a whole number from 0, or null"),
        ([], "`entropy` in params.yaml must be a mapping, not []"),
    ],
)
def test_wrong_settings_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], section: Any, message: str
) -> None:
    """Before a model is loaded."""
    change(project, entropy=section)
    status, out, err = run(capsys, "entropy", "--all")
    assert (status, out) == (2, "")
    assert message in err


def test_hidden_states_that_are_not_finite_are_refused(project: Path, corpus: Corpus) -> None:
    """A model whose numbers overflow has no entropy, and says so."""
    subject = representations.load(ENTRY, Settings(), print)
    with torch.no_grad():
        subject.model.decoder.norm.weight.fill_(math.nan)
    with pytest.raises(
        UserError, match=f"tiny on {REQUEST.name}, layer 2: states must be finite; choose another dtype"
    ):
        representations.measure(subject, corpus, journals=project / "journals")


def test_what_was_finished_is_not_measured_again(project: Path, corpus: Corpus) -> None:
    """An interrupted run goes on behind its last document; other settings start afresh."""
    subject = representations.load(ENTRY, Settings(), print)
    whole = representations.measure(subject, corpus, journals=project / "j")
    for name in ("trained", "untrained"):
        path = project / "j" / f"{name}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        number, rows, _checksum = json.loads(lines[1])
        rows[-1]["entropy"] = 0.25  # a mark that no measurement would leave
        replant(path, (number, rows), *([(1, 5)] if name == "trained" else []))
        with path.open("a") as file:
            file.write(lines[2][:30])
    resumed = representations.measure(subject, corpus, journals=project / "j")
    marked = [i for i, row in enumerate(resumed) if row.get("entropy") == 0.25]
    assert [resumed[i]["untrained"] for i in marked] == [False, True]
    assert [row for i, row in enumerate(resumed) if i not in marked] == [
        row for i, row in enumerate(whole) if i not in marked
    ]
    other = replace(subject, settings=Settings(tokens=300))
    afresh = representations.measure(other, corpus, journals=project / "j")
    assert not [row for row in afresh if row.get("entropy") == 0.25]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After `kill -9` in the middle, the cell is the same to the byte as one of a run that nobody killed."""
    folder = project / "corpora" / REQUEST.name
    write_corpus(folder, REQUEST, [make_document(f"Page {i}. {TEXTS[0]}", i) for i in range(120)])
    cell = project / "results" / "entropy" / "tiny" / f"{REQUEST.name}.parquet"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "evaluate", "entropy", "--all"]
    process = subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.DEVNULL)
    journals = project / ".staging" / "entropy" / "tiny" / REQUEST.name
    deadline = time.monotonic() + 120
    done = 0
    while done < 20 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
        done = sum(path.read_bytes().count(b"\n") for path in journals.rglob("trained.jsonl"))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not cell.exists()
    before = sum(path.read_bytes().count(b"\n") for path in journals.rglob("*.jsonl"))
    assert before >= 20
    assert run(capsys, "entropy", "--all")[0] == 0
    resumed = cell.read_bytes()
    assert not list((project / ".staging").rglob("*.jsonl"))
    cell.unlink()
    assert run(capsys, "entropy", "--all")[0] == 0
    assert cell.read_bytes() == resumed


def test_the_score_table_has_a_row_for_each_metric(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fit` gathers the last layer into scores.csv, beside the rates, and the profile into entropy.csv."""
    add_published(project)
    change(project, phylogeny={"alleles": "first-token"})
    found = figures(capsys, "--model", "tiny")
    for command in ("score", "phylogeny"):
        status, _, err = run(capsys, command, "--all")
        assert status == 0, err
    status, _, err = run(capsys, "fit")
    assert status == 0, err
    with (project / "results" / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == "entropy/100"]
    assert {row["metric"] for row in rows} == {*entropy.METRICS, "diff_erank"}
    for row in rows:
        expected = found[2, row["metric"]]
        assert float(row["value"]) == pytest.approx(expected["value"], rel=1e-8)
        assert (row["nll"], row["n_characters"], row["family"]) == ("", "", "small")
        assert int(row["n_parameters"]) == read(project / "tiny").num_parameters()
        assert int(row["n_tokens"]) == sum(min(100, len(text) + 1) for text in TEXTS)
    with (project / "results" / "entropy.csv").open() as file:
        profile = list(csv.DictReader(file))
    assert {(int(row["layer"]), row["metric"]) for row in profile} == set(found)
    assert run(capsys, "report")[0] == 0
