"""Addresses a stranger may and may not send us to."""

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.web.addresses import Address, BrokenError, RefusedError, is_public, parse, public_addresses

# The special-purpose registry for IPv4 (RFC 6890 and its updates), multicast, and a cloud's metadata service.
NOT_PUBLIC = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
    *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
]
NETWORKS = [ipaddress.IPv4Network(text) for text in NOT_PUBLIC]


def resolving(*answers: str) -> Any:
    """Return a resolver that gives these addresses for every name."""

    def getaddrinfo(_host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in answer else socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))
            for answer in answers
        ]

    return getaddrinfo


@given(
    st.one_of(
        st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
        st.sampled_from(NETWORKS).flatmap(
            lambda n: st.integers(int(n[0]), int(n[-1])).map(ipaddress.IPv4Address)
        ),
    )
)
def test_an_address_is_public_unless_the_registry_sets_it_aside(ip: ipaddress.IPv4Address) -> None:
    """Judged against the registry's own list, and the same inside IPv6 as outside."""
    public = not any(ip in network for network in NETWORKS)
    assert is_public(str(ip)) is public
    assert is_public(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(ip)))) is public
    assert is_public(f"::ffff:{ip}") is public
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (int(ip) << 80) | 1)))  # 6to4


@pytest.mark.parametrize(
    "address",
    [
        *("::", "::1", "::127.0.0.1", "::8.8.8.8", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254"),
        *("fec0::1", "ff02::1", "ff0e::1", "64:ff9b:1::808:808", "100::1", "2001:db8::1", "5f00::1"),
        *("2001:0:808:808::1", "2002:808:808::1"),
    ],
)
def test_ipv6_beyond_global_unicast_is_not_public(address: str) -> None:
    """Nothing but allocated unicast space, and none of the tunnels."""
    assert not is_public(address)


def test_ordinary_servers_are_public() -> None:
    """Well-known ones, of both families."""
    assert all(map(is_public, ("1.1.1.1", "140.82.121.4", "2606:4700:4700::1111", "2a00:1450:4001::200e")))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://Example.ORG", Address(scheme="http", host="example.org", port=80, target="/")),
        ("HTTPS://example.org.:8443/a?b#c", Address(scheme="https", host="example.org", port=8443, target="/a?b")),
        ("https://a_b.example/é x?q=ü%20|", Address(
            scheme="https", host="a_b.example", port=443, target="/%C3%A9%20x?q=%C3%BC%20%7C"
        )),
        ("https://straße.example:/", Address(
            scheme="https", host="xn--strae-oqa.example", port=443, target="/"
        )),
        ("http://１.1.1.1/", Address(scheme="http", host="1.1.1.1", port=80, target="/")),
        ("http://[2606:4700::0:1]:81?a=1", Address(scheme="http", host="2606:4700::1", port=81, target="/?a=1")),
    ],
)  # fmt: skip
def test_a_url_is_read(url: str, address: Address) -> None:
    """Names become lower-case ASCII, addresses their usual spelling; the target is quoted once."""
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.org/", "scheme"),
        ("//example.org/", "scheme"),
        ("", "scheme"),
        ("http://user:secret@example.org/", "password"),
        ("http://@example.org/", "password"),
        ("http://example.org\\@127.0.0.1/", "password"),
        ("http://exam\tple.org/", "control"),
        ("http://example.org/\r\nHost: other", "control"),
        ("http://example.org:99999/", "malformed"),
        ("http://example.org:0/", "malformed"),
        ("http://example.org:http/", "malformed"),
        ("http://[::1", "malformed"),
        ("http://example.org/" + "a" * 8_000, "characters"),
        ("http://[v1.x]/", "malformed"),
        ("http://example.org/\ud800", "malformed"),
        ("http:///path", "proper name"),
        ("http:example.org", "malformed"),
        ("http://exam ple.org/", "proper name"),
        ("http://a..example/", "proper name"),
        ("http://-a.example/", "proper name"),
        ("http://" + "a" * 64 + ".example/", "proper name"),
        ("http://" + "a." * 127 + "example/", "proper name"),
        ("http://\u2065.example/", "proper name"),
        ("http://[fe80::1%25eth0]/", "IPv6"),
        ("http://2130706433/", "oddly"),
        ("http://0x7f.1/", "oddly"),
        ("http://0x7f000001/", "oddly"),
        ("http://127.1/", "oddly"),
        ("http://0177.0.0.1/", "oddly"),
        ("http://1.1.1.1.1/", "oddly"),
        ("http://example.0x1/", "oddly"),
        ("http://localhost/", "this machine"),
        ("http://LOCALHOST./", "this machine"),
        ("http://a.localhost:80/", "this machine"),
    ],
)  # fmt: skip
def test_a_url_that_is_refused(url: str, reason: str) -> None:
    """The reason is one line, and repeats nothing of the URL."""
    with pytest.raises(RefusedError, match=reason) as caught:
        parse(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40).map("http://".__add__))
def test_every_text_is_an_address_or_refused(url: str) -> None:
    """Nothing else is raised, and what is accepted can stand in a request line."""
    try:
        address = parse(url)
    except RefusedError:
        return
    assert f"{address.host}{address.target}".isascii()
    assert f"{address.host}{address.target}".isprintable()
    assert " " not in address.host + address.target
    assert (
        parse(f"http://{f'[{address.host}]' if ':' in address.host else address.host}").host == address.host
    )


def test_all_addresses_of_a_name_must_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """One private address among public ones is enough to refuse."""
    monkeypatch.setattr(socket, "getaddrinfo", resolving("1.1.1.1", "10.0.0.1"))
    with pytest.raises(RefusedError, match="not public"):
        public_addresses("example.org", 443)


def test_addresses_are_given_in_the_resolvers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, as the resolver prefers them."""
    monkeypatch.setattr(socket, "getaddrinfo", resolving("2606:4700::1", "1.1.1.1", "1.1.1.1"))
    assert public_addresses("example.org", 443) == ["2606:4700::1", "1.1.1.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "::1", "100.64.0.1"])
def test_literal_addresses_are_resolved_and_refused(host: str) -> None:
    """The real resolver, without a network."""
    with pytest.raises(RefusedError, match="not public"):
        public_addresses(host, 80)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "localhost", "-option.example", "a b"])
def test_hosts_are_held_to_the_same_rules_as_urls(host: str) -> None:
    """Callers that have no URL, such as git, get the same guard."""
    with pytest.raises(RefusedError):
        public_addresses(host, 80)


def test_an_unknown_name_may_be_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the resolver is no refusal."""

    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(BrokenError, match=r"example\.org cannot be resolved"):
        public_addresses("example.org", 80)
