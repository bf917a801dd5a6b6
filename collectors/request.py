"""What a snapshot is to hold, as an entry of `snapshots` in `params.yaml` says it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

from collectors.document import UserError

_MAX_PIECES = 200_000
_TAKEN = ("documents", "raw")  # folders in corpora/ that all snapshots share
_KINDS = {
    bool: "true or false",
    dict: "a mapping",
    float: "a number with a decimal point",
    int: "a whole number",
    list: "a list",
    str: "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a snapshot is to hold: an entry of `snapshots` in `params.yaml`.

    Attributes:
        name: slug of the snapshot.
        source: name of the source module.
        content: which profile of filters applies, such as `code` or `prose`.
        since: start of the publication window, UTC.
        until: its end, not included.
        settings: what else the source needs.
        max_documents: where to stop; None for everything in the window.
        partial: whether a snapshot may be finished although addresses could not be had. No part of
            what is asked, so that a person can decide it after the fact.
    """

    name: str
    source: str
    content: str
    since: datetime
    until: datetime
    settings: Mapping[str, Any]
    max_documents: int | None = None
    partial: bool = False

    def facts(self) -> dict[str, Any]:
        """Return the request as plain values for JSON."""
        limit = {} if self.max_documents is None else {"max_documents": self.max_documents}
        return {
            "source": self.source,
            "content": self.content,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "settings": dict(self.settings),
            **limit,
        }

    def chosen(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return a source's settings: its defaults, and over them what this request sets.

        Raises:
            UserError: when a setting is unknown, or of another type than its default.
        """
        for name, value in self.settings.items():
            if name not in defaults:
                raise UserError(
                    f"setting {name!r} of snapshot {self.name} is unknown to source {self.source}; it takes "
                    f"{', '.join(defaults)}"
                )
            if type(value) is not type(defaults[name]):
                raise UserError(
                    f"setting {name} of snapshot {self.name} must be {_KINDS[type(defaults[name])]}, not {value!r}"
                )
        return {**defaults, **self.settings}


def request(name: str, entry: Any) -> Request:
    """Return the request that an entry makes.

    Args:
        name: its key, a slug.
        entry: a mapping with source, content, since, until and settings of the source.

    Raises:
        UserError: when it is none, naming what is wrong in it.
    """
    check_name(name)
    if not isinstance(entry, dict):
        raise UserError(f"snapshot {name} must be a mapping with source, content, since and until")
    settings = dict(entry)
    _check_plain(name, {key: value for key, value in settings.items() if key not in {"since", "until"}})
    max_documents, partial = settings.pop("max_documents", None), settings.pop("partial", False)
    if max_documents is not None and (type(max_documents) is not int or max_documents < 1):
        raise UserError(
            f"max_documents of snapshot {name} must be a whole number above 0, not {max_documents!r}"
        )
    if type(partial) is not bool:
        raise UserError(f"partial of snapshot {name} must be true or false, not {partial!r}")
    try:
        fixed = {key: str(settings.pop(key)) for key in ("source", "content")}
        since, until = (_midnight(settings.pop(key)) for key in ("since", "until"))
    except KeyError as error:
        raise UserError(f"snapshot {name} lacks {error}; add it") from error
    except ValueError as error:
        raise UserError(f'snapshot {name} has a bad date ({error}); write "2026-09-01"') from error
    if since >= until:
        raise UserError(
            f"snapshot {name} ends ({until:%Y-%m-%d}) before it begins ({since:%Y-%m-%d}); swap the two"
        )
    return Request(
        name=name,
        since=since,
        until=until,
        settings=settings,
        max_documents=max_documents,
        partial=partial,
        **fixed,
    )


def check_name(name: Any) -> None:
    """Raise unless a snapshot's name is a slug, on which DVC does not break."""
    if not re.fullmatch(r"[a-z0-9_-]+", str(name)) or name in _TAKEN:
        raise UserError(
            f"snapshot name {name!r} must be of a-z, 0-9, _ and -, and not {' or '.join(_TAKEN)}; rename it"
        )


def _check_plain(name: str, settings: Mapping[str, Any]) -> None:
    """Raise unless settings come back from JSON as they are: a snapshot says so what it answers."""
    try:
        # In pieces, for a few YAML aliases can stand for billions of values.
        pieces = json.JSONEncoder(allow_nan=False, ensure_ascii=False).iterencode(settings)
        text = "".join(islice(pieces, _MAX_PIECES))
        text.encode()
        plain = json.loads(text) == settings
    except (ValueError, TypeError, RecursionError):
        plain = False
    if not plain:
        raise UserError(
            f"snapshot {name} has a setting that is no text, number, true or false, nor a list of "
            f"these, nor a mapping from text to them, or has more than {_MAX_PIECES:,} of them; quote dates and "
            "numeric names"
        )


def _midnight(value: Any) -> datetime:
    day = date.fromisoformat(str(value))
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
