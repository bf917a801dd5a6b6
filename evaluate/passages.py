"""From a model and a corpus to a passage that was really compressed and restored, and what each piece of it cost."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collectors.document import Document, UserError, read_documents
from evaluate import cells, likelihood
from evaluate.backends import compressors
from evaluate.corpus import Corpus
from evaluate.model import ModelEntry, Tokens
from evaluate.passage_cells import Passage, Piece
from evaluate.windows import ScoringProtocol

if TYPE_CHECKING:
    from evaluate.backends.transformers_model import TransformersModel

# Part of every key: raise it when the same inputs would give other numbers.
ARITHMETIC = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The section `passages` of params.yaml.

    Attributes:
        characters: of a document that are taken at most, and that it has at least.
        seed: of the order of documents, the first of which is taken.
    """

    characters: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        if type(self.characters) is not int or self.characters < 1:
            raise UserError(f"characters {self.characters!r} of `passages` must be a whole number from 1")
        if type(self.seed) is not int:
            raise UserError(f"seed {self.seed!r} of `passages` must be a whole number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The text that is compressed, and the document that it begins."""

    document: Document
    text: str


def key(
    entry: ModelEntry, weights: str, settings: Settings, protocol: ScoringProtocol, corpus: Corpus
) -> str:
    """Return the key of a cell; see `cells.key`. A compressor knows no windows."""
    how = "document" if entry.backend == "compressors" else str(protocol)
    return cells.key(
        ARITHMETIC, entry, weights, f"{settings.characters}/{settings.seed}/{how}", corpus.sha256
    )


def choose(corpus: Corpus, settings: Settings) -> Chosen | None:
    """Return the beginning of a document that may be passed on, None where no document is long enough.

    Documents come in the order of sha256(`seed:id`), the same for every model.

    Raises:
        UserError: when the corpus is not one that the pipeline built.
    """

    def place(document: Document) -> str:
        return hashlib.sha256(f"{settings.seed}:{document.id}".encode()).hexdigest()

    found = min(
        (
            document
            for path in corpus.files
            for document in read_documents(path)
            if document.redistributable and len(document.text) >= settings.characters
        ),
        key=place,
        default=None,
    )
    if found is None:
        return None
    return Chosen(document=found, text=beginning(found.text, settings.characters))


def beginning(text: str, characters: int) -> str:
    """Return the first characters of a text, up to the end of a line where that keeps half of them."""
    cut = text[:characters]
    end = cut.rfind("\n") + 1
    return cut[:end] if 2 * end >= characters else cut


def pieces(
    text: str, tokens: Tokens, bits: Sequence[float], side_bits: float, decode: Callable[[Tokens], str]
) -> tuple[Piece, ...]:
    """Return a text in the pieces that its tokens complete: several tokens may make one character.

    Args:
        text: not empty.
        tokens: shape [n].
        bits: that each token has cost, shape [n].
        side_bits: what all else has cost; paid by the rest of a text that the tokens do not restore.
        decode: gives the text of tokens.

    Returns:
        Pieces that joined are the text.
    """
    found: list[Piece] = []
    done, cost = 0, 0.0
    for i, paid in enumerate(bits, 1):
        cost += paid
        known = decode(tokens[:i])
        if len(known) > done and text.startswith(known):
            found.append(Piece(text=text[done : len(known)], bits=cost))
            done, cost = len(known), 0.0
    if done < len(text):
        return (*found, Piece(text=text[done:], bits=cost + side_bits))
    return (*found[:-1], Piece(text=found[-1].text, bits=found[-1].bits + cost))


def compressed(entry: ModelEntry, corpus: Corpus, chosen: Chosen) -> tuple[Passage, dict[str, Any]]:
    """Return what a compressor makes of a passage, and what else the figures came from.

    Raises:
        UserError: when the codec is unknown.
    """
    codec = compressors.codec(str(entry.options.get("codec", entry.slug)))
    data = chosen.text.encode()
    file = codec.compress(data)
    passage = _passage(
        entry,
        corpus,
        chosen,
        protocol="document",
        pieces=(Piece(text=chosen.text, bits=8.0 * len(file)),),
        file_bytes=len(file),
        payload_bytes=len(file),
        nll=len(file) * compressors.NATS_PER_BYTE,
        restored=codec.decompress(file) == data,
        decoder_bytes=0,
    )
    return passage, {"revision": codec.settings, "software": codec.settings}


def coded(
    model: "TransformersModel",
    entry: ModelEntry,
    protocol: ScoringProtocol,
    corpus: Corpus,
    chosen: Chosen,
    *,
    journals: Path,
    say: Callable[[str], object],
) -> tuple[Passage, dict[str, Any]]:
    """Compress a passage with a model, restore it, score it, and return what came of it.

    Args:
        model: what the entry loads to.
        entry: the model's.
        protocol: `full`; cut to the model's context.
        corpus: that the passage is from.
        chosen: the passage.
        journals: folder for what an interrupted run has finished, the caller's to remove.
        say: is told why a file is not restored.

    Returns:
        The passage, and what else its figures came from, by column.

    Raises:
        UserError: when the model cannot compress or score it.
    """
    from evaluate.codec import files
    from evaluate.codec.stream import Progress

    protocol = protocol.within(model.context_length)
    data, label = chosen.text.encode(), f"{entry.slug} on {corpus.name}"
    progress = Progress(journal_file=journals / "compress.jsonl", label=label)
    found = files.compress(data, model, entry, protocol, progress)
    try:
        restored = data == files.restore(
            found.file, label, entry, say, journal_file=journals / "restore.jsonl", model=model
        )
    except UserError as error:
        say(f"{label}: the passage was compressed and not restored: {error}")
        restored = False
    (scored,) = likelihood.likelihoods(model, [(chosen.document.id, chosen.text)], protocol, label=label)
    stream = found.stream
    passage = _passage(
        entry,
        corpus,
        chosen,
        protocol=str(protocol),
        pieces=pieces(chosen.text, stream.tokens, stream.token_bits.tolist(), stream.side_bits, model.decode),
        file_bytes=len(found.file),
        payload_bytes=len(stream.payload),
        nll=scored.nll,
        restored=restored,
        decoder_bytes=decoder_bytes(model, entry),
    )
    return passage, cells.origin(entry, model, corpus, str(protocol))


def decoder_bytes(model: "TransformersModel", entry: ModelEntry) -> int:
    """Return the size of the files that hold a model's weights; of a hub id, that of the weights in memory."""
    source = Path(entry.options["source"])
    if source.is_dir():
        shards = list(source.glob("model*.safetensors")) or list(source.glob("*.safetensors"))
        return sum(path.stat().st_size for path in shards)
    if source.is_file():
        return source.stat().st_size
    weights = {
        weight.data_ptr(): weight.nbytes
        for module in (model.decoder, model.head)
        for weight in module.parameters()
    }
    return sum(weights.values())


def _passage(
    entry: ModelEntry,
    corpus: Corpus,
    chosen: Chosen,
    *,
    nll: float,
    pieces: Sequence[Piece],
    **figures: Any,
) -> Passage:
    document = chosen.document
    return Passage(
        model=entry.slug,
        backend=entry.backend,
        corpus=corpus.name,
        content=corpus.content,
        corpus_sha256=corpus.sha256,
        document=document.id,
        title=document.title,
        url=document.url,
        license=document.license,
        n_characters=len(chosen.text),
        n_bytes=len(chosen.text.encode()),
        # Nine digits are the same however many threads have shared the sums.
        nll=_rounded(nll),
        pieces=tuple(Piece(text=piece.text, bits=_rounded(piece.bits)) for piece in pieces),
        **figures,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
