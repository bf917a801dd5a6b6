"""Commands of `python -m evaluate`, run in this process, and the params.yaml that they read."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluate.__main__ import main
from samples import ROOT


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its status and what it printed, on stdout and on stderr."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command that succeeds with --json; return what it says."""
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def change(project: Path, **sections: Any) -> None:
    """Replace sections of params.yaml."""
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


def add_published(project: Path) -> None:
    """Add the published tables that `fit` reads."""
    (project / "evaluate").mkdir()
    for name in ("benchmarks.csv", "published_correlations.csv"):
        (project / "evaluate" / name).write_bytes((ROOT / "evaluate" / name).read_bytes())
