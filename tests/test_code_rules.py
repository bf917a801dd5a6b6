"""What keeps code out of a corpus."""

import json
import random
import string
from typing import Any

import pytest

from collectors.github.rules import (
    LONG_LINE,
    UnreadableError,
    excluded,
    minified,
    notebook_source,
    repositories_sharing,
    secrets,
    text_of,
)

ALPHANUMERIC = string.ascii_letters + string.digits


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("vendor/six.py", "vendored"),
        ("src/pkg/_vendor/six.py", "vendored"),
        ("Third_Party/lib/a.c", "vendored"),
        ("web/node_modules/a/index.js", "vendored"),
        ("lib/python3.11/site-packages/a.py", "vendored"),
        ("dist/a.py", "generated"),
        ("docs/_build/a.py", "generated"),
        ("build/lib/a.py", "generated"),
        ("a.egg-info/a.py", "generated"),
        ("api/service_pb2.py", "generated"),
        ("api/service_pb2_grpc.py", "generated"),
        ("js/app.min.js", "generated"),
        ("Form.Designer.cs", "generated"),
        ("lib/model.g.dart", "generated"),
        ("src/pkg/_version.py", "generated"),
        ("versioneer.py", "generated"),
        ("src/build/builder.py", ""),
        ("vendor.py", ""),
        ("src/vendoring/main.py", ""),
        ("app/migrations/0001_initial.py", ""),
        ("admin.py", ""),
        ("minimal.js", ""),
        ("distribution/main.py", ""),
    ],
)
def test_folders_and_names_say_what_is_not_written_here(path: str, reason: str) -> None:
    """Ordinary names that only resemble them are kept."""
    assert excluded(path) == reason


@pytest.mark.parametrize(
    ("path", "payload", "text"),
    [
        ("a.py", b"\xef\xbb\xbfx = 1\r\n", "x = 1\n"),
        ("a.py", b"# -*- coding: latin-1 -*-\nx = '\xe4'\n", "# -*- coding: latin-1 -*-\nx = 'ä'\n"),
        ("a.c", "/* ü */".encode(), "/* ü */"),
    ],
)
def test_text_is_read_in_its_own_encoding(path: str, payload: bytes, text: str) -> None:
    """UTF-8, or what a Python file declares (PEP 263)."""
    assert text_of(path, payload, "python") == text


@pytest.mark.parametrize(
    ("path", "payload", "reason"),
    [
        ("a.py", b"x\0", "binary"),
        ("a.py", b"# coding: klingon\n", "encoding"),
        ("a.py", b"x = '\xe4'", "encoding"),
        ("a.c", b"\xff", "encoding"),
        ("a.py", b"# coding: rot13\nk", "encoding"),
        ("a.py", b"# coding: raw_unicode_escape\nx = '\\ud800'", "encoding"),
        ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": "\\ud800"}]}', "encoding"),
        ("A.IPYNB", b"{", "notebook"),
        ("a.ipynb", b"{", "notebook"),
        ("a.ipynb", b"[]", "notebook"),
        ("a.ipynb", b'{"cells": [1]}', "notebook"),
        ("a.ipynb", b'{"cells": null}', "notebook"),
        ("a.ipynb", b'{"cells": [], "metadata": 3}', "notebook"),
        ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": [1]}]}', "notebook"),
        ("a.ipynb", b"[" * 100_000, "notebook"),
    ],
)
def test_what_is_no_text_says_why(path: str, payload: bytes, reason: str) -> None:
    """Damaged and hostile files end in a reason, not in an error."""
    with pytest.raises(UnreadableError, match=f"^{reason}$"):
        text_of(path, payload, "python")


def notebook(*cells: dict[str, Any], **metadata: Any) -> str:
    """Return a notebook as JSON."""
    return json.dumps({"nbformat": 4, "metadata": metadata, "cells": cells})


def test_a_notebook_is_the_source_of_its_code() -> None:
    """Outputs and prose are left out, sources come as text or as lines."""
    text = notebook(
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": ["a = 1\n", "b = 2\n"], "outputs": [{"text": "secret output"}]},
        {"cell_type": "code", "source": "  \n"},
        {"cell_type": "code", "source": "print(a)", "outputs": []},
    )
    assert notebook_source(text, "python") == "a = 1\nb = 2\n\nprint(a)\n"


@pytest.mark.parametrize(
    ("metadata", "accepted"),
    [
        ({}, True),
        ({"language_info": {"name": "python"}}, True),
        ({"kernelspec": {"language": "Python"}}, True),
        ({"kernelspec": {"name": "python3"}}, True),
        ({"language_info": {"name": "R"}}, False),
        ({"kernelspec": {"language": "julia"}}, False),
    ],
)
def test_a_notebook_of_another_language_is_out(metadata: dict[str, Any], accepted: bool) -> None:
    """What it states decides; one that states nothing is taken."""
    text = notebook({"cell_type": "code", "source": "x"}, **metadata)
    if accepted:
        assert notebook_source(text, "python") == "x\n"
    else:
        with pytest.raises(UnreadableError, match="notebook-language"):
            notebook_source(text, "python")


def test_minified_code_stands_in_long_lines() -> None:
    """More than half of the text must: one long line in a long file is ordinary."""
    long = "x" * (LONG_LINE + 1)
    assert minified(long + "\n" + "y\n" * 100)
    assert not minified(long + "\n" + "y\n" * 300)
    assert not minified("x" * LONG_LINE)
    assert not minified("")


def token(length: int, alphabet: str = ALPHANUMERIC) -> str:
    """Return made-up characters: a real-looking credential must not stand in this file."""
    return "".join(random.Random(length).choices(alphabet, k=length))


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("AKIA" + token(16, string.ascii_uppercase), "AWS Access Key"),
        ("ghp_" + token(36), "GitHub Token"),
        ("glpat-" + token(20), "GitLab Token"),
        ("xoxb-" + token(12, string.digits) + "-" + token(24).lower(), "Slack Token"),
        ("sk_live_" + token(24), "Stripe Access Key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "Private Key"),
        ("pypi-AgEIcHlwaS5vcmc" + token(80), "PyPI Token"),
        ("SG." + token(22) + "." + token(43), "SendGrid API Key"),
    ],
)
def test_a_credential_is_found_and_not_repeated(made: str, kind: str) -> None:
    """Kind and line are said, the value is not."""
    found = secrets(f'import os\n\nkey = "{made}"\n')
    assert found == [f"{kind}:3"]
    assert made not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        'password = "hunter2"',
        "digest = '" + token(64, "0123456789abcdef") + "'",
        'url = "https://user:password@example.com/"',
        'API_KEY = os.environ["API_KEY"]',
        'uuid = "123e4567-e89b-12d3-a456-426614174000"',
        "host = '203.0.113.7'",
        "",
    ],
)
def test_what_only_resembles_a_credential_is_kept(text: str) -> None:
    """Words, digests, examples and addresses are ordinary code."""
    assert secrets(text) == []


TEMPLATE = "".join(f"int step_{k}(Window* window) {{ return run(window, {k}); }}\n" for k in range(40))


def test_a_template_is_counted_in_every_repository_that_has_it() -> None:
    """Names put into it do not hide it, and copies within one repository count once."""
    texts = [TEMPLATE + f'const title = "app {k}";\n' for k in range(4)]
    own = [" ".join(f"word{k}_{n}" for n in range(200)) for k in range(2)]
    found = repositories_sharing([*texts, texts[0], *own, ""], [*"abcd", "a", "a", "b", "c"], 10)
    assert found == [4, 4, 4, 4, 4, 1, 1, 1]


def test_counting_stops_when_it_is_enough() -> None:
    """A template of thousands of repositories costs no more than a few comparisons each."""
    assert repositories_sharing([TEMPLATE] * 50, [str(k) for k in range(50)], 3) == [3] * 50


def test_texts_that_differ_are_no_template() -> None:
    """Half in common is not the same text."""
    half = TEMPLATE[: len(TEMPLATE) // 2]
    other = "".join(f"other_{k} and something else {k} more\n" for k in range(20))
    assert repositories_sharing([TEMPLATE, half + other], ["a", "b"], 3) == [1, 1]
    assert repositories_sharing([], [], 3) == []
