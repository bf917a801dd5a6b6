"""Three snapshots, five commits and two accidents: what every command on versions answers is what was planted."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo
from test_audit import flip
from test_refresh import PAPERS
from test_refresh_command import at, change, entry, repository
from test_remotes import AUTHOR, done

from collectors.__main__ import main as collectors
from collectors.document import read_documents, sha256_of
from evaluate.__main__ import main as evaluate
from evaluate.backends.compressors import CODECS
from samples import InstantClock

pytestmark = pytest.mark.slow

AUGUST, SEPTEMBER, OCTOBER = NAMES = ("notes-2026-08", "notes-2026-09", "news-2026-10")
Said = Callable[..., Any]
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def noise(seed: int, n: int) -> str:
    """Return n random characters, which every compressor pays dearly for."""
    return "".join(random.Random(seed).choices(f"{ascii_lowercase}  \n", k=n))


CHEAP = [f"{noise(seed, 150)} said the heron.\n" * 6 for seed in range(10)]
REPEATED = "".join(f"{noise(99, 90)}, and {number} reeds stood in the water.\n" for number in range(30))
TEXTS: dict[str, dict[str, str]] = {
    AUGUST: {**{f"august {n}": CHEAP[n] for n in range(6)}, "short": noise(50, 300)},
    SEPTEMBER: {**{f"september {n}": noise(60 + n, 900) for n in range(5)}, "withdrawn": REPEATED},
    OCTOBER: {f"october {n}": CHEAP[6 + n] for n in range(4)}
    | {"copy": CHEAP[3], "nearly withdrawn": f"{REPEATED}And that was all."},
}


def rate(codec: str, name: str, *without: str) -> float:
    """Return bits per character of a snapshot but for documents of these titles, by definition."""
    texts = [text for title, text in TEXTS[name].items() if title not in without]
    return 8 * sum(len(CODECS[codec].compress(text.encode())) for text in texts) / sum(map(len, texts))


def files() -> dict[str, str]:
    """Return the digest of every file that the pipeline made, by path."""
    paths = (path for top in ("corpora", "results") for path in Path(top).rglob("*"))
    return {f"{path}": sha256_of(path) for path in paths if path.is_file()}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A repository; the commit of each version, the digests of its files by path; ids of documents by title."""

    folder: Path
    commits: dict[str, str]
    held: dict[str, dict[str, str]]
    ids: dict[str, str]


def planted(name: str) -> dict[str, Any]:
    """Write the source of a snapshot; return its entry."""
    lines = (json.dumps({"title": title, "text": text}) for title, text in TEXTS[name].items())
    Path(f"../{name}.jsonl").write_text("\n".join(lines))
    kind, month = name.split("-", 1)
    terms = {"content": {"notes": "prose"}.get(kind, kind), "language": "en", "license": "MIT"}
    kept = {"source": "imported", "path": f"../{name}.jsonl", "published": month, **terms}
    return entry(kept, f"{month}-01", f"2026-{int(month[-2:]) + 1:02}-01")


def version(history: History, name: str, known: Sequence[str] = NAMES, new: Sequence[str] = ()) -> None:
    """Run what `dvc repro` would, in this process; record and commit it."""
    assert not any(map(collectors, [*product(("collect", "extract"), new), *product(("dedup",), known)]))
    measures = product(("score", "entropy", "membership", "phylogeny", "passages"), ("--all",))
    assert not any(map(evaluate, [*measures, ("fit",), ("report",)]))
    with Repo(".") as repo:
        repo.commit(force=True)
    done(Path(), "git", "add", "--all")
    done(Path(), "git", *AUTHOR, "commit", "--quiet", "--message", "a version")
    history.commits[name] = done(Path(), "git", "rev-parse", "HEAD").strip()
    history.held[name] = files()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> History:
    """The history, lived once: five versions, one change each."""
    base = tmp_path_factory.mktemp("history")
    folder = repository(base / "clone", {}, {"papers-2026-11": entry(PAPERS, "2026-11-01", "2026-12-01")})
    found = History(folder=folder, commits={}, held={}, ids={})
    with Patch.context() as patch:
        patch.chdir(folder)
        with Path(".dvc/config").open("a") as config:
            config.write(f"    remote = store\n['remote \"store\"']\n    url = {base / 'store'}\n")
        change(folder, lambda p: p["models"].update(squeezed={"backend": "compressors", "codec": "xz"}))
        change(folder, lambda p: p["snapshots"].update({name: planted(name) for name in NAMES[:2]}))
        version(found, "first", known=NAMES[:2], new=NAMES[:2])
        change(folder, lambda p: p["snapshots"].update({OCTOBER: planted(OCTOBER)}))
        version(found, "grown", new=(OCTOBER,))
        change(folder, lambda p: p["filters"]["prose"].update(min_characters=400))
        version(found, "filtered")
        for name in NAMES:
            documents = read_documents(Path(f"corpora/documents/{name}.parquet"))
            found.ids.update({document.title: document.id for document in documents})
        Path("corpora/removed.csv").write_text(f"id,reason\n{found.ids['withdrawn']},asked by its author\n")
        version(found, "removed")
        change(folder, lambda p: p["models"]["squeezed"].update(codec="brotli"))
        version(found, "last")
    return found


@pytest.fixture
def history(lived: History, tmp_path: Path, monkeypatch: Patch) -> History:
    """A copy of the repository, at its last version, as the working directory."""
    monkeypatch.chdir(shutil.copytree(lived.folder, tmp_path / "repository", symlinks=True))
    return lived


@pytest.fixture
def said(capfd: Captured) -> Said:
    """What a command says with --json."""

    def ask(main: Callable[[Sequence[str]], int], *arguments: str) -> Any:
        capfd.readouterr()
        assert main([*arguments, "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    return ask


def test_diff_names_every_document_with_its_cause(history: History, said: Said) -> None:
    """What a snapshot brought, a filter dropped and its author withdrew; a copy of that stays away."""
    said(collectors, "diff", history.commits["first"], "HEAD", "--parquet", "rows.parquet")
    titles = {identifier: title for title, identifier in history.ids.items()}
    rows = {titles[row["id"]]: row for row in pq.read_table("rows.parquet").to_pylist()}
    assert {t: (r["snapshot"], r["change"], r["cause"], r["reason"]) for t, r in rows.items()} == {
        "short": (AUGUST, "removed", "filter", "min_characters"),
        "withdrawn": (SEPTEMBER, "removed", "removal", "asked by its author"),
        **{f"october {n}": (OCTOBER, "added", "snapshot", "") for n in range(4)},
    }
    assert (rows["short"]["value"], rows["short"]["threshold"]) == (len(TEXTS[AUGUST]["short"]), 400)
    assert rows["short"]["because"] == "filters.prose.min_characters 200 → 400"
    dropped = read_documents(Path(f"corpora/{OCTOBER}/dropped.parquet"))
    assert {d.title: (d.drop_reason, d.duplicate and d.duplicate.id) for d in dropped} == {
        "copy": ("duplicate-exact", history.ids["august 3"]),
        "nearly withdrawn": ("duplicate-near", history.ids["withdrawn"]),
    }


def test_trace_leads_to_the_commits_that_made_corpus_and_cell(history: History, said: Said) -> None:
    """August is as the filter left it, September as the removal, October as it came; one codec is the last's."""
    built = {AUGUST: "filtered", SEPTEMBER: "removed", OCTOBER: "grown"}
    without = {AUGUST: ("short",), SEPTEMBER: ("withdrawn",), OCTOBER: ("copy", "nearly withdrawn")}
    for model, codec, measured in (("gzip", "gzip", "removed"), ("squeezed", "brotli", "last")):
        for name, corpus in built.items():
            row = f"model={model},corpus={name},protocol=document,metric=bits_per_character"
            (figure,) = said(evaluate, "trace", f"scores.csv:{row}")
            (cell,) = figure["cells"]
            assert float(figure["value"]) == pytest.approx(rate(codec, name, *without[name]), rel=1e-8)
            assert (cell["revision"], cell["notes"]) == (CODECS[codec].settings, [])
            assert cell["corpus_sha256"] == history.held["last"][f"corpora/{name}/documents.parquet"]
            made = [cell[stage]["made"]["id"] for stage in ("built", "recorded")]
            assert made == [history.commits[corpus], history.commits[measured]]


def test_impact_has_the_planted_signs_and_parts(history: History, said: Said) -> None:
    """A dear text that goes lowers the rate, a cheap one raises it; a better codec is new scores alone."""
    both = ("gzip", "squeezed")
    for before, after, models, corpora, gone, codec, sign in (
        ("grown", "filtered", both, [AUGUST], [(), ("short",)], "xz", -1),
        ("filtered", "removed", both, [SEPTEMBER], [(), ("withdrawn",)], "xz", 1),
        ("removed", "last", both[1:], [SEPTEMBER, AUGUST, OCTOBER], [("withdrawn",)] * 2, "brotli", -1),
    ):
        found = said(evaluate, "impact", history.commits[before], history.commits[after])
        alone = [row for row in found["scores"] if row["protocol"] == "document"]
        impacts = {(row["model"], row["corpus"]): row["impact"] for row in alone}
        name, impact = corpora[0], impacts["squeezed", corpora[0]]
        part, none = ("rescored", "composition") if after == "last" else ("composition", "rescored")
        expected = rate(codec, name, *gone[1]) - rate("xz", name, *gone[0])
        assert impact[part]["value"] == pytest.approx(expected, rel=1e-9)
        assert impact[part]["value"] * sign > 0
        assert impact[none] == {"value": 0, "low": 0, "high": 0}
        counts = [len(TEXTS[name]) - len(titles) for titles in (*gone, gone[1])]
        assert [impact[key] for key in ("n_before", "n_after", "n_same")] == counts
        assert {k for k, v in impacts.items() if v["difference"]["value"]} == set(product(models, corpora))
        assert all(f["pearson"] is None or f["pearson"]["difference"] == 0 for f in found["fits"])


def test_refresh_says_what_comes_next(
    history: History, said: Said, capfd: Captured, monkeypatch: Patch
) -> None:
    """DVC agrees that nothing is to be run; when the window that waits is over, it is due, and another follows."""
    clock = InstantClock(time=at("2026-11-20").timestamp())
    monkeypatch.setattr("collectors.commands.refresh.SystemClock", lambda: clock)
    assert said(collectors, "refresh", "--dry-run") == {"additions": [], "due": []}
    assert collectors(["refresh"]) == 0
    printed = capfd.readouterr()
    assert printed.out == "nothing new: papers until 2026-12-01\n"
    assert "Data and pipelines are up to date." in printed.err
    assert files() == history.held["last"]
    clock.time = at("2027-01-10").timestamp()
    comes = said(collectors, "refresh", "--dry-run")
    assert [(a["name"], a["until"]) for a in comes["additions"]] == [("papers-2026-12", "2027-01-01")]
    assert comes["due"] == ["papers-2026-11"]


def test_audit_names_a_corrupted_shard(history: History, said: Said, capfd: Captured) -> None:
    """A lost bit is found, and nothing is made of that shard; after the checkout all is as it was."""
    clean = said(collectors, "audit", "--full", "--workers", "1")
    assert (clean["clean"], clean["commit"]) == (True, history.commits["last"])
    assert [(r["line"], r["documents"]) for r in clean["removed"]] == [(history.ids["withdrawn"], 1)]
    assert clean["checked"]["again"] == clean["checked"]["records"] == sum(map(len, TEXTS.values()))
    raw = Path(f"corpora/raw/{SEPTEMBER}")
    (shard,) = raw.glob("*.warc.gz")
    flip(shard)
    with pytest.raises(SystemExit, match="^1$"):
        collectors(["audit", "--json", "--workers", "1"])
    findings = json.loads(capfd.readouterr().out)["findings"]
    assert [finding["where"] for finding in findings] == [f"{shard}"]
    assert findings[0]["remedy"].startswith(f"delete it and run `dvc checkout {raw}`")
    assert collectors(["extract", SEPTEMBER]) == 2
    shard.unlink()
    done(Path(), "dvc", "checkout", f"{raw}")
    assert files() == history.held["last"]
    assert said(collectors, "audit", "--full", "--workers", "1") == clean


def test_a_lost_cache_is_restored_from_the_remote_in_every_version(history: History, said: Said) -> None:
    """Old versions are compared as before, and had back to the byte."""
    done(Path(), "dvc", "push", "--all-commits", "--no-run-cache")
    answers = said(collectors, "diff", "HEAD~4", "HEAD"), said(evaluate, "impact", "HEAD~4", "HEAD")
    for top in (".dvc/cache", "results", *(f"corpora/{name}" for name in ("raw", "documents", *NAMES))):
        shutil.rmtree(top)
    assert (said(collectors, "diff", "HEAD~4", "HEAD"), said(evaluate, "impact", "HEAD~4", "HEAD")) == answers
    for name in ("last", "first"):
        done(Path(), "git", "checkout", "--quiet", "--force", history.commits[name])
        done(Path(), "dvc", "pull")
        assert history.held[name].items() <= files().items()
        assert said(collectors, "audit", "--workers", "1")["commit"] == history.commits[name]
