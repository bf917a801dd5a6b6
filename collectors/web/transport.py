"""One HTTP exchange with a stranger, with bounds on everything the stranger decides.

requests and urllib3 speak the protocol; the sockets under them are ours. Each exchange has a connection
of its own, to an address that was checked after its name was resolved and is not resolved
again. There are no redirects, cookies, proxies, credentials files or retries here: an exchange gives an
answer, or says why it never will (`RefusedError`) or might another time (`BrokenError`). Neither repeats
a word of the server or of the request headers, so no token can leak through an error.
"""

import http.client
import io
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import certifi
import requests
import urllib3

from collectors.web import sockets
from collectors.web.addresses import (
    PORTS,
    Address,
    BrokenError,
    RefusedError,
    is_literal,
    parse,
    public_addresses,
)
from collectors.web.sockets import Adapter, Bounds, PlainSocket, TlsSocket

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_SECONDS = 15.0
_PIECE = 32 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, whole.

    Attributes:
        status: 200 to 999; interim answers are passed over.
        headers: by lower-case name, values of repeated ones joined by `, `; Latin-1.
        payload: the body, without its content encoding.
    """

    status: int
    headers: Mapping[str, str]
    payload: bytes


class Transport:
    """Makes exchanges; holds nothing between them, so threads may share one.

    Attributes:
        user_agent: who asks, and how to reach them.
    """

    def __init__(self, user_agent: str, loopback: int | None = None) -> None:
        """Set what all exchanges share.

        Args:
            user_agent: who asks, and how to reach them.
            loopback: for tests: the port of loopback that stands for every named host, under either
                scheme and without TLS; literal addresses are then refused altogether.
        """
        self.user_agent = user_agent
        self._loopback = loopback
        # The roots of this system, which its administrator may extend, and for systems that have none.
        self._tls = ssl.create_default_context()
        self._tls.load_verify_locations(certifi.where())
        self._tls.sslsocket_class = TlsSocket

    def exchange(self, url: str, headers: Mapping[str, str], *, max_bytes: int, seconds: float) -> Reply:
        """Ask once (GET) and return the whole answer, whatever its status.

        Args:
            url: http or https.
            headers: of the request, beside the transport's own.
            max_bytes: bound on the body, before and after its content encoding is undone.
            seconds: bound on the whole exchange; only the resolver, once asked, is waited for beyond it.

        Raises:
            RefusedError: when a guard says no.
            BrokenError: when the answer does not arrive, or not whole.
        """
        with self.stream(url, headers, max_bytes=max_bytes, seconds=seconds) as (status, kept, body):
            return Reply(status=status, headers=kept, payload=body.read())

    @contextmanager
    def stream(
        self, url: str, headers: Mapping[str, str], *, max_bytes: int, seconds: float
    ) -> Iterator[tuple[int, Mapping[str, str], BinaryIO]]:
        """Ask once (GET); give the status, the headers and the body as a file that is read once.

        Reading the body raises what `exchange` raises, from then on at every read: a body that broke
        off never looks like one that ended. `seconds` includes the time that the reader takes.

        Raises:
            RefusedError: when a guard says no.
            BrokenError: when the headers do not arrive.
        """
        address = parse(url)
        asked = self._headers(address, headers)
        bounds = Bounds(seconds)
        scheme = "http" if self._loopback is not None else address.scheme
        with Adapter(lambda: self._connect(address, bounds), self._tls) as adapter, bounds:
            with _explained():
                # An adapter and no session: a session looks into redirects, cookies and the environment.
                prepared = requests.Request(
                    "GET", f"{scheme}://{asked['Host']}{address.target}", headers=asked
                ).prepare()
                response = adapter.send(prepared, stream=True, timeout=sockets.SILENCE_SECONDS)
            bounds.header_room = None
            received = {
                name.lower(): re.sub(r"\s*[\r\n]\s*", " ", value).strip()
                for name, value in response.headers.items()
            }
            length = response.raw.length_remaining
            if length is not None and length > max_bytes:
                raise RefusedError(f"the body has more than {max_bytes} bytes")
            pieces = _bounded(_pieces(response.raw), max_bytes)
            encoding = received.get("content-encoding", "").strip().lower()
            plain = _bounded(_decoded(pieces, encoding), max_bytes)
            with io.BufferedReader(_Body(plain), _PIECE) as body:
                yield response.status_code, received, cast("BinaryIO", body)

    def _headers(self, address: Address, headers: Mapping[str, str]) -> dict[str, str]:
        host = f"[{address.host}]" if ":" in address.host else address.host
        own = {
            "Host": host if address.port == PORTS[address.scheme] else f"{host}:{address.port}",
            "User-Agent": self.user_agent,
            "Accept-Encoding": "gzip",
            "Connection": "close",
        }
        if self._loopback is not None:
            own["X-Forwarded-Proto"] = address.scheme
        asked = {"Accept": "*/*", **{name.title(): value for name, value in headers.items()}, **own}
        if not all(
            f"{name}{value}".isascii() and f"{name}{value}".isprintable() for name, value in asked.items()
        ):
            raise RefusedError("a request header holds characters that headers may not have")
        return asked

    def _connect(self, address: Address, bounds: "Bounds") -> "PlainSocket":
        if self._loopback is None:
            addresses, port = public_addresses(address.host, address.port), address.port
        elif is_literal(address.host):
            raise RefusedError("the host is a literal address")
        else:
            addresses, port = ["127.0.0.1"], self._loopback
        reason = ""
        for ip in addresses:
            sock = PlainSocket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
            sock.bounds = bounds
            bounds.sockets.append(sock)
            try:
                sock.settimeout(bounds.within(CONNECT_SECONDS))
                with _explained():
                    sock.connect((ip, port))
            except BrokenError as error:
                reason = str(error)
            else:
                return sock
        raise BrokenError(f"no connection to {address.host}: {reason}")


class _Body(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._failure: RefusedError | BrokenError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        if self._failure:
            raise self._failure
        if not self._rest:
            try:
                self._rest = memoryview(next(self._pieces, b""))
            except (RefusedError, BrokenError) as error:
                self._failure = error
                raise
        view = memoryview(buffer)
        given = min(len(view), len(self._rest))
        view[:given], self._rest = self._rest[:given], self._rest[given:]
        return given


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors of the network into ours, in words that are not the server's."""
    try:
        yield
    except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
        # requests' own errors are OSErrors too; what happened is the innermost of what they carry.
        for cause in reversed(list(_causes(error))):
            # The bare class is how http.client says that there are more than a hundred headers.
            if type(cause) in {http.client.LineTooLong, http.client.HTTPException}:
                raise RefusedError("the headers have a line too long or too many lines") from None
            for kind, verdict in _MEANINGS:
                if isinstance(cause, kind):
                    raise verdict(cause) from None
        raise BrokenError(f"the answer is not HTTP ({type(error).__name__})") from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it wraps, as cause, context, reason or argument."""
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        current = waiting.pop(0)
        if isinstance(current, BaseException) and current not in seen:
            seen.append(current)
            yield current
            inner = (current.__cause__, current.__context__, getattr(current, "reason", None))
            waiting += [*inner, *current.args]


_MEANINGS: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any], Exception]], ...
] = (
    (TimeoutError, lambda _: BrokenError("no answer in time")),
    (
        ssl.SSLCertVerificationError,
        lambda error: BrokenError(f"its certificate is not valid ({error.verify_message})"),
    ),
    (
        (http.client.IncompleteRead, urllib3.exceptions.IncompleteRead),
        lambda _: BrokenError("the transfer broke off"),
    ),
    (
        (ConnectionError, ssl.SSLError, socket.gaierror),
        lambda error: BrokenError(f"connection lost ({error.strerror or type(error).__name__})"),
    ),
)


def _pieces(raw: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the body as it arrives, in its content encoding."""
    while True:
        with _explained():
            piece = raw.read1(_PIECE, decode_content=False)
        if not piece:
            return
        yield piece


def _decoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the body without its content encoding, in pieces of bounded size."""
    if encoding in {"", "identity"}:
        yield from pieces
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise RefusedError("the body has a content encoding that was not asked for")
    decoder = None
    for piece in pieces:
        rest = piece
        while rest:
            decoder = decoder or zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
            try:
                plain = decoder.decompress(rest, _PIECE)
                while len(plain) == _PIECE and not decoder.eof:  # at the end, unused_data has the tail too
                    yield plain
                    plain = decoder.decompress(decoder.unconsumed_tail, _PIECE)
            except zlib.error:
                raise BrokenError("the compressed body is corrupt") from None
            if plain:
                yield plain
            rest = decoder.unused_data  # gzip allows several members
            if decoder.eof:
                decoder = None
    if decoder:
        raise BrokenError("the compressed body is truncated")


def _bounded(pieces: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > max_bytes:
            raise RefusedError(f"the body has more than {max_bytes} bytes")
        yield piece
