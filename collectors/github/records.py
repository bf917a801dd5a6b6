"""A repository's history and fresh files as raw records, and the documents that these give."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from collectors.document import DateEvidence, Document, RawRecord, document
from collectors.github.freshness import FRESH, File, History, examine
from collectors.github.git import TooLargeError, cloned
from collectors.github.lineage import Stamp
from collectors.github.notices import copyright_year, header, license_notice
from collectors.github.rules import UnreadableError, minified, secrets, text_of
from collectors.licenses import OPEN_CODE, satisfied
from collectors.request import Request
from collectors.warc import Record, note
from collectors.web.fetch import Fetcher

_HISTORY = "#history"
_PLAIN = frozenset({"unchanged", "vendored", "generated"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository to examine.

    Attributes:
        name: `owner/name` on GitHub, `host/path` elsewhere, the folder's name on this machine.
        source: what git is given: an https address, or an absolute path.
        page: the address under which its files are named.
        stars: at the time of the search, -1 when it was not searched for.
        license: SPDX identifier that the search gave, or an empty string.
    """

    name: str
    source: str
    page: str
    stars: int = -1
    license: str = ""


def repository_records(
    repository: Repository,
    request: Request,
    *,
    suffixes: tuple[str, ...],
    language: str,
    max_files: int,
    max_file_bytes: int,
    fetcher: Fetcher,
) -> list[Record]:
    """Clone a repository and return its history as a note, followed by its fresh files by path.

    Of more than `max_files` fresh files those with the lowest hash are taken, so that no repository is
    the corpus. A repository beyond the bounds on disk or text, and one without a commit before the
    window's end, gives the note alone.

    Raises:
        GitError: when the repository could not be had.
    """
    facts: dict[str, Any] = {
        "repository": repository.name,
        "page": repository.page,
        "stars": repository.stars,
        "license": repository.license,
    }
    window = int(request.since.timestamp()), int(request.until.timestamp())
    try:
        with (
            fetcher.turn(repository.page),
            cloned(repository.source, user_agent=fetcher.user_agent, scratch=fetcher.scratch) as git,
        ):
            history = examine(
                git, *window, suffixes=suffixes, language=language, max_file_bytes=max_file_bytes
            )
    except TooLargeError as error:
        return [_note(repository, request.until, {**facts, "files": [], "without": str(error)})]
    if history is None:
        return [_note(repository, request.until, {**facts, "files": [], "without": "no commit in time"})]
    return _records(repository, history, facts, max_files)


def _records(
    repository: Repository, history: History, facts: Mapping[str, Any], max_files: int
) -> list[Record]:
    found = {
        # As it is stored: a credential may stand in the output of a notebook.
        file.path: secrets(history.payloads[file.path].decode("utf-8", "replace"))
        for file in history.files
        if file.status in FRESH
    }
    fresh = sorted(
        (file for file in history.files if file.status in FRESH and not found[file.path]),
        key=lambda file: sha256(file.path).digest(),
    )
    taken = {file.path for file in fresh[:max_files]}
    commit = history.pinned.id
    entries = [
        _entry(file, kept=file.path in taken, findings=found.get(file.path, []))
        for file in history.files
        if file.status not in _PLAIN
    ]
    about = {
        **facts,
        "commit": commit,
        "committed": _moment(history.pinned.committed).isoformat(),
        "base": history.base.id if history.base else "",
        "license_file": license_notice(history.license.decode("utf-8", "replace")),
        "counts": dict(sorted(Counter(file.status for file in history.files).items())),
        "files": entries,
    }
    return [
        _note(repository, _moment(history.pinned.committed), about),
        *(
            Record(
                uri=_address(repository.page, commit, quote(file.path)),
                date=_moment(file.last.seconds),
                media_type="text/plain",
                payload=history.payloads[file.path],
            )
            for file in history.files
            if file.path in taken and file.last
        ),
    ]


def documents(
    records: Iterable[tuple[RawRecord, Record]], *, since: datetime, language: str, extractor: str
) -> Iterator[Document]:
    """Yield the documents of repositories' records: one for each fresh file, without text if it held a credential."""
    about: dict[str, Any] = {}
    files: dict[str, dict[str, Any]] = {}
    for raw, record in records:
        if record.kind == "metadata" and record.uri.endswith(_HISTORY):
            about = json.loads(record.payload)
            files = {_address(about["page"], about["commit"], file["path"]): file for file in about["files"]}
            read = [(address, "", "secret") for address, file in files.items() if file["secrets"]]
        elif record.kind == "resource":
            path = _text(unquote_to_bytes(files[record.uri]["path"]))
            read = [(record.uri, *_read(path, record.payload, since, language))]
        else:
            read = []
        for address, text, reason in read:
            yield document(
                **_identity(files[address], about, address),
                **_dates(files[address]),
                **_terms(text, about),
                text=text,
                language=language,
                language_probability=1.0,
                raw=raw,
                extractor=extractor,
                drop_reason=reason,
                metadata=_metadata(files[address], about, text),
            )


def _read(path: str, payload: bytes, since: datetime, language: str) -> tuple[str, str]:
    """Return the text of a file and why it must not be used, or an empty string."""
    try:
        text = text_of(path, payload, language)
    except UnreadableError as error:
        return "", str(error)
    year = copyright_year(header(text))
    if year is not None and year < since.year:
        return text, "old-copyright"
    return text, "minified" if minified(text) else ""


def _identity(file: Mapping[str, Any], about: Mapping[str, Any], address: str) -> dict[str, Any]:
    path = _shown(file["path"])
    return {
        "source": "github",
        "native_id": f"{about['repository']}/{path}",
        "version": about["commit"],
        "url": address if address.startswith("https://") else "",
        "title": path,
    }


def _dates(file: Mapping[str, Any]) -> dict[str, Any]:
    first, last = _moment(file["first"]["seconds"]), _moment(file["last"]["seconds"])
    return {
        "published": first,
        "published_precision": "second",
        "date_evidence": (
            DateEvidence(
                kind=f"git-{file['status']}", value=f"{first.isoformat()} {file['first']['commit']}"
            ),
            DateEvidence(kind="git-last-changed", value=f"{last.isoformat()} {file['last']['commit']}"),
        ),
    }


def _terms(text: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the licence of a file, stated in it or for its repository, and what it allows."""
    expression, evidence = license_notice(header(text)), "notice in the file"
    if not expression:
        expression, evidence = about["license"], "search API"
    if not expression:
        expression = about["license_file"]
        evidence = "licence file of the repository" if expression else ""
    return {
        "license": expression,
        "license_evidence": evidence,
        "redistributable": satisfied(expression, OPEN_CODE),
    }


def _metadata(file: Mapping[str, Any], about: Mapping[str, Any], text: str) -> dict[str, str]:
    facts = {
        "repository": about["repository"],
        "blob": file["blob"],
        "status": file["status"],
        "lines": file["lines"],
        "lines_written": file["written"],
        "stars": about["stars"] if about["stars"] >= 0 else None,
        "secrets": ", ".join(file["secrets"]) or None,
        "copyright_year": copyright_year(header(text)),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _entry(file: File, *, kept: bool, findings: list[str]) -> dict[str, Any]:
    return {
        "path": quote(file.path),
        "blob": file.blob,
        "status": file.status,
        "lines": file.lines,
        "written": file.written,
        "first": _stamp(file.first),
        "last": _stamp(file.last),
        "kept": kept,
        "secrets": findings,
    }


def _stamp(stamp: Stamp | None) -> dict[str, Any] | None:
    return {"seconds": stamp.seconds, "commit": stamp.commit} if stamp else None


def _note(repository: Repository, date: datetime, facts: Mapping[str, Any]) -> Record:
    return note(f"{repository.page}{_HISTORY}", date, requested=repository.page, **facts)


def _address(page: str, commit: str, path: str) -> str:
    """Return the address that names a file at a commit; on GitHub it shows the file."""
    return f"{page}/blob/{commit}/{path}"


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "replace")


def _shown(quoted: str) -> str:
    """Return a quoted path as people write it, where that is printable and names no other path."""
    with_signs = unquote_to_bytes(quoted)
    try:
        plain = with_signs.decode()
    except UnicodeDecodeError:
        return quoted
    return plain if plain.isprintable() and not re.search("%[0-9A-F]{2}", plain) else quoted
