"""Charts of models as SVG text: pure functions from data to markup, with no library and nothing to load.

Colours, escaping and units are those of `svg`; axes are those of `axes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from evaluate.report import svg
from evaluate.report.axes import (
    count_label,
    log_ticks,
    padded,
    project,
    readout,
    tick_below,
    tick_label,
    ticks,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One model in a scatter plot; `used` is False where the fit leaves it out, and `note` says why.

    `ceiling` is the most that its y can be, None without such a bound.
    """

    label: str
    x: float
    y: float
    used: bool = True
    note: str = ""
    ceiling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A fit that is no straight line on its axes: its course, and `log` or `power`, which look different."""

    kind: Literal["log", "power"]
    course: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a dot chart, with its interval where there is one.

    Attributes:
        group: heading shared by consecutive rows.
        label: what was measured, such as a model.
        detail: what tells it from rows of the same label, such as a protocol; may be empty.
        value: the dot.
        low: lower end of the whisker, None without an interval.
        high: upper end of the whisker, None without an interval.
        shape: `circle` or `diamond`, so that groups differ by more than colour.
        hollow: draws the outline only.
    """

    group: str
    label: str
    detail: str
    value: float
    low: float | None = None
    high: float | None = None
    shape: Literal["circle", "diamond"] = "circle"
    hollow: bool = False


def fit_ends(line: tuple[float, float], x_values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the fitted (x, y) at the least and the greatest x: a fit is not drawn beyond its data."""
    slope, intercept = line
    return [(x, slope * x + intercept) for x in (min(x_values), max(x_values))]


def scatter(
    points: Sequence[Point],
    *,
    title: str,
    notes: Sequence[str],
    description: str,
    x_label: str = "",
    y_label: str = "",
    line: tuple[float, float] | None = None,
    curves: Sequence[Curve] = (),
    counts: bool = False,
    width: int = 380,
    height: int = 320,
    named: bool = False,
) -> str:
    """Return a scatter plot of models with its fits.

    Args:
        points: the models; those not used are drawn hollow.
        title: first line of the chart.
        notes: the next lines, such as the coefficient with its interval.
        description: what a reader who cannot see the chart should know.
        x_label: below the axis.
        y_label: above the axis, where it can be read without turning the head.
        line: slope and intercept, drawn from the least to the greatest x of the used points.
        curves: other fits, drawn as they are given.
        counts: x are counts above 0, such as parameters, on a logarithmic axis.
        width: of the drawing; text keeps its size.
        height: of the drawing.
        named: writes the names beside the points, as many as fit without overlap.
    """
    top = 20 + 15 * len(notes) + (22 if y_label else 8)
    used = [point.x for point in points if point.used]
    fits = [("fit", fit_ends(line, used))] if line and used else []
    fits += [(f"fit {curve.kind}", list(curve.course)) for curve in curves]
    x_domain = padded(math.log10(point.x) if counts else point.x for point in points)
    y_domain = padded(
        [v for point in points for v in (point.y, point.ceiling) if v is not None]
        + [y for _, course in fits for _, y in course]
    )
    y_step, y_ticks = ticks(*y_domain, max(4, height // 60))
    left = 8 + max((svg.text_width(tick_label(value, y_step), 11) for value in y_ticks), default=0)
    x_pixels = (left, width - 8.0)
    y_pixels = (height - (38.0 if x_label else 22.0), float(top))

    def place(x: float, y: float) -> tuple[float, float]:
        return project(math.log10(x) if counts else x, x_domain, x_pixels), project(y, y_domain, y_pixels)

    body = [svg.text(title, 0, 13, "title", width, svg.BOLD)]
    body += [svg.text(note, 0, 29 + 15 * i, "note", width, 11) for i, note in enumerate(notes)]
    body += [svg.text(y_label, 0, top - 10, "tick", width, 11)] if y_label else []
    for value in y_ticks:
        y = project(value, y_domain, y_pixels)
        body.append(svg.line("grid", (left, y), (width, y)))
        body.append(svg.text(tick_label(value, y_step), left - 5, y + 4, "tick", left, 11, "end"))
    for value, label in _marks(x_domain, max(3, width // 80), counts=counts):
        x, _ = place(value, y_domain[0])
        body.append(svg.line("grid", (x, top), (x, y_pixels[0])))
        body.append(tick_below(label, x, y_pixels[0] + 15, width))
    body += [svg.text(x_label, width, height - 4, "tick", width, 11, "end")] if x_label else []
    fitted = [(kind, [place(*point) for point in course]) for kind, course in fits]
    body += [svg.path(kind, course) for kind, course in fitted]
    places = [place(point.x, point.y) for point in points]
    for point, (x, _) in zip(points, places, strict=True):
        if point.ceiling is not None:
            y = project(point.ceiling, y_domain, y_pixels)
            body.append(svg.line("ceiling", (x - 9, y), (x + 9, y)))
    if named:
        courses = [course for _, course in fitted]
        body += _names([point.label for point in points], places, courses, (left, top, width, y_pixels[0]))
    for point, (x, y) in zip(points, places, strict=True):
        about = f"{count_label(point.x) if counts else _tidy(point.x)}, {_tidy(point.y)}"
        about += "" if point.ceiling is None else f", of at most {_tidy(point.ceiling)}"
        about += "" if point.used else f" (left out of the fit{': ' if point.note else ''}{point.note})"
        body.append(
            f'<g class="point" tabindex="0" role="img"><title>{svg.escaped(point.label)}: {svg.escaped(about)}</title>'
            f'<circle class="hit" cx="{svg.number(x)}" cy="{svg.number(y)}" r="10"/>'
            f'<circle class="mark{"" if point.used else " hollow"}" cx="{svg.number(x)}" cy="{svg.number(y)}" r="4"/>'
            + readout(point.label, about, top + 11, width)
            + "</g>"
        )
    return svg.drawing(width, height, f"{title}. {' '.join(notes)}", description, body)


def dots(
    rows: Sequence[Row],
    *,
    title: str,
    description: str,
    unit: str,
    maximum: float | None = None,
    width: int = 400,
) -> str:
    """Return a horizontal dot chart with whiskers, rows grouped under headings, axis from zero.

    Args:
        rows: in the order in which they are drawn; a heading precedes each run of equal groups.
        title: accessible name of the chart.
        description: what a reader who cannot see the chart should know.
        unit: below the axis.
        maximum: greatest value on the axis, to share it between charts; by default that of the rows.
        width: of the drawing.
    """
    known = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    domain = (min([0.0, *known]), max([maximum or 0.0, *known]))
    if domain[0] == domain[1]:
        domain = (0.0, 1.0)
    label_width, line_height = 0.41 * width, 21
    pixels = (label_width + 8, width - 46.0)
    groups = [(group, list(members)) for group, members in groupby(rows, key=lambda row: row.group)]
    bottom = line_height * len(rows) + 26 * len(groups) + 6
    step, marks = ticks(*domain, 4)
    body = []
    for value in marks:
        x = project(value, domain, pixels)
        body.append(svg.line("grid", (x, 8), (x, bottom)))
        body.append(tick_below(tick_label(value, step), x, bottom + 14, width))
    body.append(svg.text(unit, pixels[1], bottom + 30, "tick", width, 11, "end"))
    y = 0.0
    for group, members in groups:
        y += 26
        body.append(svg.text(group, 0, y - 6, "title", width, svg.BOLD))
        for row in members:
            body.append(_dot(row, y + line_height / 2, domain, pixels, label_width))
            body.append(svg.text(f"{row.value:.3f}", width, y + line_height / 2 + 4, "value", 44, 12, "end"))
            y += line_height
    return svg.drawing(width, bottom + 36, title, description, body)


def _marks(domain: tuple[float, float], count: int, *, counts: bool) -> list[tuple[float, str]]:
    if counts:
        return [(value, count_label(value)) for value in log_ticks(domain, count)]
    step, values = ticks(*domain, count)
    return [(value, tick_label(value, step)) for value in values]


def _dot(
    row: Row, y: float, domain: tuple[float, float], pixels: tuple[float, float], label_width: float
) -> str:
    x = project(row.value, domain, pixels)
    detail = svg.shorten(row.detail, 0.55 * label_width, 11)
    detail_width = svg.text_width(detail, 11) + 6 if detail else 0
    about = " ".join(part for part in (row.label, row.detail) if part) + f": {row.value:.4f}"
    whisker = ""
    if row.low is not None and row.high is not None:
        low, high = project(row.low, domain, pixels), project(row.high, domain, pixels)
        about += f" (95 % interval {row.low:.4f} to {row.high:.4f})"
        whisker = (
            f'<path class="whisker" d="M{svg.number(low)} {svg.number(y)}H{svg.number(high)}'
            f'M{svg.number(low)} {svg.number(y - 4)}v8M{svg.number(high)} {svg.number(y - 4)}v8"/>'
        )
    kind = f"mark{' second' if row.shape == 'diamond' else ''}{' hollow' if row.hollow else ''}"
    mark = (
        f'<circle class="{kind}" cx="{svg.number(x)}" cy="{svg.number(y)}" r="4.5"/>'
        if row.shape == "circle"
        else f'<path class="{kind}" d="M{svg.number(x)} {svg.number(y - 5.5)}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'
    )
    return (
        f'<g class="point" tabindex="0" role="img"><title>{svg.escaped(about)}</title>'
        f'<rect class="hit" x="0" y="{svg.number(y - 10)}" width="{svg.number(pixels[1] + 46)}" height="20"/>'
        + svg.text(row.label, 0, y + 4, "label", label_width - detail_width, 12)
        + (svg.text(detail, label_width, y + 4, "tick", label_width, 11, "end") if detail else "")
        + svg.line("leader", (pixels[0], y), (x, y))
        + whisker
        + mark
        + "</g>"
    )


def _names(
    labels: Sequence[str],
    places: Sequence[tuple[float, float]],
    courses: Sequence[Sequence[tuple[float, float]]],
    frame: tuple[float, float, float, float],
) -> list[str]:
    """Return the names that fit beside their points and touch no point, name or frame, nor a fit."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for piece in (piece for course in courses for piece in pairwise(course)):
        for i in range(65):
            x, y = (start + (end - start) * i / 64 for start, end in zip(*piece, strict=True))
            taken.append((x - 2, y - 2, x + 2, y + 2))
    drawn = []
    for label, (x, y) in zip(labels, places, strict=True):
        size = svg.text_width(label, 10)
        for left, base, anchor in (
            (x + 8, y + 3.5, "start"),
            (x - 8 - size, y + 3.5, "end"),
            (x - size / 2, y - 8, "middle"),
            (x - size / 2, y + 16, "middle"),
            (x + 6, y - 5, "start"),
            (x - 6 - size, y + 12, "end"),
        ):
            box = (left, base - 9, left + size, base + 2)
            inside = frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = {"start": left, "end": left + size, "middle": left + size / 2}[anchor]
                drawn.append(svg.text(label, at, base, "name", math.inf, 10, anchor))
                break
    return drawn


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _tidy(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
