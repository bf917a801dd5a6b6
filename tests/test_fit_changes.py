"""What a change of data did to fits: values as the fit stage has them, intervals against a plain loop."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from collectors.document import UserError
from evaluate import bootstrap, fit, fit_changes, regression
from evaluate.__main__ import main
from evaluate.commands import impact
from evaluate.fit_changes import FitChange, changes, points
from samples import ROOT

SERIES = ("measured", "study", "news-2026-10", "MMLU")
Points = dict[str, tuple[float, float]]


def line(n: int, *, slope: float = -0.8, noise: float = 0.02, seed: int = 1) -> Points:
    """Return models about a line."""
    random = np.random.default_rng(seed)
    x = random.uniform(0.4, 1.2, n)
    y = 1 + slope * x + random.normal(0, noise, n)
    return {f"m{i:02}": (float(a), float(b)) for i, (a, b) in enumerate(zip(x, y, strict=True))}


def compared(before: Points, after: Points) -> tuple[FitChange, FitChange]:
    """Return the linear and the logarithmic fit of one series."""
    linear, log = changes({SERIES: before}, {SERIES: after})
    assert (linear.form, log.form) == ("linear", "log")
    return linear, log


def test_values_are_those_of_the_fit_stage() -> None:
    """Pearson's correlation and the slope, in both forms, of either version."""
    versions = line(12), line(14, seed=2)
    for form, found in zip(regression.FORMS, compared(*versions), strict=True):
        assert found.pearson
        assert found.slope
        for version, pearson, slope in zip(
            versions,
            (found.pearson.before, found.pearson.after),
            (found.slope.before, found.slope.after),
            strict=True,
        ):
            x, y = zip(*version.values(), strict=True)
            fitted = regression.fit(x, y, form=form)
            assert (pearson, slope) == pytest.approx((fitted.pearson, fitted.slope), rel=1e-9)
        assert found.pearson.difference == found.pearson.after - found.pearson.before
        assert (found.n_before, found.n_after, found.n_same) == (12, 14, 12)


def test_the_same_points_are_exactly_the_same_fit() -> None:
    """The interval of the difference is 0 throughout, and says that nothing changed."""
    for found in compared(line(9), line(9)):
        for shift in (found.pearson, found.slope):
            assert shift
            assert (shift.difference, shift.difference_low, shift.difference_high) == (0, 0, 0)
            assert not shift.beyond_chance


def test_intervals_are_those_of_a_plain_loop() -> None:
    """Models of both versions are drawn together, and each version refitted on what it has of them."""
    before, after = line(8), {**line(9, seed=3), "m99": (0.5, 0.9)}
    del after["m02"]
    linear, _ = compared(before, after)
    names = sorted({*before, *after})
    drawn = np.random.default_rng(0).integers(len(names), size=(2000, len(names)))
    rows = []
    for sample in drawn:
        row = []
        for version in (before, after):
            x, y = np.array([version[names[i]] for i in sample if names[i] in version]).T
            row += [np.corrcoef(x, y)[0, 1], np.polyfit(x - x.mean(), y, 1)[0]]
        rows.append(row)
    values = np.array(rows)
    for shift, old, new in ((linear.pearson, 0, 2), (linear.slope, 1, 3)):
        assert shift
        expected = np.quantile(values[:, new] - values[:, old], (0.025, 0.975))
        assert (shift.difference_low, shift.difference_high) == pytest.approx(expected, abs=1e-9)


def test_a_planted_change_is_told_from_chance() -> None:
    """Noise on benchmark scores that every model gets is; a little noise on rates is not."""
    before = line(30, noise=0.01)
    random = np.random.default_rng(6)
    worse = {m: (x, y + random.normal(0, 0.3)) for m, (x, y) in before.items()}
    alike = {m: (x + random.normal(0, 0.001), y) for m, (x, y) in before.items()}
    pearson = compared(before, worse)[0].pearson
    assert pearson
    assert pearson.beyond_chance
    assert pearson.difference_low is not None
    assert 0 < pearson.difference_low < pearson.difference
    pearson = compared(before, alike)[0].pearson
    assert pearson
    assert not pearson.beyond_chance


@pytest.mark.parametrize("seed", range(3))
def test_few_models_that_differ_have_no_interval(seed: int) -> None:
    """One to four came, far above the line of those that did not change."""
    before = line(12, seed=seed)
    came = {f"n{i}": (1.2, 1.0 + i / 10) for i in range(4)}
    for n in range(1, 5):
        for found in compared(before, {**before, **dict([*came.items()][:n])}):
            for shift in (found.pearson, found.slope):
                assert shift
                ends = shift.difference_low, shift.difference_high
                if n < bootstrap.FEWEST:
                    assert (*ends, shift.beyond_chance) == (None, None, None)
                else:
                    assert None not in ends


def test_a_difference_is_surer_than_the_correlations() -> None:
    """What makes a correlation unsure, which models there are, is the same in both versions."""
    before = line(20, noise=0.1)
    after = {m: (x * 1.01 + 0.002 * (i % 3), y) for i, (m, (x, y)) in enumerate(before.items())}
    pearson = compared(before, after)[0].pearson
    assert pearson
    assert pearson.difference_low is not None
    assert pearson.difference_high is not None
    x, y = zip(*before.values(), strict=True)
    alone = regression.fit(x, y)
    assert alone.pearson_low is not None
    assert alone.pearson_high is not None
    width = pearson.difference_high - pearson.difference_low
    assert width < 0.1 * (alone.pearson_high - alone.pearson_low)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        pytest.param({}, line(3), "0 models before", id="a new series"),
        pytest.param(line(3), line(1), "1 model after", id="one model"),
        pytest.param(line(3), {m: (0.5, y) for m, (_, y) in line(4).items()}, "the same", id="one x"),
        pytest.param(line(3), {m: (x, 0.5) for m, (x, _) in line(4).items()}, "the same", id="one y"),
    ],
)
def test_what_cannot_be_fitted_says_why(before: Points, after: Points, reason: str) -> None:
    """And has no numbers."""
    for found in compared(before, after):
        assert reason in found.refused
        assert found.pearson is None
        assert found.slope is None


def test_a_logarithm_needs_values_above_0() -> None:
    """The linear form of the same points is compared all the same."""
    linear, log = compared(line(5), {**line(5), "m00": (0.0, 1.0)})
    assert linear.pearson
    assert log.pearson is None
    assert "ln x" in log.refused


def written(rows: list[Mapping[str, object]]) -> bytes:
    """Return a points.csv with a column that nobody knows yet."""
    columns = ["freshness", "dataset", "study", "x", "y", "model", "x_value", "y_value", "fitted", "used"]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def test_intervals_of_a_version_are_those_that_it_recorded(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command shows those of fits.csv to the last digit, whatever seed and resamples they were made with."""
    (workspace / "scores.csv").write_text(",".join(fit.MEASURED_COLUMNS) + "\n")
    known, published = (
        ROOT / "evaluate" / f"{name}.csv" for name in ("benchmarks", "published_correlations")
    )
    fit.run(workspace / "scores.csv", known, published, workspace / "results", seed=7, resamples=30)
    with (workspace / "results" / "fits.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["refused"]]
    assert main(["impact", "workspace", "workspace", "--json"]) == 0
    found = {
        (*(row[name] for name in fit_changes.SERIES), row["form"]): row
        for row in json.loads(capsys.readouterr().out)["fits"]
    }
    assert rows
    for row in rows:
        shift = found[(*(row[name] for name in fit_changes.SERIES), row["form"])]["pearson"]
        recorded = [float(row["pearson_low"]), float(row["pearson_high"])]
        assert [shift["before_low"], shift["before_high"]] == recorded
        assert [shift["after_low"], shift["after_high"]] == recorded
        assert shift["before"] == pytest.approx(float(row["pearson"]), abs=1e-6)


def test_a_fit_is_said_with_its_intervals_or_why_it_has_none() -> None:
    """That of a version if one was recorded, that of the difference if enough models differ."""
    before, came = line(12), {"new": (1.2, 1.0)}
    recorded = {(SERIES, "linear"): (-0.99, -0.95)}
    few, _ = changes({SERIES: before}, {SERIES: {**before, **came}}, ({}, recorded))
    lines = list(impact._fit_lines([few]))
    assert re.fullmatch(
        r"  Pearson  -0\.\d{3} to -0\.\d{3} \[-0\.990, -0\.950\], difference \+0\.\d{4} "
        r"\(no interval: fewer than 4 models differ\)",
        lines[1],
    )
    many, _ = changes({SERIES: before}, {SERIES: line(12, seed=2)})
    assert re.fullmatch(
        r"  slope    -0\.\d{3} to -0\.\d{3}, difference \S+ \[\S+, \S+\], which (in|ex)cludes 0",
        list(impact._fit_lines([many]))[2],
    )


def test_correlations_without_a_recorded_interval_are_not_among_them() -> None:
    """As those of a fit without resamples, or of none."""
    head = b"dataset,study,x,y,form,pearson_low,pearson_high\n"
    content = head + b"a,b,c,d,linear,-0.5,0.25\na,b,c,d,log,,\n"
    assert fit_changes.recorded(content, "fits.csv") == {(("a", "b", "c", "d"), "linear"): (-0.5, 0.25)}
    for broken in (b"model\n", head + b"a,b,c,d,linear,low,0\n", head + b"a,b,c,d,linear,0\n", b"\xff"):
        with pytest.raises(UserError, match="fits.csv of HEAD (has no column|cannot be read)") as caught:
            fit_changes.recorded(broken, "fits.csv of HEAD")
        assert "\n" not in str(caught.value)


def test_points_are_read_by_the_names_of_columns() -> None:
    """Those that no line is drawn through are left out, but not their series."""
    row = dict(zip(("dataset", "study", "x", "y"), SERIES, strict=True))
    content = written(
        [
            {**row, "model": "a", "x_value": 0.5, "y_value": 0.25, "used": "true"},
            {**row, "model": "b", "x_value": 0.6, "y_value": 0.35, "used": "false"},
            {**row, "y": "other", "model": "b", "x_value": 0.6, "y_value": 0.35, "used": "false"},
        ]
    )
    assert points(content, "points.csv") == {SERIES: {"a": (0.5, 0.25)}, (*SERIES[:3], "other"): {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model,x\n", "HEAD has no column"),
        (b"\xff", "HEAD cannot be read"),
        (written([{"used": "true", "x_value": "wide", "y_value": 1}]), "HEAD cannot be read"),
    ],
)
def test_what_is_no_table_is_named(content: bytes, message: str) -> None:
    """One line."""
    with pytest.raises(UserError, match=message) as caught:
        points(content, "points.csv of HEAD")
    assert "\n" not in str(caught.value)


def test_every_series_of_either_version_comes_in_order() -> None:
    """Twice, once for each form."""
    others = (*SERIES[:3], "ARC")
    found = list(changes({SERIES: line(4)}, {SERIES: line(4), others: line(4)}))
    assert [row.y for row in found] == ["ARC", "ARC", "MMLU", "MMLU"]
    assert math.isclose(found[2].pearson.before if found[2].pearson else 0, -1, abs_tol=0.2)
