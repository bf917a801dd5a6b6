"""The command `entropy`: hidden states of a model on corpora, or on a text of one's own."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from evaluate import backends, entropy_cells, params, representations
from evaluate.commands import chosen
from evaluate.commands.chosen import cell_path
from evaluate.corpus import Corpus
from evaluate.entropy_cells import LayerFigure
from evaluate.model import ModelEntry
from evaluate.representations import Settings


def run(arguments: argparse.Namespace) -> None:
    """Measure what is named, and print the last layer of each corpus, or every layer as JSON."""
    changes = chosen.given(arguments, "tokens", "fixed", "layers")
    known, own = chosen.texts(arguments, changes)
    names = [field.name for field in fields(Settings)]
    settings = Settings(**{**params.options(known, "entropy", names), **changes})
    if own is not None:
        found = [_once(chosen.entry(known, arguments), settings, own)]
    else:
        corpora = chosen.corpora(known)
        found = [
            profile
            for entry in chosen.entries(known, arguments)
            for profile in _cells(entry, settings, corpora)
        ]
    if arguments.json:
        print(json.dumps([asdict(figure) for profile in found for figure in profile], indent=2))
    else:
        for profile in filter(None, found):
            print(_line(profile))


def _once(entry: ModelEntry, settings: Settings, own: Corpus) -> list[LayerFigure]:
    representations.check(entry)
    own.documents()  # a text that cannot be read is said before a model takes its time to load
    key = representations.key(entry, backends.weights_of(entry), settings, own)
    subject = representations.load(entry, settings, chosen.warn)
    with chosen.kept_until_done(chosen.STAGING / "entropy" / key) as journals:
        rows = representations.measure(subject, own, journals=journals)
    return _profile(rows, entry, own, subject.settings)


def _cells(entry: ModelEntry, settings: Settings, corpora: Sequence[Corpus]) -> list[list[LayerFigure]]:
    """Measure what has no current cell yet; return the profiles of all cells."""
    weights = chosen.pinned(entry)
    keys = {corpus.name: representations.key(entry, weights, settings, corpus) for corpus in corpora}
    cells = {corpus.name: cell_path("entropy", entry.slug, corpus.name) for corpus in corpora}
    if not entry.is_open:
        for corpus in corpora:  # without rows: DVC asks for a folder, and warns of an empty one
            entropy_cells.write(cells[corpus.name], [], keys[corpus.name])
        chosen.warn(
            f"{entry.slug}: backend {entry.backend} shows no hidden states, so there is no entropy of it"
        )
        return []
    missing = [c for c in corpora if not entropy_cells.is_current(cells[c.name], keys[c.name])]
    for corpus in missing:
        if corpus.empty:
            chosen.warn(f"{corpus.name} kept no document to measure; its dropped.parquet says why")
            entropy_cells.write(cells[corpus.name], [], keys[corpus.name])
    full = [corpus for corpus in missing if not corpus.empty]
    subject = representations.load(entry, settings, chosen.warn) if full else None
    for corpus in full:
        assert subject is not None  # noqa: S101
        key, staging = keys[corpus.name], chosen.STAGING / "entropy" / entry.slug / corpus.name
        with chosen.kept_until_done(staging):
            rows = representations.measure(subject, corpus, journals=staging / key)
            entropy_cells.write(cells[corpus.name], rows, key)
    chosen.warn(
        f"{entry.slug}: hidden states of {len(missing)} of {len(corpora)} corpora measured, "
        f"{len(corpora) - len(missing)} unchanged"
    )
    return [
        _profile(entropy_cells.read(cells[corpus.name]), entry, corpus, settings)
        for corpus in corpora
        if not corpus.empty
    ]


def _profile(
    rows: Sequence[dict[str, Any]], entry: ModelEntry, corpus: Corpus, settings: Settings
) -> list[LayerFigure]:
    found = entropy_cells.profile(rows, entry.name)
    if not found:
        least = settings.tokens if settings.fixed else 2
        chosen.warn(f"{entry.slug} on {corpus.name}: no document has {least} tokens or more to measure")
    return found


_SHOWN = {
    "matrix_entropy_a": "matrix entropy",
    "effective_rank": "effective rank",
    "diff_erank": "Diff-eRank",
}


def _line(profile: Sequence[LayerFigure]) -> str:
    deepest = [figure for figure in profile if figure.layer == profile[-1].layer]
    by_metric = {figure.metric: figure for figure in deepest}
    first = deepest[0]
    shown = [_shown(label, by_metric[metric]) for metric, label in _SHOWN.items() if metric in by_metric]
    skipped = f", {first.n_skipped} skipped" if first.n_skipped else ""
    return (
        f"{first.model} on {first.corpus} (layer {first.layer} of {first.n_layers}): {'; '.join(shown)}; "
        f"{first.n_documents} document{'' if first.n_documents == 1 else 's'}{skipped}"
    )


def _shown(label: str, figure: LayerFigure) -> str:
    bounds = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
    ceiling = "" if figure.ceiling is None else f" of at most {figure.ceiling:.4g}"
    return f"{label} {figure.value:.4g}{bounds}{ceiling}"
