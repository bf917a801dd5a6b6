"""MinHash signatures of word shingles: what deduplication compares, and the file that keeps them.

The Jaccard similarity of two texts' sets of word 5-grams equals the probability that a random
permutation of all 5-grams has the same lowest element in both sets (Broder, "On the resemblance and
containment of documents", 1997). A signature holds that element for a hundred permutations in half a
kilobyte, so that a new snapshot is compared with every earlier one without reading their texts.
Signatures are kept for years: they are made of xxHash64 and integer arithmetic alone, with no random
generator of a library that may change its stream.
"""

import functools
import hashlib
import itertools
import json
import multiprocessing
import re
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from collectors.document import Document, UserError, check_columns, check_filled, replacing

Hashes = npt.NDArray[np.uint64]
Signature = npt.NDArray[np.uint32]

ALGORITHM = 1
"""Version of the arithmetic below, of the words it sees and of Python's Unicode tables (14.0).

A change to any of them changes signatures, so it must raise this number.
"""

# Words are runs of `\w`. Text is mostly ASCII, where a byte table finds them three times faster.
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_NO_WORD = re.compile(r"\W+")
_SEPARATORS = bytes(c if c >= 0x80 or chr(c).isalnum() or chr(c) == "_" else 0x20 for c in range(256))
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_HIGHEST = np.uint32(0xFFFFFFFF)
_BLOCK = 1024  # shingles at a time: the block of permuted hashes stays in a second-level cache
_BATCH = 256  # texts a worker takes at a time
_METADATA_KEY = b"minhash"


@dataclass(frozen=True, slots=True, kw_only=True)
class MinHashConfig:
    """How signatures are made, and how they are cut into bands to find candidates.

    Attributes:
        words: words per shingle.
        permutations: values per signature.
        seed: of the permutations.
        bands: groups of `rows` values; two texts are candidates when a whole group agrees.

    Raises:
        UserError: when a value is not positive or the bands do not divide the permutations.
    """

    words: int = 5
    permutations: int = 112
    seed: int = 1
    bands: int = 28

    def __post_init__(self) -> None:
        if min(self.words, self.permutations, self.bands) < 1 or self.permutations % self.bands:
            raise UserError(
                f"{self.permutations} permutations of {self.words}-word shingles do not split into "
                f"{self.bands} bands: use positive numbers, and bands that divide the permutations"
            )

    @property
    def rows(self) -> int:
        """Signature values per band."""
        return self.permutations // self.bands

    def recall(self, similarity: float) -> float:
        """Return the probability that a pair of this Jaccard similarity shares a band.

        The formula is 1 - (1 - s^rows)^bands (Leskovec, Rajaraman and Ullman, "Mining of Massive
        Datasets", section 3.4.2).
        """
        return float(1.0 - (1.0 - similarity**self.rows) ** self.bands)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signed:
    """The signatures of a snapshot's documents, in the order of their ids.

    Attributes:
        ids: document ids, ascending.
        published: UTC, when each was published.
        digests: hex sha256 of each normalised text.
        signatures: uint32, shape (documents, permutations).
        config: what the signatures were made with.
    """

    ids: list[str]
    published: list[datetime]
    digests: list[str]
    signatures: Signature
    config: MinHashConfig


def normalised(text: str) -> str:
    """Return what two texts must have in common to count as exactly equal.

    Compatibility forms, case and the amount of white space do not count: NFKC, case folding, NFKC
    again (folding can leave the normal form), and every run of white space one space, none at the
    ends. Punctuation counts here, though not in shingles.
    """
    return " ".join(_folded(text).split())


def shingles(text: str, words: int = 5) -> Hashes:
    """Return the sorted, distinct 64-bit hashes of a text's word n-grams.

    A word is a run of letters, digits or underscores of the normalised text. A text with fewer than
    `words` words gives one shingle of all it has, and a text without any word gives none.
    """
    return _shingles_of_folded(_folded(text), words)


def ngrams(text: str, words: int) -> Hashes:
    """Return the hashes of a text's word n-grams in their order, as `shingles` makes them; none if it has fewer."""
    hashes = _words_of_folded(_folded(text))
    return _combined(hashes, words) if len(hashes) >= words else hashes[:0]


def jaccard(left: Hashes, right: Hashes) -> float:
    """Return the Jaccard similarity of two shingle sets; 0.0 when either is empty."""
    if not len(left) or not len(right):
        return 0.0
    merged = np.concatenate((left, right))
    merged.sort(kind="stable")  # a merge of two sorted runs: three times faster than sorting anew
    shared = int(np.count_nonzero(merged[1:] == merged[:-1]))
    return shared / (len(merged) - shared)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _shingles_of_folded(text: str, words: int) -> Hashes:
    hashes = _words_of_folded(text)
    if not len(hashes):
        return hashes
    combined = _combined(hashes, min(words, len(hashes)))
    combined.sort()  # then drop repeats: four times faster than np.unique on sets of this size
    return combined[np.concatenate(([True], combined[1:] != combined[:-1]))]


def _words_of_folded(text: str) -> Hashes:
    if not text.isascii():
        text = _BEYOND_ASCII.sub(lambda run: _NO_WORD.sub(" ", run[0]), text)
    found = text.encode().translate(_SEPARATORS).split()
    return np.fromiter(map(xxhash.xxh64_intdigest, found), np.uint64, len(found))


def _combined(hashes: Hashes, words: int) -> Hashes:
    count = len(hashes) - words + 1
    combined = np.zeros(count, np.uint64)
    for position in range(words):
        combined *= _ODD
        combined += hashes[position : position + count]
    # The sum is linear in the words, as the permutations are in it: mix to break the relation.
    combined ^= combined >> np.uint64(32)
    combined *= _ODD
    combined ^= combined >> np.uint64(29)
    return combined


@functools.lru_cache(maxsize=8)
def _permutations(config: MinHashConfig) -> tuple[Signature, Signature]:
    """Return odd multipliers and increments, each of shape (permutations, 1)."""

    def column(name: str) -> Signature:
        names = (f"{name} {i}".encode() for i in range(config.permutations))
        drawn = [xxhash.xxh64_intdigest(each, seed=config.seed) for each in names]
        return (np.array(drawn, np.uint64) >> np.uint64(32)).astype(np.uint32)[:, None]

    return column("multiplier") | np.uint32(1), column("increment")


def signature(hashes: Hashes, config: MinHashConfig) -> Signature:
    """Return the MinHash signature of a shingle set: uint32, shape (permutations,).

    Permutation i of the 32-bit integers is x -> a_i x + b_i mod 2^32 with a_i odd, applied to the
    upper half of each shingle hash. The signature of no shingles is all ones, which no other set
    reaches in practice.
    """
    multipliers, increments = _permutations(config)
    values = (hashes >> np.uint64(32)).astype(np.uint32)
    lowest = np.full(config.permutations, _HIGHEST, np.uint32)
    for start in range(0, len(values), _BLOCK):
        permuted = multipliers * values[start : start + _BLOCK]
        permuted += increments
        np.minimum(lowest, permuted.min(axis=1), out=lowest)
    return lowest


def sign(documents: Iterable[Document], config: MinHashConfig, workers: int = 1) -> Signed:
    """Return the signatures of documents, in the order of their ids.

    The result does not depend on `workers`, the number of processes. They are spawned, so a script
    that asks for more than one must guard its entry with `if __name__ == "__main__"`.
    """
    documents = sorted(documents, key=lambda d: d.id)
    texts = [d.text for d in documents]
    batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    if workers == 1 or len(batches) < 2:
        signed = [_sign_texts(texts, config)]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            signed = list(pool.map(_sign_texts, batches, itertools.repeat(config)))
    return Signed(
        ids=[d.id for d in documents],
        published=[d.published for d in documents],
        digests=[digest for digests, _ in signed for digest in digests],
        signatures=np.concatenate([values for _, values in signed]),
        config=config,
    )


def _sign_texts(texts: Sequence[str], config: MinHashConfig) -> tuple[list[str], Signature]:
    """Return each text's digest, and the signatures: uint32, shape (texts, permutations)."""
    digests = []
    signatures = np.empty((len(texts), config.permutations), np.uint32)
    for row, text in enumerate(texts):
        folded = _folded(text)
        digests.append(hashlib.sha256(" ".join(folded.split()).encode()).hexdigest())
        signatures[row] = signature(_shingles_of_folded(folded, config.words), config)
    return digests, signatures


def with_words(values: Signature) -> npt.NDArray[np.bool_]:
    """Return which signatures, the rows of `values`, belong to texts that have any word."""
    return np.asarray((values != _HIGHEST).any(axis=1))


def band_keys(values: Signature, config: MinHashConfig) -> Hashes:
    """Return a key for each band of each signature: uint64, shape (signatures, bands).

    Two keys are equal, up to 64-bit collisions, when they stand for the same values of the same band.
    """
    banded = values.reshape(len(values), config.bands, config.rows)
    keys = np.tile(np.arange(config.bands, dtype=np.uint64), (len(values), 1))
    for row in range(config.rows):
        keys = keys * _ODD + banded[:, :, row]
    return keys


def _identity(config: MinHashConfig) -> dict[str, int]:
    """Return what decides a signature's values: the bands do not, they only group them."""
    return {
        "algorithm": ALGORITHM,
        "permutations": config.permutations,
        "seed": config.seed,
        "words": config.words,
    }


def _schema(config: MinHashConfig) -> pa.Schema:
    return pa.schema(
        [
            ("id", pa.string()),
            ("published", pa.timestamp("us", tz="UTC")),
            ("normalised_sha256", pa.string()),
            ("signature", pa.list_(pa.uint32(), config.permutations)),
        ],
        metadata={_METADATA_KEY: json.dumps(_identity(config), sort_keys=True)},
    )


def write_signatures(path: Path, signed: Signed) -> None:
    """Write signatures as Parquet, by rename; the bytes depend on the signatures alone.

    The columns are id, published, normalised_sha256 and signature, a list of fixed size; the schema
    metadata hold the algorithm version and the configuration as JSON under the key `minhash`.
    """
    schema = _schema(signed.config)
    columns = {
        "id": signed.ids,
        "published": signed.published,
        "normalised_sha256": signed.digests,
        "signature": pa.FixedSizeListArray.from_arrays(
            signed.signatures.ravel(), type=schema.field("signature").type
        ),
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")


def read_signatures(path: Path, config: MinHashConfig) -> Signed:
    """Read what `write_signatures` wrote.

    Raises:
        UserError: when the file is missing, is no signature file, or was made with another algorithm
            or configuration.
    """
    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
        made = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
        if made != _identity(config):
            raise UserError(
                f"{path} holds signatures made with {made}, but {_identity(config)} is asked for: "
                "rebuild it with `dvc repro`"
            )
        check_columns(path, table.schema, _schema(config))
        check_filled(path, table, ())
        flat = table["signature"].combine_chunks().flatten().to_numpy()
        return Signed(
            ids=table["id"].to_pylist(),
            published=[moment.astimezone(UTC) for moment in table["published"].to_pylist()],
            digests=table["normalised_sha256"].to_pylist(),
            signatures=flat.reshape(len(table), config.permutations),
            config=config,
        )
    except (OSError, ValueError, OverflowError, RecursionError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{path} is no Parquet file of signatures ({said}); rebuild it with `dvc repro`"
        ) from error
