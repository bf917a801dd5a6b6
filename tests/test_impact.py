"""What a change of data did to a rate: exact parts, held against fractions, and intervals against a plain loop."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate import bootstrap
from evaluate.commands import impact as command
from evaluate.impact import Effect, Impact, impact
from evaluate.model import Likelihood
from evaluate.rates import difference


class Paid(NamedTuple):
    """What a document cost."""

    document: str
    text_sha256: str
    nll: float
    n_characters: int


def table(rows: list[Paid]) -> pa.Table:
    """Return documents as a cell has them."""
    schema = pa.schema(
        [
            ("document", pa.string()),
            ("text_sha256", pa.string()),
            ("nll", pa.float64()),
            ("n_characters", pa.int64()),
        ]
    )
    return pa.Table.from_pylist([row._asdict() for row in rows], schema=schema)


def compared(before: list[Paid], after: list[Paid]) -> Impact:
    """Return the impact of two versions that have rates."""
    found = impact(table(before), table(after))
    assert found
    return found


def bits(rows: list[Paid]) -> Fraction | None:
    """Return nats per character, exactly; None without characters."""
    characters = sum(row.n_characters for row in rows)
    return sum((Fraction(row.nll) for row in rows), Fraction()) / characters if characters else None


def naive(before: list[Paid], after: list[Paid]) -> tuple[float | None, float, float]:
    """Return rescored, composition and the whole difference in bits, by their definitions, in fractions."""
    texts = {(row.document, row.text_sha256) for row in before} & {
        (row.document, row.text_sha256) for row in after
    }
    r, r_later = bits(before), bits(after)
    s, s_later = (bits([x for x in rows if (x[0], x[1]) in texts]) for rows in (before, after))
    assert r is not None
    assert r_later is not None
    if s is None or s_later is None:
        return None, float(r_later - r) / math.log(2), float(r_later - r) / math.log(2)
    rescored, composition = s_later - s, (r_later - s_later) - (r - s)
    assert rescored + composition == r_later - r
    return (*(float(x) / math.log(2) for x in (rescored, composition, r_later - r)),)  # type: ignore[return-value]


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[Paid], list[Paid]]:
    """Two versions of a corpus, in which documents came, went, changed their text or their score alone."""
    sides: tuple[list[Paid], list[Paid]] = ([], [])
    for number in range(draw(st.integers(1, 9))):
        where = draw(st.sampled_from(["same", "rescored", "gone", "came", "changed"]))
        length, cost, other = draw(st.tuples(st.integers(0, 50), st.floats(0, 200), st.floats(0, 200)))
        if where != "came":
            sides[0].append(Paid(f"d{number}", "x", cost, length))
        if where != "gone":
            text, size = ("y", length + 3) if where == "changed" else ("x", length)
            sides[1].append(Paid(f"d{number}", text, cost if where == "same" else other, size))
    return sides


@settings(max_examples=200, deadline=None)
@given(versions())
def test_parts_are_those_of_the_definition_and_add_up(sides: tuple[list[Paid], list[Paid]]) -> None:
    """Held against fractions; the printed difference is the sum of the printed parts, to the last bit."""
    before, after = sides
    found = impact(table(before), table(after))
    if not (sum(row.n_characters for row in before) and sum(row.n_characters for row in after)):
        assert found is None
        return
    assert found
    rescored, composition, whole = naive(before, after)
    assert found.difference.value == pytest.approx(whole, abs=1e-9)
    assert found.after - found.before == pytest.approx(whole, abs=1e-9)
    assert found.composition.value == pytest.approx(composition, abs=1e-9)
    if rescored is None:
        assert found.rescored is None
        assert found.difference == found.composition
    else:
        assert found.rescored
        assert found.rescored.value == pytest.approx(rescored, abs=1e-9)
        assert found.rescored.value + found.composition.value == found.difference.value
    assert (found.n_before, found.n_after) == (len(before), len(after))


@settings(max_examples=50, deadline=None)
@given(versions())
def test_the_way_back_is_the_negative(sides: tuple[list[Paid], list[Paid]]) -> None:
    """Neither version is the one that the other is measured by."""
    there, back = impact(table(sides[0]), table(sides[1])), impact(table(sides[1]), table(sides[0]))
    assert (there is None) == (back is None)
    if there and back:
        assert there.difference.value == pytest.approx(-back.difference.value, abs=1e-9)
        assert there.composition.value == pytest.approx(-back.composition.value, abs=1e-9)
        assert there.n_same == back.n_same


def corpus(n: int, *, seed: int = 1, first: int = 0) -> list[Paid]:
    """Return documents of many lengths and difficulties."""
    random = np.random.default_rng(seed)
    lengths, rates = random.integers(50, 3000, n), random.normal(0.6, 0.2, n).clip(0.1)
    return [
        Paid(f"d{first + i}", "x", float(length * rate), int(length))
        for i, (length, rate) in enumerate(zip(lengths, rates, strict=True))
    ]


NOTHING = Effect(value=0, low=0, high=0)


def test_nothing_changed_is_exactly_nothing() -> None:
    """Not almost."""
    found = compared(corpus(101), corpus(101)[::-1])
    assert found.difference == found.rescored == found.composition == NOTHING
    assert (found.n_same, found.n_changed) == (101, 0)


def test_documents_that_came_or_went_are_all_composition() -> None:
    """Of a model that scores as before, the part of new scores is exactly 0, and its interval too."""
    found = compared(corpus(60), corpus(60)[10:] + corpus(20, seed=2, first=100))
    assert found.rescored == NOTHING
    assert found.composition == found.difference
    assert found.difference.value != 0
    assert (found.n_before, found.n_after, found.n_same) == (60, 70, 50)


def test_new_scores_of_the_same_documents_are_all_rescored() -> None:
    """The composition is exactly 0; the difference is that of two models on the documents they share."""
    before = corpus(60)
    noise = np.random.default_rng(3).normal(1.02, 0.01, 60)
    after = [row._replace(nll=row.nll * factor) for row, factor in zip(before, noise, strict=True)]
    found = compared(before, after)
    assert found.composition == NOTHING
    assert found.rescored == found.difference
    rows = [
        [
            Likelihood(
                document=row.document,
                nll=row.nll,
                n_tokens=None,
                n_characters=row.n_characters,
                n_bytes=row.n_characters,
                lossless=True,
            )
            for row in sorted(side)
        ]
        for side in (after, before)
    ]
    other = difference(rows[0], rows[1], "character")
    assert other
    assert found.difference.value == pytest.approx(other.value, rel=1e-9)
    assert (found.difference.low, found.difference.high) == pytest.approx((other.low, other.high), rel=1e-9)


def test_a_constant_more_everywhere_is_no_composition() -> None:
    """Every text dearer by a tenth of a bit, while others came and went that are as dear as those that stayed."""
    before, after = corpus(80)[:60], corpus(80)[20:]
    alone = compared(before, after)
    found = compared(before, [x._replace(nll=x.nll + 0.1 * math.log(2) * x.n_characters) for x in after])
    assert found.rescored
    assert (found.rescored.value, found.rescored.low, found.rescored.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.composition.value == pytest.approx(alone.composition.value, abs=1e-12)


def test_a_document_with_another_text_is_another_document() -> None:
    """Its old and its new cost are of the composition, and it is counted."""
    before = corpus(10)
    after = [before[0]._replace(text_sha256="y", nll=before[0].nll * 2), *before[1:]]
    found = compared(before, after)
    assert found.rescored == NOTHING
    assert found.composition.value > 0
    assert (found.n_same, found.n_changed) == (9, 1)


def test_without_a_document_in_common_all_is_composition() -> None:
    """There is no part of new scores, and its absence is said."""
    found = compared(corpus(9), corpus(9, first=50, seed=4))
    assert found.rescored is None
    assert found.composition == found.difference
    assert found.difference.low is not None
    assert found.n_same == 0


def test_few_documents_that_differ_have_no_interval() -> None:
    """As a corpus read as one stream has none; one that is as before among many that are not counts for nothing."""
    found = compared([Paid("", "x", 5.0, 10)], [Paid("", "x", 6.0, 10)])
    assert found.difference == found.rescored
    assert found.difference.value == pytest.approx(0.1 / math.log(2))
    assert found.difference.low is None
    before = corpus(40)
    for n in range(bootstrap.FEWEST + 2):
        dearer = [row._replace(nll=row.nll + 9) if i < n else row for i, row in enumerate(before)]
        for effect in (compared(before, dearer).rescored, compared(before, before[n:]).composition):
            assert effect
            assert (effect == NOTHING) == (n == 0)
            assert (effect.low is None) == (effect.high is None) == (0 < n < bootstrap.FEWEST)
    both = compared(before, [before[0]._replace(nll=9.0), *before[1:-2], *corpus(1, first=100)])
    assert both.rescored
    assert (both.rescored.low, both.composition.low) == (None, None)
    assert both.difference.low is not None  # one with a new score, two that went, one that came


def test_a_missing_interval_is_said() -> None:
    """With what there are too few of."""
    assert command._effect(Effect(value=1.5, low=None, high=None)) == (
        "+1.5000 (no interval: fewer than 4 documents differ)"
    )
    assert command._effect(Effect(value=1.5, low=1.0, high=2.0)) == "+1.5000 [+1.0000, +2.0000]"


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([], id="nothing scored"),
        pytest.param([Paid("a", "x", 0.0, 0)], id="no text"),
        pytest.param([Paid("a", "x", math.inf, 3)], id="impossible"),
    ],
)
def test_what_has_no_rate_has_no_impact(after: list[Paid]) -> None:
    """On either side."""
    assert impact(table(corpus(3)), table(after)) is None
    assert impact(table(after), table(corpus(3))) is None


def test_intervals_are_those_of_a_plain_loop() -> None:
    """Whole documents are drawn, with what they cost before and after; each part is computed by definition."""
    before, after = corpus(30)[:24], corpus(30)[6:]
    after = [row._replace(nll=row.nll * (1 + 0.01 * (i % 4))) for i, row in enumerate(after)]
    found = compared(before, after)
    names = sorted({row.document for row in (*before, *after)})
    sides = [{row.document: row for row in side} for side in (before, after)]
    drawn = np.random.default_rng(0).integers(len(names), size=(2000, len(names)))
    parts = []
    for sample in drawn:
        r: list[float] = []
        s: list[float] = []
        for side in sides:
            rows = [side[names[i]] for i in sample if names[i] in side]
            same = [row for row in rows if row.document in sides[0] and row.document in sides[1]]
            for rates, those in ((r, rows), (s, same)):
                rates.append(sum(x.nll for x in those) / sum(x.n_characters for x in those) / math.log(2))
        parts.append((r[1] - r[0], s[1] - s[0], (r[1] - s[1]) - (r[0] - s[0])))
    assert found.rescored
    for effect, values in zip(
        (found.difference, found.rescored, found.composition), np.transpose(parts), strict=True
    ):
        assert (effect.low, effect.high) == pytest.approx(np.quantile(values, (0.025, 0.975)), abs=1e-12)


@pytest.mark.slow
def test_intervals_cover_what_was_planted() -> None:
    """Of corpora whose newcomers are dearer by a known amount, about 95 % of intervals hold that amount."""
    random = np.random.default_rng(11)
    rounds, held, excluded = 120, 0, 0
    for _ in range(rounds):
        costs = random.normal(0.6, 0.1, 200)
        costs[150:] += 0.2  # came, a third of what stayed
        rows = [Paid(f"d{i}", "x", 1000 * cost, 1000) for i, cost in enumerate(costs)]
        found = compared(rows[:150], rows).composition
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.2 * 50 / 200 / math.log(2) <= found.high
        excluded += found.low > 0
    assert held / rounds > 0.88
    assert excluded == rounds
