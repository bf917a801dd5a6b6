"""The codec beside others: entropy coders under a model's distributions, the model beside compressors and scoring.

Three parts, all on texts of the corpora and a model of params.yaml, each in a process of its own:

- Coders: the tokens of a text under their real distributions by ours, by constriction with one model a token (its
  24-bit probabilities), and by constriction with each token as two symbols, which escapes most of that loss.
  torchac takes no vocabulary above 32,767.
- Codec: files of prose and of code compressed and restored, beside the nats that plain scoring gives them.
- Sizes: the same files by every compressor, the weights counted and not, and from which size on the model pays.

    python benchmarks/codec.py [--quick] [--model MODEL]
"""

import argparse
import json
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import constriction
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collectors.document import UserError
from evaluate import backends, params
from evaluate.backends.compressors import CODECS
from evaluate.codec import files, range_coder
from evaluate.codec.range_coder import TOTAL
from evaluate.likelihood import likelihoods
from evaluate.windows import ScoringProtocol

Logits = NDArray[np.float32]
Tokens = NDArray[np.int64]

BLOCK = 256


def texts(characters: int) -> dict[str, str]:
    """Return the first characters of all prose and of all code in the corpora.

    Raises:
        UserError: when they are not built.
    """
    found = {"prose": "", "code": ""}
    for path in sorted(Path("corpora").glob("*/documents.parquet")):
        content = path.parent.name.partition("-")[0]
        if content in found:
            found[content] += "".join(pq.read_table(path, columns=["text"])["text"].to_pylist())
    if not all(found.values()):
        raise UserError("the corpora of prose and code are not built; run `make repro` first")
    return {content: text[:characters] for content, text in found.items()}


def distributions(slug: str, text: str, most: int) -> tuple[Logits, Tokens]:
    """Return the model's logits before each token of a text, shape [tokens, vocabulary], and the tokens."""
    import torch

    model = backends.load_open(params.entry(slug, params.read()["models"][slug]))
    row = model.beginning(text, most + 1)
    with torch.inference_mode():
        hidden = model.decoder(input_ids=torch.from_numpy(row[None, :-1]), use_cache=False)[0]
        logits = model.head(inputs_embeds=hidden, use_cache=False).logits[0].float().numpy()
    return logits, row[1:]


def ours(logits: Logits, tokens: Tokens) -> tuple[int, Callable[[], list[int]]]:
    """Encode tokens, and return how many bits they come to and what decodes them."""
    coder = range_coder.Encoder()
    for row, token in zip(logits, tokens, strict=True):
        coder.encode(*range_coder.part(range_coder.frequencies(row), int(token)), TOTAL)
    data = coder.finish()

    def decode() -> list[int]:
        reader, found = range_coder.Decoder(data), []
        for row in logits:
            bounds = range_coder.frequencies(row)
            found.append(range_coder.symbol_at(bounds, reader.position(TOTAL)))
            reader.consume(*range_coder.part(bounds, found[-1]), TOTAL)
        return found

    return 8 * len(data), decode


def _softmax(row: Logits) -> NDArray[np.float64]:
    weights = np.exp(row.astype(np.float64) - float(row.max()))
    return np.asarray(weights / weights.sum())


def _categorical(probabilities: NDArray[np.float64]) -> Any:
    return constriction.stream.model.Categorical(probabilities, perfect=False, lazy=True)


def one_symbol(logits: Logits, tokens: Tokens) -> tuple[int, Callable[[], list[int]]]:
    """The same by constriction, a model for each token."""
    coder: Any = constriction.stream.queue.RangeEncoder()
    for row, token in zip(logits, tokens, strict=True):
        coder.encode(int(token), _categorical(_softmax(row)))
    data = coder.get_compressed()

    def decode() -> list[int]:
        reader: Any = constriction.stream.queue.RangeDecoder(data)
        return [int(reader.decode(_categorical(_softmax(row)))) for row in logits]

    return 32 * len(data), decode


def two_symbols(logits: Logits, tokens: Tokens) -> tuple[int, Callable[[], list[int]]]:
    """The same by constriction, first which 256 tokens it is among and then which of them."""

    def blocks(row: Logits) -> NDArray[np.float64]:
        probabilities = _softmax(row)
        return np.pad(probabilities, (0, -len(probabilities) % BLOCK)).reshape(-1, BLOCK)

    coder: Any = constriction.stream.queue.RangeEncoder()
    for row, token in zip(logits, tokens, strict=True):
        parts = blocks(row)
        coder.encode(int(token) // BLOCK, _categorical(parts.sum(1)))
        coder.encode(int(token) % BLOCK, _categorical(parts[int(token) // BLOCK] + 1e-300))
    data = coder.get_compressed()

    def decode() -> list[int]:
        reader: Any = constriction.stream.queue.RangeDecoder(data)
        found = []
        for row in logits:
            parts = blocks(row)
            block = int(reader.decode(_categorical(parts.sum(1))))
            found.append(block * BLOCK + int(reader.decode(_categorical(parts[block] + 1e-300))))
        return found

    return 32 * len(data), decode


CODERS = {"ours": ours, "constriction": one_symbol, "constriction, two symbols": two_symbols}


def coders(slug: str, text: str, most: int) -> dict[str, Any]:
    """Return, for each coder, bits beyond the ideal in percent, and ms a token for encoding and decoding."""
    logits, tokens = distributions(slug, text, most)
    ideal = -sum(math.log2(_softmax(row)[token]) for row, token in zip(logits, tokens.tolist(), strict=True))
    found = {}
    for name, encode in CODERS.items():
        began = time.perf_counter()
        bits, decode = encode(logits, tokens)
        encoded = time.perf_counter()
        assert decode() == tokens.tolist(), name
        ended = time.perf_counter()
        found[name] = {
            "overhead": bits / ideal - 1,
            "encode_ms": 1000 * (encoded - began) / len(tokens),
            "decode_ms": 1000 * (ended - encoded) / len(tokens),
        }
    return {"n_tokens": len(tokens), "bits": ideal, "coders": found}


def codec(slug: str, text: str) -> dict[str, Any]:
    """Compress and restore a text with the model, beside scoring it."""
    entry = params.entry(slug, params.read()["models"][slug])
    model = backends.load_open(entry)
    protocol = ScoringProtocol().within(model.context_length)
    data = text.encode()
    began = time.perf_counter()
    (scored,) = likelihoods(model, [("text", text)], protocol)
    after_scoring = time.perf_counter()
    made = files.compress(data, model, entry, protocol)
    compressed = time.perf_counter()
    assert files.restore(made.file, "text", entry, print, model=model) == data
    ended = time.perf_counter()
    n = len(made.stream.tokens)
    bits = scored.nll / math.log(2)
    return {
        "n_bytes": len(data),
        "n_tokens": n,
        "file_bytes": len(made.file),
        "nll_bits": bits,
        "deviation": made.stream.token_bits.sum() / bits - 1,
        "constant_bytes": len(made.file) - made.stream.token_bits.sum() / 8,
        "score_tokens_per_s": n / (after_scoring - began),
        "compress_tokens_per_s": n / (compressed - after_scoring),
        "restore_tokens_per_s": n / (ended - compressed),
        "weights_bytes": Path(str(entry.options["source"])).stat().st_size,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "compressors": {name: len(one.compress(data)) for name, one in CODECS.items()},
    }


def apart(function: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Run in a process of its own, whose peak memory is its own too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Measure all parts, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,500 characters of each kind instead of 8,000")
    parser.add_argument("--model", default="smollm2-135m", help="a name in params.yaml")
    arguments = parser.parse_args()
    found = texts(1_500 if arguments.quick else 8_000)

    by_coder = apart(coders, arguments.model, found["prose"], 200 if arguments.quick else 1_000)
    print(f"entropy coders, {by_coder['n_tokens']} tokens of prose, {by_coder['bits']:,.0f} bits ideally")
    first = by_coder["coders"]["ours"]
    for name, row in by_coder["coders"].items():
        print(
            f"  {name:<28}{100 * row['overhead']:+9.4f} %   encode {row['encode_ms'] / first['encode_ms']:.2f}x "
            f"decode {row['decode_ms'] / first['decode_ms']:.2f}x the time of ours"
        )
    by_content = {content: apart(codec, arguments.model, text) for content, text in found.items()}
    for content, row in by_content.items():
        speed = row["score_tokens_per_s"]
        print(
            f"{content}: {row['n_bytes']:,} bytes, {row['n_tokens']:,} tokens; {100 * row['deviation']:+.4f} % "
            f"against the nll of score, and {row['constant_bytes']:.0f} bytes besides; peak {row['peak_mb']:,.0f} MB\n"
            f"  tokens/s: score {speed:.0f}, compress {row['compress_tokens_per_s'] / speed:.3f}x of that, "
            f"restore {row['restore_tokens_per_s'] / speed:.3f}x"
        )
        sizes = {arguments.model: row["file_bytes"], **row["compressors"]}
        for name, size in sorted(sizes.items(), key=lambda pair: pair[1]):
            weights = row["weights_bytes"] if name == arguments.model else 0
            print(
                f"  {name:<16}{size:>9,} bytes, {8 * size / row['n_bytes']:.3f} bits per byte; "
                f"{size + weights:,} with weights"
            )
        best = min(row["compressors"].values())
        saved = (best - row["file_bytes"]) / row["n_bytes"]
        row["break_even_bytes"] = row["weights_bytes"] / saved if saved > 0 else None
        print(
            f"  the weights pay from {row['break_even_bytes'] / 1e6:,.0f} MB of such text on, at these rates"
            if saved > 0
            else "  the weights never pay at these rates"
        )
    print(json.dumps({"coders": by_coder, "codec": by_content}))


if __name__ == "__main__":
    main()
