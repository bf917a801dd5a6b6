"""The command `collect`: the raw bytes of a snapshot, or a first look at a source."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import yaml

from collectors import build, collect, params, snapshot
from collectors.commands import places
from collectors.commands.extract import answers, extracted
from collectors.document import UserError
from collectors.request import Request, request
from collectors.source import SOURCES, source

LOOK = "--source S --since DAY --until DAY [--max-documents N] [--set NAME=VALUE …] -o FOLDER"
_SHOWN = 10


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add a snapshot, or what a first look needs."""
    command.add_argument(
        "snapshot",
        metavar="SNAPSHOT",
        nargs="?",
        help="a name under `snapshots` or `upcoming` in params.yaml",
    )
    places.add_workers(command)
    command.usage = f"python -m collectors collect SNAPSHOT\n       python -m collectors collect {LOOK}"
    look = command.add_argument_group("a first look, without params.yaml")
    look.add_argument("--source", choices=tuple(SOURCES), help="what to collect from")
    look.add_argument("--since", metavar="DAY", help="start of the publication window, such as 2026-10-01")
    look.add_argument("--until", metavar="DAY", help="its end, not included")
    look.add_argument("--max-documents", type=places.positive, metavar="N", default=20, help="default: 20")
    look.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the source, its value in YAML",
    )
    look.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where raw records and documents go"
    )


def run(arguments: argparse.Namespace) -> None:
    """Collect a snapshot, unless it is collected."""
    look = (arguments.source, arguments.since, arguments.until, arguments.output)
    if arguments.snapshot is None and all(look):
        _look(arguments)
        return
    if arguments.snapshot is None or any(look):
        raise UserError(f"collect takes the name of a snapshot in params.yaml, or all of {LOOK}")
    known = params.read()
    upcoming = arguments.snapshot in params.section(known, "upcoming")
    if upcoming and arguments.snapshot in known["snapshots"]:
        raise UserError(
            f"snapshot {arguments.snapshot} stands under `snapshots` and under `upcoming`; remove it from one of them"
        )
    asked = params.request(arguments.snapshot, known, "upcoming" if upcoming else "snapshots")
    # What is upcoming stays out of corpora/, on which stages of the pipeline depend.
    waiting, folder = places.WAITING / asked.name, places.CORPORA / "raw" / asked.name
    if not upcoming and not folder.exists() and waiting.exists() and answers(waiting, asked):
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting.replace(folder)
    folder = waiting if upcoming else folder
    if folder.exists() and answers(folder, asked):
        for _ in snapshot.read_records(folder):
            pass  # a snapshot that stays must be whole
    else:
        try:
            _collect_new(asked, folder, upcoming=upcoming)
        except collect.OpenWindowError as error:
            if not upcoming:
                raise UserError(f"{error}; until then its entry belongs under `upcoming`") from error
            print(json.dumps({"open": str(error)}) if arguments.json else error)
            return
    held = snapshot.read_snapshot(folder)
    places.say(
        arguments, asked.name, {"records": held.n_records, "bytes": held.n_bytes, "gaps": list(held.gaps)}
    )
    if upcoming and not arguments.json:
        print(
            f"{asked.name} is collected; move its entry from `upcoming` to the end of `snapshots`, then `dvc repro`"
        )


def _collect_new(asked: Request, folder: Path, *, upcoming: bool) -> None:
    # DVC never runs what is upcoming, so that a person must have asked for it.
    if source(asked.source).NETWORK and not upcoming and os.environ.get("FRESHBITS_NETWORK") != "1":
        raise UserError(
            f"snapshot {asked.name} would be scraped from the web, and what the web says today is another "
            "snapshot; restore it with `dvc pull` from a remote that holds it, or collect anew under another name with "
            "`make refresh`"
        )
    collect.collect(source(asked.source), asked, folder, places.STAGING)


def _look(arguments: argparse.Namespace) -> None:
    """Collect a few documents into a folder and show the first of them."""
    origin, folder = source(arguments.source), arguments.output
    settings = dict(_setting(text) for text in arguments.set)
    fixed = {"source": arguments.source, "since": arguments.since, "until": arguments.until}
    entry = {"content": origin.CONTENT, "max_documents": arguments.max_documents}
    asked = request(folder.resolve().name, {**entry, **settings, **fixed})
    raw = folder / "raw"
    if not raw.exists():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UserError(
                f"{folder} holds other files, which -o would mix with its own; give an empty folder"
            )
        collect.collect(origin, asked, raw, folder / ".staging", early=True)
    elif not answers(raw, asked):
        raise UserError(f"{raw} holds another collection; choose another folder for -o")
    gaps = snapshot.read_snapshot(raw).gaps
    documents = extracted(raw, asked, arguments.workers)
    documents = list(build.remove(documents, build.read_removals(places.REMOVALS)))
    facts = build.write_corpus(folder, asked, documents, gaps)
    if not arguments.json:
        kept = [document for document in documents if not document.drop_reason]
        for document in sorted(kept, key=lambda d: (d.published, d.id))[:_SHOWN]:
            title = places.line(document.title)[:70]
            print(f"{document.published:%Y-%m-%d}  {document.n_characters:>9,} characters  {title}")
    said = {"documents": facts.n_documents, "characters": facts.n_characters, "dropped": facts.dropped}
    places.say(arguments, str(folder), {**said, "gaps": list(gaps)})


def _setting(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    try:
        return name if mark else "", yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"--set {text} has no value that YAML can read; write --set 'categories=[cs.CL]'"
        ) from error
