"""Which commit recorded a stage, on repositories with a known history; and DVC's digests, held against DVC's own."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import repositories
from collectors.document import UserError
from evaluate.history import History, digest, entries

STAGE = """\
  {name}:
    cmd: make {name}
    params:
      params.yaml:
        text: |-
          outs:
    deps:
    - path: code.py
      hash: md5
      md5: {code}
      size: 1
    outs:
    - path: {name}.csv
      hash: md5
      md5: {out}
      size: 1
"""


def lock(**stages: tuple[str, str]) -> str:
    """Return a dvc.lock: of each stage the digests of its code and of its output."""
    blocks = (STAGE.format(name=name, code=code, out=out) for name, (code, out) in stages.items())
    return "schema: '2.0'\nstages:\n" + "".join(blocks)


def cloned(history: repositories.History, folder: Path, *options: str) -> Path:
    """Write a history and return a clone of it with files."""
    bare = history.write(folder / "bare")
    subprocess.run(["git", "clone", "--quiet", *options, bare.as_uri(), str(folder / "clone")], check=True)
    return folder / "clone"


def names(folder: Path) -> list[str]:
    """Return the commits of a clone, oldest first, parents before children."""
    found = subprocess.run(
        ["git", "rev-list", "--reverse", "--topo-order", "HEAD"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.split()


def test_a_commit_is_that_of_the_stage_alone(tmp_path: Path) -> None:
    """What other stages and other files became since does not count; code counts for the entry, not the output."""
    history = repositories.History()
    history.commit("2026-01-01", {"dvc.lock": lock(a=("c1", "o1"))})
    history.commit("2026-01-02", {"dvc.lock": lock(a=("c2", "o1"), b=("c1", "o1"))})
    history.commit("2026-01-03", {"dvc.lock": lock(a=("c2", "o1"), b=("c2", "o2"))})
    history.commit("2026-01-04", {"other": "x"})
    clone = cloned(history, tmp_path)
    first, second, third, _ = names(clone)
    known = History(clone)
    a, b = known.recorded("a"), known.recorded("b")
    assert a.commit
    assert a.made
    assert (a.commit.id, a.made.id, a.note) == (second, first, "")
    assert (a.commit.day, a.made.day) == ("2026-01-02", "2026-01-01")
    assert b.commit == b.made
    assert b.commit
    assert b.commit.id == third
    assert str(b.commit) == f"{third[:9]} (2026-01-03)"


def test_a_value_that_came_back_counts_from_when_it_did(tmp_path: Path) -> None:
    """An older commit with the same entry is not where today's came from, if there was another between."""
    history = repositories.History()
    for day, out in enumerate(("o1", "o2", "o1"), 1):
        history.commit(f"2026-01-0{day}", {"dvc.lock": lock(a=("c", out))})
    clone = cloned(history, tmp_path)
    found = History(clone).recorded("a").commit
    assert found
    assert found.id == names(clone)[2]


def test_a_merge_recorded_nothing_that_a_parent_had(tmp_path: Path) -> None:
    """The commit on the side branch is named, and not the merge that brought it in."""
    history = repositories.History()
    base = history.commit("2026-01-01", {"dvc.lock": lock(a=("c", "o1"))})
    side = history.commit("2026-01-02", {"dvc.lock": lock(a=("c", "o2"))}, parents=(base,))
    main = history.commit("2026-01-03", {"other": "x"}, parents=(base,))
    history.commit("2026-01-04", {"dvc.lock": lock(a=("c", "o2"))}, parents=(main, side))
    found = History(cloned(history, tmp_path)).recorded("a").commit
    assert found
    assert found.day == "2026-01-02"


def test_what_no_commit_has_is_not_committed(tmp_path: Path) -> None:
    """A lock on disk that differs says so for the stages that differ, and for those alone."""
    history = repositories.History()
    history.commit("2026-01-01", {"dvc.lock": lock(a=("c", "o1"), b=("c", "o1"))})
    clone = cloned(history, tmp_path)
    (clone / "dvc.lock").write_text(lock(a=("c", "o1"), b=("c", "o2"), d=("c", "o3")))
    known = History(clone)
    assert known.recorded("a").commit
    assert [(known.recorded(x).commit, known.recorded(x).note) for x in "bd"] == [(None, "not committed")] * 2
    assert known.recorded("e").note == "not in dvc.lock"
    assert known.outputs("b") == {"b.csv": "o2"}
    assert known.outputs("e") == {}


def test_a_lock_in_a_subfolder_has_its_own_history(tmp_path: Path) -> None:
    """The root of the project need not be that of the repository."""
    history = repositories.History()
    history.commit("2026-01-01", {"dvc.lock": lock(a=("c", "o9"))})
    history.commit("2026-01-02", {"sub/dvc.lock": lock(a=("c", "o1"))})
    found = History(cloned(history, tmp_path) / "sub").recorded("a").commit
    assert found
    assert found.day == "2026-01-02"


def test_a_shallow_clone_says_what_it_cannot_know(tmp_path: Path) -> None:
    """Its oldest commit may not be the one that recorded a stage."""
    history = repositories.History()
    for day in (1, 2, 3):
        history.commit(f"2026-01-0{day}", {"dvc.lock": lock(a=("c", "o1")), "other": str(day)})
    found = History(cloned(history, tmp_path, "--depth=1")).recorded("a")
    assert found.commit
    assert found.commit.day == "2026-01-03"
    assert "shallow" in found.note


def test_without_git_nothing_is_recorded(tmp_path: Path) -> None:
    """A folder that was copied out of the repository still tells the outputs."""
    (tmp_path / "dvc.lock").write_text(lock(a=("c", "o1")))
    known = History(tmp_path)
    assert (known.recorded("a").commit, known.recorded("a").note) == (None, "not in a git repository")
    assert known.outputs("a") == {"a.csv": "o1"}


def test_a_repository_without_commits_has_recorded_nothing(tmp_path: Path) -> None:
    """Before the first commit."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "dvc.lock").write_text(lock(a=("c", "o1")))
    assert History(tmp_path).recorded("a").note == "not committed"


def test_without_a_lock_the_remedy_is_named(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(
        UserError, match=r"dvc\.lock cannot be read; run from the repository, after `dvc repro`"
    ):
        History(tmp_path)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}(@[a-z0-9_.-]{1,6})?", fullmatch=True)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=5))
def test_entries_are_those_of_the_file(stages: dict[str, tuple[str, str]]) -> None:
    """Each with its own lines and no others, whatever they say."""
    found = entries(lock(**stages))
    assert found == {
        name: STAGE.format(name=name, code=code, out=out).partition("\n")[2]
        for name, (code, out) in stages.items()
    }


def test_digests_are_those_of_dvc(tmp_path: Path) -> None:
    """Of a file, and of a folder with folders in it, whose files DVC sorts by their paths as text."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    for name in ("b.txt", "a/z.txt", "a.txt", "a/ü.txt", "a-b/c.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    files = LocalFileSystem()  # type: ignore[no-untyped-call]
    cache = LocalHashFileDB(files, str(tmp_path / "cache"))  # type: ignore[no-untyped-call]
    for path in (tmp_path / "data", tmp_path / "data" / "b.txt"):
        _, _, found = build(cache, str(path), files, "md5", dry_run=True)
        assert digest(path) == found.hash_info.value
    assert digest(tmp_path / "nothing") == ""


def test_settings_are_those_of_the_last_run(tmp_path: Path) -> None:
    """Those of one section of one stage, as DVC writes them; of a value of several lines the mark alone."""
    sections = """\
      params.yaml:
        fit:
          seed: 1
          stale: true
          text: |-
            stale: false
        models:
          stale: false
          moss:
            seed: 2
"""
    entry = f"    cmd: fit\n    params:\n{sections}    outs:\n    - path: a\n"
    (tmp_path / "dvc.lock").write_text(f"stages:\n  other:\n    cmd: other\n  fit:\n{entry}")
    known = History(tmp_path)
    assert known.settings("fit", "fit") == {"seed": "1", "stale": "true", "text": "|-"}
    assert known.settings("fit", "models") == {"stale": "false"}
    assert known.settings("fit", "unknown") == known.settings("other", "fit") == {}
