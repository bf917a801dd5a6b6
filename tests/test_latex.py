"""LaTeX papers become text: put together from their files, safely, and read by pandoc."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.arxiv import latex
from collectors.arxiv.latex import UnreadableError, to_text
from collectors.arxiv.tex_source import MAX_DEPTH, flattened, main_files, stripped


def paper(body: str, head: str = "") -> bytes:
    """Return a LaTeX document."""
    return f"\\documentclass{{article}}\n{head}\n\\begin{{document}}\n{body}\n\\end{{document}}\n".encode()


def text_of(body: str, head: str = "", **files: bytes) -> str:
    """Return the text of a paper of one file, and of others that it may include."""
    return to_text({"main.tex": paper(body, head), **files})[0]


WHOLE = {
    "00README.json": b'{"sources": [{"filename": "src/paper.tex", "usage": "toplevel"}]}',
    "src/paper.tex": rb"""\documentclass[11pt]{article} % the class
\usepackage{amsmath,style/mine}
\input{src/macros}
\title{On \ours\thanks{Funded by nobody.}}
\author{Ada Writer \and Ben Reader}
\begin{document}
\maketitle
\begin{abstract}We present \ours{} with 50\% less of $\R^d$.\end{abstract}
\include{sections/one}
\input sections/two.tex
% \input{sections/unused}
\bibliographystyle{plain}
\bibliography{refs}
\begin{thebibliography}{9}\bibitem{k} A referenced work.\end{thebibliography}
\end{document}
Notes to ourselves.
""",
    "src/macros.tex": rb"\newcommand{\ours}{\textsc{Frobnicator}}\def\R{\mathbb{R}}",
    "style/mine.sty": rb"""\newcommand{\half}{\frac{1}{2}}
\def\@internal#1{\csname#1\endcsname}
""",
    "sections/one.tex": rb"""\section{First things}\label{sec:one}
As \citet{knuth84} found, see Section~\ref{sec:two} and~\cite{a,b}.\footnote{At length.}
\begin{equation}\label{eq:e} x = \half y \end{equation}
\input{sections/deep/nested}
""",
    "sections/deep/nested.tex": rb"""\begin{itemize}\item one\item two $a<b$\end{itemize}""",
    "sections/two.tex": rb"""\section{Second things}\label{sec:two}
\begin{table}\caption{Scores.}\begin{tabularx}{\textwidth}{@{}l|>{\bfseries}X*{2}{r}@{}}
\toprule Model & A & B & C \\ \midrule Ours & 1 & 2 & 3 \\ \cmidrule(lr){2-3} Theirs & 4 & 5 & 6 \\ \bottomrule
\end{tabularx}\end{table}
\begin{figure}\includegraphics{plot.pdf}\caption{A plot.}\end{figure}
\begin{tikzpicture}\draw (0,0);\end{tikzpicture}
""",
    "sections/unused.tex": b"Never included.",
    "plot.pdf": b"%PDF-1.5",
    "refs.bib": b"@article{knuth84, title={A bibliography entry}}",
}

EXPECTED = r"""# On Frobnicator

# Abstract

We present Frobnicator with 50% less of $\mathbb{R}^d$.

# First things

As @knuth84 found, see Section 2 and [@a; @b].[^1]

$$\begin{equation}
\label{eq:e} x = \frac{1}{2}y
\end{equation}$$

- one
- two $a<b$

# Second things

Scores.

| Model | A | B | C |
|---|---|---|---|
| Ours | 1 | 2 | 3 |
| Theirs | 4 | 5 | 6 |

A plot.

[^1]: At length."""


def test_a_paper_of_many_files_reads_as_one() -> None:
    """Macros are expanded, files inlined, and what is no text of the paper is gone."""
    text, made_by = to_text(WHOLE)
    assert text == EXPECTED
    assert made_by == f"{latex.pandoc_version()}: src/paper.tex"


def test_the_text_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the order of the files nor the language or the data folder of the user matter."""
    monkeypatch.setenv("LANG", "tr_TR.ISO-8859-9")
    monkeypatch.setenv("XDG_DATA_HOME", "/nonexistent")
    assert to_text(dict(reversed(WHOLE.items())))[0] == EXPECTED


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a % b\nc", "a c"),
        ("a%b\n   c", "ac"),
        ("a\n  % whole line\nc", "a\nc"),
        ("a % b\n\nc", "a \n\nc"),
        (r"5\% of \\% line break" + "\nx", r"5\% of \\x"),
        (r"\verb|a%b| % c", r"\verb|a%b| "),
        (r"\url{http://x/%20} \href{http://y/%20}{z} % c", r"\url{http://x/%20} \href{http://y/%20}{z} "),
        ("\\begin{verbatim}\n% kept\n\\end{verbatim}% gone", "\\begin{verbatim}\n% kept\n\\end{verbatim}"),
        ("a\\begin{comment}b % \\end{document}\n\\end{comment}c", "ac"),
        ("a\\begin{thebibliography}{9}\\bibitem{x} y\\end{thebibliography}b", "ab"),
        ("\\begin{verbatim} without an end % c", "\\begin{verbatim} without an end "),
        ("% only", ""),
    ],
)
def test_comments_go_and_verbatim_text_stays(source: str, text: str) -> None:
    """As TeX reads them: a comment takes its line end along, but no paragraph break."""
    assert stripped(source) == text


@given(st.text(alphabet="ab \n\\%{}|$", max_size=60))
def test_a_text_without_comments_is_not_changed(text: str) -> None:
    """Whatever stands in it: only a percent sign that no backslash protects begins a comment."""
    plain = text.replace("%", "x")
    assert stripped(plain) == plain


@given(st.text(max_size=200))
@settings(max_examples=50)
def test_stripping_leaves_no_comment(text: str) -> None:
    """A second pass finds nothing to do, in text without verbatim parts."""
    once = stripped(text.replace("\\", "/"))
    assert "%" not in once


def test_a_file_includes_what_lies_beside_it_or_below_the_root() -> None:
    """With and without suffix, by every command that includes; the root comes first, as arXiv compiles there."""
    files = {
        "main.tex": paper(
            r"\input{a/one}\include{a/two.tex}\subfile{a/three}\import{a/}{four}\input{both}\input{a/both}"
        ),
        "a/one.tex": rb"one \input{deeper}",
        "a/deeper.tex": b"deeper",
        "a/two.tex": b"two",
        "a/three.tex": rb"\documentclass[main]{subfiles}\begin{document}three\end{document}never",
        "a/four.tex": b"four",
        "a/both.tex": rb"\input{both}",
        "both.tex": b"root",
    }
    _, body = flattened(files, "main.tex")
    assert body.split() == ["one", "deeper", "two", "three", "four", "root", "root"]


def test_nothing_outside_the_paper_is_included() -> None:
    """Absolute paths, paths upwards, missing files and files that are no TeX add nothing."""
    secret = "root:"
    text = text_of(
        r"kept \input{/etc/passwd}\input{../../etc/passwd}\include{/etc/passwd}\lstinputlisting{/etc/passwd}"
        r"\verbatiminput{/etc/passwd}\includegraphics{/etc/passwd}\input{missing}\input{picture.pgf}"
        r"\openin1=/etc/passwd \read1 to\x \x",
        r"\usepackage{/etc/passwd}\input{/etc/passwd}",
        **{"picture.pgf": b"drawing"},
    )
    assert "kept" in text
    assert secret not in text
    assert "drawing" not in text


def test_files_that_include_themselves_end() -> None:
    """A cycle is cut where it closes, and depth is bounded."""
    _, body = flattened(
        {"main.tex": paper(r"m \input{a}"), "a.tex": rb"a \input{b}", "b.tex": rb"b \input{a}\input{main}"},
        "main.tex",
    )
    assert body.split() == ["m", "a", "b"]
    chain = {f"f{n}.tex": b"level \\input{f%d}" % (n + 1) for n in range(50)}
    _, body = flattened({"main.tex": paper(r"\input{f0}"), **chain}, "main.tex")
    assert body.split() == ["level"] * MAX_DEPTH


def test_files_that_multiply_are_refused() -> None:
    """Each includes the next ten times: 10^9 files, of which a thousand are read."""
    tree = {f"f{n}.tex": b"\\input{f%d} " % (n + 1) * 10 for n in range(9)}
    with pytest.raises(UnreadableError, match="files"):
        to_text({"main.tex": paper(r"\input{f0}"), **tree})


@pytest.mark.parametrize(
    ("files", "mains"),
    [
        ({"a.tex": paper("x"), "b.tex": b"\\section{b}"}, ["a.tex"]),
        ({"a.tex": b"% \\documentclass{x}\n\\section{a}", "b.tex": paper("x")}, ["b.tex"]),
        ({"supplement.tex": paper("long " * 99), "main.tex": paper("x")}, ["main.tex"]),
        ({"fig/x.tex": paper("x" * 99), "deep.tex": paper("y")}, ["deep.tex"]),
        (
            {"a.tex": b"\\documentclass{standalone}\\begin{document}\\end{document}", "b.tex": paper("x")},
            ["b.tex"],
        ),
        ({"short.tex": paper("x"), "whole.tex": paper("x" * 99)}, ["whole.tex"]),
        ({"old.tex": b"\\documentstyle{article}\\begin{document}x\\end{document}"}, ["old.tex"]),
        ({"": paper("single")}, [""]),
        ({"a.tex": paper("x"), "b.tex": paper("y"), "00README.XXX": b"b.tex toplevelfile\n"}, ["b.tex"]),
        (
            {
                "a.tex": paper("x"),
                "b.tex": paper("y"),
                "c.tex": paper("z"),
                "00README.yaml": b"sources:\n- filename: b.tex\n  usage: toplevel\n"
                b"- filename: 'a.tex'\n- filename: c.tex\n  usage: ignore\n",
            },
            ["b.tex", "a.tex"],
        ),
        ({"a.tex": paper("x"), "00README.json": b'{"sources": [{"filename": "../b.tex"}]}'}, ["a.tex"]),
        ({"a.tex": paper("x"), "00README.json": b"[" * 50_000}, ["a.tex"]),
    ],
)
def test_the_main_file_is_found(files: dict[str, bytes], mains: list[str]) -> None:
    """By what the files hold and what 00README says, before what they are called."""
    assert main_files(files) == mains


def test_several_declared_main_files_follow_each_other() -> None:
    """As arXiv puts the paper and its supplement into one PDF."""
    files = {
        "a.tex": paper("First."),
        "b.tex": paper("Second."),
        "00README.XXX": b"a.tex toplevelfile\nb.tex toplevelfile",
    }
    assert to_text(files)[0] == "First.\n\nSecond."


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1251"])
def test_text_is_read_in_its_encoding(encoding: str) -> None:
    """UTF-8 where it is that, else what the paper declares."""
    word = {"cp1251": "слово"}.get(encoding, "naïve Größe")
    declared = {"latin-1": "latin1", "utf-8": "utf8"}.get(encoding, encoding)
    source = paper(word, f"\\usepackage[{declared}]{{inputenc}}").decode().encode(encoding)
    assert to_text({"main.tex": source})[0] == word


def test_nothing_is_escaped_and_mathematics_stay_latex() -> None:
    """The text is for reading: no backslashes that the author did not write, no attributes."""
    text = text_of(
        r"a\_b \# 1 * 2 < 3 > [x] {\bf bold} \texttt{x\_y} $\alpha_1$ \(b\) \[c^2\] \textsuperscript{2}"
    )
    assert text == "a_b # 1 * 2 < 3 > [x] **bold** `x_y` $\\alpha_1$ $b$\n\n$$c^2$$\n\n²"


def test_steps_of_algorithms_are_words_unless_the_paper_says_otherwise() -> None:
    """Commands of the packages for algorithms print what they print there; a paper's own come first."""
    steps = r"\begin{algorithmic}\Require $n$ \While{$n>1$} \State halve \EndWhile \end{algorithmic}"
    assert text_of(steps).split() == ["Require:", "$n$", "while", "$n>1$", "do", "halve"]
    assert text_of(r"\State", r"\newcommand{\State}{Utah}") == "Utah"


@pytest.mark.parametrize(
    "box",
    [
        r"\resizebox{\textwidth}{!}{TABLE}",
        r"\resizebox*{\textwidth}{!}{TABLE}",
        r"\scalebox{0.8}{TABLE}",
        r"\begin{adjustbox}{width=\textwidth}TABLE\end{adjustbox}",
    ],
)
def test_a_table_that_is_made_to_fit_stays(box: str) -> None:
    """With its caption: most wide tables stand in such a box."""
    table = "\n\\begin{tabular}{ll}\na&b\\\\c&d\n\\end{tabular}%\n"
    text = text_of(f"\\begin{{table}}\\caption{{Sizes.}}\n{box.replace('TABLE', table)}\\end{{table}}")
    assert text == "Sizes.\n\n| a | b |\n| c | d |"


def test_environments_take_their_arguments_and_leave_their_text() -> None:
    """Figures that text flows around, columns and spacing; the paper's own definition comes first."""
    figure = r"\begin{wrapfigure}[9]{r}{3cm}\includegraphics{a}\caption{Seen.}\end{wrapfigure}"
    assert text_of(figure) == "Seen."
    assert text_of(r"\begin{multicols}{2}\begin{spacing}{1.5}Words.\end{spacing}\end{multicols}") == "Words."
    assert (
        text_of(r"\begin{spacing}{3}\end{spacing}", r"\newenvironment{spacing}[1]{#1 lines}{}") == "3 lines"
    )


def test_a_figure_leaves_all_its_captions_and_words() -> None:
    """Captions of its parts too."""
    parts = "".join(
        rf"\begin{{subfigure}}{{3cm}}\includegraphics{{{k}}}\caption{{Part {k}.}}\end{{subfigure}}"
        for k in "ab"
    )
    text = text_of(rf"\begin{{figure}}\centering {parts}\caption{{Both.}}\end{{figure}}")
    assert text.split("\n\n") == ["Part a.", "Part b.", "Both."]


def test_title_and_abstract_above_two_columns_stay() -> None:
    r"""The argument of \twocolumn ends, as in TeX, at the first bracket outside braces."""
    front = (
        r"\begin{@twocolumnfalse}\maketitle\begin{abstract}Short {[1]}.\end{abstract}\end{@twocolumnfalse}"
    )
    text = text_of(rf"\twocolumn[{front}] Body.", r"\title{Name}")
    assert text == "# Name\n\n# Abstract\n\nShort [1].\n\nBody."
    assert "never closed" in text_of(r"\twocolumn[ never closed")


def test_what_tex_does_not_read_is_no_text() -> None:
    r"""What follows \endinput, and what stands between a condition that never holds and its end."""
    files = {"main.tex": paper(r"One \input{a} two."), "a.tex": b"In.\n\\endinput\nNot in."}
    assert to_text(files)[0] == "One In.\n\ntwo."
    assert text_of("One \\if0\nout\n\\fi two \\iffalse out\\fi\\endinput three.") == "One two three."


def test_a_document_may_begin_in_an_included_file() -> None:
    """Whose preamble is in another one."""
    files = {
        "main.tex": b"\\documentclass{article}\n\\input{head}\n\\input{body}\n",
        "head.tex": b"\\newcommand{\\name}{Zed}",
        "body.tex": b"\\begin{document}\nHere is \\name.\n\\end{document}",
    }
    assert to_text(files)[0] == "Here is Zed."


def test_packages_lie_beside_the_main_file_too() -> None:
    """A paper may lie in a folder."""
    files = {"p/main.tex": paper(r"\name.", r"\usepackage{own}"), "p/own.sty": b"\\newcommand{\\name}{Zed}"}
    assert to_text(files)[0] == "Zed."


def test_a_preamble_that_cannot_be_parsed_costs_no_paper() -> None:
    """Its one-line definitions are kept, the rest of it is set-up."""
    head = "\\newcommand{\\name}{Zed}\n\\newcommand{\\broken}[9999]{}\n\\newenvironment{x}{{{\n"
    assert text_of(r"Here is \name.", head) == "Here is Zed."


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.tex": b"\\section{x} no class"}, "documentclass"),
        ({}, "documentclass"),
        ({"a.tex": paper("{ open")}, "pandoc ends"),
        ({"a.tex": paper(r"\a", r"\def\a{\a\a}")}, "Loop"),
    ],
)
def test_what_cannot_be_read_says_why_in_one_line(files: dict[str, bytes], reason: str) -> None:
    """The reason becomes metadata of the dropped paper."""
    with pytest.raises(UnreadableError, match=reason) as caught:
        to_text(files)
    assert "\n" not in str(caught.value)


def test_a_paper_that_eats_memory_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heap of pandoc is bounded by its own runtime."""
    monkeypatch.setattr(latex, "MEMORY", "16m")
    with pytest.raises(UnreadableError, match="Heap exhausted"):
        text_of("word $x$ \\emph{y} " * 50_000)


def test_a_paper_that_takes_too_long_is_stopped_with_all_its_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists within lists take pandoc exponential time."""
    monkeypatch.setattr(latex, "SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(UnreadableError, match="did not finish"):
        text_of(r"\begin{itemize}\item " * 2_000)
    assert time.monotonic() - started < 5
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    "source",
    [
        "\\begin{verbatim}" * 50_000,
        "\\url{" * 100_000,
        "%" * 1_000_000,
        "a % b\n" * 100_000,
        " " * 500_000 + "%",
        "\\begin{tabular}{" * 20_000,
        "\\input{" + " " * 500_000,
        "\\documentclass[" * 50_000,
        "\\twocolumn[" * 50_000,
    ],
    ids=["verbatim", "url", "percent", "comments", "blanks", "tables", "input", "class", "columns"],
)
def test_reading_takes_time_in_proportion_to_length(source: str) -> None:
    """Nothing is searched for to the end again and again: a megabyte takes less than a few seconds."""
    started = time.monotonic()
    files = {"main.tex": f"\\documentclass{{a}}\n\\begin{{document}}{source}".encode()}
    assert main_files(files) == ["main.tex"]
    flattened(files, "main.tex")
    assert time.monotonic() - started < 5
