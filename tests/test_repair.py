"""Patches that mend what a tokenizer does not restore."""

import math
import random
import time
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.repair import TRANSFORMS, _compress, apply_repair, encode_repair, repair_nll

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
# Few letters, so that a text and its restoration have much in common.
ALIKE = st.text(st.sampled_from("aab \r\n\0éé≠ﬁK\ufffd"), max_size=60)
POLISH = "Zażółć gęślą jaźń; pchnąć w tę łódź jeża lub ośm skrzyń fig. "
MOST = 1 << 30
VIETNAMESE = "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. "


def prose(n: int, seed: int = 0) -> str:
    """Return some `n` characters of sentences, drawn from made-up words."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(1, 9))) for _ in range(2000)]
    text = ""
    while len(text) < n:
        text += " ".join(draw.choices(words, k=draw.randint(5, 20))).capitalize() + draw.choice([". ", ".\n"])
    return text[:n]


@settings(deadline=None, max_examples=300)
@given(text=UNICODE, restored=UNICODE)
def test_a_patch_gives_the_original_back(text: str, restored: str) -> None:
    """It is a code: whatever was lost, the original follows, at its own length and a few bytes at worst."""
    patch = encode_repair(text, restored)
    assert apply_repair(patch, restored, MOST) == text
    assert len(patch) <= len(text.encode()) + 5


@settings(deadline=None, max_examples=300)
@given(text=ALIKE, restored=ALIKE)
def test_a_patch_of_texts_that_are_alike_gives_the_original_back(text: str, restored: str) -> None:
    """The same where passages are shared and transforms collide."""
    patch = encode_repair(text, restored)
    assert apply_repair(patch, restored, MOST) == text
    assert (patch == b"") == (text == restored)


@given(UNICODE)
def test_a_text_that_is_restored_costs_nothing(text: str) -> None:
    """Not even a byte that says so: lossless tokenizers pay as they did."""
    assert repair_nll(text, text) == 0.0


@pytest.mark.parametrize("text", [POLISH, VIETNAMESE, POLISH * 50])
@pytest.mark.parametrize(("stored", "decoded"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFKD", "NFC")])
def test_a_tokenizer_that_normalises_costs_one_byte(text: str, stored: str, decoded: str) -> None:
    """The text in one form, the tokens in another: saying which form is all."""
    original, restored = normalize(stored, text), normalize(decoded, text)  # type: ignore[arg-type]
    assert original != restored
    assert repair_nll(original, restored) == pytest.approx(8 * math.log(2))


def test_lost_carriage_returns_cost_one_byte() -> None:
    """Where every line ends in both, which is what files hold."""
    text = prose(5000).replace("\n", "\r\n")
    assert len(encode_repair(text, text.replace("\r\n", "\n"))) == 1


def test_a_changed_character_costs_a_few_bytes() -> None:
    """In 20,000 characters: where it is, and what it was."""
    text = prose(20_000)
    for place in (0, 777, 19_999):
        restored = text[:place] + "\ufffd" + text[place + 1 :]
        assert len(encode_repair(text, restored)) <= 8
    assert len(encode_repair(" " + text, text)) <= 8
    assert len(encode_repair(text[:-3], text)) <= 8


@pytest.mark.parametrize(
    ("original", "restored", "most"),
    [
        pytest.param(prose(20_000), prose(20_000).lower(), 1200, id="lower-cased"),
        pytest.param(prose(9000).replace("\n", "   \n"), prose(9000), 300, id="trailing spaces stripped"),
        pytest.param(prose(9000).replace(". ", ".  "), prose(9000), 300, id="double spaces collapsed"),
        pytest.param(prose(9000).replace("S", "漢"), prose(9000).replace("S", "\ufffd"), 120, id="replaced"),
        pytest.param(prose(9000).replace("S", "漢"), prose(9000).replace("S", "<unk>"), 120, id="unknown"),
        pytest.param(prose(9000).replace("Se", "S\0e"), prose(9000), 120, id="NUL removed"),
        pytest.param(prose(9000), "", 6000, id="everything lost"),
        pytest.param(prose(9000, 1), prose(9000, 2), 6000, id="another text"),
    ],
)
def test_what_tokenizers_lose_costs_less_than_the_text(original: str, restored: str, most: int) -> None:
    """Scattered losses cost some bytes each, and nothing costs more than the text, compressed."""
    patch = encode_repair(original, restored)
    assert apply_repair(patch, restored, MOST) == original
    assert 1 < len(patch) <= most


def test_the_patch_is_no_longer_than_zstandard_at_a_strong_level() -> None:
    """What it says of scattered losses is not the fast levels' figure."""
    text = prose(20_000)
    size = len(encode_repair(text, text.upper()))
    assert size <= 1 + len(_compress(text.encode(), text.upper().encode(), 19))
    assert size < len(_compress(text.encode(), text.upper().encode(), 9))


def test_a_transform_serves_as_dictionary() -> None:
    """NFD text with one loss beside costs the transform and the loss, not every accent."""
    text = normalize("NFD", POLISH * 40)
    restored = normalize("NFC", text).replace("Z", "z", 1).replace("fig", "figs", 1)
    assert len(encode_repair(text, restored)) <= 40


def test_a_strangers_patch_is_refused() -> None:
    """A form that is none, bytes that are no Zstandard, and a patch that makes more than there may be."""
    text = prose(4000)
    patch = encode_repair(text, "")
    assert apply_repair(patch, "", len(text)) == text
    with pytest.raises(ValueError, match="more than 3999 bytes"):
        apply_repair(patch, "", len(text) - 1)
    with pytest.raises(ValueError, match="damaged"):
        apply_repair(patch[:20] + bytes(200) + patch[220:], "", MOST)
    with pytest.raises(ValueError, match="begin with 255"):
        apply_repair(b"\xff", "", MOST)


def test_the_format_is_fixed() -> None:
    """A patch written by hand is read: form, transform, lengths in LEB128, passage."""
    splice = len(TRANSFORMS)
    assert apply_repair(bytes([splice, 3, 2, 1]) + b"x", "abcd_ef", MOST) == "abcxef"
    assert apply_repair(bytes([splice]) + b"\x81\x01\x00\x00", "a" * 200, MOST) == "a" * 129
    assert [apply_repair(bytes([i]), "ﬁ\n", MOST) for i in range(splice)] == [
        "ﬁ\n", "ﬁ\n", "ﬁ\n", "fi\n", "fi\n", "ﬁ\r\n", "",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="ends within a number"):
        apply_repair(bytes([splice]) + b"\x81", "a", MOST)


@pytest.mark.slow
def test_five_megabytes_take_seconds() -> None:
    """A long document does not hold up its scoring."""
    text = prose(500_000) * 2 + prose(4_000_000, 1)[::-1]
    draw = random.Random(0)
    restored = list(text)
    for place in draw.sample(range(len(text)), 1000):
        restored[place] = "\ufffd"
    start = time.perf_counter()
    patch = encode_repair(text, "".join(restored))
    assert time.perf_counter() - start < 60
    assert apply_repair(patch, "".join(restored), MOST) == text
    assert len(patch) < 12_000
