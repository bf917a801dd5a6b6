"""LaTeX papers as Markdown-like text, by pandoc in a sandbox.

pandoc gets one document on its standard input and touches no file. Pictures, bibliography, comments and
labels go; headings, lists, tables, captions, footnotes, citation keys and mathematics as LaTeX stay.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from collectors.arxiv.tex_source import UnreadableError, definitions, flattened, main_files
from collectors.document import UserError

__all__ = ["UnreadableError", "pandoc_version", "to_text"]

MEMORY = "1g"
SECONDS = 120.0

_FILTER = Path(__file__).with_name("latex.lua")
_MARKDOWN = (
    "markdown-raw_attribute-raw_html-raw_tex-header_attributes-fenced_divs-bracketed_spans-native_divs"
    "-native_spans-link_attributes-fenced_code_attributes-inline_code_attributes-smart-auto_identifiers"
)
_SYNTAX_ERROR = 64  # pandoc's exit status
# Commands of packages that pandoc does not know, by what they print. They come after a paper's own, which
# \newcommand leaves as they are.
_PRELUDE = r"""
\newcommand{\State}{\par }\newcommand{\Statex}{\par }\newcommand{\STATE}{\par }
\newcommand{\Require}{\par Require: }\newcommand{\Ensure}{\par Ensure: }\newcommand{\Return}{return }
\newcommand{\REQUIRE}{\par Require: }\newcommand{\ENSURE}{\par Ensure: }\newcommand{\RETURN}{\par return }
\newcommand{\For}[1]{\par for #1 do }\newcommand{\ForAll}[1]{\par for all #1 do }
\newcommand{\FOR}[1]{\par for #1 do }\newcommand{\While}[1]{\par while #1 do }
\newcommand{\WHILE}[1]{\par while #1 do }\newcommand{\If}[1]{\par if #1 then }
\newcommand{\IF}[1]{\par if #1 then }\newcommand{\ElsIf}[1]{\par else if #1 then }
\newcommand{\Else}{\par else }\newcommand{\ELSE}{\par else }\newcommand{\Comment}[1]{ (#1)}
\newcommand{\resizebox}[3]{#3}\newcommand{\scalebox}[2]{#2}
\newcommand{\rotatebox}[3][]{#3}\newcommand{\raisebox}[2]{#2}\newcommand{\fbox}[1]{#1}
\newenvironment{wrapfigure}[3][]{\begin{figure}}{\end{figure}}
\newenvironment{wraptable}[3][]{\begin{table}}{\end{table}}
\newenvironment{adjustbox}[1]{}{}\newenvironment{multicols}[1]{}{}\newenvironment{spacing}[1]{}{}
"""


def to_text(files: Mapping[str, bytes]) -> tuple[str, str]:
    """Return a paper's text and how it was made.

    Args:
        files: the paper's files by POSIX path.

    Returns:
        Markdown with LaTeX mathematics, and a note that names the converter and the main files.

    Raises:
        UnreadableError: when no file is a LaTeX document, when the paper is beyond the bounds of
            `tex_source`, or when pandoc cannot read it within `MEMORY` and `SECONDS`.
    """
    mains = main_files(files)
    texts = [_text(*flattened(files, main)) for main in mains]
    return "\n\n".join(filter(None, texts)), ": ".join(filter(None, [pandoc_version(), ", ".join(mains)]))


def _text(head: str, body: str) -> str:
    body = f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    text, error = _pandoc(head + _PRELUDE + body)
    if error:
        # Most of what pandoc cannot parse is set-up; the commands it defines are what the text needs.
        plain = "\n".join(["\\documentclass{article}", *definitions(head), _PRELUDE, body])
        text, error = _pandoc(plain)
    if error:
        raise UnreadableError(error)
    return text


def _pandoc(source: str) -> tuple[str, str]:
    """Return the text of a document, or why pandoc cannot parse it.

    Raises:
        UnreadableError: when it takes too much memory or time.
    """
    command = [
        *(str(_program()), "+RTS", f"-M{MEMORY}", "-RTS", "--sandbox", "--from=latex", f"--to={_MARKDOWN}"),
        *("--wrap=none", f"--lua-filter={_FILTER}"),
    ]
    # An environment of its own: no data folder and no language of whoever runs it.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LANG": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(source.encode("utf-8", "replace"), timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise UnreadableError(f"pandoc did not finish in {SECONDS:.0f} s") from error
    if process.returncode == 0:
        return output.decode().replace("\u00a0", " ").strip(), ""
    lines = [line for line in errors.decode("utf-8", "replace").splitlines() if "[WARNING]" not in line]
    reason = f"pandoc ends with {process.returncode}: {' '.join(lines)[:300]}"
    if process.returncode == _SYNTAX_ERROR:
        return "", reason
    raise UnreadableError(reason)


def _program() -> Path:
    """Return the pandoc that is pinned, whatever is on PATH."""
    package = find_spec("pypandoc")
    path = Path(package.origin).with_name("files") / "pandoc" if package and package.origin else Path()
    if not path.is_file():
        raise UserError("pypandoc_binary is not installed, and reads LaTeX; run `make setup`")
    return path


@cache
def pandoc_version() -> str:
    """Return the name and version of the converter, such as `pandoc 3.9`."""
    answer = subprocess.run(
        [str(_program()), "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    return answer.stdout.splitlines()[0]
