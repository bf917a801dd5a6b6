"""arXiv: papers whose version 1 was submitted in the window, from their LaTeX source or arXiv's own HTML.

Version 1 decides, and version 1 is what is fetched: a listing tells of the latest version, so a paper
that is listed for a replacement alone is named and dropped, and a licence is read for version 1 itself,
from its abstract page, where there are more versions or the listing names none.

`discovery: oai` is the default: OAI-PMH is what arXiv recommends for bulk metadata, states the date of every
version and a licence, and has no bound on results. `discovery: atom` asks the search interface, which is
quicker for a short window that is long past, but names no licence: every paper costs a request more.

All of arXiv shares one limit, a request every three seconds on one connection (terms of use of its
interfaces). The two interfaces are for programs, and so is the whole of export.arxiv.org, where arXiv
asks programs to fetch papers ("Play nice", bulk data help): its robots.txt speaks to those that follow
links, and is not asked. HTML is on the main site only, whose robots.txt allows it and asks for fifteen
seconds between requests: it is asked for where the source cannot be read, and then as robots.txt says.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from bs4 import BeautifulSoup

from collectors.arxiv import latex, latexml
from collectors.arxiv import listing as arxiv_listing
from collectors.arxiv.listing import Paper
from collectors.document import DateEvidence, Document, RawRecord, UserError, document
from collectors.language import detect
from collectors.licenses import OPEN_CONTENT, satisfied, spdx_of_url
from collectors.pages import extraction as pages
from collectors.request import Request
from collectors.warc import Record, note
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit, UnavailableError
from collectors.web.untrusted import UntrustedError, members

VERSION = "arxiv/1"
NETWORK = True
POLLS = False
CONTENT = "papers"
TOKENS: Mapping[str, str] = {}
LIMITS: Mapping[str, Limit] = {
    "arxiv.org": Limit(interval=15.0, bucket="arxiv", forbidden_waits=True),
    "export.arxiv.org": Limit(interval=3.0, bucket="arxiv", forbidden_waits=True),
    "oaipmh.arxiv.org": Limit(interval=3.0, bucket="arxiv", forbidden_waits=True),
}
SETTINGS: Mapping[str, Any] = {"categories": ["cs.CL"], "discovery": "oai"}

MIN_WORDS = 100  # less is a title page or the debris of a conversion
MAX_UNPACKED = 256 << 20
MAX_FILES = 20_000

_LISTINGS = {"oai": arxiv_listing.oai, "atom": arxiv_listing.atom}
_SOURCE, _HTML, _ABSTRACT = (
    "https://export.arxiv.org/src/",
    "https://arxiv.org/html/",
    "https://export.arxiv.org/abs/",
)
_LICENSE = "div.abs-license a[href]"
_READ = (".tex", ".ltx", ".latex", ".txt", ".sty")


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """A paper with the first record about it, and the answers about its version 1 by the start of their address."""

    paper: Paper
    first: tuple[RawRecord, Record]
    records: dict[str, tuple[RawRecord, Record]] = field(default_factory=dict)
    text: str = ""
    made_by: str = ""
    problem: str = ""


def lag(_request: Request) -> timedelta:
    """A paper that is submitted before a weekend or a holiday is announced after it."""
    return timedelta(days=4)


def collect(request: Request, fetcher: Fetcher) -> None:
    """Fetch listings, and version 1 of every paper in the window.

    Whether a source can be read is found out here, and kept, so that HTML is asked for only where it is needed.

    Raises:
        UserError: when a setting is wrong, or arXiv refuses the listing.
        UnavailableError: when the listing cannot be had.
    """
    papers: dict[str, Paper] = {}
    discovery, categories = _settings(request)
    for category in categories:
        for page in _LISTINGS[discovery](category, request, fetcher):
            papers.update((paper.id, paper) for paper in page.papers)
    for paper in _ordered(papers.values()):
        if not request.since <= paper.published < request.until:
            continue
        if not fetcher.room():
            return
        try:
            _fetch(paper, fetcher)
        except UnavailableError as error:
            fetcher.gap(error)


def _settings(request: Request) -> tuple[str, list[str]]:
    settings = request.chosen(SETTINGS)
    if settings["discovery"] not in _LISTINGS:
        raise UserError(f"discovery {settings['discovery']!r} of snapshot {request.name} must be oai or atom")
    categories = [arxiv_listing.check_category(category) for category in settings["categories"]]
    if not categories:
        raise UserError(f"snapshot {request.name} names no categories; give such as [cs.CL, stat.ML]")
    return settings["discovery"], categories


def _ordered(papers: Iterable[Paper]) -> list[Paper]:
    return sorted(papers, key=lambda paper: (paper.published, paper.id))


def _fetch(paper: Paper, fetcher: Fetcher) -> None:
    source = fetcher.get(f"{_SOURCE}{paper.id}v1", robots=False)

    def judged() -> list[Record]:
        _, _, problem = _from_source(source)
        return [note(f"{source.uri}#reading", source.date, requested=source.requested, problem=problem)]

    problem = json.loads(fetcher.keep(f"reading of {paper.id}v1", judged)[0].payload)["problem"]
    if problem and problem != "withdrawn":
        fetcher.get(f"{_HTML}{paper.id}v1")
    if paper.n_versions > 1 or not paper.license_url:
        fetcher.get(f"{_ABSTRACT}{paper.id}v1", robots=False)


def _from_source(source: Record) -> tuple[str, str, str]:
    """Return the text of a source, how it was made, and else what is wrong with it."""
    if source.status != 200:
        withdrawn = b"withdrawn" in source.payload[:100_000].lower()
        return "", "", "withdrawn" if withdrawn else f"no source: {source.status or 'refused'}"
    try:
        files = _files(source.payload)
        if _is_placeholder(files):
            return "", "", "withdrawn"
        text, made_by = latex.to_text(files)
    except (UntrustedError, latex.UnreadableError) as error:
        return "", "", str(error)
    n_words = len(text.split())
    return (text, made_by, "") if n_words >= MIN_WORDS else ("", "", f"LaTeX of {n_words} words")


def _files(payload: bytes) -> dict[str, bytes]:
    """Return the files of a source that LaTeX reads; what the bytes are decides, not what they are called.

    Raises:
        UntrustedError: when it is an archive that must not or cannot be unpacked, or no LaTeX.
    """
    if payload.startswith((b"\x1f\x8b", b"PK\x03\x04")) or payload[257:262] == b"ustar":
        files = members(payload, max_bytes=MAX_UNPACKED, max_members=MAX_FILES, wanted=_is_read)
    else:
        files = {"": payload}
    if len(files) == 1 and next(iter(files.values())).startswith((b"%PDF", b"%!PS")):
        raise UntrustedError("PDF or PostScript without LaTeX")
    return files


def _is_read(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    return name.endswith(_READ) or name.startswith("00readme") or "." not in name


def _is_placeholder(files: Mapping[str, bytes]) -> bool:
    """Return whether a source is what arXiv puts in the place of a withdrawn paper."""
    return len(files) == 1 and all(payload.lstrip().startswith(b"%auto-ignore") for payload in files.values())


def extract(
    records: Iterable[tuple[RawRecord, Record]], request: Request, workers: int, /
) -> Iterator[Document]:
    """Yield a document for every paper in the window, and one without a text of its own for each older paper.

    Dropped are older papers with a new version in the window (`earlier-version`, with title and abstract
    as text), withdrawn ones (`withdrawn`), and those that neither pandoc nor arXiv's HTML makes readable
    (`unreadable`, with the problem in the metadata).

    Raises:
        UserError: when a listing in the records cannot be read.
    """
    listed: dict[str, tuple[Paper, RawRecord, Record]] = {}
    gathered = _gather(records, listed)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        while batch := list(islice(gathered, 4 * workers)):
            for item, made in zip(batch, pool.map(_read_source, batch), strict=True):
                item.text, item.made_by, item.problem = made
            unread = [item for item in batch if item.problem and _html(item)]
            texts = latexml.texts([_page(item) for item in unread], workers=workers)
            for item, (text, _) in zip(unread, texts, strict=True):
                if len(text.split()) >= MIN_WORDS:
                    item.text, item.made_by = text, f"arXiv HTML by {pages.extractor()}"
            yield from map(_document, batch)
    for paper in _ordered(paper for paper, _, _ in listed.values()):
        if paper.published < request.since and any(
            request.since <= moment < request.until for moment in paper.later
        ):
            yield _earlier(*listed[paper.id])


def _gather(
    records: Iterable[tuple[RawRecord, Record]], listed: dict[str, tuple[Paper, RawRecord, Record]]
) -> Iterator[_Gathered]:
    """Yield the papers that were fetched, one after the other; listings come before them."""
    current: _Gathered | None = None
    for raw, record in records:
        if 300 <= record.status < 400:
            continue
        if record.kind == "response" and record.requested.startswith((arxiv_listing.OAI, arxiv_listing.ATOM)):
            try:
                page = arxiv_listing.read(record.payload)
            except UntrustedError as error:
                raise UserError(
                    f"the listing {record.uri} cannot be read: {error}; collect it anew"
                ) from error
            listed.update((paper.id, (paper, raw, record)) for paper in page.papers)
            continue
        place = next(
            (start for start in (_SOURCE, _HTML, _ABSTRACT) if record.requested.startswith(start)), ""
        )
        identifier = record.requested.removeprefix(place).removesuffix("v1")
        if not place or identifier not in listed:
            continue
        if current is None or current.paper.id != identifier:
            if current:
                yield current
            current = _Gathered(paper=listed[identifier][0], first=(raw, record))
        if record.kind == "response":
            current.records[place] = raw, record
    if current:
        yield current


def _read_source(item: _Gathered) -> tuple[str, str, str]:
    if _SOURCE not in item.records:
        return "", "", "no source: refused"
    return _from_source(item.records[_SOURCE][1])


def _html(item: _Gathered) -> bool:
    return _HTML in item.records and item.records[_HTML][1].status == 200


def _page(item: _Gathered) -> pages.Page:
    record = item.records[_HTML][1]
    return pages.Page(
        url=record.uri, payload=record.payload, media_type=record.media_type, fetched=record.date
    )


def _document(item: _Gathered) -> Document:
    raw, record = item.records[_HTML] if item.text and item.problem else item.first
    license_, evidence = _license(item)
    language, probability = detect(item.text)
    return _made(
        item.paper,
        raw,
        record,
        text=item.text,
        license=license_,
        license_evidence=evidence,
        language=language,
        language_probability=probability,
        drop_reason="" if item.text else "withdrawn" if item.problem == "withdrawn" else "unreadable",
        metadata={"made_by": item.made_by, "problem": item.problem},
    )


def _earlier(paper: Paper, raw: RawRecord, record: Record) -> Document:
    text = f"{paper.facts['title']}\n\n{paper.facts['abstract']}"
    language, probability = detect(text)
    return _made(
        paper,
        raw,
        record,
        text=text,
        license="CC0-1.0",  # arXiv's metadata are; the paper is not here
        license_evidence="metadata of arXiv",
        language=language,
        language_probability=probability,
        drop_reason="earlier-version",
        metadata={},
    )


def _made(
    paper: Paper, raw: RawRecord, record: Record, *, metadata: dict[str, str], **fields: Any
) -> Document:
    facts = {name: value for name, value in paper.facts.items() if name not in {"title", "abstract"}}
    metadata = {**facts, "versions": str(paper.n_versions), **metadata}
    return document(
        source="arxiv",
        native_id=paper.id,
        version="v1",
        url=f"https://arxiv.org/abs/{paper.id}v1",
        title=paper.facts["title"],
        published=paper.published,
        published_precision="second",
        date_evidence=(*paper.evidence, *_identifier_evidence(paper.id)),
        fetched=record.date,
        redistributable=satisfied(fields["license"], OPEN_CONTENT),
        raw=raw,
        extractor=VERSION,
        metadata={name: value for name, value in metadata.items() if value},
        **fields,
    )


def _identifier_evidence(identifier: str) -> tuple[DateEvidence, ...]:
    """Return the month that an identifier states, in which version 1 was submitted or announced."""
    month = datetime.strptime(identifier.rpartition("/")[2][:4], "%y%m")  # noqa: DTZ007  a month has no zone
    return (DateEvidence(kind="arxiv-identifier", value=f"{month:%Y-%m}"),)


def _license(item: _Gathered) -> tuple[str, str]:
    """Return the licence of version 1 and where it was read."""
    if _ABSTRACT in item.records:
        record = item.records[_ABSTRACT][1]
        link = BeautifulSoup(record.payload, "lxml").select_one(_LICENSE) if record.status == 200 else None
        license_ = spdx_of_url(str(link["href"])) if link else ""
        return license_, record.requested if license_ else ""
    if item.paper.n_versions > 1:
        return "", ""
    license_ = spdx_of_url(item.paper.license_url)
    return license_, "OAI-PMH record of the only version" if license_ else ""
