"""A data set in a folder of this machine: a Hugging Face dataset folder, or Parquet and JSON lines.

Needs no network. A row is a document; its date is the one that a column, or `params.yaml`, declares.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from collectors.document import Document, RawRecord, UserError
from collectors.imported import layout, rows
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit

VERSION = "imported/1"
NETWORK = False
POLLS = False
CONTENT = "prose"
TOKENS: Mapping[str, str] = {}
LIMITS: Mapping[str, Limit] = {}
SETTINGS: Mapping[str, Any] = {"path": "", "revision": "", **rows.SETTINGS}


def lag(_request: Request) -> timedelta:
    """Nothing comes to light later."""
    return timedelta(0)


def collect(request: Request, fetcher: Fetcher) -> None:
    """Keep the rows of a config and split that lie in the window.

    Raises:
        UserError: when there is no such folder, config, split or column, a file lies elsewhere, or a setting is wrong.
    """
    settings = request.chosen(SETTINGS)
    said = rows.terms(request, settings)
    path = Path(settings["path"])
    if not settings["path"] or not path.exists():
        raise UserError(
            f"`path` of snapshot {request.name} is {settings['path']!r}, where nothing is; name a folder or a file"
        )
    root = path if path.is_dir() else path.parent
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    relative = [file.relative_to(root) for file in found]
    paths = [name.as_posix() for name in relative if not any(part.startswith(".") for part in name.parts)]
    chosen = layout.chosen(
        paths,
        _card(root, path / "README.md"),
        config=settings["config"],
        split=settings["split"],
        where=settings["path"],
    )
    # The folder's own name, without the way to it, which is this machine's.
    name = root.resolve().name
    for file in chosen if path.is_dir() else ():
        _check_inside(root, root / file)
    files = [rows.File(name=_text(f"{name}/{file}"), opened=partial(Path, root, file)) for file in chosen]
    # The clock's date would make two equal collections differ.
    rows.keep(fetcher, files, said, request.until)


def _card(root: Path, path: Path) -> str:
    if not path.is_file():
        return ""
    _check_inside(root, path)
    return path.read_text(encoding="utf-8", errors="replace")


def _check_inside(root: Path, file: Path) -> None:
    """Raise unless a file is in the folder: whoever made a data set could link to anything on this machine."""
    if not file.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{file.relative_to(root).as_posix()!r} in {root} is a link out of that folder; put the file itself there"
        )


def _text(name: str) -> str:
    """Return a name, which is part of ids and addresses, unless it is no text."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the name of file {name!r} is not in UTF-8; rename it") from error
    return name


def extract(
    records: Iterable[tuple[RawRecord, Record]], request: Request, _workers: int, /
) -> Iterator[Document]:
    """Yield a document for each row; one without a date that can be read as dropped (`no-date-evidence`)."""
    settings = request.chosen(SETTINGS)
    return rows.documents(
        records,
        rows.terms(request, settings),
        extractor=VERSION,
        revision=settings["revision"],
        url="",
        fetched=False,
    )
