"""Which texts of one corpus are near duplicates of texts in others, from their files alone.

Resemblance is the Jaccard similarity of sets of word n-grams (Broder, "On the resemblance and containment of
documents", 1997). `dedup` decides with it what a new snapshot keeps, and holds its texts in memory; here two
versions of corpora that are built are compared, a batch of signatures at a time, and only the texts of
candidates are read.
"""

import heapq
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from collectors.dedup import CLOSEST
from collectors.document import Match, UserError
from collectors.minhash import Hashes, MinHashConfig, Signature, band_keys, jaccard, shingles, with_words

Names = npt.NDArray[np.bytes_]

_BATCH = 8_192  # signatures at a time: their band keys stay in a cache
_TEXTS = 1_000
_BUFFER = 1 << 20  # bytes read at a time; without it a row group is held whole
_BEGINNING = np.uint64(40)
_AT_ONCE = 20_000  # texts whose shingles are held in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """A corpus as far as resemblance needs it.

    Attributes:
        name: the corpus, which a match quotes.
        documents: Parquet file with `id` and `text` of the documents that count.
        signatures: their signatures, as `minhash.write_signatures` writes them, those of others among them.
    """

    name: str
    documents: Path
    signatures: Path


def identity(texts: Texts) -> dict[str, Any]:
    """Return what the signatures were made with: they can be compared when it is equal.

    Raises:
        UserError: when the file of signatures cannot be read.
    """
    with _reading(texts):
        made: dict[str, Any] = json.loads(
            (pq.read_schema(texts.signatures).metadata or {}).get(b"minhash", b"{}")
        )
    return made


@contextmanager
def _reading(texts: Texts) -> Iterator[None]:
    """Say of a damaged file of signatures whose it is."""
    try:
        yield
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"the signatures of corpus {texts.name} cannot be read ({str(error).partition(chr(10))[0]}); delete "
            f"corpora/documents/{texts.name}.signatures.parquet and run `dvc checkout` or `dvc repro`"
        ) from error


def repeats(
    own: Texts, ids: Sequence[str], others: Sequence[Texts], config: MinHashConfig, threshold: float
) -> dict[str, Match]:
    """Return the best match of each document that is an exact or near duplicate of one in other corpora.

    Equal normalised texts count 1.0. For others the bands propose candidates, of which the `dedup.CLOSEST` of
    each corpus whose signatures agree most are verified by the exact similarity of the texts. The highest
    similarity counts, then the first corpus, then the lowest id.

    Args:
        own: the corpus that holds the documents.
        ids: the documents, ascending.
        others: the corpora to search.
        config: how the signatures were made, and their bands.
        threshold: least Jaccard similarity.

    Raises:
        UserError: when a document of `ids` has no signature, or a file of signatures cannot be read.
    """
    found: dict[str, Match] = {}
    for start in range(0, len(ids), _AT_ONCE):
        found |= _repeats(own, ids[start : start + _AT_ONCE], others, config, threshold)
    return found


def _repeats(
    own: Texts, ids: Sequence[str], others: Sequence[Texts], config: MinHashConfig, threshold: float
) -> dict[str, Match]:
    names, digests, values = _collected(own, np.array(ids, "S64"), config)
    best: dict[str, tuple[float, int, str]] = {}
    proposed: list[dict[str, list[str]]] = []
    for age, other in enumerate(others):
        exact, near = _proposals(names, digests, values, other, config)
        for id_, match in exact.items():
            best[id_] = min(best.get(id_, (-1.0, age, match)), (-1.0, age, match))
        pairs: dict[str, list[str]] = defaultdict(list)
        for id_, matches in near.items():
            for match in matches:
                pairs[match].append(id_)
        proposed.append(pairs)
    wanted = {id_ for pairs in proposed for group in pairs.values() for id_ in group} - best.keys()
    shingled = {id_: shingles(text, config.words) for id_, text in _read(own.documents, wanted)}
    for age, (other, pairs) in enumerate(zip(others, proposed, strict=True)):
        open_pairs = {match for match, group in pairs.items() if not shingled.keys().isdisjoint(group)}
        for match, text in _read(other.documents, open_pairs):
            hashes = shingles(text, config.words)
            for id_ in pairs[match]:
                similarity = jaccard(shingled[id_], hashes) if id_ in shingled else 0.0
                if similarity >= threshold:
                    candidate = (-similarity, age, match)
                    best[id_] = min(best.get(id_, candidate), candidate)
    return {
        id_: Match(id=match, corpus=others[age].name, similarity=-negative)
        for id_, (negative, age, match) in sorted(best.items())
    }


def _collected(texts: Texts, ids: Names, config: MinHashConfig) -> tuple[Names, Names, Signature]:
    """Return ids, digests and signatures of documents; the latter has shape (documents, permutations)."""
    parts = list(_signatures(texts, ids, config))
    names, digests, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    if len(names) < len(ids):
        lacking = np.setdiff1d(ids, names)[0].decode()
        raise UserError(f"document {lacking} of {texts.name} has no signature: rebuild with `dvc repro`")
    return names, digests, values


def _signatures(texts: Texts, ids: Names, config: MinHashConfig) -> Iterator[tuple[Names, Names, Signature]]:
    """Yield ids, digests and signatures of those of a file's documents that are among `ids`, ascending."""
    with _reading(texts):
        file = pq.ParquetFile(texts.signatures, pre_buffer=False, buffer_size=_BUFFER)
        for batch in file.iter_batches(_BATCH, columns=["id", "normalised_sha256", "signature"]):
            names = _bytes(batch["id"])
            places = np.searchsorted(ids, names)
            held = np.flatnonzero(ids[np.minimum(places, len(ids) - 1)] == names) if len(ids) else places[:0]
            values = batch["signature"].flatten().to_numpy().reshape(len(batch), config.permutations)
            yield names[held], _bytes(batch["normalised_sha256"])[held], values[held]


def _proposals(
    names: Names, digests: Names, values: Signature, other: Texts, config: MinHashConfig
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return for documents the lowest id of an equal text in a corpus, and its candidates in it."""
    exact: dict[str, str] = {}
    near: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    texts = np.flatnonzero(with_words(values))
    keys = band_keys(values[texts], config).ravel()
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], texts[order // config.bands]
    some = _beginnings(keys)
    by_digest = np.argsort(digests, kind="stable")
    met = 0
    for theirs, their_digests, their_values in _signatures(other, _ids(other.documents), config):
        low, high = (
            np.searchsorted(digests, their_digests, side, sorter=by_digest) for side in ("left", "right")
        )
        for row in np.flatnonzero(low < high).tolist():
            for k in by_digest[low[row] : high[row]].tolist():
                exact.setdefault(names[k].decode(), theirs[row].decode())
        for row, candidates in _sharing(keys, owners, some, band_keys(their_values, config)):
            agreement = (values[candidates] == their_values[row]).sum(axis=1)
            for k, agreed in zip(candidates.tolist(), agreement.tolist(), strict=True):
                entry = (agreed, -(met + row), theirs[row].decode())
                if len(near[k]) < CLOSEST:
                    heapq.heappush(near[k], entry)
                else:
                    heapq.heappushpop(near[k], entry)
        met += len(theirs)
    return exact, {names[k].decode(): [id_ for *_, id_ in heap] for k, heap in near.items()}


def _sharing(
    keys: Hashes, owners: npt.NDArray[np.int64], some: npt.NDArray[np.bool_], theirs: Hashes
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield each row of `theirs` that shares a band with `keys`, and the owners of these keys, ascending.

    Args:
        keys: band keys, ascending.
        owners: whose they are.
        some: which beginnings of keys there are, see `_beginnings`.
        theirs: band keys to look up, shape (texts, bands).
    """
    flat = theirs.ravel()
    places = np.flatnonzero(some[flat >> _BEGINNING])
    low, high = (np.searchsorted(keys, flat[places], side) for side in ("left", "right"))
    hits = low < high
    if not hits.any():
        return
    places, low, high = places[hits], low[hits], high[hits]
    rows, starts = np.unique(places // theirs.shape[1], return_index=True)
    for row, start, stop in zip(
        rows.tolist(), starts.tolist(), [*starts[1:].tolist(), len(places)], strict=True
    ):
        runs = [owners[low[k] : high[k]] for k in range(start, stop)]
        yield row, np.unique(np.concatenate(runs))


def _beginnings(keys: Hashes) -> npt.NDArray[np.bool_]:
    """Return for every value of a key's first 24 bits whether a key begins so: few others get past it."""
    some = np.zeros(1 << 24, np.bool_)
    some[keys >> _BEGINNING] = True
    return some


def _ids(documents: Path) -> Names:
    return _bytes(pq.read_table(documents, columns=["id"])["id"].combine_chunks())


def _bytes(column: pa.Array) -> Names:
    """Return a column of hexadecimal digests as an array of bytes."""
    fixed = column.cast(pa.binary()).cast(pa.binary(64))
    if not len(fixed):
        return np.empty(0, "S64")
    return np.frombuffer(fixed.buffers()[1], "S64", len(fixed), 64 * fixed.offset)


def _read(documents: Path, ids: set[str]) -> Iterator[tuple[str, str]]:
    """Yield each of these documents with its text; row groups that hold none of them are not read."""
    if not ids:
        return
    wanted = np.array(sorted(ids), "S64")
    file = pq.ParquetFile(documents, pre_buffer=False, buffer_size=_BUFFER)
    column = file.schema_arrow.names.index("id")
    groups = []
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        first = np.searchsorted(wanted, statistics.min.encode())
        if first < np.searchsorted(wanted, statistics.max.encode(), "right"):
            groups.append(group)
    for batch in file.iter_batches(_TEXTS, row_groups=groups, columns=["id", "text"]):
        names = batch["id"].to_pylist()
        for row in [row for row, name in enumerate(names) if name in ids]:
            yield names[row], batch["text"][row].as_py()
