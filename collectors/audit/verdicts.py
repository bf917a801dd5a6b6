"""Why a document is kept or dropped, judged again: what filters measure, how texts are signed, which are alike."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from collectors import filters
from collectors.audit.finding import Finding, anew
from collectors.build import REMOVED
from collectors.dedup import EXACT, NEAR, Earlier, deduplicate, hold
from collectors.document import ELSEWHERE, Document, Match, read_documents
from collectors.minhash import (
    MinHashConfig,
    Signed,
    jaccard,
    normalised,
    read_signatures,
    shingles,
    sign,
)

JUDGED = "what params.yaml asks of documents can be asked of them"
_FILTERED = "a row says what every filter measures, and the first that is broken is the reason"
_MATCHED = "a document is a duplicate of what its text is alike to, and else of nothing"
_SIGNED = "every document that is held against others has the signature of its text"

Wrong = tuple[str, str, str]
"""A document's id, what is wrong with its row, and the rule that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """By what the documents of a snapshot are judged.

    Attributes:
        filters: in their order.
        minhash: how texts are signed.
        threshold: least Jaccard similarity of near duplicates.
        earlier: names of the earlier snapshots, oldest first.
    """

    filters: Sequence[filters.Filter]
    minhash: MinHashConfig
    threshold: float
    earlier: Sequence[str]


def check(
    name: str,
    corpora: Path,
    rules: Rules,
    chosen: Collection[str],
    intact: Callable[[Path], bool],
    *,
    workers: int,
) -> Iterator[Finding]:
    """Yield the filter results, signatures, reasons and matches that do not follow from the extracted texts.

    A match in an earlier snapshot must be the one that `dedup.deduplicate` finds, for any choice of documents.
    Within the snapshot it finds the same only among all of them: of others, the match that a row names must be
    as similar as it says, and that a row fails to name one stays unseen.

    Args:
        name: of the snapshot.
        corpora: the folder of all data.
        rules: by what is judged.
        chosen: ids of documents that are extracted once, and kept or dropped once.
        intact: whether a file is what DVC recorded. One that is not was named already, and is not read.
        workers: processes that sign.

    Raises:
        UserError: when a file cannot be read.
    """
    wanted, signatures = frozenset(chosen), _signatures(corpora, name)
    made, others, signable = _made(_documents(corpora, name), wanted)
    signed = sign((d for d in made if d.id in signable), rules.minhash, workers)
    if intact(signatures):
        for what in _missigned(signed, read_signatures(signatures, rules.minhash), signable):
            yield Finding(what=what, where=str(signatures), rule=_SIGNED, remedy=anew(f"extract@{name}"))
    rows, survivors = _rows(corpora / name, wanted)
    filtered = list(filters.run(made, rules.filters))
    wrong = _mismeasured(rows, filtered)
    if all(intact(place(corpora, each)) for each in rules.earlier for place in (_documents, _signatures)):
        judged = _judged(filtered, signed, name, corpora, rules)
        if others:
            wrong = itertools.chain(wrong, _misjudged_in_part(rows, judged, survivors, corpora, name, rules))
        else:
            wrong = itertools.chain(wrong, _misjudged(rows, judged))
    for key, what, rule in wrong:
        where = corpora / name / ("dropped.parquet" if rows[key].drop_reason else "documents.parquet")
        told = f"document {key} {what}"
        yield Finding(what=told, where=str(where), rule=rule, remedy=anew(f"dedup@{name}"))


def _documents(corpora: Path, name: str) -> Path:
    return corpora / "documents" / f"{name}.parquet"


def _signatures(corpora: Path, name: str) -> Path:
    return corpora / "documents" / f"{name}.signatures.parquet"


def _made(path: Path, wanted: Collection[str]) -> tuple[list[Document], bool, set[str]]:
    """Return the extracted documents that are wanted, whether there are others, and the ids of all with a signature."""
    made, others, signable = [], False, set()
    for document in read_documents(path):
        if document.drop_reason not in ELSEWHERE:
            signable.add(document.id)
        if document.id in wanted:
            made.append(document)
        else:
            others = True
    return made, others, signable


def _rows(folder: Path, wanted: Collection[str]) -> tuple[dict[str, Document], set[str]]:
    """Return the rows of a corpus that are wanted, without their texts, and the ids that others may repeat."""
    rows, survivors = {}, set()
    for half in ("documents", "dropped"):
        for row in read_documents(folder / f"{half}.parquet"):
            if row.id in wanted:
                rows[row.id] = replace(row, text="")
            # Removal comes last: others were held against a text that is removed.
            if not row.drop_reason or (row.drop_reason == REMOVED and row.duplicate is None):
                survivors.add(row.id)
    return rows, survivors


def _missigned(signed: Signed, held: Signed, signable: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a file of signatures."""
    at = {key: place for place, key in enumerate(held.ids)}
    for place, key in enumerate(signed.ids):
        row = at.get(key)
        if row is not None and not (
            held.published[row] == signed.published[place]
            and held.digests[row] == signed.digests[place]
            and np.array_equal(held.signatures[row], signed.signatures[place])
        ):
            yield f"document {key} has another signature than its text gives"
    if held.ids != sorted(signable):
        odd = sorted({*held.ids} ^ {*signable})
        yield from (f"document {key} has {'a' if key in at else 'no'} signature" for key in odd)
        if not odd:
            yield "documents are not in order, each once"


def _mismeasured(rows: Mapping[str, Document], filtered: Iterable[Document]) -> Iterator[Wrong]:
    """Yield the rows whose filter results are not those of their texts."""
    for document in filtered:
        row = rows[document.id]
        if row.filters != document.filters:
            yield (
                row.id,
                f"{_measured(row, document)}, and its text {_measured(document, row)}",
                _FILTERED,
            )


def _judged(
    filtered: Iterable[Document], signed: Signed, name: str, corpora: Path, rules: Rules
) -> list[Document]:
    """Return documents as `dedup` would judge these alone, with all earlier snapshots."""
    earlier = [
        Earlier(
            name=each,
            signed=read_signatures(_signatures(corpora, each), rules.minhash),
            texts=partial(_texts, _documents(corpora, each)),
        )
        for each in rules.earlier
    ]
    held = list(hold(filtered, earlier))
    fresh = (document for document in held if not document.drop_reason)
    kept = deduplicate(fresh, signed, earlier, corpus=name, threshold=rules.threshold)
    return [*kept, *(document for document in held if document.drop_reason)]


def _misjudged(rows: Mapping[str, Document], judged: Iterable[Document]) -> Iterator[Wrong]:
    """Yield the rows that are not what was judged of them; which ones are to be removed is not asked here."""
    for expected in judged:
        row = rows[expected.id]
        if row.drop_reason not in {expected.drop_reason, REMOVED} or row.duplicate != expected.duplicate:
            rule = _MATCHED if expected.duplicate or row.duplicate else _FILTERED
            yield row.id, f"is {_verdict(row)}, not {_verdict(expected)}", rule


def _misjudged_in_part(
    rows: Mapping[str, Document],
    judged: Iterable[Document],
    survivors: Collection[str],
    corpora: Path,
    name: str,
    rules: Rules,
) -> Iterator[Wrong]:
    """Yield the same where only a part of the snapshot was judged: what repeats another of it, pair by pair."""
    pairs: list[Document] = []
    for expected in judged:
        row, alone = rows[expected.id], expected
        if _inside(expected, name):
            alone = replace(expected, drop_reason="", duplicate=None)
        if not alone.drop_reason and _inside(row, name):
            pairs.append(row)
        else:
            yield from _misjudged(rows, [alone])
    texts = _paired(pairs, corpora, name)
    for row in pairs:
        if wrong := _untrue(row, texts, survivors, rules):
            yield row.id, f"is {_verdict(row)}, and {wrong}", _MATCHED


def _texts(path: Path, ids: Collection[str]) -> Iterator[tuple[str, str]]:
    wanted = frozenset(ids)
    return ((document.id, document.text) for document in read_documents(path) if document.id in wanted)


def _inside(document: Document, name: str) -> bool:
    return document.duplicate is not None and document.duplicate.corpus == name


def _paired(rows: Iterable[Document], corpora: Path, name: str) -> dict[str, Document]:
    """Return the extracted documents of rows, and of what they are said to repeat in their own snapshot."""
    wanted = {key for row in rows if row.duplicate for key in (row.id, row.duplicate.id)}
    return {d.id: d for d in read_documents(_documents(corpora, name)) if d.id in wanted} if wanted else {}


def _untrue(row: Document, texts: dict[str, Document], survivors: Collection[str], rules: Rules) -> str:
    """Return why a row is no duplicate of the document of its own snapshot that it names, empty if it is."""
    match = row.duplicate
    own, other = texts[row.id], texts.get(match.id if match else "")
    if match is None or other is None or other.id not in survivors:
        return "that is no document which was kept"
    if (other.published, other.id) >= (own.published, own.id):
        return "that is no document which came before it"
    same = normalised(own.text) == normalised(other.text)
    words = rules.minhash.words
    similarity = 1.0 if same else jaccard(shingles(own.text, words), shingles(other.text, words))
    reason = EXACT if same else NEAR
    alike = same or similarity >= rules.threshold
    if alike and similarity == match.similarity and row.drop_reason in {reason, REMOVED}:
        return ""
    least = "" if alike else f", less than {rules.threshold:g}"
    return f"their texts are {'equal' if same else f'{similarity:g} similar{least}'}"


def _measured(document: Document, other: Document) -> str:
    results = [
        f"{result.name} {result.value:g} ({'passed' if result.passed else 'broken'} at {result.threshold:g})"
        for result in document.filters
        if result not in other.filters
    ]
    return f"says {', '.join(results) or 'nothing more'}"


def _verdict(document: Document) -> str:
    match: Match | None = document.duplicate
    of = f" with {match.id} of {match.corpus}, {match.similarity:g} similar" if match else ""
    return f"{f'dropped as {document.drop_reason}' if document.drop_reason else 'kept'}{of}"
