"""arXiv's own HTML of papers, made by LaTeXML, as text with LaTeX mathematics.

Its formulas carry their LaTeX in an attribute, which text extraction would lose, and its pages carry
bibliographies and notices of the site. Both are mended before the page is extracted like any other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from collectors.pages import extraction as pages
from collectors.pages import worker

_EQUATIONS = frozenset({"ltx_equation", "ltx_equationgroup"})
_FURNITURE = frozenset(
    {"ltx_bibliography", "ltx_page_footer", "ltx_page_header", "ltx_page_navbar", "ltx_TOC", "package-alerts"}
    | {"ltx_ERROR", "ltx_dates"}
)


def texts(papers: Iterable[pages.Page], *, workers: int = 1) -> Iterator[tuple[str, str]]:
    """Yield text and reason of each page, one of them empty, in order, from worker processes.

    Reasons are those of `collectors.pages.extraction.Extracted`.
    """
    for result in worker.run(text, papers, workers=workers):
        yield tuple(result.value) if not result.reason else ("", result.reason)


def text(page: pages.Page) -> tuple[str, str]:
    """Return the text of a page, or an empty one and the reason, in this process."""
    if len(page.payload) > pages.MAX_BYTES:
        return "", "too-large"
    extracted = pages.extract(
        replace(page, payload=prepared(page.payload), media_type="text/html; charset=utf-8")
    )
    return extracted.text, extracted.reason


def prepared(payload: bytes) -> bytes:
    """Return a page in UTF-8 with its formulas as LaTeX in dollars, without bibliography and notices."""
    try:
        tree = document_fromstring(payload, parser=HTMLParser(encoding="utf-8", remove_comments=True))
    except etree.ParserError:
        return payload
    for element in list[Any](tree.iter()):
        classes = set((element.get("class") or "").split()) if isinstance(element.tag, str) else set()
        if element.getparent() is None:
            continue
        if classes & _FURNITURE:
            element.drop_tree()
        elif element.tag == "table" and classes & _EQUATIONS:
            _replace(element, "p", [f"$${formula}$$" for formula in _formulas(element)])
        elif element.tag == "math":
            mark = "$$" if element.get("display") == "block" else "$"
            _replace(element, "span", [f"{mark}{formula}{mark}" for formula in _formulas(element)])
    return etree.tostring(tree, method="html", encoding="utf-8")


def _formulas(element: Any) -> list[str]:
    return [formula for math in element.iter("math") if (formula := math.get("alttext"))]


def _replace(element: Any, tag: str, texts: list[str]) -> None:
    tail = element.tail
    element.clear()
    element.tag, element.text, element.tail = tag, " ".join(texts), tail
