"""Licence expressions: what an SPDX expression allows, read from what people declare."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

OPEN_CODE = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "LicenseRef-BSD"}
    | {"MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"}
)
"""Licences under which code may be passed on, and the prose that comes with it."""
MAX_EXPRESSION = 1_000  # characters; parentheses are read recursively

OPEN_CONTENT = frozenset(
    {"CC0-1.0", "CC-PDDC", "CC-PDM-1.0", "LicenseRef-Public-Domain", "OGL-UK-3.0", "PDDL-1.0"}
    | {f"CC-BY{terms}-{version}" for terms in ("", "-SA") for version in ("1.0", "2.0", "2.5", "3.0", "4.0")}
    | {"CC-BY-2.5-AU", "CC-BY-3.0-AT", "CC-BY-3.0-AU", "CC-BY-3.0-DE", "CC-BY-3.0-IGO", "CC-BY-3.0-NL"}
    | {"CC-BY-3.0-US", "CC-BY-SA-2.0-UK", "CC-BY-SA-2.1-JP", "CC-BY-SA-3.0-AT", "CC-BY-SA-3.0-DE"}
    | {"CC-BY-SA-3.0-IGO"}
)
"""Licences of texts under which anyone may share them, changed and for any purpose.

Not those that forbid commercial use, which whoever takes a corpus from us may have in mind, nor those
that forbid changes: a text taken out of its page or its source is a changed one.
"""

# Addresses without scheme, `www.` and final slash, and what they mean. Creative Commons has a rule of its own.
_ADDRESSES = {
    "apache.org/licenses/license-2.0": "Apache-2.0",
    "arxiv.org/licenses/assumed-1991-2003": "LicenseRef-arXiv-assumed-1991-2003",
    "arxiv.org/licenses/nonexclusive-distrib/1.0": "LicenseRef-arXiv-nonexclusive-distrib",
    "creativecommons.org/publicdomain/mark/1.0": "CC-PDM-1.0",
    "creativecommons.org/publicdomain/zero/1.0": "CC0-1.0",
    "gnu.org/licenses/fdl-1.3": "GFDL-1.3-only",
    "nationalarchives.gov.uk/doc/open-government-licence/version/3": "OGL-UK-3.0",
    "opensource.org/license/mit": "MIT",
    "opensource.org/licenses/mit": "MIT",
}
_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/licenses/(by(?:-nc)?(?:-nd|-sa)?)/(\d\.\d)(?:/([a-z]{2,3}))?"
)
_TRANSLATIONS = re.compile(r"/(?:deed|legalcode)(?:\.[a-z_-]+)?$|\.(?:html|txt|en)$")

# Trove classifiers that name one licence. "BSD License" does not say which of the BSD family.
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "LicenseRef-BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


def canonical(expression: str) -> str:
    """Return an SPDX expression in the list's spelling.

    Raises:
        InvalidLicenseExpression: when it is none, or longer than `MAX_EXPRESSION`.
    """
    if len(expression) > MAX_EXPRESSION:
        raise InvalidLicenseExpression(f"an expression of {len(expression):,} characters")
    return str(canonicalize_license_expression(expression))


def spdx(expression: str, field: str, classifiers: Iterable[str]) -> tuple[str, str]:
    """Return an SPDX expression and where it was read, the surest statement first.

    Args:
        expression: the metadata's `License-Expression`.
        field: its free-text `License`.
        classifiers: its trove classifiers.

    Returns:
        Expression and evidence; both empty when nothing declared is clear.
    """
    for value, evidence in ((expression, "License-Expression"), (field, "License")):
        try:
            return canonical(value), evidence
        except InvalidLicenseExpression:
            continue
    for classifier in classifiers:
        name = classifier.rpartition(" :: ")[2]
        if name in _CLASSIFIERS:
            return _CLASSIFIERS[name], f"Classifier: {classifier}"
    return "", ""


def spdx_of_url(url: str) -> str:
    """Return the SPDX expression of the licence at a web address, or an empty string for an unknown one.

    A Creative Commons licence ported to a jurisdiction has a name of its own where SPDX lists it, and
    else none: it is another text than the international one.
    """
    try:
        parts = urlsplit(url.strip().lower())
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https", ""}:
        return ""
    address = _TRANSLATIONS.sub("", f"{host}{parts.path}".rstrip("/")).rstrip("/")
    if address in _ADDRESSES:
        return _ADDRESSES[address]
    match = _CREATIVE_COMMONS.fullmatch(address)
    if not match:
        return ""
    terms, version, place = match.groups()
    try:
        return str(canonicalize_license_expression("-".join(filter(None, ["CC", terms, version, place]))))
    except InvalidLicenseExpression:
        return ""


def satisfied(expression: str, allowed: Iterable[str]) -> bool:
    """Return whether an SPDX expression can be met with allowed licences alone.

    `AND` needs both sides, `OR` one of them; `WITH` makes a licence of its own that must be allowed
    by its full name. An empty or broken expression allows nothing.
    """
    if len(expression) > MAX_EXPRESSION:
        return False
    tokens = re.findall(r"[()]|[^\s()]+", re.sub(r"\s+WITH\s+", "\0", expression))
    stream = iter([*tokens, ""])
    try:
        verdict, rest = _either(next(stream), stream, {name.replace(" WITH ", "\0") for name in allowed})
    except (StopIteration, ValueError, RecursionError):
        return False
    return verdict and rest == ""


def _either(token: str, stream: Iterator[str], allowed: set[str]) -> tuple[bool, str]:
    verdict, token = _both(token, stream, allowed)
    while token == "OR":
        other, token = _both(next(stream), stream, allowed)
        verdict = verdict or other
    return verdict, token


def _both(token: str, stream: Iterator[str], allowed: set[str]) -> tuple[bool, str]:
    verdict, token = _one(token, stream, allowed)
    while token == "AND":
        other, token = _one(next(stream), stream, allowed)
        verdict = verdict and other
    return verdict, token


def _one(token: str, stream: Iterator[str], allowed: set[str]) -> tuple[bool, str]:
    if token == "(":
        verdict, token = _either(next(stream), stream, allowed)
        if token != ")":
            raise ValueError(token)
        return verdict, next(stream)
    if token in {"", ")", "AND", "OR"}:
        raise ValueError(token)
    return token in allowed, next(stream)
