"""Charts over months: axes that compare, lines that hide no gap, rules where training text ends."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.report.timeline import Course, Rule, Stop, domain, log_span, month_name, month_number, timeline

MONTH = month_number("2026-01")


def course(*values: float, number: int = 0, step: int = 1, behind: bool = True) -> Course:
    """Return a line with a value every `step` months from January 2026."""
    stops = tuple(Stop(month=MONTH + i * step, value=value, behind=behind) for i, value in enumerate(values))
    return Course(label=f"model {number}", number=number, stops=stops)


def drawn(*courses: Course, rules: tuple[Rule, ...] = (), span: float = 1.0) -> str:
    """Return a chart of lines on the axis that shows them and the rules."""
    months = domain([s.month for c in courses for s in c.stops], [rule.at for rule in rules])
    return timeline(
        courses,
        rules,
        title="T",
        notes=("n",),
        description="D",
        y_label="y",
        months=months,
        span=span,
    )


def places(chart: str) -> list[list[tuple[float, float]]]:
    """Return the points of every invisible line under a model's line."""
    found = re.findall(r'class="reach" d="M([^"]*)"', chart)
    return [[(float(x), float(y)) for x, y in (p.split(" ") for p in line.split("L"))] for line in found]


@given(year=st.integers(0, 9999), month=st.integers(1, 12))
def test_months_have_numbers(year: int, month: int) -> None:
    """Consecutive months have consecutive numbers, and a number its month."""
    name = f"{year:04}-{month:02}"
    assert month_number(name) == 12 * year + month - 1
    assert month_name(month_number(name)) == name


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "2026-1", "26-01-01", "2026-xx", "202610-"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    """Rather than drawn somewhere."""
    with pytest.raises(ValueError, match="is no month"):
        month_number(text)


def test_equal_relative_changes_have_equal_slopes() -> None:
    """In one chart at every level, and between charts of one span."""
    ratio = 1.25
    (low, high), (other,) = (
        places(drawn(course(0.5, 0.5 * ratio), course(0.9, 0.9 * ratio, number=1))),
        places(drawn(course(3.0, 3.0 * ratio, number=2))),
    )
    rises = [line[0][1] - line[1][1] for line in (low, high, other)]
    assert rises[0] > 10
    assert rises[1] == pytest.approx(rises[0], abs=0.02)
    # The second chart is as high as the first: a line of one model needs no more.
    assert rises[2] == pytest.approx(rises[0], abs=0.02)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=9),
    months=st.lists(st.integers(0, 60), min_size=9, max_size=9, unique=True),
    cutoff=st.floats(-300, 300),
)
def test_whatever_is_measured_lies_inside(values: list[float], months: list[int], cutoff: float) -> None:
    """Every point, of any size and in any month, and every rule is within the frame."""
    stops = sorted(zip(months, values, strict=False))
    line = Course(label="m", number=0, stops=tuple(Stop(month=MONTH + m, value=v) for m, v in stops))
    chart = drawn(line, rules=(Rule(at=MONTH + cutoff, label="cutoff"),), span=log_span([line]))
    root = ET.fromstring(chart)  # noqa: S314 - our own output
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    (points,) = places(chart)
    (x,) = (float(v) for v in re.findall(r'class="cutoff" x1="([^"]*)"', chart))
    assert all(0 <= px <= width and 0 <= py <= height for px, py in [*points, (x, 0)])
    assert [p[0] for p in points] == sorted(p[0] for p in points)


def test_a_rule_stands_between_the_months_that_it_parts() -> None:
    """A cutoff at the end of February lies right of the point of February and left of that of March."""
    chart = drawn(course(1.0, 1.1, 1.2), rules=(Rule(at=month_number("2026-03"), label="cutoff 2026-02"),))
    (line,) = places(chart)
    (x,) = (float(v) for v in re.findall(r'class="cutoff" x1="([^"]*)"', chart))
    assert line[1][0] < x < line[2][0]
    assert x - line[1][0] == pytest.approx(line[2][0] - x, abs=0.02)


def test_a_release_is_drawn_as_a_bound() -> None:
    """Unlike a cutoff that is declared."""
    rules = (Rule(at=MONTH, label="declared"), Rule(at=MONTH, label="released", bound=True))
    assert re.findall(r'class="(cutoff[^"]*)"', drawn(course(1.0), rules=rules)) == ["cutoff", "cutoff bound"]


@pytest.mark.parametrize(("years", "shown"), [(-50, "← cutoff"), (50, "cutoff →")])
def test_a_cutoff_far_away_stands_at_the_edge(years: int, shown: str) -> None:
    """With an arrow, and the data keep their share of the axis."""
    chart = drawn(course(1.0, 1.1, 1.2, step=6), rules=(Rule(at=MONTH + 12 * years, label="cutoff"),))
    assert f">{shown}</text>" in chart
    (line,) = places(chart)
    assert line[-1][0] - line[0][0] > 0.3 * 360 * 0.45


def test_a_cutoff_nearby_widens_the_axis() -> None:
    """Between the data and the cutoff nothing is cut off."""
    assert domain([MONTH, MONTH + 11], [MONTH - 10.0]) == (MONTH - 10.5, MONTH + 12.5)
    assert domain([MONTH, MONTH + 11], [MONTH + 20.0]) == (MONTH - 0.5, MONTH + 20.5)
    assert domain([], []) == (-0.5, 1.5)


def test_months_without_documents_are_bridged_by_dashes() -> None:
    """A solid line joins neighbours alone."""
    stops = tuple(Stop(month=MONTH + m, value=1.0) for m in (0, 1, 3, 4))
    chart = drawn(Course(label="m", number=0, stops=stops))
    assert re.findall(r'class="(profile[^"]*)"', chart) == [
        "profile first",
        "profile first apart",
        "profile first",
    ]


def test_months_not_behind_the_cutoff_are_hollow() -> None:
    """And all others are filled."""
    assert drawn(course(1.0, 1.1, behind=False)).count('class="mark first hollow"') == 2
    assert "hollow" not in drawn(course(1.0, 1.1))


def test_nine_lines_look_different() -> None:
    """Three colours by three shapes; a number has its look in every chart."""
    looks = []
    for number in range(9):
        kind, shape = re.findall(r'class="mark (\w+)" d="([^"]*)"', drawn(course(1.0, number=number)))[0]
        looks.append((kind, re.sub(r"M[\d. ]+", "", shape)))
    assert len(set(looks)) == 9
    (among,) = re.findall(r'class="mark (second)"', drawn(course(1.0), course(1.1, number=4)))
    assert among == looks[4][0]


def test_every_mark_says_what_it_is() -> None:
    """Month, value, interval and what it is of, for whoever points or listens."""
    stop = Stop(month=MONTH, value=1.23456, low=1.1, high=1.4, note="12 documents of news")
    chart = drawn(Course(label="<m>", number=0, stops=(stop,)))
    assert (
        "<title>&lt;m&gt;, 2026-01: 1.235 (95 % interval 1.100 to 1.400), 12 documents of news</title>"
        in chart
    )
    assert "<title>&lt;m&gt;: 1.235 in 2026-01</title>" in chart
    assert "&lt;m&gt;: 1.000 in 2026-01, 1.100 in 2026-02".replace("&lt;m&gt;", "model 0") in drawn(
        course(1.0, 1.1)
    )


def test_the_name_of_an_instructed_model_is_whole_at_the_end_of_its_line() -> None:
    """And in what its line says when it has the focus."""
    stops = tuple(Stop(month=MONTH + m, value=0.6) for m in (0, 10))
    chart = drawn(Course(label="SmolLM2-135M-Instruct", number=0, stops=stops))
    assert ">● SmolLM2-135M-Instruct</text>" in chart
    assert "0.600 in 2026-01, 0.600 in 2026-11</tspan>" in chart
    assert "…" not in chart


def test_an_interval_down_to_nothing_ends_at_the_frame() -> None:
    """Zero has no logarithm: the whisker goes to the edge, the axis is that of the others."""
    stop = Stop(month=MONTH, value=1.0, low=0.0, high=1.2)
    assert log_span([Course(label="m", number=0, stops=(stop,))]) == pytest.approx(math.log(1.2))
    chart = drawn(Course(label="m", number=0, stops=(stop,)))
    (y,) = re.findall(r'class="whisker first" x1="[^"]*" y1="([^"]*)"', chart)
    assert float(y) == pytest.approx(262, abs=1)
