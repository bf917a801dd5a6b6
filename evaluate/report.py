"""The page: what was measured, on which data, and what it says. One file that loads nothing.

Everything on it is computed from the files that the pipeline writes; no number and no verdict stands
in the template. Its bytes depend on those files alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from collectors.document import UserError, replacing
from evaluate import charts, svg
from evaluate.results import (
    CorpusFacts,
    Fit,
    Law,
    Observation,
    ReportData,
    Score,
    Unmatched,
    broken,
    read,
    table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The rates of one model on one corpus under one protocol.

    Attributes:
        score: the row in bits per character, which holds interval and provenance.
        value: bits per character.
        bits_per_byte: None where scores.csv has no such row.
        bits_per_token: likewise; a compressor has no tokens.
    """

    score: Score
    value: float
    bits_per_byte: float | None
    bits_per_token: float | None

    @property
    def classical(self) -> bool:
        """Whether a general-purpose compressor was measured, not a language model."""
        return self.score.backend == "compressors"

    @property
    def name(self) -> str:
        """What to call the model: its published name, or its key in params.yaml."""
        return self.score.name or self.score.model

    @property
    def short(self) -> str:
        """The name without the organisation before it, for charts and narrow tables."""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One corpus on the page.

    Attributes:
        rows: language models, then compressors, each from fewest bits per character.
        saving: share of bits that the best language model saves against the best compressor,
            negative where it needs more; None without both.
        summary: the same in a sentence.
    """

    corpus: CorpusFacts
    rows: tuple[Measurement, ...]
    saving: float | None
    summary: str
    chart: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A computed sentence of what the page says; `figure` is its number, set large."""

    topic: str
    figure: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A fit, its scatter plot, and its kind in law.csv, empty for what the paper does not print."""

    fit: Fit
    kind: str
    chart: Markup


def render(data: ReportData) -> str:
    """Return the page as HTML: self-contained, without script, the same bytes for the same data.

    Raises:
        UserError: when a model has a rate but no bits per character.
    """
    sections = _sections(data)
    published, measured = (_linear(data.fits, dataset) for dataset in ("published", "measured"))
    kinds = {(row.benchmark, row.corpus): row.kind for row in data.law}
    plots = [_plot(fit, data.points, kinds.get((fit.y, fit.x), "")) for fit in published if not fit.refused]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"signed": _signed, "protocol": _protocol, "interval": _interval}
    return environment.get_template("report.html.jinja").render(
        data=data,
        sections=sections,
        findings=[*_fresh(sections), *_reproduced(published, data.law), *_measured(measured, data.unmatched)],
        law=plots,
        measured=[_plot(fit, data.points, "measured") for fit in measured if not fit.refused],
        refused=[fit for fit in measured if fit.refused],
        style=Markup(svg.STYLE),  # noqa: S704 - a constant
    )


def write(results: Path, corpora: Path, names: Sequence[str], out: Path) -> None:
    """Read the inputs, render the page and move it into place.

    Raises:
        UserError: when an input is missing or broken.
    """
    page = render(read(results, corpora, names))
    with replacing(out) as temporary:
        # A lone surrogate, which JSON can spell, has no UTF-8.
        temporary.write_bytes(page.encode(errors="replace"))


def law_figure(results: Path) -> str:
    """Return the overall law, mean benchmark score against mean bits per character, as an SVG file.

    Raises:
        UserError: when fits.csv or points.csv is missing or broken, or holds no overall fit.
    """
    path = results / "fits.csv"
    fit = next((fit for fit in _linear(table(path, Fit), "published") if fit.area == "overall"), None)
    if fit is None or fit.refused:
        raise broken(path, "it holds no linear fit of the published scores over all areas")
    return svg.standalone(
        _scatter(
            fit,
            table(results / "points.csv", Observation),
            title="Benchmark scores against bits per character",
            notes=(
                f"{fit.n} models: Pearson {_interval(fit)} (95 %), RMSE {_signed(fit.rmse)}",
                "Source: Huang et al. 2024, Tables 4, 6, 8",
            ),
            x_label="bits per character, mean of three corpora (fewer is better)",
            y_label="mean score, from 0 to 1",
            width=720,
            height=440,
            named=True,
        )
    )


def measurements(scores: Iterable[Score]) -> list[Measurement]:
    """Gather the finite rates of each model: by corpus, language models first, from fewest bits.

    Raises:
        UserError: when a model has no row in bits per character.
    """
    cells: dict[tuple[str, ...], dict[str, Score]] = {}
    for score in scores:
        cells.setdefault((score.corpus, score.model, score.protocol), {})[score.metric] = score
    found = []
    for (corpus, model, _), rates in cells.items():
        if "bits_per_character" not in rates:
            raise UserError(
                f"scores.csv has no bits_per_character of {model} on {corpus}; rebuild it with `dvc repro`"
            )
        values = {metric: rate.value for metric, rate in rates.items()}
        if (value := values["bits_per_character"]) is not None:
            found.append(
                Measurement(
                    score=rates["bits_per_character"],
                    value=value,
                    bits_per_byte=values.get("bits_per_byte"),
                    bits_per_token=values.get("bits_per_token"),
                )
            )
    return sorted(
        found, key=lambda m: (m.score.corpus, m.classical, m.value, m.score.model, m.score.protocol)
    )


def _sections(data: ReportData) -> list[Section]:
    rows = measurements(data.scores)
    maximum = max((max(row.value, row.score.high or 0.0) for row in rows), default=1.0)
    return [
        _section(
            corpus,
            tuple(row for row in rows if row.score.corpus == corpus.name),
            sorted({s.name or s.model for s in data.scores if s.corpus == corpus.name and s.value is None}),
            maximum,
        )
        for corpus in data.corpora
    ]


def _section(
    corpus: CorpusFacts, rows: tuple[Measurement, ...], infinite: Sequence[str], maximum: float
) -> Section:
    model = next((row for row in rows if not row.classical), None)
    rival = next((row for row in rows if row.classical), None)
    saving = 1 - model.value / rival.value if model and rival and rival.value else None
    if model and rival and saving is not None:
        summary = (
            f"{model.name} needs {model.value:.3f} bits per character, {_compared(saving)} than the best "
            f"classical compressor, {rival.name} ({_protocol(rival.score.protocol)}), with {rival.value:.3f}."
        )
    elif rows:
        summary = f"{rows[0].name} needs the fewest bits per character here: {rows[0].value:.3f}."
    else:
        summary = "There is no rate to show for this corpus yet."
    if infinite:
        summary += f" Not shown, because their bits are not finite: {', '.join(infinite)}."
    chart = charts.dots(
        [_row(row, rows) for row in rows],
        title=f"Bits per character on {corpus.name}",
        description=f"{summary} The table lists every value.",
        unit="bits per character, fewer is better",
        maximum=maximum,
    )
    # The charts escape what comes from data.
    return Section(corpus=corpus, rows=rows, saving=saving, summary=summary, chart=Markup(chart))  # noqa: S704


def _row(row: Measurement, rows: Sequence[Measurement]) -> charts.Row:
    several = len({other.score.protocol for other in rows if other.score.model == row.score.model}) > 1
    return charts.Row(
        group="Classical compressors" if row.classical else "Language models",
        label=row.short,
        detail=_protocol(row.score.protocol) if several or row.classical else "",
        value=row.value,
        low=row.score.low,
        high=row.score.high,
        shape="diamond" if row.classical else "circle",
        hollow=row.score.protocol == "stream",
    )


def _linear(fits: Sequence[Fit], dataset: str) -> list[Fit]:
    # A pair that no form fits is one row without a form.
    return [fit for fit in fits if fit.dataset == dataset and (fit.form == "linear" or not fit.form)]


def _plot(fit: Fit, points: Sequence[Observation], kind: str) -> Plot:
    large = kind in {"main", "measured"}
    chart = _scatter(
        fit,
        points,
        title=fit.y,
        notes=(_interval(fit), f"RMSE {_signed(fit.rmse)}, n = {fit.n}"),
        x_label=f"bits per character, {fit.x}" if large else fit.x,
        y_label="score, from 0 to 1" if large else "",
        width=360 if large else 180,
        height=310 if large else 204,
        named=large,
    )
    return Plot(fit=fit, kind=kind, chart=Markup(chart))  # noqa: S704 - charts escape what comes from data


def _scatter(fit: Fit, points: Sequence[Observation], **options: Any) -> str:
    own = [point for point in points if (point.dataset, point.x, point.y) == (fit.dataset, fit.x, fit.y)]
    line = None if fit.slope is None or fit.intercept is None else (fit.slope, fit.intercept)
    return charts.scatter(
        [
            charts.Point(label=p.model, x=p.x_value, y=p.y_value, used=p.used, note=p.reason)
            for p in sorted(own, key=lambda p: (p.x_value, p.model))
        ],
        description=f"{fit.y} against bits per character on {fit.x} for {len(own)} models, {fit.n} of them in the fit.",
        line=line,
        **options,
    )


def _fresh(sections: Sequence[Section]) -> Iterator[Finding]:
    known = sorted((s.saving, s.corpus.name) for s in sections if s.saving is not None)
    if not known:
        return
    ends = list(dict.fromkeys((known[-1], known[0])))
    wins = sum(saving > 0 for saving, _ in known)
    where = ", ".join(f"{_compared(saving)} on {name}" for saving, name in ends)
    yield Finding(
        topic="Fresh text",
        figure=" to ".join(dict.fromkeys(_percent(saving) for saving, _ in ends)),
        text=f"The best language model needs fewer bits than the best classical compressor on {wins} of "
        f"{len(known)} {'corpora' if len(known) > 1 else 'corpus'}: {where}.",
    )


def _reproduced(fits: Sequence[Fit], law: Sequence[Law]) -> Iterator[Finding]:
    done = [abs(row.difference) for row in law if row.difference is not None]
    compared = f" Of {len(law)} figures that the paper prints, {len(done)} were recomputed"
    compared += f"; the largest difference of r is {max(done):.3f}." if done else "."
    for fit in fits:
        if fit.area == "overall" and not fit.refused:
            yield Finding(
                topic="The published law",
                figure=f"r = {_signed(fit.pearson)}",
                text=_correlation(fit, "published") + (compared if law else ""),
            )


def _measured(fits: Sequence[Fit], unmatched: Sequence[Unmatched]) -> Iterator[Finding]:
    done = [fit for fit in fits if not fit.refused]
    topic = "The law on fresh text"
    if done:
        # The most models, not the strongest correlation: the latter would select what it reports.
        most = max(done, key=lambda fit: fit.n)
        yield Finding(topic=topic, figure=f"r = {_signed(most.pearson)}", text=_correlation(most, "measured"))
    elif fits:
        reasons = "; ".join(sorted({fit.refused for fit in fits}))
        text = (
            f"No published benchmark score can be fitted against bits per character measured here: {reasons}."
        )
        yield Finding(topic=topic, figure="no fit", text=text)
    elif unmatched:
        text = f"{len(unmatched)} measured models enter no fit; the reason for each stands below."
        yield Finding(topic=topic, figure="no fit", text=text)


def _correlation(fit: Fit, kind: str) -> str:
    bounds = [_signed(bound) for bound in (fit.pearson_low, fit.pearson_high) if bound is not None]
    interval = f", 95 % interval {' to '.join(bounds)}" if bounds else ""
    return f"Pearson correlation of {fit.y} with bits per character ({fit.x}) over {fit.n} {kind} models{interval}."


def _compared(saving: float) -> str:
    return f"{abs(saving):.1%} {'fewer' if saving >= 0 else 'more'}".replace("%", " %")


def _percent(saving: float) -> str:
    return f"{-saving:+.0%}".replace("-", "−").replace("%", " %")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("-", "−")


def _interval(fit: Fit) -> str:
    bounds = (fit.pearson_low, fit.pearson_high)
    return f"r = {_signed(fit.pearson)}" + ("" if None in bounds else f" [{', '.join(map(_signed, bounds))}]")


def _protocol(name: str) -> str:
    return {"document": "per document", "stream": "one stream"}.get(name, name)
