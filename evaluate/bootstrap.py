"""Percentile intervals of what a few of many made differ, and of how few there is none."""

import numpy as np
from numpy.typing import NDArray

FEWEST = 4
"""Of fewer that differ there is no interval. Resamples without any of n in many are a share of exp(-n) of all, 5 % of
three and 1.8 % of four: of three, one end of an interval that leaves 2.5 % beyond it is where nothing differs."""


def ends(draws: NDArray[np.float64], n: int) -> tuple[float | None, float | None]:
    """Return the 95 % percentile interval of what resamples give, or None twice where there is none.

    Args:
        draws: of resamples; those that are not finite have no value.
        n: how many of what was resampled differ; where none does, no resample does.
    """
    finite = draws[np.isfinite(draws)]
    if 0 < n < FEWEST or not len(finite):
        return None, None
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)
