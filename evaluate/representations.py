"""How far a model compresses what it represents: matrix entropy of documents, layer by layer.

Each document is read once, on its own, from its beginning; its hidden states are one matrix. A twin of the
model with the weights it was initialised with reads the same tokens, for Diff-eRank (Wei et al. 2024, arXiv
2401.17139).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from collectors.document import UserError
from evaluate import backends, cells, entropy
from evaluate.corpus import Corpus
from evaluate.journal import digest, journal
from evaluate.model import ModelEntry, Tokens

if TYPE_CHECKING:
    from evaluate.backends.transformers_model import TransformersModel

# Part of every key: raise it when the same inputs would give other numbers.
ARITHMETIC = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The section `entropy` of params.yaml.

    Attributes:
        tokens: the most tokens of a document that are read, the prefix among them.
        fixed: leave out documents that have fewer, so that every matrix has as many rows: models of
            other tokenizers and widths are then compared under one ceiling of N.
        layers: `all`, `last`, or numbers from 0, the embeddings, to the last, behind the final norm.
        seed: of the untrained twin's weights; None does without it, and without Diff-eRank.
    """

    tokens: int = 512
    fixed: bool = False
    layers: str | list[int] = "all"
    seed: int | None = 1

    def __post_init__(self) -> None:
        if type(self.tokens) is not int or self.tokens < 2:
            raise UserError(f"tokens {self.tokens!r} of `entropy` must be a whole number from 2")
        if type(self.fixed) is not bool:
            raise UserError(f"fixed {self.fixed!r} of `entropy` must be true or false")
        named = isinstance(self.layers, str) and self.layers in {"all", "last"}
        listed = isinstance(self.layers, list) and all(type(n) is int and n >= 0 for n in self.layers)
        if not (named or (listed and self.layers)):
            raise UserError(
                f"layers {self.layers!r} of `entropy` must be all, last, or whole numbers from 0, the embeddings"
            )
        if self.seed is not None and (type(self.seed) is not int or not 0 <= self.seed < 2**63):
            raise UserError(f"seed {self.seed!r} of `entropy` must be a whole number from 0, or null")

    def within(self, context_length: int | None) -> "Settings":
        """Return the settings with as many tokens as a context holds."""
        return replace(self, tokens=min(self.tokens, context_length or self.tokens))

    @property
    def protocol(self) -> str:
        """What stands in the score table."""
        return f"entropy/{self.tokens}{'/fixed' if self.fixed else ''}"

    def __str__(self) -> str:
        layers = self.layers if isinstance(self.layers, str) else ",".join(map(str, sorted(set(self.layers))))
        return f"{self.protocol} layers {layers} twin {self.seed}"


def key(entry: ModelEntry, weights: str, settings: Settings, corpus: Corpus) -> str:
    """Return the key of a cell; see `cells.key`."""
    how = f"{settings} initialised {entry.initializer_range}"
    return cells.key(ARITHMETIC, entry, weights, how, corpus.sha256)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model that was loaded to look into it.

    Attributes:
        settings: how, with no more tokens than its context holds.
        layers: those to measure, in rising order.
        last: number of the last layer.
        twin: the decoder with its untrained weights, None where Diff-eRank is not measured.
    """

    entry: ModelEntry
    model: "TransformersModel"
    settings: Settings
    layers: tuple[int, ...]
    last: int
    twin: Any


def check(entry: ModelEntry) -> None:
    """Refuse a model that shows no hidden states.

    Raises:
        UserError: with what to use instead.
    """
    backends.check_open(entry, "shows no hidden states", "entropy")


def load(entry: ModelEntry, settings: Settings, say: Callable[[str], None]) -> Subject:
    """Load the model of an entry, and make its untrained twin.

    Args:
        entry: the model's.
        settings: which layers, and whether there is a twin.
        say: tells a person why there is none.

    Raises:
        UserError: as `backends.load`, and where it shows no hidden states, has no such layer, or does not
            fit into memory together with its twin.
    """
    from evaluate.backends import hidden_states

    check(entry)
    model = backends.load_open(entry)
    own = settings.within(model.context_length)
    if own != settings:
        say(
            f"{entry.slug} reads {model.context_length} tokens, fewer than the {settings.tokens} of `entropy`: "
            f"measured as {own.protocol}, which is not comparable with {settings.protocol}"
        )
    last = hidden_states.n_layers(model.decoder)
    layers, twin = _layers(settings, last, entry), None
    if settings.layers == "all" and (refusal := _inner_refusal(model, layers)):
        say(f"{entry.slug}: {refusal}; measured at its last layer")
        layers = (last,)
    if last not in layers:
        say(
            f"{entry.slug}: layer {last}, the last, is left out: the score table and all fits are made of it alone"
        )
    elif settings.seed is None:
        pass
    elif entry.initializer_range is None and str(entry.options["source"]).endswith(".gguf"):
        # The default of the architecture would be believed: for SmolLM2 it turns the sign of Diff-eRank.
        say(
            f"{entry.slug}: a GGUF file does not say how the weights were initialised, so Diff-eRank is left out; "
            "name `initializer_range` in params.yaml, from the config.json that the model was published with"
        )
    else:
        try:
            twin = hidden_states.untrained(model, settings.seed, entry.initializer_range)
        except MemoryError as error:
            raise UserError(
                f"the untrained twin of {entry.slug} does not fit into memory ({error}); set `seed: null` of "
                "`entropy` in params.yaml to do without it"
            ) from error
    return Subject(entry=entry, model=model, settings=own, layers=layers, last=last, twin=twin)


def measure(subject: Subject, corpus: Corpus, *, journals: Path) -> list[dict[str, Any]]:
    """Measure a model on a corpus, and its untrained twin at the last layer.

    Args:
        subject: the model, and how to measure it.
        corpus: the texts.
        journals: folder for what an interrupted run has finished, the caller's to remove.

    Returns:
        The rows of a cell, see `entropy_cells.SCHEMA`.

    Raises:
        UserError: when the corpus cannot be read, memory is short or hidden states are not finite.
    """
    from evaluate.backends import hidden_states

    model, entry, settings = subject.model, subject.entry, subject.settings
    documents = corpus.documents()
    origin = {
        **cells.origin(entry, model, corpus, settings.protocol),
        "seed": None if subject.twin is None else settings.seed,
        "initializer_range": entry.initializer_range,
        "n_parameters": hidden_states.n_parameters(model),
        "n_layers": subject.last,
    }
    passes = [("trained", model.decoder, subject.layers)]
    if subject.twin is not None:
        passes.append(("untrained", subject.twin, (subject.last,)))
    return [
        {**origin, "document": documents[i][0], "untrained": name == "untrained", **row}
        for name, decoder, layers in passes
        for i, rows in enumerate(
            _measured(
                subject,
                decoder,
                [text for _, text in documents],
                layers,
                journal_file=journals / f"{name}.jsonl",
                journal_key=digest(
                    model.revision, str(settings), str(entry.initializer_range), corpus.sha256
                ),
                label=f"{entry.slug}{', untrained,' if name == 'untrained' else ''} on {corpus.name}",
            )
        )
        for row in rows
    ]


def _layers(settings: Settings, last: int, entry: ModelEntry) -> tuple[int, ...]:
    if settings.layers == "all":
        return tuple(range(last + 1))
    if settings.layers == "last":
        return (last,)
    wanted = tuple(sorted({int(number) for number in settings.layers}))
    if wanted[-1] > last:
        raise UserError(
            f"{entry.slug} has no layer {wanted[-1]}; its layers go from 0, the embeddings, to {last}, the last"
        )
    return wanted


def _inner_refusal(model: "TransformersModel", layers: Sequence[int]) -> str:
    """Return why inner layers cannot be had, empty where they can."""
    from evaluate.backends import hidden_states

    try:
        hidden_states.states(model.decoder, np.zeros(2, dtype=np.int64), layers)
    except UserError as refusal:
        return str(refusal)
    return ""


def _measured(
    subject: Subject,
    decoder: Any,
    texts: Sequence[str],
    layers: Sequence[int],
    *,
    journal_file: Path,
    journal_key: str,
    label: str,
) -> Iterator[list[dict[str, Any]]]:
    """Yield for each text a row for each layer."""
    with journal(journal_file, journal_key) as (done, add):
        known = {i for i, rows in done.items() if _complete(rows, layers)}
        with tqdm(total=len(texts), initial=len(known), desc=label, unit=" documents", disable=None) as bar:
            for i, text in enumerate(texts):
                if i not in known:
                    tokens = subject.model.beginning(text, subject.settings.tokens)
                    done[i] = _document(decoder, tokens, layers, subject.settings, label)
                    add(i, done[i])
                    bar.update()
                yield done[i]


def _complete(rows: Any, layers: Sequence[int]) -> bool:
    """Whether an entry of a journal is what we write there."""
    return isinstance(rows, list) and [
        row["layer"] if isinstance(row, dict) and {"layer", "n_tokens", "skipped"} <= row.keys() else None
        for row in rows
    ] == list(layers)


def _document(
    decoder: Any, tokens: Tokens, layers: Sequence[int], settings: Settings, label: str
) -> list[dict[str, Any]]:
    from evaluate.backends import hidden_states

    least = settings.tokens if settings.fixed else 2
    if len(tokens) < least:
        short = f"{len(tokens)} token{'' if len(tokens) == 1 else 's'}, fewer than {least}"
        return [{"layer": layer, "n_tokens": len(tokens), "skipped": short} for layer in layers]
    try:
        found = hidden_states.states(decoder, tokens, layers)
        return [_row(layer, len(tokens), states, label) for layer, states in zip(layers, found, strict=True)]
    except MemoryError as error:
        raise UserError(
            f"{len(tokens)} tokens do not fit into memory ({label}: {error}); read fewer `tokens`, or choose dtype "
            "bfloat16 or another device"
        ) from error


def _row(layer: int, n_tokens: int, states: Any, label: str) -> dict[str, Any]:
    try:
        figures = entropy.figures(states)
    except ValueError as error:
        raise UserError(f"{label}, layer {layer}: {error}; choose another dtype") from error
    if figures is None:
        return {"layer": layer, "n_tokens": n_tokens, "skipped": "its rows are all alike"}
    # Nine digits are the same however many threads have shared the sums.
    rounded = {
        name: float(f"{value:.9g}") if isinstance(value, float) else value
        for name, value in asdict(figures).items()
    }
    return {"layer": layer, "skipped": "", **rounded}
