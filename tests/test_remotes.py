"""What was collected once is restored from a remote, in every version, and never scraped again in its stead."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from test_refresh import PAPERS, serve, variables
from test_refresh_command import change, cron, entry, repository

from collectors import collect
from collectors.__main__ import main
from samples import ROOT, InstantClock
from world import World, running

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
AUTHOR = ("-c", "user.name=Tests", "-c", "user.email=tests@freshbits.example")
CORPUS = "corpora/papers-2026-09/documents.parquet"


def run(folder: Path, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder."""
    return subprocess.run(
        command, cwd=folder, env={**ENVIRONMENT, **more}, capture_output=True, text=True, check=False
    )


def done(folder: Path, *command: str, **more: str) -> str:
    """Run a command that must succeed; return what it printed, errors too."""
    result = run(folder, *command, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def push(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Run `make push` with the Makefile as it is, in an environment that is set up."""
    there = (f"BIN={Path(sys.executable).parent}", "READY=Makefile")
    # It stands for what `make setup` makes, which is older than none of what that is made of.
    (folder / "Makefile").touch()
    return run(folder, "make", "--silent", "push", *there, *more)


def remote(folder: Path, name: str, url: str, **settings: str) -> None:
    """Do what `dvc remote add --default --local` does."""
    lines = [f"{key} = {value}" for key, value in {"url": url, **settings}.items()]
    text = "\n".join(["[core]", f"remote = {name}", f"['remote \"{name}\"']", *lines])
    (folder / ".dvc" / "config.local").write_text(text)


def pull(folder: Path) -> None:
    """Do what `dvc pull` does."""
    with Repo(str(folder)) as repo:
        repo.pull()


def all_versions(folder: Path) -> dict[str, str]:
    """Return what lets DVC see the remote from commits that are older than it."""
    return {"DVC_SYSTEM_CONFIG_DIR": str(folder / ".dvc")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A repository with two versions of a corpus, the second with a remote, and the world it came from.

    Attributes:
        folder: of the repository; its tags `first` and `second` are the versions.
        store: its remote, a folder.
        world: on loopback.
        given: the environment of a collection from it.
        versions: bytes of the corpus by tag.
    """

    folder: Path
    store: Path
    world: World
    given: dict[str, str]
    versions: dict[str, bytes]

    def clone(self, folder: Path, tag: str = "second") -> Path:
        """Clone a version, without its data."""
        done(self.folder.parent, "git", "clone", "--quiet", "--branch", tag, str(self.folder), str(folder))
        return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A snapshot of papers, built and committed, and built anew with another filter once it has a remote."""
    base = tmp_path_factory.mktemp("published")
    papers = {"papers-2026-09": entry(PAPERS, "2026-09-01", "2026-10-01", max_documents=1)}
    folder, store = repository(base / "repository", papers, {}, last="dedup"), base / "store"
    versions = {}
    with running() as world, pytest.MonkeyPatch.context() as patch:
        serve(world, base / "served")
        given = variables(base, world)
        patch.chdir(folder)
        patch.setattr(collect, "SystemClock", InstantClock)
        for name, value in given.items():
            patch.setenv(name, value)
        for name in ("pyproject.toml", "constraints.txt", "Makefile"):
            shutil.copy(ROOT / name, folder)
        for tag, steps, day in (
            ("first", ("collect", "extract", "dedup"), "2026-10-20T12:00:00Z"),
            ("second", ("dedup",), "2026-11-20T12:00:00Z"),
        ):
            # What `dvc repro` would run, without a process for each.
            assert not any(map(main, product(steps, papers)))
            with Repo(".") as repo:
                repo.commit(force=True)
            done(folder, "git", "add", "--all")
            done(folder, "git", *AUTHOR, "commit", "--quiet", "--message", tag, GIT_COMMITTER_DATE=day)
            done(folder, "git", "tag", tag)
            versions[tag] = (folder / CORPUS).read_bytes()
            if tag == "first":
                change(folder, lambda params: params["filters"]["papers"].update(min_characters=1500))
                done(folder, "dvc", "remote", "add", "--default", "store", str(store))
        assert push(folder).returncode == 0
        world.asked.clear()
        for name in given:
            patch.delenv(name)
        yield Published(folder=folder, store=store, world=world, given=given, versions=versions)


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """How to push from a folder: what the command says, or its error."""

    def ask(folder: Path, *arguments: str) -> Any:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        status = main(["push", "--json", *arguments])
        printed = capsys.readouterr()
        assert (status == 2) is printed.err.startswith("error: ")
        return printed.err if status else json.loads(printed.out)

    return ask


def complete(folder: Path, published: Published) -> None:
    """Hold a clone against what was published: the same bytes, nothing to do, and nothing asked of the world."""
    for path in (path for path in published.folder.rglob("*") if path.is_file()):
        name = path.relative_to(published.folder)
        if name.parts[0] in {"corpora", "results"}:
            assert (folder / name).read_bytes() == path.read_bytes(), name
    assert "Data and pipelines are up to date." in done(folder, "dvc", "repro", **published.given)
    assert not published.world.asked


@pytest.mark.slow
def test_a_clone_without_data_says_what_to_do_and_scrapes_nothing(
    published: Published, tmp_path: Path
) -> None:
    """Without cache and remote there is one line; with the web open a refresh refuses too."""
    folder = published.clone(tmp_path / "clone", "first")
    refused = run(folder, "dvc", "repro", "--pull", "collect@papers-2026-09")
    assert refused.returncode != 0
    assert "would be scraped from the web" in refused.stderr
    assert "restore it with `dvc pull` from a remote that holds it" in refused.stderr
    lost = cron(folder, **published.given)
    assert lost.returncode == 2
    assert "papers-2026-09 was collected before and is not on this machine" in lost.stderr
    assert not published.world.asked


@pytest.mark.slow
def test_a_clone_with_a_remote_has_everything(published: Published, tmp_path: Path) -> None:
    """Raw bytes, documents and corpora come from the remote; no stage runs."""
    folder = published.clone(tmp_path / "clone")
    assert "Running stage" not in done(folder, "dvc", "repro", "--pull", **published.given)
    complete(folder, published)


@pytest.mark.slow
def test_a_version_that_is_older_than_its_remote_is_restored(published: Published, tmp_path: Path) -> None:
    """Its own configuration names no remote; one of the clone, which git does not track, holds for all versions."""
    folder = published.clone(tmp_path / "clone", "first")
    assert "no remote" in run(folder, "dvc", "pull").stderr.lower()
    remote(folder, "store", str(published.store))
    done(folder, "dvc", "pull")
    assert (folder / CORPUS).read_bytes() == published.versions["first"] != published.versions["second"]
    done(folder, "git", "checkout", "--quiet", "second")
    done(folder, "dvc", "pull")
    assert (folder / CORPUS).read_bytes() == published.versions["second"]


@pytest.mark.slow
def test_only_a_push_of_all_commits_keeps_earlier_versions(
    published: Published, tmp_path: Path, pushed: Callable[..., Any]
) -> None:
    """A plain push gives the current one; ours gives all, and names what is missing here and there."""
    alone, store = published.clone(tmp_path / "alone"), str(tmp_path / "store")
    pull(alone)
    remote(alone, "other", store)
    done(alone, "dvc", "push")
    clone = published.clone(tmp_path / "clone", "first")
    remote(clone, "other", store)
    assert run(clone, "dvc", "pull").returncode != 0

    first = done(alone, "git", "rev-parse", "first")[:7]
    assert f"neither the remote nor this machine has corpora/papers-2026-09 of {first}; push from" in pushed(
        alone
    )
    assert "error: neither the remote" in push(alone).stderr
    done(alone, "dvc", "fetch", "--all-commits", "--remote", "store", **all_versions(alone))
    said = pushed(alone)
    assert 0 < said["sent"] == said["sent_of_earlier_commits"] < said["named"]
    assert pushed(alone) == {**said, "sent": 0, "sent_of_earlier_commits": 0}
    pull(clone)
    assert (clone / CORPUS).read_bytes() == published.versions["first"]


@pytest.mark.slow
def test_what_a_remote_has_lost_is_sent_again(
    published: Published, tmp_path: Path, pushed: Callable[..., Any]
) -> None:
    """DVC believes its notes; the remote itself is asked, also for the files of a folder whose listing it has."""
    folder, store = tmp_path / "repository", tmp_path / "store"
    shutil.copytree(published.folder, folder, symlinks=True)
    shutil.copytree(published.store, store)
    remote(folder, "other", str(store))
    done(folder, "dvc", "push", "--all-commits", **all_versions(folder))
    held = {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert any(path.suffix == ".dir" for path in held)

    def lost(*paths: Path) -> None:
        for path in paths:
            (store / path).unlink()

    files = [path for path in held if path.suffix != ".dir"]
    lost(*files)
    done(folder, "dvc", "push", "--all-commits", **all_versions(folder))
    still = [path for path in files if not (store / path).exists()]
    assert len(still) > len(files) / 2
    assert pushed(folder)["sent"] == len(still)
    lost(*held)
    assert pushed(folder)["sent"] == len(held)
    assert {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()} == held

    gone = min(files)
    lost(gone)
    (folder / ".dvc" / "cache" / gone).unlink()
    assert "neither the remote nor this machine has corpora/" in pushed(folder)
    assert "the remote holds" in push(folder).stdout


@pytest.mark.slow
def test_what_was_purged_is_not_sent_again(
    published: Published, tmp_path: Path, pushed: Callable[..., Any]
) -> None:
    """A clone that still has it, and one that has not, push what counts since the day of the purge alone."""
    folder, store = tmp_path / "repository", tmp_path / "store"
    shutil.copytree(published.folder, folder, symlinks=True)
    remote(folder, "other", str(store))
    assert push(folder, "SINCE=2026-11-01").returncode == 0
    purged = published.clone(tmp_path / "purged")
    remote(purged, "other", str(store))
    pull(purged)
    assert pushed(purged, "--since", "2026-11-01")["sent"] == 0
    assert "if they were purged, name the day of the purge as `--since`" in pushed(purged)
    assert pushed(folder)["sent_of_earlier_commits"] > 0
    assert pushed(purged)["missing"] == []


@pytest.mark.slow
def test_a_push_that_cannot_be_is_one_line(
    published: Published, tmp_path: Path, pushed: Callable[..., Any]
) -> None:
    """No repository, no remote, one that is no folder; a day that is none."""
    assert pushed(tmp_path).startswith("error: cannot push: you are not inside of a DVC repository")
    folder = published.clone(tmp_path / "clone", "first")
    assert "no remote specified" in pushed(folder)
    (tmp_path / "file").touch()
    remote(folder, "other", str(tmp_path / "file"))
    assert pushed(folder).startswith("error: the remote cannot be reached: ")
    with pytest.raises(SystemExit, match="2"):
        main(["push", "--since", "yesterday"])


@pytest.mark.slow
@pytest.mark.parametrize(("scope", "stays"), [("--workspace", False), ("--all-commits", True)])
def test_collecting_garbage_by_the_workspace_destroys_earlier_versions(
    published: Published, tmp_path: Path, scope: str, stays: bool
) -> None:
    """What only an earlier commit names is garbage to `dvc gc --workspace`."""
    folder = published.clone(tmp_path / "clone")
    pull(folder)
    done(folder, "dvc", "fetch", "--all-commits", **all_versions(folder))
    done(folder, "dvc", "gc", scope, "--force")
    done(folder, "git", "checkout", "--quiet", "first")
    assert (run(folder, "dvc", "checkout").returncode == 0) is stays
