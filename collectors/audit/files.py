"""Files against what git and DVC recorded of them, every byte read anew.

`git status` and `dvc status` do not read a file whose size and time of change they know. A disk that loses a
bit changes neither, so both call the damaged file unchanged.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import NoSCM
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.tree import Tree
from scmrepo.exceptions import SCMError
from tqdm import tqdm

from collectors.audit.finding import REBUILD, Finding, some
from collectors.document import UserError

_CODE = ("collectors", "evaluate")
_RAW = Path("corpora/raw")
_COMMITTED = "results name the commit that they were made with"
_RECORDED = "a file is what dvc.lock records of it"
_FOLLOWS = "a stage ran with the code, data and parameters that are here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What git and DVC know of a repository's files.

    Attributes:
        commit: of HEAD, 40 digits; empty where nothing is committed.
        n_outputs: files and folders that DVC keeps, read to the last byte.
        altered: those files and folders in or of outputs that are not what was recorded, relative to the root.
        findings: what is not as it should be.
    """

    commit: str
    n_outputs: int
    altered: frozenset[str]
    findings: list[Finding]

    def intact(self, path: Path) -> bool:
        """Return whether a file, or a folder with all that is in it, is as it was recorded, as far as it was."""
        above = any(part.as_posix() in self.altered for part in (path, *path.parents))
        return not above and not any(Path(name).is_relative_to(path) for name in self.altered)


def check(root: Path) -> Files:
    """Compare every file under git and every output and dependency of DVC with what was recorded.

    Raises:
        UserError: when the folder is no repository of git and DVC.
    """
    try:
        repo = Repo(str(root))
    except (DvcException, SCMError) as error:
        raise UserError(f"{root} cannot be audited: {error}; run from the root of the repository") from error
    with repo:
        commit, findings = _committed(repo)
        altered: dict[str, Finding] = {}
        stale: list[Finding] = []
        stages: list[Any] = []
        try:
            stages = sorted(repo.index.stages, key=lambda stage: str(stage.addressing))
            disk = _Disk(repo)
            for stage in tqdm(stages, desc="outputs", unit="stage", disable=None):
                for out in stage.outs:
                    altered.update((found.where, found) for found in _output(out, stage, disk))
            stale = list(_stale(stages, disk, frozenset(altered)))
        except (DvcException, OSError, ValueError) as error:
            what = f"the pipeline cannot be read: {error.__cause__ or error}"
            where = "dvc.yaml, dvc.lock or params.yaml"
            stale = [Finding(what=what, where=where, rule=_RECORDED, remedy="mend it, or `git restore` it")]
    return Files(
        commit=commit,
        n_outputs=sum(len(stage.outs) for stage in stages),
        altered=frozenset(altered),
        findings=[*findings, *altered.values(), *stale],
    )


def _committed(repo: Repo) -> tuple[str, list[Finding]]:
    """Return HEAD, and each file that is not as it was committed there."""
    remedy = "commit it, or `git restore` it"
    try:
        if isinstance(repo.scm, NoSCM):
            raise SCMError("no git repository")  # noqa: TRY301  what follows is for both
        commit = repo.scm.get_rev()
        tracked = repo.scm.get_fs(commit)
        names = sorted(str(name).lstrip("/") for name in tracked.find("/"))
    except SCMError as error:
        found = Finding(what=str(error), where=".git", rule=_COMMITTED, remedy="`git commit` the files")
        return "", [found]
    root = Path(repo.scm.root_dir)
    findings = []
    for name in names:
        path = root / name
        if not path.is_symlink() and not path.is_file():
            findings.append(
                Finding(what="missing", where=name, rule=_COMMITTED, remedy=f"`git restore {name}`")
            )
        elif _bytes(path) != tracked.cat_file(f"/{name}"):
            findings.append(
                Finding(what="differs from the commit", where=name, rule=_COMMITTED, remedy=remedy)
            )
    code = (path for folder in _CODE for path in (root / folder).rglob("*.py"))
    new = sorted({path.relative_to(root).as_posix() for path in code} - set(names))
    findings += [Finding(what="not committed", where=name, rule=_COMMITTED, remedy=remedy) for name in new]
    return commit, findings


def _bytes(path: Path) -> bytes:
    # Git keeps of a link where it points to.
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


class _Disk:
    """DVC's digests of what is on disk, each file read once in an audit and none taken from DVC's own notes."""

    def __init__(self, repo: Repo) -> None:
        self._files = repo.fs
        # Never written to: `build` takes from it that nothing is known yet.
        self._empty = HashFileDB(self._files, str(Path(repo.root_dir) / ".dvc" / "none"))
        self._ignore = repo.dvcignore
        self._found: dict[str, Any] = {}

    def __call__(self, path: str) -> Any:
        """Return the object that DVC makes of a file or folder, None where there is none."""
        if path not in self._found:
            try:
                _, _, self._found[path] = build(
                    self._empty, path, self._files, "md5", dry_run=True, ignore=self._ignore
                )
            except FileNotFoundError:
                self._found[path] = None
        return self._found[path]


def _output(out: Any, stage: Any, disk: _Disk) -> Iterator[Finding]:
    """Yield the files of an output that are not what dvc.lock records, or the output where that is all one knows."""
    place, recorded, found = str(out.def_path), out.hash_info.value, disk(out.fs_path)
    if recorded is None:
        yield Finding(what=f"stage {stage.addressing} never ran", where=place, rule=_RECORDED, remedy=REBUILD)
    elif found is None:
        remedy = _restored(place)
        yield Finding(what="missing", where=place, rule=_RECORDED, remedy=remedy)
    elif found.hash_info.value != recorded:
        what = f"differs from dvc.lock, stage {stage.addressing}"
        # A checkout alone leaves a file whose size and time are as before.
        for name in _differing(out, found):
            where = f"{place}/{name}" if name else place
            remedy = f"delete it and run {_restored(place)}"
            yield Finding(what=what, where=where, rule=_RECORDED, remedy=remedy)


def _restored(place: str) -> str:
    # What a site says today is another snapshot.
    rebuilt = "" if Path(place).is_relative_to(_RAW) else f", or {REBUILD}"
    return f"`dvc checkout {place}`, or `dvc pull {place}` where the cache lacks it{rebuilt}"


def _differing(out: Any, found: Any) -> list[str]:
    """Return the files of a folder that differ from its listing in the cache; an empty name stands for all."""
    try:
        recorded = out.get_obj()
        if not isinstance(found, Tree) or not isinstance(recorded, Tree):
            return [""]
        expected, actual = _listing(recorded), _listing(found)
        recorded.digest()  # of what was read: the listing may be damaged too
    except (DvcException, OSError, ValueError, TypeError, KeyError):
        return [""]
    if recorded.hash_info.value != out.hash_info.value:
        return [""]
    return sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))


def _listing(tree: Any) -> dict[str, str]:
    return {"/".join(key): digest.value for key, _, digest in tree}


def _stale(stages: list[Any], disk: _Disk, altered: frozenset[str]) -> Iterator[Finding]:
    """Yield what changed since stages ran with it, unless it is an output that was found altered."""
    changed: dict[str, list[str]] = {}
    for stage in stages:
        if all(out.hash_info.value is None for out in stage.outs):
            continue
        name = str(stage.addressing)
        if getattr(stage, "cmd_changed", False):
            changed.setdefault("dvc.yaml", []).append(name)
        for dependency in stage.deps:
            if isinstance(dependency, ParamsDependency):
                for place, parameters in dependency.workspace_status().items():
                    listed = some(sorted(parameters)) if isinstance(parameters, dict) else str(parameters)
                    changed.setdefault(str(place), []).append(f"{name} ({listed})")
                continue
            place, found = str(dependency.def_path), disk(dependency.fs_path)
            under = any(a == place or a.startswith(f"{place}/") or place.startswith(f"{a}/") for a in altered)
            if not under and (found is None or found.hash_info.value != dependency.hash_info.value):
                changed.setdefault(place, []).append(name)
    for place, names in sorted(changed.items()):
        what = f"changed since stages ran: {some(names)}"
        yield Finding(what=what, where=place, rule=_FOLLOWS, remedy=REBUILD)
