"""Which word n-grams a text shares with others, however many: a sketch of their n-grams, and what is found in it.

A sketch is a blocked Bloom filter (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom
Filters", 2007): two bytes for each n-gram that it was made for, 7 of the 512 bits of one block set for each
that it holds. What it holds is always found; of what it does not hold about a thousandth is found as well,
a rate that follows from how full the blocks are, is stated, and is corrected for. Words and hashes are those
of `minhash`.

Its file is a line of magic, a line of JSON and the blocks, with their digest; it says which inputs it was
made of, so that a run that was interrupted goes on behind the last of them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from collectors.document import UserError, replacing
from collectors.minhash import ALGORITHM, Hashes, ngrams

MAGIC = b"freshbits sketch 1\n"
WORDS = 13
"""Words of an n-gram: the length at which a match is no coincidence (Brown et al. 2020, arXiv 2005.14165)."""

BITS_PER_NGRAM = 16
_PER_BLOCK = 8  # integers of 64 bits: one line of a processor's cache
_SET = 7  # bits for each n-gram, nine bits of its hash to choose each
_ODD = np.uint64(0xD6E8FEB86659FD93)
_MAX_HEADER = 2**24
_MAX_BLOCKS = 2**36 // (8 * _PER_BLOCK)
_AT_A_TIME = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file whose n-grams a sketch holds, or holds in part.

    Attributes:
        name: of the file.
        sha256: hex digest of its bytes.
        n_texts: texts read of it so far.
        n_short: those of fewer words than an n-gram has, which have none.
        complete: whether those are all.
    """

    name: str
    sha256: str
    n_texts: int = 0
    n_short: int = 0
    complete: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Sketch:
    """A set of n-grams that can be asked, not listed.

    Attributes:
        words: words of an n-gram.
        blocks: uint64, shape [blocks, 8].
        n_ngrams: how many were added, repeated ones counted again.
        inputs: what they were taken from.
    """

    words: int
    blocks: Hashes
    n_ngrams: int = 0
    inputs: list[Input] = field(default_factory=list)

    @property
    def false_positive_rate(self) -> float:
        """The probability that an n-gram that it does not hold is found in it: mean of (share of bits set)^7."""
        if not len(self.blocks):
            return 0.0
        total = 0.0
        for start in range(0, len(self.blocks), _AT_A_TIME):
            part = np.bitwise_count(self.blocks[start : start + _AT_A_TIME])
            total += float(((part.sum(axis=1) / (64 * _PER_BLOCK)) ** _SET).sum())
        return total / len(self.blocks)

    def add(self, hashes: Hashes) -> None:
        """Add n-grams, as `minhash.ngrams` hashes them."""
        flat = self.blocks.reshape(-1)
        for start in range(0, len(hashes), _AT_A_TIME):
            places, masks = self._bits(hashes[start : start + _AT_A_TIME])
            np.bitwise_or.at(flat, places.ravel(), masks.ravel())
        self.n_ngrams += len(hashes)

    def holds(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Return which n-grams are found, shape [n]: all that were added, and a few that were not."""
        flat = self.blocks.reshape(-1)
        found = np.empty(len(hashes), np.bool_)
        for start in range(0, len(hashes), _AT_A_TIME):
            places, masks = self._bits(hashes[start : start + _AT_A_TIME])
            found[start : start + _AT_A_TIME] = (flat[places] & masks != 0).all(axis=0)
        return found

    def _bits(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], Hashes]:
        """Return the integers in which each n-gram has its bits, and the bits, shapes [7, n]."""
        high = hashes >> np.uint64(32)
        blocks = ((high * np.uint64(len(self.blocks))) >> np.uint64(32)).astype(np.int64)
        # The upper half has chosen the block: what chooses the bits must not follow from it.
        mixed = hashes * _ODD
        mixed ^= mixed >> np.uint64(32)
        mixed *= _ODD
        chosen = (mixed >> (np.uint64(9) * np.arange(_SET, dtype=np.uint64)[:, None])) & np.uint64(511)
        places = blocks * _PER_BLOCK + (chosen >> np.uint64(6)).astype(np.int64)
        return places, np.uint64(1) << (chosen & np.uint64(63))


def empty(n_ngrams: int, words: int = WORDS) -> Sketch:
    """Return a sketch for about so many n-grams; with more of them it finds more that it does not hold.

    Raises:
        UserError: when n-grams have no word, or the sketch would be larger than 64 GiB.
    """
    n_blocks = -(-max(1, n_ngrams) * BITS_PER_NGRAM // (64 * _PER_BLOCK))
    if words < 1 or n_blocks > _MAX_BLOCKS:
        raise UserError(
            f"a sketch of {n_ngrams:,} n-grams of {words} words cannot be made; give words from 1 on, and texts of at "
            f"most {_MAX_BLOCKS * 64 * _PER_BLOCK // BITS_PER_NGRAM:,} n-grams"
        )
    return Sketch(words=words, blocks=np.zeros((n_blocks, _PER_BLOCK), np.uint64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What a text shares with the texts of a sketch.

    Attributes:
        document: id of the text.
        n_ngrams: its n-grams, repeated ones counted again; 0 where it has fewer words than one.
        n_found: how many of them are found.
        share: the share that is held, corrected for what is found by chance, from 0 to 1.
        longest: words of its longest run of n-grams that are all found, 0 without one.
    """

    document: str
    n_ngrams: int
    n_found: int
    share: float
    longest: int


def overlaps(sketch: Sketch, texts: Iterable[tuple[str, str]]) -> Iterator[Overlap]:
    """Yield what each of the texts, (id, text), shares with those of a sketch."""
    rate = sketch.false_positive_rate
    for document, text in texts:
        found = sketch.holds(ngrams(text, sketch.words))
        n, n_found = len(found), int(found.sum())
        share = (n_found / n - rate) / (1 - rate) if n and rate < 1 else 0.0
        ends = np.flatnonzero(np.diff(np.concatenate(([False], found, [False])).astype(np.int8)))
        runs = ends[1::2] - ends[::2]
        yield Overlap(
            document=document,
            n_ngrams=n,
            n_found=n_found,
            share=max(0.0, share),
            longest=int(runs.max()) + sketch.words - 1 if len(runs) else 0,
        )


def write(path: Path, sketch: Sketch) -> None:
    """Write a sketch, by rename."""
    blocks = np.ascontiguousarray(sketch.blocks.astype("<u8", copy=False))
    header = {
        "algorithm": ALGORITHM,
        "words": sketch.words,
        "n_ngrams": sketch.n_ngrams,
        "sha256": sha256(blocks.data).hexdigest(),
        "inputs": [asdict(given) for given in sketch.inputs],
    }
    line = json.dumps(header, sort_keys=True).encode() + b"\n"
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + sha256(line).hexdigest().encode() + b"\n" + line)
        file.write(blocks.data)


def read(path: Path) -> Sketch:
    """Read a sketch.

    Raises:
        UserError: when the file is missing, is no sketch, or is truncated or altered.
    """
    try:
        with path.open("rb") as file:
            magic, digest, line = file.read(len(MAGIC)), file.readline(65), file.readline(_MAX_HEADER)
            start = file.tell()
            blocks = np.fromfile(file, "<u8") if magic == MAGIC else np.empty(0, "<u8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; make it with --with, and this name in --sketch") from error
    if magic != MAGIC:
        raise UserError(f"{path} is no sketch of this version; choose another name")
    whole = digest == sha256(line).hexdigest().encode() + b"\n"
    whole = whole and start + blocks.nbytes == path.stat().st_size
    header = _header(line) if whole else None
    if (
        header is None
        or not len(blocks)
        or sha256(blocks.data).hexdigest() != header["sha256"]
        or len(blocks) % _PER_BLOCK
    ):
        raise UserError(f"{path} is truncated or altered; delete it and make it again")
    if header["algorithm"] != ALGORITHM:
        raise UserError(f"{path} was made with other words or hashes; delete it and make it again")
    return Sketch(
        words=header["words"],
        blocks=blocks.astype(np.uint64, copy=False).reshape(-1, _PER_BLOCK),
        n_ngrams=header["n_ngrams"],
        inputs=[Input(**given) for given in header["inputs"]],
    )


def _header(line: bytes) -> dict[str, Any] | None:
    """Return the header that a line of JSON holds, None where it holds none."""
    try:
        match json.loads(line):
            case {
                "algorithm": _,
                "sha256": str(),
                "words": int() as words,
                "n_ngrams": int(),
                "inputs": list(inputs),
            } as header if words > 0 and all(map(_is_input, inputs)):
                return dict(header)
    except (ValueError, RecursionError):
        pass
    return None


def _is_input(given: Any) -> bool:
    kinds = {f.name: f.type for f in fields(Input)}
    return isinstance(given, dict) and {name: type(value) for name, value in given.items()} == kinds


def extend(sketch: Sketch, given: Input, texts: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Add the texts of one input; yield behind every 65,536 of them and at the end: there it may be written.

    Args:
        sketch: is changed.
        given: the input as far as the sketch holds it; texts that it has already are passed over.
        texts: (id, text) of all of its texts, in an order that stays.
    """
    held = [other for other in sketch.inputs if other.sha256 != given.sha256]
    for number, (_, text) in enumerate(texts, 1):
        if number <= given.n_texts:
            continue
        hashes = ngrams(text, sketch.words)
        sketch.add(hashes)
        given = replace(given, n_texts=number, n_short=given.n_short + (not len(hashes)))
        if number % _AT_A_TIME == 0:
            sketch.inputs = [*held, given]
            yield
    sketch.inputs = [*held, replace(given, complete=True)]
    yield
