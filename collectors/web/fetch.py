"""Polite HTTP: what a source asks of the world is asked once, slowly, safely, and kept.

A source sees one object, the `Fetcher`. An address is fetched once in a collection and answered from
staging ever after; robots.txt decides first; services are asked as often as they allow; what may get
better with time is tried again; what a guard refuses is noted and not tried at all. Tokens are known
here alone: they go to their own host, and are taken out of everything that is kept or said.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit, urlunsplit

from protego import Protego
from requests.exceptions import RequestException
from requests.utils import requote_uri

from collectors.document import UserError
from collectors.request import Request
from collectors.staging import Staging
from collectors.warc import AGENT, MAX_PAYLOAD_BYTES, Record, note
from collectors.web.pace import Pace, backoff, retry_after
from collectors.web.transport import BrokenError, RefusedError, Reply, Transport, parse

if TYPE_CHECKING:
    from tqdm import tqdm

TRIES = 6
DOWN_AFTER = 3  # addresses of a host that could not be had, one after the other
MAX_REDIRECTS = 10
MAX_WAIT = 3_600.0  # seconds; a service that asks for more is left for a later run
LONGEST_CRAWL_DELAY = 60.0
SECONDS = 300.0  # for one exchange
STREAM_SECONDS = 3_600.0
MAX_ROBOTS_BYTES = 1 << 20
KEPT_HEADERS = (
    *("content-disposition", "content-language", "content-type", "date", "etag", "last-modified"),
    *("link", "location", "retry-after", "x-robots-tag"),
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often a service may be asked.

    Attributes:
        interval: least seconds between the starts of two requests.
        bucket: a name that several hosts may share; empty for the host alone.
        forbidden_waits: whether a 403 may be a rate limit in disguise.
    """

    interval: float
    bucket: str = ""
    forbidden_waits: bool = False


POLITE = Limit(interval=1.0)


class UnavailableError(UserError):
    """An address that could not be had after every try; another run may have it.

    Attributes:
        retry: False where no later run can mend it: the poll of a round that is over.
    """

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class Fetcher:
    """What a source may ask of the world in one collection.

    Attributes:
        request: what is collected.
        gaps: what the snapshot should hold and does not.
        failures: those gaps that another run may mend.
    """

    def __init__(
        self,
        request: Request,
        staging: Staging,
        transport: Transport,
        pace: Pace,
        *,
        limits: Mapping[str, Limit],
        tokens: Mapping[str, str],
        bar: "tqdm[Any]",
    ) -> None:
        """Bind a collection to its staging and its means.

        Args:
            request: what is collected.
            staging: where it is kept.
            transport: makes one exchange.
            pace: keeps the limits, for every process on this machine.
            limits: by host or parent domain; others get `POLITE`.
            tokens: bearer tokens by host.
            bar: counts requests.
        """
        self.request = request
        self.gaps: list[str] = []
        self.failures: list[str] = []
        self._staging = staging
        self._transport = transport
        self._pace = pace
        self._limits = limits
        self._tokens = tokens
        self._bar = bar
        self._round = 0
        self._documents = 0
        self._bytes = 0
        self._robots: dict[str, Protego | None] = {}
        self._failed: Counter[str] = Counter()

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
        key = self._key(url, poll=poll)
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

    @contextmanager
    def stream(self, url: str, *, max_bytes: int) -> Iterator[BinaryIO]:
        """Give the body of an address as a file that is read once and not kept; for use inside `keep`.

        Raises:
            BrokenError: when it breaks off; `keep` then starts again.
            UserError: when the address answers with anything but 200, or a guard refuses.
        """
        try:
            host = parse(url).host
            limit = self._limit(host)
            with (
                self._pace.turn(limit.bucket or host, limit.interval, self._waiting),
                self._transport.stream(
                    url, self._headers(url, "", None), max_bytes=max_bytes, seconds=STREAM_SECONDS
                ) as (status, _, body),
            ):
                if status in _TRANSIENT or status >= 500:
                    raise BrokenError(f"{url} answers {status}")
                if status != 200:
                    raise UnavailableError(f"{url} answers {status}", retry=False)
                yield body
        except RefusedError as error:
            raise UnavailableError(f"{url}: {error}", retry=False) from error

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
                if attempt + 1 < TRIES:
                    self._pace.clock.sleep(backoff(attempt))
                continue
            records = [self._staging.read(entry) for entry in entries if entry.get("kind") != "request"]
            self._count(sum(len(record.payload) for record in records))
            return records
        raise UnavailableError(self._redact(f"{key}: {reason}, {TRIES} times"))

    def rounds(self) -> Iterator[int]:
        """Yield the number of every round: earlier ones are answered from staging, the last is live."""
        for number in range(1, self._staging.round + 1):
            self._round = number
            self._robots.clear()
            yield number

    @property
    def scratch(self) -> Path:
        """A folder for what is needed on disk for a while; the next run of the collection empties it."""
        folder = self._staging.folder / "scratch"
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
        text = self._redact(str(reason))
        if text not in self.gaps:
            self.gaps.append(text)
            if isinstance(reason, UnavailableError) and reason.retry:
                self.failures.append(text)

    def _key(self, url: str, *, poll: bool) -> str:
        return f"GET {url} round {self._round}" if poll else f"GET {url}"

    def _earlier(self, url: str) -> Record | None:
        """Return the latest answer of an earlier round that has a payload."""
        for number in range(self._round - 1, 0, -1):
            key = f"GET {url} round {number}"
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
                    self._note(address, url, forbidden)
                    if forbidden
                    else self._ask(address, url, accept, max_bytes, check, earlier)
                )
            except RefusedError as error:
                record = self._note(address, url, str(error))
            records.append(record)
            location = record.headers.get("location", "")
            if record.status not in _REDIRECTS or not location:
                return records
            address = _canonical(_joined(address, location))
            earlier = None
        return [*records, self._note(address, url, f"more than {MAX_REDIRECTS} redirects")]

    def _note(self, address: str, url: str, reason: str) -> Record:
        return self._clean(
            note(_storable(address), self._staging.started, requested=_storable(url), refused=reason)
        )

    def _ask(
        self,
        address: str,
        requested: str,
        accept: str,
        max_bytes: int,
        check: Callable[[Record], str] | None,
        earlier: Record | None,
    ) -> Record:
        """Return one answer, after as many tries as it takes."""
        host = parse(address).host
        limit = self._limit(host)
        bucket = limit.bucket or host
        if self._failed[host] >= DOWN_AFTER:
            raise UnavailableError(self._redact(f"{address}: {host} does not answer"))
        for attempt in range(TRIES):
            wait: float | None = None
            with self._pace.turn(bucket, limit.interval, self._waiting):
                try:
                    reply = self._transport.exchange(
                        address, self._headers(address, accept, earlier), max_bytes=max_bytes, seconds=SECONDS
                    )
                except BrokenError as error:
                    reason = str(error)
                else:
                    self._bar.update()
                    if reply.status == 401 and host in self._tokens:
                        # Not kept: it speaks of the token, not of the address.
                        raise UserError(f"{host} does not accept the token; correct it or unset it")
                    record = self._record(address, requested, reply)
                    reason, wait = self._trouble(reply, limit, attempt)
                    if not reason and record.status == 200 and check:
                        reason = check(record)
                    if not reason:
                        self._failed[host] = 0
                        return record
            if wait is not None and wait > MAX_WAIT:
                reason += f", and asks for {wait / 3600:.1f} hours of patience"
                break
            if attempt + 1 < TRIES:
                self._hold(bucket, wait if wait is not None else backoff(attempt), reason)
        self._failed[host] += 1
        raise UnavailableError(self._redact(f"{address}: {reason}, after {attempt + 1} tries"))

    def _trouble(self, reply: Reply, limit: Limit, attempt: int) -> tuple[str, float | None]:
        """Return why an answer is none that lasts, or an empty string, and the wait it asks for."""
        wait = retry_after(reply.headers, self._pace.clock.now())
        hidden = reply.status == 403 and (wait is not None or limit.forbidden_waits)
        if reply.status in _TRANSIENT or reply.status >= 500 or hidden:
            # A limit that names no time wants at least a minute.
            return f"it answers {reply.status}", (60.0 * 2**attempt if hidden and wait is None else wait)
        return "", None

    def _hold(self, bucket: str, seconds: float, reason: str) -> None:
        self._waiting(seconds, reason)
        self._pace.postpone(bucket, self._pace.clock.now() + seconds)

    def _record(self, address: str, requested: str, reply: Reply) -> Record:
        headers = {
            name: reply.headers[name].encode("ascii", "backslashreplace").decode()
            for name in KEPT_HEADERS
            if name in reply.headers
        }
        revisit = reply.status == 304
        return self._clean(
            Record(
                uri=_storable(address),
                date=_date(headers.get("date", "")) or self._staging.started,
                media_type=headers.get("content-type", ""),
                payload=b"" if revisit else reply.payload,
                kind="revisit" if revisit else "response",
                requested=_storable(requested),
                status=reply.status,
                headers=headers,
            )
        )

    def _headers(self, address: str, accept: str, earlier: Record | None) -> dict[str, str]:
        headers = {"Accept": accept or "*/*"}
        parts = parse(address)
        token = self._tokens.get(parts.host)
        if token and parts.scheme == "https":
            headers["Authorization"] = f"Bearer {token}"
        if earlier:
            if "etag" in earlier.headers:
                headers["If-None-Match"] = earlier.headers["etag"]
            if "last-modified" in earlier.headers:
                headers["If-Modified-Since"] = earlier.headers["last-modified"]
        return headers

    def _limit(self, host: str) -> Limit:
        for parent in _parents(host):
            if parent in self._limits:
                return self._limits[parent]
        robots = next((r for root, r in self._robots.items() if r and urlsplit(root).hostname == host), None)
        delay = robots.crawl_delay(AGENT) if robots else None
        return replace(POLITE, interval=max(POLITE.interval, min(float(delay or 0), LONGEST_CRAWL_DELAY)))

    def _forbidden(self, address: str) -> str:
        """Return why robots.txt keeps us from an address, or an empty string (RFC 9309)."""
        parse(address)
        root = urljoin(address, "/robots.txt")
        if root not in self._robots:
            answer = self.get(root, robots=False, poll=self._round > 0, max_bytes=MAX_ROBOTS_BYTES)
            if answer.status in {200, 304}:
                self._robots[root] = Protego.parse(answer.payload.decode("utf-8", "replace"))
            elif answer.status:
                self._robots[root] = Protego.parse("")  # there are no rules
            else:
                self._robots[root] = None
        else:
            self._staging.once(self._key(_canonical(root), poll=self._round > 0), tuple)
        rules = self._robots[root]
        if rules is None:
            return f"{root} cannot be read safely"
        return "" if rules.can_fetch(address, AGENT) else f"{root} disallows it for {AGENT}"

    def _clean(self, record: Record) -> Record:
        """Return a record without our tokens, which a server may have sent back."""
        for token in self._tokens.values():
            if token.encode() in record.payload:
                record = replace(record, payload=record.payload.replace(token.encode(), b"[token]"))
        return replace(
            record,
            uri=self._redact(record.uri),
            requested=self._redact(record.requested),
            media_type=self._redact(record.media_type),
            headers={name: self._redact(value) for name, value in record.headers.items()},
        )

    def _redact(self, text: str) -> str:
        for token in self._tokens.values():
            text = text.replace(token, "[token]")
        return text

    def _count(self, n_bytes: int) -> None:
        self._bytes += n_bytes
        self._bar.set_postfix_str(f"{self._documents:,} documents, {self._bytes / 1e6:.1f} MB")

    def _waiting(self, seconds: float, reason: str) -> None:
        self._bar.set_postfix_str(
            f"{self._documents:,} documents, {self._bytes / 1e6:.1f} MB, waiting {seconds:.0f} s: "
            f"{self._redact(reason)}"
        )


def _canonical(url: str) -> str:
    """Return an address without its fragment, quoted where it must be."""
    url = re.sub(r"[\t\r\n]", "", url.strip())
    try:
        return urlunsplit(urlsplit(requote_uri(url))._replace(fragment=""))
    except (ValueError, RequestException):
        return url  # the transport refuses it


def _joined(address: str, location: str) -> str:
    try:
        return urljoin(address, location)
    except ValueError:
        return location


def _storable(url: str) -> str:
    """Return an address without user, password and white space, as far as it can be read."""
    head, mark, rest = re.sub(r"\s", "%20", url).partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{mark}{authority.rpartition('@')[2]}{slash}{path}" or "about:blank"


def _date(value: str) -> datetime | None:
    """Return the moment of an HTTP date, in UTC and whole seconds."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


def _parents(host: str) -> Iterator[str]:
    """Yield a host and every domain above it."""
    while host:
        yield host
        host = host.partition(".")[2]
