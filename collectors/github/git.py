"""Git as it must be used on strangers' repositories: the history first, then only the files that are asked for.

A clone is bare and without blobs (`--filter=blob:none`, partial clone): commits and trees tell which
contents came and went where, and the few contents that must be compared are then fetched in batches.
Left to itself, git fetches what is missing one blob at a time.

A repository is hostile input. Nothing is checked out, so nothing in it is run: no hooks, no filters, no
submodules, no links followed. git runs with an environment of its own, without the user's settings,
credentials and proxies; it speaks https to the addresses that were checked, or reads a local folder,
and nothing else; it follows no redirects; its time, disk and memory are bounded, and it is ended with
all its children.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from collectors.document import UserError
from collectors.warc import AGENT
from collectors.web.addresses import BrokenError, RefusedError, public_addresses

SECONDS = 900.0
MAX_BYTES = 1 << 30
MAX_MEMORY = 2 << 30
_POLL = 0.2  # seconds between looks at disk and processes
_PROCESSES = 50
_NO_MEMORY = re.compile("out of memory|cannot allocate", re.IGNORECASE)
OLDEST = (2, 37)  # the first with http.curloptResolve
_GONE = re.compile("repository '.*' not found|could not read Username|Authentication failed")
_ADDRESS = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9_.~+-]+)+/?")


class GitError(UserError):
    """A repository that could not be had or read; trying again later may help, unless it is gone."""


class GoneError(GitError):
    """A repository that is not there, or not for everybody; another run will not have it either."""


class TooLargeError(GitError):
    """A repository beyond the bounds on disk, memory or text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """A bare clone of one branch, and the bounds within which git works on it; made by `cloned`.

    Attributes:
        folder: scratch folder with the clone in `repository`.
        environment: all that git sees.
        deadline: of `time.monotonic`, for everything that is done with the clone.
        max_bytes: bound on the folder.
        max_memory: bound on the address space of each process. A few nested trees can stand for billions
            of files, and git lists them in memory.
        partial: whether blobs are missing, which not every server does.
    """

    folder: Path
    environment: Mapping[str, str]
    deadline: float
    max_bytes: int
    max_memory: int
    partial: bool = False

    def run(self, *arguments: str, lines: Iterable[str] = ()) -> Path:
        """Run git on the clone, and return the file of what it wrote; the next run overwrites it.

        Args:
            arguments: of git.
            lines: its standard input.

        Raises:
            GitError: when it failed, or did not end in time.
            TooLargeError: when disk or memory went beyond its bound.
        """
        return _run(self, ["git", "--git-dir=repository", *arguments], lines)


def require() -> None:
    """Raise unless there is a git that can pin the address of a host.

    Raises:
        UserError: when git is missing or too old.
    """
    try:
        said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        said = ""
    version = re.search(r"(\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < OLDEST:
        raise UserError(
            f"source github needs git {'.'.join(map(str, OLDEST))} or later, not {said.strip() or 'none'!r}; install it"
        )


@contextmanager
def cloned(
    address: str,
    *,
    user_agent: str = AGENT,
    scratch: Path | None = None,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
    max_memory: int = MAX_MEMORY,
) -> Iterator[Git]:
    """Clone the default branch of a repository without its blobs, and remove the clone afterwards.

    Args:
        address: an https address, or an absolute path for a folder on this machine. A path must come
            from the user, never from the web.
        user_agent: who asks, and how to reach them.
        scratch: where the temporary folder is made; the system's usual place by default.
        seconds: bound on everything that is done with the clone.
        max_bytes: bound on its disk.
        max_memory: bound on the address space of each process.

    Raises:
        UserError: when the address is of another kind.
        GitError: when the repository could not be had.
        TooLargeError: when it exceeds one of the bounds.
    """
    folder = Path(tempfile.mkdtemp(prefix="freshbits-git-", dir=scratch))
    try:
        settings, source, protocol = _settings(address, os.environ.get("FRESHBITS_LOOPBACK"), user_agent)
        (folder / "gitconfig").write_text(settings)
        git = Git(
            folder=folder,
            environment=_environment(folder, protocol),
            deadline=time.monotonic() + seconds,
            max_bytes=max_bytes,
            max_memory=max_memory,
        )
        if protocol == "file":
            _refuse_shallow(_run(git, ["git", "-C", address, "rev-parse", "--is-shallow-repository"], ()))
        clone = ("clone", "--quiet", "--bare", "--filter=blob:none", "--single-branch", "--no-tags")
        _run(git, ["git", *clone, "--template=", "--", source, "repository"], ())
        _refuse_shallow(git.run("rev-parse", "--is-shallow-repository"))
        # From here on git fetches nothing on its own: what is missing is an error, not another request.
        for name in ("promisor", "partialclonefilter"):
            git.run("config", "--unset", f"remote.origin.{name}")
        objects = ("rev-list", "--objects", "--no-object-names", "--missing=print", "--max-count=1", "--all")
        yield replace(git, partial=b"?" in git.run(*objects).read_bytes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_shallow(answer: Path) -> None:
    if answer.read_text().strip() != "false":
        raise GitError("its history is cut off; where it is yours, run `git fetch --unshallow` in it")


def _run(git: Git, command: list[str], lines: Iterable[str]) -> Path:
    """Run a command to its end within the bounds, and return the file of what it wrote."""
    given, output, errors = (git.folder / name for name in ("in", "out", "err"))
    given.write_text("".join(f"{line}\n" for line in lines))
    with given.open("rb") as stdin, output.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            # The shell sets the bound before git starts, so that every child has it too.
            ["sh", "-c", f'ulimit -v {git.max_memory >> 10} && exec "$@"', "sh", *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=git.folder,
            env=git.environment,
            start_new_session=True,
        )
        try:
            _wait(process, git)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode:
        said = errors.read_text("utf-8", "replace").replace(str(git.folder), "").split("\n")
        reason = next((line for line in reversed(said) if line.strip()), f"status {process.returncode}")
        if _NO_MEMORY.search(reason):
            raise TooLargeError(f"it needs more than {git.max_memory:,} bytes of memory")
        kind = GoneError if _GONE.search(reason) else GitError
        raise kind(f"git failed: {' '.join(reason.split())[:200]}")
    return output


def _wait(process: "subprocess.Popen[bytes]", git: Git) -> None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL)
        if _size(git.folder) > git.max_bytes:
            raise TooLargeError(f"it needs more than {git.max_bytes:,} bytes on disk")
        if process.returncode is not None:
            return
        if time.monotonic() > git.deadline:
            raise GitError("git did not end in time")
        with suppress(psutil.NoSuchProcess):
            # For an object that the server never gives, git calls itself again and again.
            if len(psutil.Process(process.pid).children(recursive=True)) > _PROCESSES:
                raise GitError("git starts more and more processes; its history may be cut off or damaged")


def _settings(address: str, loopback: str | None, user_agent: str = AGENT) -> tuple[str, str, str]:
    """Return git's settings for an address, the address as git gets it, and the one protocol allowed."""
    lines = [
        *("[core]", "hooksPath = /dev/null"),
        *("[credential]", "helper ="),
        *("[gc]", "auto = 0", "[maintenance]", "auto = false"),
        *(
            "[fetch]",
            "recurseSubmodules = false",
            "negotiationAlgorithm = noop",
            "[transfer]",
            "bundleURI = false",
        ),
        *("[protocol]", "version = 2"),
        *(
            "[http]",
            "followRedirects = false",
            "proxy =",
            f"userAgent = {_quoted(user_agent)}",
            "lowSpeedLimit = 1000",
            "lowSpeedTime = 60",
        ),
    ]
    if Path(address).is_absolute():
        # A repository on this machine is asked as a server would be, which by default filters nothing.
        lines += ["[uploadpack]", "allowFilter = true", "allowAnySHA1InWant = true"]
        return "\n".join(lines) + "\n", Path(address).as_uri(), "file"
    if not _ADDRESS.fullmatch(address):
        raise UserError(
            f"repository {address!r} is neither an https address without user, query and spaces, nor a folder; give "
            "such as https://github.com/owner/name"
        )
    parts = urlsplit(address)
    if loopback is not None:
        lines += [f'[url "http://127.0.0.1:{int(loopback)}/git/{parts.netloc}/"]']
        lines += [f"insteadOf = https://{parts.netloc}/"]
        return "\n".join(lines) + "\n", address, "http"
    try:
        host, port = parts.hostname or "", parts.port or 443
        addresses = public_addresses(host, port)
    except (BrokenError, RefusedError, ValueError) as error:
        raise GitError(f"{address}: {error}") from error
    pinned = ",".join(f"[{ip}]" if ":" in ip else ip for ip in addresses)
    lines += [f"curloptResolve = {host}:{port}:{pinned}"]
    return "\n".join(lines) + "\n", address, "https"


def _quoted(value: str) -> str:
    """Return a value as git's settings hold it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _environment(folder: Path, protocol: str) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder, as far as they stay while it is looked at."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118  called often
    return total
