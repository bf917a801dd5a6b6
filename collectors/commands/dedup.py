"""The command `dedup`: the documents of a snapshot, filtered and deduplicated into a corpus."""

import argparse
from collections.abc import Iterable, Iterator

from collectors import build, filters, params, snapshot
from collectors.commands import places
from collectors.dedup import Earlier, deduplicate, hold
from collectors.document import UserError, read_documents
from collectors.minhash import read_signatures
from collectors.request import check_name


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the snapshot."""
    command.add_argument("snapshot", metavar="SNAPSHOT", help="a name under `snapshots` in params.yaml")


def run(arguments: argparse.Namespace) -> None:
    """Write the corpus of a snapshot."""
    known = params.read()
    asked = params.request(arguments.snapshot, known)
    rules = params.section(known, "filters").get(asked.content)
    if not isinstance(rules, dict):
        raise UserError(
            f"params.yaml has no filters for content {asked.content!r}; add `filters.{asked.content}`"
        )
    config = params.minhash(known)
    threshold = params.threshold(known)
    names = list(known["snapshots"])
    before = names[: names.index(asked.name)]
    for name in before:
        check_name(name)
    earlier = [
        Earlier(
            name=name,
            signed=read_signatures(places.signatures(name), config),
            texts=lambda ids, name=name: _texts(name, ids),  # type: ignore[misc]
        )
        for name in before
    ]
    judged = list(
        hold(filters.run(read_documents(places.documents(asked.name)), filters.filters(rules)), earlier)
    )
    fresh = deduplicate(
        (document for document in judged if not document.drop_reason),
        read_signatures(places.signatures(asked.name), config),
        earlier,
        corpus=asked.name,
        threshold=threshold,
    )
    dropped = (document for document in judged if document.drop_reason)
    allowed = build.remove([*fresh, *dropped], build.read_removals(places.REMOVALS))
    gaps = snapshot.read_snapshot(places.CORPORA / "raw" / asked.name).gaps
    facts = build.write_corpus(places.CORPORA / asked.name, asked, allowed, gaps)
    said = {"documents": facts.n_documents, "characters": facts.n_characters, "dropped": facts.dropped}
    places.say(arguments, asked.name, said)


def _texts(name: str, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    wanted = set(ids)
    return ((d.id, d.text) for d in read_documents(places.documents(name)) if d.id in wanted)
