"""Which files of a data set are a config and split of it, as its card or its file names say.

The rules are those of `datasets` as far as they are needed: `configs` in the header of README.md, else names of
files and folders. Patterns only choose among the files that are there: a card cannot name another place.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from collectors.document import UserError

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
UNNAMED = "train"
"""What `datasets` calls the only split of files whose names say none."""

_HEADER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\n---", re.DOTALL)
_SHARD = re.compile(r"(?:.*/)?([\w.-]+?)-\d{5}-of-\d{5}\.")
_WORD = re.compile(
    r"(?:^|[\W\d_])(?:(train|training)|(validation|valid|val|dev)|(test|testing|eval|evaluation))(?=[\W\d_]|$)"
)
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """A config of a card: the patterns of each split, under an empty name where the files' names say it."""

    name: str
    default: bool
    patterns: Mapping[str, Sequence[str]]


def chosen(paths: Sequence[str], card: str, *, config: str, split: str, where: str) -> list[str]:
    """Return the files of a split, sorted.

    Args:
        paths: all files of the data set, relative to its root, with forward slashes.
        card: its README.md, empty where it has none.
        config: which one; empty for the only or the default one.
        split: which one; empty for the only one.
        where: what to call the data set.

    Raises:
        UserError: when there is no such config or split, or several to choose from, naming them.
    """
    readable = sorted(path for path in paths if path.endswith(SUFFIXES))
    configs = _configs(card, where)
    if not configs:
        if config:
            raise UserError(
                f"{where} declares no configs, so that there is no {config!r}; leave `config` out"
            )
        splits = _named(readable)
    else:
        found = _config(configs, config, where)
        splits = {}
        for name, patterns in found.patterns.items():
            matching = [path for path in readable if any(_matches(path, pattern) for pattern in patterns)]
            splits |= {name: matching} if name else _named(matching)
    splits = {name: files for name, files in splits.items() if files}
    if not splits:
        raise UserError(f"{where} has no file to read; its {', '.join(SUFFIXES)} files are read")
    if not split and len(splits) > 1:
        raise UserError(f"{where} has the splits {', '.join(splits)}; choose one as `split`")
    if split and split not in splits:
        raise UserError(f"{where} has no split {split!r}; it has {', '.join(splits)}")
    return splits[split or next(iter(splits))]


def _configs(card: str, where: str) -> list[_Config]:
    header = _HEADER.match(card)
    try:
        stated = yaml.load(header[1], Loader=yaml.SafeLoader) if header else None
        listed = stated.get("configs") if isinstance(stated, dict) else None
        return [_read(entry) for entry in listed or ()]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"the header of README.md in {where} cannot be read; name the files' folder as `path` instead"
        ) from error


def _read(entry: Mapping[str, Any]) -> _Config:
    folder = str(entry.get("data_dir") or "").strip("/")
    stated = entry.get("data_files", "**")
    pairs: list[tuple[str, Any]]
    if isinstance(stated, dict):
        pairs = [(str(name), patterns) for name, patterns in stated.items()]
    elif isinstance(stated, list) and stated and all(isinstance(item, dict) for item in stated):
        pairs = [(str(item.get("split", "")), item["path"]) for item in stated]
    else:
        pairs = [("", stated)]
    splits: dict[str, list[str]] = {}
    for name, patterns in pairs:
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            relative = str(pattern).removeprefix("./")
            splits.setdefault(name, []).append(f"{folder}/{relative}" if folder else relative)
    return _Config(name=str(entry["config_name"]), default=entry.get("default") is True, patterns=splits)


def _config(configs: Sequence[_Config], wanted: str, where: str) -> _Config:
    names = [config.name for config in configs]
    if wanted:
        found = [config for config in configs if config.name == wanted]
    else:
        found = [config for config in configs if config.default or config.name == "default"]
        found = found or (list(configs) if len(configs) == 1 else [])
    if not found:
        said = f"no config {wanted!r}" if wanted else "several configs"
        raise UserError(f"{where} has {said}; choose one of {', '.join(names)} as `config`")
    return found[0]


def _named(paths: Sequence[str]) -> dict[str, list[str]]:
    """Return files by the split that their names state; all as one split where none does."""
    splits: dict[str, list[str]] = {}
    for path in paths:
        shard, word = _SHARD.match(path), _WORD.search(path.lower())
        if shard:
            splits.setdefault(shard[1], []).append(path)
        elif word:
            splits.setdefault(_SPLITS[(word.lastindex or 1) - 1], []).append(path)
    return splits or {UNNAMED: list(paths)}


def _matches(path: str, pattern: str) -> bool:
    return _match(path.split("/"), re.sub(r"(\*\*/)+", "**/", pattern).split("/"))


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a pattern stands for all parts of a path, in time of their product whatever the pattern."""
    reached = {0}  # how many parts the pattern so far can stand for
    for number, wanted in enumerate(pattern, 1):
        if wanted == "**":
            reached = set(range(min(reached, default=len(parts)), len(parts)))
            if number == len(pattern):
                return bool(reached)
        else:
            reached = {n + 1 for n in reached if n < len(parts) and fnmatch.fnmatchcase(parts[n], wanted)}
    return len(parts) in reached
