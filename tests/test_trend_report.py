"""The page on cutoffs: badges, what is not compared, the section on months, and how it looks in a browser."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from test_report import (
    NAMES,
    browser,
    measured,
    month_rows,
    opened,
    rewrite,
    score_rows,
    words,
    write_csv,
    write_inputs,
    write_months,
)

from collectors.document import UserError
from evaluate.report import page
from evaluate.report.records import ReportData
from evaluate.report.results import read

SEEN = {"freshness": "not-after", "cutoff": "2026-07"}
RELEASED = {**SEEN, "cutoff_evidence": "release"}
UNKNOWN = {"freshness": "unknown", "cutoff": "", "cutoff_evidence": "unknown"}

__all__ = ["browser"]  # a fixture


def sample(folder: Path, months: Any = (), small: Mapping[str, object] = {}) -> ReportData:
    """Read the sample inputs with these rows of trend.csv, and the better language model under these columns."""
    results, corpora = write_inputs(folder)
    write_csv(results / "scores.csv", score_rows(small=small))
    write_months(results, months)
    return read(results, corpora, NAMES)


def part(data: ReportData) -> str:
    """Return the section on months."""
    return page.render(data).partition('<section aria-labelledby="trend">')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("columns", "badge"),
    [
        (SEEN, "does not postdate the cutoff"),
        (RELEASED, "is not shown to postdate the cutoff"),
        (UNKNOWN, "cutoff unknown"),
    ],
)
def test_a_score_that_is_not_known_to_be_fresh_has_a_badge(
    tmp_path: Path, columns: dict[str, object], badge: str
) -> None:
    """Beside the model on every corpus, and on no other row."""
    text = page.render(sample(tmp_path, small=columns))
    assert text.count(f'<small class="badge">{badge}</small>') == text.count('class="badge"') == len(NAMES)
    assert f"small-1b full/1900/512 {badge} 0.900" in words(text)
    # Hollow in the chart, too, where the model may have seen the corpus, and then in the legend.
    rates = text.partition('<section aria-labelledby="scores">')[2].partition("</section>")[0]
    assert rates.count('class="mark hollow"') == (0 if columns is UNKNOWN else len(NAMES) + 1)


def test_fresh_scores_and_compressors_have_none(tmp_path: Path) -> None:
    """Where a corpus postdates the cutoff, or nothing was trained, nothing is added."""
    text = page.render(sample(tmp_path))
    assert 'class="badge"' not in text
    assert "cutoff unknown" not in text
    assert "Not compared" not in text


def test_entropies_have_the_same_badge(tmp_path: Path) -> None:
    """The table of the last layer says so too."""
    data = measured(tmp_path, 1)
    scores = tuple(score if score.is_rate else replace(score, freshness="unknown") for score in data.scores)
    text = words(page.render(replace(data, scores=scores)))
    assert "model-0 family, 100 M parameters cutoff unknown 0.4400" in text


def test_a_model_that_may_have_seen_the_corpus_is_not_compared(tmp_path: Path) -> None:
    """The best of the others stands against the compressors, and the page says who was left out and why."""
    text = words(page.render(sample(tmp_path, small=SEEN)))
    assert "org/tiny-1b needs 1.200 bits per character, 40.0 % fewer than the best" in text
    assert "is not shown to postdate the training cutoff: org/small-1b." in text
    assert "org/small-1b needs" not in text
    assert "−40 %" in text


def test_where_all_may_have_seen_it_there_is_no_saving(tmp_path: Path) -> None:
    """No finding on fresh text is made of text that is not known to be fresh."""
    data = sample(tmp_path)
    scores = tuple(
        replace(s, freshness="not-after") if s.backend == "transformers" else s for s in data.scores
    )
    text = words(page.render(replace(data, scores=scores)))
    assert "Fresh text" not in text.partition("What this says")[2].partition("Bits per character")[0]
    assert "the training cutoff: org/small-1b, org/tiny-1b." in text


def test_an_unknown_cutoff_is_told_with_the_finding(tmp_path: Path) -> None:
    """The saving stands, with what is not known of it."""
    text = words(page.render(sample(tmp_path, small=UNKNOWN)))
    assert "The training cutoff of the best is unknown on 2 of 2." in text
    assert "unknown on" not in words(page.render(sample(tmp_path / "known")))


def test_models_of_unknown_cutoff_are_counted_in_fits(tmp_path: Path) -> None:
    """Those that are used; beside n, and in the finding."""
    data = sample(tmp_path)
    (refused,) = (fit for fit in data.fits if fit.dataset == "measured")
    fit = replace(data.fits[1], dataset="measured", x=refused.x, y=refused.y, n=3)
    own = [point for point in data.points if point.y == "GSM8K"]
    points = tuple(
        replace(p, dataset="measured", x=fit.x, y=fit.y, freshness="after" if i == 0 else "unknown")
        for i, p in enumerate(own)
    )
    data = replace(data, fits=(*data.fits[:-1], fit), points=(*data.points, *points))
    text = words(page.render(data))
    assert "MMLU news-2026-07 3 2 of unknown cutoff r = −0.981" in text
    assert "The training cutoff of 2 of them is unknown." in text


def test_without_months_the_section_says_so(tmp_path: Path) -> None:
    """And still tells what is known of the cutoffs."""
    text = words(part(sample(tmp_path)))
    assert "No rate is of documents with a month" in text
    assert "small-1b 2025-03 declared 2 of 2 –" in text
    assert "<figure>" not in part(sample(tmp_path / "again"))


def test_models_and_compressors_are_drawn_apart(tmp_path: Path) -> None:
    """A chart of each for every content, both with the cutoff, which is one rule for models that share it."""
    rows = [*month_rows(), *({**row, "content": "code"} for row in month_rows())]
    section = part(sample(tmp_path, rows))
    assert re.findall(r"<title>([^<]* on [^<]*)</title><desc>", section) == [
        f"{kind} on {content}. {note} a rule: the end of the day, month or year it names"
        for content in ("code", "prose")
        for kind, note in (
            ("Language models", "hollow: months not after a model’s cutoff"),
            ("Compressors", "as a control: how hard the text itself is"),
        )
    ]
    drawn = section.partition("</ul>")[2]
    assert drawn.count('class="cutoff"') == drawn.count(">cutoff 2025-03: small-1b, tiny-1b</text>") == 4
    assert "Months on both sides of the cutoff: small-1b, tiny-1b." in words(section)
    assert "120 documents of 3 months between 2025-02 and 2025-06, 40 a month." in words(section)
    # February and March of two models on two contents; June lies behind the cutoff.
    assert drawn.count(' hollow" d=') == 8


def test_a_release_is_no_declared_cutoff(tmp_path: Path) -> None:
    """It has a rule of its own, dashed, with its own word, and the table says what it is."""
    months = month_rows(cutoff_evidence="release")
    section = part(sample(tmp_path, months, small={"cutoff_evidence": "release"}))
    drawn = section.partition("</ul>")[2]
    assert drawn.count('class="cutoff bound"') == drawn.count(">released 2025-03: small-1b</text>") == 2
    assert drawn.count(">cutoff 2025-03: tiny-1b</text>") == 2
    assert "small-1b 2025-03 release https://example.org/card 2 of 2 –" in words(section)


def test_an_unknown_cutoff_has_no_rule(tmp_path: Path) -> None:
    """Its line is drawn, filled, and the table says that nobody knows."""
    months = month_rows(cutoff="", cutoff_evidence="unknown", cutoff_until="", cutoff_source="")
    section = part(sample(tmp_path, months, small=UNKNOWN))
    assert "cutoff 2025-03: tiny-1b" in section
    assert "small-1b, tiny-1b" not in section
    assert f"small-1b – unknown 0 of 2 {', '.join(NAMES)}" in words(section)


def test_months_on_one_side_show_nothing_and_say_so(tmp_path: Path) -> None:
    """A page that draws a rule does not pretend that something can be seen at it."""
    text = words(part(sample(tmp_path, month_rows(("2025-06", "2025-07")))))
    assert "No model has months on both sides of its cutoff" in text


def test_a_rate_that_is_not_finite_is_not_drawn(tmp_path: Path) -> None:
    """The others of its model are."""
    rows = month_rows()
    rows[1] |= {"bits_per_character": "inf", "low": "", "high": ""}
    section = part(sample(tmp_path, rows))
    assert "small-1b, 2025-02" in section
    assert "small-1b, 2025-03" not in section
    assert "inf" not in words(section).split()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("2025-06", "2025-6", "small in '2025-6'"),
        ("2025-06", "202506", "small in '202506'"),
        ("2025-04-01", "20250401", "'20250401' is no day"),
        ("2025-04-01", "", "small in '2025-02'"),
        ("month,", "moon,", "it has no column 'month'"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    """A month or a day that is none cannot be drawn."""
    results, corpora = write_inputs(tmp_path)
    write_months(results, month_rows())
    rewrite(results / "trend.csv", old, new)
    with pytest.raises(
        UserError, match=rf"trend\.csv cannot be read: .*{why}.*; rebuild it with `dvc repro`"
    ):
        read(results, corpora, NAMES)


@pytest.mark.slow
def test_the_rule_and_its_models_show_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    """In both schemes the rule can be seen on its paper, and a line that takes the focus tells its months."""
    results, corpora = write_inputs(tmp_path)
    write_months(results, month_rows())
    page.write(results, corpora, NAMES, tmp_path / "report.html")
    for scheme in ("light", "dark"):
        tab, noted = opened(browser, (tmp_path / "report.html").as_uri(), width=360, scheme=scheme)
        assert len(noted) == 1
        section = tab.locator('section[aria-labelledby="trend"]')
        rule = section.locator("figure .cutoff").first
        stroke, paper = rule.evaluate(
            "e => [getComputedStyle(e).stroke, getComputedStyle(document.documentElement).backgroundColor]"
        )
        assert stroke not in {paper, "none"}
        box = rule.bounding_box()
        assert box is not None
        assert box["height"] > 100
        line = section.locator("figure .point").first
        line.focus()
        assert line.locator(".readout").evaluate("e => getComputedStyle(e).opacity") == "1"
        assert "0.900 in 2025-02" in (line.locator(".readout").text_content() or "")
        tab.close()
