"""The command `rebuild`: the documents of an export, collected again and held against their digests."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from collectors import build, collect, filters, snapshot
from collectors.commands import places
from collectors.commands.extract import answers, extracted
from collectors.document import UserError, sha256_of
from collectors.recipe import Comparison, Recipe, compare, hosts, local, read_recipe
from collectors.request import Request, request
from collectors.source import Source, source

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
        "--path",
        type=Path,
        metavar="DIR",
        help="your copy of the data set, for an export of source `imported`",
    )
    places.add_workers(command)
    command.add_argument("--partial", action="store_true", help="finish although addresses could not be had")


def run(arguments: argparse.Namespace) -> None:
    """Rebuild an exported corpus; exit with 1 unless every text is the same."""
    recipe, wanted = read_recipe(arguments.folder)
    asked = request(recipe.name, _entry(recipe, arguments.path))
    asked = replace(asked, partial=asked.partial or arguments.partial)
    origin = source(asked.source)
    if not recipe.collector.startswith(f"{asked.source}/"):
        raise UserError(
            f"{arguments.folder} was made by {recipe.collector!r}, and asks source {asked.source!r}, which is another; "
            "get the export again"
        )
    # Under the name of the snapshot, which the raw records of the documents name.
    folder = arguments.output / asked.name
    raw = folder / "raw"
    if not raw.exists():
        _check_wanted(origin, asked)
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


def _entry(recipe: Recipe, path: Path | None) -> dict[str, Any]:
    """Return the entry of a recipe, which a stranger wrote: it must not say what is read from this machine."""
    entry = dict(recipe.entry)
    imported = entry.get("source") == "imported"
    if path is not None and not imported:
        raise UserError(
            f"--path is for exports of source imported, not {entry.get('source')!r}; leave it out"
        )
    if imported:
        stated = PurePath(str(entry.pop("path", ""))).name
        if path is None:
            raise UserError(
                f"export {recipe.name} is of a data set in folder {stated!r} elsewhere; give your copy as --path"
            )
        if path.resolve().name != stated:  # ids of documents begin with it
            raise UserError(
                f"--path {path} must have the name {stated!r}, as when it was exported; rename it"
            )
    if found := local(entry):
        raise UserError(
            f"export {recipe.name} would read {found!r} from this machine, as no recipe may; ask its author for one "
            "that others can collect"
        )
    return {**entry, "path": str(path)} if path is not None else entry


def _check_wanted(origin: Source, asked: Request) -> None:
    """Raise unless a person wants a stranger's recipe to go to the web."""
    if origin.NETWORK and os.environ.get("FRESHBITS_NETWORK") != "1":
        named = sorted({*origin.LIMITS, *hosts(asked.chosen(origin.SETTINGS))})
        raise UserError(
            f"snapshot {asked.name} would be collected from source {asked.source}, that is from {', '.join(named)}; "
            "set FRESHBITS_NETWORK=1 if you want that"
        )


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
