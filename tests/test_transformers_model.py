"""Language models through transformers, held against one plain forward of the whole text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from collectors.document import UserError
from evaluate import transformers_model
from evaluate.likelihood import likelihoods
from evaluate.transformers_model import TransformersModel, load
from evaluate.windows import ScoringProtocol

TEXTS = [
    "def area(radius):\n    return 3.14159 * radius ** 2\n",
    "A tale of <|endoftext|> in the middle, and naïve café owners: 東京 🙂\t\tend",
    "x",
    "The quick brown fox. " * 8,
]
COMMON: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
WIDE: dict[str, Any] = {
    **COMMON,
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
CONFIGS: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**WIDE),
    "llama-tied": transformers.LlamaConfig(**WIDE, tie_word_embeddings=True),
    "gpt2": transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    "gpt-neox": transformers.GPTNeoXConfig(**COMMON, intermediate_size=64, max_position_embeddings=512),
    "gemma2-softcap": transformers.Gemma2Config(**WIDE, head_dim=8, final_logit_softcapping=0.05),
    "qwen2": transformers.Qwen2Config(**WIDE),
    "mixtral": transformers.MixtralConfig(**WIDE, num_local_experts=4),
    "granite-scaled": transformers.GraniteConfig(**WIDE, logits_scaling=7.0),
}


def save_model(folder: Path, config: Any, *, bos: bool = False) -> Path:
    """Write a tiny random model with a byte-level tokenizer; `bos` makes the tokenizer add one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0, "<s>": 1} | {token: i + 2 for i, token in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer: Any = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token="<s>", eos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    # Wide weights: a near-uniform model would hide a wrong context.
    config.initializer_range = 0.5
    auto: Any = transformers.AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose tokenizer adds no BOS."""
    return save_model(tmp_path_factory.mktemp("tiny"), transformers.LlamaConfig(**WIDE))


def plain(model: TransformersModel, folder: Path, text: str) -> float:
    """One forward of prefix and document, all logits, log-softmax in float64."""
    auto: Any = transformers.AutoModelForCausalLM
    whole = auto.from_pretrained(folder).eval()
    tokens = model.encode([text])[0].tolist()
    prefix = [] if model.prefix.token is None else [model.prefix.token]
    with torch.inference_mode():
        logits = whole(input_ids=torch.tensor([[*prefix, *tokens]])).logits[0].double()
    costs = -logits.log_softmax(-1)
    first = 0.0 if prefix else np.log(model.vocabulary_size)
    targets = tokens if prefix else tokens[1:]
    return first + sum(float(costs[i, token]) for i, token in enumerate(targets))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_architecture_equals_a_plain_forward(architecture: str, tmp_path: Path) -> None:
    """Output layer on scored positions, in chunks, under soft-capping or scaling: the same to 1e-6."""
    folder = save_model(tmp_path, CONFIGS[architecture])
    model = load(str(folder), name="tiny", separator="<|endoftext|>")
    rows = likelihoods(
        model, [(str(i), t) for i, t in enumerate(TEXTS)], ScoringProtocol(window=400, stride=9)
    )
    for row, text in zip(rows, TEXTS, strict=True):
        assert row.nll == pytest.approx(plain(model, folder, text), rel=1e-6)
        assert row.lossless


def test_chunks_of_the_output_layer_change_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of logits at a time gives what all at once give."""
    model = load(str(tiny), name="tiny")
    documents = [("a", TEXTS[3])]
    whole = likelihoods(model, documents, ScoringProtocol())[0].nll
    monkeypatch.setattr(transformers_model, "LOGITS_AT_A_TIME", 1)
    assert likelihoods(model, documents, ScoringProtocol())[0].nll == pytest.approx(whole, rel=1e-7)


def test_special_token_strings_in_text_are_plain_text(tiny: Path) -> None:
    """Scraped text may hold `<|endoftext|>`: thirteen characters, never the control token."""
    tokens = load(str(tiny), name="tiny").encode(["a<|endoftext|>b<s>"])[0]
    assert len(tokens) == 1 + 13 + 1 + 3
    assert not {0, 1} & set(tokens.tolist())


def test_a_tokenizer_that_adds_a_bos_decides_the_prefix(tmp_path: Path) -> None:
    """Its BOS stands at the head, even where the entry names a separator, and encode does not add it."""
    model = load(
        str(save_model(tmp_path, transformers.LlamaConfig(**WIDE), bos=True)),
        name="tiny",
        separator="<|endoftext|>",
    )
    assert (model.prefix.kind, model.prefix.token) == ("bos", 1)
    assert model.encode(["a"])[0].tolist() != [1]
    assert len(model.encode(["a"])[0]) == 1


def test_without_bos_the_entry_decides_the_prefix(tiny: Path) -> None:
    """The named separator, or nothing; a separator that is no token is refused."""
    assert load(str(tiny), name="t").prefix.kind == "none"
    named = load(str(tiny), name="t", separator="<|endoftext|>").prefix
    assert (named.kind, named.token) == ("separator", 0)
    with pytest.raises(UserError, match="separator '<eod>' is no token"):
        load(str(tiny), name="t", separator="<eod>")


def test_the_revision_changes_with_any_file(tmp_path: Path) -> None:
    """Other weights or another tokenizer are another model."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    before = load(str(folder), name="t").revision
    assert before == load(str(folder), name="t").revision
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert load(str(folder), name="t").revision != before


def test_bfloat16_logits_are_summed_in_higher_precision(tmp_path: Path) -> None:
    """The loss on given bfloat16 logits is that of float64 to 1e-4 (a bfloat16 sum is off by 5e-3)."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    model = load(str(folder), name="t", separator="<|endoftext|>", dtype="bfloat16")
    tokens = np.array(model.encode([TEXTS[3]]))
    with torch.inference_mode():
        hidden = model.decoder(input_ids=torch.from_numpy(tokens[:, :-1]), use_cache=False)[0]
        logits = model.head(inputs_embeds=hidden, use_cache=False).logits[0]
    exact = -logits.double().log_softmax(-1).gather(-1, torch.from_numpy(tokens[0, 1:, None])).sum()
    assert model.nll(tokens[:, :-1], tokens[:, 1:]).sum() == pytest.approx(float(exact), rel=1e-4)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    """A folder without safetensors is refused before anything in it is read."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04would run code")
    with pytest.raises(UserError, match="holds no .safetensors file"):
        load(str(tmp_path), name="t")


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    """A truncated safetensors file is refused by name."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="does not load"):
        load(str(folder), name="t")


def test_missing_weights_are_never_made_up(tmp_path: Path) -> None:
    """A tensor that the file lacks would be filled at random, another number at every load."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="other weights than its config.json describes, lm_head.weight"):
        load(str(folder), name="t")


def test_layers_that_the_config_leaves_out_are_noticed(tmp_path: Path) -> None:
    """A config with fewer layers than the file is another model."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))
    with pytest.raises(UserError, match="other weights than its config.json describes"):
        load(str(folder), name="t")


@pytest.mark.parametrize("options", [{"device": "bogus"}, {"trust_remote_code": "no"}, {"dtype": "int8"}])
def test_wrong_options_are_one_line(tiny: Path, options: dict[str, Any]) -> None:
    """Device, precision and trust are checked."""
    with pytest.raises(UserError):
        load(str(tiny), name="t", **options)


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path) -> None:
    """A folder that asks for its own Python code is refused, and the code leaves no trace."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    config = folder / "config.json"
    config.write_text(
        config.read_text()
        .replace('"model_type": "llama"', '"model_type": "evil"')
        .replace("{", '{"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},', 1)
    )
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match="does not load"):
        load(str(folder), name="t")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["models/missing.gguf", "./nowhere", "nonsense"])
def test_missing_models_are_one_line(source: str) -> None:
    """The message says what a model may be."""
    with pytest.raises(UserError, match="is neither a name in params.yaml"):
        load(source, name="t")
