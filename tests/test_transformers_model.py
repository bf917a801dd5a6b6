"""Language models through transformers, held against plain forwards of whole windows."""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from collectors.document import UserError
from evaluate.backends import transformers_model
from evaluate.backends.transformers_model import TransformersModel, load
from evaluate.likelihood import likelihoods
from evaluate.windows import ScoringProtocol
from samples import ROOT

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
    "opt": transformers.OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=32),
    "gemma2-softcap": transformers.Gemma2Config(**WIDE, head_dim=8, final_logit_softcapping=0.05),
    "gemma2-256k": transformers.Gemma2Config(**{**WIDE, "vocab_size": 256_000}, head_dim=8),
    "qwen2": transformers.Qwen2Config(**WIDE),
    "mixtral": transformers.MixtralConfig(**WIDE, num_local_experts=4),
    "granite-scaled": transformers.GraniteConfig(**WIDE, logits_scaling=7.0),
    "bloom-alibi": transformers.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4),
}
STATEFUL: dict[str, Any] = {
    "mamba": transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=8),
    "mamba2": transformers.Mamba2Config(
        **{**COMMON, "num_attention_heads": 8},
        head_dim=8,
        num_heads=8,
        state_size=8,
        n_groups=2,
        chunk_size=16,
    ),
    "rwkv": transformers.RwkvConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2),
    "lfm2": transformers.Lfm2Config(**WIDE, layer_types=["conv", "full_attention"]),
}


def save_tokenizer(folder: Path, *, bos: bool = False, normalizer: Any = None, **options: Any) -> Path:
    """Write a byte-level tokenizer of 258 tokens; `bos` makes it add one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0, "<s>": 1} | {token: i + 2 for i, token in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer: Any = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token="<s>", eos_token="<|endoftext|>", **options
    )
    tokenizer.save_pretrained(folder)
    return folder


def save_model(folder: Path, config: Any, *, bos: bool = False, normalizer: Any = None) -> Path:
    """Write a tiny random model with such a tokenizer."""
    save_tokenizer(folder, bos=bos, normalizer=normalizer)
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


def read(folder: Path) -> Any:
    """Load a folder's model without any code of ours."""
    auto: Any = transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder).eval()


@torch.inference_mode()
def plain(whole: Any, inputs: Sequence[int], targets: Sequence[int]) -> float:
    """Return nats of the targets that follow the last inputs: one forward, all logits, softmax in float64."""
    logits = whole(input_ids=torch.tensor([inputs]), use_cache=False).logits[0, -len(targets) :].double()
    return float(-logits.log_softmax(-1).gather(-1, torch.tensor(targets)[:, None]).sum())


def naive_full(whole: Any, prefix: list[int], tokens: list[int], window: int, stride: int) -> float:
    """Run each window on its own, as the protocol describes it; a first token without prefix is not in it."""
    room = window - len(prefix)
    total, first, last = 0.0, 1 - len(prefix), min(room, len(tokens) - 1)
    while first <= last:
        total += plain(whole, prefix + tokens[max(0, last - room) : last], tokens[first : last + 1])
        first, last = last + 1, min(last + stride, len(tokens) - 1)
    return total


def naive_huang2024(whole: Any, stream: list[int], window: int, stride: int) -> float:
    """Run each block of the paper's code on its own."""
    total = plain(whole, stream[:window], stream[1 : window + 1])
    for begin in range(stride, len(stream) - window, stride):
        block = stream[begin : begin + window + 1]
        total += plain(whole, block[:-1], block[-stride:])
    return total


@pytest.mark.parametrize("architecture", [*CONFIGS, *STATEFUL])
def test_exact_protocols_equal_a_naive_scorer(architecture: str, tmp_path: Path) -> None:
    """To 1e-6, whatever the architecture does: each window in one plain forward, a state starting afresh."""
    bos = architecture in {"llama", "gemma2-256k", "mamba"}
    folder = save_model(tmp_path, {**CONFIGS, **STATEFUL}[architecture], bos=bos)
    model = dataclasses.replace(load(str(folder), name="tiny"), batch_tokens=200)
    whole = read(folder)
    texts = TEXTS[:3] if architecture == "gemma2-256k" else TEXTS
    tokens = [ids.tolist() for ids in model.encode(texts)]
    documents = [(str(i), text) for i, text in enumerate(texts)]
    head = [1] if bos else []
    rows = likelihoods(model, documents, ScoringProtocol(window=40, stride=9))
    for row, ids in zip(rows, tokens, strict=True):
        first = 0.0 if bos else math.log(model.vocabulary_size)
        assert row.nll == pytest.approx(first + naive_full(whole, head, ids, 40, 9), rel=1e-6)
        assert row.lossless
    rows = likelihoods(model, documents, ScoringProtocol(name="huang2024", window=40, stride=9))
    stream = [token for ids in tokens for token in head + ids]
    assert sum(row.nll for row in rows) == pytest.approx(naive_huang2024(whole, stream, 40, 9), rel=1e-6)


@pytest.mark.parametrize("architecture", ["llama", *STATEFUL])
def test_a_window_as_long_as_the_document_reads_it_in_one_go(architecture: str, tmp_path: Path) -> None:
    """A state is then carried through it; in windows of less it starts afresh, which costs something else."""
    folder = save_model(tmp_path, {**CONFIGS, **STATEFUL}[architecture])
    model = load(str(folder), name="tiny", separator="<|endoftext|>")
    tokens = model.encode([TEXTS[3]])[0].tolist()
    once, cut = (
        likelihoods(model, [("a", TEXTS[3])], ScoringProtocol(window=window, stride=4))[0].nll
        for window in (len(tokens), 10)
    )
    assert once == pytest.approx(plain(read(folder), [0, *tokens[:-1]], tokens), rel=1e-6)
    assert abs(cut / once - 1) > 1e-5


@pytest.mark.parametrize("architecture", [*CONFIGS, *STATEFUL])
def test_rows_of_a_batch_do_not_see_their_padding(architecture: str, tmp_path: Path) -> None:
    """Rows of any length in any order cost what they cost alone."""
    model = load(str(save_model(tmp_path, {**CONFIGS, **STATEFUL}[architecture])), name="tiny")
    check_rows(model, model)


def test_a_rotation_that_turns_with_the_longest_row_is_kept_from_the_others(tmp_path: Path) -> None:
    """LongRoPE has other frequencies beyond its original positions, for all rows that it reads at a time."""
    rotation = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 20}
    rotation |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = transformers.LlamaConfig(**WIDE, rope_parameters=rotation)
    model = load(str(save_model(tmp_path, config)), name="tiny")
    check_rows(model, model)
    check_rows(dataclasses.replace(model, packs=True), model)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt-neox", "qwen2", "gemma2-softcap", "mixtral"])
def test_packed_rows_do_not_see_each_other(architecture: str, tmp_path: Path) -> None:
    """Told apart by their positions alone, they cost what they cost one by one."""
    model = load(str(save_model(tmp_path, CONFIGS[architecture])), name="tiny")
    check_rows(dataclasses.replace(model, packs=True), model)


def check_rows(together: TransformersModel, alone: TransformersModel) -> None:
    """Compare rows that are scored together with the same ones alone."""
    random = np.random.default_rng(0)
    inputs = [random.integers(2, 258, n) for n in (5, 31, 1, 31, 18)]
    targets = [random.integers(2, 258, n) for n in (5, 31, 1, 2, 9)]
    for order in ([0, 1, 2, 3, 4], [3, 2, 4, 0, 1]):
        found = together.nll([inputs[i] for i in order], [targets[i] for i in order])
        for i, row in zip(order, found, strict=True):
            expected = alone.nll([inputs[i]], [targets[i]])[0]
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)
            assert row.sum() == pytest.approx(expected.sum(), rel=1e-6)


@pytest.mark.parametrize("rows", [1, 7])
def test_chunks_of_the_output_layer_change_nothing(
    rows: int, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few rows of logits at a time give what all at once give, under both kinds of scoring."""
    model, documents = load(str(tiny), name="tiny"), [("a", TEXTS[3])]
    protocols = ScoringProtocol(window=60, stride=20), ScoringProtocol(name="sink", window=60, stride=20)
    whole = [likelihoods(model, documents, protocol)[0].nll for protocol in protocols]
    monkeypatch.setitem(transformers_model.LOGITS_AT_A_TIME, "cpu", rows * 300)
    parts = [likelihoods(model, documents, protocol)[0].nll for protocol in protocols]
    assert parts == pytest.approx(whole, rel=1e-7)


def test_the_revision_changes_with_any_file(tmp_path: Path) -> None:
    """Other weights or another tokenizer are another model."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    before = load(str(folder), name="t").revision
    assert before == load(str(folder), name="t").revision
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert load(str(folder), name="t").revision != before


def test_a_large_vocabulary_is_summed_without_loss(tmp_path: Path) -> None:
    """Token by token as in float64; PyTorch's own log-softmax in float32 is off by 1e-5 on a CPU."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**{**WIDE, "vocab_size": 256_000}))
    model = load(str(folder), name="t")
    tokens = model.encode([TEXTS[3][:60]])[0]
    with torch.inference_mode():
        logits = read(folder)(input_ids=torch.from_numpy(tokens[None, :-1])).logits[0].double()
    exact = -logits.log_softmax(-1).numpy()[np.arange(len(tokens) - 1), tokens[1:]]
    assert model.nll([tokens[:-1]], [tokens[1:]])[0] == pytest.approx(exact, rel=0, abs=4e-6)


def test_bfloat16_logits_are_summed_in_higher_precision(tmp_path: Path) -> None:
    """The loss on given bfloat16 logits is that of float64 to 1e-4 (a bfloat16 sum is off by 5e-3)."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**WIDE))
    model = load(str(folder), name="t", separator="<|endoftext|>", dtype="bfloat16")
    tokens = model.encode([TEXTS[3]])[0]
    with torch.inference_mode():
        hidden = model.decoder(input_ids=torch.from_numpy(tokens[None, :-1]), use_cache=False)[0]
        logits = model.head(inputs_embeds=hidden, use_cache=False).logits[0]
    exact = -logits.double().log_softmax(-1).gather(-1, torch.from_numpy(tokens[1:, None])).sum()
    assert model.nll([tokens[:-1]], [tokens[1:]])[0].sum() == pytest.approx(float(exact), rel=1e-4)


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


def test_a_table_of_distances_bounds_the_context(tmp_path: Path) -> None:
    """MPT has no positions, yet reads no further than its table."""
    config = transformers.MptConfig(vocab_size=300, d_model=32, n_layers=1, n_heads=4, max_seq_len=64)
    model = load(str(save_model(tmp_path, config)), name="t")
    assert model.context_length == 64
    tokens = np.arange(2, 66)
    assert np.isfinite(model.nll([tokens], [tokens])[0]).all()


@pytest.mark.slow
def test_memory_that_runs_out_for_real_halves_the_batch(tmp_path: Path) -> None:
    """Under a limit of the operating system PyTorch's allocator fails; scoring goes on, to the same numbers."""
    folder = save_model(tmp_path, transformers.LlamaConfig(**{**WIDE, "intermediate_size": 4096}))
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    free, limited, sizes = json.loads(found.stdout)
    assert limited == pytest.approx(free, rel=1e-6)
    failed = [tokens for tokens, fits in sizes if not fits]
    assert failed == [16384 // 2**i for i in range(len(failed))]
    assert len(failed) >= 2
    assert {tokens for tokens, fits in sizes if fits} == {failed[-1] // 2}


LIMITED = """
import dataclasses, json, resource, sys
import numpy as np
from evaluate.likelihood import likelihoods
from evaluate.backends.transformers_model import TransformersModel, load
from evaluate.windows import ScoringProtocol

model = load(sys.argv[1], name="tiny")
text = np.random.default_rng(0).integers(97, 123, (32, 513)).astype(np.uint8)
documents = [(str(i), line.tobytes().decode()) for i, line in enumerate(text)]
protocol = ScoringProtocol(window=512, stride=512)
free = [row.nll for row in likelihoods(model, documents, protocol)]
sizes = []
nll = TransformersModel.nll

def watched(self, inputs, targets):
    sizes.append([sum(map(len, inputs)), False])
    costs = nll(self, inputs, targets)
    sizes[-1][1] = True
    return costs

TransformersModel.nll = watched
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300 * 2**20,) * 2)
limited = [row.nll for row in likelihoods(dataclasses.replace(model, batch_tokens=2**14), documents, protocol)]
print(json.dumps([free, limited, sizes]))
"""
