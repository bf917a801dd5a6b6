"""Rates by month of publication, and the fit stage that makes the table of them."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from collectors.build import write_corpus
from collectors.document import UserError, sha256_of
from evaluate import scores, trend
from evaluate.__main__ import main
from evaluate.corpus import built_corpus
from evaluate.model import Cutoff, Likelihood, ModelEntry
from evaluate.scores import Scored
from evaluate.trend import DatedCorpus, MonthlyRate, Part
from samples import REQUEST, ROOT, make_document

CUTOFF = Cutoff(date="2026-08", evidence="declared", source="https://example.org/card")
MODEL = ModelEntry(slug="m", backend="endpoint", name="org/m", cutoff=CUTOFF)
FULL = "full/1900/512"


def paid(document: str, nll: float, n_characters: int = 100) -> Likelihood:
    """Return what a document cost."""
    return Likelihood(
        document=document,
        nll=nll,
        n_tokens=9,
        n_characters=n_characters,
        n_bytes=n_characters,
        lossless=True,
    )


def dated(
    months: dict[str, str], name: str = "c", content: str = "prose", origins: dict[str, str] | None = None
) -> DatedCorpus:
    """Return a corpus of documents of these months."""
    return DatedCorpus(name=name, content=content, since="2026-01-01", months=months, origins=origins or {})


def part(corpus: DatedCorpus, rows: Sequence[Likelihood], protocol: str = FULL) -> Part:
    """Return what a model paid for them."""
    return Part(corpus=corpus, protocol=protocol, likelihoods=rows)


def test_a_rate_is_all_bits_of_a_month_over_all_its_characters() -> None:
    """Long documents weigh more than short ones, and each month has its own."""
    corpus = dated({"a": "2026-09", "b": "2026-09", "c": "2026-10"})
    bit = math.log(2)
    rows = trend.trend(
        MODEL, [part(corpus, [paid("a", 300 * bit, 300), paid("b", 20 * bit, 10), paid("c", 50 * bit, 100)])]
    )
    assert [(row.month, row.n_documents, row.n_characters) for row in rows] == [
        ("2026-09", 2, 310),
        ("2026-10", 1, 100),
    ]
    assert [row.bits_per_character for row in rows] == pytest.approx([320 / 310, 0.5])


def test_corpora_of_one_content_share_their_months() -> None:
    """And sink stands for full; another content or cut is a row of its own, streams are none."""
    one, two = dated({"a": "2026-09"}, "one"), dated({"b": "2026-09"}, "two")
    code = dated({"c": "2026-09"}, "three", "code")
    rows = trend.trend(
        MODEL,
        [
            part(one, [paid("a", 50.0)]),
            part(two, [paid("b", 70.0)], "sink/1900/512"),
            part(two, [paid("b", 90.0)], "full/100/30"),
            part(two, [paid("", 9.0)], "huang2024/1900/512"),
            part(two, [paid("", 9.0)], "stream"),
            part(code, [paid("c", 30.0)]),
        ],
    )
    assert [(row.content, row.protocol, row.corpora, row.n_documents) for row in rows] == [
        ("code", FULL, "three", 1),
        ("prose", "full/100/30", "two", 1),
        ("prose", FULL, "one two", 2),
    ]


def test_a_month_is_behind_the_cutoff_as_a_whole_or_not_at_all() -> None:
    """The month of the cutoff is not; an unknown cutoff says so, and a compressor has none."""
    corpus = dated({"a": "2026-08", "b": "2026-09"})
    parts = [part(corpus, [paid("a", 1.0), paid("b", 1.0)])]
    assert [(row.freshness, row.cutoff_until) for row in trend.trend(MODEL, parts)] == [
        ("not-after", "2026-09-01"),
        ("after", "2026-09-01"),
    ]
    middle = replace(MODEL, cutoff=replace(CUTOFF, date="2026-09-15"))
    assert [row.freshness for row in trend.trend(middle, parts)] == ["not-after", "not-after"]
    unknown = trend.trend(replace(MODEL, cutoff=Cutoff()), parts)
    assert {(row.freshness, row.cutoff, row.cutoff_evidence) for row in unknown} == {
        ("unknown", "", "unknown")
    }
    compressor = trend.trend(ModelEntry(slug="gzip", backend="compressors"), parts)
    assert {(row.freshness, row.cutoff_evidence, row.cutoff_until) for row in compressor} == {("", "", "")}


def test_a_month_begins_no_earlier_than_its_corpora() -> None:
    """A window from the middle of the month on lies behind a cutoff before it, as its scores do; all must."""
    late = replace(dated({"a": "2026-09"}, "late"), since="2026-09-20")
    early = dated({"b": "2026-09"}, "early")
    middle = replace(MODEL, cutoff=replace(CUTOFF, date="2026-09-15"))
    (row,) = trend.trend(middle, [part(late, [paid("a", 1.0)])])
    assert row.freshness == "after"
    (row,) = trend.trend(middle, [part(late, [paid("a", 1.0)]), part(early, [paid("b", 1.0)])])
    assert row.freshness == "not-after"


def test_a_document_that_the_corpus_does_not_hold_is_refused() -> None:
    """A cell of another version of the corpus would be joined with what is left of it."""
    with pytest.raises(
        UserError, match=r"m scored document 'gone', which c does not hold; score this version"
    ):
        trend.trend(MODEL, [part(dated({"a": "2026-09"}), [paid("gone", 1.0)])])


def test_months_without_text_are_left_out() -> None:
    """A rate of nothing is none."""
    corpus = dated({"a": "2026-09", "b": "2026-10"})
    rows = trend.trend(MODEL, [part(corpus, [paid("a", 0.0, 0), paid("b", 1.0)])])
    assert [row.month for row in rows] == ["2026-10"]


@settings(max_examples=30, deadline=None)
@given(
    given_rows=st.lists(
        st.tuples(
            st.sampled_from(["2026-01", "2026-02", "2026-11"]), st.floats(0, 1e6), st.integers(1, 10**6)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rates_are_those_of_sql(given_rows: list[tuple[str, float, int]]) -> None:
    """The same as a join and a GROUP BY over the same rows."""
    months = {str(i): month for i, (month, _, _) in enumerate(given_rows)}
    rows = [paid(str(i), nll, n) for i, (_, nll, n) in enumerate(given_rows)]
    found = trend.trend(MODEL, [part(dated(months), rows)])
    cells = pa.table(
        {"document": list(months), "nll": [r.nll for r in rows], "n": [r.n_characters for r in rows]}
    )
    documents = pa.table({"document": list(months), "month": list(months.values())})
    database = duckdb.connect()
    database.register("cells", cells)
    database.register("documents", documents)
    expected = database.sql(
        "SELECT month, sum(nll) / sum(n) / ln(2), count(*) FROM cells JOIN documents USING (document) "
        "GROUP BY month ORDER BY month"
    ).fetchall()
    assert [(row.month, row.n_documents) for row in found] == [(month, n) for month, _, n in expected]
    rates = [row.bits_per_character for row in found]
    assert rates == pytest.approx([rate for _, rate, _ in expected], rel=1e-9, abs=1e-12)
    for row in found:
        if row.low is not None and row.high is not None:
            assert 0 <= row.low <= row.bits_per_character <= row.high


def test_months_are_those_of_utc(tmp_path: Path) -> None:
    """The first moment of a month is in it, and the last of the one before is not, wherever the reader is."""
    instants = [datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC) - timedelta(seconds=1)]
    documents = [make_document(f"text {i}", i, published=instant) for i, instant in enumerate(instants)]
    write_corpus(tmp_path / REQUEST.name, REQUEST, documents)
    corpus = trend.read(tmp_path / REQUEST.name)
    assert corpus.months == {documents[0].id: "2026-10", documents[1].id: "2026-09"}
    assert (corpus.name, corpus.content, corpus.since) == (REQUEST.name, "prose", "2026-09-01")


def test_a_corpus_without_dates_is_refused(tmp_path: Path) -> None:
    """Its file and its facts must both say when."""
    folder = tmp_path / REQUEST.name
    write_corpus(folder, REQUEST, [make_document("text")])
    facts = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "since"}))
    with pytest.raises(
        UserError, match="does not say when its text was published .*rebuild it with `dvc repro`"
    ):
        trend.read(folder)
    table = pq.read_table(folder / "documents.parquet")
    row = table.schema.get_field_index("published")
    undated = table.set_column(row, "published", pa.nulls(len(table), table.schema.field(row).type))
    pq.write_table(undated, folder / "documents.parquet")
    digest = sha256_of(folder / "documents.parquet")
    (folder / "corpus.json").write_text(json.dumps({**facts, "documents_sha256": digest}))
    with pytest.raises(UserError, match="does not say when its text was published"):
        trend.read(folder)


def test_the_table_is_sorted_and_the_same_twice(tmp_path: Path) -> None:
    """Whatever the order of models and corpora."""
    corpus = dated({"a": "2026-10", "b": "2026-09"})
    parts = [part(corpus, [paid("a", 40.0), paid("b", 50.0)])]
    rows = [*trend.trend(MODEL, parts), *trend.trend(replace(MODEL, slug="a"), parts)]
    for name, given_rows in (("one", rows), ("two", rows[::-1])):
        trend.write(tmp_path / name, given_rows)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with (tmp_path / "one").open(newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
        assert reader.fieldnames == [field.name for field in fields(MonthlyRate)]
    assert [(line["model"], line["month"]) for line in lines] == [
        ("a", "2026-09"), ("a", "2026-10"), ("m", "2026-09"), ("m", "2026-10")
    ]  # fmt: skip


def planted_project(folder: Path, cutoffs: Sequence[str]) -> None:
    """Make a project of two monthly corpora and scored models, as many as cutoffs; each knows what precedes its own.

    Before the cutoff a character costs 1 bit, behind it 1.5.
    """
    entries: dict[str, object] = {}
    names = ("prose-2026-08", "prose-2026-09")
    for i, cutoff in enumerate(cutoffs):
        known = {"cutoff": {"date": cutoff, "evidence": "declared", "source": "https://example.org"}}
        entries[f"m{i}"] = {"backend": "endpoint", **(known if cutoff else {})}
    for month, name in enumerate(names, 8):
        request = replace(
            REQUEST,
            name=name,
            since=datetime(2026, month, 1, tzinfo=UTC),
            until=datetime(2026, month + 1, 1, tzinfo=UTC),
        )
        texts = [
            make_document(
                f"text {i} of {name}", 100 * month + i, published=datetime(2026, month, 1 + i, tzinfo=UTC)
            )
            for i in range(6)
        ]
        write_corpus(folder / "corpora" / name, request, texts)
        corpus = built_corpus(folder / "corpora" / name)
        for slug, cutoff in zip(entries, cutoffs, strict=True):
            bits = 1.5 if cutoff and f"2026-{month:02}" > cutoff else 1.0
            scored = Scored(
                protocol=FULL,
                revision="1",
                software="",
                likelihoods=[paid(text.id, bits * 100 * math.log(2)) for text in texts],
            )
            path = folder / "results" / "scores" / slug / f"{name}.parquet"
            scores.write_cell(path, ModelEntry(slug=slug, backend="endpoint"), corpus, [scored], "key")
    (folder / "evaluate").mkdir()
    for name in ("benchmarks.csv", "published_correlations.csv"):
        (folder / "evaluate" / name).write_bytes((ROOT / "evaluate" / name).read_bytes())
    project = {"snapshots": {name: {} for name in names}, "models": entries, "fit": {"resamples": 20}}
    (folder / "params.yaml").write_text(yaml.safe_dump(project))


def lines(path: Path) -> list[dict[str, str]]:
    """Return the lines of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_fit_stage_marks_every_cell_and_finds_a_planted_step(workspace: Path) -> None:
    """A model that knows what precedes its cutoff steps up behind it; scores.csv says which side a corpus is on."""
    planted_project(workspace, ["2026-08", "2026-07", ""])
    assert main(["fit"]) == 0
    found = {
        (row["model"], row["month"]): (float(row["bits_per_character"]), row["freshness"])
        for row in lines(workspace / "results" / "trend.csv")
    }
    assert found == {
        ("m0", "2026-08"): (1.0, "not-after"),
        ("m0", "2026-09"): (1.5, "after"),
        ("m1", "2026-08"): (1.5, "after"),
        ("m1", "2026-09"): (1.5, "after"),
        ("m2", "2026-08"): (1.0, "unknown"),
        ("m2", "2026-09"): (1.0, "unknown"),
    }
    marks = {(row["model"], row["corpus"], row["cutoff"], row["cutoff_evidence"], row["freshness"])
             for row in lines(workspace / "results" / "scores.csv")}  # fmt: skip
    assert marks == {
        ("m0", "prose-2026-08", "2026-08", "declared", "not-after"),
        ("m0", "prose-2026-09", "2026-08", "declared", "after"),
        ("m1", "prose-2026-08", "2026-07", "declared", "after"),
        ("m1", "prose-2026-09", "2026-07", "declared", "after"),
        ("m2", "prose-2026-08", "", "unknown", "unknown"),
        ("m2", "prose-2026-09", "", "unknown", "unknown"),
    }


def test_stale_is_true_or_false(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any other value, and any other option of `fit`, is a mistake of the user."""
    planted_project(workspace, [""])
    written = yaml.safe_load((workspace / "params.yaml").read_text())
    for options, message in (
        ({"stale": "yes"}, "`stale` of `fit` in params.yaml must be true or false, not 'yes'"),
        ({"fresh": True}, "`fit` in params.yaml takes seed, resamples, prediction, stale, not fresh"),
    ):
        (workspace / "params.yaml").write_text(yaml.safe_dump({**written, "fit": options}))
        assert main(["fit"]) == 2
        assert message in capsys.readouterr().err
    assert not (workspace / "results" / "trend.csv").exists()


def month(nll: Sequence[float], n_characters: Sequence[int], names: Sequence[str] = ()) -> MonthlyRate:
    """Return the rate of a month of documents of these costs, lengths and origins."""
    rows = [paid(f"d{i}", *one) for i, one in enumerate(zip(nll, n_characters, strict=True))]
    origins = dict(zip((row.document for row in rows), names, strict=bool(names)))
    (found,) = trend.trend(
        MODEL, [part(dated({row.document: "2026-09" for row in rows}, origins=origins), rows)]
    )
    return found


def test_the_interval_is_that_of_the_jackknife_over_origins() -> None:
    """Origins are left out one after the other; at equal lengths Student's t has one degree less than there are."""
    random = np.random.default_rng(3)
    nll, names = random.gamma(20, 5, 24), [f"o{i % 6}" for i in range(24)]
    found = month(nll.tolist(), [100] * 24, names)
    sums = np.array([nll[i::6].sum() for i in range(6)]) / math.log(2)
    rate = sums.sum() / 2400
    left = (sums.sum() - sums) / 2000
    error = math.sqrt(5 / 6 * ((left - rate) ** 2).sum()) / rate
    assert found.bits_per_character == pytest.approx(rate)
    assert [found.low, found.high] == pytest.approx(
        [rate * math.exp(sign * stats.t.ppf(0.975, 5) * error) for sign in (-1, 1)]
    )


def test_of_few_origins_there_is_no_interval() -> None:
    """However many documents they have; those without text are none, and one may be most of the month."""
    nll = [10.0, 20.0, 30.0, 40.0, 50.0]
    assert month(nll, [100] * 5, ["a", "a", "b", "b", "c"]).low is None
    assert month(nll, [100, 100, 100, 0, 0]).high is None
    assert month(nll, [100, 100, 100, 100, 9999]).high is None
    assert month(nll[:4], [100] * 4).low is not None
    assert month([0.0] * 4, [100] * 4).high == 0


@pytest.mark.parametrize("likeness", [0.0, 0.5])
def test_intervals_hold_the_truth_about_as_often_as_they_say(likeness: float) -> None:
    """Of months drawn from one law, about 95 % hold its rate, however alike documents of one origin are."""
    hits, by_document, runs = 0, 0, 300
    for seed in range(runs):
        random = np.random.default_rng(seed)
        names = np.repeat(np.arange(30), random.geometric(0.25, 30))
        lengths = random.integers(50, 500, len(names))
        shared, alone = random.normal(0, 0.2, 30)[names], random.normal(0, 0.2, len(names))
        rates = 1 + math.sqrt(likeness) * shared + math.sqrt(1 - likeness) * alone
        nll = rates * lengths
        found = month(nll.tolist(), lengths.tolist(), [f"o{i}" for i in names])
        apart = month(nll.tolist(), lengths.tolist())
        for row in (found, apart):
            assert row.low is not None
            assert row.high is not None
            hit = row.low <= 1 / math.log(2) <= row.high
            hits, by_document = (hits + hit, by_document) if row is found else (hits, by_document + hit)
    assert 0.92 * runs <= hits <= 0.98 * runs
    assert (by_document < 0.88 * runs) == (likeness > 0)
