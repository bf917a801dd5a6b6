"""The command `audit`: the chain from the report back to the raw bytes, every link checked."""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collectors import build, filters, params
from collectors.audit import documents, files, models, results, verdicts
from collectors.audit.finding import Finding, merged, refusal
from collectors.commands import places
from collectors.document import UserError
from collectors.request import Request

_RESULTS = Path("results")
_CHECKED = {
    "outputs": "outputs of the pipeline",
    "cells": "cells",
    "models": "models",
    "records": "raw records",
    "documents": "documents",
    "again": "of them made again of their raw records",
    "judged": "judged again",
}
_READABLE = "params.yaml and corpora/removed.csv say what is made, and of what"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add which corpus, and how many documents are made and judged again."""
    command.add_argument(
        "--corpus", metavar="C", help="look into the records and documents of this one alone (default: all)"
    )
    again = command.add_mutually_exclusive_group()
    again.add_argument(
        "--full", action="store_true", help="make every document again of its raw record, and judge it again"
    )
    again.add_argument(
        "--sample",
        type=places.positive,
        metavar="N",
        default=50,
        help="make and judge N documents of each snapshot again (default: 50)",
    )
    places.add_workers(command)


def run(arguments: argparse.Namespace) -> None:
    """Print what was checked and what is not as it should be; exit with status 1 if there is such a thing."""
    if arguments.corpus is not None:
        params.request(arguments.corpus, params.read())
    found = files.check(Path())
    findings = list(found.findings)
    counts: Counter[str] = Counter(outputs=found.n_outputs)
    removed: dict[str, int] = {}
    reasons: dict[str, str] = {}
    missing: list[str] = []
    try:
        known = params.read()
        reasons = build.read_removals(places.REMOVALS)
        removed = _documents(arguments, known, reasons, found, counts, findings)
        counts["cells"], of_results = results.check(_RESULTS, places.CORPORA, known, found.intact)
        counts["models"], missing, of_models = models.check(Path(), params.section(known, "models"))
        findings += [*of_results, *of_models]
    except UserError as error:
        findings.append(refusal(error, str(params.PARAMS), _READABLE))
    _say(
        arguments,
        found.commit,
        counts,
        [(line, reasons[line], n) for line, n in removed.items()],
        missing,
        merged(findings),
    )
    if findings:
        raise SystemExit(1)


def _documents(
    arguments: argparse.Namespace,
    known: dict[str, Any],
    reasons: dict[str, str],
    found: files.Files,
    counts: Counter[str],
    findings: list[Finding],
) -> dict[str, int]:
    """Check every snapshot, or the one asked for; return how many documents each removal covers."""
    removed = dict.fromkeys(reasons, 0)
    for name in known["snapshots"] if arguments.corpus is None else [arguments.corpus]:
        asked = params.request(name, known)
        checked = documents.check(
            asked,
            places.CORPORA,
            reasons,
            _rules(asked, known),
            found.intact,
            sample=None if arguments.full else arguments.sample,
            workers=arguments.workers,
        )
        counts.update(records=checked.n_records, documents=checked.n_documents)
        counts.update(again=checked.n_made_again, judged=checked.n_judged)
        findings += checked.findings
        for line, n in checked.removed.items():
            removed[line] += n
    return removed


def _rules(asked: Request, known: dict[str, Any]) -> verdicts.Rules:
    names = list(known["snapshots"])
    return verdicts.Rules(
        filters=filters.filters(params.section(params.section(known, "filters"), asked.content)),
        minhash=params.minhash(known),
        threshold=params.threshold(known),
        earlier=names[: names.index(asked.name)],
    )


def _say(
    arguments: argparse.Namespace,
    commit: str,
    counts: Counter[str],
    removed: list[tuple[str, str, int]],
    missing: list[str],
    findings: list[Finding],
) -> None:
    if arguments.json:
        lines = [{"line": line, "reason": reason, "documents": n} for line, reason, n in removed]
        found = {"clean": not findings, "findings": [asdict(finding) for finding in findings]}
        said = {"commit": commit, "checked": counts, "removed": lines, "missing_models": missing}
        print(json.dumps({**said, **found}, indent=2))
        return
    print(f"commit {commit or 'none'}")
    print("checked " + ", ".join(f"{counts[name]:,} {what}" for name, what in _CHECKED.items()))
    for line, reason, n in removed:
        print(places.line(f"removed {n:,} documents by {line} ({reason})"))
    for name in missing:
        told = f"model {name} is not here and was not checked"
        print(places.line(f"{told}; `make models` fetches that of the repository"))
    for finding in findings:
        print(f"\n{places.line(f'{finding.where}: {finding.what}')}")
        print(f"  rule:   {places.line(finding.rule)}\n  remedy: {places.line(finding.remedy)}")
    print(f"\nnot clean: {len(findings)} findings" if findings else "clean")
