"""The command `same`: whether two models, or two ways to load one, are told apart by what they continue."""

import argparse
import json
from dataclasses import asdict, replace

from evaluate.commands import chosen
from evaluate.commands.phylogeny import asked, check_comparable, of_own
from evaluate.phylogeny import check
from evaluate.same_model import SameModel, same_model

LEVEL = 0.05


def run(arguments: argparse.Namespace) -> None:
    """Measure both models and print the p-value of their being one."""
    known, settings, cut = asked(arguments)
    first = chosen.entry(known, argparse.Namespace(model=arguments.first))
    second = chosen.entry(known, argparse.Namespace(**{**vars(arguments), "model": arguments.second}))
    if second.slug == first.slug:
        loaded = map(str, chosen.given(arguments, *chosen.MODEL_OPTIONS).values())
        # A name of its own: probes are drawn by it, and must not be the same ones.
        second = replace(second, slug="-".join([second.slug, *loaded, "again"]))
    found = []
    for entry in (first, second):
        check(entry)
        measured = of_own(entry, settings, cut)
        assert measured is not None  # noqa: S101  which `check` has seen to
        found.append(measured)
    check_comparable(found)
    (one, _), (other, _) = found
    n_probes = arguments.probes if one.n_probes is None else None
    tested = same_model(
        one, other, n_probes=n_probes, permutations=arguments.permutations, seed=settings.seed
    )
    print(json.dumps(asdict(tested), indent=2) if arguments.json else _line(tested, str(settings)))


def _line(tested: SameModel, alleles: str) -> str:
    verdict = (
        f"different at the {LEVEL:.0%} level"
        if tested.p_value < LEVEL
        else "not told apart, which does not prove them one"
    )
    low, high = tested.interval
    probes = max(n for n in tested.n_probes if n is not None)
    return (
        f"{tested.models[0]} and {tested.models[1]}: {verdict} (p = {tested.p_value:.3g} if they are one model); "
        f"distance {tested.distance:.4f} [{low:.4f}, {high:.4f}] ({tested.n_genes} genes, {probes} probes each, "
        f"{alleles}, {tested.permutations} permutations)"
    )
