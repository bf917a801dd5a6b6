"""docs/versions.md does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_refresh_command import repository
from test_scripted_history import History, version

from collectors.document import read_documents
from samples import ROOT

GUIDE = ROOT / "docs" / "versions.md"
BIN = Path(sys.executable).parent


def lines() -> list[tuple[str, list[str]]]:
    """Return the commands of the guide, each with what it is shown to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


@pytest.mark.slow
def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command succeeds, in one shell, and prints what stands below it."""
    listed = yaml.safe_load((ROOT / "params.yaml").read_text())["snapshots"]
    snapshots = {name: listed[name] for name in ("prose-2026-09", "prose-2026-10")}
    folder = repository(tmp_path / "repository", snapshots, {})
    # The Makefile last: it stands for what `make setup` makes, which is older than neither of the others.
    for name in ("constraints.txt", "pyproject.toml", "Makefile"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        version(History(folder=folder, commits={}, held={}, ids={}), "Data", [*snapshots], [*snapshots])
    who = {
        f"GIT_{role}_{what}": "tests@freshbits.example"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {
        **os.environ,
        **who,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MAKEFLAGS": f"BIN={BIN} READY=Makefile",  # what `make setup` makes is there
    }
    commands = lines()
    assert len(commands) > 15
    mark = "freshbits-guide-step"
    script = "\n".join(["set -e", *(f"echo {mark}\n{command}" for command, _ in commands)])
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    steps = ran.stdout.split(f"{mark}\n")[1:]
    assert ran.returncode == 0, (
        commands[len(steps) - 1],
        ran.stdout[-2000:],
        ran.stderr[-2000:],
    )
    for (command, expected), printed in zip(commands, steps, strict=True):
        for line in expected:
            assert line in printed, command
    difference = next(
        p for (c, _), p in zip(commands, steps, strict=True) if c.endswith("collectors diff HEAD workspace")
    ).splitlines()
    columns = difference[[line.split()[0] for line in difference].index("corpus")].split()[::-1]
    for name in snapshots:  # the clone holds the version from before the change
        earlier = read_documents(tmp_path / "copy" / "corpora" / name / "documents.parquet")
        short = [document.n_characters for document in earlier if document.n_characters < 2000]
        assert short
        gone = f"−{len(short):,} filter min_characters (filters.prose.min_characters 200 → 2000)"
        row = next(number for number, line in enumerate(difference) if line.startswith(f"{name} "))
        counts = dict(zip(columns, difference[row].split()[::-1], strict=False))
        assert [counts[change] for change in ("added", "removed", "changed")] == ["0", str(len(short)), "0"]
        assert difference[row + 1] == f"  {gone}: {sum(short):,} characters"


def test_the_guide_calls_commands_that_there_are() -> None:
    """Every command of ours that is about versions is shown."""
    shown = {tuple(command.split()[2:4]) for command, _ in lines() if command.startswith("python -m")}
    assert shown == {
        ("collectors", "diff"),
        ("evaluate", "impact"),
        ("evaluate", "trace"),
        ("collectors", "audit"),
        ("collectors", "refresh"),
    }
