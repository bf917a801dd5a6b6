"""How much of a text was not there before, however the old text has been moved, copied or reformatted.

The measure is lines, as in `git blame`, but lines are compared by their words: runs of letters, digits
and underscores in lower case. Indentation, quotes, brackets, commas and the place of line breaks, all
that a formatter changes, are no words. A line without words is not counted.

A line is old when most of its words stand in a run of `RUN` words that an earlier text has too, wherever
it has them; this finds what was moved, copied, split, merged or wrapped anew. It is also old when
it is a line of the earlier text that resembles this one most; this finds what stayed between edits.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

RUN = 8
"""Words in a row that are not there twice by chance."""

_COMMON = 20  # earlier texts with a line, from which on the line says nothing about which is resembled
_WORD = re.compile(r"\w+")
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """What a measurement found.

    Attributes:
        lines: lines with words.
        written: those that are new.
        nearest: number of the earlier text that shares the most lines with it, or -1.
    """

    lines: int
    written: int
    nearest: int

    @property
    def mostly_new(self) -> bool:
        """Whether at least half of the lines are new."""
        return self.lines > 0 and 2 * self.written >= self.lines


def lines(text: str) -> list[str]:
    """Return the words of each line that has any, separated by spaces."""
    return [found for line in text.lower().splitlines() if (found := " ".join(_WORD.findall(line)))]


class Earlier:
    """Texts that were there before, ready to be compared with.

    Attributes:
        texts: each as `lines` gives it.
    """

    def __init__(self, texts: Sequence[list[str]]) -> None:
        """Index texts; their order decides ties."""
        self.texts = texts
        runs = [_runs(_hashes(text)) for text in texts]
        every = np.concatenate([*runs, np.empty(0, np.uint64)])
        self._runs, firsts = np.unique(every, return_index=True)
        self._holders = np.repeat(np.arange(len(texts)), [len(found) for found in runs])[firsts]
        self._having: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            for line in dict.fromkeys(text):
                self._having.setdefault(line, []).append(number)

    def novelty(self, text: list[str]) -> Novelty:
        """Measure a text, given as `lines` gives it."""
        old, holders = self._covered(_hashes(text))
        votes = self._lines_in_common(text) or Counter(holders.tolist())
        nearest = min(votes, key=lambda number: (-votes[number], number), default=-1)
        left = Counter(self.texts[nearest] if votes else ())
        written = position = 0
        for line in text:
            length = line.count(" ") + 1
            left[line] -= 1
            covered = int(old[position : position + length].sum())
            written += 2 * covered <= length and left[line] < 0
            position += length
        return Novelty(lines=len(text), written=written, nearest=nearest)

    def _lines_in_common(self, text: list[str]) -> Counter[int]:
        """Return how many different lines of a text each earlier text has, without the most common lines."""
        votes: Counter[int] = Counter()
        for line in dict.fromkeys(text):
            having = self._having.get(line, ())
            if len(having) < _COMMON:
                votes.update(having)
        return votes

    def _covered(self, hashes: _Hashes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return for each word whether it stands in an earlier text's run, and which text has each such run."""
        runs = _runs(hashes)
        covered = np.zeros(len(hashes), np.bool_)
        places = np.searchsorted(self._runs, runs)
        places[places == len(self._runs)] = 0
        starts = np.flatnonzero(self._runs[places] == runs) if len(self._runs) else np.empty(0, np.int64)
        covered[(starts[:, None] + np.arange(RUN)).ravel()] = True
        return covered, self._holders[places[starts]]


def _hashes(text: list[str]) -> _Hashes:
    words = " ".join(text).encode().split()
    return np.fromiter(map(xxhash.xxh64_intdigest, words), np.uint64, len(words))


def _runs(hashes: _Hashes) -> _Hashes:
    """Return a hash of the `RUN` words from each position on where there are as many."""
    count = max(0, len(hashes) - RUN + 1)
    combined = np.zeros(count, np.uint64)
    for position in range(RUN):
        combined *= _ODD
        combined += hashes[position : position + count]
    return combined
