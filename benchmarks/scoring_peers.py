"""Three scorers that others use, each in our own words: what they score, with which context, at which cost.

Written from the behaviour of the released programs, down to what costs time or moves a number:
logits of every position, a key-value cache that nobody reads, the loss in the model's own precision,
tokens that nobody scores. One window at a time: batches, accelerators and other architectures are left
out. On the same model and 8,119 tokens of news and Python, in float32, each gave the sum of its original
to the last bit.

- Huang et al. 2024 (arXiv 2404.09937): hkust-nlp/llm-compression-intelligence, `code/evaluation`;
- lm-evaluation-harness 0.4.13: `loglikelihood_rolling` of `lm_eval/models/huggingface.py`;
- uncheatable_eval: Jellyfish042/uncheatable_eval, `evaluator.py`, without `add_bos`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run asks of every scorer.

    Attributes:
        window: most input tokens of a forward; `max_length` of lm-evaluation-harness.
        stride: tokens by which overlapping windows advance.
        chunk: tokens of a chunk of uncheatable_eval, its own default.
    """

    window: int = 1900
    stride: int = 512
    chunk: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a scorer found, and what it asked of the model.

    Attributes:
        nats: sum of -ln p over scored tokens.
        scored: tokens that `nats` pays for.
        forwarded: input tokens that went through the model.
        pairs: query and key positions that causal attention joins, over all forwards.
        rows: positions for which the output layer was computed.
        characters: characters that the scorer divides by.
    """

    nats: float
    scored: int
    forwarded: int
    pairs: int
    rows: int
    characters: int


Peer = Callable[[Any, Any, Sequence[str], Settings], Measurement]


@torch.no_grad()
def paper(model: Any, tokenizer: Any, texts: Sequence[str], settings: Settings) -> Measurement:
    """Score one stream in overlapping windows, as the code of Huang et al. 2024 does.

    Blocks of `window` + 1 tokens start every `stride` tokens, as long as a whole one is left. The first
    pays for all its targets, a later one for its last `stride`; the cross-entropy is a sum in the
    model's precision over all positions, most of them masked. The stream's first token and a tail of up
    to `stride` - 1 tokens are paid for by nobody, but their characters count; so do those of a stream
    shorter than a block, which costs nothing here and may be an error there. Ids are kept whole; there
    they take 16 bits where `vocab_size`, which leaves added tokens out, is below 65,500.
    """
    texts = [text for text in texts if text]
    stream = torch.tensor([token for text in texts for token in tokenizer.encode(text)], dtype=torch.long)
    losses, scored, lengths = [], 0, []
    for begin in range(0, len(stream) - settings.window, settings.stride):
        block = stream[begin : begin + settings.window + 1].to(model.device)
        targets = block[1:].clone()
        unpaid = settings.window - settings.stride if begin else 0
        targets[:unpaid] = -1
        logits = model(block[None, :-1]).logits
        loss = functional.cross_entropy(logits[0], targets, ignore_index=-1, reduction="sum")
        losses.append(loss.item())
        scored += settings.window - unpaid
        lengths.append(settings.window)
    return _measurement(sum(losses), scored, lengths, texts)


@torch.no_grad()
def lm_eval(model: Any, tokenizer: Any, texts: Sequence[str], settings: Settings) -> Measurement:
    """Score every token of each text in disjoint windows, as lm-evaluation-harness does.

    The first window of a text reads the BOS token, or the EOS token of a tokenizer without one, whatever
    the model was trained with; if the tokenizer adds a BOS itself, that one is read and paid for too. A
    later window starts from the last token of the one before; the last is filled to `window` inputs with
    tokens already paid for. The log-softmax covers every position and the whole vocabulary, in the
    model's precision, and the most likely token of each is sought, though nobody asks for it.
    """
    prefix = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    total, scored, lengths = 0.0, 0, []
    for text in texts:
        for inputs, targets in _disjoint(tokenizer.encode(text), prefix, settings.window):
            total -= _continuation(model, inputs, targets)
            scored += len(targets)
            lengths.append(len(inputs))
    return _measurement(total, scored, lengths, texts)


@torch.no_grad()
def uncheatable(model: Any, tokenizer: Any, texts: Sequence[str], settings: Settings) -> Measurement:
    """Score each text in chunks that know nothing of each other, as uncheatable_eval does.

    The first token of every chunk is read and never paid for, and its characters count: every 1024th
    token, and the whole of a chunk of one. The log-softmax is in the model's precision.
    """
    total, scored, lengths = 0.0, 0, []
    for text in texts:
        tokens = torch.tensor(tokenizer(text)["input_ids"], dtype=torch.long, device=model.device)
        for begin in range(0, len(tokens), settings.chunk):
            chunk = tokens[begin : begin + settings.chunk]
            logits = model(input_ids=chunk[None]).logits[0]
            total += _successors(logits, chunk)
            scored += len(chunk) - 1
            lengths.append(len(chunk))
    return _measurement(total, scored, lengths, texts)


PEERS: dict[str, Peer] = {"paper": paper, "lm-eval": lm_eval, "uncheatable": uncheatable}


def _disjoint(tokens: list[int], prefix: int, window: int) -> Iterator[tuple[list[int], list[int]]]:
    for begin in range(0, len(tokens), window):
        end = min(begin + window, len(tokens))
        inputs = tokens[end - 1 - window : end - 1] if begin else [prefix, *tokens[: end - 1]]
        yield inputs, tokens[begin:end]


def _continuation(model: Any, inputs: list[int], targets: list[int]) -> float:
    # A function of its own: what one window holds is free again before the next.
    batch = torch.tensor([inputs], dtype=torch.long, device=model.device)
    logits = functional.log_softmax(model(batch).logits, dim=-1)[:, -len(targets) :]
    wanted = torch.tensor([targets], dtype=torch.long, device=model.device)
    bool((logits.argmax(dim=-1) == wanted).all())
    return float(logits.gather(2, wanted[:, :, None]).sum())


def _successors(logits: torch.Tensor, tokens: torch.Tensor) -> float:
    logs = functional.log_softmax(logits[:-1], dim=-1)
    return float(-logs.gather(1, tokens[1:, None]).sum())


def _measurement(nats: float, scored: int, lengths: Sequence[int], texts: Sequence[str]) -> Measurement:
    """Count what forwards of whole windows ask for: every position has logits."""
    return Measurement(
        nats=nats,
        scored=scored,
        forwarded=sum(lengths),
        pairs=sum(n * (n + 1) // 2 for n in lengths),
        rows=sum(lengths),
        characters=sum(len(text) for text in texts),
    )
