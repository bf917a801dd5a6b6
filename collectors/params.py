"""What params.yaml says about snapshots, filters and duplicates, checked: the only place here that reads it."""

from pathlib import Path
from typing import Any

import yaml

from collectors.document import UserError
from collectors.minhash import MinHashConfig
from collectors.request import Request
from collectors.request import request as checked

PARAMS = Path("params.yaml")


def read() -> dict[str, Any]:
    """Return the parameters.

    Raises:
        UserError: when the file is missing or damaged, or holds no snapshots.
    """
    try:
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{PARAMS} cannot be read ({error}); mend it, or run from the repository") from error
    if not isinstance(params, dict) or not isinstance(params.get("snapshots"), dict):
        raise UserError(f"{PARAMS} must hold the mapping `snapshots`; see the comments in it")
    return params


def request(name: str, params: dict[str, Any], section: str = "snapshots") -> Request:
    """Return what a snapshot is to hold.

    Raises:
        UserError: when the section lists no such snapshot, or its entry is wrong.
    """
    if name not in params[section]:
        raise UserError(
            f"snapshot {name!r} is not under `snapshots` in params.yaml; it lists "
            f"{', '.join(map(str, params['snapshots'])) or 'none'}"
        )
    return checked(name, params[section][name])


def section(params: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping of the parameters, empty where there is none.

    Raises:
        UserError: when it is no mapping.
    """
    found = params.get(name) or {}
    if not isinstance(found, dict):
        raise UserError(f"`{name}` in params.yaml must be a mapping, not {found!r}")
    return found


def threshold(params: dict[str, Any]) -> float:
    """Return from which similarity on a document is a near duplicate.

    Raises:
        UserError: when it is no number.
    """
    found = section(params, "dedup").get("threshold", 0.7)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UserError(f"`dedup.threshold` in params.yaml must be a number, not {found!r}")
    return float(found)


def minhash(params: dict[str, Any]) -> MinHashConfig:
    """Return how documents are signed.

    Raises:
        UserError: when a setting is wrong.
    """
    settings = section(section(params, "dedup"), "minhash")
    if not all(type(value) is int for value in settings.values()):
        raise UserError(f"`dedup.minhash` in params.yaml takes whole numbers, not {settings!r}")
    try:
        return MinHashConfig(**settings)
    except TypeError as error:
        raise UserError(f"`dedup.minhash` in params.yaml has a wrong setting: {error}") from error
