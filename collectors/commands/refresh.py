"""The command `refresh`: the next snapshots of all series, collected, built and scored."""

import argparse
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from collectors import entries, params, refresh
from collectors.commands import places
from collectors.commands.extract import answers
from collectors.document import UserError, replacing, sha256_of
from collectors.refresh import Addition
from collectors.source import source
from collectors.web.pace import SystemClock

_LOCK = Path(".staging/refresh.lock")
_SCORES = Path("results/scores")
_PATIENCE = 10.0  # seconds that what is interrupted has to put away what it holds
# A program that is killed can do nothing any more; a shell sees the end of what that program alone held open.
_WATCH = 'read -r line; kill -s TERM -- "-$1" 2>/dev/null'


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the window, and whether to say only what would be done."""
    command.add_argument(
        "--since",
        type=_day,
        metavar="DAY",
        help="start of the window to add (default: where each series ends; then every month that is over)",
    )
    command.add_argument("--until", type=_day, metavar="DAY", help="its end, not included")
    command.add_argument("--dry-run", action="store_true", help="say what would be added, and do nothing")


def run(arguments: argparse.Namespace) -> None:
    """Add what is next to params.yaml, ask what is polled, run the pipeline, and say what is new."""
    window = (arguments.since, arguments.until)
    if any(window) and not all(window):
        raise UserError("refresh takes both --since and --until, or neither for what comes after the newest")
    if all(window) and window[0] >= window[1]:
        raise UserError(f"the window ends ({window[1]}) before it begins ({window[0]}); swap the two")
    now = datetime.fromtimestamp(SystemClock().now(), UTC)
    with _alone(), _terminable():
        known = params.read()
        additions = refresh.plan(known, now, window if all(window) else None)
        if not any(window):
            _say_missed(known, additions, now)
        if arguments.dry_run:
            _say_plan(arguments, additions, refresh.due(known, now))
            return
        _refuse_lost(known)
        before = _state()
        failed = _refreshed(additions, now)
        _say(arguments, additions, before, _state())
    if failed:
        raise UserError(failed)


def _day(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is no day such as 2026-10-01") from error


@contextmanager
def _alone() -> Iterator[None]:
    """Keep every other refresh of this repository out."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                "another refresh of this repository is running; wait for it, or stop it first"
            ) from error
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM, with which services and timeouts stop a program, for Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_lost(known: Mapping[str, Any]) -> None:
    """Raise if the web would be asked anew for what was collected before, and answer something else."""
    lock = Path("dvc.lock")
    collected = re.findall(r"^  collect@(\S+):$", lock.read_text(), re.MULTILINE) if lock.exists() else []
    for name in known["snapshots"]:
        asked = params.request(name, dict(known))
        if (
            source(asked.source).NETWORK
            and name in collected
            and not (places.CORPORA / "raw" / name).exists()
        ):
            raise UserError(
                f"snapshot {name} was collected before and is not on this machine, and what the web says today is "
                "another snapshot; restore it with `dvc pull` from a remote that holds it, or take its entry out of "
                "params.yaml"
            )


def _refreshed(additions: Sequence[Addition], now: datetime) -> str:
    """Do it all; return what failed. params.yaml goes back to what it was if nothing new was begun."""
    original = params.PARAMS.read_bytes()
    text = original.decode()
    for one in additions:
        text = entries.copied(
            text, one.name, like=one.like, section=one.section, since=one.since, until=one.until
        )
    written = text.encode()
    new = [one.name for one in additions]
    failed = []
    try:
        if additions:
            _write(written)
        for name in refresh.due(params.read(), now):
            if _run("collectors", "collect", name):
                failed.append(f"a round of {name}")
            elif _complete(name):
                # Read again: a round takes long, and a person may have written there.
                written = entries.moved(params.PARAMS.read_bytes().decode(), name).encode()
                _write(written)
                new.append(name)
        # One source that is down keeps no other from being collected.
        if _run("dvc", "repro", "--keep-going"):
            failed.append("`dvc repro`")
    except BaseException:
        if new:
            _put_back(original, written, new)
        raise
    if not failed:
        return ""
    kept = _put_back(original, written, new) if new else ""
    return f"{' and '.join(failed)} failed, for the reasons above{kept}; mend that and refresh again"


def _run(*module: str) -> int:
    """Run a module as a program with the web open, its output beside our messages; return its status."""
    # A stage says `python`, which cron does not find.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, "FRESHBITS_NETWORK": "1"}
    with _ending_with_us([sys.executable, "-m", *module], environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            if module[0] == "dvc":
                process.terminate()  # interrupted in a stage, DVC goes on with the next
            _wait(process)
            raise


@contextmanager
def _ending_with_us(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a program in a process group of its own, of which nothing outlives the block, or us if we are killed."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=2, process_group=0)
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, "sh", f"{process.pid}"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        watch.communicate()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of all processes in the group of an interrupted one, though not for ever."""
    end = time.monotonic() + _PATIENCE
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group without the living
        while time.monotonic() < end:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def _write(text: bytes) -> None:
    with replacing(params.PARAMS) as temporary:
        temporary.write_bytes(text)


def _complete(name: str) -> bool:
    waiting = places.WAITING / name
    return waiting.exists() and answers(waiting, params.request(name, params.read(), "upcoming"))


def _put_back(original: bytes, written: bytes, new: Sequence[str]) -> str:
    """Take new entries out of params.yaml again unless one was begun or a person wrote there; return which it was."""
    begun = [name for name in new if _begun(name)]
    if begun:
        return f"; {', '.join(begun)} was begun, so that params.yaml keeps what was added"
    if params.PARAMS.read_bytes() != written:
        return "; params.yaml was changed meanwhile and is left as it is"
    _write(original)
    return "; params.yaml is as it was"


def _begun(name: str) -> bool:
    """Whether anything was collected for a snapshot. The first line of a journal says when it began."""
    own = re.compile(rf"{re.escape(name)}-[0-9a-f]{{12}}")
    journals = (
        path for path in places.STAGING.glob(f"{name}-*/journal.jsonl") if own.fullmatch(path.parent.name)
    )
    held = (places.CORPORA / "raw" / name, places.WAITING / name)
    return any(path.exists() for path in held) or any(path.read_bytes().count(b"\n") > 1 for path in journals)


def _state() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the facts of every corpus, and the digest of every score cell."""
    corpora = {
        path.parent.name: json.loads(path.read_text()) for path in places.CORPORA.glob("*/corpus.json")
    }
    return corpora, {f"{path}": sha256_of(path) for path in _SCORES.glob("*/*.parquet")}


def _say_missed(known: Mapping[str, Any], additions: Sequence[Addition], now: datetime) -> None:
    """Say, when a series goes on after a pause, what nobody was there to ask for."""
    grown = {one.like for one in additions}
    for one in refresh.series(known):
        if one.newest.name in grown and (window := refresh.missed(one, now)):
            since, until = window
            print(
                f"{one.stem} was not asked from {since} until {until}, and feeds forget; what can still be had is "
                f"asked for by --since {since} --until {until}",
                file=sys.stderr,
            )


def _say_plan(arguments: argparse.Namespace, additions: Sequence[Addition], due: Sequence[str]) -> None:
    if arguments.json:
        listed = [
            {
                "name": a.name,
                "section": a.section,
                "like": a.like,
                "since": f"{a.since}",
                "until": f"{a.until}",
            }
            for a in additions
        ]
        print(json.dumps({"additions": listed, "due": list(due)}, indent=2))
        return
    for one in additions:
        print(f"would add {one.name} to `{one.section}`, {one.since} until {one.until}, as {one.like}")
    for name in due:
        print(f"would ask for {name}, which is under `upcoming`")
    if not additions and not due:
        print("nothing to add: every series is asked for as far as its windows are over")


def _say(
    arguments: argparse.Namespace,
    additions: Sequence[Addition],
    before: tuple[dict[str, Any], dict[str, str]],
    after: tuple[dict[str, Any], dict[str, str]],
) -> None:
    """Print what is new, for a person or a program."""
    changed = {name: facts for name, facts in sorted(after[0].items()) if before[0].get(name) != facts}
    cells = sum(before[1].get(cell) != digest for cell, digest in after[1].items())
    corpora = {
        name: {
            "documents": facts["n_documents"],
            "characters": facts["n_characters"],
            "dropped": facts["dropped"],
        }
        for name, facts in changed.items()
    }
    if arguments.json:
        print(
            json.dumps(
                {"added": [a.name for a in additions], "corpora": corpora, "score_cells": cells}, indent=2
            )
        )
        return
    for name, facts in corpora.items():
        places.say(arguments, name, facts)
    live = refresh.series(params.read())
    if corpora or cells:
        print(f"{len(corpora)} corpora and {cells} score cells are new or changed")
    elif live:
        print("nothing new: " + ", ".join(f"{one.stem} until {one.newest.until:%Y-%m-%d}" for one in live))
    else:
        print("nothing new: params.yaml lists no source on the web; README.md shows an entry for each")
