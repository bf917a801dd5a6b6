"""Figures in the tables of results: which rows hold a number that is printed somewhere, or that an address names."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from collectors.document import UserError

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Those that tell a table's rows apart, its figures with the main one first, and what else is read of it."""

    keys: tuple[str, ...]
    figures: tuple[str, ...]
    others: tuple[str, ...] = ()


_CORRELATION = ("pearson", "pearson_low", "pearson_high", "spearman", "r2", "rmse", "loo_rmse")
TABLES = {
    "scores.csv": Columns(
        keys=("model", "corpus", "protocol", "metric"),
        figures=(
            *("value", "low", "high", "ceiling", "deviation", "deviation_low", "deviation_high"),
            *("nll", "n_characters", "n_bytes", "n_tokens"),
        ),
        others=("revision", "corpus_sha256", "freshness"),
    ),
    "entropy.csv": Columns(
        keys=("model", "corpus", "layer", "metric"), figures=("value", "low", "high", "ceiling")
    ),
    "differences.csv": Columns(
        keys=("corpus", "model", "other", "protocol", "other_protocol"), figures=("difference", "low", "high")
    ),
    "fits.csv": Columns(
        keys=("dataset", "study", "area", "x", "y", "form"), figures=(*_CORRELATION, "slope", "intercept")
    ),
    "scaling.csv": Columns(
        keys=("family", "x", "y", "form"), figures=("b", "b_low", "b_high", "a", *_CORRELATION)
    ),
    "law.csv": Columns(
        keys=("kind", "benchmark", "corpus"),
        figures=("pearson", "published_pearson", "rmse", "published_rmse", "difference"),
    ),
    "trend.csv": Columns(
        keys=("model", "content", "month", "protocol"),
        figures=("bits_per_character", "low", "high", "n_characters"),
        others=("corpora",),
    ),
    "relatives.csv": Columns(
        keys=("model", "other"),
        figures=("distance", "standard_error", "similarity", "similarity_low", "similarity_high"),
        others=("name", "other_name", "alleles", "n_genes"),
    ),
    "predictions.csv": Columns(
        keys=("benchmark", "study", "method"),
        figures=("pearson", "pearson_low", "pearson_high", "rmse", "skill", "skill_low", "skill_high"),
    ),
    # In the file a matrix: a row here is one of its cells.
    "distances.csv": Columns(keys=("model", "other"), figures=("distance",)),
}

# Rows of which all are shown: beyond that a number is too short to say which one is meant.
MOST = 8

# Of tables that hold no figures of their own.
_READ = {
    "points.csv": ("dataset", "study", "x", "y", "model", "used"),
    "scaling_points.csv": ("family", "x", "y", "model", "used"),
    "published_correlations.csv": (*TABLES["law.csv"].keys, "source", "location"),
    "distances.csv": ("model",),
}
_MATRIX = "distances.csv"

# Tables hold nine significant digits: a number with more of them stands for what they round to.
_WRITTEN = Decimal("5e-9")
# No table holds a number beyond those of a float, and arithmetic with far greater exponents overflows.
_GREATEST_EXPONENT = 400
_LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_ADDRESS = re.compile(r"(?:.*/)?(\w+\.csv):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A figure: its table, its row's line in the file with 1 for the header, its column, and the row."""

    table: str
    line: int
    column: str
    row: Row

    @property
    def address(self) -> str:
        """What leads to this row alone."""
        return f"{self.table}:{','.join(f'{key}={self.row[key]}' for key in TABLES[self.table].keys)}"


class Tables:
    """The CSV files of a folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, list[tuple[int, Row]]] = {}

    def lines(self, name: str) -> list[tuple[int, Row]]:
        """Return the rows of a table, by column, with their lines.

        Raises:
            UserError: when the file is missing, no table, or lacks a column that is read.
        """
        if name not in self._known:
            self._known[name] = list(_read(self._folder / name))
        return self._known[name]

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a table alone; see `lines`."""
        return [row for _, row in self.lines(name)]


def find(tables: Tables, figure: str) -> list[Found]:
    """Return every figure that a number or an address stands for, in the order of tables and lines.

    Args:
        tables: of the results.
        figure: a number as it is printed, such as `0.7235`, `−0.931` or `+0.02 %`, or an address such as
            `scores.csv:model=gzip,corpus=code-2026-10`, which leads to the main figure of the rows it names.

    Raises:
        UserError: when it is neither, or stands for nothing, or for a number in more than `MOST` rows, or a table
            cannot be read.
    """
    address = _ADDRESS.fullmatch(figure.strip())
    if address:
        return list(_addressed(tables, address[1], address[2]))
    found = list(_printed(tables, *printed(figure)))
    if not found:
        raise UserError(
            f"{figure.strip()} is no figure and no end of an interval in {', '.join(TABLES)}; give all the digits "
            "that are printed, or the address of its row: shares and counts of documents stand in no table"
        )
    rows = list(dict.fromkeys(each.address for each in found))
    if len(rows) > MOST:
        raise UserError(
            f"{figure.strip()} stands in {len(rows)} rows; give more digits of it, or the address of one, such as "
            f"{' or '.join(rows[:2])}"
        )
    return found


def printed(text: str) -> tuple[Decimal, Decimal]:
    """Return a printed number, and half a unit of its last digit.

    Raises:
        UserError: when the text is no number.
    """
    plain = re.sub(r"\s*[·×]\s*10(?=[-\d])", "e", text.strip().translate(_LOWERED).replace("−", "-"))
    plain, whole = (plain[:-1].rstrip(), 100) if plain.endswith("%") else (plain, 1)
    value = number(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain))
    exponent = None if value is None else value.as_tuple().exponent
    if value is None or not isinstance(exponent, int):
        raise UserError(
            f"{text!r} is neither a number nor the address of a row; give 0.7235, or "
            "scores.csv:model=gzip,corpus=code-2026-10,metric=bits_per_character"
        )
    return value / whole, Decimal(5).scaleb(exponent - 1) / whole


def _printed(tables: Tables, value: Decimal, half: Decimal) -> Iterator[Found]:
    for name, table in TABLES.items():
        for line, row in tables.lines(name):
            for column in table.figures:
                known = number(row[column])
                if known is not None and abs(known - value) <= max(half, _WRITTEN * abs(known)):
                    yield Found(table=name, line=line, column=column, row=row)


def _addressed(tables: Tables, name: str, conditions: str) -> Iterator[Found]:
    if name not in TABLES:
        raise UserError(f"{name} is no table that can be traced; name one of {', '.join(TABLES)}")
    lines = tables.lines(name)
    wanted = {}
    for part in re.split(r",(?=\w+=)", conditions):
        column, equals, value = part.partition("=")
        if not equals or (lines and column not in lines[0][1]):
            raise UserError(
                f"{part!r} is no condition on {name}; write COLUMN=VALUE, with commas between several, "
                f"columns such as {', '.join(TABLES[name].keys)}"
            )
        wanted[column] = value
    found = [(line, row) for line, row in lines if all(row[key] == value for key, value in wanted.items())]
    if not found:
        raise UserError(
            f"{name} has no row with {conditions} among its {len(lines)}; look them up in results/{name}"
        )
    for line, row in found:
        yield Found(table=name, line=line, column=TABLES[name].figures[0], row=row)


def _cells(row: Row) -> Iterator[Row]:
    """Yield what one row of the matrix has of each other model."""
    for other, distance in row.items():
        if other not in ("model", row["model"]):
            yield {"model": row["model"], "other": other, "distance": distance}


def number(text: str) -> Decimal | None:
    """Return a finite number of an exponent that a float may have, None for any other text."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) <= _GREATEST_EXPONENT else None


def _read(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            known = None if path.name == _MATRIX else TABLES.get(path.name)
            needed = (*known.keys, *known.figures, *known.others) if known else _READ.get(path.name, ())
            if missing := [column for column in needed if column not in (reader.fieldnames or ())]:
                raise UserError(f"{path} has no column {missing[0]!r}; make it again with `dvc repro`")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"line {reader.line_num} of {path} has not as many cells as the header; make it again with "
                        "`dvc repro`"
                    )
                yield from (
                    (reader.line_num, each) for each in (_cells(row) if path.name == _MATRIX else [row])
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({error}); make it with `dvc repro`, or restore it with `dvc pull`"
        ) from error
