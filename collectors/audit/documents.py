"""A corpus against its documents, the documents against the raw records: every step that made it, checked."""

import hashlib
import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path

from tqdm import tqdm

from collectors import build, snapshot
from collectors.audit import verdicts
from collectors.audit.finding import Finding, anew, refusal
from collectors.document import ELSEWHERE, Document, RawRecord, UserError, read_documents, sha256_of
from collectors.request import Request
from collectors.source import source

_WHOLE = "a snapshot holds every record that its manifest names, byte for byte"
_ANSWERS = "a snapshot answers its entry in params.yaml"
_IDENTITY = "id, digest and counts of a document follow from what it is"
_ACCOUNTED = "every document is kept or dropped, once, and as it was extracted"
_REMOVED = "what corpora/removed.csv covers is dropped as `removed`, and nothing else is"
_FACTS = "corpus.json says what is in the corpus"
_DERIVED = "the source makes these documents of the raw records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was looked at in a snapshot.

    Attributes:
        n_records: raw records, requests not counted, each read against its digest.
        n_documents: documents extracted from them.
        n_made_again: documents made again of the raw records.
        n_judged: documents filtered, signed and held against others again.
        removed: how many documents each line of the removal list covers, by its first cell.
        findings: what is not as it should be.
    """

    n_records: int
    n_documents: int
    n_made_again: int
    n_judged: int
    removed: Counter[str]
    findings: list[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What an audit remembers of a document, for the documents of a snapshot may be more than memory holds."""

    raw: RawRecord
    alone: bool  # whether the record is this document's, and not a listing of many
    text_sha256: str
    digest: str


def check(
    asked: Request,
    corpora: Path,
    removals: Mapping[str, str],
    rules: verdicts.Rules,
    intact: Callable[[Path], bool],
    *,
    sample: int | None,
    workers: int,
) -> Checked:
    """Check the chain of a snapshot: raw records, documents, corpus.

    Args:
        asked: what the snapshot answers.
        corpora: the folder of all data.
        removals: as `build.read_removals` returns them.
        rules: by what its documents were judged.
        intact: whether a file or folder is what DVC recorded. One that is not was named already, and is not read.
        sample: how many documents are made again of their raw records, and judged again. Which ones follows
            from the documents, so that the same data give the same audit. None for all.
        workers: processes of the source's extraction.
    """
    raw, folder = corpora / "raw" / asked.name, corpora / asked.name
    documents = corpora / "documents" / f"{asked.name}.parquet"
    held, records, findings = _records(raw, asked) if intact(raw) else (None, set(), [])
    seen: dict[str, _Seen] = {}
    removed: Counter[str] = Counter()
    n_again = n_judged = 0
    if all(map(intact, (documents, *(folder / f"{name}.parquet" for name in ("documents", "dropped"))))):
        try:
            findings += _accounted(documents, folder, removals, seen, removed)
            findings += _facts(folder, asked, held.gaps if held else None)
        except UserError as error:
            findings.append(refusal(error, str(folder), _ACCOUNTED))
    chosen = _drawn(seen, sample, sha256_of(documents)) if seen else []
    if held is not None and chosen:
        lost = [key for key, document in seen.items() if document.raw not in records]
        stage = f"extract@{asked.name}"
        findings += [
            _finding(f"the raw record of document {key} is not in {raw}", documents, _DERIVED, stage)
            for key in lost
        ]
        n_again = len(chosen)
        try:
            findings += _made_again(raw, documents, asked, seen, chosen, workers)
        except UserError as error:
            findings.append(refusal(error, str(raw), _DERIVED))
    if chosen:
        n_judged = len(chosen)
        try:
            findings += verdicts.check(asked.name, corpora, rules, chosen, intact, workers=workers)
        except UserError as error:
            findings.append(refusal(error, str(folder), verdicts.JUDGED))
    return Checked(
        n_records=len(records),
        n_documents=len(seen),
        n_made_again=n_again,
        n_judged=n_judged,
        removed=removed,
        findings=findings,
    )


def _finding(what: str, where: Path, rule: str, stage: str) -> Finding:
    return Finding(what=what, where=str(where), rule=rule, remedy=anew(stage))


def _records(raw: Path, asked: Request) -> tuple[snapshot.Snapshot | None, set[RawRecord], list[Finding]]:
    """Return the snapshot, None where not all of it is there, its raw records, and what is wrong with them."""
    try:
        held = snapshot.read_snapshot(raw)
        bar = tqdm(snapshot.read_records(raw), desc=f"{asked.name}, records", unit="record", disable=None)
        records = {place for place, _ in bar}
    except UserError as error:
        # DVC recorded it as it is, so that a checkout gives the same again.
        remedy = f"`git restore` a dvc.lock from before, delete {raw} and run `dvc checkout {raw}`"
        return None, set(), [replace(refusal(error, str(raw), _WHOLE), remedy=remedy)]
    if held.name != asked.name or held.request != json.loads(json.dumps(asked.facts())):
        where, remedy = raw / "snapshot.json", "restore the entry, or give the changed one a new name"
        what = "answers another request"
        return held, records, [Finding(what=what, where=str(where), rule=_ANSWERS, remedy=remedy)]
    return held, records, []


def _accounted(
    documents: Path,
    folder: Path,
    removals: Mapping[str, str],
    seen: dict[str, _Seen],
    removed: Counter[str],
) -> Iterator[Finding]:
    """Yield what is wrong between the extracted documents and the corpus; note what is seen of each document.

    All three files are sorted by id and read side by side, so that no more than a document of each is held.
    """
    covering = build.covering(removals)
    kept, dropped = folder / "documents.parquet", folder / "dropped.parquet"
    streams = [_marked(n, path) for n, path in enumerate((documents, kept, dropped))]
    in_order = heapq.merge(*streams, key=itemgetter(0, 1))
    groups = itertools.groupby(in_order, itemgetter(0))
    for key, group in tqdm(groups, desc=f"{folder.name}, rows", unit="document", disable=None):
        found: tuple[list[Document], ...] = ([], [], [])
        for _, n, document in group:
            found[n].append(document)
        made, rows = found[0], found[1] + found[2]
        if len(made) != 1 or len(rows) != 1:
            what = f"document {key} is extracted {len(made)} times, kept {len(found[1])}, dropped {len(found[2])}"
            yield _finding(what, folder, _ACCOUNTED, f"dedup@{folder.name}")
            continue
        seen[key] = _seen(made[0])
        lines = covering(made[0])
        removed.update(lines)
        where = kept if found[1] else dropped
        yield from _one(made[0], rows[0], removals[lines[0]] if lines else None, documents, where)


def _marked(number: int, path: Path) -> Iterator[tuple[str, int, Document]]:
    return ((document.id, number, document) for document in read_documents(path))


def _one(
    made: Document, row: Document, removal: str | None, documents: Path, where: Path
) -> Iterator[Finding]:
    """Yield what is wrong with a document as it was extracted, and with its row in the corpus."""
    told, stage = f"document {made.id}", f"dedup@{documents.stem}"
    bare = f"{made.source}\0{made.native_id}\0{made.version}"
    encoded = made.text.encode(errors="surrogatepass")
    stated = (made.id, made.text_sha256, made.n_characters, made.n_bytes)
    if stated != (_sha256(bare.encode()), _sha256(encoded), len(made.text), len(encoded)):
        what = f"{told} is not what its id, digest or counts say"
        yield _finding(what, documents, _IDENTITY, f"extract@{documents.stem}")
    if bool(row.drop_reason) is not (where.stem == "dropped"):
        yield _finding(f"{told} has the reason {row.drop_reason!r}", where, _ACCOUNTED, stage)
    if (row.drop_reason == build.REMOVED) is not (removal is not None):
        listed = "is not" if removal is None else "is"
        what = f"{told} {listed} on the list and has the reason {row.drop_reason!r}"
        yield _finding(what, where, _REMOVED, stage)
        return
    expected = replace(made, filters=row.filters, duplicate=row.duplicate, drop_reason=row.drop_reason)
    if removal is not None:
        expected = replace(expected, text="", title="", url="", native_id="", metadata={"removal": removal})
    if row != expected:
        yield _finding(f"{told} is not as it was extracted", where, _ACCOUNTED, stage)


def _facts(folder: Path, asked: Request, gaps: Iterable[str] | None) -> Iterator[Finding]:
    """Yield the facts in corpus.json that do not follow from the corpus, and gaps from the snapshot if it is known."""
    path, stage = folder / "corpus.json", f"dedup@{folder.name}"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stated, dict):
            raise TypeError(f"a {type(stated).__name__}")  # noqa: TRY301  what follows is for both
    except (OSError, ValueError, TypeError, RecursionError) as error:
        yield _finding(f"cannot be read ({error})", path, _FACTS, stage)
        return
    kept = folder / "documents.parquet"
    rows = itertools.chain(read_documents(kept), read_documents(folder / "dropped.parquet"))
    facts = asdict(build.corpus_facts(asked, rows, sha256_of(kept), list(gaps or ())))
    known = (facts.keys() | stated.keys()) - ({"gaps"} if gaps is None else set())
    for name in sorted(known):
        if stated.get(name) != facts.get(name):
            yield _finding(f"{name} is {stated.get(name)!r}, not {facts.get(name)!r}", path, _FACTS, stage)


def _drawn(seen: Iterable[str], sample: int | None, seed: str) -> list[str]:
    if sample is None:
        return list(seen)
    return heapq.nsmallest(sample, seen, key=lambda key: _sha256(f"{seed} {key}".encode()))


def _made_again(
    raw: Path, documents: Path, asked: Request, seen: Mapping[str, _Seen], chosen: list[str], workers: int
) -> Iterator[Finding]:
    """Yield what is not what the source makes of the raw records now.

    For a sample, the records that belong to other documents alone are left out at first. What a document is
    can depend on them, such as lines that are frequent on a site: where a document differs, all records are read.
    """
    differing = chosen
    if len(chosen) < len(seen):
        wanted = {seen[key].raw for key in chosen} | {d.raw for d in seen.values() if not d.alone}
        spared = {document.raw for document in seen.values()} - wanted
        try:
            made = _extracted(raw, asked, workers, len(chosen), spared)
            differing = [key for key in chosen if made.get(key) != seen[key]]
        except UserError:
            differing = chosen
    if not differing:
        return
    made = _extracted(raw, asked, workers, len(seen), set())
    for key in sorted({*differing, *(made.keys() - seen.keys())}):
        again, before = made.get(key), seen.get(key)
        if again is None or before is None:
            what = f"document {key} is {'no longer' if before else 'also'} made of the raw records"
        elif again.text_sha256 != before.text_sha256:
            what = f"document {key} has another text than the raw records give"
        else:
            what = f"document {key} says something else of its text than the raw records do"
        if again != before:
            yield _finding(what, documents, _DERIVED, f"extract@{asked.name}")


def _extracted(
    raw: Path, asked: Request, workers: int, n_documents: int, spared: set[RawRecord]
) -> dict[str, _Seen]:
    records = ((place, record) for place, record in snapshot.read_records(raw) if place not in spared)
    made = source(asked.source).extract(records, asked, workers)
    bar = tqdm(made, desc=f"{asked.name}, made again", total=n_documents, unit="document", disable=None)
    return {document.id: _seen(document) for document in bar}


def _seen(document: Document) -> _Seen:
    facts = json.dumps(asdict(document), sort_keys=True, default=str)
    return _Seen(
        raw=document.raw,
        alone=document.drop_reason not in ELSEWHERE,
        text_sha256=document.text_sha256,
        digest=_sha256(facts.encode()),
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
