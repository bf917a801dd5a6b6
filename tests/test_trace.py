"""Figures found by what is printed of them or by the address of their row, and the cells behind derived ones."""

import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate import figures, genome_cells, relatives, row_cells, trace
from evaluate.__main__ import main
from evaluate.figures import Found, Tables, find, printed
from evaluate.genomes import Genome
from evaluate.history import digest
from evaluate.prediction import KnownModel
from samples import ROOT


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("0.7235", "0.7235", "0.00005"),
        ("−0.931", "-0.931", "0.0005"),
        ("+0.02 %", "0.0002", "0.00005"),
        ("15", "15", "0.5"),
        ("87,241", "87241", "0.5"),
        ("3.2 · 10⁻⁵", "0.000032", "0.0000005"),
        ("6.0e+21", "6.0e21", "5e19"),
        (" 0.50 ", "0.5", "0.005"),
    ],
)
def test_numbers_are_read_as_the_report_writes_them(text: str, value: str, half: str) -> None:
    """Value, and half a unit of the last digit that is printed."""
    assert printed(text) == (Decimal(value), Decimal(half))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%",
        "nan",
        "inf",
        "1,2",
        "0.5.1",
        "scores.csv",
        "1 2",
        "1e999999999",
        "1e-999999999",
        "0e-999999999",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    """With an example of what is one."""
    with pytest.raises(UserError, match="neither a number nor the address of a row"):
        printed(text)


def small(folder: Path, **tables: list[dict[str, object]]) -> Tables:
    """Return tables with these rows; all others have a header and no row."""
    for name, columns in figures.TABLES.items():
        rows = tables.get(name.partition(".")[0], [])
        header = [*columns.keys, *columns.figures, *columns.others]
        lines = [header, *([str(row.get(column, "")) for column in header] for row in rows)]
        (folder / name).write_text("".join(",".join(line) + "\n" for line in lines))
    return Tables(folder)


@pytest.mark.parametrize("column", ["model", "value", "corpus_sha256"])
def test_a_table_without_a_column_that_is_read_is_refused(tmp_path: Path, column: str) -> None:
    """By what prints a number as by an address; the file, the column and the remedy are named."""
    tables = small(tmp_path, scores=[{"model": "a", "value": 0.5}])
    path = tmp_path / "scores.csv"
    header, rest = path.read_text().split("\n", 1)
    path.write_text(",".join(f"{c}_old" if c == column else c for c in header.split(",")) + "\n" + rest)
    for figure in ("0.5", "scores.csv:metric=x"):
        with pytest.raises(UserError, match=rf"scores.csv has no column '{column}'; make it .* `dvc repro`"):
            find(tables, figure)


@pytest.mark.parametrize("name", ["points.csv", "scaling_points.csv"])
def test_points_without_a_column_are_refused(derived: Tables, tmp_path: Path, name: str) -> None:
    """They say which models a line is through."""
    (tmp_path / name).write_text("model,x\n")
    with pytest.raises(UserError, match=rf"{name} has no column '(dataset|family)'"):
        derived.rows(name)


@given(value=st.floats(-100, 100), digits=st.integers(1, 6))
def test_every_figure_is_found_by_what_the_report_prints_of_it(
    tmp_path_factory: pytest.TempPathFactory, value: float, digits: int
) -> None:
    """Rounded to any digits, with a proper minus."""
    folder = tmp_path_factory.mktemp("tables")
    tables = small(folder, scores=[{"model": "a", "value": f"{value:.9g}", "low": f"{value + 3:.9g}"}])
    shown = f"{float(f'{value:.9g}'):.{digits}f}".replace("-", "−")
    assert ("value", 2) in [(found.column, found.line) for found in find(tables, shown)]
    assert [found.column for found in find(tables, f"{value + 3:.9f}")] == ["low"]


def test_an_address_may_name_values_with_commas(tmp_path: Path) -> None:
    """A comma ends a condition only where another one follows."""
    rows: list[dict[str, object]] = [
        {"x": "C", "y": '"MMLU (5-shot, own)"', "pearson": -0.5},
        {"x": "D", "y": '"MMLU (5-shot, own)"', "pearson": -0.6},
    ]
    tables = small(tmp_path, fits=rows)
    (found,) = find(tables, "results/fits.csv:y=MMLU (5-shot, own),x=D")
    assert (found.line, found.column, found.row["pearson"]) == (3, "pearson", "-0.6")


BENCHMARKS = ROOT / "evaluate" / "benchmarks.csv"
LANGUAGE = {"backend": "transformers", "protocol": "full/1900/512", "metric": "bits_per_character"}


def cells_behind(tables: Tables, table: str, row: dict[str, str]) -> set[tuple[str, ...]]:
    """Return kind, model, corpus and protocol of the cells behind a row."""
    return set(row_cells.names(tables, Found(table=table, line=2, column="pearson", row=row), BENCHMARKS))


@pytest.fixture
def derived(tmp_path: Path) -> Tables:
    """Tables in which two models were scored on two corpora, one of them under two protocols."""
    tables = small(
        tmp_path,
        scores=[
            {**LANGUAGE, "model": "a", "corpus": "news"},
            {**LANGUAGE, "model": "b", "corpus": "news", "protocol": "sink/1900/512"},
            {**LANGUAGE, "model": "c", "corpus": "news", "protocol": "huang2024/1900/512"},
            {**LANGUAGE, "model": "a", "corpus": "code"},
            {
                **LANGUAGE,
                "model": "a",
                "corpus": "news",
                "metric": "effective_rank",
                "protocol": "entropy/512",
            },
        ],
    )
    points = [
        f"measured,s,{x},MMLU,{m},{used}"
        for x, m, used in (
            ("news (full/1900/512)", "a", "true"),
            ("news (full/1900/512)", "b", "true"),
            ("news (huang2024/1900/512)", "c", "true"),
            ("code", "a", "true"),
            ("code", "b", "false"),
        )
    ]
    (tmp_path / "points.csv").write_text("\n".join(["dataset,study,x,y,model,used", *points, ""]))
    scaling = [
        "family,x,y,model,used",
        ",bits per character on news (full/1900/512),effective_rank on news,a,true",
        "",
    ]
    (tmp_path / "scaling_points.csv").write_text("\n".join(scaling))
    return tables


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (
            "news (full/1900/512)",
            {("scores", "a", "news", "full/1900/512"), ("scores", "b", "news", "sink/1900/512")},
        ),
        ("news (huang2024/1900/512)", {("scores", "c", "news", "huang2024/1900/512")}),
        ("code", {("scores", "a", "code", "full/1900/512")}),
    ],
)
def test_a_fit_leads_to_the_cells_of_its_models(
    derived: Tables, x: str, expected: set[tuple[str, ...]]
) -> None:
    """Those on the line alone, on the corpus and under the protocol of its axis; sink stands for full there."""
    row = {"dataset": "measured", "study": "s", "x": x, "y": "MMLU"}
    assert cells_behind(derived, "fits.csv", row) == expected
    assert cells_behind(derived, "fits.csv", {**row, "dataset": "published"}) == set()


def test_a_law_of_size_leads_to_the_cells_of_both_axes(derived: Tables) -> None:
    """Rates and entropies."""
    row = {"family": "", "x": "bits per character on news (full/1900/512)", "y": "effective_rank on news"}
    assert cells_behind(derived, "scaling.csv", row) == {
        ("scores", "a", "news", "full/1900/512"),
        ("entropy", "a", "news", "entropy/512"),
    }


def test_a_layer_leads_to_its_cell(derived: Tables) -> None:
    """Whatever protocol that cell has."""
    row = {"model": "a", "corpus": "news", "layer": "3", "metric": "effective_rank"}
    assert cells_behind(derived, "entropy.csv", row) == {("entropy", "a", "news", "")}


@pytest.mark.parametrize(
    ("corpora", "expected"),
    [
        ("news", {("scores", "b", "news", "sink/1900/512")}),
        ("code news", {("scores", "b", "news", "sink/1900/512"), ("scores", "b", "code", "full/1900/512")}),
        ("new", set()),
    ],
)
def test_a_month_leads_to_the_cells_of_its_corpora(
    tmp_path: Path, corpora: str, expected: set[tuple[str, ...]]
) -> None:
    """Each corpus by its whole name, of that model alone, whether it was read as full or as sink."""
    scored: list[dict[str, object]] = [
        {**LANGUAGE, "model": "b", "corpus": "news", "protocol": "sink/1900/512"},
        {**LANGUAGE, "model": "b", "corpus": "news", "protocol": "huang2024/1900/512"},
        {**LANGUAGE, "model": "b", "corpus": "code"},
        {**LANGUAGE, "model": "a", "corpus": "news"},
    ]
    row = {"model": "b", "protocol": "full/1900/512", "corpora": corpora}
    assert cells_behind(small(tmp_path, scores=scored), "trend.csv", row) == expected


def test_a_number_in_many_rows_is_refused_with_their_addresses(tmp_path: Path) -> None:
    """In one line; an address that it names leads to one row, and more digits to fewer."""
    scored: list[dict[str, object]] = [
        {**LANGUAGE, "model": f"m{i}", "corpus": "news", "value": f"0.51{i}"} for i in range(9)
    ]
    tables = small(tmp_path, scores=scored)
    with pytest.raises(
        UserError, match=r"^0\.5 stands in 9 rows; give more digits of it, or the add.*$"
    ) as error:
        find(tables, "0.5")
    for address in str(error.value).partition("such as ")[2].split(" or "):
        (found,) = find(tables, address)
        assert found.address == address
    assert [found.line for found in find(tables, "0.514")] == [6]
    assert len(find(small(tmp_path, scores=scored[:8]), "0.5")) == 8


ORIGIN = {
    **dict.fromkeys(genome_cells.SCHEMA.names[:10], ""),
    "revision": "sha256:1234",
    "genes_sha256": "9" * 64,
    "alleles": "exact/0.7/0.001",
}
TITLE, STUDY = "HumanEval (0-shot, huang2024)", "huang2024"
KNOWN = ("Llama-1-7b", "Qwen-7b", "Yi-6b", "Mistral-7b", "Falcon-7b", "Starcoder2-7b", "Llama-2-7b")


@pytest.fixture
def related(tmp_path: Path) -> Path:
    """A repository with the genomes of eight models, seven of them known to a benchmark, and all tables of them."""
    results = tmp_path / "results"
    results.mkdir()
    rates: list[dict[str, object]] = [
        {**LANGUAGE, "model": f"m{i}", "corpus": corpus, "freshness": said, "value": value}
        for i in range(8)
        for corpus, said, value in (("old", "not-after", 0.75), ("new", "after", "" if i == 2 else 0.25))
    ]
    small(results, scores=rates)
    genomes = [
        Genome(
            model=f"m{i}",
            alleles=tuple({"x": 0.05 + 0.11 * i, f"y{gene}": 0.95 - 0.11 * i} for gene in range(3)),
            n_probes=None,
            pruned=(0.0,) * 3,
        )
        for i in range(8)
    ]
    for score in rates:
        path = results / "scores" / f"{score['model']}" / f"{score['corpus']}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        cell = {
            "revision": "",
            "protocol": LANGUAGE["protocol"],
            "corpus_sha256": "",
            "document": "d",
            "nll": 1.0,
        }
        pq.write_table(pa.Table.from_pylist([cell]), path)
    for genome in genomes:
        path = results / "phylogeny" / genome.model / "genome.parquet"
        genome_cells.write(path, genome, {**ORIGIN, "model": genome.model}, "key")
    compared = relatives.compare([(genome, ORIGIN) for genome in genomes])
    names = {f"m{i}": name for i, name in enumerate(KNOWN)}
    relatives.write(compared, names, results, seed=1)
    models = [KnownModel(name=f"m{i}", family=f"f{i % 4}", bits_per_character=0.1 + i) for i in range(8)]
    targets = {(TITLE, STUDY): {f"m{i}": 0.1 * i + 0.01 * (i % 3) for i in range(7)}}
    relatives.write_predictions(compared, models, targets, results, seed=1, resamples=50)
    (tmp_path / "evaluate").mkdir()
    shutil.copy(BENCHMARKS, tmp_path / "evaluate")
    outputs = {"fit": [f"results/{name}" for name in figures.TABLES]}
    outputs |= {f"phylogeny@m{i}": [f"results/phylogeny/m{i}"] for i in range(8)}
    lock = "schema: '2.0'\nstages:\n"
    for stage, paths in outputs.items():
        lock += f"  {stage}:\n    cmd: make\n    outs:\n"
        lock += "".join(f"    - path: {path}\n      md5: {digest(tmp_path / path)}\n" for path in paths)
    (tmp_path / "dvc.lock").write_text(lock)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--message", "all")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; return what it prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_distance_leads_to_the_genomes_of_both_models(related: Path) -> None:
    """Their revisions, alleles, genes, cells and commits, from the table of pairs and from the matrix alike."""
    head = git(related, "rev-parse", "HEAD")
    (pair,) = trace.trace("relatives.csv:model=m1,other=m4", related)
    (cell,) = trace.trace("results/distances.csv:model=m4,other=m1", related)
    assert (pair.column, cell.column, pair.value) == ("distance", "distance", cell.value)
    assert (related / "results/distances.csv").read_text().splitlines()[cell.line - 1].split(",")[
        2
    ] == cell.value
    for figure in (pair, cell):
        assert (figure.cells, figure.notes, figure.published) == ((), (), ())
        assert {genome.model for genome in figure.genomes} == {"m1", "m4"}
        for genome in figure.genomes:
            assert (genome.revision, genome.alleles) == ("sha256:1234", "exact/0.7/0.001")
            assert (genome.genes_sha256, genome.n_genes) == ("9" * 64, 3)
            assert (genome.path, genome.notes) == (f"results/phylogeny/{genome.model}/genome.parquet", ())
            assert genome.recorded.stage == f"phylogeny@{genome.model}"
            assert genome.recorded.commit
            assert genome.recorded.commit.id == head


def test_every_figure_about_relatives_is_found_by_its_number(related: Path) -> None:
    """A distance in three places: in the table of pairs, and in the matrix on either side of its diagonal."""
    tables = Tables(related / "results")
    assert len(tables.rows("distances.csv")) == 8 * 7
    for name in ("relatives.csv", "predictions.csv", "distances.csv"):
        for line, row in tables.lines(name):
            for column in figures.TABLES[name].figures:
                if row[column] and abs(float(row[column])) not in (0, 1):  # the diagonal of everything else
                    hits = find(tables, row[column])
                    assert (name, line, column) in [(hit.table, hit.line, hit.column) for hit in hits]
    distance = next(row["distance"] for row in tables.rows("relatives.csv") if row["other"] == "m5")
    assert [hit.table for hit in find(tables, distance)] == [
        "relatives.csv",
        "distances.csv",
        "distances.csv",
    ]


def test_a_prediction_leads_to_what_its_method_needs(related: Path) -> None:
    """Genomes of the models that the benchmark scored, their rates on corpora that none may have seen, or neither."""
    found = {
        method: trace.trace(f"predictions.csv:benchmark={TITLE},method={method}", related)[0]
        for method in ("ridge", "mean of the other families", "ln parameters", "ln training FLOPs")
    }
    ridge = found["ridge"]
    assert (ridge.column, ridge.row["benchmark"]) == ("pearson", TITLE)
    assert [genome.model for genome in ridge.genomes] == [f"m{i}" for i in range(7)]
    assert any("arXiv 2404.09937v2" in source for source in ridge.published)
    for other in list(found.values())[1:]:
        assert (other.genomes, other.cells, other.published) == ((), (), ridge.published)


@pytest.mark.parametrize(("stale", "corpora"), [(False, {"new"}), (True, {"new", "old"})])
def test_a_prediction_from_rates_leads_to_their_cells(
    related: Path, *, stale: bool, corpora: set[str]
) -> None:
    """Of models that have one; with distances beside them, to their genomes too."""
    lock = related / "dvc.lock"
    stated = f"  fit:\n    params:\n      params.yaml:\n        fit:\n          stale: {str(stale).lower()}\n"
    lock.write_text(lock.read_text().replace("  fit:\n", stated))
    plain, both = (
        trace.trace(f"predictions.csv:benchmark={TITLE},method=bits per character{more}", related)[0]
        for more in ("", " + ridge")
    )
    rated = {f"m{i}" for i in range(7) if stale or i != 2}
    assert {cell.model for cell in plain.cells} == {genome.model for genome in both.genomes} == rated
    assert {cell.corpus for cell in plain.cells} == corpora
    assert [cell.path for cell in plain.cells] == [cell.path for cell in both.cells]
    assert not plain.genomes


def test_genomes_on_disk_that_are_not_recorded_are_said_to_be(
    related: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others than those the table was made from; one that is missing or empty ends in a line."""
    monkeypatch.chdir(related)
    path = Path("results/phylogeny/m1/genome.parquet")
    other = Genome(model="m1", alleles=({"x": 1.0},), n_probes=None, pruned=(0.0,))
    genome_cells.write(path, other, {**ORIGIN, "model": "m1", "alleles": "first-token/0.7"}, "key")
    address = "relatives.csv:model=m0,other=m1"
    assert main(["trace", address]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        f"  attention  the row has the alleles exact/0.7/0.001, {path} on disk first-token/0.7; run `dvc repro`",
        f"  attention  the row has the n_genes 3, {path} on disk 1; run `dvc repro`",
    ]
    assert lines[4:7] == [
        "  model      m0, revision sha256:1234",
        "  alleles    exact/0.7/0.001",
        f"  genes      3, sha256 {'9' * 64}",
    ]
    assert lines[7].startswith(
        "  cell       results/phylogeny/m0/genome.parquet: stage phylogeny@m0, commit "
    )
    assert (
        lines[-1]
        == "  attention  results/phylogeny/m1 on disk is not what dvc.lock records; `dvc repro` mends that"
    )
    genome_cells.write(path, None, {}, "key")
    assert main(["trace", address]) == 2
    assert capsys.readouterr().err == f"error: {path} holds no genome of m1; delete it and run `dvc repro`\n"
    path.unlink()
    assert main(["trace", address]) == 2
    assert f"{path} cannot be read; restore it" in capsys.readouterr().err
