"""How much of a text is new, held against what a person would say."""

import random
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.github.novelty import RUN, Earlier, lines

OLD = """\
def first(alpha, beta):
    total = alpha + beta
    for index in range(total):
        print(index, "of", total)
    return {"alpha": alpha, "beta": beta, "total": total}


def second(path, mode):
    with open(path, mode) as handle:
        content = handle.read()
    if not content:
        raise ValueError(f"{path} is empty")
    return content.splitlines()
"""
NEW = """\
class Circle:
    radius: float

    @property
    def area(self):
        return math.pi * self.radius ** 2

    @property
    def circumference(self):
        return 2 * math.pi * self.radius
"""


def novelty(text: str, *old: str) -> tuple[int, int, int]:
    """Return lines, new lines and the number of the nearest text."""
    found = Earlier([lines(other) for other in old]).novelty(lines(text))
    return found.lines, found.written, found.nearest


def test_without_earlier_texts_everything_is_new() -> None:
    """Nothing was there."""
    assert novelty(NEW) == (8, 8, -1)


def test_a_copy_has_nothing_new() -> None:
    """It names what it copies."""
    assert novelty(OLD, NEW, OLD) == (11, 0, 1)


@pytest.mark.parametrize(
    "reformatted",
    [
        textwrap.indent(OLD, "        "),
        OLD.replace("    ", "\t").replace("\n", "\r\n"),
        OLD.replace('"', "'"),
        OLD.replace(", ", ",\n        ").replace("(", "(\n").replace(")", ",\n)"),
        OLD.replace("\n", "\n\n"),
        " ".join(OLD.split()),
        OLD.replace(":", ": {").replace("return", "} return"),
        OLD.upper(),
    ],
)
def test_formatting_makes_nothing_new(reformatted: str) -> None:
    """Indentation, line ends, quotes, wrapping, blank lines, braces and case are none of it."""
    assert novelty(reformatted, OLD)[1] == 0


def test_reordered_split_and_merged_texts_have_nothing_new() -> None:
    """Old runs count wherever they stand."""
    first, second = OLD.split("\n\n\n")
    assert novelty(second + "\n\n\n" + first, OLD)[1] == 0
    assert novelty(second, OLD)[1] == 0
    assert novelty(OLD, second, first)[1] == 0


@given(st.integers(0, 40), st.randoms(use_true_random=False))
def test_new_lines_between_old_ones_are_counted_exactly(replaced: int, chance: random.Random) -> None:
    """Any choice of lines of forty can be replaced, in runs or one by one, without an error in the count."""
    old = [f"old_{k} = keep({k})" for k in range(40)]
    chosen = set(chance.sample(range(40), replaced))
    text = [f"new_{k}: written({k})" if k in chosen else line for k, line in enumerate(old)]
    found = Earlier([lines("\n".join(old))]).novelty(lines("\n".join(text)))
    assert (found.lines, found.written) == (40, replaced)
    assert found.mostly_new == (replaced >= 20)


def test_the_nearest_text_is_named_even_when_no_line_is_the_same() -> None:
    """Runs of words tell where a text that was wrapped anew comes from."""
    assert novelty(" ".join(OLD.split()), NEW, OLD) == (1, 0, 1)


def test_half_is_enough() -> None:
    """The bound itself counts as new, a text without lines never does."""
    old = [f"old_{k} = keep" for k in range(10)]
    earlier = Earlier([lines("\n".join(old))])
    assert earlier.novelty(lines("\n".join([*old[:5], *"abcde"]))).mostly_new
    assert not earlier.novelty(lines("\n".join([*old[:6], *"abcde"]))).mostly_new
    assert not earlier.novelty([]).mostly_new


def test_a_repeated_line_is_old_as_often_as_it_was_there() -> None:
    """Copying one line a hundred times is writing."""
    assert novelty("x = 1\n" * 10, "x = 1\ny = 2\n")[:2] == (10, 9)


def test_common_lines_of_other_files_make_no_text_old() -> None:
    """Only runs of words and the one nearest text count, not every line that stands somewhere."""
    bits = ["import os", "import sys", "else:", "return None", "try:", "pass"]
    others = [f"{line}\nunique_{k} = {k}\n" for k, line in enumerate(bits)]
    assert novelty("\n".join(bits), *others)[1] == len(bits) - 1


def test_runs_are_long_enough_not_to_meet_by_chance() -> None:
    """Texts of the same few words share short runs, and are new all the same."""
    chance = random.Random(1)
    words = [f"w{k}" for k in range(12)]
    texts = ["\n".join(" ".join(chance.choices(words, k=7)) for _ in range(100)) for _ in range(2)]
    assert RUN == 8
    assert novelty(texts[0], texts[1])[1] >= 99


@given(st.text(max_size=200))
def test_any_text_is_old_to_itself(text: str) -> None:
    """Whatever its characters."""
    assert novelty(text, text)[1] == 0


def test_lines_without_words_do_not_count() -> None:
    """Brackets alone are nothing that is written."""
    assert lines("a = (\n)\n\n  }\n") == ["a"]
