"""Classical compressors as models."""

import gzip
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate.backends.compressors import CODECS, likelihoods
from evaluate.rates import rate


@settings(deadline=None, max_examples=15)
@pytest.mark.parametrize("name", CODECS)
@given(text=st.text(min_size=1, max_size=300))
def test_every_codec_restores_any_text(name: str, text: str) -> None:
    """A document's cost is 8 bits a byte of output, and the output restores it."""
    alone, stream = likelihoods(name, [("a", text), ("b", "")])
    data = text.encode("utf-8")
    assert alone[0].lossless
    assert alone[1].lossless
    assert alone[0].nll == pytest.approx(8 * len(CODECS[name].compress(data)) * math.log(2))
    assert (alone[0].n_bytes, alone[0].n_characters, alone[0].n_tokens) == (len(data), len(text), None)
    assert stream.nll == alone[0].nll


@pytest.mark.parametrize("name", CODECS)
def test_a_stream_learns_from_earlier_documents(name: str) -> None:
    """Fifty related texts cost less together than alone."""
    documents = [
        (str(i), f"Report {i}: the pump ran for {i * 7} hours without a fault.\n") for i in range(50)
    ]
    alone, stream = likelihoods(name, documents)
    assert rate([stream], "character") < rate(alone, "character") / 3


def test_gzip_is_the_format_itself() -> None:
    """The bits are those of a file on disk, header included."""
    (row,), _ = likelihoods("gzip", [("a", "abc" * 100)])
    assert row.nll / math.log(2) == 8 * len(gzip.compress(b"abc" * 100, 9, mtime=0))


def test_what_cannot_be_compressed_is_refused() -> None:
    """Unknown codecs and empty corpora."""
    with pytest.raises(UserError, match="codec 'rar' is unknown; choose one of gzip"):
        likelihoods("rar", [("a", "x")])
    with pytest.raises(UserError, match="holds no text"):
        likelihoods("gzip", [("a", "")])
