"""Git repositories with a known history, made in a moment, and a server that clones them over HTTP."""

import gzip
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LINK, SUBMODULE = b"120000", b"160000"
Content = str | bytes | tuple[bytes, bytes] | None


@dataclass
class History:
    """Commits to be written in one go; `commit` returns a number by which others name it as a parent."""

    branch: str = "main"
    stream: list[bytes] = field(default_factory=list)
    count: int = 0

    def commit(
        self,
        when: str,
        files: Mapping[str | bytes, Content],
        *,
        authored: str = "",
        parents: tuple[int, ...] | None = None,
    ) -> int:
        """Add a commit.

        Args:
            when: the committer date, as ISO 8601 in UTC.
            files: contents by path; None deletes, and a pair is a mode with what the entry holds.
            authored: the author date, the same by default.
            parents: the commit before by default; an empty tuple starts a history of its own.
        """
        if parents is None:
            parents = (self.count,) if self.count else ()
        self.count += 1
        ref = b"refs/heads/" + self.branch.encode()
        lines = [b"reset " + ref, b"commit " + ref, b"mark :%d" % self.count]
        lines += [b"author A <a@example.org> %d +0000" % _seconds(authored or when)]
        lines += [b"committer C <c@example.org> %d +0000" % _seconds(when), b"data 1\nc"]
        lines += [
            b"%s :%d" % (word, mark) for word, mark in zip([b"from", *[b"merge"] * 9], parents, strict=False)
        ]
        for path, content in files.items():
            lines += _entry(path, content)
        self.stream += [*lines, b""]
        return self.count

    def write(self, folder: Path) -> Path:
        """Write the repository, bare, with `branch` as its default branch."""
        run("init", "--quiet", "--bare", f"--initial-branch={self.branch}", str(folder))
        run(
            "fast-import",
            "--quiet",
            "--force",
            "--done",
            folder=folder,
            given=b"\n".join([*self.stream, b"done\n"]),
        )
        return folder


def _entry(path: str | bytes, content: Content) -> list[bytes]:
    raw = path.encode() if isinstance(path, str) else path
    name = b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
    if content is None:
        return [b"D " + name]
    mode, data = content if isinstance(content, tuple) else (b"100644", content)
    if mode == SUBMODULE:
        assert isinstance(data, bytes)
        return [b"M %s %s %s" % (mode, data, name)]
    data = data.encode() if isinstance(data, str) else data
    return [b"M %s inline %s" % (mode, name), b"data %d" % len(data), data]


def _seconds(when: str) -> int:
    return int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp())


def run(*arguments: str, folder: Path | None = None, given: bytes = b"") -> bytes:
    """Run git without anyone's settings and return what it says."""
    where = ["--git-dir", str(folder)] if folder else []
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *where, *arguments], input=given, env=environment, check=True, capture_output=True
    ).stdout


@contextmanager
def served(folder: Path, *, filters: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Serve the repositories below `folder`, by host, under /git; give the port and the list of what is asked.

    An address with a folder `moved` is redirected to the one without it.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            path, _, query = self.path.partition("?")
            asked.append(f"{self.command} {path}")
            if "/moved/" in path:
                self.send_response(302)
                self.send_header("Location", self.path.replace("/moved/", "/"))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            made = subprocess.run(
                ["git", "http-backend"],
                input=body,
                env={
                    "PATH": os.environ["PATH"],
                    "GIT_CONFIG_NOSYSTEM": "1",
                    "GIT_CONFIG_COUNT": "2",
                    "GIT_CONFIG_KEY_0": "uploadpack.allowFilter",
                    "GIT_CONFIG_VALUE_0": str(filters).lower(),
                    "GIT_CONFIG_KEY_1": "uploadpack.allowAnySHA1InWant",
                    "GIT_CONFIG_VALUE_1": "true",
                    "GIT_PROJECT_ROOT": str(folder),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path.removeprefix("/git"),
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                },
                capture_output=True,
                check=False,
            ).stdout
            head, _, payload = made.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.send_response_only(int(headers.pop("Status", "200").split()[0]))
            for name, value in {**headers, "Content-Length": str(len(payload))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
