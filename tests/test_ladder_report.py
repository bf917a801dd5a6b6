"""The section on compression: the ladder, when weights pay off, and the files that were really written."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import DIGEST, NAMES, score_rows, words, write_csv, write_inputs

from collectors.document import UserError
from evaluate import passage_cells
from evaluate.passage_cells import Passage, Piece
from evaluate.report import page
from evaluate.report.ladder import break_even
from evaluate.report.measurements import Measurement, measurements
from evaluate.report.records import ReportData
from evaluate.report.results import read

PIECES = (Piece(text="to be", bits=10.0), Piece(text=" or", bits=4.0), Piece(text="\n", bits=1.5))


def passage(model: str, pieces: Sequence[Piece] = PIECES, **other: object) -> Passage:
    """Return a passage of the first corpus whose payload is its bits rounded up, behind 20 bytes of header."""
    text, bits = "".join(piece.text for piece in pieces), sum(piece.bits for piece in pieces)
    figures: dict[str, object] = {
        "model": model,
        "backend": "transformers",
        "corpus": NAMES[0],
        "content": "prose",
        "corpus_sha256": DIGEST,
        "protocol": "full/1900/512",
        "document": "d1",
        "title": "Hamlet",
        "url": "https://example.org",
        "license": "CC0-1.0",
        "pieces": tuple(pieces),
        "n_characters": len(text),
        "n_bytes": len(text.encode()),
        "payload_bytes": math.ceil(bits / 8),
        "file_bytes": math.ceil(bits / 8) + 20,
        "nll": bits * math.log(2),
        "restored": True,
        "decoder_bytes": 1_000_000,
    }
    return Passage(**{**figures, **other})  # type: ignore[arg-type]


def compressed(model: str, n_bytes: int, text: str = "to be or\n", **other: object) -> Passage:
    """Return a passage that a compressor wrote as so many bytes."""
    return passage(
        model,
        [Piece(text=text, bits=8.0 * n_bytes)],
        **{
            "backend": "compressors",
            "protocol": "document",
            "payload_bytes": n_bytes,
            "file_bytes": n_bytes,
            "decoder_bytes": 0,
            **other,
        },
    )


def plant(results: Path, passages: Sequence[Passage]) -> None:
    """Write cells as the command does."""
    for one in passages:
        passage_cells.write(results / "passages" / one.model / f"{one.corpus}.parquet", one, {}, "key")


def inputs(folder: Path, passages: Sequence[Passage] = ()) -> ReportData:
    """Read the sample inputs with passages."""
    results, corpora = write_inputs(folder)
    plant(results, passages)
    return read(results, corpora, NAMES)


def part(data: ReportData) -> str:
    """Return the section on compression."""
    whole = page.render(data)
    return whole.partition('<section aria-labelledby="compression">')[2].partition("</section>")[0]


def table(section: str, label: str) -> str:
    """Return the words of a table below its head."""
    whole = section.partition(f'aria-label="{label}"')[2].partition("</table>")[0]
    return words(whole.partition("</thead>")[2]).strip()


def rungs(section: str) -> list[list[str]]:
    """Return what each ladder's dots say, from the top."""
    return [
        re.findall(r'role="img"><title>(.*?)</title>', chart)
        for chart in section.partition('aria-label="Weights')[0].split("<figure>")[1:]
    ]


def by_corpus(data: ReportData, values: Mapping[tuple[str, str], float]) -> ReportData:
    """Return the data with other rates, by model and corpus, under every protocol."""
    return replace(
        data,
        scores=tuple(
            replace(score, value=values.get((score.model, score.corpus), score.value))
            for score in data.scores
        ),
    )


@given(
    st.integers(1, 10**13),
    st.floats(0.01, 20, allow_subnormal=False),
    st.floats(0.01, 20, allow_subnormal=False),
)
def test_both_take_the_same_bits_where_weights_pay_off(size: int, rate: float, compressor: float) -> None:
    """Weights and n characters of the model are n characters of the compressor; never, where it is no worse."""
    n = break_even(size, rate, compressor)
    if n is None:
        assert rate >= compressor
    else:
        assert rate < compressor
        assert 8 * size + n * rate == pytest.approx(n * compressor, rel=1e-6)


def test_weights_pay_off_in_closed_form() -> None:
    """A megabyte against a saving of a bit by character; nothing to carry pays off at once."""
    assert break_even(1_000_000, 1.0, 2.0) == 8_000_000
    assert break_even(0, 1.0, 2.0) == 0
    assert break_even(1_000_000, 2.0, 2.0) is None
    assert break_even(1_000_000, 2.5, 2.0) is None


def test_the_ladder_leads_from_most_bits_to_fewest(tmp_path: Path) -> None:
    """Each kind of text has its own, of documents read alone; one stream is told beside it."""
    section = part(inputs(tmp_path))
    expected = ["gzip: 3.0000", "xz: 2.5000", "tiny-1b: 1.2000", "small-1b: 0.9000"]
    assert rungs(section) == [expected, expected]
    text = words(section)
    assert "On prose, gzip needs 3.000 bits per character and small-1b 0.900, 70.0 % fewer." in text
    assert "A corpus as one stream costs the best compressor, xz, 2.000." in text
    assert "prose, 1 corpus" in text
    assert "code, 1 corpus" in text


def test_corpora_of_a_kind_weigh_by_their_characters(tmp_path: Path) -> None:
    """The rate of three quarters of the text counts three times as much as that of one quarter."""
    data = inputs(tmp_path)
    data = replace(
        data,
        corpora=tuple(
            replace(corpus, content="text", n_characters=n)
            for corpus, n in zip(data.corpora, (3000, 1000), strict=True)
        ),
    )
    data = by_corpus(data, {("small", NAMES[0]): 1.0, ("small", NAMES[1]): 2.0})
    (dots,) = rungs(part(data))
    assert "small-1b: 1.2500" in dots
    assert "text, 2 corpora" in words(part(data))


def test_who_was_not_measured_everywhere_is_not_placed(tmp_path: Path) -> None:
    """A rate of one corpus does not compare with one of two: the model is named and not drawn."""
    data = inputs(tmp_path)
    data = replace(data, corpora=tuple(replace(corpus, content="text") for corpus in data.corpora))
    scores = tuple(s for s in data.scores if (s.model, s.corpus) != ("tiny", NAMES[1]))
    section = part(replace(data, scores=scores))
    assert not [dot for dot in rungs(section)[0] if "tiny" in dot]
    assert "Not placed, for lack of a rate on each of these corpora: tiny-1b." in words(section)


def test_a_corpus_without_characters_weighs_nothing(tmp_path: Path) -> None:
    """Nor does it keep the others from their ladder."""
    data = inputs(tmp_path)
    corpora = (replace(data.corpora[0], n_characters=0), data.corpora[1])
    assert len(rungs(part(replace(data, corpora=corpora)))) == 1


def test_what_may_have_seen_the_text_is_hollow(tmp_path: Path) -> None:
    """On the ladder too."""
    data = inputs(tmp_path)
    assert 'class="mark hollow"' not in part(data)
    stale = tuple(replace(s, freshness="not-after") if s.model == "small" else s for s in data.scores)
    section = part(replace(data, scores=stale))
    assert section.count('class="mark hollow"') == len(NAMES)
    assert "A hollow mark may have seen some of the text in training." in words(section)


def test_weights_pay_off_against_the_best_compressor(tmp_path: Path) -> None:
    """Against one stream, where that is better; a model that is worse never gets there."""
    data = inputs(
        tmp_path, [passage("small"), passage("tiny", decoder_bytes=2_000_000), compressed("xz", 70)]
    )
    data = by_corpus(data, {("tiny", NAMES[1]): 2.0})
    # 8 000 000 / (2 - 0.9) and 16 000 000 / (2 - 1.2)
    assert table(part(data), "Weights and text") == (
        "prose small-1b 1,000,000 0.900 xz stream 2.000 7.273 M tiny-1b 2,000,000 1.200 xz stream 2.000 20 M "
        "code small-1b 1,000,000 0.900 xz stream 2.000 7.273 M tiny-1b 2,000,000 2.000 xz stream 2.000 never"
    )


def test_without_passages_no_weights_are_known(tmp_path: Path) -> None:
    """The ladder stands alone: no table, and nothing said of files."""
    section = part(inputs(tmp_path))
    assert "<table" not in section
    assert "<h3" not in section


def test_files_stand_beside_what_scoring_charges(tmp_path: Path) -> None:
    """The smallest first, with its header, payload, deviation and weights; a compressor's is one piece."""
    files = [compressed("gzip", 70), passage("small"), compressed("xz", 21)]
    data = inputs(tmp_path, files)
    section = part(data)
    # 15.5 bits are 2 bytes: 16 bits.
    assert table(section, "Compressed files") == (
        "news-2026-07: 9 characters, 9 bytes, of Hamlet (CC0-1.0) "
        "xz 21 – 18.667 – – – – – yes "
        "small-1b 22 20 19.556 15.5 15.5 +0.0000&nbsp;% 0.5 1,000,022 yes "
        "gzip 70 – 62.222 – – – – – yes"
    )
    text = words(section)
    assert "Restored to the byte: 3 of 3 files." in text
    assert (
        "a language model writes the smallest file for 0 of 1 passage, and for 1 without its header" in text
    )
    assert "to within 0.0001 %; the rest of a payload, 1 bits at most, tells how many they are" in text


def test_a_file_that_was_not_restored_is_named(tmp_path: Path) -> None:
    """Loudly, in the sentence and in the table."""
    section = part(inputs(tmp_path, [passage("small", restored=False), passage("tiny")]))
    assert "Not restored to the byte: small-1b on news-2026-07." in words(section)
    assert table(section, "Compressed files").count(" no") == 1


def test_files_without_scores_are_shown_by_their_slugs(tmp_path: Path) -> None:
    """What is on disk of a model that params.yaml no longer lists is not shown."""
    data = inputs(tmp_path, [passage("small"), passage("removed")])
    assert [one.model for one in data.passages] == ["small"]


@pytest.mark.parametrize(
    ("model", "other", "why"),
    [
        (
            "small",
            {"corpus_sha256": "f" * 64},
            "its passage is of another version of news-2026-07 than corpora/ holds",
        ),
        ("tiny", {}, "it holds a passage of news-2026-07 by tiny"),
        ("small", {"n_characters": 4}, "holds no passage that could be compressed so"),
    ],
)
def test_a_passage_of_something_else_is_refused(
    tmp_path: Path, model: str, other: dict[str, Any], why: str
) -> None:
    """Of another corpus version or model, or one whose figures do not agree: named, with the remedy."""
    results, corpora = write_inputs(tmp_path)
    path = results / "passages" / "small" / f"{NAMES[0]}.parquet"
    passage_cells.write(path, passage(model, **other), {}, "key")
    with pytest.raises(UserError, match=re.escape(str(path)) + ".*" + re.escape(why) + ".*dvc repro"):
        read(results, corpora, NAMES)


def test_a_cell_without_a_passage_is_passed_over(tmp_path: Path) -> None:
    """A corpus may have no text that may be shown."""
    results, corpora = write_inputs(tmp_path)
    passage_cells.write(results / "passages" / "small" / f"{NAMES[0]}.parquet", None, {}, "key")
    assert read(results, corpora, NAMES).passages == ()


def test_scores_that_are_not_finite_have_no_rung(tmp_path: Path) -> None:
    """Nor do they stop the page."""
    results, corpora = write_inputs(tmp_path)
    rows = score_rows()
    for row in rows:
        row["value"] = "inf"
    write_csv(results / "scores.csv", rows)
    data = read(results, corpora, NAMES)
    found: list[Measurement] = measurements(data.scores)
    assert found == []
    assert part(data) == ""
