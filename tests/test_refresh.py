"""The world collected twice: a later snapshot holds nothing of an earlier one, whatever it came from."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_arxiv import Arxiv, Row, targz, tex
from test_github import code, item, results
from test_news import html

from collectors import collect
from collectors.__main__ import main
from collectors.document import Document, read_documents, sha256_of
from repositories import History, served
from samples import ROOT, InstantClock
from world import Answer, World

WINDOWS = {"2026-09": ("2026-09-01", "2026-10-01"), "2026-10": ("2026-10-01", "2026-11-01")}
SITE = {"host": "town.example", "feeds": ["https://town.example/feed"]}
PAPERS = {"source": "arxiv", "content": "papers", "categories": ["cs.CL"]}
FEED_HEAD = "<?xml version='1.0'?><rss version='2.0'><channel><title>Town</title>"


def essay(number: int, sentences: int = 40) -> str:
    """Return prose that no other number has."""
    return " ".join(
        f"On the morning of walk {number}.{i} we went down to the water with {number + 3} of our friends, and there "
        f"we saw {i * number + 7} herons, of which {i + 11 * number} were asleep beside the pond."
        for i in range(sentences)
    )


def amended(text: str) -> str:
    """Return a text with a few words changed."""
    return text.replace("with 4 of our friends", "with all of our friends", 2).replace(
        "7 herons", "7 grey herons", 1
    )


def paper(identifier: str, *versions: str, words: str, modified: str, title: str = "A Walk") -> Row:
    """Return a paper whose versions were submitted on these days."""
    moments = [datetime.fromisoformat(f"{day}T12:00:00+00:00") for day in versions]
    return Row(identifier, moments, modified=modified, source=targz(main__tex=tex(words, title)))


def serve(world: World, folder: Path, page: int = 2) -> None:
    """Put two months of papers, articles and repositories on the web, with planted repeats in the second."""
    Arxiv(
        world,
        [
            paper("2609.00001", "2026-09-05", "2026-10-06", words=essay(1), modified="2026-10-06"),
            paper("2609.00002", "2026-09-07", words=essay(2), modified="2026-09-07"),
            paper("2610.00001", "2026-10-05", words=essay(3), modified="2026-10-05"),
            paper("2610.00002", "2026-10-07", words=essay(2), modified="2026-10-07"),
            paper("2610.00003", "2026-10-08", words=amended(essay(1)), modified="2026-10-08"),
        ],
        page,
    )
    articles = [
        ("walk", "2026-09-10", essay(5, 12)),
        ("ducks", "2026-09-12", essay(6, 12)),
        ("again", "2026-10-10", essay(5, 12)),
        ("nearly", "2026-10-11", amended(essay(6, 12))),
        ("fresh", "2026-10-12", essay(7, 12)),
        ("moss", "2026-10-13", essay(3).replace(". On", ".\nOn")),
        ("early", "2026-10-01", essay(8, 12)),
    ]
    entries = "".join(
        f"<item><title>{name}</title><link>https://town.example/{name}</link>"
        f"<pubDate>{datetime.fromisoformat(day):%a, %d %b %Y} 09:00:00 GMT</pubDate></item>"
        for name, day, _ in [("old", "2026-08-20", ""), *articles]
    )
    feed = Answer(body=f"{FEED_HEAD}{entries}</channel></rss>".encode(), media_type="application/rss+xml")
    world.on("town.example", "/feed", feed)
    for name, day, text in articles:
        world.on(
            "town.example",
            f"/{name}",
            html(
                text,
                title={"again": "Walk"}.get(name, name.title()),
                article_published_time=f"{day}T09:00:00Z",
            ),
        )
    terms: dict[str | bytes, Any] = {
        "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy"
    }
    first, second = History(), History()
    first.commit("2026-08-01", terms)
    first.commit("2026-09-10", {"pond.py": code("pond"), "reed.py": code("reed")})
    first.write(folder / "github.com/town/first.git")
    second.commit("2026-08-01", terms)
    second.commit("2026-10-10", {"lake.py": code("pond"), "new.py": code("new")})
    second.write(folder / "github.com/town/second.git")
    world.on("api.github.com", "/search/repositories", results(item("town/first", 1), item("town/second", 2)))


def params(sources: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the project's own params with these sources in two windows."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    loaded["snapshots"] = {
        f"{name}-{month}": {**entry, "since": since, "until": until}
        for month, (since, until) in WINDOWS.items()
        for name, entry in sources.items()
    }
    return loaded


@pytest.fixture
def town(workspace: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory whose network is the world on loopback, and a clock that nobody waits for."""
    serve(world, workspace / "served")
    with served(workspace / "served") as (world.git, _):
        monkeypatch.setattr(collect, "SystemClock", InstantClock)
        for name, value in variables(workspace, world).items():
            monkeypatch.setenv(name, value)
        yield workspace


def variables(folder: Path, world: World) -> dict[str, str]:
    """Return the environment of a collection from the world."""
    return {
        "FRESHBITS_NETWORK": "1",
        "FRESHBITS_CONTACT": "tests@freshbits.example",
        "FRESHBITS_LOOPBACK": str(world.port),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def corpus(name: str) -> tuple[dict[str, Document], dict[str, Document]]:
    """Return the documents that a corpus keeps and those it dropped, by the end of their native ids."""
    kept, dropped = (
        {
            d.native_id.rpartition("/")[2]: d
            for d in read_documents(Path("corpora") / name / f"{kind}.parquet")
        }
        for kind in ("documents", "dropped")
    )
    return kept, dropped


@pytest.mark.slow
def test_a_second_snapshot_holds_nothing_of_the_first(town: Path) -> None:
    """Exact and near repeats, a new version of a paper, a file in another repository: each names its match."""
    sources: dict[str, dict[str, Any]] = {
        "arxiv": PAPERS,
        "news": {"source": "news", "content": "news", "sites": [SITE]},
        "github": {"source": "github", "content": "code", "min_stars": 0},
    }
    (town / "params.yaml").write_text(yaml.safe_dump(params(sources), sort_keys=False))
    for month in WINDOWS:
        for name in sources:
            for command in ("collect", "extract", "dedup"):
                assert main([command, f"{name}-{month}"]) == 0
    assert set(corpus("arxiv-2026-09")[0]) == {"2609.00001", "2609.00002"}
    assert set(corpus("news-2026-09")[0]) == {"walk", "ducks"}
    assert set(corpus("github-2026-09")[0]) == {"pond.py", "reed.py"}

    first = {**corpus("arxiv-2026-09")[0], **corpus("news-2026-09")[0], **corpus("github-2026-09")[0]}
    expected = {
        "arxiv": (
            {"2610.00001"},
            {"2609.00001": "2609.00001", "2610.00002": "2609.00002", "2610.00003": "2609.00001"},
        ),
        "news": ({"fresh", "early"}, {"again": "walk", "nearly": "ducks", "moss": "2610.00001"}),
        "github": ({"new.py"}, {"lake.py": "pond.py"}),
    }
    first |= corpus("arxiv-2026-10")[0]
    holder = {"moss": "arxiv-2026-10"}
    reasons = {}
    for name, (fresh, repeats) in expected.items():
        kept, dropped = corpus(f"{name}-2026-10")
        assert set(kept) == fresh
        for repeat, original in repeats.items():
            match = dropped[repeat].duplicate
            assert match is not None, repeat
            assert (match.id, match.corpus) == (first[original].id, holder.get(repeat, f"{name}-2026-09")), (
                repeat
            )
            reasons[repeat] = dropped[repeat].drop_reason
    assert reasons == {
        "2609.00001": "earlier-version",
        "2610.00002": "duplicate-exact",
        "2610.00003": "duplicate-near",
        "again": "duplicate-exact",
        "nearly": "duplicate-near",
        "moss": "duplicate-near",
        "lake.py": "duplicate-exact",
    }


@pytest.mark.slow
def test_an_older_window_that_is_collected_later_finds_its_papers(town: Path) -> None:
    """What a listing said of a paper of another window is not held against the paper."""
    loaded = params({"arxiv": PAPERS})
    loaded["snapshots"] = dict(reversed(loaded["snapshots"].items()))
    (town / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))
    for name in loaded["snapshots"]:
        for command in ("collect", "extract", "dedup"):
            assert main([command, name]) == 0
    dropped = corpus("arxiv-2026-09")[1]
    # Its text came out in October under another number, and that snapshot comes first here.
    assert {name: d.drop_reason for name, d in dropped.items()} == {
        "2609.00001": "duplicate-near",
        "2609.00002": "duplicate-exact",
    }
    assert all(d.duplicate and d.duplicate.id != d.id for d in dropped.values())


def test_an_open_window_is_polled_without_an_error(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under `upcoming` a round ends well and says what it could not have; under `snapshots` it stops the pipeline."""
    site = {**SITE, "sitemaps": ["https://town.example/none.xml"]}
    entry = {
        "source": "news",
        "content": "news",
        "sites": [site],
        "since": "2026-10-01",
        "until": "2027-01-01",
    }
    for section, status in (("upcoming", 0), ("snapshots", 2)):
        listed = {"snapshots": {}, section: {"news-open": entry}}
        (town / "params.yaml").write_text(yaml.safe_dump(listed))
        assert main(["collect", "news-open"]) == status
    out, err = capsys.readouterr()
    assert out.startswith("round 1 of snapshot news-open is kept; its window is open until 2027-01-01")
    assert "not had so far: https://town.example/none.xml answers 404" in out
    assert "until then its entry belongs under `upcoming`" in err


KILLED = """
import sys
import yaml
from pathlib import Path
from samples import InstantClock
from collectors import collect
from collectors.__main__ import main

collect.SystemClock = InstantClock
sys.exit(max(main(["collect", name]) for name in yaml.safe_load(Path("params.yaml").read_text())["snapshots"]))
"""


@pytest.mark.slow
def test_ten_kills_of_real_sources_leave_no_trace(tmp_path: Path, world: World) -> None:
    """Kill -9 in papers, pages and clones: the same snapshots, and nothing that was answered is asked again."""
    rng = random.Random(3)
    serve(world, tmp_path / "served")
    listed = params(
        {
            "arxiv": PAPERS,
            "news": {"source": "news", "content": "news", "sites": [SITE]},
            "github": {"source": "github", "content": "code", "min_stars": 0},
        }
    )
    listed["snapshots"] = {name: entry for name, entry in listed["snapshots"].items() if name.endswith("10")}

    def start(name: str) -> "subprocess.Popen[bytes]":
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "params.yaml").write_text(yaml.safe_dump(listed, sort_keys=False))
        given = {**os.environ, **variables(folder, world), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        return subprocess.Popen(
            [sys.executable, "-c", KILLED], cwd=folder, env=given, stdout=subprocess.DEVNULL
        )

    with served(tmp_path / "served") as (world.git, asked):
        for _ in range(10):
            process, stop = start("a"), len(world.asked) + rng.randint(1, 4)
            while process.poll() is None and len(world.asked) + len(asked) // 4 < stop:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
            process.kill()
            process.wait()
        assert start("a").wait() == 0
        disturbed = Counter((a.host, a.path, tuple(sorted(a.query.items()))) for a in world.asked)
        world.asked.clear()
        assert start("b").wait() == 0
        plain = Counter((a.host, a.path, tuple(sorted(a.query.items()))) for a in world.asked)
    assert set(disturbed) == set(plain)
    assert (disturbed - plain).total() <= 10  # at most the exchange in hand at each kill
    for path in (p for p in (tmp_path / "b/corpora/raw").rglob("*") if p.is_file()):
        assert sha256_of(path) == sha256_of(tmp_path / "a" / path.relative_to(tmp_path / "b")), path


@pytest.mark.slow
def test_dvc_builds_a_corpus_from_the_world(tmp_path: Path, world: World) -> None:
    """Real DVC, real waits; a plain run refuses to go to the web. Papers and news are built when they are refreshed."""
    serve(world, tmp_path / "served")
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("collectors", "evaluate", ".dvc"):
        ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "corpora").mkdir()
    shutil.copy(ROOT / "corpora" / "removed.csv", folder / "corpora")
    listed = params({"github": {"source": "github", "content": "code", "min_stars": 0, "max_documents": 1}})
    listed["snapshots"] = {name: entry for name, entry in listed["snapshots"].items() if name.endswith("10")}
    (folder / "params.yaml").write_text(yaml.safe_dump(listed, sort_keys=False))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    names = [f"dedup@{name}" for name in listed["snapshots"]]

    def repro(**more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["dvc", "repro", *names],
            cwd=folder,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = repro()
    assert refused.returncode != 0
    assert "would be scraped from the web" in refused.stderr + refused.stdout
    with served(tmp_path / "served") as (world.git, _):
        built = repro(**variables(tmp_path, world))
    assert built.returncode == 0, built.stderr + built.stdout
    for name in listed["snapshots"]:
        kept = list(read_documents(folder / "corpora" / name / "documents.parquet"))
        assert kept, name
    card = (folder / "corpora" / "github-2026-10" / "README.md").read_text()
    assert "**This snapshot is not complete:**" in card
    assert "\n- stopped at max_documents = 1\n" in card
    again = repro()
    assert again.returncode == 0
    assert "Data and pipelines are up to date." in again.stderr + again.stdout
