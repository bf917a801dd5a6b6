"""`python -m evaluate contamination` on models that are trained here, on half of a corpus that is made here."""

import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from numpy.typing import NDArray
from test_transformers_model import save_tokenizer

from collectors.build import write_corpus
from collectors.document import UserError
from evaluate import membership_cells
from evaluate.__main__ import main
from evaluate.commands import contamination
from evaluate.verdict import LEVEL, Sample, Verdict, judge
from samples import REQUEST, make_document

N, LENGTH = 24, 160
WEIGHTS = [1 / rank for rank in range(1, 81)]
CONFIG = transformers.LlamaConfig(
    vocab_size=258,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=256,
)


def texts(seed: int, n: int, words: int = 80) -> list[str]:
    """Return texts of words drawn from one lexicon, the first most often; of these alone they are easier."""
    drawn = random.Random(0)
    lexicon = ["".join(drawn.choices("abcdefghijklmnop", k=drawn.randint(2, 6))) for _ in range(80)]
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(lexicon[:words], WEIGHTS[:words], k=60)) for _ in range(n)]


BACKGROUND, SEEN, UNSEEN, EASY = texts(1, 200), texts(2, N), texts(3, N), texts(4, N, words=20)


def train(model: Any, tokens: NDArray[np.int64], steps: int) -> None:
    """Train on random batches of rows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        batch = torch.tensor(tokens)[torch.randint(len(tokens), (16,), generator=generator)]
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of the language, `other` and `base`, and `tuned`, which is `base` after `SEEN`."""
    folder = tmp_path_factory.mktemp("trained")
    auto: Any = transformers.AutoModelForCausalLM
    for name, documents in (("other", BACKGROUND), ("base", BACKGROUND), ("tuned", SEEN)):
        if name != "tuned":
            torch.manual_seed(len(name))
            model = auto.from_config(CONFIG)
        save_tokenizer(folder / name)
        reader = transformers.AutoTokenizer.from_pretrained(folder / name)
        train(model, np.array([[0, *reader(text).input_ids][:LENGTH] for text in documents]), 100)
        model.save_pretrained(folder / name)
    return folder


MODELS = ("other", "base", "tuned")
CORPORA = {"seen": SEEN, "unseen": UNSEEN, "easy": EASY}


@pytest.fixture
def project(trained: Path, workspace: Path) -> Path:
    """A working directory with the models and three corpora that params.yaml names."""
    for name, documents in CORPORA.items():
        made = [make_document(text, i) for i, text in enumerate(documents)]
        write_corpus(workspace / "corpora" / name, replace(REQUEST, name=name), made)
    for name in MODELS:
        shutil.copytree(trained / name, workspace / name)
    models: dict[str, dict[str, str]] = {
        name: {"backend": "transformers", "source": name, "separator": "<|endoftext|>"} for name in MODELS
    }
    params = {
        "snapshots": {name: {} for name in CORPORA},
        "models": {**models, "ppmd": {"backend": "compressors"}},
        "membership": {"tokens": LENGTH},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


def judged(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the verdict as JSON."""
    status = main(["contamination", *arguments, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    found: dict[str, Any] = json.loads(captured.out)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("statistic", ["min_k_plus_plus", "min_k", "bits"])
@pytest.mark.parametrize("reference", [[], ["--reference", "base"]])
def test_a_model_that_was_trained_on_half_a_corpus_is_told(
    capsys: pytest.CaptureFixture[str], statistic: str, reference: Sequence[str]
) -> None:
    """Its half is separated from the other, which is not flagged; nor is either half under the model before."""
    asked = ["--statistic", statistic, *reference]
    found = judged(capsys, "--model", "tuned", "--corpus", "seen", "--against", "unseen", *asked)
    assert found["contaminated"]
    assert found["auc"] >= 0.95
    assert found["p_value"] == 1e-4
    assert (found["n_documents"], found["n_against"], found["n_left_out"]) == (N, N, 0)
    assert not judged(capsys, "--model", "tuned", "--corpus", "unseen", "--against", "seen", *asked)[
        "contaminated"
    ]
    if not reference:
        for corpus, against in (("seen", "unseen"), ("unseen", "seen")):
            found = judged(capsys, "--model", "base", "--corpus", corpus, "--against", against, *asked)
            assert not found["contaminated"]


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_easier_text_is_told_from_text_that_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """Easy text is flagged under a model that never saw it, unless another such model is the reference.

    And text that was seen is flagged beside easier text, which the reference finds the more familiar.
    """
    easy = ["--corpus", "easy", "--against", "unseen", "--statistic", "bits"]
    alone = judged(capsys, "--model", "base", *easy)
    assert alone["contaminated"]
    assert alone["assumptions"][0].startswith("the two corpora differ in nothing but training")
    assert alone["reference_auc"] is None
    referred = judged(capsys, "--model", "base", *easy, "--reference", "other")
    assert not referred["contaminated"]
    assert referred["reference_auc"] > 0.9
    arguments = ["--model", "tuned", "--corpus", "seen", "--against", "easy", "--statistic", "bits"]
    seen = judged(capsys, *arguments, "--reference", "base")
    assert seen["contaminated"]
    assert seen["reference_auc"] < 0.1


@pytest.mark.parametrize("level", [LEVEL, 0.05])
def test_halves_that_were_not_trained_on_raise_no_alarm(level: float) -> None:
    """Of 1000 corpora of documents that are skewed, tied and longer the higher, halved: as many as the level says.

    Bounds are those that a binomial variable leaves in one of ten thousand cases; neither none nor ten times as
    many pass.
    """
    flagged = 0
    for seed in range(1000):
        drawn = np.random.default_rng(seed)
        lengths = drawn.integers(50, 513, 2 * N)
        statistics = np.round(drawn.gamma(2, 1, 2 * N) + lengths / 200, 1)
        halves = [
            Sample(statistics=statistics[half], lengths=lengths[half]) for half in (slice(N), slice(N, None))
        ]
        flagged += judge(*halves, seed=seed, level=level, permutations=199).contaminated
    share = np.cumsum([math.comb(1000, k) * level**k * (1 - level) ** (1000 - k) for k in range(200)])
    low, high = np.searchsorted(share, [5e-5, 1 - 5e-5])
    assert 0 < low <= flagged <= high < 10 * 1000 * level


@pytest.mark.slow
def test_cells_are_shared_with_the_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Corpora of params.yaml are measured once, for whatever command; others leave no cell."""
    arguments = ["--model", "tuned", "--corpus", "seen", "--against", "unseen"]
    found = judged(capsys, *arguments)
    cells = sorted((project / "results").rglob("*.parquet"))
    assert [cell.relative_to(project / "results" / "membership").as_posix() for cell in cells] == [
        "tuned/seen.parquet",
        "tuned/unseen.parquet",
    ]
    stamps = [cell.stat().st_mtime_ns for cell in cells]
    assert judged(capsys, *arguments) == found
    assert [cell.stat().st_mtime_ns for cell in cells] == stamps
    rows = membership_cells.read(cells[0])
    assert (found["corpus_sha256"], found["revision"]) == (rows[0]["corpus_sha256"], rows[0]["revision"])
    assert (found["protocol"], found["reference"]) == ("membership/160/0.2", "")
    own = project / "own.jsonl"
    own.write_text("".join(json.dumps({"text": text}) + "\n" for text in UNSEEN))
    other = judged(capsys, *arguments[:-1], "own.jsonl")
    assert {**other, "against": "unseen", "against_sha256": found["against_sha256"]} == found
    again = judged(capsys, *arguments, "--device", "cpu")
    assert (again["auc"], again["p_value"]) == (found["auc"], found["p_value"])
    assert sorted((project / "results").rglob("*.parquet")) == cells


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_the_verdict_is_said_with_its_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    """In lines that a person can quote."""
    assert main(["contamination", "--model", "tuned", "--corpus", "seen", "--against", "unseen"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "tuned on seen against unseen: contaminated, if what is assumed holds (p = 0.0001, level 1%)"
    )
    assert f"  {N} documents of {N} origins against {N} of {N}, in " in out
    assert "  - origins are independent, and alike in both corpora" in out
    assert "no reference was named: text that is easier looks like text that was seen" in out
    arguments = ["--model", "tuned", "--corpus", "unseen", "--against", "seen", "--reference", "base"]
    assert main(["contamination", *arguments]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tuned on unseen against seen: no evidence of contamination (p = 1, level 1%)")
    assert " by Min-K%++ less that of base; base alone tells them apart with AUC 0." in out
    assert "no reference was named" not in out
    assert out.count("\n  - ") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "seen", "--against", "seen"], "seen and seen hold the same documents"),
        (["--corpus", "seen", "--against", "none"], "none does not exist"),
        (
            ["--corpus", "seen", "--against", "few.jsonl"],
            "1 documents against 3 of about the same length, of 1 and 1 origins, are too few for a verdict at the 1%",
        ),
        (
            ["--corpus", "seen", "--against", "unseen", "--reference", "ppmd", "--statistic", "min_k"],
            "statistic min_k needs probabilities of tokens, which the compressor ppmd has none of",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The value, the rule and the remedy, without a traceback."""
    shutil.rmtree(project / "corpora" / "seen")
    made = [make_document("A single page of few words, but a page. " * 3)]
    write_corpus(project / "corpora" / "seen", replace(REQUEST, name="seen"), made)
    few = [{"id": f"d{i}", "text": f"few words {i}", "origin": "one"} for i in range(3)]
    (project / "few.jsonl").write_text("\n".join(map(json.dumps, few)))
    status = main(["contamination", "--model", "base", *arguments])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert message in captured.err.splitlines()[-1]


def read(n_characters: int, protocol: str = "membership/160/0.2") -> list[dict[str, Any]]:
    """Return the rows of a cell of two documents."""
    return [{"protocol": protocol, "n_characters": n} for n in (n_characters - 100, 100)]


def test_a_reference_that_read_other_text_is_refused() -> None:
    """Under a shorter context, or of more than a hundredth more or fewer characters; a compressor has no protocol."""
    contamination._check_alike("base", [read(1000)] * 2, [read(1000), read(1009)])
    contamination._check_alike("gzip", [read(1000)], [[{"n_characters": 900}, {"n_characters": 100}]])
    with pytest.raises(
        UserError, match="base were measured as membership/160/0.2 and membership/24/0.2; choose"
    ):
        contamination._check_alike("base", [read(1000)], [read(1000, "membership/24/0.2")])
    for other in (980, 1020):
        with pytest.raises(
            UserError, match=f"read 1000 characters of a corpus and the reference base {other}"
        ):
            contamination._check_alike("base", [read(1000)] * 2, [read(1000), read(other)])


ORIGIN = {"model": "m", "corpus": "a", "against": "b", "reference": "base", "statistic": "bits"}


def verdict(shift: float, confounder: float) -> Verdict:
    """Return that on corpora that differ by so much, and by so much under the reference as well."""
    drawn = np.random.default_rng(1)
    lengths, common = np.full(60, 100), drawn.normal(0, 1, (2, 60)) + np.array([[confounder], [0.0]])
    noise = drawn.normal(0, 0.3, (2, 60))
    own, against = (
        Sample(statistics=common[i] + noise[i] + (shift, 0.0)[i], lengths=lengths, reference=common[i])
        for i in (0, 1)
    )
    return judge(own, against, permutations=199)


@pytest.mark.parametrize(
    ("shift", "confounder", "unlike", "reverse"),
    [(1.0, 0.0, False, False), (1.0, 2.0, True, False), (-1.0, 0.0, False, True)],
)
def test_what_speaks_against_the_match_is_said(
    shift: float, confounder: float, unlike: bool, reverse: bool
) -> None:
    """Corpora that the reference tells apart, and a corpus that is less familiar than its match."""
    out = "\n".join(contamination._lines(ORIGIN, verdict(shift, confounder)))
    assert ("attention: under base alone the two corpora are not alike" in out) == unlike
    assert ("attention: the other corpus is the more familiar one" in out) == reverse
