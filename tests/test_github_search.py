"""Finding every repository through a search that shows a thousand."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collectors.document import UserError
from collectors.github import source as github
from collectors.github.search import CAP, Part, search
from collectors.request import Request
from samples import InstantClock, fetching
from world import Answer, Asked, World

SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
REQUEST = Request(name="s", source="github", content="code", since=SINCE, until=UNTIL, settings={})
WHOLE = Part(first=SINCE, last=UNTIL - timedelta(seconds=1), step=UNTIL - SINCE, stars=10)
Row = tuple[datetime, int]


def rows(count: int) -> list[Row]:
    """Return dates and stars, spread evenly over the window."""
    return [(SINCE + k * (UNTIL - SINCE) / count, 10 + k % 90) for k in range(count)]


class Search:
    """GitHub's search over made-up repositories: it counts all that it finds and shows a thousand."""

    def __init__(
        self, repositories: list[Row], spoil: Callable[[Asked, dict[str, Any]], Any] | None = None
    ) -> None:
        self.repositories = repositories
        self.spoil = spoil
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> Answer:
        """Answer as documented: a page of what matches, or 422 beyond the thousandth result."""
        self.asked.append(asked)
        page = int(asked.query["page"])
        if page * 100 > CAP:
            return Answer(body=b'{"message": "Only the first 1000 search results are available"}', status=422)
        query = asked.query["q"]
        dates = re.search(r"(?:created|pushed):(\S+Z)\.\.(\S+Z|\*)", query)
        stars = re.search(r"stars:(\d+)\.\.(\d+|\*)", query)
        assert dates
        assert stars
        first, last = (datetime.fromisoformat(d) if d != "*" else None for d in dates.groups())
        fewest, most = (int(n) if n != "*" else 10**9 for n in stars.groups())
        found = [
            {"id": k, "full_name": f"o/r{k}"}
            for k, (date, n) in enumerate(self.repositories)
            if (first is None or date >= first)
            and (last is None or date < last + timedelta(seconds=1))
            and fewest <= n <= most
        ]
        answer = {
            "total_count": len(found),
            "incomplete_results": False,
            "items": found[(page - 1) * 100 : page * 100],
        }
        made = self.spoil(asked, answer) if self.spoil else None
        if isinstance(made, Answer):
            return made
        return Answer(body=json.dumps(answer).encode(), media_type="application/json")


def found(
    folder: Path, world: World, api: Search, *parts: Part, **more: str
) -> tuple[set[int], list[str], InstantClock]:
    """Search, and return the ids, the gaps and the clock."""
    world.on("api.github.com", "/search/repositories", api)
    clock = InstantClock()
    with fetching(folder, world, REQUEST, github, clock, **more) as fetcher:
        ids = set(search(fetcher, "language:python", "pushed", list(parts) or [WHOLE]))
        assert set(fetcher.failures) <= set(fetcher.gaps)
        return ids, fetcher.gaps, clock


def test_a_search_below_the_cap_is_read_page_by_page(tmp_path: Path, world: World) -> None:
    """A hundred at a time, and no page too many."""
    api = Search(rows(250))
    assert found(tmp_path, world, api)[:2] == (set(range(250)), [])
    assert [asked.query["page"] for asked in api.asked] == ["1", "2", "3"]
    assert api.asked[0].query["q"] == (
        "language:python pushed:2026-10-01T00:00:00Z..2026-10-31T23:59:59Z stars:10..*"
    )


def test_a_search_above_the_cap_is_cut_until_all_is_seen(tmp_path: Path, world: World) -> None:
    """Nothing is lost and nothing counted twice, however it is spread."""
    crowd = [(SINCE + timedelta(hours=5, seconds=k % 60), 10) for k in range(1_500)]
    api = Search(rows(2_600) + crowd)
    assert found(tmp_path, world, api)[:2] == (set(range(4_100)), [])


def test_a_crowded_second_is_cut_by_stars(tmp_path: Path, world: World) -> None:
    """Bots create thousands at once."""
    api = Search([(SINCE, 10 + k % 40) for k in range(2_500)])
    assert found(tmp_path, world, api)[:2] == (set(range(2_500)), [])


def test_what_cannot_be_cut_further_is_a_gap(tmp_path: Path, world: World) -> None:
    """More than a thousand in one second with the same stars cannot all be seen."""
    ids, gaps, _ = found(tmp_path, world, Search([(SINCE, 10)] * 1_200))
    assert len(ids) == 1_000
    assert len(gaps) == 1
    assert gaps[0].endswith("T00:00:00Z stars:10..10: 1000 of 1200 repositories")


def test_a_part_without_end_is_cut_too(tmp_path: Path, world: World) -> None:
    """The latest push may be long after the window; no clock is needed to find where it ends."""
    later = [(UNTIL + timedelta(days=k / 7), 10) for k in range(1_800)]
    api = Search(later)
    open_end = Part(first=UNTIL, last=None, step=UNTIL - SINCE, stars=10)
    assert found(tmp_path, world, api, open_end)[:2] == (set(range(1_800)), [])


def test_incomplete_results_are_asked_for_again(tmp_path: Path, world: World) -> None:
    """A time-out of theirs is not an answer."""

    def spoil(_: Asked, answer: dict[str, Any]) -> None:
        answer["incomplete_results"] = len(api.asked) == 1

    api = Search(rows(30), spoil)
    ids, gaps, clock = found(tmp_path, world, api)
    assert (ids, gaps) == (set(range(30)), [])
    assert clock.slept


def test_results_that_stay_incomplete_are_cut(tmp_path: Path, world: World) -> None:
    """A narrower search is easier to answer."""

    def spoil(asked: Asked, answer: dict[str, Any]) -> None:
        answer["incomplete_results"] = "01T00:00:00Z..2026-10-31T23:59:59Z" in asked.query["q"]

    assert found(tmp_path, world, Search(rows(30), spoil))[:2] == (set(range(30)), [])


def test_results_that_are_never_complete_are_a_gap(tmp_path: Path, world: World) -> None:
    """Another run may have them, and cutting ends before it has asked for every second."""

    def spoil(_: Asked, answer: dict[str, Any]) -> None:
        answer["incomplete_results"] = True

    api = Search(rows(30), spoil)
    ids, gaps, _ = found(tmp_path, world, api)
    assert (ids, bool(gaps)) == (set(), True)
    assert len(api.asked) < 300


def test_rows_that_pages_repeat_and_miss_are_found_by_cutting(tmp_path: Path, world: World) -> None:
    """The order of results changes between two pages."""

    def spoil(asked: Asked, answer: dict[str, Any]) -> None:
        if answer["total_count"] > 150 and asked.query["page"] == "2":
            answer["items"][:20] = [{"id": k, "full_name": f"o/r{k}"} for k in range(20)]

    assert found(tmp_path, world, Search(rows(200), spoil))[:2] == (set(range(200)), [])


def test_rows_that_stay_missing_are_a_gap(tmp_path: Path, world: World) -> None:
    """The count says more than the pages show."""

    def spoil(_: Asked, answer: dict[str, Any]) -> None:
        answer["total_count"] += 1

    ids, gaps, _ = found(tmp_path, world, Search([(SINCE, 10)], spoil))
    assert ids == {0}
    assert any("1 of 2 repositories" in gap for gap in gaps)


def test_a_bare_403_is_waited_out(tmp_path: Path, world: World) -> None:
    """A secondary limit without a word of explanation takes a minute at least."""

    def spoil(_: Asked, __: dict[str, Any]) -> Answer | None:
        return Answer(body=b"", status=403) if len(api.asked) == 1 else None

    api = Search(rows(5), spoil)
    ids, gaps, clock = found(tmp_path, world, api)
    assert (ids, gaps) == (set(range(5)), [])
    assert sum(clock.slept) >= 60


def test_a_search_that_github_refuses_is_the_users(tmp_path: Path, world: World) -> None:
    """One line, with what GitHub says."""

    def spoil(_: Asked, __: dict[str, Any]) -> Answer:
        return Answer(body=b'{"message": "Validation\\n Failed"}', status=422)

    with pytest.raises(UserError, match=r"answers 422 .* \(Validation Failed\); correct the settings"):
        found(tmp_path, world, Search([], spoil))


def test_a_page_that_went_away_ends_the_reading(tmp_path: Path, world: World) -> None:
    """Results shrink while they are read; what is then missing is cut out of the rest."""

    def spoil(asked: Asked, answer: dict[str, Any]) -> Answer | None:
        if asked.query["page"] == "2" and answer["total_count"] == 150:
            return Answer(body=b'{"message": "gone"}', status=422)
        return None

    assert found(tmp_path, world, Search(rows(150), spoil))[:2] == (set(range(150)), [])


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"items": [{}], "total_count": 1}', b"[" * 99_999]
)
def test_what_is_no_search_result_is_asked_for_again(tmp_path: Path, world: World, body: bytes) -> None:
    """Then it is a gap that another run may fill."""
    ids, gaps, _ = found(tmp_path, world, Search([], lambda *_: Answer(body=body)))
    assert ids == set()
    assert "no search result" in gaps[0]


def test_the_token_goes_along_when_there_is_one(tmp_path: Path, world: World) -> None:
    """And without one the search works too."""
    api = Search(rows(1))
    found(tmp_path / "a", world, api)
    found(tmp_path / "b", world, api, GITHUB_TOKEN="made-up-for-this-test")
    assert [asked.headers.get("authorization") for asked in api.asked] == [
        None,
        "Bearer made-up-for-this-test",
    ]
