"""Data sets that others made: the right rows of the right files, kept whole, dated as declared."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from collectors import collect
from collectors.document import Document, UserError
from collectors.imported import folder as imported
from collectors.imported import hub, layout, rows
from collectors.request import Request, request
from collectors.snapshot import Snapshot, read_records
from samples import collected
from world import Answer, Asked, World

# Without the clock: a test is known by its parameters.
zipped = partial(gzip.compress, mtime=0)

WINDOW = {"content": "prose", "since": "2024-02-01", "until": "2024-03-01"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
license: cc-by-nc-sa-4.0
configs:
- config_name: cc
  data_files:
  - split: test
    path: cc.jsonl
- config_name: python
  data_files:
  - split: test
    path: python.jsonl
---
# Texts to compress
"""


def lines(*found: Mapping[str, Any]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found).encode()


def text(number: int) -> str:
    """Return a text of its own."""
    return f"On day {number} the café by the pond had {number + 2} guests, and one of them was a heron.\n"


def compression(number: int, subset: str, **meta: Any) -> dict[str, Any]:
    """Return a row as the corpora of Huang et al. 2024 have them: `content`, `subset` and `meta`."""
    return {"content": text(number), "subset": subset, "meta": meta}


CC = lines(
    *(compression(i, "cc", url=f"https://pond.example/{i}", date=f"2024-02-0{i + 1}") for i in range(3))
)
PYTHON = lines(*(compression(i, "python", stars=i) for i in range(10, 12)))


@pytest.fixture
def shelf(workspace: Path) -> Path:
    """A folder in that form."""
    write(workspace / "shelf", {"README.md": CARD.encode(), "cc.jsonl": CC, "python.jsonl": PYTHON})
    return workspace / "shelf"


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def asked(source: str = "imported", **settings: Any) -> Request:
    """Return a request for a part of the sample."""
    given = {"path": "shelf"} if source == "imported" else {"dataset": "town/shelf", "revision": COMMIT}
    chosen: dict[str, Any] = {"source": source, **WINDOW, **given, "text": "content", **settings}
    if not chosen.get("date"):
        chosen.setdefault("published", "2024-02")
    return request("shelf-2024-02", chosen)


def taken(folder: Path, wanted: Request) -> tuple[Snapshot, list[Document]]:
    """Collect from a folder and extract, through a real snapshot."""
    snapshot = collect.collect(imported, wanted, folder / "raw", folder / "staging")
    return snapshot, list(imported.extract(read_records(folder / "raw"), wanted, 1))


def test_a_config_of_a_dataset_folder_becomes_documents(shelf: Path, tmp_path: Path) -> None:
    """Rows in the form of hkust-nlp/llm-compression, with a date that is declared for all of them."""
    snapshot, found = taken(tmp_path, asked(config="cc", split="test", license="CC-BY-NC-SA-4.0"))
    assert snapshot.gaps == ()
    assert [d.text for d in found] == [text(i) for i in range(3)]
    first = found[0]
    assert (first.source, first.native_id, first.extractor) == (
        "imported",
        "shelf/cc.jsonl#row=0",
        "imported/1",
    )
    assert (first.published, first.published_precision) == (datetime(2024, 2, 1, tzinfo=UTC), "month")
    assert [(e.kind, e.value) for e in first.date_evidence] == [("declared", "2024-02")]
    assert (first.license, first.redistributable) == ("CC-BY-NC-SA-4.0", False)
    assert (first.language, first.metadata, first.fetched) == ("en", {"subset": "cc"}, None)
    assert len({d.version for d in found}) == 3
    assert shelf.is_dir()


def test_extraction_needs_the_snapshot_alone(shelf: Path, tmp_path: Path) -> None:
    """The folder may be gone; the rows are in the raw records, whole."""
    wanted = asked(config="python")
    _, before = taken(tmp_path, wanted)
    shutil.rmtree(shelf)
    records = list(read_records(tmp_path / "raw"))
    assert list(imported.extract(records, wanted, 1)) == before
    assert [json.loads(record.payload) for _, record in records] == [
        json.loads(line) for line in PYTHON.splitlines()
    ]
    assert not any(str(tmp_path) in record.uri for _, record in records)


def test_two_collections_of_a_folder_are_the_same_bytes(shelf: Path, tmp_path: Path) -> None:
    """No clock and no path of this machine is in a snapshot."""
    assert shelf.is_dir()
    one, _ = taken(tmp_path / "one", asked(config="cc"))
    two, _ = taken(tmp_path / "two", asked(config="cc"))
    assert one.shards == two.shards


def test_rows_have_dates_of_their_own(workspace: Path) -> None:
    """Outside the window they are left out; without a date they are dropped, and say so."""
    stated: list[Any] = [
        "2024-02-03", "2024-02-03T23:30:00-01:00", "2024-02", "2024-01-31", "2024-03-01", "soon", None, 5,
        "2024-02-29T23:59:59Z", "0001-01-01T00:00:00+14:00",
    ]  # fmt: skip
    found = [compression(i, "cc", date=value) for i, value in enumerate(stated)]
    write(workspace / "shelf", {"a.jsonl": lines(*found, {**compression(0, "cc"), "meta": {}})})
    _, documents = taken(workspace, asked(date="meta.date"))
    kept = [d for d in documents if not d.drop_reason]
    assert [(f"{d.published:%d %H:%M:%S}", d.published_precision) for d in kept] == [
        ("03 00:00:00", "day"),
        ("04 00:30:00", "second"),
        ("01 00:00:00", "month"),
        ("29 23:59:59", "second"),
    ]
    assert [d.date_evidence[0].value for d in kept] == [stated[0], stated[1], stated[2], stated[8]]
    dropped = [d for d in documents if d.drop_reason]
    assert {d.drop_reason for d in dropped} == {"no-date-evidence"}
    assert [d.native_id.rpartition("=")[2] for d in dropped] == ["5", "6", "7", "9", "10"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_every_format_gives_the_same_documents(workspace: Path, name: str) -> None:
    """JSON lines, plain or compressed, and Parquet; days and times of Parquet's own types are dates too."""
    table = [{"content": text(i), "day": f"2024-02-0{i + 1}", "seen": i} for i in range(3)]
    plain = lines(*table)
    typed = [{**row, "day": date(2024, 2, i + 1)} for i, row in enumerate(table)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(typed), sink)
    forms = {
        "a.jsonl": plain,
        "a.jsonl.gz": zipped(plain[:50]) + zipped(plain[50:]),
        "a.jsonl.zst": zstandard.compress(plain[:50]) + zstandard.compress(plain[50:]),
        "a.parquet": sink.getvalue().to_pybytes(),
    }
    write(workspace / "shelf", {name: forms[name]})
    _, found = taken(workspace, asked(date="day"))
    assert [(d.text, f"{d.published:%m-%d}", d.metadata["seen"]) for d in found] == [
        (text(i), f"02-0{i + 1}", str(i)) for i in range(3)
    ]


def test_text_survives_as_it_is(workspace: Path) -> None:
    """Only normalised as every document is; half a surrogate pair shows as what the filters count, null is none."""
    texts: list[Any] = ["e\u0301tude\r\n", "a\u2028b\x0b", "half \ud83d pair", "\U0001f600", None, ""]
    write(
        workspace / "shelf", {"a.jsonl": "".join(json.dumps({"content": t}) + "\n" for t in texts).encode()}
    )
    _, found = taken(workspace, asked())
    assert [d.text for d in found] == ["étude\n", "a\u2028b\x0b", "half \ufffd pair", "\U0001f600", ""]


PATTERNS = """---
configs:
- config_name: it
  data_files:
  - split: early
    path: old/a*.jsonl
  - split: late
    path: ['new/*.jsonl', 'old/**/a2.jsonl']
---
"""
FOLDERS = """---
configs:
- {config_name: one, data_dir: one}
- {config_name: two, data_dir: two}
---
"""
LISTS = """---
configs:
- {config_name: default, data_files: [x.jsonl]}
- {config_name: why, data_files: y.jsonl}
---
"""
LAYOUTS: dict[str, tuple[dict[str, str], str, str]] = {
    "configs": ({"cc.jsonl": "a", "python.jsonl": "b"}, CARD, "python"),
    "shards": ({"data/train-00000-of-00002.jsonl": "a", "data/test-00000-of-00001.jsonl": "b"}, "", ""),
    "names": ({"my_train_file.jsonl": "a", "validation1.jsonl": "b", "eval.jsonl": "c", "notes.jsonl": "d"}, "", ""),
    "folders": ({"train/x.jsonl": "a", "test/y.jsonl": "b", "test/deep/z.jsonl": "c"}, "", ""),
    "no split": ({"x.jsonl": "a", "more/y.jsonl": "b"}, "", ""),
    "patterns": (
        {"old/a1.jsonl": "a", "old/b1.jsonl": "b", "old/sub/a2.jsonl": "c", "new/a3.jsonl": "d"}, PATTERNS, "it",
    ),
    "data_dir": ({"one/train.jsonl": "a", "one/test.jsonl": "b", "two/train.jsonl": "c"}, FOLDERS, "one"),
    "default": ({"x.jsonl": "a", "y.jsonl": "b"}, LISTS, ""),
    "list": ({"x.jsonl": "a", "y.jsonl": "b"}, LISTS, "why"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_are_those_that_datasets_takes(tmp_path: Path, name: str) -> None:
    """For every split, the rows that `datasets.load_dataset` gives."""
    files, card, config = LAYOUTS[name]
    written = {path: lines({"content": letter}) for path, letter in files.items()}
    write(tmp_path / "set", {**written, **({"README.md": card.encode()} if card else {})})
    expected = datasets.load_dataset(str(tmp_path / "set"), config or None, cache_dir=str(tmp_path / "cache"))
    for split, table in expected.items():
        chosen = layout.chosen(list(files), card, config=config, split=str(split), where="set")
        assert sorted(files[path] for path in chosen) == sorted(table["content"]), split
    with pytest.raises(UserError, match="has no split 'none'; it has"):
        layout.chosen(list(files), card, config=config, split="none", where="set")


@pytest.mark.parametrize(
    ("card", "config", "split", "message"),
    [
        (CARD, "", "", "set has several configs; choose one of cc, python as `config`"),
        (CARD, "c", "", "set has no config 'c'; choose one of cc, python"),
        ("", "cc", "", "declares no configs, so that there is no 'cc'"),
        ("---\nconfigs: [5]\n---\n", "", "", "header of README.md in set cannot be read"),
        ("---\na: &a [*a]\n\tb\n---\n", "", "", "header of README.md in set cannot be read"),
        (
            "---\nconfigs: [{config_name: a, data_files: ../*.jsonl}]\n---\n",
            "",
            "",
            "set has no file to read",
        ),
        (
            "---\nconfigs: [{config_name: a, data_files: 'https://x.example/a.jsonl'}]\n---\n",
            "",
            "",
            "no file to",
        ),
    ],
)
def test_what_cannot_be_chosen_is_one_line(card: str, config: str, split: str, message: str) -> None:
    """It names what there is; a card leads nowhere but to the data set's own files."""
    with pytest.raises(UserError, match=message):
        layout.chosen(["cc.jsonl", "python.jsonl"], card, config=config, split=split, where="set")


def test_patterns_with_many_stars_end(tmp_path: Path) -> None:
    """A hostile card costs no time."""
    assert tmp_path.is_dir()
    card = f"---\nconfigs: [{{config_name: a, data_files: '{'**/' * 40}{'*a' * 40}.jsonl'}}]\n---\n"
    with pytest.raises(UserError, match="no file to read"):
        layout.chosen([f"{'a/' * 20}{'a' * 200}b.jsonl"], card, config="", split="", where="set")


def test_a_pattern_of_many_folders_ends() -> None:
    """In no time, too: a way through 25 times any folders, then `a`, is not looked for step by step."""
    card = f"---\nconfigs: [{{config_name: a, data_files: '{'**/a/' * 25}b.jsonl'}}]\n---\n"
    deep = f"{'a/' * 60}c.jsonl"
    with pytest.raises(UserError, match="no file to read"):
        layout.chosen([deep], card, config="", split="", where="set")
    found = layout.chosen([deep, f"{'a/' * 60}b.jsonl"], card, config="", split="", where="set")
    assert found == [f"{'a/' * 60}b.jsonl"]


@pytest.mark.parametrize("name", ["rows.jsonl", "README.md"])
def test_a_link_out_of_the_folder_is_refused(workspace: Path, name: str) -> None:
    """By name: what a stranger packed cannot lead to other files; a link within the folder can stay."""
    write(workspace, {"diary": b'{"content": "mine"}\n', "shelf/real": b'{"content": "a"}\n'})
    (workspace / "shelf" / "rows.jsonl").symlink_to("real")
    _, found = taken(workspace / "one", asked())
    assert [d.text for d in found] == ["a"]
    (workspace / "shelf" / name).unlink(missing_ok=True)
    (workspace / "shelf" / name).symlink_to(workspace / "diary")
    with pytest.raises(UserError, match=f"'{name}' in shelf is a link out of that folder"):
        taken(workspace / "two", asked())


def test_names_that_are_no_text_are_one_line_or_shown(workspace: Path) -> None:
    """A file's name is part of ids and is refused; half a surrogate in a column's name shows as one that is lost."""
    write(workspace / "shelf", {"a.jsonl": b'{"content": "a", "b\\ud800": "x"}\n'})
    _, (found,) = taken(workspace / "one", asked())
    assert found.metadata == {"b?": "x"}
    (workspace / "shelf" / "a.jsonl").rename(workspace / "shelf" / "\udcff.jsonl")
    with pytest.raises(UserError, match=r"the name of file 'shelf/\\udcff.jsonl' is not in UTF-8; rename it"):
        taken(workspace / "two", asked())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere"}, "`path` of snapshot shelf-2024-02 is 'nowhere', where nothing is"),
        ({"published": ""}, "needs either `date`, .* or `published`"),
        ({"date": "day", "published": "2024-02"}, "needs either `date`, .* or `published`"),
        ({"published": "2024-03"}, "is no date from 2024-02-01 until 2024-03-01"),
        ({"published": "yesterday"}, "'yesterday', which is no date"),
        ({"license": "my own"}, "'my own', which is no SPDX expression"),
        (
            {"text": "text"},
            "cc.jsonl#row=0 has no text in column 'text'; its columns are content, meta, subset",
        ),
        ({"text": "meta"}, "has no text in column 'meta'"),
        ({"text": 5}, "setting text of snapshot shelf-2024-02 must be text"),
    ],
)
@pytest.mark.usefixtures("shelf")
def test_wrong_settings_are_one_line(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """Each names the setting, what is wrong and what to do."""
    with pytest.raises(UserError, match=message):
        taken(tmp_path, asked(config="cc", **settings))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"content": "a"}\nnonsense\n', "line 2 of a.jsonl is no row as JSON"),
        ("a.jsonl", b'5\n', "line 1 of a.jsonl is no row"),
        ("a.jsonl", b"[" * 100_000, "line 1 of a.jsonl is no row"),
        ("a.jsonl.gz", zipped(b'{"content": "a"}\n' * 9)[:-9], "of a.jsonl.gz is no row"),
        ("a.jsonl.zst", b"nonsense", "line 0 of a.jsonl.zst is no row"),
        ("a.parquet", b"PAR1nonsense", "a.parquet is no readable Parquet file"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(workspace: Path, name: str, data: bytes, message: str) -> None:
    """With the line, where there are lines."""
    write(workspace / "shelf", {name: data})
    with pytest.raises(UserError, match=message):
        taken(workspace, asked())


@pytest.mark.parametrize(("rows_there", "limit", "gaps"), [(6, 4, 1), (4, 4, 0), (3, 4, 0)])
def test_a_limit_is_a_gap_only_if_there_is_more(
    workspace: Path, rows_there: int, limit: int, gaps: int
) -> None:
    """A snapshot that holds all there is says that it is complete."""
    write(workspace / "shelf", {"a.jsonl": lines(*(compression(i, "cc") for i in range(rows_there)))})
    snapshot, found = taken(workspace, asked(max_documents=limit))
    assert snapshot.gaps == (f"stopped at max_documents = {limit}",) * gaps
    assert len(found) == min(rows_there, limit)


def test_a_collection_that_was_cut_off_goes_on_where_it_stopped(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps: the rows that are kept are not asked for again, and the snapshot is the same."""
    monkeypatch.setattr(rows, "_STEP", 2)
    dates = ["2024-02-01", "2024-01-01", "2024-02-02", "2024-02-03", "2024-02-04", "2024-02-05", "2024-02-06"]
    good = [compression(i, "cc", date=value) for i, value in enumerate(dates)]
    wanted = asked(date="meta.date")
    write(workspace / "shelf", {"a.jsonl": lines(*good[:5]) + b"cut off"})
    with pytest.raises(UserError, match="line 6"):
        taken(workspace / "cut", wanted)
    write(workspace / "shelf", {"a.jsonl": b'{"content": "never read again"}\n' * 4 + lines(*good[4:])})
    resumed, _ = taken(workspace / "cut", wanted)
    write(workspace / "shelf", {"a.jsonl": lines(*good)})
    plain, found = taken(workspace / "plain", wanted)
    assert resumed.shards == plain.shards
    assert [d.native_id.rpartition("=")[2] for d in found] == ["0", "2", "3", "4", "5", "6"]


def test_every_row_has_its_native_id_over_several_files(workspace: Path) -> None:
    """Ids name file and row, with any characters in the file's name."""
    names = ["b c.jsonl", "ä#row=9.jsonl"]
    write(workspace / "shelf", {name: lines(compression(1, "cc"), compression(2, "cc")) for name in names})
    _, found = taken(workspace, asked())
    assert [d.native_id for d in found] == [f"shelf/{name}#row={i}" for name in names for i in (0, 1)]


Files = dict[str, tuple[bytes, bool]]


def serve(world: World, files: Files, on_store: Callable[[str], bytes] | None = None) -> None:
    """Serve a data set as the hub does: a listing in pages, small files directly, large ones from another host."""
    entries = []
    for path, (data, large) in files.items():
        blob = sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"type": "file", "oid": blob, "size": len(data), "path": path}
        if large:
            entry["lfs"] = {"oid": sha256(data).hexdigest(), "size": len(data), "pointerSize": 131}
            signed = f"https://store.example/{path}?signature=s3cret"
            answers = (Answer(status=302, headers={"Location": signed}),)
            world.on("store.example", f"/{path}", lambda _, p=path, d=data: on_store(p) if on_store else d)  # type: ignore[misc]
        else:
            answers = (Answer(body=data),)
        world.on("huggingface.co", f"/datasets/town/shelf/resolve/{COMMIT}/{path}", *answers)
        entries.append(entry)
    address = f"/api/datasets/town/shelf/tree/{COMMIT}"

    def listing(question: Asked) -> Answer:
        assert question.query["recursive"] == "true"
        second = "cursor" in question.query
        link = f'<https://huggingface.co{address}?recursive=true&cursor=2>; rel="next"'
        shown = entries[1:] if second else [{"type": "directory", "path": "x"}, *entries[:1]]
        return Answer(
            body=json.dumps(shown).encode(),
            media_type="application/json",
            headers={} if second else {"Link": link},
        )

    world.on("huggingface.co", address, listing)


HUB: Files = {"README.md": (CARD.encode(), False), "cc.jsonl": (CC, True), "python.jsonl": (PYTHON, False)}


@pytest.mark.parametrize(("config", "expected"), [("cc", CC), ("python", PYTHON)])
def test_a_dataset_of_the_hub_becomes_documents(
    tmp_path: Path, world: World, config: str, expected: bytes
) -> None:
    """At its commit, from the listing to the rows; only the files of the config are fetched."""
    serve(world, HUB)
    wanted = asked("hub", config=config, split="test")
    snapshot, records = collected(tmp_path, world, wanted, hub)
    assert snapshot.gaps == ()
    found = list(hub.extract(records, wanted, 1))
    assert [d.text for d in found] == [json.loads(line)["content"] for line in expected.splitlines()]
    assert (found[0].source, found[0].version) == ("hub", COMMIT)
    assert found[0].native_id == f"town/shelf/{config}.jsonl#row=0"
    assert found[0].url == f"https://huggingface.co/datasets/town/shelf/tree/{COMMIT}"
    assert found[0].fetched is not None
    asked_for = {path.rpartition("/")[2] for path in world.paths("huggingface.co")}
    assert asked_for == {COMMIT, "README.md", f"{config}.jsonl"}
    assert b"s3cret" not in b"".join(p.read_bytes() for p in (tmp_path / "raw").iterdir())


def test_a_token_goes_to_the_hub_alone(tmp_path: Path, world: World) -> None:
    """Not to where large files lie, and into no snapshot."""
    serve(world, HUB)
    wanted = asked("hub", config="cc")
    collected(tmp_path, world, wanted, hub, HF_TOKEN="hf_0123456789")
    sent = {(a.host, a.headers.get("Authorization", a.headers.get("authorization", ""))) for a in world.asked}
    assert {host for host, value in sent if "hf_0123456789" in value} <= {"huggingface.co"}
    assert ("store.example", "") in sent


def test_a_file_that_is_not_what_the_hub_lists_is_asked_for_again(tmp_path: Path, world: World) -> None:
    """Its digest is held against the listing; what never fits is not had, and the collection says so."""
    answers: Iterator[bytes] = iter([CC.replace(b"guests", b"ghosts"), CC])
    serve(world, HUB, lambda _: next(answers))
    wanted = asked("hub", config="cc")
    _, records = collected(tmp_path / "mended", world, wanted, hub)
    assert all("guests" in d.text for d in hub.extract(records, wanted, 1))
    serve(world, HUB, lambda _: CC.replace(b"guests", b"ghosts"))
    with pytest.raises(
        UserError, match=r"lacks 1 of what it should hold .*cc.jsonl.* is not the file that the hub"
    ):
        collected(tmp_path / "never", world, wanted, hub)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"revision": "main"}, "needs `dataset`, .* and `revision`, the 40 hex digits of a commit"),
        ({"dataset": "../../etc"}, "needs `dataset`"),
        ({"dataset": "town/none"}, "the hub answers 404 for data set town/none at 0123456789"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(
    tmp_path: Path, world: World, settings: dict[str, Any], message: str
) -> None:
    """A branch is none, because it moves."""
    serve(world, HUB)
    with pytest.raises(UserError, match=message):
        collected(tmp_path, world, asked("hub", **settings), hub)


def test_a_file_beyond_the_bound_is_not_fetched(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size in the listing is enough to say so."""
    serve(world, HUB)
    monkeypatch.setattr(hub, "MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match=r"cc.jsonl has [0-9]+ bytes, more than 100; choose another config"):
        collected(tmp_path, world, asked("hub", config="cc"), hub)
    assert not world.paths("store.example")
