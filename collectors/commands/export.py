"""The command `export`: a corpus as a data set folder that may be passed on."""

import argparse
from pathlib import Path

from scmrepo.exceptions import SCMError
from scmrepo.git import Git

from collectors import build, export, params, snapshot
from collectors.commands import places
from collectors.commands.extract import answers
from collectors.document import UserError
from collectors.recipe import Recipe, portable


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the corpus, and where it goes."""
    command.add_argument("corpus", metavar="CORPUS", help="a name under `snapshots` in params.yaml")
    command.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", required=True, help="a new folder for the data set"
    )


def run(arguments: argparse.Namespace) -> None:
    """Export a corpus."""
    known = params.read()
    asked = params.request(arguments.corpus, known)
    raw = places.CORPORA / "raw" / asked.name
    if not answers(raw, asked):
        raise UserError(
            f"{raw} answers another request than params.yaml makes, so that a recipe would be wrong; give the changed "
            "entry a new name"
        )
    facts, documents = export.read_corpus(places.CORPORA / asked.name)
    removed = [d for d in build.remove(documents, build.read_removals(places.REMOVALS)) if d.drop_reason]
    if removed:
        raise UserError(
            f"corpus {asked.name} holds {len(removed)} documents that {places.REMOVALS} removes; build it anew with "
            "`dvc repro` before it is exported"
        )
    held = snapshot.read_snapshot(raw)
    commit, modified = _commit()
    since, until = (f"{day:%Y-%m-%d}" for day in (asked.since, asked.until))
    recipe = Recipe(
        name=asked.name,
        # YAML reads a day without quotes as a date, which JSON has no word for.
        entry=portable(asked.name, {**known["snapshots"][asked.name], "since": since, "until": until}),
        filters=params.section(known, "filters").get(asked.content) or {},
        collector=held.collector,
        commit=commit,
        modified=modified,
        shards=held.shards,
        gaps=list(held.gaps),
        documents_sha256=facts["documents_sha256"],
        n_documents=len(documents),
    )
    n_open = export.export(arguments.output, recipe, documents)
    said = {"documents": len(documents), "with full text": n_open, "gaps": list(held.gaps)}
    places.say(arguments, asked.name, said)


def _commit() -> tuple[str, bool]:
    """Return the commit of this repository, and whether tracked files differ from it."""
    try:
        repository = Git(".")
        return str(repository.get_rev()), bool(repository.is_dirty(untracked_files=False))
    except SCMError:
        return "", False
