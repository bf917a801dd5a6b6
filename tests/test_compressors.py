"""Classical compressors as models."""

import gzip
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate.backends.compressors import CODECS, likelihoods
from evaluate.codec import order0
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
    """Fifty related texts cost less together than alone; single letters, all that order 0 learns, help less."""
    documents = [
        (str(i), f"Report {i}: the pump ran for {i * 7} hours without a fault.\n") for i in range(50)
    ]
    alone, stream = likelihoods(name, documents)
    assert rate([stream], "character") < rate(alone, "character") / (1.5 if name == "order-0" else 3)


def test_gzip_is_the_format_itself() -> None:
    """The bits are those of a file on disk, header included."""
    (row,), _ = likelihoods("gzip", [("a", "abc" * 100)])
    assert row.nll / math.log(2) == 8 * len(gzip.compress(b"abc" * 100, 9, mtime=0))


@given(st.binary(max_size=400) | st.lists(st.sampled_from([0, 32, 255]), max_size=400).map(bytes))
def test_order_0_costs_what_the_rule_of_succession_says(data: bytes) -> None:
    """Laplace's closed form: 255! n_0! ... n_255! / (n + 255)!, whatever the order; 8 bytes for the length."""
    factors = [math.lgamma(n + 1) for n in Counter(data).values()]
    bits = (math.lgamma(len(data) + 256) - math.lgamma(256) - sum(factors)) / math.log(2)
    assert abs(8 * (len(order0.compress(data)) - 8) - bits) < 8.001


def test_order_0_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """All counts are halved whenever there are so many, so that a text which changes costs less."""
    data = b"a" * 3000 + b"b" * 3000
    counts, bits = [1] * 256, 0.0
    for byte in data:
        bits -= math.log2(counts[byte] / sum(counts))
        counts[byte] += 1
        if sum(counts) >= 1000:
            counts = [(count + 1) // 2 for count in counts]
    whole = len(order0.compress(data))
    monkeypatch.setattr(order0, "MOST", 1000)
    faded = order0.compress(data)
    assert abs(8 * (len(faded) - 8) - bits) < 8.001
    assert order0.decompress(faded) == data
    assert len(faded) < whole


def test_what_cannot_be_compressed_is_refused() -> None:
    """Unknown codecs and empty corpora."""
    with pytest.raises(UserError, match="codec 'rar' is unknown; choose one of order-0, gzip"):
        likelihoods("rar", [("a", "x")])
    with pytest.raises(UserError, match="holds no text"):
        likelihoods("gzip", [("a", "")])
