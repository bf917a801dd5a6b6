"""Which papers arXiv lists for a category and a window, by OAI-PMH or by the Atom interface.

Both are asked as arXiv documents them, and neither is believed: rows come twice, pages come empty in the
middle of a result, totals change between pages, and resumption tokens expire every day.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

from collectors.document import DateEvidence, UserError
from collectors.request import Request
from collectors.warc import Record, utc_second
from collectors.web.fetch import Fetcher
from collectors.web.polite import UnavailableError
from collectors.web.untrusted import UntrustedError, xml

OAI = "https://oaipmh.arxiv.org/oai"
ATOM = "https://export.arxiv.org/api/query"
ATOM_PAGE = 1_000  # rows; 2,000 are allowed, and more than 1,000 discouraged
ATOM_RESULT = 30_000  # rows of one query; the interface refuses more
EARLIEST = date(2005, 9, 16)  # the first datestamp of the OAI-PMH interface

_EXPIRED = "badResumptionToken"
_OAI = "{http://www.openarchives.org/OAI/2.0/}"
_RAW = "{http://arxiv.org/OAI/arXivRaw/}"
_FEED = "{http://www.w3.org/2005/Atom}"
_SEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_MONTH = r"\d\d(?:0[1-9]|1[0-2])"
_ID = rf"({_MONTH}\.\d{{4,5}}|[a-z-]+(?:\.[A-Z]{{2}})?/{_MONTH}\d{{3}})"
_UNDIVIDED = frozenset(
    {"gr-qc", "hep-ex", "hep-lat", "hep-ph", "hep-th", "math-ph", "nucl-ex", "nucl-th", "quant-ph"}
)
_PHYSICS = _UNDIVIDED | {"astro-ph", "cond-mat", "nlin", "physics"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A row of a listing.

    Attributes:
        id: arXiv's identifier, without a version.
        published: UTC, when version 1 was submitted.
        later: UTC, when its later versions were submitted, as far as the listing says.
        n_versions: how many versions there are.
        evidence: the dates as they are stated.
        license_url: the licence of the latest version; empty when the listing names none.
        facts: title, authors, abstract, categories, and DOI, journal and comments where there are any.
    """

    id: str
    published: datetime
    later: tuple[datetime, ...] = ()
    n_versions: int
    evidence: tuple[DateEvidence, ...]
    license_url: str = ""
    facts: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a listing.

    Attributes:
        papers: its rows that could be read.
        unreadable: those without a date, or with a date or an identifier that is impossible, as they are named.
        n_rows: how many rows there are, of either kind.
        token: resumption token; empty on the last page, and for Atom.
        latest: the last datestamp, for OAI-PMH.
        total: rows of the whole result, for Atom.
        error: OAI-PMH's error code, or Atom's message; empty when all is well.
    """

    papers: tuple[Paper, ...] = ()
    unreadable: tuple[str, ...] = ()
    n_rows: int = 0
    token: str = ""
    latest: str = ""
    total: int = 0
    error: str = ""


def read(payload: bytes) -> Page:
    """Return what a page of either interface holds.

    Raises:
        UntrustedError: when it is hostile, no XML, or no page of a listing.
    """
    root = xml(payload)
    if root.tag == f"{_OAI}OAI-PMH":
        return _oai_page(root)
    if root.tag == f"{_FEED}feed":
        return _atom_page(root)
    raise UntrustedError(f"an XML document {root.tag[:100]!r}, which is no listing")


def oai(category: str, request: Request, fetcher: Fetcher) -> Iterator[Page]:
    """Yield the pages of all records of a category that were modified since the window began.

    Datestamps tell of the last modification, so there is no end to ask for: a paper of the window that
    was replaced after it is listed with its replacement. When a token has expired, the listing starts
    again from the last datestamp seen. The address of each new start has its arguments in another
    order, for an address that was answered once is not asked again.

    Raises:
        UserError: when arXiv refuses the arguments, or tokens expire again and again on the same day.
    """
    day = max(request.since.date(), EARLIEST).isoformat()
    group, _, rest = category.partition(".")
    subject = ":".join(filter(None, ["physics" if group in _PHYSICS else group, group, rest]))
    arguments = {"verb": "ListRecords", "metadataPrefix": "arXivRaw", "set": subject}
    starts: dict[str, int] = {}
    asked: set[str] = set()
    url = _start(arguments, day, starts)
    while url:
        if url in asked:
            raise UserError(f"{url} is given as its own continuation; collect again on another day")
        asked.add(url)
        page = _get(url, fetcher, _not_whole)
        yield page
        day = max(day, page.latest)
        if page.error == _EXPIRED:
            url = _start(arguments, day, starts)
            asked.clear()  # the new pages may give the tokens of the old ones
        elif page.error not in {"", "noRecordsMatch"}:
            raise UserError(f"{url} answers {page.error}; check the categories and the start of the window")
        else:
            url = f"{OAI}?verb=ListRecords&resumptionToken={quote(page.token, safe='')}" if page.token else ""


def _start(arguments: dict[str, str], day: str, starts: dict[str, int]) -> str:
    """Return an address that lists from a day on and was not asked before."""
    pairs = [*arguments.items(), ("from", day)]
    turn = starts[day] = starts.get(day, -1) + 1
    if turn == len(pairs):
        raise UserError(
            f"resumption tokens expired {turn} times before {day} was read; collect on another day"
        )
    return f"{OAI}?{urlencode(pairs[turn:] + pairs[:turn], safe=':')}"


def atom(category: str, request: Request, fetcher: Fetcher) -> Iterator[Page]:
    """Yield the pages of all papers of a category whose version 1 was submitted in the window.

    A window with more papers than a query may have is asked for in halves, and so is one whose pages
    together hold another number of papers than the last of them states.

    Raises:
        UserError: when arXiv refuses the query.
    """
    minute = timedelta(minutes=1)
    windows = [(request.since, request.until - minute)]
    while windows:
        first, last = windows.pop()
        ids: set[str] = set()
        total, start = 1, 0
        while start < total <= ATOM_RESULT:
            page = _get(_query(category, first, last, start), fetcher, _not_empty(start))
            if page.error:
                raise UserError(f"arXiv refuses the query for {category}: {page.error}")
            yield page
            ids.update(paper.id for paper in page.papers)
            ids.update(page.unreadable)
            total, start = page.total, start + page.n_rows
        if len(ids) == total:
            continue
        middle = first + (last - first) // (2 * minute) * minute
        if first < last:
            windows += [(middle + minute, last), (first, middle)]
        else:
            fetcher.gap(
                f"{len(ids)} of {total} papers of {category} submitted at {first:%Y-%m-%d %H:%M} listed"
            )


def _query(category: str, first: datetime, last: datetime, start: int) -> str:
    window = f"%5B{first:%Y%m%d%H%M}+TO+{last:%Y%m%d%H%M}%5D"
    return (
        f"{ATOM}?search_query=cat:{category}+AND+submittedDate:{window}&start={start}"
        f"&max_results={ATOM_PAGE}&sortBy=submittedDate&sortOrder=ascending"
    )


def _not_whole(page: Page) -> str:
    if page.error == _EXPIRED:
        return _EXPIRED
    return "" if page.n_rows or page.token or page.error else "an empty list"


def _not_empty(start: int) -> Callable[[Page], str]:
    return lambda page: "an empty page in mid-result" if not page.n_rows and start < page.total else ""


def _get(url: str, fetcher: Fetcher, wrong: Callable[[Page], str]) -> Page:
    reason = ""

    def check(record: Record) -> str:
        nonlocal reason
        try:
            reason = wrong(read(record.payload))
        except UntrustedError as error:
            reason = str(error)
        return reason

    try:
        record = fetcher.get(url, robots=False, check=check)
    except UnavailableError:
        if reason == _EXPIRED:
            return Page(error=_EXPIRED)  # not kept, so that the same token can be asked for after a new start
        raise
    try:
        page = read(record.payload)
    except UntrustedError as error:
        raise UserError(f"{url} answers {record.status}: {error}") from error
    for identifier in page.unreadable:
        fetcher.gap(f"paper {identifier} is listed without a date of version 1, or is none")
    if record.date < fetcher.request.until + timedelta(days=4):
        # Submissions of a Friday are announced on Monday, and a holiday may come between.
        fetcher.gap("listed within four days of the window's end: its last papers may not be announced yet")
    return page


def check_category(category: object) -> str:
    """Return a category in arXiv's notation.

    Raises:
        UserError: when it is none.
    """
    text = str(category)
    if text in _UNDIVIDED or re.fullmatch(r"[a-z]+(?:-[a-z]+)?\.[A-Za-z-]{2,20}", text):
        return text
    raise UserError(f"{category!r} is no arXiv category; give such as cs.CL, stat.ML or hep-th")


def _oai_page(root: Any) -> Page:
    error = root.find(f"{_OAI}error")
    if error is not None:
        return Page(error=error.get("code") or "unknown")
    rows = root.findall(f"{_OAI}ListRecords/{_OAI}record")
    papers, unreadable = [], []
    for row in rows:
        identifier = _text(row, f"{_OAI}header/{_OAI}identifier").rpartition(":")[2]
        raw = row.find(f"{_OAI}metadata/{_RAW}arXivRaw")
        if raw is None:
            continue  # a deleted record
        try:
            papers.append(_raw_paper(identifier, raw, _text(row, f"{_OAI}header/{_OAI}datestamp")))
        except (ValueError, TypeError, LookupError, OverflowError):
            unreadable.append(identifier[:100])
    stamps = [_text(row, f"{_OAI}header/{_OAI}datestamp")[:10] for row in rows]
    return Page(
        papers=tuple(papers),
        unreadable=tuple(unreadable),
        n_rows=len(rows),
        token=_text(root, f"{_OAI}ListRecords/{_OAI}resumptionToken"),
        latest=max((stamp for stamp in stamps if re.fullmatch(r"\d{4}-\d\d-\d\d", stamp)), default=""),
    )


def _raw_paper(identifier: str, raw: Any, datestamp: str) -> Paper:
    if not re.fullmatch(_ID, identifier):
        raise ValueError(identifier)
    stated = {int(v.get("version", "v0")[1:]): _text(v, f"{_RAW}date") for v in raw.findall(f"{_RAW}version")}
    versions = {number: utc_second(parsedate_to_datetime(value)) for number, value in stated.items()}
    names = ("title", "authors", "abstract", "categories", "doi", "comments")
    facts = {name: _text(raw, f"{_RAW}{name}") for name in names}
    return Paper(
        id=identifier,
        published=versions[1],
        later=tuple(moment for number, moment in sorted(versions.items()) if number > 1),
        n_versions=max(versions),
        evidence=(
            DateEvidence(kind="arxiv-v1", value=stated[1]),
            DateEvidence(kind="oai-datestamp", value=datestamp),
        ),
        license_url=_text(raw, f"{_RAW}license"),
        facts={**facts, "journal": _text(raw, f"{_RAW}journal-ref")},
    )


def _atom_page(root: Any) -> Page:
    entries = root.findall(f"{_FEED}entry")
    papers, unreadable = [], []
    for entry in entries:
        address = _text(entry, f"{_FEED}id")
        match = re.fullmatch(rf"https?://arxiv\.org/abs/{_ID}v(\d{{1,4}})", address)
        if "/api/errors" in address:
            return Page(error=_text(entry, f"{_FEED}summary")[:200] or "an error without a message")
        try:
            papers.append(_entry_paper(match, entry))
        except (ValueError, OverflowError):
            unreadable.append(match[1] if match else address[:100])
    total = _text(root, f"{_SEARCH}totalResults")
    return Page(
        papers=tuple(papers),
        unreadable=tuple(unreadable),
        n_rows=len(entries),
        total=int(total) if re.fullmatch(r"\d{1,9}", total) else 0,
    )


def _entry_paper(match: re.Match[str] | None, entry: Any) -> Paper:
    if not match:
        raise ValueError("no address of a paper")
    n_versions = int(match[2])
    published, updated = _text(entry, f"{_FEED}published"), _text(entry, f"{_FEED}updated")
    latest = (utc_second(datetime.fromisoformat(updated)),) if n_versions > 1 else ()
    return Paper(
        id=match[1],
        published=utc_second(datetime.fromisoformat(published)),
        later=latest,
        n_versions=n_versions,
        evidence=(DateEvidence(kind="arxiv-v1", value=published),),
        facts={
            "title": _text(entry, f"{_FEED}title"),
            "authors": ", ".join(_text(author, f"{_FEED}name") for author in entry.findall(f"{_FEED}author")),
            "abstract": _text(entry, f"{_FEED}summary"),
            "categories": " ".join(term.get("term", "") for term in entry.findall(f"{_FEED}category")),
            "doi": _text(entry, f"{_ARXIV}doi"),
            "comments": _text(entry, f"{_ARXIV}comment"),
            "journal": _text(entry, f"{_ARXIV}journal_ref"),
        },
    )


def _text(element: Any, path: str) -> str:
    return " ".join((element.findtext(path) or "").split())
