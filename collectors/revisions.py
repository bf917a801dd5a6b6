"""The files of any git revision, those that DVC tracks among them: what a number was once computed from.

Git keeps the small files of a revision and the digests of the large ones; DVC keeps the large ones in its
cache and its remotes. A revision is opened with the remotes and the cache of the workspace, not with those
that its own `.dvc/config` names: a revision older than `dvc remote add` could otherwise not be read, nor one
whose remote has moved since.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from collectors.document import UserError, replacing

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem
    from dvc_data.index import DataIndex, DataIndexEntry

WORKSPACE = "workspace"
"""The name of the files on disk, whether committed or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The files of one revision; paths are relative to the root of the repository, with forward slashes.

    Attributes:
        name: as it was asked for.
        commit: its full hexadecimal name, empty for the workspace.
        root: where the repository is.
        remote: the workspace's default remote, empty where it has none.
        files: DVC's view of it; None for the workspace.
    """

    name: str
    commit: str
    root: Path
    remote: str
    files: "DVCFileSystem | None"

    def __str__(self) -> str:
        return f"revision {self.name} ({self.commit[:7]})" if self.commit else f"the {self.name}"

    def exists(self, path: str) -> bool:
        """Return whether the revision has this file or folder, wherever its bytes are.

        Raises:
            UserError: when DVC's listing of the folder around it can be had nowhere.
        """
        if self.files is None:
            return (self.root / path).exists()
        return self._info(self.files, path) is not None

    def listing(self, folder: str) -> list[str]:
        """Return the names of files and folders in a folder, sorted.

        Raises:
            UserError: when the revision has no such folder, or DVC's listing of it can be had nowhere.
        """
        if self.files is None:
            if not (self.root / folder).is_dir():
                self._absent("folder", folder)
            return sorted(path.name for path in (self.root / folder).iterdir())
        info = self._info(self.files, folder)
        if info is None or info["type"] != "directory":
            self._absent("folder", folder)
        return sorted(path.rpartition("/")[2] for path in self.files.ls(folder, detail=False))

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            UserError: when the revision has no such file, or its bytes can be had nowhere.
        """
        if self.files is not None and "fs_info" in (self._info(self.files, path) or {}):
            return self._committed(self.files, path)
        return self.local(path).read_bytes()

    def params(self) -> dict[str, Any]:
        """Return what its params.yaml says.

        Raises:
            UserError: when it has none, or one that is no mapping in YAML.
        """
        try:
            params = yaml.safe_load(self.read_bytes("params.yaml"))
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise UserError(
                f"params.yaml of {self} cannot be read ({error}); name another revision"
            ) from error
        if not isinstance(params, dict):
            raise UserError(f"params.yaml of {self} is no mapping; name another revision")
        return params

    def recorded(self, stage: str) -> dict[str, Any] | None:
        """Return the parameters with which DVC last ran a stage, None where dvc.lock knows of no run.

        Raises:
            UserError: when there is a dvc.lock that cannot be read.
        """
        if not self.exists("dvc.lock"):
            return None
        try:
            stages = yaml.safe_load(self.read_bytes("dvc.lock"))["stages"]
            params: dict[str, Any] | None = (
                stages[stage]["params"]["params.yaml"] if stage in stages else None
            )
        except (ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"dvc.lock of {self} cannot be read; restore it with `git checkout dvc.lock`"
            ) from error
        return params

    def local(self, path: str) -> Path:
        """Return a file on this machine with the bytes of a file of the revision, to read and not to change.

        It is the cache's own file; one that the cache lacks is fetched into it from the remote, and held
        against its digest there. A file that git keeps is written below DVC's folder for temporary files.

        Raises:
            UserError: when the revision has no such file, or its bytes can be had nowhere.
        """
        if self.files is None:
            if not (self.root / path).is_file():
                self._absent("file", path)
            return self.root / path
        info = self._info(self.files, path)
        if info is None or info["type"] != "file":
            self._absent("file", path)
        if "fs_info" not in info:  # git does not keep it
            return self._tracked(path, *self.files.repo.get_data_index_entry(path))
        content = self._committed(self.files, path)
        target = Path(self.files.repo.tmp_dir) / "revisions" / hashlib.sha256(content).hexdigest()
        if not target.exists():
            with replacing(target) as temporary:
                temporary.write_bytes(content)
        return target

    def _info(self, files: "DVCFileSystem", path: str) -> dict[str, Any] | None:
        from dvc.exceptions import DvcException
        from dvc_data.index.index import DataIndexDirError

        try:
            info: dict[str, Any] = files.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (DvcException, ImportError) as error:  # DVC opens the remote with its index of files
            self._missing(path, f": {error}")
        except DataIndexDirError as error:
            self._missing(path, f": {error.__cause__}" if _is_trouble(error.__cause__) else "")
        return info

    def _committed(self, files: "DVCFileSystem", path: str) -> bytes:
        if files.isdir(path):
            self._absent("file", path)
        with files.open(path, "rb") as file:
            content: bytes = file.read()
        return content

    def _tracked(self, path: str, index: "DataIndex", entry: "DataIndexEntry") -> Path:
        """Return the cache's file of what DVC tracks, fetched where it must be."""
        if entry.hash_info is None or entry.hash_info.value is None:
            raise UserError(
                f"dvc.lock of {self} holds no digest of {path}: it was committed before `dvc repro` made it; "
                "name another revision"
            )
        digest = entry.hash_info.value
        cache = index.storage_map.get_cache_odb(entry)
        kept = Path(cache.oid_to_path(digest))
        if kept.exists():
            return kept
        try:
            remote, source = index.storage_map.get_remote(entry)
            held = remote.exists(source)
            if held:
                cache.add(source, remote, digest, verify=True)  # a copy that differs is removed again
        except (KeyError, ValueError):
            self._missing(path)
        except Exception as error:  # every kind of storage raises errors of its own
            self._missing(path, f": {error}")
        if not held:
            self._missing(path)
        if not kept.exists():
            raise UserError(
                f"{path} of {self} is damaged in the remote: its bytes have another digest than dvc.lock says; "
                "push it again from a machine that has it"
            )
        return kept

    def _absent(self, kind: str, path: str) -> NoReturn:
        if self.files is None:
            raise UserError(
                f"the workspace has no {kind} {path}; restore it with `dvc checkout` or `dvc pull`"
            )
        raise UserError(
            f"{self} has no {kind} {path}; see what it has with `git ls-tree` and `dvc list . --rev`"
        )

    def _missing(self, path: str, trouble: str = "") -> NoReturn:
        if not self.remote:
            raise UserError(
                f"{path} of {self} is not in the cache, and no remote is configured; "
                "add one with `dvc remote add --default` and run `make push` on a machine that has it"
            )
        if trouble:
            raise UserError(
                f"{path} of {self} cannot be looked for in remote {self.remote}{trouble}; "
                "mend its settings with `dvc remote modify`"
            )
        raise UserError(
            f"{path} of {self} is neither in the cache nor in remote {self.remote}: it was never pushed; "
            "run `make push` on a machine that has it"
        )


def open_revision(rev: str, root: Path = Path()) -> Revision:
    """Return the files of a revision.

    Args:
        rev: whatever git takes for a commit, or `workspace` for the files on disk.
        root: the root of the repository.

    Raises:
        UserError: when the root is no git repository with DVC, or git knows no such revision.
    """
    if rev == WORKSPACE:
        return Revision(name=rev, commit="", root=root, remote="", files=None)
    if not rev:
        raise _unknown(rev)
    from dvc.api import DVCFileSystem
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import RevError, SCMError

    try:
        with Repo(str(root)) as repo:
            config = {name: repo.config[name] for name in ("core", "remote", "cache")}
            config["cache"] = {**config["cache"], "dir": repo.cache.local_cache_dir}
    except NotDvcRepoError as error:
        raise UserError(
            f"{root.absolute()} is in no DVC repository; run this in a clone of freshbits"
        ) from error
    except SCMError as error:
        raise UserError(
            f"{root.absolute()} is in no git repository; run this in a clone of freshbits"
        ) from error
    try:
        files = DVCFileSystem(str(root), rev=rev, config=config)
        commit: str = files.repo.get_rev()
    except (RevError, AttributeError, UnicodeError) as error:  # a name such as HEAD:README.md is of no commit
        raise _unknown(rev) from error
    except NotDvcRepoError as error:
        raise UserError(f"revision {rev} has no .dvc folder; name one since freshbits began") from error
    remote: str = config["core"].get("remote", "")
    return Revision(name=rev, commit=commit, root=root, remote=remote, files=files)


def _unknown(rev: str) -> UserError:
    return UserError(
        f"git knows no revision {rev!r}; name a commit, branch or tag, or `{WORKSPACE}` for the files on disk"
    )


def _is_trouble(error: BaseException | None) -> bool:
    """Return whether a remote failed, rather than said that it lacks something."""
    return error is not None and not isinstance(error, FileNotFoundError)
