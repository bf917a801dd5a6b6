"""A small real model, documents with plausible provenance and collections without waiting, for tests."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors import collect
from collectors.document import DateEvidence, Document, RawRecord, document
from collectors.request import Request
from collectors.snapshot import Snapshot, read_records
from collectors.source import Source
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from evaluate.journal import journal
from evaluate.model import Conditions, Prefix, Tokens
from evaluate.windows import SINKS
from world import World

ROOT = Path(__file__).resolve().parent.parent
NO_PREFIX = Prefix(kind="none", token=None)
CONDITIONS = Conditions(dtype="float64")
REQUEST = Request(
    name="test-2026-09",
    source="test",
    content="prose",
    since=datetime(2026, 9, 1, tzinfo=UTC),
    until=datetime(2026, 10, 1, tzinfo=UTC),
    settings={"pages": 3},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteModel:
    """A real adaptive model over bytes: p(next) = (count in context + 1) / (length of context + 256).

    Its answer depends on every byte it is shown and on nothing else, so a window that starts one
    token early or late changes the number.
    """

    name: str = "bytes"
    revision: str = "laplace"
    context_length: int | None = None
    vocabulary_size: int = 257
    prefix: Prefix = NO_PREFIX
    conditions: Conditions = CONDITIONS
    software: str = "numpy"
    batch_tokens: int = 2048
    sink_refusal: str = ""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) for text in texts]

    def decode(self, tokens: Tokens) -> str:
        return bytes(tokens.astype(np.uint8)).decode()

    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        return [
            np.array(
                [self.cost(tokens[: len(tokens) - len(wanted) + 1 + i], t) for i, t in enumerate(wanted)]
            )
            for tokens, wanted in zip(inputs, targets, strict=True)
        ]

    def sink_nll(
        self, inputs: Sequence[Tokens], targets: Sequence[Tokens], *, window: int, stride: int
    ) -> list[NDArray[np.float64]]:
        costs = []
        for tokens, wanted in zip(inputs, targets, strict=True):
            places = range(len(tokens) - len(wanted), len(tokens))
            contexts = [sink_context(tokens, i, window, stride) for i in places]
            costs.append(np.array([self.cost(c, t) for c, t in zip(contexts, wanted, strict=True)]))
        return costs

    def cost(self, context: Tokens, target: np.int64) -> float:
        return -float(np.log((np.sum(context == target) + 1) / (len(context) + self.vocabulary_size)))


def sink_context(tokens: Tokens, place: int, window: int, stride: int) -> Tokens:
    """Return what a rolling cache with sinks holds once it has read the token at a place."""
    if place < window:
        return tokens[: place + 1]
    step = window + (place - window) // stride * stride
    latest = tokens[step - (window - stride - SINKS) : place + 1]
    return np.concatenate([tokens[:SINKS], latest])


def make_document(text: str, number: int = 0, **fields: Any) -> Document:
    """Return a document with plausible provenance."""
    values: dict[str, Any] = {
        "source": "test",
        "native_id": f"document-{number}",
        "version": "1",
        "url": "",
        "title": f"Document {number}",
        "text": text,
        "published": datetime(2026, 9, 1 + number % 28, tzinfo=UTC),
        "published_precision": "day",
        "date_evidence": (DateEvidence(kind="declared-month", value="2026-09"),),
        "license": "MIT",
        "license_evidence": "test",
        "redistributable": True,
        "language": "en",
        "language_probability": 1.0,
        "raw": RawRecord(shard="test.warc.gz", offset=0, sha256="0" * 64),
        "extractor": "test/1",
    }
    return document(**{**values, **fields})


@dataclass
class InstantClock:
    """A clock that nobody waits for: sleeping moves it on and is noted."""

    time: float = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.time += seconds


def environment(folder: Path, world: World, **more: str) -> dict[str, str]:
    """Return the environment of a collection from a world on loopback."""
    fixed = {collect.CONTACT: "tests@freshbits.example", collect.LOOPBACK: str(world.port)}
    return {**fixed, "XDG_CACHE_HOME": str(folder / "cache"), **more}


@contextmanager
def fetching(
    folder: Path,
    world: World,
    request: Request,
    source: Source,
    clock: InstantClock | None = None,
    **more: str,
) -> Iterator[Fetcher]:
    """Give a fetcher that asks a world, as the commands make it; `more` are environment variables."""
    clock = clock or InstantClock()
    with collect.open_fetcher(
        source, request, folder / "staging", environment(folder, world, **more), clock
    ) as (
        fetcher,
        _,
    ):
        yield fetcher


def collected(
    folder: Path,
    world: World,
    request: Request,
    source: Source,
    clock: InstantClock | None = None,
    **more: str,
) -> tuple[Snapshot, list[tuple[RawRecord, Record]]]:
    """Collect into `folder/raw` and return the snapshot with what extraction reads."""
    snapshot = collect.collect(
        source,
        request,
        folder / "raw",
        folder / "staging",
        environment=environment(folder, world, **more),
        clock=clock or InstantClock(),
    )
    return snapshot, list(read_records(folder / "raw"))


def replant(path: Path, *results: tuple[int, Any]) -> None:
    """Write a journal anew, under the key that it has, with these results by number."""
    key = json.loads(path.read_text().splitlines()[0])["key"]
    path.unlink()
    with journal(path, key) as (_, add):
        for number, result in results:
            add(number, result)
