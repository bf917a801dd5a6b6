"""`python -m collectors` as the pipeline and a user type it."""

import functools
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_packages import install

from collectors.__main__ import COMMANDS, main
from collectors.document import read_documents
from collectors.source import SOURCES

SNAPSHOT: dict[str, Any] = {
    "source": "packages",
    "content": "code",
    "since": "2026-09-01",
    "until": "2026-10-01",
    "distributions": {"Moss.Tools": {"version": "1.0", "published": "2026-09"}},
}
GROW = b"def grow(stone, moss):\n    return [patch for patch in stone if patch.damp and moss.likes(patch)]\n"

WORKERS = {"collect": ("--workers", "1"), "extract": ("--workers", "1")}


ALIASES: list[Any] = functools.reduce(lambda inner, _: [inner] * 9, range(30), ["x"])


@pytest.fixture
def project(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with params.yaml, and a small distribution on sys.path."""
    install(workspace / "site", {"moss/__init__.py": b"", "moss/grow.py": GROW * 3, "moss/copy.py": GROW * 3})
    monkeypatch.setattr(sys, "path", [str(workspace / "site"), *sys.path])
    params(workspace, {"first": SNAPSHOT, "second": SNAPSHOT})
    return workspace


def params(folder: Path, snapshots: dict[str, Any], **rest: Any) -> None:
    """Write params.yaml with code filters that small files pass."""
    filters = {"code": {"min_characters": 10, "license": ["MIT"]}}
    text = yaml.safe_dump({"snapshots": snapshots, "filters": filters, **rest}, sort_keys=False)
    (folder / "params.yaml").write_text(text)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its status and what it printed."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def build(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, Any]:
    """Run the three commands on a snapshot; return what dedup says."""
    for command in ("collect", "extract", "dedup"):
        status, out, err = run(capsys, command, name, *WORKERS.get(command, ()), "--json")
        assert status == 0, err
    facts: dict[str, Any] = json.loads(out)
    return facts


def test_without_arguments_every_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, in the order of the pipeline."""
    status, out, _ = run(capsys)
    assert status == 0
    lines = [line.split(None, 1) for line in out.splitlines() if line.startswith("  ")]
    assert [(name, text) for name, text in lines if name in COMMANDS] == list(COMMANDS.items())


@pytest.mark.usefixtures("project")
def test_a_snapshot_becomes_a_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    """Collected, extracted, filtered and deduplicated; every dropped document says why."""
    facts = build(capsys, "first")
    assert facts["documents"] == 1
    assert facts["dropped"] == {"duplicate-exact": 1, "min_characters": 1}
    status, out, _ = run(capsys, "dedup", "first")
    assert status == 0
    assert out.startswith("first: 1 documents, ")
    assert "1 dropped as min_characters" in out


@pytest.mark.usefixtures("project")
def test_a_later_snapshot_holds_nothing_of_an_earlier_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The same release collected again is all repeats, each naming its match."""
    build(capsys, "first")
    facts = build(capsys, "second")
    assert facts["documents"] == 0
    dropped = [d for d in read_documents(Path("corpora/second/dropped.parquet")) if d.duplicate]
    assert {d.duplicate.corpus for d in dropped if d.duplicate} == {"first"}
    assert all(d.duplicate.similarity == 1.0 for d in dropped if d.duplicate)


def test_a_snapshot_is_collected_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second collect verifies what is there; it never rewrites it, and says when it is damaged."""
    _, out, _ = run(capsys, "collect", "first")
    (shard,) = (project / "corpora" / "raw" / "first").glob("*.warc.gz")
    stamp = shard.stat().st_mtime_ns
    assert run(capsys, "collect", "first") == (0, out, "")
    assert shard.stat().st_mtime_ns == stamp
    shard.write_bytes(shard.read_bytes()[:-9])
    status, _, err = run(capsys, "collect", "first")
    assert status == 2
    assert "is truncated or altered" in err


def test_a_changed_request_needs_a_new_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A raw snapshot never passes for the answer to another question."""
    assert run(capsys, "collect", "first")[0] == 0
    params(project, {"first": {**SNAPSHOT, "until": "2026-11-01"}})
    status, _, err = run(capsys, "extract", "first")
    assert status == 2
    assert "answers another request than params.yaml makes" in err
    status, _, err = run(capsys, "collect", "first")
    assert status == 2
    assert "exists and is never rewritten" in err


@pytest.mark.usefixtures("project")
def test_the_web_needs_an_explicit_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source on the web refuses in a plain run, so that a missing cache never scrapes something else."""
    monkeypatch.setattr(SOURCES["packages"], "NETWORK", True)
    status, _, err = run(capsys, "collect", "first")
    assert status == 2
    assert "would be scraped from the web" in err
    monkeypatch.setenv("FRESHBITS_NETWORK", "1")
    assert "FRESHBITS_CONTACT is not set" in run(capsys, "collect", "first")[2]
    monkeypatch.setenv("FRESHBITS_CONTACT", "tests@freshbits.example")
    assert run(capsys, "collect", "first")[0] == 0


@pytest.mark.usefixtures("project")
def test_a_source_that_repeats_itself_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each document stands in a snapshot once."""
    extract = SOURCES["packages"].extract
    monkeypatch.setattr(SOURCES["packages"], "extract", lambda *given: [*extract(*given)] * 2)
    assert run(capsys, "collect", "first")[0] == 0
    status, _, err = run(capsys, "extract", "first")
    assert status == 2
    assert "gives Moss.Tools/moss/" in err


@pytest.mark.parametrize(
    ("snapshots", "message"),
    [
        ({}, "snapshot 'first' is not under `snapshots` in params.yaml; it lists none"),
        ({"first": None}, "must be a mapping with source, content, since and until"),
        (
            {"first": {**SNAPSHOT, "source": "web"}},
            "source 'web' is unknown; choose one of arxiv, github, hub, imported, news, packages",
        ),
        ({"first": {k: v for k, v in SNAPSHOT.items() if k != "content"}}, "lacks 'content'; add it"),
        ({"first": {**SNAPSHOT, "since": "September"}}, "has a bad date"),
        ({"first": {**SNAPSHOT, "until": "2026-09-01"}}, "before it begins"),
        ({"first": {**SNAPSHOT, "content": "music"}}, "needs content `code` or `prose`"),
        ({"first": {**SNAPSHOT, "day": date(2026, 9, 1)}}, "has a setting that is no text, number"),
        ({"first": {**SNAPSHOT, "distributions": {1: "1.0", "a": "1.0"}}}, "has a setting that is no text"),
        ({"first": {**SNAPSHOT, "distributions": {"a", "b"}}}, "has a setting that is no text"),
        ({"first": {**SNAPSHOT, "share": float("nan")}}, "has a setting that is no text"),
        ({"first": {**SNAPSHOT, "distributions": ALIASES}}, "has a setting that is no text"),
        (
            {2026: SNAPSHOT, "other": SNAPSHOT},
            "snapshot 'first' is not under `snapshots` in params.yaml; it lists 2026, other",
        ),
    ],
)
def test_a_wrong_entry_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], snapshots: dict[str, Any], message: str
) -> None:
    """Name, rule and remedy; status 2."""
    params(project, snapshots)
    status, out, err = run(capsys, "collect", "first")
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_names_must_be_slugs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DVC breaks on dots, so the message comes before it does."""
    for name in ("first.1", "raw", "documents"):  # the last two are folders that all snapshots share
        params(project, {name: SNAPSHOT})
        assert "must be of a-z, 0-9, _ and -, and not documents or raw" in run(capsys, "collect", name)[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "params.yaml cannot be read"),
        ("- a", "must hold the mapping `snapshots`"),
        ("a: 2026-13-01", "params.yaml cannot be read (month must be in 1..12)"),
        (f"a: {'9' * 5_000}", "params.yaml cannot be read"),
    ],
)
def test_a_broken_params_file_is_one_line(
    workspace: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    """Whatever stands in it, or where there is none."""
    assert "params.yaml cannot be read" in run(capsys, "collect", "first")[2]
    (workspace / "params.yaml").write_text(text)
    assert message in run(capsys, "collect", "first")[2]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"dedup": {"minhash": {"speed": 1}}}, "`dedup.minhash` in params.yaml has a wrong setting"),
        ({"dedup": {"minhash": {"bands": 13}}}, "do not split into 13 bands"),
        ({"dedup": {"threshold": 0.1}}, "threshold"),
    ],
)
def test_wrong_settings_are_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], rest: dict[str, Any], message: str
) -> None:
    """Settings of deduplication are checked where they are used."""
    params(project, {"first": SNAPSHOT}, **rest)
    assert run(capsys, "collect", "first")[0] == 0
    errors = [run(capsys, command, "first", *WORKERS.get(command, ()))[2] for command in ("extract", "dedup")]
    assert message in "".join(errors)
    assert not any("Traceback" in error for error in errors)


LOOK = ("--source", "packages", "--since", "2026-09-01", "--until", "2026-10-01")
MOSS = "distributions={Moss.Tools: {version: '1.0', published: 2026-09}}"


def test_a_first_look_needs_no_params(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw records, documents and a card in a folder of its own, and the first documents on the screen."""
    (project / "params.yaml").unlink()
    arguments = ("collect", *LOOK, "--set", MOSS, "-o", "look")
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    assert "2026-09-01        291 characters  moss/grow.py" in out
    assert out.splitlines()[-1].startswith("look: 3 documents, ")
    assert {path.name for path in (project / "look").iterdir() if not path.name.startswith(".")} == {
        *("raw", "documents.parquet", "dropped.parquet", "corpus.json", "README.md")
    }
    assert run(capsys, *arguments) == (0, out, "")
    status, _, err = run(capsys, *arguments[:-2], "--set", "distributions={}", "-o", "look")
    assert status == 2
    assert "look/raw holds another collection; choose another folder for -o" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "takes the name of a snapshot in params.yaml, or all of --source"),
        (
            ("first", "--source", "packages"),
            "takes the name of a snapshot in params.yaml, or all of --source",
        ),
        ((*LOOK[:4], "-o", "x"), "takes the name of a snapshot in params.yaml, or all of --source"),
        ((*LOOK, "-o", "x", "--set", "moss"), "setting '' of snapshot x is unknown"),
        (
            (*LOOK, "-o", "x", "--set", "speed=1"),
            "setting 'speed' of snapshot x is unknown to source",
        ),
        ((*LOOK, "-o", "x", "--set", "distributions=["), "no value that YAML can read"),
        (
            (*LOOK, "-o", "x", "--set", "a\x1b[2J\n=["),
            "error: --set a [2J =[ has no value that YAML can read",
        ),
        ((*LOOK, "-o", "x", "--set", f"max_documents=-0x{'f' * 5_000}"), "has a setting that is no text"),
        ((*LOOK, "-o", "x", "--set", "day=2026-13-01"), "no value that YAML can read"),
        ((*LOOK, "-o", "x", "--set", r'distributions={"\ud800": 1}'), "has a setting that is no text"),
        ((*LOOK, "-o", "."), ". holds other files, which -o would mix with its own"),
        (
            (*LOOK, "--set", MOSS, "-o", "taken"),
            "what was done is kept: mend this and run the same command",
        ),
        ((*LOOK[:4], "--until", "soon", "-o", "x"), "has a bad date"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_wrong_look_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    """What is missing, or what cannot be read."""
    Path("taken").write_text("a file, where a folder would go")
    status, out, err = run(capsys, "collect", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_sources_say_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    """Network, token, contact, limits and settings of every source."""
    status, out, _ = run(capsys, "sources")
    assert status == 0
    listed = json.loads(run(capsys, "sources", "--json")[1])
    assert set(listed) == set(SOURCES)
    for name, facts in listed.items():
        assert f"{name}: {facts['about']}\n  network  {facts['network']}\n" in out
        assert facts["about"].endswith(".") or facts["about"]
        assert ("FRESHBITS_CONTACT" in facts["contact"]) == SOURCES[name].NETWORK


def test_removed_documents_stay_removed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A removal list by id is applied whenever a corpus is built."""
    build(capsys, "first")
    (kept,) = read_documents(Path("corpora/first/documents.parquet"))
    (project / "corpora/removed.csv").write_text(f"id,reason\n{kept.id},asked by its author\n")
    for _ in range(2):
        assert build(capsys, "first")["dropped"]["removed"] == 1
        assert list(read_documents(Path("corpora/first/documents.parquet"))) == []


def test_what_is_removed_is_not_looked_at(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A removal holds for first looks too."""
    arguments = ("collect", *LOOK, "--set", MOSS, "-o", "look")
    run(capsys, *arguments)
    ids = [d.id for d in read_documents(Path("look/documents.parquet"))]
    (project / "corpora").mkdir()
    (project / "corpora/removed.csv").write_text("id,reason\n" + "".join(f"{id_},asked\n" for id_ in ids))
    assert "3 dropped as removed" in run(capsys, *arguments)[1]


def test_an_upcoming_snapshot_is_collected_and_not_built(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry is moved when it is complete; until then no stage of the pipeline knows it."""
    params(project, {}, upcoming={"first": SNAPSHOT})
    status, out, _ = run(capsys, "collect", "first")
    assert status == 0
    assert "move its entry from `upcoming` to the end of `snapshots`" in out
    assert "is not under `snapshots`" in run(capsys, "extract", "first")[2]
    assert not (project / "corpora").exists()
    params(project, {"first": SNAPSHOT}, upcoming={"first": SNAPSHOT})
    assert "stands under `snapshots` and under `upcoming`" in run(capsys, "collect", "first")[2]
    params(project, {"first": SNAPSHOT}, upcoming=None)
    monkeypatch.setattr(SOURCES["packages"], "collect", lambda *_: pytest.fail("collected again"))
    assert run(capsys, "collect", "first")[0] == run(capsys, "extract", "first")[0] == 0


@pytest.mark.usefixtures("project")
def test_ctrl_c_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the command that it names does so."""
    kept = SOURCES["packages"].collect

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SOURCES["packages"], "collect", interrupted)
    status, _, err = run(capsys, "collect", "first")
    assert (status, err) == (
        130,
        "\ninterrupted; what was done is kept: run the same command again to go on\n",
    )
    monkeypatch.setattr(SOURCES["packages"], "collect", kept)
    assert run(capsys, "collect", "first")[0] == 0
