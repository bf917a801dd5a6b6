"""A snapshot's documents become a corpus: what is kept, what was dropped and why, and a card that says so.

`corpora/<name>/` holds `documents.parquet`, `dropped.parquet`, `corpus.json` and `README.md`, a
dataset card that `datasets.load_dataset` understands. All of it follows from the documents and the
parameters alone, to the byte.
"""

import csv
import fnmatch
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from collectors.document import Document, UserError, normalise, replacing, sha256_of, write_documents
from collectors.request import Request

if TYPE_CHECKING:
    from datetime import datetime

REMOVED = "removed"
_LISTED_GAPS = 20
_WILDCARD = re.compile(r"\[!?\]?[^\]]*\]|[*?]")
_HOST = re.compile(r"https?://[^/*?\[]+\.[^/*?\[]+/")
_COMMON = re.compile(r"https?(://)?|www\.")
_TELLING = {"url": 4, "author": 3}
"""Letters or digits that stand in a row in a pattern of a removal, by its kind; fewer are in nearly everything."""
_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|^[#+-]|(?<![^\W_])_|_(?![^\W_])")
_NUMBERED = re.compile(r"^([0-9]+)([.)])")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """What `corpus.json` says of a corpus.

    Attributes:
        name: its folder's name, that of the snapshot.
        source: where its documents came from.
        content: `code` or `prose`.
        since: start of the publication window, ISO date.
        until: its end, not included.
        documents_sha256: digest of `documents.parquet`; scores name it.
        n_documents: documents kept.
        n_characters: their Unicode code points.
        n_bytes: their bytes in UTF-8.
        published_from: earliest publication among them, ISO time, empty for an empty corpus.
        published_until: latest.
        dropped: documents dropped, by reason.
        licenses: documents kept, by SPDX expression.
        date_evidence: documents kept, by kind of evidence for their date.
        gaps: what the snapshot should hold and does not; empty for a complete one.
    """

    name: str
    source: str
    content: str
    since: str
    until: str
    documents_sha256: str
    n_documents: int
    n_characters: int
    n_bytes: int
    published_from: str
    published_until: str
    dropped: dict[str, int]
    licenses: dict[str, int]
    date_evidence: dict[str, int]
    gaps: list[str]


def read_removals(path: Path) -> dict[str, str]:
    """Return what must not be used, with the reason of each line.

    Args:
        path: a CSV file with the columns `id` and `reason`; none means that there are none. The first cell is
            a document's id, `url:PATTERN` or `author:PATTERN`, with the `*`, `?` and `[…]` of a shell.

    Raises:
        UserError: when the file is no such table, says something twice, or has a pattern that would remove nearly
            everything, naming the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte order mark
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); it is a CSV file of id and reason") from error
    for number, row in enumerate(rows or [[]], 1):
        if row != ["id", "reason"] if number == 1 else len(row) != 2 or not _is_target(row[0]):
            raise UserError(
                f"line {number} of {path} is no removal; the first line is `id,reason`, and each further one a "
                "document's 64-digit id, url:PATTERN or author:PATTERN, and a reason"
            )
        if number > 1 and (missing := _too_wide(row[0])):
            raise UserError(
                f"line {number} of {path} is no removal: {row[0]!r} covers nearly everything; give it {missing} "
                "letters or digits in a row that tell what is meant, as the name of a host does"
            )
    first: dict[str, int] = {}
    for number, row in enumerate(rows[1:], 2):
        if (earlier := first.setdefault(_folded(row[0]), number)) < number:
            raise UserError(
                f"line {number} of {path} removes what line {earlier} does; keep one of them, with the reasons of both"
            )
    return {row[0]: row[1] for row in rows[1:]}


def covering(removals: Mapping[str, str]) -> Callable[[Document], list[str]]:
    """Return a function that gives the lines of a removal list, by their first cell, that cover a document.

    A pattern must match a whole address, or the whole name of one author, in any case. Sources write
    authors in one string; its parts between commas, semicolons, parentheses and "and" are names, and so are
    those between semicolons alone, for "Doe, Jane", and the whole.

    Args:
        removals: as `read_removals` returns them.
    """
    patterns = [
        (target, kind, re.compile(fnmatch.translate(_folded(pattern))))
        for target in removals
        for kind, mark, pattern in [target.partition(":")]
        if mark
    ]

    def lines(document: Document) -> list[str]:
        stated = {"url": {_folded(document.url)}, "author": _authors(document)} if patterns else {}
        found = [t for t, kind, pattern in patterns if any(map(pattern.match, stated[kind]))]
        return [document.id, *found] if document.id in removals else found

    return lines


def remove(documents: Iterable[Document], removals: Mapping[str, str]) -> Iterator[Document]:
    """Yield every document; one on the removal list as dropped, without what it says and where it stood.

    Its digest stays, so that a removal can be verified, and so does its signature: a copy of it is
    still found to be one.
    """
    lines = covering(removals)
    for document in documents:
        if found := lines(document):
            reason = {"removal": removals[found[0]]}
            blank = replace(document, text="", title="", url="", native_id="")
            yield replace(blank, drop_reason=REMOVED, metadata=reason)
        else:
            yield document


def _is_target(cell: str) -> bool:
    kind, _, pattern = cell.partition(":")
    named = kind in _TELLING and any(character.isalnum() for character in pattern)
    return named or re.fullmatch("[0-9a-f]{64}", cell) is not None


def _too_wide(target: str) -> int:
    """Return how many characters in a row a pattern lacks; 0 if it names a host, or matches one text alone."""
    kind, _, pattern = target.partition(":")
    if _HOST.match(_folded(pattern)):
        return 0
    parts = _WILDCARD.split(_COMMON.sub("", _folded(pattern)))
    longest = max(sum(map(str.isalnum, part)) for part in parts)
    return _TELLING[kind] if kind in _TELLING and len(parts) > 1 and longest < _TELLING[kind] else 0


def _authors(document: Document) -> set[str]:
    names = set()
    for field in ("author", "authors"):
        whole = document.metadata.get(field, "")
        names |= {whole, *whole.split(";"), *re.split(r"[;,()]|\sand\s|\s&\s", whole)}
    return {_folded(name) for name in names} - {""}


def _folded(text: str) -> str:
    return " ".join(normalise(text).casefold().split())


def write_corpus(
    folder: Path, request: Request, documents: Iterable[Document], gaps: Sequence[str] = ()
) -> CorpusFacts:
    """Write a corpus folder from documents whose `drop_reason` is final; return its facts.

    Args:
        folder: where to.
        request: what the snapshot answers.
        documents: all of its documents.
        gaps: what the snapshot should hold and does not.
    """
    documents = list(documents)
    kept = [document for document in documents if not document.drop_reason]
    write_documents(folder / "documents.parquet", kept)
    write_documents(folder / "dropped.parquet", (d for d in documents if d.drop_reason))
    facts = corpus_facts(request, documents, sha256_of(folder / "documents.parquet"), gaps)
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(_card(facts, kept), encoding="utf-8")
    with replacing(folder / "corpus.json") as temporary:
        temporary.write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")
    return facts


def corpus_facts(
    request: Request, documents: Iterable[Document], documents_sha256: str, gaps: Sequence[str]
) -> CorpusFacts:
    """Return what `corpus.json` says of documents, kept and dropped, in any order.

    Args:
        request: what their snapshot answers.
        documents: those whose `drop_reason` is empty are kept.
        documents_sha256: digest of `documents.parquet`.
        gaps: what the snapshot should hold and does not.
    """
    n: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    date_evidence: Counter[str] = Counter()
    published: list[datetime] = []
    for document in documents:
        if document.drop_reason:
            dropped[document.drop_reason] += 1
            continue
        n.update(documents=1, characters=document.n_characters, bytes=document.n_bytes)
        licenses[document.license] += 1
        date_evidence.update(evidence.kind for evidence in document.date_evidence)
        published.append(document.published)
    return CorpusFacts(
        name=request.name,
        source=request.source,
        content=request.content,
        since=f"{request.since:%Y-%m-%d}",
        until=f"{request.until:%Y-%m-%d}",
        documents_sha256=documents_sha256,
        n_documents=n["documents"],
        n_characters=n["characters"],
        n_bytes=n["bytes"],
        published_from=min(published).isoformat() if published else "",
        published_until=max(published).isoformat() if published else "",
        dropped=dict(sorted(dropped.items())),
        licenses=dict(sorted(licenses.items())),
        date_evidence=dict(sorted(date_evidence.items())),
        gaps=list(gaps),
    )


def _card(facts: CorpusFacts, kept: Sequence[Document]) -> str:
    header = {
        "pretty_name": facts.name,
        "language": sorted({d.language for d in kept if len(d.language) == 2}),
        "license": "other",
        "license_name": "mixed",
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "test", "path": "documents.parquet"}],
                "default": True,
            },
            {"config_name": "dropped", "data_files": [{"split": "test", "path": "dropped.parquet"}]},
        ],
    }
    return f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# {facts.name}

{facts.n_documents} documents of {escaped(facts.content)} from source `{facts.source}`, published from {facts.since}
until {facts.until} (not included): {facts.n_characters:,} characters, {facts.n_bytes:,} bytes in UTF-8.
{_completeness(facts.gaps)}
| config | rows | what |
|---|---|---|
| `default` | {facts.n_documents} | the corpus |
| `dropped` | {sum(facts.dropped.values())} | documents left out, each with its `drop_reason` |

{_table("reason to drop", facts.dropped)}
{_table("licence", facts.licenses)}
{_table("date evidence", facts.date_evidence)}
Every document carries its own licence in the column `license`; `redistributable` says whether its full
text may be passed on. sha256 of `documents.parquet`: `{facts.documents_sha256}`.
"""


def _completeness(gaps: Sequence[str]) -> str:
    if not gaps:
        return ""
    listed = "".join(f"- {escaped(gap)}\n" for gap in gaps[:_LISTED_GAPS])
    more = f"- and {len(gaps) - _LISTED_GAPS} more, in `corpus.json`\n" if len(gaps) > _LISTED_GAPS else ""
    return f"\n**This snapshot is not complete:**\n\n{listed}{more}"


def _table(title: str, counts: dict[str, int]) -> str:
    rows = (
        "".join(f"| {escaped(name) or 'unknown'} | {n} |\n" for name, n in counts.items()) or "| none | 0 |\n"
    )
    return f"| {title} | documents |\n|---|---|\n{rows}"


def escaped(text: str) -> str:
    """Return a stranger's text for a line or a cell of Markdown, where it shows as it is and does nothing else."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", line))
