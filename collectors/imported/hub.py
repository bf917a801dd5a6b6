"""A data set of the Hugging Face hub, at a commit.

The hub's interface lists the files of the commit; those of the config and split are streamed, each held against
the digest that the listing states, and their rows kept. A commit holds the same rows whenever it is asked for.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from requests.utils import parse_header_links

from collectors.document import Document, RawRecord, UserError
from collectors.imported import layout, rows
from collectors.request import Request
from collectors.warc import Record
from collectors.web.addresses import BrokenError
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit

VERSION = "hub/1"
NETWORK = True
POLLS = False
CONTENT = "prose"
HOST = "huggingface.co"
TOKENS: Mapping[str, str] = {HOST: "HF_TOKEN"}
LIMITS: Mapping[str, Limit] = {HOST: Limit(interval=1.0)}
SETTINGS: Mapping[str, Any] = {"dataset": "", "revision": "", **rows.SETTINGS}
MAX_FILE_BYTES = 8 << 30

_SITE = f"https://{HOST}"
_MAX_PAGES = 1_000
_CARD = "README.md"
_MAX_CARD_BYTES = 4 << 20


def lag(_request: Request) -> timedelta:
    """Nothing comes to light later."""
    return timedelta(0)


def collect(request: Request, fetcher: Fetcher) -> None:
    """Keep the rows of a config and split that lie in the window.

    Raises:
        UserError: when there is no such data set, commit, config, split or column, or a setting is wrong.
    """
    settings = request.chosen(SETTINGS)
    said = rows.terms(request, settings)
    dataset, revision = settings["dataset"], settings["revision"]
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", dataset, re.ASCII) or not re.fullmatch(
        r"[0-9a-f]{40}", revision
    ):
        raise UserError(
            f"snapshot {request.name} needs `dataset`, such as org/name, and `revision`, the 40 hex digits of a "
            f"commit, because branches move; {_SITE}/datasets/{dataset or 'org/name'}/commits/main lists them"
        )
    listed, at = _listing(fetcher, dataset, revision)
    base = f"{_SITE}/datasets/{dataset}/resolve/{revision}/"
    card = ""
    if _CARD in listed:
        answer = fetcher.get(f"{base}{_CARD}", robots=False, max_bytes=_MAX_CARD_BYTES)
        card = answer.payload.decode("utf-8", "replace") if answer.status == 200 else ""
    chosen = layout.chosen(
        list(listed), card, config=settings["config"], split=settings["split"], where=dataset
    )
    files = [
        rows.File(
            name=f"{dataset}/{path}",
            opened=partial(_download, fetcher, f"{base}{quote(path)}", listed[path]),
        )
        for path in chosen
    ]
    rows.keep(fetcher, files, said, at.date)


def _listing(fetcher: Fetcher, dataset: str, revision: str) -> tuple[dict[str, dict[str, Any]], Record]:
    """Return what the hub says of every file of a commit, and the last answer."""
    url = f"{_SITE}/api/datasets/{dataset}/tree/{revision}?recursive=true"
    listed: dict[str, dict[str, Any]] = {}
    for _ in range(_MAX_PAGES):
        answer = fetcher.get(url, robots=False)
        if answer.status != 200:
            raise UserError(
                f"the hub answers {answer.status} for data set {dataset} at {revision}; correct its name and commit, "
                f"or set {TOKENS[HOST]} where it needs one"
            )
        try:
            entries = [entry for entry in json.loads(answer.payload) if entry["type"] == "file"]
            listed |= {str(entry["path"]): entry for entry in entries}
            links = parse_header_links(answer.headers.get("link", ""))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"the hub's listing of {dataset} cannot be read; collect it another time"
            ) from error
        further = next((link["url"] for link in links if link.get("rel") == "next"), "")
        if not further.startswith(f"{_SITE}/"):
            break
        url = further
    return listed, answer


def _download(fetcher: Fetcher, url: str, entry: Mapping[str, Any]) -> Path:
    """Return a copy of a file that is what the listing says.

    Raises:
        BrokenError: when it is not.
        UnavailableError: when it cannot be had.
        UserError: when it is too large.
    """
    size, stored = entry.get("size"), entry.get("lfs") or {}
    if not isinstance(size, int) or size > MAX_FILE_BYTES:
        raise UserError(
            f"{url} has {size} bytes, more than {MAX_FILE_BYTES:,}; choose another config or split"
        )
    # Small files are known by git's digest, large ones by their own.
    expected = stored.get("oid") or entry.get("oid")
    digest = sha256() if stored else sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    path = fetcher.scratch / url.rpartition("/")[2]
    with fetcher.stream(url, max_bytes=size) as body, path.open("wb") as file:
        while piece := body.read(1 << 20):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != expected:
        raise BrokenError(f"{url} is not the file that the hub lists")
    return path


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
        url=f"{_SITE}/datasets/{settings['dataset']}/tree/{settings['revision']}",
        fetched=True,
    )
