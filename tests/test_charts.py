"""Charts: marks stand where the arithmetic says, ticks are round, and data can neither break nor escape."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.report import axes, charts, profiles, svg
from evaluate.report.charts import Curve, Point, Row
from evaluate.report.profiles import Course, Stop
from evaluate.report.svg import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b\ud800]]>"

finite = st.floats(min_value=-1e12, max_value=1e12)


def parse(markup: str) -> ET.Element:
    """Return the parsed chart: an SVG must be well-formed XML."""
    return ET.fromstring(markup)  # noqa: S314 - our own output


def scatter(
    points: list[Point], line: tuple[float, float] | None = None, *, named: bool = False
) -> ET.Element:
    """Return a parsed scatter plot of points."""
    return parse(
        charts.scatter(points, title="t", notes=("n",), description="d", x_label="x", line=line, named=named)
    )


def dots(rows: list[Row], maximum: float | None = None) -> ET.Element:
    """Return a parsed dot chart of rows."""
    return parse(charts.dots(rows, title="t", description="d", unit="bits", maximum=maximum))


def by_class(root: ET.Element, name: str) -> list[ET.Element]:
    """Return the elements of a class, in document order."""
    return [element for element in root.iter() if name in element.get("class", "").split()]


def numbers(element: ET.Element, *names: str) -> tuple[float, ...]:
    """Return attributes of an element as numbers."""
    return tuple(float(element.attrib[name]) for name in names)


def vertices(path: ET.Element) -> list[tuple[float, float]]:
    """Return the points that a path of straight lines goes through."""
    pairs = (pair.split() for pair in path.attrib["d"].removeprefix("M").split("L"))
    return [(float(x), float(y)) for x, y in pairs]


def tick_positions(root: ET.Element, anchor: str, axis: str) -> dict[float, float]:
    """Return the pixel of each tick label, by the value that it prints."""
    labels = (
        t for t in by_class(root, "tick") if t.get("text-anchor") == anchor and t.text not in {"x", "bits"}
    )
    return {float((t.text or "").replace("−", "-")): float(t.attrib[axis]) for t in labels}


def row(value: float, low: float | None = None, high: float | None = None, **options: str) -> Row:
    """Return a row of a dot chart."""
    return Row(
        group="g",
        label=options.get("label", "m"),
        detail=options.get("detail", ""),
        value=value,
        low=low,
        high=high,
    )


def test_projection_of_the_middle() -> None:
    """A third of the way through the domain is a third of the way through the pixels, either direction."""
    assert axes.project(2, (1, 4), (100, 400)) == pytest.approx(200)
    assert axes.project(2, (1, 4), (400, 100)) == pytest.approx(300)


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.38, 0.53, 3, [0.4, 0.45, 0.5]),
        (-3, 3, 6, [-3, -2, -1, 0, 1, 2, 3]),
        (0, 2.5, 4, [0, 1, 2]),
        (990, 1010, 4, [990, 995, 1000, 1005, 1010]),
    ],
)
def test_ticks_of_known_spans(low: float, high: float, count: int, expected: list[float]) -> None:
    """Ticks are the multiples of the smallest round step that are not too many."""
    assert axes.ticks(low, high, count)[1] == pytest.approx(expected)


@given(finite, st.floats(min_value=1e-6, max_value=1e12), st.integers(2, 12))
def test_ticks_are_round_and_inside(low: float, span: float, count: int) -> None:
    """A step is 1, 2 or 5 times a power of ten; ticks are its multiples, inside, and at most count + 1."""
    high = low + span
    if high - low < 1e-6 * max(abs(low), abs(high)):
        return
    step, values = axes.ticks(low, high, count)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in {1, 2, 5}
    assert len(values) <= count + 1
    slack = 1e-6 * step
    assert all(low - slack <= value <= high + slack for value in values)


def test_points_land_on_the_axes() -> None:
    """A point lies where the ticks of its two values meet."""
    root = scatter([Point(label="a", x=0, y=0), Point(label="b", x=2, y=40), Point(label="c", x=4, y=20)])
    x_ticks, y_ticks = tick_positions(root, "middle", "x"), tick_positions(root, "end", "y")
    for mark, (x, y) in zip(by_class(root, "mark"), [(0, 0), (2, 40), (4, 20)], strict=True):
        assert numbers(mark, "cx", "cy") == pytest.approx((x_ticks[x], y_ticks[y] - 4), abs=0.02)


def test_fit_line_runs_through_its_computed_ends() -> None:
    """The line joins the fitted values at the least and the greatest x of the points that are used."""
    line = (-2.0, 3.0)
    used = [Point(label=f"m{x}", x=x, y=-2 * x + 3) for x in (0.25, 0.5, 1.0)]
    root = scatter([*used, Point(label="out", x=1.4, y=2.9, used=False)], line)
    centres = [numbers(mark, "cx", "cy") for mark in by_class(root, "mark")]
    (fit,) = by_class(root, "fit")
    assert vertices(fit) == [pytest.approx(centres[i], abs=0.02) for i in (0, 2)]
    assert charts.fit_ends(line, [0.5, 0.25, 1.0]) == [(0.25, 2.5), (1.0, 1.0)]


def test_left_out_models_are_hollow_and_say_why() -> None:
    """A model outside the fit is drawn hollow, and its title names the reason."""
    root = scatter([Point(label="in", x=1, y=1), Point(label="out", x=2, y=2, used=False, note="leaked")])
    assert ["hollow" in mark.attrib["class"] for mark in by_class(root, "mark")] == [False, True]
    titles = [group.findtext(f"{SVG}title") for group in by_class(root, "point")]
    assert titles == ["in: 1, 1", "out: 2, 2 (left out of the fit: leaked)"]


def test_every_model_can_be_reached_and_is_named() -> None:
    """Each point takes the keyboard's focus and has its model in a title."""
    root = scatter([Point(label=f"m{i}", x=i, y=i) for i in range(4)])
    groups = by_class(root, "point")
    assert [group.get("tabindex") for group in groups] == ["0"] * 4
    assert all((group.findtext(f"{SVG}title") or "").startswith(f"m{i}: ") for i, group in enumerate(groups))


def sized(points: list[Point], curves: list[Curve] | None = None) -> ET.Element:
    """Return a parsed scatter plot of models by size."""
    drawn = charts.scatter(
        points, title="t", notes=("n",), description="d", x_label="x", curves=curves or [], counts=True
    )
    return parse(drawn)


def test_sizes_stand_on_a_logarithmic_axis() -> None:
    """Equal ratios are equal distances, and each model stands at the tick of its size."""
    sizes = [1e8, 2e8, 5e8, 1e9]
    root = sized([Point(label=f"m{i}", x=size, y=i) for i, size in enumerate(sizes)])
    places = [numbers(mark, "cx")[0] for mark in by_class(root, "mark")]
    labels = {
        t.text: float(t.attrib["x"]) for t in by_class(root, "tick") if t.get("text-anchor") == "middle"
    }
    assert {"100 M", "200 M", "500 M", "1 B"} <= set(labels)
    assert places == pytest.approx([labels[name] for name in ("100 M", "200 M", "500 M", "1 B")], abs=0.02)
    decade = places[3] - places[0]
    assert places[1] - places[0] == pytest.approx(decade * math.log10(2), abs=0.02)
    titles = [group.findtext(f"{SVG}title") for group in by_class(root, "point")]
    assert titles == ["m0: 100 M, 0", "m1: 200 M, 1", "m2: 500 M, 2", "m3: 1 B, 3"]


@given(st.floats(0, 14), st.floats(1e-3, 12), st.integers(3, 9))
def test_logarithmic_ticks_are_round_and_inside(low: float, span: float, count: int) -> None:
    """At most one more than asked for, ascending, inside; 1, 2 or 5 times a power of ten unless those are too few."""
    values = axes.log_ticks((low, low + span), count)
    assert len(values) <= count + 1
    assert values == sorted(set(values))
    assert all(low - 1e-6 <= math.log10(value) <= low + span + 1e-6 for value in values)
    if span > 1:
        assert len(values) >= 1
        assert {round(value / 10 ** math.floor(math.log10(value) + 1e-9), 6) for value in values} <= {1, 2, 5}


def test_sizes_close_together_still_have_ticks() -> None:
    """Where no round power lies between them, the ticks are of even distance."""
    assert axes.log_ticks((math.log10(494e6), math.log10(525e6)), 4) == pytest.approx([500e6, 510e6, 520e6])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (14.0, "14"),
        (2500, "2.5 k"),
        (135e6, "135 M"),
        (999.96e6, "1 B"),
        (1.7e9, "1.7 B"),
        (1.04e12, "1.04 T"),
    ],
)
def test_counts_have_units(value: float, shown: str) -> None:
    """A count keeps four significant digits, and never a thousand of one unit."""
    assert axes.count_label(value) == shown


def test_curves_go_through_their_points() -> None:
    """A course of a fit passes every model that lies on it, and the forms look different."""
    points = [Point(label=f"m{i}", x=10.0 ** (8 + i), y=3.0 * 2.0**-i) for i in range(4)]
    course = tuple((point.x, point.y) for point in points)
    root = sized(points, [Curve(kind="power", course=course), Curve(kind="log", course=course[:2])])
    centres = [numbers(mark, "cx", "cy") for mark in by_class(root, "mark")]
    power, log = by_class(root, "fit")
    assert vertices(power) == [pytest.approx(centre, abs=0.02) for centre in centres]
    assert len(vertices(log)) == 2
    assert (power.get("class"), log.get("class")) == ("fit power", "fit log")


def test_ceilings_stand_above_their_models() -> None:
    """A dash at the model's x and at the most that it could be, which its title tells."""
    root = scatter(
        [
            Point(label="a", x=0, y=0.2, ceiling=0.8),
            Point(label="b", x=1, y=0.4),
            Point(label="c", x=2, y=0.8),
        ]
    )
    (dash,) = by_class(root, "ceiling")
    first, _, third = (numbers(mark, "cx", "cy") for mark in by_class(root, "mark"))
    x1, y1, x2, y2 = numbers(dash, "x1", "y1", "x2", "y2")
    assert ((x1 + x2) / 2, y1, y2) == pytest.approx((first[0], third[1], third[1]), abs=0.02)
    titles = [group.findtext(f"{SVG}title") for group in by_class(root, "point")]
    assert titles == ["a: 0, 0.2, of at most 0.8", "b: 1, 0.4", "c: 2, 0.8"]


def drawn_profile(courses: list[Course]) -> ET.Element:
    """Return a parsed profile of courses."""
    return parse(profiles.profile(courses, title="t", notes=("n",), description="d", y_label="y"))


def test_profile_runs_through_its_layers() -> None:
    """Marks stand where the ticks of layer and value meet, the line joins them, and the dash is the ceiling."""
    stops = tuple(
        Stop(layer=layer, value=value, ceiling=1.0) for layer, value in ((0, 0.6), (2, 0.4), (4, 0.8))
    )
    root = drawn_profile([Course(label="m", stops=stops)])
    x_ticks, y_ticks = (
        {float(t.text or ""): float(t.attrib[axis]) for t in by_class(root, "tick") if t.get("text-anchor") == anchor
         and t.text != "layer"}
        for anchor, axis in (("middle", "x"), ("end", "y"))
    )  # fmt: skip
    centres = [numbers(mark, "cx", "cy") for mark in by_class(root, "mark")]
    expected = [(x_ticks[stop.layer], y_ticks[stop.value] - 4) for stop in stops]
    assert centres == [pytest.approx(place, abs=0.02) for place in expected]
    (line,), (ceiling,) = by_class(root, "profile"), by_class(root, "ceiling")
    assert vertices(line) == [pytest.approx(centre, abs=0.02) for centre in centres]
    assert [y for _, y in vertices(ceiling)] == pytest.approx([y_ticks[1.0] - 4] * 5, abs=0.02)
    assert [name.text for name in by_class(root, "name")] == ["ceiling", "m"]
    (group,) = by_class(root, "point")
    assert group.findtext(f"{SVG}title") == "m: 0.600 at layer 0, 0.800 at layer 4, of at most 1.000"
    assert group.get("tabindex") == "0"


def test_intervals_are_bands_over_neighbours() -> None:
    """Layers with intervals share a band from its low to its high ends; one that stands alone has a whisker."""
    stops = [Stop(layer=i, value=0.5, low=0.4, high=0.6) for i in range(6)]
    stops[3] = Stop(layer=3, value=0.5)
    stops[5] = Stop(layer=5, value=0.5)
    root = drawn_profile([Course(label="m", stops=tuple(stops))])
    centres = [numbers(mark, "cx", "cy") for mark in by_class(root, "mark")]
    (band,), (whisker,) = by_class(root, "band"), by_class(root, "whisker")
    outline = vertices(band)
    assert [x for x, _ in outline] == pytest.approx([centres[i][0] for i in (0, 1, 2, 2, 1, 0)], abs=0.02)
    assert all(y > centres[0][1] for _, y in outline[:3])
    assert all(y < centres[0][1] for _, y in outline[3:])
    assert [x for x, _ in vertices(whisker)] == pytest.approx([centres[4][0]] * 2, abs=0.02)


def test_lines_are_told_apart() -> None:
    """Each model has its name at its end, no two names overlap, and more than three have marks of two kinds."""
    courses = [
        Course(
            label=f"m{i}", stops=(Stop(layer=0, value=0.5), Stop(layer=9, value=0.5 + 0.001 * i, ceiling=0.9))
        )
        for i in range(6)
    ]
    root = drawn_profile(courses)
    names = by_class(root, "name")
    heights = sorted(numbers(name, "y")[0] for name in names)
    assert all(below - above >= 10 for above, below in itertools.pairwise(heights))
    assert {name.text for name in names if name.text != "ceiling"} == {
        *(f"● m{i}" for i in range(3)),
        *(f"○ m{i}" for i in range(3, 6)),
    }
    kinds = [line.get("class") for line in by_class(root, "profile")]
    assert len(set(kinds)) == 6


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 100), finite, finite, finite), min_size=1, max_size=3), max_size=25
    )
)
def test_profiles_stay_inside_the_drawing(given_courses: list[list[tuple[int, float, float, float]]]) -> None:
    """Whatever the values, marks, bands, ceilings and names lie inside the view box, and no number is none."""
    courses = [
        Course(
            label=f"model {i}",
            stops=tuple(
                Stop(layer=layer, value=a, low=min(a, b), high=max(a, b), ceiling=c)
                for layer, a, b, c in sorted(course)
            ),
        )
        for i, course in enumerate(given_courses)
    ]
    root = drawn_profile(courses)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    places = [numbers(mark, "cx", "cy") for mark in by_class(root, "mark")]
    places += [numbers(name, "x", "y") for name in by_class(root, "name")]
    for kind in ("band", "ceiling", "profile", "whisker"):
        places += [place for path in by_class(root, kind) for place in vertices(path)]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_names_never_overlap() -> None:
    """Written names keep clear of each other and of every point, and crowded ones are left away."""
    crowd = [Point(label=f"model-{i}", x=i % 5, y=i // 5 + 0.01 * i) for i in range(25)]
    root = scatter(crowd, named=True)
    names = by_class(root, "name")
    assert 0 < len(names) <= 25
    lines = sorted((float(name.attrib["y"]), float(name.attrib["x"]), name.text) for name in names)
    assert len({(y, x) for y, x, _ in lines}) == len(lines)
    lone = scatter([Point(label="lone", x=1, y=1)], named=True)
    assert [name.text for name in by_class(lone, "name")] == ["lone"]


@pytest.mark.parametrize("label", ["model-0", "i" * 9, "Qwen3-0.6B"])
def test_a_name_that_was_given_room_is_whole(label: str) -> None:
    """What was placed beside its point because it fits is not cut for a rounding error."""
    (name,) = by_class(scatter([Point(label=label, x=0.1, y=0.5)], named=True), "name")
    assert name.text == label


def test_dot_and_whisker_positions() -> None:
    """A dot lies at its value between the ticks, its whisker from the low to the high end."""
    root = dots([row(1.0, 0.5, 2.0)], maximum=4)
    ticks = tick_positions(root, "middle", "x")
    (mark,), (whisker,) = by_class(root, "mark"), by_class(root, "whisker")
    assert numbers(mark, "cx") == pytest.approx((ticks[1],), abs=0.02)
    quarter = (ticks[1] - ticks[0]) / 2
    start, end = whisker.attrib["d"].split("M")[1].split("H")
    assert float(start.split()[0]) == pytest.approx(ticks[0] + quarter, abs=0.02)
    assert float(end) == pytest.approx(ticks[2], abs=0.02)


def test_shape_tells_groups_apart_without_colour() -> None:
    """Diamonds are paths, circles circles, and a hollow mark says so."""
    root = dots(
        [
            Row(group="a", label="m", detail="", value=1),
            Row(group="b", label="c", detail="", value=2, shape="diamond", hollow=True),
        ]
    )
    marks = by_class(root, "mark")
    assert [mark.tag for mark in marks] == [f"{SVG}circle", f"{SVG}path"]
    assert "hollow" in marks[1].attrib["class"]
    assert [text.text for text in by_class(root, "title")] == ["a", "b"]


@pytest.mark.parametrize("values", [[], [0.0], [3.0], [0.7, 0.7, 0.7], [-1.0, 1.0], [1e-9, 1e12]])
def test_degenerate_data_is_drawn(values: list[float]) -> None:
    """No data, one value, equal values and extreme ones give a chart whose coordinates are all finite."""
    points = [Point(label=f"m{i}", x=value, y=value) for i, value in enumerate(values)]
    for root in (scatter(points, (1.0, 0.0), named=True), dots([row(value) for value in values])):
        assert len(by_class(root, "mark")) == len(values)
        assert not any("nan" in value or "inf" in value for e in root.iter() for value in e.attrib.values())


@given(st.lists(st.tuples(finite, finite), max_size=8), st.booleans())
def test_marks_stay_inside_the_drawing(values: list[tuple[float, float]], named: bool) -> None:
    """Whatever the values, every mark lies inside the view box."""
    root = scatter([Point(label="m", x=x, y=y) for x, y in values], named=named)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for mark in by_class(root, "mark"):
        x, y = numbers(mark, "cx", "cy")
        assert 0 <= x <= width
        assert 0 <= y <= height


@pytest.mark.parametrize(("width", "n_lines"), [(180, 2), (380, 1)])
def test_what_is_read_off_a_point_is_whole(width: int, n_lines: int) -> None:
    """Name and values, on two lines where the chart is narrow."""
    point = Point(label="Deepseek-coder-33b", x=0.21534, y=0.5813)
    drawn = charts.scatter([point], title="t", notes=(), description="d", width=width)
    (group,) = (g for g in parse(drawn).iter(f"{SVG}g"))
    (shown,) = (text for text in group.iter(f"{SVG}text") if text.get("class") == "readout")
    lines = [span.text or "" for span in shown]
    assert (" ".join(lines), len(lines)) == ("Deepseek-coder-33b: 0.2153, 0.5813", n_lines)


def test_hostile_text_stays_text() -> None:
    """Markup, quotes and characters that XML forbids come out as text, in every place that data reaches."""
    drawn = (
        charts.scatter(
            [Point(label=HOSTILE, x=1, y=1, used=False, note=HOSTILE)],
            title=HOSTILE,
            notes=(HOSTILE,),
            description=HOSTILE,
            x_label=HOSTILE,
            y_label=HOSTILE,
            named=True,
        )
        + charts.dots(
            [Row(group=HOSTILE, label=HOSTILE, detail=HOSTILE, value=1, low=1, high=1)],
            title=HOSTILE,
            description=HOSTILE,
            unit=HOSTILE,
        )
        + profiles.profile(
            [Course(label=HOSTILE, stops=(Stop(layer=0, value=1.0),))],
            title=HOSTILE,
            notes=(HOSTILE,),
            description=HOSTILE,
            y_label=HOSTILE,
        )
    )
    root = parse(f"<div>{drawn}</div>")
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "div", "svg", "title", "desc", "text", "tspan", "line", "g", "circle", "rect", "path",
    }  # fmt: skip
    texts = " ".join(root.itertext())
    assert "<script>alert(1)</script>" in texts
    assert "\x00" not in drawn
    drawn.encode()


@given(st.text(max_size=60))
def test_any_label_gives_well_formed_markup(label: str) -> None:
    """A label of any characters leaves the chart well-formed and encodable."""
    drawn = charts.dots([row(1.0, label=label, detail=label)], title=label, description="d", unit="u")
    parse(drawn)
    drawn.encode()


@given(st.text(max_size=80), st.integers(10, 200))
def test_shortened_text_is_a_prefix(text: str, room: int) -> None:
    """Text that is too wide is cut at the end and marked; text that fits is left alone."""
    short = svg.shorten(text, room, 11)
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
    assert svg.shorten("gzip", 100, 12) == "gzip"


def test_same_data_same_bytes() -> None:
    """A chart depends on its arguments alone."""
    points = [Point(label=f"m{i}", x=i, y=i * i) for i in range(9)]
    first, second = (
        charts.scatter(points, title="t", notes=(), description="d", line=(1, 0), named=True)
        for _ in range(2)
    )
    assert first == second


def test_standalone_file_has_its_own_colours() -> None:
    """A chart made for use as an image is a whole SVG file: no variable, no reference, both palettes."""
    image = svg.standalone(charts.dots([row(1.0)], title="t", description="d", unit="u"))
    root = parse(image)
    x, y, width, height = map(float, root.attrib["viewBox"].split())
    assert (x, y) == (-svg.MARGIN, -svg.MARGIN)
    assert (width, height) == numbers(root, "width", "height")
    assert "var(" not in image
    assert "http" not in image.replace("http://www.w3.org/2000/svg", "")
    assert LIGHT["accent"] in image
    assert DARK["accent"] in image


def luminance(colour: str) -> float:
    """Return the relative luminance of a hex colour (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_contrast_meets_aa(palette: dict[str, str]) -> None:
    """Every colour that text or marks take stands out from the paper by at least 4.5 to 1 (WCAG AA)."""
    paper = luminance(palette["paper"])
    for name in ("ink", "muted", "accent", "second"):
        lighter, darker = sorted((paper, luminance(palette[name])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, name
