"""What was collected once is restored from a remote, in every version, and never scraped again in its stead."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_refresh import PAPERS, serve, variables
from test_refresh_command import change, cron, entry, repository

from samples import ROOT
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


def push(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `make push` with the Makefile as it is, in an environment that is set up."""
    return run(folder, "make", "--silent", "push", f"BIN={Path(sys.executable).parent}", "READY=Makefile")


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
    folder, store = repository(base / "repository", papers, {}), base / "store"
    versions = {}
    with running() as world:
        serve(world, base / "served")
        given = variables(base, world)
        # The Makefile last: it stands for what `make setup` makes, which is older than neither of the others.
        for name in ("pyproject.toml", "constraints.txt", "Makefile"):
            shutil.copy(ROOT / name, folder)
        for tag in ("first", "second"):
            done(folder, "dvc", "repro", **given)
            done(folder, "git", "add", "--all")
            done(folder, "git", *AUTHOR, "commit", "--quiet", "--message", tag)
            done(folder, "git", "tag", tag)
            versions[tag] = (folder / CORPUS).read_bytes()
            if tag == "first":
                change(folder, lambda params: params["filters"]["papers"].update(min_characters=1500))
                done(folder, "dvc", "remote", "add", "--default", "store", str(store))
        assert push(folder).returncode == 0
        world.asked.clear()
        yield Published(folder=folder, store=store, world=world, given=given, versions=versions)


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
@pytest.mark.parametrize("command", [("dvc", "pull"), ("dvc", "repro", "--pull")])
def test_a_clone_with_a_remote_has_everything(
    published: Published, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Raw bytes, corpora, scores and report come from the remote; no stage runs."""
    folder = published.clone(tmp_path / "clone")
    assert "Running stage" not in done(folder, *command, **published.given)
    complete(folder, published)


@pytest.mark.slow
def test_a_version_that_is_older_than_its_remote_is_restored(published: Published, tmp_path: Path) -> None:
    """Its own configuration names no remote; one of the clone, which git does not track, holds for all versions."""
    folder = published.clone(tmp_path / "clone", "first")
    assert "no remote" in run(folder, "dvc", "pull").stderr.lower()
    done(folder, "dvc", "remote", "add", "--default", "--local", "store", str(published.store))
    done(folder, "dvc", "pull")
    assert (folder / CORPUS).read_bytes() == published.versions["first"] != published.versions["second"]
    done(folder, "git", "checkout", "--quiet", "second")
    done(folder, "dvc", "pull")
    assert (folder / CORPUS).read_bytes() == published.versions["second"]


@pytest.mark.slow
def test_only_a_push_of_all_commits_keeps_earlier_versions(published: Published, tmp_path: Path) -> None:
    """A plain push gives the current one; `make push` gives all, and fails where data are missing everywhere."""
    alone, store = published.clone(tmp_path / "alone"), str(tmp_path / "store")
    done(alone, "dvc", "pull")
    done(alone, "dvc", "remote", "add", "--default", "--local", "other", store)
    done(alone, "dvc", "push")
    clone = published.clone(tmp_path / "clone", "first")
    done(clone, "dvc", "remote", "add", "--default", "--local", "other", store)
    assert run(clone, "dvc", "pull").returncode != 0

    incomplete = push(alone)
    assert incomplete.returncode != 0
    assert "error: the remote lacks data of some commit" in incomplete.stderr
    done(alone, "dvc", "fetch", "--all-commits", "--remote", "store", **all_versions(alone))
    assert push(alone).returncode == 0
    done(clone, "dvc", "pull")
    assert (clone / CORPUS).read_bytes() == published.versions["first"]


@pytest.mark.slow
@pytest.mark.parametrize(("scope", "stays"), [("--workspace", False), ("--all-commits", True)])
def test_collecting_garbage_by_the_workspace_destroys_earlier_versions(
    published: Published, tmp_path: Path, scope: str, stays: bool
) -> None:
    """What only an earlier commit names is garbage to `dvc gc --workspace`."""
    folder = published.clone(tmp_path / "clone")
    done(folder, "dvc", "pull")
    done(folder, "dvc", "fetch", "--all-commits", **all_versions(folder))
    done(folder, "dvc", "gc", scope, "--force")
    done(folder, "git", "checkout", "--quiet", "first")
    assert (run(folder, "dvc", "checkout").returncode == 0) is stays
