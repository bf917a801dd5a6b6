"""The command `contamination`: whether a model was trained on a corpus, judged against another corpus."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from collectors.document import UserError
from evaluate import corpus, membership_cells, origins, params, verdict
from evaluate.commands import chosen, membership
from evaluate.corpus import Corpus
from evaluate.model import ModelEntry
from evaluate.verdict import Sample, Verdict

DEFAULT = "min_k_plus_plus"

# Share of the characters by which model and reference may differ in what they read.
UNLIKE = 0.01


def run(arguments: argparse.Namespace) -> None:
    """Measure model and reference on both corpora, and print the verdict."""
    known = params.read() if params.PARAMS.exists() else {}
    entry, reference = chosen.entry(known, arguments), membership.referring(known, arguments)
    statistic = _statistic(arguments.statistic, reference)
    corpora = [_corpus(named, arguments.column) for named in (arguments.corpus, arguments.against)]
    if corpora[0].sha256 == corpora[1].sha256:
        raise UserError(
            f"{arguments.corpus} and {arguments.against} hold the same documents; name another corpus with --against"
        )
    settings = membership.section(known, {})
    with ExitStack() as journals:
        rows = membership.measured(entry, settings, corpora, known, journals)
        others = (
            None
            if reference is None
            else membership.referred(reference, settings, corpora, rows, known, journals)
        )
    if reference is not None and others is not None:
        _check_alike(reference.slug, rows, others)
    samples = [
        _sample(own, None if others is None else others[i], statistic, origins.of(corpora[i]))
        for i, own in enumerate(rows)
    ]
    found = verdict.judge(*samples)
    origin = {
        "model": entry.slug,
        "revision": _revision(rows),
        "corpus": corpora[0].name,
        "corpus_sha256": corpora[0].sha256,
        "against": corpora[1].name,
        "against_sha256": corpora[1].sha256,
        "reference": "" if reference is None else reference.slug,
        "reference_revision": "" if others is None else _revision(others),
        "statistic": statistic,
        "protocol": rows[0][0]["protocol"],
        "reference_protocol": "" if others is None else others[0][0].get("protocol", ""),
    }
    if arguments.json:
        print(json.dumps({**origin, **asdict(found)}, indent=2))
    else:
        print("\n".join(_lines(origin, found)))


def _statistic(asked: str | None, reference: ModelEntry | None) -> str:
    """Return what is compared: a compressor has nothing but bits."""
    if reference is None or reference.backend != membership.COMPRESSORS:
        return asked or DEFAULT
    if asked not in {None, "bits"}:
        raise UserError(
            f"statistic {asked} needs probabilities of tokens, which the compressor {reference.slug} has none of; "
            "choose bits, or a model as the reference"
        )
    return "bits"


def _corpus(named: Path, column: str) -> Corpus:
    """Return a corpus by its name in params.yaml, or by its place."""
    built = chosen.CORPORA / named
    return corpus.folder(built if (built / "corpus.json").is_file() else named, column)


def _check_alike(reference: str, rows: Sequence[membership.Rows], others: Sequence[membership.Rows]) -> None:
    """Refuse a reference that has read other text than the model: a later part is easier than the beginning."""
    for own, other in zip(rows, others, strict=True):
        protocols = {row["protocol"] for row in (*own, *other) if "protocol" in row}
        if len(protocols) > 1:
            raise UserError(
                f"model and reference {reference} were measured as {' and '.join(sorted(protocols))}; choose `tokens` "
                "of `membership` in params.yaml that both can read"
            )
        read, theirs = (sum(row["n_characters"] or 0 for row in part) for part in (own, other))
        if abs(read - theirs) > UNLIKE * read:
            raise UserError(
                f"the model read {read} characters of a corpus and the reference {reference} {theirs}, more than "
                f"{UNLIKE:.0%} apart; name a reference with the same tokenizer, or a compressor with --statistic bits"
            )


def _sample(
    rows: membership.Rows, others: membership.Rows | None, statistic: str, names: Mapping[str, str]
) -> Sample:
    return Sample(
        statistics=membership_cells.statistics(rows, statistic),
        lengths=np.array([row["n_tokens"] for row in rows], dtype=np.int64),
        reference=None if others is None else membership_cells.statistics(others, statistic),
        origins=[names.get(row["document"], "") for row in rows],
    )


def _revision(rows: Sequence[membership.Rows]) -> str:
    return next((str(row.get("revision", "")) for part in rows for row in part), "")


_NAMES = {"min_k_plus_plus": "Min-K%++", "min_k": "Min-K%", "bits": "bits per character"}


def _lines(origin: dict[str, Any], found: Verdict) -> list[str]:
    reference = origin["reference"]
    told = "contaminated, if what is assumed holds" if found.contaminated else "no evidence of contamination"
    less = f" less that of {reference}" if reference else ""
    alone = (
        f"; {reference} alone tells them apart with AUC {found.reference_auc:.3f}"
        if found.reference_auc is not None
        else ""
    )
    left_out = f", {found.n_left_out} left out" if found.n_left_out else ""
    strata = f"{found.n_strata} strat{'um' if found.n_strata == 1 else 'a'} of length"
    own = f"{found.n_documents} documents of {found.n_origins} origins"
    compared = f"{origin['model']} on {origin['corpus']} against {origin['against']}"
    auc = f"AUC {found.auc:.3f} [{found.low:.3f}, {found.high:.3f}]"
    return [
        f"{compared}: {told} (p = {found.p_value:.4g}, level {found.level:.0%})",
        f"  {auc} by {_NAMES[origin['statistic']]}{less}{alone}",
        f"  {own} against {found.n_against} of {found.n_origins_against}, in {strata}{left_out}",
        *_warnings(reference, found),
        "  assumed:",
        *(f"  - {assumption}" for assumption in found.assumptions),
        *(
            []
            if reference
            else ["  no reference was named: text that is easier looks like text that was seen"]
        ),
    ]


def _warnings(reference: str, found: Verdict) -> Iterator[str]:
    if found.alike is False:
        yield f"  attention: under {reference} alone the two corpora are not alike: much rests on the correction"
    if found.high < 0.5:
        yield "  attention: the other corpus is the more familiar one: it was trained on, or the match is broken"
