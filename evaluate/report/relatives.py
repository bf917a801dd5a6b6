"""The section on relatives: which models continue texts alike, their tree and map, and what distances predict."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from markupsafe import Markup

from evaluate.prediction import METHODS
from evaluate.report import wording
from evaluate.report.dendrograms import CAVEAT, Caption, dendrogram, ordination, unrooted
from evaluate.report.records import Phylogeny, Place, Prediction, Relative, ReportData
from evaluate.trees import Tree, leaves, nodes

_WIDTH = 560
_UNIT = "−ln similarity"
# What to call methods of predictions.csv that use distances.
_NAMES = {
    "ridge": "distances (ridge)",
    "ica15-sigmoid": "distances (15 components, sigmoid)",
    "bits per character + ridge": "bits per character and distances (ridge)",
}
# Those that know something else of a model.
_OTHER_FACTS = ("ln parameters", "ln training FLOPs", "bits per character")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """A model and the one at the least distance from it.

    Attributes:
        name: of the model.
        family: of the model; empty without one.
        other: name of the nearest.
        akin: whether the nearest is of the same family.
        relative: the row with both.
    """

    name: str
    family: str
    other: str
    akin: bool
    relative: Relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Scores that are predicted, method by method; where every method is refused, only why."""

    name: str
    study: str
    predictions: tuple[Prediction, ...]
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All of the section.

    Attributes:
        n_models: models that were asked to continue genes.
        how: a row that tells how; None with fewer than two models.
        summary: what was found, in sentences.
        drawings: dendrogram, unrooted tree and map of three models or more.
        caveat: what closeness is not, where no drawing says it.
        nearest: by family, models without one last.
        predicted: benchmarks that one method or more predicts.
        refused: why others are not predicted, with their names.
    """

    n_models: int
    how: Relative | None
    summary: str
    drawings: tuple[Markup, ...]
    caveat: str
    nearest: tuple[tuple[str, tuple[Nearest, ...]], ...]
    predicted: tuple[Benchmark, ...]
    refused: tuple[tuple[str, tuple[str, ...]], ...]


def section(data: ReportData) -> Section:
    """Return what the page says about relatives: no tree and no map of fewer than three models."""
    names = _names(data.relatives)
    families = {score.model: score.family for score in data.scores if score.family}
    nearest = _nearest(data.relatives, names, families)
    benchmarks = _benchmarks(data.predictions)
    drawings: tuple[Markup, ...] = ()
    if data.phylogeny and len(names) > 2:
        groups = {name: families[model] for model, name in names.items() if model in families}
        drawings = tuple(map(Markup, _drawings(data.phylogeny, data.places, names, groups)))
    # Two models have each other, and one row says all of it.
    shown = nearest[:1] if len(names) == 2 else sorted(nearest, key=lambda row: (not row.family, row.family))
    why: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        if benchmark.refused:
            why.setdefault(benchmark.refused, []).append(f"{benchmark.name} ({benchmark.study})")
    return Section(
        n_models=len(data.places),
        how=data.relatives[0] if data.relatives else None,
        summary=" ".join([*_closest(nearest), *_beside_kin(nearest), *_compared(benchmarks)]),
        drawings=drawings,
        caveat="" if drawings else CAVEAT,
        nearest=tuple((family, tuple(rows)) for family, rows in groupby(shown, key=lambda row: row.family)),
        predicted=tuple(benchmark for benchmark in benchmarks if not benchmark.refused),
        refused=tuple((reason, tuple(which)) for reason, which in why.items()),
    )


def method(name: str) -> str:
    """Return what to call a method of predictions.csv."""
    return _NAMES.get(name, name)


def _names(rows: Sequence[Relative]) -> dict[str, str]:
    """Return the published name of each model without the organisation; with its slug where two share it."""
    published = {row.model: row.name for row in rows} | {row.other: row.other_name for row in rows}
    short = {model: name.rsplit("/", 1)[-1] or model for model, name in sorted(published.items())}
    times = Counter(short.values())
    return {model: name if times[name] == 1 else f"{name} ({model})" for model, name in short.items()}


def _nearest(
    rows: Sequence[Relative], names: Mapping[str, str], families: Mapping[str, str]
) -> list[Nearest]:
    """Return the nearest of each model, the least distance first; of equal ones the first by name."""
    both = [(row.model, row.other, row) for row in rows] + [(row.other, row.model, row) for row in rows]
    found: dict[str, Nearest] = {}
    for model, other, row in sorted(both, key=lambda b: (b[2].distance, names[b[0]], names[b[1]])):
        if model not in found:
            family = families.get(model, "")
            akin = bool(family) and family == families.get(other)
            found[model] = Nearest(
                name=names[model], family=family, other=names[other], akin=akin, relative=row
            )
    return list(found.values())


def _benchmarks(rows: Sequence[Prediction]) -> list[Benchmark]:
    tested: dict[tuple[str, str], list[Prediction]] = {}
    for row in rows:
        tested.setdefault((row.benchmark, row.study), []).append(row)
    return [
        Benchmark(
            name=name,
            study=study,
            predictions=tuple(own),
            refused=own[0].refused if all(row.refused for row in own) else "",
        )
        for (name, study), own in tested.items()
    ]


def _closest(nearest: Sequence[Nearest]) -> Iterator[str]:
    if nearest:
        first = nearest[0]
        error = first.relative.standard_error
        sure = "" if error is None else f", with a standard error of {wording.significant(error, 2)}"
        which = "Closest are" if len(nearest) > 2 else "There are two,"
        distance = wording.significant(first.relative.distance, 3)
        yield f"{which} {first.name} and {first.other}: their distance is {distance}{sure}."


def _beside_kin(nearest: Sequence[Nearest]) -> Iterator[str]:
    """Say how many models are nearest to one of their family, of those that could be."""
    members = Counter(row.family for row in nearest if row.family)
    able = [row for row in nearest if members[row.family] > 1]
    if able and len(nearest) > 2:
        near = sum(row.akin for row in able)
        are = "is" if near == 1 else "are"
        yield f"Of {len(able)} models with kin of the same family here, {near} {are} nearest to one of them."


def _compared(benchmarks: Iterable[Benchmark]) -> Iterator[str]:
    """Say how many scores distances predict better than a mean does, and how many other facts do."""
    won, others = [], []
    for benchmark in benchmarks:
        lows = [(row.method, row.skill_low) for row in benchmark.predictions if row.skill_low is not None]
        if own := [low for name, low in lows if name in METHODS]:
            won.append(own[0] > 0)
            others += (
                [max(known) > 0] if (known := [low for name, low in lows if name in _OTHER_FACTS]) else []
            )
    if won:
        yield (
            f"Distances alone predict {sum(won)} of {_scores(won)} better than the mean of the other families does, "
            "by the 95 % interval of their skill."
        )
    if others:
        yield (
            f"By the same measure size, training compute or bits per character predict {sum(others)} of "
            f"{_scores(others)}; whether distances do better than these is not tested."
        )


def _scores(tested: Sequence[bool]) -> str:
    return "1 score" if len(tested) == 1 else f"{len(tested)} scores"


def _drawings(
    phylogeny: Phylogeny, places: Sequence[Place], names: Mapping[str, str], groups: Mapping[str, str]
) -> Iterator[str]:
    tree = _renamed(phylogeny.tree, names)
    note = (
        "Neighbour joining, rooted halfway along the longest path. Paths along the tree miss the distances by "
        f"{wording.significant(phylogeny.path_rmse, 2)} (root mean square)."
    )
    notes = [note]
    if any(node.support is not None for node in nodes(tree)):
        notes.append("On a branch: the share of trees from resampled genes that have it, in percent.")
    if negative := phylogeny.negative_branches:
        many = "1 branch is" if len(negative) == 1 else f"{len(negative)} branches are"
        notes.append(
            f"{many} shorter than 0, down to {wording.significant(negative[0], 2)}: the distances fit no tree "
            "there; drawn as 0."
        )
    rooted = Caption(
        title=f"{len(names)} models by similarity",
        notes=(" ".join(notes),),
        caveat=CAVEAT,
        description=f"{note} In the order of the tree: {', '.join(leaves(tree))}.",
        unit=_UNIT,
    )
    yield dendrogram(tree, rooted, groups=groups, width=_WIDTH)
    brief = CAVEAT.partition(":")[0] + "."
    about = f"The same tree of {len(names)} models without a root."
    free = replace(
        rooted,
        title="Without a root",
        notes=("Branches as in the dendrogram.",),
        caveat=brief,
        description=about,
    )
    yield unrooted(_without_root(tree), free, groups=groups, width=_WIDTH)
    shares = (places[0].share_x, places[0].share_y)
    shown = f"{100 * sum(shares):.0f} % of the variance of the distances"
    plane = replace(
        free,
        title="On a map",
        notes=(f"Classical scaling: two axes show {shown}.",),
        description=f"A map of {len(names)} models, nearer where they are more alike; it shows {shown}.",
    )
    # In the order of the tree, so that a family has the same mark in both.
    at = {names[place.model]: (place.x, place.y) for place in places}
    labels = leaves(tree)
    yield ordination(
        labels, np.array([at[label] for label in labels]), shares, plane, groups=groups, width=_WIDTH
    )


def _renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    made: dict[Tree, Tree] = {}
    for node in reversed(list(nodes(tree))):
        children = tuple(made[child] for child in node.children)
        made[node] = replace(node, name="" if children else names[node.name], children=children)
    return made[tree]


def _without_root(tree: Tree) -> Tree:
    """Return a tree of three leaves or more with no root between the two ends of a branch."""
    if len(tree.children) != 2:
        return tree
    first, second = tree.children
    length = first.length + second.length
    if first.children:
        return Tree(children=(*first.children, replace(second, length=length)))
    return Tree(children=(replace(first, length=length), *second.children))
