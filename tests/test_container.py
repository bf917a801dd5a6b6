"""The file that `compress` writes: what it says comes back, and nothing altered passes."""

import json
import zlib
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate.codec import container
from evaluate.codec.container import FORMAT, Header, pack, unpack

PAYLOAD = b"some payload \0\xff"
HEADER = Header(
    model="tiny",
    weights="sha256:" + "0" * 64,
    protocol="full/40/13",
    prefix="separator",
    separator="<|endoftext|>",
    dtype="float32",
    quantization="",
    attention="sdpa",
    software="torch 2, transformers 5",
    device="cpu",
    machine="cpu x86_64 AVX2",
    threads=2,
    fingerprint="0123456789abcdef",
    n_tokens=12,
    n_bytes=34,
    sha256="f" * 64,
    n_payload=len(PAYLOAD),
)
FILE = pack(HEADER, PAYLOAD)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)


def sealed(facts: bytes, payload: bytes = PAYLOAD) -> bytes:
    """Return a file with any header, deflated, and a right checksum."""
    packed = zlib.compress(facts)
    body = FILE[:8] + len(packed).to_bytes(4) + packed + payload
    return body + zlib.crc32(body).to_bytes(4)


def with_fact(name: str, value: Any) -> bytes:
    """Return a file with another value in its header."""
    return sealed(json.dumps([FORMAT, *{**asdict(HEADER), name: value}.values()]).encode())


@given(st.data(), st.binary(max_size=40))
def test_header_and_payload_come_back(data: st.DataObject, payload: bytes) -> None:
    """Whatever they are."""
    facts: dict[str, Any] = {
        name: data.draw(TEXTS if type(value) is str else st.integers(0, 2**63))
        for name, value in asdict(HEADER).items()
    }
    header = Header(**{**facts, "n_payload": len(payload)})
    assert unpack(pack(header, payload), "a.fb") == (header, payload)


def test_a_header_is_a_few_hundred_bytes() -> None:
    """It costs the same whatever the file is."""
    assert len(FILE) - len(PAYLOAD) < 300


def test_every_flip_is_noticed() -> None:
    """Any bit of any byte, in a line that names the file."""
    for place in range(len(FILE)):
        for bit in range(8):
            altered = bytearray(FILE)
            altered[place] ^= 1 << bit
            check_refused(bytes(altered), "a.fb")


def test_every_truncation_is_noticed() -> None:
    """At any byte, and bytes behind the end too."""
    for end in range(len(FILE)):
        check_refused(FILE[:end], "a.fb")
    check_refused(FILE + b"\0", "has more behind its end")
    check_refused(FILE[:-1], f"is cut short: it has {len(FILE) - 1} bytes of {len(FILE)}")


@given(st.binary(max_size=100))
def test_any_bytes_behind_the_signature_are_refused(noise: bytes) -> None:
    """Never with another error."""
    check_refused(FILE[:8] + noise, "a.fb")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "is no file that `compress` wrote; it is empty"),
        (b"BZh9", "is no file that `compress` wrote; name one that is"),
        (FILE.replace(b"\r\n", b"\n"), "fetch it again as binary"),
    ],
)
def test_other_files_are_told(file: bytes, reason: str) -> None:
    """Empty, of another kind, or transferred as text."""
    check_refused(file, reason)


def test_a_later_format_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which one, whatever its header holds."""
    monkeypatch.setattr(container, "FORMAT", 7)
    later = pack(HEADER, PAYLOAD)
    monkeypatch.undo()
    check_refused(later, f"is of format 7, and this version reads format {FORMAT}")
    check_refused(sealed(b"[8]"), "is of format 8")


@pytest.mark.parametrize("name", [name for name in asdict(HEADER) if name != "n_payload"])
@pytest.mark.parametrize(
    "value", [None, True, 1.5, -1, [], {}, "a\nb", "\x1b[2J", "\udcff", float("nan")], ids=repr
)
def test_values_of_a_wrong_kind_are_refused(name: str, value: Any) -> None:
    """Types, negative numbers, and text that would write over a terminal."""
    check_refused(with_fact(name, value), "the header of a.fb is not one of format 1")


@pytest.mark.parametrize(
    "facts",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"7",
        b"null",
        b"[1]",
        b"[[[1]]]",
        b'["\\u001b[2J\\nx"]',
        b"[1," + b"9" * 5000 + b"]",
        b"[" + b"9" * 4000 + b"]",
        b"\xff\xfe[1]",
        b"[" * 500 + b"]" * 500,
        b"[" * 960 + b"]" * 960,
        b"[" * 60_000,
        b"[" + b'"a",' * 10_000 + b"1]",
    ],
    ids=lambda facts: f"{facts[:9]!r}*{len(facts)}",
)
def test_hostile_headers_are_one_line(facts: bytes) -> None:
    """Wrong JSON, huge numbers, deep nesting: refused as anything else."""
    check_refused(sealed(facts), "a.fb")


def test_a_header_that_inflates_is_not_read_to_its_end() -> None:
    """A gigabyte of zeros in a megabyte, and a length beyond any header."""
    bomb = zlib.compress(b"[" + b" " * (1 << 24), 9)
    check_refused(FILE[:8] + len(bomb).to_bytes(4) + bomb, "ends within its header or is damaged there")
    check_refused(FILE[:8] + b"\xff" * 4 + b"\0" * 100, "ends within its header or is damaged there")


def test_huge_lengths_are_cut_short() -> None:
    """A payload of any length is believed of nobody."""
    check_refused(with_fact("n_payload", 10**30), "is cut short")
    assert unpack(with_fact("n_bytes", 10**30), "a.fb")[0] == replace(HEADER, n_bytes=10**30)


def check_refused(file: bytes, reason: str) -> None:
    """Check that a file is refused in one line that says why."""
    with pytest.raises(UserError) as error:
        unpack(file, "a.fb")
    line = str(error.value)
    assert reason in line
    assert "a.fb" in line
    assert line.isprintable()
    assert len(line) < 300
