"""Tokenizers of transformers, used as plain text asks."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_transformers_model import save_tokenizer

from collectors.document import UserError
from evaluate.backends import tokenizer

# Without it transformers cleans up after no BPE.
CORRUPTING = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
HARD = [
    "",
    " ",
    "a<|endoftext|>b<s>",
    "<s>",
    "don 't stop , he said .  Twice ?",
    "tabs\t\tand\r\nlines\n\n\n",
    "nul \0, bell \a, bom \ufeff, soft\u00adhyphen",
    "NFD e\u0301, NFC \u00e9, ﬁ, Ⅷ, K",
    "東京 🙂 👩‍👩‍👧 \U0010ffff",
    " " * 60 + "#" * 90,
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A byte-level tokenizer that asks for its output to be cleaned up, as some do."""
    asked = {"clean_up_tokenization_spaces": True, CORRUPTING: True}
    folder = save_tokenizer(tmp_path_factory.mktemp("plain"), **asked)
    return tokenizer.load(str(folder))


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer that adds a BOS."""
    return tokenizer.load(str(save_tokenizer(tmp_path_factory.mktemp("adding"), bos=True)))


def test_text_comes_back_as_it_was(plain: Any) -> None:
    """White space, control characters, accents and what spells a special token: nothing is cleaned up."""
    assert [tokenizer.decode(plain, ids) for ids in tokenizer.encode(plain, HARD)] == HARD


@given(text=st.text())
def test_any_text_comes_back(plain: Any, text: str) -> None:
    """A byte-level tokenizer loses nothing, so neither may what is around it."""
    assert tokenizer.decode(plain, tokenizer.encode(plain, [text])[0]) == text


def test_nothing_is_added(plain: Any, adding: Any) -> None:
    """A BOS stands where scoring puts it, never where encoding does; ids are the same with and without."""
    for with_bos, without in zip(tokenizer.encode(adding, HARD), tokenizer.encode(plain, HARD), strict=True):
        assert with_bos.tolist() == without.tolist()
        assert with_bos.dtype == "int64"
    assert tokenizer.encode(plain, []) == []


def test_what_spells_a_special_token_is_characters(adding: Any) -> None:
    """Scraped text may hold `<|endoftext|>`: thirteen characters, never the control token."""
    tokens = tokenizer.encode(adding, ["a<|endoftext|>b<s>"])[0]
    assert len(tokens) == 1 + 13 + 1 + 3
    assert not {0, 1} & set(tokens.tolist())


def test_the_tokenizer_decides_before_the_entry(plain: Any, adding: Any) -> None:
    """Its own BOS, else the separator that is named, else nothing: a BOS that it only knows is not added."""
    assert plain.bos_token_id == adding.bos_token_id == 1
    found = [
        str(tokenizer.prefix(each, separator, "x"))
        for each in (adding, plain)
        for separator in ("<|endoftext|>", None)
    ]
    assert found == ["bos <s> (1)", "bos <s> (1)", "separator <|endoftext|> (0)", "none"]


def test_a_separator_that_is_no_token_is_refused(plain: Any) -> None:
    """The message names it and its tokenizer."""
    with pytest.raises(UserError, match="separator '<eod>' is no token of org/name"):
        tokenizer.prefix(plain, "<eod>", "org/name")


@pytest.mark.parametrize("source", ["nonsense", "/nowhere/at/all", "../up", "a b/c", "", None, 3])
def test_what_is_no_tokenizer_is_one_line(source: Any) -> None:
    """Neither a folder nor a hub id, whatever a file of parameters may hold."""
    with pytest.raises(UserError, match="is neither a folder nor a hub id"):
        tokenizer.load(source)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    """A tokenizer's files are untrusted, and fail in any way."""
    path = save_tokenizer(tmp_path) / "tokenizer.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(UserError, match="does not load: [^\n]+$"):
        tokenizer.load(str(tmp_path))


def test_code_that_comes_with_a_tokenizer_does_not_run(tmp_path: Path) -> None:
    """A folder that asks for its own Python code is refused, or read without it."""
    config = save_tokenizer(tmp_path) / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", '{"auto_map": {"AutoTokenizer": ["evil.T", null]},', 1))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    try:
        tokenizer.load(str(tmp_path))
    except UserError as error:
        assert "does not load" in str(error)  # noqa: PT017  either way is well
    assert not (tmp_path / "ran").exists()
