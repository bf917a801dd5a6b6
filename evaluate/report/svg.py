"""SVG markup that every chart is made of: colours for light and dark, elements, text that fits.

A drawing takes its colours from the page around it, through the CSS variables of `STYLE`;
`standalone` writes them into the file for use as an image. Every text that comes from data is
escaped. Drawing units equal CSS pixels where a chart is shown at its natural width.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from html import escape
from itertools import accumulate

LIGHT = {
    "paper": "#fcfbf8",
    "ink": "#1d1c1a",
    "muted": "#5f5c56",
    "rule": "#dfdbd2",
    "accent": "#0b5a84",
    "second": "#a2461a",
}
DARK = {
    "paper": "#15171a",
    "ink": "#e9e6e0",
    "muted": "#a9a59d",
    "rule": "#34373c",
    "accent": "#7fc1e8",
    "second": "#f0a570",
}

MARGIN = 16  # around a chart that is a file of its own
BOLD = 15  # titles are 13 units high, and as wide as plain text of 15

_RULES = """
.chart text { fill: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.chart .title { font-weight: 600; font-size: 13px; }
.chart .note, .chart .tick, .chart .name, .chart .readout { font-size: 11px; fill: var(--muted); }
.chart .name { font-size: 10px; }
.chart .name.first { fill: var(--accent); }
.chart .name.second { fill: var(--second); }
.chart .name.third { fill: var(--ink); }
.chart .name, .chart .readout { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .leader { stroke: var(--rule); stroke-width: 1; stroke-dasharray: 1 3; }
.chart .fit { fill: none; stroke: var(--second); stroke-width: 1.75; }
.chart .fit.power { stroke-dasharray: 7 4; }
.chart .profile { fill: none; stroke: var(--accent); stroke-width: 1.75; }
.chart .profile.second { stroke: var(--second); }
.chart .profile.third { stroke: var(--ink); }
.chart .ceiling { fill: none; stroke: var(--muted); stroke-width: 1.25; stroke-dasharray: 4 3; }
.chart .ceiling.first { stroke: var(--accent); }
.chart .ceiling.second { stroke: var(--second); }
.chart .ceiling.third { stroke: var(--ink); }
.chart .band { fill: var(--accent); opacity: 0.15; }
.chart .band.second { fill: var(--second); }
.chart .band.third { fill: var(--ink); }
.chart .whisker { stroke: var(--ink); stroke-width: 1.25; fill: none; }
.chart .mark { stroke-width: 1.5; fill: var(--accent); stroke: var(--accent); }
.chart .mark.second { fill: var(--second); stroke: var(--second); }
.chart .mark.third { fill: var(--ink); stroke: var(--ink); }
.chart .mark.hollow { fill: var(--paper); }
.chart .hit { fill: transparent; }
.chart .reach { fill: none; stroke: transparent; stroke-width: 14; }
.chart .paper { fill: var(--paper); }
.chart .readout { opacity: 0; fill: var(--ink); }
.chart .point:hover .readout, .chart .point:focus .readout { opacity: 1; }
.chart .point:focus { outline: none; }
.chart .point:hover .mark, .chart .point:focus .mark { stroke: var(--ink); stroke-width: 3; }
.chart .point:hover .profile, .chart .point:focus .profile { stroke-width: 3.5; }
"""


# Of charts that are never a file of their own.
_PAGE_RULES = """.chart .cutoff { stroke: var(--ink); stroke-width: 1.25; }
.chart .cutoff.bound { stroke-dasharray: 5 3; }
.chart .profile.apart { stroke-dasharray: 2 4; }
.chart .whisker.first { stroke: var(--accent); }
.chart .whisker.second { stroke: var(--second); }
"""


def _variables(palette: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


# Print takes the light palette whatever the screen prefers: nobody wants a black sheet.
STYLE = (
    f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}{_RULES}{_PAGE_RULES}"
)


def standalone(svg: str) -> str:
    """Return a chart as a file of its own, for use as an image: its style inside, and a background.

    The colours stand in the rules as literals, because viewers other than browsers know no variables.
    """
    style = f"{_literal(LIGHT)}\n@media (prefers-color-scheme: dark) {{{_literal(DARK)}\n}}"
    head, body = svg.split(">", 1)
    width, height = (float(size) + 2 * MARGIN for size in head.rstrip('"').split()[-2:])
    head = head[: head.index(" viewBox")]
    return (
        f'{head} width="{number(width)}" height="{number(height)}" '
        f'viewBox="-{MARGIN} -{MARGIN} {number(width)} {number(height)}">'
        f"\n<style>{style}</style>\n"
        f'<rect class="paper" x="-{MARGIN}" y="-{MARGIN}" width="100%" height="100%"/>{body}\n'
    )


def _literal(palette: dict[str, str]) -> str:
    return re.sub(r"var\(--(\w+)\)", lambda variable: palette[variable[1]], _RULES)


def drawing(width: int, height: float, title: str, description: str, body: Sequence[str]) -> str:
    """Return a chart with its title and description for those who do not see it."""
    inside = "\n".join(body)
    frame = f"0 0 {width} {number(height)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="group" viewBox="{frame}">'
        f"<title>{escaped(title)}</title><desc>{escaped(description)}</desc>\n{inside}\n</svg>"
    )


def line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a straight line of a class of `STYLE`."""
    x1, y1, x2, y2 = map(number, (*start, *end))
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def path(kind: str, points: Sequence[tuple[float, float]]) -> str:
    """Return straight lines from point to point, of a class of `STYLE`."""
    return f'<path class="{kind}" d="M{"L".join(f"{number(x)} {number(y)}" for x, y in points)}"/>'


def text(content: str, x: float, y: float, kind: str, room: float, size: float, anchor: str = "start") -> str:
    """Return a text of a class of `STYLE`, shortened to `room` units at its font size."""
    return (
        f'<text class="{kind}" x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">'
        f"{escaped(shorten(content, room, size))}</text>"
    )


def shorten(text: str, room: float, size: float) -> str:
    """Return the text, cut with an ellipsis where it would be wider than `room` at this font size."""
    widths = list(accumulate(size * _em(character) for character in text))
    if not text or widths[-1] <= room:
        return text
    return text[: bisect_right(widths, room - size * _em("…"))].rstrip() + "…"


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text, for DejaVu Sans: of the usual system fonts it is the widest."""
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    if not character.isascii():
        return 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.95
    if character in "MWmw@%<>=+~":
        return 1.0
    if character.isupper():
        return 0.76
    return 0.42 if character in " .,:;|!'()[]fijlrtI-/" else 0.65


def escaped(text: str) -> str:
    """Escape for markup, and replace what XML forbids even when escaped (control characters, surrogates)."""
    return escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
