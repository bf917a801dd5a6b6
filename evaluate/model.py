"""What every backend must promise, and what scoring returns."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Evidence = Literal["declared", "release", "unknown"]
Freshness = Literal["after", "not-after", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What stands before the first token of a document, at the head of every window, never scored.

    It decides the number: Gemma reads 1.55 bits per character on news without its BOS and 0.92 with
    it, a Qwen2.5 a quarter worse with a prefix forced on it.

    Attributes:
        kind: `bos` where the tokenizer itself adds one, `separator` where the model's entry names
            the token that stood between documents in training, `none` otherwise.
        token: its id, None for `none`.
        text: the token as the tokenizer writes it.
    """

    kind: Literal["bos", "separator", "none"]
    token: int | None
    text: str = ""

    def __str__(self) -> str:
        return self.kind if self.token is None else f"{self.kind} {self.text} ({self.token})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What can move a rate although the model is no better: named in every row of scores.

    Attributes:
        dtype: precision of weights and activations, such as `float32`; what the file or server says.
        quantization: how the weights are quantised, empty where they are not.
        device: type of the device, such as `cpu` or `cuda`.
        attention: implementation of attention, such as `sdpa`; empty where the backend does not say.
        unused_ids: rows of the output layer that no token of the tokenizer has. The probability that
            a model spends on them is lost.
        softcap: bound of its soft-capped logits, None without one.
        tied_embeddings: whether the output layer is the embedding; None where it cannot be known.
        special_text: how text that spells a special token is read: always `plain`, as characters.
    """

    dtype: str
    quantization: str = ""
    device: str = "cpu"
    attention: str = ""
    unused_ids: int = 0
    softcap: float | None = None
    tied_embeddings: bool | None = None
    special_text: str = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoff:
    """When a model's training text ends, as far as anybody says so.

    Attributes:
        date: ISO day, month or year, all of which may be in the training text; empty where it is unknown.
        evidence: `declared` by who trained it; `release` where only the release of the weights is dated,
            before which the training text ends; `unknown` without a date.
        source: address of where that is said; empty where it is unknown.
    """

    date: str = ""
    evidence: Evidence = "unknown"
    source: str = ""

    @property
    def first_after(self) -> dt.date | None:
        """The first day (UTC) after the period that `date` names, None where it is unknown.

        Raises:
            ValueError: when `date` is no ISO day, month or year.
        """
        if not self.date:
            return None
        year, *rest = self.date.split("-")
        if not rest:
            return dt.date(int(year) + 1, 1, 1)
        if len(rest) == 1:
            return (dt.date(int(year), int(rest[0]), 1) + dt.timedelta(days=31)).replace(day=1)
        return dt.date.fromisoformat(self.date) + dt.timedelta(days=1)

    def freshness(self, since: str) -> Freshness:
        """Return whether text published from a day on postdates the cutoff.

        With evidence `release` the text may postdate it and still be `not-after`: nothing shows that it does.

        Args:
            since: first day of the publication window, ISO, UTC.
        """
        end = self.first_after
        if end is None:
            return "unknown"
        return "after" if dt.date.fromisoformat(since) >= end else "not-after"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model as `params.yaml` lists it.

    Attributes:
        slug: its key there, and the name of its folder of cells.
        backend: one of `backends.BACKENDS`.
        name: its published name, which joins it with benchmark scores.
        options: what the backend is told: `source`, `sha256`, `separator`, … or `codec`.
        family: of models that differ in size alone, for fits over a family; it changes no number.
        initializer_range: standard deviation of its weights before training, for the untrained twin of
            a model whose file does not say; it changes no score.
        training_flops: floating-point operations spent on training it, in any unit shared by all models;
            predictions from distances are held against those from it.
        cutoff: when its training text ends; it changes no number, but decides which of them enter fits.
        price: what an hour or a million tokens of it costs, for the estimate before scoring; it
            changes no number.
    """

    slug: str
    backend: str
    name: str = ""
    family: str = ""
    initializer_range: float | None = None
    training_flops: float | None = None
    cutoff: Cutoff = Cutoff()
    options: Mapping[str, Any] = field(default_factory=dict)
    price: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether its backend shows more than likelihoods: hidden states, distributions, continuations."""
        return self.backend == "transformers"


class LanguageModel(Protocol):
    """A causal language model with its tokenizer."""

    @property
    def name(self) -> str:
        """The name a person gave it."""

    @property
    def revision(self) -> str:
        """What identifies the weights: a commit or a digest."""

    @property
    def context_length(self) -> int | None:
        """The most input tokens it was built for, None where it has no limit."""

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids that stand for text, padding of the output layer not counted."""

    @property
    def prefix(self) -> Prefix:
        """What stands before the first token."""

    @property
    def conditions(self) -> Conditions:
        """What can move its numbers without the model being better."""

    @property
    def software(self) -> str:
        """Versions that its numbers depend on."""

    @property
    def batch_tokens(self) -> int:
        """Input tokens that a first batch may hold; fewer are tried when memory runs out."""

    @property
    def sink_refusal(self) -> str:
        """Why `sink_nll` is not valid for it, empty where it is."""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts as plain text: no token is added, and `<|endoftext|>` is thirteen characters."""

    def decode(self, tokens: Tokens) -> str:
        """Return the text that the tokens restore, nothing cleaned up."""

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Return -ln p of each target; every row is read on its own.

        Args:
            inputs: for each row its token ids, shape [length]; rows may differ in length.
            targets: for each row the tokens that follow its last inputs, shape [n], n <= length.

        Returns:
            Nats, shape [n] for each row.

        Raises:
            MemoryError: when the batch does not fit; the same rows in smaller batches may.
        """

    def sink_nll(
        self, inputs: Sequence[Tokens], targets: Sequence[Tokens], *, window: int, stride: int
    ) -> list[NDArray[np.float64]]:
        """Return -ln p of each target, every input read once through a cache of `window` tokens.

        The first `window` inputs are read at once, the rest in steps of `stride`; before each step the
        oldest tokens leave the cache, but for the first few, which serve as attention sinks.

        Raises:
            MemoryError: as `nll`.
            UserError: where `sink_refusal` says why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a model, or a compressor, pays for one document. Sums, never ratios: every rate is derived.

    Attributes:
        document: id of the document; empty for a whole corpus as one stream.
        nll: nats, those of the repair included.
        n_tokens: tokens that `nll` pays for; None for compressors.
        n_unscored: tokens of the document that nobody pays for: its first without context, a dropped tail.
        n_characters: Unicode code points of the original text.
        n_bytes: bytes of the original text in UTF-8.
        lossless: whether the tokens restore the text exactly.
        repair_nll: nats to mend what the tokens do not restore, 0 where they do.
        exact_nll: nats under the exact protocol, for documents sampled to measure how far `nll`, of an
            approximate protocol, deviates from it; None for all others.
    """

    document: str
    nll: float
    n_tokens: int | None
    n_unscored: int = 0
    n_characters: int
    n_bytes: int
    lossless: bool
    repair_nll: float = 0.0
    exact_nll: float | None = None
