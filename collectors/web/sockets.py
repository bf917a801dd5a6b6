"""The sockets under requests: opened for one exchange, and bounded in time and in what headers may take."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, cast

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from collectors.web.addresses import BrokenError, RefusedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_HEADER_BYTES = 64 << 10
SILENCE_SECONDS = 60.0  # the longest pause between two pieces of an answer


class Bounds:
    """What one exchange may still take.

    Every single receive gets what is left of the time, so an answer that arrives byte by byte ends
    with the deadline too; and while `header_room` is set, no more arrives than headers may have.
    """

    def __init__(self, seconds: float) -> None:
        self.header_room: int | None = MAX_HEADER_BYTES
        self.sockets: list[socket.socket] = []
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Close whatever was opened; urllib3 leaves a connection open that one of our errors ended."""
        for sock in self.sockets:
            if (number := sock.detach()) >= 0:  # `close` would leave it to those who still hold a file of it
                socket.close(number)

    def within(self, limit: float) -> float:
        """Return the seconds that are left, `limit` at most."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise BrokenError(f"not finished after {self._seconds:g} s")
        return min(left, limit)

    def room(self, buffer: "WriteableBuffer") -> memoryview:
        """Return the part of a buffer that may be filled."""
        view = memoryview(buffer)
        if self.header_room is None:
            return view
        if not self.header_room:
            raise RefusedError(f"the headers have more than {MAX_HEADER_BYTES} bytes")
        return view[: self.header_room]

    def took(self, received: int) -> int:
        """Count what arrived."""
        if self.header_room is not None:
            if not received:
                raise BrokenError("the connection ended before the headers did")
            self.header_room -= received
        return received


class PlainSocket(socket.socket):
    """A socket that receives within bounds."""

    bounds: Bounds

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> int:
        """Receive, as far as the bounds allow."""
        view = self.bounds.room(buffer)
        self.settimeout(self.bounds.within(SILENCE_SECONDS))
        return self.bounds.took(super().recv_into(view, nbytes, flags))


class TlsSocket(ssl.SSLSocket):
    """The same under TLS; until its handshake is over, the timeout of the connection bounds it."""

    bounds: Bounds

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0) -> int:
        """Receive, as far as the bounds allow."""
        view = self.bounds.room(buffer)
        self.settimeout(self.bounds.within(SILENCE_SECONDS))
        return self.bounds.took(super().recv_into(view, nbytes, flags))


class _Answer(http.client.HTTPResponse):
    """The first answer that is not an interim one."""

    def begin(self) -> None:
        super().begin()
        while self.status < 200:
            self.headers = cast("http.client.HTTPMessage", None)  # or it would take them for the final ones
            super().begin()


class Adapter(HTTPAdapter):
    """requests over connections that are opened for it, and never retried."""

    def __init__(self, connect: Callable[[], PlainSocket], tls: ssl.SSLContext) -> None:
        self._connect = connect
        self._tls = tls
        super().__init__(max_retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make pools whose connections are ours."""
        super().init_poolmanager(*args, ssl_context=self._tls, **options)
        connect = self._connect

        class Plain(HTTPConnection):
            response_class = _Answer

            def _new_conn(self) -> socket.socket:
                return connect()

        class Secure(HTTPSConnection):
            response_class = _Answer

            def _new_conn(self) -> socket.socket:
                self.opened = connect()
                return self.opened

            def connect(self) -> None:
                super().connect()
                cast("TlsSocket", self.sock).bounds = self.opened.bounds
                self.opened.bounds.sockets.append(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
