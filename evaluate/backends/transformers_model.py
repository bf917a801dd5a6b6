"""Language models through transformers: a local folder, a GGUF file or a hub id.

The decoder runs once over a window, the output layer only over scored positions and a few rows at a
time, so that no [batch, window, vocabulary] tensor exists. The output layer is the model's own
forward with its decoder taken out, which keeps whatever the model does to its logits (soft-capping,
scaling); that both routes agree is checked when a model is loaded.

Rows of a batch are padded at their end, which a causal model cannot see, and need no mask. With
FlashAttention they are packed into one row instead. A state-space or hybrid model starts every
window from an empty state, as an attention model starts it from an empty cache: in windows, both
see the same text. Give such a model a window as long as its documents to let its state run on.
"""

import copy
import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.backends import attention as attention_behind_cache
from evaluate.backends import sinks, tokenizer
from evaluate.backends.gguf_conversion import converted
from evaluate.backends.pretrained import (
    Dtype,
    check_complete,
    loading,
    memory_errors,
    place_of,
    prepare,
    software,
)
from evaluate.backends.weights import identity
from evaluate.model import Conditions, Prefix, Tokens

# Logits at a time, whatever the vocabulary: 64 MiB of float32 on a CPU. A GPU wants larger pieces.
LOGITS_AT_A_TIME = {"cpu": 2**24, "cuda": 2**27}

ROWS_AT_A_TIME = {"cpu": 16}

# Input tokens of a first batch. On a CPU more than one window brings no speed, only memory.
BATCH_TOKENS = {"cpu": 2048, "cuda": 2**16}

QUANTIZATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bitsandbytes-8bit": ("bitsandbytes", "BitsAndBytesConfig", {"load_in_8bit": True}),
    "bitsandbytes-4bit": ("bitsandbytes", "BitsAndBytesConfig", {"load_in_4bit": True}),
    "torchao-int8": ("torchao", "TorchAoConfig", {"quant_type": "Int8WeightOnlyConfig"}),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransformersModel:
    """A `LanguageModel` that runs in PyTorch; build one with `load`."""

    name: str
    revision: str
    context_length: int | None
    vocabulary_size: int
    prefix: Prefix
    conditions: Conditions
    software: str
    batch_tokens: int
    sink_refusal: str
    tokenizer: Any
    decoder: Any
    head: Any
    rows_of_logits: int
    packs: bool
    near: float

    def beginning(self, text: str, most: int) -> Tokens:
        """Return the first tokens of a text behind the prefix, `most` in all at the most."""
        (ids,) = self.encode([text])
        prefix = [] if self.prefix.token is None else [self.prefix.token]
        return np.array([*prefix, *ids[:most]], dtype=np.int64)[:most]

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts as plain text; see `LanguageModel.encode`."""
        tokens = tokenizer.encode(self.tokenizer, texts)
        if max((ids.max() for ids in tokens if len(ids)), default=0) >= self.rows_of_logits:
            raise UserError(
                f"the tokenizer of {self.name} gives ids beyond the {self.rows_of_logits} that the model knows; "
                "the two do not belong together"
            )
        return tokens

    def decode(self, tokens: Tokens) -> str:
        """Return the text that the tokens restore; see `LanguageModel.decode`."""
        return tokenizer.decode(self.tokenizer, tokens)

    @torch.inference_mode()
    def nll(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Return -ln p of each target; see `LanguageModel.nll`."""
        with memory_errors():
            hidden = self._hidden(inputs)
            scored = [
                states[len(row) - len(wanted) : len(row)]
                for states, row, wanted in zip(hidden, inputs, targets, strict=True)
            ]
            return self._costs(scored, targets)

    @torch.inference_mode()
    def sink_nll(
        self, inputs: Sequence[Tokens], targets: Sequence[Tokens], *, window: int, stride: int
    ) -> list[NDArray[np.float64]]:
        """Return -ln p of each target, each input read once; see `LanguageModel.sink_nll`."""
        if self.sink_refusal:
            raise UserError(f"{self.name} cannot be scored under protocol sink: {self.sink_refusal}")
        order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
        lengths = [len(inputs[i]) for i in order]
        parts: list[list[NDArray[np.float64]]] = [[] for _ in inputs]
        with memory_errors():
            tokens = self._tensor(_padded([inputs[i] for i in order]))
            for start, hidden in sinks.steps(self.decoder, tokens, lengths, window=window, stride=stride):
                scored, wanted = [], []
                for states, i in zip(hidden, order, strict=False):
                    unscored = len(inputs[i]) - len(targets[i])
                    first, end = max(start, unscored), min(start + len(states), len(inputs[i]))
                    scored.append(states[max(0, first - start) : max(0, end - start)])
                    wanted.append(targets[i][max(0, first - unscored) : max(0, end - unscored)])
                for i, costs in zip(order, self._costs(scored, wanted), strict=False):
                    parts[i].append(costs)
        return [np.concatenate(part) for part in parts]

    def _tensor(self, tokens: Tokens) -> torch.Tensor:
        tensor = torch.from_numpy(tokens)
        if self.decoder.device.type != "cuda":
            return tensor.to(self.decoder.device)
        return tensor.pin_memory().to(self.decoder.device, non_blocking=True)

    def _hidden(self, rows: Sequence[Tokens]) -> Sequence[torch.Tensor]:
        """Return each row's hidden states; behind the end of a row they mean nothing."""
        far = [len(row) > self.near for row in rows]
        if len(set(far)) == 2:
            sides = {
                side: iter(
                    self._hidden([row for row, is_far in zip(rows, far, strict=True) if is_far == side])
                )
                for side in (False, True)
            }
            return [next(sides[is_far]) for is_far in far]
        if not self.packs:
            return list(self.decoder(input_ids=self._tensor(_padded(rows)), use_cache=False)[0])
        positions = self._tensor(np.concatenate([np.arange(len(row)) for row in rows])[None])
        tokens = self._tensor(np.concatenate(rows)[None])
        packed = self.decoder(input_ids=tokens, position_ids=positions, use_cache=False)[0]
        return torch.split(packed[0], [len(row) for row in rows])

    def _costs(self, hidden: Sequence[torch.Tensor], targets: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Return -ln p of each target from the hidden state before it.

        Logits are taken to float32 before the log-softmax: in bfloat16 the loss itself would be
        rounded, which costs 0.5 % of bits per character.
        """
        states = torch.cat(list(hidden))[None]
        wanted = self._tensor(np.concatenate(targets))[:, None]
        room = LOGITS_AT_A_TIME.get(states.device.type, LOGITS_AT_A_TIME["cpu"])
        pieces = max(1, -(-states.shape[1] * self.rows_of_logits // room))
        size = -(-states.shape[1] // pieces)
        costs = [torch.empty(0, device=states.device)]  # a step of a long row may score nothing
        for start in range(0, states.shape[1], max(1, size)):
            part = slice(start, start + size)
            logits = self.head(inputs_embeds=states[:, part], use_cache=False).logits[0]
            # A few rows at a time stay in the cache of a CPU, which makes the exponentials nearly free.
            few = ROWS_AT_A_TIME.get(states.device.type, size)
            for rows, own in zip(torch.split(logits, few), torch.split(wanted[part], few), strict=True):
                costs.append(_cost(rows, own))
            del logits, rows  # or they stay until the next ones are there
        nll = torch.cat(costs).double().cpu().numpy()
        lengths = np.cumsum([len(row) for row in targets])[:-1]
        return np.split(nll, lengths)


def load(
    source: str,
    *,
    name: str,
    revision: str | None = None,
    sha256: str | None = None,
    separator: str | None = None,
    dtype: Dtype = "float32",
    quantization: str = "",
    attention: str | None = None,
    device: str = "",
    trust_remote_code: bool = False,
    cache: Path = Path("models/converted"),
) -> TransformersModel:
    """Load a causal language model.

    Args:
        source: a GGUF file, a folder with safetensors, or a hub id.
        name: what to call it.
        revision: commit of a hub id.
        sha256: what a local model must hash to; see `weights.identity`.
        separator: the token that stands before a document where the tokenizer adds no BOS.
        dtype: precision of weights and activations.
        quantization: one of `QUANTIZATIONS` to quantise the weights while loading.
        attention: implementation that transformers is asked for, such as `flash_attention_2`; the
            best that the model has without further packages if None.
        device: where it runs; empty takes a GPU if there is one.
        trust_remote_code: run Python code that comes with the model. Leave it off unless you read it.
        cache: folder for converted GGUF files.

    Raises:
        UserError: when the model is missing, damaged or incomplete, not what `sha256` promises, has no
            safetensors, needs code of its own, or computes its logits in a way that cannot be taken apart.
    """
    prepare(name, dtype=dtype, trust_remote_code=trust_remote_code)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    known = identity(source, revision=revision, sha256=sha256)
    folder = source
    if Path(source).suffix == ".gguf":
        folder = str(converted(Path(source), known.removeprefix("sha256:"), cache))
    with loading(source):
        how = _quantized(quantization)
        if attention is not None:
            how["attn_implementation"] = attention
        place = place_of(device)
        if place.type == "cpu":
            _keep_freed_memory()
        reader = transformers.AutoTokenizer.from_pretrained(folder, **options)
        auto: Any = transformers.AutoModelForCausalLM
        model, found = auto.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            # A quantised model is placed while it loads, and may refuse to be moved afterwards.
            device_map={"": place} if quantization else None,
            **options,
            **how,
        )
        model.eval()
        if not quantization:
            model.to(place)
        implementation = str(getattr(model.config, "_attn_implementation", None) or "")
        attention_behind_cache.use(model)
        decoder, head, rows_of_logits = _take_apart(model, source)
        sink_refusal = sinks.refusal(decoder, rows_of_logits)
        packs = "flash" in implementation and _packs(decoder, rows_of_logits)
    check_complete(source, found)
    config = model.config.get_text_config()
    n_tokens = min(len(reader), rows_of_logits)
    return TransformersModel(
        name=name,
        revision=known or str(getattr(model.config, "_commit_hash", None) or "unknown"),
        # MPT gives its table of distances a name of its own.
        context_length=getattr(config, "max_position_embeddings", getattr(config, "max_seq_len", None)),
        vocabulary_size=n_tokens,
        prefix=tokenizer.prefix(reader, separator, source),
        conditions=Conditions(
            dtype=dtype,
            quantization=quantization,
            device=place.type,
            attention=implementation,
            unused_ids=rows_of_logits - n_tokens,
            softcap=getattr(config, "final_logit_softcapping", None),
            tied_embeddings=model.get_output_embeddings().weight is model.get_input_embeddings().weight,
        ),
        software=software("torch", "transformers", *QUANTIZATIONS.get(quantization, ())[:1]),
        batch_tokens=BATCH_TOKENS.get(place.type, BATCH_TOKENS["cpu"]),
        sink_refusal=sink_refusal,
        tokenizer=reader,
        decoder=decoder,
        head=head,
        rows_of_logits=rows_of_logits,
        packs=packs,
        near=_near(config),
    )


def _cost(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -ln p of one target for each row of logits, in float32."""
    logs = torch.log_softmax(logits, -1, dtype=torch.float32)
    cost = -logs.gather(-1, targets)[:, 0]
    if logs.device.type == "cpu":
        # There it adds up a vocabulary term by term, and loses 4e-6; its probabilities tell how much.
        cost += logs.exp_().sum(-1).log_()
    return cost


class _Given:
    """A decoder's output that holds nothing but hidden states, whatever else a head asks for."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, _name: str) -> None:
        return None

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]


class _NoDecoder(torch.nn.Module):
    """Stands where the decoder was, and hands on the hidden states it is given."""

    @property
    def decoder(self) -> "_NoDecoder":
        """OPT looks for its decoder one level deeper."""
        return self

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> _Given:
        return _Given(inputs_embeds)


def _take_apart(model: Any, source: str) -> tuple[Any, Any, int]:
    """Return a model's decoder, the rest of it, which gives logits for hidden states, and how many it gives."""
    prefix = model.base_model_prefix
    decoder: Any = getattr(model, prefix, None)
    head = copy.copy(model)
    head._modules = {**model._modules, prefix: _NoDecoder()}  # noqa: SLF001  the copy shares all weights
    probe = torch.arange(min(8, model.config.get_text_config().vocab_size), device=model.device)[None]
    with torch.inference_mode():
        whole = model(input_ids=probe, use_cache=False).logits
        apart = head(inputs_embeds=decoder(input_ids=probe, use_cache=False)[0], use_cache=False).logits
        if not whole.isfinite().all():
            raise UserError(
                f"model {source!r} gives logits that are not finite; choose another dtype, or fetch it again"
            )
        agree = torch.allclose(whole.float(), apart.float(), rtol=1e-3, atol=1e-3)
    if not agree:
        raise UserError(f"model {source!r} computes its logits from more than the last hidden states")
    return decoder, head, whole.shape[-1]


@torch.inference_mode()
def _packs(decoder: Any, vocabulary: int) -> bool:
    """Whether two rows packed into one, told apart by their positions alone, do not see each other."""
    row = torch.arange(12, device=decoder.device)[None] * 5 % vocabulary
    twice = torch.cat([row, row], dim=1)
    places = torch.arange(12, device=decoder.device).repeat(2)[None]
    alone = decoder(input_ids=row, use_cache=False)[0]
    packed = decoder(input_ids=twice, position_ids=places, use_cache=False)[0]
    return torch.allclose(packed[:, 12:].float(), alone.float(), rtol=1e-2, atol=1e-2)


def _near(config: Any) -> float:
    """Return the longest row that may share a batch with any shorter one.

    LongRoPE turns all rows of a batch as its longest asks: another way beyond the original positions.
    """
    rotation = getattr(config, "rope_parameters", None) or {}
    longrope = rotation.get("rope_type") == "longrope"
    return rotation["original_max_position_embeddings"] if longrope else math.inf


def _quantized(quantization: str) -> dict[str, Any]:
    if not quantization:
        return {}
    if quantization not in QUANTIZATIONS:
        raise UserError(f"quantization {quantization!r} is unknown; choose one of {', '.join(QUANTIZATIONS)}")
    library, config, options = QUANTIZATIONS[quantization]
    if find_spec(library) is None:
        raise UserError(f"quantization {quantization} needs {library}; add it with `pip install {library}`")
    if library == "torchao":
        options = {"quant_type": getattr(import_module("torchao.quantization"), options["quant_type"])()}
    return {"quantization_config": getattr(transformers, config)(**options)}


def _padded(rows: Sequence[Tokens]) -> Tokens:
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return padded


def _keep_freed_memory() -> None:
    """Ask the C library to keep what is freed, for the next layer will ask for as much again.

    Without this every activation is mapped and cleared afresh, which costs a tenth of the time.
    Where the C library is not GNU's, nothing happens.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            trim_threshold, mmap_threshold = -1, -3
            mallopt(mmap_threshold, 2**25)  # the most it takes; logits are larger, and given back
            mallopt(trim_threshold, 2**31 - 1)
