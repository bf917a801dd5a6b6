"""A GGUF file becomes safetensors with the right tokenizer."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from collectors.document import UserError, sha256_of
from evaluate.backends.gguf_conversion import converted
from evaluate.backends.transformers_model import load
from evaluate.likelihood import likelihoods
from evaluate.windows import ScoringProtocol

HIDDEN, HEADS, FEED = 32, 4, 64


def write_gguf(path: Path, *, pre: str) -> Path:
    """Write a tiny Llama with a byte-level vocabulary and a few merges over whitespace."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["Ġ Ġ", "Ċ Ġ", "t h"]
    tokens = ["<|endoftext|>", *alphabet, *(merge.replace(" ", "") for merge in merges)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    random = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(size=shape).astype(np.float32))

    tensor("token_embd.weight", len(tokens), HIDDEN)
    tensor("output.weight", len(tokens), HIDDEN)
    tensor("output_norm.weight", HIDDEN)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.0.{name}.weight", HIDDEN, HIDDEN)
    tensor("blk.0.ffn_gate.weight", FEED, HIDDEN)
    tensor("blk.0.ffn_up.weight", FEED, HIDDEN)
    tensor("blk.0.ffn_down.weight", HIDDEN, FEED)
    tensor("blk.0.attn_norm.weight", HIDDEN)
    tensor("blk.0.ffn_norm.weight", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_is_scored_like_any_model(tmp_path: Path) -> None:
    """Convert, load, score: finite bits for every token, and the file's digest as revision."""
    path = write_gguf(tmp_path / "tiny.gguf", pre="smollm")
    model = load(str(path), name="tiny", separator="<|endoftext|>", cache=tmp_path / "cache")
    rows = likelihoods(model, [("a", "the 42 theses\n  7")], ScoringProtocol().within(model.context_length))
    assert rows[0].lossless
    assert rows[0].nll > 0
    assert model.revision.startswith("sha256:")
    assert model.context_length == 64


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("smollm", "a  1", ["a", "  ", "1"]),
        ("gpt-2", "a  1", ["a", " ", " ", "1"]),
        ("smollm", "a \n  12", ["a", " ", "\n", "  ", "1", "2"]),
    ],
)
def test_the_named_pre_tokenizer_is_installed(tmp_path: Path, pre: str, text: str, pieces: list[str]) -> None:
    """Digits stand alone under `smollm`: what stands before them is cut as at the end of a text."""
    path = write_gguf(tmp_path / "tiny.gguf", pre=pre)
    model = load(str(path), name="tiny", cache=tmp_path / "cache")
    assert [model.decode(np.array([token])) for token in model.encode([text])[0]] == pieces


def test_an_unknown_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    """Its text would be cut otherwise than in training; the message says what to do."""
    path = write_gguf(tmp_path / "tiny.gguf", pre="martian")
    with pytest.raises(UserError, match="names the pre-tokenizer 'martian'.*original safetensors"):
        converted(path, sha256_of(path), tmp_path / "cache")


def test_conversion_happens_once_and_whole(tmp_path: Path) -> None:
    """The cache is keyed by digest; what a killed conversion left behind is not taken for one."""
    path = write_gguf(tmp_path / "tiny.gguf", pre="smollm")
    cache = tmp_path / "cache"
    folder = converted(path, sha256_of(path), cache)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert converted(path, sha256_of(path), cache) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    folder.rename(cache / f".{folder.name}.tmp")
    assert converted(path, sha256_of(path), cache) == folder
    assert [p.name for p in cache.iterdir()] == [folder.name]


@pytest.mark.parametrize("size", [0, 3, 24, 500, 20_000])
def test_damaged_files_are_one_line(tmp_path: Path, size: int) -> None:
    """Truncated anywhere, or no GGUF at all."""
    path = write_gguf(tmp_path / "tiny.gguf", pre="smollm")
    path.write_bytes(path.read_bytes()[:size] if size else b"this is not a model at all, just words")
    with pytest.raises(UserError, match="is no readable GGUF file"):
        converted(path, sha256_of(path), tmp_path / "cache")


def test_a_gguf_must_be_what_its_entry_promises(tmp_path: Path) -> None:
    """A pinned digest that does not match is refused before anything is read."""
    path = write_gguf(tmp_path / "tiny.gguf", pre="smollm")
    with pytest.raises(UserError, match="not 00000 as declared"):
        load(str(path), name="tiny", sha256="00000", cache=tmp_path / "cache")
