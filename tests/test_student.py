"""Student's quantiles and tails: closed forms at one and two degrees of freedom, another implementation elsewhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from evaluate import student


@given(st.floats(1e-15, 0.999))
def test_one_and_two_degrees_of_freedom_have_closed_forms(error: float) -> None:
    """Cauchy's distribution, and the one after it, at levels from near 1 to tiny."""
    inside = 1 - error
    expected = [1 / math.tan(math.pi * error / 2), inside * math.sqrt(2 / (error * (2 - error)))]
    assert student.quantile(error, np.array([1.0, 2.0])) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("error", [0.9, 0.2, 0.05, 0.003, 1e-6, 1e-9, 1e-14])
def test_the_quantile_is_that_of_another_implementation(error: float) -> None:
    """For few and for many degrees of freedom, whole or not."""
    freedom = np.array([1, 1.1, 1.5, 2, 2.5, 3, 7, 29, 29.5, 500, 20_000])
    assert student.quantile(error, freedom) == pytest.approx(t.isf(error / 2, freedom), rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 4, 7.5, 29, 20_000])
def test_the_tail_is_that_of_another_implementation(freedom: float) -> None:
    """On either side and far out; and what the quantile inverts."""
    for value in (-30.0, -2.0, 0.0, 0.1, 1.0, 2.5, 8.0, 30.0):
        assert student.tail(value, freedom) == pytest.approx(t.sf(value, freedom), rel=1e-9)
    for error in (0.9, 0.05, 1e-9):
        found = student.tail(float(student.quantile(error, freedom)), freedom)
        assert found == pytest.approx(error / 2, rel=1e-9)


def test_shapes_are_kept() -> None:
    """One number, or a table of them."""
    assert student.quantile(0.05, 3.0).shape == ()
    assert student.quantile(0.05, np.full((2, 3), 4.0)).shape == (2, 3)


def test_the_quantile_falls_towards_the_normal_one() -> None:
    """The more is known of the spread, the narrower."""
    found = student.quantile(0.05, np.arange(1.0, 40.0))
    assert (np.diff(found) < 0).all()
    assert student.quantile(0.05, 1e9) == pytest.approx(1.959964, rel=1e-6)
