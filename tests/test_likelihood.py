"""Bits per document."""

import math
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
from evaluate.likelihood import interval, likelihoods, rate
from evaluate.model import Likelihood, Prefix, Tokens
from evaluate.windows import ScoringProtocol
from samples import NO_PREFIX, ByteModel

SEPARATOR = Prefix(kind="separator", token=256)
BOS = Prefix(kind="bos", token=256)
TEXTS = ["", "a", "abracadabra", "żółw " * 9, "the cat sat on the mat and the dog on the log"]
DOCUMENTS = [(f"d{i}", text) for i, text in enumerate(TEXTS)]


def naive_full(model: ByteModel, text: str, window: int, stride: int) -> float:
    """Score each token afresh from the context that the rule gives it, one model call a token."""
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
        context = prefix + tokens[max(0, last - room) : i]
        total += float(model.nll(np.array([context]), np.array([[token]]))[0, 0])
    return total


@pytest.mark.parametrize("prefix", [NO_PREFIX, SEPARATOR, BOS])
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (8, 3), (8, 7), (20, 5), (500, 100)])
def test_full_equals_a_scorer_that_runs_the_model_for_every_token(
    prefix: Prefix, window: int, stride: int
) -> None:
    """Batches, windows and sums change nothing."""
    model = ByteModel(prefix=prefix)
    rows = likelihoods(model, DOCUMENTS, ScoringProtocol(window=window, stride=stride))
    for row, text in zip(rows, TEXTS, strict=True):
        assert row.nll == pytest.approx(naive_full(model, text, window, stride), rel=1e-12)
        assert row.n_tokens == row.n_bytes == len(text.encode())
        assert row.n_characters == len(text)
        assert row.lossless


@settings(deadline=None, max_examples=30)
@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=6),
    window=st.integers(2, 12),
    prefix=st.sampled_from([NO_PREFIX, SEPARATOR]),
    data=st.data(),
)
def test_full_equals_the_naive_scorer_on_any_text(
    texts: list[str], window: int, prefix: Prefix, data: st.DataObject
) -> None:
    """The same for arbitrary Unicode, windows and strides."""
    stride = data.draw(st.integers(1, window - 1))
    texts = [*texts, "x"]
    model = ByteModel(prefix=prefix)
    rows = likelihoods(
        model, [(str(i), t) for i, t in enumerate(texts)], ScoringProtocol(window=window, stride=stride)
    )
    for row, text in zip(rows, texts, strict=True):
        assert row.nll == pytest.approx(naive_full(model, text, window, stride), rel=1e-10, abs=1e-10)


def naive_huang2024(model: ByteModel, texts: list[str], window: int, stride: int) -> tuple[float, int]:
    """Transcribe the released code's description: blocks, loss of all or of the last S targets."""
    bos = [256] if model.prefix.kind == "bos" else []
    stream = [token for text in texts if text for token in [*bos, *text.encode()]]
    total, scored = 0.0, 0
    for k in range((len(stream) - (window + 1)) // stride + 1):
        block = stream[k * stride : k * stride + window + 1]
        loss = model.nll(np.array([block[:-1]]), np.array([block[1:]]))[0]
        part = loss if k == 0 else loss[-stride:]
        total += float(part.sum())
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


def test_a_uniform_model_pays_log2_of_its_vocabulary_per_token() -> None:
    """The closed form, whatever the windows, the first token included."""

    class Uniform(ByteModel):
        def nll(self, inputs: Tokens, targets: Tokens) -> NDArray[np.float64]:
            del inputs
            return np.full(targets.shape, math.log(257))

    for prefix in (NO_PREFIX, SEPARATOR):
        rows = likelihoods(Uniform(prefix=prefix), DOCUMENTS, ScoringProtocol(window=7, stride=3))
        assert rate(rows, "token") == pytest.approx(math.log2(257), rel=1e-12)
        assert rate(rows, "byte") == pytest.approx(math.log2(257), rel=1e-12)


def test_batches_are_never_padded_and_hold_equal_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is a full rectangle of windows of one shape, within the token budget."""
    shapes = []

    class Watched(ByteModel):
        def nll(self, inputs: Tokens, targets: Tokens) -> NDArray[np.float64]:
            shapes.append(inputs.shape)
            return ByteModel.nll(self, inputs, targets)

    monkeypatch.setattr(likelihood, "BATCH_TOKENS", 64)
    likelihoods(Watched(), [(str(i), "x" * 100) for i in range(5)], ScoringProtocol(window=20, stride=10))
    assert all(batch * length <= 64 for batch, length in shapes)
    assert max(batch for batch, _ in shapes) == 3


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is scored twice, and the sums equal those of an undisturbed run to the bit."""
    monkeypatch.setattr(likelihood, "BATCH_TOKENS", 16)
    calls = 0

    class Dying(ByteModel):
        def nll(self, inputs: Tokens, targets: Tokens) -> NDArray[np.float64]:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise KeyboardInterrupt
            return ByteModel.nll(self, inputs, targets)

    protocol = ScoringProtocol(window=8, stride=3)
    calm = likelihoods(ByteModel(), DOCUMENTS, protocol)
    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        likelihoods(Dying(), DOCUMENTS, protocol, journal_file=path, key="k")
    resumed = likelihoods(Dying(), DOCUMENTS, protocol, journal_file=path, key="k")
    assert resumed == calm
    batches = calls - 1
    assert likelihoods(Dying(), DOCUMENTS, protocol, journal_file=path, key="k") == calm
    assert calls - 1 == batches
    assert likelihoods(ByteModel(), DOCUMENTS, protocol, journal_file=path, key="another") == calm


def test_text_that_the_tokenizer_does_not_restore_is_marked() -> None:
    """A tokenizer that folds case is found out document by document."""

    class Lower(ByteModel):
        def encode(self, texts: Sequence[str]) -> list[Tokens]:
            return ByteModel.encode(self, [text.lower() for text in texts])

    rows = likelihoods(Lower(), [("a", "plain"), ("b", "Shout")], ScoringProtocol())
    assert [row.lossless for row in rows] == [True, False]


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


def test_numbers_that_are_not_finite_are_refused() -> None:
    """Never NaN: the message names model, document and remedy."""

    class Broken(ByteModel):
        def nll(self, inputs: Tokens, targets: Tokens) -> NDArray[np.float64]:
            del inputs
            return np.full(targets.shape, np.nan)

    with pytest.raises(UserError, match="bytes gives document a a likelihood that is not finite"):
        likelihoods(Broken(), [("a", "text")], ScoringProtocol())


def _rows(nll: list[float], characters: list[int]) -> list[Likelihood]:
    row = Likelihood(document="", nll=0.0, n_tokens=1, n_characters=0, n_bytes=0, lossless=True)
    return [replace(row, nll=a, n_characters=b, n_bytes=2 * b) for a, b in zip(nll, characters, strict=True)]


def test_rates_divide_sums() -> None:
    """The rate of a corpus is total bits over total units, not a mean of rates."""
    rows = _rows([math.log(2) * 10, math.log(2) * 2], [10, 1])
    assert rate(rows, "character") == pytest.approx(12 / 11)
    assert rate(rows, "byte") == pytest.approx(6 / 11)
    with pytest.raises(UserError, match="without a single token"):
        rate([replace(row, n_tokens=None) for row in rows], "token")


def test_the_interval_covers_the_true_rate() -> None:
    """In 300 simulated corpora the 95 % interval holds the truth about 95 % of the time."""
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        characters = random.integers(50, 500, size=60)
        nll = characters * math.log(2) * random.normal(1.5, 0.3, size=60)
        bounds = interval(_rows(list(nll), [int(c) for c in characters]), "character", seed=seed)
        assert bounds is not None
        covered += bounds[0] <= 1.5 <= bounds[1]
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_is_that_of_the_rate() -> None:
    """Documents without text count in both: what a compressor pays for empty files is in the rate too."""
    rows = _rows([5.0, 6.0] + [20.0] * 100, [40, 50] + [0] * 100)
    bounds = interval(rows, "character")
    assert bounds is not None
    assert bounds[0] <= rate(rows, "character") <= bounds[1]


def test_one_document_has_no_interval() -> None:
    """Nothing can be resampled from a single document."""
    assert interval(_rows([1.0, 0.0], [10, 0]), "character") is None
