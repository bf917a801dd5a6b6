"""Exports: only what may leave leaves, other tools read it, and others get the same texts by its recipe.

What lm-evaluation-harness makes of the task file was tried by hand, because its dependency named `evaluate` must not
be installed beside ours: version 0.4.13 in an environment of its own, inside an exported folder, with a model in whose
eyes a space costs four bits and any other byte eight. It reported, to the last digit, the bits per byte that the texts
have by count.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import mlcroissant
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_arxiv import Arxiv
from test_collectors_commands import build, run
from test_packages import install
from test_refresh import essay, paper, variables

from collectors import collect
from collectors.croissant import CONTEXT
from collectors.document import UserError, read_documents, sha256_of
from collectors.export import export
from collectors.recipe import Recipe, Wanted, compare, portable
from samples import ROOT, InstantClock, make_document
from world import World

GROW = b"def grow(stone, moss):\n    return [patch for patch in stone if patch.damp and moss.likes(patch)]\n"
WINDOW = {"since": "2026-09-01", "until": "2026-10-01"}
CODE = {"source": "packages", "content": "code", **WINDOW}
CODE["distributions"] = {"Moss.Tools": {"version": "1.0", "published": "2026-09"}}  # type: ignore[assignment]
PAPERS = {
    "source": "arxiv",
    "content": "papers",
    "categories": ["cs.CL"],
    "since": "2026-10-01",
    "until": "2026-11-01",
}
OPEN = "http://creativecommons.org/licenses/by/4.0/"
# The library uses what its own dependencies give up.
CROISSANT = pytest.mark.filterwarnings(
    "ignore:.*ConjunctiveGraph:DeprecationWarning", "ignore:The inplace keyword in DataFrame.reset_index"
)
TASK_CONFIG = {
    *("task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text"),
    *("doc_to_target", "doc_to_image", "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results"),
    *("use_prompt", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config", "num_fewshot"),
    *("metric_list", "output_type", "generation_kwargs", "repeats", "filter_list", "should_decontaminate"),
    *("doc_to_decontamination_query", "gen_prefix", "metadata"),
}
"""What `lm_eval.config.task.TaskConfig` of version 0.4.13 accepts."""


def params(folder: Path, snapshots: dict[str, Any]) -> None:
    """Write params.yaml with filters that small texts pass."""
    filters = {"code": {"min_characters": 10, "license": ["MIT"]}, "papers": {"min_characters": 10}}
    text = yaml.safe_dump({"snapshots": snapshots, "filters": filters}, sort_keys=False)
    (folder / "params.yaml").write_text(text)


@pytest.fixture
def moss(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A working directory with a corpus of an installed distribution, all of which may be passed on."""
    files = {
        "moss/grow.py": GROW * 3,
        "moss/other.py": GROW.replace(b"moss", b"fern") * 2,
        "moss/few.py": b"a = 1",
    }
    install(workspace / "site", files)
    monkeypatch.setattr(sys, "path", [str(workspace / "site"), *sys.path])
    params(workspace, {"moss-2026-09": CODE})
    build(capsys, "moss-2026-09")
    return workspace


@pytest.fixture
def library(workspace: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose network is an arXiv with three papers, one of which may be passed on."""
    serve(world)
    monkeypatch.setattr(collect, "SystemClock", InstantClock)
    for name, value in variables(workspace, world).items():
        monkeypatch.setenv(name, value)
    params(workspace, {"papers-2026-10": PAPERS})
    return workspace


def serve(world: World, words: Callable[[int], str] = essay) -> None:
    """Put the papers on the web, in these words."""
    rows = [
        paper(f"2610.0000{i}", f"2026-10-0{i}", words=words(i), modified=f"2026-10-0{i}", title=f"Walk {i}")
        for i in (1, 2, 3)
    ]
    rows[1].licenses = [OPEN]
    Arxiv(world, rows)


def loaded(folder: Path, config: str, cache: Path) -> Any:
    """Return a config of an exported folder as `datasets` loads it."""
    return datasets.load_dataset(str(folder), config, cache_dir=str(cache))["test"]


@pytest.mark.usefixtures("moss")
def test_a_corpus_of_open_texts_is_exported_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`datasets` loads the texts by default and the recipe by name; both hold the documents that were kept."""
    status, out, err = run(capsys, "export", "moss-2026-09", "-o", "out", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"documents": 2, "with full text": 2, "gaps": []}
    kept = {d.id: d for d in read_documents(Path("corpora/moss-2026-09/documents.parquet"))}
    texts = loaded(Path("out"), "default", tmp_path / "cache")
    assert dict(zip(texts["id"], texts["text"], strict=True)) == {d.id: d.text for d in kept.values()}
    recipe = loaded(Path("out"), "recipe", tmp_path / "cache")
    assert "text" not in recipe.column_names
    for row in recipe:
        same = kept[row["id"]]
        assert (row["native_id"], row["text_sha256"], row["raw_sha256"], row["n_bytes"]) == (
            *(same.native_id, same.text_sha256, same.raw.sha256, same.n_bytes),
        )
    # A corpus of open texts leaves as the file it is.
    assert sha256_of(Path("out/documents.parquet")) == sha256_of(
        Path("corpora/moss-2026-09/documents.parquet")
    )


@pytest.mark.usefixtures("moss")
def test_an_export_is_rebuilt_to_the_same_file(capsys: pytest.CaptureFixture[str]) -> None:
    """From what is installed, elsewhere and without params.yaml: the same bytes."""
    run(capsys, "export", "moss-2026-09", "-o", "out")
    for path in (Path("params.yaml"), Path("corpora")):
        path.replace(f"gone-{path}")
    status, out, err = run(capsys, "rebuild", "out", "--workers", "1")
    assert (status, err) == (0, "")
    assert out == "moss-2026-09: 2 of 2 texts are the same, to the byte; documents.parquet is the same file\n"
    rebuilt = Path("rebuilt/moss-2026-09/documents.parquet")
    assert rebuilt.read_bytes() == Path("gone-corpora/moss-2026-09/documents.parquet").read_bytes()
    status, out, _ = run(capsys, "rebuild", "out", "--workers", "1", "--json")
    assert status == 0
    assert json.loads(out) == {"identical": 2, "same_file": True, "differing": [], "missing": []}


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_texts_that_may_not_be_passed_on_stay(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of three papers one is open: the other two are in the recipe, and no word of them in any file."""
    build(capsys, "papers-2026-10")
    status, out, err = run(capsys, "export", "papers-2026-10", "-o", "out")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "papers-2026-10: 3 documents, 1 with full text"
    kept = list(read_documents(Path("corpora/papers-2026-10/documents.parquet")))
    assert list(loaded(Path("out"), "default", tmp_path / "cache")["native_id"]) == ["2610.00002"]
    assert sorted(loaded(Path("out"), "recipe", tmp_path / "cache")["native_id"]) == [
        "2610.00001", "2610.00002", "2610.00003",
    ]  # fmt: skip
    everything = b"".join(
        path.read_bytes() for path in Path("out").iterdir() if path.suffix != ".parquet"
    ).decode()
    for path in Path("out").glob("*.parquet"):
        everything += json.dumps(pq.read_table(path).to_pylist(), default=str)
    for document in kept:
        words = document.text.split()
        passages = [" ".join(words[start : start + 5]) for start in range(0, len(words) - 5, 5)]
        passages = [
            p for p in passages if not any(p in " ".join(o.text.split()) for o in kept if o is not document)
        ]
        assert len(passages) > 20
        assert any(p in everything for p in passages) is document.redistributable, document.native_id
    card = Path("out/README.md").read_text()
    assert "| CC-BY-4.0 | full text | 1 |" in card
    assert "| LicenseRef-arXiv-nonexclusive-distrib | recipe alone | 2 |" in card


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_others_rebuild_what_may_not_be_passed_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    """From the source itself, to identical texts, once a person lets a stranger's recipe go to the web."""
    build(capsys, "papers-2026-10")
    run(capsys, "export", "papers-2026-10", "-o", "out")
    expected = {d.id: d.text for d in read_documents(Path("corpora/papers-2026-10/documents.parquet"))}
    shutil.rmtree("corpora")
    monkeypatch.delenv("FRESHBITS_NETWORK")
    world.asked.clear()
    status, _, err = run(capsys, "rebuild", "out", "-o", "mine", "--workers", "1")
    assert (status, world.asked) == (2, [])
    assert "from source arxiv, that is from arxiv.org, export.arxiv.org, oaipmh.arxiv.org; set FRESHB" in err
    assert err.count("\n") == 1
    assert not Path("mine").exists()
    monkeypatch.setenv("FRESHBITS_NETWORK", "1")
    status, out, err = run(capsys, "rebuild", "out", "-o", "mine", "--workers", "1")
    assert (status, err) == (0, "")
    assert out.startswith("papers-2026-10: 3 of 3 texts are the same, to the byte")
    assert world.paths("export.arxiv.org")
    assert {d.id: d.text for d in read_documents(Path("mine/papers-2026-10/documents.parquet"))} == expected


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_what_is_no_longer_the_same_is_named(capsys: pytest.CaptureFixture[str], world: World) -> None:
    """A changed text and one that is gone: neither is taken for the document, and the exit status is 1."""
    build(capsys, "papers-2026-10")
    run(capsys, "export", "papers-2026-10", "-o", "out")
    serve(world, lambda i: essay(i).replace("herons", "cranes") if i == 3 else essay(i))
    world.on("export.arxiv.org", "/src/2610.00001v1", b"%auto-ignore\nThis paper has been withdrawn")
    with pytest.raises(SystemExit) as stopped:
        run(capsys, "rebuild", "out", "--workers", "1")
    assert stopped.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "papers-2026-10: 1 of 3 texts are the same, to the byte"
    assert said[1:] == [
        "2610.00003 has another text than when it was exported",
        "2610.00001 of the export was not had",
    ]
    rebuilt = Path("rebuilt/papers-2026-10")
    assert [d.native_id for d in read_documents(rebuilt / "documents.parquet")] == ["2610.00002"]
    assert json.loads((rebuilt / "corpus.json").read_text())["gaps"][-2:] == said[1:]


@pytest.mark.usefixtures("moss")
def test_a_removed_document_is_not_rebuilt(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asked to be left out is left out of an older export, too."""
    run(capsys, "export", "moss-2026-09", "-o", "out")
    (first, second) = read_documents(Path("corpora/moss-2026-09/documents.parquet"))
    Path("corpora/removed.csv").write_text(f"id,reason\n{first.id},asked\n")
    with pytest.raises(SystemExit):
        run(capsys, "rebuild", "out", "--workers", "1")
    assert f"{first.native_id} of the export was not had" in capsys.readouterr().out
    (left,) = read_documents(Path("rebuilt/moss-2026-09/documents.parquet"))
    assert left.id == second.id


@CROISSANT
@pytest.mark.usefixtures("moss")
def test_croissant_validates_and_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """The format's own library finds no error and nothing to warn of, and gives every record of both files."""
    run(capsys, "export", "moss-2026-09", "-o", "out")
    dataset = mlcroissant.Dataset("out/croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    for name in ("documents", "recipe"):
        table = pq.read_table(f"out/{name}.parquet").to_pylist()
        records = list(dataset.records(name))
        assert [r[f"{name}/id"].decode() for r in records] == [row["id"] for row in table]
        assert [r[f"{name}/n_bytes"] for r in records] == [row["n_bytes"] for row in table]
    listed = {
        entry["@id"]: entry["sha256"]
        for entry in json.loads(Path("out/croissant.json").read_text())["distribution"]
    }
    assert listed == {name: sha256_of(Path("out") / name) for name in ("documents.parquet", "recipe.parquet")}


@CROISSANT
def test_the_vocabulary_is_that_of_the_format() -> None:
    """Word for word the context that mlcroissant writes for this version of the format."""
    assert mlcroissant.Metadata(name="x").to_json()["@context"] == CONTEXT


@pytest.mark.usefixtures("moss")
def test_the_task_of_the_harness_has_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """Only settings that it knows, the metric alone that needs no words, and a file that `datasets` loads."""
    run(capsys, "export", "moss-2026-09", "-o", "out")
    task = yaml.safe_load(Path("out/freshbits_moss-2026-09.yaml").read_text())
    assert set(task) <= TASK_CONFIG
    assert (task["task"], task["output_type"]) == ("freshbits_moss-2026-09", "loglikelihood_rolling")
    assert [metric["metric"] for metric in task["metric_list"]] == ["bits_per_byte"]
    files = {split: f"out/{name}" for split, name in task["dataset_kwargs"]["data_files"].items()}
    rows = datasets.load_dataset(task["dataset_path"], data_files=files, cache_dir="cache")[
        task["test_split"]
    ]
    assert all(rows[task["doc_to_target"]])


@CROISSANT
def test_without_open_texts_the_recipe_is_the_data_set(tmp_path: Path) -> None:
    """No empty file of texts and no task to run on it; the recipe is what loads by default."""
    documents = [make_document(f"text {i}", i, redistributable=False) for i in range(3)]
    assert export(tmp_path / "out", recipe(3), documents) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "croissant.json", "recipe.json", "recipe.parquet",
    }  # fmt: skip
    table = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["test"]
    assert sorted(table["native_id"]) == [f"document-{i}" for i in range(3)]
    dataset = mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))
    assert not dataset.metadata.ctx.issues.warnings


def recipe(n_documents: int) -> Recipe:
    """Return a recipe of sample documents."""
    entry = {"source": "test", "content": "prose", **WINDOW}
    return Recipe(
        name="test-2026-09",
        entry=entry,
        filters={},
        collector="test/1",
        commit="",
        modified=False,
        shards={},
        gaps=["a site was down"],
        documents_sha256="0" * 64,
        n_documents=n_documents,
    )


def test_an_export_says_what_is_missing(tmp_path: Path) -> None:
    """Gaps of the snapshot stand on the card and in the recipe."""
    export(tmp_path / "out", recipe(1), [make_document("text", 1)])
    assert "not complete:**\n\n- a site was down\n" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["gaps"] == ["a site was down"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """On the card of an export, in its table and its list, and no licence becomes an address."""
    license_ = "../x](http://h) | <b>\n---\nlicense: mit"
    hostile = make_document("text", 1, license=license_, language="a:")
    asked = replace(
        recipe(1),
        gaps=["![x](http://h/pixel)\n# y"],
        collector="`</code>",
        entry={**WINDOW, "source": "s", "content": "[c](http://h)"},
    )
    export(tmp_path / "out", asked, [hostile])
    card = (tmp_path / "out" / "README.md").read_text()
    header, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["license"] == "other"
    reader = MarkdownIt("commonmark").enable("table")
    inline = [child for token in reader.parse(body) for child in token.children or []]
    assert {token.type for token in inline} == {
        "text", "softbreak", "strong_open", "strong_close", "code_inline"
    }  # fmt: skip
    assert "../x](http://h) | <b> --- license: mit" in "".join(token.content for token in inline)
    metadata = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert metadata["license"] == [license_]


class Meanwhile(list[Any]):
    """Documents, while which are written for the first time something happens."""

    def __init__(self, documents: Sequence[Any], happens: Callable[[], object]) -> None:
        super().__init__(documents)
        self.happens = [happens]

    def __iter__(self) -> Iterator[Any]:
        if any(Path().glob(".out.*")) and self.happens:
            self.happens.pop()()
        return super().__iter__()


@pytest.mark.usefixtures("moss")
def test_two_exports_at_once_do_not_destroy_each_other() -> None:
    """The one that is done first stands whole, and the other says so."""
    other = [sys.executable, "-m", "collectors", "export", "moss-2026-09", "-o", "out"]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    documents = [make_document(f"text {i}", i) for i in range(3)]
    late = Meanwhile(documents, lambda: subprocess.run(other, env=given, check=True))
    with pytest.raises(UserError, match="out was filled meanwhile and is left as it is"):
        export(Path("out"), recipe(3), late)
    assert not late.happens
    assert json.loads(Path("out/recipe.json").read_text())["name"] == "moss-2026-09"
    assert {path.name for path in Path().glob("*out*")} | {path.name for path in Path().glob(".out*")} == {
        "out"
    }
    held = json.loads(Path("out/croissant.json").read_text())["distribution"]
    assert {file["name"]: file["sha256"] for file in held} == {
        name: sha256_of(Path("out") / name) for name in ("documents.parquet", "recipe.parquet")
    }


@pytest.mark.usefixtures("moss")
def test_two_exports_are_the_same_bytes(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    """Whatever the clock, and nothing names a path of this machine."""
    for name in ("one", "two"):
        assert run(capsys, "export", "moss-2026-09", "-o", name)[0] == 0
    for path in Path("one").iterdir():
        data = path.read_bytes()
        assert data == (Path("two") / path.name).read_bytes(), path.name
        assert str(workspace).encode() not in data


@pytest.mark.usefixtures("moss")
def test_the_recipe_names_the_commit(capsys: pytest.CaptureFixture[str]) -> None:
    """And whether what is on disk is that commit."""
    for command in (["init", "--quiet"], ["add", "params.yaml"], ["commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *command], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    run(capsys, "export", "moss-2026-09", "-o", "one")
    said = json.loads(Path("one/recipe.json").read_text())
    assert (said["commit"], said["modified"]) == (head, False)
    with Path("params.yaml").open("a") as file:
        file.write("# a comment\n")
    run(capsys, "export", "moss-2026-09", "-o", "two")
    assert json.loads(Path("two/recipe.json").read_text())["modified"] is True
    assert f"commit `{head}` with changes that are not committed" in Path("two/README.md").read_text()


IMPORTED = {"source": "imported", "content": "code", **WINDOW, "published": "2026-09", "license": "MIT"}


@pytest.fixture
def shelf(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A corpus of a folder, named by its whole path, that lies in another one."""
    folder = workspace / "private" / "shelf"
    folder.mkdir(parents=True)
    rows = [{"text": (GROW * n).decode()} for n in (1, 2)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    params(workspace, {"shelf-2026-09": {**IMPORTED, "path": str(folder)}})
    build(capsys, "shelf-2026-09")
    return folder


def test_a_folder_is_exported_by_its_name_and_rebuilt_from_ones_own_copy(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing says where it was; whoever rebuilds says where theirs is, and has the same file."""
    assert run(capsys, "export", "shelf-2026-09", "-o", "out")[0] == 0
    assert json.loads(Path("out/recipe.json").read_text())["entry"]["path"] == "shelf"
    assert not any(b"private" in path.read_bytes() for path in Path("out").iterdir())
    other = shutil.copytree(shelf, shelf.parent / "copy" / "shelf")
    shutil.rmtree(shelf)
    status, out, err = run(capsys, "rebuild", "out", "--path", str(other), "--workers", "1")
    assert (status, err) == (0, "")
    assert "texts are the same, to the byte; documents.parquet is the same file" in out
    other.rename(other.with_name("another"))
    status, _, err = run(capsys, "rebuild", "out", "--path", str(other.with_name("another")), "-o", "b")
    assert status == 2
    assert "another must have the name 'shelf'" in err


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://moss:secret@pond.example/feed", "pond.example/feed"),
        ("https://pond.example/feed?key=secret", "pond.example/feed"),
    ],
)
def test_addresses_with_secrets_are_not_exported(address: str, shown: str) -> None:
    """The address is named, the secret is not; the same address without it may leave."""
    entry = {"source": "news", "sites": [{"host": "pond.example", "feeds": [address]}]}
    with pytest.raises(UserError, match=f"asks {shown} with a user or a query") as refused:
        portable("town", entry)
    assert "secret@" not in str(refused.value)
    assert "key=" not in str(refused.value)
    plain = {"source": "news", "sites": [{"host": "pond.example", "feeds": [f"https://{shown}"]}]}
    assert portable("town", plain) == plain


def test_repositories_on_this_machine_are_exported_by_name() -> None:
    """Addresses stay as they are."""
    named = {
        "source": "github",
        "repositories": ["/home/moss/private/tools", "https://github.com/town/first"],
    }
    assert portable("code", named)["repositories"] == ["tools", "https://github.com/town/first"]


@pytest.mark.usefixtures("moss")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"source": "imported", "path": "{private}"}, "is of a data set in folder 'private' elsewhere; give your"),
        ({"source": "github", "repositories": ["{private}"]}, "would read '{private}' from this machine"),
        ({"source": "github", "repositories": ["private"]}, "would read 'private' from this machine"),
        ({"source": "github", "repositories": ["https://h/../p"]}, "would read 'https://h/../p' from this"),
        ({"source": "github", "repositories": ["~/private"]}, "would read '~/private' from this machine"),
        ({"source": "news", "sites": [{"host": "h", "feeds": ["file:///p"]}]}, "would read 'file:///p' from"),
        ({"source": "hub", "dataset": "a/b"}, "from source hub, that is from huggingface.co; set FRESHBITS_NET"),
        (
            {"source": "news", "sites": [{"host": "pond.example", "feeds": ["https://feeds.example/a"]}]},
            "that is from feeds.example, pond.example; set",
        ),
        ({"source": "packages", "collector": "moss/1"}, "was made by 'moss/1', and asks source 'packages', which"),
    ],
)  # fmt: skip
def test_a_strangers_recipe_reads_nothing_of_this_machine_and_asks_nobody(
    workspace: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], message: str
) -> None:
    """Unless a person says so: one line with what it wanted, and nothing collected."""
    private = workspace / "private"
    private.mkdir()
    (private / "diary.jsonl").write_text('{"text": "mine"}\n')
    run(capsys, "export", "moss-2026-09", "-o", "out")
    wanted = json.loads(json.dumps(entry).replace("{private}", str(private)))
    said = json.loads(Path("out/recipe.json").read_text())
    said["collector"] = wanted.pop("collector", f"{wanted['source']}/1")
    said["entry"] = {"content": "code", **WINDOW, "published": "2026-09", **wanted}
    if wanted["source"] != "imported":
        del said["entry"]["published"]
    Path("out/recipe.json").write_text(json.dumps(said))
    status, _, err = run(capsys, "rebuild", "out", "--workers", "1")
    assert status == 2
    assert message.replace("{private}", str(private)) in err
    assert err.count("\n") == 1
    assert not Path("rebuilt").exists()


def _occupied() -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")


def _altered() -> None:
    path = Path("corpora/moss-2026-09/documents.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"X")


def _unbuilt() -> None:
    Path("corpora/moss-2026-09/corpus.json").unlink()


def _removed() -> None:
    first = next(iter(read_documents(Path("corpora/moss-2026-09/documents.parquet"))))
    Path("corpora/removed.csv").write_text(f"id,reason\n{first.id},asked\n")


def _changed() -> None:
    params(Path(), {"moss-2026-09": {**CODE, "until": "2026-11-01"}})


@pytest.mark.usefixtures("moss")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_occupied, "out is not empty"),
        (_altered, "documents.parquet is not the file that corpus.json beside it describes"),
        (_unbuilt, "corpora/moss-2026-09 holds no built corpus"),
        (_removed, "holds 1 documents that corpora/removed.csv removes; build it anew"),
        (_changed, "answers another request than params.yaml makes"),
    ],
)
def test_what_must_not_leave_is_refused(
    capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], message: str
) -> None:
    """One line, exit status 2, and nothing written."""
    spoil()
    before = sorted(Path().glob("out/*"))
    status, _, err = run(capsys, "export", "moss-2026-09", "-o", "out")
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert sorted(Path().glob("out/*")) == before


def _damage(name: str, old: bytes, new: bytes) -> Callable[[], None]:
    def spoil() -> None:
        path = Path("out") / name
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return spoil


@pytest.mark.usefixtures("moss")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_damage("recipe.json", b'"format": 1', b'"format": 2'), "another format than 1"),
        (_damage("recipe.json", b'"n_documents": 2', b'"n_documents": 3'), "do not belong together"),
        (
            _damage("recipe.json", b'"moss-2026-09"', b'"../elsewhere"'),
            "snapshot name '../elsewhere' must be of",
        ),
        (_damage("recipe.json", b'"packages"', b'"cellars"'), "source 'cellars' is unknown"),
        (_damage("recipe.json", b'"gaps": []', b'"gaps": 5'), "recipe.json has 'gaps' of another kind"),
        (_damage("recipe.json", b'"gaps": []', b'"gaps": [{}]'), "recipe.json has 'gaps' of another kind"),
        (_damage("recipe.json", b'"shards": {', b'"shards": {"../x": "0",'), "has 'shards' of another kind"),
        (_damage("recipe.json", b'"shards": {', b'"shards": {"x": 1,'), "has 'shards' of another kind"),
        (_damage("recipe.json", b'"modified": false', b'"modified": null'), "has 'modified' of another kind"),
        (_damage("recipe.json", b'"commit": "', b'"commit": "x'), "has 'commit' of another kind"),
        (_damage("recipe.json", b'"n_documents": 2', b'"n_documents": true'), "has 'n_documents' of another"),
        (
            _damage("recipe.json", b'"documents_sha256": "', b'"documents_sha256": "x'),
            "has 'documents_sha256' of",
        ),
        (_damage("recipe.json", b"{", b"["), "holds no readable recipe"),
        (
            _damage("recipe.parquet", b"PAR1", b"PAR9"),
            "recipe.parquet is not the file that recipe.json beside it names",
        ),
        (lambda: shutil.rmtree("out"), "out holds no readable recipe; name a folder that"),
    ],
)
def test_a_recipe_that_is_none_is_one_line(
    capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], message: str
) -> None:
    """A folder of a stranger is data: nothing is collected for a recipe that cannot be trusted to be one."""
    run(capsys, "export", "moss-2026-09", "-o", "out")
    spoil()
    status, _, err = run(capsys, "rebuild", "out")
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert not Path("rebuilt").exists()


@given(st.lists(st.sampled_from(["same", "other", "gone"]), max_size=8), st.integers(0, 3))
def test_every_document_of_a_recipe_is_accounted_for_once(fates: list[str], more: int) -> None:
    """Same, differing or missing; what nobody asked for is not among them."""
    documents = {i: make_document(f"text {i}", i) for i in range(len(fates) + more)}
    wanted, found = {}, [documents[i] for i in range(len(fates), len(documents))]
    for number, fate in enumerate(fates):
        document = documents[number]
        digest = "f" * 64 if fate == "other" else document.text_sha256
        wanted[document.id] = Wanted(native_id=document.native_id, url="", text_sha256=digest)
        found += [document] if fate != "gone" else []
    result = compare(wanted, found)
    by_fate = {
        fate: [documents[i].native_id for i, f in enumerate(fates) if f == fate] for fate in set(fates)
    }
    assert [d.native_id for d in result.identical] == by_fate.get("same", [])
    assert result.differing == by_fate.get("other", [])
    assert result.missing == by_fate.get("gone", [])
