"""Min-K% and Min-K%++ from their definitions, and `python -m evaluate membership` from texts to cells."""

import gzip
import json
import math
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_token_statistics import of_logits
from test_transformers_model import WIDE, read, save_model

from collectors.build import write_corpus
from collectors.document import UserError
from commands import change, run, run_json
from evaluate import familiarity, membership_cells
from evaluate.commands import chosen, membership
from evaluate.corpus import Corpus, built_corpus, text_file
from evaluate.membership import Familiarity, Settings, mean_of_lowest, saving, standardised
from evaluate.model import ModelEntry
from samples import REQUEST, make_document, replant

TEXTS = ["A heron stands in the shallow water and waits.\n" * 4, "Rain again, said the ferryman.\n", "x", ""]
ENTRY = ModelEntry(
    slug="tiny", backend="transformers", options={"source": "tiny", "separator": "<|endoftext|>"}
)
FINITE = st.floats(-50, 0)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([-1.0, -5.0, -3.0, -2.0], 0.5, -4.0),
        ([-1.0, -5.0, -3.0, -2.0], 1.0, -2.75),
        ([-1.0, -5.0, -3.0, -2.0, 0.0], 0.5, -4.0),  # two and a half are two
        ([-1.0, -5.0], 0.2, -5.0),  # a fifth of two is one
    ],
)
def test_the_lowest_share_is_averaged(values: list[float], share: float, expected: float) -> None:
    """Rounded down, as published, and a single value at least."""
    assert mean_of_lowest(np.array(values), share) == expected


def test_nothing_has_no_lowest_value() -> None:
    """Nobody asks for it by mistake."""
    with pytest.raises(ValueError, match="nothing"):
        mean_of_lowest(np.array([]), 0.2)


@given(st.lists(FINITE, min_size=1, max_size=40), st.floats(0.01, 1))
def test_the_mean_of_the_lowest_is_that_of_removing_the_highest(values: list[float], share: float) -> None:
    """Held against a list from which the highest value is taken until few enough are left."""
    rest = list(values)
    while len(rest) > max(1, int(len(values) * share)):
        rest.remove(max(rest))
    assert mean_of_lowest(np.array(values), share) == pytest.approx(sum(rest) / len(rest), abs=1e-9)


@given(st.lists(FINITE, min_size=1, max_size=40), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_larger_share_is_never_lower(values: list[float], one: float, other: float) -> None:
    """It adds tokens that are more likely."""
    low, high = (mean_of_lowest(np.array(values), share) for share in sorted((one, other)))
    assert low <= high + 1e-9


def test_a_token_is_held_against_its_alternatives() -> None:
    """Of two equally likely tokens and a rare one: mean and deviation by hand."""
    p = np.array([0.45, 0.45, 0.1])
    mean = 2 * 0.45 * math.log(0.45) + 0.1 * math.log(0.1)
    deviation = math.sqrt(2 * 0.45 * (math.log(0.45) - mean) ** 2 + 0.1 * (math.log(0.1) - mean) ** 2)
    found = standardised(np.log(p), np.full(3, mean), np.full(3, deviation))
    assert found[0] == pytest.approx(1 / 3)  # sqrt(0.1 / 0.9)
    assert found[2] == pytest.approx(-3)
    assert p @ found == pytest.approx(0)
    assert p @ found**2 == pytest.approx(1)


def test_what_a_model_saves_is_by_character() -> None:
    """Each rate counts its own characters; a model as good as its reference saves nothing."""
    found = saving(np.array([100.0, 80.0]), np.array([50, 80]), np.array([300.0, 90.0]), np.array([100, 90]))
    assert found.tolist() == [1.0, 0.0]


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with params.yaml, a tiny model and a corpus of four texts, one of them empty."""
    save_model(workspace / "tiny", transformers.LlamaConfig(**WIDE))
    documents = [make_document(text, i) for i, text in enumerate(TEXTS)]
    write_corpus(workspace / "corpora" / REQUEST.name, REQUEST, documents)
    params = {
        "snapshots": {REQUEST.name: {}},
        "models": {"tiny": {"backend": "transformers", **ENTRY.options}, "gzip": {"backend": "compressors"}},
        "membership": {"tokens": 100, "share": 0.3},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


@pytest.fixture
def corpus(project: Path) -> Corpus:
    """The corpus of the project."""
    return built_corpus(project / "corpora" / REQUEST.name)


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """Measure with --json; return the figures of a single corpus by metric."""
    return {row["metric"]: row for row in run_json(capsys, "membership", *arguments)}


@torch.inference_mode()
def naive(folder: Path, text: str, tokens: int, share: float) -> tuple[int, float, float, float]:
    """Return (tokens, bits, Min-K%, Min-K%++) of a text, from all logits of a plain forward."""
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    ids = np.array([0, *reader(text).input_ids][:tokens])
    logits = read(folder)(input_ids=torch.tensor(ids)[None]).logits[0, :-1]
    statistics = of_logits(logits, ids)
    n = max(1, int(len(statistics) * share))
    logs = sorted(log_p for log_p, _, _ in statistics)
    standard = sorted((log_p - mean) / deviation for log_p, mean, deviation in statistics)
    return len(logs), -sum(logs) / math.log(2), sum(logs[:n]) / n, sum(standard[:n]) / n


def cell(project: Path) -> Path:
    """Return where the model's cell is."""
    return project / "results" / "membership" / "tiny" / f"{REQUEST.name}.parquet"


def by_text(corpus: Corpus, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows in the order of `TEXTS`: a corpus has an order of its own."""
    found = {text: row for (_, text), row in zip(corpus.documents(), rows, strict=True)}
    return [found[text] for text in TEXTS]


def test_every_document_equals_the_definition(
    project: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the text to the figures: the separator and the first tokens, and a document without any is skipped."""
    found = figures(capsys, "--model", "tiny")
    rows = by_text(corpus, membership_cells.read(cell(project)))
    assert [row["skipped"] for row in rows] == ["", "", "", "no token to predict"]
    expected = [naive(project / "tiny", text, 100, 0.3) for text in TEXTS[:3]]
    for row, text, (n, bits, min_k, plus) in zip(rows, TEXTS, expected, strict=False):
        assert (row["n_tokens"], row["n_characters"]) == (n, len(text[:99]))
        assert row["bits"] == pytest.approx(bits, rel=1e-5)
        assert row["min_k"] == pytest.approx(min_k, rel=1e-5)
        assert row["min_k_plus_plus"] == pytest.approx(plus, rel=1e-4)
        assert (row["protocol"], row["prefix"]) == ("membership/100/0.3", "separator <|endoftext|> (0)")
    assert found["min_k"]["value"] == pytest.approx(np.mean([e[2] for e in expected]), rel=1e-5)
    assert found["min_k_plus_plus"]["value"] == pytest.approx(np.mean([e[3] for e in expected]), rel=1e-4)
    characters = sum(len(text[:99]) for text in TEXTS)
    assert found["bits_per_character"]["value"] == pytest.approx(sum(e[1] for e in expected) / characters)
    for figure in found.values():
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert (figure["n_documents"], figure["n_skipped"]) == (3, 1)


def test_without_a_prefix_the_first_token_is_not_predicted(project: Path, corpus: Corpus) -> None:
    """Its characters are not paid for either."""
    entry = replace(ENTRY, options={"source": "tiny"})
    subject = familiarity.load(entry, Settings(tokens=100), print)
    rows = by_text(corpus, familiarity.measure(subject, corpus, journals=project / "j"))
    assert [row["skipped"] for row in rows] == ["", "", *["no token to predict"] * 2]
    assert (rows[1]["n_tokens"], rows[1]["n_characters"]) == (len(TEXTS[1]) - 1, len(TEXTS[1]) - 1)


def test_a_cell_is_measured_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Again only where something that its numbers depend on has changed."""
    first = figures(capsys, "--model", "tiny")
    stamp, content = cell(project).stat().st_mtime_ns, cell(project).read_bytes()
    status, out, err = run(capsys, "membership", "--all")
    assert (status, cell(project).stat().st_mtime_ns) == (0, stamp)
    assert "tiny: familiarity of 0 of 1 corpora measured, 1 unchanged" in err
    assert "gzip: backend compressors shows no distribution over tokens, so it has no membership" in err
    assert (project / "results" / "membership" / "gzip").is_dir()
    assert f"tiny on {REQUEST.name}: Min-30% {first['min_k']['value']:.4g} [" in out
    assert "; 3 documents, 1 skipped\n" in out
    assert not list((project / ".staging").rglob("*.jsonl"))
    cell(project).unlink()
    assert "1 of 1 corpora measured" in run(capsys, "membership", "--all")[2]
    assert cell(project).read_bytes() == content
    change(project, membership={"tokens": 99})
    assert "1 of 1 corpora measured" in run(capsys, "membership", "--all")[2]


def test_the_key_changes_with_everything_a_number_depends_on(corpus: Corpus) -> None:
    """Weights, options, corpus and settings; never family, price or published name."""

    def key(entry: ModelEntry = ENTRY, weights: str = "w", sha256: str = "", **settings: Any) -> str:
        own = replace(corpus, sha256=sha256) if sha256 else corpus
        return familiarity.key(entry, weights, Settings(**settings), own)

    keys = [
        key(),
        key(weights="other"),
        key(sha256="other"),
        key(replace(ENTRY, options={**ENTRY.options, "dtype": "bfloat16"})),
        key(tokens=99),
        key(share=0.3),
    ]
    assert len(set(keys)) == len(keys)
    assert key(replace(ENTRY, name="org/tiny", family="small", price={"per_hour": 1.0})) == keys[0]


def test_an_interrupted_run_goes_on_where_it_stopped(project: Path, corpus: Corpus) -> None:
    """Finished documents are read from the journal, a torn line is measured again, another model's are not taken."""
    subject = familiarity.load(ENTRY, Settings(tokens=100), print)
    whole = familiarity.measure(subject, corpus, journals=project / "j")
    path = project / "j" / "documents.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    number, row, _checksum = json.loads(lines[1])
    row["bits"] = 0.25  # a mark that no measurement would leave
    replant(path, (number, row), (1, {"skipped": ""}))
    with path.open("a") as file:
        file.write(lines[3][:20])
    resumed = familiarity.measure(subject, corpus, journals=project / "j")
    assert resumed == [{**whole[0], "bits": 0.25}, *whole[1:]]
    other = replace(subject, settings=Settings(tokens=90))
    assert familiarity.measure(other, corpus, journals=project / "j")[0]["bits"] > 1


def test_a_context_that_is_shorter_is_said_and_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No figure stands under more tokens than the model has read."""
    save_model(project / "short", transformers.LlamaConfig(**{**WIDE, "max_position_embeddings": 24}))
    change(project, models={"short": {"backend": "transformers", "source": "short"}})
    status, _, err = run(capsys, "membership", "--all")
    assert status == 0, err
    assert "short reads 24 tokens, fewer than the 100 of `membership`: measured as membership/24/0.3" in err
    rows = membership_cells.read(project / "results" / "membership" / "short" / f"{REQUEST.name}.parquet")
    assert {row["n_tokens"] for row in rows if not row["skipped"]} == {23}


def test_a_reference_is_paid_for_the_same_characters(
    project: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compressor pays for what the model has read of each document, a model for its own first tokens."""
    found = figures(capsys, "--model", "tiny", "--reference", "gzip")["saving"]
    rows = by_text(corpus, membership_cells.read(cell(project)))[:3]
    expected = [
        8 * len(gzip.compress(text[:99].encode(), 9, mtime=0)) / len(text[:99]) - row["bits"] / len(text[:99])
        for text, row in zip(TEXTS, rows, strict=False)
    ]
    assert found["value"] == pytest.approx(np.mean(expected))
    assert (found["reference"], found["n_documents"], found["n_skipped"]) == ("gzip", 3, 1)
    shutil.copytree(project / "tiny", project / "twin")
    twin = figures(capsys, "--model", "tiny", "--reference", f"{project}/twin")
    assert twin["saving"]["reference"] == "twin"
    assert twin["saving"]["value"] != 0  # it was named without a separator, and pays another price
    assert not (project / "results" / "membership" / "twin").exists()
    same = figures(capsys, "--model", "tiny", "--reference", "tiny")
    assert (same["saving"]["value"], same["saving"]["low"], same["saving"]["high"]) == (0, 0, 0)
    status, out, _ = run(capsys, "membership", "--model", "tiny", "--reference", "gzip")
    assert status == 0
    assert f"; saved against gzip {found['value']:.4g} [" in out


def test_a_text_of_ones_own_leaves_no_cell(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With settings of one's own, and a single document without an interval."""
    (project / "a.txt").write_text(TEXTS[0])
    found = figures(capsys, "--model", "tiny", "--text", "a.txt", "--tokens", "50", "--share", "0.5")
    n, bits, min_k, plus = naive(project / "tiny", TEXTS[0], 50, 0.5)
    assert n == 49
    assert found["min_k"]["value"] == pytest.approx(min_k, rel=1e-5)
    assert found["min_k_plus_plus"]["value"] == pytest.approx(plus, rel=1e-4)
    assert found["bits_per_character"]["value"] == pytest.approx(bits / 49, rel=1e-5)
    assert (found["min_k"]["low"], found["min_k"]["protocol"]) == (None, "membership/50/0.5")
    assert not (project / "results").exists()


def test_texts_without_a_cell_are_kept_until_the_command_is_done(project: Path) -> None:
    """What an interrupted command has measured of one text is there when it is run again."""
    (project / "a.txt").write_text(TEXTS[0])
    with ExitStack() as journals:
        text = text_file(project / "a.txt")
        membership.measured(ENTRY, Settings(tokens=50), [text], {}, journals)
        assert list((project / chosen.STAGING).rglob("documents.jsonl"))
    assert not list((project / chosen.STAGING).rglob("documents.jsonl"))


@pytest.mark.parametrize(("share", "shown"), [("0.2", "Min-20% "), ("0.005", "Min-0.5% ")])
def test_a_share_is_said_as_it_is(
    project: Path, capsys: pytest.CaptureFixture[str], share: str, shown: str
) -> None:
    """Not rounded to whole percents."""
    (project / "a.txt").write_text(TEXTS[0])
    status, out, _ = run(capsys, "membership", "--model", "tiny", "--text", "a.txt", "--share", share)
    assert status == 0
    assert shown in out


def test_a_corpus_that_kept_no_document_is_an_empty_cell(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the stage passes."""
    write_corpus(project / "corpora" / REQUEST.name, REQUEST, [])
    status, out, err = run(capsys, "membership", "--all", "--reference", "gzip")
    assert (status, out) == (0, ""), err
    assert f"{REQUEST.name} kept no document to measure; its dropped.parquet says why" in err
    assert membership_cells.read(cell(project)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "gzip", "--text", "a.txt"],
            "gzip runs in backend 'compressors', which shows no distrib",
        ),
        (["--model", "none"], "model 'none' is neither in params.yaml (gzip, tiny) nor"),
        (["--model", "tiny", "--reference", "none"], "model 'none' is neither in params.yaml"),
        (["--model", "tiny", "--tokens", "50"], "--tokens would record"),
        (["--model", "tiny", "--share", "0.5"], "--share would record"),
        (["--model", "tiny", "--text", "a.txt", "--tokens", "1"], "tokens 1 of `membership` must be a whole"),
        (["--model", "tiny", "--text", "a.txt", "--share", "0"], "share 0.0 of `membership` must be above 0"),
        (["--model", "tiny", "--text", "b.txt"], "b.txt does not exist"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The value, the rule and the remedy, without a traceback."""
    (project / "a.txt").write_text(TEXTS[0])
    status, out, err = run(capsys, "membership", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("value", ["0.2", True, 0, 1.5, float("nan")])
def test_a_share_is_a_share(value: Any) -> None:
    """Above nothing, and no more than everything."""
    with pytest.raises(UserError, match="must be above 0 and at most 1"):
        Settings(share=value)


def test_a_damaged_model_is_one_line(project: Path, corpus: Corpus) -> None:
    """A probability that is no number is never averaged."""
    subject = familiarity.load(ENTRY, Settings(), print)
    subject.model.head.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(UserError, match=r"tiny on document \w+ of test-2026-09: .* try dtype float32"):
        familiarity.measure(subject, corpus, journals=project / "j")


def test_the_figures_of_a_cell_are_those_of_a_document() -> None:
    """Every figure is a column, so that all else can be derived from a cell."""
    assert set(Familiarity.__slots__) <= set(membership_cells.SCHEMA.names)
