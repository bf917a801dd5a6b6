"""Model files against the digests that params.yaml states of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from collectors.audit.finding import Finding
from collectors.document import sha256_of

_STATED = "a model is what its sha256 in params.yaml says"


def check(root: Path, models: Mapping[str, Any]) -> tuple[int, list[str], list[Finding]]:
    """Return how many models were read, those that are not here, and what is wrong with the others.

    A model that is missing is none that is damaged: it is fetched, and not kept with the data.

    Args:
        root: what a relative `source` is relative to.
        models: by name, as in params.yaml. Those without a `sha256` state nothing that can be held against a file.
    """
    stated = {
        name: (str(entry.get("source", "")), entry["sha256"])
        for name, entry in models.items()
        if isinstance(entry, dict) and entry.get("sha256")
    }
    missing: list[str] = []
    findings: list[Finding] = []
    for name, (source, wanted) in tqdm(stated.items(), desc="models", unit="model", disable=None):
        if not source or not (root / source).exists():
            missing.append(name)
        elif (found := _digest(root / source)) != wanted:
            what = f"its sha256 is {found}, and that of model {name} {wanted}"
            remedy = "delete it and fetch it again; `make models` fetches that of the repository"
            findings.append(Finding(what=what, where=source, rule=_STATED, remedy=remedy))
    return len(stated) - len(missing), missing, findings


def _digest(path: Path) -> str:
    """Return the digest of a file; of a folder that over the names and digests of its files, a line each."""
    if path.is_file():
        return sha256_of(path)
    lines = "".join(f"{file.name} {sha256_of(file)}\n" for file in sorted(path.iterdir()) if file.is_file())
    return hashlib.sha256(lines.encode()).hexdigest()
