"""How models are related: pairs, tree, map, and benchmark scores predicted from distances; tables of the fit stage.

Adding a model reads the genomes of the others and measures none of them again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.document import UserError, replacing
from evaluate import distances, prediction, trees
from evaluate.distances import Array, Overlaps
from evaluate.genomes import Genome
from evaluate.prediction import KnownModel, Prediction
from evaluate.scores import write_records


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
    r2: float | None
    refused: str


def write(
    genomes: Sequence[tuple[Genome, Mapping[str, Any]]],
    models: Sequence[KnownModel],
    names: Mapping[str, str],
    targets: Mapping[tuple[str, str], Mapping[str, float]],
    out: Path,
    *,
    estimator: str = "unbiased",
    method: str = "ridge",
    seed: int = 0,
    resamples: int = 2000,
) -> None:
    """Write relatives.csv, tree.json, tree.nwk, map.csv and predictions.csv; empty where there is nothing to say.

    Args:
        genomes: of each model, with the columns of its cell.
        models: what else is known of each.
        names: published names, by model.
        targets: scores of models by benchmark and study.
        out: folder to write to.
        estimator: of similarities, one of `distances.ESTIMATORS`.
        method: of predictions, one of `prediction.METHODS`.
        seed: of every bootstrap.
        resamples: of the bootstrap of predictions; of clade support a tenth, 1000 at the most.

    Raises:
        UserError: when genomes are not of the same genes or alleles, or the method is unknown.
    """
    if method not in prediction.METHODS:
        known = ", ".join(prediction.METHODS)
        raise UserError(f"prediction {method!r} of `fit` in params.yaml is none of {known}")
    _check(genomes)
    pairs: list[Relatives] = []
    tree: dict[str, Any] = {}
    places = [Place(model=genome.model, x=0.0, y=0.0, share_x=0.0, share_y=0.0) for genome, _ in genomes]
    rows: list[Predicted] = []
    if len(genomes) > 1:
        found = distances.overlaps([genome for genome, _ in genomes], estimator)
        measured = distances.clipped(distances.distances(found))
        pairs = _pairs(genomes, found, names)
        tree = _tree(found, measured, seed=seed, replicates=min(1000, resamples // 10))
        places = _places(found, measured)
        rows = [
            _row(benchmark, study, predicted)
            for (benchmark, study), scores in sorted(targets.items())
            for predicted in _predictions(measured, found.labels, models, scores, method, seed, resamples)
        ]
    write_records(out / "relatives.csv", Relatives, pairs)
    for name, text in (
        ("tree.json", json.dumps(tree, indent=2, ensure_ascii=False) + "\n"),
        ("tree.nwk", f"{tree['newick']}\n" if tree else ""),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_records(out / "map.csv", Place, places)
    write_records(out / "predictions.csv", Predicted, rows)


def _check(genomes: Sequence[tuple[Genome, Mapping[str, Any]]]) -> None:
    first_token = any(str(origin["alleles"]).startswith("first-token") for _, origin in genomes)
    for column, rule in (
        ("genes_sha256", "genomes are compared on the same genes; measure all again with `dvc repro`"),
        ("alleles", "alleles of one kind are compared; measure all again with `dvc repro`"),
        ("vocabulary_sha256", "first tokens are compared within one vocabulary; set `alleles: exact`"),
    ):
        if column == "vocabulary_sha256" and not first_token:
            continue
        for genome, origin in genomes:
            if origin[column] != genomes[0][1][column]:
                raise UserError(f"{genome.model} and {genomes[0][0].model} differ in {column}: {rule}")


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


def _tree(found: Overlaps, measured: Array, *, seed: int, replicates: int) -> dict[str, Any]:
    labels = list(found.labels)
    joined = trees.neighbour_joining(measured, labels)
    drawn = distances.resampled_distances(found, replicates=replicates, seed=seed)
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
        r2=predicted.r2,
        refused=predicted.refused,
    )
