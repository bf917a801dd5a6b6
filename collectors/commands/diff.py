"""The command `diff`: which documents came, went and changed between two versions, and why."""

import argparse
import json
from pathlib import Path

import pyarrow.parquet as pq

from collectors.commands import places
from collectors.document import replacing
from collectors.revisions import WORKSPACE, Revision, open_revision
from collectors.versions import Change, Diff, Holding, SnapshotDiff, diff

_SHOWN = 3
_SIGN = {"added": "+", "removed": "−", "changed": "~", "metadata": "="}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the versions and where the rows go."""
    said = f"a commit, branch or tag, or `{WORKSPACE}` for the files on disk"
    command.add_argument("before", metavar="REV_A", help=said)
    command.add_argument("after", metavar="REV_B", nargs="?", default=WORKSPACE, help=f"default: {WORKSPACE}")
    command.add_argument(
        "--corpus", action="append", metavar="C", help="compare this corpus alone; may be given again"
    )
    command.add_argument(
        "--parquet", type=Path, metavar="FILE", help="write a row for each document that differs"
    )


def run(arguments: argparse.Namespace) -> None:
    """Compare two versions and say what differs."""
    before, after = open_revision(arguments.before), open_revision(arguments.after)
    found = diff(before, after, arguments.corpus)
    if arguments.parquet is not None:
        with replacing(arguments.parquet) as temporary:
            pq.write_table(found.rows, temporary, compression="zstd")
    if arguments.json:
        print(json.dumps(found.facts(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(found)))


def _lines(found: Diff) -> list[str]:
    lines = [f"{_version(found.before)} → {_version(found.after)}"]
    lines += [f"params.yaml: {places.line(parameter)}" for parameter in found.parameters]
    if found.incomparable:
        lines.append(f"near duplicates not looked for: {found.incomparable}")
    table: list[tuple[str, ...]] = [("corpus", "documents", "characters", "published", *_SIGN)]
    table += [_cells(snapshot) for snapshot in found.snapshots]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row, snapshot in zip(table, (None, *found.snapshots), strict=True):
        padded = (
            cell.ljust(width) if column < 4 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
        lines += [f"  {_change(change)}" for change in (snapshot.changes if snapshot else ())]
    if not any(snapshot.changes for snapshot in found.snapshots):
        lines.append("no document differs")
    if found.outdated:
        shown = ", ".join(map(str, found.outdated[:_SHOWN]))
        more = f" and {len(found.outdated) - _SHOWN} more" if len(found.outdated) > _SHOWN else ""
        said = f"the corpora on disk were built under other parameters ({shown}{more}); run `dvc repro`"
        lines.append(places.line(said))
    return lines


def _version(revision: Revision) -> str:
    return f"{revision.name} ({revision.commit[:7]})" if revision.commit else revision.name


def _cells(snapshot: SnapshotDiff) -> tuple[str, ...]:
    sides = (snapshot.before, snapshot.after)
    return (
        snapshot.name,
        _arrow(*(f"{side.documents:,}" if side else "–" for side in sides)),
        _arrow(*(f"{side.characters:,}" if side else "–" for side in sides)),
        _arrow(*map(_dates, sides)),
        *(f"{snapshot.documents(change):,}" for change in _SIGN),
    )


def _dates(side: Holding | None) -> str:
    if side is None or side.published_from is None or side.published_until is None:
        return "–"
    return f"{side.published_from:%Y-%m-%d}…{side.published_until:%Y-%m-%d}"


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _change(change: Change) -> str:
    reason = f", metadata {change.reason}" if change.change == "metadata" else f" {change.reason}".rstrip()
    cause = change.reason if change.cause == "duplicate" else f"{change.cause}{reason}"
    because = f" ({change.because})" if change.because else ""
    repeated = (
        f", of which {change.repeated:,} repeat a document of the earlier version" if change.repeated else ""
    )
    said = f"{cause}{because}: {change.characters:,} characters{repeated}"
    return f"{_SIGN[change.change]}{change.documents:,} {places.line(said)}"
