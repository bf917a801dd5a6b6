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
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from collectors.document import UserError

PROTOCOLS = ("full", "huang2024")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringProtocol:
    """How a corpus is cut into windows.

    Attributes:
        name: `full` scores every token of every document once, documents apart. `huang2024` joins
            the documents into one stream and leaves its first token and its tail unscored, as the
            paper's released code does.
        window: input tokens a window may hold, the prefix counted.
        stride: targets that each window after the first scores.
    """

    name: str = "full"
    window: int = 1900
    stride: int = 512

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise UserError(f"protocol {self.name!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
        if not all(type(value) is int for value in (self.window, self.stride)):
            raise UserError(f"window {self.window!r} and stride {self.stride!r} must be whole numbers")
        if not 1 <= self.stride < self.window:
            raise UserError(
                f"stride {self.stride} must be at least 1 and less than the window of {self.window} tokens"
            )

    def __str__(self) -> str:
        return f"{self.name}/{self.window}/{self.stride}"

    def within(self, context_length: int | None) -> "ScoringProtocol":
        """Return the protocol with its window cut to a model's context, the stride in proportion."""
        if context_length is None or self.window <= context_length:
            return self
        if context_length < 2:
            raise UserError(
                f"a context of {context_length} token cannot be scored in windows; two are needed"
            )
        stride = max(1, self.stride * context_length // self.window)
        return replace(self, window=context_length, stride=stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Inputs `tokens[begin : end - 1]`, behind the prefix if there is one; targets `tokens[first : end]`."""

    begin: int
    first: int
    end: int

    @property
    def n_targets(self) -> int:
        """Number of tokens that this window scores."""
        return self.end - self.first


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
