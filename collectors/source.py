"""What a source of text must provide, and the table of sources.

A source is a module. Adding one takes its file, a fixture pair and a line in `SOURCES`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

from collectors import packages
from collectors.arxiv import source as arxiv
from collectors.document import Document, RawRecord, UserError
from collectors.github import source as github
from collectors.imported import folder as imported
from collectors.imported import hub
from collectors.news import source as news
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit


class Source(Protocol):
    """A module that turns a part of the world into documents. The first line of its docstring says which."""

    @property
    def VERSION(self) -> str:  # noqa: N802  a module's constant
        """Name and version of the source; raise it when the same raw bytes give other documents."""

    @property
    def NETWORK(self) -> bool:  # noqa: N802
        """Whether `collect` goes to the web, which needs FRESHBITS_NETWORK=1 and a contact."""

    @property
    def POLLS(self) -> bool:  # noqa: N802
        """Whether it is asked in rounds while the window is open, because the past is not to be had later."""

    @property
    def CONTENT(self) -> str:  # noqa: N802
        """The profile of filters for a first look, which has no entry in `params.yaml`."""

    @property
    def TOKENS(self) -> Mapping[str, str]:  # noqa: N802
        """Environment variables with bearer tokens, by host; none is ever required."""

    @property
    def LIMITS(self) -> Mapping[str, Limit]:  # noqa: N802
        """How often hosts may be asked, by host or parent domain."""

    @property
    def SETTINGS(self) -> Mapping[str, Any]:  # noqa: N802
        """What an entry in `params.yaml` may set, with the defaults."""

    def lag(self, request: Request, /) -> timedelta:
        """Return how long after the end of a request's window the last of its documents come to light."""

    def collect(self, request: Request, fetcher: Fetcher, /) -> None:
        """Ask the world for what answers a request; all that the fetcher gets is kept.

        A function of the answers alone, for it is run again from the top to resume.
        """

    def extract(
        self, records: Iterable[tuple[RawRecord, Record]], request: Request, workers: int, /
    ) -> Iterator[Document]:
        """Yield the documents in raw records. Pure: no network, no clock, no installed state.

        A document that must not be used comes with its `drop_reason`.
        """


SOURCES: dict[str, Source] = {
    "arxiv": arxiv,
    "github": github,
    "hub": hub,
    "imported": imported,
    "news": news,
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
