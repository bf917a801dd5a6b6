"""The range coder, held against exact fractions, and the integers that stand for probabilities."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from evaluate.codec.range_coder import TOTAL, Decoder, Encoder, frequencies, part, symbol_at

Symbol = tuple[int, int, int]

TOTALS = st.sampled_from([1, 2, 255, 256, TOTAL - 1, TOTAL]) | st.integers(1, TOTAL)
LOGITS = st.floats(-1e4, 1e4, width=32) | st.just(-math.inf)
# Around the middle of what is left, so that it stays open for long whether a carry comes.
MIDDLE = (2**31 - 1, 2, TOTAL)


@st.composite
def symbols(draw: st.DrawFn) -> Symbol:
    """Draw a part of a total, often the narrowest, the first or the last."""
    total = draw(TOTALS)
    left = draw(st.sampled_from([0, total - 1, total // 2]) | st.integers(0, total - 1))
    return left, draw(st.sampled_from([1, total - left]) | st.integers(1, total - left)), total


def encoded(written: Sequence[Symbol]) -> bytes:
    """Return what the encoder makes of the symbols."""
    coder = Encoder()
    for symbol in written:
        coder.encode(*symbol)
    return coder.finish()


def check_decoded(data: bytes, written: Sequence[Symbol]) -> None:
    """Read the symbols again."""
    coder = Decoder(data)
    for left, frequency, total in written:
        assert left <= coder.position(total) < left + frequency
        coder.consume(left, frequency, total)


def interval(written: Sequence[Symbol]) -> tuple[Fraction, Fraction]:
    """Return begin and width of what symbols leave of [0, 1): exact, but for a step of 56 to 64 bits."""
    begin, width = Fraction(0), Fraction(1)
    for left, frequency, total in written:
        unit = Fraction(1, 2**64)
        while width / unit <= 2**56:
            unit /= 256
        step = width / unit // total * unit
        begin, width = begin + step * left, step * frequency
    return begin, width


@settings(max_examples=300)
@given(st.lists(symbols(), max_size=60))
def test_symbols_come_back_and_lie_where_exact_fractions_say(written: list[Symbol]) -> None:
    """The bytes are a number within the exact interval, as long as it is narrow and a byte at most."""
    data = encoded(written)
    check_decoded(data, written)
    begin, width = interval(written)
    assert begin <= Fraction(int.from_bytes(data), 256 ** len(data)) < begin + width
    assert 256 ** len(data) <= 256 / width
    ideal = math.prod(Fraction(frequency, total) for _, frequency, total in written)
    assert ideal >= width >= ideal * Fraction(2**24 - 1, 2**24) ** len(written)


@given(st.lists(symbols(), max_size=30))
def test_the_bits_so_far_are_the_width_of_the_interval(written: list[Symbol]) -> None:
    """What is written counts, and what is still open."""
    coder = Encoder()
    for symbol in written:
        coder.encode(*symbol)
    width = interval(written)[1]
    bits = math.log2(width.denominator) - math.log2(width.numerator)
    assert coder.n_bits == pytest.approx(bits, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("last", "head"), [((2**31, 1, TOTAL), b"\x13\0"), ((2**31 - 1, 1, TOTAL), b"\x12\xff")]
)
def test_a_carry_runs_through_any_number_of_bytes(last: Symbol, head: bytes) -> None:
    """Hundreds of 0xFF wait for the last symbol, which makes them 0x00 or leaves them."""
    written = [(0x12FFFFFF, 2, TOTAL), *[MIDDLE] * 200, last]
    data = encoded(written)
    assert data[:700] == head + head[1:] * 698
    check_decoded(data, written)


def test_a_carry_at_the_end_needs_no_byte() -> None:
    """Where zeros behind the end lie within what is left."""
    written = [(0x12FFFFFF, 2, TOTAL), *[MIDDLE] * 5]
    data = encoded(written)
    assert data == b"\x13".ljust(len(data), b"\0")
    check_decoded(data, written)


@pytest.mark.parametrize("symbol", [(0, 0, 5), (-1, 1, 5), (4, 2, 5), (0, 1, 0), (0, 1, TOTAL + 1)])
def test_what_is_no_part_of_a_total_is_not_written(symbol: Symbol) -> None:
    """Nothing could be restored from it."""
    with pytest.raises(ValueError, match="is no part of"):
        Encoder().encode(*symbol)


@given(st.binary(max_size=200))
def test_any_bytes_end(data: bytes) -> None:
    """Whatever is read, there are no more symbols in it than bytes pay for: zeros do not go on for ever."""
    coder = Decoder(data)
    for _ in range(len(data)):
        coder.consume(coder.position(256), 1, 256)
    with pytest.raises(ValueError, match="it ends before its last symbol"):
        coder.consume(coder.position(256), 1, 256)


def test_what_lies_behind_the_parts_is_refused() -> None:
    """Of 2**64 a third leaves one over: no encoder comes there."""
    with pytest.raises(ValueError, match="a symbol that is none"):
        Decoder(b"\xff" * 8).position(3)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities in float64."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    found: NDArray[np.float64] = weights / weights.sum()
    return found


def check_bounds(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Check what `frequencies` promises; return the frequencies."""
    bounds = frequencies(logits)
    found = np.diff(bounds)
    n = len(logits)
    assert (bounds[0], len(bounds)) == (0, n + 1)
    assert bounds[-1] <= TOTAL
    assert found.min() >= 1
    assert (found >= softmax(logits) * (TOTAL - n) * (1 - n / 2**40 - 4e-10)).all()
    return found


@given(arrays(np.float32, st.integers(1, 300), elements=LOGITS))
def test_every_symbol_has_a_part_worth_its_probability(logits: NDArray[np.float32]) -> None:
    """At least 1 each, at most the total together, and to the bound that the module gives."""
    if logits.max() == -math.inf:
        logits[0] = 0
    check_bounds(logits)


@pytest.mark.parametrize("n", [49_152, 2**18, 2**20])
def test_a_large_vocabulary_costs_next_to_nothing(n: int) -> None:
    """Expected bits beyond the entropy are below the bound, the whole total but a part per million is used."""
    logits = np.random.default_rng(n).normal(0, 4, n).astype(np.float32)
    found = check_bounds(logits)
    p = softmax(logits)
    loss = float((p * np.log2(p * TOTAL / found)).sum())
    assert 0 < loss < -math.log2(1 - n / TOTAL) + 2 * (n / 2**40 + 3e-10)
    assert found.sum() > TOTAL * (1 - 1e-6) - n


def test_a_model_that_is_certain_leaves_the_others_one_each() -> None:
    """Whether they are far below or impossible."""
    for other in (-1e4, -math.inf):
        logits = np.full(2**18, other, dtype=np.float32)
        logits[7] = 3
        found = check_bounds(logits)
        assert found[7] > TOTAL - 2**18 - 2**11
        assert set(np.delete(found, 7)) == {1}


def test_parts_follow_from_plain_arithmetic() -> None:
    """One number at a time in Python's floats, to the last integer: no library's exponential is in it."""
    logits = np.concatenate([np.random.default_rng(3).normal(0, 9, 700), [-math.inf, -39.9, -40.1, 30]])
    logits = logits.astype(np.float32)
    ln2 = 0.6931471805599453
    weights = []
    for logit in logits.tolist():
        x = max(logit - max(logits.tolist()), -40.0)
        n = round(x / ln2)
        rest, series = x - n * ln2, 1.0
        for k in range(8, 0, -1):
            series = series * rest / k + 1.0
        weights.append(math.ceil(math.ldexp(series, n) * 2**40))
        assert math.ldexp(series, n) == pytest.approx(math.exp(x), rel=3e-10)
    scale = (TOTAL - len(weights)) / sum(weights)
    expected = [math.floor(weight * scale) + 1 for weight in weights]
    assert np.diff(frequencies(logits)).tolist() == expected


@pytest.mark.parametrize("wrong", [[math.nan, 0], [math.inf, 0], [-math.inf, -math.inf], []])
def test_logits_that_say_nothing_are_refused(wrong: list[float]) -> None:
    """Not a number, infinite, all impossible, or none."""
    with pytest.raises(ValueError, match="logit"):
        frequencies(np.array(wrong, dtype=np.float32))
    with pytest.raises(ValueError, match="are not between 1 and 1048576"):
        frequencies(np.zeros(2**20 + 1, dtype=np.float32))


@given(arrays(np.float32, st.integers(1, 50), elements=LOGITS), st.data())
def test_a_position_leads_to_its_symbol(logits: NDArray[np.float32], data: st.DataObject) -> None:
    """Each place of a part is that symbol's; what lies behind the last part is none."""
    logits[0] = 1
    bounds = frequencies(logits)
    symbol = data.draw(st.integers(0, len(logits) - 1))
    left, frequency = part(bounds, symbol)
    for position in (left, left + frequency - 1):
        assert symbol_at(bounds, position) == symbol
    assert symbol_at(bounds, int(bounds[-1])) == len(logits)
