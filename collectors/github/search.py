"""Finding repositories with GitHub's search, which shows at most a thousand of what it finds.

A search that finds more is cut in two by date, down to the second, and then by stars; all parts are
united by repository id, for the order of results is not stable and pages repeat and miss rows.
(REST API endpoints for search; Understanding the search syntax.)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from collectors.document import UserError
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import UnavailableError

CAP = 1_000
PER_PAGE = 100
CUTS = 4
"""How often in a row a part is cut because its answers were incomplete or lacked rows."""

_INCOMPLETE = "incomplete_results"
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a search: dates and stars, both ends included, None for no end.

    Attributes:
        first: earliest date.
        last: latest date.
        step: of a part without a latest date, the length of what is cut off it.
        stars: fewest stars.
        most_stars: most stars.
    """

    first: datetime
    last: datetime | None
    step: timedelta
    stars: int
    most_stars: int | None = None

    def qualifiers(self, by: str) -> str:
        """Return the part in the syntax of the search."""
        last = _moment(self.last) if self.last else "*"
        most = "*" if self.most_stars is None else self.most_stars
        return f"{by}:{_moment(self.first)}..{last} stars:{self.stars}..{most}"

    def halves(self) -> tuple["Part", "Part"] | None:
        """Return two parts that make up this one, or None for one second and one number of stars."""
        if self.last is None:
            middle = self.first + self.step
            return (
                replace(self, last=middle - _SECOND),
                replace(self, first=middle, step=2 * self.step),
            )
        if self.last > self.first:
            middle = self.first + (self.last - self.first) // 2
            middle = middle.replace(microsecond=0)
            return replace(self, last=middle), replace(self, first=middle + _SECOND)
        if self.most_stars is None:
            return replace(self, most_stars=2 * self.stars), replace(self, stars=2 * self.stars + 1)
        if self.most_stars > self.stars:
            few = (self.stars + self.most_stars) // 2
            return replace(self, most_stars=few), replace(self, stars=few + 1)
        return None


def search(fetcher: Fetcher, fixed: str, by: str, parts: list[Part]) -> dict[int, dict[str, Any]]:
    """Return the repositories that a search finds, as the interface describes them, by id.

    What could not be had is noted as a gap.

    Args:
        fetcher: asks.
        fixed: qualifiers of the whole search.
        by: `created` or `pushed`.
        parts: what to search in.

    Raises:
        UserError: when GitHub does not accept the search.
    """
    found: dict[int, dict[str, Any]] = {}
    todo = [(part, CUTS) for part in reversed(parts)]
    while todo:
        part, cuts = todo.pop()
        query = f"{fixed} {part.qualifiers(by)}"
        halves = part.halves()
        here, total, missing = _results(fetcher, query, CAP if halves else None)
        found |= here
        if halves and (total > CAP or (missing and cuts)):
            todo += [(half, cuts - (total <= CAP)) for half in reversed(halves)]
        elif missing:
            fetcher.gap(missing)
    return found


def _results(
    fetcher: Fetcher, query: str, bound: int | None
) -> tuple[dict[int, dict[str, Any]], int, str | UnavailableError]:
    """Return what a search shows, how much it finds, and what is missing where cutting it may help.

    A search that finds more than the bound is not read on.
    """
    here: dict[int, dict[str, Any]] = {}
    total = 0
    try:
        for total, items in _pages(fetcher, query):
            here |= {item["id"]: item for item in items}
            if bound is not None and total > bound:
                break
    except UnavailableError as error:
        if _INCOMPLETE in str(error):
            return here, total, error
        fetcher.gap(error)
        return here, total, ""
    return here, total, f"search {query}: {len(here)} of {total} repositories" if len(here) < total else ""


def _pages(fetcher: Fetcher, query: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield how many repositories a search finds and the next of them, page by page."""
    for number in range(1, CAP // PER_PAGE + 1):
        address = (
            f"https://api.github.com/search/repositories?q={quote(query, safe='')}&sort=stars&order=desc"
            f"&per_page={PER_PAGE}&page={number}"
        )
        record = fetcher.get(address, accept="application/vnd.github+json", robots=False, check=_wrong)
        if record.status != 200:
            if number > 1:  # the last page moved while we read
                return
            raise UserError(
                f"GitHub answers {record.status} to the search {query!r} ({_message(record)}); correct the settings "
                "of the snapshot"
            )
        answer = json.loads(record.payload)
        yield answer["total_count"], answer["items"]
        if number * PER_PAGE >= answer["total_count"]:
            return


def _wrong(record: Record) -> str:
    try:
        answer = json.loads(record.payload)
        items, total = answer["items"], answer["total_count"]
        if not isinstance(total, int) or not all(isinstance(item["id"], int) for item in items):
            return "it is no search result"
        return _INCOMPLETE if answer["incomplete_results"] else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it is no search result"


def _message(record: Record) -> str:
    try:
        answer = json.loads(record.payload)
    except (ValueError, RecursionError):
        answer = {}
    message = answer.get("message", "") if isinstance(answer, Mapping) else ""
    return " ".join(str(message).split())[:200] or "it says nothing"


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}"
