"""The commands that make tables and the page: `benchmarks`, `fit` and `report`."""

import argparse
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collectors.document import UserError, replacing
from evaluate import (
    benchmarks,
    comparison,
    entropy_cells,
    fit,
    genome_cells,
    params,
    prediction,
    regression,
    relatives,
    scores,
    trend,
)
from evaluate.commands.chosen import CORPORA, RESULTS, cell_path
from evaluate.model import ModelEntry
from evaluate.prediction import KnownModel
from evaluate.report import page
from evaluate.scores import Score

BENCHMARKS = Path("evaluate/benchmarks.csv")
PUBLISHED = Path("evaluate/published_correlations.csv")


def add_benchmarks(arguments: argparse.Namespace) -> None:
    """Add the scores of files to benchmarks.csv."""
    added = sum(benchmarks.import_file(path, BENCHMARKS, model=arguments.model) for path in arguments.files)
    print(json.dumps({"added": added}) if arguments.json else f"{added} scores added to {BENCHMARKS}")


def write_fits(arguments: argparse.Namespace) -> None:
    """Write scores, differences, the trend over months and the profile over layers from all cells; fit them."""
    known = params.read()
    entries = [params.entry(*model) for model in known["models"].items()]
    corpora = {name: trend.read(CORPORA / name) for name in known["snapshots"]}
    settings = dict(params.options(known, "fit", ["seed", "resamples", "prediction", "stale"]))
    method = settings.pop("prediction", prediction.METHODS[0])
    stale = settings.pop("stale", False)
    if not isinstance(stale, bool):
        raise UserError(f"`stale` of `fit` in params.yaml must be true or false, not {stale!r}")
    seed, resamples = settings.get("seed", 0), settings.get("resamples", 2000)
    regression.check_bootstrap(seed, resamples)
    targets = _targets(entries)
    rows, figures, genomes, months = [], [], [], []
    for entry in entries:
        for name, corpus in corpora.items():
            cell = scores.read_cell(cell_path("scores", entry.slug, name), entry.name, entry.family)
            if entry.is_open:
                found = entropy_cells.read(cell_path("entropy", entry.slug, name))
                own = entropy_cells.profile(found, entry.name)
                cell += entropy_cells.scores(found, own, entry.family)
                figures += own
            rows += scores.dated(cell, entry, corpus.since)
        months += trend.trend(entry, _parts(entry, corpora))
        if entry.is_open:
            genomes.append(genome_cells.read(cell_path("phylogeny", entry.slug, "genome")))
    related = relatives.compare(genomes, params.section(known, "phylogeny").get("estimator", "unbiased"))
    compared = {name for name in corpora if stale or not _is_stale(name, rows)}
    # Files change from here on, where cells, parameters and benchmarks are known to be whole.
    scores.write_scores(RESULTS / "scores.csv", rows)
    scores.write_records(RESULTS / "entropy.csv", entropy_cells.LayerFigure, figures)
    comparison.write(RESULTS / "differences.csv", _comparisons(known))
    trend.write(RESULTS / "trend.csv", months)
    relatives.write(related, {entry.slug: entry.name for entry in entries}, RESULTS, seed=seed)
    continuing = [entry for entry in entries if entry.is_open]
    relatives.write_predictions(
        related,
        [_known(entry, rows, compared) for entry in continuing],
        targets,
        RESULTS,
        method=method,
        seed=seed,
        resamples=resamples,
    )
    fit.run(
        RESULTS / "scores.csv",
        BENCHMARKS,
        PUBLISHED,
        RESULTS,
        stale=stale,
        seed=seed,
        resamples=resamples,
    )
    metrics = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    print(json.dumps(metrics, indent=2) if arguments.json else f"fits written to {RESULTS}")


def _parts(entry: ModelEntry, corpora: Mapping[str, trend.DatedCorpus]) -> Iterator[trend.Part]:
    for name, corpus in corpora.items():
        for protocol, likelihoods in scores.paid(cell_path("scores", entry.slug, name)).items():
            yield trend.Part(corpus=corpus, protocol=protocol, likelihoods=likelihoods)


def _is_stale(corpus: str, rows: Sequence[Score]) -> bool:
    return any(row.corpus == corpus and row.freshness == "not-after" for row in rows)


def _known(entry: ModelEntry, rows: Sequence[Score], corpora: Collection[str]) -> KnownModel:
    """Return what predictions from distances are held against.

    Entries of one published model are one family: the scores of either would tell those of the other. Means
    of bits per character compare over the same corpora alone: those that any model may have seen are in none.
    """
    own = [row for row in rows if row.model == entry.slug]
    rates = [
        row.value
        for row in own
        if row.metric == "bits_per_character" and row.corpus in corpora and math.isfinite(row.value)
    ]
    sizes = [row.n_parameters for row in own if row.n_parameters]
    return KnownModel(
        name=entry.slug,
        family=entry.family or entry.name or entry.slug,
        n_parameters=sizes[0] if sizes else None,
        training_flops=entry.training_flops,
        bits_per_character=sum(rates) / len(rates) if rates else None,
    )


def _targets(entries: Sequence[ModelEntry]) -> dict[tuple[str, str], dict[str, float]]:
    """Return benchmark scores from 0 to 1 of the models, by benchmark and study."""
    published = benchmarks.read(BENCHMARKS)
    identity = benchmarks.identities(published)
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in published:
        for entry in entries:
            same = identity.get(entry.name.casefold()) == identity[row.model.casefold()]
            if same and row.unit != "bits_per_character":
                scaled = row.value / (100 if row.unit == "percent" else 1)
                found.setdefault((row.title, row.study), {})[entry.slug] = scaled
    return found


def _comparisons(known: dict[str, Any]) -> Iterator[comparison.Comparison]:
    for name in known["snapshots"]:
        scored = [
            (slug, protocol, rows)
            for slug in known["models"]
            for protocol, rows in scores.paid(cell_path("scores", slug, name)).items()
            if protocol != "stream" and not protocol.startswith("huang2024/")
        ]
        yield from comparison.comparisons(name, scored)


def write_report(arguments: argparse.Namespace) -> None:
    """Write the page, and its figure of the law as a file."""
    html, figure = RESULTS / "report.html", RESULTS / "law.svg"
    drawn = page.law_figure(RESULTS)
    page.write(RESULTS, CORPORA, list(params.read()["snapshots"]), html)
    with replacing(figure) as temporary:
        temporary.write_text(drawn, encoding="utf-8")
    files = {"report": str(html), "figure": str(figure)}
    print(
        json.dumps(files)
        if arguments.json
        else f"report written to {html}, its figure of the law to {figure}"
    )
