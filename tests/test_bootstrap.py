"""Percentile intervals: where there are some, and why of so few there is none."""

import numpy as np
import pytest

from evaluate.bootstrap import FEWEST, ends


def test_an_interval_leaves_a_fortieth_beyond_either_end() -> None:
    """Of resamples that have a value."""
    draws = np.array([np.nan, *range(401), np.inf])
    assert ends(draws, FEWEST) == (10, 390)
    assert ends(np.zeros(1), 0) == (0, 0)


@pytest.mark.parametrize(("draws", "n"), [([1.0, 2.0], 1), ([1.0, 2.0], FEWEST - 1), ([np.nan], 9), ([], 0)])
def test_of_few_or_of_nothing_there_is_no_interval(draws: list[float], n: int) -> None:
    """Not one of zero width either."""
    assert ends(np.array(draws), n) == (None, None)


def test_the_fewest_are_those_that_most_resamples_hold_some_of() -> None:
    """Of 500, more than the fortieth beyond an end hold none of one fewer, and less than that none of so many."""
    draws = np.random.default_rng(0).integers(500, size=(4000, 500))
    without = [float((draws >= n).all(axis=1).mean()) for n in (FEWEST - 1, FEWEST)]
    assert without[0] > 0.025 > without[1]
