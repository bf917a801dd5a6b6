"""Damaged and planted inputs: each command ends with a status, at most one line of error, and files as they were.

Every example breaks one file of a small project that has gone through the whole pipeline, and runs a command
that reads it. Files that stand under a digest are damaged under a new one too, so that the reader behind the
digest is met.
"""

import copy
import csv
import gzip
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_packages import install
from test_transformers_model import WIDE, save_model

from collectors import __main__ as collectors
from evaluate import __main__ as evaluate
from samples import ROOT

GROW = "def grow(stone, {0}):\n    return [patch for patch in stone if patch.wet{0} and {0}.likes(patch)]\n"
PARAMS = """
snapshots:
  first: &own
    source: packages
    content: prose
    since: "2026-09-01"
    until: "2026-10-01"
    distributions: {Moss.Tools: {version: "1.0", published: "2026-09"}}
  second: {<<: *own, content: code}
filters: {code: {min_characters: 10, license: [MIT]}, prose: {language: {en: 0.0}}}
dedup: {threshold: 0.9, minhash: {words: 5, permutations: 112, bands: 28, seed: 1}}
models:
  tiny:
    backend: transformers
    source: tiny
    name: org/tiny
    family: tiny
    cutoff: {date: "2024-11", evidence: release, source: "https://example.org"}
  other: {backend: transformers, source: tiny}
  gzip: {backend: compressors}
score: {protocol: full, window: 100, stride: 30, precision: null, seed: 1, engine: local}
entropy: {tokens: 64, fixed: false, layers: last, seed: null}
membership: {tokens: 64, share: 0.3}
phylogeny: {genes: 4, seed: 1, alleles: first-token, temperature: 0.7, estimator: unbiased}
fit: {seed: 1, resamples: 20, prediction: ridge, stale: false}
"""
RUN = """{"results": {"hellaswag": {"acc,none": 0.5, "acc_norm,none": 0.6}, "mmlu": {"acc,none": 0.4}},
"group_subtasks": {"mmlu": ["mmlu_law"]}, "configs": {"hellaswag": {"num_fewshot": 10}}, "versions": {"mmlu": 1.0},
"n-shot": {"hellaswag": 10, "mmlu_law": 5}, "n-samples": {"hellaswag": {"original": 100, "effective": 100}},
"config": {"model_args": "pretrained=org/name", "limit": null}, "model_name": "org/name"}"""
MATRIX = "model,a,b,c,family\na,0,1,2,x\nb,1,0,1.5,x\nc,2,1.5,0,y\n"
REMOVED = f'id,reason\n{"0" * 64},asked\nurl:https://example.org/*,"a, b"\nauthor:Jane [D]oe,asked\n'
ODD = [None, [], {}, 0, -1, 10**30, 1.5, float("nan"), True, "", "text", "\0", {"a": {"b": 1}}, ["a"], [None]]
CELLS = ["", "x", "nan", "inf", "-1", "0", "1e300", "1" * 5000, "\0", "<script>"]
KINDS = [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.list_(pa.string())]
BYTES = [b"", b"\0", b"\xff\xfe", b"null", b"[" * 9999, b'"', b"\n", b",", b"-1", b"1e999", b"NaN"]
VALUES: dict[Any, list[Any]] = {
    pa.string(): ["", "\0", "x"],
    pa.int64(): [0, -1, 2**62],
    pa.float64(): [float("nan"), float("inf"), -1.0, 0.0, 1e300],
}
COMMANDS = {
    "collect": "second --workers 1", "extract": "second --workers 1", "dedup": "second", "export": "second -o new",
    "rebuild": "out --workers 1", "overlap": "first --sketch s.sketch", "diff": "workspace workspace",
    "score": "--all", "entropy": "--model tiny", "membership": "--model tiny", "phylogeny": "--model tiny",
    "fit": "", "report": "", "tree": "matrix.csv --svg tree.svg", "benchmarks": "run.json",
    "trace": "scores.csv:model=gzip,corpus=first", "passages": "--model tiny",
}  # fmt: skip
RAW, BUILT = "corpora/raw/second", "corpora/second"
TABLES = "scores entropy differences fits points scaling scaling_points trend law unmatched relatives map predictions"
INPUTS = {
    "params.yaml": "collect extract dedup export diff score entropy membership phylogeny fit report",
    f"{RAW}/snapshot.json": "collect extract dedup export",
    f"{RAW}/records.jsonl": "collect extract",
    f"{RAW}/second-00000000.warc.gz": "collect extract",
    "corpora/documents/second.parquet": "dedup",
    "corpora/documents/second.signatures.parquet": "dedup diff",
    "corpora/documents/first.signatures.parquet": "dedup",
    f"{BUILT}/documents.parquet": "export diff score fit membership phylogeny",
    f"{BUILT}/dropped.parquet": "diff",
    f"{BUILT}/corpus.json": "export score fit report",
    "corpora/removed.csv": "dedup export",
    "out/recipe.json": "rebuild",
    "out/recipe.parquet": "rebuild",
    "s.sketch": "overlap",
    "run.json": "benchmarks",
    "evaluate/benchmarks.csv": "benchmarks fit",
    "evaluate/published_correlations.csv": "fit",
    "results/scores/tiny/second.parquet": "fit score",
    "results/entropy/tiny/second.parquet": "fit entropy",
    "results/membership/tiny/second.parquet": "membership",
    "results/phylogeny/tiny/genome.parquet": "fit phylogeny",
    "results/tree.json": "report",
    **{f"results/{name}.csv": "report trace" for name in TABLES.split()},
    "matrix.csv": "tree",
}
PAIRS = [(Path(name), command) for name, commands in INPUTS.items() for command in commands.split()]

Files = dict[Path, bytes]


def held() -> Files:
    """Return the files of the working directory, but those of the model, and journals that a run may leave."""
    names = (Path(folder, name) for folder, _, found in os.walk(".") for name in found)
    return {path: path.read_bytes() for path in names if path.parts[0] not in {"tiny", "site", ".staging"}}


def run(command: str, arguments: str) -> int | str | None:
    """Run a command; return its status."""
    main = collectors.main if command in collectors.COMMANDS else evaluate.main
    try:
        return main((command, *arguments.split()))
    except SystemExit as ended:
        return ended.code


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """The files of the project, which is the working directory of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        texts = {f"moss/{word}.py": GROW.format(word).encode() * 2 for word in ("moss", "fern", "lichen")}
        install(Path("site"), {**texts, "moss/few.py": b"a = 1"})
        patch.setattr(sys, "path", [str(Path("site").resolve()), *sys.path])
        save_model(Path("tiny"), transformers.LlamaConfig(**WIDE))
        for name, text in (("params.yaml", PARAMS), ("run.json", RUN), ("matrix.csv", MATRIX)):
            Path(name).write_text(text)
        Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
        Path("evaluate").mkdir()
        shutil.copy(ROOT / "evaluate/published_correlations.csv", "evaluate")
        header, *lines = (ROOT / "evaluate/benchmarks.csv").read_text().splitlines(keepends=True)
        few = [line for line in lines if "huang2024" in line and line[0] in "DLM"]
        Path("evaluate/benchmarks.csv").write_text("".join([header, *few]))
        steps = [("collect", f"{name} --workers 1") for name in ("first", "second")]
        steps += [("extract", f"{name} --workers 1") for name in ("first", "second")]
        steps += [("dedup", "first"), ("dedup", "second"), ("export", "second -o out")]
        steps += [
            ("rebuild", COMMANDS["rebuild"]),
            ("overlap", "first --with corpora/second --sketch s.sketch"),
        ]
        steps += [(each, "--all") for each in ("score", "entropy", "membership", "phylogeny", "passages")]
        steps += [("fit", ""), ("report", ""), ("benchmarks", "run.json"), ("tree", COMMANDS["tree"])]
        assert [(step, run(*step)) for step in steps] == [(step, 0) for step in steps]
        Path("corpora/removed.csv").write_text(REMOVED)
        yield held()


def as_json(value: Any) -> bytes:
    """Return JSON as bytes."""
    return json.dumps(value).encode()


def nodes(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every node of nested mappings and lists."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from nodes(child, (*place, key))


@st.composite
def planted(draw: st.DrawFn, value: Any) -> Any:
    """Return a value with one node that is another, or gone."""
    value = copy.deepcopy(value)
    *above, last = draw(st.sampled_from([place for place in nodes(value) if place]))
    parent = value
    for key in above:
        parent = parent[key]
    if draw(st.integers(0, 9)):
        parent[last] = draw(st.sampled_from(ODD))
    else:
        del parent[last]
    return value


@st.composite
def garbled(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes with a piece that is other bytes, or the beginning of them alone."""
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(len(data), start + 40)) | st.just(len(data)))
    return data[:start] + draw(st.sampled_from(BYTES) | st.binary(max_size=9)) + data[stop:]


@st.composite
def reshaped(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a Parquet file with a column gone, of another type, empty or odd, or with other rows."""
    table = pq.read_table(io.BytesIO(data))
    place = draw(st.integers(0, table.num_columns - 1))
    field, n = table.schema.field(place), table.num_rows
    values = table[place].to_pylist()
    match draw(st.sampled_from(["rows", "drop", "kind", "null", "nulls", "value", "value"])):
        case "rows":
            table = draw(st.sampled_from([table[:0], table[:1], pa.concat_tables([table, table])]))
        case "drop":
            table = table.remove_column(place)
        case "kind":
            kind = draw(st.sampled_from(KINDS))
            table = table.set_column(place, pa.field(field.name, kind), pa.nulls(n, kind))
        case "value" if field.type in VALUES:
            filled = [draw(st.sampled_from(VALUES[field.type])), *values[1:]]
            table = table.set_column(place, field, pa.array(filled, field.type))
        case "null":
            table = table.set_column(place, field, pa.array([None, *values[1:]], field.type))
        case _:
            table = table.set_column(place, field, pa.nulls(n, field.type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


@st.composite
def respelled(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a CSV file with one cell that is another."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = rows[draw(st.integers(0, min(20, len(rows)) - 1))]
    row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(CELLS))
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().encode()


def damages(path: Path, data: bytes) -> st.SearchStrategy[bytes]:
    """Return what may have become of a file."""
    match path.suffix:
        case ".json" | ".yaml":
            return garbled(data) | planted(yaml.safe_load(data)).map(as_json)
        case ".jsonl":
            first, _, rest = data.partition(b"\n")
            return garbled(data) | planted(json.loads(first)).map(lambda row: as_json(row) + b"\n" + rest)
        case ".parquet":
            return garbled(data) | reshaped(data) | reshaped(data)
        case ".csv":
            return garbled(data) | respelled(data)
        case ".gz":
            return garbled(data) | garbled(gzip.decompress(data)).map(gzip.compress)
    magic, _, header, blocks = data.split(
        b"\n", 3
    )  # of a sketch; behind the magic is the digest of the header
    headers = planted(json.loads(header)).map(as_json)
    return garbled(data) | headers.map(
        lambda line: b"\n".join([magic, sha256(line + b"\n").hexdigest().encode(), line, blocks])
    )


def sealed(files: Files, path: Path, data: bytes) -> Files:
    """Return a damaged file, and the manifest beside it with the digest that it now has."""
    known, found = (sha256(each).hexdigest().encode() for each in (files[path], data))
    manifests = [p for p in files if p.parent == path.parent and p.suffix == ".json" and known in files[p]]
    return {path: data, **{p: files[p].replace(known, found) for p in manifests}}


@pytest.mark.parametrize(("path", "command"), PAIRS)
@settings(max_examples=10, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_input_is_one_line(
    whole: Files, capsys: pytest.CaptureFixture[str], path: Path, command: str, data: st.DataObject
) -> None:
    """Whatever is in a file that a command reads: a status, at most one line, and nothing half-written."""
    damaged = data.draw(damages(path, whole[path]))
    before = whole | (sealed(whole, path, damaged) if data.draw(st.booleans()) else {path: damaged})
    try:
        for name in [name for name in before if before[name] != whole[name]]:
            name.write_bytes(before[name])
        capsys.readouterr()
        status = run(command, COMMANDS[command])
        lines = [x for x in capsys.readouterr().err.splitlines() if "error" in x or "Traceback" in x]
        after = held()
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert status in (0, 1, 2)  # 1 is a verdict on what was done, such as a text that is not the same
        assert [line.startswith("error: ") for line in lines] == [True] * (status == 2)
        # What a failure leaves under a temporary name is overwritten by the next attempt, and read by none.
        assert status != 2 or {name.suffix for name in changed} <= {".tmp"}
        assert status == 2 or not any(name.suffix == ".tmp" for name in changed)
    finally:
        after = held()
        for name in after.keys() - whole.keys():
            name.unlink()
        for name in (name for name, content in whole.items() if after.get(name) != content):
            name.write_bytes(whole[name])
        shutil.rmtree("new", ignore_errors=True)


@pytest.mark.usefixtures("whole")
def test_what_is_whole_is_taken() -> None:
    """The same commands over the same files without damage: what is refused above is damaged."""
    commands = sorted({command for _, command in PAIRS})
    assert [(command, run(command, COMMANDS[command])) for command in commands] == [(c, 0) for c in commands]
    shutil.rmtree("new")
