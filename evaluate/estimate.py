"""What scoring a corpus will take, said before it begins: tokens read, hours, and money where a price is known."""

import time
from collections.abc import Callable, Mapping, Sequence

from evaluate import stopping
from evaluate.backends import compressors
from evaluate.model import LanguageModel
from evaluate.windows import ScoringProtocol, full_windows, huang2024_windows, sink_segments

# Characters below which a calibration would take longer than it saves anybody.
WORTH_CALIBRATING = 100_000
_SAMPLE = 50_000
_STAND_IN = 2000


def sample_of(texts: Sequence[str]) -> str:
    """Return the beginning of a corpus, enough to calibrate on."""
    room = _SAMPLE
    chosen = []
    for text in texts:
        if room <= 0:
            break
        chosen.append(text[:room])
        room -= len(text)
    return "\n\n".join(chosen)


def tokens_per_character(model: LanguageModel, sample: str) -> float:
    """Return how many tokens a model makes of a character of such text."""
    return len(model.encode([sample])[0]) / len(sample) if sample else 0.0


def seconds_per_token(model: LanguageModel, sample: str, protocol: ScoringProtocol) -> dict[str, float]:
    """Time one window of each protocol, and return seconds for each token read.

    Nothing is returned if there is too little text, or not enough memory: scoring itself will say so.

    Args:
        model: the model.
        sample: text such as the model is going to read.
        protocol: window and stride, within the model's context.
    """
    tokens = model.encode([sample])[0]
    window, stride = protocol.window, protocol.stride
    if len(tokens) <= window + stride:
        return {}
    inputs, last = tokens[: window + stride], tokens[window + 1 : window + stride + 1]
    try:
        exact = _timed(lambda: model.nll([inputs[stride:]], [last]))
        if model.sink_refusal or protocol.name != "sink":
            return {protocol.exact.name: exact / window}
        both = _timed(lambda: model.sink_nll([inputs], [last], window=window, stride=stride))
        first = _timed(lambda: model.nll([inputs[:window]], [last[:1]]))
    except MemoryError:
        return {}
    # Reading the first window is not what most of a text takes; neither may noise make it negative.
    return {"full": exact / window, "sink": max(both - first, both * stride / len(inputs)) / stride}


def estimates(
    documents: Sequence[tuple[str, str]],
    protocol: ScoringProtocol,
    *,
    tokens_per_character: float,
    seconds_per_token: Mapping[str, float],
    prefix: bool,
    precision: float | None,
    price: Mapping[str, float],
    workers: int = 1,
) -> list[str]:
    """Return a line for each way to score the documents: what it reads, and how long that takes.

    Args:
        documents: (id, text) pairs.
        protocol: window and stride, within the model's context.
        tokens_per_character: of these documents, for the model at hand.
        seconds_per_token: by name of a protocol; only those named are estimated.
        prefix: whether a token stands at the head of every window.
        precision: how narrow the interval is to be, None for all documents.
        price: `per_hour` of a worker, or `per_million_tokens` that are read.
        workers: how many score at a time.
    """
    lengths = [round(len(text) * tokens_per_character) for _, text in documents]
    read = {name: _tokens_read(name, lengths, protocol, prefix=prefix) for name in seconds_per_token}
    lines = [_line(name, tokens, seconds_per_token[name], price, workers) for name, tokens in read.items()]
    if precision is None or not read:
        return lines
    # How documents differ in cost is not known yet; how they differ under a fast compressor is close.
    stand_in, _ = compressors.likelihoods("gzip", [row for row in documents if row[1]][:_STAND_IN])
    wanted = stopping.expected_documents(
        stand_in, [len(text) for _, text in documents], "character", precision
    )
    share = wanted / len(documents)
    return [
        *lines,
        *(
            _line(
                f"{name} to {precision:g}, likely after {wanted} of {len(documents)} documents",
                round(tokens * share),
                seconds_per_token[name],
                price,
                workers,
            )
            for name, tokens in read.items()
        ),
    ]


def _tokens_read(name: str, lengths: Sequence[int], protocol: ScoringProtocol, *, prefix: bool) -> int:
    if name == "huang2024":
        return sum(window.n_inputs for window in huang2024_windows(sum(lengths), protocol))
    cut = sink_segments if name == "sink" else full_windows
    return sum(w.n_inputs + prefix for n in lengths for w in cut(n, protocol, prefix=prefix))


def _line(way: str, tokens: int, seconds: float, price: Mapping[str, float], workers: int) -> str:
    hours = tokens * seconds / 3600
    cost = hours * price.get("per_hour", 0) + tokens / 1e6 * price.get("per_million_tokens", 0)
    money = f", cost {cost:.2f}" if price else ""
    return f"{way}: reads {tokens:,} tokens, about {_duration(hours / workers)}{money}"


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
