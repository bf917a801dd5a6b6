"""Rates over months of publication as SVG text: a line per model, a rule where its training text ends.

The vertical axis is logarithmic, and charts of one `span` reach over the same ratio from bottom to top: equal
slopes are equal relative changes, in every chart and at every level. Colours, escaping and units are those of
`svg`; ticks are those of `axes`.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evaluate.report import svg
from evaluate.report.axes import log_ticks, project, readout, tick_below, tick_label, ticks
from evaluate.report.profiles import COLOURS, end_labels

# With the three colours, nine lines differ in more than their place.
_SHAPES = (("●", "circle"), ("◆", "diamond"), ("■", "square"))
_ROW = 13  # between the lines of what is written above the rules
# The same in every chart, so that months stand below months.
_LEFT = 34
_NAMES = 0.45
_LEAST_SPAN = math.log(1.2)
# Cutoffs long before the first month, or after the last, may squeeze the data into so much of the axis.
_DATA_SHARE = 0.4

Domain = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A rate in one month.

    Attributes:
        month: months since the year 0, see `month_number`.
        value: above 0.
        low: lower end of its interval, None without one.
        high: upper end.
        behind: whether the whole month lies behind the model's cutoff, as far as that is known; others are hollow.
        note: what the rate is of, such as `12 documents`.
    """

    month: int
    value: float
    low: float | None = None
    high: float | None = None
    behind: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One model, from its first month to its last; its `number` gives it colour and shape in every chart."""

    label: str
    number: int
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Where the training text of models ends, in months; `bound` is one before which it ends."""

    at: float
    label: str
    bound: bool = False


def month_number(month: str) -> int:
    """Return the months since the year 0 of a month such as 2026-10.

    Raises:
        ValueError: when it is no month.
    """
    found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month, re.ASCII)
    if not found:
        raise ValueError(f"{month!r} is no month")
    return 12 * int(found[1]) + int(found[2]) - 1


def month_name(number: int) -> str:
    """Return the month of a number of `month_number`."""
    return f"{number // 12:04}-{number % 12 + 1:02}"


def domain(months: Iterable[int], rules: Iterable[float]) -> Domain:
    """Return the months that an axis shows: all with data, and the rules as far as the data stay readable."""
    known = list(months) or [0]
    first, last = min(known), max(known) + 1
    reach = (last - first) / _DATA_SHARE
    cuts = [first, last, *rules]
    low = max(min(cuts), last - reach)
    high = min(max(cuts), max(last, low + reach))
    return low - 0.5, high + 0.5


def log_span(courses: Iterable[Course]) -> float:
    """Return ln of the ratio between the greatest and the least that a chart of these courses must show."""
    logs = [log for course in courses for log in _logs(course)]
    return max(_LEAST_SPAN, max(logs) - min(logs)) if logs else _LEAST_SPAN


def timeline(
    courses: Sequence[Course],
    rules: Sequence[Rule],
    *,
    title: str,
    notes: Sequence[str],
    description: str,
    y_label: str,
    months: Domain,
    span: float,
    width: int = 360,
    height: int = 300,
) -> str:
    """Return a chart of rates over months.

    Args:
        courses: the models.
        rules: their cutoffs; one beyond the axis stands at its edge, with an arrow.
        title: first line of the chart.
        notes: the next lines.
        description: what a reader who cannot see the chart should know.
        y_label: above the axis.
        months: of the horizontal axis, see `domain`.
        span: of the vertical one: the greatest `log_span` of all charts that are to compare.
        width: of the drawing; text keeps its size.
        height: of the drawing; it grows where names and rules need more.
    """
    labels = [f"{_SHAPES[course.number // 3 % 3][0]} {course.label}" for course in courses]
    head = 20.0 + 15 * len(notes) + 14
    top = head + 14 + _ROW * len(rules)
    height = max(height, math.ceil(top + 38 + max(150, 14 * len(courses))))
    bottom = height - 38.0
    logs = [log for course in courses for log in _logs(course)] or [0.0]
    middle = (min(logs) + max(logs)) / 2
    y_domain = middle - 0.56 * span, middle + 0.56 * span
    y_step, y_ticks = _rates(y_domain, max(4, height // 60))
    left = max(_LEFT, *(8 + svg.text_width(tick_label(value, y_step), 11) for value in [1.0, *y_ticks]))
    right = (1 - _NAMES) * width

    def across(month: float) -> float:
        return project(min(max(month, months[0]), months[1]), months, (left, right))

    def up(value: float) -> float:
        return project(min(max(_log(value), y_domain[0]), y_domain[1]), y_domain, (bottom, top))

    body = [svg.text(title, 0, 13, "title", width, svg.BOLD)]
    body += [svg.text(note, 0, 29 + 15 * i, "note", width, 11) for i, note in enumerate(notes)]
    body.append(svg.text(y_label, 0, head, "tick", width, 11))
    for value in y_ticks:
        body.append(svg.line("grid", (left, up(value)), (right, up(value))))
        body.append(svg.text(tick_label(value, y_step), left - 5, up(value) + 4, "tick", left, 11, "end"))
    for month in _month_ticks(months, max(2, int((right - left) // 62))):
        body.append(svg.line("grid", (across(month + 0.5), bottom), (across(month + 0.5), bottom + 4)))
        body.append(tick_below(month_name(month), across(month + 0.5), bottom + 16, width))
    body.append(svg.text("month of publication", right, height - 4, "tick", right, 11, "end"))
    for i, rule in enumerate(sorted(rules, key=lambda rule: (rule.at, rule.label))):
        body += _rule(rule, months, across(rule.at), head + 14 + _ROW * i, bottom, width)
    ends = []
    apart = min(3.0, 0.8 * (across(1 + months[0]) - left) / max(1, len(courses)))
    for i, (course, label) in enumerate(zip(courses, labels, strict=True)):
        shift = apart * (i - (len(courses) - 1) / 2)
        body.append(_line(course, across, up, shift, (width, top)))
        ends.append((up(course.stops[-1].value), label, COLOURS[course.number % 3]))
    body += end_labels(ends, right + 8, (top, bottom), room=width - right - 8)
    return svg.drawing(width, height, f"{title}. {' '.join(notes)}", description, body)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _logs(course: Course) -> Iterator[float]:
    for stop in course.stops:
        yield from (_log(v) for v in (stop.value, stop.low, stop.high) if v is not None and v > 0)


def _rates(y_domain: Domain, count: int) -> tuple[float, list[float]]:
    """Return round rates on a logarithmic axis, and the step that says how many decimals they need."""
    low, high = (math.exp(end) for end in y_domain)
    if high < 8 * low:
        return ticks(low, high, count)
    values = log_ticks((math.log10(low), math.log10(high)), count)
    return min(values, default=1.0), values


def _month_ticks(months: Domain, count: int) -> list[int]:
    first, last = math.ceil(months[0]), math.floor(months[1]) - 1
    step = next(s for s in (1, 2, 3, 6, *(12 * 2**k for k in range(20))) if (last - first) // s < count)
    return [month for month in range(first, last + 1) if month % step == 0] or [first]


def _rule(rule: Rule, months: Domain, x: float, y: float, bottom: float, width: int) -> Iterator[str]:
    before, after = rule.at < months[0], rule.at > months[1]
    label = f"{'← ' if before else ''}{rule.label}{' →' if after else ''}"
    yield svg.line(f"cutoff{' bound' if rule.bound else ''}", (x, y - 8), (x, bottom))
    if x < width / 2:
        yield svg.text(label, x + 4, y, "name third", width - x - 6, 10)
    else:
        yield svg.text(label, x - 4, y, "name third", x - 6, 10, "end")


def _line(
    course: Course,
    across: Callable[[float], float],
    up: Callable[[float], float],
    shift: float,
    frame: tuple[int, float],
) -> str:
    """Return a model's line with its marks: dashed over months without documents, hollow before its cutoff."""
    width, top = frame
    kind = COLOURS[course.number % 3]
    places = [(across(stop.month + 0.5) + shift, up(stop.value)) for stop in course.stops]
    parts = [svg.path("reach", places)]
    for (a, start), (b, end) in pairwise(zip(course.stops, places, strict=True)):
        parts.append(svg.path(f"profile {kind}{' apart' if b.month > a.month + 1 else ''}", [start, end]))
    for stop, (x, y) in zip(course.stops, places, strict=True):
        whisker = ""
        if stop.low is not None and stop.high is not None:
            whisker = svg.line(f"whisker {kind}", (x, up(stop.low)), (x, up(stop.high)))
        shape = _mark(_SHAPES[course.number // 3 % 3][1], x, y)
        parts.append(
            f"<g><title>{svg.escaped(_at(course.label, stop))}</title>{whisker}"
            f'<path class="mark {kind}{"" if stop.behind else " hollow"}" d="{shape}"/></g>'
        )
    about = _about(course)
    return (
        f'<g class="point" tabindex="0" role="img"><title>{svg.escaped(course.label)}: {about}</title>'
        + "".join(parts)
        + readout(course.label, about, top + 11, width)
        + "</g>"
    )


def _mark(shape: str, x: float, y: float) -> str:
    match shape:
        case "diamond":
            return f"M{svg.number(x)} {svg.number(y - 4.5)}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"
        case "square":
            return f"M{svg.number(x - 3)} {svg.number(y - 3)}h6v6h-6z"
        case _:
            return f"M{svg.number(x - 3.5)} {svg.number(y)}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z"


def _about(course: Course) -> str:
    first, last = course.stops[0], course.stops[-1]
    before = "" if first is last else f"{first.value:.3f} in {month_name(first.month)}, "
    return f"{before}{last.value:.3f} in {month_name(last.month)}"


def _at(label: str, stop: Stop) -> str:
    between = (
        "" if stop.low is None or stop.high is None else f" (95 % interval {stop.low:.3f} to {stop.high:.3f})"
    )
    note = f", {stop.note}" if stop.note else ""
    return f"{label}, {month_name(stop.month)}: {stop.value:.3f}{between}{note}"
