"""Asking services as often as they allow, and again where that may help.

A server that asks to be left alone is left alone by everybody on this machine. Tokens are known here
alone: they go to their own host over https, and are taken out of everything that is kept or said.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar
from urllib.parse import urljoin

from collectors.document import UserError
from collectors.web.addresses import BrokenError, RefusedError, parse
from collectors.web.pace import Pace, backoff, retry_after
from collectors.web.transport import Reply, Transport

T = TypeVar("T")

TRIES = 6
MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DOWN_AFTER = 3  # addresses of a host that could not be had, one after the other
MAX_WAIT = 3_600.0  # seconds; a service that asks for more is left for a later run
LONGEST_PROMISE = 86_400.0  # seconds; whatever a server asks for, it is asked again after a day
SECONDS = 300.0  # for one exchange
STREAM_SECONDS = 3_600.0
_TRANSIENT = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often a service may be asked.

    Attributes:
        interval: least seconds between the starts of two requests.
        with_token: the same for those who send a token, where that is less.
        bucket: a name that several hosts may share; empty for the host alone.
        forbidden_waits: whether a 403 may be a rate limit in disguise.
    """

    interval: float
    with_token: float | None = None
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


class Polite:
    """What one collection may ask of whom, and how often."""

    def __init__(
        self,
        transport: Transport,
        pace: Pace,
        *,
        limits: Mapping[str, Limit],
        tokens: Mapping[str, str],
        report: Callable[[float, str], None],
    ) -> None:
        """Bind transport and limits.

        Args:
            transport: makes one exchange.
            pace: keeps the limits, for every process on this machine.
            limits: by host or parent domain; others get `POLITE`.
            tokens: bearer tokens by host.
            report: told the seconds and the reason of every wait.
        """
        self._transport = transport
        self._pace = pace
        self._limits = limits
        self._tokens = tokens
        self._report = report
        self._failed: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._crawl_delays: dict[str, float] = {}

    @property
    def user_agent(self) -> str:
        """Who asks, and how to reach them."""
        return self._transport.user_agent

    def ask(
        self,
        address: str,
        headers: Mapping[str, str],
        *,
        max_bytes: int,
        read: Callable[[Reply], tuple[T, str]],
    ) -> T:
        """Return what is made of an answer that lasts, after as many tries as it takes.

        Args:
            address: http or https.
            headers: of the request.
            max_bytes: bound on the payload.
            read: what is made of an answer, and why it cannot be right, or an empty string; a wrong
                answer is asked for again.

        Raises:
            UnavailableError: when every try failed, or its host has been failing.
            RefusedError: when a guard says no.
            UserError: when the host does not accept the token.
        """
        host = parse(address).host
        self._refuse_down(host, address)
        for attempt in range(TRIES):
            with self.turn(host):
                try:
                    reply = self._transport.exchange(
                        address, self._headers(address, headers), max_bytes=max_bytes, seconds=SECONDS
                    )
                except BrokenError as error:
                    down, reason, wait = True, str(error), 0.0
                else:
                    reason, wait = self._trouble(host, reply.status, reply.headers, attempt)
                    down = bool(reason)
                    if not reason:
                        value, reason = read(reply)
                    if not reason:
                        self._failed[host] = 0
                        return value
            self._hold(host, max(wait, backoff(attempt)), reason)
            if wait > MAX_WAIT:
                reason += f", and asks for {wait / 3600:.1f} hours of patience"
                break
        # A host that answers, though not what was asked, is not down.
        self._failed[host] = self._failed[host] + 1 if down else 0
        raise UnavailableError(self.redact(f"{address}: {reason}, after {attempt + 1} tries"))

    @contextmanager
    def stream(self, url: str, *, max_bytes: int) -> Iterator[BinaryIO]:
        """Give the body of an address, or of where it redirects to, as a file that is read once.

        Raises:
            BrokenError: when it breaks off, or could be had later.
            UnavailableError: when it answers with anything else but 200, or a guard refuses.
        """
        address = url
        try:
            for _ in range(MAX_REDIRECTS + 1):
                host = parse(address).host
                self._refuse_down(host, url)
                with (
                    self.turn(host),
                    self._transport.stream(
                        address, self._headers(address, {}), max_bytes=max_bytes, seconds=STREAM_SECONDS
                    ) as (status, headers, body),
                ):
                    location = headers.get("location", "") if status in REDIRECTS else ""
                    if not location:
                        # Messages name the address that was asked for: another one may be signed.
                        self._accept(host, url, status, headers)
                        yield body
                        self._failed[host] = 0
                        return
                address = joined(address, location)
            raise UnavailableError(self.redact(f"{url}: more than {MAX_REDIRECTS} redirects"), retry=False)
        except BrokenError:
            self._failed[host] += 1
            raise
        except RefusedError as error:
            raise UnavailableError(self.redact(f"{url}: {error}"), retry=False) from error

    def _accept(self, host: str, url: str, status: int, headers: Mapping[str, str]) -> None:
        """Raise unless what is streamed is what was asked for."""
        reason, wait = self._trouble(host, status, headers, 0)
        if reason:
            self._hold(host, wait, reason)
            raise BrokenError(f"{url}: {reason}")
        if status != 200:
            raise UnavailableError(self.redact(f"{url} answers {status}"), retry=False)

    def _refuse_down(self, host: str, address: str) -> None:
        if self._failed[host] >= DOWN_AFTER:
            raise UnavailableError(self.redact(f"{address}: {host} does not answer"))

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Run the block when a host may be asked, alone among all who ask it; at once for no host.

        Raises:
            UnavailableError: when it asked to be left alone for longer than anybody waits.
        """
        if not host:
            yield
            return
        limit = self._limit(host)
        interval = limit.interval
        if limit.with_token is not None and host in self._tokens:
            interval = limit.with_token
        interval = max(interval, self._crawl_delays.get(host, 0.0))
        bucket = limit.bucket or host
        if (quiet := self._pace.quiet(bucket)) > MAX_WAIT:
            raise UnavailableError(f"{host} asked to be left alone for {quiet / 3600:.1f} hours more")
        with self._pace.turn(
            bucket, interval, lambda s, why: self._report(s, self._reasons.pop(bucket, why))
        ):
            yield

    def crawl_delay(self, host: str, seconds: float) -> None:
        """Note the time between requests that a robots.txt of a host asks for; the longest one counts."""
        self._crawl_delays[host] = max(seconds, self._crawl_delays.get(host, 0.0))

    def wait(self, attempt: int, reason: str) -> None:
        """Wait after a failed try of something that is more than one request."""
        seconds = backoff(attempt)
        self._report(seconds, reason)
        self._pace.clock.sleep(seconds)

    def redact(self, text: str) -> str:
        """Return a text without our tokens."""
        return self.hidden(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def hidden(self, data: bytes) -> bytes:
        """Return bytes without our tokens."""
        for token in self._tokens.values():
            data = _spellings(token).sub(b"[token]", data)
        return data

    def _trouble(self, host: str, status: int, headers: Mapping[str, str], attempt: int) -> tuple[str, float]:
        """Return why an answer is none that lasts, or an empty string, and the seconds that it asks for."""
        if status == 401 and host in self._tokens:
            # Not kept: it speaks of the token, not of the address.
            raise UserError(f"{host} does not accept the token; correct it or unset it")
        wait = retry_after(headers, self._pace.clock.now())
        disguised = status == 403 and (wait is not None or self._limit(host).forbidden_waits)
        if status in _TRANSIENT or status >= 500 or disguised:
            # A limit that names no time wants at least a minute.
            return f"it answers {status}", (60.0 * 2**attempt if disguised and wait is None else wait or 0.0)
        return "", 0.0

    def _hold(self, host: str, seconds: float, reason: str) -> None:
        """Leave a host alone for a while, whoever asks it next."""
        self._reasons[self._limit(host).bucket or host] = f"{host}: {reason}"
        until = self._pace.clock.now() + min(seconds, LONGEST_PROMISE)
        self._pace.postpone(self._limit(host).bucket or host, until)

    def _headers(self, address: str, headers: Mapping[str, str]) -> dict[str, str]:
        parts = parse(address)
        token = self._tokens.get(parts.host)
        if token and parts.scheme == "https":
            return {**headers, "Authorization": f"Bearer {token}"}
        return dict(headers)

    def _limit(self, host: str) -> Limit:
        parent = host
        while parent:
            if parent in self._limits:
                return self._limits[parent]
            parent = parent.partition(".")[2]
        return POLITE


def joined(address: str, location: str) -> str:
    """Return where a redirect leads; one that is no address as it stands, for a guard to refuse."""
    try:
        return urljoin(address, location)
    except ValueError:
        return location


@functools.cache
def _spellings(token: str) -> re.Pattern[bytes]:
    """Return what a token looks like in host names and, quoted however often, in addresses."""
    characters = (f"(?:{re.escape(c)}|%(?:25)*{ord(c):02x})" for c in token)
    return re.compile("".join(characters).encode(), re.IGNORECASE)
