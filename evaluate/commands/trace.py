"""The command `trace`: what a figure of the report came from."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from evaluate import trace
from evaluate.history import Recorded


def run(arguments: argparse.Namespace) -> None:
    """Print every figure that a number or an address stands for, with its origins."""
    found = trace.trace(arguments.figure)
    if arguments.json:
        print(json.dumps([asdict(figure) for figure in found], indent=2, ensure_ascii=False))
        return
    several = len({figure.address for figure in found}) > 1
    print("\n\n".join("\n".join(_lines(figure, several=several)) for figure in found))


def _lines(figure: trace.Figure, *, several: bool) -> Iterator[str]:
    named = ", ".join(f"{key} {value}" for key, value in figure.row.items() if value)
    yield f"{figure.table}, line {figure.line}: {figure.column} {figure.value or 'missing'} of {named}"
    if several:
        yield f"  address    {figure.address}"
    yield f"  table      {_told(figure.recorded)}"
    yield from (f"  published  {source}" for source in figure.published)
    yield from (f"  attention  {note}" for note in figure.notes)
    for cell in figure.cells:
        read = "all of" if cell.n_documents is None else f"{cell.n_documents:,} of"
        yield f"  model      {cell.model}, revision {cell.revision}"
        yield f"  protocol   {cell.protocol}"
        yield f"  documents  {read} {cell.documents}, sha256 {cell.corpus_sha256}"
        yield f"  corpus     {_told(cell.built)}"
        yield f"  cell       {cell.path}: {_told(cell.recorded)}"
        yield from (f"  attention  {note}" for note in cell.notes)
    for genome in figure.genomes:
        yield f"  model      {genome.model}, revision {genome.revision}"
        yield f"  alleles    {genome.alleles}"
        yield f"  genes      {genome.n_genes:,}, sha256 {genome.genes_sha256}"
        yield f"  cell       {genome.path}: {_told(genome.recorded)}"
        yield from (f"  attention  {note}" for note in genome.notes)


def _told(recorded: Recorded) -> str:
    if recorded.commit is None:
        return f"stage {recorded.stage}, {recorded.note}"
    note = f", {recorded.note}" if recorded.note else ""
    same = "" if recorded.made in (None, recorded.commit) else f"; output unchanged since {recorded.made}"
    return f"stage {recorded.stage}, commit {recorded.commit}{same}{note}"
