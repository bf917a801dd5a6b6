"""Freshness measured on repositories whose history is known."""

import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectors.github import freshness
from collectors.github.freshness import FRESH, File, examine
from collectors.github.git import cloned
from repositories import LINK, SUBMODULE, Content, History

SINCE, UNTIL = (int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) for month in (10, 11))
OLD, INSIDE, LATER, AFTER = "2026-09-15", "2026-10-10T08:30:00", "2026-10-20", "2026-11-02"


def code(name: str, start: int = 0, stop: int = 40) -> str:
    """Return lines of code that no other name or number gives."""
    return "".join(
        f"def {name}_{k}(left, right): return left * {k} + right.{name}[{k}]\n" for k in range(start, stop)
    )


def history_of(folder: Path, history: History, max_file_bytes: int = 100_000) -> freshness.History:
    """Return what the history of a repository says about its Python files."""
    with cloned(str(history.write(folder / "repository"))) as git:
        found = examine(
            git, SINCE, UNTIL, suffixes=(".py", ".ipynb"), language="python", max_file_bytes=max_file_bytes
        )
    assert found is not None
    return found


def files_of(folder: Path, history: History) -> dict[str, File]:
    """Return the files by path."""
    return {file.path.decode("utf-8", "replace"): file for file in history_of(folder, history).files}


def statuses(folder: Path, *steps: tuple[str, Mapping[str | bytes, Content]]) -> dict[str, str]:
    """Return the status of every file after commits at the given dates."""
    history = History()
    for when, files in steps:
        history.commit(when, files)
    return {path: file.status for path, file in files_of(folder, history).items()}


def wrapped(text: str) -> str:
    """Return code as a formatter with short lines, other quotes and trailing commas leaves it."""
    return text.replace("(", "(\n        ").replace(", ", ",\n        ").replace("):", ",\n):\n   ")


def test_every_kind_of_change_is_told_apart(tmp_path: Path) -> None:
    """Old files that were moved, copied, reformatted, brought back or half rewritten, and new ones."""
    half = code("half", 0, 20) + code("fresh", 0, 20)
    under = code("under", 0, 21) + code("fresher", 0, 19)
    scattered = "".join(
        code("scattered", k, k + 1) if k % 2 else code("between", k, k + 1) for k in range(40)
    )
    expected = {
        "untouched.py": "unchanged",
        "moved_to.py": "moved",
        "moved_and_edited_to.py": "moved",
        "folder/moved_and_wrapped_to.py": "moved",
        "copy.py": "copied",
        "copy_edited.py": "copied",
        "part.py": "copied",
        "indented.py": "reformatted",
        "wrapped.py": "reformatted",
        "line_ends.py": "reformatted",
        "edited.py": "edited",
        "half.py": "rewritten",
        "scattered.py": "rewritten",
        "under_half.py": "edited",
        "rewritten.py": "rewritten",
        "restored.py": "restored",
        "restored_edited.py": "restored",
        "older_version.py": "restored",
        "renamed_from_text.py": "moved",
        "added.py": "added",
        "added_and_moved.py": "added",
        "merged.py": "moved",
        "blank.py": "blank",
        "vendor/library.py": "vendored",
        "api_pb2.py": "generated",
        "data.py": "binary",
        "latin.py": "encoding",
        "huge.py": "too-large",
    }
    history = History()
    history.commit("2020-01-01", {"restored.py": code("gone"), "restored_edited.py": code("lost")})
    history.commit("2021-01-01", {"restored.py": None, "restored_edited.py": None})
    history.commit("2022-01-01", {"older_version.py": code("version")})
    history.commit(
        OLD,
        {
            "untouched.py": code("untouched"),
            "moved.py": code("moved"),
            "moved_and_edited.py": code("both"),
            "moved_and_wrapped.py": code("three"),
            "indented.py": code("indented"),
            "wrapped.py": code("wrapped"),
            "line_ends.py": code("ends"),
            "edited.py": code("edited"),
            "half.py": code("half"),
            "scattered.py": code("scattered"),
            "under_half.py": code("under"),
            "rewritten.py": code("rewritten"),
            "older_version.py": code("version", 0, 30),
            "text": code("text"),
            "one.py": code("one", 0, 20),
            "two.py": code("two", 0, 20),
        },
    )
    history.commit(
        INSIDE,
        {
            "moved.py": None,
            "moved_to.py": code("moved"),
            "moved_and_edited.py": None,
            "moved_and_edited_to.py": code("both", 0, 30) + code("more", 0, 5),
            "moved_and_wrapped.py": None,
            "folder/moved_and_wrapped_to.py": textwrap.indent(wrapped(code("three")), "    "),
            "copy.py": code("untouched"),
            "copy_edited.py": code("untouched", 0, 35) + code("own", 0, 5),
            "part.py": code("untouched", 10, 20),
            "indented.py": textwrap.indent(code("indented"), "    "),
            "wrapped.py": wrapped(code("wrapped")),
            "line_ends.py": code("ends").replace("\n", "\r\n"),
            "edited.py": code("edited") + code("appended", 0, 5),
            "half.py": half,
            "scattered.py": scattered,
            "under_half.py": under,
            "rewritten.py": code("anew"),
            "restored.py": code("gone"),
            "restored_edited.py": code("lost", 0, 35) + code("found", 0, 5),
            "older_version.py": code("version"),
            "text": None,
            "renamed_from_text.py": code("text"),
            "added.py": code("added"),
            "first_name.py": code("named"),
            "one.py": None,
            "two.py": None,
            "merged.py": code("one", 0, 20) + code("two", 0, 20) + code("glue", 0, 2),
            "blank.py": "\n\n",
            "vendor/library.py": code("library"),
            "api_pb2.py": code("api"),
            "data.py": b"\0" * 100,
            "latin.py": b"name = '\xe4'\n",
            "huge.py": "x = 1\n" * 20_000,
            "link.py": (LINK, b"added.py"),
            "module.py": (SUBMODULE, b"1" * 40),
            "notes.txt": "no code",
        },
    )
    history.commit(LATER, {"first_name.py": None, "added_and_moved.py": code("named")})
    history.commit(AFTER, {"late.py": code("late"), "untouched.py": code("changed later")})
    found = history_of(tmp_path, history)
    assert {file.path.decode(): file.status for file in found.files} == expected
    assert set(found.payloads) == {file.path for file in found.files if file.status in FRESH}
    assert found.payloads[b"half.py"] == half.encode()


def test_the_evidence_names_commits_and_lines(tmp_path: Path) -> None:
    """First and last commit inside the window, and how much of the file is new."""
    history = History()
    history.commit(OLD, {"a.py": code("a")})
    history.commit(INSIDE, {"a.py": code("a", 0, 30) + code("b", 0, 10), "new.py": code("new", 0, 5)})
    history.commit(LATER, {"a.py": code("a", 0, 10) + code("b", 0, 30)})
    found = history_of(tmp_path, history)
    rewritten, added = found.files
    assert rewritten.first
    assert rewritten.last
    assert (rewritten.lines, rewritten.written) == (40, 30)
    assert datetime.fromtimestamp(rewritten.first.seconds, UTC).isoformat() == f"{INSIDE}+00:00"
    assert rewritten.last.commit == found.pinned.id
    assert added.first == added.last == rewritten.first
    assert found.base
    assert found.base.committed < SINCE


def test_a_file_moved_inside_the_window_keeps_its_first_date(tmp_path: Path) -> None:
    """Its content is as old as its first commit."""
    history = History()
    history.commit(OLD, {"other.py": code("other")})
    history.commit(INSIDE, {"first.py": code("new")})
    history.commit(LATER, {"first.py": None, "second.py": code("new")})
    file = files_of(tmp_path, history)["second.py"]
    assert file.status == "added"
    assert file.first
    assert datetime.fromtimestamp(file.first.seconds, UTC).isoformat() == f"{INSIDE}+00:00"


def test_a_repository_born_in_the_window_is_added(tmp_path: Path) -> None:
    """By the rule alone; what one first commit hides cannot be known."""
    assert statuses(tmp_path, (INSIDE, {"a.py": code("a")})) == {"a.py": "added"}


def test_a_repository_that_was_quiet_has_nothing_fresh(tmp_path: Path) -> None:
    """Neither before nor after the window counts."""
    found = statuses(tmp_path, (OLD, {"a.py": code("a")}), (AFTER, {"a.py": code("b"), "c.py": code("c")}))
    assert found == {"a.py": "unchanged"}


def test_a_repository_younger_than_the_window_is_none(tmp_path: Path) -> None:
    """There is no commit to pin."""
    history = History()
    history.commit(AFTER, {"a.py": code("a")})
    with cloned(str(history.write(tmp_path / "r"))) as git:
        assert examine(git, SINCE, UNTIL, suffixes=(".py",), language="python", max_file_bytes=99) is None


def test_an_empty_repository_is_none(tmp_path: Path) -> None:
    """There is nothing to look at."""
    with cloned(str(History().write(tmp_path / "r"))) as git:
        assert examine(git, SINCE, UNTIL, suffixes=(".py",), language="python", max_file_bytes=99) is None


def test_the_window_is_half_open(tmp_path: Path) -> None:
    """Its first second counts, and the second at which it ends does not."""
    found = statuses(
        tmp_path,
        ("2026-09-30T23:59:59", {"before.py": code("before")}),
        ("2026-10-01T00:00:00", {"first.py": code("first")}),
        ("2026-10-31T23:59:59", {"last.py": code("last")}),
        ("2026-11-01T00:00:00", {"after.py": code("after")}),
    )
    assert found == {"before.py": "unchanged", "first.py": "added", "last.py": "added"}


@pytest.mark.parametrize(("authored", "status"), [(INSIDE, "added"), (OLD, "imported"), (AFTER, "imported")])
def test_both_dates_of_a_commit_must_lie_in_the_window(tmp_path: Path, authored: str, status: str) -> None:
    """A rebased or imported commit keeps its author date, and its lines are as old as that."""
    history = History()
    history.commit(OLD, {"a.py": code("a")})
    history.commit(INSIDE, {"b.py": code("b")}, authored=authored)
    assert files_of(tmp_path, history)["b.py"].status == status


def test_old_work_that_is_merged_in_the_window_is_old(tmp_path: Path) -> None:
    """A branch with old commits brings nothing new, and its merge commit does not either."""
    history = History()
    root = history.commit("2026-09-01", {"a.py": code("a")})
    branch = history.commit(OLD, {"branch.py": code("branch")}, parents=(root,))
    main = history.commit(INSIDE, {"main.py": code("main")}, parents=(root,))
    history.commit(LATER, {"branch.py": code("branch"), "merge.py": code("merge")}, parents=(main, branch))
    assert {path: file.status for path, file in files_of(tmp_path, history).items()} == {
        "a.py": "unchanged",
        "branch.py": "unchanged",
        "main.py": "added",
        "merge.py": "added",
    }


def test_an_old_branch_rebased_in_the_window_is_old_line_by_line(tmp_path: Path) -> None:
    """Its lines do not count, those written on top of it and before it do."""
    history = History()
    history.commit(OLD, {"a.py": code("a", 0, 5)})
    history.commit(INSIDE, {"mostly_new.py": code("new", 0, 30), "mostly_old.py": code("own", 0, 5)})
    history.commit(
        INSIDE,
        {
            "mostly_new.py": code("new", 0, 30) + code("rebased", 0, 10),
            "mostly_old.py": code("own", 0, 5) + code("branch", 0, 30),
        },
        authored=OLD,
    )
    history.commit(LATER, {"mostly_old.py": code("own", 0, 5) + code("branch", 0, 30) + code("top", 0, 5)})
    found = files_of(tmp_path, history)
    assert (found["mostly_new.py"].status, found["mostly_new.py"].written) == ("added", 30)
    assert (found["mostly_old.py"].status, found["mostly_old.py"].written) == ("imported", 10)


def test_a_wrong_clock_below_an_old_commit_does_not_make_new(tmp_path: Path) -> None:
    """What an old commit descends from is older, whatever date it claims."""
    found = statuses(
        tmp_path,
        (INSIDE, {"a.py": code("a")}),
        (OLD, {"b.py": code("b")}),
        (LATER, {"c.py": code("c")}),
    )
    assert found == {"a.py": "unchanged", "b.py": "unchanged", "c.py": "added"}


def test_a_commit_from_the_future_does_not_count(tmp_path: Path) -> None:
    """It lies below the pinned commit, so its date is wrong, and what it wrote is not proven."""
    history = History()
    history.commit(OLD, {"a.py": code("a")})
    history.commit(AFTER, {"b.py": code("b")}, authored=INSIDE)
    history.commit(LATER, {"c.py": code("c")})
    found = {path: file.status for path, file in files_of(tmp_path, history).items()}
    assert found == {"a.py": "unchanged", "b.py": "imported", "c.py": "added"}


def test_the_pinned_commit_is_on_the_first_parent_line(tmp_path: Path) -> None:
    """A branch merged after the window is no part of what was there."""
    history = History()
    root = history.commit(OLD, {"a.py": code("a")})
    main = history.commit(INSIDE, {"main.py": code("main")}, parents=(root,))
    branch = history.commit(LATER, {"branch.py": code("branch")}, parents=(root,))
    history.commit(AFTER, {"branch.py": code("branch")}, parents=(main, branch))
    assert set(files_of(tmp_path, history)) == {"a.py", "main.py"}


def test_a_notebook_is_compared_by_its_code_cells(tmp_path: Path) -> None:
    """New outputs and prose make no notebook new."""

    def notebook(source: str, output: str) -> str:
        cells = f'[{{"cell_type": "code", "source": {source!r}, "outputs": ["{output}"]}}]'
        return f'{{"nbformat": 4, "metadata": {{}}, "cells": {cells}}}'.replace("'", '"')

    found = statuses(
        tmp_path,
        (OLD, {"a.ipynb": notebook(code("a"), "x"), "b.ipynb": notebook(code("b"), "x")}),
        (
            INSIDE,
            {
                "a.ipynb": notebook(code("a"), code("output").replace("\n", " ")),
                "b.ipynb": notebook(code("c"), "x"),
                "c.ipynb": "{}",
            },
        ),
    )
    assert found == {"a.ipynb": "reformatted", "b.ipynb": "rewritten", "c.ipynb": "notebook"}


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    """Line feeds, quotes, bytes that are no UTF-8 and leading dashes."""
    odd = [b"a\nb.py", b'"q".py', b"\xff.py", "ü.py".encode(), b"-x.py", b":(top).py", b"UPPER.PY"]
    history = History()
    history.commit(OLD, {"old.py": code("old")})
    history.commit(INSIDE, {name: code(f"n{k}") for k, name in enumerate(odd)})
    found = history_of(tmp_path, history)
    assert {file.path for file in found.files if file.status == "added"} == set(odd)


def test_the_licence_of_the_root_folder_comes_along(tmp_path: Path) -> None:
    """The one at the pinned commit."""
    history = History()
    history.commit(OLD, {"LICENSE.txt": "old terms", "x/COPYING": "not this", "a.py": code("a")})
    history.commit(INSIDE, {"LICENSE.txt": "new terms"})
    assert history_of(tmp_path, history).license == b"new terms"


def test_the_same_history_gives_the_same_answer(tmp_path: Path) -> None:
    """Examining twice differs in nothing."""
    history = History()
    history.commit(OLD, {f"{k}.py": code(f"a{k}") for k in range(9)})
    history.commit(INSIDE, {f"{k}.py": code(f"a{k}", 0, 15) + code(f"b{k}", 0, 25) for k in range(9)})
    (tmp_path / "other").mkdir()
    assert history_of(tmp_path, history) == history_of(tmp_path / "other", history)
