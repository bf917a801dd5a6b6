"""Installed Python distributions as a source: real code and real prose that every installation has.

Needs no network. The `.py` files of named distributions are documents of content `code`, the long
descriptions in their metadata documents of content `prose`. A file counts only if it is what the
distribution's RECORD says it is (PEP 376, PEP 627), and a distribution only in the version that
`params.yaml` pins, whose publication date is declared there with its evidence.

A release date says when this version of a text was published, not when each line was written.
"""

import base64
import email
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from functools import partial
from hashlib import sha256
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from collectors.document import DateEvidence, Document, RawRecord, UserError, document
from collectors.language import detect
from collectors.licenses import OPEN_CODE, satisfied, spdx
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit

VERSION = "packages/1"
NETWORK = False
POLLS = False
CONTENT = "code"
TOKENS: dict[str, str] = {}
LIMITS: dict[str, Limit] = {}
SETTINGS: dict[str, Any] = {"distributions": {}}

_METADATA = "METADATA"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Release:
    """A distribution in the version and with the date that a request declares."""

    name: str
    version: str
    published: datetime
    precision: str
    evidence: DateEvidence
    files: tuple[str, ...]


def lag(_request: Request) -> timedelta:
    """Nothing comes to light later."""
    return timedelta(0)


def collect(request: Request, fetcher: Fetcher) -> None:
    """Keep each distribution's METADATA and, for content `code`, its `.py` files, verified.

    Raises:
        UserError: when a distribution is missing or has another version, when a file differs from
            its RECORD digest, or when the declared date is no date or lies outside the window.
    """
    for release in _releases(request):
        fetcher.keep(_purl(release), partial(_records, release, request.content))


def _records(release: _Release, content: str) -> Iterator[Record]:
    installed = _installed(release)
    names = [_METADATA, *(_modules(installed, release) if content == "code" else [])]
    return (_record(installed, release, name) for name in names)


def extract(
    records: Iterable[tuple[RawRecord, Record]], request: Request, _workers: int, /
) -> Iterator[Document]:
    """Yield one document for each description or `.py` file.

    Raises:
        UserError: when the records are not those of the request.
    """
    releases = {_purl(release): release for release in _releases(request)}
    about: Message = Message()
    for raw, record in records:
        purl, _, path = record.uri.partition("#")
        if purl not in releases:
            raise UserError(
                f"record {record.uri} belongs to no distribution of snapshot {request.name}; collect it anew"
            )
        if path == _METADATA:
            about = email.message_from_string(record.payload.decode("utf-8", "replace"))
            if request.content == "prose":
                yield _description(about, releases[purl], raw)
        else:
            yield _module(unquote(path), record.payload, about, releases[purl], raw)


def _releases(request: Request) -> list[_Release]:
    declared = request.chosen(SETTINGS)["distributions"]
    if request.content not in {"code", "prose"} or not isinstance(declared, dict) or not declared:
        raise UserError(
            f"snapshot {request.name} needs content `code` or `prose` and a mapping `distributions` of name to "
            "{version, uploaded} or {version, published}"
        )
    return [_release(name, values, request) for name, values in sorted(declared.items())]


def _release(name: str, values: Any, request: Request) -> _Release:
    where = f"distribution {name} of snapshot {request.name}"
    if not isinstance(values, dict) or not isinstance(values.get("version"), str):
        raise UserError(f'{where} needs a quoted version, such as {{version: "1.0", published: "2026-09"}}')
    files = values.get("files", ["*.py"])
    if not isinstance(files, list) or not all(
        isinstance(pattern, str) and PurePosixPath(pattern).parts for pattern in files
    ):
        raise UserError(
            f'{where} needs a list of path patterns as `files`, such as ["package/*.py"], not {files!r}'
        )
    uploaded, month = values.get("uploaded"), str(values.get("published"))
    try:
        if uploaded is not None:
            published = _moment(uploaded)
            precision, evidence = "second", DateEvidence(kind="index-upload-time", value=uploaded)
        else:
            published = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
            precision, evidence = "month", DateEvidence(kind="declared-month", value=month)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f'{where} has no date that can be read; give `uploaded: "2026-09-01T17:45:23Z"`, the index\'s upload '
            'time, or `published: "2026-09"`'
        ) from error
    if not request.since <= published < request.until:
        raise UserError(
            f"{where} was published {evidence.value}, outside the window from {request.since:%Y-%m-%d} until "
            f"{request.until:%Y-%m-%d}; move it to the snapshot of its month"
        )
    return _Release(
        name=name,
        version=values["version"],
        published=published,
        precision=precision,
        evidence=evidence,
        files=tuple(files),
    )


def _moment(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("without a time zone it would be read in that of this machine")
    return moment.astimezone(UTC).replace(microsecond=0)


def _installed(release: _Release) -> metadata.Distribution:
    try:
        installed = metadata.distribution(release.name)
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise UserError(
            f"distribution {release.name} {release.version} is not installed; run `make setup`"
        ) from error
    if installed.version != release.version:
        raise UserError(
            f"distribution {release.name} is installed as {installed.version}, but params.yaml pins "
            f"{release.version}; run `make setup`, or pin another version together with its date"
        )
    return installed


def _modules(installed: metadata.Distribution, release: _Release) -> list[str]:
    paths = (PurePosixPath(str(file)) for file in installed.files or ())
    modules = [path for path in paths if path.suffix == ".py" and ".." not in path.parts]
    chosen = {path for path in modules for pattern in release.files if path.match(pattern)}
    if not chosen:
        raise UserError(
            f"no .py file of {release.name} {release.version} matches {', '.join(release.files)}; "
            "correct `files` in params.yaml, or leave it out to take all"
        )
    return sorted(map(str, chosen))


def _record(installed: metadata.Distribution, release: _Release, name: str) -> Record:
    files = {str(file): file for file in installed.files or ()}
    if name == _METADATA:
        name_in_record = next((n for n in files if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)), "")
    else:
        name_in_record = name
    file = files.get(name_in_record)
    if file is None or file.hash is None or file.hash.mode != "sha256":
        raise UserError(f"{name} of {release.name} has no sha256 in its RECORD; reinstall the distribution")
    try:
        payload = file.locate().read_bytes()  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(
            f"{name} of {release.name} is in its RECORD but not on disk; reinstall the distribution"
        ) from error
    digest = base64.urlsafe_b64encode(sha256(payload).digest()).rstrip(b"=").decode()
    if digest != file.hash.value:
        raise UserError(
            f"{name} of {release.name} {release.version} differs from its RECORD digest; reinstall the distribution"
        )
    return Record(
        uri=f"{_purl(release)}#{quote(name)}",
        date=release.published,
        media_type="text/plain" if name == _METADATA else "text/x-python",
        payload=payload,
    )


def _purl(release: _Release) -> str:
    return f"pkg:pypi/{quote(release.name.lower())}@{quote(release.version)}"


def _description(about: Message, release: _Release, raw: RawRecord) -> Document:
    text = about.get_payload()
    text = text if isinstance(text, str) and text.strip() else str(about.get("Description", ""))
    language, probability = detect(text)
    return _document(
        f"{release.name}:description",
        f"{release.name} {release.version}",
        text,
        about,
        release,
        raw,
        language=language,
        language_probability=probability,
    )


def _module(path: str, payload: bytes, about: Message, release: _Release, raw: RawRecord) -> Document:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(payload).readline)
        text = payload.decode(encoding, "replace")
    except (SyntaxError, LookupError, UnicodeError):
        text = payload.decode("utf-8", "replace")
    # What is no text in its own encoding shows as U+FFFD, which the control-character filter counts.
    text = text.removeprefix("\ufeff")
    return _document(
        f"{release.name}/{path}", path, text, about, release, raw, language="python", language_probability=1.0
    )


def _document(
    native_id: str, title: str, text: str, about: Message, release: _Release, raw: RawRecord, **fields: Any
) -> Document:
    license_, evidence = spdx(
        str(about.get("License-Expression", "")),
        str(about.get("License", "")),
        [str(value) for value in about.get_all("Classifier", []) if str(value).startswith("License ::")],
    )
    return document(
        source="packages",
        native_id=native_id,
        version=release.version,
        url=_home_page(about),
        title=title,
        text=text,
        published=release.published,
        published_precision=release.precision,
        date_evidence=(release.evidence,),
        license=license_,
        license_evidence=evidence,
        redistributable=satisfied(license_, OPEN_CODE),
        raw=raw,
        extractor=VERSION,
        metadata={"distribution": release.name},
        **fields,
    )


def _home_page(about: Message) -> str:
    """Return the first web address that the metadata names, or an empty string."""
    candidates = [str(about.get("Home-page", ""))]
    candidates += [str(value).rpartition(",")[2].strip() for value in about.get_all("Project-URL", [])]
    return next((url for url in candidates if url.startswith(("https://", "http://"))), "")
