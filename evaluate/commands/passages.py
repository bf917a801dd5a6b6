"""The command `passages`: a passage of each corpus, really compressed with a model and restored."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from collectors.document import UserError
from evaluate import backends, params, passage_cells, passages
from evaluate.commands import chosen
from evaluate.commands.chosen import cell_path
from evaluate.corpus import Corpus
from evaluate.model import ModelEntry
from evaluate.passage_cells import Passage
from evaluate.passages import Settings
from evaluate.windows import ScoringProtocol


def run(arguments: argparse.Namespace) -> None:
    """Compress what is named, and print a line or an object for each passage."""
    known = params.read()
    models = known["models"]
    if not arguments.all and arguments.model not in models:
        raise UserError(
            f"model {arguments.model!r} is not in params.yaml ({', '.join(models) or 'no models'}), whose models alone "
            "have passages; `compress` takes any model, and a file of one's own"
        )
    settings = section(known)
    protocol = params.settings(known, protocol="full", precision=None).protocol
    corpora = chosen.corpora(known)
    found = [
        passage
        for entry in chosen.entries(known, arguments)
        for passage in measured(entry, settings, protocol, corpora)
    ]
    if arguments.json:
        print(json.dumps([_result(passage) for passage in found], indent=2))
    else:
        for passage in found:
            print(_line(passage))


def section(known: dict[str, Any]) -> Settings:
    """Return the section `passages` of params.yaml."""
    return Settings(**params.options(known, "passages", [field.name for field in fields(Settings)]))


def measured(
    entry: ModelEntry, settings: Settings, protocol: ScoringProtocol, corpora: Sequence[Corpus]
) -> list[Passage]:
    """Return the passages of a model from its cells, made where they are not current.

    Raises:
        UserError: as `passages.coded` and `passages.compressed`.
    """
    weights = chosen.pinned(entry)
    keys = {corpus.name: passages.key(entry, weights, settings, protocol, corpus) for corpus in corpora}
    if not entry.is_open and entry.backend != "compressors":
        for name, key in keys.items():  # without rows: DVC asks for a folder, and warns of an empty one
            passage_cells.write(cell_path("passages", entry.slug, name), None, {}, key)
        chosen.warn(
            f"{entry.slug}: backend {entry.backend} does not show the distribution of its next token, so it compresses "
            "no passage"
        )
        return []
    loaded = cache(lambda: backends.load_open(entry))
    found, n_made = [], 0
    for corpus in corpora:
        cell = cell_path("passages", entry.slug, corpus.name)
        if not passage_cells.is_current(cell, keys[corpus.name]):
            n_made += 1
            text = passages.choose(corpus, settings)
            passage, origin = None, dict[str, Any]()
            with chosen.kept_until_done(chosen.STAGING / "passages" / entry.slug / corpus.name) as staging:
                if text is None:
                    chosen.warn(
                        f"{corpus.name} has no document of {settings.characters} characters or more that may be "
                        "passed on, so no passage of it is compressed"
                    )
                elif entry.backend == "compressors":
                    passage, origin = passages.compressed(entry, corpus, text)
                else:
                    passage, origin = passages.coded(
                        loaded(), entry, protocol, corpus, text, journals=staging, say=chosen.warn
                    )
                cell.parent.mkdir(parents=True, exist_ok=True)
                passage_cells.write(cell, passage, origin, keys[corpus.name])
        found.append(passage_cells.read(cell))
    chosen.warn(
        f"{entry.slug}: passages of {n_made} of {len(corpora)} corpora compressed, {len(corpora) - n_made} unchanged"
    )
    return [passage for passage in found if passage]


def _result(passage: Passage) -> dict[str, Any]:
    return {name: value for name, value in asdict(passage).items() if name != "pieces"}


def _line(passage: Passage) -> str:
    header = passage.file_bytes - passage.payload_bytes
    return (
        f"{passage.model} on {passage.corpus}: {passage.n_characters:,} characters in {passage.file_bytes:,} bytes"
        f"{f', {header:,} of them header' if header else ''}; {8 * passage.file_bytes / passage.n_characters:.3f} bits "
        f"per character; {'restored' if passage.restored else 'NOT RESTORED'}"
    )
