"""Polite HTTP: what a source asks of the world is asked once, slowly, safely, and kept.

A source sees one object, the `Fetcher`. An address is fetched once in a collection and answered from
staging ever after; robots.txt decides first; services are asked as often as they allow; what may get
better with time is tried again; what a guard refuses is noted and not tried at all.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from string import punctuation
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from protego import Protego
from requests.exceptions import RequestException
from requests.utils import requote_uri

from collectors.request import Request
from collectors.staging import Staging
from collectors.warc import AGENT, MAX_PAYLOAD_BYTES, Record, note, utc_second
from collectors.web.addresses import BrokenError, RefusedError, parse
from collectors.web.polite import MAX_REDIRECTS, MAX_WAIT, REDIRECTS, TRIES, Polite, UnavailableError, joined
from collectors.web.transport import Reply

if TYPE_CHECKING:
    from tqdm import tqdm

LONG_WAIT = 10.0  # seconds
MAX_ROBOTS_BYTES = 1 << 20
KEPT_HEADERS = (
    *("content-disposition", "content-language", "content-type", "date", "etag", "last-modified"),
    *("link", "location", "retry-after", "x-robots-tag"),
)
_PRINTABLE = "".join(set(punctuation) - set("<>"))  # what a WARC header gives back as it was


class Fetcher:
    """What a source may ask of the world in one collection.

    Attributes:
        request: what is collected.
        gaps: what the snapshot should hold and does not.
        failures: those gaps that another run may mend.
    """

    def __init__(
        self, request: Request, staging: Staging, bar: "tqdm[Any]", polite: Callable[..., Polite]
    ) -> None:
        """Bind a collection to its staging and its means.

        Args:
            request: what is collected.
            staging: where it is kept.
            bar: counts requests.
            polite: makes what asks the world, given `report`, which is told of every wait.
        """
        self.request = request
        self.gaps: list[str] = []
        self.failures: list[str] = []
        self._staging = staging
        self._bar = bar
        self._polite = polite(report=self._waiting)
        self._round = 0
        self._documents = 0
        self._bytes = 0
        self._robots: dict[str, Protego | None] = {}

    def get(
        self,
        url: str,
        *,
        accept: str = "",
        robots: bool = True,
        poll: bool = False,
        max_bytes: int = MAX_PAYLOAD_BYTES,
        check: Callable[[Record], str] | None = None,
    ) -> Record:
        """Return the final answer of an address, from staging if it was ever given.

        Kept and returned are answers that will not change by asking again: 2xx and most 4xx. What
        robots.txt or a guard forbids comes back as a note: kind `metadata`, status 0.

        Args:
            url: http or https.
            accept: the Accept header.
            robots: whether robots.txt is asked; not for documented interfaces for programs.
            poll: ask once per round, conditionally; of an unchanged page the payload of the earlier
                round comes back, with kind `revisit`.
            max_bytes: bound on the payload, before and after decompression.
            check: why an answer cannot be right, or an empty string; a wrong one is asked for again.

        Raises:
            UnavailableError: when every try failed, or an earlier round did not have the page.
        """
        url = _canonical(url)
        key = self._key(url, self._round if poll else 0)
        if key not in self._staging:
            if poll and self._round < self._staging.round:
                raise UnavailableError(f"{url} was not had in round {self._round}", retry=False)
            earlier = self._earlier(url) if poll else None
            with self._staging.needing() as needed:
                records = self._follow(url, accept, robots, max_bytes, check, earlier)
            self._staging.once(key, lambda: records, after=list(dict.fromkeys(needed)))
        entry = self._staging.once(key, tuple)[-1]
        record = self._staging.read(entry)
        self._count(len(record.payload))
        if record.kind == "revisit":
            before = self._earlier(url)
            if before:
                record = replace(record, payload=before.payload, media_type=before.media_type)
        return record

    def stream(self, url: str, *, max_bytes: int) -> AbstractContextManager[BinaryIO]:
        """Give the body of an address as a file that is read once and not kept; for use inside `keep`.

        Raises:
            BrokenError: when it breaks off or could be had later; `keep` then starts again.
            UnavailableError: when the address answers with anything else but 200, or a guard refuses.
        """
        return self._polite.stream(url, max_bytes=max_bytes)

    def turn(self, url: str) -> AbstractContextManager[None]:
        """Run a block that asks the host of an address by other means, such as git, when it may be asked."""
        return self._polite.turn(urlsplit(url).hostname or "")

    @property
    def user_agent(self) -> str:
        """Who asks, and how to reach them."""
        return self._polite.user_agent

    def keep(self, key: str, produce: Callable[[], Iterable[Record]]) -> list[Record]:
        """Return what `produce` gave the first time that this key was kept.

        Args:
            key: names the step; nothing with this key is ever produced again.
            produce: gives the records; all are kept, or none if it raises.

        Raises:
            UnavailableError: when the transfer broke off at every try.
        """
        for attempt in range(TRIES):
            try:
                entries = self._staging.once(key, lambda: map(self._clean, produce()))
            except BrokenError as error:
                reason = str(error)
                self._polite.wait(attempt, reason)
                continue
            records = [self._staging.read(entry) for entry in entries if entry.get("kind") != "request"]
            self._count(sum(len(record.payload) for record in records))
            return records
        raise UnavailableError(self._polite.redact(f"{key}: {reason}, {TRIES} times"))

    def rounds(self) -> Iterator[int]:
        """Yield the number of every round: earlier ones are answered from staging, the last is live."""
        for number in range(1, self._staging.round + 1):
            self._round = number
            self._robots.clear()
            yield number

    @property
    def scratch(self) -> Path:
        """An absolute folder for what is needed on disk for a while; the next run of the collection empties it."""
        folder = self._staging.folder.resolve() / "scratch"
        folder.mkdir(exist_ok=True)
        return folder

    def room(self) -> bool:
        """Count one more document; False, and a gap, when the request asks for no more."""
        if self._documents == self.request.max_documents:
            self.gap(f"stopped at max_documents = {self.request.max_documents}")
            return False
        self._documents += 1
        return True

    def gap(self, reason: str | UnavailableError) -> None:
        """Note what the snapshot should hold and does not; for an error, whether another run may have it."""
        text = self._polite.redact(str(reason))
        if text not in self.gaps:
            self.gaps.append(text)
            if isinstance(reason, UnavailableError) and reason.retry:
                self.failures.append(text)

    def _key(self, url: str, number: int = 0) -> str:
        """Return the key of an address in a round, or once and for all."""
        return self._polite.redact(f"GET {url} round {number}" if number else f"GET {url}")

    def _earlier(self, url: str) -> Record | None:
        """Return the latest answer of an earlier round that has a payload."""
        for number in range(self._round - 1, 0, -1):
            key = self._key(url, number)
            if key in self._staging:
                record = self._staging.last(key)
                if record.kind == "response" and record.status == 200:
                    return record
        return None

    def _follow(
        self,
        url: str,
        accept: str,
        robots: bool,
        max_bytes: int,
        check: Callable[[Record], str] | None,
        earlier: Record | None,
    ) -> list[Record]:
        """Return the hops of an address and its final answer, or a note on why there is none."""
        records: list[Record] = []
        address = url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                forbidden = self._forbidden(address) if robots else ""
                record = (
                    self._note(address, url, forbidden, records)
                    if forbidden
                    else self._ask(address, url, accept, max_bytes, check, earlier)
                )
            except RefusedError as error:
                record = self._note(address, url, str(error), records)
            records.append(record)
            location = record.headers.get("location", "")
            if record.status not in REDIRECTS or not location:
                return records
            address = _canonical(joined(address, location))
            earlier = None
        return [*records, self._note(address, url, f"more than {MAX_REDIRECTS} redirects", records)]

    def _note(self, address: str, url: str, reason: str, before: Sequence[Record]) -> Record:
        # It has no date of its own, and the clock's would make two equal collections differ.
        date = before[-1].date if before else self.request.until
        return self._clean(note(address, date, requested=url, refused=reason))

    def _ask(
        self,
        address: str,
        requested: str,
        accept: str,
        max_bytes: int,
        check: Callable[[Record], str] | None,
        earlier: Record | None,
    ) -> Record:
        headers = {"Accept": accept or "*/*"}
        if earlier:
            validators = (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since"))
            headers |= {asks: earlier.headers[has] for has, asks in validators if has in earlier.headers}

        def read(reply: Reply) -> tuple[Record, str]:
            self._bar.update()
            record = self._record(address, requested, reply)
            return record, check(record) if check and record.status == 200 else ""

        return self._polite.ask(address, headers, max_bytes=max_bytes, read=read)

    def _record(self, address: str, requested: str, reply: Reply) -> Record:
        headers = kept_headers(reply.headers)
        revisit = reply.status == 304
        return self._clean(
            Record(
                uri=address,
                date=_date(headers.get("date", "")) or self._staging.started,
                media_type=headers.get("content-type", ""),
                payload=b"" if revisit else reply.payload,
                kind="revisit" if revisit else "response",
                requested=requested,
                status=reply.status,
                headers=headers,
            )
        )

    def _forbidden(self, address: str) -> str:
        """Return why robots.txt keeps us from an address, or an empty string (RFC 9309)."""
        parse(address)
        root = _canonical(urljoin(address, "/robots.txt"))
        key = self._key(root, self._round)
        # A page that an earlier round missed may still be had, under the rules of today.
        poll = self._round == self._staging.round or key in self._staging
        if root not in self._robots:
            answer = self.get(root, robots=False, poll=poll, max_bytes=MAX_ROBOTS_BYTES)
            if answer.status in {200, 304}:
                stated = Protego.parse(answer.payload.decode("utf-8", "replace"))
                self._robots[root] = stated
                delay = float(stated.crawl_delay(AGENT) or 0)
                self._polite.crawl_delay(parse(root).host, min(delay, MAX_WAIT))
            elif answer.status:
                self._robots[root] = Protego.parse("")  # there are no rules
            else:
                self._robots[root] = None
        else:
            self._staging.once(key if poll else self._key(root), tuple)
        rules = self._robots[root]
        if rules is None:
            return f"{root} cannot be read safely"
        return "" if rules.can_fetch(address, AGENT) else f"{root} disallows it for {AGENT}"

    def _clean(self, record: Record) -> Record:
        """Return a record that can be stored, without our tokens, which a server may have sent back."""
        return replace(
            record,
            payload=self._polite.hidden(record.payload),
            uri=_storable(self._polite.redact(record.uri)),
            requested=_storable(self._polite.redact(record.requested)) if record.requested else "",
            media_type=self._polite.redact(record.media_type),
            headers={name: self._polite.redact(value) for name, value in record.headers.items()},
        )

    def _count(self, n_bytes: int) -> None:
        self._bytes += n_bytes
        self._bar.set_postfix_str(f"{self._documents:,} documents, {self._bytes / 1e6:.1f} MB")

    def _waiting(self, seconds: float, reason: str) -> None:
        if self._bar.disable and seconds >= LONG_WAIT:
            # Without a terminal there is no bar, and a log should not fall silent.
            said = f"{self.request.name}: waiting {seconds:.0f} s: {self._polite.redact(reason)}"
            print(said, file=sys.stderr, flush=True)
        self._bar.set_postfix_str(
            f"{self._documents:,} documents, {self._bytes / 1e6:.1f} MB, waiting {seconds:.0f} s: "
            f"{self._polite.redact(reason)}"
        )


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those headers of a response, by lower-case name, that are kept, in ASCII."""
    return {
        name: headers[name].encode("ascii", "backslashreplace").decode()
        for name in KEPT_HEADERS
        if name in headers
    }


def _canonical(url: str) -> str:
    """Return an address without its fragment, quoted where it must be."""
    url = re.sub(r"[\t\r\n]", "", url.strip())
    try:
        return urlunsplit(urlsplit(requote_uri(url))._replace(fragment=""))
    except (ValueError, RequestException):
        return url  # the transport refuses it


def _storable(url: str) -> str:
    """Return an address in printable ASCII without user and password, as far as it can be read."""
    head, mark, rest = quote(url, safe=_PRINTABLE, errors="replace").partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{mark}{authority.rpartition('@')[2]}{slash}{path}" or "about:blank"


def _date(value: str) -> datetime | None:
    """Return the moment of an HTTP date, in UTC and whole seconds."""
    try:
        return utc_second(parsedate_to_datetime(value))
    except (ValueError, TypeError, OverflowError):
        return None
