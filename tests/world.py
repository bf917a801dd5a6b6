"""The web on loopback: many hosts behind one port, with the documented behaviour and misbehaviour of real ones."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MONDAY = "Mon, 02 Nov 2026 12:00:00 GMT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as the server saw it: `query` holds the first value of each name."""

    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a page answers. `headers` replaces the usual ones of the same name; `drip` sends a byte at a time.

    `length` overrides Content-Length, so that a transfer can break off; `repeat` sends the body so often.
    """

    body: bytes = b""
    status: int = 200
    media_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    drip: float = 0.0
    repeat: int = 1


Page = bytes | str | Answer | Callable[[Asked], "Answer | bytes | str"]


class World:
    """Hosts and their pages, and every request that was made of them.

    `world.on("export.arxiv.org", "/oai", page)` registers a page: bytes or text, an `Answer`, or a
    function of what was asked. A list is answered one after the other, its last page again and
    again. An unknown host or path answers 404.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.git: int | None = None  # port of a server of repositories, which answers for paths below /git
        self.asked: list[Asked] = []
        self._pages: dict[tuple[str, str], list[Page]] = {}
        self._lock = threading.Lock()

    def on(self, host: str, path: str, *pages: Page) -> None:
        """Register what a path of a host answers, query excluded."""
        self._pages[host, path] = list(pages)

    def paths(self, host: str) -> list[str]:
        """Return the paths asked of a host, in order, robots.txt left out."""
        return [asked.path for asked in self.asked if asked.host == host and asked.path != "/robots.txt"]

    def answer(self, asked: Asked) -> Answer:
        """Note a request and return its answer."""
        with self._lock:
            self.asked.append(asked)
            pages = self._pages.get((asked.host, asked.path))
            page = (pages.pop(0) if len(pages) > 1 else pages[0]) if pages else Answer(status=404, body=b"?")
        made = page(asked) if callable(page) else page
        if isinstance(made, str):
            made = made.encode()
        return made if isinstance(made, Answer) else Answer(body=made)


class _Handler(BaseHTTPRequestHandler):
    """Answers for all hosts of the server's world."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        self.forward(self.server.world.git or 0)

    def do_GET(self) -> None:
        world = self.server.world
        if world.git and self.path.startswith("/git/"):
            self.forward(world.git)
            return
        address = urlsplit(self.path)
        answer = world.answer(
            Asked(
                host=self.headers.get("Host", "").rpartition("@")[2].partition(":")[0],
                path=address.path,
                query={name: values[0] for name, values in parse_qs(address.query).items()},
                headers={name.lower(): value for name, value in self.headers.items()},
                at=time.monotonic(),
            )
        )
        headers = {"Content-Type": answer.media_type, "Date": MONDAY, **answer.headers}
        length = len(answer.body) * answer.repeat if answer.length is None else answer.length
        self.head(answer.status, {**headers, "Content-Length": str(length)})
        try:
            self.send(answer)
        except OSError:
            self.close_connection = True

    def forward(self, port: int) -> None:
        """Pass a request on to the server of repositories."""
        connection = HTTPConnection("127.0.0.1", port)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        payload = answer.read()
        connection.close()
        self.head(answer.status, dict(answer.getheaders()))
        self.wfile.write(payload)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a status and exactly these headers."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, answer: Answer) -> None:
        """Send a body as its answer says."""
        if answer.drip:
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                time.sleep(answer.drip)
        else:
            for _ in range(answer.repeat):
                self.wfile.write(answer.body)
        if answer.length is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.world = World(self.server_port)


@contextmanager
def running() -> Iterator[World]:
    """Run a world on a free port of loopback."""
    server = _Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server.world
    finally:
        server.shutdown()
        server.server_close()
