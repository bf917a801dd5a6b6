"""Results against the corpora they name: cells as Parquet, the score table as CSV, with nothing of `evaluate`."""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.audit.finding import REBUILD, Finding
from collectors.document import sha256_of

_MEASURED = "a cell was measured on the corpus that is here"
_TABLE = "every row of the score table follows from a cell"
_ORIGIN = ("model", "corpus", "corpus_sha256", "protocol")
_UNITS = {"bits_per_character": "n_characters", "bits_per_byte": "n_bytes", "bits_per_token": "n_tokens"}
_SUMS = ("nll", *_UNITS.values())
_PRECISION = 1e-8  # the table holds nine digits
_SHORTEST, _LONGEST = 20, 99  # characters of a gene

Sums = dict[tuple[str, ...], dict[str, float]]
"""By model, corpus, corpus digest and protocol: nats, characters, bytes and tokens of the documents scored."""


def check(
    results: Path, corpora: Path, known: Mapping[str, Any], intact: Callable[[Path], bool]
) -> tuple[int, list[Finding]]:
    """Return how many cells were read, and the cells and rows of the score table that other texts gave.

    Args:
        results: the folder of what `evaluate` made.
        corpora: the folder of all data.
        known: the parameters.
        intact: whether a file is what DVC recorded. One that is not was named already, and is not read.
    """
    paths = {name: corpora / name / "documents.parquet" for name in known["snapshots"]}
    here = {name: path for name, path in paths.items() if path.is_file() and intact(path)}
    digests = {name: sha256_of(path) for name, path in here.items()}
    genes = _genes(list(here.values()), known.get("phylogeny") or {}) if len(here) == len(paths) else ""
    cells = [
        path for model in known.get("models") or {} for path in sorted(results.glob(f"*/{model}/*.parquet"))
    ]
    sums: Sums = {}
    findings: list[Finding] = []
    for path in filter(intact, cells):
        try:
            findings += _cell(path, digests, genes, sums)
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            findings.append(_finding(f"cannot be read ({error})", path))
    table = results / "scores.csv"
    if table.is_file() and intact(table):
        findings += _table(table, sums, intact)
    return len(cells), findings


def _finding(what: str, cell: Path) -> Finding:
    remedy = f"delete {cell} and run {REBUILD}"
    return Finding(what=what, where=str(cell), rule=_MEASURED, remedy=remedy)


def _cell(path: Path, digests: Mapping[str, str], genes: str, sums: Sums) -> Iterator[Finding]:
    """Yield what is wrong with where a cell's figures come from, and add up its likelihoods."""
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    if "genes_sha256" in names:
        found = {row["genes_sha256"] for row in file.read(columns=["genes_sha256"]).to_pylist()}
        if genes and found - {genes}:
            yield _finding("its genes are not those of the corpora", path)
    if "corpus_sha256" not in names:
        return
    of_documents = set(_SUMS) <= set(names)  # a passage has one too, and is no score
    own: Sums = {}
    for row in file.read(columns=[name for name in (*_ORIGIN, *_SUMS) if name in names]).to_pylist():
        total = own.setdefault(tuple(str(row.get(name, "")) for name in _ORIGIN), {})
        if row.get("nll") is not None and of_documents:
            total.update((name, total.get(name, 0) + (row[name] or 0)) for name in _SUMS)
    for model, corpus, digest, _ in own:
        if (model, corpus) != (path.parent.name, path.stem):
            yield _finding(f"says that {model} was measured on {corpus}", path)
        elif digest != digests.get(corpus, digest):
            yield _finding(f"was measured on {corpus} when its sha256 was {digest}", path)
    for origin, total in own.items():
        sums.setdefault(origin, {}).update(total)


def _table(path: Path, sums: Sums, intact: Callable[[Path], bool]) -> Iterator[Finding]:
    """Yield the rows of the score table that no cell gives: another corpus digest, another number."""
    kinds = [folder for folder in path.parent.iterdir() if folder.is_dir()]

    def found(what: str) -> Finding:
        return Finding(what=what, where=str(path), rule=_TABLE, remedy=f"delete it and run {REBUILD}")

    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                told = f"line {number} ({row['model']}, {row['corpus']}, {row['metric']})"
                if not all(intact(kind / row["model"] / f"{row['corpus']}.parquet") for kind in kinds):
                    continue
                total = sums.get(tuple(row[name] for name in _ORIGIN))
                if total is None:
                    yield found(f"{told} comes from no cell of that corpus digest and protocol")
                elif total and row["metric"] in _UNITS:
                    rate = total["nll"] / math.log(2) / total[_UNITS[row["metric"]]]
                    if not math.isclose(rate, float(row["value"]), rel_tol=_PRECISION):
                        yield found(f"{told} is {row['value']}, and its cell gives {rate:.9g}")
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, csv.Error) as error:
        yield found(f"cannot be read ({error!r})")


def _genes(corpora: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Return the digest of the genes that corpora give, empty where nothing tells which.

    The draw is that of `evaluate.genes`, from its description and not from its code: a gene is the beginning of
    a document, of a length and in an order that follow from seed and beginning alone, and corpora take turns.
    """
    n, seed = settings.get("genes"), settings.get("seed")
    turns = []
    for path in corpora:
        texts = pq.ParquetFile(path).read(columns=["text"])["text"].to_pylist()
        draws = []
        for opening in (text[:_LONGEST] for text in texts if len(text) >= _LONGEST):
            digest = hashlib.sha256(f"{seed} {opening}".encode()).digest()
            length = _SHORTEST + int.from_bytes(digest[:8], "big") % (_LONGEST - _SHORTEST + 1)
            draws.append((digest[8:], opening[:length]))
        turns += [(turn, *drawn) for turn, drawn in enumerate(sorted(draws))]
    contexts = list(dict.fromkeys(gene for _, _, gene in sorted(turns)))[:n]
    return hashlib.sha256(json.dumps(contexts).encode()).hexdigest() if n is not None else ""
