"""A rolling cache with sinks, held against a hand-written one, a single forward and a token at a time."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from test_transformers_model import COMMON, WIDE, save_model
from transformers import DynamicCache

from collectors.document import UserError
from evaluate import windows
from evaluate.backends.transformers_model import TransformersModel, load
from evaluate.likelihood import likelihoods
from evaluate.model import Prefix, Tokens
from evaluate.windows import SINKS, ScoringProtocol
from samples import NO_PREFIX, ByteModel, sink_context

WINDOW, STRIDE = 20, 5
ROPE_DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
ROPE_LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
SLIDING: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**WIDE),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**COMMON, intermediate_size=64),
    "gemma2": lambda: transformers.Gemma2Config(
        **WIDE, head_dim=8, sliding_window=9, final_logit_softcapping=2.0
    ),
    "qwen2": lambda: transformers.Qwen2Config(**WIDE, **SLIDING),
    "mixtral": lambda: transformers.MixtralConfig(**WIDE, num_local_experts=4),
    "bloom": lambda: transformers.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4),
    "falcon": lambda: transformers.FalconConfig(**COMMON, alibi=True),
    "mpt": lambda: transformers.MptConfig(vocab_size=300, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    "mamba": lambda: transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2),
    "rwkv": lambda: transformers.RwkvConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2),
    "lfm2": lambda: transformers.Lfm2Config(**WIDE, layer_types=["conv", "full_attention"]),
    "dynamic-ntk": lambda: transformers.LlamaConfig(**WIDE, rope_parameters=ROPE_DYNAMIC),
    "longrope": lambda: transformers.LlamaConfig(
        **WIDE, rope_parameters={**ROPE_LONG, "original_max_position_embeddings": 256}
    ),
}


def made(architecture: str, folder: Path, **options: Any) -> TransformersModel:
    """Build a tiny random model of an architecture and load it."""
    config = CONFIGS[architecture]()
    for name, value in options.items():
        setattr(config, name, value)
    return load(str(save_model(folder, config)), name=architecture)


def tokens_of(length: int, seed: int = 0) -> Tokens:
    """Return random token ids."""
    return np.random.default_rng(seed).integers(0, 300, length)


def costs(model: TransformersModel, hidden: torch.Tensor, targets: Tokens) -> NDArray[np.float64]:
    """Return -ln p from hidden states, with every logit in float64."""
    with torch.inference_mode():
        logits = model.head(inputs_embeds=hidden[None], use_cache=False).logits[0].double()
    found: NDArray[np.float64] = -logits.log_softmax(-1).numpy()[np.arange(len(targets)), targets]
    return found


def rolled(model: TransformersModel, tokens: Tokens) -> NDArray[np.float64]:
    """Return what the model under test makes of tokens, each but the first a target."""
    return model.sink_nll([tokens[:-1]], [tokens[1:]], window=WINDOW, stride=STRIDE)[0]


def streaming_llama(model: TransformersModel, tokens: Tokens) -> NDArray[np.float64]:
    """Return costs by a Llama written out by hand in float64, one token at a time, with its own cache.

    As in Xiao et al. 2023: keys are stored as they are before rotation, and rotated at every step to
    their place inside the cache.
    """
    decoder, config = model.decoder, model.decoder.config
    d = config.hidden_size // config.num_attention_heads
    repeated = config.num_attention_heads // config.num_key_value_heads
    frequencies = config.rope_parameters["rope_theta"] ** -(torch.arange(0, d, 2).double() / d)

    def weights(module: Any, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = x @ module.weight.double().T
        return product

    def norm(module: Any, x: torch.Tensor) -> torch.Tensor:
        scale: torch.Tensor = module.weight.double() / (x.square().mean() + config.rms_norm_eps).sqrt()
        return x * scale

    def turned(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        pairs = torch.complex(x[..., : d // 2], x[..., d // 2 :])
        pairs = pairs * torch.polar(torch.ones(len(places), d // 2).double(), places[:, None] * frequencies)
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    keys: list[list[torch.Tensor]] = [[] for _ in decoder.layers]
    values: list[list[torch.Tensor]] = [[] for _ in decoder.layers]
    found = []
    for place, token in enumerate(tokens[:-1].tolist()):
        x = decoder.embed_tokens.weight[token].double()
        for layer, kept, content in zip(decoder.layers, keys, values, strict=True):
            if place >= WINDOW and (place - WINDOW) % STRIDE == 0:
                del kept[SINKS : -(WINDOW - STRIDE - SINKS)]
                del content[SINKS : -(WINDOW - STRIDE - SINKS)]
            y, attention = norm(layer.input_layernorm, x), layer.self_attn
            kept.append(weights(attention.k_proj, y).view(-1, d))
            content.append(weights(attention.v_proj, y).view(-1, d))
            places = torch.arange(len(kept)).double()
            k = turned(torch.stack(kept, 1), places).repeat_interleave(repeated, 0)
            v = torch.stack(content, 1).repeat_interleave(repeated, 0)
            q = turned(weights(attention.q_proj, y).view(-1, 1, d), places[-1:])
            mixed = ((q * k).sum(-1) / math.sqrt(d)).softmax(-1)[:, None] @ v
            x = x + weights(attention.o_proj, mixed.flatten())
            y, mlp = norm(layer.post_attention_layernorm, x), layer.mlp
            gate = torch.nn.functional.silu(weights(mlp.gate_proj, y))
            x = x + weights(mlp.down_proj, gate * weights(mlp.up_proj, y))
        found.append(norm(decoder.norm, x))
    logits = torch.stack(found) @ model.head.lm_head.weight.double().T
    nll: NDArray[np.float64] = -logits.log_softmax(-1).numpy()[np.arange(len(found)), tokens[1:]]
    return nll


@torch.inference_mode()
def test_it_is_the_cache_of_streaming_llm(tmp_path: Path) -> None:
    """Deep in a Llama, token by token: sinks and latest tokens, at their places inside the cache."""
    model = made("llama", tmp_path, num_hidden_layers=3)
    tokens = tokens_of(78)
    assert rolled(model, tokens) == pytest.approx(streaming_llama(model, tokens), rel=1e-5, abs=1e-5)


@torch.inference_mode()
def one_forward(model: TransformersModel, tokens: Tokens) -> NDArray[np.float64]:
    """Return costs from one forward over all tokens without any cache.

    Before each step stands a copy of the sinks, at the places that they have then; a mask says who
    sees whom, and layers of a sliding window see no further than that.
    """
    inputs, keep = tokens[:-1], WINDOW - STRIDE - SINKS
    # For each input and copy: token, place, the step it belongs to, whether it is a copy.
    cast = [(int(token), i, 0, False) for i, token in enumerate(inputs[:WINDOW])]
    for step, start in enumerate(range(WINDOW, len(inputs), STRIDE), start=1):
        first = start - keep - SINKS
        cast += [(int(token), first + i, step, True) for i, token in enumerate(inputs[:SINKS])]
        cast += [(int(t), start + i, step, False) for i, t in enumerate(inputs[start : start + STRIDE])]
    ids, place, step_of, copy = (np.array(column) for column in zip(*cast, strict=True))
    oldest = np.where(step_of == 0, 0, WINDOW + (step_of - 1) * STRIDE - keep)
    own = copy[None] & (step_of[:, None] == step_of[None])
    latest = ~copy[:, None] & ~copy[None] & (place[None] >= oldest[:, None])
    seen = (own | latest) & np.tri(len(cast), dtype=bool)
    config = model.decoder.config
    reach = getattr(config, "sliding_window", None) or len(inputs)
    near = seen & (place[:, None] - place[None] < reach)
    full, sliding = (
        torch.zeros(1, 1, *m.shape).masked_fill(~torch.from_numpy(m), torch.finfo(torch.float32).min)
        for m in (seen, near)
    )
    mixed = "sliding_attention" in (getattr(config, "layer_types", None) or [])
    mask = {"full_attention": full, "sliding_attention": sliding} if mixed else full
    hidden = model.decoder(
        input_ids=torch.from_numpy(ids)[None],
        position_ids=torch.from_numpy(place)[None],
        attention_mask=mask,
        use_cache=False,
    )[0][0]
    return costs(model, hidden[torch.from_numpy(~copy)], tokens[1:])


@pytest.mark.parametrize("architecture", ["llama", "gpt-neox", "gemma2", "qwen2", "mixtral"])
def test_rotary_models_equal_one_forward_without_a_cache(architecture: str, tmp_path: Path) -> None:
    """Partial rotation, soft-capping, sliding layers and experts included."""
    model, tokens = made(architecture, tmp_path), tokens_of(78)
    assert model.sink_refusal == ""
    assert rolled(model, tokens) == pytest.approx(one_forward(model, tokens), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("architecture", ["bloom", "mpt", "falcon"])
@torch.inference_mode()
def test_alibi_models_equal_a_cache_filled_one_token_at_a_time(architecture: str, tmp_path: Path) -> None:
    """Their keys hold no position, so the first keys themselves can stay."""
    model, tokens = made(architecture, tmp_path), tokens_of(150)
    assert model.sink_refusal == ""
    cache: Any = DynamicCache()
    hidden = []
    for place, token in enumerate(tokens[:-1]):
        if place >= WINDOW and (place - WINDOW) % STRIDE == 0:
            for layer in cache.layers:
                kept = [*range(SINKS), *range(-(WINDOW - STRIDE - SINKS), 0)]
                layer.keys, layer.values = layer.keys[:, :, kept], layer.values[:, :, kept]
        hidden.append(model.decoder(torch.tensor([[token]]), past_key_values=cache, use_cache=True)[0][0, 0])
    naive = costs(model, torch.stack(hidden), tokens[1:])
    assert rolled(model, tokens) == pytest.approx(naive, rel=1e-5, abs=1e-5)


@torch.inference_mode()
def test_one_layer_sees_its_sinks_and_its_latest_tokens_and_nothing_else(tmp_path: Path) -> None:
    """Its keys depend on token and place alone, so a text of those tokens alone gives the same."""
    model, tokens = made("llama", tmp_path, num_hidden_layers=1), tokens_of(60)
    contexts = [sink_context(tokens, i, WINDOW, STRIDE) for i in range(len(tokens) - 1)]
    assert max(map(len, contexts)) == WINDOW
    naive = [float(model.nll([context], [tokens[i + 1 : i + 2]])[0][0]) for i, context in enumerate(contexts)]
    assert rolled(model, tokens) == pytest.approx(naive, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "bloom"])
def test_rows_of_a_batch_do_not_see_each_other(architecture: str, tmp_path: Path) -> None:
    """Rows that end within the first window, with it, with a step and within one, in any order."""
    model = made(architecture, tmp_path)
    rows = [tokens_of(n, seed=n) for n in (8, 63, 21, 20, 22, 47, 41, 63, 2)]
    inputs = [row[:-1] for row in rows]
    targets = [row[max(1, len(row) - 30) :] for row in rows]
    together = model.sink_nll(inputs, targets, window=WINDOW, stride=STRIDE)
    for row, wanted, found in zip(inputs, targets, together, strict=True):
        alone = model.sink_nll([row], [wanted], window=WINDOW, stride=STRIDE)[0]
        assert found == pytest.approx(alone, rel=1e-5, abs=1e-5)
        assert len(found) == len(wanted)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("gpt2", "its positions are absolute"),
        ("mamba", "it keeps a state"),
        ("rwkv", "it keeps a state"),
        ("lfm2", "it keeps a state"),
        ("dynamic-ntk", "its positions are absolute"),
        ("longrope", "its positions are absolute"),
    ],
)
def test_what_cannot_roll_is_refused_with_the_reason(architecture: str, reason: str, tmp_path: Path) -> None:
    """Learned positions, states, and rotations that depend on how far a text goes."""
    model = made(architecture, tmp_path)
    assert model.sink_refusal.startswith(reason)
    with pytest.raises(UserError, match=f"{architecture} cannot be scored under protocol sink: {reason}"):
        rolled(model, tokens_of(30))


@torch.inference_mode()
def test_trying_far_positions_leaves_no_trace(tmp_path: Path) -> None:
    """A rotation that adapts to the furthest position seen is as it was, in its longest window too."""
    folder = save_model(tmp_path, CONFIGS["dynamic-ntk"]())
    auto: Any = transformers.AutoModelForCausalLM
    tokens = tokens_of(513)
    logits = auto.from_pretrained(folder).eval()(torch.from_numpy(tokens[None, :-1])).logits[0].double()
    naive = -logits.log_softmax(-1).numpy()[np.arange(512), tokens[1:]]
    found = load(str(folder), name="dynamic").nll([tokens[:-1]], [tokens[1:]])[0]
    assert found == pytest.approx(naive, rel=1e-5, abs=1e-5)


def test_what_fits_the_window_is_scored_exactly(tmp_path: Path) -> None:
    """Nothing leaves the cache, so the numbers are those of `full`."""
    model = made("llama", tmp_path)
    documents = [("a", "a few words"), ("b", "a few more words"), ("c", "x")]
    protocol = ScoringProtocol(name="sink", window=512, stride=128)
    exact, sink = (likelihoods(model, documents, p) for p in (protocol.exact, protocol))
    assert [row.nll for row in sink] == pytest.approx([row.nll for row in exact], rel=1e-6)


def naive_sink(model: ByteModel, text: str, protocol: ScoringProtocol, segment: int) -> float:
    """Score each byte from what the cache holds then; the cache starts afresh after `segment` windows."""
    prefix = [] if model.prefix.token is None else [model.prefix.token]
    stream = np.array([*prefix, *text.encode()])
    total = 0.0 if prefix else math.log(model.vocabulary_size)
    room = protocol.window - len(prefix)
    for target in range(1, len(stream)):
        window = max(0, -((protocol.window - target) // protocol.stride))
        first = window // segment * segment  # the window that its cache began with
        last = min(len(stream) - 1, protocol.window + first * protocol.stride)
        begin = max(len(prefix), last - room)
        read = np.array([*prefix, *stream[begin:target]])
        context = sink_context(read, len(read) - 1, protocol.window, protocol.stride)
        total += float(model.cost(context, stream[target]))
    return total


@pytest.mark.parametrize("prefix", [NO_PREFIX, Prefix(kind="separator", token=256)])
@pytest.mark.parametrize("segment", [1, 2, 3, 64])
@pytest.mark.parametrize(("window", "stride"), [(8, 3), (12, 5), (40, 10)])
def test_likelihoods_equal_a_scorer_that_looks_into_the_cache(
    prefix: Prefix, segment: int, window: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every token once, whatever the batches, and afresh where a segment ends."""
    monkeypatch.setattr(windows, "SEGMENT_WINDOWS", segment)
    model = ByteModel(prefix=prefix, batch_tokens=3 * window)
    texts = ["a", "abracadabra", "żółw " * 9, "the cat sat on the mat and the dog on the log", "ab" * 64]
    protocol = ScoringProtocol(name="sink", window=window, stride=stride)
    rows = likelihoods(model, [(str(i), text) for i, text in enumerate(texts)], protocol)
    for row, text in zip(rows, texts, strict=True):
        assert row.nll == pytest.approx(naive_sink(model, text, protocol, segment), rel=1e-12)
        assert row.n_tokens == len(text.encode())


def test_segments_of_one_window_are_the_exact_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that starts afresh for every window forgets nothing that the window holds."""
    monkeypatch.setattr(windows, "SEGMENT_WINDOWS", 1)
    documents = [("a", "abracadabra " * 12)]
    sink, exact = (
        likelihoods(ByteModel(), documents, ScoringProtocol(name=name, window=20, stride=6))
        for name in ("sink", "full")
    )
    assert sink == exact


@pytest.mark.parametrize(("window", "stride"), [(9, 5), (8, 8), (5, 1)])
def test_a_cache_without_room_for_its_sinks_is_refused(window: int, stride: int) -> None:
    """Beside sinks and what is being read, something must stay."""
    with pytest.raises(UserError, match=f"leaves nothing of a window of {window}"):
        ScoringProtocol(name="sink", window=window, stride=stride)
