"""Boilerplate by document frequency: lines that stand at the edge of many documents of one site.

Extraction leaves what a page itself gives no reason to cut: "send us your story", "sign up for our
newsletter". Such a line ends, or begins, many documents word for word. Only the edges are cut: inside a
document, repeated lines are mostly what journalists repeat, such as a standing explanation. On 424 uncut
BBC articles of 2024, of which 264 end in such a footer, a threshold of 3 documents cuts 230 of the
footers and 8 other lines, 6 of them the sentence that ends reports of a trial; cutting anywhere finds no
further footer and 4 more of the other lines.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

from collectors.news.masks import mask

MAX_LOSS = 0.5


def frequent(texts: Iterable[str], *, documents: int, share: float) -> frozenset[str]:
    """Return the keys of the lines that many documents of a site hold.

    Args:
        texts: all documents of the site, in any order; equal ones count once.
        documents: in how many a line must stand at least; a smaller site has no frequent lines.
        share: in which part of them, 0 to 1.
    """
    counts: Counter[str] = Counter()
    distinct = set(texts)
    for text in distinct:
        counts.update({_key(line) for line in text.splitlines()} - {""})
    least = max(documents, math.ceil(share * len(distinct)))
    return frozenset(key for key, n in counts.items() if n >= least)


def strip(text: str, lines: frozenset[str]) -> tuple[str, int]:
    """Return a text without frequent lines at its edges, and how many there were.

    A text that would lose more than half of its characters is returned as it is: it is a copy or a new
    version of other documents, all of whose lines are frequent, and deduplication deals with it.
    """
    kept = text.splitlines()
    begin = _edge(kept, lines)
    end = len(kept) - _edge(kept[begin:][::-1], lines)
    cut = [line for line in kept[:begin] + kept[end:] if line.strip()]
    if not cut or sum(map(len, cut)) > MAX_LOSS * len(text):
        return text, 0
    return "\n".join(kept[begin:end]).strip("\n"), len(cut)


def _edge(lines: Sequence[str], frequent_lines: frozenset[str]) -> int:
    """Return how many of the first lines are frequent or blank, none if all of these are blank."""
    return sum(1 for _ in takewhile(lambda line: not line.strip() or _key(line) in frequent_lines, lines))


def _key(line: str) -> str:
    """Return what two lines that differ in case, spaces, addresses or numbers to call have in common."""
    return " ".join(mask(line)[0].casefold().split())
