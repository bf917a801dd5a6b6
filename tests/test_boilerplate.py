"""Boilerplate is what stands at the edge of many documents of one site."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from collectors.news.boilerplate import frequent, strip

FOOTER = "Follow us everywhere. Send your story to news@example.org or call 0800 496 0123."


def articles(n: int, footer: str = FOOTER) -> list[str]:
    """Return articles with three lines of their own and a footer."""
    bodies = [
        "\n".join(
            f"Sentence {i}.{j} of a report that nobody else wrote, on what happened and why it did."
            for j in range(3)
        )
        for i in range(n)
    ]
    return [f"{body}\n{footer}" for body in bodies]


def test_a_footer_goes_from_every_document() -> None:
    """And each document says how many lines it lost."""
    texts = articles(5)
    lines = frequent(texts, documents=3, share=0.0)
    for text in texts:
        assert strip(text, lines) == (text.removesuffix(f"\n{FOOTER}"), 1)


def test_a_line_in_too_few_documents_stays() -> None:
    """Both the number and the share of documents must be reached."""
    texts = articles(3) + articles(97, footer="An end of its own")
    assert frequent(texts, documents=4, share=0.0) == frequent(texts[3:], documents=3, share=0.0)
    assert "an end of its own" in frequent(texts, documents=3, share=0.5)
    assert len(frequent(texts, documents=3, share=0.5)) == 1


def test_variants_of_a_line_are_one_line() -> None:
    """Case, spaces and masked addresses do not tell lines apart."""
    variants = [
        "Send your story to  a@example.org",
        "send your story to b@example.org",
        "Send your story\u00a0to c@example.org",
    ]
    texts = [text.replace(FOOTER, variant) for text, variant in zip(articles(3), variants, strict=True)]
    lines = frequent(texts, documents=3, share=0.0)
    assert [strip(text, lines)[1] for text in texts] == [1, 1, 1]


def test_only_the_edges_are_cut() -> None:
    """What stands between two lines of a document's own is what its author repeats."""
    said = "The payments arrive every four weeks."
    texts = [
        f"Advertisement\n{said}\nLine {i}, long and unlike all others.\n{said}\nEnd {i}." for i in range(4)
    ]
    lines = frequent(texts, documents=3, share=0.0)
    assert strip(texts[0], lines) == ("Line 0, long and unlike all others.\n" + said + "\nEnd 0.", 2)


def test_blank_lines_do_not_protect_a_footer() -> None:
    """Nor do they count as lines cut."""
    texts = [text.replace(f"\n{FOOTER}", f"\n\n{FOOTER}\n\n{FOOTER}\n") for text in articles(3)]
    lines = frequent(texts, documents=3, share=0.0)
    assert strip(texts[0], lines) == (articles(3)[0].removesuffix(f"\n{FOOTER}"), 2)


def test_copies_of_an_article_are_not_boilerplate() -> None:
    """Equal texts count once, and three versions of one article do not wipe out each other."""
    text = articles(1)[0]
    assert frequent([text] * 5, documents=3, share=0.0) == frozenset()
    versions = [f"{text}\nUpdate {i}" for i in range(3)]
    lines = frequent(versions, documents=3, share=0.0)
    assert lines
    assert strip(text, lines) == (text, 0)


LINES = st.sampled_from(
    ["a", "b", "A ", "", "c d", "C  D", "a longer line", "x@example.org", "y@example.org"]
)
TEXTS = st.lists(st.lists(LINES, max_size=6).map("\n".join), max_size=8)


def naive_frequent(texts: list[str], documents: int, share: float) -> set[str]:
    """Return the frequent lines of texts without addresses, by definition."""
    distinct = set(texts)
    counts = Counter(
        " ".join(line.lower().split()) for text in distinct for line in set(text.lower().split("\n"))
    )
    del counts[""]
    return {
        line
        for line in counts
        if (n := sum(any(" ".join(x.lower().split()) == line for x in t.split("\n")) for t in distinct))
        >= documents
        and n >= share * len(distinct)
    }


@given(
    TEXTS.map(lambda texts: [t.replace("@", "") for t in texts]), st.integers(2, 4), st.sampled_from([0, 0.5])
)
def test_document_frequency_is_that_of_the_definition(texts: list[str], documents: int, share: float) -> None:
    """Against a count by definition, in any order of the documents."""
    found = frequent(texts, documents=documents, share=share)
    assert found == naive_frequent(texts, documents, share)
    assert found == frequent(texts[::-1], documents=documents, share=share)


@given(TEXTS)
def test_what_is_left_is_a_part_of_the_text(texts: list[str]) -> None:
    """Stripping cuts whole lines at the edges, and at most half of a text."""
    lines = frequent(texts, documents=2, share=0.0)
    for text in texts:
        left, n = strip(text, lines)
        assert left in text
        assert (n == 0) == (left == text)
        assert 2 * len(left) + 2 * text.count("\n") >= len(text)
