"""One collection from start to finish: what it needs, how it ends, and what its end means."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from collectors.document import UserError
from collectors.request import Request
from collectors.snapshot import Snapshot, refuse_existing
from collectors.source import Source
from collectors.staging import Staging
from collectors.warc import AGENT
from collectors.web.fetch import Fetcher
from collectors.web.pace import Clock, Pace, SystemClock
from collectors.web.polite import Polite
from collectors.web.transport import Transport

VERSION = "0.1"
CONTACT = "FRESHBITS_CONTACT"
LOOPBACK = "FRESHBITS_LOOPBACK"


class OpenWindowError(UserError):
    """A round of a collection that is kept; the next is due while the window is open, and one after it."""


def collect(
    source: Source,
    request: Request,
    folder: Path,
    staging_folder: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    clock: Clock | None = None,
    early: bool = False,
) -> Snapshot:
    """Collect what a request asks for into a snapshot folder, going on where an earlier run stopped.

    Args:
        source: what collects.
        request: what is asked.
        folder: where the finished snapshot goes; must not exist.
        staging_folder: where collections in progress live.
        environment: has the contact and the tokens.
        clock: tells the time and waits; the machine's own by default.
        early: whether to finish although the window is open, which is a gap.

    Raises:
        OpenWindowError: when a round is done, and the window is not over.
        UserError: when the folder exists, when something is missing, when the window is not over, or
            when addresses could not be had. What was collected stays in staging, and the same command
            goes on from there.
    """
    refuse_existing(folder)
    clock = clock or SystemClock()
    ended = datetime.fromtimestamp(clock.now(), UTC) >= request.until
    if source.NETWORK and not source.POLLS and not ended:
        raise UserError(
            f"the window of snapshot {request.name} ends on {request.until:%Y-%m-%d}, and source {request.source} is "
            "asked once, when it is over; collect then, or end the window earlier"
        )
    with open_fetcher(source, request, staging_folder, environment, clock) as (fetcher, staging):
        source.collect(request, fetcher)
        if source.POLLS and not ended and early:
            fetcher.gap(f"collected once, while its window is open until {request.until:%Y-%m-%d}")
        elif source.POLLS and not ended:
            staging.close_round()
            lacking = f"; not had so far: {', '.join(fetcher.gaps)}" if fetcher.gaps else ""
            raise OpenWindowError(
                f"round {staging.round} of snapshot {request.name} is kept; its window is open until "
                f"{request.until:%Y-%m-%d}: run the same command again, best daily, and once after that{lacking}"
            )
        if fetcher.failures and not request.partial:
            raise UserError(
                f"snapshot {request.name} lacks {len(fetcher.failures)} of what it should hold "
                f"({fetcher.failures[0]}); run the same command again to try only these, or set `partial: true` in "
                "its entry (`--set partial=true` for a first look) to finish without them"
            )
        return staging.finish(folder, fetcher.gaps)


@contextmanager
def open_fetcher(
    source: Source, request: Request, staging_folder: Path, environment: Mapping[str, str], clock: Clock
) -> Iterator[tuple[Fetcher, Staging]]:
    """Give a fetcher for a request and its staging, and close both."""
    contact = environment.get(CONTACT, "").strip()
    if source.NETWORK and not re.fullmatch(r"[\x21-\x7e]{3,200}", contact):
        raise UserError(
            f"{CONTACT} is not set, and sites must be able to reach whoever asks them; set it to an e-mail address "
            "or a web page of yours"
        )
    tokens = {host: environment.get(name, "").strip() for host, name in source.TOKENS.items()}
    for host, name in source.TOKENS.items():
        token = tokens[host]
        if token and (not re.fullmatch(r"[\x21-\x7e]{8,}", token) or token.lower() in f"https://{host}"):
            raise UserError(
                f"{name} is no token: it must be 8 or more ASCII characters without white space; correct it or unset it"
            )
    loopback = environment.get(LOOPBACK)
    if loopback is not None and not (re.fullmatch("[0-9]{1,5}", loopback) and 0 < int(loopback) < 1 << 16):
        raise UserError(
            f"{LOOPBACK} is {loopback!r} and must be a port from 1 to 65535; unset it outside tests"
        )
    transport = Transport(f"{AGENT}/{VERSION} (+{contact})", int(loopback) if loopback else None)
    bar: tqdm[Any] = tqdm(desc=request.name, unit="request", disable=None, dynamic_ncols=True)
    try:
        with Staging(staging_folder, request, source.VERSION) as staging:
            polite = partial(
                Polite,
                transport,
                Pace(_cache(environment) / "pace", clock),
                limits=source.LIMITS,
                tokens={host: token for host, token in tokens.items() if token},
            )
            yield Fetcher(request, staging, bar, polite), staging
    finally:
        bar.close()


def _cache(environment: Mapping[str, str]) -> Path:
    """Return the folder that all collections of a person on this machine share."""
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", ".")) / ".cache"
    return Path(base) / "freshbits"
