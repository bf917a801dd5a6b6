"""Profiles over layers as SVG text: one line per model, its interval as a band, its ceiling dashed.

Colours, escaping and units are those of `svg`; axes are those of `axes`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from evaluate.report import svg
from evaluate.report.axes import padded, project, tick_below, tick_label, ticks

# Three colours, then the same with hollow marks, then again: the names stand at the ends of the lines.
COLOURS = ("first", "second", "third")
_GAP = 12  # between the lines of names


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A figure at one layer, with its interval and the most that it can be, None where there is none."""

    layer: int
    value: float
    low: float | None = None
    high: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One model, from its first layer to its last; `stops` has at least one."""

    label: str
    stops: tuple[Stop, ...]


def profile(
    courses: Sequence[Course],
    *,
    title: str,
    notes: Sequence[str],
    description: str,
    y_label: str,
    width: int = 360,
    height: int = 310,
) -> str:
    """Return a chart of figures over layers, counted from 0, the embeddings.

    Args:
        courses: the models, in the order in which they take their colours.
        title: first line of the chart.
        notes: the next lines.
        description: what a reader who cannot see the chart should know.
        y_label: above the axis.
        width: of the drawing; text keeps its size.
        height: of the drawing; it grows where the names need more.
    """
    height = max(height, 120 + 2 * _GAP * len(courses))
    stops = [stop for course in courses for stop in course.stops]
    bounds = [v for stop in stops for v in (stop.value, stop.low, stop.high, stop.ceiling) if v is not None]
    last = max((stop.layer for stop in stops), default=1)
    x_domain, y_domain = (0.0, max(1.0, last)), padded(bounds)
    top, bottom = 20.0 + 15 * len(notes) + 22, height - 38.0
    y_step, y_ticks = ticks(*y_domain, max(4, height // 60))
    left = 8 + max((svg.text_width(tick_label(value, y_step), 11) for value in y_ticks), default=0)
    room = min(0.34 * width, max((svg.text_width(f"● {course.label}", 10) for course in courses), default=0))
    right = width - max(room, svg.text_width("ceiling", 10)) - 14

    def place(layer: int, value: float) -> tuple[float, float]:
        return project(layer, x_domain, (left + 4, right)), project(value, y_domain, (bottom, top))

    body = [svg.text(title, 0, 13, "title", width, svg.BOLD)]
    body += [svg.text(note, 0, 29 + 15 * i, "note", width, 11) for i, note in enumerate(notes)]
    body.append(svg.text(y_label, 0, top - 10, "tick", width, 11))
    for value in y_ticks:
        y = project(value, y_domain, (bottom, top))
        body.append(svg.line("grid", (left, y), (right, y)))
        body.append(svg.text(tick_label(value, y_step), left - 5, y + 4, "tick", left, 11, "end"))
    for value in ticks(*x_domain, 6)[1]:
        if value == round(value):
            x, _ = place(round(value), 0)
            body.append(tick_below(f"{value:.0f}", x, bottom + 15, width))
    body.append(svg.text("layer", right, height - 4, "tick", right, 11, "end"))

    ends: list[tuple[float, str, str]] = []
    for course, kind in zip(courses, _kinds(courses), strict=True):
        capped = [(stop.layer, stop.ceiling) for stop in course.stops if stop.ceiling is not None]
        if capped:
            # From edge to edge, so that a single layer has a line too.
            inner = [place(*cap) for cap in capped]
            body.append(svg.path(f"ceiling {kind}", [(left + 4, inner[0][1]), *inner, (right, inner[-1][1])]))
            # The notes say what is dashed: one name serves all.
            ends += [(inner[-1][1], "ceiling", kind)] if not any(e[1] == "ceiling" for e in ends) else []
        mark = "" if len(courses) <= len(COLOURS) else "○ " if "hollow" in kind else "● "
        ends.append((place(0, course.stops[-1].value)[1], mark + course.label, kind))
    for course, kind in zip(courses, _kinds(courses), strict=True):
        places = [place(stop.layer, stop.value) for stop in course.stops]
        about = _about(course)
        body.append(
            f'<g class="point" tabindex="0" role="img"><title>{svg.escaped(about)}</title>'
            + "".join(_bands(course, kind, place))
            + svg.path("reach", places)
            + svg.path(f"profile {kind}", places)
            + "".join(
                f'<circle class="mark {kind}" cx="{svg.number(x)}" cy="{svg.number(y)}" r="2">'
                f"<title>{svg.escaped(_at(course.label, stop))}</title></circle>"
                for stop, (x, y) in zip(course.stops, places, strict=True)
            )
            + svg.text(about, width - 2, top + 11, "readout", width - left, 11, "end")
            + "</g>"
        )
    body += end_labels(ends, right + 8, (top, bottom), room=width - right - 8)
    return svg.drawing(width, height, f"{title}. {' '.join(notes)}", description, body)


def _kinds(courses: Sequence[Course]) -> list[str]:
    return [COLOURS[i % 3] + (" hollow" if i // 3 % 2 else "") for i in range(len(courses))]


def _bands(course: Course, kind: str, place: Callable[[int, float], tuple[float, float]]) -> Iterator[str]:
    """Yield the intervals: a band over neighbouring layers, a whisker at a layer that stands alone."""
    for known, run in groupby(course.stops, key=lambda stop: stop.low is not None and stop.high is not None):
        if known:
            stops = list(run)
            low = [place(stop.layer, stop.low) for stop in stops if stop.low is not None]
            high = [place(stop.layer, stop.high) for stop in stops if stop.high is not None]
            yield svg.path("whisker" if len(stops) == 1 else f"band {kind}", [*low, *reversed(high)])


def end_labels(
    ends: Sequence[tuple[float, str, str]], x: float, frame: tuple[float, float], *, room: float
) -> Iterator[str]:
    """Yield what stands beside the ends of the lines, moved apart where it would overlap."""
    drawn = list(dict.fromkeys((round(y), label, kind) for y, label, kind in sorted(ends)))
    heights: list[float] = []
    for y, _, _ in drawn:
        heights.append(max(y, heights[-1] + _GAP) if heights else max(y, frame[0]))
    for i in reversed(range(len(heights))):
        below = heights[i + 1] - _GAP if i + 1 < len(heights) else frame[1]
        heights[i] = min(heights[i], below)
    for height, (_, label, kind) in zip(heights, drawn, strict=True):
        yield svg.text(label, x, height + 3.5, f"name {kind}", room, 10)


def _about(course: Course) -> str:
    first, last = course.stops[0], course.stops[-1]
    ceiling = "" if last.ceiling is None else f", of at most {last.ceiling:.3f}"
    before = "" if first is last else f"{first.value:.3f} at layer {first.layer}, "
    return f"{course.label}: {before}{last.value:.3f} at layer {last.layer}{ceiling}"


def _at(label: str, stop: Stop) -> str:
    between = (
        "" if stop.low is None or stop.high is None else f" (95 % interval {stop.low:.3f} to {stop.high:.3f})"
    )
    return f"{label}, layer {stop.layer}: {stop.value:.3f}{between}"
