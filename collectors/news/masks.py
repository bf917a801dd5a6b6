"""Masks for e-mail addresses, IP addresses and phone numbers: typed placeholders in their place, counted.

The masks are stateless: the same text gives the same result wherever it stands. They aim at precision,
for a masked score or date damages a text more than an unmasked switchboard number does. Every
quantifier is bounded, so the time is linear in the text, whatever it holds.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

KINDS = ("email", "ip", "phone")

# RFC 5321 bounds a local part at 64 octets, RFC 1035 a label at 63.
_EMAIL = re.compile(
    r"""(?<![\w.%+'@-])
    [^\W_][\w.%+'-]{0,63}
    @(?:[^\W_](?:[^\W_]|-){0,62}\.){1,8}[^\W\d_]{2,24}
    (?![\w@])""",
    re.VERBOSE,
)
_IPV4 = re.compile(r"(?<![\w.])(?<![A-Za-z_][-/])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{5,38}[0-9A-Fa-f:](?=:?(?![\w:]))")
_PHONE = re.compile(
    r"""(?<![\w/=\#&%$€£¥+])(?<!<phone>)(?<!\d[.,:-])(?<!<phone>[.,:-])
    (?:
        \+[1-9](?:(?:[\ \u00a0.-]|[\ \u00a0]?\(|\)[\ \u00a0-]?)?\d){7,14}     # E.164: 8 to 15 digits
      | (?:\(0[1-9]\d{1,3}\)|0[1-9]\d{1,3})[\ \u00a0-]\d{3,4}[\ \u00a0-]?\d{3,4}
      | 0[1-9]\d{8,9}
      | 0[1-9](?P<separator>[\ \u00a0.-])\d\d(?:(?P=separator)\d\d){3}
      | (?:1[.-])?[2-9]\d\d[.-][2-9]\d\d[.-]\d{4}
      | (?:1[\ \u00a0.-]?)?\([2-9]\d\d\)[\ \u00a0]?[2-9]\d\d[\ \u00a0.-]\d{4}
    )
    (?![.,:/-]?\d|\w)""",
    re.VERBOSE | re.ASCII,
)

# What stands before a number that only looks like an address: `version 1.2.30.4`, `$1.234.200.100`, an ISBN.
_NO_ADDRESS = re.compile(
    r"(?:\b(?:version|release|firmware|build|update|section|chapter|clause|v)\.?|[$€£¥])\s?\Z", re.IGNORECASE
)
_NO_PHONE = re.compile(r"\b(?:ISBN|ISSN|EAN|DOI|PMID)(?:-1[03])?:?\s?\Z", re.IGNORECASE)
_MORE_DIGITS = re.compile(r"(?:\d|<phone>)[ \u00a0]\Z")
_BEFORE = 16  # characters that these look at


def mask(text: str) -> tuple[str, dict[str, int]]:
    """Return a text with `<email>`, `<ip>` and `<phone>` in place of what they name, and how many of each.

    Phone numbers are those of E.164 with their `+`, those with a trunk `0` and an area code, and those of
    the North American plan with their separators. An IPv4 address whose parts all have one digit counts
    as a version number; an IPv6 address counts if it is written in full or in a range that is assigned.
    Masking a masked text changes nothing.
    """
    counts = dict.fromkeys(KINDS, 0)
    for kind, pattern, meant in (
        ("email", _EMAIL, _always),
        ("ip", _IPV6, _is_ipv6),
        ("ip", _IPV4, _is_ipv4),
        ("phone", _PHONE, _is_phone),
    ):
        text, n = _replace(text, pattern, f"<{kind}>", meant)
        counts[kind] += n
    return text, counts


def _replace(
    text: str, pattern: re.Pattern[str], placeholder: str, meant: Callable[[re.Match[str]], bool]
) -> tuple[str, int]:
    n = 0

    def put(match: re.Match[str]) -> str:
        nonlocal n
        if not meant(match):
            return match.group()
        n += 1
        return placeholder

    return pattern.sub(put, text), n


def _always(_: re.Match[str]) -> bool:
    return True


def _is_ipv4(match: re.Match[str]) -> bool:
    try:
        IPv4Address(match.group())
    except ValueError:
        return False
    return any(len(part) > 1 for part in match.group().split(".")) and not _NO_ADDRESS.search(_before(match))


def _is_ipv6(match: re.Match[str]) -> bool:
    groups = match.group().split(":")
    try:
        IPv6Address(match.group())
    except ValueError:
        return False
    if len(groups) == 8 and all(groups):
        return True
    # A time such as `12::30` or a name such as `ace::bad` is a valid address too.
    first = int(groups[0] or "0", 16)
    local = 0xFE80 <= first <= 0xFEBF or 0xFC00 <= first <= 0xFDFF
    return local or (0x2000 <= first <= 0x3FFF and sum(map(bool, groups)) > 2)


def _is_phone(match: re.Match[str]) -> bool:
    number = match.group()
    groups = re.findall(r"\d+", number)
    if number.startswith("+"):
        thousands = all(len(group) == 3 for group in groups[1:]) and sum(map(len, groups)) < 10
        decimal = len(groups) == 2 and "." in number
        if len(groups) > 1 and (thousands or decimal):
            return False
    elif len({len(group) for group in groups}) == 1 < len(groups) and _MORE_DIGITS.search(_before(match)):
        return False  # the rest of a number such as 12 045 678 901, or of a dump such as 00 01 02 03 04 05
    return not _NO_PHONE.search(_before(match))


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - _BEFORE) : match.start()]
