"""Charts as SVG text: pure functions from data to markup, with no library and nothing to load.

Colours, escaping and units are those of `svg`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from evaluate.report import svg


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One model in a scatter plot; `used` is False where the fit leaves it out, and `note` says why."""

    label: str
    x: float
    y: float
    used: bool = True
    note: str = ""


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


SMALLEST = 1e-290  # spans below it have parts without a logarithm


def ticks(low: float, high: float, count: int) -> tuple[float, list[float]]:
    """Return a step of 1, 2 or 5 times a power of ten and its multiples in [low, high].

    The step is the smallest that cuts the span into at most `count` parts.
    """
    part = (high - low) / count
    power = 10.0 ** math.floor(math.log10(part))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= part * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return step, [i * step for i in range(first, last + 1)]


def project(value: float, domain: tuple[float, float], pixels: tuple[float, float]) -> float:
    """Return where `value` lies between the pixels that show the ends of `domain`."""
    share = (value - domain[0]) / (domain[1] - domain[0])
    return pixels[0] + share * (pixels[1] - pixels[0])


def padded(values: Iterable[float], share: float = 0.07) -> tuple[float, float]:
    """Return a domain that holds the values with a margin on both sides, and is never empty."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    span = high - low
    if span <= max(1e-9 * max(abs(low), abs(high)), SMALLEST):
        span = abs(high) if abs(high) > SMALLEST else 1.0
    return low - share * span, high + share * span


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
    width: int = 380,
    height: int = 320,
    named: bool = False,
) -> str:
    """Return a scatter plot of models with its fit line.

    Args:
        points: the models; those not used are drawn hollow.
        title: first line of the chart.
        notes: the next lines, such as the coefficient with its interval.
        description: what a reader who cannot see the chart should know.
        x_label: below the axis.
        y_label: above the axis, where it can be read without turning the head.
        line: slope and intercept, drawn from the least to the greatest x of the used points.
        width: of the drawing; text keeps its size.
        height: of the drawing.
        named: writes the names beside the points, as many as fit without overlap.
    """
    top = 20 + 15 * len(notes) + (22 if y_label else 8)
    used = [point.x for point in points if point.used]
    ends = fit_ends(line, used) if line and used else []
    x_domain = padded(point.x for point in points)
    y_domain = padded([point.y for point in points] + [y for _, y in ends])
    y_step, y_ticks = ticks(*y_domain, max(4, height // 60))
    left = 8 + max((svg.text_width(_tick(value, y_step), 11) for value in y_ticks), default=0)
    x_pixels = (left, width - 8.0)
    y_pixels = (height - (38.0 if x_label else 22.0), float(top))
    x_step, x_ticks = ticks(*x_domain, max(3, width // 80))

    def place(x: float, y: float) -> tuple[float, float]:
        return project(x, x_domain, x_pixels), project(y, y_domain, y_pixels)

    body = [svg.text(title, 0, 13, "title", width, svg.BOLD)]
    body += [svg.text(note, 0, 29 + 15 * i, "note", width, 11) for i, note in enumerate(notes)]
    body += [svg.text(y_label, 0, top - 10, "tick", width, 11)] if y_label else []
    for value in y_ticks:
        y = project(value, y_domain, y_pixels)
        body.append(svg.line("grid", (left, y), (width, y)))
        body.append(svg.text(_tick(value, y_step), left - 5, y + 4, "tick", left, 11, "end"))
    for value in x_ticks:
        x = project(value, x_domain, x_pixels)
        body.append(svg.line("grid", (x, top), (x, y_pixels[0])))
        body.append(_tick_below(_tick(value, x_step), x, y_pixels[0] + 15, width))
    body += [svg.text(x_label, width, height - 4, "tick", width, 11, "end")] if x_label else []
    fitted = [place(*end) for end in ends]
    if fitted:
        body.append(svg.line("fit", *fitted))
    places = [place(point.x, point.y) for point in points]
    if named:
        body += _names([point.label for point in points], places, fitted, (left, top, width, y_pixels[0]))
    for point, (x, y) in zip(points, places, strict=True):
        about = f"{point.label}: {_tidy(point.x)}, {_tidy(point.y)}" + (
            "" if point.used else f" (left out of the fit{': ' if point.note else ''}{point.note})"
        )
        body.append(
            f'<g class="point" tabindex="0" role="img"><title>{svg.escaped(about)}</title>'
            f'<circle class="hit" cx="{svg.number(x)}" cy="{svg.number(y)}" r="10"/>'
            f'<circle class="mark{"" if point.used else " hollow"}" cx="{svg.number(x)}" cy="{svg.number(y)}" r="4"/>'
            + svg.text(about, width - 2, top + 11, "readout", width - left, 11, "end")
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
        body.append(_tick_below(_tick(value, step), x, bottom + 14, width))
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
    line: Sequence[tuple[float, float]],
    frame: tuple[float, float, float, float],
) -> list[str]:
    """Return the names that fit beside their points and touch no point, name or frame, nor the line."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for i in range(65 if line else 0):
        x, y = (start + (end - start) * i / 64 for start, end in zip(*line, strict=True))
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


def _tick_below(text: str, x: float, y: float, width: float) -> str:
    half = svg.text_width(text, 11) / 2
    return svg.text(text, min(max(x, half), width - half), y, "tick", width, 11, "middle")


def _tick(value: float, step: float) -> str:
    if not 1e-6 <= step < 1e9:
        return f"{value:.3g}".replace("-", "−")
    return f"{value + 0.0:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")


def _tidy(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
