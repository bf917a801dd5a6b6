"""Benchmark scores that others measured, one row per model, benchmark, number of shots and study.

A study is one way of measuring, by one party: 0-shot HellaSwag of a paper and 10-shot HellaSwag of a
leaderboard are different quantities, and so are `acc` and `acc_norm` of one run. Nothing is averaged
or fitted across studies. Values stay as published, in the unit they were published in.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from collectors.document import UserError, replacing
from evaluate import lm_eval

UNITS = {"percent": 100.0, "fraction": 1.0, "bits_per_character": 64.0}  # the greatest value; the least is 0
CATEGORIES = ("general", "code", "math", "")
MAX_BYTES = 50_000_000
MAX_TEXT = 300
MAX_SHOTS = 1000

# Area of each benchmark, and the lm-evaluation-harness task that measures it, where there is one.
_BENCHMARKS = {
    "ARC (easy and challenge)": ("knowledge", ""),
    "ARC-Challenge": ("knowledge", "arc_challenge"),
    "ARC-Easy": ("knowledge", "arc_easy"),
    "CommonsenseQA": ("knowledge", "commonsense_qa"),
    "HellaSwag": ("knowledge", "hellaswag"),
    "MMLU": ("knowledge", "mmlu"),
    "MMLU (cloze)": ("knowledge", "mmlu_continuation"),
    "MMLU (multiple choice)": ("knowledge", ""),
    "NaturalQuestions": ("knowledge", "nq_open"),
    "OpenBookQA": ("knowledge", "openbookqa"),
    "PIQA": ("knowledge", "piqa"),
    "TriviaQA": ("knowledge", "triviaqa"),
    "TruthfulQA (MC2)": ("knowledge", "truthfulqa_mc2"),
    "Winogrande": ("knowledge", "winogrande"),
    "DS-1000": ("coding", ""),
    "HumanEval": ("coding", "humaneval"),
    "MBPP": ("coding", "mbpp"),
    "GSM8K": ("math", "gsm8k"),
    "MATH": ("math", "minerva_math"),
    "MMLU-Math": ("math", ""),
    "SAT-Math": ("math", "agieval_sat_math"),
}
_NAME_OF_TASK = {task: name for name, (_, task) in _BENCHMARKS.items() if task}

_Key = tuple[str, str, int | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkScore:
    """One published number; building one checks it.

    Attributes:
        model: the name that its source gives the model.
        hf_id: the model's id on the hub, empty when unknown.
        category: one of `CATEGORIES`: what the model was trained for; empty when unknown.
        benchmark: the benchmark, or the corpus where `unit` is bits_per_character.
        shots: examples in the prompt; None when unknown, or where there is no prompt.
        value: the score, in `unit`.
        unit: one of `UNITS`.
        study: who measured, and how; see the module's text.
        source: where the number is printed.

    Raises:
        UserError: when a field breaks its rule.
    """

    model: str
    hf_id: str
    category: str
    benchmark: str
    shots: int | None
    value: float
    unit: str
    study: str
    source: str

    def __post_init__(self) -> None:
        for name in ("model", "hf_id", "benchmark", "study", "source"):
            text = getattr(self, name)
            if len(text) > MAX_TEXT or not text.isprintable() or text != text.strip():
                raise UserError(
                    f"{name} {_shown(text)} is not plain text on one line: give 1 to {MAX_TEXT} characters"
                )
            if not text and name != "hf_id":
                raise UserError(f"{name} is empty: every benchmark score needs one")
        if self.category not in CATEGORIES:
            allowed = ", ".join(filter(None, CATEGORIES))
            raise UserError(
                f"category {_shown(self.category)} is none of {allowed}: use one, or leave it empty"
            )
        if self.unit not in UNITS:
            raise UserError(f"unit {_shown(self.unit)} is none of {', '.join(UNITS)}: use one of them")
        if self.shots is not None and not 0 <= self.shots <= MAX_SHOTS:
            raise UserError(
                f"shots {_shown(self.shots)} is not from 0 to {MAX_SHOTS}: leave it empty when unknown"
            )
        if not 0 <= self.value <= UNITS[self.unit]:  # false for NaN too
            raise UserError(
                f"value {_shown(self.value)} of {self.model} on {self.benchmark} is not from 0 to "
                f"{UNITS[self.unit]:g}, the range of {self.unit}: correct the value or the unit"
            )

    @property
    def title(self) -> str:
        """What was measured, in a few words: benchmark, shots and study."""
        return f"{self.benchmark} ({'' if self.shots is None else f'{self.shots}-shot, '}{self.study})"


COLUMNS = tuple(field.name for field in fields(BenchmarkScore))


def area(benchmark: str) -> str:
    """Return `knowledge`, `coding` or `math`, and `other` for a benchmark not known here."""
    return _BENCHMARKS.get(benchmark, ("other", ""))[0]


def identities(rows: Iterable[BenchmarkScore]) -> dict[str, str]:
    """Return which model each name means, by name and by hub id, all in lower case.

    Names that share a hub id mean the same model; without a hub id the name is the identity.

    Raises:
        UserError: when one model has two hub ids or two categories.
    """
    hub_ids: dict[str, str] = {}
    categories: dict[str, str] = {}
    names = set()
    for row in rows:
        name, hub_id = row.model.casefold(), row.hf_id.casefold()
        names.add(name)
        for known, value in ((hub_ids, hub_id), (categories, row.category)):
            if value and known.setdefault(name, value) != value:
                raise UserError(
                    f"{row.model} is both {known[name]} and {value}: give each model a name of its own"
                )
    return {name: name for name in names} | {hub_id: hub_id for hub_id in hub_ids.values()} | hub_ids


def read(path: Path) -> list[BenchmarkScore]:
    """Read a CSV file with the columns of `BenchmarkScore`, in its order.

    Raises:
        UserError: when a column is missing, a field breaks its rule, or a line repeats another's score.
    """
    return _read_rows(path, None)


def add(path: Path, rows: Iterable[BenchmarkScore]) -> int:
    """Merge rows into a CSV file of benchmark scores, sorted, by rename; return how many are new.

    A row that is already there changes nothing.

    Raises:
        UserError: when a row contradicts one that is there, and then nothing is written.
    """
    before = read(path) if path.exists() else []
    rows = [*before, *rows]
    merged: dict[_Key, BenchmarkScore] = {}
    for key, row in zip(_keys(rows), rows, strict=True):
        known = merged.setdefault(key, row)
        if (known.value, known.unit) != (row.value, row.unit):
            raise UserError(
                f"{row.model} has two values for {row.title}: {known.value:g} {known.unit} ({known.source}) "
                f"in {path.name}, now {row.value:g} {row.unit} ({row.source}): keep one, or name another study"
            )
    ordered = sorted(
        merged.values(), key=lambda r: (r.study, r.model, r.benchmark, -1 if r.shots is None else r.shots)
    )
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in ordered)
    return len(merged) - len(before)


def import_file(source: Path, path: Path, *, model: str | None = None) -> int:
    """Add the scores of a lm-evaluation-harness result (.json) or of a CSV file; return how many are new.

    Args:
        source: the file to import.
        path: the CSV file of benchmark scores to add them to.
        model: the model's published name: replaces the one in a result file, fills empty ones of a CSV.

    Raises:
        UserError: as `read_lm_eval`, `read` and `add`.
    """
    if source.suffix.lower() == ".json":
        return add(path, read_lm_eval(source, model=model))
    if source.suffix.lower() == ".csv":
        return add(path, _read_rows(source, model))
    raise UserError(f"{source.name} is neither .json nor .csv: give a lm-eval result or a table of scores")


def read_lm_eval(path: Path, *, model: str | None = None) -> list[BenchmarkScore]:
    """Read a result file of lm-evaluation-harness; `lm_eval` says which of its metrics are taken.

    Metric, answer filter, task version and the use of a chat template become part of the study.

    Raises:
        UserError: when the file is no such result or names no model and `model` does not either.
    """
    try:
        return _from_run(lm_eval.parse(_text(path)), model)
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error


def _from_run(run: lm_eval.Run, model: str | None) -> list[BenchmarkScore]:
    if not (model or run.model):
        raise UserError("it does not say which model was measured: add --model NAME")
    is_hub_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", run.model, re.ASCII)
    if not (model or is_hub_id) and re.search(r"[/\\]", run.model):
        raise UserError(f"it names the model by its folder, {_shown(run.model)}: add --model NAME")
    chat = ", chat template" if run.chat_template else ""
    rows = []
    for score in run.scores:
        version = f" v{score.version}" if score.version else ""
        rows.append(
            BenchmarkScore(
                model=model or run.model,
                hf_id=run.model if is_hub_id else "",
                category="",
                benchmark=_NAME_OF_TASK.get(score.task, score.task),
                shots=score.shots,
                value=score.value,
                unit="fraction",
                study=f"lm-eval {score.metric}{version}{chat}",
                source=f"{f'lm-evaluation-harness {run.harness}'.strip()}, task {score.task}",
            )
        )
    return rows


def _read_rows(path: Path, model: str | None) -> list[BenchmarkScore]:
    # A spreadsheet puts a byte order mark before the first column's name.
    reader = csv.DictReader(io.StringIO(_text(path).removeprefix("\ufeff"), newline=""), strict=True)
    rows: dict[int, BenchmarkScore] = {}
    try:
        _check_header(reader.fieldnames or ())
        for cells in reader:
            rows[reader.line_num] = _row(cells, model)
    except (csv.Error, UserError) as error:
        remedy = "; mend its quotes" if isinstance(error, csv.Error) else ""
        raise UserError(f"{path.name}, line {reader.reader.line_num}: {error}{remedy}") from error
    seen: dict[_Key, int] = {}
    for (line, row), key in zip(rows.items(), _keys(rows.values()), strict=True):
        if seen.setdefault(key, line) != line:
            raise UserError(
                f"{path.name}, line {line}: {row.model} has a value for {row.title} in line {seen[key]} already: "
                "remove one of them"
            )
    return list(rows.values())


def _check_header(names: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UserError(f"the column {missing[0]!r} is missing: the columns are {', '.join(COLUMNS)}")


def _row(cells: dict[str, str | None], model: str | None) -> BenchmarkScore:
    if None in cells or None in cells.values():
        raise UserError("it has more or fewer cells than the header: quote a text that holds commas")
    values: dict[str, Any] = {name: (cells[name] or "").strip() for name in COLUMNS}
    values["model"] = values["model"] or model or ""
    shots = values["shots"]
    if shots and not re.fullmatch(r"[0-9]{1,4}", shots):
        raise UserError(f"shots {_shown(shots)} is no whole number: leave it empty when unknown")
    values["shots"] = int(shots) if shots else None
    try:
        values["value"] = float(values["value"])
    except ValueError:
        raise UserError(
            f"value {_shown(values['value'])} is no number: give a decimal such as 41.2"
        ) from None
    return BenchmarkScore(**values)


def _keys(rows: Iterable[BenchmarkScore]) -> list[_Key]:
    """Return what identifies each score: the model by identity, benchmark, shots and study."""
    rows = list(rows)
    identity = identities(rows)
    return [(identity[row.model.casefold()], row.benchmark, row.shots, row.study) for row in rows]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path.name} is larger than {MAX_BYTES // 1_000_000} MB: give the scores alone")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} cannot be read ({_shown(str(error))}): give a UTF-8 file") from error


def _shown(value: str | float) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
