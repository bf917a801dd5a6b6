"""The command `audit`: the chain from the report back to the raw bytes, every link checked."""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collectors import build, params
from collectors.audit import documents, files, results
from collectors.audit.finding import Finding, merged, refusal
from collectors.commands import places
from collectors.document import UserError

_RESULTS = Path("results")
_READABLE = "params.yaml and corpora/removed.csv say what is made, and of what"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add which corpus, and how many documents are made again."""
    command.add_argument(
        "--corpus", metavar="C", help="look into the records and documents of this one alone (default: all)"
    )
    again = command.add_mutually_exclusive_group()
    again.add_argument("--full", action="store_true", help="make every document again of its raw record")
    again.add_argument(
        "--sample",
        type=places.positive,
        metavar="N",
        default=50,
        help="make N documents of each snapshot again (default: 50)",
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
    try:
        known = params.read()
        reasons = build.read_removals(places.REMOVALS)
        removed = _documents(arguments, known, reasons, found, counts, findings)
        counts["cells"], of_results = results.check(_RESULTS, places.CORPORA, known, found.intact)
        findings += of_results
    except UserError as error:
        findings.append(refusal(error, str(params.PARAMS), _READABLE))
    _say(
        arguments,
        found.commit,
        counts,
        [(line, reasons[line], n) for line, n in removed.items()],
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
        checked = documents.check(
            params.request(name, known),
            places.CORPORA,
            reasons,
            found.intact,
            sample=None if arguments.full else arguments.sample,
            workers=arguments.workers,
        )
        counts.update(records=checked.n_records, documents=checked.n_documents, again=checked.n_made_again)
        findings += checked.findings
        for line, n in checked.removed.items():
            removed[line] += n
    return removed


def _say(
    arguments: argparse.Namespace,
    commit: str,
    counts: Counter[str],
    removed: list[tuple[str, str, int]],
    findings: list[Finding],
) -> None:
    if arguments.json:
        lines = [{"line": line, "reason": reason, "documents": n} for line, reason, n in removed]
        found = {"clean": not findings, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps({"commit": commit, "checked": counts, "removed": lines, **found}, indent=2))
        return
    print(f"commit {commit or 'none'}")
    print(
        f"checked {counts['outputs']:,} outputs of the pipeline, {counts['cells']:,} cells, {counts['records']:,} raw "
        f"records, {counts['documents']:,} documents, {counts['again']:,} of them made again of their raw records"
    )
    for line, reason, n in removed:
        print(places.line(f"removed {n:,} documents by {line} ({reason})"))
    for finding in findings:
        print(f"\n{places.line(f'{finding.where}: {finding.what}')}")
        print(f"  rule:   {places.line(finding.rule)}\n  remedy: {places.line(finding.remedy)}")
    print(f"\nnot clean: {len(findings)} findings" if findings else "clean")
