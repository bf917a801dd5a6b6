"""Training cutoffs: what params.yaml may say of them, which text lies behind them, and what they leave alone."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from collectors.build import write_corpus
from collectors.document import UserError
from evaluate import cells, params, scores
from evaluate.corpus import built_corpus
from evaluate.model import Cutoff, Likelihood, ModelEntry
from evaluate.scores import Scored
from samples import REQUEST, make_document

SOURCE = "https://example.org/card"
DAYS = st.dates(date(1990, 1, 1), date(2200, 1, 1))


def known(day: str, evidence: Any = "declared") -> Cutoff:
    """Return a cutoff with a source."""
    return Cutoff(date=day, evidence=evidence, source=SOURCE)


def entry(**cutoff: object) -> ModelEntry:
    """Return an entry of params.yaml with this cutoff."""
    return params.entry("m", {"backend": "endpoint", "url": "u", "cutoff": cutoff})


@pytest.mark.parametrize(
    ("named", "first_after"),
    [
        ("2024", date(2025, 1, 1)),
        ("2024-11", date(2024, 12, 1)),
        ("2024-12", date(2025, 1, 1)),
        ("2024-01", date(2024, 2, 1)),
        ("2024-02-28", date(2024, 2, 29)),
        ("2023-02-28", date(2023, 3, 1)),
        ("2024-12-31", date(2025, 1, 1)),
    ],
)
def test_all_of_the_period_named_may_be_training_text(named: str, first_after: date) -> None:
    """What follows its last day, and nothing before, lies behind the cutoff."""
    cutoff = known(named)
    assert cutoff.first_after == first_after
    assert cutoff.freshness(first_after.isoformat()) == "after"
    assert cutoff.freshness((first_after - timedelta(days=1)).isoformat()) == "not-after"


@given(cutoff=DAYS, since=DAYS, length=st.sampled_from([4, 7, 10]))
def test_freshness_is_that_of_a_comparison_of_prefixes(cutoff: date, since: date, length: int) -> None:
    """ISO dates sort as text: a day is behind a period if its own period of that length is greater."""
    period = cutoff.isoformat()[:length]
    expected = "after" if since.isoformat()[:length] > period else "not-after"
    assert known(period).freshness(since.isoformat()) == expected


def test_an_unknown_cutoff_is_neither() -> None:
    """Whatever the text."""
    assert Cutoff().first_after is None
    assert Cutoff().freshness("2026-01-01") == "unknown"


@pytest.mark.parametrize("text", ["2024", '"2024"', '"2024-06"', "2024-06", "2024-06-30", '"2024-06-30"'])
@pytest.mark.parametrize("evidence", ["declared", "release"])
def test_dates_are_taken_with_and_without_quotes(text: str, evidence: str) -> None:
    """YAML makes a number of a year and a date of a day, and both are what was written."""
    written = yaml.safe_load(f"{{date: {text}, evidence: {evidence}, source: {SOURCE}}}")
    assert entry(**written).cutoff == known(text.strip('"'), evidence)


def test_without_evidence_a_cutoff_is_unknown() -> None:
    """The entry may leave it out, be empty, or say so."""
    assert params.entry("m", {"backend": "endpoint"}).cutoff == Cutoff()
    assert entry().cutoff == entry(evidence="unknown").cutoff == Cutoff()


@pytest.mark.parametrize(
    ("cutoff", "message"),
    [
        ("2024", "takes date, evidence and source"),
        (None, "takes date, evidence and source"),
        ({"until": "2024"}, "takes date, evidence and source"),
        ({"date": "2024"}, "has a date or source and no evidence"),
        ({"evidence": "rumour"}, "evidence 'rumour'; choose one of declared, release, unknown"),
        ({"evidence": ["declared"]}, "choose one of declared, release, unknown"),
        ({"evidence": "unknown", "date": "2024"}, "has a date or source and no evidence"),
        ({"evidence": "declared", "source": SOURCE}, "has date '', which is no day, month or year"),
        *(
            ({"evidence": "declared", "source": SOURCE, "date": wrong}, "which is no day, month or year")
            for wrong in (
                *("2024-13", "2024-02-30", "June 2024", "2024-6", "24", "9999", "9999-12-31", "2024-06-1"),
                *("２０２４", "2024-06\n", True, 2024.5, ["2024"], datetime(2024, 6, 1, 3, tzinfo=UTC)),
            )
        ),
        ({"evidence": "release", "date": "2024"}, "has source ''; name the address where its release date"),
        ({"evidence": "declared", "date": "2024", "source": "the card"}, "has source 'the card'"),
        ({"evidence": "declared", "date": "2024", "source": "https://a.b\n"}, "has source"),
        ({"evidence": "declared", "date": "2024", "source": 3}, "has source 3"),
    ],
)
def test_a_wrong_cutoff_is_one_line(cutoff: object, message: str) -> None:
    """The value, the rule, the remedy."""
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        params.entry("m", {"backend": "endpoint", "cutoff": cutoff})
    assert str(caught.value).startswith("`cutoff` of model m in params.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_compressor_has_no_cutoff() -> None:
    """It was not trained; to say when would be a mistake."""
    with pytest.raises(UserError, match="model gzip in params.yaml is a compressor, which has no `cutoff`"):
        params.entry("gzip", {"backend": "compressors", "cutoff": {}})


def test_a_cutoff_changes_no_key() -> None:
    """Nothing is scored again when it is added or corrected."""
    without, dated = params.entry("m", {"backend": "endpoint", "url": "u"}), entry()
    later = entry(date="2024-11", evidence="declared", source=SOURCE)
    keys = {cells.key(1, each, "w", "s", "d") for each in (without, dated, later)}
    assert len(keys) == 1


def test_scores_say_whether_their_corpus_postdates_the_cutoff(tmp_path: Path) -> None:
    """Every row of a cell holds the cutoff and the answer, and is otherwise as it was."""
    write_corpus(tmp_path / REQUEST.name, REQUEST, [make_document("a text", 1), make_document("another", 2)])
    corpus = built_corpus(tmp_path / REQUEST.name)
    paid = Likelihood(document="a", nll=3.0, n_tokens=2, n_characters=6, n_bytes=6, lossless=True)
    scored = Scored(protocol="full/1900/512", revision="1", software="", likelihoods=[paid])
    model = entry(date="2026-08", evidence="release", source=SOURCE)
    rows = scores.summarise(model, corpus, scored)
    for since, freshness in (("2026-09-01", "after"), ("2026-08-31", "not-after")):
        dated = scores.dated(rows, model, since)
        assert dated == [
            replace(row, cutoff="2026-08", cutoff_evidence="release", freshness=freshness) for row in rows
        ]
    (row, *_) = scores.dated(rows, replace(model, cutoff=Cutoff()), "2026-09-01")
    assert (row.cutoff, row.cutoff_evidence, row.freshness) == ("", "unknown", "unknown")
    assert scores.dated(rows, ModelEntry(slug="gzip", backend="compressors"), "2026-09-01") == rows
