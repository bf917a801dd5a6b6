"""Which addresses a stranger may send us to: names and public servers, never this machine or its neighbours."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

PORTS = {"http": 80, "https": 443}
MAX_URL = 8_000  # characters; what RFC 9110, section 4.1, asks every server to take
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_URL_MARKS = "!$%&'()*+,/:;=?@[]~"
_ALLOCATED = ipaddress.IPv6Network("2000::/3")  # the only unicast space given out, RFC 4291
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_NO_SERVERS = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "168.63.129.16/32",  # the metadata service of a large cloud, seen only from inside it
            "192.0.0.0/24",  # protocol assignments, RFC 6890, with the metadata service of another
            "192.88.99.0/24",  # relays of 6to4, RFC 7526
        ),
    )
)


class RefusedError(Exception):
    """A guard says no; asking again gives the same answer. One line."""


class BrokenError(Exception):
    """The exchange did not come to its end; another one may. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL asks for.

    Attributes:
        scheme: `http` or `https`.
        host: a lower-case ASCII name, or an IP address in its usual spelling, without brackets.
        port: 1 to 65535.
        target: path and query, quoted.
    """

    scheme: str
    host: str
    port: int
    target: str


def parse(url: str) -> Address:
    """Read a URL, strictly; its fragment is left out.

    Raises:
        RefusedError: when it is malformed or endless, its scheme is neither http nor https, it holds user or
            password, or its host is `localhost` or an IPv4 address in an unusual spelling.
    """
    if len(url) > MAX_URL:
        raise RefusedError(f"the address has more than {MAX_URL:,} characters")
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise RefusedError("the address holds control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        target = quote(parts.path or "/", safe=_URL_MARKS)
        query = quote(parts.query, safe=_URL_MARKS)
    except ValueError:
        raise RefusedError("the address is malformed") from None
    if parts.scheme not in PORTS:
        raise RefusedError("the scheme is neither http nor https")
    if "@" in parts.netloc:
        raise RefusedError("the address holds a user or a password")
    if port == 0 or not target.startswith("/") or ("[" in parts.netloc) != (":" in host):
        raise RefusedError("the address is malformed")
    return Address(
        scheme=parts.scheme,
        host=_canonical_host(host),
        port=port or PORTS[parts.scheme],
        target=target + (f"?{query}" if query else ""),
    )


def is_public(address: str) -> bool:
    """Return whether an IP address is one that anybody on the internet can have a server at.

    Addresses that carry an IPv4 address (IPv4-mapped, NAT64) are judged by it; those of the old
    tunnels (6to4, Teredo) are not public. What is set aside for other ends is in `ipaddress`, from
    the registries of RFC 6890.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64 or ip.ipv4_mapped:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        elif ip not in _ALLOCATED or ip.sixtofour:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NO_SERVERS)


def public_addresses(host: str, port: int) -> list[str]:
    """Resolve a host and return its IP addresses, in the order to try them.

    The time this takes is bounded by the resolver alone.

    Raises:
        RefusedError: when the host is no proper name, or any of its addresses is not public.
        BrokenError: when it cannot be resolved.
    """
    host = _canonical_host(host)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise BrokenError(f"{host} cannot be resolved") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not all(map(is_public, addresses)):
        raise RefusedError(f"{host} has an address that is not public")
    return addresses


def _canonical_host(host: str) -> str:
    """Return a host as lower-case ASCII without a final dot.

    Raises:
        RefusedError: when it is no proper name or address, or means this machine.
    """
    host = host.lower()
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host if "%" not in host else ""))
        except ValueError:
            raise RefusedError("the host is no IPv6 address") from None
    try:
        name = (host if host.isascii() else idna.encode(host, uts46=True).decode()).removesuffix(".")
    except UnicodeError:
        raise RefusedError("the host is no proper name") from None
    if is_literal(name):
        # Resolvers also read 127.1, 0x7f.1, 2130706433 and 0177.0.0.1.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise RefusedError("the host is an oddly written IPv4 address") from None
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise RefusedError("the host is no proper name")
    if name == "localhost" or name.endswith(".localhost"):
        raise RefusedError("localhost is this machine")
    return name


def is_literal(host: str) -> bool:
    """Return whether a host is an IP address: no name ends in a number (URL Standard, host parsing)."""
    return ":" in host or bool(_NUMBER.fullmatch(host.rpartition(".")[2]))
