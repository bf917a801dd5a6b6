"""Other people's scorers, held against windows written out by hand on a tiny random model."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

from benchmarks.scoring import figures_of
from benchmarks.scoring_material import cut
from benchmarks.scoring_measuring import Counted
from benchmarks.scoring_peers import PEERS, Measurement, Settings, lm_eval, paper, uncheatable
from evaluate.windows import SINKS

SMALL = Settings(window=4, stride=2, chunk=4)
ALPHABET = "|abcdefghijklmnopqrstuvwxyz^"
TEXT = "abcdefghij"


@dataclass(frozen=True)
class Letters:
    """A tokenizer with a token for each letter, `|` as EOS and `^` as BOS."""

    bos: bool = False
    adds_bos: bool = False

    eos_token_id: int = 0

    @property
    def bos_token_id(self) -> int | None:
        return ALPHABET.index("^") if self.bos else None

    def encode(self, text: str) -> list[int]:
        return [ALPHABET.index(letter) for letter in ("^" if self.adds_bos else "") + text]

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.encode(text)}


def tiny_model() -> Any:
    """Return a random Llama whose predictions depend on all that it has read."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(ALPHABET),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    auto: Any = transformers.AutoModelForCausalLM
    return auto.from_config(config).eval()


@pytest.fixture(scope="module")
def tiny() -> Any:
    """One such model for all tests."""
    return tiny_model()


@contextmanager
def reading(model: Any) -> Iterator[list[str]]:
    """Give the list of what the model reads, forward by forward."""
    read: list[str] = []

    def note(_module: Any, arguments: Any, named: Any) -> None:
        rows = arguments[0] if arguments else named["input_ids"]
        read.extend("".join(ALPHABET[token] for token in row) for row in rows.tolist())

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield read
    finally:
        handle.remove()


@torch.no_grad()
def cost(model: Any, windows: Sequence[tuple[str, str]]) -> float:
    """Return the nats of targets that follow the last inputs of their windows, summed in float64."""
    total = 0.0
    for inputs, targets in windows:
        logits = model(torch.tensor([Letters().encode(inputs)])).logits[0].double()
        for target, row in zip(reversed(Letters().encode(targets)), reversed(logits), strict=False):
            total += float(row.logsumexp(-1) - row[target])
    return total


def check(
    found: Measurement, model: Any, read: list[str], windows: Sequence[tuple[str, str]], characters: int
) -> None:
    """Hold a measurement and what the model read against the windows."""
    assert read == [inputs for inputs, _ in windows]
    assert found.nats == pytest.approx(cost(model, windows), rel=1e-6)
    assert found.scored == sum(len(targets) for _, targets in windows)
    assert found.forwarded == found.rows == sum(len(inputs) for inputs, _ in windows)
    assert found.pairs == sum(k + 1 for inputs, _ in windows for k in range(len(inputs)))
    assert found.characters == characters


def test_the_paper_scores_the_last_of_overlapping_blocks_and_drops_the_tail(tiny: Any) -> None:
    """`j` begins no whole block, and `a` follows nothing: neither is paid for, both are characters."""
    with reading(tiny) as read:
        found = paper(tiny, Letters(), [TEXT], SMALL)
    check(found, tiny, read, [("abcd", "bcde"), ("cdef", "fg"), ("efgh", "hi")], 10)


def test_the_paper_drops_no_tail_that_fills_a_block(tiny: Any) -> None:
    """Window + 1 + 3 strides of tokens: all but the first are paid for."""
    with reading(tiny) as read:
        found = paper(tiny, Letters(), [TEXT + "k"], SMALL)
    check(found, tiny, read, [("abcd", "bcde"), ("cdef", "fg"), ("efgh", "hi"), ("ghij", "jk")], 11)


def test_the_paper_joins_texts(tiny: Any) -> None:
    """Where one text ends and the next begins makes no difference, and empty ones none at all."""
    joined = paper(tiny, Letters(), [TEXT], SMALL)
    assert paper(tiny, Letters(), ["abc", "", "defghij"], SMALL) == joined


def test_the_paper_scores_nothing_of_a_stream_shorter_than_a_block(tiny: Any) -> None:
    """Four tokens are no block of five."""
    found = paper(tiny, Letters(), ["abcd"], SMALL)
    assert found == Measurement(nats=0, scored=0, forwarded=0, pairs=0, rows=0, characters=4)


def test_the_paper_sums_in_the_models_precision() -> None:
    """The loss of a block in bfloat16 is a number of bfloat16, and not the sum of its terms."""
    model = tiny_model().bfloat16()
    nats = paper(model, Letters(), ["abcde"], SMALL).nats
    exact = cost(model, [("abcd", "bcde")])
    assert nats == float(torch.tensor(nats).bfloat16())
    assert nats == pytest.approx(exact, rel=2**-6)
    assert nats != pytest.approx(exact, rel=1e-5)


def test_lm_eval_fills_the_last_of_disjoint_windows(tiny: Any) -> None:
    """Each token is paid for once; `efgh` sees one token before it, `ij` as many as fit."""
    with reading(tiny) as read:
        found = lm_eval(tiny, Letters(), [TEXT], SMALL)
    check(found, tiny, read, [("|abc", "abcd"), ("defg", "efgh"), ("fghi", "ij")], 10)


def test_lm_eval_keeps_texts_apart(tiny: Any) -> None:
    """Each begins with the prefix; an empty one is not read."""
    with reading(tiny) as read:
        found = lm_eval(tiny, Letters(), ["ab", "", "cdefg"], SMALL)
    check(found, tiny, read, [("|a", "ab"), ("|cde", "cdef"), ("cdef", "g")], 7)


def test_lm_eval_prefixes_the_bos_where_there_is_one(tiny: Any) -> None:
    """Whether or not the model wants it; EOS stands in where there is none."""
    with reading(tiny) as read:
        lm_eval(tiny, Letters(bos=True), ["ab"], SMALL)
        lm_eval(tiny, Letters(), ["ab"], SMALL)
    assert read == ["^a", "|a"]


def test_lm_eval_pays_for_a_bos_that_the_tokenizer_adds(tiny: Any) -> None:
    """It is read twice, and is the first target."""
    with reading(tiny) as read:
        found = lm_eval(tiny, Letters(bos=True, adds_bos=True), ["ab"], SMALL)
    check(found, tiny, read, [("^^a", "^ab")], 2)


def test_uncheatable_pays_for_no_first_token_of_a_chunk(tiny: Any) -> None:
    """`a`, `e` and `i` are only read, as `d`, `h` and `j` are for nothing."""
    with reading(tiny) as read:
        found = uncheatable(tiny, Letters(), [TEXT], SMALL)
    assert read == ["abcd", "efgh", "ij"]
    assert found.nats == pytest.approx(cost(tiny, [("abc", "bcd"), ("efg", "fgh"), ("i", "j")]), rel=1e-6)
    assert (found.scored, found.forwarded, found.rows, found.pairs, found.characters) == (7, 10, 10, 23, 10)


def test_uncheatable_keeps_texts_apart(tiny: Any) -> None:
    """A text begins a chunk, and one of a single token costs nothing."""
    with reading(tiny) as read:
        found = uncheatable(tiny, Letters(), ["ab", "", "c", "defgh"], SMALL)
    assert read == ["ab", "c", "defg", "h"]
    assert found.nats == pytest.approx(cost(tiny, [("a", "b"), ("def", "efg")]), rel=1e-6)
    assert (found.scored, found.characters) == (4, 8)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_how_many_tokens_are_scored(tiny: Any, stride: int) -> None:
    """Whole strides behind a first window; every token; all but one a chunk. The characters are all of them."""
    settings = Settings(window=4, stride=stride, chunk=4)
    for n in (0, 1, 3, 4, 5, 6, 8, 9):
        found = {name: peer(tiny, Letters(), [ALPHABET[1 : n + 1]], settings) for name, peer in PEERS.items()}
        assert {name: measurement.scored for name, measurement in found.items()} == {
            "paper": 4 + (n - 5) // stride * stride if n > 4 else 0,
            "lm-eval": n,
            "uncheatable": n - -(-n // 4),
        }
        assert all(measurement.characters == n for measurement in found.values())


def test_a_text_is_cut_to_exactly_so_many_tokens() -> None:
    """Where a cut inside a word changes how it is split, the text starts at a later word."""

    def split(text: str, **_: bool) -> dict[str, Any]:
        """Short words are a token each, long ones a token a letter."""
        spans = [
            span
            for word in re.finditer(r"\w+", text)
            for span in ([word.span()] if len(word[0]) <= 3 else [(k, k + 1) for k in range(*word.span())])
        ]
        return {"input_ids": [0] * len(spans), "offset_mapping": spans}

    text = "ab cdefgh ij kl mn"
    assert cut(split, text, 5) == "ab cdef"
    assert cut(split, text, 3) == "ij kl mn"
    assert cut(split, text, 11) is None


def test_figures_are_medians_of_what_rounds_compare() -> None:
    """A slow round slows both sides and the matrix product: ratios and shares are of the same round."""
    needs = {"token": 10, "pair": 0, "row": 5, "parameters": 0, "vocabulary": 0}
    work = {"scored": 40, "forwarded": 100, "pairs": 7, "rows": 20, "memory": 3_000_000}
    found = work | {"nats": 80 * math.log(2), "characters": 160}
    rounds = [
        {"paper": found | {"seconds": 2.0 * slow}, "full": found | {"seconds": 1.0 * slow}}
        for slow in (1.0, 10.0, 4.0)
    ]
    row = figures_of(rounds, [2200.0, 220.0, 550.0], needs)["full"]
    assert row == pytest.approx(
        {
            "tokens_per_second": 10,
            "forwarded_per_scored": 2.5,
            "memory_mb": 3,
            "bpc": 0.5,
            "ratio": 2,
            "of_peak": 0.5,
        }
    )


def test_counts_of_the_rolling_cache() -> None:
    """Ten inputs, window 6, stride 3, four sinks: 6, then 3 behind 3 kept, then 1 behind 3."""

    class Silent:
        def sink_nll(self, inputs: Any, _targets: Any, **_: int) -> Any:
            return inputs

    counted = Counted(Silent())
    counted.sink_nll([range(10)], [range(9)], window=6, stride=3)
    assert counted.forwarded == 10 + 2 * SINKS
    assert counted.pairs == 21 + (3 * 3 + 6) + (1 * 3 + 1) + 2 * SINKS * (SINKS + 1) // 2
    assert counted.rows == 9
