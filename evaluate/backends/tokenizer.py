"""Tokenizers of transformers, used as plain text asks: nothing added, nothing cleaned up, no special tokens read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from collectors.document import UserError
from evaluate.model import Prefix, Tokens


def load(source: str, *, revision: str | None = None) -> Any:
    """Load the tokenizer of a folder or a hub id; code that comes with it never runs.

    Raises:
        UserError: when there is none, or its files are damaged.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not isinstance(source, str) or not (
        (source and Path(source).is_dir()) or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source)
    ):
        raise UserError(f"tokenizer {source!r} is neither a folder nor a hub id such as org/name")
    try:
        return transformers.AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:  # a tokenizer's files are untrusted, and fail with any type
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise UserError(f"tokenizer {source!r} does not load: {line}") from error


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Tokenise texts as plain text; see `LanguageModel.encode`."""
    if not texts:
        return []
    batch = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
    )
    return [np.array(ids, dtype=np.int64) for ids in batch["input_ids"]]


def decode(tokenizer: Any, tokens: Tokens) -> str:
    """Return the text that the tokens restore; see `LanguageModel.decode`."""
    return str(tokenizer.decode(tokens.tolist(), clean_up_tokenization_spaces=False))


def prefix(tokenizer: Any, separator: str | None, source: str) -> Prefix:
    """Return what stands before a document: the tokenizer's own BOS, or the separator that an entry names.

    Raises:
        UserError: when the separator is no token.
    """
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("a")["input_ids"][:1] == [bos]:
        return Prefix(kind="bos", token=bos, text=tokenizer.bos_token)
    if separator is None:
        return Prefix(kind="none", token=None)
    token = tokenizer.get_vocab().get(separator)
    if token is None:
        raise UserError(
            f"separator {separator!r} is no token of {source}; name one that is, or leave the separator out"
        )
    return Prefix(kind="separator", token=token, text=separator)
