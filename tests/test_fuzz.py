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
from dataclasses import dataclass
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
    "fit": "", "report": "", "tree": "matrix.csv --svg tree.svg", "benchmarks": "FILE", "trace": "0.5",
}  # fmt: skip
EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

Files = dict[Path, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A working directory, and the bytes of all its files."""

    files: Files

    def attempt(self, capsys: pytest.CaptureFixture[str], command: str, damage: Files) -> int:
        """Run a command over damaged files, hold it against what every command promises, and mend the files."""
        for path, data in damage.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        before, stated = held(), COMMANDS[command].replace("FILE", str(next(iter(damage))))
        main = collectors.main if command in collectors.COMMANDS else evaluate.main
        capsys.readouterr()
        try:
            status = main((command, *stated.split()))
            errors = [
                line
                for line in capsys.readouterr().err.splitlines()
                if "error" in line or "Traceback" in line
            ]
            after = held()
            assert status in (0, 2)
            assert len(errors) == (status == 2), errors
            assert all(line.startswith("error: ") for line in errors)
            changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            assert status == 0 or not {path for path in changed if path.suffix != ".tmp"}, changed
            assert status == 2 or not {path for path in changed if path.suffix == ".tmp"}, changed
        finally:
            for path in held().keys() | self.files.keys():
                if path not in self.files:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(self.files[path])
            shutil.rmtree("new", ignore_errors=True)
        return status


def held() -> Files:
    """Return the files of the working directory, but those of the model, and journals that a run may leave."""
    names = (Path(folder, name) for folder, _, found in os.walk(".") for name in found)
    return {path: path.read_bytes() for path in names if path.parts[0] not in {"tiny", "site", ".staging"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project, and it as the working directory of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        words = ("moss", "fern", "lichen")
        texts = {f"moss/{word}.py": GROW.format(word).encode() * 2 for word in words}
        install(Path("site"), {**texts, "moss/few.py": b"a = 1"})
        patch.setattr(sys, "path", [str(Path("site").resolve()), *sys.path])
        save_model(Path("tiny"), transformers.LlamaConfig(**WIDE))
        Path("params.yaml").write_bytes(as_yaml(yaml.safe_load(PARAMS)))
        Path("evaluate").mkdir()
        shutil.copy(ROOT / "evaluate/published_correlations.csv", "evaluate")
        Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
        header, *lines = (ROOT / "evaluate/benchmarks.csv").read_text().splitlines(keepends=True)
        Path("evaluate/benchmarks.csv").write_text(
            header + "".join(x for x in lines if "huang2024" in x and x[0] in "DLM")
        )
        for name in ("first", "second"):
            for command in ("collect", "extract", "dedup"):
                assert collectors.main((command, name, *COMMANDS[command].split()[1:])) == 0
        assert collectors.main(("overlap", "first", "--with", "corpora/second", "--sketch", "s.sketch")) == 0
        assert collectors.main(("export", "second", "-o", "out")) == 0
        assert collectors.main(("rebuild", "out", "--workers", "1")) == 0
        for command in ("score", "entropy", "membership", "phylogeny"):
            assert evaluate.main((command, "--all")) == 0
        for command in ("fit", "report"):
            assert evaluate.main((command,)) == 0
        yield Project(files=held())


def as_json(value: Any) -> bytes:
    """Return JSON as bytes."""
    return json.dumps(value).encode()


def as_yaml(value: Any) -> bytes:
    """Return YAML as bytes."""
    return yaml.safe_dump(value, sort_keys=False).encode()


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


def written(table: pa.Table) -> bytes:
    """Return a table as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


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
    return written(table)


@st.composite
def respelled(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a CSV file with one cell that is another."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = draw(st.sampled_from(rows[:20]))
    row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(CELLS))
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().encode()


def damages(path: Path, data: bytes) -> st.SearchStrategy[bytes]:
    """Return what may have become of a file."""
    match path.suffix:
        case ".json":
            return planted(json.loads(data)).map(as_json) | garbled(data)
        case ".jsonl":
            first, _, rest = data.partition(b"\n")
            return planted(json.loads(first)).map(lambda row: as_json(row) + b"\n" + rest) | garbled(data)
        case ".yaml":
            return planted(yaml.safe_load(data)).map(as_yaml) | garbled(data)
        case ".parquet":
            return reshaped(data) | reshaped(data) | garbled(data)
        case ".csv":
            return respelled(data) | garbled(data)
        case ".gz":
            return garbled(gzip.decompress(data)).map(lambda text: gzip.compress(text, mtime=0)) | garbled(
                data
            )
        case _:  # a sketch: magic, digest of its header, header, blocks
            magic, _, header, blocks = data.split(b"\n", 3)
            headers = planted(json.loads(header)).map(as_json)
            return garbled(data) | headers.map(
                lambda h: b"\n".join([magic, sha256(h + b"\n").hexdigest().encode(), h, blocks])
            )


def sealed(files: Files, path: Path, data: bytes) -> Files:
    """Return a damaged file, and the manifest beside it that has its digest."""
    known, found = (sha256(each).hexdigest().encode() for each in (files.get(path, b""), data))
    manifests = [p for p in files if p.parent == path.parent and p.suffix == ".json" and known in files[p]]
    return {path: data, **{p: files[p].replace(known, found) for p in manifests}}


RAW, BUILT = "corpora/raw/second", "corpora/second"
GIVEN = {"removed.csv": REMOVED.encode(), "run.json": RUN.encode(), "matrix.csv": MATRIX.encode()}
INPUTS = {
    f"{RAW}/snapshot.json": ("collect", "extract", "dedup", "export"),
    f"{RAW}/records.jsonl": ("collect", "extract"),
    f"{RAW}/second-00000000.warc.gz": ("collect", "extract"),
    "corpora/documents/second.parquet": ("dedup",),
    "corpora/documents/second.signatures.parquet": ("dedup", "diff"),
    "corpora/documents/first.signatures.parquet": ("dedup",),
    f"{BUILT}/documents.parquet": ("export", "diff", "score", "fit", "membership", "phylogeny"),
    f"{BUILT}/dropped.parquet": ("diff",),
    f"{BUILT}/corpus.json": ("export", "score", "fit", "report"),
    "corpora/removed.csv": ("dedup", "export"),
    "run.json": ("benchmarks",),
    "evaluate/benchmarks.csv": ("benchmarks", "fit"),
    "evaluate/published_correlations.csv": ("fit",),
    "results/scores/tiny/second.parquet": ("fit", "score"),
    "results/entropy/tiny/second.parquet": ("fit", "entropy"),
    "results/membership/tiny/second.parquet": ("membership",),
    "results/phylogeny/tiny/genome.parquet": ("fit", "phylogeny"),
    "results/metrics.json": ("report",),
    "results/tree.json": ("report",),
    "out/recipe.json": ("rebuild",),
    "out/recipe.parquet": ("rebuild",),
    "s.sketch": ("overlap",),
    "matrix.csv": ("tree",),
}
TABLES = (
    "scores",
    "entropy",
    "differences",
    "fits",
    "points",
    "scaling",
    "scaling_points",
    "trend",
    "law",
    "unmatched",
)


@pytest.mark.parametrize("name", INPUTS)
@settings(EXAMPLES)
@given(data=st.data())
def test_a_damaged_input_is_one_line(
    made: Project, capsys: pytest.CaptureFixture[str], name: str, data: st.DataObject
) -> None:
    """Whatever is in a file that a command reads: a status, at most one line, and nothing half-written."""
    path = Path(name)
    whole = made.files.get(path) or GIVEN[path.name]
    damaged = data.draw(damages(path, whole))
    seal = data.draw(st.booleans())
    made.attempt(
        capsys,
        data.draw(st.sampled_from(INPUTS[name])),
        sealed(made.files, path, damaged) if seal else {path: damaged},
    )


@EXAMPLES
@given(data=st.data())
def test_damaged_tables_of_results_are_one_line(
    made: Project, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """Neither the report nor a trace takes them for what the pipeline wrote."""
    path = Path(f"results/{data.draw(st.sampled_from(TABLES))}.csv")
    damaged = data.draw(damages(path, made.files[path]))
    made.attempt(capsys, data.draw(st.sampled_from(["report", "trace"])), {path: damaged})


@settings(EXAMPLES, max_examples=120)
@given(
    data=st.data(), command=st.sampled_from(sorted({*COMMANDS} - {"trace", "tree", "benchmarks", "overlap"}))
)
def test_parameters_of_any_type_are_one_line(
    made: Project, capsys: pytest.CaptureFixture[str], data: st.DataObject, command: str
) -> None:
    """Any node of params.yaml may be null, a list, a number, a text or a mapping, or be missing."""
    path = Path("params.yaml")
    made.attempt(capsys, command, {path: data.draw(damages(path, made.files[path]))})


def test_what_is_whole_succeeds(made: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """The same commands over the same files without damage: refusals above are of the damage."""
    for name, commands in INPUTS.items():
        data = made.files.get(Path(name)) or GIVEN[Path(name).name]
        assert [made.attempt(capsys, command, {Path(name): data}) for command in commands] == [0] * len(
            commands
        )
