"""What the documents say is true."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from collectors.__main__ import COMMANDS as COLLECTORS
from collectors.build import REMOVED
from collectors.dedup import EXACT, NEAR, SAME
from collectors.document import SCHEMA
from collectors.filters import _KNOWN as FILTERS
from collectors.source import SOURCES
from evaluate import fit, scores
from evaluate.__main__ import COMMANDS as EVALUATE
from evaluate.__main__ import main
from evaluate.commands.results import BENCHMARKS, PUBLISHED
from evaluate.report import page as report
from samples import ROOT

README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "corpora/README.md",
        "docs/sources.md",
        "docs/versions.md",
    )
]


def test_every_command_is_documented() -> None:
    """The README names all commands of both halves."""
    for package, commands in (("collectors", COLLECTORS), ("evaluate", EVALUATE)):
        for name in commands:
            assert f"python -m {package} {name}" in README, f"{package} {name}"


def test_every_command_in_the_readme_exists() -> None:
    """Console lines start programs and commands that there are."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"^\$ (.+)$", README, re.MULTILINE):
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, line
        if words[:2] == ["python", "-m"]:
            known = {"collectors": COLLECTORS, "evaluate": EVALUATE}[words[2]]
            assert len(words) == 3 or words[3] in known, line


def test_the_data_contract_names_every_column() -> None:
    """corpora/README.md describes what the Parquet files hold."""
    contract = (ROOT / "corpora" / "README.md").read_text()
    for name in SCHEMA.names:
        assert f"`{name}`" in contract, name


def test_the_data_contract_names_every_filter() -> None:
    """Each reason to drop a document is explained."""
    contract = (ROOT / "corpora" / "README.md").read_text()
    for name in (*FILTERS, SAME, EXACT, NEAR, REMOVED):
        assert f"`{name}`" in contract, name


def test_every_setting_of_every_source_is_explained() -> None:
    """docs/sources.md has a section for each, with all that params.yaml may set."""
    sections = (ROOT / "docs" / "sources.md").read_text().split("\n## ")
    for name, source in SOURCES.items():
        (section,) = [text for text in sections if text.startswith(f"{name}\n")]
        for setting in source.SETTINGS:
            assert f"`{setting}`" in section, f"{name}: {setting}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """Every relative link names a file that is there."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """Every module stands in it, and nothing that is gone."""
    lines = re.findall(r"^\s+((?:[\w.]+\.py\s+)+)", README, re.MULTILINE)
    listed = {name for line in lines for name in line.split()}
    modules = {p.name for package in ("collectors", "evaluate") for p in (ROOT / package).glob("*.py")}
    assert listed == modules - {"__init__.py"}
    packages = {f"{p.parent.name}/" for p in (ROOT / "collectors").glob("*/__init__.py")}
    (tree,) = re.findall(r"^collectors/.+?^corpora/", README, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"(?<=\s)\w+/(?=\s)", tree)) == packages


@pytest.mark.parametrize("model", ["ppmd", pytest.param("smollm2-135m", marks=pytest.mark.slow)])
def test_the_readme_shows_true_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Its lines of scores are what the commands print, to the digits that any machine reproduces."""
    monkeypatch.chdir(ROOT)
    command = f"python -m evaluate score --model {model} --text LICENSE"
    assert main(command.split()[3:]) == 0
    assert f"$ {command}\n{capsys.readouterr().out}" in README


def test_the_figure_in_the_readme_is_what_the_pipeline_draws(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """docs/law.svg follows from the published tables, to the byte."""
    out = tmp_path_factory.mktemp("law")
    scores.write_scores(out / "scores.csv", [])
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())["fit"]
    sampling = {name: settings[name] for name in ("seed", "resamples")}
    fit.run(out / "scores.csv", ROOT / BENCHMARKS, ROOT / PUBLISHED, out, **sampling)
    assert report.law_figure(out) == (ROOT / "docs" / "law.svg").read_text()
