"""What a repository's commits, trees and blobs say: dates, changes and contents."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from collectors.github.git import Git, GitError, TooLargeError

MAX_TEXT_BYTES = 128 << 20
MAX_ENTRIES = 2_000_000  # commits, files of a tree, or changes in a history
_REGULAR = frozenset({b"100644", b"100755"})
_WANTS = 5_000  # objects asked for in one request
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit: its id, its parents' ids, and the dates it claims, in seconds since 1970 UTC."""

    id: str
    parents: tuple[str, ...]
    authored: int
    committed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a commit did to one path.

    Attributes:
        commit: id of the commit.
        path: as the bytes that git has.
        before: blob ids in those parents that have the path as a regular file.
        after: blob id in the commit; empty when the path is gone or is no regular file.
    """

    commit: str
    path: bytes
    before: tuple[str, ...]
    after: str


def commits(git: Git) -> list[Commit]:
    """Return every commit of the cloned branch, children before their parents; none if it is empty.

    A date that git cannot read counts as 1970.

    Raises:
        GitError: when they could not be read.
        TooLargeError: when there are more than `MAX_ENTRIES`.
    """
    if not git.run("rev-list", "--all", "--max-count=1").read_bytes():
        return []
    found = []
    with git.run("log", "--topo-order", "--format=%H,%at,%ct,%P", "HEAD", "--").open(encoding="ascii") as log:
        for line in log:
            name, authored, committed, parents = line.split(",")
            found.append(
                Commit(
                    id=name,
                    parents=tuple(parents.split()),
                    authored=int(authored or 0),
                    committed=int(committed or 0),
                )
            )
            _bounded(len(found))
    return found


def changes(git: Git, names: Iterable[str]) -> Iterator[Change]:
    """Yield what each commit changed, in the order given.

    Of a merge only what differs from every parent counts: the rest came from one of them, and the
    commit that made it says so.

    Raises:
        GitError: when they could not be read.
        TooLargeError: when there are more than `MAX_ENTRIES`.
    """
    options = ("-r", "-c", "--root", "-z", "--no-renames", "--no-abbrev")
    fields = _fields(git.run("diff-tree", "--stdin", *options, lines=names))
    commit, count = "", 0
    for field in fields:
        if not field.startswith(b":"):
            commit = field.decode("ascii").strip()
            continue
        count = _bounded(count + 1)
        parents = len(field) - len(field.lstrip(b":"))
        values = field.lstrip(b":").split()
        modes, blobs = values[: parents + 1], values[parents + 1 : 2 * parents + 2]
        known = [blob.decode() if mode in _REGULAR else "" for mode, blob in zip(modes, blobs, strict=True)]
        yield Change(
            commit=commit, path=next(fields), before=tuple(filter(None, known[:-1])), after=known[-1]
        )


def tree(git: Git, commit: str) -> dict[bytes, str]:
    """Return the blob ids of a commit's regular files by path; links and submodules are none.

    Raises:
        GitError: when it could not be read.
        TooLargeError: when there are more than `MAX_ENTRIES`.
    """
    files = {}
    for field in _fields(git.run("ls-tree", "-r", "-z", "--full-tree", commit)):
        about, _, path = field.partition(b"\t")
        mode, _, blob = about.split(b" ")
        if mode in _REGULAR:
            files[path] = blob.decode("ascii")
            _bounded(len(files))
    return files


def contents(git: Git, blobs: Iterable[str], max_bytes: int) -> dict[str, bytes]:
    """Return the contents of blobs by id; those beyond `max_bytes` are left out.

    They are fetched together; git by itself would fetch one after the other.

    Raises:
        GitError: when one cannot be had.
        TooLargeError: when they exceed `MAX_TEXT_BYTES` together.
    """
    names = sorted(set(blobs))
    for start in range(0, len(names) if git.partial else 0, _WANTS):
        wanted = names[start : start + _WANTS]
        git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--stdin", "origin", lines=wanted)
    small, total = [], 0
    for line in git.run("cat-file", "--batch-check", lines=names).read_text("ascii").splitlines():
        name, kind, *size = line.split(" ")
        if kind != "blob":
            raise GitError(f"git object {name} is {kind}: the repository is damaged")
        if int(size[0]) <= max_bytes:
            small.append(name)
            total += int(size[0])
    if total > MAX_TEXT_BYTES:
        raise TooLargeError(
            f"its files to compare have {total:,} bytes together; the bound is {MAX_TEXT_BYTES:,}"
        )
    found = {}
    with git.run("cat-file", "--batch", lines=small).open("rb") as file:
        while head := file.readline():
            name, _, length = head.decode("ascii").split(" ")
            found[name] = file.read(int(length))
            file.read(1)
    return found


def _bounded(count: int) -> int:
    if count > MAX_ENTRIES:
        raise TooLargeError(f"it has more than {MAX_ENTRIES:,} commits, files or changes")
    return count


def _fields(output: Path) -> Iterator[bytes]:
    """Yield the fields of a file, each ended by a zero byte."""
    rest = b""
    with output.open("rb") as file:
        while chunk := file.read(_CHUNK):
            *whole, rest = (rest + chunk).split(b"\0")
            yield from whole
