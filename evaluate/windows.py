"""Which tokens are scored with which context: pure arithmetic, no text and no model.

A window of capacity W reads at most W input tokens and scores the targets that follow its last
inputs. Consecutive windows advance by a stride S, so that every target but the first ones is
predicted from at least W - S + 1 tokens (one less where a prefix takes a place):

    tokens    0 1 2 3 4 5 6 7 8 9        W = 4, S = 2, no prefix
    window 0  i i i i                    scores 1 2 3 4
    window 1      i i i i                scores 5 6
    window 2          i i i i            scores 7 8
    window 3            i i i i          scores 9, with all the context that fits

The window of 1900 and the stride of 512 are those of Huang et al. 2024 (arXiv 2404.09937),
section 3.2 and appendix A.1.

Under `sink` the same windows of a document follow each other through one cache, so that each token
is read once: as in Xiao et al. 2023 (StreamingLLM, arXiv 2309.17453) the cache keeps the first few
tokens, on which attention rests, and the latest ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from collectors.document import UserError

PROTOCOLS = ("full", "huang2024", "sink")

# Windows that one cache runs through before a document is read afresh. It bounds the positions that
# a model is shown, and what a killed run loses; reading afresh costs 4 % of a long document.
SEGMENT_WINDOWS = 64

# The furthest position that a segment shows a model: one of the paper's windows with all its strides.
FURTHEST = 1900 + 512 * SEGMENT_WINDOWS

# Tokens that never leave the cache. Four restore what a cache without them loses (Xiao et al. 2023,
# table 2); more bring nothing.
SINKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringProtocol:
    """How a corpus is cut into windows.

    Attributes:
        name: `full` scores every token of every document once, documents apart. `huang2024` joins
            the documents into one stream and leaves its first token and its tail unscored, as the
            paper's released code does. `sink` scores what `full` scores, approximately, and reads
            every token once.
        window: input tokens a window, or the cache of `sink`, may hold, the prefix counted.
        stride: targets that each window after the first scores; equal to the window, windows do not
            overlap.
    """

    name: str = "full"
    window: int = 1900
    stride: int = 512

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise UserError(f"protocol {self.name!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
        if not all(type(value) is int for value in (self.window, self.stride)):
            raise UserError(f"window {self.window!r} and stride {self.stride!r} must be whole numbers")
        if not 1 <= self.stride <= self.window or self.window < 2:
            raise UserError(
                f"stride {self.stride} must be at least 1 and at most the window of {self.window} tokens, which "
                "must be at least 2"
            )
        if self.name == "sink" and self.stride + SINKS >= self.window:
            raise UserError(
                f"protocol sink keeps {SINKS} tokens and reads {self.stride} at a time, which leaves nothing of a "
                f"window of {self.window}; choose a larger window or a smaller stride"
            )

    def __str__(self) -> str:
        return f"{self.name}/{self.window}/{self.stride}"

    def within(self, context_length: int | None) -> "ScoringProtocol":
        """Return the protocol with its window cut to a model's context, the stride in proportion.

        A context that leaves `sink` nothing beside its sinks is scored under `full`.
        """
        if context_length is None or self.window <= context_length:
            return self
        if context_length < 2:
            raise UserError(
                f"a context of {context_length} token cannot be scored in windows; two are needed"
            )
        stride = max(1, self.stride * context_length // self.window)
        name = "full" if self.name == "sink" and stride + SINKS >= context_length else self.name
        return replace(self, name=name, window=context_length, stride=stride)

    @property
    def exact(self) -> "ScoringProtocol":
        """The protocol that this one approximates; itself where it is exact."""
        return replace(self, name="full") if self.name == "sink" else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Inputs `tokens[begin : end - 1]`, behind the prefix if there is one; targets `tokens[first : end]`.

    Under `sink` a window is a segment: as many windows as one cache runs through.
    """

    begin: int
    first: int
    end: int

    @property
    def n_targets(self) -> int:
        """Number of tokens that this window scores."""
        return self.end - self.first

    @property
    def n_inputs(self) -> int:
        """Number of tokens that are read for it, the prefix not counted."""
        return self.end - 1 - self.begin


def full_windows(n_tokens: int, protocol: ScoringProtocol, *, prefix: bool) -> Iterator[Window]:
    """Yield windows that score every token of a document exactly once.

    Args:
        n_tokens: tokens in the document, the prefix not counted.
        protocol: window and stride.
        prefix: whether a token that is never scored stands at the head of every window. Without
            one, token 0 has no context and belongs to no window: its cost is log2 of the
            vocabulary (see `likelihood`).
    """
    room = protocol.window - prefix
    first, end = (0 if prefix else 1), min(n_tokens, room + 1)
    while first < end:
        yield Window(begin=max(0, end - 1 - room), first=first, end=end)
        first, end = end, min(n_tokens, end + protocol.stride)


def sink_segments(n_tokens: int, protocol: ScoringProtocol, *, prefix: bool) -> Iterator[Window]:
    """Yield the windows of `full_windows`, up to `SEGMENT_WINDOWS` of them joined to one segment."""
    windows = full_windows(n_tokens, protocol, prefix=prefix)
    n = max(1, min(SEGMENT_WINDOWS, (FURTHEST - protocol.window) // protocol.stride))
    while part := list(islice(windows, n)):
        yield Window(begin=part[0].begin, first=part[0].first, end=part[-1].end)


def huang2024_windows(n_tokens: int, protocol: ScoringProtocol) -> Iterator[Window]:
    """Yield the windows of the released code of Huang et al. 2024 over one stream of tokens.

    Blocks of W + 1 tokens start at multiples of S. The first scores its W targets, each later one
    its last S. There are floor((N - W - 1) / S) + 1 of them, so token 0 and a tail of up to S - 1
    tokens are never scored (`code_windows` in the paper's released `packed_dataset.py`).
    """
    block = protocol.window + 1
    for begin in range(0, n_tokens - block + 1, protocol.stride):
        end = begin + block
        yield Window(begin=begin, first=1 if begin == 0 else end - protocol.stride, end=end)
