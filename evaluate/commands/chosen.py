"""Which models and which texts a command is about, and where what it makes is kept."""

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from collectors.document import UserError
from evaluate import backends, corpus, params
from evaluate.model import ModelEntry

CORPORA = Path("corpora")
RESULTS = Path("results")
STAGING = Path(".staging")
MODEL_OPTIONS = ("revision", "separator", "dtype", "quantization", "device")


def texts(
    arguments: argparse.Namespace, changes: Mapping[str, Any]
) -> tuple[dict[str, Any], corpus.Corpus | None]:
    """Return the parameters, and the text that is named instead of the corpora in them, if one is.

    Args:
        arguments: of the command line.
        changes: settings on it that params.yaml would say otherwise.

    Raises:
        UserError: when the corpora of params.yaml would be measured in another way than it says.
    """
    own = bool(arguments.text or arguments.corpus)
    overrides = [*given(arguments, *MODEL_OPTIONS), *changes]
    if own and arguments.all:
        raise UserError("--all reads the corpora of params.yaml; name one --model for a text of your own")
    if not own and overrides:
        raise UserError(
            f"--{overrides[0]} would record figures under settings that params.yaml does not "
            "name; change them there, or add --text or --corpus for a text of your own"
        )
    known = params.read() if params.PARAMS.exists() or not own else {}
    if arguments.text:
        return known, corpus.text_file(arguments.text)
    return known, corpus.folder(arguments.corpus, arguments.column) if own else None


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options of these names that the command line has."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}


def entries(known: dict[str, Any], arguments: argparse.Namespace) -> list[ModelEntry]:
    """Return the model that is named, or all of params.yaml."""
    if arguments.all:
        return [params.entry(*model) for model in known["models"].items()]
    return [entry(known, arguments)]


def corpora(known: dict[str, Any]) -> list[corpus.Corpus]:
    """Return the corpora of params.yaml, in its order."""
    return [corpus.built_corpus(CORPORA / name) for name in known["snapshots"]]


def entry(known: dict[str, Any], arguments: argparse.Namespace) -> ModelEntry:
    """Return the model that is named, with the options of the command line.

    Raises:
        UserError: when it is neither in params.yaml nor a file, a folder or a hub id.
    """
    models, model = known.get("models", {}), arguments.model
    options = given(arguments, *MODEL_OPTIONS)
    if model in models:
        found = params.entry(model, models[model])
        return replace(found, options={**found.options, **options})
    if Path(model).exists() or "/" in model:
        return params.entry(
            Path(model).resolve().name, {"backend": "transformers", "source": model, **options}
        )
    raise UserError(
        f"model {model!r} is neither in params.yaml ({', '.join(models) or 'no models'}) nor a .gguf "
        "file, a folder with safetensors, or a hub id such as org/name"
    )


def pinned(entry: ModelEntry) -> str:
    """Return what identifies a model's weights for good.

    Raises:
        UserError: when nothing does, or they are missing or not what the entry declares.
    """
    weights = backends.weights_of(entry)
    if not weights:
        raise UserError(
            f"model {entry.slug} is a hub id without a `revision`, so its weights may change under its name; pin "
            "a commit in params.yaml"
        )
    return weights


def cell_path(kind: str, slug: str, name: str) -> Path:
    """Return where a model's cell of a corpus is: of `scores`, or of `entropy`."""
    return RESULTS / kind / slug / f"{name}.parquet"


@contextmanager
def kept_until_done(folder: Path) -> Iterator[Path]:
    """Give a folder for journals, removed once what they serve is complete."""
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def warn(message: str) -> None:
    """Tell a person, where no program reads it."""
    print(message, file=sys.stderr)
