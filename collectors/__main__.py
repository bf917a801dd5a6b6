"""The commands of `python -m collectors`, and the only place here that reads params.yaml."""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from collectors import build, filters, snapshot
from collectors.dedup import Earlier, deduplicate
from collectors.document import UserError, read_documents, write_documents
from collectors.minhash import MinHashConfig, read_signatures, sign, write_signatures
from collectors.snapshot import Request
from collectors.source import source

PARAMS = Path("params.yaml")
CORPORA = Path("corpora")
STAGING = Path(".staging")

COMMANDS = {
    "collect": "fetch the raw bytes of a snapshot, once",
    "extract": "make documents of a raw snapshot, and their signatures",
    "dedup": "filter and deduplicate the documents into a corpus",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 when a person has something to mend."""
    parser, arguments = _parse(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        params = _params()
        request = _request(arguments.snapshot, params)
        facts = arguments.run(request, params, arguments.workers)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"{request.name}: " + ", ".join(f"{value} {name}" for name, value in _flat(facts)))
    return 0


def _parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    listing = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m collectors",
        usage="python -m collectors COMMAND SNAPSHOT [--help]",
        description="Collect dated text and make versioned corpora of it.",
        epilog=f"commands, in the order of the pipeline:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", help=argparse.SUPPRESS, metavar="COMMAND", prog="python -m collectors"
    )
    for name, run in (("collect", _collect), ("extract", _extract), ("dedup", _dedup)):
        command = commands.add_parser(
            name, help=COMMANDS[name], description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
        )
        command.add_argument("snapshot", metavar="SNAPSHOT", help="a name under `snapshots` in params.yaml")
        command.add_argument(
            "--workers", type=_positive, default=os.cpu_count() or 1, help="processes (default: one per core)"
        )
        command.add_argument("--json", action="store_true", help="print JSON for programs to read")
        command.set_defaults(run=run)
    return parser, parser.parse_args(argv)


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number above 0")
    return int(value)


def _collect(request: Request, _params: dict[str, Any], _workers: int) -> dict[str, Any]:
    origin = source(request.source)
    folder = CORPORA / "raw" / request.name
    if folder.exists() and _answers(folder, request):
        held = snapshot.read_snapshot(folder)
        for _ in snapshot.read_records(folder):
            pass  # a snapshot that stays must be whole
        return {"records": held.n_records, "bytes": held.n_bytes}
    if origin.NETWORK and os.environ.get("FRESHBITS_NETWORK") != "1":
        raise UserError(
            f"snapshot {request.name} would be scraped from the web, and what the web says today is another "
            "snapshot; restore it with `dvc pull` from a remote that holds it, or collect anew with `make refresh`"
        )
    result = snapshot.write_snapshot(
        folder,
        STAGING / "raw",
        origin.collect(request),
        request=request,
        collector=origin.VERSION,
    )
    return {"records": result.n_records, "bytes": result.n_bytes}


def _extract(request: Request, params: dict[str, Any], workers: int) -> dict[str, Any]:
    documents = list(source(request.source).extract(_records(request), request))
    repeated = [native_id for native_id, n in Counter(d.native_id for d in documents).items() if n > 1]
    if repeated:
        raise UserError(
            f"source {request.source} gives {repeated[0]} twice; a snapshot holds each document once"
        )
    n_documents = write_documents(_documents(request.name), documents)
    write_signatures(_signatures(request.name), sign(documents, _minhash(params), workers))
    return {"documents": n_documents, "characters": sum(d.n_characters for d in documents)}


def _records(request: Request) -> Iterator[Any]:
    folder = CORPORA / "raw" / request.name
    if not _answers(folder, request):
        raise UserError(
            f"snapshot {folder} answers another request than params.yaml makes; snapshots are never rewritten: give "
            "the changed one a new name"
        )
    yield from snapshot.read_records(folder)


def _answers(folder: Path, request: Request) -> bool:
    asked: dict[str, Any] = json.loads(json.dumps(request.facts()))
    return snapshot.read_snapshot(folder).request == asked


def _dedup(request: Request, params: dict[str, Any], _workers: int) -> dict[str, Any]:
    rules = _section(params, "filters").get(request.content)
    if not isinstance(rules, dict):
        raise UserError(
            f"params.yaml has no filters for content {request.content!r}; add `filters.{request.content}`"
        )
    config = _minhash(params)
    threshold = _section(params, "dedup").get("threshold", 0.7)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise UserError(f"`dedup.threshold` in params.yaml must be a number, not {threshold!r}")
    names = list(params["snapshots"])
    before = names[: names.index(request.name)]
    for name in before:
        _check_name(name)
    judged = list(filters.run(read_documents(_documents(request.name)), filters.filters(rules)))
    earlier = [
        Earlier(
            name=name,
            signed=read_signatures(_signatures(name), config),
            texts=lambda ids, name=name: _texts(name, ids),  # type: ignore[misc]
        )
        for name in before
    ]
    fresh = deduplicate(
        (document for document in judged if not document.drop_reason),
        read_signatures(_signatures(request.name), config),
        earlier,
        corpus=request.name,
        threshold=threshold,
    )
    dropped = (document for document in judged if document.drop_reason)
    facts = build.write_corpus(CORPORA / request.name, request, [*fresh, *dropped])
    return {
        "documents": facts.n_documents,
        "characters": facts.n_characters,
        "dropped": facts.dropped,
    }


def _texts(name: str, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    wanted = set(ids)
    return ((d.id, d.text) for d in read_documents(_documents(name)) if d.id in wanted)


def _documents(name: str) -> Path:
    return CORPORA / "documents" / f"{name}.parquet"


def _signatures(name: str) -> Path:
    return CORPORA / "documents" / f"{name}.signatures.parquet"


def _minhash(params: dict[str, Any]) -> MinHashConfig:
    settings = _section(_section(params, "dedup"), "minhash")
    if not all(type(value) is int for value in settings.values()):
        raise UserError(f"`dedup.minhash` in params.yaml takes whole numbers, not {settings!r}")
    try:
        return MinHashConfig(**settings)
    except TypeError as error:
        raise UserError(f"`dedup.minhash` in params.yaml has a wrong setting: {error}") from error


def _params() -> dict[str, Any]:
    try:
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{PARAMS} cannot be read ({' '.join(str(error).split())}); run from the repository"
        ) from error
    if not isinstance(params, dict) or not isinstance(params.get("snapshots"), dict):
        raise UserError(f"{PARAMS} must hold the mapping `snapshots`; see the comments in it")
    return params


def _request(name: str, params: dict[str, Any]) -> Request:
    if name not in params["snapshots"]:
        raise UserError(
            f"snapshot {name!r} is not in params.yaml; it lists {', '.join(params['snapshots']) or 'none'}"
        )
    _check_name(name)
    entry = params["snapshots"][name]
    if not isinstance(entry, dict):
        raise UserError(
            f"snapshot {name} in params.yaml must be a mapping with source, content, since and until"
        )
    settings = dict(entry)
    try:
        fixed = {key: str(settings.pop(key)) for key in ("source", "content")}
        since, until = (_midnight(settings.pop(key)) for key in ("since", "until"))
    except KeyError as error:
        raise UserError(f"snapshot {name} in params.yaml lacks {error}; add it") from error
    except ValueError as error:
        raise UserError(
            f'snapshot {name} in params.yaml has a bad date ({error}); write "2026-09-01"'
        ) from error
    if since >= until:
        raise UserError(
            f"snapshot {name} ends ({until:%Y-%m-%d}) before it begins ({since:%Y-%m-%d}); swap the two"
        )
    return Request(name=name, since=since, until=until, settings=settings, **fixed)


def _check_name(name: Any) -> None:
    if not re.fullmatch(r"[a-z0-9_-]+", str(name)):
        raise UserError(f"snapshot name {name!r} must be of a-z, 0-9, _ and -; rename it in params.yaml")


def _section(params: dict[str, Any], name: str) -> dict[str, Any]:
    section = params.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"`{name}` in params.yaml must be a mapping, not {section!r}")
    return section


def _midnight(value: Any) -> datetime:
    day = date.fromisoformat(str(value))
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _flat(facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from ((f"{name} as {reason}", count) for reason, count in value.items())
        else:
            yield name, f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())
