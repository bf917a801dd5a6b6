"""What became of a repository's files before a window of time and inside it, commit by commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collectors.github.git import Git
from collectors.github.history import Change, Commit, changes, commits, tree


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Stamp:
    """A commit as evidence of a date: when it was committed, in seconds since 1970 UTC, and its id."""

    seconds: int
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The files at the end of a window, and all that there was before it.

    A commit is earlier than the window if it, or a commit that descends from it, was committed before
    its start.

    Attributes:
        pinned: the last commit on the first-parent line of the default branch before the window's end.
        base: the last one on it that is earlier than the window; None if there is none.
        now: blobs by path at the pinned commit.
        before: blobs by path in every earlier commit that no earlier commit descends from.
        known: every blob that earlier commits brought.
        deleted: paths that earlier commits deleted, with the blob that was there last.
        imported: changes by commits that are not earlier, but have a date outside the window.
        first: the first commit inside the window that touched a path, or brought what it was moved from.
        last: the last one that touched it.
    """

    pinned: Commit
    base: Commit | None
    now: Mapping[bytes, str]
    before: Mapping[bytes, Sequence[str]]
    known: frozenset[str]
    deleted: Mapping[bytes, str]
    imported: Sequence[Change]
    first: Mapping[bytes, Stamp]
    last: Mapping[bytes, Stamp]


def lineage(git: Git, since: int, until: int) -> Lineage | None:
    """Return what became of a repository's files, or None when it has no commit before the window's end.

    Args:
        git: the clone.
        since: start of the window, in seconds since 1970 UTC.
        until: its end, not included.

    Raises:
        GitError: when something could not be read.
        TooLargeError: when there is too much of it.
    """
    everything = commits(git)
    line = _first_parents(everything, until)
    if not line:
        return None
    reached = _reached(everything, {line[0].id})
    of = {commit.id: commit for commit in reached}
    past = {c.id for c in _reached(reached, {c.id for c in reached if c.committed < since})}
    known: set[str] = set()
    deleted: dict[bytes, str] = {}
    imported: list[Change] = []
    inside: list[tuple[Change, Stamp]] = []
    for change in changes(git, (commit.id for commit in reversed(reached))):
        commit = of[change.commit]
        if commit.id in past:
            if change.after:
                known.add(change.after)
            elif change.before:
                deleted[change.path] = change.before[0]
        elif not (since <= commit.authored < until and since <= commit.committed < until):
            imported.append(change)
        elif change.after:
            inside.append((change, Stamp(seconds=commit.committed, commit=commit.id)))
    first, last = _stamps(inside)
    return Lineage(
        pinned=line[0],
        base=next((commit for commit in line if commit.id in past), None),
        now=tree(git, line[0].id),
        before=_last_trees(git, reached, past),
        known=frozenset(known),
        deleted=deleted,
        imported=imported,
        first=first,
        last=last,
    )


def _first_parents(everything: Sequence[Commit], until: int) -> list[Commit]:
    """Return the first-parent line from the last commit before the window's end on, the latest first."""
    of = {commit.id: commit for commit in everything}
    line = [everything[0]] if everything else []
    while line and line[-1].parents:
        line.append(of[line[-1].parents[0]])
    start = next((k for k, commit in enumerate(line) if commit.committed < until), len(line))
    return line[start:]


def _reached(everything: Sequence[Commit], starts: set[str]) -> list[Commit]:
    """Return the starts and all that they descend from, in the order given: children before parents."""
    reached = set(starts)
    found = []
    for commit in everything:
        if commit.id in reached:
            reached.update(commit.parents)
            found.append(commit)
    return found


def _stamps(inside: Sequence[tuple[Change, Stamp]]) -> tuple[dict[bytes, Stamp], dict[bytes, Stamp]]:
    """Return by path the first and the last commit of changes, parents before children."""
    origin: dict[str, Stamp] = {}
    first: dict[bytes, Stamp] = {}
    last: dict[bytes, Stamp] = {}
    for change, stamp in inside:
        # A file that was moved inside the window is as old as its content.
        oldest = origin[change.after] = min(stamp, origin.get(change.after, stamp))
        first[change.path] = min(oldest, first.get(change.path, oldest))
        last[change.path] = max(stamp, last.get(change.path, stamp))
    return first, last


def _last_trees(git: Git, reached: Sequence[Commit], past: set[str]) -> dict[bytes, list[str]]:
    inner = {parent for commit in reached if commit.id in past for parent in commit.parents}
    before: dict[bytes, list[str]] = {}
    for commit in reached:
        if commit.id in past and commit.id not in inner:
            for path, blob in tree(git, commit.id).items():
                if blob not in before.setdefault(path, []):
                    before[path].append(blob)
    return before
