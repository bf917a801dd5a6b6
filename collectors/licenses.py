"""Licence expressions: what an SPDX expression allows, read from what people declare."""

import re
from collections.abc import Iterable, Iterator

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

MAX_EXPRESSION = 1_000  # characters; parentheses are read recursively

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
            return str(canonicalize_license_expression(value)), evidence
        except InvalidLicenseExpression:
            continue
    for classifier in classifiers:
        name = classifier.rpartition(" :: ")[2]
        if name in _CLASSIFIERS:
            return _CLASSIFIERS[name], f"Classifier: {classifier}"
    return "", ""


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
    except (StopIteration, ValueError):
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
