"""The whole pipeline under real DVC."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from test_transformers_model import WIDE, save_model

from samples import ROOT

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


FIRST, SECOND = "prose-2026-09", "prose-2026-10"


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder; return what it printed, errors too."""
    result = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def stages(output: str) -> set[str]:
    """Return the stages that a `dvc repro` ran."""
    marker = "Running stage '"
    return {
        line.split("'")[1] for line in output.splitlines() if line.startswith(marker) and line.endswith("':")
    }


def change(folder: Path, edit: Any) -> None:
    """Edit params.yaml."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    edit(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def listed(snapshot: str, *distributions: str) -> dict[str, Any]:
    """Return an entry of our params.yaml with a few of its distributions."""
    entry: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())["snapshots"][snapshot]
    return entry | {"distributions": {name: entry["distributions"][name] for name in distributions}}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository of this code with a tiny model and one small snapshot."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("collectors", "evaluate", ".dvc"):
        ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "corpora").mkdir()
    for name in (".gitignore", "removed.csv"):
        shutil.copy(ROOT / "corpora" / name, folder / "corpora")
    save_model(folder / "models" / "tiny", transformers.LlamaConfig(**WIDE))

    def shrink(params: dict[str, Any]) -> None:
        params["snapshots"] = {FIRST: listed(FIRST, "funcy", "idna")}
        tiny = {"backend": "transformers", "source": "models/tiny", "name": "org/tiny"}
        params["models"] = {"tiny": tiny}
        params["score"] = {"protocol": "full", "window": 200, "stride": 60}
        params["entropy"] = {"tokens": 64}
        params["phylogeny"] = {"genes": 8, "alleles": "first-token"}
        params["fit"] = {"seed": 1, "resamples": 50}

    change(folder, shrink)
    run(folder, "git", "init", "--quiet")
    return folder


@pytest.mark.slow
def test_the_pipeline_runs_repeats_nothing_and_grows_by_what_is_new(repository: Path) -> None:
    """A first run makes everything, a second nothing; a new model or snapshot adds its own cells alone."""
    first = run(repository, "dvc", "repro")
    expected = {f"collect@{FIRST}", f"extract@{FIRST}", f"dedup@{FIRST}"}
    assert stages(first) == {
        *expected,
        "score@tiny",
        "entropy@tiny",
        "membership@tiny",
        "phylogeny@tiny",
        "passages@tiny",
        "fit",
        "report",
    }
    assert "org/tiny" in (repository / "results" / "report.html").read_text()

    second = run(repository, "dvc", "repro")
    assert "Data and pipelines are up to date." in second
    assert stages(second) == set()

    def grow(params: dict[str, Any]) -> None:
        params["models"].update(gzip={"backend": "compressors"})
        params["snapshots"].update({SECOND: listed(SECOND, "iniconfig", "atpublic")})

    change(repository, grow)
    grown = run(repository, "dvc", "repro")
    assert "tiny: 1 of 2 corpora scored, 1 unchanged" in grown
    assert "gzip: 2 of 2 corpora scored, 0 unchanged" in grown
    assert "tiny: hidden states of 1 of 2 corpora measured, 1 unchanged" in grown
    ran = stages(grown)
    assert {
        f"collect@{SECOND}",
        "score@gzip",
        "entropy@gzip",
        "phylogeny@gzip",
        "passages@gzip",
        "fit",
        "report",
    } <= ran
    assert f"collect@{FIRST}" not in ran
    assert f"extract@{FIRST}" not in ran

    metrics = json.loads(run(repository, "dvc", "metrics", "show", "--json"))
    rates = metrics[""]["data"]["results/metrics.json"]["data"]["bits_per_character"]
    assert {"tiny", "gzip"} <= set(rates)
    assert "plots" in run(repository, "dvc", "plots", "show", "--out", str(repository / "plots"))


@pytest.mark.slow
def test_a_changed_entry_never_replaces_a_snapshot(repository: Path) -> None:
    """Another window under the same name is refused, and the raw bytes stay."""
    run(repository, "dvc", "repro", f"collect@{FIRST}")
    raw = repository / "corpora" / "raw" / FIRST
    before = sorted((path.name, path.read_bytes()) for path in raw.iterdir())
    change(repository, lambda params: params["snapshots"][FIRST].update(until="2026-10-02"))
    failed = subprocess.run(
        ["dvc", "repro", f"collect@{FIRST}"],
        cwd=repository, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode != 0
    assert "is never rewritten; collect under another name" in failed.stdout + failed.stderr
    assert sorted((path.name, path.read_bytes()) for path in raw.iterdir()) == before
    change(repository, lambda params: params["snapshots"][FIRST].update(until="2026-10-01"))


@pytest.mark.slow
def test_a_missing_model_stops_the_pipeline_with_one_line(repository: Path) -> None:
    """What was computed before stays; the message says what is missing."""
    change(
        repository,
        lambda params: params["models"].update(
            absent={"backend": "transformers", "source": "models/absent.gguf"}
        ),
    )
    failed = subprocess.run(
        ["dvc", "repro"], cwd=repository, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "error: model 'models/absent.gguf' is neither a name in params.yaml" in said
    assert "Traceback" not in said
    change(repository, lambda params: params["models"].pop("absent"))
    run(repository, "dvc", "repro")
