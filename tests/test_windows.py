"""Which tokens are scored with which context."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate import windows
from evaluate.windows import SINKS, ScoringProtocol, full_windows, huang2024_windows, sink_segments


@st.composite
def protocols(draw: st.DrawFn) -> ScoringProtocol:
    """Draw any valid window and stride."""
    window = draw(st.integers(2, 40))
    return ScoringProtocol(window=window, stride=draw(st.integers(1, window)))


@given(n=st.integers(0, 300), protocol=protocols(), prefix=st.booleans())
def test_full_scores_every_token_exactly_once(n: int, protocol: ScoringProtocol, *, prefix: bool) -> None:
    """Targets follow each other without gap or overlap; only a first token without prefix is left out."""
    targets = [i for w in full_windows(n, protocol, prefix=prefix) for i in range(w.first, w.end)]
    assert targets == list(range(0 if prefix else 1, n))


@given(n=st.integers(0, 300), protocol=protocols(), prefix=st.booleans())
def test_full_keeps_within_the_window_and_its_promise(
    n: int, protocol: ScoringProtocol, *, prefix: bool
) -> None:
    """No window reads more than W tokens; no target sees less than all there is or W - S + 1 tokens."""
    for w in full_windows(n, protocol, prefix=prefix):
        assert w.begin >= 0
        assert w.end - 1 - w.begin + prefix <= protocol.window
        for target in range(w.first, w.end):
            context = target - w.begin + prefix
            assert context >= min(target + prefix, protocol.window - protocol.stride + 1)


@given(n=st.integers(0, 300), protocol=protocols())
def test_huang2024_windows_equal_the_described_arithmetic(n: int, protocol: ScoringProtocol) -> None:
    """Blocks of W + 1 at multiples of S, the first scored whole, later ones in their last S tokens."""
    w, s = protocol.window, protocol.stride
    cut = list(huang2024_windows(n, protocol))
    assert len(cut) == max(0, (n - (w + 1)) // s + 1 if n >= w + 1 else 0)
    for k, window in enumerate(cut):
        assert (window.begin, window.end) == (k * s, k * s + w + 1)
        assert window.n_targets == (w if k == 0 else s)
    scored = [i for window in cut for i in range(window.first, window.end)]
    assert scored == list(range(1, cut[-1].end if cut else 1))
    assert n - len(scored) - 1 < max(s, w + 1)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [(0, 0, 1)]),
        (3, [(0, 0, 3)]),
        (4, [(0, 0, 4)]),
        (5, [(0, 0, 4), (1, 4, 5)]),
        (7, [(0, 0, 4), (2, 4, 6), (3, 6, 7)]),
    ],
)
def test_full_around_the_window_with_a_prefix(n: int, expected: list[tuple[int, int, int]]) -> None:
    """Lengths around W = 4, S = 2: a short last window gets all the context that fits."""
    cut = full_windows(n, ScoringProtocol(window=4, stride=2), prefix=True)
    assert [(w.begin, w.first, w.end) for w in cut] == expected


def test_without_overlap_windows_stand_side_by_side() -> None:
    """A stride of the whole window reads every token once."""
    cut = full_windows(10, ScoringProtocol(window=4, stride=4), prefix=False)
    assert [(w.begin, w.first, w.end) for w in cut] == [(0, 1, 5), (4, 5, 9), (5, 9, 10)]


@given(
    n=st.integers(0, 300),
    window=st.integers(SINKS + 3, 40),
    segment=st.integers(1, 6),
    prefix=st.booleans(),
    data=st.data(),
)
def test_segments_score_what_full_scores_and_read_no_more_than_one_window_twice(
    n: int, window: int, segment: int, prefix: bool, data: st.DataObject
) -> None:
    """Each begins where its first window does; within it, every token is read once."""
    stride = data.draw(st.integers(1, window - SINKS - 1))
    protocol = ScoringProtocol(name="sink", window=window, stride=stride)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "SEGMENT_WINDOWS", segment)
        segments = list(sink_segments(n, protocol, prefix=prefix))
    cut = list(full_windows(n, protocol, prefix=prefix))
    assert [s.begin for s in segments] == [w.begin for w in cut[::segment]]
    assert [i for s in segments for i in range(s.first, s.end)] == [
        i for w in cut for i in range(w.first, w.end)
    ]
    assert all(s.n_targets <= window + (segment - 1) * stride for s in segments)
    for earlier, later in pairwise(segments):
        assert earlier.end - later.begin <= window


def test_a_short_context_shrinks_the_window_in_proportion() -> None:
    """The window becomes the context, the stride keeps its share, and the name says so."""
    assert str(ScoringProtocol().within(1024)) == "full/1024/275"
    assert str(ScoringProtocol().within(None)) == "full/1900/512"
    assert str(ScoringProtocol(window=9, stride=8).within(2)) == "full/2/1"


def test_the_protocol_that_sink_approximates_is_full() -> None:
    """With the same window and stride; the others approximate nothing."""
    assert str(ScoringProtocol(name="sink", window=100, stride=20).exact) == "full/100/20"
    assert str(ScoringProtocol(name="huang2024").exact) == "huang2024/1900/512"


@pytest.mark.parametrize(("window", "stride"), [(10, 0), (10, 11), (1, 1)])
def test_impossible_strides_are_refused(window: int, stride: int) -> None:
    """A stride above the window would leave out tokens, and a window of one has no context."""
    with pytest.raises(UserError, match="stride"):
        ScoringProtocol(window=window, stride=stride)


@pytest.mark.parametrize("value", [10.0, True, "10", None])
def test_windows_and_strides_are_whole_numbers(value: object) -> None:
    """Whatever a file of parameters may hold."""
    with pytest.raises(UserError, match="must be whole numbers"):
        ScoringProtocol(window=value, stride=5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must be whole numbers"):
        ScoringProtocol(window=20, stride=value)  # type: ignore[arg-type]


def test_unknown_protocols_are_refused() -> None:
    """The message names the value and the choices."""
    with pytest.raises(UserError, match="'sliding' is unknown; choose one of full, huang2024, sink"):
        ScoringProtocol(name="sliding")


def test_a_context_of_one_token_cannot_be_scored() -> None:
    """It would have no room for a target's context."""
    with pytest.raises(UserError, match="a context of 1 token cannot be scored"):
        ScoringProtocol().within(1)
