"""Cells of passages: a text that a model has really compressed and restored, and what each piece of it cost."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from collectors.document import UserError
from evaluate import cells

SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("model", "backend", "revision", "corpus", "content", "corpus_sha256")]
    + [(n, pa.string()) for n in ("protocol", "prefix")]
    + [("context_length", pa.int64())]
    + [(n, pa.string()) for n in ("dtype", "quantization", "device", "attention")]
    + [("unused_ids", pa.int64()), ("softcap", pa.float64()), ("tied_embeddings", pa.bool_())]
    + [(n, pa.string()) for n in ("special_text", "software")]
    + [(n, pa.string()) for n in ("document", "title", "url", "license")]
    + [("piece", pa.int64()), ("text", pa.string()), ("bits", pa.float64())]
    + [(n, pa.int64()) for n in ("n_characters", "n_bytes", "file_bytes", "payload_bytes")]
    + [("nll", pa.float64()), ("restored", pa.bool_()), ("decoder_bytes", pa.int64())]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A token, or as many as it takes to complete characters.

    Attributes:
        text: its characters, never empty.
        bits: -log2 of the probability that it was coded with.
    """

    text: str
    bits: float

    @property
    def rate(self) -> float:
        """Its bits per character."""
        return self.bits / len(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A text that one model has compressed to a file, and what came of it.

    Attributes:
        model: the model's name in params.yaml.
        backend: the model's.
        corpus: the corpus that the text is from.
        content: what kind of text that corpus holds.
        corpus_sha256: digest of that corpus.
        protocol: with how much context each token was coded; `document` for a compressor.
        document: id of the document that the text is the beginning of.
        title: of the document, as `url` and `license` are.
        pieces: joined, they are the text; a compressor has one.
        n_characters: Unicode code points of the text.
        n_bytes: bytes of the text in UTF-8.
        file_bytes: of the whole compressed file.
        payload_bytes: of the file without its header; all of a compressor's file.
        nll: nats that scoring the same text charges under the same protocol.
        restored: whether decompressing the file gave the same bytes.
        decoder_bytes: of the weights, without which nobody restores the text; 0 for a compressor.
    """

    model: str
    backend: str
    corpus: str
    content: str
    corpus_sha256: str
    protocol: str
    document: str
    title: str
    url: str
    license: str
    pieces: tuple[Piece, ...]
    n_characters: int
    n_bytes: int
    file_bytes: int
    payload_bytes: int
    nll: float
    restored: bool
    decoder_bytes: int

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def classical(self) -> bool:
        """Whether a general-purpose compressor made the file, not a language model."""
        return self.backend == "compressors"


_OF_ALL = tuple(field.name for field in fields(Passage) if field.name != "pieces")
_FILLED = {*_OF_ALL, "piece", "text", "bits"}


def is_current(path: Path, key: str) -> bool:
    """Return whether a cell was made under this key; see `cells.is_current`."""
    return cells.is_current(path, SCHEMA, key)


def write(path: Path, passage: Passage | None, origin: Mapping[str, Any], key: str) -> None:
    """Write a cell, see `cells.write`; without rows where there is no passage.

    Args:
        path: the cell's file.
        passage: what was measured.
        origin: what else the figures came from, by column.
        key: see `cells.key`.
    """
    pieces = () if passage is None else passage.pieces
    known = {} if passage is None else {name: getattr(passage, name) for name in _OF_ALL}
    cells.write(
        path,
        SCHEMA,
        key,
        ({**origin, **known, "piece": i, **asdict(piece)} for i, piece in enumerate(pieces)),
    )


def read(path: Path) -> Passage | None:
    """Return the passage of a cell, None where it has none.

    Raises:
        UserError: when the file is no such cell.
    """
    rows = cells.read(path, SCHEMA, "passages", _FILLED)
    if not rows:
        return None
    passage = Passage(
        **{name: rows[0][name] for name in _OF_ALL},
        pieces=tuple(Piece(text=row["text"], bits=row["bits"]) for row in rows),
    )
    whole = all(
        row["piece"] == i and row[name] == rows[0][name] for i, row in enumerate(rows) for name in _OF_ALL
    )
    if not whole or not _is_possible(passage):
        raise UserError(f"{path} holds no passage that could be compressed so; delete it and run `dvc repro`")
    return passage


def _is_possible(passage: Passage) -> bool:
    figures = [passage.nll, *(piece.bits for piece in passage.pieces)]
    return (
        all(math.isfinite(figure) and figure >= 0 for figure in figures)
        and all(piece.text for piece in passage.pieces)
        and len(passage.text) == passage.n_characters
        and len(passage.text.encode()) == passage.n_bytes
        and 0 <= passage.payload_bytes <= passage.file_bytes
        and passage.file_bytes > 0
        and passage.decoder_bytes >= 0
    )
