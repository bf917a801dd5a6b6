"""Honest numbers: whatever moves a rate although the model is no better is named, and does what its name says."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray
from test_transformers_model import WIDE, plain, read, save_model
from tokenizers import normalizers

from collectors.document import UserError
from evaluate.backends import transformers_model
from evaluate.backends.transformers_model import TransformersModel, load
from evaluate.likelihood import first_token, likelihoods
from evaluate.model import Conditions, Prefix, Tokens
from evaluate.repair import NATS_PER_BYTE, repair_nll
from evaluate.windows import ScoringProtocol

TEXT = "The quick brown fox jumps over the lazy dog, and an idle cat looks on. "
FULL = ScoringProtocol(window=24, stride=10)
PROTOCOLS = [
    FULL,
    ScoringProtocol(name="sink", window=24, stride=10),
    ScoringProtocol(name="huang2024", window=24, stride=10),
]


def tiny(folder: Path, *, bos: bool = False, normalizer: Any = None, **options: Any) -> TransformersModel:
    """Build and load a tiny Llama; options of `load` beside those of its config."""
    known = {"dtype", "attention", "separator", "quantization"}
    config = transformers.LlamaConfig(**{**WIDE, **{k: v for k, v in options.items() if k not in known}})
    save_model(folder, config, bos=bos, normalizer=normalizer)
    return load(str(folder), name="tiny", **{k: v for k, v in options.items() if k in known})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TransformersModel:
    """A model without a prefix, its output layer wider than its vocabulary."""
    return tiny(tmp_path_factory.mktemp("llama"))


def nats(model: TransformersModel, text: str, protocol: ScoringProtocol = FULL) -> float:
    """Return what one text costs."""
    return likelihoods(model, [("a", text)], protocol)[0].nll


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of every window that any model scores from here on."""
    windows: list[tuple[list[int], list[int]]] = []

    def watch(name: str) -> None:
        score = getattr(TransformersModel, name)

        def watched(
            self: TransformersModel, inputs: Sequence[Tokens], targets: Sequence[Tokens], **options: int
        ) -> list[NDArray[np.float64]]:
            windows.extend((i.tolist(), t.tolist()) for i, t in zip(inputs, targets, strict=True))
            costs: list[NDArray[np.float64]] = score(self, inputs, targets, **options)
            return costs

        monkeypatch.setattr(TransformersModel, name, watched)

    watch("nll")
    watch("sink_nll")
    return windows


@pytest.mark.parametrize("protocol", PROTOCOLS[:2], ids=str)
@pytest.mark.parametrize(
    ("bos", "separator", "named", "token"),
    [
        (True, None, "bos <s> (1)", 1),
        (True, "<|endoftext|>", "bos <s> (1)", 1),
        (False, "<|endoftext|>", "separator <|endoftext|> (0)", 0),
        (False, None, "none", None),
    ],
)
def test_a_prefix_stands_once_before_every_window_and_is_never_scored(
    bos: bool,
    separator: str | None,
    named: str,
    token: int | None,
    protocol: ScoringProtocol,
    tmp_path: Path,
    seen: list[tuple[list[int], list[int]]],
) -> None:
    """Named, never doubled, never invented, and never a target, even where the text spells it."""
    model = tiny(tmp_path, bos=bos, separator=separator)
    assert str(model.prefix) == named
    likelihoods(model, [("a", TEXT * 2), ("b", "<s>x<|endoftext|>")], protocol)
    assert len(seen) >= 2
    for inputs, targets in seen:
        assert [id_ for id_ in inputs if id_ in (0, 1)] == ([] if token is None else [token])
        assert token is None or inputs[0] == token
        assert not {0, 1} & set(targets)


def test_huang2024_scores_the_bos_of_every_document_but_the_first(
    tmp_path: Path, seen: list[tuple[list[int], list[int]]]
) -> None:
    """As the released code does; a separator of ours is not put between documents."""
    documents = [(str(i), TEXT) for i in range(3)]
    likelihoods(tiny(tmp_path, bos=True), documents, PROTOCOLS[2])
    assert sum(targets.count(1) for _, targets in seen) == 2
    seen.clear()
    likelihoods(load(str(tmp_path), name="t", separator="<|endoftext|>"), documents, PROTOCOLS[2])
    assert len(seen) > 2
    seen.clear()
    likelihoods(tiny(tmp_path / "none", separator="<|endoftext|>"), documents, PROTOCOLS[2])
    assert not any({0, 1} & {*inputs, *targets} for inputs, targets in seen)


@pytest.mark.parametrize(
    ("prefix", "protocol", "rule"),
    [
        (Prefix(kind="bos", token=1), PROTOCOLS[0], "prefix"),
        (Prefix(kind="separator", token=0), PROTOCOLS[1], "prefix"),
        (Prefix(kind="none", token=None), PROTOCOLS[0], "uniform"),
        (Prefix(kind="none", token=None), PROTOCOLS[1], "uniform"),
        (Prefix(kind="bos", token=1), PROTOCOLS[2], "unscored"),
        (Prefix(kind="none", token=None), PROTOCOLS[2], "unscored"),
    ],
)
def test_the_rule_for_a_first_token_is_named(prefix: Prefix, protocol: ScoringProtocol, rule: str) -> None:
    """Predicted from the prefix, charged as one of the vocabulary, or left out."""
    assert first_token(prefix, protocol) == rule


@pytest.mark.parametrize("protocol", PROTOCOLS[:2], ids=str)
def test_a_first_token_costs_what_its_rule_says(
    protocol: ScoringProtocol, llama: TransformersModel, tmp_path: Path
) -> None:
    """`uniform`: log2 of the tokenizer's size, not of the wider output layer; `prefix`: what the model says."""
    assert nats(llama, "x", protocol) == pytest.approx(math.log(258), rel=1e-12)
    model = tiny(tmp_path, bos=True)
    x = model.encode(["x"])[0].tolist()
    assert nats(model, "x", protocol) == pytest.approx(plain(read(tmp_path), [1], x), rel=1e-6)


def test_first_token_and_tail_that_nobody_pays_for_are_counted(llama: TransformersModel) -> None:
    """`huang2024` leaves out token 0 and a tail; their characters stay in the rate, so they are named."""
    texts = [TEXT, "short", TEXT + "end"]
    rows = likelihoods(llama, [(str(i), text) for i, text in enumerate(texts)], PROTOCOLS[2])
    lengths = [len(text) for text in texts]
    tail = (sum(lengths) - 25) % 10
    assert tail > 0
    assert [(row.n_tokens or 0) + row.n_unscored for row in rows] == lengths
    assert [row.n_unscored for row in rows] == [1, 0, tail]
    assert [row.n_characters for row in rows] == lengths
    assert all(row.n_unscored == 0 for row in likelihoods(llama, [("a", TEXT)], FULL))


def test_text_that_spells_a_special_token_costs_its_characters(llama: TransformersModel) -> None:
    """Named `plain`: thirteen tokens are paid, as for any other text of that length."""
    row = likelihoods(llama, [("a", "a<|endoftext|>b")], FULL)[0]
    assert llama.conditions.special_text == "plain"
    assert row.n_tokens == 15
    assert row.lossless


@pytest.mark.parametrize(
    ("normalizer", "text"),
    [
        (normalizers.NFC(), normalize("NFD", "Żółw i café, naïveté and the fiancé of the maître. ")),
        (normalizers.Lowercase(), TEXT),
        (normalizers.Replace("cat", ""), TEXT),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_what_a_tokenizer_loses_is_paid_for(
    normalizer: Any, text: str, protocol: ScoringProtocol, tmp_path: Path
) -> None:
    """The restored text and the patch that mends it; characters are those of the original."""
    model = tiny(tmp_path, normalizer=normalizer)
    restored = model.decode(model.encode([text])[0])
    assert restored != text
    lossy, clean = likelihoods(model, [("a", text), ("b", "x")], protocol)
    easy, _ = likelihoods(model, [("a", restored), ("b", "x")], protocol)
    assert not lossy.lossless
    assert easy.lossless
    assert clean.lossless
    assert lossy.repair_nll == repair_nll(text, restored) >= NATS_PER_BYTE
    assert lossy.nll == pytest.approx(easy.nll + lossy.repair_nll, rel=1e-12)
    assert (easy.repair_nll, clean.repair_nll) == (0, 0)
    assert (lossy.n_characters, lossy.n_bytes) == (len(text), len(text.encode()))


def test_soft_capped_logits_are_named_and_honoured(tmp_path: Path, llama: TransformersModel) -> None:
    """No token may cost more than log V and twice the cap."""
    config = transformers.Gemma2Config(**WIDE, head_dim=8, final_logit_softcapping=0.05)
    model = load(str(save_model(tmp_path, config)), name="capped")
    tokens = model.encode([TEXT])[0]
    costs = model.nll([tokens[:-1]], [tokens[1:]])[0]
    assert model.conditions.softcap == 0.05
    assert np.abs(costs - math.log(300)).max() <= 0.1
    assert llama.conditions.softcap is None
    assert np.abs(llama.nll([tokens[:-1]], [tokens[1:]])[0] - math.log(300)).max() > 1


def test_tied_embeddings_are_named(tmp_path: Path, llama: TransformersModel) -> None:
    """Whether the output layer is the embedding."""
    assert tiny(tmp_path, tie_word_embeddings=True).conditions.tied_embeddings is True
    assert llama.conditions.tied_embeddings is False


def test_a_padded_vocabulary_is_named(tmp_path: Path) -> None:
    """Rows that no token has take probability from those that have one."""
    model = tiny(tmp_path, vocab_size=320)
    assert (model.vocabulary_size, model.conditions.unused_ids) == (258, 62)
    costs = [model.nll([np.array([5])], [np.array([token])])[0][0] for token in range(320)]
    p = np.exp(-np.array(costs))
    assert p.sum() == pytest.approx(1, rel=1e-5)
    assert p[258:].sum() > 0.01


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Ids beyond the output layer would read whatever lies there."""
    model = tiny(tmp_path, vocab_size=200)
    assert model.vocabulary_size == 200
    assert model.conditions.unused_ids == 0
    with pytest.raises(UserError, match="ids beyond the 200 that the model knows"):
        model.encode(["żółw"])


def test_precision_is_named(tmp_path: Path, llama: TransformersModel) -> None:
    """Weights in bfloat16 are another model, a close one; its sums are in float64 all the same."""
    model = tiny(tmp_path, dtype="bfloat16")
    assert (model.conditions.dtype, llama.conditions.dtype) == ("bfloat16", "float32")
    rounded, exact = nats(model, TEXT), nats(llama, TEXT)
    assert rounded == pytest.approx(exact, rel=2e-2)
    assert rounded != exact


def test_the_implementation_of_attention_is_named(tmp_path: Path, llama: TransformersModel) -> None:
    """Both give the same numbers, and each its name."""
    model = tiny(tmp_path, attention="eager")
    assert (model.conditions.attention, llama.conditions.attention) == ("eager", "sdpa")
    for protocol in PROTOCOLS:
        assert nats(model, TEXT, protocol) == pytest.approx(nats(llama, TEXT, protocol), rel=1e-5)
    with pytest.raises(UserError, match="does not load"):
        tiny(tmp_path, attention="wishful")


def test_the_device_is_named(llama: TransformersModel) -> None:
    """With everything else at its default."""
    assert llama.conditions == Conditions(
        dtype="float32",
        device=llama.decoder.device.type,
        attention="sdpa",
        unused_ids=42,
        tied_embeddings=False,
    )


def test_a_window_above_the_positions_is_cut_and_says_so(tmp_path: Path) -> None:
    """A rotary model would read on, and worse; the name of the protocol tells what was done."""
    model = tiny(tmp_path, max_position_embeddings=32)
    assert model.context_length == 32
    with pytest.raises(
        UserError, match="a window of 1900 tokens is more than the 32 that tiny was built for"
    ):
        nats(model, TEXT, ScoringProtocol())
    cut = ScoringProtocol().within(model.context_length)
    assert str(cut) == "full/32/8"
    assert nats(model, TEXT, cut) == nats(replace(model, context_length=None), TEXT, cut)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ("int3", "quantization 'int3' is unknown; choose one of bitsandbytes-8bit"),
        ("missing-8bit", "quantization missing-8bit needs no_such_library; add it with `pip install"),
    ],
)
def test_a_quantization_that_cannot_be_had_is_one_line(
    quantization: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never another precision than the one that was asked for."""
    entry = ("no_such_library", "BitsAndBytesConfig", {"load_in_8bit": True})
    monkeypatch.setitem(transformers_model.QUANTIZATIONS, "missing-8bit", entry)
    with pytest.raises(UserError, match=message):
        tiny(tmp_path, quantization=quantization)
