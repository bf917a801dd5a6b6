"""From a model and a corpus to the figures of `membership`: the beginning of every document, read once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from collectors.document import UserError
from evaluate import backends, cells
from evaluate.backends import compressors
from evaluate.corpus import Corpus
from evaluate.journal import digest, journal
from evaluate.membership import Familiarity, Settings, familiarity
from evaluate.model import ModelEntry

if TYPE_CHECKING:
    from evaluate.backends.transformers_model import TransformersModel

# Part of every key: raise it when the same inputs would give other numbers.
ARITHMETIC = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model that was loaded, and how it is measured: with no more tokens than its context holds."""

    entry: ModelEntry
    model: "TransformersModel"
    settings: Settings


def key(entry: ModelEntry, weights: str, settings: Settings, corpus: Corpus) -> str:
    """Return the key of a cell; see `cells.key`."""
    return cells.key(ARITHMETIC, entry, weights, settings.protocol, corpus.sha256)


def check(entry: ModelEntry) -> None:
    """Refuse a model that does not show the distribution of its next token.

    Raises:
        UserError: with what to use instead.
    """
    backends.check_open(entry, "shows no distribution over tokens", "membership")


def load(entry: ModelEntry, settings: Settings, say: Callable[[str], None]) -> Subject:
    """Load the model of an entry.

    Args:
        entry: the model's.
        settings: how it is to be measured.
        say: tells a person where its context holds fewer tokens.

    Raises:
        UserError: as `backends.load`, and where it shows no distribution over tokens.
    """
    check(entry)
    model = backends.load_open(entry)
    own = replace(settings, tokens=min(settings.tokens, model.context_length or settings.tokens))
    if own != settings:
        say(
            f"{entry.slug} reads {model.context_length} tokens, fewer than the {settings.tokens} of `membership`: "
            f"measured as {own.protocol}, which is not comparable with {settings.protocol}"
        )
    return Subject(entry=entry, model=model, settings=own)


def measure(subject: Subject, corpus: Corpus, *, journals: Path) -> list[dict[str, Any]]:
    """Measure a model on the beginning of every document of a corpus.

    Args:
        subject: the model, and how to measure it.
        corpus: the texts.
        journals: folder for what an interrupted run has finished, the caller's to remove.

    Returns:
        The rows of a cell, see `membership_cells.SCHEMA`.

    Raises:
        UserError: when the corpus cannot be read, memory is short or a probability is no number.
    """
    model, entry, settings = subject.model, subject.entry, subject.settings
    documents = corpus.documents()
    origin = cells.origin(entry, model, corpus, settings.protocol)
    parts = (model.revision, str(model.prefix), str(model.conditions), settings.protocol, corpus.sha256)
    label = f"{entry.slug} on {corpus.name}"
    with journal(journals / "documents.jsonl", digest(*parts)) as (done, add):
        known = {i for i, row in done.items() if _complete(row)}
        with tqdm(
            total=len(documents), initial=len(known), desc=label, unit=" documents", disable=None
        ) as bar:
            for i, (name, text) in enumerate(documents):
                if i not in known:
                    done[i] = _document(subject, text, f"document {name} of {corpus.name}")
                    add(i, done[i])
                    bar.update()
    return [{**origin, "document": name, **done[i]} for i, (name, _) in enumerate(documents)]


def compressed(codec: str, corpus: Corpus, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a compressor pays for as many characters of each document as a model has paid for.

    Args:
        codec: a name in `compressors.CODECS`.
        corpus: the texts.
        rows: of the model's cell of that corpus.

    Returns:
        For each document `bits`, `n_characters` and `skipped`, in the order of `rows`.

    Raises:
        UserError: when there is no such codec.
    """
    chosen = compressors.codec(codec)
    return [
        {
            "skipped": row["skipped"],
            "n_characters": row["n_characters"],
            "bits": None
            if row["skipped"]
            else 8.0 * len(chosen.compress(text[: row["n_characters"]].encode())),
        }
        for (_, text), row in zip(corpus.documents(), rows, strict=True)
    ]


def _complete(row: Any) -> bool:
    """Whether an entry of a journal is what we write there."""
    names = {f.name for f in fields(Familiarity)}
    return isinstance(row, dict) and (bool(row.get("skipped")) or names <= row.keys())


def _document(subject: Subject, text: str, label: str) -> dict[str, Any]:
    from evaluate.backends.token_statistics import token_statistics

    model, settings = subject.model, subject.settings
    tokens = model.beginning(text, settings.tokens)
    characters = len(model.decode(tokens[1:]))
    if not characters:
        return {"skipped": "no token to predict", "n_tokens": max(0, len(tokens) - 1), "n_characters": 0}
    try:
        found = token_statistics(model, tokens)
    except MemoryError as error:
        raise UserError(
            f"{len(tokens)} tokens of {label} do not fit into memory ({error}); read fewer `tokens`, or choose dtype "
            "bfloat16 or another device"
        ) from error
    try:
        figures = familiarity(
            found.log_p, found.mean, found.deviation, n_characters=characters, share=settings.share
        )
    except ValueError as error:
        raise UserError(
            f"{model.name} on {label}: {error}; its weights are damaged or overflow in this precision: try dtype "
            "float32"
        ) from error
    # Nine digits are the same however many threads have shared the sums.
    rounded = {
        name: float(f"{value:.9g}") if isinstance(value, float) else value
        for name, value in asdict(figures).items()
    }
    return {"skipped": "", **rounded}
