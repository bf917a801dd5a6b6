"""XML and archives from strangers, read in memory within bounds on size, depth and number."""

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from lxml import etree

MAX_XML_BYTES = 32 << 20
MAX_XML_ELEMENTS = 500_000
MAX_XML_DEPTH = 200
MAX_NAME = 1_024  # characters of a member's path
_CHUNK = 64 << 10
_TAR_BLOCK = 512


class UntrustedError(Exception):
    """Bytes from a stranger that are not read; the message says why, in one line."""


class HostileError(UntrustedError):
    """Bytes built to exhaust or to mislead, or beyond the bounds of this module."""


class MalformedError(UntrustedError):
    """Bytes that are truncated, damaged, or of another format."""


def xml(payload: bytes) -> Any:
    """Return the root element of an XML document.

    Nothing is loaded from elsewhere: no DTD, no external entity, no network. A document type without
    declarations of its own, as old feeds have it, passes.

    Raises:
        HostileError: when the document declares entities, or is larger than `MAX_XML_BYTES`, deeper than
            `MAX_XML_DEPTH`, or of more elements than `MAX_XML_ELEMENTS`.
        MalformedError: when it is not well-formed.
    """
    if len(payload) > MAX_XML_BYTES:
        raise HostileError(f"XML of {len(payload):,} bytes, more than {MAX_XML_BYTES:,}")
    parser = etree.XMLPullParser(
        events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    depth = elements = 0
    try:
        # In pieces, so that the bounds hold while the tree grows and not after.
        for start in range(0, len(payload), _CHUNK):
            parser.feed(payload[start : start + _CHUNK])
            for event, element in parser.read_events():
                if event == "end":
                    depth -= 1
                    continue
                depth += 1
                elements += 1
                if depth > MAX_XML_DEPTH or elements > MAX_XML_ELEMENTS:
                    raise HostileError(
                        f"XML deeper than {MAX_XML_DEPTH} or of more than {MAX_XML_ELEMENTS:,} elements"
                    )
                if elements == 1:
                    _refuse_declarations(element)
        return parser.close()
    except etree.XMLSyntaxError as error:
        message = str(error).splitlines()[0] if str(error) else "no XML"
        if "entity" in message.lower() and "amplification" in message:
            raise HostileError(f"XML that expands without bound: {message}") from error
        raise MalformedError(f"XML that is not well-formed: {message}") from error


def _refuse_declarations(root: Any) -> None:
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and (list(declared.iterentities()) or list(declared.iterelements())):
        raise HostileError("XML that declares entities or elements of its own")


def members(
    payload: bytes,
    *,
    max_bytes: int,
    max_members: int,
    wanted: Callable[[str], bool] = lambda _: True,
    name: str = "",
) -> dict[str, bytes]:
    """Return the regular files of a tar, tar.gz, gz or zip archive, by safe POSIX path, in archive order.

    The first bytes decide which it is. Left out are links, devices, absolute paths, paths with `..` or
    control characters, and every further member of a path that is taken already.

    Args:
        payload: the archive.
        max_bytes: how much may be decompressed, all members and headers together.
        max_members: how many members there may be, wanted or not.
        wanted: whether the member of a path is to be held in memory; the others are only counted.
        name: the path of the only member of a gz that holds no tar.

    Raises:
        HostileError: when a bound is exceeded; reading stops there.
        MalformedError: when the archive is truncated, damaged, encrypted, or none of these formats.
    """
    found: dict[str, bytes] = {}
    try:
        if payload.startswith(b"PK\x03\x04"):
            listing = _zip_members(payload, max_bytes, max_members)
        elif payload.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(payload)) as file:
                head = file.read(_TAR_BLOCK)
            unpacked = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(payload)), max_bytes)
            if not _is_tar(head):
                return {name: unpacked.read()}
            listing = _tar_members(unpacked, max_members)
        elif _is_tar(payload[:_TAR_BLOCK]):
            listing = _tar_members(_Bounded(io.BytesIO(payload), max_bytes), max_members)
        else:
            raise MalformedError("neither tar nor gzip nor zip")
        for path, read in listing:
            safe = _safe(path)
            if safe and safe not in found and wanted(safe):
                found[safe] = read()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise MalformedError(f"archive that is truncated or damaged: {_line(error)}") from error
    except (
        ValueError,
        LookupError,
        OverflowError,
        RecursionError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        # What the readers of the standard library let through for crafted headers and encrypted members.
        raise MalformedError(f"archive that cannot be read: {_line(error)}") from error
    return found


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Bounded(io.RawIOBase):
    """A reader that raises once more than so many bytes were read, before it holds them all."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        pieces = []
        while wanted and (piece := self._file.read(min(wanted, 1 << 20))):
            pieces.append(piece)
            wanted -= len(piece)
            self._left -= len(piece)
        if self._left < 0:
            raise HostileError(f"archive of more than {self._limit:,} bytes when decompressed")
        return b"".join(pieces)


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _tar_members(file: _Bounded, max_members: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    # As a stream: a header cannot send the reader backwards, and skipped members count too.
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for count, member in enumerate(archive):
            _count(count + 1, max_members)
            if member.isreg() and not member.issparse():
                yield member.name, lambda member=member: _tar_bytes(archive, member)  # type: ignore[misc]
    while file.read(_CHUNK):
        pass  # a gzip stream is checked against its digest only when it is read to its end


def _tar_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise EOFError(f"{member.name} ends early")
    return data


def _zip_members(
    payload: bytes, max_bytes: int, max_members: int
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    _count(payload.count(b"PK\x01\x02"), max_members)  # before the directory is read into memory
    left = max_bytes
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir() or kind not in {0, stat.S_IFREG}:
                continue
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise MalformedError(
                    "zip archive with a rare compression"
                )  # one that takes what memory it names

            def read(member: zipfile.ZipInfo = member) -> bytes:
                nonlocal left
                with archive.open(member) as file:
                    data = _Bounded(file, left).read()  # type: ignore[arg-type]
                left -= len(data)
                return data

            yield member.filename, read


def _count(number: int, limit: int) -> None:
    if number > limit:
        raise HostileError(f"archive of more than {limit:,} members")


def _safe(path: str) -> str:
    """Return a relative POSIX path without `.` parts, or an empty string for one that leads elsewhere."""
    path = path.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        return ""
    if len(path) > MAX_NAME or not path.isprintable():
        return ""
    return "/".join(parts)
