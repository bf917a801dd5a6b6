"""Quantiles and tails of Student's distribution, for any number of degrees of freedom from 1 on."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Gauss and Legendre's, of squares of points on [0, 1]: smooth where a small power is steep.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_WEIGHTS, _POINTS = _WEIGHTS * (1 + _NODES) / 2, ((1 + _NODES) / 2) ** 2


def quantile(error: float, freedom: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return what Student's |t| exceeds with a probability of `error`, for each number of degrees of freedom.

    With t = sqrt(freedom) / tan(angle) the probability beyond is an integral of a power of the sine from 0 to the
    angle (after Abramowitz and Stegun 1964, 26.7.3 and 26.7.4). Its logarithm is concave in that of the angle, a
    line at one degree of freedom: Newton's steps approach the root from below once they have passed it. The tail
    is integrated itself, and only as far as it matters, so that tiny levels are as exact as large ones.

    Args:
        error: above 0 and below 1, of both sides together.
        freedom: 1 or more, whole or not; any shape.
    """
    freedom = np.asarray(freedom, dtype=np.float64)
    power, norm = freedom - 1, _norm(freedom)
    angle = np.arctan2(np.sqrt(freedom), -NormalDist().inv_cdf(error / 2))
    for _ in range(60):
        beyond = norm * _integral(angle, power)
        step = np.log(beyond / error) * beyond / (norm * angle * np.sin(angle) ** power)
        angle = angle * np.exp(-step)
        if (np.abs(step) <= 1e-14).all():
            break
    return np.asarray(np.sqrt(freedom) / np.tan(angle))


def tail(value: float, freedom: float) -> float:
    """Return the probability that Student's t exceeds a value, on this side alone.

    Args:
        value: of any sign.
        freedom: 1 or more, whole or not.
    """
    degrees = np.asarray(freedom, dtype=np.float64)
    beyond = _norm(degrees) * _integral(np.arctan2(np.sqrt(degrees), abs(value)), degrees - 1) / 2
    return float(beyond if value >= 0 else 1 - beyond)


def _norm(freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what makes the integral from 0 to a right angle 1."""
    log_norm = np.array([math.lgamma((v + 1) / 2) - math.lgamma(v / 2) for v in freedom.ravel()])
    return np.asarray(2 / math.sqrt(math.pi) * np.exp(log_norm.reshape(freedom.shape)))


def _integral(angle: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the integral of a power of the sine from 0 to an angle, a right one at most."""
    # As far as the power falls by exp(-40): the sine's logarithm bends down by 1 or more everywhere.
    slope, fall = 1 / np.tan(angle), 80 / np.maximum(power, 1)
    reach = np.minimum(angle, fall / (slope + np.sqrt(slope**2 + fall)))
    beyond = angle[..., None] - reach[..., None] * (1 - _POINTS)
    return np.asarray(reach * (np.sin(beyond) ** power[..., None] @ _WEIGHTS))
