"""What keeps a file of source code out of a corpus.

Pure rules over a path and a text. Whether code is fresh is not decided here, and a marker such as
`@generated` in the first lines is a filter.
"""

import functools
import io
import json
import re
import tokenize
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import BasePlugin
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from collectors.document import UserError, normalise
from collectors.minhash import MinHashConfig, band_keys, jaccard, shingles, signature, with_words

LONG_LINE = 400
SAME = 0.7
"""Jaccard similarity of word 5-grams from which on two files are the same template."""

_MINHASH = MinHashConfig()
_CACHED = 1_024  # texts whose shingles are kept while they are compared
_VENDORED = frozenset(
    {"vendor", "vendors", "vendored", "_vendor", "_vendored", "third_party", "third-party", "thirdparty"}
    | {"3rdparty", "3rd_party", "3rd-party", "extern", "external", "externals", "node_modules"}
    | {"bower_components", "jspm_packages", "site-packages", "dist-packages", "godeps", "pods", "carthage"}
    | {"venv", ".venv", "virtualenv", ".tox", ".nox", ".eggs"}
)
_GENERATED = frozenset(
    {"dist", "generated", "__generated__", "_generated", "__pycache__", ".ipynb_checkpoints", "_build"}
    | {".next", ".nuxt", ".dart_tool"}
)
# Only at the top: deeper down they are ordinary names of packages.
_GENERATED_AT_TOP = frozenset({"build", "out", "target"})
_GENERATED_NAMES = re.compile(
    r".*([.-]min|[.-]bundle|\.generated|\.designer|\.g|\.freezed|_pb2|_pb2_grpc|\.pb|\.pb\.gw|_grpc_pb)\.[a-z0-9]+"
    r"|(package-lock|npm-shrinkwrap)\.json|(pnpm-lock)\.ya?ml|.*\.lock|go\.sum"
    r"|versioneer\.py|_version\.py|ez_setup\.py|parsetab\.py|lextab\.py|.*_rc\.py"
)

# Those whose secrets have a form of their own. Entropy, keywords, addresses and `user:password@` find
# mostly examples: the five hits of the last in 2,700 files of installed packages were all of that kind.
_DETECTORS: tuple[BasePlugin, ...] = (
    *(AWSKeyDetector(), AzureStorageKeyDetector(), DiscordBotTokenDetector(), GitHubTokenDetector()),
    *(GitLabTokenDetector(), JwtTokenDetector(), MailchimpDetector(), NpmDetector(), OpenAIDetector()),
    *(PrivateKeyDetector(), PypiTokenDetector(), SendGridDetector(), SlackDetector()),
    *(SquareOAuthDetector(), StripeDetector(), TelegramBotTokenDetector(), TwilioKeyDetector()),
)


class UnreadableError(UserError):
    """A file that has no text to keep; the message is the reason as a slug."""


def excluded(path: str) -> str:
    """Return `vendored` or `generated` when a path says so, else an empty string."""
    *folders, name = path.lower().split("/")
    if any(folder in _VENDORED for folder in folders):
        return "vendored"
    if any(folder in _GENERATED or folder.endswith(".egg-info") for folder in folders):
        return "generated"
    if (folders and folders[0] in _GENERATED_AT_TOP) or _GENERATED_NAMES.fullmatch(name):
        return "generated"
    return ""


def text_of(path: str, payload: bytes, language: str) -> str:
    """Return the text of a file; of a notebook the source of its code cells.

    Raises:
        UnreadableError: `binary`, `encoding`, `notebook` (no valid one) or `notebook-language`.
    """
    if b"\0" in payload:
        raise UnreadableError("binary")
    try:
        encoding = "utf-8-sig"
        if path.endswith(".py"):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(payload).readline)
        text = normalise(payload.decode(encoding)).removeprefix("\ufeff")
        if path.lower().endswith(".ipynb"):
            text = notebook_source(text, language)
        text.encode()  # JSON, and encodings with escapes, can hold halves of characters
    except (SyntaxError, LookupError, UnicodeError):
        raise UnreadableError("encoding") from None
    return text


def notebook_source(text: str, language: str) -> str:
    """Return the code cells of a notebook with a blank line between them; outputs and prose are left out.

    Raises:
        UnreadableError: when it is no notebook of format 4, or one of another language.
    """
    try:
        notebook = json.loads(text)
        metadata = notebook.get("metadata", {})
        stated = metadata.get("language_info", metadata.get("kernelspec", {}))
        stated = str(stated.get("name" if "language_info" in metadata else "language", language))
        cells = [_source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnreadableError("notebook") from None
    if stated.lower() != language:
        raise UnreadableError("notebook-language")
    return "\n\n".join(cell.strip("\n") for cell in cells if cell.strip()) + "\n"


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


_SCANNED, _OVERLAP = 4_000, 1_000  # characters; hardly a credential is longer than the overlap


def minified(text: str) -> bool:
    """Return whether most of a text stands in lines of more than `LONG_LINE` characters, as no one writes them."""
    long = sum(len(line) for line in text.split("\n") if len(line) > LONG_LINE)
    return 2 * long > len(text)


def secrets(text: str) -> list[str]:
    """Return the kind and line number of each credential in a text, such as `AWS Access Key:12`; never its value.

    Nothing leaves the process: the detectors' own verification over the network is not used.
    """
    found = {
        (number, detector.secret_type)
        for number, line in enumerate(text.split("\n"), 1)
        for start in range(0, max(1, len(line)), _SCANNED)
        for detector in _DETECTORS
        # Some detectors take the square of a line's length.
        if any(detector.analyze_string(line[max(0, start - _OVERLAP) : start + _SCANNED]))
    }
    return [f"{kind}:{number}" for number, kind in sorted(found)]


def repositories_sharing(texts: Sequence[str], repositories: Sequence[str], enough: int) -> list[int]:
    """Return in how many repositories each text occurs, itself or one similar to it by `SAME`; counts stop at `enough`.

    Candidates come from MinHash bands, and each is verified by exact Jaccard similarity.
    """
    words = functools.lru_cache(maxsize=_CACHED)(lambda number: shingles(texts[number], _MINHASH.words))
    holders = [{repository} for repository in repositories]
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number in range(len(texts)):
        values = signature(words(number), _MINHASH)[None]
        if with_words(values)[0]:
            for band, key in enumerate(band_keys(values, _MINHASH)[0].tolist()):
                buckets[band, key].append(number)
    for bucket in buckets.values():
        for number in bucket:
            for other in bucket:
                if len(holders[number]) >= enough:
                    break
                if (
                    repositories[other] not in holders[number]
                    and jaccard(words(number), words(other)) >= SAME
                ):
                    holders[number].add(repositories[other])
    return [len(held) for held in holders]
