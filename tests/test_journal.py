"""Finished batches survive a killed process."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.journal import journal


def _fill(path: Path, key: str, numbers: list[int]) -> dict[int, object]:
    with journal(path, key) as (done, add):
        before = dict(done)
        for number in numbers:
            add(number, [[number, number / 3]])
    return before


def test_results_come_back_under_the_same_key(tmp_path: Path) -> None:
    """Floats return to the bit, and nothing is lost between runs."""
    path = tmp_path / "deep" / "journal.jsonl"
    assert _fill(path, "a", [0, 1]) == {}
    assert _fill(path, "a", [2]) == {0: [[0, 0.0]], 1: [[1, 1 / 3]]}
    assert sorted(_fill(path, "a", [])) == [0, 1, 2]


def test_another_key_starts_afresh(tmp_path: Path) -> None:
    """Results of another model or corpus are never taken for these."""
    path = tmp_path / "journal.jsonl"
    _fill(path, "a", [0])
    assert _fill(path, "b", [5]) == {}
    assert list(_fill(path, "b", [])) == [5]


def test_no_path_keeps_nothing() -> None:
    """Without a file the journal is empty and takes anything."""
    with journal(None, "a") as (done, add):
        add(0, "x")
        assert done == {}


@given(cut=st.integers(0, 400), noise=st.binary(max_size=20))
def test_any_torn_end_is_cut_off(tmp_path_factory: object, cut: int, noise: bytes) -> None:
    """Whatever a kill leaves at the end, intact lines before it count and new ones are readable."""
    path = tmp_path_factory.mktemp("journal") / "j"  # type: ignore[attr-defined]
    _fill(path, "a", list(range(10)))
    lines = path.read_bytes().splitlines(keepends=True)
    torn = path.read_bytes()[:cut] + noise.replace(b"\n", b" ")
    path.write_bytes(torn)
    intact = sum(torn.startswith(b"".join(lines[: i + 1])) for i in range(len(lines)))
    assert sorted(_fill(path, "a", [99])) == list(range(max(0, intact - 1)))
    assert sorted(_fill(path, "a", [])) == [*range(max(0, intact - 1)), 99]


@pytest.mark.parametrize("damage", [b"7", b"{", b"\xff"])
def test_an_altered_line_is_cut_off_with_all_behind_it(tmp_path: Path, damage: bytes) -> None:
    """A line that still reads like a result is none, unless it is the one that was written."""
    path = tmp_path / "j"
    _fill(path, "a", list(range(4)))
    whole = path.read_bytes()
    place = whole.index(b"0.666") + 3
    path.write_bytes(whole[:place] + damage + whole[place + 1 :])
    assert sorted(_fill(path, "a", [])) == [0, 1]
