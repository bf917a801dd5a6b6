"""How to get a corpus again: what was asked of the world, and what every text must then be.

`recipe.json` holds the request, the filters and who made the corpus; `recipe.parquet` a row for each document,
with its digests and without its text. Whoever has them can collect the same texts, and know that they are the same.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.document import SCHEMA as DOCUMENT
from collectors.document import Document, UserError, sha256_of

FORMAT = 1
_PLACES = frozenset({"path", "repositories", "feeds", "sitemaps"})
"""Settings that say where to read: a folder of one's own, or an address on the web."""
_ADDRESS = re.compile(r"://([^/?#]*)([^?#]*)(\?.*)?")
FACTS, ROWS = "recipe.json", "recipe.parquet"
COLUMNS = (
    *("id", "source", "native_id", "version", "url", "published", "published_precision", "license"),
    *("redistributable", "language", "n_characters", "n_bytes", "text_sha256", "extractor"),
)
SCHEMA = pa.schema([*(DOCUMENT.field(name) for name in COLUMNS), ("raw_sha256", pa.string())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a corpus was made of, and by whom.

    Attributes:
        name: of the snapshot and its corpus.
        entry: of the snapshot in `params.yaml`, as `portable` makes it.
        filters: those of its content, as `params.yaml` has them.
        collector: name and version of the source.
        commit: of this repository, in hex; empty outside a git repository.
        modified: whether tracked files differed from that commit.
        shards: sha256 of every file of the raw snapshot.
        gaps: what the snapshot should hold and does not.
        documents_sha256: digest of the corpus's `documents.parquet`.
        n_documents: rows in it.
    """

    name: str
    entry: dict[str, Any]
    filters: dict[str, Any]
    collector: str
    commit: str
    modified: bool
    shards: dict[str, str]
    gaps: list[str]
    documents_sha256: str
    n_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A document that a recipe asks for.

    Attributes:
        native_id: the source's own name for it.
        url: where a person can look at it.
        text_sha256: what its text must be.
    """

    native_id: str
    url: str
    text_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What became of the documents of a recipe.

    Attributes:
        identical: those whose text is the same, to the byte.
        differing: native ids of those that have another text now.
        missing: native ids of those that could not be had.
    """

    identical: list[Document]
    differing: list[str]
    missing: list[str]


def write_recipe(folder: Path, recipe: Recipe, documents: Iterable[Document]) -> None:
    """Write both files of a recipe into a folder that is being made; rows in the order of the documents."""
    rows = [
        {**{name: getattr(document, name) for name in COLUMNS}, "raw_sha256": document.raw.sha256}
        for document in documents
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, folder / ROWS, compression="zstd", row_group_size=10_000)
    facts = {"format": FORMAT, **asdict(recipe), "rows_sha256": sha256_of(folder / ROWS)}
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def read_recipe(folder: Path) -> tuple[Recipe, dict[str, Wanted]]:
    """Return a recipe and the documents that it asks for, by id.

    Raises:
        UserError: when the folder holds none, or another format.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts.pop("format") != FORMAT:
            raise UserError(
                f"{folder / FACTS} is of another format than {FORMAT}; use the freshbits that made it"
            )
        if facts.pop("rows_sha256") != sha256_of(folder / ROWS):
            raise UserError(
                f"{folder / ROWS} is not the file that {FACTS} beside it names; get the export again"
            )
        recipe = Recipe(**facts)
        table = pq.read_table(folder / ROWS, columns=["id", "native_id", "url", "text_sha256"])
        wanted = {
            str(row.pop("id")): Wanted(**{name: str(value) for name, value in row.items()})
            for row in table.to_pylist()
        }
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        pa.ArrowException,
    ) as error:
        raise UserError(
            f"{folder} holds no readable recipe; name a folder that `python -m collectors export` wrote"
        ) from error
    if wrong := _wrong(recipe):
        raise UserError(
            f"{folder / FACTS} has {wrong!r} of another kind than exports have; get the export again"
        )
    if len(wanted) != recipe.n_documents:
        raise UserError(f"{folder / FACTS} and {ROWS} beside it do not belong together; get the export again")
    return recipe, wanted


def _wrong(recipe: Recipe) -> str:
    """Return the first field of a stranger's recipe that holds what its type or its meaning forbids, empty for none."""
    for name, kind in get_type_hints(Recipe).items():
        if type(getattr(recipe, name)) is not (get_origin(kind) or kind):
            return name
    held = {
        "commit": not recipe.commit or re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", recipe.commit),
        "shards": all(map(re.compile(r"[\w.-]+").fullmatch, recipe.shards))
        and all(map(_is_digest, recipe.shards.values())),
        "gaps": all(isinstance(gap, str) for gap in recipe.gaps),
        "documents_sha256": _is_digest(recipe.documents_sha256),
    }
    return next((name for name, sound in held.items() if not sound), "")


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def portable(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as others may see it: folders of this machine by their own name, without the way to them.

    Raises:
        UserError: when an address in it has a user, a password or a query, any of which can be a secret.
    """
    for at, path, query in _addresses(entry):
        if "@" in at or query:
            shown = f"{at.rpartition('@')[2]}{path}"
            raise UserError(
                f"snapshot {name} asks {shown} with a user or a query, which can be a secret and would be published; "
                "export a snapshot whose addresses have neither"
            )
    return {key: _named(key, value) for key, value in entry.items()}


def local(entry: Mapping[str, Any]) -> str:
    """Return what in a stranger's entry would be read from this machine, empty where nothing would."""
    for key, text in _texts("", entry):
        place = key in _PLACES and text and not re.match(r"https?://", text)
        leads_out = text.startswith(("/", "~", "\\")) or ".." in re.split(r"[/\\]", text)
        if place or leads_out or re.match(r"\s*file:", text, re.IGNORECASE):
            return text
    return ""


def hosts(entry: Mapping[str, Any]) -> list[str]:
    """Return the hosts that settings name, by their addresses or as such."""
    named = {text for key, text in _texts("", entry) if key == "host"}
    return sorted(named | {at.rpartition("@")[2] for at, _, _ in _addresses(entry)})


def _addresses(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return user and host, path and query of every address in an entry."""
    return [parts for _, text in _texts("", entry) for parts in _ADDRESS.findall(text)]


def _named(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_named(key, item) for item in value]
    is_folder = key in _PLACES and isinstance(value, str) and value and "://" not in value
    return Path(value).resolve().name if is_folder else value


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every text in a value, with the setting that it is of."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield "", str(name)
            yield from _texts(str(name), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(key, inner)
    elif isinstance(value, str):
        yield key, value


def compare(wanted: Mapping[str, Wanted], documents: Sequence[Document]) -> Comparison:
    """Hold documents that were collected anew against what a recipe asks for."""
    found = {document.id: document for document in documents}
    had = {id_: found[id_] for id_ in wanted if id_ in found}
    return Comparison(
        identical=[d for id_, d in had.items() if d.text_sha256 == wanted[id_].text_sha256],
        differing=[
            wanted[id_].native_id for id_, d in had.items() if d.text_sha256 != wanted[id_].text_sha256
        ],
        missing=[asked.native_id for id_, asked in wanted.items() if id_ not in had],
    )
