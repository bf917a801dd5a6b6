"""How surprising a model found a text: its characters, shaded by the bits that each has cost."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from markupsafe import Markup

from evaluate.passage_cells import Passage, Piece

# Bits per character at which a darker shade begins: each is twice the one before.
STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

# One shade for each step, in equal steps of lightness in OKLCH, from the paper on. The ink of the page has a
# contrast of 4.5 or more against all of them.
LIGHT = ("#f5e7d3", "#f1d3af", "#eebe8d", "#eca76c", "#ea8e4c", "#e7732b")
DARK = ("#2b1e15", "#3e2615", "#522c16", "#673216", "#7c3818", "#933d1c")

_SHAPELESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0100-\U000e01ef]"
)

_COSTLIEST = 8
_BEFORE = 24  # characters that are shown before a costly piece


def _variables(shades: Sequence[str]) -> str:
    return " ".join(f"--s{i}: {shade};" for i, shade in enumerate(shades, 1))


_SHADES = "\n".join(f".s{i} {{ background: var(--s{i}); }}" for i in range(1, len(STEPS) + 1))
STYLE = f"""
:root {{ {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
{_SHADES}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costly:
    """A piece that cost much, behind what the model had just read."""

    before: Markup
    text: Markup
    bits: float
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaded:
    """A passage as one model found it.

    Attributes:
        passage: what was compressed.
        summary: in a sentence, what it cost and how evenly.
        text: every piece of it, shaded.
        costliest: those with the most bits, first the most.
    """

    passage: Passage
    summary: str
    text: Markup
    costliest: tuple[Costly, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All passages as one model found them."""

    model: str
    passages: tuple[Shaded, ...]


def views(passages: Sequence[Passage], names: Mapping[str, str]) -> tuple[View, ...]:
    """Return how surprising each language model found its passages; compressors do not say.

    Args:
        passages: of all models.
        names: what to call them, by key in params.yaml.
    """
    by_model: dict[str, list[Shaded]] = {}
    for passage in passages:
        if not passage.classical:
            by_model.setdefault(passage.model, []).append(_shaded(passage))
    return tuple(View(model=names.get(model, model), passages=tuple(own)) for model, own in by_model.items())


def legend() -> list[tuple[int, str]]:
    """Return each shade and the bits per character that it stands for."""
    bounds = [f"{step:g}" for step in STEPS]
    between = [f"{low} to {high}" for low, high in pairwise(bounds)]
    return list(enumerate([f"below {bounds[0]}", *between, f"{bounds[-1]} or more"]))


def shade(piece: Piece) -> int:
    """Return how many steps the bits per character of a piece have reached, 0 for none."""
    return sum(piece.rate >= step for step in STEPS)


def half(pieces: Sequence[Piece]) -> float:
    """Return the share of the characters that has cost half of all bits, whole pieces, the dearest first."""
    rest, characters = sum(piece.bits for piece in pieces) / 2, 0
    for piece in sorted(pieces, key=lambda piece: -piece.rate):
        if rest <= 0:
            break
        rest -= piece.bits
        characters += len(piece.text)
    return characters / sum(len(piece.text) for piece in pieces)


def shown(text: str) -> Markup:
    """Return a text as markup: line ends marked, and characters that cannot be seen by their numbers.

    What turns the direction of text, or has no glyph, would else hide or disguise what was compressed.
    """
    return Markup("").join(map(_character, text))


def _character(character: str) -> Markup:
    if character == "\n":
        return Markup('<i aria-hidden="true">↵</i>\n')
    kind = unicodedata.category(character)
    # Joiners shape the letters and emoji around them; some letters, marks and symbols have no shape at all.
    if (
        kind in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} and character not in "\t\u200c\u200d"
    ) or _SHAPELESS.match(character):
        return Markup(f"<i>[U+{ord(character):04X}]</i>")  # noqa: S704 - a number
    return Markup(escape(character))  # noqa: S704 - escaped


def _shaded(passage: Passage) -> Shaded:
    pieces = passage.pieces
    bits = sum(piece.bits for piece in pieces)
    even = f", half of them for {half(pieces):.0%} of the characters".replace("%", " %") if bits else ""
    return Shaded(
        passage=passage,
        summary=f"{passage.n_characters:,} characters in {len(pieces):,} pieces for {bits:,.0f} bits{even}.",
        text=Markup("").join(map(_span, pieces)),
        costliest=tuple(_costliest(pieces)),
    )


def _span(piece: Piece) -> Markup:
    level = shade(piece)
    kind = f' class="s{level}"' if level else ""
    said = f"{piece.bits:.2f} bits" + (f", {piece.rate:.2f} per character" if len(piece.text) > 1 else "")
    return Markup(f'<span{kind} title="{said}">{shown(piece.text)}</span>')  # noqa: S704 - `shown` escapes


def _costliest(pieces: Sequence[Piece]) -> list[Costly]:
    text = "".join(piece.text for piece in pieces)
    begins, at = [], 0
    for piece in pieces:
        begins.append(at)
        at += len(piece.text)
    order = sorted(range(len(pieces)), key=lambda i: (-pieces[i].bits, i))[:_COSTLIEST]
    return [
        Costly(
            before=shown(text[max(0, begins[i] - _BEFORE) : begins[i]]),
            text=shown(pieces[i].text),
            bits=pieces[i].bits,
            rate=pieces[i].rate,
        )
        for i in order
    ]
