"""Any revision's files, out of git, DVC's cache and its remotes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.document import UserError
from collectors.revisions import WORKSPACE, open_revision

CORPUS = "corpora/moss"
DOCUMENTS = f"{CORPUS}/documents.parquet"


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder as somebody; return what it printed."""
    who = ("-c", "user.name=Moss", "-c", "user.email=moss@freshbits.example")
    command = ("git", *who, *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in a folder, in a process of its own as a person does."""
    subprocess.run((sys.executable, "-m", "dvc", *arguments), cwd=folder, check=True)


def commit(folder: Path, text: str) -> str:
    """Give the corpus a text, track it with DVC and the rest with git; return the commit."""
    target = folder / DOCUMENTS
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    (target.parent / "raw").mkdir(exist_ok=True)
    (target.parent / "raw" / "shard").write_text(f"raw {text}")
    (folder / "params.yaml").write_text(f"snapshots: {{moss: {{content: {text}}}}}\n")
    dvc(folder, "add", "--quiet", CORPUS)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two versions, the first of them tagged, and all of their data in a remote beside it."""
    folder = tmp_path_factory.mktemp("made") / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    dvc(folder, "init", "--quiet")
    commit(folder, "first")
    git(folder, "tag", "v1")
    commit(folder, "second")
    configure(folder)
    # The configuration of this machine holds for all commits, that in .dvc/config for later ones alone.
    (folder / ".dvc" / "config").rename(folder / ".dvc" / "config.local")
    dvc(folder, "push", "--quiet", "--all-commits")
    (folder / ".dvc" / "config.local").unlink()
    git(folder, "checkout", "--quiet", ".dvc/config")
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both to change, without what DVC remembers of files elsewhere on this machine."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    shutil.copytree(made.parent, tmp_path / "copy")
    return tmp_path / "copy" / "repository"


def configure(folder: Path) -> Path:
    """Configure a remote in the workspace alone, after all commits; return where it keeps its files."""
    where = folder.parent / "remote"
    (folder / ".dvc" / "config").write_text(
        f"['remote \"storage\"']\n    url = {where}\n[core]\n    remote = storage\n"
    )
    return where


def forget(folder: Path) -> None:
    """Empty the cache."""
    shutil.rmtree(folder / ".dvc" / "cache")


@pytest.mark.parametrize(
    ("rev", "text"), [("v1", "first"), ("HEAD~1", "first"), ("HEAD", "second"), (WORKSPACE, "third")]
)
def test_every_version_is_read_as_it_was(repository: Path, rev: str, text: str) -> None:
    """Files of git and files of DVC, by any name that git takes, and those on disk."""
    (repository / DOCUMENTS).unlink()
    (repository / DOCUMENTS).write_text("third")
    (repository / "params.yaml").write_text("snapshots: {moss: {content: third}}\n")
    revision = open_revision(rev, repository)
    assert revision.read_bytes(DOCUMENTS) == text.encode()
    assert revision.local(DOCUMENTS).read_text() == text
    assert revision.params() == {"snapshots": {"moss": {"content": text}}}
    assert revision.local("params.yaml").read_bytes() == revision.read_bytes("params.yaml")
    assert revision.commit == ("" if rev == WORKSPACE else git(repository, "rev-parse", rev))
    assert revision.name == rev


@pytest.mark.parametrize("rev", ["HEAD", WORKSPACE])
def test_folders_list_what_git_and_dvc_keep_in_them(repository: Path, rev: str) -> None:
    """Names, sorted; what is not there does not exist."""
    revision = open_revision(rev, repository)
    assert {".gitignore", "moss"} <= set(revision.listing("corpora"))
    assert revision.listing(CORPUS) == ["documents.parquet", "raw"]
    assert revision.listing(f"{CORPUS}/raw") == ["shard"]
    for path in ("params.yaml", "corpora", CORPUS, DOCUMENTS):
        assert revision.exists(path)
    for path in ("nothing", "corpora/nothing", f"{CORPUS}/nothing", "params.yaml/nothing"):
        assert not revision.exists(path)


def test_a_large_file_is_the_caches_own(repository: Path) -> None:
    """Nothing is copied, so that gigabytes can be read at once."""
    path = open_revision("v1", repository).local(DOCUMENTS)
    assert path.is_relative_to(repository / ".dvc" / "cache")
    assert path.samefile(open_revision("HEAD~1", repository).local(DOCUMENTS))


def test_what_the_cache_lacks_comes_from_the_remote_of_today(repository: Path) -> None:
    """A revision that is older than `dvc remote add` is fetched all the same, and then in the cache."""
    configure(repository)
    forget(repository)
    revision = open_revision("v1", repository)
    path = revision.local(DOCUMENTS)
    assert path.read_text() == "first"
    assert path.is_relative_to(repository / ".dvc" / "cache")
    assert revision.listing(CORPUS) == ["documents.parquet", "raw"]
    assert revision.read_bytes(f"{CORPUS}/raw/shard") == b"raw first"


def test_a_remote_that_was_committed_once_does_not_count(repository: Path) -> None:
    """The configuration of the workspace decides where an old version is looked for."""
    gone = configure(repository)
    git(repository, "commit", "--quiet", "--all", "-m", "a remote")
    gone.rename(gone.with_name("moved"))
    config = repository / ".dvc" / "config"
    config.write_text(config.read_text().replace(str(gone), str(gone.with_name("moved"))))
    forget(repository)
    assert open_revision("HEAD", repository).read_bytes(DOCUMENTS) == b"second"


def test_the_cache_of_today_serves_old_revisions(repository: Path) -> None:
    """A cache that was moved after the commit is found where the workspace says."""
    (repository / ".dvc" / "cache").rename(repository.parent / "elsewhere")
    (repository / ".dvc" / "config.local").write_text(
        f"[cache]\n    dir = {repository.parent / 'elsewhere'}\n"
    )
    assert open_revision("v1", repository).read_bytes(DOCUMENTS) == b"first"


def test_without_a_remote_the_message_says_how_to_get_one(repository: Path) -> None:
    """Files, and DVC's own list of a folder."""
    revision = open_revision("v1", repository)
    revision.local(DOCUMENTS).unlink()
    wanted = r"documents.parquet of revision v1 \(\w{7}\) is not in the cache, and no remote .*make push"
    with pytest.raises(UserError, match=wanted):
        revision.read_bytes(DOCUMENTS)


@pytest.mark.parametrize(("remote", "said"), [(False, "no remote is configured"), (True, "never pushed")])
def test_dvcs_list_of_a_folder_can_be_missing_too(repository: Path, remote: bool, said: str) -> None:
    """Without it nobody knows which files there were: an error, and not an empty folder."""
    if remote:
        shutil.rmtree(configure(repository))
    forget(repository)
    revision = open_revision("v1", repository)
    for ask in (revision.exists, revision.read_bytes, revision.local, revision.listing):
        with pytest.raises(UserError, match=said):
            ask(DOCUMENTS)


def test_what_was_never_pushed_is_said_to_be(repository: Path) -> None:
    """The remote is there and lacks the version."""
    shutil.rmtree(configure(repository))
    revision = open_revision("v1", repository)
    revision.local(DOCUMENTS).unlink()
    with pytest.raises(
        UserError, match="neither in the cache nor in remote storage: it was never pushed; run `make p"
    ):
        revision.local(DOCUMENTS)


def test_a_remote_that_cannot_be_asked_is_named(repository: Path) -> None:
    """A kind of storage that is not installed is no reason for a traceback."""
    (repository / ".dvc" / "config").write_text(
        "['remote \"storage\"']\n    url = hdfs://moss/bucket\n[core]\n    remote = storage\n"
    )
    revision = open_revision("HEAD", repository)
    with pytest.raises(
        UserError, match="cannot be looked for in remote storage: .*dvc-hdfs.*`dvc remote modify`"
    ):
        revision.local(DOCUMENTS)


def test_a_damaged_remote_is_found_out(repository: Path) -> None:
    """Bytes with another digest are neither returned nor kept."""
    where = configure(repository)
    kept = open_revision("v1", repository).local(DOCUMENTS)
    stored = where / kept.relative_to(repository / ".dvc" / "cache")
    stored.chmod(0o644)
    stored.write_text("First")
    kept.unlink()
    for _ in range(2):
        with pytest.raises(UserError, match="is damaged in the remote: its bytes have another digest"):
            open_revision("v1", repository).local(DOCUMENTS)
    assert not kept.exists()


@pytest.mark.parametrize(
    "rev", ["", "nothing", "HEAD~9", "HEAD:params.yaml", "f" * 40, "-x", "a b", "\udcff\udcfe"]
)
def test_an_unknown_revision_is_named(repository: Path, rev: str) -> None:
    """Whatever git does not take for a commit."""
    with pytest.raises(UserError, match=f"^git knows no revision {re.escape(repr(rev))}; name a commit"):
        open_revision(rev, repository)


@pytest.mark.parametrize("rev", ["v1", WORKSPACE])
@pytest.mark.parametrize("path", ["corpora/nothing", CORPUS])
def test_a_file_that_a_revision_lacks_is_named(repository: Path, rev: str, path: str) -> None:
    """A folder is no file, and a file is no folder."""
    revision = open_revision(rev, repository)
    for read in (revision.read_bytes, revision.local):
        with pytest.raises(UserError, match=f"has no file {path}; "):
            read(path)
    with pytest.raises(UserError, match="has no folder params.yaml; "):
        revision.listing("params.yaml")


def test_a_folder_outside_any_repository_is_named(tmp_path: Path, repository: Path) -> None:
    """DVC without git has no revisions, git without DVC no data."""
    with pytest.raises(UserError, match="in no DVC repository"):
        open_revision("HEAD", tmp_path)
    shutil.rmtree(repository / ".git")
    with pytest.raises(UserError, match="in no git repository"):
        open_revision("HEAD", repository)


def test_a_revision_before_dvc_has_no_data(tmp_path: Path) -> None:
    """The first commits of a repository may have neither DVC nor parameters."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "nothing")
    first = git(tmp_path, "rev-parse", "HEAD")
    dvc(tmp_path, "init", "--quiet")
    with pytest.raises(UserError, match="has no file params.yaml"):
        open_revision(first, tmp_path).params()


@pytest.mark.parametrize("text", ["- a\n", "", "a: [\n", "a: \x00"])
def test_parameters_must_be_a_mapping(repository: Path, text: str) -> None:
    """Damaged ones are the revision's, and said to be."""
    (repository / "params.yaml").write_text(text)
    with pytest.raises(UserError, match="^params.yaml of the workspace "):
        open_revision(WORKSPACE, repository).params()


def test_what_was_committed_before_it_was_made_has_no_digest(repository: Path) -> None:
    """A stage whose output dvc.lock does not know."""
    (repository / "dvc.yaml").write_text("stages: {make: {cmd: touch made, outs: [made]}}\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "a stage")
    with pytest.raises(
        UserError, match="holds no digest of made: it was committed before `dvc repro` made it"
    ):
        open_revision("HEAD", repository).local("made")
