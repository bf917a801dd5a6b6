"""Result files of lm-evaluation-harness, 0.3 to 0.4, read as data: the harness itself is never needed.

Of each task one metric is taken: the first it has of `METRICS`, length-normalised accuracy before plain
accuracy as the public leaderboards do; and of its answer filters `none`, then `strict-match`, then the
first by name. Standard errors, aliases and perplexities are ignored.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collectors.document import UserError

METRICS = ("acc_norm", "acc", "exact_match", "em", "pass@1", "pass_at_1")
FILTERS = ("none", "strict-match")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """What a run measured on one task, or on a group of tasks that has a score of its own.

    Attributes:
        task: the harness's name of it.
        metric: one of `METRICS`, and the answer filter after a space where it is not `none`.
        value: from 0 to 1.
        shots: examples in the prompt, None where the file does not say.
        version: the harness's version of the task, empty where the file does not say.
    """

    task: str
    metric: str
    value: float
    shots: int | None
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One result file.

    Attributes:
        model: what was measured: a hub id or a path; empty where the file does not say.
        harness: version of the harness, empty before 0.4.3.
        chat_template: whether prompts were wrapped in the model's chat template.
        scores: by task; the parts of a group that has a score of its own are left out.
    """

    model: str
    harness: str
    chat_template: bool
    scores: tuple[TaskScore, ...]


def parse(text: str) -> Run:
    """Read the text of a result file.

    Raises:
        UserError: when it is no such result, covers only a part of the tasks (`--limit`), or holds none
            of the metrics.
    """
    try:
        payload = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"it is no readable JSON ({str(error)[:80]}): give the results file of a run"
        ) from error
    payload = _mapping(payload, "the file")
    config = _mapping(payload.get("config"), "config")
    if config.get("limit") is not None:
        raise UserError("it was made with --limit and covers only a part of each task: run the tasks whole")
    for task, samples in _mapping(payload.get("n-samples"), "n-samples").items():
        counts = _mapping(samples, "n-samples")
        if counts.get("effective") != counts.get("original"):
            raise UserError(f"it covers only a part of {task[:80]}: run the tasks whole")
    results = _mapping(payload.get("results"), "results")
    chosen = {
        task: best
        for task, metrics in sorted(results.items())
        if (best := _metric(task, _mapping(metrics, f"task {task[:80]!r}")))
    }
    if not chosen:
        raise UserError(f"it holds none of the metrics {', '.join(METRICS)}: there is nothing to import")
    groups = _groups(payload)
    parts = {part for task in chosen for part in groups.get(task, set()) - {task}}
    harness = payload.get("lm_eval_version")
    return Run(
        model=_model(payload.get("model_name"), config),
        harness=harness if isinstance(harness, str) else "",
        chat_template=bool(payload.get("chat_template")),
        scores=tuple(
            TaskScore(
                task=task,
                metric=metric,
                value=value,
                shots=_shots(task, payload, groups.get(task, set())),
                version=_version(task, payload),
            )
            for task, (metric, value) in chosen.items()
            if task not in parts
        ),
    )


def _model(name: Any, config: Mapping[str, Any]) -> str:
    """Return the model's name; `model_args` is a string in older files and a mapping in newer ones."""
    if isinstance(name, str) and name:
        return name
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.strip().partition("=")[::2] for part in arguments.split(","))
    arguments = _mapping(arguments, "model_args")
    # The order in which the harness itself names a run: an adapter is another model than its base.
    named = (arguments.get(key) for key in ("peft", "delta", "pretrained", "model", "path"))
    return next((value for value in named if isinstance(value, str) and value), "")


def _metric(task: str, metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the preferred metric and its value; keys are `metric` in 0.3 and `metric,filter` in 0.4."""
    found = []
    for key, value in metrics.items():
        metric, _, answer = key.partition(",")
        if metric in METRICS:
            answer = answer or "none"
            rank = FILTERS.index(answer) if answer in FILTERS else len(FILTERS)
            found.append((METRICS.index(metric), rank, answer, metric, value))
    if not found:
        return None
    _, _, answer, metric, value = min(found, key=lambda f: f[:3])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"{metric} of task {task[:80]!r} is no number from 0 to 1: mend or remove the task")
    return metric if answer == "none" else f"{metric} {answer}", float(value)


def _groups(payload: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return every task below each group, at any depth."""
    direct = {
        group: [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
        for group, parts in _mapping(payload.get("group_subtasks"), "group_subtasks").items()
    }
    below = {}
    for group, parts in direct.items():
        seen: set[str] = set()
        queue = list(parts)
        while queue:
            part = queue.pop()
            if part not in seen:
                seen.add(part)
                queue += direct.get(part, [])
        below[group] = seen
    return below


def _shots(task: str, payload: Mapping[str, Any], parts: Iterable[str]) -> int | None:
    """Return the number of shots of a task, or the one that all parts of a group share.

    Of a group its own number is not taken: early 0.4 writes 0 there whatever its parts had.
    """
    counts = _mapping(payload.get("n-shot"), "n-shot")
    shared = {count for part in parts if _is_count(count := counts.get(part))}
    if shared:
        return shared.pop() if len(shared) == 1 else None
    configs = _mapping(payload.get("configs"), "configs")
    places = (
        counts.get(task),
        _mapping(configs.get(task), f"configs of {task[:80]!r}").get("num_fewshot"),
        _mapping(payload.get("config"), "config").get("num_fewshot"),
    )
    return next((count for count in places if _is_count(count)), None)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _version(task: str, payload: Mapping[str, Any]) -> str:
    version = _mapping(payload.get("versions"), "versions").get(task)
    known = isinstance(version, (int, float, str)) and version not in {"N/A", "Yaml"}
    return str(version)[:20] if known else ""


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{name} is no JSON object: give the results file of a run")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
