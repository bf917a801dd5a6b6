"""Axes of charts: domains, round ticks, what stands at them and what is read off them, as pure functions."""

import math
from collections.abc import Iterable

from evaluate.report import svg

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


def tick_label(value: float, step: float) -> str:
    """Return what stands at a tick: as many decimals as its step has."""
    if not 1e-6 <= step < 1e9:
        return f"{value:.3g}".replace("-", "−")
    return f"{value + 0.0:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")


def log_ticks(domain: tuple[float, float], count: int) -> list[float]:
    """Return round values whose decimal logarithms lie in a domain: 1, 2 or 5 times powers of ten, at most `count`.

    Where more fit, powers of ten alone; where fewer than two do, values of even distance.
    """
    low, high = domain
    powers = range(math.floor(low), math.ceil(high) + 1)
    fine, coarse = (
        [f * 10.0**k for k in powers for f in factors if low <= math.log10(f) + k <= high]
        for factors in ((1, 2, 5), (1,))
    )
    if len(fine) < 2:
        return ticks(10.0**low, 10.0**high, count)[1]
    values = fine if len(fine) <= count or len(coarse) < 2 else coarse
    return values[:: math.ceil(len(values) / count)]


def count_label(value: float) -> str:
    """Return a large count with its unit, such as 135 M for 135 million; B are thousand millions."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.99995 * size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"


def tick_below(text: str, x: float, y: float, width: float) -> str:
    """Return the text of a tick below its place, moved where it would leave the drawing."""
    half = svg.text_width(text, 11) / 2
    return svg.text(text, min(max(x, half), width - half), y, "tick", width, 11, "middle")


def readout(name: str, values: str, y: float, width: float) -> str:
    """Return what shows of a mark that has the focus, at the right: on two lines where one is too short."""
    whole, room = f"{name}: {values}", width - 4
    lines = [whole] if svg.text_width(whole, 11) <= room else [f"{name}:", values]
    spans = (
        f'<tspan x="{svg.number(width - 2)}" y="{svg.number(y + 13 * i)}">{svg.escaped(svg.shorten(line, room, 11))}'
        "</tspan>"
        for i, line in enumerate(lines)
    )
    return f'<text class="readout" text-anchor="end">{"".join(spans)}</text>'
