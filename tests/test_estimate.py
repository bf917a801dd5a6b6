"""What scoring will take, against counts by hand."""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluate import estimate, stopping
from evaluate.backends.compressors import likelihoods
from evaluate.model import Tokens
from evaluate.windows import SEGMENT_WINDOWS, ScoringProtocol
from samples import ByteModel

SINK = ScoringProtocol(name="sink", window=100, stride=20)


def read(name: str, lengths: Sequence[int], protocol: ScoringProtocol = SINK, *, prefix: bool = False) -> int:
    """Return how many tokens an estimate says are read of documents of so many tokens."""
    documents = [(str(i), "x" * length) for i, length in enumerate(lengths)]
    (line,) = estimate.estimates(
        documents,
        protocol,
        tokens_per_character=1.0,
        seconds_per_token={name: 0.0},
        prefix=prefix,
        precision=None,
        price={},
    )
    return int(line.removeprefix(f"{name}: reads ").split(" tokens")[0].replace(",", ""))


def windows_after_the_first(n: int) -> int:
    """Return the steps that a document with `n` tokens to read takes beyond its first window."""
    return max(0, math.ceil((n - SINK.window) / SINK.stride))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5), st.booleans())
def test_the_exact_protocol_reads_a_window_per_stride(lengths: list[int], prefix: bool) -> None:
    """All of a first window, and a whole one again for every further stride; the last token is never read."""
    to_read = [max(0, length - 1 + (prefix and length > 0)) for length in lengths]
    expected = sum(min(n, 100) + 100 * windows_after_the_first(n) for n in to_read)
    assert read("full", lengths, prefix=prefix) == expected


@given(st.lists(st.integers(0, 100 + 20 * (SEGMENT_WINDOWS - 1)), min_size=1, max_size=5), st.booleans())
def test_sink_reads_every_token_once(lengths: list[int], prefix: bool) -> None:
    """As long as one cache runs through a document."""
    assert read("sink", lengths, prefix=prefix) == sum(
        max(0, length - 1 + (prefix and length > 0)) for length in lengths
    )


@pytest.mark.parametrize("segments", [2, 3, 7])
def test_sink_reads_a_window_again_for_each_segment(segments: int) -> None:
    """All but a stride of it was read before."""
    length = 100 + 20 * (SEGMENT_WINDOWS * segments - 1) + 1
    assert read("sink", [length]) == length - 1 + (segments - 1) * (100 - 20)


def test_huang2024_reads_one_stream() -> None:
    """Documents are joined, so that short ones cost as much as their tokens in a long one; the tail is not read."""
    protocol = ScoringProtocol(name="huang2024", window=100, stride=20)
    assert read("huang2024", [10] * 50, protocol) == (1 + (500 - 101) // 20) * 100


def test_a_line_says_how_long_and_what_it_costs() -> None:
    """Hours are of each worker and cost for all of them; a token is paid for when it is read."""

    def line(price: dict[str, float], workers: int = 1) -> str:
        (found,) = estimate.estimates(
            [("a", "x" * 1_800_001)],
            SINK,
            tokens_per_character=0.5,
            seconds_per_token={"full": 0.002},
            prefix=False,
            precision=None,
            price=price,
            workers=workers,
        )
        return found

    reads = "full: reads 4,499,600 tokens"
    assert line({}) == f"{reads}, about 2.5 h"
    assert line({}, workers=2) == f"{reads}, about 75 min"
    assert line({"per_hour": 4.0}) == f"{reads}, about 2.5 h, cost 10.00"
    assert line({"per_hour": 4.0}, workers=2) == f"{reads}, about 75 min, cost 10.00"
    assert line({"per_million_tokens": 2.0}) == f"{reads}, about 2.5 h, cost 9.00"
    assert line({"per_hour": 4.0, "per_million_tokens": 2.0}) == f"{reads}, about 2.5 h, cost 19.00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min"),
        (7000, "117 min"),
        (7200, "2.0 h"),
        (1e6, "277.8 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    """Seconds, then minutes, then hours."""
    assert estimate._duration(seconds / 3600) == text


def test_a_precision_reads_its_share() -> None:
    """As many documents as it would take if they varied as they do under gzip."""
    documents = [(str(i), "".join(chr(97 + j % (2 + i % 9)) for j in range(200 + 7 * i))) for i in range(150)]
    alone, _ = likelihoods("gzip", documents)
    wanted = stopping.expected_documents(alone, [len(text) for _, text in documents], "character", 0.1)
    assert stopping.FIRST_LOOK <= wanted < 150
    lines = estimate.estimates(
        [("empty", ""), *documents[:75], ("empty", ""), *documents[75:]],
        SINK,
        tokens_per_character=1.0,
        seconds_per_token={"full": 1.0, "sink": 0.5},
        prefix=False,
        precision=0.1,
        price={},
    )
    tokens = sum(len(text) - 1 for _, text in documents)
    assert [line.split(": reads")[0] for line in lines[:2]] == ["full", "sink"]
    assert lines[1].startswith(f"sink: reads {tokens:,} tokens, about ")
    found, n = (
        lines[3].removeprefix("sink to 0.1, likely after ").split(" documents: reads ")[0].split(" of ")
    )
    assert int(n) == 152
    assert abs(int(found) - wanted) <= wanted * (stopping.GROWTH - 1)
    assert f"reads {round(tokens * int(found) / 152):,} tokens" in lines[3]


def test_a_precision_is_estimated_although_the_first_thousands_are_empty() -> None:
    """A corpus with nothing but empty documents at its head is one all the same."""
    lines = estimate.estimates(
        [*((str(i), "") for i in range(2100)), ("a", "text " * 9), ("b", "word " * 9)],
        SINK,
        tokens_per_character=1.0,
        seconds_per_token={"full": 1.0},
        prefix=False,
        precision=0.1,
        price={},
    )
    assert len(lines) == 2


@pytest.mark.parametrize("precision", [None, 0.01])
def test_what_was_not_timed_is_not_estimated(precision: float | None) -> None:
    """Nothing is said about small texts."""
    assert (
        estimate.estimates(
            [("a", "text")],
            SINK,
            tokens_per_character=1.0,
            seconds_per_token={},
            prefix=True,
            precision=precision,
            price={"per_hour": 1.0},
        )
        == []
    )


def test_the_sample_is_the_beginning() -> None:
    """Enough of it, and no more."""
    assert estimate.sample_of(["ab", "", "cd"]) == "ab\n\n\n\ncd"
    assert estimate.sample_of([]) == ""
    assert len(estimate.sample_of(["x" * 200_000, "y"])) == estimate._SAMPLE
    assert len(estimate.sample_of(["x"] * 100_000)) < 3 * estimate._SAMPLE


def test_tokens_per_character_are_counted() -> None:
    """In bytes here."""
    assert estimate.tokens_per_character(ByteModel(), "żółw") == 7 / 4
    assert estimate.tokens_per_character(ByteModel(), "") == 0


class Timed(ByteModel):
    """A model that takes a second for each token it reads, by a clock of its own."""

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        CLOCK[0] += sum(map(len, inputs))
        return [np.zeros(len(row)) for row in targets]

    def sink_nll(
        self, inputs: Sequence[Tokens], targets: Sequence[Tokens], *, window: int, stride: int
    ) -> list[NDArray[np.float64]]:
        assert (window, stride) == (SINK.window, SINK.stride)
        CLOCK[0] += sum(map(len, inputs)) + EXTRA[0] * stride
        return [np.zeros(len(row)) for row in targets]


CLOCK, EXTRA = [0.0], [0.0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passes where tokens are read."""
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: CLOCK[0]))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("extra", [0.0, 0.5])
def test_a_token_takes_what_a_window_takes(extra: float) -> None:
    """For sink, what a step takes after the first window is read."""
    EXTRA[0] = extra
    seconds = estimate.seconds_per_token(Timed(), "x" * 500, SINK)
    assert seconds == {"full": 1.0, "sink": 1.0 + extra}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("model", "protocol", "names"),
    [
        (Timed, SINK, ["full", "sink"]),
        (Timed, SINK.exact, ["full"]),
        (Timed, ScoringProtocol(name="huang2024", window=100, stride=20), ["huang2024"]),
        (lambda: Timed(sink_refusal="learned positions"), SINK, ["full"]),
    ],
)
def test_only_what_may_be_scored_is_timed(
    model: Callable[[], ByteModel], protocol: ScoringProtocol, names: list[str]
) -> None:
    """Under its own name."""
    assert list(estimate.seconds_per_token(model(), "x" * 500, protocol)) == names


@pytest.mark.usefixtures("clock")
def test_too_little_text_is_not_timed() -> None:
    """A window and a stride of it at least."""
    assert estimate.seconds_per_token(Timed(), "x" * 120, SINK) == {}
    assert estimate.seconds_per_token(Timed(), "x" * 121, SINK) != {}
