"""Bits per document."""

import json
import math
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate import likelihood
from evaluate.likelihood import FULLNESS, in_parts, likelihoods
from evaluate.model import Prefix, Tokens
from evaluate.windows import ScoringProtocol
from samples import NO_PREFIX, ROOT, ByteModel

SEPARATOR = Prefix(kind="separator", token=256)
BOS = Prefix(kind="bos", token=256)
TEXTS = ["", "a", "abracadabra", "żółw " * 9, "the cat sat on the mat and the dog on the log"]
DOCUMENTS = [(f"d{i}", text) for i, text in enumerate(TEXTS)]
Costs = list[NDArray[np.float64]]


def naive_full(model: ByteModel, text: str, window: int, stride: int) -> float:
    """Score each token afresh from the context that the rule gives it."""
    tokens = list(text.encode())
    prefix = [] if model.prefix.token is None else [model.prefix.token]
    room = window - len(prefix)
    total = 0.0
    for i, token in enumerate(tokens):
        if i == 0 and not prefix:
            total += math.log(model.vocabulary_size)
            continue
        last = room  # the last target of the window that scores token i
        while last < i:
            last += stride
        last = min(last, len(tokens) - 1)
        total += float(model.cost(np.array(prefix + tokens[max(0, last - room) : i]), np.int64(token)))
    return total


@pytest.mark.parametrize("prefix", [NO_PREFIX, SEPARATOR, BOS])
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (8, 3), (8, 8), (20, 5), (500, 100)])
def test_full_equals_a_scorer_that_looks_at_every_token(prefix: Prefix, window: int, stride: int) -> None:
    """Batches, windows and sums change nothing."""
    model = ByteModel(prefix=prefix)
    rows = likelihoods(model, DOCUMENTS, ScoringProtocol(window=window, stride=stride))
    for row, text in zip(rows, TEXTS, strict=True):
        assert row.nll == pytest.approx(naive_full(model, text, window, stride), rel=1e-12)
        assert row.n_tokens == row.n_bytes == len(text.encode())
        assert row.n_characters == len(text)
        assert row.n_unscored == 0
        assert row.lossless
        assert row.repair_nll == 0
        assert row.exact_nll is None


@settings(max_examples=30)
@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=6),
    window=st.integers(2, 12),
    prefix=st.sampled_from([NO_PREFIX, SEPARATOR]),
    data=st.data(),
)
def test_full_equals_the_naive_scorer_on_any_text(
    texts: list[str], window: int, prefix: Prefix, data: st.DataObject
) -> None:
    """The same for arbitrary Unicode, windows, strides and batches."""
    stride = data.draw(st.integers(1, window))
    texts = [*texts, "x"]
    model = ByteModel(prefix=prefix, batch_tokens=data.draw(st.integers(1, 100)))
    rows = likelihoods(
        model, [(str(i), t) for i, t in enumerate(texts)], ScoringProtocol(window=window, stride=stride)
    )
    for row, text in zip(rows, texts, strict=True):
        assert row.nll == pytest.approx(naive_full(model, text, window, stride), rel=1e-10, abs=1e-10)


def naive_huang2024(model: ByteModel, texts: list[str], window: int, stride: int) -> tuple[float, int]:
    """Transcribe the released code's description: blocks, loss of all or of the last S targets."""
    bos = [256] if model.prefix.kind == "bos" else []
    stream = np.array([token for text in texts if text for token in [*bos, *text.encode()]])
    total, scored = 0.0, 0
    for k in range((len(stream) - (window + 1)) // stride + 1):
        block = stream[k * stride : k * stride + window + 1]
        loss = [float(model.cost(block[: i + 1], block[i + 1])) for i in range(window)]
        part = loss if k == 0 else loss[-stride:]
        total += sum(part)
        scored += len(part)
    return total, scored


@pytest.mark.parametrize("prefix", [NO_PREFIX, SEPARATOR, BOS])
@pytest.mark.parametrize(("window", "stride"), [(8, 3), (20, 5), (60, 59)])
def test_huang2024_equals_its_transcription(prefix: Prefix, window: int, stride: int) -> None:
    """One stream, a BOS per document only where the tokenizer adds one, and it is scored; the tail is not."""
    model = ByteModel(prefix=prefix)
    rows = likelihoods(model, DOCUMENTS, ScoringProtocol(name="huang2024", window=window, stride=stride))
    total, scored = naive_huang2024(model, TEXTS, window, stride)
    assert sum(row.nll for row in rows) == pytest.approx(total, rel=1e-12)
    assert sum(row.n_tokens or 0 for row in rows) == scored
    assert sum(row.n_characters for row in rows) == sum(map(len, TEXTS))


@pytest.mark.parametrize("name", ["full", "sink"])
def test_a_uniform_model_pays_log2_of_its_vocabulary_per_token(name: str) -> None:
    """The closed form, whatever the windows, the first token included."""

    class Uniform(ByteModel):
        def cost(self, context: Tokens, target: np.int64) -> float:
            del context, target
            return math.log(257)

    for prefix in (NO_PREFIX, SEPARATOR):
        rows = likelihoods(Uniform(prefix=prefix), DOCUMENTS, ScoringProtocol(name=name, window=9, stride=3))
        for row in rows:
            assert row.nll == pytest.approx((row.n_tokens or 0) * math.log(257), rel=1e-12)


class Watched(ByteModel):
    """A model that notes the lengths of the rows of every batch."""

    batches: list[list[int]] = []  # noqa: RUF012  reset by each test

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> Costs:
        self.batches.append([len(row) for row in inputs])
        return ByteModel.nll(self, inputs, targets)


def test_batches_hold_windows_of_nearly_one_length_the_longest_first() -> None:
    """Within the budget, and never more padding than a quarter."""
    Watched.batches = []
    documents = [(str(i), "x" * n) for i, n in enumerate([100, 3, 17, 16, 100, 40, 15, 9, 1, 2, 3, 3])]
    likelihoods(Watched(batch_tokens=64), documents, ScoringProtocol(window=20, stride=10))
    assert all(len(rows) * rows[0] <= 64 for rows in Watched.batches)
    assert all(row >= FULLNESS * rows[0] for rows in Watched.batches for row in rows)
    lengths = [row for rows in Watched.batches for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert Watched.batches[0] == [20, 20, 20]


class Small(ByteModel):
    """A model whose memory holds so many tokens at a time."""

    room = 0
    tried: list[int] = []  # noqa: RUF012  reset by each test

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> Costs:
        self.tried.append(sum(map(len, inputs)))
        if self.tried[-1] > self.room:
            raise MemoryError(f"{self.tried[-1]} tokens")
        return ByteModel.nll(self, inputs, targets)


def test_memory_that_runs_out_halves_the_batch_and_scoring_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, the numbers stay, and later blocks begin with what was found to fit."""
    monkeypatch.setattr(likelihood, "BLOCK_CHARACTERS", 120)
    documents = [(str(i), f"{i:09} and " * 3) for i in range(24)]
    protocol = ScoringProtocol(window=10, stride=5)
    free = likelihoods(ByteModel(), documents, protocol)
    Small.room, Small.tried = 35, []
    assert likelihoods(Small(batch_tokens=160), documents, protocol) == free
    assert Small.tried[:4] == [160, 80, 40, 20]
    assert max(Small.tried[3:]) == 20
    assert len(in_parts(documents, 120)) > 2


def test_a_window_that_does_not_fit_alone_is_one_line() -> None:
    """With the window's size, the model, the reason and what to do."""
    Small.room, Small.tried = 7, []
    with pytest.raises(
        UserError,
        match=r"single window of 10 tokens does not fit into memory with bytes \(10 tokens\); choose a smaller",
    ):
        likelihoods(Small(), DOCUMENTS, ScoringProtocol(window=10, stride=5))
    assert Small.tried[-1] == 10


class Dying(ByteModel):
    """A model that is interrupted in its fourth batch."""

    calls = 0

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> Costs:
        type(self).calls += 1
        if self.calls == 4:
            raise KeyboardInterrupt
        return ByteModel.nll(self, inputs, targets)


@pytest.mark.parametrize("block", [1, 10**6])
def test_an_interrupted_run_goes_on_where_it_stopped(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch is scored twice, and the sums equal those of an undisturbed run to the bit."""
    monkeypatch.setattr(likelihood, "BLOCK_CHARACTERS", block)
    Dying.calls = 0
    dying, protocol, path = Dying(batch_tokens=16), ScoringProtocol(window=8, stride=3), tmp_path / "journal"
    calm = likelihoods(ByteModel(batch_tokens=16), DOCUMENTS, protocol)
    with pytest.raises(KeyboardInterrupt):
        likelihoods(dying, DOCUMENTS, protocol, journal_file=path, key="k")
    resumed = likelihoods(dying, DOCUMENTS, protocol, journal_file=path, key="k")
    assert resumed == calm
    calls = Dying.calls
    assert calls > 5
    assert likelihoods(dying, DOCUMENTS, protocol, journal_file=path, key="k") == calm
    assert Dying.calls == calls
    assert likelihoods(dying, DOCUMENTS, protocol, journal_file=path, key="another") == calm
    assert Dying.calls == calls + calls - 1


def test_a_killed_process_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """`kill -9` at any moment, and torn lines: each batch is kept once, and the sums are equal to the bit."""
    order = run_slow(tmp_path / "calm", delay=0.0)[1]
    calm = json.loads((tmp_path / "calm" / "rows").read_text())
    assert len(order) > 40
    folder, chance, runs = tmp_path / "killed", random.Random(0), []
    for _ in range(3):
        before = kept(folder)
        with subprocess.Popen(command(folder, delay=0.01), cwd=ROOT) as process:
            calls = folder / "calls"
            wanted = chance.randint(2, 9)
            while process.poll() is None and len(lines(calls)) < wanted:
                time.sleep(0.002)
            time.sleep(chance.random() / 50)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        runs.append((before, lines(calls)))
        calls.unlink()
        with (folder / "journal").open("ab") as journal:
            journal.write(b"[3, [[[0, 1.25], [1")
    before = kept(folder)
    runs.append((before, run_slow(folder, delay=0.0)[1]))
    for before, called in runs:
        assert called == order[before : before + len(called)]
    assert sorted(before for before, _ in runs) == [before for before, _ in runs]
    assert runs[-1][0] + len(runs[-1][1]) == len(order)
    assert json.loads((folder / "rows").read_text()) == calm


def lines(path: Path) -> list[str]:
    """Return the whole lines of a file, none where there is no file."""
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def kept(folder: Path) -> int:
    """Return how many batches a journal holds intact."""
    found = 0
    for line in lines(folder / "journal")[1:]:
        try:
            json.loads(line)
        except ValueError:
            break
        found += 1
    return found


def command(folder: Path, delay: float) -> list[str]:
    """Return the command that scores with a journal, and notes each batch before it is scored."""
    folder.mkdir(exist_ok=True)
    return [sys.executable, "-c", SLOW, str(folder), str(delay)]


def run_slow(folder: Path, delay: float) -> tuple[int, list[str]]:
    """Run it to its end."""
    return subprocess.run(command(folder, delay), cwd=ROOT, check=True).returncode, lines(folder / "calls")


SLOW = """
import hashlib, json, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import numpy as np
from evaluate import likelihood
from evaluate.windows import ScoringProtocol
from samples import ByteModel

folder, delay = Path(sys.argv[1]), float(sys.argv[2])

class Slow(ByteModel):
    def nll(self, inputs, targets):
        with (folder / "calls").open("a") as calls:
            calls.write(hashlib.sha256(np.concatenate(inputs)).hexdigest() + "\\n")
        time.sleep(delay)
        return ByteModel.nll(self, inputs, targets)

likelihood.BLOCK_CHARACTERS = 150
documents = [(str(i), f"{i} " + "word " * (i % 5) + "and so on " * 4) for i in range(40)]
protocol = ScoringProtocol(window=16, stride=7)
rows = likelihood.likelihoods(
    Slow(batch_tokens=64), documents, protocol, journal_file=folder / "journal", key="k"
)
(folder / "rows").write_text(json.dumps([row.nll.hex() for row in rows]))
"""


@pytest.mark.parametrize("name", ["full", "sink"])
@pytest.mark.parametrize("characters", [1, 30, 100])
def test_blocks_change_nothing(name: str, characters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents cost what they cost, in their order, however many are prepared at a time."""
    protocol = ScoringProtocol(name=name, window=12, stride=4)
    whole = likelihoods(ByteModel(prefix=SEPARATOR), DOCUMENTS, protocol)
    monkeypatch.setattr(likelihood, "BLOCK_CHARACTERS", characters)
    assert likelihoods(ByteModel(prefix=SEPARATOR), DOCUMENTS, protocol) == whole


@given(sizes=st.lists(st.integers(0, 9), max_size=20), characters=st.integers(1, 20))
def test_parts_are_the_documents_in_order(sizes: list[int], characters: int) -> None:
    """Each part but the last is full, and none would be without its last document."""
    documents = [(str(i), "x" * size) for i, size in enumerate(sizes)]
    parts = in_parts(documents, characters)
    assert [document for part in parts for document in part] == documents
    assert all(sum(len(text) for _, text in part) >= characters for part in parts[:-1])
    assert all(sum(len(text) for _, text in part[:-1]) < characters for part in parts)


def test_a_block_is_tokenised_while_the_one_before_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block ahead and no more, for what is tokenised fills memory."""
    monkeypatch.setattr(likelihood, "BLOCK_CHARACTERS", 1)
    texts = ["first", "second", "third", "fourth"]
    begun = {text: threading.Event() for text in texts}
    ahead = []

    class Meeting(ByteModel):
        def encode(self, texts: Sequence[str]) -> list[Tokens]:
            begun[texts[0]].set()
            return ByteModel.encode(self, texts)

        def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> Costs:
            place = next(i for i, text in enumerate(texts) if text.encode()[1] == targets[0][0])
            if place + 1 < len(texts):
                assert begun[texts[place + 1]].wait(timeout=20)
            ahead.append(sum(event.is_set() for event in begun.values()) - place - 1)
            return ByteModel.nll(self, inputs, targets)

    likelihoods(Meeting(), [(text, text) for text in texts], ScoringProtocol())
    assert ahead == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("documents", "protocol", "message"),
    [
        ([], ScoringProtocol(), "holds no text"),
        ([("a", "")], ScoringProtocol(), "holds no text"),
        ([("a", "short")], ScoringProtocol(name="huang2024"), "scores nothing below 1901"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    model: ByteModel, documents: list[tuple[str, str]], protocol: ScoringProtocol, message: str
) -> None:
    """Empty corpora, and corpora shorter than one window of the paper's code."""
    with pytest.raises(UserError, match=message):
        likelihoods(model, documents, protocol)


def test_a_window_above_the_context_never_passes_silently(model: ByteModel) -> None:
    """Rotary models would go on beyond what they were built for, and cost too much."""
    short = replace(model, context_length=64)
    with pytest.raises(UserError, match="a window of 65 tokens is more than the 64 that bytes was built for"):
        likelihoods(short, DOCUMENTS, ScoringProtocol(window=65, stride=32))
    wide = ScoringProtocol(window=65, stride=32)
    rows = likelihoods(short, DOCUMENTS, wide.within(short.context_length))
    assert rows == likelihoods(model, DOCUMENTS, ScoringProtocol(window=64, stride=31))


def test_numbers_that_are_not_finite_are_refused() -> None:
    """Never NaN: the message names model, document and remedy."""

    class Broken(ByteModel):
        def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> Costs:
            del inputs
            return [np.full(len(row), np.nan) for row in targets]

    with pytest.raises(UserError, match="bytes gives document a a likelihood that is not finite"):
        likelihoods(Broken(), [("a", "text")], ScoringProtocol())
