"""Figures found by what is printed of them or by the address of their row, and the cells behind derived ones."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate import figures, trace
from evaluate.figures import Found, Tables, find, printed


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


LANGUAGE = {"backend": "transformers", "protocol": "full/1900/512", "metric": "bits_per_character"}


def cells_behind(tables: Tables, table: str, row: dict[str, str]) -> set[tuple[str, ...]]:
    """Return kind, model, corpus and protocol of the cells behind a row."""
    return set(trace._names(tables, Found(table=table, line=2, column="pearson", row=row)))


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
