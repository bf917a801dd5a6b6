"""Archives and XML from strangers are bounded, safe, and never silently short."""

import contextlib
import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.web.untrusted import (
    MAX_XML_BYTES,
    MAX_XML_DEPTH,
    MAX_XML_ELEMENTS,
    HostileError,
    MalformedError,
    UntrustedError,
    members,
    xml,
)


def unpacked(
    payload: bytes, wanted: Callable[[str], bool] = lambda _: True, name: str = ""
) -> dict[str, bytes]:
    """Return the members of an archive of at most a megabyte and a hundred files."""
    return members(payload, max_bytes=1 << 20, max_members=100, wanted=wanted, name=name)


def tar(*entries: tuple[str, bytes], special: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """Return an uncompressed tar of files, and of headers without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in special:
            archive.addfile(info)
    return buffer.getvalue()


def zipped(*entries: tuple[str, bytes]) -> bytes:
    """Return a compressed zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    """Return the header of something that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


FILES = (("paper.tex", b"\\documentclass{article}"), ("figures/one.pdf", bytes(range(256))))


@pytest.mark.parametrize(
    "payload",
    [tar(*FILES), gzip.compress(tar(*FILES)), zipped(*FILES)],
    ids=["tar", "tar.gz", "zip"],
)
def test_the_bytes_decide_which_archive_it_is(payload: bytes) -> None:
    """Nothing is told about the format, and every format gives the same files."""
    assert unpacked(payload) == dict(FILES)


def test_a_gz_without_a_tar_is_one_file_with_the_name_the_caller_gives() -> None:
    """A single file has no name of its own that could be trusted."""
    assert unpacked(gzip.compress(b"\\bye"), name="paper.tex") == {"paper.tex": b"\\bye"}
    assert unpacked(gzip.compress(b"")) == {"": b""}


def test_a_gz_of_several_members_is_read_to_its_end() -> None:
    """Concatenated gzip members are one stream (RFC 1952)."""
    assert unpacked(gzip.compress(b"one ") + gzip.compress(b"two")) == {"": b"one two"}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../../up", "a\\..\\up", "C:/x", "a\nb", "x" * 2_000]
)
@pytest.mark.parametrize("make", [tar, zipped])
def test_names_that_lead_elsewhere_are_left_out(name: str, make: Callable[..., bytes]) -> None:
    """Absolute paths, `..`, drives, control characters and endless names are passed over, the rest is read."""
    assert unpacked(make((name, b"bad"), ("good", b"good"))) == {"good": b"good"}


def test_links_and_devices_are_left_out() -> None:
    """A link could name any file of the machine."""
    special = (
        link("symlink", tarfile.SYMTYPE),
        link("hardlink", tarfile.LNKTYPE, "good"),
        link("device", tarfile.CHRTYPE),
        link("pipe", tarfile.FIFOTYPE),
        link("folder", tarfile.DIRTYPE),
    )
    assert unpacked(tar(("good", b"good"), special=special)) == {"good": b"good"}


def test_a_symbolic_link_in_a_zip_is_left_out() -> None:
    """Zip keeps the kind of a file in the upper half of its attributes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("good", b"good")
    assert unpacked(buffer.getvalue()) == {"good": b"good"}


def test_the_first_of_two_members_of_one_path_counts() -> None:
    """Two spellings of one path are one path, and a later member cannot replace an earlier one."""
    assert unpacked(tar(("a/b", b"first"), ("./a//b", b"second"))) == {"a/b": b"first"}


def test_members_that_are_not_wanted_are_not_held() -> None:
    """A paper's pictures are counted and not kept."""
    assert unpacked(tar(*FILES), wanted=lambda path: path.endswith(".tex")) == dict(FILES[:1])


@pytest.mark.parametrize("inner", [b"", tar(("zeros", b""))[:512]], ids=["gz", "tar.gz"])
def test_a_bomb_stops_early_in_little_memory(inner: bytes) -> None:
    """Two hundred megabytes in a small gz are refused at the bound of one megabyte."""
    bomb = gzip.compress(inner + bytes(200 << 20), 9)
    assert len(bomb) < 300_000
    tracemalloc.start()
    with pytest.raises(HostileError, match="more than 1,048,576 bytes"):
        unpacked(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_bomb_that_nobody_wants_counts_too() -> None:
    """Members that are skipped must be decompressed to be skipped."""
    with pytest.raises(HostileError):
        unpacked(gzip.compress(tar(("zeros", bytes(2 << 20)))), wanted=lambda _: False)


def test_a_zip_whose_members_together_are_a_bomb_is_refused() -> None:
    """Each is within the bound, all are not."""
    with pytest.raises(HostileError):
        unpacked(zipped(*((f"f{n}", bytes(400 << 10)) for n in range(3))))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_a_rare_compression_is_not_read(method: int) -> None:
    """LZMA takes the memory that its header names, and has errors of its own."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a.txt", b"a" * 100)
    with pytest.raises(MalformedError, match="rare compression"):
        members(stream.getvalue(), max_bytes=1_000, max_members=10)


@pytest.mark.parametrize("make", [tar, zipped])
def test_more_members_than_allowed_are_refused(make: Callable[..., bytes]) -> None:
    """A hundred are allowed here; empty files cost memory too."""
    files = [(f"f{n}", b"") for n in range(101)]
    assert len(unpacked(make(*files[:100]))) == 100
    with pytest.raises(HostileError, match="more than 100 members"):
        unpacked(make(*files))


def test_a_sparse_member_of_endless_size_is_not_read() -> None:
    """The old GNU format declares terabytes of holes in a header of 512 bytes."""
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = block[398:410] = b"00000000000\0"
    block[483:495] = b"77777777777\0"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    assert unpacked(bytes(block) + tar(("good", b"good"))) == {"good": b"good"}


@pytest.mark.parametrize(
    "payload",
    [gzip.compress(tar(*FILES)), gzip.compress(b"x" * 5_000), zipped(*FILES)],
    ids=["tar.gz", "gz", "zip"],
)
def test_a_truncated_archive_raises(payload: bytes) -> None:
    """Whatever the place at which the transfer broke off."""
    for end in range(20, len(payload) - 1, 7):
        with pytest.raises(MalformedError):
            unpacked(payload[:end])


def test_a_tar_that_ends_within_a_member_raises() -> None:
    """Also where that member is not wanted."""
    payload = tar(("a", b"x" * 5_000))[:3_000]
    for wanted in (True, False):
        with pytest.raises(MalformedError):
            unpacked(payload, wanted=[lambda _: False, lambda _: True][wanted])


def test_a_damaged_gzip_checksum_raises() -> None:
    """The checksum at the end is verified, also behind the end of a tar."""
    payload = bytearray(gzip.compress(tar(*FILES)))
    payload[-6] ^= 1
    with pytest.raises(MalformedError):
        unpacked(bytes(payload))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_files_or_the_documented_error(noise: bytes) -> None:
    """No other exception leaves the module."""
    for head in (b"", b"\x1f\x8b\x08\x00", b"PK\x03\x04", tar(*FILES)[:512]):
        with contextlib.suppress(UntrustedError):
            unpacked(head + noise)


@given(st.integers(0, 2_047), st.integers(0, 255))
def test_a_changed_byte_gives_files_or_the_documented_error(place: int, value: int) -> None:
    """Headers of a tar are believed in nothing."""
    payload = bytearray(tar(*FILES))
    payload[place] = value
    for wrapped in (bytes(payload), gzip.compress(bytes(payload))):
        try:
            found = unpacked(wrapped)
        except UntrustedError:
            continue
        assert all(not path.startswith("/") and ".." not in path.split("/") for path in found)


def test_well_formed_xml_is_returned_whole() -> None:
    """Namespaces, attributes, character data and an encoding declaration."""
    root = xml('<?xml version="1.0" encoding="iso-8859-1"?><a x="1"><b>é &amp; ü</b></a>'.encode("latin-1"))
    assert (root.tag, root.get("x"), root.findtext("b")) == ("a", "1", "é & ü")


def test_a_document_type_without_declarations_passes() -> None:
    """Old feeds name a DTD; it is not loaded."""
    doctype = '<!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN" "http://127.0.0.1:9/rss.dtd">'
    assert xml(f"{doctype}<rss/>".encode()).tag == "rss"


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE_XML = {
    "billion laughs": f'<!DOCTYPE r [<!ENTITY a0 "ha">{LAUGHS}]><r>&a9;</r>',
    "laughs in an attribute": f'<!DOCTYPE r [<!ENTITY a0 "ha">{LAUGHS}]><r x="&a9;"/>',
    "quadratic": f'<!DOCTYPE r [<!ENTITY a "{"x" * 50_000}">]><r>{"&a;" * 50_000}</r>',
    "external": '<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>',
    "parameter": '<!DOCTYPE r [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]><r/>',
    "unused": '<!DOCTYPE r [<!ENTITY a "b">]><r/>',
    "deep": "<a>" * (MAX_XML_DEPTH + 1) + "</a>" * (MAX_XML_DEPTH + 1),
    "many": "<a>" + "<b/>" * MAX_XML_ELEMENTS + "</a>",
    "large": f"<a>{' ' * MAX_XML_BYTES}</a>",
}


@pytest.mark.parametrize("name", HOSTILE_XML)
def test_hostile_xml_is_refused(name: str) -> None:
    """Entities of any kind, and documents beyond the bounds."""
    with pytest.raises(UntrustedError):
        xml(HOSTILE_XML[name].encode())


def test_entities_hide_in_no_encoding() -> None:
    """The declaration is looked for in what was parsed, not in the bytes."""
    with pytest.raises(HostileError):
        xml('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE r [<!ENTITY a "b">]><r/>'.encode("utf-16"))


@pytest.mark.parametrize("text", ["", "<a>", "<a></b>", "no xml", "<a/><b/>", "<a>&nbsp;</a>", "\0"])
def test_xml_that_is_not_well_formed_is_malformed(text: str) -> None:
    """A page cut in half is not mended: the missing half would be missed."""
    with pytest.raises(MalformedError):
        xml(text.encode())
