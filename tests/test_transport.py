"""One exchange with servers that keep the protocol, and with servers that do not."""

import gzip
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collectors.web import sockets, transport
from collectors.web.addresses import BrokenError, RefusedError
from collectors.web.transport import Reply, Transport, _decoded
from world import Answer, World

# Without the clock: a test is known by its parameters.
zipped = partial(gzip.compress, mtime=0)

TOKEN = "github_pat_0123456789"
URL = "https://example.org/page"


@contextmanager
def serving(script: Callable[[socket.socket, bytes], Any], *, reads: bool = True) -> Iterator[int]:
    """Run a server that reads a request (or leaves that to the script) and does what it likes; give its port."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                try:
                    script(client, client.recv(65536) if reads else b"")
                except OSError:
                    continue  # the client has gone

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def resolving(address: str) -> Callable[..., Any]:
    """Return a resolver that gives this address for every name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return lambda _, port, **__: [(family, socket.SOCK_STREAM, 6, "", (address, port))]


def get(
    port: int, url: str = URL, *, max_bytes: int = 1 << 20, seconds: float = 5.0, **headers: str
) -> Reply:
    """Make one exchange with the server at a port of loopback."""
    return Transport("freshbits-test/1 (+test@example.org)", port).exchange(
        url, headers, max_bytes=max_bytes, seconds=seconds
    )


def talk(*parts: bytes, pause: float = 0.0, again: int = 1) -> Callable[[socket.socket, bytes], None]:
    """Return a server that sends these parts, so many times, whatever it is asked."""

    def script(client: socket.socket, _: bytes) -> None:
        for part in parts * again:
            client.sendall(part)
            time.sleep(pause)

    return script


def test_an_exchange(world: World) -> None:
    """The server sees the real host, who asks and which scheme was meant; the answer comes back whole."""
    world.on("example.org", "/page", Answer(body=b"text", headers={"ETag": '"1"', "X-Many": "a"}))
    reply = get(world.port, URL + "?q=1#part", Accept="text/html")
    assert (reply.status, reply.payload) == (200, b"text")
    assert (reply.headers["etag"], reply.headers["content-length"]) == ('"1"', "4")
    (asked,) = world.asked
    assert (asked.host, asked.path, asked.query) == ("example.org", "/page", {"q": "1"})
    assert dict(asked.headers) == {
        "accept": "text/html",
        "host": "example.org",
        "user-agent": "freshbits-test/1 (+test@example.org)",
        "accept-encoding": "gzip",
        "connection": "close",
        "x-forwarded-proto": "https",
    }


def test_the_port_belongs_to_the_host_header(world: World) -> None:
    """Unless it is the scheme's own."""
    for url in ("http://example.org:80/", "http://example.org:8080/", "https://example.org:80/"):
        get(world.port, url)
    assert [asked.headers["host"] for asked in world.asked] == [
        "example.org",
        "example.org:8080",
        "example.org:80",
    ]


def test_the_transport_says_itself_whom_it_asks(world: World) -> None:
    """A caller's headers come beside its own, not in their place."""
    headers = {"host": "example.com", "Accept-encoding": "br", "Etag": "x"}
    Transport("test", world.port).exchange(URL, headers, max_bytes=9, seconds=5)
    (asked,) = world.asked
    assert (asked.host, asked.headers["accept-encoding"], asked.headers["etag"]) == (
        "example.org",
        "gzip",
        "x",
    )


def test_redirects_are_answers(world: World) -> None:
    """Nobody is followed anywhere."""
    world.on("example.org", "/page", Answer(status=302, headers={"Location": "http://example.com/"}))
    reply = get(world.port)
    assert (reply.status, reply.headers["location"]) == (302, "http://example.com/")
    assert len(world.asked) == 1


def test_nothing_is_remembered_or_found_lying_around(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cookie is sent back, no credentials file is read, no proxy is used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.org login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    world.on("example.org", "/page", Answer(headers={"Set-Cookie": "id=1; Path=/"}))
    one = Transport("test", world.port)
    for _ in range(2):
        assert one.exchange(URL, {}, max_bytes=1, seconds=5).headers["set-cookie"] == "id=1; Path=/"
    assert not [asked for asked in world.asked if {"cookie", "authorization"} & set(asked.headers)]


def test_headers_come_one_a_name_and_on_one_line() -> None:
    """Repeated values are joined, folded ones unfolded."""
    answer = b"HTTP/1.1 200 OK\r\nLink: <a>\r\nLINK: <b>\r\nX-Long: a\r\n  b\r\nContent-Length: 0\r\n\r\n"
    with serving(talk(answer)) as port:
        assert get(port).headers == {"link": "<a>, <b>", "x-long": "a b", "content-length": "0"}


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"]
)
def test_interim_answers_are_passed_over(interim: bytes) -> None:
    """The final one counts."""
    with serving(talk(interim, interim, b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")) as port:
        assert get(port) == Reply(status=404, headers={"content-length": "2"}, payload=b"no")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody and what follows",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\nTrailer: a\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nbody",
    ],
)  # fmt: skip
def test_the_three_ways_a_body_ends(answer: bytes) -> None:
    """With its length, with its last chunk, with the connection."""
    with serving(talk(answer)) as port:
        assert get(port).payload == b"body"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(world: World, status: int) -> None:
    """Whatever their headers promise."""
    world.on("example.org", "/page", Answer(status=status, headers={"Content-Encoding": "gzip"}, length=99))
    assert get(world.port).payload == b""


@pytest.mark.parametrize(
    ("encoding", "body", "plain"),
    [
        ("gzip", zipped(b"a" * 100_000), b"a" * 100_000),
        ("GZIP", zipped(b"a" * 65_536), b"a" * 65_536),
        ("x-gzip", zipped(b"one ") + zipped(b"two"), b"one two"),
        ("deflate", zlib.compress(b"text"), b"text"),
        ("gzip", b"", b""),
        ("identity", b"text", b"text"),
    ],
)
def test_content_encodings_are_undone(world: World, encoding: str, body: bytes, plain: bytes) -> None:
    """Also of several gzip members, and of nothing at all."""
    world.on("example.org", "/page", Answer(body=body, headers={"Content-Encoding": encoding}))
    assert get(world.port).payload == plain


GZIPPED = zipped(bytes(range(256)) * 300)
HEAD = b"HTTP/1.1 200 OK\r\n"
CODED = HEAD + b"Content-Encoding: gzip\r\n"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([HEAD + b"Content-Length: 9\r\n\r\nshort"], "broke off"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nbo"], "broke off"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n"], "broke off"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"], "broke off"),
        ([CODED + b"\r\n", GZIPPED[:-1]], "truncated"),
        ([CODED + b"\r\n", GZIPPED + GZIPPED[:30]], "truncated"),
        ([CODED + b"\r\n", GZIPPED[:5]], "truncated"),
        ([CODED + b"\r\n", GZIPPED[:100] + b"?" + GZIPPED[101:]], "corrupt"),
        ([CODED + b"\r\n", GZIPPED[:-8] + bytes(8)], "corrupt"),
        ([CODED + b"\r\nplain text"], "corrupt"),
        ([b""], "before the headers"),
        ([b"HTTP/1.1 200"], "before the headers"),
        ([HEAD + b"Content-Le"], "before the headers"),
        ([HEAD + b"Content-Type: text/html\r\n"], "before the headers"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "not HTTP"),
        ([b"HTTP/1.1 abc OK\r\n\r\n"], "not HTTP"),
    ],
)
def test_an_answer_that_is_not_whole_is_broken(parts: list[bytes], reason: str) -> None:
    """Every way of losing a part of it is noticed, and may be tried again."""
    with serving(talk(*parts)) as port, pytest.raises(BrokenError, match=reason):
        get(port)


def test_a_reset_connection_is_broken() -> None:
    """As is one that nobody accepts."""

    def reset(client: socket.socket, _: bytes) -> None:
        client.sendall(HEAD)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with serving(reset) as port, pytest.raises(BrokenError, match="lost"):
        get(port)
    with pytest.raises(BrokenError, match="no connection to example.org: .*refused"):
        get(port)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (talk(HEAD + b"Content-Length: 1048577\r\n\r\n"), "body has more than 1048576"),
        (talk(HEAD + b"\r\n", *[b"a" * 65536] * 17), "body has more than 1048576"),
        (talk(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"4000\r\n" + b"a" * 16384 + b"\r\n"] * 65), "body"),
        (talk(CODED + b"\r\n\x1f\x8b\x08\x08\0\0\0\0\0\xff", *[b"n" * 65536] * 17), "body"),
        (talk(HEAD + b"Content-Encoding: br\r\n\r\n"), "not asked for"),
        (talk(HEAD + b"Content-Encoding: gzip, gzip\r\n\r\n"), "not asked for"),
        (talk(HEAD, *[b"X-%d: " % i + b"a" * 1000 + b"\r\n" for i in range(70)]), "headers have"),
        (talk(HEAD, *[b"X: a\r\n"] * 200), "headers have"),
        (talk(b"HTTP/1.1 200 " + b"a" * 70_000), "headers have"),
        (talk(b"HTTP/1.1 100 Continue\r\n\r\n", again=5000), "headers have"),
        (talk(b"HTTP/1.1 103 Hints\r\n\r\n", again=5000), "headers have"),
        (talk(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000), "line too long"),
    ],
)  # fmt: skip
def test_an_answer_that_is_too_much_is_refused(
    script: Callable[[socket.socket, bytes], None], reason: str
) -> None:
    """Bodies before and after decompression, headers, interim answers, the name in a gzip header."""
    with serving(script) as port, pytest.raises(RefusedError, match=reason):
        get(port)


def test_bounds_are_exact(world: World) -> None:
    """A body of just so many bytes is within them, plain or compressed."""
    world.on("example.org", "/page", Answer(body=b"a" * 1000))
    assert len(get(world.port, max_bytes=1000).payload) == 1000
    world.on("example.org", "/page", Answer(body=zipped(b"a" * 1000), headers={"Content-Encoding": "gzip"}))
    assert len(get(world.port, max_bytes=1000).payload) == 1000
    with pytest.raises(RefusedError, match="more than 999 bytes"):
        get(world.port, max_bytes=999)


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.binary(max_size=20)), min_size=1, max_size=6),
    st.integers(1, 5000),
)
@example([(65536, b"")] * 6, 1000)
@example([(32768, b"")] * 6, 32768)
@settings(deadline=None)
def test_compressed_pieces_may_be_cut_anywhere(parts: list[tuple[int, bytes]], step: int) -> None:
    """Whatever the sizes of members and pieces, the plain bytes are those that gzip gives."""
    body = b"".join(zipped(bytes(zeros) + rest) for zeros, rest in parts)
    pieces = list(_decoded((body[i : i + step] for i in range(0, len(body), step)), "gzip"))
    assert b"".join(pieces) == gzip.decompress(body)
    assert max(map(len, pieces), default=0) <= 32768
    with pytest.raises(BrokenError, match="truncated"):
        list(_decoded((body[:-1],), "gzip"))


@pytest.mark.parametrize(
    ("answer", "max_bytes"),
    [
        (Answer(body=zipped(bytes(10 << 20)), repeat=1000), 11 << 20),  # 10 GB in 10 MB
        (Answer(body=zipped(bytes(64 << 20))), 1 << 20),
        (Answer(body=zlib.compress(bytes(64 << 20))), 1 << 20),
    ],
)
def test_a_compression_bomb_is_stopped_with_little_memory(
    world: World, answer: Answer, max_bytes: int
) -> None:
    """In many members or in one: memory follows the bound, not the bomb."""
    world.on("example.org", "/page", replace(answer, headers={"Content-Encoding": "gzip"}))
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError, match=f"more than {max_bytes} bytes"):
            get(world.port, max_bytes=max_bytes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max_bytes / 2 < peak < max_bytes + (2 << 20)


@pytest.mark.parametrize(
    "script",
    [
        talk(*[b"%c" % byte for byte in HEAD + b"X: " + b"a" * 500], pause=0.05),
        talk(HEAD + b"Content-Length: 500\r\n\r\n", *[b"a"] * 500, pause=0.05),
        talk(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n", b"a\r\n"] * 250, pause=0.05),
        talk(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"Trailer: a\r\n"] * 250, pause=0.05),
        talk(CODED + b"\r\n", *[b"%c" % byte for byte in GZIPPED], pause=0.05),
        talk(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05, again=250),
        talk(b"", pause=30),
    ],
)
def test_time_is_bounded_against_every_drip(script: Callable[[socket.socket, bytes], None]) -> None:
    """Headers, body, chunks, trailers, compressed bytes or interim answers one by one, or silence."""
    with serving(script) as port:
        started = time.monotonic()
        with pytest.raises(BrokenError, match="in time|not finished after 0.3 s"):
            get(port, seconds=0.3)
        assert time.monotonic() - started < 1.5


def test_silence_is_bounded_before_the_whole_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops sending is given up on early."""
    monkeypatch.setattr(sockets, "SILENCE_SECONDS", 0.2)
    with serving(talk(HEAD + b"Content-Length: 2\r\n\r\na", pause=1.0)) as port:
        started = time.monotonic()
        with pytest.raises(BrokenError, match="in time"):
            get(port, seconds=60)
        assert time.monotonic() - started < 0.9


def test_a_stream_is_read_piece_by_piece(world: World) -> None:
    """Status and headers first, then a file; what is not read is not received."""
    world.on("example.org", "/page", Answer(body=b"line 1\nline 2\n" + b"a" * 65536, repeat=1000))
    with Transport("test", world.port).stream(URL, {}, max_bytes=1 << 30, seconds=5) as (
        status,
        headers,
        body,
    ):
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert [body.readline(), body.read(4)] == [b"line 1\n", b"line"]
    assert body.closed


def test_a_stream_that_broke_off_never_seems_to_have_ended(world: World) -> None:
    """The error comes again at every read."""
    world.on("example.org", "/page", Answer(body=b"text", length=9))
    with Transport("test", world.port).stream(URL, {}, max_bytes=100, seconds=5) as (_, _, body):
        assert body.read(2) == b"te"
        for _ in range(3):
            with pytest.raises(BrokenError, match="broke off"):
                body.read()


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest", "http://1.1.1.1/"),
        *("http://localhost/", "http://x.localhost/", "http://127.1/", "ftp://example.org/"),
    ],
)
def test_the_test_switch_stands_for_names_alone(world: World, url: str) -> None:
    """Literal addresses and localhost are refused with it as without it."""
    with pytest.raises(RefusedError):
        get(world.port, url)
    assert not world.asked


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "64:ff9b::7f00:1"])
def test_a_name_of_a_private_address_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """No connection is made, not even to look."""
    monkeypatch.setattr(socket, "getaddrinfo", resolving(address))
    with pytest.raises(RefusedError, match="not public"):
        Transport("test").exchange(f"http://example.org:{world.port}/page", {}, max_bytes=1, seconds=5)
    assert not world.asked


def test_the_address_that_was_checked_is_the_one_connected_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that turns private after the check is not resolved again."""
    answers = ["1.1.1.1", "127.0.0.1"]
    tried = []

    def resolve(host: str, port: int, **options: Any) -> Any:
        return resolving(answers.pop(0))(host, port, **options)

    def connect(_: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(BrokenError, match="no connection to example.org: .*refused"):
        Transport("test").exchange(f"http://example.org:{world.port}/", {}, max_bytes=1, seconds=5)
    assert tried == [("1.1.1.1", world.port)]
    assert answers == ["127.0.0.1"]


def test_every_address_of_a_name_is_tried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead one before a living one costs no answer."""
    world.on("example.org", "/page", "text")
    monkeypatch.setattr(transport, "public_addresses", lambda *_: ["::1", "127.0.0.1"])
    reply = Transport("test").exchange(f"http://example.org:{world.port}/page", {}, max_bytes=9, seconds=5)
    assert reply.payload == b"text"


def echo(before: bytes, after: bytes) -> Callable[[socket.socket, bytes], None]:
    """Return a server that sends back the token it was given, where it hurts."""

    def script(client: socket.socket, request: bytes) -> None:
        assert TOKEN.encode() in request
        client.sendall(before + TOKEN.encode() + after)

    return script


@pytest.mark.parametrize(
    "script",
    [
        echo(b"", b"\r\n\r\n"),
        echo(b"HTTP/1.1 ", b" OK\r\n\r\n"),
        echo(b"HTTP/", b" 200 OK\r\n\r\n"),
        echo(HEAD + b"Content-Encoding: ", b"\r\n\r\n"),
        echo(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"),
        echo(HEAD + b"Content-Length: 99\r\n\r\n", b""),
        echo(CODED + b"\r\n", b""),
        echo(HEAD + b"X: ", b"a" * 70_000),
    ],
)
def test_no_error_repeats_a_token(script: Callable[[socket.socket, bytes], None]) -> None:
    """Not even when the server says it first; nor does the traceback of the error."""
    with serving(script) as port, pytest.raises((BrokenError, RefusedError)) as caught:
        get(port, Authorization=f"Bearer {TOKEN}")
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [f"{TOKEN}\r\nX: y", f"{TOKEN}\n", f"{TOKEN}ü", f"{TOKEN}\0"])
def test_a_header_that_cannot_be_sent_is_refused(world: World, value: str) -> None:
    """Without connecting, and without saying what it holds."""
    with pytest.raises(RefusedError, match="request header") as caught:
        get(world.port, Authorization=value)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert not world.asked


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for example.org, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.org")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def serving_tls(certificate: Path, names: list[str | None]) -> Iterator[int]:
    """Run a TLS server that notes the server name of every handshake; give its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: names.append(name)

    def script(client: socket.socket, _: bytes) -> None:
        with context.wrap_socket(client, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(HEAD + b"Content-Length: 6\r\n\r\nsecret")

    with serving(script, reads=False) as port:
        yield port


def test_certificates_are_verified_for_the_name_that_was_asked(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the connection goes to an address; a stranger's or another name's certificate is no good."""
    monkeypatch.setattr(transport, "public_addresses", lambda *_: ["127.0.0.1"])
    names: list[str | None] = []
    with serving_tls(certificate, names) as port:
        stranger = Transport("test")
        with pytest.raises(BrokenError, match="certificate is not valid .self-signed"):
            stranger.exchange(f"https://example.org:{port}/", {}, max_bytes=9, seconds=5)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = Transport("test")
        reply = trusting.exchange(f"https://example.org:{port}/", {}, max_bytes=9, seconds=5)
        assert reply.payload == b"secret"
        with pytest.raises(BrokenError, match=r"certificate is not valid .*example\.com"):
            trusting.exchange(f"https://example.com:{port}/", {}, max_bytes=9, seconds=5)
    assert names == ["example.org", "example.org", "example.com"]


def test_a_handshake_that_never_ends_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As is a server that does not speak TLS."""
    monkeypatch.setattr(transport, "public_addresses", lambda *_: ["127.0.0.1"])
    for script in (talk(b"", pause=0.6), talk(b"HTTP/1.1 400 Bad Request\r\n\r\n")):
        with serving(script) as port, pytest.raises(BrokenError, match="no answer in time|connection lost"):
            Transport("test").exchange(f"https://example.org:{port}/", {}, max_bytes=9, seconds=0.3)
