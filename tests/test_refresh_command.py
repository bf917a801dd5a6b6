"""`python -m collectors refresh`: what comes next, collected from a world on loopback under real DVC."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from test_arxiv import Arxiv
from test_refresh import PAPERS, SITE, essay, paper, serve, variables

from collectors import refresh
from collectors.__main__ import main
from collectors.document import UserError
from collectors.snapshot import read_snapshot
from samples import ROOT, InstantClock
from world import Answer, World

NEWS = {"source": "news", "content": "news", "sites": [SITE]}
TOWN = ("--since", "2026-10-01", "--until", "2026-11-01")


def entry(kind: dict[str, Any], since: str, until: str, **more: Any) -> dict[str, Any]:
    """Return an entry of params.yaml."""
    return {**kind, "since": since, "until": until, **more}


def at(day: str) -> datetime:
    """Return a moment of that day."""
    return datetime.fromisoformat(f"{day}T06:00:00").replace(tzinfo=UTC)


def planned(
    snapshots: dict[str, Any],
    now: str,
    window: tuple[str, str] | None = None,
    upcoming: dict[str, Any] | None = None,
) -> dict[str, tuple[str, str, str]]:
    """Return what a refresh adds: section and window by name."""
    known = {"snapshots": snapshots, "upcoming": upcoming or {}}
    days = (date.fromisoformat(window[0]), date.fromisoformat(window[1])) if window else None
    return {a.name: (a.section, str(a.since), str(a.until)) for a in refresh.plan(known, at(now), days)}


SEPTEMBER = {"papers-2026-09": entry(PAPERS, "2026-09-01", "2026-10-01")}


def test_every_month_that_is_over_comes_next() -> None:
    """From the newest window on, a month each; one that has just ended waits for what arXiv still announces."""
    assert planned(SEPTEMBER, "2026-11-04") == {}
    october = {"papers-2026-10": ("snapshots", "2026-10-01", "2026-11-01")}
    assert planned(SEPTEMBER, "2026-11-05") == october
    november = {"papers-2026-11": ("snapshots", "2026-11-01", "2026-12-01")}
    december = {"papers-2026-12": ("snapshots", "2026-12-01", "2027-01-01")}
    assert planned(SEPTEMBER, "2027-01-20") == {**october, **november, **december}


def test_a_window_that_is_no_month_is_followed_by_the_rest_of_its_month() -> None:
    """Its name says the day where the month's is taken or would not be true."""
    week = {"papers-2026-10": entry(PAPERS, "2026-10-01", "2026-10-08")}
    assert planned(week, "2026-11-20") == {"papers-2026-10-08": ("snapshots", "2026-10-08", "2026-11-01")}


def test_a_series_goes_by_its_stem_or_by_its_settings() -> None:
    """Changed settings continue a series under its name, another name one of the same settings; others are apart."""
    wider = {**PAPERS, "categories": ["cs.CL", "math"]}
    listed = {
        **SEPTEMBER,
        "papers-2026-10": entry(wider, "2026-10-01", "2026-11-01"),
        "renamed": entry(wider, "2026-11-01", "2026-12-01"),
        "physics-2026-11": entry({**PAPERS, "categories": ["physics"]}, "2026-11-01", "2026-12-01"),
        "pinned": entry(
            {"source": "hub", "content": "prose", "revision": "0" * 40}, "2026-11-01", "2026-12-01"
        ),
        "local": entry({"source": "packages", "content": "code"}, "2026-11-01", "2026-12-01"),
    }
    known = {"snapshots": listed}
    assert [one.stem for one in refresh.series(known)] == ["renamed", "physics"]
    (first, _) = refresh.plan(known, at("2027-01-20"))
    assert (first.name, first.like) == ("renamed-2026-12", "renamed")


def test_what_is_polled_gets_the_open_month_alone() -> None:
    """Feeds forget: months that nobody polled are asked for only by a window of their own."""
    listed = {"news-2026-09": entry(NEWS, "2026-09-01", "2026-10-01")}
    assert planned(listed, "2026-12-15") == {"news-2026-12": ("upcoming", "2026-12-01", "2027-01-01")}
    (one,) = refresh.series({"snapshots": listed})
    assert refresh.missed(one, at("2026-12-15")) == (date(2026, 10, 1), date(2026, 12, 1))
    assert refresh.missed(one, at("2026-10-15")) is None
    window = ("2026-10-01", "2026-12-01")
    assert planned(listed, "2026-12-15", window) == {"news-2026-10": ("snapshots", *window)}
    still_open = {"news-2026-12": entry(NEWS, "2026-12-01", "2027-01-01")}
    assert planned(listed, "2026-12-15", upcoming=still_open) == {}
    assert planned(listed, "2027-01-01", upcoming=still_open) == {
        "news-2027-01": ("upcoming", "2027-01-01", "2027-02-01")
    }


def test_a_window_that_is_there_is_not_added_again_and_one_that_overlaps_is_refused() -> None:
    """Also inside of a longer one; an open window is for what is polled."""
    assert planned(SEPTEMBER, "2026-11-20", ("2026-09-01", "2026-10-01")) == {}
    assert planned(SEPTEMBER, "2026-11-20", ("2026-09-10", "2026-09-20")) == {}
    older = planned(SEPTEMBER, "2026-11-20", ("2026-08-01", "2026-09-01"))
    assert older == {"papers-2026-08": ("snapshots", "2026-08-01", "2026-09-01")}
    with pytest.raises(UserError, match="overlaps that of papers-2026-09, 2026-09-01 until 2026-10-01"):
        planned(SEPTEMBER, "2026-11-20", ("2026-09-15", "2026-10-15"))
    with pytest.raises(UserError, match="is not over, and source arxiv of papers-2026-09 is asked once"):
        planned(SEPTEMBER, "2026-11-20", ("2026-11-01", "2026-12-01"))


@pytest.mark.parametrize("start", ["2026-09-01", "2026-09-11", "2025-12-31"])
def test_a_second_plan_adds_nothing(start: str) -> None:
    """Whatever came first: what is added continues its series without a hole, once."""
    listed = {
        "papers": entry(PAPERS, "2025-12-30", start),
        "news-x": entry(NEWS, "2025-12-30", start),
    }
    known: dict[str, Any] = {"snapshots": listed, "upcoming": {}}
    added = refresh.plan(known, at("2027-03-15"))
    for one in added:
        kind = known["snapshots"][one.like]
        known[one.section][one.name] = {**kind, "since": str(one.since), "until": str(one.until)}
    papers = [a for a in added if a.like == "papers"]
    assert str(papers[0].since) == start
    assert [a.until for a in papers[:-1]] == [a.since for a in papers[1:]]
    assert str(papers[-1].until) == "2027-03-01"
    assert refresh.plan(known, at("2027-03-15")) == []


def test_what_waits_is_due_while_its_window_is_open_and_once_after_it() -> None:
    """What is asked once waits for the end; CC-NEWS for its crawler, three days more."""
    crawled = {**NEWS, "sites": [{**SITE, "cc_news": True}]}
    waiting = {
        "town": entry(NEWS, "2026-11-01", "2026-12-01"),
        "crawled": entry(crawled, "2026-11-01", "2026-12-01"),
        "papers": entry(PAPERS, "2026-11-01", "2026-12-01"),
    }
    known = {"snapshots": {}, "upcoming": waiting}
    days = {"2026-10-31": [], "2026-11-30": ["town", "crawled"], "2026-12-01": ["town"]}
    later = {"2026-12-04": ["town", "crawled"], "2026-12-05": ["town", "crawled", "papers"]}
    for day, names in {**days, **later}.items():
        assert refresh.due(known, at(day)) == names, day


@pytest.mark.parametrize("upcoming", [[1], "town", 5])
def test_a_section_that_is_no_mapping_is_named(upcoming: Any) -> None:
    """Wherever it is read."""
    known = {"snapshots": {}, "upcoming": upcoming}
    for read in (refresh.due, refresh.plan):
        with pytest.raises(UserError, match="`upcoming` in params.yaml must be a mapping, not"):
            read(known, at("2026-11-10"))


def test_a_dry_run_says_what_would_be_and_does_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the clock, for a person and for a program; params.yaml stays."""
    clock = InstantClock(time=at("2026-11-10").timestamp())
    monkeypatch.setattr("collectors.commands.refresh.SystemClock", lambda: clock)
    open_news = {"news-2026-11": entry(NEWS, "2026-11-01", "2026-12-01")}
    text = yaml.safe_dump({"snapshots": SEPTEMBER, "upcoming": open_news})
    (workspace / "params.yaml").write_text(text)
    assert main(["refresh", "--dry-run"]) == 0
    assert capsys.readouterr().out == (
        "would add papers-2026-10 to `snapshots`, 2026-10-01 until 2026-11-01, as papers-2026-09\n"
        "would ask for news-2026-11, which is under `upcoming`\n"
    )
    assert main(["refresh", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert ([a["name"] for a in said["additions"]], said["due"]) == (["papers-2026-10"], ["news-2026-11"])
    assert (workspace / "params.yaml").read_text() == text
    assert not (workspace / "dvc.lock").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "2026-10-01"], "takes both --since and --until"),
        (["--since", "2026-10-02", "--until", "2026-10-01"], "before it begins"),
    ],
)
def test_a_wrong_window_is_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """On one line, with status 2."""
    (workspace / "params.yaml").write_text(yaml.safe_dump({"snapshots": SEPTEMBER}))
    assert main(["refresh", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_two_at_once_are_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second says so and ends, as cron needs it."""
    (workspace / "params.yaml").write_text(yaml.safe_dump({"snapshots": SEPTEMBER}))
    (workspace / ".staging").mkdir()
    with (workspace / ".staging" / "refresh.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["refresh"]) == 2
    assert "another refresh of this repository is running" in capsys.readouterr().err


def repository(folder: Path, snapshots: dict[str, Any], upcoming: dict[str, Any], last: str = "") -> Path:
    """Make a repository of this code that scores with gzip alone; its pipeline may end with an earlier stage."""
    folder.mkdir()
    for name in ("collectors", "evaluate", ".dvc"):
        ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    pipeline = (ROOT / "dvc.yaml").read_text()
    end = pipeline.index("\n\n", pipeline.index(f"\n  {last}:\n")) if last else None
    (folder / "dvc.yaml").write_text(pipeline[:end])
    (folder / "corpora").mkdir()
    for name in (".gitignore", "removed.csv"):
        shutil.copy(ROOT / "corpora" / name, folder / "corpora")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"snapshots": snapshots, "upcoming": upcoming, "models": {"gzip": {"backend": "compressors"}}}
    params["fit"]["resamples"] = 50
    text = yaml.safe_dump(params, sort_keys=False)
    (folder / "params.yaml").write_text(text.replace("snapshots:\n", "snapshots: # oldest first\n", 1))
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit params.yaml."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    edit(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def cron(folder: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as cron does: without a terminal, and hardly any environment."""
    kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "OMP_NUM_THREADS"}}
    return subprocess.run(
        [sys.executable, "-m", "collectors", "refresh", *arguments],
        cwd=folder,
        env={**kept, "PATH": "/usr/bin:/bin", **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def given(tmp_path: Path, world: World) -> dict[str, str]:
    """The environment of a collection from a world with papers and a town's news."""
    serve(world, tmp_path / "served", page=10)  # few requests, for arXiv is asked every three seconds
    return {name: value for name, value in variables(tmp_path, world).items() if name != "FRESHBITS_NETWORK"}


@pytest.mark.slow
def test_a_refresh_adds_asks_builds_and_says_what_is_new_and_a_second_one_does_nothing(
    tmp_path: Path, world: World, given: dict[str, str]
) -> None:
    """From cron: the next papers are collected and scored, the news get a round, and nothing is asked twice."""
    papers = {"papers-2026-09": entry(PAPERS, "2026-09-01", "2026-10-01", max_documents=1)}
    waiting = {"news-2026-10": entry(NEWS, "2026-10-01", "2099-01-01", max_documents=1)}
    folder = repository(tmp_path / "repository", papers, waiting, last="score")
    before = (folder / "params.yaml").read_text()
    done = cron(folder, *TOWN, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("papers-2026-09: 1 documents, ")
    assert said[1].startswith("papers-2026-10: 1 documents, ")
    assert said[2] == "2 corpora and 2 score cells are new or changed"
    assert "round 1 of snapshot news-2026-10 is kept" in done.stderr
    after = (folder / "params.yaml").read_text()
    added = before[before.index("  papers-2026-09:") : before.index("upcoming:")]
    added = added.replace("papers-2026-09", "papers-2026-10").replace("'2026-10-01'", '"2026-11-01"')
    assert after == before.replace("upcoming:", added.replace("'2026-09-01'", '"2026-10-01"') + "upcoming:")

    asked = world.paths("export.arxiv.org") + world.paths("oaipmh.arxiv.org")
    again = cron(folder, *TOWN, **given)
    assert again.returncode == 0, again.stderr
    assert again.stdout == "nothing new: papers until 2026-11-01, news until 2099-01-01\n"
    assert (folder / "params.yaml").read_text() == after
    assert world.paths("export.arxiv.org") + world.paths("oaipmh.arxiv.org") == asked
    assert "round 2 of snapshot news-2026-10 is kept" in again.stderr

    shutil.rmtree(folder / "corpora" / "raw" / "papers-2026-09")
    lost = cron(folder, *TOWN, **given)
    assert lost.returncode == 2
    assert "papers-2026-09 was collected before and is not on this machine" in lost.stderr
    assert world.paths("export.arxiv.org") + world.paths("oaipmh.arxiv.org") == asked


@pytest.mark.slow
def test_news_whose_window_is_over_become_a_snapshot(tmp_path: Path, given: dict[str, str]) -> None:
    """The last round completes them; their entry moves, and the pipeline takes what was collected."""
    waiting = {"news-2026-10": entry(NEWS, "2026-10-01", "2026-11-01", max_documents=1)}
    folder = repository(tmp_path / "repository", {}, waiting, last="dedup")
    # Until then nothing is to be built, and stages over no snapshots are no pipeline.
    done = cron(folder, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    params = yaml.safe_load((folder / "params.yaml").read_text())
    assert params["snapshots"] == waiting
    assert set(params["upcoming"]) <= {f"news-{datetime.now(UTC):%Y-%m}"}
    assert "news-2026-10: 1 documents, " in done.stdout
    assert not (folder / ".staging" / "upcoming" / "news-2026-10").exists()


@pytest.mark.slow
def test_a_failed_refresh_leaves_params_as_they_were_unless_a_collection_was_begun(
    tmp_path: Path, world: World, given: dict[str, str]
) -> None:
    """Without a contact nothing is begun; with a corpus that cannot be built, what was collected stays."""
    news = {"news-2026-09": entry(NEWS, "2026-09-01", "2026-10-01", max_documents=1)}
    folder = repository(tmp_path / "repository", news, {}, last="dedup")
    before = (folder / "params.yaml").read_bytes()
    nobody = cron(folder, *TOWN, **{**given, "FRESHBITS_CONTACT": ""})
    assert nobody.returncode == 2
    assert "FRESHBITS_CONTACT is not set" in nobody.stderr
    assert nobody.stderr.splitlines()[-1] == (
        "error: `dvc repro` failed, for the reasons above; params.yaml is as it was; mend that and refresh again"
    )
    assert (folder / "params.yaml").read_bytes() == before
    assert not world.asked

    # What fails now comes after the collection.
    change(folder, lambda params: params["filters"].pop("news"))
    unfiltered = cron(folder, *TOWN, **given)
    assert unfiltered.returncode == 2
    assert "params.yaml has no filters for content 'news'" in unfiltered.stderr
    assert unfiltered.stderr.splitlines()[-1] == (
        "error: `dvc repro` failed, for the reasons above; news-2026-10 was begun, so that params.yaml keeps what "
        "was added; mend that and refresh again"
    )
    assert "news-2026-10" in yaml.safe_load((folder / "params.yaml").read_text())["snapshots"]


@pytest.mark.slow
def test_a_refresh_that_is_stopped_leaves_nothing_running_and_goes_on_where_it_was(
    tmp_path: Path, world: World
) -> None:
    """By SIGTERM as by Ctrl-C, params.yaml goes back unless something was begun; kill -9 ends what it started, too."""
    arxiv = Arxiv(world, [paper("2610.00001", "2026-10-05", words=essay(3), modified="2026-10-05")])
    papers = {"papers-2026-09": entry(PAPERS, "2026-09-01", "2026-10-01", max_documents=1)}
    folder = repository(tmp_path / "repository", papers, {}, last="collect")
    given = variables(tmp_path, world)
    before = (folder / "params.yaml").read_bytes()
    (source,) = (row.source for row in arxiv.rows)
    never = Answer(body=b" " * 600, drip=0.5)

    def stopped(number: signal.Signals, host: str, path: str) -> tuple[int, str]:
        """Send a signal to the command alone when a path was asked for; return its status, and what was said."""
        n = world.paths(host).count(path)
        with (tmp_path / "said").open("w+") as said:
            process = psutil.Popen(
                [sys.executable, "-m", "collectors", "refresh", *TOWN],
                cwd=folder, env={**os.environ, **given}, stdin=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
            while world.paths(host).count(path) == n:
                assert process.poll() is None, "finished before it could be stopped"
                time.sleep(0.05)
            started = process.children(recursive=True)
            assert any("collect" in child.cmdline() for child in started)
            process.send_signal(number)
            status = process.wait(timeout=60)
            assert not psutil.wait_procs(started, timeout=20)[1]
            said.seek(0)
            return status, said.read()

    world.on("oaipmh.arxiv.org", "/oai", never)
    status, said = stopped(signal.SIGTERM, "oaipmh.arxiv.org", "/oai")
    assert status == 130, said
    assert said.endswith("interrupted; what was done is kept: run the same command again to go on\n")
    assert (folder / "params.yaml").read_bytes() == before

    world.on("oaipmh.arxiv.org", "/oai", arxiv.oai)
    world.on("export.arxiv.org", "/src/2610.00001v1", never, never, source)
    for number, expected in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        status, said = stopped(number, "export.arxiv.org", "/src/2610.00001v1")
        assert status == expected, said
        after = (folder / "params.yaml").read_bytes()
        assert b"papers-2026-10" in after
    listed = world.paths("oaipmh.arxiv.org")

    assert cron(folder, *TOWN, **given).returncode == 0
    assert (folder / "params.yaml").read_bytes() == after
    assert read_snapshot(folder / "corpora" / "raw" / "papers-2026-10").n_records > 0
    assert world.paths("oaipmh.arxiv.org") == listed
