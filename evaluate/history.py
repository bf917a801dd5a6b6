"""Which commit recorded what a stage made: the history of a stage's entry in dvc.lock.

The entry of a stage holds its command, its parameters and the digests of all that it reads and writes. A commit
recorded what the stage made if the entry there is another one than in each of the commit's parents: what
`git log` would show of that entry alone.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pygit2

from collectors.document import UserError

LOCK = "dvc.lock"

_STAGE = re.compile(r"  (['\"]?)(\S.*)\1:")
_SECTION = re.compile(r"^ {8}(\w+):\n((?: {10}.*\n)*)", re.MULTILINE)
_SETTING = re.compile(r"^ {10}(\w+): (\S.*)$", re.MULTILINE)
_OUTS = re.compile(r"^    outs:$", re.MULTILINE)
_OUT = re.compile(r"^    - path: (\S+)\n(?:      .*\n)*?      md5: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit: its hexadecimal name, the day it was made (UTC), and the first line of its message."""

    id: str
    day: str
    subject: str

    def __str__(self) -> str:
        return f"{self.id[:9]} ({self.day})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What git knows of a stage's last run.

    Attributes:
        stage: as dvc.lock names it.
        commit: that last changed its entry in dvc.lock; None where no commit holds the entry on disk.
        made: the earliest commit since which the stage's outputs have had the digests they have now: of an
            entry whose code alone has changed since, this is where the numbers came from.
        note: why there is no commit, or why what is on disk is not what it recorded; else empty.
    """

    stage: str
    commit: Commit | None
    made: Commit | None
    note: str = ""


def entries(lock: str) -> dict[str, str]:
    """Return the text of each stage's entry in a dvc.lock, as DVC writes it: a block two spaces deep."""
    found: dict[str, list[str]] = {}
    stage: list[str] = []
    for line in lock.splitlines(keepends=True):
        if line[:1] != " ":
            stage = []
        elif opened := _STAGE.fullmatch(line.rstrip()):
            stage = found.setdefault(opened[2], [])
        else:
            stage.append(line)
    return {name: "".join(lines) for name, lines in found.items()}


def digest(path: Path) -> str:
    """Return the MD5 by which DVC knows a file or a folder, empty where there is neither.

    A folder's is that of the JSON list of its files, each with its MD5 and its path, in the order of paths.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    if not path.is_dir():
        return ""
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    listing = [{"md5": digest(files[name]), "relpath": name} for name in sorted(files)]
    content = json.dumps(listing, sort_keys=True).encode()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"


class History:
    """The stages of the dvc.lock on disk, and the commits that recorded them.

    Raises:
        UserError: when there is no dvc.lock.
    """

    def __init__(self, root: Path = Path()) -> None:
        lock = (root / LOCK).resolve()
        try:
            self._now = entries(lock.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{root / LOCK} cannot be read; run from the repository, after `dvc repro`"
            ) from error
        found = pygit2.discover_repository(str(lock.parent))
        self._git = None if found is None else pygit2.Repository(found)
        self._path = (
            "" if self._git is None else lock.relative_to(Path(self._git.workdir).resolve()).as_posix()
        )
        self._seen: dict[pygit2.Oid, dict[str, str]] = {}

    def outputs(self, stage: str) -> dict[str, str]:
        """Return the digests of a stage's outputs by path, as dvc.lock has them; that of a folder ends in `.dir`."""
        return dict(_OUT.findall(_outs(self._now.get(stage, ""))))

    def settings(self, stage: str, section: str) -> dict[str, str]:
        """Return the plain values of a section of params.yaml under which a stage last ran, as dvc.lock writes them."""
        return dict(_SETTING.findall(dict(_SECTION.findall(self._now.get(stage, ""))).get(section, "")))

    def recorded(self, stage: str) -> Recorded:
        """Return which commits recorded a stage, named such as `fit` or `score@gzip`."""
        now = self._now.get(stage, "")
        if not now:
            return _nowhere(stage, "not in dvc.lock")
        if self._git is None:
            return _nowhere(stage, "not in a git repository")
        head = None if self._git.head_is_unborn else self._git.head.peel(pygit2.Commit)
        if head is None or self._entry(head, stage) != now:
            return _nowhere(stage, "not committed")
        commit = _origin(head, lambda at: self._entry(at, stage))
        made = _origin(commit, lambda at: _outs(self._entry(at, stage)))
        cut = self._git.is_shallow and not made.parents
        note = "or an earlier commit, which this shallow clone lacks" if cut else ""
        return Recorded(stage=stage, commit=_named(commit), made=_named(made), note=note)

    def _entry(self, commit: pygit2.Commit, stage: str) -> str:
        """Return the entry of a stage in the dvc.lock of a commit, empty where there is none."""
        try:
            blob = commit.tree[self._path]
        except KeyError:
            return ""
        if blob.id not in self._seen:
            self._seen[blob.id] = entries(blob.read_raw().decode(errors="replace"))
        return self._seen[blob.id].get(stage, "")


def _nowhere(stage: str, why: str) -> Recorded:
    return Recorded(stage=stage, commit=None, made=None, note=why)


def _origin(commit: pygit2.Commit, at: Callable[[pygit2.Commit], str]) -> pygit2.Commit:
    """Return the commit that brought in what a commit has: of none of its parents."""
    own = at(commit)
    while True:
        same = next((parent for parent in commit.parents if at(parent) == own), None)
        if same is None:
            return commit
        commit = same


def _outs(entry: str) -> str:
    found = _OUTS.search(entry)
    return entry[found.start() :] if found else ""


def _named(commit: pygit2.Commit) -> Commit:
    day = datetime.fromtimestamp(commit.commit_time, UTC).date().isoformat()
    return Commit(id=str(commit.id), day=day, subject=commit.message.partition("\n")[0])
