"""What a change of data did to the fits of benchmark scores against bits per character.

A fit is one over models, and so is its interval. That of a version is the one that its fits.csv records, for it is
the one that was reported. For the difference both versions are refitted on the same resamples of models, so that it
has an interval of its own, far narrower than theirs would suggest; where few models differ it has none (see
`bootstrap`).
"""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate import bootstrap
from evaluate.rates import RESAMPLES
from evaluate.regression import FORMS

Array = NDArray[np.float64]
Series = tuple[str, str, str, str]
Interval = tuple[float, float]

SERIES = ("dataset", "study", "x", "y")
# Differences of the order of rounding are none.
_ROUNDING = 1e-12
_COLUMNS = {*SERIES, "model", "x_value", "y_value", "used"}
_RECORDED = {*SERIES, "form", "pearson_low", "pearson_high"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How a coefficient of a fit changed.

    Attributes:
        before: of the earlier version.
        before_low: lower end of its 95 % interval as recorded; None where none is, as of slopes.
        before_high: upper end.
        after: of the later version; its interval likewise.
        difference: after less before; its interval is from resamples of the models of both versions, None where some
            models differ, but fewer than `bootstrap.FEWEST`.
        beyond_chance: whether the interval of the difference excludes 0 by more than rounding; None without one.
    """

    before: float
    before_low: float | None
    before_high: float | None
    after: float
    after_low: float | None
    after_high: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None
    beyond_chance: bool | None


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
    for row in _rows(content, name, _COLUMNS):
        models = found.setdefault(_series(row), {})
        if row["used"] == "true":
            models[row["model"]] = _pair(name, row["x_value"], row["y_value"])
    return found


def recorded(content: bytes, name: str) -> dict[tuple[Series, str], Interval]:
    """Return the interval of every correlation that has one, by series and form, of a fits.csv.

    Args:
        content: of the file.
        name: what to call it.

    Raises:
        UserError: when it is no such table.
    """
    return {
        (_series(row), row["form"]): _pair(name, row["pearson_low"], row["pearson_high"])
        for row in _rows(content, name, _RECORDED)
        if row["pearson_low"]
    }


def _rows(content: bytes, name: str, columns: Collection[str]) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
        if missing := {*columns} - set(reader.fieldnames or ()):
            raise UserError(f"{name} has no column {min(missing)!r}; name a revision with another table")
        return list(reader)
    except (ValueError, csv.Error) as error:
        raise _unreadable(name, error) from error


def _series(row: Mapping[str, str]) -> Series:
    return row["dataset"], row["study"], row["x"], row["y"]


def _pair(name: str, *values: str) -> tuple[float, float]:
    try:
        first, second = map(float, values)
    except (ValueError, TypeError) as error:
        raise _unreadable(name, error) from error
    return first, second


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(f"{name} cannot be read ({error}); restore it with `dvc checkout`")


def changes(
    before: Mapping[Series, Mapping[str, tuple[float, float]]],
    after: Mapping[Series, Mapping[str, tuple[float, float]]],
    intervals: Sequence[Mapping[tuple[Series, str], Interval]] = ({}, {}),
    *,
    seed: int = 0,
) -> Iterator[FitChange]:
    """Yield every fit of either version in both forms, sorted.

    Args:
        before: as `points` returns them.
        after: likewise, of the later version.
        intervals: of both versions, as `recorded` returns them.
        seed: of the bootstrap of differences.
    """
    for series in sorted({*before, *after}):
        old, new = before.get(series, {}), after.get(series, {})
        for form in FORMS:
            known = [version.get((series, form)) for version in intervals]
            pearson, slope, refused = _shifts(old, new, form, seed, known)
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
    old: Mapping[str, tuple[float, float]],
    new: Mapping[str, tuple[float, float]],
    form: str,
    seed: int,
    known: Sequence[Interval | None],
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
    n_differ = sum(old.get(model) != new.get(model) for model in models)
    (was, became), (ago, since) = values, samples
    pearson, slope = (
        _shift(float(was[i, 0]), float(became[i, 0]), since[i] - ago[i], n_differ, own)
        for i, own in enumerate((known, (None, None)))
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


def _shift(before: float, after: float, drawn: Array, n: int, known: Sequence[Interval | None]) -> Shift:
    (before_low, before_high), (after_low, after_high) = (own or (None, None) for own in known)
    low, high = bootstrap.ends(drawn, n)
    return Shift(
        before=before,
        before_low=before_low,
        before_high=before_high,
        after=after,
        after_low=after_low,
        after_high=after_high,
        difference=after - before,
        difference_low=low,
        difference_high=high,
        beyond_chance=None if low is None or high is None else low > _ROUNDING or high < -_ROUNDING,
    )
