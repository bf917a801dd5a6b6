"""Cells of genomes: one for each model, a row for each allele of each gene."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from collectors.document import UserError
from evaluate import cells
from evaluate.genomes import Genome

SCHEMA = pa.schema(
    [
        (n, pa.string())
        for n in ("model", "backend", "revision", "genes_sha256", "alleles", "vocabulary_sha256")
    ]
    + [("n_probes", pa.int64())]
    + [(n, pa.string()) for n in ("dtype", "quantization", "device", "software")]
    + [("gene", pa.int64()), ("allele", pa.string()), ("probability", pa.float64()), ("pruned", pa.float64())]
)


def is_current(path: Path, key: str) -> bool:
    """Return whether a cell was made under this key; see `cells.is_current`."""
    return cells.is_current(path, SCHEMA, key)


def write(path: Path, genome: Genome | None, origin: Mapping[str, Any], key: str) -> None:
    """Write a genome; what was pruned of a gene stands in all of its rows.

    Args:
        path: the cell's file.
        genome: of one model, None where it has none: a cell without rows.
        origin: the columns that say what it came from.
        key: see `cells.key`.
    """
    genes = zip(genome.alleles, genome.pruned, strict=True) if genome else ()
    rows = [
        {
            **origin,
            "n_probes": genome and genome.n_probes,
            "gene": i,
            "allele": allele,
            "probability": p,
            "pruned": pruned,
        }
        for i, (alleles, pruned) in enumerate(genes)
        for allele, p in alleles.items()
    ]
    cells.write(path, SCHEMA, key, rows)


def read(path: Path) -> tuple[Genome, dict[str, Any]]:
    """Return a genome, and the columns that say what it came from.

    Raises:
        UserError: when the file is no such cell, or holds no genome.
    """
    # By columns: rows of so many alleles would be hundreds of megabytes.
    table = cells.table(path, SCHEMA, "phylogeny", set(SCHEMA.names) - {"n_probes"})
    if not table.num_rows:
        raise UserError(f"{path} holds no genome; delete it and run `dvc repro`")
    genes, names, shares, masses = (
        table[name].to_pylist() for name in ("gene", "allele", "probability", "pruned")
    )
    n = len(set(genes))
    if set(genes) != set(range(n)):
        raise UserError(f"{path} lacks a gene between its first and its last; delete it and run `dvc repro`")
    alleles: Sequence[dict[str, float]] = [{} for _ in range(n)]
    pruned = [0.0] * n
    for gene, name, share, mass in zip(genes, names, shares, masses, strict=True):
        alleles[gene][name] = share
        pruned[gene] = mass
    origin = table.slice(0, 1).to_pylist()[0]
    model, n_probes = origin["model"], origin.pop("n_probes")
    for name in ("gene", "allele", "probability", "pruned"):
        del origin[name]
    try:
        genome = Genome(model=model, alleles=tuple(alleles), n_probes=n_probes, pruned=tuple(pruned))
    except ValueError as error:
        raise UserError(f"{path} holds no genome ({error}); delete it and run `dvc repro`") from error
    return genome, origin
