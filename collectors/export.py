"""A corpus as others can take it: a data set folder with full texts where the licence allows them.

The folder holds a Hugging Face dataset card, the documents that may be passed on, a recipe for all of them, Croissant
metadata and a task for lm-evaluation-harness. A text that may not be passed on is represented by its digests and by
where it came from. The same corpus at the same commit gives the same bytes.
"""

import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from collectors import croissant
from collectors.build import escaped
from collectors.document import Document, UserError, read_documents, sha256_of, write_documents
from collectors.recipe import FACTS, ROWS, Recipe, write_recipe

DOCUMENTS = "documents.parquet"
CROISSANT = "croissant.json"
_SPDX = re.compile(r"(?!.*Ref-)[A-Za-z0-9.+-]+")


def read_corpus(folder: Path) -> tuple[dict[str, Any], list[Document]]:
    """Return the facts of a built corpus and its documents.

    Raises:
        UserError: when there is none, or the documents are not those of which `corpus.json` speaks.
    """
    try:
        facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        digest = facts["documents_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder} holds no built corpus; build it with `dvc repro`") from error
    path = folder / DOCUMENTS
    if not path.is_file() or sha256_of(path) != digest:
        raise UserError(
            f"{path} is not the file that corpus.json beside it describes; restore it with `dvc checkout`"
        )
    return facts, list(read_documents(path))


def export(folder: Path, recipe: Recipe, documents: Sequence[Document]) -> int:
    """Write the data set folder of a corpus, by rename; return how many full texts are in it.

    Args:
        folder: where to; must be new, or empty.
        recipe: how the corpus was made.
        documents: all documents of the corpus.

    Raises:
        UserError: when there is something in the folder, or nothing in the corpus.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is not empty, and an export would mix with what is there; give a new folder"
        )
    if not documents:
        raise UserError(f"corpus {recipe.name} holds no documents; there is nothing to export")
    open_ = [document for document in documents if document.redistributable]
    # Ours alone, for another export to the same folder may be under way.
    work = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _fill(work, recipe, documents, open_)
        work.replace(folder)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise UserError(
                f"{folder} was filled meanwhile and is left as it is; give a new folder"
            ) from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(open_)


def _fill(work: Path, recipe: Recipe, documents: Sequence[Document], open_: Sequence[Document]) -> None:
    files = [ROWS]
    if open_:
        files = [DOCUMENTS, ROWS]
        write_documents(work / DOCUMENTS, open_)
        task = yaml.safe_dump(lm_eval_task(recipe), sort_keys=False)
        (work / f"{task_name(recipe)}.yaml").write_text(task, encoding="utf-8")
    write_recipe(work, recipe, documents)
    metadata = croissant.metadata(work, files, **_described(recipe, documents))
    described = json.dumps(metadata, indent=2, ensure_ascii=False)
    (work / CROISSANT).write_text(described + "\n", encoding="utf-8")
    (work / "README.md").write_text(_card(recipe, documents, open_), encoding="utf-8")


def task_name(recipe: Recipe) -> str:
    """Return what lm-evaluation-harness calls the corpus."""
    return f"freshbits_{recipe.name}"


def lm_eval_task(recipe: Recipe) -> dict[str, Any]:
    """Return the corpus as a task of lm-evaluation-harness (`lm_eval.api.task.TaskConfig`).

    The log-likelihood of each whole text counts, over its bytes in UTF-8, and over all documents together. Perplexity
    by word is left out: it hangs on what counts as a word.
    """
    return {
        "task": task_name(recipe),
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": DOCUMENTS}},
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
        ],
        "metadata": {"version": 1.0, "documents_sha256": recipe.documents_sha256},
    }


def _described(recipe: Recipe, documents: Sequence[Document]) -> dict[str, Any]:
    since, until = (str(recipe.entry[key]) for key in ("since", "until"))
    licenses = sorted({document.license for document in documents if document.license})
    known = [f"https://spdx.org/licenses/{name}.html" if _SPDX.fullmatch(name) else name for name in licenses]
    return {
        "name": recipe.name,
        "description": f"{_about(recipe, documents)} Columns of lists and mappings are not declared here.",
        "license": known or ["unknown"],
        # The clock would make two exports differ, and before this day the corpus could not be complete.
        "datePublished": until,
        "temporalCoverage": f"{since}/{until}",
        "version": f"1.0.0+{recipe.documents_sha256[:12]}",
        "citeAs": f"freshbits, corpus {recipe.name}, sha256 {recipe.documents_sha256}",
        "creator": {"@type": "sc:Organization", "name": "freshbits"},
    }


def _about(recipe: Recipe, documents: Sequence[Document]) -> str:
    n_open = sum(document.redistributable for document in documents)
    return (
        f"{len(documents)} documents of {recipe.entry['content']} from source {recipe.entry['source']}, published from "
        f"{recipe.entry['since']} until {recipe.entry['until']} (not included), for measuring how well language models "
        f"compress them: {n_open} with their full text, {len(documents) - n_open} as digests and a recipe to collect "
        "them."
    )


def _card(recipe: Recipe, documents: Sequence[Document], open_: Sequence[Document]) -> str:
    texts = {"config_name": "default", "data_files": [{"split": "test", "path": DOCUMENTS}], "default": True}
    rows = {"config_name": "recipe", "data_files": [{"split": "test", "path": ROWS}]}
    header = {
        "pretty_name": recipe.name,
        "language": sorted({d.language for d in documents if len(d.language) == 2}),
        "license": "other",
        "license_name": "mixed",
        "task_categories": ["text-generation"],
        "configs": [texts, rows] if open_ else [{**rows, "default": True}],
    }
    sections = [
        f"---\n{yaml.safe_dump(header, sort_keys=False).strip()}\n---",
        f"# {recipe.name}",
        escaped(_about(recipe, documents)),
        _licenses(documents),
        _incomplete(recipe),
        _rebuilding(recipe),
        _harness(recipe) if open_ else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _licenses(documents: Sequence[Document]) -> str:
    counts = Counter(
        (d.license or "unknown", "full text" if d.redistributable else "recipe alone") for d in documents
    )
    rows = "\n".join(f"| {escaped(name)} | {given} | {n} |" for (name, given), n in sorted(counts.items()))
    return (
        "Each text keeps its own licence, in the column `license`, and its author's rights; `url` says where it came "
        f"from.\n\n| licence | here as | documents |\n|---|---|---|\n{rows}"
    )


def _incomplete(recipe: Recipe) -> str:
    if not recipe.gaps:
        return ""
    return "**The snapshot behind this corpus is not complete:**\n\n" + "\n".join(
        f"- {escaped(gap)}" for gap in recipe.gaps
    )


def _rebuilding(recipe: Recipe) -> str:
    commit = recipe.commit or "unknown"
    changed = " with changes that are not committed" if recipe.modified else ""
    return f"""## All of it

`{ROWS}` has a row for every document, and `{FACTS}` says how they were collected: by {escaped(recipe.collector)} of
freshbits, commit `{commit}`{changed}. From a clone of freshbits at that commit,

```console
$ python -m collectors rebuild FOLDER
```

collects them again from their source and says of each whether its text is the same, to the byte. It goes to the web
only with `FRESHBITS_NETWORK=1`, and takes a data set of source `imported` from your own copy, `--path DIR`. The corpus
that this was exported from has the sha256 `{recipe.documents_sha256}`."""


def _harness(recipe: Recipe) -> str:
    return f"""## With lm-evaluation-harness

In this folder, for bits per byte over all full texts:

```console
$ lm_eval --include_path . --tasks {task_name(recipe)} --model hf --model_args pretrained=ORG/NAME
```"""
