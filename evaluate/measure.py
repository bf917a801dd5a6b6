"""From a model and a corpus to likelihoods: which documents, under which protocol, and who scores them.

Three questions are answered on the way, each from numbers rather than belief. Whether the `sink`
protocol may stand for the exact one: some documents are scored under both. How many documents
suffice: with a precision, scoring stops at the first look whose interval is narrow enough. How long it
will take: a short calibration says so before anything begins.

What is to be scored is cut into shards, and the measurements of several corpora are carried on side
by side, so that every worker of an engine has one (see `engine`).
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from collectors.document import UserError
from evaluate import engine, estimate, stopping
from evaluate.backends import compressors
from evaluate.corpus import Corpus
from evaluate.journal import digest
from evaluate.likelihood import first_token, in_parts
from evaluate.model import Likelihood, ModelEntry
from evaluate.rates import deviation
from evaluate.scores import Scored
from evaluate.windows import ScoringProtocol, Window, full_windows, sink_segments
from evaluate.worker import Facts, Shard, Trial, work

T = TypeVar("T")

AUTO = "auto"

# The largest deviation of a protocol that may stand for the exact one: a tenth of a percent.
TOLERANCE = 0.001

# Documents scored under both protocols: so many at least, and then as long as they cost no more
# than this share of reading every token once.
SAMPLE_DOCUMENTS = 8
SAMPLE_SHARE = 0.05

# A shard takes minutes to hours, by the model; what a dead worker loses is less, for it keeps a journal.
SHARD_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The section `score` of params.yaml.

    Attributes:
        protocol: window and stride, and the protocol's name; `sink` where `auto` is asked for.
        auto: take `sink` where its deviation on the corpus is below `TOLERANCE`, and `full` elsewhere.
        precision: half the width of the interval, relative to the rate, at which scoring stops;
            None scores all documents.
        seed: of the order in which documents are scored and sampled.
        engine: one of `engine.ENGINES`; it changes no number.
    """

    protocol: ScoringProtocol
    auto: bool = False
    precision: float | None = None
    seed: int = 1
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.precision is not None:
            stopping.check_precision(self.precision)
            if self.protocol.name == "huang2024":
                raise UserError(
                    f"precision {self.precision} chooses documents, which protocol huang2024 joins into one stream; "
                    "use protocol full, sink or auto"
                )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"seed {self.seed!r} must be a whole number")
        if self.engine not in engine.ENGINES:
            raise UserError(f"engine {self.engine!r} is unknown; choose one of {', '.join(engine.ENGINES)}")

    def __str__(self) -> str:
        name = f"{AUTO}/{self.protocol.window}/{self.protocol.stride}" if self.auto else str(self.protocol)
        wanted = "" if self.precision is None else f" to {self.precision}"
        drawn = self.precision is not None or self.protocol.name == "sink"
        return f"{name}{wanted} from {self.seed}" if drawn else name


# Shards or trials go to the workers, their results come back.
Exchange = Generator[Sequence[Shard | Trial], list[Any], Scored]


def measure(
    entry: ModelEntry,
    corpus: Corpus,
    settings: Settings,
    *,
    journals: Path,
    say: Callable[[str], None],
) -> Exchange:
    """Measure a model on a corpus: yield what workers are to do, be sent what they found, return it all.

    Args:
        entry: the model.
        corpus: the texts.
        settings: protocol, precision and seed.
        journals: folder for the journals of its shards, the caller's to remove.
        say: tells a person what is estimated and decided.

    Raises:
        UserError: when the corpus cannot be read or scored, or protocol `sink` is asked for and not valid.
    """
    documents = corpus.documents()
    texts = [text for _, text in documents]
    timed = sum(map(len, texts)) >= estimate.WORTH_CALIBRATING
    trial = Trial(entry=entry, protocol=settings.protocol, sample=estimate.sample_of(texts), timed=timed)
    facts: Facts = (yield [trial])[0]
    label = f"{entry.slug} on {corpus.name}"
    protocol = _fitted(entry, settings, facts, say)
    for line in estimate.estimates(
        documents,
        protocol,
        tokens_per_character=facts.tokens_per_character,
        seconds_per_token=facts.seconds_per_token,
        prefix=facts.prefix.token is not None,
        precision=settings.precision,
        price=entry.price,
    ):
        say(f"{label}, {line}")

    def shards(chosen: list[int], protocol: ScoringProtocol) -> list[Shard]:
        # Cut alike by every engine: a journal serves them all. One stream stays one.
        size = math.inf if protocol.name == "huang2024" else SHARD_CHARACTERS
        name = digest(str(protocol), str(chosen))[:24]
        return [
            Shard(
                entry=entry,
                protocol=protocol,
                documents=part,
                journal_file=journals / f"{name}-{number}.jsonl",
                label=f"{label} ({protocol.name})",
            )
            for number, part in enumerate(in_parts([documents[i] for i in chosen if texts[i]], size))
        ]

    def scored(chosen: Sequence[int], answers: list[list[Likelihood]]) -> dict[int, Likelihood]:
        rows = iter(row for answer in answers for row in answer)
        return {i: next(rows) if texts[i] else _nothing(documents[i][0]) for i in chosen}

    order = [int(i) for i in stopping.order(len(documents), settings.seed, corpus.sha256)]
    looks = stopping.looks(len(order)) if settings.precision is not None else [len(order)]
    rows: dict[int, Likelihood] = {}
    if protocol.name == "sink":
        sample = _sample(order[: looks[0]], texts, protocol, facts, auto=settings.auto)
        exact, once = shards(sample, protocol.exact), shards(sample, protocol)
        answers = (yield [*exact, *once]) if sample else []
        under_exact = scored(sample, answers[: len(exact)])
        rows = scored(sample, answers[len(exact) :])
        rows = {i: replace(row, exact_nll=under_exact[i].nll) for i, row in rows.items()}
        if not _stands(rows, settings, label, say):
            protocol, rows = protocol.exact, under_exact
    size = 0
    for size in looks:
        chosen = sorted(i for i in order[:size] if i not in rows)
        rows.update(scored(chosen, (yield shards(chosen, protocol)) if chosen else []))
        if settings.precision is None or not any(texts[i] for i in order[:size]):
            continue
        so_far = [rows[i] for i in order[:size]]
        if stopping.precise(so_far, [len(text) for text in texts], "character", settings.precision):
            break
    left_out = [documents[i] for i in sorted(order[size:])]
    return Scored(
        protocol=str(protocol),
        revision=facts.revision,
        software=facts.software,
        likelihoods=[rows[i] for i in sorted(order[:size])],
        unscored=[(document, len(text), len(text.encode())) for document, text in left_out],
        prefix=str(facts.prefix),
        first_token=first_token(facts.prefix, protocol),
        context_length=facts.context_length,
        conditions=facts.conditions,
        precision=settings.precision,
        seed=settings.seed if settings.precision is not None or protocol.name == "sink" else None,
    )


def compressed(entry: ModelEntry, corpus: Corpus) -> list[Scored]:
    """Return what a compressor pays for each document alone, and for all of them as one stream.

    Raises:
        UserError: when an option is wrong or the codec is unknown.
    """
    wrong = set(entry.options) - {"codec"}
    if wrong:
        raise UserError(
            f"model {entry.slug} in params.yaml has wrong options: {', '.join(map(str, sorted(wrong)))}"
        )
    codec = str(entry.options.get("codec", entry.slug))
    settings = compressors.codec(codec).settings
    alone, stream = compressors.likelihoods(codec, corpus.documents())
    return [
        Scored(protocol=protocol, revision=settings, software=settings, likelihoods=rows)
        for protocol, rows in (("document", alone), ("stream", [stream]))
    ]


def conduct(
    exchanges: Mapping[T, Exchange],
    engine_name: str,
    finish: Callable[[T, Scored], None],
    *,
    together: bool,
) -> None:
    """Carry on measurements until each is finished, and let none keep the others from it.

    Args:
        exchanges: measurements that were not begun, by what to call them.
        engine_name: see `engine.run`.
        finish: is given each measurement when it is complete.
        together: side by side on the workers of the engine; else one by one in this process.

    Raises:
        UserError: the first of those that ended a measurement, when all others are finished.
    """
    if not exchanges:
        return
    refused: list[UserError] = []
    with engine.session(engine_name, "shards") if together else nullcontext(map) as workers:
        for group in [list(exchanges)] if together else [[name] for name in exchanges]:
            asked = {name: next(exchanges[name]) for name in group}
            while asked:
                results = iter(list(workers(work, [task for tasks in asked.values() for task in tasks])))
                answers = {name: [next(results) for _ in tasks] for name, tasks in asked.items()}
                asked = {}
                for name, answer in answers.items():
                    try:
                        asked[name] = exchanges[name].send(_accepted(answer))
                    except StopIteration as stop:
                        finish(name, stop.value)
                    except UserError as error:
                        refused.append(error)
    if refused:
        raise refused[0]


def parallel(engine_name: str, entry: ModelEntry) -> bool:
    """Whether a model is scored by several workers: not where its entry says on which device."""
    if engine_name != "local":
        return True
    anywhere = entry.backend == "transformers" and not entry.options.get("device")
    return anywhere and bool(engine.gpu_environments())


def _accepted(answer: list[Any]) -> list[Any]:
    for found in answer:
        if isinstance(found, UserError):
            raise found
    return answer


def _fitted(
    entry: ModelEntry, settings: Settings, facts: Facts, say: Callable[[str], None]
) -> ScoringProtocol:
    """Return the protocol with a window that the model's context holds, and `full` where `sink` cannot be."""
    protocol = settings.protocol.within(facts.context_length)
    asked = settings.protocol
    if protocol.name == "sink" and facts.sink_refusal:
        if not settings.auto:
            raise UserError(
                f"{entry.slug} cannot be scored under protocol sink: {facts.sink_refusal}; use protocol full or auto"
            )
        protocol, asked = protocol.exact, asked.exact
    if protocol != asked:
        say(
            f"{entry.slug} reads {facts.context_length} tokens, fewer than the window of {asked.window}: scored as "
            f"{protocol}, which is not comparable with {asked}"
        )
    return protocol


def _stands(
    rows: Mapping[int, Likelihood], settings: Settings, label: str, say: Callable[[str], None]
) -> bool:
    """Whether the approximate protocol is kept, by what both protocols say of the sample."""
    found = deviation(list(rows.values()))
    if found is None:
        return not settings.auto
    bounds = "" if found.low is None else f" [{found.low:+.3%}, {found.high:+.3%}]"
    close = max(abs(b) for b in (found.value, found.low, found.high) if b is not None) < TOLERANCE
    kept = close or not settings.auto
    taken = f"; scored as {'sink' if kept else 'full'}" if settings.auto else ""
    say(
        f"{label}: sink deviates by {found.value:+.3%}{bounds} from full on {found.n_documents} "
        f"document{'' if found.n_documents == 1 else 's'}"
        f"{'' if close else f', perhaps by more than {TOLERANCE:.1%}'}{taken}"
    )
    return kept


def _sample(
    order: Sequence[int], texts: Sequence[str], protocol: ScoringProtocol, facts: Facts, *, auto: bool
) -> list[int]:
    """Return documents to score under both protocols, of those that do not fit into one window.

    None are where all fit, and under `auto` where scoring the sample twice would cost more than `sink` saves.

    Args:
        order: documents that are sure to be scored, in the order in which they are.
        texts: of all documents.
        protocol: `sink`, within the model's context.
        facts: about the model.
        auto: whether `full` may be chosen instead.
    """
    prefix = facts.prefix.token is not None

    def tokens_read(i: int, cut: Callable[..., Iterator[Window]]) -> int:
        n = round(len(texts[i]) * facts.tokens_per_character)
        return sum(window.n_inputs for window in cut(n, protocol, prefix=prefix))

    once = sum(tokens_read(i, sink_segments) for i in order)
    exact = {i: tokens_read(i, full_windows) for i in order}
    room = SAMPLE_SHARE * once
    chosen: list[int] = []
    for i in order:
        if len(chosen) >= SAMPLE_DOCUMENTS and room <= 0:
            break
        if exact[i] > protocol.window:
            chosen.append(i)
            room -= exact[i]
    pays = once + sum(exact[i] for i in chosen) < sum(exact.values())
    return sorted(chosen) if pays or not auto else []


def _nothing(document: str) -> Likelihood:
    return Likelihood(document=document, nll=0.0, n_tokens=0, n_characters=0, n_bytes=0, lossless=True)
