"""A snapshot's documents become a corpus: what is kept, what was dropped and why, and a card that says so.

`corpora/<name>/` holds `documents.parquet`, `dropped.parquet`, `corpus.json` and `README.md`, a
dataset card that `datasets.load_dataset` understands. All of it follows from the documents and the
parameters alone, to the byte.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from collectors.document import Document, UserError, replacing, sha256_of, write_documents
from collectors.request import Request

REMOVED = "removed"
_LISTED_GAPS = 20


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
    """Return the documents that must not be used, with the reason of each.

    Args:
        path: a CSV file with the columns `id` and `reason`; none means that there are none.

    Raises:
        UserError: when the file is no such table, naming the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte order mark
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); it is a CSV file of id and reason") from error
    for number, row in enumerate(rows or [[]], 1):
        if (
            row != ["id", "reason"]
            if number == 1
            else len(row) != 2 or not re.fullmatch("[0-9a-f]{64}", row[0])
        ):
            raise UserError(
                f"line {number} of {path} is no removal; the first line is `id,reason`, and each further one a "
                "document's 64-digit id and a reason"
            )
    return {row[0]: row[1] for row in rows[1:]}


def remove(documents: Iterable[Document], removals: Mapping[str, str]) -> Iterator[Document]:
    """Yield every document; one on the removal list as dropped, without what it says and where it stood.

    Its digest stays, so that a removal can be verified, and so does its signature: a copy of it is
    still found to be one.
    """
    for document in documents:
        if document.id in removals:
            reason = {"removal": removals[document.id]}
            blank = replace(document, text="", title="", url="", native_id="")
            yield replace(blank, drop_reason=REMOVED, metadata=reason)
        else:
            yield document


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
    dropped = [document for document in documents if document.drop_reason]
    write_documents(folder / "documents.parquet", kept)
    write_documents(folder / "dropped.parquet", dropped)
    published = sorted(document.published for document in kept)
    facts = CorpusFacts(
        name=request.name,
        source=request.source,
        content=request.content,
        since=f"{request.since:%Y-%m-%d}",
        until=f"{request.until:%Y-%m-%d}",
        documents_sha256=sha256_of(folder / "documents.parquet"),
        n_documents=len(kept),
        n_characters=sum(document.n_characters for document in kept),
        n_bytes=sum(document.n_bytes for document in kept),
        published_from=published[0].isoformat() if published else "",
        published_until=published[-1].isoformat() if published else "",
        dropped=_counts(document.drop_reason for document in dropped),
        licenses=_counts(document.license for document in kept),
        date_evidence=_counts(e.kind for document in kept for e in document.date_evidence),
        gaps=list(gaps),
    )
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(_card(facts, kept), encoding="utf-8")
    with replacing(folder / "corpus.json") as temporary:
        temporary.write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")
    return facts


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


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

{facts.n_documents} documents of {facts.content} from source `{facts.source}`, published from {facts.since}
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
    listed = "".join(f"- {_cell(gap)}\n" for gap in gaps[:_LISTED_GAPS])
    more = f"- and {len(gaps) - _LISTED_GAPS} more, in `corpus.json`\n" if len(gaps) > _LISTED_GAPS else ""
    return f"\n**This snapshot is not complete:**\n\n{listed}{more}"


def _table(title: str, counts: dict[str, int]) -> str:
    rows = "".join(f"| {_cell(name)} | {n} |\n" for name, n in counts.items()) or "| none | 0 |\n"
    return f"| {title} | documents |\n|---|---|\n{rows}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or "unknown"
