"""What a source of text must provide, and the table of sources.

A source is a module. Adding one takes its file, a fixture pair and a line in `SOURCES`.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from collectors import packages
from collectors.document import Document, RawRecord, UserError
from collectors.snapshot import Request, Resource


class Source(Protocol):
    """A module that turns a part of the world into documents."""

    @property
    def VERSION(self) -> str:  # noqa: N802  a module's constant
        """Name and version of the source; raise it when the same raw bytes give other documents."""

    @property
    def NETWORK(self) -> bool:  # noqa: N802
        """Whether `collect` goes to the web, which needs FRESHBITS_NETWORK=1."""

    def collect(self, request: Request) -> Iterator[Resource]:
        """Yield the raw bytes that answer a request, in a deterministic order where the world allows."""

    def extract(self, records: Iterable[tuple[RawRecord, Resource]], request: Request) -> Iterator[Document]:
        """Yield the documents in raw records. Pure: no network, no clock, no installed state."""


SOURCES: dict[str, Source] = {
    "packages": packages,
}


def source(name: str) -> Source:
    """Return the source of that name.

    Raises:
        UserError: when there is none.
    """
    if name not in SOURCES:
        raise UserError(f"source {name!r} is unknown; choose one of {', '.join(SOURCES)}")
    return SOURCES[name]
