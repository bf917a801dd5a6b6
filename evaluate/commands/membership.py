"""The command `membership`: how familiar documents are to a model, of corpora or of a text of one's own."""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from evaluate import backends, familiarity, membership_cells, params
from evaluate.commands import chosen
from evaluate.commands.chosen import cell_path
from evaluate.corpus import Corpus
from evaluate.membership import Settings
from evaluate.membership_cells import CorpusFigure
from evaluate.model import ModelEntry

COMPRESSORS = "compressors"

Rows = list[dict[str, Any]]


def run(arguments: argparse.Namespace) -> None:
    """Measure what is named, and print the aggregates of each corpus."""
    changes = chosen.given(arguments, "tokens", "share")
    known, own = chosen.texts(arguments, changes)
    settings = section(known, changes)
    corpora = [own] if own is not None else chosen.corpora(known)
    kept = known if own is None else {}
    reference = referring(known, arguments)
    found: list[list[CorpusFigure]] = []
    with ExitStack() as journals:
        for entry in chosen.entries(known, arguments):
            if own is None and _refused(entry, settings, corpora):
                continue
            rows = measured(entry, settings, corpora, kept, journals)
            others = (
                None if reference is None else referred(reference, settings, corpora, rows, kept, journals)
            )
            for i, corpus in enumerate(corpora):
                saved = (
                    membership_cells.saved(rows[i], others[i], reference.slug)
                    if reference and others
                    else None
                )
                found.append([*membership_cells.summary(rows[i]), *([saved] if saved else [])])
                if not found[-1] and not corpus.empty:
                    chosen.warn(f"{entry.slug} on {corpus.name}: no document has a token to predict")
    if arguments.json:
        print(json.dumps([asdict(figure) for figures in found for figure in figures], indent=2))
    else:
        for figures in filter(None, found):
            print(_line(figures))


def section(known: dict[str, Any], changes: dict[str, Any]) -> Settings:
    """Return the section `membership` of params.yaml with some changes."""
    names = [field.name for field in fields(Settings)]
    return Settings(**{**params.options(known, "membership", names), **changes})


def referring(known: dict[str, Any], arguments: argparse.Namespace) -> ModelEntry | None:
    """Return the reference that is named, if one is.

    Raises:
        UserError: when it is neither a compressor nor shows the distribution of its next token.
    """
    if not arguments.reference:
        return None
    entry = chosen.entry(known, argparse.Namespace(model=arguments.reference))
    if entry.backend != COMPRESSORS:
        familiarity.check(entry)
    return entry


def measured(
    entry: ModelEntry,
    settings: Settings,
    corpora: Sequence[Corpus],
    known: dict[str, Any],
    journals: ExitStack,
) -> list[Rows]:
    """Return the rows of each corpus: those of params.yaml from their cells, made where they are not current.

    Args:
        entry: the model's.
        settings: how to measure it.
        corpora: the texts.
        known: the parameters; a model or a corpus that they do not name leaves no cell.
        journals: closed once the command is done: what leaves no cell is not measured again after an interruption.

    Raises:
        UserError: as `familiarity.measure`.
    """
    familiarity.check(entry)
    for corpus in corpora:
        if not corpus.empty:
            corpus.documents()  # a text that cannot be read is said before a model takes its time to load
    kept = [_cell(entry, settings, corpus, known) for corpus in corpora]
    weights = chosen.pinned(entry) if any(kept) else backends.weights_of(entry)
    subject: familiarity.Subject | None = None
    found, n_measured = [], 0
    for corpus, cell in zip(corpora, kept, strict=True):
        key = familiarity.key(entry, weights, settings, corpus)
        if cell is not None and membership_cells.is_current(cell, key):
            found.append(membership_cells.read(cell))
            continue
        n_measured += 1
        staging = chosen.STAGING / "membership" / (f"{entry.slug}/{corpus.name}" if cell else key)
        if cell is None:
            journals.enter_context(chosen.kept_until_done(staging))
        with nullcontext() if cell is None else chosen.kept_until_done(staging):
            rows: Rows = []
            if corpus.empty:
                chosen.warn(f"{corpus.name} kept no document to measure; its dropped.parquet says why")
            else:
                subject = subject or familiarity.load(entry, settings, chosen.warn)
                rows = familiarity.measure(subject, corpus, journals=staging / key)
            if cell is not None:
                cell.parent.mkdir(parents=True, exist_ok=True)
                membership_cells.write(cell, rows, key)
        found.append(rows)
    if any(kept):
        chosen.warn(
            f"{entry.slug}: familiarity of {n_measured} of {len(corpora)} corpora measured, "
            f"{len(corpora) - n_measured} unchanged"
        )
    return found


def referred(
    entry: ModelEntry,
    settings: Settings,
    corpora: Sequence[Corpus],
    rows: Sequence[Rows],
    known: dict[str, Any],
    journals: ExitStack,
) -> list[Rows]:
    """Return what a reference pays for the documents of each corpus, a compressor for what the model has read.

    Args:
        entry: the reference's.
        settings: how to measure it.
        corpora: the texts.
        rows: of the model, for each corpus.
        known: see `measured`.
        journals: likewise.

    Raises:
        UserError: as `familiarity.measure`.
    """
    if entry.backend != COMPRESSORS:
        return measured(entry, settings, corpora, known, journals)
    codec = str(entry.options.get("codec", entry.slug))
    return [
        [] if corpus.empty else familiarity.compressed(codec, corpus, own)
        for corpus, own in zip(corpora, rows, strict=True)
    ]


def _cell(entry: ModelEntry, settings: Settings, corpus: Corpus, known: dict[str, Any]) -> Path | None:
    """Return where a cell is kept, if params.yaml names model, settings and corpus as they are."""
    models, built = known.get("models", {}), chosen.CORPORA / corpus.name
    if (
        entry.slug in models
        and entry == params.entry(entry.slug, models[entry.slug])
        and settings == section(known, {})
        and corpus.name in known["snapshots"]
        and corpus.files[0].parent.resolve() == built.resolve()
    ):
        return cell_path("membership", entry.slug, corpus.name)
    return None


def _refused(entry: ModelEntry, settings: Settings, corpora: Sequence[Corpus]) -> bool:
    """Whether a model has cells without rows, which is said."""
    if entry.is_open:
        return False
    weights = chosen.pinned(entry)
    for corpus in corpora:  # without rows: DVC asks for a folder, and warns of an empty one
        key = familiarity.key(entry, weights, settings, corpus)
        membership_cells.write(cell_path("membership", entry.slug, corpus.name), [], key)
    chosen.warn(
        f"{entry.slug}: backend {entry.backend} shows no distribution over tokens, so it has no membership"
    )
    return True


def _line(figures: Sequence[CorpusFigure]) -> str:
    first, by_metric = figures[0], {figure.metric: figure for figure in figures}
    share = float(first.protocol.rpartition("/")[2])
    labels = {
        "min_k": f"Min-{100 * share:g}%",
        "min_k_plus_plus": f"Min-{100 * share:g}%++",
        "bits_per_character": "bits per character",
        "saving": f"saved against {figures[-1].reference}",
    }
    shown = [_shown(label, by_metric[metric]) for metric, label in labels.items() if metric in by_metric]
    skipped = f", {first.n_skipped} skipped" if first.n_skipped else ""
    plural = "" if first.n_documents == 1 else "s"
    return (
        f"{first.model} on {first.corpus}: {'; '.join(shown)}; {first.n_documents} document{plural}{skipped}"
    )


def _shown(label: str, figure: CorpusFigure) -> str:
    bounds = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
    return f"{label} {figure.value:.4g}{bounds}"
