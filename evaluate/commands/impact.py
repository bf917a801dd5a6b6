"""The command `impact`: what a change of data, of models or of settings did to scores and fits."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeVar

from collectors.revisions import Revision, open_revision
from evaluate import bootstrap, fit_changes, score_changes
from evaluate.fit_changes import FitChange, Shift
from evaluate.impact import Effect
from evaluate.score_changes import ScoreChange

Key = TypeVar("Key")
Value = TypeVar("Value")

POINTS, FITS = "results/points.csv", "results/fits.csv"


def run(arguments: argparse.Namespace) -> None:
    """Print what changed in scores and fits from one revision to another."""
    before, after = open_revision(arguments.before), open_revision(arguments.after)
    scores = list(score_changes.changes(before, after))
    revisions = (before, after)
    points = [_table(revision, POINTS, fit_changes.points) for revision in revisions]
    intervals = [_table(revision, FITS, fit_changes.recorded) for revision in revisions]
    fits = list(fit_changes.changes(points[0], points[1], intervals))
    if arguments.json:
        found = {
            "before": {"name": before.name, "commit": before.commit},
            "after": {"name": after.name, "commit": after.commit},
            "scores": [asdict(row) for row in scores],
            "fits": [asdict(row) for row in fits],
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"from {before} to {after}, bits per character with 95 % intervals")
    for line in (*_score_lines(scores), *_fit_lines(fits)):
        print(line)


def _table(revision: Revision, path: str, read: Callable[[bytes, str], dict[Key, Value]]) -> dict[Key, Value]:
    return read(revision.read_bytes(path), f"{path} of {revision}") if revision.exists(path) else {}


def _score_lines(scores: Sequence[ScoreChange]) -> Iterator[str]:
    same = 0
    for row in scores:
        title = f"{row.model} on {row.corpus} ({row.protocol})"
        found = row.impact
        if found is None:
            yield f"{title}: {row.refused}"
            continue
        if found.difference.value == 0 and found.difference.low in (0, None):
            same += 1
            continue
        yield f"{title}: {found.before:.4f} to {found.after:.4f}, {_effect(found.difference)}"
        if found.rescored is not None:
            yield f"  same documents, new score  {_effect(found.rescored)}, {_count(found.n_same)}"
        replaced = f", {found.n_changed} of them with another text" if found.n_changed else ""
        came, gone = found.n_after - found.n_same, found.n_before - found.n_same
        yield f"  other documents            {_effect(found.composition)}, {gone:,} before, {came:,} after{replaced}"
        yield f"  what differs               {', '.join(row.changed) or 'nothing that the cells name'}"
    yield f"{same:,} of {len(scores):,} scores are the same"


def _fit_lines(fits: Sequence[FitChange]) -> Iterator[str]:
    same = 0
    refused: Counter[str] = Counter()
    for row in fits:
        if row.pearson is None or row.slope is None:
            refused[row.refused] += 1
        elif (
            row.pearson.difference == row.slope.difference == 0 and row.n_before == row.n_after == row.n_same
        ):
            same += 1
        else:
            yield f"{row.y} on {row.x} ({row.dataset}, {row.form}), {row.n_before} to {row.n_after} models"
            yield f"  Pearson  {_shift(row.pearson)}"
            yield f"  slope    {_shift(row.slope)}"
    yield f"{same:,} of {len(fits):,} fits are the same"
    for reason, n in sorted(refused.items()):
        yield f"{n:,} cannot be compared: {reason}"


def _effect(effect: Effect) -> str:
    return f"{_signed(effect.value)}{_ends(effect.low, effect.high, 'documents')}"


def _ends(low: float | None, high: float | None, differ: str) -> str:
    """Say a difference's interval, or why there is none."""
    if low is None or high is None:
        return f" (no interval: fewer than {bootstrap.FEWEST} {differ} differ)"
    return f" [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    """Return a difference with its sign, in such digits that it is 0 only if it is."""
    if value == 0:
        return "0"
    return f"{value:+.4f}" if abs(value) >= 5e-5 else f"{value:+.1e}"


def _shift(shift: Shift) -> str:
    before = _coefficient(shift.before, shift.before_low, shift.before_high)
    after = _coefficient(shift.after, shift.after_low, shift.after_high)
    ends = _ends(shift.difference_low, shift.difference_high, "models")
    verdict = {True: ", which excludes 0", False: ", which includes 0", None: ""}[shift.beyond_chance]
    return f"{before} to {after}, difference {_signed(shift.difference)}{ends}{verdict}"


def _coefficient(value: float, low: float | None, high: float | None) -> str:
    """Return a coefficient with the interval that was recorded of it, if one was."""
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _count(n: int) -> str:
    return f"{n:,} document{'' if n == 1 else 's'}"
