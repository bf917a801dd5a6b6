"""`trace` and `impact` on three versions of a small project, built, scored, fitted and committed for real."""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from collectors.build import write_corpus
from collectors.revisions import open_revision
from evaluate.__main__ import main
from evaluate.figures import Tables
from samples import REQUEST, ROOT, make_document

CORPUS = REQUEST.name
OTHER = "test-2026-10"
CODE = "evaluate/code.txt"
STAGES: dict[str, Any] = {
    "dedup": {
        "matrix": {"snapshot": [CORPUS, OTHER]},
        "cmd": "build ${item.snapshot}",
        "outs": ["corpora/${item.snapshot}"],
    },
    "score": {
        "matrix": {"model": ["gzip", "ppmd"]},
        "cmd": "score ${item.model}",
        "deps": [CODE, "corpora"],
        "outs": [{"results/scores/${item.model}": {"persist": True}}],
    },
    "fit": {
        "cmd": "fit",
        "deps": [CODE, "results/scores"],
        "outs": [
            f"results/{name}.csv"
            for name in (
                *("scores", "entropy", "differences", "fits", "points", "scaling", "law", "trend"),
                *("relatives", "predictions", "distances"),
            )
        ],
    },
}


def texts(n: int) -> list[str]:
    """Return texts that differ in how well they compress."""
    return [f"{'so many words ' * 7}{i * 7919:b} " * (3 + i) for i in range(n)]


def git(*arguments: str) -> str:
    """Run git in the working directory; return what it prints."""
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def build(name: str, documents: list[str]) -> None:
    """Write a corpus of these texts, whose ids are their numbers; an empty text is left out."""
    made = [make_document(text, i) for i, text in enumerate(documents) if text]
    write_corpus(Path("corpora") / name, replace(REQUEST, name=name), made)


def commit() -> str:
    """Score and fit what changed, record it all as `dvc repro` would, and commit it; return the commit."""
    from dvc.repo import Repo

    assert main(["score", "--all"]) == 0
    assert main(["fit"]) == 0
    with Repo(".") as repo:
        repo.commit(force=True)
    git("add", ".")
    git("commit", "--quiet", "--allow-empty", "--message", "version")
    return git("rev-parse", "HEAD")


def make_versions(folder: Path) -> list[str]:
    """Make a project in a folder and leave its three commits there.

    The second differs in code alone. In the third two documents went, two came and one has another text.
    """
    from dvc.repo import Repo

    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("evaluate").mkdir()
        for name in ("benchmarks.csv", "published_correlations.csv"):
            shutil.copy(ROOT / "evaluate" / name, "evaluate")
        params = {
            "snapshots": {CORPUS: {}, OTHER: {}},
            "models": {"gzip": {"backend": "compressors"}, "ppmd": {"backend": "compressors"}},
            "fit": {"seed": 1, "resamples": 50},
        }
        Path("params.yaml").write_text(yaml.safe_dump(params))
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
        git("init", "--quiet", "--initial-branch=main")
        git("config", "user.name", "A")
        git("config", "user.email", "a@example.org")
        Repo.init(".").close()
        Path(CODE).write_text("one")
        old = texts(12)
        build(CORPUS, old)
        build(OTHER, texts(20)[14:])
        commits = [commit()]
        Path(CODE).write_text("two")
        commits.append(commit())
        build(CORPUS, ["", "", f"{old[2]}changed", *old[3:], *texts(14)[12:]])
        commits.append(commit())
        return commits
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The project, made once."""
    folder = tmp_path_factory.mktemp("project")
    return folder, make_versions(folder)


@pytest.fixture
def project(made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A copy of the project as the working directory; its commits."""
    shutil.copytree(made[0], tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return made[1]


@pytest.fixture
def traced(capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[dict[str, Any]]]:
    """The command with --json."""

    def run(figure: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        status = main(["trace", "--json", "--", figure])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        found: list[dict[str, Any]] = json.loads(captured.out)
        return found

    return run


Traced = Callable[[str], list[dict[str, Any]]]
ROW = f"model=gzip,corpus={CORPUS},protocol=document,metric=bits_per_character"


@pytest.mark.slow
def test_a_figure_leads_to_model_texts_and_commits(project: list[str], traced: Traced) -> None:
    """The cell, the corpus and the table each name the commit that recorded them, and why."""
    (figure,) = traced(f"scores.csv:{ROW}")
    row = next(r for r in Tables(Path("results")).rows("scores.csv") if r["value"] == figure["value"])
    facts = json.loads(Path(f"corpora/{CORPUS}/corpus.json").read_text())
    (cell,) = figure["cells"]
    assert (figure["table"], figure["column"], figure["row"]["model"]) == (
        "results/scores.csv",
        "value",
        "gzip",
    )
    assert (cell["revision"], cell["protocol"]) == (row["revision"], "document")
    assert cell["corpus_sha256"] == facts["documents_sha256"]
    assert (cell["documents"], cell["n_documents"]) == (f"corpora/{CORPUS}/documents.parquet", 12)
    assert cell["path"] == f"results/scores/gzip/{CORPUS}.parquet"
    for stage in (cell["recorded"], cell["built"], figure["recorded"]):
        assert stage["commit"]["id"] == stage["made"]["id"] == project[2]
    assert (cell["recorded"]["stage"], cell["built"]["stage"]) == ("score@gzip", f"dedup@{CORPUS}")
    assert not cell["notes"]
    assert not figure["notes"]


@pytest.mark.slow
def test_what_did_not_change_leads_to_the_first_commit(project: list[str], traced: Traced) -> None:
    """A corpus of the first version is of the first commit; new code gives an entry, and no new output."""
    (figure,) = traced(f"scores.csv:{ROW.replace(CORPUS, OTHER)}")
    assert figure["cells"][0]["built"]["commit"]["id"] == project[0]
    git("checkout", "--quiet", project[1], "--", "dvc.lock")
    git("reset", "--quiet", "--soft", project[1])
    (figure,) = traced(f"scores.csv:{ROW.replace(CORPUS, OTHER)}")
    recorded = figure["cells"][0]["recorded"]
    assert (recorded["commit"]["id"], recorded["made"]["id"]) == (project[1], project[0])


@pytest.mark.slow
def test_a_printed_number_finds_its_rows(project: list[str], traced: Traced) -> None:
    """With the digits of the report, the fewer the more of them; every figure rounds to what was asked."""
    del project
    (exact,) = traced(f"scores.csv:{ROW}")
    for digits in (4, 3):
        asked = f"{float(exact['value']):.{digits}f}"
        found = traced(asked)
        assert exact["line"] in [hit["line"] for hit in found if hit["table"] == exact["table"]]
        for hit in found:
            assert abs(Decimal(hit["value"]) - Decimal(asked)) <= Decimal(5).scaleb(-digits - 1)


@pytest.mark.slow
def test_rows_that_hold_a_number_are_told_apart(
    project: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with the address that leads to it alone, where there are several."""
    del project
    assert main(["trace", f"scores.csv:model=gzip,corpus={CORPUS},metric=bits_per_character"]) == 0
    lines = capsys.readouterr().out.splitlines()
    addresses = [line.split(maxsplit=1)[1] for line in lines if line.startswith("  address    ")]
    assert len(addresses) == 2
    for address in addresses:
        assert main(["trace", address]) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[0] in lines
        assert out.count("results/scores.csv, line ") == 1
        assert "  address  " not in out


@pytest.mark.slow
def test_a_difference_leads_to_both_cells(project: list[str], traced: Traced) -> None:
    """Each under its own protocol."""
    del project
    (figure,) = traced(f"differences.csv:corpus={CORPUS}")
    assert {cell["model"] for cell in figure["cells"]} == {"gzip", "ppmd"}
    assert {cell["protocol"] for cell in figure["cells"]} == {"document"}


@pytest.mark.slow
def test_a_month_leads_to_the_cell_of_each_of_its_corpora(project: list[str], traced: Traced) -> None:
    """A rate of one month is over the documents of both."""
    del project
    for figure in traced("trend.csv:model=gzip,protocol=document"):
        row = Tables(Path("results")).rows("trend.csv")[figure["line"] - 2]
        assert [cell["corpus"] for cell in figure["cells"]] == sorted(row["corpora"].split())
        assert {(cell["model"], cell["protocol"]) for cell in figure["cells"]} == {("gzip", "document")}


@pytest.mark.slow
def test_published_figures_lead_to_where_they_are_printed(project: list[str], traced: Traced) -> None:
    """They come from no cell; the same number, printed and recomputed, is two figures."""
    del project
    found = traced("−0.931")
    assert {(hit["table"], hit["column"]) for hit in found} >= {
        ("results/law.csv", "pearson"),
        ("results/law.csv", "published_pearson"),
    }
    for hit in found:
        if hit["table"] == "results/law.csv":
            assert hit["cells"] == []
            assert any("arXiv 2404.09937v2, Fig 1, left" in source for source in hit["published"])
            assert any("benchmarks.csv" in source for source in hit["published"])


@pytest.mark.slow
def test_what_is_on_disk_and_not_recorded_is_said(
    project: list[str], traced: Traced, capsys: pytest.CaptureFixture[str]
) -> None:
    """A corpus, cells and a table made anew without a commit: of each the difference is named."""
    del project
    build(CORPUS, texts(5))
    (figure,) = traced(f"scores.csv:{ROW}")
    assert any("documents.parquet on disk is another version" in note for note in figure["cells"][0]["notes"])
    assert main(["score", "--all"]) == 0
    (figure,) = traced(f"scores.csv:{ROW}")
    assert any("results/scores/gzip on disk is not what dvc.lock" in n for n in figure["cells"][0]["notes"])
    assert any("the cell on disk another" in note for note in figure["notes"])
    Path("dvc.lock").write_text(Path("dvc.lock").read_text().replace("cmd: fit", "cmd: fit --more"))
    (figure,) = traced(f"scores.csv:{ROW}")
    assert figure["recorded"] == {"stage": "fit", "commit": None, "made": None, "note": "not committed"}
    assert main(["trace", f"scores.csv:{ROW}"]) == 0
    printed = capsys.readouterr().out
    assert "stage fit, not committed" in printed
    assert printed.count("  attention  ") == 3


@pytest.mark.slow
def test_what_is_missing_is_one_line(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A number that stands nowhere, a cell that is not on disk, a table that is not."""
    del project
    for figure, words in (
        ("123456.789", "no figure and no end of an interval in scores.csv, entropy.csv"),
        ("twelve", "neither a number nor the address"),
        ("scores.csv:model=nobody", "no row with model=nobody"),
        ("points.csv:model=gzip", "no table that can be traced"),
        ("scores.csv:modell=gzip", "no condition on scores.csv"),
    ):
        assert main(["trace", figure]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    Path(f"results/scores/gzip/{CORPUS}.parquet").unlink()
    assert main(["trace", f"scores.csv:{ROW}"]) == 2
    assert "cannot be read; restore it with `dvc checkout`" in capsys.readouterr().err
    Path("results/law.csv").unlink()
    assert main(["trace", "0.5"]) == 2
    assert "law.csv cannot be read" in capsys.readouterr().err


def rows_of(model: str, commit: str, corpus: str = CORPUS) -> list[dict[str, Any]]:
    """Return what a cell of a commit has under protocol `document`, with the digests of the texts."""
    revision = open_revision(commit)
    cell = pq.read_table(revision.local(f"results/scores/{model}/{corpus}.parquet")).to_pylist()
    kept = pq.ParquetFile(revision.local(f"corpora/{corpus}/documents.parquet")).read(["id", "text_sha256"])
    digests = {row["id"]: row["text_sha256"] for row in kept.to_pylist()}
    return [{**row, "text": digests[row["document"]]} for row in cell if row["protocol"] == "document"]


def bits(rows: list[dict[str, Any]]) -> float:
    """Return bits per character."""
    characters: int = sum(row["n_characters"] for row in rows)
    return math.fsum(row["nll"] for row in rows) / characters / math.log(2)


def impact(capsys: pytest.CaptureFixture[str], before: str, after: str) -> dict[tuple[str, str, str], Any]:
    """Return what the command says of scores, by model, corpus and protocol."""
    capsys.readouterr()
    status = main(["impact", before, after, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return {(row["model"], row["corpus"], row["protocol"]): row for row in json.loads(captured.out)["scores"]}


@pytest.mark.slow
def test_impact_between_commits(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The rates of the score tables of both, and the parts by their definition from the files of both."""
    found = impact(capsys, project[0], project[2])
    assert len(found) == 2 * 2 * 2
    for model in ("gzip", "ppmd"):
        row = found[model, CORPUS, "document"]
        old, new = (rows_of(model, commit) for commit in (project[0], project[2]))
        shared = {(r["document"], r["text"]) for r in old} & {(r["document"], r["text"]) for r in new}
        same = [[r for r in rows if (r["document"], r["text"]) in shared] for rows in (old, new)]
        assert row["impact"]["before"] == pytest.approx(bits(old), rel=1e-12)
        assert row["impact"]["after"] == pytest.approx(bits(new), rel=1e-12)
        assert row["impact"]["rescored"] == {"value": 0, "low": 0, "high": 0}
        assert row["impact"]["composition"]["value"] == pytest.approx(
            (bits(new) - bits(same[1])) - (bits(old) - bits(same[0])), rel=1e-9
        )
        assert [row["impact"][f"n_{name}"] for name in ("before", "after", "same", "changed")] == [
            12,
            12,
            9,
            1,
        ]
        assert row["changed"] == ["corpus_sha256"]
        stream = found[model, CORPUS, "stream"]["impact"]
        assert (stream["rescored"], stream["composition"]["low"]) == (None, None)
        assert stream["composition"]["value"] == stream["after"] - stream["before"]
        assert found[model, OTHER, "stream"]["impact"]["difference"]["value"] == 0
    scores = Tables(Path("results")).rows("scores.csv")
    (value,) = [
        float(row["value"])
        for row in scores
        if all(row[key] == wanted for key, wanted in (part.split("=") for part in ROW.split(",")))
    ]
    assert found["gzip", CORPUS, "document"]["impact"]["after"] == pytest.approx(value, rel=1e-8)


@pytest.mark.slow
def test_impact_tells_a_person_what_it_did(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Both parts with their documents; scores and fits that are the same are counted."""
    assert main(["impact", project[0], "workspace"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith(f"from revision {project[0]}")
    (start,) = [i for i, line in enumerate(lines) if line.startswith(f"gzip on {CORPUS} (document): ")]
    assert lines[start + 1] == "  same documents, new score  0 [0, 0], 9 documents"
    assert lines[start + 2].endswith(", 3 before, 3 after, 1 of them with another text")
    assert lines[start + 3].endswith("corpus_sha256")
    assert "4 of 8 scores are the same" in lines
    assert main(["impact", project[0], project[1]]) == 0
    out = capsys.readouterr().out
    assert "8 of 8 scores are the same" in out
    fitted = sum(not row["refused"] for row in Tables(Path("results")).rows("fits.csv"))
    assert fitted > 0
    assert f"{fitted} of " in out.partition("scores are the same")[2]


@pytest.mark.slow
def test_impact_of_new_scores_alone(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A codec of the same name with other settings, in the workspace: all of it is new scores."""
    for name in (CORPUS, OTHER):
        shutil.copy(f"results/scores/gzip/{name}.parquet", f"results/scores/ppmd/{name}.parquet")
    row = impact(capsys, project[2], "workspace")["ppmd", CORPUS, "document"]
    assert row["impact"]["composition"] == {"value": 0, "low": 0, "high": 0}
    assert row["impact"]["rescored"] == row["impact"]["difference"]
    gap = bits(rows_of("gzip", project[2])) - bits(rows_of("ppmd", project[2]))
    assert row["impact"]["difference"]["value"] == pytest.approx(gap, rel=1e-9)
    assert {"model", "revision", "software"} <= set(row["changed"])


@pytest.mark.slow
def test_impact_says_what_it_cannot_compare(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that one side lacks has its line; a corpus that its cell was not scored on is an error."""
    Path(f"results/scores/ppmd/{CORPUS}.parquet").unlink()
    row = impact(capsys, project[0], "workspace")["ppmd", CORPUS, "stream"]
    assert (row["impact"], row["refused"]) == (None, "not in the workspace")
    build(CORPUS, texts(3))
    assert main(["impact", project[0], "workspace"]) == 2
    error = capsys.readouterr().err
    assert f"the corpus {CORPUS} of the workspace is not the one that its scores are of" in error
    assert error.count("\n") == 1
    assert main(["impact", "nonsense", "workspace"]) == 2
    assert "no revision 'nonsense'" in capsys.readouterr().err
