"""The command `same`: whether two models, or two ways to load one, are told apart by what they continue."""

import argparse
import json
import math
from dataclasses import asdict, replace

from collectors.document import UserError
from evaluate import relatives
from evaluate.alleles import PRESETS
from evaluate.commands import chosen
from evaluate.commands.phylogeny import asked, of_own
from evaluate.distances import pruning_bounds
from evaluate.phylogeny import check
from evaluate.same_model import LEVEL, SameModel, same_model

_PROBES = 32  # those of the paper


def run(arguments: argparse.Namespace) -> None:
    """Measure both models and print the p-value of their being one."""
    known, settings, cut = asked(arguments)
    first = chosen.entry(known, argparse.Namespace(model=arguments.first))
    second = chosen.entry(known, argparse.Namespace(**{**vars(arguments), "model": arguments.second}))
    if second.slug == first.slug:
        loaded = map(str, chosen.given(arguments, *chosen.MODEL_OPTIONS).values())
        # A name of its own: probes are drawn by it, and must not be the same ones.
        second = replace(second, slug="-".join([second.slug, *loaded, "again"]))
    if settings.alleles in PRESETS and arguments.probes:
        raise UserError(
            f"--probes {arguments.probes} are draws from exact alleles, and `alleles: {settings.alleles}` has its own; "
            "drop it"
        )
    found = []
    for entry in (first, second):
        check(entry)
        measured = of_own(entry, settings, cut)
        assert measured is not None  # noqa: S101  which `check` has seen to
        found.append(measured)
    relatives.compare(found, settings.estimator)
    genomes = [genome for genome, _ in found]
    n_probes = None if settings.alleles in PRESETS else arguments.probes or _PROBES
    tested = same_model(*genomes, n_probes=n_probes, permutations=arguments.permutations, seed=settings.seed)
    bounds = None
    if any(mass > 0 for genome in genomes for mass in genome.pruned):
        low, high = (float(bound[0, 1]) for bound in pruning_bounds(genomes).similarity)
        bounds = -math.log(high) + 0.0, -math.log(low) if low > 0 else None
    if arguments.json:
        print(json.dumps({**asdict(tested), "distance_bounds": bounds}, indent=2))
    else:
        print(_line(tested, str(settings), bounds))


def _line(tested: SameModel, alleles: str, bounds: tuple[float, float | None] | None) -> str:
    told = tested.p_value < LEVEL
    verdict = (
        f"different at the {LEVEL:.0%} level" if told else "not told apart, which does not prove them one"
    )
    probes = max(n for n in tested.n_probes if n is not None)
    return (
        f"{tested.models[0]} and {tested.models[1]}: {verdict} (p = {tested.p_value:.3g} if they are one model"
        f"{'' if tested.power is None else f', {tested.power:.0%} of {probes}-probe samples tell them apart'}); "
        f"{_distance(tested, bounds)} ({tested.n_genes} gene{'' if tested.n_genes == 1 else 's'}, {probes} probes "
        f"each, {alleles})"
    )


def _distance(tested: SameModel, bounds: tuple[float, float | None] | None) -> str:
    if tested.distance is None:
        return "no distance: they share nothing"
    said = f"distance {tested.distance:.4f}"
    if tested.interval:
        said += f" [{tested.interval[0]:.4f}, {tested.interval[1]:.4f}]"
    if bounds:
        # Whichever alleles the pruned mass belongs to.
        low, high = bounds
        said += (
            f", {f'from {low:.3g} on' if high is None else f'{low:.3g} to {high:.3g}'} with what was pruned"
        )
    return said
