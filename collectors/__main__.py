"""The commands of `python -m collectors`, and the only place here that reads params.yaml."""

import argparse
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from collectors import build, collect, filters, snapshot
from collectors.dedup import Earlier, deduplicate, hold
from collectors.document import ELSEWHERE, Document, UserError, read_documents, write_documents
from collectors.minhash import MinHashConfig, read_signatures, sign, write_signatures
from collectors.request import Request, check_name, request
from collectors.source import SOURCES, source

PARAMS = Path("params.yaml")
CORPORA = Path("corpora")
REMOVALS = CORPORA / "removed.csv"
STAGING = Path(".staging/raw")
WAITING = Path(".staging/upcoming")

COMMANDS = {
    "collect": "fetch the raw bytes of a snapshot, once",
    "extract": "make documents of a raw snapshot, and their signatures",
    "dedup": "filter and deduplicate the documents into a corpus",
    "sources": "list what can be collected, what it needs and how fast it may be asked",
}
LOOK = "--source S --since DAY --until DAY [--max-documents N] [--set NAME=VALUE …] -o FOLDER"
_SHOWN = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 when a person has something to mend."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles are in any script, terminals are not
    parser, arguments = _parse(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        print(
            f"error: {_line(error)}; what was done is kept: mend this and run the same command again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what was done is kept: run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _line(text: object) -> str:
    """Return a message on one line, and nothing in it that a terminal obeys."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    listing = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m collectors",
        usage="python -m collectors COMMAND [SNAPSHOT] [--help]",
        description="Collect dated text and make versioned corpora of it.",
        epilog=f"commands, in the order of the pipeline:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", help=argparse.SUPPRESS, metavar="COMMAND", prog="python -m collectors"
    )
    for name, run in (("collect", _collect), ("extract", _extract), ("dedup", _dedup), ("sources", _sources)):
        command = commands.add_parser(
            name, help=COMMANDS[name], description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
        )
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON for programs to read")
        if name == "sources":
            continue
        optional = "?" if name == "collect" else None
        command.add_argument(
            "snapshot",
            metavar="SNAPSHOT",
            nargs=optional,
            help="a name under `snapshots` in params.yaml, or to collect under `upcoming`",
        )
        command.add_argument(
            "--workers", type=_positive, default=os.cpu_count() or 1, help="processes (default: one per core)"
        )
    _look_arguments(commands.choices["collect"])
    return parser, parser.parse_args(argv)


def _look_arguments(command: argparse.ArgumentParser) -> None:
    command.usage = f"python -m collectors collect SNAPSHOT\n       python -m collectors collect {LOOK}"
    look = command.add_argument_group("a first look, without params.yaml")
    look.add_argument("--source", choices=tuple(SOURCES), help="what to collect from")
    look.add_argument("--since", metavar="DAY", help="start of the publication window, such as 2026-10-01")
    look.add_argument("--until", metavar="DAY", help="its end, not included")
    look.add_argument("--max-documents", type=_positive, metavar="N", default=20, help="default: 20")
    look.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the source, its value in YAML",
    )
    look.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where raw records and documents go"
    )


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number above 0")
    return int(value)


def _collect(arguments: argparse.Namespace) -> None:
    look = (arguments.source, arguments.since, arguments.until, arguments.output)
    if arguments.snapshot is None and all(look):
        _look(arguments)
        return
    if arguments.snapshot is None or any(look):
        raise UserError(f"collect takes the name of a snapshot in params.yaml, or all of {LOOK}")
    params = _params()
    upcoming = arguments.snapshot in _section(params, "upcoming")
    if upcoming and arguments.snapshot in params["snapshots"]:
        raise UserError(
            f"snapshot {arguments.snapshot} stands under `snapshots` and under `upcoming`; remove it from one of them"
        )
    asked = _request(arguments.snapshot, params, "upcoming" if upcoming else "snapshots")
    # What is upcoming stays out of corpora/, on which stages of the pipeline depend.
    waiting, folder = WAITING / asked.name, CORPORA / "raw" / asked.name
    if not upcoming and not folder.exists() and waiting.exists() and _answers(waiting, asked):
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting.replace(folder)
    folder = waiting if upcoming else folder
    if folder.exists() and _answers(folder, asked):
        for _ in snapshot.read_records(folder):
            pass  # a snapshot that stays must be whole
    else:
        try:
            _collect_new(asked, folder, upcoming=upcoming)
        except collect.OpenWindowError as error:
            if not upcoming:
                raise UserError(f"{error}; until then its entry belongs under `upcoming`") from error
            print(json.dumps({"open": str(error)}) if arguments.json else error)
            return
    held = snapshot.read_snapshot(folder)
    _say(arguments, asked.name, {"records": held.n_records, "bytes": held.n_bytes, "gaps": list(held.gaps)})
    if upcoming and not arguments.json:
        print(
            f"{asked.name} is collected; move its entry from `upcoming` to the end of `snapshots`, then `dvc repro`"
        )


def _collect_new(asked: Request, folder: Path, *, upcoming: bool) -> None:
    # DVC never runs what is upcoming, so that a person must have asked for it.
    if source(asked.source).NETWORK and not upcoming and os.environ.get("FRESHBITS_NETWORK") != "1":
        raise UserError(
            f"snapshot {asked.name} would be scraped from the web, and what the web says today is another "
            "snapshot; restore it with `dvc pull` from a remote that holds it, or collect anew with `make refresh`"
        )
    collect.collect(source(asked.source), asked, folder, STAGING)


def _look(arguments: argparse.Namespace) -> None:
    """Collect a few documents into a folder and show the first of them."""
    origin, folder = source(arguments.source), arguments.output
    settings = dict(_setting(text) for text in arguments.set)
    fixed = {"source": arguments.source, "since": arguments.since, "until": arguments.until}
    entry = {"content": origin.CONTENT, "max_documents": arguments.max_documents}
    asked = request(folder.resolve().name, {**entry, **settings, **fixed})
    raw = folder / "raw"
    if not raw.exists():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UserError(
                f"{folder} holds other files, which -o would mix with its own; give an empty folder"
            )
        collect.collect(origin, asked, raw, folder / ".staging", early=True)
    elif not _answers(raw, asked):
        raise UserError(f"{raw} holds another collection; choose another folder for -o")
    gaps = snapshot.read_snapshot(raw).gaps
    documents = _extracted(raw, asked, arguments.workers)
    documents = list(build.remove(documents, build.read_removals(REMOVALS)))
    facts = build.write_corpus(folder, asked, documents, gaps)
    if not arguments.json:
        kept = [document for document in documents if not document.drop_reason]
        for document in sorted(kept, key=lambda d: (d.published, d.id))[:_SHOWN]:
            title = _line(document.title)[:70]
            print(f"{document.published:%Y-%m-%d}  {document.n_characters:>9,} characters  {title}")
    said = {"documents": facts.n_documents, "characters": facts.n_characters, "dropped": facts.dropped}
    _say(arguments, str(folder), {**said, "gaps": list(gaps)})


def _setting(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    try:
        return name if mark else "", yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"--set {text} has no value that YAML can read; write --set 'categories=[cs.CL]'"
        ) from error


def _extract(arguments: argparse.Namespace) -> None:
    params = _params()
    asked = _request(arguments.snapshot, params)
    folder = CORPORA / "raw" / asked.name
    if not _answers(folder, asked):
        raise UserError(
            f"snapshot {folder} answers another request than params.yaml makes; snapshots are never rewritten: give "
            "the changed one a new name"
        )
    documents = _extracted(folder, asked, arguments.workers)
    n_documents = write_documents(_documents(asked.name), documents)
    held = [document for document in documents if document.drop_reason not in ELSEWHERE]
    write_signatures(_signatures(asked.name), sign(held, _minhash(params), arguments.workers))
    facts = {"documents": n_documents, "characters": sum(d.n_characters for d in documents)}
    _say(arguments, asked.name, facts)


def _extracted(raw: Path, asked: Request, workers: int) -> list[Document]:
    """Return the documents of a raw snapshot, which holds each once."""
    documents = list(source(asked.source).extract(snapshot.read_records(raw), asked, workers))
    repeated = [native_id for native_id, n in Counter(d.native_id for d in documents).items() if n > 1]
    if repeated:
        raise UserError(
            f"source {asked.source} gives {repeated[0]} twice; a snapshot holds each document once"
        )
    return documents


def _answers(folder: Path, asked: Request) -> bool:
    facts: dict[str, Any] = json.loads(json.dumps(asked.facts()))
    return snapshot.read_snapshot(folder).request == facts


def _dedup(arguments: argparse.Namespace) -> None:
    params = _params()
    asked = _request(arguments.snapshot, params)
    rules = _section(params, "filters").get(asked.content)
    if not isinstance(rules, dict):
        raise UserError(
            f"params.yaml has no filters for content {asked.content!r}; add `filters.{asked.content}`"
        )
    config = _minhash(params)
    threshold = _section(params, "dedup").get("threshold", 0.7)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise UserError(f"`dedup.threshold` in params.yaml must be a number, not {threshold!r}")
    names = list(params["snapshots"])
    before = names[: names.index(asked.name)]
    for name in before:
        check_name(name)
    earlier = [
        Earlier(
            name=name,
            signed=read_signatures(_signatures(name), config),
            texts=lambda ids, name=name: _texts(name, ids),  # type: ignore[misc]
        )
        for name in before
    ]
    judged = list(hold(filters.run(read_documents(_documents(asked.name)), filters.filters(rules)), earlier))
    fresh = deduplicate(
        (document for document in judged if not document.drop_reason),
        read_signatures(_signatures(asked.name), config),
        earlier,
        corpus=asked.name,
        threshold=threshold,
    )
    dropped = (document for document in judged if document.drop_reason)
    allowed = build.remove([*fresh, *dropped], build.read_removals(REMOVALS))
    gaps = snapshot.read_snapshot(CORPORA / "raw" / asked.name).gaps
    facts = build.write_corpus(CORPORA / asked.name, asked, allowed, gaps)
    said = {"documents": facts.n_documents, "characters": facts.n_characters, "dropped": facts.dropped}
    _say(arguments, asked.name, said)


def _texts(name: str, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    wanted = set(ids)
    return ((d.id, d.text) for d in read_documents(_documents(name)) if d.id in wanted)


def _documents(name: str) -> Path:
    return CORPORA / "documents" / f"{name}.parquet"


def _signatures(name: str) -> Path:
    return CORPORA / "documents" / f"{name}.signatures.parquet"


def _sources(arguments: argparse.Namespace) -> None:
    listed = {name: _needs(name) for name in SOURCES}
    if arguments.json:
        print(json.dumps(listed, indent=2))
        return
    for name, facts in listed.items():
        print(f"{name}: {facts['about']}")
        for key in ("network", "token", "contact", "limits"):
            print(f"  {key:<9}{facts[key]}")
        for setting, default in SOURCES[name].SETTINGS.items():
            print(f"  setting  {setting}: {json.dumps(default)}")
    print("\ndocs/sources.md explains the settings; `max_documents` and `partial` belong to every source.")


def _needs(name: str) -> dict[str, Any]:
    origin = SOURCES[name]
    about = (origin.__doc__ or "").partition("\n")[0]
    tokens = ", ".join(f"{token} (optional, for {host})" for host, token in origin.TOKENS.items())
    limits = [
        f"{host}: a request in {limit.interval:g} s"
        + (f", {limit.with_token:g} s with a token" if limit.with_token else "")
        + (f", shared by all of {limit.bucket}" if limit.bucket else "")
        for host, limit in origin.LIMITS.items()
    ]
    if origin.NETWORK:
        limits.append("other hosts: a request in 1 s, or what robots.txt asks for")
    polls = "asked in rounds while the window is open" if origin.POLLS else "asked once, after the window"
    return {
        "about": about,
        "network": f"yes, {polls}" if origin.NETWORK else "no",
        "token": tokens or "none",
        "contact": f"{collect.CONTACT}, an address that sites can reach" if origin.NETWORK else "none",
        "limits": "; ".join(limits) or "none",
        "settings": dict(origin.SETTINGS),
    }


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
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{PARAMS} cannot be read ({error}); mend it, or run from the repository") from error
    if not isinstance(params, dict) or not isinstance(params.get("snapshots"), dict):
        raise UserError(f"{PARAMS} must hold the mapping `snapshots`; see the comments in it")
    return params


def _request(name: str, params: dict[str, Any], section: str = "snapshots") -> Request:
    if name not in params[section]:
        raise UserError(
            f"snapshot {name!r} is not under `snapshots` in params.yaml; it lists "
            f"{', '.join(map(str, params['snapshots'])) or 'none'}"
        )
    return request(name, params[section][name])


def _section(params: dict[str, Any], name: str) -> dict[str, Any]:
    section = params.get(name) or {}
    if not isinstance(section, dict):
        raise UserError(f"`{name}` in params.yaml must be a mapping, not {section!r}")
    return section


def _say(arguments: argparse.Namespace, name: str, facts: dict[str, Any]) -> None:
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return
    gaps = facts.pop("gaps", [])
    counts = [
        f"{count} {key} as {reason}" if reason else f"{count:,} {key}"
        for key, value in facts.items()
        for reason, count in (value.items() if isinstance(value, dict) else [("", value)])
    ]
    print(f"{name}: " + ", ".join(counts))
    if gaps:
        print(f"{name} is not complete: {gaps[0]}" + (f", and {len(gaps) - 1} more" if len(gaps) > 1 else ""))


if __name__ == "__main__":
    sys.exit(main())
