"""The command `phylogeny`: genomes of models, on genes of the corpora or on contexts of one's own."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from collectors.document import UserError
from evaluate import backends, genes, genome_cells, params, phylogeny, relatives
from evaluate.commands import chosen
from evaluate.commands.chosen import cell_path
from evaluate.genes import Genes
from evaluate.genomes import Genome
from evaluate.model import ModelEntry
from evaluate.phylogeny import Settings

# Genomes that belong to no cell of the pipeline, by what they depend on: a second comparison finds them.
_FINISHED = chosen.STAGING / "genomes"


def run(arguments: argparse.Namespace) -> None:
    """Measure what is named, and print a line, or JSON, for each model; with a folder, write how they are related."""
    known, settings, cut = asked(arguments)
    models = known["models"] if arguments.all else arguments.model
    entries = distinct([chosen.entry(known, argparse.Namespace(model=model)) for model in models])
    if arguments.output and sum(entry.is_open for entry in entries) < 2:
        raise UserError("--output is about how models are related; name two or more that continue text")
    measure = of_own if arguments.genes else _of_corpora
    found = [measured for entry in entries if (measured := measure(entry, settings, cut)) is not None]
    if arguments.output:
        compared = relatives.compare(found, settings.estimator)
        relatives.write(
            compared, {entry.slug: entry.name for entry in entries}, arguments.output, seed=settings.seed
        )
        chosen.warn(
            f"distances, errors, tree and map written to {arguments.output}; draw the tree with "
            f"`python -m evaluate tree {arguments.output / 'distances.csv'} --svg FILE`"
        )
    genomes = [genome for genome, _ in found]
    if arguments.json:
        print(json.dumps([asdict(genome) for genome in genomes], indent=2))
    else:
        for genome in genomes:
            print(_line(genome, settings))


def distinct(entries: Sequence[ModelEntry]) -> Sequence[ModelEntry]:
    """Return models whose names differ.

    Raises:
        UserError: when two have one name, as folders of two places may.
    """
    slugs = [entry.slug for entry in entries]
    for slug in slugs:
        if slugs.count(slug) > 1:
            raise UserError(
                f"two models are called {slug!r}; rename a folder, or give one an entry in params.yaml"
            )
    return entries


def asked(arguments: argparse.Namespace) -> tuple[dict[str, Any], Settings, Genes]:
    """Return the parameters, how to measure, and the genes: of the file that is named, or of the corpora."""
    known = params.read() if params.PARAMS.exists() or not arguments.genes else {"models": {}}
    settings = Settings(**params.options(known, "phylogeny", [field.name for field in fields(Settings)]))
    if arguments.genes:
        return known, settings, genes.from_file(arguments.genes, arguments.column)
    cut = genes.from_corpora([c for c in chosen.corpora(known) if not c.empty], settings.genes, settings.seed)
    if cut.shortfall:
        chosen.warn(cut.shortfall)
    return known, settings, cut


def of_own(entry: ModelEntry, settings: Settings, cut: Genes) -> tuple[Genome, dict[str, Any]] | None:
    """Return a model's genome on contexts of one's own, with its origin; None where it has none."""
    if not _continues(entry):
        return None
    weights = backends.weights_of(entry)
    key = phylogeny.key(entry, weights, settings, cut)
    finished = _FINISHED / f"{key}.parquet"
    for path in (finished, cell_path("phylogeny", entry.slug, "genome")):
        # Without what identifies its weights, nobody could tell whether a genome is still that of the model.
        if weights and genome_cells.is_current(path, key):
            break
    else:
        with chosen.kept_until_done(chosen.STAGING / "phylogeny" / key) as journals:
            genome, origin = phylogeny.measure(entry, cut, settings, journal_file=journals / "genome.jsonl")
            if not weights:
                return genome, origin
            genome_cells.write(finished, genome, origin, key)
        path = finished
    return genome_cells.read(path)


def _of_corpora(entry: ModelEntry, settings: Settings, cut: Genes) -> tuple[Genome, dict[str, Any]] | None:
    """Return a model's genome, measured if there is no current cell; None where it has none."""
    path = cell_path("phylogeny", entry.slug, "genome")
    key = phylogeny.key(entry, chosen.pinned(entry), settings, cut)
    if not _continues(entry):
        genome_cells.write(path, None, {}, key)  # DVC asks for a folder, and warns of an empty one
        return None
    current = genome_cells.is_current(path, key)
    if not current:
        with chosen.kept_until_done(chosen.STAGING / "phylogeny" / entry.slug) as journals:
            genome, origin = phylogeny.measure(entry, cut, settings, journal_file=journals / f"{key}.jsonl")
            genome_cells.write(path, genome, origin, key)
    chosen.warn(f"{entry.slug}: genome of {len(cut.contexts)} genes {'unchanged' if current else 'measured'}")
    return genome_cells.read(path)


def _continues(entry: ModelEntry) -> bool:
    continues = entry.is_open
    if not continues:
        chosen.warn(f"{entry.slug}: backend {entry.backend} continues no text for us, so it has no genome")
    return continues


def _line(genome: Genome, settings: Settings) -> str:
    n = len(genome.alleles)
    alleles = sum(map(len, genome.alleles)) / n
    pruned = sum(genome.pruned) / n
    how = f"{genome.n_probes} probes each" if genome.n_probes else f"{pruned:.1%} of the mass pruned"
    return f"{genome.model}: {n} genes, {alleles:.1f} alleles on average ({settings}), {how}"
