"""How models are related: pairs, tree, map, and benchmark scores predicted from distances; tables of the fit stage.

Adding a model reads the genomes of the others and measures none of them again.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from collectors.document import UserError, replacing
from evaluate import distances, prediction, trees
from evaluate.distances import Array, Overlaps
from evaluate.genomes import Genome
from evaluate.prediction import KnownModel, Prediction
from evaluate.scores import write_records
from evaluate.trees import Tree

# Sets of genes that clade support is the share of: 0.5 is then known to 0.03.
_REPLICATES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Relatives:
    """A row of results/relatives.csv: two models.

    Attributes:
        alleles: what kind, as `phylogeny.Settings` writes it.
        estimator: of the similarity, see `distances`.
        similarity: S; above 1 by chance for samples of models that are alike.
        similarity_low: the least that it may be, whichever alleles the pruned mass belongs to.
        similarity_high: the most.
        distance: -ln S.
        standard_error: of the distance, over genes; None where the models share no allele.
    """

    model: str
    name: str
    other: str
    other_name: str
    alleles: str
    estimator: str
    n_genes: int
    similarity: float
    similarity_low: float
    similarity_high: float
    distance: float
    standard_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row of results/map.csv: where classical scaling puts a model, and the variance that each axis shows."""

    model: str
    x: float
    y: float
    share_x: float
    share_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A row of results/predictions.csv; see `prediction.Prediction`."""

    benchmark: str
    study: str
    method: str
    n: int
    n_families: int
    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    rmse: float | None
    skill: float | None
    skill_low: float | None
    skill_high: float | None
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Genomes of models, held against each other.

    Attributes:
        genomes: of each model, with the columns of its cell.
        overlaps: what every two share; None of fewer than two.
        distances: [n, n], those below 0 as 0; of one model, or none, likewise.
    """

    genomes: Sequence[tuple[Genome, Mapping[str, Any]]]
    overlaps: Overlaps | None
    distances: Array


def compare(genomes: Sequence[tuple[Genome, Mapping[str, Any]]], estimator: str = "unbiased") -> Compared:
    """Compare genomes of the same genes.

    Args:
        genomes: of each model, with the columns of its cell.
        estimator: of similarities, one of `distances.ESTIMATORS`.

    Raises:
        UserError: when genomes are not of the same genes or alleles.
    """
    for column, rule in (
        ("genes_sha256", "genomes are compared on the same genes; measure all again with `dvc repro`"),
        ("alleles", "alleles of one kind are compared; measure all again with `dvc repro`"),
        (
            "vocabulary_sha256",
            "first tokens are compared within one vocabulary; set `alleles: exact` under `phylogeny` in params.yaml",
        ),
    ):
        for genome, origin in genomes:
            first, reference = genomes[0]
            if column == "vocabulary_sha256" and not str(origin["alleles"]).startswith("first-token"):
                continue
            if origin[column] != reference[column]:
                raise UserError(f"{genome.model} and {first.model} differ in {column}: {rule}")
    if len(genomes) < 2:
        return Compared(genomes=genomes, overlaps=None, distances=np.zeros((len(genomes), len(genomes))))
    found = distances.overlaps([genome for genome, _ in genomes], estimator)
    return Compared(genomes=genomes, overlaps=found, distances=distances.clipped(distances.distances(found)))


def write(compared: Compared, names: Mapping[str, str], out: Path, *, seed: int = 0) -> None:
    """Write relatives.csv, distances.csv, tree.json, tree.nwk and map.csv; empty where there is nothing to say.

    Args:
        compared: models.
        names: published names, by model.
        out: folder to write to.
        seed: of clade support.
    """
    labels = [genome.model for genome, _ in compared.genomes]
    found, measured = compared.overlaps, compared.distances
    pairs = _pairs(compared.genomes, found, names) if found else []
    tree = _tree(found, measured, seed) if found else {}
    places = (
        _places(found, measured)
        if found
        else [Place(model=label, x=0.0, y=0.0, share_x=0.0, share_y=0.0) for label in labels]
    )
    newick = tree["newick"] if tree else "".join(trees.newick(Tree(name=label)) for label in labels)
    write_records(out / "relatives.csv", Relatives, pairs)
    with (
        replacing(out / "distances.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", *labels])
        writer.writerows(
            [label, *(f"{d:.9g}" for d in row)] for label, row in zip(labels, measured, strict=True)
        )
    for name, text in (
        ("tree.json", json.dumps(tree, indent=2, ensure_ascii=False) + "\n"),
        ("tree.nwk", f"{newick}\n" if labels else ""),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_records(out / "map.csv", Place, places)


def write_predictions(
    compared: Compared,
    models: Sequence[KnownModel],
    targets: Mapping[tuple[str, str], Mapping[str, float]],
    out: Path,
    *,
    method: str = prediction.METHODS[0],
    seed: int = 0,
    resamples: int = 2000,
) -> None:
    """Write predictions.csv: benchmark scores from distances, beside what distances are held against.

    Args:
        compared: models.
        models: what else is known of each.
        targets: scores of models by benchmark and study.
        out: folder to write to.
        method: one of `prediction.METHODS`.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        UserError: when the method is unknown.
    """
    if method not in prediction.METHODS:
        known = ", ".join(prediction.METHODS)
        raise UserError(f"prediction {method!r} of `fit` in params.yaml is none of {known}")
    labels = [genome.model for genome, _ in compared.genomes]
    rows = [
        _row(benchmark, study, predicted)
        for (benchmark, study), scores in sorted(targets.items())
        for predicted in _predictions(compared.distances, labels, models, scores, method, seed, resamples)
    ]
    write_records(out / "predictions.csv", Predicted, rows if compared.overlaps else [])


def _pairs(
    genomes: Sequence[tuple[Genome, Mapping[str, Any]]], found: Overlaps, names: Mapping[str, str]
) -> list[Relatives]:
    similarity, distance = distances.similarity(found), distances.distances(found)
    low, high = distances.pruning_bounds([genome for genome, _ in genomes], found.estimator).similarity
    n_genes = len(found.genes)
    errors = distances.standard_errors(found) if n_genes > 1 else None
    labels = found.labels
    return [
        Relatives(
            model=labels[i],
            name=names.get(labels[i], ""),
            other=labels[j],
            other_name=names.get(labels[j], ""),
            alleles=str(genomes[i][1]["alleles"]),
            estimator=found.estimator,
            n_genes=n_genes,
            similarity=float(similarity[i, j]),
            similarity_low=float(low[i, j]),
            similarity_high=float(high[i, j]),
            distance=float(distance[i, j]),
            standard_error=None if errors is None or errors[i, j] != errors[i, j] else float(errors[i, j]),
        )
        for i in range(len(labels))
        for j in range(i + 1, len(labels))
    ]


def _tree(found: Overlaps, measured: Array, seed: int) -> dict[str, Any]:
    labels = list(found.labels)
    joined = trees.neighbour_joining(measured, labels)
    drawn = distances.resampled_distances(found, replicates=_REPLICATES, seed=seed)
    supported = trees.with_support(
        joined, (trees.neighbour_joining(distances.clipped(d), labels) for d in drawn)
    )
    rooted = trees.midpoint_rooted(supported)
    return {
        "newick": trees.newick(rooted),
        "root": "midpoint",
        "path_rmse": trees.path_error(joined, measured, labels),
        "negative_branches": trees.negative_branches(joined),
        "tree": trees.as_json(rooted),
    }


def _places(found: Overlaps, measured: Array) -> list[Place]:
    places, shares = trees.classical_mds(measured)
    both = [float(share) for share in (*shares, 0.0, 0.0)][:2]
    return [
        Place(
            model=label,
            x=float(place[0]) if len(place) else 0.0,
            y=float(place[1]) if len(place) > 1 else 0.0,
            share_x=both[0],
            share_y=both[1],
        )
        for label, place in zip(found.labels, places, strict=True)
    ]


def _predictions(
    measured: Array,
    labels: Sequence[str],
    models: Sequence[KnownModel],
    scores: Mapping[str, float],
    method: str,
    seed: int,
    resamples: int,
) -> Sequence[Prediction]:
    try:
        return prediction.predict(
            measured, labels, models, scores, method=method, seed=seed, resamples=resamples
        )
    except UserError as refusal:
        families = {model.family for model in models if model.name in scores}
        return [
            Prediction(
                method=method,
                n_models=len(scores),
                n_families=len(families),
                refused=str(refusal),
                predicted={},
            )
        ]


def _row(benchmark: str, study: str, predicted: Prediction) -> Predicted:
    return Predicted(
        benchmark=benchmark,
        study=study,
        method=predicted.method,
        n=predicted.n_models,
        n_families=predicted.n_families,
        pearson=predicted.pearson,
        pearson_low=predicted.pearson_low,
        pearson_high=predicted.pearson_high,
        rmse=predicted.rmse,
        skill=predicted.skill,
        skill_low=predicted.skill_low,
        skill_high=predicted.skill_high,
        refused=predicted.refused,
    )
