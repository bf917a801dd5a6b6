"""One HTTP endpoint that scores prompts: polite, bounded, and silent about its key.

A key is read from the environment, sent to nobody but the endpoint, and never over a network in clear
text. Redirects are not followed and the settings of proxies and .netrc are not read: either could
take the key elsewhere.
"""

import http.client
import ipaddress
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from collectors.document import UserError

API_KEY = "FRESHBITS_API_KEY"
TRIES = 7
TRIES_AT_LOAD = 3
LONGEST_WAIT = 300.0
CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 300.0
BODY_SECONDS = 120.0
# vLLM writes about 90 bytes a token and the openai dialect about 200; runs of spaces take more.
BYTES_PER_TOKEN = 2048
BYTES_BESIDE = 1 << 20

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*")
_TOO_LONG = re.compile(
    r"(?i)context (length|size|window)|max_model_len|maximum \w+ length|too long|longer than|too large"
)
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


class EndpointError(Exception):
    """Why an endpoint cannot be used: one line, without a word of the request's headers."""


class UnsupportedError(EndpointError):
    """It answers, but does not do what this dialect asks."""


class Client:
    """Asks one model of one endpoint; threads may share it.

    Neither its repr nor an error of it holds the key.
    """

    def __init__(
        self, url: str, model: str, connections: int, pause: Callable[[threading.Event, float], object]
    ) -> None:
        self._address = f"{_checked(url)}/completions"
        self._model = model
        self._pause = pause
        self._session = requests.Session()
        # The environment would add proxies, and credentials of a .netrc in place of the key.
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=connections)
            self._session.mount(scheme, adapter)
        self._session.headers["Accept-Encoding"] = "identity"
        self._key = os.environ.get(API_KEY, "").strip()
        if self._key:
            self._session.headers["Authorization"] = f"Bearer {_checked_key(self._key, url)}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"

    def ask(
        self, fields: Mapping[str, Any], prompt: Sequence[int], stop: threading.Event, *, tries: int = TRIES
    ) -> Any:
        """Return the parsed reply, asking again while the endpoint is busy, broken or away.

        Args:
            fields: what the dialect adds to the request.
            prompt: token ids.
            stop: ends waiting and asking when it is set.
            tries: how often to ask at most.

        Raises:
            UnsupportedError: when the endpoint does not accept the request.
            EndpointError: when it stays away, or answers what cannot be used.
        """
        body = {"model": self._model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0, **fields}
        trouble: EndpointError = EndpointError("stopped")
        for attempt in range(tries):
            if stop.is_set():
                break
            asked_wait = 0.0
            try:
                status, headers, payload = self._exchange(body, BYTES_BESIDE + BYTES_PER_TOKEN * len(prompt))
            except requests.exceptions.SSLError:
                raise EndpointError("its certificate is not valid, or it does not speak TLS") from None
            except _FAILURES as error:
                trouble = EndpointError(_what_broke(error))
            else:
                if status == 200:
                    return _parsed(payload)
                trouble = self._trouble(status, payload, len(prompt))
                if status not in {408, 425, 429, 529} and (status < 500 or status == 501):
                    raise trouble
                asked_wait = _retry_after(headers)
                if asked_wait > LONGEST_WAIT:
                    raise EndpointError(f"{trouble}; it asks to be left alone for {asked_wait:.0f} s")
            if attempt + 1 < tries:
                # Half fixed, half random, so that requests which failed together do not return together.
                backoff = min(60.0, 2.0**attempt) * (1 + random.random()) / 2  # noqa: S311
                self._pause(stop, max(asked_wait, backoff))
        raise type(trouble)(f"{trouble}; asked {tries} times")

    def _exchange(self, body: Mapping[str, Any], max_bytes: int) -> tuple[int, Mapping[str, str], bytes]:
        with self._session.post(
            self._address,
            json=body,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
        ) as response:
            deadline = time.monotonic() + BODY_SECONDS
            payload = bytearray()
            while piece := response.raw.read1(1 << 16, decode_content=False):
                payload += piece
                if len(payload) > max_bytes:
                    raise EndpointError(f"its reply is longer than {max_bytes} bytes")
                if time.monotonic() > deadline:
                    raise EndpointError(f"its reply takes longer than {BODY_SECONDS:g} s to arrive")
            return response.status_code, response.headers, bytes(payload)

    def _trouble(self, status: int, payload: bytes, n_tokens: int) -> EndpointError:
        said = self._said(payload)
        if status in {401, 403}:
            state = f"refuses the key in {API_KEY}" if self._key else f"asks for a key; set {API_KEY}"
            return EndpointError(f"it {state} (HTTP {status})")
        if 300 <= status < 400:
            return EndpointError(
                f"it redirects (HTTP {status}), which is not followed; give the final address as `url`"
            )
        if status == 413 or (status in {400, 422} and _TOO_LONG.search(said)):
            return EndpointError(
                f"it takes no prompt of {n_tokens} tokens and one more (HTTP {status}{said}); declare its "
                "`context_length`, or set a shorter `window`"
            )
        if status == 404:
            return EndpointError(f"it has no such path or no model {self._model!r} (HTTP 404{said})")
        kind = UnsupportedError if status in {400, 422, 500, 501} else EndpointError
        return kind(f"HTTP {status}{said}")

    def _said(self, payload: bytes) -> str:
        """Return the endpoint's own words on one line, nothing where they hold a part of the key."""
        words: Any = payload[:4096].decode(errors="replace")
        try:
            words = json.loads(payload)
            while isinstance(words, dict):
                words = next((words[k] for k in ("error", "message", "detail") if words.get(k)), "")
        except (ValueError, RecursionError):
            pass
        line = " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())
        return f": {line[:200]}" if line and not self.leaks(line) else ""

    def leaks(self, text: str) -> bool:
        """Return whether a text holds the key, or eight characters of it in a row."""
        pieces = (self._key[i : i + 8] for i in range(max(1, len(self._key) - 7)))
        return bool(self._key) and any(piece in text for piece in pieces)


def _checked(url: str) -> str:
    """Return an address without its last slash."""
    if not isinstance(url, str) or "@" in url or "?" in url or "#" in url:
        raise UserError(
            f"the endpoint's url holds credentials or a query, which would be written down; put the key into {API_KEY}"
        )
    address = url.rstrip("/")
    if not _URL.fullmatch(address):
        raise UserError(f"endpoint {url!r} is no address; give one such as http://localhost:8000/v1")
    return address


def _checked_key(key: str, url: str) -> str:
    """Return the key, or refuse to send it: as a header it must be printable ASCII, and not in the clear."""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{API_KEY} holds characters that no key has; set it again")
    parts = urlsplit(url)
    try:
        loopback = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = parts.hostname == "localhost"
    if parts.scheme == "http" and not loopback:
        raise UserError(f"{url} would get the key of {API_KEY} in clear text; use https, or unset {API_KEY}")
    return key


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise EndpointError("its reply is not JSON; is `url` the base of an API, such as …/v1?") from None


def _what_broke(error: Exception) -> str:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError) and "NewConnectionError" in repr(error.args):
        return "no connection; is the server up?"
    return "the connection broke off"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return how many seconds an answer asks for, in seconds or as a date (RFC 9110, section 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def kind_of(value: Any) -> str:
    """Return what kind of JSON value this is, for a message."""
    return "null" if value is None else f"a {type(value).__name__}"
