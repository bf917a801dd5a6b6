"""The command `push`: the data of all commits to the remote, and whether it holds them.

`dvc push` believes its own notes of what a remote holds, and takes a folder whose listing is there for complete.
It gives a remote nothing of what it has lost since. Here the remote itself is asked, for every file.
"""

import argparse
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc_data.hashfile.transfer import transfer
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from scmrepo.exceptions import SCMError
from tqdm import tqdm

from collectors.commands.places import line
from collectors.document import UserError

_LISTED = 5
_TELLING = {"dvc.lock", "dvc.yaml", "params.yaml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a push did.

    Attributes:
        n_named: files, and listings of folders, that commits name.
        n_held: those of them that the remote has now.
        n_sent: those of them that the remote lacked and got.
        n_earlier: how many of those neither the workspace nor HEAD name.
        missing: those that are neither here nor there, as `path of commit`, or `path of the workspace`.
    """

    n_named: int
    n_held: int
    n_sent: int
    n_earlier: int
    missing: list[str]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add from which day on."""
    command.add_argument(
        "--since",
        metavar="YYYY-MM-DD",
        type=_day,
        help="pass over commits before this day, such as those from before a text was purged (default: none)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Send what the remote lacks, and say what nobody has.

    Raises:
        UserError: when data of a commit are neither here nor in the remote, or it cannot be reached.
    """
    with _explained(), Repo() as repo, lock_repo(repo):
        sent = push(repo, arguments.since)
    if arguments.json:
        facts = {"named": sent.n_named, "sent": sent.n_sent, "sent_of_earlier_commits": sent.n_earlier}
        print(json.dumps({**facts, "missing": sent.missing}, indent=2))
    else:
        earlier = f", {sent.n_earlier:,} for earlier commits alone" if sent.n_earlier else ""
        held = f"the remote holds {sent.n_held:,} of {sent.n_named:,} files that commits name"
        print(f"{held}; sent {sent.n_sent:,}{earlier}")
    if sent.missing:
        told = ", ".join(sent.missing[:_LISTED])
        more = f" and {len(sent.missing) - _LISTED:,} more" if len(sent.missing) > _LISTED else ""
        raise UserError(
            f"neither the remote nor this machine has {told}{more}; push from the machine that made them, or, if they "
            "were purged, name the day of the purge as `--since`"
        )


def push(repo: Repo, since: str | None) -> Sent:
    """Send the remote what it lacks of the data that commits and the workspace name.

    Args:
        repo: whose default remote is meant, as it is configured now, for earlier commits too.
        since: day of the first commits that count, None for all.

    Raises:
        UserError: when something could not be sent.
    """
    cache, remote = repo.cache.local, repo.cloud.get_remote_odb(command="push")
    commits = {"commit_date": since} if since else {"all_commits": True}
    named: dict[Any, str] = {}
    current: set[Any] = set()
    versions: dict[tuple[bytes, ...], dict[Any, str]] = {}
    head = repo.scm.get_rev()
    for commit in tqdm(repo.brancher(sha_only=True, **commits), desc="commits", unit="commit", disable=None):
        recorded = () if commit == "workspace" else _recorded(repo)
        if recorded not in versions:  # to resolve a pipeline takes DVC a second, and few commits change it
            versions[recorded] = _named(repo, cache, remote)
        here = versions[recorded]
        if commit in {"workspace", head}:
            current |= here.keys()
        of = "the workspace" if commit == "workspace" else commit[:7]
        named = {info: f"{place} of {of}" for info, place in here.items()} | named
    unsent = lacking = _lacked(remote, named)
    if lacking:
        # No index: neither the remote's, which may be wrong, nor what it would take for granted of folders.
        transfer(cache, remote, lacking, cache_odb=cache)
        unsent = _lacked(remote, lacking)
    missing = sorted(named[info] for info in _lacked(cache, unsent))
    if unsent and not missing:
        raise UserError(f"the remote did not take {named[min(unsent, key=named.__getitem__)]}; push again")
    got = lacking - unsent
    return Sent(
        n_named=len(named),
        n_held=len(named) - len(unsent),
        n_sent=len(got),
        n_earlier=len(got - current),
        missing=missing,
    )


def _recorded(repo: Repo) -> tuple[bytes, ...]:
    """Return all that tells which data a commit names."""
    files = sorted(repo.fs.find(repo.root_dir))
    telling = (file for file in files if file.endswith(".dvc") or repo.fs.name(file) in _TELLING)
    return tuple(part for file in telling for part in (file.encode(), repo.fs.cat_file(file)))


def _named(repo: Repo, cache: Any, remote: Any) -> dict[Any, str]:
    """Return what the outputs of a version consist of, by digest; the listings of folders too."""
    named: dict[Any, str] = {}
    for out in repo.index.outs:
        if not (out.use_cache and out.can_push and out.hash_info):
            continue
        place = str(out.def_path)
        named[out.hash_info] = place
        for holder in (cache, remote) if out.is_dir_checksum else ():
            try:
                tree = Tree.load(holder, out.hash_info)
            except (FileNotFoundError, ObjectFormatError):
                continue
            named |= {info: f"{place}/{'/'.join(key)}" for key, _, info in tree}
            break
    return named


def _lacked(store: Any, wanted: Collection[Any]) -> set[Any]:
    """Return what a cache or remote does not hold, as it says itself now."""
    held = frozenset(store.oids_exist({info.value for info in wanted}) if wanted else ())
    return {info for info in wanted if info.value not in held}


@contextmanager
def _explained() -> Iterator[None]:
    """Say in a line what DVC, git or a remote could not do."""
    try:
        yield
    except UserError:
        raise
    except (DvcException, SCMError) as error:
        told = line(error.__cause__ or error)
        raise UserError(f"cannot push: {told}; docs/versions.md says how to have a remote") from error
    except Exception as error:  # each kind of remote has errors of its own
        raise UserError(
            f"the remote cannot be reached: {line(error) or type(error).__name__}; check its address and your "
            "credentials, and push again"
        ) from error


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no day as YYYY-MM-DD") from None
