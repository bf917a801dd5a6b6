"""The rules of the house."""

import ast
import importlib
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from samples import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("collectors", "evaluate")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Return our modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return {name for name in found if name.partition(".")[0] in {"collectors", "evaluate"}}


def test_imports_form_no_cycle() -> None:
    """Data flows one way, and so do imports."""
    TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).prepare()


STAGES = {
    "extract": {"collectors.source", "collectors.minhash", "collectors.snapshot"},
    "dedup": {"collectors.filters", "collectors.dedup", "collectors.build"},
    "score": {"evaluate.scores", "evaluate.measure"},
    "entropy": {"evaluate.representations", "evaluate.entropy_cells"},
    "membership": {"evaluate.familiarity", "evaluate.membership_cells"},
    "phylogeny": {"evaluate.phylogeny", "evaluate.genome_cells", "evaluate.genes"},
    "passages": {"evaluate.passages", "evaluate.passage_cells", "evaluate.codec.files"},
    "fit": {
        "evaluate.relatives",
        "evaluate.scores",
        "evaluate.entropy_cells",
        "evaluate.fit",
        "evaluate.comparison",
        "evaluate.trend",
    },
    "report": {"evaluate.report.page"},
}


COLLECTING = {
    *(f"collectors.web.{name}" for name in ("addresses", "fetch", "pace", "polite", "sockets", "transport")),
    "collectors.staging",
}


@pytest.mark.parametrize("stage", STAGES)
def test_an_edit_runs_every_stage_that_it_can_change(stage: str) -> None:
    """A stage in dvc.yaml depends on all modules that its code imports, whether directly or not."""
    needed: set[str] = set()
    found = set(STAGES[stage])
    while found:
        needed |= found
        found = set().union(*(imports(MODULES[name]) & MODULES.keys() for name in found)) - needed
    if stage in {"extract", "dedup"}:
        needed -= COLLECTING  # what is on disk is read without asking anybody
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    files = {name.replace(".", "/") + ".py" for name in needed}
    assert not {file for file in files if not any(file == d or file.startswith(f"{d}/") for d in declared)}


def test_the_two_halves_share_the_record_and_its_versions_alone() -> None:
    """`evaluate` imports nothing of `collectors` but `document` and `revisions`; `collectors` nothing of `evaluate`."""
    shared = {"collectors.document", "collectors.revisions"}
    for name, path in MODULES.items():
        foreign = {m for m in imports(path) if m.partition(".")[0] != name.partition(".")[0]}
        assert foreign <= (shared if name.startswith("evaluate.") else set()), name


def test_evaluate_is_ours() -> None:
    """Not the Hugging Face package of the same name, which is not installed beside it."""
    assert Path(str(importlib.import_module("evaluate").__file__)).parent == ROOT / "evaluate"
    outside = [entry for entry in sys.path if Path(entry).resolve() not in {ROOT, ROOT / "tests"}]
    assert not [entry for entry in outside if (Path(entry) / "evaluate").exists()]


def test_modules_are_small() -> None:
    """One job each; a module that outgrows this has two."""
    for name, path in MODULES.items():
        assert len(path.read_text().splitlines()) <= 550, name


@pytest.mark.parametrize("name", MODULES)
def test_only_the_commands_read_params(name: str) -> None:
    """Functions take arguments."""
    reading = {"collectors.params", "collectors.revisions", "evaluate.params"}
    if name not in {*reading, "collectors.commands.collect"}:  # `--set` takes values in YAML
        assert "safe_load" not in MODULES[name].read_text()


def test_no_file_names_a_registry() -> None:
    """Pins hold versions alone, so that they work with any index."""
    for name in ("constraints.txt", "models.txt", "pyproject.toml", "Makefile"):
        assert "://" not in (ROOT / name).read_text(), name
