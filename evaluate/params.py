"""What params.yaml says about models and scoring, checked: the only place here that reads the file."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import yaml

from collectors.document import UserError
from evaluate.measure import AUTO, Settings
from evaluate.model import Cutoff, Evidence, ModelEntry
from evaluate.windows import PROTOCOLS, SINKS, ScoringProtocol

PARAMS = Path("params.yaml")


def read() -> dict[str, Any]:
    """Return the parameters.

    Raises:
        UserError: when the file is missing, damaged, or holds no models and snapshots, or one without a name.
    """
    try:
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{PARAMS} cannot be read ({' '.join(str(error).split())}); run from the repository"
        ) from error
    if not isinstance(params, dict) or not all(
        isinstance(params.get(k), dict) for k in ("models", "snapshots")
    ):
        raise UserError(f"{PARAMS} must hold the mappings `models` and `snapshots`; see the comments in it")
    for name in params["snapshots"]:
        if not isinstance(name, str):
            raise UserError(f"snapshot name {name!r} in {PARAMS} is no text; put it in quotes, or rename it")
    return params


def section(params: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping of the parameters, empty where there is none.

    Raises:
        UserError: when it is no mapping.
    """
    found = params.get(name, {})
    if not isinstance(found, dict):
        raise UserError(f"`{name}` in params.yaml must be a mapping, not {found!r}")
    return found


def options(params: dict[str, Any], name: str, known: Sequence[str]) -> dict[str, Any]:
    """Return a section of the parameters that takes these options and no others.

    Raises:
        UserError: when it is no mapping, or names another.
    """
    found = section(params, name)
    if unknown := [str(key) for key in found if key not in known]:
        raise UserError(f"`{name}` in params.yaml takes {', '.join(known)}, not {', '.join(sorted(unknown))}")
    return found


def entry(slug: Any, options: Any) -> ModelEntry:
    """Return a model as `params.yaml` lists it.

    Raises:
        UserError: when its name, its cutoff, its price or its shape is wrong.
    """
    if not isinstance(slug, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", slug) or slug in {".", ".."}:
        raise UserError(
            f"model name {slug!r} must be of letters, digits, . _ and -; rename it in params.yaml"
        )
    if not isinstance(options, dict):
        raise UserError(f"model {slug} in params.yaml must be a mapping with a `backend`, not {options!r}")
    if wrong := [key for key in options if not isinstance(key, str)]:
        raise UserError(f"model {slug} in params.yaml has an option that is no name: {wrong[0]!r}; remove it")
    rest = dict(options)
    name, family = rest.pop("name", ""), rest.pop("family", "")
    for key, value in (("name", name), ("family", family)):
        if not isinstance(value, str):
            raise UserError(
                f"`{key}` of model {slug} in params.yaml must be text, not {value!r}; put it in quotes"
            )
    numbers = {key: rest.pop(key, None) for key in ("initializer_range", "training_flops")}
    for key, value in numbers.items():
        # YAML reads 6e21 as text: a number there has a point and a sign, 6.0e+21.
        if value is not None and not (type(value) in {int, float} and 0 < value < math.inf):
            raise UserError(
                f"`{key}` of model {slug} in params.yaml must be a number above 0, such as 0.02 or 6.0e+21, not "
                f"{value!r}"
            )
    price = rest.pop("price", {})
    if not isinstance(price, dict) or not all(
        key in {"per_hour", "per_million_tokens"} and type(value) in {int, float} and 0 <= value < math.inf
        for key, value in price.items()
    ):
        raise UserError(
            f"`price` of model {slug} in params.yaml takes per_hour and per_million_tokens, "
            f"numbers from 0, not {price!r}"
        )
    backend = str(rest.pop("backend", ""))
    if "cutoff" in rest and backend == "compressors":
        raise UserError(f"model {slug} in params.yaml is a compressor, which has no `cutoff`; remove it")
    return ModelEntry(
        slug=slug,
        backend=backend,
        name=name,
        family=family,
        cutoff=_cutoff(slug, rest.pop("cutoff", {})),
        **numbers,
        options=rest,
        price=price,
    )


def _cutoff(slug: str, options: Any) -> Cutoff:
    rule = f"`cutoff` of model {slug} in params.yaml"
    if not isinstance(options, dict) or not set(options) <= {"date", "evidence", "source"}:
        raise UserError(
            f'{rule} takes date, evidence and source, such as {{date: "2024-11", evidence: release, source: '
            f"https://…}}, not {options!r}"
        )
    # YAML reads a day without quotes as a date and a year as a number; both say what they mean.
    given = options.get("date", "")
    day = str(given) if type(given) in {str, int, date} else ""
    evidence, source = options.get("evidence", "unknown"), options.get("source", "")
    if evidence not in get_args(Evidence):
        raise UserError(f"{rule} has evidence {evidence!r}; choose one of {', '.join(get_args(Evidence))}")
    if evidence == "unknown":
        if given or source:
            raise UserError(
                f"{rule} has a date or source and no evidence; say whether it is declared or release"
            )
        return Cutoff()
    cutoff = Cutoff(date=day, evidence=evidence, source=source)
    try:
        valid = re.fullmatch(r"\d{4}(-\d\d){0,2}", day, re.ASCII) and cutoff.first_after
    except (ValueError, OverflowError):
        valid = None
    if not valid:
        raise UserError(
            f'{rule} has date {given!r}, which is no day, month or year; write "2024-11", for instance'
        )
    if not isinstance(source, str) or not re.fullmatch(r"https?://\S+", source):
        raise UserError(f"{rule} has source {source!r}; name the address where its {evidence} date is told")
    return cutoff


def settings(params: dict[str, Any], *, protocol: str | None, precision: float | None) -> Settings:
    """Return the section `score`, with what the command line says instead.

    Raises:
        UserError: when a value is wrong or unknown.
    """
    rest = dict(section(params, "score"))
    name = rest.pop("protocol", AUTO)
    name = protocol or name
    if name not in (AUTO, *PROTOCOLS):
        raise UserError(f"protocol {name!r} is unknown; choose one of {', '.join((AUTO, *PROTOCOLS))}")
    if precision is not None:
        rest["precision"] = precision
    size = {key: rest.pop(key) for key in ("window", "stride") if key in rest}
    unknown = set(rest) - {"precision", "seed", "engine"}
    if unknown:
        raise UserError(
            "`score` in params.yaml takes protocol, window, stride, precision, seed and engine, not "
            f"{', '.join(sorted(map(str, unknown)))}"
        )
    cut = ScoringProtocol(name="full" if name == AUTO else name, **size)
    if name == AUTO and cut.stride + SINKS < cut.window:
        cut = replace(cut, name="sink")
    return Settings(protocol=cut, auto=name == AUTO, **rest)
