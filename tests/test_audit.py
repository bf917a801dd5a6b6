"""The audit: whatever is altered between a report and its raw bytes is found, and named."""

import csv
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
import yaml
from dvc.repo import Repo
from test_collectors_commands import SNAPSHOT, params
from test_news import html
from test_packages import install
from test_pipeline import change, run
from test_refresh import PAPERS, SITE, essay, town  # noqa: F401  a fixture
from test_transformers_model import WIDE, save_model

from collectors import snapshot, warc
from collectors.__main__ import main
from collectors.audit import documents, files, models, results, verdicts
from collectors.audit.finding import Finding, merged, refusal
from collectors.build import write_corpus
from collectors.commands.audit import _rules as judging
from collectors.document import Document, Match, UserError, read_documents, sha256_of, write_documents
from collectors.minhash import MinHashConfig, read_signatures, write_signatures
from collectors.params import read
from collectors.request import Request, request
from collectors.snapshot import write_manifest
from evaluate import genes
from evaluate.__main__ import main as evaluate
from evaluate.backends import weights
from evaluate.corpus import built_corpus
from samples import ROOT
from world import World

CORPORA = Path("corpora")
ASKED = request("first", SNAPSHOT)
WORDS = ("moss", "stone", "lichen", "rain")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one corpus of five files, one of them dropped."""
    folder = tmp_path_factory.mktemp("built")
    code = {f"moss/{word}.py": f"def {word}(x):\n    return '{word}' * x\n".encode() * 9 for word in WORDS}
    install(folder / "site", {"moss/__init__.py": b"", **code})
    params(folder, {"first": SNAPSHOT})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder / "site"), *sys.path])
        for command in ("collect", "extract", "dedup"):
            assert main([command, "first", *(["--workers", "1"] if command != "dedup" else [])]) == 0
    return folder


@pytest.fixture
def corpus(built: Path, workspace: Path) -> Path:
    """A working directory with a copy of that corpus."""
    return shutil.copytree(built, workspace, dirs_exist_ok=True)


def audit(
    removals: dict[str, str] | None = None, sample: int | None = None, asked: Request = ASKED
) -> documents.Checked:
    """Check the chain of the corpus, as if DVC knew nothing of it."""
    rules = judging(asked, read())
    return documents.check(asked, CORPORA, removals or {}, rules, lambda _: True, sample=sample, workers=1)


def rewrite(path: Path, edit: Callable[[Document], Document | None]) -> Document:
    """Write a Parquet file of documents again, the first one edited or left out; return that one."""
    first, *rest = read_documents(path)
    edited = edit(first)
    write_documents(path, [*([edited] if edited else []), *rest])
    return first


@pytest.mark.usefixtures("corpus")
def test_a_corpus_as_it_was_made_is_clean() -> None:
    """Every record is read, every document is made again, and nothing is found."""
    checked = audit()
    assert checked.findings == []
    assert (checked.n_records, checked.n_documents, checked.n_made_again) == (6, 5, 5)


@pytest.mark.usefixtures("corpus")
def test_a_sample_is_drawn_by_the_data_alone() -> None:
    """The same documents for the same data; no more than were asked for, or than there are."""
    assert [audit(sample=n).n_made_again for n in (1, 3, 50)] == [1, 3, 5]
    seen = [f"{number:064x}" for number in range(1000)]
    drawn = documents._drawn(seen, 10, "seed")
    assert drawn == documents._drawn(seen[::-1], 10, "seed")
    assert len(set(drawn)) == 10
    assert drawn != documents._drawn(seen, 10, "other")
    assert max(seen.index(key) for key in documents._drawn(seen, 100, "seed")) > 900


EDITS: dict[str, tuple[str, Callable[[Document], Document | None], str]] = {
    "text": ("documents/first", lambda d: replace(d, text=d.text + "x"), documents._IDENTITY),
    "counts": ("documents/first", lambda d: replace(d, n_bytes=1), documents._IDENTITY),
    "native id": ("documents/first", lambda d: replace(d, native_id="other"), documents._IDENTITY),
    "date": ("documents/first", lambda d: replace(d, published=d.published.replace(day=2)), documents._DERIVED),
    "licence": ("documents/first", lambda d: replace(d, license="0BSD"), documents._DERIVED),
    "raw record": (
        "documents/first", lambda d: replace(d, raw=replace(d.raw, offset=d.raw.offset + 1)), documents._DERIVED,
    ),
    "left out": ("documents/first", lambda _: None, documents._ACCOUNTED),
    "kept text": ("first/documents", lambda d: replace(d, text=d.text + "x"), documents._ACCOUNTED),
    "kept title": ("first/documents", lambda d: replace(d, title="other"), documents._ACCOUNTED),
    "kept with reason": ("first/documents", lambda d: replace(d, drop_reason="paywall"), documents._ACCOUNTED),
    "kept as removed": ("first/documents", lambda d: replace(d, drop_reason="removed"), documents._REMOVED),
    "not kept": ("first/documents", lambda _: None, documents._ACCOUNTED),
    "not dropped": ("first/dropped", lambda _: None, documents._ACCOUNTED),
    "reason": ("first/dropped", lambda d: replace(d, drop_reason="language"), documents._FACTS),
}  # fmt: skip


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("sample", [None, 2])
def test_an_altered_document_is_named(name: str, sample: int | None) -> None:
    """Whatever a row says that does not follow from what came before it, though every file is well formed."""
    place, edit, rule = EDITS[name]
    altered = rewrite(CORPORA / f"{place}.parquet", edit)
    found = audit(sample=sample).findings
    if rule == documents._DERIVED and name != "raw record" and sample:
        # A sample may miss what the raw record alone can tell, and the corpus tells it as well.
        rule = documents._ACCOUNTED
    naming = [finding for finding in found if finding.rule == rule]
    assert naming
    assert rule == documents._FACTS or any(altered.id in finding.what for finding in naming)


@pytest.mark.usefixtures("corpus")
def test_the_same_lie_in_every_file_is_found_in_the_raw_records() -> None:
    """A text that was changed everywhere with its digest and counts is not what the raw record gives."""
    path = CORPORA / "documents" / "first.parquet"
    rows = list(read_documents(path))
    lied = next(d for d in rows if d.title.endswith("moss.py"))
    text = lied.text.replace("moss", "MOSS")
    kept = CORPORA / "first" / "documents.parquet"
    for file in (path, kept):
        told = [
            replace(d, text=text, text_sha256=sha256(text)) if d.id == lied.id else d
            for d in read_documents(file)
        ]
        write_documents(file, told)
    both = [*read_documents(kept), *read_documents(kept.with_name("dropped.parquet"))]
    write_corpus(CORPORA / "first", ASKED, both)
    for sample in (None, 5, 4):
        found = audit(sample=sample).findings
        assert {f.rule for f in found} == {documents._DERIVED}
        assert [lied.id in f.what and "another text" in f.what for f in found] == [True]


def sha256(text: str) -> str:
    """Return the digest of a text."""
    return documents._sha256(text.encode())


@pytest.mark.usefixtures("corpus")
def test_raw_records_that_are_not_those_of_the_manifest_are_named() -> None:
    """A damaged shard, and the record in it; an index, or a shard, that is gone."""
    raw = CORPORA / "raw" / "first"
    (shard,) = raw.glob("*.warc.gz")
    whole = shard.read_bytes()
    for at in (0, len(whole) // 2, len(whole) - 1):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        (finding,) = [f for f in audit().findings if f.rule == documents._WHOLE]
        assert shard.name in finding.what
        assert finding.remedy.endswith("delete corpora/raw/first and run `dvc checkout corpora/raw/first`")
    shard.unlink()
    assert documents._WHOLE in {f.rule for f in audit().findings}


@pytest.mark.usefixtures("corpus")
def test_a_forged_record_gives_other_documents() -> None:
    """A shard written again with another payload and all digests mended still gives itself away."""
    raw = CORPORA / "raw" / "first"
    held = snapshot.read_snapshot(raw)
    (shard,) = raw.glob("*.warc.gz")
    entries = [json.loads(line) for line in (raw / "records.jsonl").read_text().splitlines()]
    members, offset = [], 0
    for entry in entries:
        record = snapshot.read_member(shard, entry)
        record = replace(record, payload=record.payload.replace(b"'moss'", b"'MOSS'"))
        ((_, member, payload),) = warc.members(record)
        entry |= {"offset": offset, "length": len(member), "sha256": documents._sha256(payload)}
        members.append(member)
        offset += len(member)
    shard.write_bytes(b"".join(members))
    (raw / "records.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    digests = {name: sha256_of(raw / name) for name in held.shards}
    write_manifest(raw, replace(held, shards=digests))
    assert len(list(snapshot.read_records(raw))) == 6
    found = audit().findings
    assert {f.rule for f in found} == {documents._DERIVED}
    assert any("another text" in f.what for f in found)


@pytest.mark.usefixtures("corpus")
def test_a_snapshot_must_answer_its_entry() -> None:
    """Another window in params.yaml is another request."""
    other = replace(ASKED, until=ASKED.until.replace(day=2))
    assert documents._ANSWERS in {f.rule for f in audit(asked=other).findings}


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize(
    "name", ["n_documents", "documents_sha256", "licenses", "published_until", "invented"]
)
def test_every_fact_of_a_corpus_is_checked(name: str) -> None:
    """One that the documents do not give is named with both values."""
    path = CORPORA / "first" / "corpus.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, name: "forged"}))
    (finding,) = audit().findings
    assert finding.where == str(path)
    assert finding.what.startswith(f"{name} is 'forged', not ")
    path.write_text("{")
    assert [f.rule for f in audit().findings] == [documents._FACTS]


def test_removals_must_be_honoured(corpus: Path) -> None:
    """A line added after the corpus was built is a finding until the corpus is built again; counts are by line."""
    removals = {"url:*/MOSS*": "asked", "author:*nobody*": "none"}
    before = audit(removals)
    assert {f.rule for f in before.findings} == {documents._REMOVED}
    assert len(before.findings) == before.removed["url:*/MOSS*"] == 5
    (corpus / "corpora" / "removed.csv").write_text(
        "id,reason\n" + "".join(f"{line},{reason}\n" for line, reason in removals.items())
    )
    assert main(["dedup", "first"]) == 0
    after = audit(removals)
    assert after.findings == []
    assert after.removed == {"url:*/MOSS*": 5}
    assert {f.rule for f in audit().findings} == {documents._REMOVED}  # the line is gone, the removal is not


def test_a_removed_document_that_still_says_something_is_named(corpus: Path) -> None:
    """Its text, title, address and metadata must be gone, and the reason must be that of the list."""
    (corpus / "corpora" / "removed.csv").write_text("id,reason\nurl:*/moss*,asked\n")
    assert main(["dedup", "first"]) == 0
    path = CORPORA / "first" / "dropped.parquet"
    for left in ({"text": "x"}, {"title": "x"}, {"url": "x"}, {"metadata": {"removal": "x"}}):
        rows = list(read_documents(path))
        rewrite(path, lambda d: replace(d, **left))  # noqa: B023
        found = audit({"url:*/moss*": "asked"}).findings
        assert documents._ACCOUNTED in {f.rule for f in found}
        assert rows[0].id in found[0].what
        write_documents(path, rows)
    assert audit({"url:*/moss*": "asked"}).findings == []


def cell(path: Path, **columns: Any) -> None:
    """Write a cell of two documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: [value] * 2 for name, value in columns.items()}), path)


KNOWN: dict[str, Any] = {
    "snapshots": {"first": SNAPSHOT},
    "models": {"gzip": {}},
    "phylogeny": {"genes": 3, "seed": 7},
}


@pytest.fixture
def measured(corpus: Path) -> Path:
    """Results of one model on the corpus, with a score table."""
    origin = {"model": "gzip", "corpus": "first", "protocol": "document"}
    origin["corpus_sha256"] = sha256_of(CORPORA / "first" / "documents.parquet")
    counts = {"nll": 10.0, "n_characters": 7, "n_bytes": 8, "n_tokens": 5}
    cell(corpus / "results" / "scores" / "gzip" / "first.parquet", **origin, **counts)
    cell(
        corpus / "results" / "entropy" / "gzip" / "first.parquet",
        **{**origin, "protocol": "entropy"},
        layer=1,
    )
    drawn = genes.from_corpora([built_corpus(CORPORA / "first")], 3, 7)
    cell(corpus / "results" / "phylogeny" / "gzip" / "genome.parquet", genes_sha256=drawn.sha256)
    rates = {"character": 10 / 7, "byte": 10 / 8, "token": 10 / 5}
    rows = [
        {**origin, "metric": f"bits_per_{unit}", "value": f"{rate / math.log(2):.9g}"}
        for unit, rate in rates.items()
    ]
    rows.append({**origin, "protocol": "entropy", "metric": "erank", "value": "3"})
    table(corpus / "results" / "scores.csv", rows)
    return Path("results")


def table(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a score table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def check(intact: Callable[[Path], bool] = lambda _: True) -> list[Finding]:
    """Check results, as if DVC knew nothing of them."""
    return results.check(Path("results"), CORPORA, KNOWN, intact)[1]


@pytest.mark.usefixtures("measured")
def test_results_of_the_corpora_that_are_here_are_clean() -> None:
    """Cells of scores, entropy and genomes, and the table that follows from them."""
    assert results.check(Path("results"), CORPORA, KNOWN, lambda _: True) == (3, [])


def test_results_of_other_texts_are_named(measured: Path) -> None:
    """A corpus that was built again leaves every cell, and every row of the table that names it, behind."""
    rewrite(CORPORA / "first" / "documents.parquet", lambda d: replace(d, text="x" + d.text))
    assert [f.where for f in check()] == [
        str(measured / kind)
        for kind in (
            "entropy/gzip/first.parquet",
            "phylogeny/gzip/genome.parquet",
            "scores/gzip/first.parquet",
        )
    ]


@pytest.mark.parametrize("column", ["corpus", "model"])
def test_a_cell_in_the_place_of_another_is_named(measured: Path, column: str) -> None:
    """A cell says itself which model and corpus it is of."""
    path = measured / "scores" / "gzip" / "first.parquet"
    named = {"model": "gzip", "corpus": "first"} | {column: "other"}
    cell(path, **named, corpus_sha256=sha256_of(CORPORA / "first" / "documents.parquet"), nll=1.0)
    assert [f.where for f in check() if f.rule == results._MEASURED] == [str(path)]
    path.write_bytes(b"PAR1")
    assert "cannot be read" in next(f.what for f in check() if f.where == str(path))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("value", "2.06099298"),
        ("corpus_sha256", "0" * 64),
        ("model", "xz"),
        ("protocol", "full"),
        ("value", "x"),
    ],
)
def test_a_row_of_the_score_table_that_no_cell_gives_is_named(
    measured: Path, column: str, value: str
) -> None:
    """Another number in its ninth digit, another digest, another model."""
    path = measured / "scores.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["value"] == "2.06099292"
    table(path, [{**rows[0], column: value}, *rows[1:]])
    (finding,) = check()
    assert finding.where == str(path)
    assert "line 2" in finding.what or value == "x"
    assert check(lambda p: p != path) == []


def test_findings_of_a_kind_are_told_together() -> None:
    """The first three, and how many more; the remedy of an error is what follows its last semicolon."""
    found = [Finding(what=f"row {n}", where="file", rule="rule", remedy="mend it") for n in range(5)]
    other = replace(found[0], where="elsewhere")
    assert [f.what for f in merged([*found, other])] == ["row 0, row 1, row 2 and 2 more", "row 0"]
    told = refusal(UserError("a; b; do c"), "file", "rule")
    assert (told.what, told.remedy) == ("a; b", "do c")
    assert refusal(UserError("alone"), "file", "rule").what == "alone"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of this code whose pipeline ran on two small snapshots, all of it committed."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("collectors", "evaluate", ".dvc"):
        ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "corpora").mkdir()
    for name in (".gitignore", "README.md"):
        shutil.copy(ROOT / "corpora" / name, folder / "corpora")
    (folder / "corpora" / "removed.csv").write_text("id,reason\nurl:*IDNA*,asked\nauthor:nobody,asked\n")
    save_model(folder / "models" / "tiny", transformers.LlamaConfig(**WIDE))
    tiny = weights.identity(str(folder / "models" / "tiny")).removeprefix("sha256:")

    def shrink(params: dict[str, Any]) -> None:
        chosen = {"prose-2026-09": ("funcy", "idna", "pygtrie"), "prose-2026-10": ("atpublic", "iniconfig")}
        params["snapshots"] = {name: params["snapshots"][name] for name in chosen}
        for name, kept in chosen.items():
            entry = params["snapshots"][name]
            entry["distributions"] = {key: entry["distributions"][key] for key in kept}
        params["models"] = {
            "tiny": {"backend": "transformers", "source": "models/tiny", "name": "org/tiny", "sha256": tiny},
            "gzip": {"backend": "compressors"},
        }
        params["score"] = {"protocol": "full", "window": 200, "stride": 60}
        params["entropy"] = {"tokens": 32}
        params["phylogeny"] = {"genes": 4, "seed": 1, "alleles": "first-token"}
        params["fit"] = {"seed": 1, "resamples": 50}

    change(folder, shrink)
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "config", "user.email", "tests@freshbits.example")
    run(folder, "git", "config", "user.name", "tests")
    steps = product(("collect", "extract", "dedup"), ("prose-2026-09", "prose-2026-10"))
    measures = product(("score", "entropy", "membership", "phylogeny", "passages"), ("--all",))
    with pytest.MonkeyPatch.context() as patch:
        # What `dvc repro` would run, without a process for each.
        patch.chdir(folder)
        assert not any(map(main, steps))
        assert not any(map(evaluate, [*measures, ("fit",), ("report",)]))
        with Repo(".") as repo:
            repo.commit(force=True)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Commit all that git sees."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "as it is")


@pytest.fixture
def inside(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That repository as the working directory."""
    monkeypatch.chdir(repository)
    return repository


@pytest.fixture
def copied(repository: Path, workspace: Path) -> Path:
    """A copy of that repository as the working directory, to be changed."""
    return shutil.copytree(repository, workspace, dirs_exist_ok=True, symlinks=True)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the audit; return its exit status and what it says."""
    capsys.readouterr()
    status = 0
    try:
        assert main(["audit", "--json", "--workers", "1", *arguments]) == 0
    except SystemExit as stopped:
        status = int(str(stopped.code))
    return status, json.loads(capsys.readouterr().out)


def flip(path: Path, at: float = 0.5) -> None:
    """Flip a bit of a file, whose size and time of change stay as they are, as a failing disk does."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[min(int(at * len(data)), len(data) - 1)] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
def test_a_finished_repository_is_clean(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0, what was looked at, and what each removal covers; the same on every call."""
    status, said = command(capsys, "--full")
    assert (status, said["clean"], said["findings"]) == (0, True, [])
    assert said["commit"] == run(inside, "git", "rev-parse", "HEAD").strip()
    assert {said["checked"][what] for what in ("again", "judged", "documents", "records")} == {5}
    assert (said["checked"]["models"], said["missing_models"]) == (1, [])
    assert said["removed"] == [
        {"line": "url:*IDNA*", "reason": "asked", "documents": 1},
        {"line": "author:nobody", "reason": "asked", "documents": 0},
    ]
    assert command(capsys, "--full") == (status, said)
    status, one = command(capsys, "--corpus", "prose-2026-10", "--sample", "1")
    assert (status, one["checked"]["documents"], one["checked"]["again"]) == (0, 2, 1)
    assert main(["audit"]) == 0
    out = capsys.readouterr().out
    assert "removed 1 documents by url:*IDNA* (asked)\n" in out
    assert out.endswith("\nclean\n")


@pytest.mark.slow
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(
    copied: Path, capsys: pytest.CaptureFixture[str], at: float
) -> None:
    """In every file at once: code, what is under git, raw records, documents, corpora, cells, tables, the page."""
    outputs = [path for top in ("corpora", "results") for path in (copied / top).rglob("*")]
    tracked = [copied / name for name in run(copied, "git", "ls-files").split("\n") if name]
    control = {copied / name for name in ("dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config", ".dvcignore")}
    altered = {path for path in (*outputs, *tracked) if path.is_file() and path.stat().st_size} - control
    kinds = {path.name.partition(".")[2] for path in altered}
    assert {
        "warc.gz",
        "jsonl",
        "json",
        "parquet",
        "signatures.parquet",
        "csv",
        "html",
        "svg",
        "py",
        "md",
    } <= kinds
    for path in altered:
        flip(path, at)
    status, said = command(capsys)
    assert status == 1
    named = {finding["where"] for finding in said["findings"]}
    assert {path.relative_to(copied).as_posix() for path in altered} - named == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock", "params.yaml", "corpora/removed.csv", ".dvcignore"])
@pytest.mark.parametrize("at", [0.0, 0.37, 1.0])
def test_a_flipped_bit_in_what_the_audit_itself_reads_is_found(
    inside: Path, capsys: pytest.CaptureFixture[str], name: str, at: float
) -> None:
    """Whether the file can still be read or not."""
    kept = (inside / name).read_bytes()
    flip(inside / name, at)
    try:
        status, said = command(capsys, "--sample", "1")
    finally:
        (inside / name).write_bytes(kept)
    assert status == 1
    assert name in {finding["where"] for finding in said["findings"]}


def remedied(finding: dict[str, str]) -> None:
    """Do what the first part of a remedy says."""
    deleting, command = re.findall(r"^(delete it and run )?`([^`]+)`", finding["remedy"])[0]
    if deleting:
        Path(finding["where"]).unlink()
    run(Path(), *command.split())


@pytest.mark.slow
def test_what_dvc_takes_for_unchanged_is_read_all_the_same(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bit that a disk lost: `dvc status` sees nothing, the audit names the file alone, and how to have it back."""
    assert "up to date" in run(copied, "dvc", "status")
    (shard,) = (copied / "corpora" / "raw" / "prose-2026-09").glob("*.warc.gz")
    damaged = [copied / "corpora" / "prose-2026-10" / "documents.parquet", shard]
    for path in damaged:
        flip(path)
    assert "up to date" in run(copied, "dvc", "status")
    status, said = command(capsys)
    named = [path.relative_to(copied).as_posix() for path in damaged]
    assert (status, sorted(finding["where"] for finding in said["findings"])) == (1, sorted(named))
    for finding in said["findings"]:
        remedied(finding)
    assert command(capsys)[0] == 0
    shutil.rmtree(copied / "results" / "scores" / "gzip")
    (finding,) = command(capsys)[1]["findings"]
    assert (finding["where"], finding["what"]) == ("results/scores/gzip", "missing")


@pytest.mark.slow
def test_a_raw_snapshot_that_is_gone_is_one_finding(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be checked without it is not told of, and what can be is checked; nothing would scrape it again."""
    shutil.rmtree(copied / "corpora" / "raw" / "prose-2026-09")
    status, said = command(capsys)
    (finding,) = said["findings"]
    assert (status, finding["where"]) == (1, "corpora/raw/prose-2026-09")
    place = finding["where"]
    assert finding["remedy"] == f"`dvc checkout {place}`, or `dvc pull {place}` where the cache lacks it"
    assert said["checked"]["judged"] == said["checked"]["again"] + 3 == 5
    remedied(finding)
    assert command(capsys)[0] == 0


@pytest.mark.slow
def test_a_verdict_that_was_committed_is_judged_again(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All digests agree with a forged match and a flipped signature; running the stages again mends them."""
    path = copied / "corpora" / "prose-2026-09" / "dropped.parquet"
    signatures = copied / "corpora" / "documents" / "prose-2026-09.signatures.parquet"
    whole = {file: file.read_bytes() for file in (path, signatures)}
    (other,) = list(read_documents(path.with_name("documents.parquet")))[:1]
    match = Match(id=other.id, corpus="prose-2026-09", similarity=0.8)
    row = rewrite(path, lambda d: replace(d, duplicate=match))
    signed = read_signatures(signatures, MinHashConfig())
    values = signed.signatures.copy()
    values[0, 0] ^= np.uint32(1)
    write_signatures(signatures, replace(signed, signatures=values))
    with Repo(".") as repo:
        repo.commit(force=True)
    commit(copied)
    assert "up to date" in run(copied, "dvc", "status")
    status, said = command(capsys)
    found = {(f["where"], f["rule"]): f for f in said["findings"]}
    forged, flipped = (f"{file.relative_to(copied)}" for file in (path, signatures))
    assert (status, set(found)) == (1, {(forged, verdicts._MATCHED), (flipped, verdicts._SIGNED)})
    assert row.id in found[forged, verdicts._MATCHED]["what"]
    assert signed.ids[0] in found[flipped, verdicts._SIGNED]["what"]
    for finding in found.values():
        remedied(finding)
    assert {file: file.read_bytes() for file in whole} == whole


@pytest.mark.slow
def test_a_model_that_is_another_is_named_and_one_that_is_missing_is_said(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Models are fetched: without one the data are as they should be, and the audit says what it did not read."""
    folder = copied / "models" / "tiny"
    flip(next(folder.glob("*.safetensors")))
    status, said = command(capsys)
    (finding,) = said["findings"]
    assert (status, finding["where"], finding["rule"]) == (1, "models/tiny", models._STATED)
    assert finding["what"].startswith("its sha256 is ")
    shutil.rmtree(folder)
    status, said = command(capsys)
    assert (status, said["missing_models"], said["checked"]["models"]) == (0, ["tiny"], 0)
    assert main(["audit"]) == 0
    assert "model tiny is not here and was not checked" in capsys.readouterr().out


def test_models_are_held_against_what_is_stated_of_them(workspace: Path) -> None:
    """A file, a folder; not those that state nothing, as hub ids and compressors."""
    (workspace / "folder").mkdir()
    for name in ("a.gguf", "folder/a.safetensors", "folder/b.json"):
        (workspace / name).write_bytes(name.encode())
    stated = {
        "file": {"source": "a.gguf", "sha256": sha256_of(Path("a.gguf"))},
        "folder": {"source": "folder", "sha256": weights.identity("folder").removeprefix("sha256:")},
        "hub": {"source": "org/name", "revision": "0" * 40},
        "gzip": {"backend": "compressors"},
        "absent": {"source": "b.gguf", "sha256": "0" * 64},
    }
    assert models.check(Path(), stated) == (2, ["absent"], [])
    (workspace / "folder" / "c").touch()
    (workspace / "a.gguf").write_bytes(b"other")
    read, missing, found = models.check(Path(), stated)
    assert (read, missing, [finding.where for finding in found]) == (2, ["absent"], ["a.gguf", "folder"])


@pytest.mark.slow
def test_a_damaged_listing_in_the_cache_hides_nothing(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the listing of a folder its files cannot be told apart, and the folder is named."""
    flip(copied / "results" / "scores" / "gzip" / "prose-2026-09.parquet")
    lock = yaml.safe_load((copied / "dvc.lock").read_text())["stages"]["score@gzip"]["outs"][0]["md5"]
    listing = copied / ".dvc" / "cache" / "files" / "md5" / lock[:2] / lock[2:]
    listing.chmod(0o644)
    for text in (listing.read_text().replace("prose-2026-09", "prose-2026-08"), "[{}]", "{"):
        listing.write_text(text)
        assert [f["where"] for f in command(capsys)[1]["findings"]] == ["results/scores/gzip"]
    listing.unlink()
    assert [f["where"] for f in command(capsys)[1]["findings"]] == ["results/scores/gzip"]


@pytest.mark.slow
def test_a_lie_that_was_committed_is_found(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded by DVC and committed to git, a forged corpus and a forged number do not follow from the rest."""
    rewrite(copied / "corpora/prose-2026-09/documents.parquet", lambda d: replace(d, title="forged"))
    scores = copied / "results" / "scores.csv"
    with scores.open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = next(
        row for row in rows if row["metric"] == "bits_per_character" and row["corpus"] == "prose-2026-10"
    )
    row["value"] = "0.5"
    table(scores, rows)
    run(copied, "dvc", "commit", "--force")
    commit(copied)
    assert "up to date" in run(copied, "dvc", "status")
    status, said = command(capsys)
    assert status == 1
    assert {(f["where"], f["rule"]) for f in said["findings"]} == {
        ("corpora/prose-2026-09/documents.parquet", documents._ACCOUNTED),
        ("corpora/prose-2026-09/corpus.json", documents._FACTS),
        *(
            (f"results/{kind}/{model}/prose-2026-09.parquet", results._MEASURED)
            for kind, model in (
                ("scores", "gzip"),
                ("scores", "tiny"),
                ("entropy", "tiny"),
                ("membership", "tiny"),
                ("passages", "gzip"),
                ("passages", "tiny"),
            )
        ),
        ("results/scores.csv", results._TABLE),
    }


@pytest.mark.slow
def test_results_of_other_code_or_parameters_are_named(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What changed since a stage ran, committed or not, and a stage that never ran."""

    def edit(params: dict[str, Any]) -> None:
        params["fit"]["resamples"] = 51
        params["models"]["xz"] = {"backend": "compressors"}

    change(copied, edit)
    with (copied / "evaluate" / "rates.py").open("a") as file:
        file.write("# another line\n")
    commit(copied)
    (copied / "evaluate" / "new.py").write_text('"""Not committed."""\n')
    status, said = command(capsys)
    assert status == 1
    told = {(f["where"], f["rule"]): f["what"] for f in said["findings"]}
    assert told["evaluate/new.py", files._COMMITTED] == "not committed"
    assert "fit" in told["evaluate/rates.py", files._FOLLOWS]
    assert "fit (fit" in told["params.yaml", files._FOLLOWS]
    assert "stage score@xz never ran" in told["results/scores/xz", files._RECORDED]


@pytest.mark.usefixtures("corpus")
def test_what_is_no_repository_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither git nor DVC; and a corpus that params.yaml does not list."""
    assert main(["audit"]) == 2
    assert "cannot be audited" in capsys.readouterr().err
    assert main(["audit", "--corpus", "absent"]) == 2
    assert "snapshot 'absent' is not under `snapshots`" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("town")
def test_documents_of_every_source_are_made_again(world: World) -> None:
    """All of them or one, also on a site whose other pages decide which lines of a page are a footer."""
    footer = "Send us your story of the lake, the moss and the town, by letter or in person."
    for number, name in enumerate(("walk", "ducks", "fresh")):
        page = html(f"{essay(number + 20, 12)}\n\n{footer}", article_published_time="2026-09-10T09:00:00Z")
        world.on("town.example", f"/{name}", page)
    sources: dict[str, dict[str, Any]] = {
        "arxiv": PAPERS,
        "github": {"source": "github", "content": "code", "min_stars": 0},
        "news": {"source": "news", "content": "news", "sites": [SITE], "boilerplate_documents": 3},
    }
    known = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, entry in sources.items():
        listed = {**entry, "since": "2026-09-01", "until": "2026-11-01"}
        Path("params.yaml").write_text(yaml.safe_dump({**known, "snapshots": {name: listed}}))
        for step in ("collect", "extract", "dedup"):
            assert main([step, name]) == 0
        asked = request(name, listed)
        for sample in (None, 1, 3):
            checked = audit(sample=sample, asked=asked)
            assert checked.findings == []
            assert checked.n_documents > 3
            assert checked.n_made_again == (sample or checked.n_documents)
    path = CORPORA / "documents" / "news.parquet"
    seen = {d.id: documents._seen(d) for d in read_documents(path)}
    cut = [d for d in read_documents(path) if "boilerplate_lines" in d.metadata]
    assert len(cut) == 3
    for document in cut:
        assert footer not in document.text
        # Alone it would keep the footer.
        assert (
            list(documents._made_again(CORPORA / "raw" / "news", path, asked, seen, [document.id], 1)) == []
        )
