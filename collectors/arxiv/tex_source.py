"""The files of a LaTeX paper put together as one document, in memory.

What a paper's own commands include is looked up among the files of the paper and nowhere else.
"""

import json
import posixpath
import re
from collections.abc import Mapping

MAX_SOURCE = 8 << 20  # characters of a paper with everything included; long theses have 3 million
MAX_INCLUDED = 1_000
MAX_DEPTH = 12
MAX_HINTS = 64 << 10
MAX_INDENT = 1_000  # blanks before a comment that has its line to itself
MAX_COLUMNS = 60
MAX_GROUP = 1_000  # characters of a column specification
MAX_FRONT = 100_000  # characters of what stands above two columns

# Every repetition is bounded that could meet a stranger's text again and again.
_CLASS = re.compile(
    r"^[^%\n]*\\document(?:class|style)\s{0,100}(?:\[[^\]]{0,2000}\])?\s{0,100}\{\s{0,100}([\w-]{0,100})",
    re.MULTILINE,
)
_ENCODING = re.compile(
    r"\\usepackage\s{0,100}\[\s{0,100}([\w-]+)\s{0,100}\]\s{0,100}\{inputenc\}|\\inputencoding\s{0,100}\{([\w-]+)\}"
)
_ENCODINGS = {
    "ansinew": "cp1252",
    "applemac": "mac_roman",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1252": "cp1252",
    "koi8-r": "koi8-r",
    "latin2": "iso8859-2",
    "latin5": "iso8859-9",
    "latin9": "iso8859-15",
}
_MARK = re.compile(
    r"%|\\(?:begin\s{0,100}\{(?P<environment>[A-Za-z]+\*?)\}|(?P<verb>verb\*?|lstinline)(?=[^A-Za-z*\s\[{])"
    r"|(?P<address>url|nolinkurl|path|href)\s{0,100}\{|[\s\S])"
)
_VERBATIM = frozenset(
    {"verbatim", "verbatim*", "Verbatim", "BVerbatim", "LVerbatim", "alltt", "lstlisting", "minted"}
)
_LEFT_OUT = frozenset(
    {"comment", "thebibliography", "filecontents", "filecontents*", "tikzpicture", "pgfpicture", "picture"}
    | {"forest"}
)
_INCLUDE = re.compile(
    r"\\(?:input|include|subfile|subfileinclude)\s{0,100}\{([^{}\n]{1,200})\}"
    r"|\\input\s+([^\s{}\\]{1,200})"
    r"|\\(?:sub)?(?:import|inputfrom|includefrom)\*?\s{0,100}\{([^{}\n]{0,200})\}\s{0,100}\{([^{}\n]{1,200})\}"
)
_END_OF_INPUT = re.compile(r"^[ \t]*\\endinput(?![A-Za-z])", re.MULTILINE)
_NEVER = re.compile(r"\\if[ \t]*[01](?=\s)")  # compares a digit with a blank
_TWO_COLUMNS = re.compile(r"\\twocolumn\s{0,100}\[")
_BOX_ONLY = re.compile(r"\\(?:begin|end)\s{0,100}\{@twocolumnfalse\}")
_STARRED_BOX = re.compile(r"\\(resizebox|scalebox)\*")
_BRACE = re.compile(r"[{}]")
_BRACKET = re.compile(r"\\.|[{}\]]", re.DOTALL)
_BLANKS = re.compile(r"[ \t]*")
_PACKAGES = re.compile(r"\\usepackage\s{0,100}(?:\[[^\]]{0,2000}\])?\s{0,100}\{([^{}]{1,1000})\}")
_DEFINITION = re.compile(
    r"^[ \t]*(\\(?:(?:re)?newcommand|providecommand|DeclareMathOperator|def)\*?(?![A-Za-z]).*)$", re.MULTILINE
)
_TABLE = re.compile(r"\\begin\{(tabularx|tabular\*|tabulary|tabular)\}(?:\[[a-z]\])?")
_END_OF_TABLE = re.compile(r"\\end\{(?:tabularx|tabular\*|tabulary)\}")
_RULE = re.compile(
    r"\\(?:cmidrule|cline)\s{0,100}(?:\[[^\]]{0,50}\])?(?:\([^)]{0,20}\))?\s{0,100}\{[^{}]{0,40}\}"
)
_YAML_SOURCE = re.compile(
    r"""filename:[ ]?["']?([^\s"']{1,300})["']?(?:\s{1,50}usage:[ ]?["']?(\w{1,20}))?"""
)
_NAMES_OF_PAPERS = re.compile(r"main|ms|paper|article|manuscript|root|arxiv", re.IGNORECASE)
_NAMES_OF_OTHERS = re.compile(
    r"supp|respon|rebut|cover|letter|reply|templat|sampl|example|backup|old|diff|poster|slide", re.IGNORECASE
)
_SUFFIXES = (".tex", ".ltx", ".latex")


class UnreadableError(Exception):
    """A paper that cannot be turned into text; the message says why, in one line."""


def main_files(files: Mapping[str, bytes]) -> list[str]:
    """Return the files that a paper is compiled from: those its 00README names, or the likeliest one.

    Raises:
        UnreadableError: when no file is a LaTeX document.
    """
    found = []
    for path in sorted(files):
        if len(files) > 1 and not path.lower().endswith(_SUFFIXES):
            continue
        match = _CLASS.search(_decoded(files[path]))
        if match:
            found.append((_rank(path, match[1], files[path]), path))
    if not found:
        raise UnreadableError("no file has a \\documentclass")
    ordered = [path for _, path in sorted(found)]
    hinted = [path for path in _hinted(files) if path in ordered]
    return hinted or ordered[:1]


def _rank(path: str, kind: str, payload: bytes) -> tuple[bool, bool, int, bool, bool, int]:
    name = posixpath.basename(path)
    return (
        b"\\begin{document}" not in payload,
        kind in {"standalone", "subfiles", "letter", "beamer", "minimal"},
        path.count("/"),
        bool(_NAMES_OF_OTHERS.search(name)),
        not _NAMES_OF_PAPERS.search(name),
        -len(payload),
    )


def _hinted(files: Mapping[str, bytes]) -> list[str]:
    """Return the top-level files that arXiv's 00README declares, in its order."""
    named: list[str] = []
    for path, payload in sorted(files.items()):
        stem, _, suffix = path.lower().partition(".")
        text = payload[:MAX_HINTS].decode("utf-8", "replace")
        if stem != "00readme":
            continue
        if suffix == "xxx":
            lines = [line.split() for line in text.splitlines()]
            named += [line[0] for line in lines if len(line) == 2 and line[1] == "toplevelfile"]
            continue
        if suffix != "json":
            named += [name for name, usage in _YAML_SOURCE.findall(text) if usage in {"", "toplevel"}]
            continue
        try:
            declared = json.loads(text)
        except (ValueError, RecursionError):
            continue
        sources = declared.get("sources") if isinstance(declared, dict) else None
        for source in sources if isinstance(sources, list) else ():
            if isinstance(source, dict) and source.get("usage", "toplevel") == "toplevel":
                named.append(str(source.get("filename", "")))
    return list(dict.fromkeys(named))


def flattened(files: Mapping[str, bytes], main: str) -> tuple[str, str]:
    """Return the preamble and the body of a main file with everything it includes.

    Comments, bibliography and drawings are gone. Included files are looked up from the root, where arXiv
    compiles, then beside the main and the including file. What is not there, what leads out of the
    paper, and what includes itself is left out.

    Raises:
        UnreadableError: when it is longer than `MAX_SOURCE` or includes more than `MAX_INCLUDED` files.
    """
    encoding = _encoding(files[main])
    begins = b"\\begin{document}" in files[main]
    characters = included = 0

    def expand(path: str, above: tuple[str, ...]) -> str:
        nonlocal characters, included
        text = _input(stripped(_decoded(files[path], encoding)))
        # An included file may be a document of its own, or the one in which this document begins.
        text = _body(text) if above and (begins or _CLASS.search(text)) else text
        characters += len(text)
        included += 1
        if characters > MAX_SOURCE or included > MAX_INCLUDED:
            raise UnreadableError(
                f"longer than {MAX_SOURCE:,} characters, or of more than {MAX_INCLUDED:,} files"
            )

        def content(match: re.Match[str]) -> str:
            name = match[1] or match[2] or posixpath.join(match[3], match[4])
            target = _found(files, name, (main, path))
            if not target or target in (*above, path) or len(above) >= MAX_DEPTH:
                return ""
            return expand(target, (*above, path)) + "\n"

        return _INCLUDE.sub(content, text)

    head, _, body = expand(main, ()).partition("\\begin{document}")
    own = "\n".join(
        definition
        for name in _own_packages(files, head, main)
        for definition in definitions(stripped(_decoded(files[name], encoding)))
    )
    return f"{head.replace('documentstyle', 'documentclass')}\n{own}\n", _plain_tables(
        _one_column(_body(body))
    )


def definitions(text: str) -> list[str]:
    """Return the commands that a preamble or a package defines on one line each."""
    lines = (line.strip() for line in _DEFINITION.findall(text))
    return [line for line in lines if line.count("{") == line.count("}") and "@" not in line]


def _own_packages(files: Mapping[str, bytes], head: str, main: str) -> list[str]:
    names = [name.strip() for names in _PACKAGES.findall(head) for name in names.split(",")]
    folders = ("", posixpath.dirname(main))
    paths = [
        posixpath.normpath(posixpath.join(folder, f"{name}.sty")) for name in names for folder in folders
    ]
    return [path for path in dict.fromkeys(paths) if path in files]


def _found(files: Mapping[str, bytes], name: str, relative_to: tuple[str, ...]) -> str:
    """Return the file of the paper that a command includes, or an empty string."""
    name = name.strip(' "')
    for folder in ("", *map(posixpath.dirname, relative_to)):
        for candidate in (name, f"{name}.tex"):
            path = posixpath.normpath(posixpath.join(folder, candidate))
            if path in files and path.lower().endswith((*_SUFFIXES, ".txt")):
                return path
    return ""


def _input(text: str) -> str:
    r"""Return what TeX reads of a file, up to \endinput, with conditions that never hold called so."""
    read = _END_OF_INPUT.split(text, maxsplit=1)[0].replace("\\endinput", "")
    return _NEVER.sub(r"\\iffalse", read)


def _body(text: str) -> str:
    r"""Return what stands between \begin{document} and \end{document}, or all where neither is."""
    body = text.partition("\\begin{document}")[2] or text
    return body.partition("\\end{document}")[0]


def stripped(text: str) -> str:
    """Return LaTeX without comments, bibliography and drawings; verbatim text and addresses stay whole.

    A comment takes the end of its line with it, as in TeX, but no paragraph break.
    """
    kept: list[str] = []
    absent: set[str] = set()  # an end that is not there is looked for once, so that time grows with length
    position = 0
    while match := _MARK.search(text, position):
        kept.append(text[position : match.start()])
        position = match.end()
        environment = match["environment"]
        if match[0] == "%":
            position = _after_comment(text, match.start(), kept)
        elif environment in _VERBATIM | _LEFT_OUT and environment not in absent:
            end = text.find(f"\\end{{{environment}}}", position)
            if end < 0:
                absent.add(environment)
                kept.append(match[0])
                continue
            position = end + len(f"\\end{{{environment}}}")
            kept.append("" if environment in _LEFT_OUT else text[match.start() : position])
        else:
            if match["verb"] or match["address"]:
                start = position + 1 if match["verb"] else position
                end = text.find(text[position] if match["verb"] else "}", start, start + 2_000)
                if end >= 0 and "\n" not in text[start:end]:
                    position = end + 1
            kept.append(text[match.start() : position])
    kept.append(text[position:])
    return "".join(kept)


def _after_comment(text: str, start: int, kept: list[str]) -> int:
    """Return where the text goes on after a comment; blanks before one that fills its line go too."""
    end = text.find("\n", start)
    if end < 0:
        return len(text)
    line = text.rfind("\n", max(0, start - MAX_INDENT), start)
    if (line >= 0 or start <= MAX_INDENT) and not text[line + 1 : start].strip():
        kept[-1] = kept[-1].rstrip(" \t")
        return end + 1
    following = _BLANKS.match(text, end + 1)
    after = following.end() if following else end + 1
    return end if text.startswith("\n", after) or after == len(text) else after


def _one_column(text: str) -> str:
    r"""Return a text in which what \twocolumn has in brackets, title and abstract, stands by itself."""
    text = _BOX_ONLY.sub("", _STARRED_BOX.sub(r"\\\1", text))
    match = _TWO_COLUMNS.search(text)
    end = _after_brackets(text, match.end()) if match else 0
    return f"{text[: match.start()]}{text[match.end() : end - 1]}\n\n{text[end:]}" if match and end else text


def _after_brackets(text: str, start: int) -> int:
    """Return the end of an argument in brackets: the first that closes outside braces; 0 if none does."""
    depth = 0
    for mark in _BRACKET.finditer(text, start, start + MAX_FRONT):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if mark[0] == "]" and depth == 0:
            return mark.end()
    return 0


def _plain_tables(text: str) -> str:
    """Return a text whose tables declare plain columns, as many as they have: pandoc knows few others."""
    kept = []
    position = 0
    while match := _TABLE.search(text, position):
        kept.append(text[position : match.start()])
        start = match.end() if match[1] == "tabular" else _after_group(text, match.end())
        position = _after_group(text, start)
        n_columns = min(_columns(text[start:position]), MAX_COLUMNS)
        kept.append(f"\\begin{{tabular}}{{{'l' * max(n_columns, 1)}}}")
    kept.append(text[position:])
    return _RULE.sub("", _END_OF_TABLE.sub(r"\\end{tabular}", "".join(kept)))


def _after_group(text: str, start: int) -> int:
    """Return the end of the group in braces that starts here, or `start` where there is none."""
    depth = 0
    for brace in _BRACE.finditer(text, start, start + MAX_GROUP) if text.startswith("{", start) else ():
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return start


def _columns(group: str) -> int:
    """Return how many columns a column specification in braces declares."""
    inner = re.sub(
        r"\*\s?\{(\d{1,2})\}\s?\{([^{}]*)\}", lambda match: str(match[2]) * int(match[1]), group[1:-1]
    )
    for _ in range(4):
        inner = re.sub(r"\{[^{}]*\}|\[[^\[\]]*\]", "", inner)
    return len(re.findall(r"[A-Za-z]", inner))


def _encoding(payload: bytes) -> str:
    """Return the encoding that a paper declares for what is not UTF-8."""
    match = _ENCODING.search(payload.decode("latin-1"))
    return _ENCODINGS.get((match[1] or match[2]).lower(), "latin-1") if match else "latin-1"


def _decoded(payload: bytes, encoding: str = "latin-1") -> str:
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = payload.decode(encoding, "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
