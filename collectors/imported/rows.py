"""Rows of a data set as raw records, and documents of these records.

A row is kept whole, as JSON, so that extraction needs nothing but the snapshot. The date of a row is what the
data set or `params.yaml` declares: nothing here can prove it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial, reduce
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

from packaging.licenses import InvalidLicenseExpression

from collectors.document import DateEvidence, Document, RawRecord, UserError, document
from collectors.imported import tables
from collectors.language import detect
from collectors.licenses import OPEN_CODE, OPEN_CONTENT, canonical, satisfied
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import UnavailableError

SETTINGS: Mapping[str, Any] = {
    "config": "",
    "split": "",
    "text": "text",
    "date": "",
    "published": "",
    "license": "",
    "language": "",
}
MAX_ROWS = 200_000
"""Rows of one snapshot: each is a record of its own, which is read and verified on its own."""
EVIDENCE = "declared"

_STEP = 1_000
_ROW = "#row="
_SCHEME = "dataset:"
_LONGEST = 1_000  # characters of another column that go into the metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a data set.

    Attributes:
        name: the data set's name and the path in it: the start of a native id.
        opened: gives a local copy.
    """

    name: str
    opened: Callable[[], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a request says about every row.

    Attributes:
        request: the request.
        text: the column with the text; a dot leads into a mapping.
        date: the column with the date, empty where one date is declared for all rows.
        published: that date, None where rows have their own.
        license: SPDX expression, empty when unknown.
        language: empty where it is to be detected.
    """

    request: Request
    text: str
    date: str
    published: tuple[datetime, str] | None
    license: str
    language: str

    def dated(self, row: Mapping[str, Any]) -> tuple[datetime, str] | None:
        """Return when a row was published, in UTC, and the precision; None where it does not say."""
        return self.published or moment(_value(row, self.date))

    def wanted(self, row: Mapping[str, Any]) -> bool:
        """Whether a row belongs into the window, or does not say when it was published."""
        dated = self.dated(row)
        return dated is None or self.request.since <= dated[0] < self.request.until


def terms(request: Request, settings: Mapping[str, Any]) -> Terms:
    """Return what a request says about every row.

    Raises:
        UserError: when a setting is wrong, naming it.
    """
    where = f"snapshot {request.name}"
    if bool(settings["date"]) == bool(settings["published"]):
        raise UserError(
            f"{where} needs either `date`, the column with each row's date, or `published`, one date for all rows"
        )
    published = moment(settings["published"]) if settings["published"] else None
    if settings["published"] and (published is None or not request.since <= published[0] < request.until):
        raise UserError(
            f"`published` of {where} is {settings['published']!r}, which is no date from {request.since:%Y-%m-%d} "
            f'until {request.until:%Y-%m-%d}; write "2026-09" or "2026-09-01", or move the window'
        )
    try:
        license_ = canonical(settings["license"]) if settings["license"] else ""
    except InvalidLicenseExpression as error:
        raise UserError(
            f"`license` of {where} is {settings['license']!r}, which is no SPDX expression; write such as CC-BY-4.0"
        ) from error
    return Terms(
        request=request,
        text=settings["text"],
        date=settings["date"],
        published=published,
        license=license_,
        language=settings["language"],
    )


def moment(value: Any) -> tuple[datetime, str] | None:
    """Return the moment that a value states, in UTC, and its precision; None for anything else.

    A time without a zone is in UTC. Midnight is a day: libraries that read JSON turn days into midnights.
    """
    if not isinstance(value, str):
        return None
    month = re.fullmatch(r"\d{4}-\d{2}", value)
    try:
        stated = datetime.fromisoformat(f"{value}-01" if month else value)
        stated = (stated if stated.tzinfo else stated.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    stated = stated.replace(microsecond=0)
    if month:
        return stated, "month"
    return stated, "second" if stated.hour or stated.minute or stated.second else "day"


def keep(fetcher: Fetcher, files: list[File], said: Terms, at: datetime) -> None:
    """Keep the rows of files that lie in the window, and those that do not say.

    Args:
        fetcher: keeps them, a thousand in a step.
        files: read one after the other, each opened only if it is needed.
        said: what the request says.
        at: the date of the records, the same whenever this is run again.

    Raises:
        UserError: when a file cannot be read, or a row has no text column.
    """
    asked = said.request.max_documents
    limit = min(asked or MAX_ROWS, MAX_ROWS)
    left = limit
    for number, file in enumerate(files, 1):
        reader, start = _Reader(file, said, at), 0
        try:
            while left:
                step = min(_STEP, left)
                kept = fetcher.keep(f"{file.name} from row {start}", partial(reader.take, start, step))
                for _ in kept:
                    fetcher.room()
                left -= len(kept)
                if len(kept) < step:
                    break
                start = _number(kept[-1].uri) + 1
            if not left and (number < len(files) or any(reader.take(start, 1))):
                fetcher.gap(
                    f"stopped at max_documents = {asked}" if limit == asked else f"stopped at {limit:,} rows"
                )
                return
        except UnavailableError as error:
            fetcher.gap(error)


class _Reader:
    """Gives the wanted rows of a file as records, each once, opening it when the first is asked for."""

    def __init__(self, file: File, said: Terms, at: datetime) -> None:
        self._file, self._terms, self._at = file, said, at
        self._rows: Iterator[tuple[int, Mapping[str, Any]]] | None = None

    def take(self, start: int, count: int) -> Iterator[Record]:
        """Yield the records of so many wanted rows, from a row number on."""
        if self._rows is None:
            self._rows = enumerate(tables.read(self._file.opened()))
        for number, row in self._rows:
            if number < start:
                continue
            name = f"{self._file.name}{_ROW}{number}"
            payload = json.dumps(row, sort_keys=True, default=_plain).encode()
            plain = json.loads(payload)
            if self._has_text(name, plain) and self._terms.wanted(plain):
                yield Record(
                    uri=f"{_SCHEME}{quote(name, safe='/#=')}",
                    date=self._at,
                    media_type="application/json",
                    payload=payload,
                )
                count -= 1
            if not count:
                return

    def _has_text(self, name: str, row: Mapping[str, Any]) -> bool:
        """Whether a row has a text, which may be null.

        Raises:
            UserError: when it has no such column, or something else in it.
        """
        column = self._terms.text
        value = _value(row, column)
        there = column in row or column.partition(".")[0] in row
        if not isinstance(value, str | None) or not there:
            raise UserError(
                f"{name} has no text in column {column!r}; its columns are {', '.join(row)}: name one as `text`"
            )
        return value is not None


def documents(
    records: Iterable[tuple[RawRecord, Record]],
    said: Terms,
    *,
    extractor: str,
    revision: str,
    url: str,
    fetched: bool,
) -> Iterator[Document]:
    """Yield a document for each record of a row.

    Args:
        records: of a snapshot; those that are no rows are passed over.
        said: what the request says.
        extractor: name and version of the source.
        revision: the data set's; where it has none, the version is a digest of the text.
        url: where the data set is, for rows that have no `url` of their own.
        fetched: whether the records' date is when they came over the network.
    """
    request = said.request
    for raw, record in records:
        if record.kind != "resource":
            continue
        row = json.loads(record.payload)
        # A surrogate without its other half is no character: it shows as one that the filters count.
        text = str(_value(row, said.text)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        dated = said.dated(row)
        stated = request.settings.get("published") or _value(row, said.date)
        name = unquote(record.uri.removeprefix(_SCHEME))
        language, probability = (
            (said.language, 1.0) if said.language or request.content == "code" else detect(text)
        )
        yield document(
            source=request.source,
            native_id=name,
            version=revision or sha256(text.encode()).hexdigest()[:16],
            url=_stated(row, "url", r"https?://\S+") or url,
            title=_stated(row, "title", r".+") or name,
            text=text,
            published=dated[0] if dated else request.since,
            published_precision=dated[1] if dated else "day",
            date_evidence=(DateEvidence(kind=EVIDENCE, value=str(stated)),) if dated else (),
            fetched=record.date if fetched else None,
            license=said.license,
            license_evidence="declared in params.yaml for the data set" if said.license else "",
            redistributable=satisfied(said.license, OPEN_CODE | OPEN_CONTENT),
            language=language,
            language_probability=probability,
            raw=raw,
            extractor=extractor,
            drop_reason="" if dated else "no-date-evidence",
            metadata=_others(row, said),
        )


def _number(uri: str) -> int:
    return int(uri.rpartition(_ROW)[2])


def _value(row: Mapping[str, Any], column: str) -> Any:
    """Return a column of a row, or what lies in it under names with dots between them; None where it is not."""
    if column in row:
        return row[column]
    return reduce(
        lambda v, key: v.get(key) if isinstance(v, dict) else None, column.split("."), cast("Any", row)
    )


def _stated(row: Mapping[str, Any], column: str, form: str) -> str:
    value = row.get(column)
    return value if isinstance(value, str) and re.fullmatch(form, value) and len(value) <= _LONGEST else ""


def _others(row: Mapping[str, Any], said: Terms) -> dict[str, str]:
    """Return the short plain columns besides the text."""
    shown = {name: value for name, value in row.items() if name not in {said.text, "url", "title"}}
    plain = {name: str(value) for name, value in shown.items() if isinstance(value, str | int | float)}
    texts = {_utf8(name): _utf8(value) for name, value in plain.items() if len(value) <= _LONGEST}
    return {name: value for name, value in texts.items() if value}


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    """Return what JSON has no word for as text; bytes, such as images, are left out."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return None if isinstance(value, bytes) else str(value)
