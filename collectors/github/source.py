"""Code from git repositories, found by GitHub's search or named, and proven fresh by their history.

A repository is found by the date of its last push by default: old repositories have fresh files too,
and a repository created in the window can be full of old ones. The search knows only the latest push,
so that everything pushed since the window's start is looked at. Each repository is cloned without its
files; `collectors.github.freshness` says which are fresh, and only these are kept, with the evidence as JSON.

Nothing is kept of a file in which a credential is found but the kind of finding and its line.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from collectors.document import Document, RawRecord, UserError
from collectors.github.git import GitError, GoneError, require
from collectors.github.records import Repository, documents, repository_records
from collectors.github.rules import repositories_sharing
from collectors.github.search import Part, search
from collectors.request import Request
from collectors.warc import Record
from collectors.web.fetch import Fetcher
from collectors.web.polite import Limit, UnavailableError

VERSION = "github/1"
NETWORK = True
POLLS = False
CONTENT = "code"
TOKENS = {"api.github.com": "GITHUB_TOKEN"}
# Ten searches a minute without a token, thirty with one; a 403 may be a secondary limit.
LIMITS = {"api.github.com": Limit(interval=6.5, with_token=2.1, forbidden_waits=True)}
SETTINGS: dict[str, Any] = {
    "language": "python",
    "by": "pushed",
    "min_stars": 10,
    "licenses": [],
    "repositories": [],
    "max_repositories": 1_000,
    "files_per_repository": 100,
    "max_file_bytes": 1_000_000,
    "template_repositories": 3,
}

SUFFIXES = {
    "c": (".c", ".h"),
    "c#": (".cs",),
    "c++": (".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx"),
    "dart": (".dart",),
    "go": (".go",),
    "haskell": (".hs",),
    "java": (".java",),
    "javascript": (".js", ".jsx", ".mjs", ".cjs"),
    "julia": (".jl",),
    "kotlin": (".kt", ".kts"),
    "lua": (".lua",),
    "php": (".php",),
    "python": (".py", ".pyi", ".ipynb"),
    "r": (".r",),
    "ruby": (".rb",),
    "rust": (".rs",),
    "scala": (".scala",),
    "shell": (".sh", ".bash"),
    "swift": (".swift",),
    "typescript": (".ts", ".tsx", ".mts", ".cts"),
}

_LICENSE = r"[A-Za-z0-9.+-]+"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")


def lag(_request: Request) -> timedelta:
    """Nothing comes to light later."""
    return timedelta(0)


def collect(request: Request, fetcher: Fetcher) -> None:
    """Keep the history and the fresh files of every repository, in the order of a hash of their names.

    With `max_documents` the last repository is still kept as a whole.

    Raises:
        UserError: when a setting is wrong.
    """
    settings = _settings(request)
    require()
    repositories = (
        [_named(entry) for entry in settings["repositories"]]
        if settings["repositories"]
        else _searched(request, settings, fetcher)
    )
    names = Counter(repository.name for repository in repositories)
    if twice := next((name for name, count in names.items() if count > 1), ""):
        raise UserError(
            f"snapshot {request.name} names two repositories {twice}; leave one out, or rename it"
        )
    # The first of any other order would be the oldest, the most starred or the alphabet's.
    repositories.sort(key=lambda repository: sha256(repository.name.encode()).digest())
    limit = settings["max_repositories"]
    if len(repositories) > limit:
        fetcher.gap(f"{len(repositories)} repositories, of which max_repositories = {limit} are taken")
    for repository in repositories[:limit]:
        produce = partial(
            repository_records,
            repository,
            request,
            suffixes=SUFFIXES[settings["language"]],
            language=settings["language"],
            max_files=settings["files_per_repository"],
            max_file_bytes=settings["max_file_bytes"],
            fetcher=fetcher,
        )
        try:
            kept = fetcher.keep(f"git {repository.source}", produce)
        except GitError as error:
            gone = isinstance(error, GoneError)
            fetcher.gap(UnavailableError(f"{repository.page}: {error}", retry=not gone))
            continue
        if not all(fetcher.room() for _ in kept[1:]):
            return


def extract(
    records: Iterable[tuple[RawRecord, Record]], request: Request, _workers: int, /
) -> Iterator[Document]:
    """Yield one document for each fresh file; those without use come with the reason, a secret's without its text."""
    settings = _settings(request)
    found = list(documents(records, since=request.since, language=settings["language"], extractor=VERSION))
    enough = settings["template_repositories"]
    shared = repositories_sharing([d.text for d in found], [d.metadata["repository"] for d in found], enough)
    for made, count in zip(found, shared, strict=True):
        yield replace(made, drop_reason="template") if count >= enough and not made.drop_reason else made


def _settings(request: Request) -> dict[str, Any]:
    chosen = request.chosen(SETTINGS)
    where = f"of snapshot {request.name}"
    if chosen["language"] not in SUFFIXES:
        raise UserError(f"language {chosen['language']!r} {where} is none of {', '.join(SUFFIXES)}")
    if chosen["by"] not in {"created", "pushed"}:
        raise UserError(f"by {chosen['by']!r} {where} is neither `created` nor `pushed`")
    for name in ("licenses", "repositories"):
        if not all(isinstance(value, str) and value for value in chosen[name]):
            raise UserError(f"{name} {where} must be a list of strings, not {chosen[name]!r}")
    if any(not re.fullmatch(_LICENSE, value) for value in chosen["licenses"]):
        raise UserError(
            f"licenses {where} must be licence identifiers such as MIT, not {chosen['licenses']!r}"
        )
    for name in ("max_repositories", "files_per_repository", "max_file_bytes"):
        if chosen[name] < 1:
            raise UserError(f"{name} {where} must be above 0, not {chosen[name]}")
    if chosen["template_repositories"] < 2 or chosen["min_stars"] < 0:
        raise UserError(f"template_repositories {where} must be above 1, and min_stars not below 0")
    return chosen


def _named(entry: str) -> Repository:
    """Return the repository that a person named by an https address or a folder."""
    if "://" not in entry:
        folder = Path(entry).resolve()
        if not folder.is_dir():
            raise UserError(f"repository {entry!r} is no folder; give a folder, or an address with https://")
        name = folder.name.removesuffix(".git") or "repository"
        return Repository(name=name, source=str(folder), page=f"file:{quote(name)}")
    page = entry.rstrip("/").removesuffix(".git")
    name = page.removeprefix("https://").removeprefix("github.com/")
    return Repository(name=name, source=entry, page=page)


def _searched(request: Request, settings: Mapping[str, Any], fetcher: Fetcher) -> list[Repository]:
    """Return the repositories that the search gives, without forks, mirrors, templates and archived ones."""
    first, last = request.since, request.until - timedelta(seconds=1)
    fixed = f"language:{settings['language']} fork:false archived:false mirror:false template:false is:public"
    part = Part(first=first, last=last, step=request.until - first, stars=settings["min_stars"])
    parts = [part]
    if settings["by"] == "pushed":
        fixed += f" created:<{request.until:%Y-%m-%dT%H:%M:%SZ}"
        parts.append(replace(part, first=request.until, last=None))
    found: dict[int, dict[str, Any]] = {}
    for license_ in sorted({value.lower() for value in settings["licenses"]}) or [""]:
        found |= search(fetcher, f"{fixed} license:{license_}" if license_ else fixed, settings["by"], parts)
    named = {  # by name, which two ids share for a while when a repository was deleted and made anew
        item["full_name"]: Repository(
            name=item["full_name"],
            source=f"https://github.com/{item['full_name']}.git",
            page=f"https://github.com/{item['full_name']}",
            stars=stars if isinstance(stars := item.get("stargazers_count"), int) else -1,
            license=_spdx(item),
        )
        for _, item in sorted(found.items())
        if _NAME.fullmatch(str(item.get("full_name")))
        and not any(
            item.get(flag)
            for flag in ("fork", "archived", "mirror_url", "is_template", "private", "disabled")
        )
    }
    return list(named.values())


def _spdx(item: Mapping[str, Any]) -> str:
    stated = item.get("license")
    name = str(stated.get("spdx_id") or "") if isinstance(stated, dict) else ""
    return name if re.fullmatch(_LICENSE, name) and name != "NOASSERTION" else ""
