"""The section on publication months: whether rates change where a model's training text ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from evaluate.report.measurements import Measurement
from evaluate.report.records import MonthlyRate, ReportData
from evaluate.report.timeline import (
    Course,
    Domain,
    Rule,
    Stop,
    domain,
    log_span,
    month_number,
    timeline,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The months of one kind of content: a sentence, language models, and compressors as a control."""

    content: str
    summary: str
    charts: tuple[Markup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is known of the end of one model's training text.

    Attributes:
        cutoff: day, month or year; empty where it is unknown.
        evidence: as in `records.Score`.
        source: address of the evidence, empty without months.
        after: corpora that postdate the cutoff.
        others: corpora that do not, or are not shown to.
    """

    name: str
    cutoff: str
    evidence: str
    source: str
    after: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All of the section: a panel for each kind of content, a row for each language model, and what shows."""

    panels: tuple[Panel, ...]
    training: tuple[Training, ...]
    summary: str


def section(data: ReportData, rows: Sequence[Measurement]) -> Section:
    """Return what the page says about months and cutoffs.

    Args:
        data: everything the page shows.
        rows: the rates of language models, and of compressors.
    """
    drawn = [row for row in data.trend if row.bits_per_character is not None and row.bits_per_character > 0]
    numbers = {
        series: number
        for trained in (True, False)
        for number, series in enumerate(sorted({_series(row) for row in drawn if row.trained is trained}))
    }
    contents = {
        content: _courses(list(own), numbers)
        for content, own in groupby(sorted(drawn, key=_order), key=lambda row: row.content)
    }
    courses = [course for pair in contents.values() for side in pair for course in side]
    months = domain(
        [stop.month for course in courses for stop in course.stops],
        [_end(row) for row in drawn if row.cutoff],
    )
    span = max((log_span(side) for pair in contents.values() for side in pair), default=0.0)
    return Section(
        panels=tuple(
            _panel(content, [row for row in drawn if row.content == content], *pair, months, span)
            for content, pair in contents.items()
        ),
        training=tuple(_training(data, rows)),
        summary=_summary(data.trend),
    )


def _order(row: MonthlyRate) -> tuple[str, str, str, str]:
    return (row.content, *_series(row), row.month)


def _series(row: MonthlyRate) -> tuple[str, str]:
    return row.model, row.protocol


def _courses(
    rows: Sequence[MonthlyRate], numbers: dict[tuple[str, str], int]
) -> tuple[list[Course], list[Course]]:
    """Return the lines of language models, and those of compressors."""
    found: tuple[list[Course], list[Course]] = ([], [])
    models = [model for model, _ in dict.fromkeys(map(_series, rows))]
    for series, own in groupby(rows, key=_series):
        months = list(own)
        several = models.count(series[0]) > 1
        course = Course(
            label=months[0].short + (f" ({series[1]})" if several else ""),
            number=numbers[series],
            stops=tuple(map(_stop, months)),
        )
        found[0 if months[0].trained else 1].append(course)
    return found


def _stop(row: MonthlyRate) -> Stop:
    return Stop(
        month=month_number(row.month),
        value=row.bits_per_character or 0.0,
        low=row.low,
        high=row.high,
        behind=row.freshness != "not-after",
        note=f"{row.n_documents:,} document{'' if row.n_documents == 1 else 's'} of {row.corpora}",
    )


def _panel(
    content: str,
    rows: Sequence[MonthlyRate],
    models: Sequence[Course],
    compressors: Sequence[Course],
    months: Domain,
    span: float,
) -> Panel:
    rules = list(_rules(rows))
    return Panel(
        content=content,
        summary=_counted(rows),
        charts=tuple(
            # Charts escape what comes from data.
            Markup(  # noqa: S704
                timeline(
                    courses,
                    rules,
                    title=f"{kind} on {content}",
                    notes=(note, "a rule: the end of the day, month or year it names"),
                    description=f"Bits per character of {len(courses)} {kind.lower()} on {content} "
                    f"by month of publication. {'; '.join(rule.label for rule in rules)}",
                    y_label="bits per character, logarithmic",
                    months=months,
                    span=span,
                )
            )
            for kind, note, courses in (
                ("Language models", "hollow: months not after a model’s cutoff", models),
                ("Compressors", "as a control: how hard the text itself is", compressors),
            )
            if courses
        ),
    )


def _counted(rows: Sequence[MonthlyRate]) -> str:
    """Say on how many documents the rates of a content rest; of models that differ, of the one with most."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.month] = max(row.n_documents, counts.get(row.month, 0))
    least, most = min(counts.values()), max(counts.values())
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return (
        f"{sum(counts.values()):,} documents of {len(counts)} month{'' if len(counts) == 1 else 's'} between "
        f"{min(counts)} and {max(counts)}, {each} a month."
    )


def _rules(rows: Sequence[MonthlyRate]) -> Iterator[Rule]:
    """Yield one rule for all models of the same cutoff and evidence."""
    ends: dict[tuple[float, str, str], dict[str, None]] = {}
    for row in rows:
        if row.cutoff:
            ends.setdefault((_end(row), row.cutoff, row.cutoff_evidence), {})[row.short] = None
    for (at, cutoff, evidence), names in ends.items():
        bound = evidence == "release"
        word = "released" if bound else "cutoff"
        yield Rule(at=at, label=f"{word} {cutoff}: {', '.join(names)}", bound=bound)


def _end(row: MonthlyRate) -> float:
    """Return where the first day after the cutoff lies, in months."""
    return month_number(row.cutoff_until[:7]) + (int(row.cutoff_until[8:]) - 1) / 31


def _training(data: ReportData, rows: Sequence[Measurement]) -> Iterator[Training]:
    sources = {row.model: row.cutoff_source for row in data.trend}
    scored = [row for row in rows if not row.classical]
    for model in sorted({row.score.model for row in scored}):
        own = [row for row in scored if row.score.model == model]
        fresh = {row.score.corpus: row.score.freshness == "after" for row in own}
        yield Training(
            name=own[0].short,
            cutoff=own[0].score.cutoff,
            evidence=own[0].score.cutoff_evidence,
            source=sources.get(model, ""),
            after=tuple(corpus for corpus, after in fresh.items() if after),
            others=tuple(corpus for corpus, after in fresh.items() if not after),
        )


def _summary(rows: Sequence[MonthlyRate]) -> str:
    """Say of how many models the months can show anything."""
    sides: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row.trained and row.cutoff:
            sides.setdefault((row.short, row.content), set()).add(row.freshness)
    both = sorted({name for (name, _), found in sides.items() if found >= {"after", "not-after"}})
    if both:
        return f"Months on both sides of the cutoff: {', '.join(both)}."
    return (
        "No model has months on both sides of its cutoff, so that no change at a cutoff can be seen here yet."
    )
