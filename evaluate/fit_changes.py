"""What a change of data did to the fits of benchmark scores against bits per character.

A fit is one over models, and so is its interval: both versions are refitted on the same resamples of models, so
that the difference of their correlations has an interval of its own, far narrower than theirs would suggest.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.rates import RESAMPLES
from evaluate.regression import FORMS

Array = NDArray[np.float64]
Series = tuple[str, str, str, str]

SERIES = ("dataset", "study", "x", "y")
# Differences of the order of rounding are none.
_ROUNDING = 1e-12
_COLUMNS = {*SERIES, "model", "x_value", "y_value", "used"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How a coefficient of a fit changed.

    Attributes:
        before: of the earlier version.
        before_low: lower end of its 95 % interval.
        before_high: upper end.
        after: of the later version; its interval likewise.
        difference: after less before; its interval is from resamples of the models of both versions.
        beyond_chance: whether the interval of the difference excludes 0 by more than rounding.
    """

    before: float
    before_low: float
    before_high: float
    after: float
    after_low: float
    after_high: float
    difference: float
    difference_low: float
    difference_high: float
    beyond_chance: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FitChange:
    """A fit in two versions.

    Attributes:
        form: `linear` in x, or in its logarithm, `log`.
        n_before: models that the earlier fit is through.
        n_after: models that the later one is through.
        n_same: models that both are through.
        pearson: correlation; None where `refused` says why.
        slope: likewise, change of y per unit of x, or of ln x.
        refused: why there is nothing to compare; else empty.
    """

    dataset: str
    study: str
    x: str
    y: str
    form: str
    n_before: int
    n_after: int
    n_same: int
    pearson: Shift | None
    slope: Shift | None
    refused: str = ""


def points(content: bytes, name: str) -> dict[Series, dict[str, tuple[float, float]]]:
    """Return x and y of every model that a fit is through, by series, of a points.csv.

    Args:
        content: of the file.
        name: what to call it.

    Raises:
        UserError: when it is no such table.
    """
    found: dict[Series, dict[str, tuple[float, float]]] = {}
    try:
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
        if missing := _COLUMNS - set(reader.fieldnames or ()):
            raise UserError(f"{name} has no column {min(missing)!r}; name a revision with another points.csv")
        for row in reader:
            models = found.setdefault((row["dataset"], row["study"], row["x"], row["y"]), {})
            if row["used"] == "true":
                models[row["model"]] = (float(row["x_value"]), float(row["y_value"]))
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{name} cannot be read ({error}); restore it with `dvc checkout`") from error
    return found


def changes(
    before: Mapping[Series, Mapping[str, tuple[float, float]]],
    after: Mapping[Series, Mapping[str, tuple[float, float]]],
    *,
    seed: int = 0,
) -> Iterator[FitChange]:
    """Yield every fit of either version in both forms, sorted.

    Args:
        before: as `points` returns them.
        after: likewise, of the later version.
        seed: of the bootstrap.
    """
    for series in sorted({*before, *after}):
        old, new = before.get(series, {}), after.get(series, {})
        for form in FORMS:
            pearson, slope, refused = _shifts(old, new, form, seed)
            yield FitChange(
                **dict(zip(SERIES, series, strict=True)),
                form=form,
                n_before=len(old),
                n_after=len(new),
                n_same=len(old.keys() & new.keys()),
                pearson=pearson,
                slope=slope,
                refused=refused,
            )


def _shifts(
    old: Mapping[str, tuple[float, float]], new: Mapping[str, tuple[float, float]], form: str, seed: int
) -> tuple[Shift | None, Shift | None, str]:
    for version, those in (("before", old), ("after", new)):
        if len(those) < 3:
            n = "1 model" if len(those) == 1 else f"{len(those)} models"
            return None, None, f"{n} {version}; a fit needs 3 or more"
    models = sorted({*old, *new})
    whole = np.arange(len(models))[None]
    drawn = np.random.default_rng(seed).integers(len(models), size=(RESAMPLES, len(models)))
    x, y = np.array(
        [[those.get(model, (np.nan, np.nan)) for model in models] for those in (old, new)]
    ).transpose(2, 0, 1)
    if form == "log":
        if np.nanmin(x) <= 0:
            return None, None, "x is not above 0, where ln x ends"
        x = np.log(x)
    # About the means of both versions together: no variance is a difference of large sums, and models that did
    # not change have the same digits in both.
    x, y = x - np.nanmean(x), y - np.nanmean(y)
    values, samples = (
        [_lines(*version, rows) for version in zip(x, y, strict=True)] for rows in (whole, drawn)
    )
    if not np.isfinite(values).all():
        return None, None, "x or y is the same for every model"
    pearson, slope = (
        _shift(*(value[i, 0] for value in values), *(sample[i] for sample in samples)) for i in (0, 1)
    )
    return pearson, slope, ""


def _lines(x: Array, y: Array, drawn: NDArray[np.int64]) -> Array:
    """Return Pearson's correlation and slope of resamples, shape [2, b]; NaN where x or y does not vary.

    Args:
        x: about some centre, shape [n], NaN for a model that the fit is not through.
        y: likewise.
        drawn: indices of the models of each resample, shape [b, n].
    """
    used = ~np.isnan(x)
    u, v = np.where(used, x, 0)[drawn], np.where(used, y, 0)[drawn]
    weights = used[drawn]
    n = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    du = np.where(weights, u - u.sum(axis=1, keepdims=True) / n, 0)
    dv = np.where(weights, v - v.sum(axis=1, keepdims=True) / n, 0)
    suu, svv, suv = (du * du).sum(axis=1), (dv * dv).sum(axis=1), (du * dv).sum(axis=1)
    varies = _varies(u, weights) & _varies(v, weights) & (suu > 0) & (svv > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pearson = np.clip(suv / np.sqrt(suu * svv), -1, 1)
        return np.where(varies, [pearson, suv / suu], np.nan)


def _varies(values: Array, weights: NDArray[np.bool_]) -> NDArray[np.bool_]:
    high = np.where(weights, values, -np.inf).max(axis=1)
    low = np.where(weights, values, np.inf).min(axis=1)
    return np.asarray(high - low > _ROUNDING)


def _shift(before: float, after: float, old: Array, new: Array) -> Shift:
    difference = new - old
    ends = [np.quantile(sample[np.isfinite(sample)], (0.025, 0.975)) for sample in (old, new, difference)]
    (before_low, before_high), (after_low, after_high), (low, high) = (map(float, pair) for pair in ends)
    return Shift(
        before=float(before),
        before_low=before_low,
        before_high=before_high,
        after=float(after),
        after_low=after_low,
        after_high=after_high,
        difference=float(after - before),
        difference_low=low,
        difference_high=high,
        beyond_chance=low > _ROUNDING or high < -_ROUNDING,
    )
