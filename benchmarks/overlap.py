"""Sketches of word n-grams beside what holds them exactly: sets of words, and sorted hashes.

Each structure takes the same generated texts in a process of its own, then answers for as many n-grams that it
holds and as many that it does not. Ratios are to the set of Python strings; bytes are those of the structure for
each n-gram, peak memory what the process grew by.

    python benchmarks/overlap.py [--quick]
"""

import argparse
import json
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collectors import sketch
from collectors.minhash import ngrams

WORDS = 13
PER_TEXT = 1_000
STRUCTURES = ("set of strings", "sorted hashes", "sketch")


def texts(n: int, seed: int) -> Iterator[str]:
    """Yield n texts of a thousand words each, drawn from fifty thousand by Zipf's law."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 10))) for _ in range(50_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    for _ in range(n):
        yield " ".join(rng.choices(vocabulary, weights, k=PER_TEXT))


def strings(text: str) -> list[str]:
    """Return a text's n-grams as strings."""
    split = text.split()
    return [" ".join(split[i : i + WORDS]) for i in range(len(split) - WORDS + 1)]


def measure(name: str, n: int) -> dict[str, float]:
    """Build one structure, ask it, and return what it took."""
    held, others = list(texts(n, 1)), list(texts(min(n, 200), 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if name == "set of strings":
        own = {gram for text in held for gram in strings(text)}
        built = time.perf_counter()
        found = [
            sum(gram in own for text in asked for gram in strings(text)) for asked in (held[:200], others)
        ]
        size = sys.getsizeof(own) + sum(map(sys.getsizeof, own))
    elif name == "sorted hashes":
        array = np.unique(np.concatenate([ngrams(text, WORDS) for text in held]))
        built = time.perf_counter()
        found = []
        for asked in (held[:200], others):
            hits = 0
            for text in asked:
                wanted = ngrams(text, WORDS)
                places = np.minimum(np.searchsorted(array, wanted), len(array) - 1)
                hits += int((array[places] == wanted).sum())
            found.append(hits)
        size = array.nbytes
    else:
        made = sketch.empty(n * (PER_TEXT - WORDS + 1), WORDS)
        for text in held:
            made.add(ngrams(text, WORDS))
        built = time.perf_counter()
        found = [
            int(sum(made.holds(ngrams(text, WORDS)).sum() for text in asked))
            for asked in (held[:200], others)
        ]
        size = made.blocks.nbytes
    ended = time.perf_counter()
    asked_of = len(held[:200]) * (PER_TEXT - WORDS + 1)
    return {
        "build_s": built - began,
        "ask_s": ended - built,
        "bytes_per_ngram": size / (n * (PER_TEXT - WORDS + 1)),
        "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "missed": 1 - found[0] / asked_of,
        "by_chance": found[1] / asked_of,
    }


def main() -> None:
    """Measure every structure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two million n-grams instead of ten")
    n = 2_000 if parser.parse_args().quick else 10_000
    found = {}
    for name in STRUCTURES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(measure, (name, n))
    first = found[STRUCTURES[0]]
    print(f"{n * (PER_TEXT - WORDS + 1):,} n-grams of {WORDS} words")
    print(f"{'':<16}{'build':>8}{'ask':>8}{'bytes':>8}{'peak MB':>9}{'missed':>9}{'by chance':>11}")
    for name, row in found.items():
        print(
            f"{name:<16}{first['build_s'] / row['build_s']:>7.2f}x{first['ask_s'] / row['ask_s']:>7.2f}x"
            f"{row['bytes_per_ngram']:>8.1f}{row['peak_mb']:>9.0f}{row['missed']:>9.2%}{row['by_chance']:>11.3%}"
        )
    print(json.dumps({"n_ngrams": n * (PER_TEXT - WORDS + 1), **found}))


if __name__ == "__main__":
    main()
