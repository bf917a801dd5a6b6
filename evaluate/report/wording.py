"""What the page says in words: its findings, notes to a row, and figures with their signs and intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluate.report.measurements import Measurement, Neighbours
from evaluate.report.records import Fit, Law, Prediction, ScalingFit, Score, Unmatched

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A computed sentence of what the page says; `figure` is its number, set large."""

    topic: str
    figure: str
    text: str


def fresh(savings: Sequence[tuple[str, float]], unknown: int = 0) -> Iterator[Finding]:
    """Say what the best language model saves against the best compressor.

    Args:
        savings: (corpus, share of bits saved), negative where the language model needs more.
        unknown: of these corpora, those on which nobody says when that model's training text ends.
    """
    if not savings:
        return
    known = sorted((saving, name) for name, saving in savings)
    ends = list(dict.fromkeys((known[-1], known[0])))
    wins = sum(saving > 0 for saving, _ in known)
    where = ", ".join(f"{compared(saving)} on {name}" for saving, name in ends)
    told = f" The training cutoff of the best is unknown on {unknown} of {len(known)}." if unknown else ""
    yield Finding(
        topic="Fresh text",
        figure=" to ".join(dict.fromkeys(_percent(-saving, 0) for saving, _ in ends)),
        text=f"The best language model needs fewer bits than the best classical compressor on {wins} of "
        f"{len(known)} {'corpora' if len(known) > 1 else 'corpus'}: {where}.{told}",
    )


def reproduced(fits: Sequence[Fit], law: Sequence[Law]) -> Iterator[Finding]:
    """Say how the published law came out when computed again."""
    done = [abs(row.difference) for row in law if row.difference is not None]
    told = f" Of {len(law)} figures that the paper prints, {len(done)} were recomputed"
    told += f"; the largest difference of r is {max(done):.3f}." if done else "."
    for fit in fits:
        if fit.area == "overall" and not fit.refused:
            yield Finding(
                topic="The published law",
                figure=f"r = {signed(fit.pearson)}",
                text=_correlation(fit, "published") + (told if law else ""),
            )


def measured(
    fits: Sequence[Fit], unmatched: Sequence[Unmatched], unknown: Mapping[Fit, int]
) -> Iterator[Finding]:
    """Say what the fits of models measured here show, or why there is none.

    Args:
        fits: of one form.
        unmatched: scored models that enter none.
        unknown: models of unknown cutoff in each fit.
    """
    done = [fit for fit in fits if not fit.refused]
    topic = "The law on fresh text"
    if done:
        # The most models, not the strongest correlation: the latter would select what it reports.
        most = max(done, key=lambda fit: fit.n)
        told = f" The training cutoff of {unknown[most]} of them is unknown." if unknown[most] else ""
        text = _correlation(most, "measured") + told
        yield Finding(topic=topic, figure=f"r = {signed(most.pearson)}", text=text)
    elif fits:
        reasons = "; ".join(sorted({fit.refused for fit in fits}))
        text = (
            f"No published benchmark score can be fitted against bits per character measured here: {reasons}."
        )
        yield Finding(topic=topic, figure="no fit", text=text)
    elif unmatched:
        text = f"{len(unmatched)} measured models enter no fit; the reason for each stands below."
        yield Finding(topic=topic, figure="no fit", text=text)


def order(pairs: Sequence[Neighbours]) -> str:
    """Say for how many neighbours the order of the rankings is beyond doubt; empty without any."""
    if not pairs:
        return ""
    apart = sum(pair.apart for pair in pairs)
    return (
        f"{apart or 'None'} of {len(pairs)} pair{'' if len(pairs) == 1 else 's'} of neighbours "
        f"{'are' if apart > 1 else 'is'} told apart in this order, by a 95 % interval of the difference that "
        "lies above 0."
    )


def note(row: Measurement) -> str:
    """Say what makes a rate less than exact and complete; empty where it is both."""
    score = row.score
    said = []
    if score.n_unscored_documents:
        known = "" if score.low is None else ", interval of the whole corpus’s rate"
        said.append(
            f"{score.n_documents:,} of {_documents(score.n_documents + score.n_unscored_documents)}{known}"
        )
    if row.approximate:
        said.append(_deviation(score))
    return "; ".join(said)


def badge(score: Score) -> str:
    """Say what is amiss with the freshness of a score; empty where its corpus postdates the model's cutoff."""
    if score.freshness == "unknown":
        return "cutoff unknown"
    if score.freshness == "not-after":
        shown = "is not shown to" if score.cutoff_evidence == "release" else "does not"
        return f"{shown} postdate the cutoff"
    return ""


def compared(saving: float) -> str:
    """Say how many bits are saved, or needed more, such as `55.0 % fewer`."""
    return f"{abs(saving):.1%} {'fewer' if saving >= 0 else 'more'}".replace("%", " %")


def signed(value: float | None, digits: int = 3, *, plus: bool = False) -> str:
    """Return a figure with a proper minus, and with a plus if wanted; empty for None."""
    if value is None:
        return ""
    # What rounds to nothing has no sign to show.
    return f"{round(value, digits) + 0.0:{'+' if plus else ''}.{digits}f}".replace("-", "−")


def significant(value: float | None, digits: int) -> str:
    """Return a figure of any size to so many significant digits, with a proper minus; a dash for None."""
    if value is None:
        return "–"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        power = math.floor(math.log10(abs(value))) if value else 0
        return f"{value + 0.0:,.{max(0, digits - 1 - power)}f}".replace("-", "−")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(_RAISED)}".replace("-", "−")


def interval(fit: Fit | ScalingFit | Prediction) -> str:
    """Return the correlation of a fit, with its interval where there is one."""
    bounds = (fit.pearson_low, fit.pearson_high)
    return f"r = {signed(fit.pearson)}" + ("" if None in bounds else f" [{', '.join(map(signed, bounds))}]")


def protocol(name: str) -> str:
    """Return what to call a protocol."""
    return {"document": "per document", "stream": "one stream"}.get(name, name)


def _deviation(score: Score) -> str:
    if score.deviation is None:
        return "sink was not compared with full here"
    bounds = [
        signed(100 * b, 2, plus=True) for b in (score.deviation_low, score.deviation_high) if b is not None
    ]
    between = f" [{', '.join(bounds)}]" if bounds else ""
    return f"sink deviates by {_percent(score.deviation, 2)}{between} from full, on {_documents(score.n_deviation)}"


def _correlation(fit: Fit, kind: str) -> str:
    bounds = [signed(bound) for bound in (fit.pearson_low, fit.pearson_high) if bound is not None]
    between = f", 95 % interval {' to '.join(bounds)}" if bounds else ""
    return f"Pearson correlation of {fit.y} with bits per character ({fit.x}) over {fit.n} {kind} models{between}."


def _documents(n: int) -> str:
    return f"{n:,} document{'' if n == 1 else 's'}"


def _percent(share: float, digits: int) -> str:
    return f"{signed(100 * share, digits, plus=True)} %"
