"""The command `extract`: documents of a raw snapshot, and their signatures."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from collectors import params, snapshot
from collectors.commands import places
from collectors.document import ELSEWHERE, Document, UserError, write_documents
from collectors.minhash import sign, write_signatures
from collectors.request import Request
from collectors.source import source


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the snapshot, and on how many cores."""
    command.add_argument("snapshot", metavar="SNAPSHOT", help="a name under `snapshots` in params.yaml")
    places.add_workers(command)


def run(arguments: argparse.Namespace) -> None:
    """Write the documents of a snapshot and their signatures."""
    known = params.read()
    asked = params.request(arguments.snapshot, known)
    folder = places.CORPORA / "raw" / asked.name
    if not answers(folder, asked):
        raise UserError(
            f"snapshot {folder} answers another request than params.yaml makes; snapshots are never rewritten: give "
            "the changed one a new name"
        )
    documents = extracted(folder, asked, arguments.workers)
    n_documents = write_documents(places.documents(asked.name), documents)
    held = [document for document in documents if document.drop_reason not in ELSEWHERE]
    write_signatures(places.signatures(asked.name), sign(held, params.minhash(known), arguments.workers))
    facts = {"documents": n_documents, "characters": sum(d.n_characters for d in documents)}
    places.say(arguments, asked.name, facts)


def extracted(raw: Path, asked: Request, workers: int) -> list[Document]:
    """Return the documents of a raw snapshot, which holds each once."""
    documents = list(source(asked.source).extract(snapshot.read_records(raw), asked, workers))
    repeated = [native_id for native_id, n in Counter(d.native_id for d in documents).items() if n > 1]
    if repeated:
        raise UserError(
            f"source {asked.source} gives {repeated[0]} twice; a snapshot holds each document once"
        )
    return documents


def answers(folder: Path, asked: Request) -> bool:
    """Whether a raw snapshot holds what is asked for."""
    facts: dict[str, Any] = json.loads(json.dumps(asked.facts()))
    return snapshot.read_snapshot(folder).request == facts
