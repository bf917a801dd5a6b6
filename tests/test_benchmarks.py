"""Benchmark scores are read, checked, imported and merged; nothing of two protocols becomes one."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate import benchmarks
from evaluate.benchmarks import BenchmarkScore
from samples import ROOT

PUBLISHED = ROOT / "evaluate" / "benchmarks.csv"
HEADER = "model,hf_id,category,benchmark,shots,value,unit,study,source"
ROW = "Falcon-7b,tiiuae/falcon-7b,general,HellaSwag,0,76.3,percent,huang2024,Table 4"
SCORE = BenchmarkScore(
    model="Falcon-7b",
    hf_id="tiiuae/falcon-7b",
    category="general",
    benchmark="HellaSwag",
    shots=0,
    value=76.3,
    unit="percent",
    study="huang2024",
    source="Table 4",
)
LM_EVAL = {
    "results": {
        "arc_challenge": {"acc,none": 0.26, "acc_norm,none": 0.295, "acc_norm_stderr,none": 0.013},
        "my_task": {"exact_match,get-answer": 0.5},
    },
    "versions": {"arc_challenge": 1.0},
    "n-shot": {"arc_challenge": 25},
    "model_name": "HuggingFaceTB/SmolLM2-135M",
    "lm_eval_version": "0.4.9",
}


def table(path: Path, *lines: str) -> Path:
    """A file of lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def result(path: Path, **changes: object) -> Path:
    """A result file of lm-evaluation-harness."""
    path.write_text(json.dumps({**LM_EVAL, **changes}))
    return path


def test_row_is_read(tmp_path: Path) -> None:
    """A line becomes a record, its value as published."""
    assert benchmarks.read(table(tmp_path / "b.csv", HEADER, ROW)) == [SCORE]


def test_byte_order_mark_and_empty_shots_are_read(tmp_path: Path) -> None:
    """What a spreadsheet saves reads as well, and unknown shots stay unknown."""
    path = table(tmp_path / "b.csv", f"\ufeff{HEADER}", ROW.replace(",0,", ",,"))
    assert benchmarks.read(path) == [replace(SCORE, shots=None)]


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ([], "the column 'model' is missing"),
        ([HEADER.replace(",unit", "")], "line 1: the column 'unit' is missing: the columns are model, hf_id"),
        ([HEADER, ROW.replace("76.3", "")], "line 2: value '' is no number"),
        ([HEADER, ROW.replace("76.3", "76,3")], "line 2: it has more or fewer cells than the header"),
        ([HEADER, ROW.removesuffix(",Table 4")], "line 2: it has more or fewer cells than the header"),
        (
            [HEADER, ROW.replace("76.3", "nan")],
            "line 2: value nan of Falcon-7b on HellaSwag is not from 0 to 100",
        ),
        (
            [HEADER, ROW.replace("76.3", "inf")],
            "line 2: value inf of Falcon-7b on HellaSwag is not from 0 to 100",
        ),
        (
            [HEADER, ROW.replace("76.3", "-1")],
            "line 2: value -1.0 of Falcon-7b on HellaSwag is not from 0 to 100",
        ),
        (
            [HEADER, ROW.replace("percent", "fraction")],
            "value 76.3 .* is not from 0 to 1, the range of fraction",
        ),
        (
            [HEADER, ROW.replace("percent", "bits")],
            "unit 'bits' is none of percent, fraction, bits_per_character",
        ),
        ([HEADER, ROW.replace("general", "chat")], "category 'chat' is none of general, code, math"),
        ([HEADER, ROW.replace(",0,", ",few,")], "shots 'few' is no whole number"),
        ([HEADER, ROW.replace(",0,", ",-1,")], "shots '-1' is no whole number"),
        ([HEADER, ROW.replace(",0,", ",5000,")], "shots 5000 is not from 0 to 1000"),
        ([HEADER, ROW.replace("huang2024", "")], "study is empty"),
        ([HEADER, ROW.replace("Table 4", "x" * 301)], "source 'x+… is not plain text on one line"),
        ([HEADER, ROW.replace("Table 4", "a\tb")], r"source 'a\\tb' is not plain text on one line"),
        (
            [HEADER, ROW, ROW],
            "line 3: Falcon-7b has a value for HellaSwag .0-shot, huang2024. in line 2 already",
        ),
        (
            [HEADER, ROW, ROW.replace("Falcon-7b", "F")],
            "line 3: F has a value for HellaSwag .* in line 2 already",
        ),
        (
            [HEADER, ROW, ROW.replace("tiiuae/", "x/").replace(",0,", ",1,")],
            "both tiiuae/falcon-7b and x/falcon-7b",
        ),
        ([HEADER, ROW, ROW.replace("general", "code").replace(",0,", ",1,")], "both general and code"),
        ([HEADER, '"' + ROW], "line 2: unexpected end of data"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, lines: list[str], rule: str) -> None:
    """Each rule names line, value and remedy, on one line."""
    with pytest.raises(UserError, match=rule) as caught:
        benchmarks.read(table(tmp_path / "b.csv", *lines))
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    """A missing, a binary and a huge file are refused alike."""
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(benchmarks.MAX_BYTES + 1)
    for name, rule in (
        ("none.csv", "cannot be read"),
        ("binary.csv", "UTF-8"),
        ("huge.csv", "larger than 50 MB"),
    ):
        with pytest.raises(UserError, match=rule):
            benchmarks.read(tmp_path / name)


def test_names_that_share_a_hub_id_are_one_model() -> None:
    """A name, another name and the hub id mean the same model, whatever their case."""
    rows = [
        SCORE,
        replace(SCORE, model="falcon 7B", shots=5),
        replace(SCORE, model="Other", hf_id="", shots=5),
    ]
    identity = benchmarks.identities(rows)
    assert {identity[name] for name in ("falcon-7b", "falcon 7b", "tiiuae/falcon-7b")} == {"tiiuae/falcon-7b"}
    assert identity["other"] == "other"


def test_published_scores_are_complete() -> None:
    """The repository's own table holds the paper's models and benchmarks, once each, with their sources."""
    rows = benchmarks.read(PUBLISHED)
    paper = [row for row in rows if row.study == "huang2024" and row.source.startswith("arXiv")]
    models = {row.model: row.category for row in paper}
    assert sorted(models.values()) == ["code"] * 9 + ["general"] * 19 + ["math"] * 3
    sizes = {
        "HellaSwag": 19, "ARC-Challenge": 19, "NaturalQuestions": 19, "TriviaQA": 19, "MMLU (cloze)": 19,
        "HumanEval": 28, "MBPP": 28, "DS-1000": 28, "GSM8K": 22, "MATH": 22, "SAT-Math": 22, "MMLU-Math": 22,
        "MMLU (multiple choice)": 19, "Common Crawl": 19, "GitHub Python": 28, "ArXiv-Math": 22,
    }  # fmt: skip
    assert {name: sum(row.benchmark == name for row in paper) for name in sizes} == sizes
    assert all(row.hf_id for row in paper)


def test_protocols_are_studies() -> None:
    """HellaSwag of the paper, of the leaderboard and of a model card are three quantities."""
    rows = [row for row in benchmarks.read(PUBLISHED) if row.benchmark == "HellaSwag"]
    assert {(row.study, row.shots) for row in rows} >= {
        ("huang2024", 0),
        ("open-llm-leaderboard", 10),
        ("ruan2024", 10),
        ("smollm2-card", 0),
    }


def test_own_table_is_in_the_order_that_add_writes(tmp_path: Path) -> None:
    """Adding to the repository's table changes the added lines alone."""
    path = tmp_path / "b.csv"
    path.write_bytes(PUBLISHED.read_bytes())
    assert benchmarks.add(path, benchmarks.read(PUBLISHED)) == 0
    assert path.read_bytes() == PUBLISHED.read_bytes()


def test_adding_is_sorted_and_idempotent(tmp_path: Path) -> None:
    """The order of additions leaves no trace, and adding again changes nothing."""
    rows = [
        SCORE,
        replace(SCORE, model="Aquila", hf_id=""),
        replace(SCORE, shots=None),
        replace(SCORE, shots=10),
    ]
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    assert benchmarks.add(one, rows) == 4
    assert [benchmarks.add(other, [row]) for row in reversed(rows)] == [1, 1, 1, 1]
    assert one.read_bytes() == other.read_bytes()
    assert benchmarks.add(one, rows) == 0
    assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv", "other.csv"]


def test_another_value_for_the_same_score_is_refused(tmp_path: Path) -> None:
    """A contradiction names both values and leaves the file as it was, under either name of the model."""
    path = tmp_path / "b.csv"
    benchmarks.add(path, [SCORE])
    before = path.read_bytes()
    for change in (
        {"value": 75.0},
        {"value": 0.75, "unit": "fraction"},
        {"value": 75.0, "model": "tii's 7b"},
    ):
        with pytest.raises(UserError, match=r"76\.3 percent \(Table 4\) in b\.csv, now (75|0\.75)"):
            benchmarks.add(path, [replace(SCORE, **change)])
    assert path.read_bytes() == before


def test_lm_eval_result_is_imported(tmp_path: Path) -> None:
    """Known tasks get the benchmark's name; metric, filter and task version become the study."""
    path = tmp_path / "b.csv"
    source = result(tmp_path / "results_2025.json")
    assert benchmarks.import_file(source, path) == 2
    assert benchmarks.import_file(source, path) == 0
    arc, plain = sorted(benchmarks.read(path), key=lambda row: row.benchmark)
    assert (arc.model, arc.hf_id, arc.benchmark, arc.shots) == (
        "HuggingFaceTB/SmolLM2-135M",
        "HuggingFaceTB/SmolLM2-135M",
        "ARC-Challenge",
        25,
    )
    assert (arc.value, arc.unit, arc.study) == (0.295, "fraction", "lm-eval acc_norm v1.0")
    assert arc.source == "lm-evaluation-harness 0.4.9, task arc_challenge"
    assert (plain.benchmark, plain.shots, plain.study) == ("my_task", None, "lm-eval exact_match get-answer")


def test_chat_template_is_another_study(tmp_path: Path) -> None:
    """Scores with a chat template are kept apart from scores without one."""
    path = tmp_path / "b.csv"
    assert benchmarks.import_file(result(tmp_path / "plain.json"), path) == 2
    assert benchmarks.import_file(result(tmp_path / "chat.json", chat_template="{{ m }}"), path) == 2


def test_model_of_a_result_may_be_named(tmp_path: Path) -> None:
    """A given name replaces that of the file, whose hub id stays; a folder is never written down."""
    named = benchmarks.read_lm_eval(result(tmp_path / "r.json"), model="SmolLM2-135M")
    assert {(row.model, row.hf_id) for row in named} == {("SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M")}
    local = result(tmp_path / "l.json", model_name="/home/someone/models/smol")
    assert {row.hf_id for row in benchmarks.read_lm_eval(local, model="Smol")} == {""}
    with pytest.raises(UserError, match=r"l\.json: it names the model by its folder, .*: add --model NAME"):
        benchmarks.read_lm_eval(local)
    with pytest.raises(
        UserError, match=r"n\.json: it does not say which model was measured: add --model NAME"
    ):
        benchmarks.read_lm_eval(result(tmp_path / "n.json", model_name=""))


def test_csv_is_imported(tmp_path: Path) -> None:
    """A table in our columns is merged; an empty model is the one named."""
    source = table(tmp_path / "more.csv", HEADER, ROW, ROW.replace("Falcon-7b,tiiuae/falcon-7b", ","))
    path = tmp_path / "b.csv"
    assert benchmarks.import_file(source, path, model="Mine") == 2
    assert [row.model for row in benchmarks.read(path)] == ["Falcon-7b", "Mine"]


def test_other_files_are_not_imported(tmp_path: Path) -> None:
    """Only .json and .csv are, whatever is in them."""
    with pytest.raises(UserError, match=r"r\.txt is neither \.json nor \.csv"):
        benchmarks.import_file(result(tmp_path / "r.txt"), tmp_path / "b.csv")


hostile = st.text(max_size=12) | st.floats() | st.integers() | st.none() | st.booleans()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(task=st.text(max_size=12), value=hostile, version=hostile, model=hostile, shots=hostile)
def test_hostile_results_never_break_the_importer(
    tmp_path: Path, task: str, value: object, version: object, model: object, shots: object
) -> None:
    """Any names and numbers in a result end in rows that read back, or in a UserError."""
    path = tmp_path / "r.json"
    content = {
        "results": {task: {"acc,none": value}, "piqa": {"acc,none": 0.5}},
        "versions": {task: version, "piqa": version},
        "n-shot": {task: shots, "piqa": shots},
        "model_name": model,
    }
    path.write_text(json.dumps(content))
    target = tmp_path / "b.csv"
    target.unlink(missing_ok=True)
    try:
        added = benchmarks.import_file(path, target)
    except UserError:
        assert not target.exists()
    else:
        assert len(benchmarks.read(target)) == added


texts = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            BenchmarkScore,
            model=texts,
            hf_id=st.just(""),
            category=st.just("general"),
            benchmark=texts,
            shots=st.none() | st.integers(0, 1000),
            value=st.floats(0, 1),
            unit=st.just("fraction"),
            study=texts,
            source=texts,
        ),
        max_size=8,
        unique_by=lambda row: (row.model.casefold(), row.benchmark, row.shots, row.study),
    )
)
def test_rows_survive_the_file(tmp_path: Path, rows: list[BenchmarkScore]) -> None:
    """What was added reads back as it was, commas, quotes and any script included."""
    path = tmp_path / "b.csv"
    path.unlink(missing_ok=True)
    assert benchmarks.add(path, rows) == len(rows)
    assert set(benchmarks.read(path)) == set(rows)


def test_values_stay_as_published() -> None:
    """A percentage stays one: the file says 76.3, not 0.763."""
    with PUBLISHED.open(newline="") as file:
        (row,) = (
            row
            for row in csv.DictReader(file)
            if (row["model"], row["benchmark"], row["study"]) == ("Falcon-7b", "HellaSwag", "huang2024")
        )
    assert (row["value"], row["unit"], row["shots"]) == ("76.3", "percent", "0")
