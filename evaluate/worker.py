"""What one worker does: load a model, say what it is, score shards of a corpus with it.

A task is all that a process on another machine needs; the model of the last task stays loaded.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collectors.document import UserError
from evaluate import backends, estimate
from evaluate.likelihood import likelihoods
from evaluate.model import Conditions, LanguageModel, Likelihood, ModelEntry, Prefix
from evaluate.windows import ScoringProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a worker that loaded a model says about it.

    Attributes:
        revision: of the weights.
        prefix: what stands before the first token.
        software: versions that the numbers depend on.
        conditions: what can move its numbers without the model being better.
        context_length: the most tokens it was built for.
        sink_refusal: why protocol `sink` is not valid for it, empty where it is.
        tokens_per_character: of the sample it was shown.
        seconds_per_token: by name of a protocol; empty where nothing was timed.
    """

    revision: str
    prefix: Prefix
    software: str
    conditions: Conditions
    context_length: int | None
    sink_refusal: str
    tokens_per_character: float
    seconds_per_token: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Documents for a worker to score with a model.

    Attributes:
        entry: the model.
        protocol: how; its window is within the model's context.
        documents: (id, text) pairs.
        journal_file: keeps finished batches.
        label: what the progress bar says.
    """

    entry: ModelEntry
    protocol: ScoringProtocol
    documents: Sequence[tuple[str, str]]
    journal_file: Path
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A model for a worker to load, describe and time.

    Attributes:
        entry: the model.
        protocol: what will be asked for.
        sample: text such as it is going to read.
        timed: whether there is enough to score to be worth timing.
    """

    entry: ModelEntry
    protocol: ScoringProtocol
    sample: str
    timed: bool


def work(task: Shard | Trial) -> list[Likelihood] | Facts | UserError:
    """Do what a worker is asked for, or say why not; the model of its last task stays loaded."""
    try:
        return _done(task)
    except UserError as error:
        return error


def _done(task: Shard | Trial) -> list[Likelihood] | Facts:
    model = _model(task.entry)
    if isinstance(task, Trial):
        return _facts(model, task)
    key = [model.revision, model.software, str(model.prefix), repr(model.conditions), str(task.protocol)]
    texts = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in task.documents).encode())
    return likelihoods(
        model,
        task.documents,
        task.protocol,
        journal_file=task.journal_file,
        key=json.dumps([*key, texts.hexdigest()]),
        label=task.label,
    )


def _facts(model: LanguageModel, trial: Trial) -> Facts:
    protocol = trial.protocol.within(model.context_length)
    timing = json.dumps([_key(trial.entry), str(protocol)])
    if trial.timed and timing not in _timings:
        _timings[timing] = estimate.seconds_per_token(model, trial.sample, protocol)
    return Facts(
        revision=model.revision,
        prefix=model.prefix,
        software=model.software,
        conditions=model.conditions,
        context_length=model.context_length,
        sink_refusal=model.sink_refusal,
        tokens_per_character=estimate.tokens_per_character(model, trial.sample),
        seconds_per_token=_timings.get(timing, {}) if trial.timed else {},
    )


# What a worker keeps from one task to the next: a model, and how fast it was.
_loaded: dict[str, LanguageModel] = {}
_timings: dict[str, dict[str, float]] = {}


def _model(entry: ModelEntry) -> LanguageModel:
    key = _key(entry)
    if key not in _loaded:
        _loaded.clear()  # two models at a time might not fit into memory
        _loaded[key] = backends.load(entry)
    return _loaded[key]


def _key(entry: ModelEntry) -> str:
    source = Path(str(entry.options.get("source", entry.slug)))
    files = sorted(source.iterdir()) if source.is_dir() else [source] if source.is_file() else []
    # Under one name there may be other weights by now, if only in another working directory.
    stamps = [(str(file.resolve()), file.stat().st_mtime_ns) for file in files]
    return json.dumps([entry.slug, entry.backend, dict(entry.options), stamps], sort_keys=True, default=str)
