"""Masks replace addresses and numbers of people, and nothing that only looks like them."""

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.news.masks import KINDS, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to first.last+news@mail.example.co.uk.", "Write to <email>."),
        ("<a href='mailto:o'brien@example.org'>", "<a href='mailto:<email>'>"),
        ("Адрес: иван@пример.рф", "Адрес: <email>"),
        ("at 203.0.113.7, port 80", "at <ip>, port 80"),
        ("http://203.0.113.7:8080/x and 198.51.100.0/24", "http://<ip>:8080/x and <ip>/24"),
        ("from 2001:db8::7334 or [fe80::1]:80", "from <ip> or [<ip>]:80"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334:", "<ip>:"),
        ("call 0800 496 0123 24 hours a day or 01632 960001.", "call <phone> 24 hours a day or <phone>."),
        ("(020) 7946 0123; 07700900123; 01 99 00 12 34", "<phone>; <phone>; <phone>"),
        ("0800 496 0123 0800 496 0124", "<phone> <phone>"),
        ("+44 20 7946 0123, +44 (0)20 7946 0123, +12025550143", "<phone>, <phone>, <phone>"),
        ("(202) 555-0143, 202-555-0143, 1-202-555-0143", "<phone>, <phone>, <phone>"),
        ("Tel.:0800\u00a0496\u00a00123", "Tel.:<phone>"),
    ],
)
def test_an_address_becomes_its_kind(text: str, masked: str) -> None:
    """What surrounds it stays to the letter."""
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4, release 10.20.30.40 and v. 4.14.30.2 of firmware 1.22.333.44",
        "Chrome/125.0.0.0, lib-2.31.0.10, section 12.3.4.5, 1.3.6.1.4.1.311, 300.1.2.3",
        "$1.234.200.100, €12.200.100.100",
        "at 12::30, 12:30:45, ace::bad, std::vector, 00:1a:2b:3c:4d:5e, :: and ::1",
        "2024-06-01, 01/06/2024, 06.07.2024, 2019-2024, 2023/24, 1939 - 1945",
        "1 000 000, 12 045 678 901, 1,234,567.89, +10 000 000, +1.000.000 and +51.50740000",
        "won 3-2, 6-4 6-3 7-5, 21-19, 100 200 3000 of 0.123456789",
        "ISBN 0306406152, ISBN-10: 0306406152, ISBN 978-0-306-40615-7, ISSN 1234-5678",
        "@reporter, @user@social.example, lodash@4.17.21, 5 @ 3.50 each, a@b",
        "case 0012345678 and 20240601123000, 4111 1111 1111 1111, 00 01 02 03 04 05",
        "/news/07700900123 and ?id=07700900123",
    ],
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    """Versions, times, names in programs, dates, quantities, scores, book numbers, handles."""
    assert mask(text) == (text, dict.fromkeys(KINDS, 0))


def test_masks_are_counted_by_kind() -> None:
    """Every placeholder that was put counts once, and none that stood there before."""
    text = "<email> a@example.org, b@example.org; 203.0.113.7, fe80::1; 0800 496 0123"
    assert mask(text)[1] == {"email": 2, "ip": 2, "phone": 1}


ODD = st.text(alphabet="a1.2@:+- ()<>e0f\n/\u00a0b9", max_size=60)
PIECES = st.lists(
    st.sampled_from(
        [
            "a@example.org",
            "203.0.113.7",
            "fe80::1",
            "0800 496 0123",
            "+12025550143",
            "(202) 555-0143",
            "<email>",
            " ",
            ".",
            "-",
            "x",
            "1",
            ":",
            "(",
            "+",
            "/",
            "@",
            ", ",
        ]
    ),
    max_size=8,
).map("".join)


@given(ODD | PIECES)
def test_masking_twice_is_masking_once(text: str) -> None:
    """A masked text holds nothing that the masks know."""
    masked, _ = mask(text)
    again, counts = mask(masked)
    assert (again, sum(counts.values())) == (masked, 0)


@given(st.text())
def test_text_without_digits_and_at_signs_and_colons_stays(text: str) -> None:
    """Nothing else can be part of what is masked."""
    plain = "".join(c for c in text if c not in "@:" and not c.isdigit())
    assert mask(plain)[0] == plain


@given(ODD | PIECES)
def test_counts_are_the_placeholders_put(text: str) -> None:
    """The text gains exactly as many placeholders as are counted."""
    masked, counts = mask(text)
    for kind in KINDS:
        assert masked.count(f"<{kind}>") - text.count(f"<{kind}>") == counts[kind]


@given(st.lists(ODD, max_size=5))
def test_lines_are_masked_one_by_one(lines: list[str]) -> None:
    """No mask reaches across a line, so that boilerplate can be judged by the line."""
    split = [part for line in lines for part in line.split("\n")]
    assert mask("\n".join(split))[0] == "\n".join(mask(line)[0] for line in split)


HOSTILE = {
    "letters": "a" * 10**6,
    "at signs": "a@" * 500_000,
    "labels": "x@" + "a." * 500_000,
    "long labels": ("a@" + "a" * 63) * 15_000,
    "plus": "+1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 " * 32_000,
    "brackets": "+1( )1" * 166_000,
    "zeros": "01 " * 333_000,
    "colons": "f:" * 500_000,
    "ipv6": "fe80::" * 166_000,
    "quads": "$ 1.22.3.4. " * 83_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_linear_time(text: str) -> None:
    """A megabyte of near misses is masked in about the time of a megabyte of prose."""
    start = time.process_time()
    mask(text)
    assert time.process_time() - start < 3


def test_addresses_are_found_wherever_they_stand() -> None:
    """Against an oracle that knows where it put them: all are masked, and nothing else is."""
    rng = random.Random(1)
    words = [
        "the",
        "minister",
        "said",
        "on",
        "12",
        "Monday",
        "that",
        "300",
        "people,",
        "in",
        "2024,",
        "1,500",
    ]
    known = {
        "email": ["a.b@example.org", "news@example.co.uk"],
        "ip": ["203.0.113.7", "2001:db8::1"],
        "phone": ["0800 496 0123", "+44 20 7946 0123"],
    }
    for _ in range(300):
        expected, text = [], []
        for word in rng.choices(words, k=30):
            kind = rng.choice(KINDS) if rng.random() < 0.2 and not re.search(r"\d", word) else ""
            expected += [word, *([f"<{kind}>,"] if kind else [])]
            text += [word, *([f"{rng.choice(known[kind])},"] if kind else [])]
        assert mask(" ".join(text))[0] == " ".join(expected)
