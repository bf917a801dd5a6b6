"""Exact and near duplicates, within a snapshot and against every earlier one.

Two texts are exact duplicates when they are equal after `minhash.normalised`, and near duplicates when
the Jaccard similarity of their sets of word 5-grams reaches a threshold. Signatures cut into bands
propose candidates; the exact similarity of the texts decides, so that nothing is ever dropped on an
estimate.

Text that is repeated a thousand times must not cost a million comparisons. Equal texts are collapsed
before anything is compared, in the new snapshot and in the earlier ones; within a snapshot a document
meets only survivors, and a large family of near duplicates has few; and of the candidates of one text
in one snapshot only the `CLOSEST`, those whose signatures agree most, are verified. So texts are
compared at most `CLOSEST` x documents x snapshots times. The price is paid in larger families alone:
the match named there is a true one, but its similarity may be an estimate's error below the best.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from collectors.document import Document, Match, UserError
from collectors.minhash import (
    Hashes,
    MinHashConfig,
    Signature,
    Signed,
    band_keys,
    jaccard,
    shingles,
    with_words,
)

SAME = "duplicate-id"
EXACT = "duplicate-exact"
NEAR = "duplicate-near"

CLOSEST = 64
"""Candidates of one text in one snapshot that are verified."""

LEAST_RECALL = 0.97
"""The part of the pairs right at the threshold that the bands must be expected to find."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier snapshot, as far as deduplication needs it.

    Attributes:
        name: the snapshot's name, which a match quotes.
        signed: signatures of every document extracted there, whatever became of it.
        texts: takes ascending ids and yields each with its text, in any order. It is called at most
            once, with the candidates alone, and one text is held at a time: it can stream a file.
    """

    name: str
    signed: Signed
    texts: Callable[[Sequence[str]], Iterable[tuple[str, str]]]


def hold(documents: Iterable[Document], earlier: Sequence[Earlier]) -> Iterator[Document]:
    """Yield every document; one whose id an earlier snapshot has is dropped, whatever its text is now.

    The id names source, document and version: a paper whose second version appears later, a file of
    a commit that two windows meet. One that is dropped already keeps its reason, and gets the match.
    """
    holders: dict[str, str] = {}
    for snapshot in earlier:
        for id_ in snapshot.signed.ids:
            holders.setdefault(id_, snapshot.name)
    for document in documents:
        if document.id in holders:
            match = Match(id=document.id, corpus=holders[document.id], similarity=1.0)
            yield replace(document, drop_reason=document.drop_reason or SAME, duplicate=match)
        else:
            yield document


def deduplicate(
    documents: Iterable[Document],
    signed: Signed,
    earlier: Sequence[Earlier],
    *,
    corpus: str,
    threshold: float,
) -> list[Document]:
    """Return every document in the order of ids, duplicates with their reason and their match.

    A document that an earlier snapshot holds is dropped first; an exact match counts before a near
    one, then the highest similarity, the earliest snapshot and the lowest id. The others are met in
    the order of publication, then id: a document survives unless it matches one that survived before
    it, and the most similar of these is named, the first of them where several are equally similar.
    Texts without any word are never near duplicates. The result depends neither on the order of
    `documents` nor on the hash seed.

    Args:
        documents: the new snapshot's documents that are candidates for its corpus.
        signed: their signatures; those of other documents of the snapshot may be among them.
        earlier: the earlier snapshots, oldest first, signed with the same configuration.
        corpus: name of the new snapshot.
        threshold: least Jaccard similarity of near duplicates.

    Raises:
        UserError: when the threshold is no similarity or too low for the bands, a document has no
            signature, or an earlier snapshot lacks a text it has a signature of.
    """
    _check_threshold(threshold, signed.config)
    documents = sorted(documents, key=lambda d: d.id)
    row_of = {id_: row for row, id_ in enumerate(signed.ids)}
    unsigned = next((d.id for d in documents if d.id not in row_of), None)
    if unsigned is not None:
        raise UserError(
            f"document {unsigned} of {corpus} has no signature: rebuild its signatures with `dvc repro`"
        )
    rows = [row_of[d.id] for d in documents]
    digests, first, text_of = np.unique(
        np.array([signed.digests[row] for row in rows], "S64"), return_index=True, return_inverse=True
    )
    values = signed.signatures[[rows[k] for k in first.tolist()]]

    # From here on a text is a row of `digests` and `values`: equal documents share it.
    def shingles_of(text: int) -> Hashes:
        return shingles(documents[first[text]].text, signed.config.words)

    found = {text: (EXACT, match) for text, match in _exact_matches(digests, earlier).items()}
    unheld = np.array([text for text in range(len(values)) if text not in found], np.int64)
    near = _near_matches(unheld, values, shingles_of, earlier, signed.config, threshold)
    found |= {text: (NEAR, match) for text, match in near.items()}

    verdicts = {k: found[text] for k, text in enumerate(text_of.tolist()) if text in found}
    remaining = sorted(
        (k for k in range(len(documents)) if k not in verdicts),
        key=lambda k: (documents[k].published, documents[k].id),
    )
    repeats = _repeats(text_of[remaining].tolist(), values, shingles_of, signed.config, threshold)
    for position, (reason, survivor, similarity) in repeats.items():
        kept = documents[remaining[survivor]].id
        verdicts[remaining[position]] = reason, Match(id=kept, corpus=corpus, similarity=similarity)
    return [
        replace(d, drop_reason=verdicts[k][0], duplicate=verdicts[k][1]) if k in verdicts else d
        for k, d in enumerate(documents)
    ]


def candidates(keys: Hashes, others: Hashes) -> Iterator[tuple[int, Rows]]:
    """Yield each row of `keys` that shares a band with rows of `others`, and these rows, ascending.

    Args:
        keys: band keys, shape (texts, bands).
        others: band keys to search, shape (other texts, bands).
    """
    order = np.argsort(others, axis=None, kind="stable")
    ordered = others.ravel()[order]
    low, high = (np.searchsorted(ordered, keys, side) for side in ("left", "right"))
    for row in np.flatnonzero((low < high).any(axis=1)).tolist():
        hits = [order[a:b] for a, b in zip(low[row].tolist(), high[row].tolist(), strict=True) if a < b]
        yield row, np.unique(np.concatenate(hits) // others.shape[1])


def _check_threshold(threshold: float, config: MinHashConfig) -> None:
    if not 0.0 < threshold <= 1.0:
        raise UserError(f"duplicate threshold {threshold} is no similarity: choose one above 0 and up to 1")
    if config.recall(threshold) < LEAST_RECALL:
        raise UserError(
            f"{config.bands} bands of {config.rows} rows find {config.recall(threshold):.0%} of the pairs at "
            f"duplicate threshold {threshold}, fewer than {LEAST_RECALL:.0%}: raise it or use more bands"
        )


def _exact_matches(digests: npt.NDArray[np.bytes_], earlier: Sequence[Earlier]) -> dict[int, Match]:
    """Return for each text held earlier the first snapshot that holds it and its lowest id there."""
    matches: dict[int, Match] = {}
    for snapshot in earlier:
        held = np.array(snapshot.signed.digests, "S64")
        _, texts, rows = np.intersect1d(digests, held, return_indices=True)
        for text, row in zip(texts.tolist(), rows.tolist(), strict=True):
            match = Match(id=snapshot.signed.ids[row], corpus=snapshot.name, similarity=1.0)
            matches.setdefault(text, match)
    return matches


def _near_matches(
    texts: Rows,
    values: Signature,
    shingles_of: Callable[[int], Hashes],
    earlier: Sequence[Earlier],
    config: MinHashConfig,
    threshold: float,
) -> dict[int, Match]:
    """Return the best near duplicate of each text over all earlier snapshots."""
    keys = band_keys(values[texts], config)
    best: dict[int, tuple[float, int, str]] = {}
    for age, snapshot in enumerate(earlier):
        _, held = np.unique(np.array(snapshot.signed.digests, "S64"), return_index=True)
        held = np.sort(held[with_words(snapshot.signed.signatures[held])])
        theirs = snapshot.signed.signatures[held]
        proposed: dict[str, list[int]] = defaultdict(list)
        for row, others in candidates(keys, band_keys(theirs, config)):
            text = int(texts[row])
            for other in _closest(values[text], theirs[others]):
                proposed[snapshot.signed.ids[held[others[other]]]].append(text)
        if not proposed:
            continue
        own = functools.cache(shingles_of)
        for id_, content in snapshot.texts(sorted(proposed)):
            hashes = shingles(content, config.words)
            for text in proposed.pop(id_):
                similarity = jaccard(own(text), hashes)
                if similarity >= threshold:
                    match = (-similarity, age, id_)
                    best[text] = min(best.get(text, match), match)
        if proposed:
            raise UserError(
                f"snapshot {snapshot.name} has a signature but no text of document {min(proposed)}: "
                "rebuild its signatures with `dvc repro`"
            )
    return {
        text: Match(id=id_, corpus=earlier[age].name, similarity=-negative)
        for text, (negative, age, id_) in best.items()
    }


def _repeats(
    texts: list[int],
    values: Signature,
    shingles_of: Callable[[int], Hashes],
    config: MinHashConfig,
    threshold: float,
) -> dict[int, tuple[str, int, float]]:
    """Return the positions that repeat a survivor, with the reason, the survivor's position, similarity.

    Args:
        texts: the text of each document, in the order in which documents are met.
        values: signatures of all texts.
        shingles_of: the shingle set of a text.
        config: of the signatures.
        threshold: least similarity of near duplicates.
    """
    _, buckets, sizes = np.unique(band_keys(values, config), return_inverse=True, return_counts=True)
    shared = (sizes[buckets] > 1) & with_words(values)[:, None]
    survivors_in: dict[int, list[int]] = defaultdict(list)
    shingles_at: dict[int, Hashes] = {}
    position_of: dict[int, int] = {}
    repeats: dict[int, tuple[str, int, float]] = {}
    for position, text in enumerate(texts):
        if text in position_of:
            repeats[position] = EXACT, position_of[text], 1.0
            continue
        if own := buckets[text][shared[text]].tolist():
            hashes = shingles_of(text)
            met = sorted(set().union(*(survivors_in[bucket] for bucket in own)))
            close = [met[k] for k in _closest(values[text], values[[texts[p] for p in met]])]
            scored = [(-jaccard(hashes, shingles_at[p]), p) for p in close]
            nearest, survivor = min(scored, default=(0.0, position))
            if -nearest >= threshold:
                repeats[position] = NEAR, survivor, -nearest
                continue
            shingles_at[position] = hashes
            for bucket in own:
                survivors_in[bucket].append(position)
        position_of[text] = position
    return repeats


def _closest(own: Signature, others: Signature) -> list[int]:
    """Return the rows of `others` that agree most with `own`, at most `CLOSEST`, ties by row."""
    agreement = (others == own).sum(axis=1)
    closest: list[int] = np.argsort(-agreement, kind="stable")[:CLOSEST].tolist()
    return closest
