"""The page: what was measured, on which data, and what it says. One file that loads nothing.

Everything on it is computed from the files that the pipeline writes; no number and no verdict stands
in the template. Its bytes depend on those files alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from collectors.document import replacing
from evaluate.report import charts, entropy, ladder, relatives, surprise, svg, trend, wording
from evaluate.report.axes import count_label
from evaluate.report.measurements import Measurement, Neighbours, measurements, neighbours
from evaluate.report.records import CorpusFacts, Fit, Observation, ReportData
from evaluate.report.results import broken, read, table
from evaluate.report.treatment import treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One corpus on the page.

    Attributes:
        rows: language models, then compressors, each from fewest bits per character.
        model: the best language model, those left out that may have been trained on the corpus.
        saving: share of bits that it saves against the best compressor, negative where it needs more; None
            without both.
        summary: the same in a sentence.
        neighbours: language models beside the next better one, where they were compared.
    """

    corpus: CorpusFacts
    rows: tuple[Measurement, ...]
    model: Measurement | None
    saving: float | None
    summary: str
    chart: Markup
    neighbours: tuple[Neighbours, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A fit and its scatter plot.

    Attributes:
        kind: its kind in law.csv, empty for what the paper does not print.
        n_unknown: models in it whose cutoff is unknown.
    """

    fit: Fit
    kind: str
    chart: Markup
    n_unknown: int


def render(data: ReportData) -> str:
    """Return the page as HTML: self-contained, without script, the same bytes for the same data.

    Raises:
        UserError: when a model has a rate but no bits per character.
    """
    sections = _sections(data)
    published, measured = (_linear(data.fits, dataset) for dataset in ("published", "measured"))
    kinds = {(row.benchmark, row.corpus): row.kind for row in data.law}
    told = [section for section in sections if section.saving is not None]
    unknown = {fit: _n_unknown(fit, data.points) for fit in measured}
    plots = [_plot(fit, data.points, kinds.get((fit.y, fit.x), "")) for fit in published if not fit.refused]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "signed": wording.signed,
        "protocol": wording.protocol,
        "interval": wording.interval,
        "note": wording.note,
        "badge": wording.badge,
        "significant": wording.significant,
        "count": count_label,
        "series": entropy.label,
        "method": relatives.method,
    }
    return environment.get_template("page.html.jinja").render(
        data=data,
        sections=sections,
        findings=[
            *wording.fresh(
                [(s.corpus.name, s.saving) for s in told if s.saving is not None],
                sum(s.model is not None and s.model.score.freshness == "unknown" for s in told),
            ),
            *wording.reproduced(published, data.law),
            *wording.measured(measured, data.unmatched, unknown),
        ],
        order=wording.order([pair for section in sections for pair in section.neighbours]),
        treatment=treatment(row for section in sections for row in section.rows),
        law=plots,
        measured=[_plot(fit, data.points, "measured") for fit in measured if not fit.refused],
        refused=[fit for fit in measured if fit.refused],
        trend=trend.section(data, [row for section in sections for row in section.rows]),
        entropy=entropy.section(data),
        relatives=relatives.section(data),
        compression=ladder.section(data, [row for section in sections for row in section.rows]),
        shades=surprise.legend(),
        style=Markup(svg.STYLE + surprise.STYLE),  # noqa: S704 - constants
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
                f"{fit.n} models: Pearson {wording.interval(fit)} (95 %), RMSE {wording.signed(fit.rmse)}",
                "Source: Huang et al. 2024, Tables 4, 6, 8",
            ),
            x_label="bits per character, mean of three corpora (fewer is better)",
            y_label="mean score, from 0 to 1",
            width=720,
            height=440,
            named=True,
        )
    )


def _sections(data: ReportData) -> list[Section]:
    rows = measurements(data.scores)
    maximum = max((max(row.value, row.score.high or 0.0) for row in rows), default=1.0)
    return [
        _section(corpus, tuple(row for row in rows if row.score.corpus == corpus.name), maximum, data)
        for corpus in data.corpora
    ]


def _section(corpus: CorpusFacts, rows: tuple[Measurement, ...], maximum: float, data: ReportData) -> Section:
    infinite = sorted(
        {s.name or s.model for s in data.scores if s.corpus == corpus.name and s.is_rate and s.value is None}
    )
    stale = [row for row in rows if row.score.freshness == "not-after"]
    model = next((row for row in rows if not row.classical and row not in stale), None)
    rival = next((row for row in rows if row.classical), None)
    saving = 1 - model.value / rival.value if model and rival and rival.value else None
    if model and rival and saving is not None:
        summary = (
            f"{model.name} needs {model.value:.3f} bits per character, {wording.compared(saving)} than the best "
            f"classical compressor, {rival.name} ({wording.protocol(rival.score.protocol)}), with {rival.value:.3f}."
        )
    elif rows:
        summary = f"{rows[0].name} needs the fewest bits per character here: {rows[0].value:.3f}."
    else:
        summary = "There is no rate to show for this corpus yet."
    if stale:
        names = ", ".join(dict.fromkeys(row.name for row in stale))
        summary += f" Not compared, because the corpus is not shown to postdate the training cutoff: {names}."
    if infinite:
        summary += f" Not shown, because their bits are not finite: {', '.join(infinite)}."
    chart = charts.dots(
        [_row(row, rows) for row in rows],
        title=f"Bits per character on {corpus.name}",
        description=f"{summary} The table lists every value.",
        unit="bits per character, fewer is better",
        maximum=maximum,
    )
    return Section(
        corpus=corpus,
        rows=rows,
        model=model,
        saving=saving,
        summary=summary,
        chart=Markup(chart),  # noqa: S704 - charts escape what comes from data
        neighbours=tuple(neighbours(rows, data.differences)),
    )


def _row(row: Measurement, rows: Sequence[Measurement]) -> charts.Row:
    several = len({other.score.protocol for other in rows if other.score.model == row.score.model}) > 1
    return charts.Row(
        group="Classical compressors" if row.classical else "Language models",
        label=row.short,
        detail=wording.protocol(row.score.protocol) if several or row.classical else "",
        value=row.value,
        low=row.score.low,
        high=row.score.high,
        shape="diamond" if row.classical else "circle",
        hollow=row.score.protocol == "stream" or row.score.freshness == "not-after",
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
        notes=(wording.interval(fit), f"RMSE {wording.signed(fit.rmse)}, n = {fit.n}"),
        x_label=f"bits per character, {fit.x}" if large else fit.x,
        y_label="score, from 0 to 1" if large else "",
        width=360 if large else 180,
        height=310 if large else 204,
        named=large,
    )
    return Plot(
        fit=fit,
        kind=kind,
        chart=Markup(chart),  # noqa: S704 - charts escape what comes from data
        n_unknown=_n_unknown(fit, points),
    )


def _n_unknown(fit: Fit, points: Sequence[Observation]) -> int:
    """Return how many models in a fit have an unknown cutoff."""
    own = [point for point in points if (point.dataset, point.x, point.y) == (fit.dataset, fit.x, fit.y)]
    return sum(point.used and point.freshness == "unknown" for point in own)


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
