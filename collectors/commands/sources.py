"""The command `sources`: what can be collected, what it needs and how fast it may be asked."""

import argparse
import json
from typing import Any

from collectors import collect
from collectors.source import SOURCES


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add nothing: there is nothing to choose."""


def run(arguments: argparse.Namespace) -> None:
    """Print every source with its needs, limits and settings."""
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
