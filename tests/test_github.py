"""The source of code: what it keeps of a repository, and what becomes of it."""

import json
import random
import string
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.document import Document, RawRecord, UserError
from collectors.github import source as github
from collectors.request import Request
from collectors.warc import Record
from repositories import History, served
from samples import collected, fetching
from world import Answer, World

OLD, INSIDE, LATER = "2026-09-15", "2026-10-10T08:30:00", "2026-10-20"
HOME = "https://github.com/"
Records = list[tuple[RawRecord, Record]]


def code(name: str, lines: int = 30) -> str:
    """Return lines of code that no other name gives."""
    return "".join(f"def {name}_{k}(left, right): return left * {k} + {name}[{k}]\n" for k in range(lines))


def asking(**settings: Any) -> Request:
    """Return a request for October."""
    return Request(
        name="code-2026-10",
        source="github",
        content="code",
        since=datetime(2026, 10, 1, tzinfo=UTC),
        until=datetime(2026, 11, 1, tzinfo=UTC),
        settings=settings,
    )


def repository(folder: Path, **files: Any) -> str:
    """Write a repository whose files came in October, and return where it is."""
    history = History()
    history.commit(
        OLD,
        {
            "old.py": code("old"),
            "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy",
        },
    )
    history.commit(INSIDE, {name.replace("__", "."): content for name, content in files.items()})
    return str(history.write(folder))


def read(folder: Path, world: World, request: Request) -> tuple[list[Document], Records]:
    """Collect and extract."""
    _, records = collected(folder / "collection", world, request, github)
    return list(github.extract(iter(records), request, 1)), records


def item(name: str, number: int, **facts: Any) -> dict[str, Any]:
    """Return a repository as the search describes it."""
    usual = {"fork": False, "archived": False, "mirror_url": None, "is_template": False, "private": False}
    license_ = {"spdx_id": "MIT"}
    return {"id": number, "full_name": name, "stargazers_count": 12, "license": license_, **usual, **facts}


def results(*items: dict[str, Any]) -> Answer:
    """Return the answer of the search."""
    answer = {"total_count": len(items), "incomplete_results": False, "items": items}
    return Answer(body=json.dumps(answer).encode(), media_type="application/json")


def test_a_fresh_file_becomes_a_document_with_its_evidence(tmp_path: Path, world: World) -> None:
    """Text, dates with commits, licence, and where it came from."""
    request = asking(repositories=[repository(tmp_path / "project.git", new__py=code("new"))])
    (made,), records = read(tmp_path, world, request)
    history = json.loads(records[0][1].payload)
    assert (made.native_id, made.title, made.version) == ("project/new.py", "new.py", history["commit"])
    assert made.text == code("new")
    assert made.published.isoformat() == f"{INSIDE}+00:00"
    assert made.published_precision == "second"
    assert [(e.kind, e.value) for e in made.date_evidence] == [
        (kind, f"{INSIDE}+00:00 {history['commit']}") for kind in ("git-added", "git-last-changed")
    ]
    assert (made.license, made.license_evidence) == ("MIT", "licence file of the repository")
    assert made.redistributable
    assert (made.language, made.drop_reason) == ("python", "")
    assert made.metadata["lines_written"] == made.metadata["lines"] == "30"
    assert made.raw == records[1][0]


def test_the_history_of_every_file_is_kept(tmp_path: Path, world: World) -> None:
    """Also of those that are not fresh, so that the decision can be checked."""
    where = repository(tmp_path / "project", new__py=code("new"), copy__py=code("old"))
    _, records = read(tmp_path, world, asking(repositories=[where]))
    history = json.loads(records[0][1].payload)
    assert history["counts"] == {"added": 1, "copied": 1, "unchanged": 1}
    assert {file["path"]: (file["status"], file["kept"]) for file in history["files"]} == {
        "copy.py": ("copied", False),
        "new.py": ("added", True),
    }
    assert str(tmp_path) not in records[0][1].payload.decode()
    assert str(tmp_path) not in " ".join(record.uri for _, record in records)


def test_a_searched_repository_is_cloned_over_https(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the search to the document; forks, mirrors, templates and archived ones are left alone."""
    repository(tmp_path / "served" / "github.com" / "o" / "r.git", new__py=code("new"))
    world.on(
        "api.github.com",
        "/search/repositories",
        results(
            item("o/r", 1),
            *(
                item(f"o/{flag}", 2 + k, **{flag: True})
                for k, flag in enumerate(("fork", "archived", "is_template"))
            ),
            item("o/mirror", 9, mirror_url="https://example.org"),
            item("../../etc", 10),
        ),
        results(),
    )
    with served(tmp_path / "served") as (port, asked):
        monkeypatch.setenv("FRESHBITS_LOOPBACK", str(port))
        (made,), records = read(tmp_path, world, asking())
    assert {line.split("/")[3] for line in asked} == {"o"}
    assert {line.split("/")[4] for line in asked} == {"r.git"}
    assert made.url == f"{HOME}o/r/blob/{made.version}/new.py"
    assert made.native_id == "o/r/new.py"
    assert (made.license, made.license_evidence, made.metadata["stars"]) == ("MIT", "search API", "12")
    queries = [a.query["q"] for a in world.asked]
    assert queries == [
        "language:python fork:false archived:false mirror:false template:false is:public "
        f"created:<2026-11-01T00:00:00Z pushed:{dates} stars:10..*"
        for dates in ("2026-10-01T00:00:00Z..2026-10-31T23:59:59Z", "2026-11-01T00:00:00Z..*")
    ]
    assert [record.kind for _, record in records] == ["response", "response", "metadata", "resource"]


def test_what_a_search_says_is_not_believed(tmp_path: Path, world: World) -> None:
    """Names twice, stars and licences that are none, and a name that looks like an option, which GitHub allows."""
    world.on(
        "api.github.com",
        "/search/repositories",
        results(
            item("o/-r", 1, stargazers_count=None),
            item("o/-r", 2, stargazers_count="many", license={"spdx_id": "\ud800"}),
            *(item(name, 9) for name in ("file:///etc/x", "git@example.org:a/b", "-o/x", "o/x y", "o/x\n")),
        ),
        results(),
    )
    asked = asking()
    with fetching(tmp_path, world, asked, github) as fetcher:
        github.collect(asked, fetcher)
        assert len(fetcher.gaps) == 1
        assert fetcher.gaps[0].startswith("https://github.com/o/-r: ")


def test_searching_by_creation_and_licence_narrows_the_search(tmp_path: Path, world: World) -> None:
    """One search for each licence, inside the window alone."""
    world.on("api.github.com", "/search/repositories", results())
    request = asking(by="created", licenses=["MIT", "Apache-2.0"], language="c++", min_stars=3)
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
    assert [asked.query["q"] for asked in world.asked] == [
        f"language:c++ fork:false archived:false mirror:false template:false is:public license:{name} "
        "created:2026-10-01T00:00:00Z..2026-10-31T23:59:59Z stars:3..*"
        for name in ("apache-2.0", "mit")
    ]


def test_a_repository_that_cannot_be_had_is_tried_again_another_time(tmp_path: Path, world: World) -> None:
    """It is a gap; the others are kept, and the next run clones only what is missing."""
    there = repository(tmp_path / "there", new__py=code("new"))
    missing = tmp_path / "missing"
    missing.mkdir()
    request = asking(repositories=[str(missing), there])
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
        assert len(fetcher.failures) == 1
        assert fetcher.failures[0].startswith("file:missing: git failed")
        assert str(tmp_path) not in fetcher.failures[0]
    missing.rmdir()
    repository(missing, other__py=code("other"))
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
        assert not fetcher.gaps


def test_a_collection_is_replayed_without_the_repository(tmp_path: Path, world: World) -> None:
    """What was kept once is not cloned again."""
    where = Path(repository(tmp_path / "project", new__py=code("new")))
    request = asking(repositories=[str(where)])
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
    (where / "HEAD").unlink()
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
        assert not fetcher.gaps


def test_two_collections_are_equal_to_the_byte(tmp_path: Path, world: World) -> None:
    """The snapshot depends on the repositories alone."""
    where = repository(tmp_path / "project", b__py=code("b"), a__py=code("a"))
    snapshots = [
        collected(tmp_path / name, world, asking(repositories=[where]), github)[0] for name in ("one", "two")
    ]
    assert snapshots[0] == snapshots[1]


def test_no_repository_is_the_corpus(tmp_path: Path, world: World) -> None:
    """Of many fresh files a fixed choice is taken, and the history says which."""
    where = repository(tmp_path / "large", **{f"f{k}__py": code(f"f{k}") for k in range(10)})
    made, records = read(tmp_path, world, asking(repositories=[where], files_per_repository=4))
    history = json.loads(records[0][1].payload)
    assert len(made) == 4
    assert {d.title for d in made} == {file["path"] for file in history["files"] if file["kept"]}
    assert history["counts"]["added"] == 10
    assert {d.title for d in made} != {f"f{k}.py" for k in range(4)}


def test_the_number_of_repositories_is_bounded(tmp_path: Path, world: World) -> None:
    """The choice is by hash, and what is left out is noted."""
    where = [repository(tmp_path / f"r{k}", **{f"new{k}__py": code(f"n{k}")}) for k in range(5)]
    request = asking(repositories=where, max_repositories=2)
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
        assert fetcher.gaps == ["5 repositories, of which max_repositories = 2 are taken"]
        assert not fetcher.failures


def test_documents_are_bounded(tmp_path: Path, world: World) -> None:
    """Collection ends with the repository in which the limit is reached."""
    where = [repository(tmp_path / f"r{k}", **{f"new{k}__py": code(f"n{k}")}) for k in range(5)]
    request = replace(asking(repositories=where), max_documents=2)
    with fetching(tmp_path, world, request, github) as fetcher:
        github.collect(request, fetcher)
        assert fetcher.gaps == ["stopped at max_documents = 2"]


def test_a_credential_is_recorded_and_its_file_is_not(tmp_path: Path, world: World) -> None:
    """Neither the snapshot nor the document has the value."""
    made_up = "AKIA" + "".join(random.Random(1).choices(string.ascii_uppercase, k=16))
    notebook = {
        "metadata": {},
        "cells": [{"cell_type": "code", "source": code("n"), "outputs": [{"text": f"{made_up}"}]}],
    }
    where = repository(
        tmp_path / "project",
        leak__py=code("leak") + f'key = "{made_up}"\n',
        book__ipynb=json.dumps(notebook),
        safe__py=code("safe"),
    )
    made, records = read(tmp_path, world, asking(repositories=[where]))
    assert {d.title: (d.drop_reason, bool(d.text)) for d in made} == {
        "leak.py": ("secret", False),
        "book.ipynb": ("secret", False),
        "safe.py": ("", True),
    }
    assert next(d for d in made if d.title == "leak.py").metadata["secrets"] == "AWS Access Key:31"
    assert not [record for _, record in records if made_up.encode() in record.payload]


def test_files_that_must_not_be_used_say_why(tmp_path: Path, world: World) -> None:
    """Old copyright and minified code are dropped with the reason, vendored ones are not even kept."""
    where = repository(
        tmp_path / "project",
        ancient__py="# Copyright 2019 Someone\n" + code("ancient"),
        present__py="# Copyright 2019-2026 Someone\n" + code("present"),
        packed__py=code("packed").replace("\n", ";"),
        **{"vendor/lib__py": code("lib")},
    )
    made, _ = read(tmp_path, world, asking(repositories=[where]))
    assert {d.title: d.drop_reason for d in made} == {
        "ancient.py": "old-copyright",
        "present.py": "",
        "packed.py": "minified",
    }
    assert {d.metadata.get("copyright_year") for d in made} == {"2019", "2026", None}


def test_a_template_of_many_repositories_is_dropped_everywhere(tmp_path: Path, world: World) -> None:
    """Three have it, with names of their own put in; two do not make a template."""
    where = []
    for k in range(3):
        shared = code("template") + f"application = 'number {k}'\n"
        files = {"shared__py": shared, "own__py": code(f"own{k}")}
        if k < 2:
            files["pair__py"] = code("pair")
        where.append(repository(tmp_path / f"r{k}", **files))
    made, _ = read(tmp_path, world, asking(repositories=where))
    assert {d.title for d in made if d.drop_reason == "template"} == {"shared.py"}
    assert len(made) == 8
    made, _ = read(tmp_path / "two", world, asking(repositories=where, template_repositories=2))
    assert {d.title for d in made if d.drop_reason == "template"} == {"shared.py", "pair.py"}


def test_the_licence_in_a_file_comes_first(tmp_path: Path, world: World) -> None:
    """A file under other terms than its repository is not given away."""
    gpl = "# SPDX-License-Identifier: GPL-3.0-only\n" + code("gpl")
    where = repository(tmp_path / "project", gpl__py=gpl, plain__py=code("plain"))
    made, _ = read(tmp_path, world, asking(repositories=[where]))
    assert {d.title: (d.license, d.redistributable) for d in made} == {
        "gpl.py": ("GPL-3.0-only", False),
        "plain.py": ("MIT", True),
    }


def test_a_notebook_gives_its_code(tmp_path: Path, world: World) -> None:
    """Without outputs."""
    cells = [{"cell_type": "code", "source": code("cell"), "outputs": [{"text": "result"}]}]
    where = repository(tmp_path / "project", book__ipynb=json.dumps({"metadata": {}, "cells": cells}))
    (made,), _ = read(tmp_path, world, asking(repositories=[where]))
    assert made.text == code("cell")


def test_odd_names_make_proper_documents(tmp_path: Path, world: World) -> None:
    """Every file has a native id and an address of its own."""
    names = [b"a\nb.py", b"a%0Ab.py", b"\xff.py", b"%FF.py", "ü b.py".encode(), b"50%.py"]
    history = History()
    history.commit(INSIDE, {name: code(f"n{k}") for k, name in enumerate(names)})
    where = str(history.write(tmp_path / "project"))
    made, records = read(tmp_path, world, asking(repositories=[where]))
    assert sorted(d.title for d in made) == sorted(
        ["a%0Ab.py", "a%250Ab.py", "%FF.py", "%25FF.py", "ü b.py", "50%.py"]
    )
    assert len({record.uri for _, record in records}) == 7


@pytest.mark.parametrize("commits", [[], [("2026-11-05", "late.py")]])
def test_a_repository_without_a_commit_in_time_gives_a_note(
    tmp_path: Path, world: World, commits: list[tuple[str, str]]
) -> None:
    """Empty or younger than the window: there is nothing to try again."""
    history = History()
    for when, name in commits:
        history.commit(when, {name: code("late")})
    made, records = read(tmp_path, world, asking(repositories=[str(history.write(tmp_path / "empty"))]))
    assert made == []
    assert json.loads(records[0][1].payload)["without"] == "no commit in time"


def test_a_repository_beyond_the_bounds_gives_a_note(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out for good, and the history says why."""
    monkeypatch.setattr("collectors.github.history.MAX_TEXT_BYTES", 1_000)
    where = repository(tmp_path / "large", new__py=code("new"))
    made, records = read(tmp_path, world, asking(repositories=[where]))
    assert made == []
    assert "the bound is 1,000" in json.loads(records[0][1].payload)["without"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": "klingon"}, "language 'klingon' .* is none of"),
        ({"by": "updated"}, "neither `created` nor `pushed`"),
        ({"licenses": ["MIT OR GPL"]}, "licence identifiers"),
        ({"licenses": [3]}, "list of strings"),
        ({"repositories": [""]}, "list of strings"),
        ({"max_repositories": 0}, "max_repositories .* above 0"),
        ({"files_per_repository": -1}, "files_per_repository .* above 0"),
        ({"template_repositories": 1}, "above 1"),
        ({"min_stars": -1}, "not below 0"),
        ({"min_stars": "10"}, "min_stars"),
        ({"stars": 10}, "unknown"),
        ({"repositories": ["nowhere"]}, "is no folder"),
        ({"repositories": ["ssh://git@example.org/a/b"]}, "neither an https address"),
        ({"repositories": ["https://github.com/a/b", "https://github.com/a/b.git"]}, "two repositories a/b"),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(
    tmp_path: Path, world: World, settings: dict[str, Any], message: str
) -> None:
    """Before anything is asked."""
    request = asking(**settings)
    with (
        fetching(tmp_path, world, request, github) as fetcher,
        pytest.raises(UserError, match=message) as caught,
    ):
        github.collect(request, fetcher)
    assert "\n" not in str(caught.value)
    assert not world.asked


def test_a_repository_that_is_gone_is_no_reason_to_try_again(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot is finished without it, and says so."""
    there = repository(tmp_path / "project.git", new__py=code("new"))
    with served(tmp_path) as (port, _):
        monkeypatch.setenv("FRESHBITS_LOOPBACK", str(port))
        asked = asking(repositories=["https://github.com/o/gone", there])
        snapshot, records = collected(tmp_path / "collection", world, asked, github)
    assert [gap.partition(": ")[0] for gap in snapshot.gaps] == ["https://github.com/o/gone"]
    assert len(records) == 2
