"""Which files of a repository are fresh: added, or at least half rewritten, inside a window of time.

The file as it was last committed before the window's end is held against everything that the
repository had before the window's start: every blob of its earlier history by id, and the texts of
its last earlier trees and of the files deleted before, line by line (see `collectors.github.novelty`). Moving,
copying, reformatting and bringing back a file makes nothing in it new.

A commit is earlier if it, or a commit that descends from it, was committed before the window. What
the remaining commits wrote counts only when both their dates lie inside the window; an author date
outside it (a rebased branch, an imported history) makes its lines old.

What cannot be known: git records what people's machines say. Who sets both dates to a moment in the
window, or puts old code under one new first commit, makes old code look fresh, and so does code that
was copied from another repository. Against that stand the copyright rule, the document frequency
across repositories and the comparison with all earlier corpora. An intermediate version of a file
that no last earlier tree holds is recognised as a whole, but not in parts. The dates of a push are
not in a repository: commits made in the window and published after it count as published in it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from collectors.github.git import Git
from collectors.github.history import Commit, contents
from collectors.github.lineage import Lineage, Stamp, lineage
from collectors.github.novelty import Earlier, Novelty, lines
from collectors.github.rules import UnreadableError, excluded, text_of

FRESH = frozenset({"added", "rewritten"})
_LICENSE = re.compile(rb"(UN)?LICEN[CS]E([.-][^/]*)?|COPYING([.-][^/]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What the history says about one file.

    Attributes:
        path: as the bytes that git has.
        blob: id of its content.
        status: `added` or `rewritten`, which are fresh. Else why it is not: `vendored`, `generated`,
            `unchanged`, `moved`, `copied`, `restored`, `reformatted`, `edited`, `imported` (by commits
            with a date outside the window), `blank`, `too-large`, or what makes it unreadable.
        lines: its lines with words.
        written: those that are new.
        first: the first commit inside the window that touched it; none of its new lines is older.
        last: the last one.
    """

    path: bytes
    blob: str
    status: str
    lines: int = 0
    written: int = 0
    first: Stamp | None = None
    last: Stamp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the history of a repository says about the files of one language.

    Attributes:
        pinned: the last commit on the first-parent line of the default branch before the window's end.
        base: the last one that is earlier than the window; None if there is none.
        files: all of that language at the pinned commit, by path.
        payloads: the contents of the fresh files by path.
        license: the content of the licence file in the root folder, or nothing.
    """

    pinned: Commit
    base: Commit | None
    files: tuple[File, ...]
    payloads: Mapping[bytes, bytes]
    license: bytes


def examine(
    git: Git, since: int, until: int, *, suffixes: tuple[str, ...], language: str, max_file_bytes: int
) -> History | None:
    """Return what a repository's history says, or None when it has no commit before the window's end.

    Args:
        git: the clone.
        since: start of the window, in seconds since 1970 UTC.
        until: its end, not included.
        suffixes: of the files that count.
        language: of the cells in notebooks.
        max_file_bytes: larger files are left out.

    Raises:
        GitError: when something could not be had.
        TooLargeError: when there is too much to compare.
    """
    found = lineage(git, since, until)
    if found is None:
        return None
    settled, candidates = _known(found, suffixes)
    references = _references(found, suffixes) if candidates else []
    legal = min((path for path in found.now if _LICENSE.fullmatch(path)), default=None)
    wanted = {found.now[path] for path in candidates} | ({found.now[legal]} if legal else set())
    wanted |= {blob for reference in references for blob in (reference.after, *reference.before)}
    payloads = contents(git, wanted, max_file_bytes)
    measured = _measure(candidates, references, found, payloads, language)
    return History(
        pinned=found.pinned,
        base=found.base,
        files=tuple(sorted([*settled, *measured], key=lambda file: file.path)),
        payloads={file.path: payloads[file.blob] for file in measured if file.status in FRESH},
        license=payloads.get(found.now[legal], b"") if legal else b"",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """Old text to compare with: the blob `after`, without what the blobs `before` have already."""

    path: bytes
    after: str
    before: tuple[str, ...] = ()
    kind: str


def _known(found: Lineage, suffixes: tuple[str, ...]) -> tuple[list[File], list[bytes]]:
    """Return the files whose path or whole content settles the matter, and the paths of the others."""
    places: dict[str, list[bytes]] = {}
    for path, blobs in found.before.items():
        for blob in blobs:
            places.setdefault(blob, []).append(path)
    settled, others = [], []
    for path, blob in sorted(found.now.items()):
        if not _ends(path, suffixes):
            continue
        status = excluded(path.decode("utf-8", "replace"))
        if not status and blob in found.known:
            held = places.get(blob, [])
            status = "unchanged" if path in held else _moved(held, found) if held else "restored"
        if status:
            settled.append(File(path=path, blob=blob, status=status))
        else:
            others.append(path)
    return settled, others


def _references(found: Lineage, suffixes: tuple[str, ...]) -> list[_Reference]:
    present = [
        _Reference(path=path, after=blob, kind="present")
        for path, blobs in sorted(found.before.items())
        for blob in blobs
    ]
    deleted = [
        _Reference(path=path, after=blob, kind="deleted")
        for path, blob in sorted(found.deleted.items())
        if path not in found.before
    ]
    imported = [
        _Reference(path=change.path, after=change.after, before=change.before, kind="imported")
        for change in found.imported
        if change.after
    ]
    return [reference for reference in (*present, *deleted, *imported) if _ends(reference.path, suffixes)]


def _measure(
    candidates: Sequence[bytes],
    references: Sequence[_Reference],
    found: Lineage,
    payloads: Mapping[str, bytes],
    language: str,
) -> list[File]:
    """Return what comparing the candidates with the references says."""
    usable, texts = [], []
    for reference in references:
        with suppress(UnreadableError):
            text = _words(reference.path, reference.after, payloads, language)
            for blob in reference.before:
                with suppress(UnreadableError):
                    text = _without(text, _words(reference.path, blob, payloads, language))
            usable.append(reference)
            texts.append(text)
    earlier = Earlier(texts)
    files = []
    for path in candidates:
        file = File(path=path, blob=found.now[path], status="imported")
        if path in found.first:
            try:
                novelty = earlier.novelty(_words(path, file.blob, payloads, language))
            except UnreadableError as error:
                file = replace(file, status=str(error))
            else:
                nearest = usable[novelty.nearest] if novelty.nearest >= 0 else None
                file = replace(
                    file,
                    status=_status(path, novelty, nearest, found),
                    lines=novelty.lines,
                    written=novelty.written,
                    first=found.first[path],
                    last=found.last[path],
                )
        files.append(file)
    return files


def _words(path: bytes, blob: str, payloads: Mapping[str, bytes], language: str) -> list[str]:
    if blob not in payloads:
        raise UnreadableError("too-large")
    return lines(text_of(path.decode("utf-8", "replace"), payloads[blob], language))


def _status(path: bytes, novelty: Novelty, nearest: _Reference | None, found: Lineage) -> str:
    if not novelty.lines:
        return "blank"
    if novelty.mostly_new:
        return "rewritten" if path in found.before else "added"
    if nearest and nearest.kind == "imported":
        return "imported"
    if path in found.before:
        return "edited" if novelty.written else "reformatted"
    if nearest and nearest.kind == "deleted":
        return "restored"
    return _moved([nearest.path] if nearest else [], found)


def _moved(places: Sequence[bytes], found: Lineage) -> str:
    """Return whether old content was moved, for its places are gone, or copied."""
    return "moved" if places and not any(place in found.now for place in places) else "copied"


def _without(text: list[str], known: list[str]) -> list[str]:
    """Return the lines of a text that another one lacks, as often as it lacks them."""
    left = Counter(known)
    missing = []
    for line in text:
        left[line] -= 1
        if left[line] < 0:
            missing.append(line)
    return missing


def _ends(path: bytes, suffixes: tuple[str, ...]) -> bool:
    return path.lower().endswith(tuple(suffix.encode() for suffix in suffixes))
