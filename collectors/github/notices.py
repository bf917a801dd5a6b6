"""What a source file, or a LICENSE file, says about its licence and its copyright."""

import re

from packaging.licenses import InvalidLicenseExpression

from collectors.licenses import canonical

HEADER_LINES = 50
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([\w.+() -]+)")
_COPYRIGHT = re.compile(r"copyright|(?<!\w)\(c\)|©", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_ONGOING = re.compile(r"\b(present|now|today|current)\b", re.IGNORECASE)

# Phrases as they read without punctuation and comment marks, the surest first.
_PHRASES = (
    ("permission is hereby granted free of charge to any person obtaining a copy", "MIT"),
    ("permission to use copy modify and or distribute this software for any purpose", "ISC"),
    ("this is free and unencumbered software released into the public domain", "Unlicense"),
    ("apache license version 2 0", "Apache-2.0"),
    ("mozilla public license version 2 0", "MPL-2.0"),
    ("mozilla public license v 2 0", "MPL-2.0"),
    ("eclipse public license v 2 0", "EPL-2.0"),
    ("boost software license version 1 0", "BSL-1.0"),
    ("cc0 1 0 universal", "CC0-1.0"),
    ("under the mit license", "MIT"),
    ("under the terms of the mit license", "MIT"),
    ("bsd style license", "LicenseRef-BSD"),
    ("proprietary and confidential", "LicenseRef-Proprietary"),
)
_RESTRICTED = re.compile("commons clause|non ?commercial (use|purposes)|all rights reserved proprietary")
_BSD = "redistribution and use in source and binary forms"
_ENDORSE = re.compile("neither the names? |endorse or promote")
_GNU = re.compile("gnu (affero |lesser |library )?general public license")
_GNU_NAMES = {"": "GPL", "affero ": "AGPL", "lesser ": "LGPL", "library ": "LGPL"}
_GNU_VERSION = re.compile(r"\bversion (2 1|[23])(?: 0)?\b")
_GNU_FULL_TEXT = re.compile(r"version (2 1|[23]) (?:june|february|29 june|19 november) (?:1991|1999|2007)")


def header(text: str) -> str:
    """Return the first `HEADER_LINES` lines of a file."""
    return "\n".join(text.split("\n", HEADER_LINES)[:HEADER_LINES])


def license_notice(text: str) -> str:
    """Return the SPDX expression of the licence that a text states or contains, or an empty string.

    A text that holds the marks of several licences, as one with notices of third parties does, or that
    restricts the one it names, is `LicenseRef-Unclear`: which of them holds is for a person to read.
    `LicenseRef-BSD` stands for a BSD licence that is not named further, `LicenseRef-Proprietary` for none.
    """
    stated = [_expression(found[1]) for found in _SPDX.finditer(text)]
    if stated:
        return stated[0]
    flat = re.sub(r"[\W_]+", " ", text).lower()
    names = {name for phrase, name in _PHRASES if phrase in flat}
    if _BSD in flat:
        names.add("BSD-3-Clause" if _ENDORSE.search(flat) else "BSD-2-Clause")
    # The licences of Mozilla and Eclipse name the GNU ones as secondary, in their own full texts.
    if not names & {"MPL-2.0", "EPL-2.0"} and (gnu := _gnu(flat)):
        names.add(gnu)
    if len(names) > 1 or (names and _RESTRICTED.search(flat)):
        return "LicenseRef-Unclear"
    return next(iter(names), "")


def copyright_year(text: str) -> int | None:
    """Return the latest year of the copyright notices in a text; None without any, or if one goes on to the present."""
    years: list[int] = []
    for line in text.split("\n"):
        if notice := _COPYRIGHT.search(line):
            rest = line[notice.start() :]
            found = [int(year) for year in _YEAR.findall(rest)]
            if found and _ONGOING.search(rest):
                return None
            years += found
    return max(years, default=None)


def _expression(value: str) -> str:
    """Return an expression in SPDX's spelling; what is none becomes a reference that allows nothing."""
    try:
        return canonical(value.strip(" -"))
    except InvalidLicenseExpression:
        return "LicenseRef-Unclear"


def _gnu(flat: str) -> str:
    name = _GNU.search(flat)  # the first one: each of these licences speaks of the others further down
    if not name:
        return ""
    version = _GNU_VERSION.search(flat, name.start()) or _GNU_VERSION.search(flat)
    if not version:
        return "LicenseRef-Unclear"
    number = version[1].replace(" ", ".")
    later = "any later version" in flat and not _GNU_FULL_TEXT.search(flat)
    return f"{_GNU_NAMES[name[1] or '']}-{number if '.' in number else number + '.0'}-{'or-later' if later else 'only'}"
