"""git in its cage: what it may reach, read, run and use up."""

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from collectors.document import UserError
from collectors.github.git import Git, GitError, TooLargeError, _settings, cloned
from collectors.github.history import Change, changes, commits, contents, tree
from repositories import LINK, SUBMODULE, History, run, served

ADDRESS = "https://git.example.org/owner/name.git"


def story() -> History:
    """Thirty files, one commit each."""
    history = History()
    for day in range(1, 31):
        history.commit(f"2026-10-{day:02}", {f"f{day}.py": f"x = {day}\n"})
    return history


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository on this machine."""
    return story().write(tmp_path / "repository")


@contextmanager
def over_http(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve `ADDRESS` on loopback and give the list of what is asked."""
    story().write(folder / "git.example.org" / "owner" / "name.git")
    with served(folder) as (port, asked):
        monkeypatch.setenv("FRESHBITS_LOOPBACK", str(port))
        yield asked


def names(git: Git) -> list[str]:
    """Return the ids of all commits."""
    return [commit.id for commit in commits(git)]


def test_a_clone_over_http_has_no_files_until_they_are_asked_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty blobs come in one pack, not one by one."""
    with over_http(tmp_path, monkeypatch) as asked, cloned(ADDRESS) as git:
        assert git.partial
        files = tree(git, names(git)[0])
        before = len(asked)
        found = contents(git, files.values(), 100)
        assert len(asked) - before <= 3
    assert [found[files[f"f{day}.py".encode()]] for day in range(1, 31)] == [
        f"x = {day}\n".encode() for day in range(1, 31)
    ]


def test_history_and_trees_need_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits, changes and trees come with the clone."""
    with over_http(tmp_path, monkeypatch) as asked, cloned(ADDRESS) as git:
        before = len(asked)
        assert len(list(changes(git, names(git)))) == 30
        assert len(tree(git, names(git)[0])) == 30
        assert len(asked) == before


def test_a_folder_is_cloned_in_the_same_way(repository: Path) -> None:
    """A repository on this machine needs no settings for it."""
    with cloned(str(repository)) as git:
        assert git.partial
        files = tree(git, names(git)[0])
        assert contents(git, [files[b"f7.py"]], 100) == {files[b"f7.py"]: b"x = 7\n"}


def test_a_server_that_filters_nothing_serves_as_well(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without partial clones everything is there from the start."""
    bare = tmp_path / "git.example.org" / "owner" / "name.git"
    run("clone", "--quiet", "--bare", str(repository), str(bare))
    with served(tmp_path, filters=False) as (port, _):
        monkeypatch.setenv("FRESHBITS_LOOPBACK", str(port))
        with cloned(ADDRESS) as git:
            assert not git.partial
            files = tree(git, names(git)[0])
            assert contents(git, [files[b"f7.py"]], 100) == {files[b"f7.py"]: b"x = 7\n"}


def test_nothing_is_left_behind(tmp_path: Path, repository: Path) -> None:
    """The clone is removed, also when something goes wrong."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with cloned(str(repository), scratch=scratch) as git:
        assert git.folder.parent == scratch
    assert not list(scratch.iterdir())
    with pytest.raises(GitError), cloned(str(tmp_path / "missing"), scratch=scratch):
        pass
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    "address",
    [
        *("http://example.org/a", "git://example.org/a", "ssh://git@example.org/a", "git@example.org:a/b"),
        *("ext::sh -c id", "file:///etc", "https://user:word@example.org/a/b", "https://example.org/a?b=c"),
        *("--upload-pack=id", "https://example.org/--upload-pack=id", "https://example.org/a b", "relative"),
        *("https://example.org/a\nb", "https://EXAMPLE.org/a", ""),
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    """Only https without user, query and options, or an absolute path."""
    with pytest.raises(UserError, match="neither an https address"), cloned(address):
        pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.1", "169.254.169.254"])
def test_a_private_host_is_not_asked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on this machine or its network can be cloned by an address."""
    monkeypatch.delenv("FRESHBITS_LOOPBACK", raising=False)
    with pytest.raises(GitError, match=host), cloned(f"https://{host}/a/b"):
        pass


def test_one_protocol_is_allowed(repository: Path) -> None:
    """Whatever a repository says, git has no other way out."""
    with cloned(str(repository)) as git:
        for other in ("https://127.0.0.1:1/a", "git://127.0.0.1:1/a", "ext::true", "ssh://127.0.0.1:1/a"):
            with pytest.raises(GitError, match="not allowed"):
                git.run("ls-remote", other)


def test_git_connects_to_the_addresses_that_were_checked() -> None:
    """A second look-up could give another address, so the first one is pinned."""
    settings, source, protocol = _settings("https://93.184.215.14/a/b", None)
    assert "curloptResolve = 93.184.215.14:443:93.184.215.14\n" in settings
    assert (source, protocol) == ("https://93.184.215.14/a/b", "https")


def test_a_missing_repository_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No prompt, no path of this machine."""
    with over_http(tmp_path, monkeypatch), pytest.raises(GitError) as caught:  # noqa: SIM117
        with cloned("https://git.example.org/owner/other", scratch=tmp_path):
            pass
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_redirects_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that answers."""
    with over_http(tmp_path, monkeypatch) as asked, pytest.raises(GitError):  # noqa: SIM117
        with cloned("https://git.example.org/moved/owner/name.git"):
            pass
    assert asked == ["GET /git/git.example.org/moved/owner/name.git/info/refs"]


def test_the_users_settings_are_not_read(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither variables nor files of the user reach git."""
    (tmp_path / ".gitconfig").write_text(f'[url "{tmp_path}/elsewhere"]\ninsteadOf = file://\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path))
    with cloned(str(repository)) as git:
        assert len(names(git)) == 30
        assert not (git.folder / "repository" / "hooks").exists()
    assert not (tmp_path / "trace").exists()


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time allowed git and its helpers are gone."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("FRESHBITS_LOOPBACK", str(silent.getsockname()[1]))
        with pytest.raises(GitError, match="in time"), cloned(ADDRESS, seconds=0.5):
            pass
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "python" in running
    assert ADDRESS not in running


def test_disk_is_bounded(tmp_path: Path) -> None:
    """A repository that does not fit is given up."""
    history = History()
    generator = random.Random(1)
    history.commit("2026-10-01", {generator.randbytes(60).hex() + ".py": "" for _ in range(3_000)})
    repository = history.write(tmp_path / "large")
    with pytest.raises(TooLargeError, match="20,000 bytes"), cloned(str(repository), max_bytes=20_000):
        pass


def test_trees_that_unfold_without_end_are_given_up(tmp_path: Path) -> None:
    """Ten small trees can stand for ten billion files."""
    folder = History().write(tmp_path / "bomb")
    entry = run("hash-object", "-w", "--stdin", folder=folder, given=b"x").decode().strip()
    kind = "100644 blob"
    for _ in range(10):
        listing = "".join(f"{kind} {entry}\tf{k}.py\n" for k in range(10))
        entry, kind = run("mktree", folder=folder, given=listing.encode()).decode().strip(), "040000 tree"
    person = "A <a@example.org> 1791158400 +0000"
    made = f"tree {entry}\nauthor {person}\ncommitter {person}\n\nc\n".encode()
    commit = run("hash-object", "-t", "commit", "-w", "--stdin", folder=folder, given=made).decode().strip()
    run("update-ref", "refs/heads/main", commit, folder=folder)
    with cloned(str(folder), max_bytes=2_000_000, max_memory=128 << 20) as git:
        with pytest.raises(TooLargeError, match="on disk"):
            tree(git, commit)
        with pytest.raises(TooLargeError, match="of memory"):
            list(changes(git, [commit]))


def test_entries_are_bounded(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read into memory has a limit of its own."""
    with cloned(str(repository)) as git:
        monkeypatch.setattr("collectors.github.history.MAX_ENTRIES", 30)
        assert len(tree(git, names(git)[0])) == len(list(changes(git, names(git)))) == 30
        monkeypatch.setattr("collectors.github.history.MAX_ENTRIES", 29)
        with pytest.raises(TooLargeError):
            tree(git, names(git)[0])
        with pytest.raises(TooLargeError):
            list(changes(git, names(git)))


def test_a_shallow_repository_is_refused(tmp_path: Path, repository: Path) -> None:
    """Its first commit would make everything before it look new."""
    shallow = tmp_path / "shallow"
    run("clone", "--quiet", "--bare", "--depth=3", repository.as_uri(), str(shallow))
    with pytest.raises(GitError, match="--unshallow"), cloned(str(shallow)):
        pass


def test_a_shallow_server_does_not_make_git_call_itself_without_end(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process would start the next one; all of them are ended."""
    shallow = tmp_path / "git.example.org" / "owner" / "name.git"
    run("clone", "--quiet", "--bare", "--depth=3", repository.as_uri(), str(shallow))
    with served(tmp_path) as (port, _):
        monkeypatch.setenv("FRESHBITS_LOOPBACK", str(port))
        with pytest.raises(GitError, match="more and more processes"), cloned(ADDRESS, seconds=60):
            pass
    assert len(psutil.Process().children(recursive=True)) < 10


def test_git_fetches_nothing_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that was not asked for is missing."""
    with over_http(tmp_path, monkeypatch) as asked, cloned(ADDRESS) as git:
        before = len(asked)
        with pytest.raises(GitError):
            git.run("cat-file", "-p", f"{names(git)[0]}:f3.py")
        assert len(asked) == before


def test_large_files_are_left_out(tmp_path: Path) -> None:
    """A file beyond the bound is no error, and not read."""
    history = History()
    history.commit("2026-10-01", {"large.py": "x" * 101, "small.py": "x" * 100})
    with cloned(str(history.write(tmp_path / "r"))) as git:
        files = tree(git, names(git)[0])
        assert list(contents(git, files.values(), 100).values()) == [b"x" * 100]


def test_links_and_submodules_are_no_files(tmp_path: Path) -> None:
    """A tree gives what has content of its own; names are bytes."""
    history = History()
    odd = [b"a\nb.py", b'"quoted".py', b"\xff.py", "ü .py".encode(), b"-x.py"]
    history.commit(
        "2026-10-01",
        {
            "link.py": (LINK, b"/etc/passwd"),
            "module.py": (SUBMODULE, b"1" * 40),
            "run.py": (b"100755", b"y"),
            **dict.fromkeys(odd, "x"),
        },
    )
    with cloned(str(history.write(tmp_path / "r"))) as git:
        assert set(tree(git, names(git)[0])) == {*odd, b"run.py"}
        assert {change.path for change in changes(git, names(git)) if change.after} == {*odd, b"run.py"}


@pytest.mark.parametrize("branch", ["main", "trunk", "release/2"])
def test_the_default_branch_has_any_name(tmp_path: Path, branch: str) -> None:
    """What the server calls HEAD is cloned, and nothing else."""
    history = History(branch=branch)
    history.commit("2026-10-01", {"a.py": "1"})
    history.branch = "other"
    history.commit("2026-10-02", {"b.py": "2"})
    history.branch = branch
    with cloned(str(history.write(tmp_path / "r"))) as git:
        assert [set(tree(git, name)) for name in names(git)] == [{b"a.py"}]


def test_an_empty_repository_has_no_commits(tmp_path: Path) -> None:
    """There is nothing to clone, and that is no error."""
    with cloned(str(History().write(tmp_path / "r"))) as git:
        assert commits(git) == []


def test_commits_come_children_first_with_both_dates(tmp_path: Path) -> None:
    """The order is that of descent, whatever the dates say."""
    history = History()
    root = history.commit("2026-10-05", {"a.py": "1"}, authored="2020-01-01")
    side = history.commit("2026-10-04", {"b.py": "2"}, parents=(root,))
    main = history.commit("2026-10-03", {"c.py": "3"}, parents=(root,))
    history.commit("2026-10-02", {}, parents=(main, side))
    with cloned(str(history.write(tmp_path / "r"))) as git:
        found = commits(git)
    position = {commit.id: k for k, commit in enumerate(found)}
    assert all(position[parent] > k for k, commit in enumerate(found) for parent in commit.parents)
    assert [len(commit.parents) for commit in found] == [2, 1, 1, 0]
    assert (found[-1].authored, found[-1].committed) == (1577836800, 1791158400)


def test_a_merge_changes_what_differs_from_every_parent(tmp_path: Path) -> None:
    """What came from a parent is not the merge's work; a conflict's resolution is."""
    history = History()
    root = history.commit("2026-10-01", {"a.py": "1", "b.py": "1"})
    left = history.commit("2026-10-02", {"a.py": "2"}, parents=(root,))
    right = history.commit("2026-10-03", {"a.py": "3", "b.py": "3"}, parents=(root,))
    history.commit("2026-10-04", {"a.py": "4", "b.py": "3"}, parents=(left, right))
    with cloned(str(history.write(tmp_path / "r"))) as git:
        blob = {
            text: run("hash-object", "--stdin", folder=tmp_path / "r", given=text.encode()).decode().strip()
            for text in "1234"
        }
        found = list(changes(git, names(git)[:1]))
        assert found == [
            Change(commit=names(git)[0], path=b"a.py", before=(blob["2"], blob["3"]), after=blob["4"])
        ]


def test_a_date_that_cannot_be_read_is_1970(tmp_path: Path) -> None:
    """A forged commit object breaks nothing."""
    folder = History().write(tmp_path / "r")
    tree_id = run("mktree", folder=folder).decode().strip()
    forged = f"tree {tree_id}\nauthor A <a> not-a-date\ncommitter C <c> not-a-date\n\nc\n"
    commit = run(
        "hash-object", "-t", "commit", "-w", "--stdin", "--literally", folder=folder, given=forged.encode()
    )
    run("update-ref", "refs/heads/main", commit.decode().strip(), folder=folder)
    with cloned(str(folder)) as git:
        assert [(c.authored, c.committed) for c in commits(git)] == [(0, 0)]


def test_a_missing_object_is_an_error(repository: Path) -> None:
    """A damaged repository is said to be one."""
    with cloned(str(repository)) as git, pytest.raises(GitError):
        contents(git, ["1" * 40], 100)


def test_git_names_who_asks(tmp_path: Path) -> None:
    """As git reads it back, whatever a contact holds."""
    agent = 'freshbits/0.1 (+https://a.example/#me; "b" \\ c)'
    settings, _, _ = _settings(ADDRESS, "1", agent)
    (tmp_path / "gitconfig").write_text(settings)
    said = subprocess.run(
        ["git", "config", "--file", str(tmp_path / "gitconfig"), "http.userAgent"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{agent}\n"
