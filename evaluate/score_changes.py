"""The cells of scores in two revisions, side by side: which rates changed, by how much, and for what.

A cell names its documents by id. Whether a document of both revisions still has the same text is read from the
corpora of both, which are needed only where their digests differ.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from collectors.document import UserError
from collectors.revisions import Revision
from evaluate.impact import Impact, impact

SCORES = "results/scores"
CORPORA = "corpora"

# Columns of a cell that are about one document; the others are the same in all rows of a protocol.
_DOCUMENT = {
    *("document", "n_tokens", "n_unscored", "n_characters", "n_bytes"),
    *("nll", "exact_nll", "repair_nll", "lossless"),
}
_REPEATED = {
    *("model", "backend", "revision", "corpus", "content", "corpus_sha256", "protocol", "prefix"),
    *("first_token", "dtype", "quantization", "device", "attention", "special_text", "software"),
}
_NEEDED = ["protocol", "corpus_sha256", "document", "nll", "n_characters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreChange:
    """What became of the rate of a model on a corpus under a protocol.

    Attributes:
        impact: the rates and the parts of their difference; None where `refused` says why.
        protocol: as the cells have it; `full/…` where one of them has `sink/…`, which is `full` read faster.
        changed: what the cells say of themselves that differs: `corpus_sha256`, `protocol`, `revision`, …
        refused: why there is nothing to compare; else empty.
    """

    model: str
    corpus: str
    protocol: str
    impact: Impact | None
    changed: tuple[str, ...]
    refused: str = ""


def changes(before: Revision, after: Revision) -> Iterator[ScoreChange]:
    """Yield every score of either revision, sorted by model, corpus and protocol.

    Raises:
        UserError: when a cell or a corpus is listed and cannot be had or read.
    """
    cells = sorted(_cells(before) | _cells(after))
    with tqdm(cells, unit="cell", desc="cells", disable=None, leave=False) as bar:
        for model, corpus in bar:
            old, new = (_parts(revision, model, corpus) for revision in (before, after))
            for protocol, pair in sorted(_paired(old, new).items()):
                yield ScoreChange(
                    model=model, corpus=corpus, protocol=protocol, **_compared(before, after, corpus, *pair)
                )


def _paired(
    old: Mapping[str, pa.Table], new: Mapping[str, pa.Table]
) -> dict[str, tuple[pa.Table | None, pa.Table | None]]:
    """Return the parts of two cells by protocol; where one has `sink` alone and the other `full`, they are a pair."""
    pairs = {protocol: (old.get(protocol), new.get(protocol)) for protocol in {*old, *new}}
    for sink in [protocol for protocol in pairs if protocol.startswith("sink/")]:
        full = re.sub("^sink/", "full/", sink)
        if full in pairs and {(sink in old, full in old), (sink in new, full in new)} == {
            (True, False),
            (False, True),
        }:
            del pairs[sink]
            pairs[full] = (old.get(full, old.get(sink)), new.get(full, new.get(sink)))
    return pairs


def _compared(
    before: Revision, after: Revision, corpus: str, old: pa.Table | None, new: pa.Table | None
) -> dict[str, Any]:
    if old is None or new is None:
        where = before if old is None else after
        return {"impact": None, "changed": (), "refused": f"not in {where}"}
    facts = [_facts(part) for part in (old, new)]
    changed = tuple(name for name in facts[0] if facts[0][name] != facts[1].get(name))
    if facts[0]["corpus_sha256"] == facts[1]["corpus_sha256"]:
        texts = [_one_text(old), _one_text(new)]
    else:
        texts = [_texts(revision, corpus, part) for revision, part in ((before, old), (after, new))]
    found = impact(texts[0], texts[1])
    return {
        "impact": found,
        "changed": changed,
        "refused": "" if found else "a revision has no text scored there, or bits that are not finite",
    }


def _cells(revision: Revision) -> set[tuple[str, str]]:
    """Return model and corpus of every cell."""
    if not revision.exists(SCORES):
        return set()
    return {
        (model, name.removesuffix(".parquet"))
        for model in revision.listing(SCORES)
        if not model.startswith(".")
        for name in revision.listing(f"{SCORES}/{model}")
        if name.endswith(".parquet") and not name.startswith(".")
    }


def _parts(revision: Revision, model: str, corpus: str) -> dict[str, pa.Table]:
    """Return the documents that a cell has a cost for, by protocol; nothing where there is no cell."""
    path = f"{SCORES}/{model}/{corpus}.parquet"
    if not revision.exists(path):
        return {}
    cell = _parquet(revision, path)
    if missing := [name for name in _NEEDED if name not in cell.column_names]:
        raise UserError(
            f"{path} of {revision} has no column {missing[0]!r}; name a revision with newer cells"
        )
    scored = cell.filter(pc.is_valid(cell["nll"]))
    return {
        protocol: scored.filter(pc.equal(scored["protocol"], protocol))
        for protocol in scored["protocol"].unique().to_pylist()
    }


def _facts(part: pa.Table) -> Mapping[str, Any]:
    """Return what a cell says of itself under one protocol."""
    first: dict[str, Any] = part.slice(0, 1).to_pylist()[0]
    return {name: value for name, value in first.items() if name not in _DOCUMENT}


def _one_text(part: pa.Table) -> pa.Table:
    """Return documents of corpora that are equal, in which an id means one text."""
    return _needed(part, pa.repeat("", len(part)))


def _texts(revision: Revision, corpus: str, part: pa.Table) -> pa.Table:
    """Return documents with the digests of their texts; that of a corpus read as one stream is the corpus's."""
    sha256 = part["corpus_sha256"][0].as_py()
    if part["document"].unique().to_pylist() == [""]:
        return _needed(part, pa.repeat(sha256, len(part)))
    if _sha256(revision, corpus) != sha256:
        raise UserError(
            f"the corpus {corpus} of {revision} is not the one that its scores are of; run `dvc repro`, or name "
            "a revision in which both were committed"
        )
    documents = _parquet(revision, f"{CORPORA}/{corpus}/documents.parquet", ["id", "text_sha256"])
    where = pc.index_in(part["document"], value_set=documents["id"].combine_chunks())
    return _needed(part, documents["text_sha256"].combine_chunks().take(where))


def _sha256(revision: Revision, corpus: str) -> str:
    """Return the digest of documents.parquet that a corpus states."""
    path = f"{CORPORA}/{corpus}/corpus.json"
    try:
        return str(json.loads(revision.read_bytes(path))["documents_sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} of {revision} states no digest; rebuild the corpus with `dvc repro`"
        ) from error


def _needed(part: pa.Table, text_sha256: pa.Array) -> pa.Table:
    return part.select(["document", "nll", "n_characters"]).append_column("text_sha256", text_sha256)


def _parquet(revision: Revision, path: str, columns: list[str] | None = None) -> pa.Table:
    try:
        file = revision.local(path)
        # What a cell repeats in every row takes no room.
        repeated = [f.name for f in pq.read_schema(file) if f.name in _REPEATED]
        return pq.ParquetFile(file, read_dictionary=repeated).read(columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} of {revision} is no readable Parquet file ({error}); restore it") from error
