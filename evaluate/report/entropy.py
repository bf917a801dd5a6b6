"""The section on matrix entropy: profiles over layers, figures of the last one, and what they go with."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from markupsafe import Markup

from evaluate.report import charts, wording
from evaluate.report.charts import Curve, Point
from evaluate.report.profiles import Course, Stop, profile
from evaluate.report.records import CorpusFacts, Profile, ReportData, ScalingFit, ScalingPoint

# What the charts of a corpus show beside the profile, in this order.
_DRAWN = (
    ("matrix_entropy_a", "parameters"),
    ("matrix_entropy_a", "bits per character"),
    ("effective_rank", "parameters"),
    ("diff_erank", "parameters"),
    ("diff_erank", "bits per character"),
)
_NAMES = {
    "matrix_entropy_a": "Matrix entropy a",
    "effective_rank": "Effective rank",
    "diff_erank": "Diff-eRank",
}
_UNITS = {
    "matrix_entropy_a": "mean of H / ln d",
    "effective_rank": "exp(mean H)",
    "diff_erank": "effective rank, untrained less trained",
}
_LAWS: dict[str, Literal["log", "power"]] = {"log": "log", "power": "power"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one corpus.

    Attributes:
        name: without the organisation before it.
        family: of models that differ in size alone; empty without one.
        n_parameters: None where they were not counted.
        figures: those of the last layer, by metric.
        n_documents: documents that have an entropy.
        n_skipped: documents that have none.
        badge: what is amiss with the freshness of the corpus for this model; empty where nothing is.
    """

    name: str
    family: str
    n_parameters: int | None
    figures: dict[str, Profile]
    n_documents: int
    n_skipped: int
    badge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One corpus in the section: a sentence, charts, and a row per model whose last layer was measured."""

    corpus: CorpusFacts
    summary: str
    charts: tuple[Markup, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Fits of one kind that one rule refuses, for all models or one family, and how many they are."""

    family: str
    against: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All of the section.

    Attributes:
        corpora: those on which hidden states were measured.
        benchmarks: charts of benchmark scores against matrix entropy, where they are fitted.
        fits: fits by family, all models first.
        refusals: fits that there are none of.
    """

    corpora: tuple[Representation, ...]
    benchmarks: tuple[Markup, ...]
    fits: tuple[tuple[str, tuple[ScalingFit, ...]], ...]
    refusals: tuple[Refusal, ...]


def section(data: ReportData) -> Section:
    """Return what the page says about matrix entropy; without a corpus where none was measured."""
    done = [fit for fit in data.scaling if not fit.refused]
    scores = [fit for fit in done if _against(fit) == "benchmark scores" and not fit.family]
    return Section(
        corpora=tuple(
            _representation(corpus, data)
            for corpus in data.corpora
            if any(row.corpus == corpus.name for row in data.profiles)
        ),
        benchmarks=tuple(
            _scatter([fit], data, small=True) for fit in scores if fit.x.startswith("matrix_entropy_a ")
        ),
        fits=tuple((family, tuple(fits)) for family, fits in groupby(done, key=lambda fit: fit.family)),
        refusals=tuple(_refusals(data.scaling)),
    )


def label(series: str) -> str:
    """Return what to call a series of scaling.csv, such as Matrix entropy a on news."""
    metric, on, corpus = series.partition(" on ")
    return f"{_NAMES.get(metric, metric)}{on}{corpus}"


def _representation(corpus: CorpusFacts, data: ReportData) -> Representation:
    own = [row for row in data.profiles if row.corpus == corpus.name]
    names = _short_names(data)
    sized = {score.model: score for score in data.scores if not score.is_rate}
    badges = {score.model: wording.badge(score) for score in data.scores if score.corpus == corpus.name}
    rows = []
    for model in dict.fromkeys(row.model for row in own):
        last = {row.metric: row for row in own if row.model == model and row.layer == row.n_layers}
        if not last:
            continue
        any_figure = next(iter(last.values()))
        rows.append(
            Row(
                name=names[model],
                family=sized[model].family if model in sized else "",
                n_parameters=sized[model].n_parameters if model in sized else None,
                figures=last,
                n_documents=any_figure.n_documents,
                n_skipped=any_figure.n_skipped,
                badge=badges.get(model, ""),
            )
        )
    summary = " ".join([*_lowest(rows), *_left_out(corpus.name, data)])
    return Representation(
        corpus=corpus,
        summary=summary,
        charts=(_profile(corpus.name, own, names), *_against_all(corpus.name, data)),
        rows=tuple(rows),
    )


def _short_names(data: ReportData) -> dict[str, str]:
    return {row.model: (row.name or row.model).rsplit("/", 1)[-1] for row in data.profiles}


def _profile(corpus: str, rows: Sequence[Profile], names: dict[str, str]) -> Markup:
    stops: dict[str, list[Stop]] = {}
    for row in sorted(rows, key=lambda row: (row.model, row.layer)):
        if row.metric == "matrix_entropy_a" and row.value is not None:
            stop = Stop(layer=row.layer, value=row.value, low=row.low, high=row.high, ceiling=row.ceiling)
            stops.setdefault(row.model, []).append(stop)
    chart = profile(
        [Course(label=names[model], stops=tuple(own)) for model, own in stops.items()],
        title=f"Layer by layer on {corpus}",
        notes=("band: 95 % interval; dashed: the most it can be",),
        description=f"Matrix entropy a of {_models(len(stops))} from the embeddings, layer 0, to the last layer.",
        y_label="mean of H / ln d",
    )
    return Markup(chart)  # noqa: S704 - charts escape what comes from data


def _against_all(corpus: str, data: ReportData) -> Iterator[Markup]:
    """Yield the charts of a corpus against size and bits per character, one for each pair of protocols.

    A single point goes with nothing, and the table says all of it.
    """
    together = [fit for fit in data.scaling if not fit.family]
    for metric, against in _DRAWN:
        own = [fit for fit in together if _against(fit) == against and _is_of(fit.y, metric, corpus)]
        for series, forms in groupby(own, key=lambda fit: (fit.x, fit.y)):
            if len(_shown(series, data)) > 1:
                yield _scatter(list(forms), data)


def _scatter(forms: Sequence[ScalingFit], data: ReportData, *, small: bool = False) -> Markup:
    """Return a chart of one series of all models, with every form that is fitted to it."""
    first, names = forms[0], _short_names(data)
    shown = _shown((first.x, first.y), data)
    linear = next((fit for fit in forms if fit.form == "linear" and fit.a is not None), None)
    used = [x for point, x in shown if point.used]
    about = (
        f"{label(first.y)} against {label(first.x)} for {_models(len(shown))}, {first.n} of them in the fit."
    )
    sizes: dict[str, Any] = {"width": 180, "height": 204} if small else {"width": 360, "height": 310}
    chart = charts.scatter(
        [
            Point(
                label=names.get(point.model, point.model),
                x=x,
                y=point.y_value,
                used=point.used,
                note=point.reason,
                ceiling=point.ceiling,
            )
            for point, x in sorted(shown, key=lambda pair: (pair[1], pair[0].model))
        ],
        title=label(first.y) if small else _title(first.y),
        notes=(wording.interval(first), f"n = {first.n}") if small else list(_notes(forms)),
        description=about,
        x_label=label(first.x),
        y_label="" if small else _UNITS[first.y.partition(" on ")[0]],
        line=(linear.b, linear.a) if linear and linear.a is not None and linear.b is not None else None,
        curves=[curve for fit in forms if used and (curve := _curve(fit, min(used), max(used)))],
        counts=first.x == "parameters",
        named=not small,
        **sizes,
    )
    return Markup(chart)  # noqa: S704 - charts escape what comes from data


def _shown(series: tuple[str, str], data: ReportData) -> list[tuple[ScalingPoint, float]]:
    """Return the points of a series of all models that have a place on its axis, with that place."""
    return [
        (point, point.x_value)
        for point in data.scaling_points
        if (point.family, point.x, point.y) == ("", *series) and point.x_value is not None
    ]


def _curve(fit: ScalingFit, low: float, high: float) -> Curve | None:
    """Return the course of a law of size between two sizes; through logarithms, where large factors cancel."""
    if fit.form not in _LAWS or fit.a is None or fit.b is None or (fit.form == "power" and fit.a <= 0):
        return None
    course = []
    for i in range(25):
        u = math.log(low) + (math.log(high) - math.log(low)) * i / 24
        y = fit.a + fit.b * u if fit.form == "log" else math.exp(math.log(fit.a) - fit.b * u)
        course.append((math.exp(u), y))
    return Curve(kind=_LAWS[fit.form], course=tuple(course))


def _notes(forms: Sequence[ScalingFit]) -> Iterator[str]:
    for fit in forms:
        if not fit.refused:
            bounds = [wording.significant(bound, 3) for bound in (fit.b_low, fit.b_high) if bound is not None]
            between = f" [{', '.join(bounds)}]" if bounds else ""
            yield f"{fit.form}: b = {wording.significant(fit.b, 3)}{between}, R² = {wording.signed(fit.r2, 2)}"
    for reason, refused in groupby((fit for fit in forms if fit.refused), key=lambda fit: fit.refused):
        which = ", ".join(fit.form for fit in refused)
        yield f"no {which} fit: {reason}"


def _lowest(rows: Sequence[Row]) -> Iterator[str]:
    known = [
        (figure.value, figure, row.name)
        for row in rows
        if (figure := row.figures.get("matrix_entropy_a")) and figure.value is not None
    ]
    if known:
        value, figure, name = min(known, key=lambda entry: (entry[0], entry[2]))
        cap = "" if figure.ceiling is None else f", of at most {figure.ceiling:.3f}"
        which = (
            "matrix entropy a" if len(known) == 1 else f"the lowest matrix entropy a of {_models(len(known))}"
        )
        yield f"At its last layer {name} has {which}: {value:.3f}{cap}."


def _left_out(corpus: str, data: ReportData) -> Iterator[str]:
    """Say of which models no point can be drawn."""
    names = _short_names(data)
    own = [p for p in data.scaling_points if any(_is_of(p.y, metric, corpus) for metric in _NAMES)]
    # A model has the rates of its own protocol, and only one without any is missed.
    placed = {(p.model, p.x.split(" on ")[0]) for p in own if p.x_value is not None}
    missing: dict[str, set[str]] = {}
    for point in own:
        if point.x_value is None and (point.model, point.x.split(" on ")[0]) not in placed:
            missing.setdefault(point.reason, set()).add(names.get(point.model, point.model))
    for reason, models in sorted(missing.items()):
        yield f"Without a point, because {reason}: {', '.join(sorted(models))}."


def _refusals(fits: Sequence[ScalingFit]) -> Iterator[Refusal]:
    counted: dict[tuple[str, str, str], int] = {}
    for fit in fits:
        if fit.refused:
            key = fit.family, _against(fit), fit.refused
            counted[key] = counted.get(key, 0) + 1
    for (family, against, reason), n in counted.items():
        yield Refusal(family=family, against=against, reason=reason, n=n)


def _against(fit: ScalingFit) -> str:
    if fit.x == "parameters":
        return "parameters"
    return "bits per character" if fit.x.startswith("bits per character on ") else "benchmark scores"


def _is_of(series: str, metric: str, corpus: str) -> bool:
    """Return whether a series is of a metric on a corpus, under whatever protocol."""
    own = f"{metric} on {corpus}"
    return series == own or series.startswith(f"{own} (")


def _title(series: str) -> str:
    metric, _, corpus = series.partition(" on ")
    _, several, protocol = corpus.partition(" (")
    return _NAMES.get(metric, metric) + several + protocol


def _models(n: int) -> str:
    return f"{n} model{'' if n == 1 else 's'}"
