"""Where commands keep what they make, and how they say what they made."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

CORPORA = Path("corpora")
REMOVALS = CORPORA / "removed.csv"
STAGING = Path(".staging/raw")
WAITING = Path(".staging/upcoming")


def documents(name: str) -> Path:
    """Return where the documents of a snapshot are."""
    return CORPORA / "documents" / f"{name}.parquet"


def signatures(name: str) -> Path:
    """Return where their signatures are."""
    return CORPORA / "documents" / f"{name}.signatures.parquet"


def line(text: object) -> str:
    """Return a message on one line, and nothing in it that a terminal obeys."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def positive(value: str) -> int:
    """Return a whole number above 0 of the command line."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number above 0")
    return int(value)


def add_workers(command: argparse.ArgumentParser) -> None:
    """Add on how many cores a command runs."""
    command.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="processes (default: one per core)"
    )


def say(arguments: argparse.Namespace, name: str, facts: dict[str, Any]) -> None:
    """Print what a snapshot holds, for a person or a program."""
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
