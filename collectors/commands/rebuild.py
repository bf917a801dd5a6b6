"""The command `rebuild`: the documents of an export, collected again and held against their digests."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from collectors import build, collect, filters, snapshot
from collectors.commands import places
from collectors.commands.extract import answers, extracted
from collectors.document import UserError, sha256_of
from collectors.recipe import Comparison, Recipe, compare, read_recipe
from collectors.request import request
from collectors.source import source

_SHOWN = 10


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the export, and where the corpus goes."""
    command.add_argument("folder", type=Path, metavar="FOLDER", help="what `export` wrote")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        default=Path("rebuilt"),
        help="where a folder with the corpus's name goes (default: rebuilt)",
    )
    command.add_argument(
        "--workers",
        type=places.positive,
        default=os.cpu_count() or 1,
        help="processes (default: one per core)",
    )
    command.add_argument("--partial", action="store_true", help="finish although addresses could not be had")


def run(arguments: argparse.Namespace) -> None:
    """Rebuild an exported corpus; exit with 1 unless every text is the same."""
    recipe, wanted = read_recipe(arguments.folder)
    asked = request(recipe.name, recipe.entry)
    asked = replace(asked, partial=asked.partial or arguments.partial)
    origin = source(asked.source)
    # Under the name of the snapshot, which the raw records of the documents name.
    folder = arguments.output / asked.name
    raw = folder / "raw"
    if not raw.exists():
        collect.collect(origin, asked, raw, arguments.output / ".staging")
    elif not answers(raw, asked):
        raise UserError(f"{raw} holds another collection; choose another folder for -o")
    judged = filters.run(extracted(raw, asked, arguments.workers), filters.filters(recipe.filters))
    removals = build.read_removals(places.REMOVALS)
    # What was removed here or withdrawn there has no text, and nobody has it any more.
    allowed = [d for d in build.remove(judged, removals) if d.text]
    found = compare(wanted, allowed)
    gaps = [*snapshot.read_snapshot(raw).gaps, *_lacking(found)]
    documents = [replace(document, drop_reason="") for document in found.identical]
    build.write_corpus(folder, asked, documents, gaps)
    same = sha256_of(folder / "documents.parquet") == recipe.documents_sha256
    _say(arguments, recipe, found, same, origin.VERSION)
    if found.differing or found.missing:
        sys.exit(1)


def _lacking(found: Comparison) -> list[str]:
    """Return what the rebuilt corpus lacks of the one that was exported."""
    return [
        *(f"{name} has another text than when it was exported" for name in found.differing),
        *(f"{name} of the export was not had" for name in found.missing),
    ]


def _say(arguments: argparse.Namespace, recipe: Recipe, found: Comparison, same: bool, version: str) -> None:
    if arguments.json:
        counts = {"identical": len(found.identical), "same_file": same}
        print(json.dumps({**counts, "differing": found.differing, "missing": found.missing}, indent=2))
        return
    file = "; documents.parquet is the same file" if same else ""
    print(
        f"{recipe.name}: {len(found.identical)} of {recipe.n_documents} texts are the same, to the byte{file}"
    )
    lacking = _lacking(found)
    for problem in lacking[:_SHOWN]:
        print(places.line(problem))
    if len(lacking) > _SHOWN:
        print(f"and {len(lacking) - _SHOWN} more; --json lists all")
    if lacking and recipe.collector != version:
        commit = f", commit {recipe.commit}" if recipe.commit else ""
        print(
            places.line(
                f"the export was made by {recipe.collector}{commit}; this is {version}: try with that commit"
            )
        )
