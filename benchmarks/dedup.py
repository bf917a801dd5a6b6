"""Measures near-duplicate detection against datasketch, on the same texts, in one run.

    python benchmarks/dedup.py [--quick] [FOLDER]

FOLDER holds JSON files that are lists of strings; without it, text is drawn from a seeded word model.
Every fifth text gets three near-duplicates, at graded edit rates: words replaced, deleted and inserted,
and passages moved, so that similarities spread over both sides of the threshold of 0.7.

- Pairs: which pairs of texts each side reports, against the truth: the exact Jaccard similarity of
  all pairs, exhaustively, from the product of the text x shingle matrix with itself. It shares no
  hashing and no banding with either side.
- Drops: which documents each side drops when it keeps the first of every family. A drop is wrong
  when the document it names is below the threshold, and a document is missed when it is kept though a
  kept one before it reaches the threshold.
- Documents per second: from texts to drops, including shingles and signatures, in one process; the
  best of three rounds in which the sides take turns. Ours verifies every drop with the exact
  similarity; datasketch drops candidates as they are.
- Peak memory: ru_maxrss of each side's own process after the drops, and what it held before them.

Bars: precision >= 0.99 and recall >= 0.97 of our pairs, and more documents per second than
datasketch. The last line is JSON; the exit status is 1 when a bar is missed. Runs on Linux.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from anywhere

THRESHOLD = 0.7
PERMUTATIONS = 112
EDIT_RATES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.035, 0.04, 0.06)
EVERY, VARIANTS = 5, 3
ROUNDS = 3
QUICK_TEXTS = 1000
GENERATED_TEXTS = 4000
Pairs = list[tuple[int, int]]


def word_model(rng: random.Random, count: int) -> list[str]:
    """Return texts of 200 to 900 words, drawn by a Zipf law from 20,000 made-up words."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = sorted({"".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(24_000)})[:20_000]
    rng.shuffle(words)
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(words))))
    return [" ".join(rng.choices(words, cum_weights=weights, k=rng.randint(200, 900))) for _ in range(count)]


def edited(text: str, rate: float, rng: random.Random, vocabulary: list[str]) -> str:
    """Return the text with words replaced, deleted or inserted at a rate, half the time a passage moved."""
    words = text.split()
    if rng.random() < 0.5 and len(words) > 100:
        start, length = rng.randrange(len(words) - 80), rng.randint(30, 80)
        passage = words[start : start + length]
        del words[start : start + length]
        target = rng.randrange(len(words))
        words[target:target] = passage
    result = []
    for word in words:
        edit = rng.choice(("replace", "delete", "insert")) if rng.random() < rate else ""
        if edit in ("replace", "insert"):
            result.append(rng.choice(vocabulary))
        if edit in ("", "insert"):
            result.append(word)
    return " ".join(result)


def build(folder: Path | None, quick: bool, target: Path) -> None:
    """Write the texts, originals and near-duplicates in one shuffled list, as JSON."""
    rng = random.Random(20240701)
    if folder is None:
        texts = word_model(rng, GENERATED_TEXTS)
    else:
        texts = [text for path in sorted(folder.glob("*.json")) for text in json.loads(path.read_text())]
    if quick:
        texts = rng.sample(texts, min(QUICK_TEXTS, len(texts)))
    vocabulary = sorted({word for text in texts for word in text.split()})
    rates = itertools.cycle(EDIT_RATES)
    texts += [edited(text, next(rates), rng, vocabulary) for text in texts[::EVERY] for _ in range(VARIANTS)]
    rng.shuffle(texts)
    target.write_text("".join(json.dumps(text) + "\n" for text in texts))


def read_texts(source: Path) -> list[str]:
    """Return the texts of a file with one JSON string a line: reading takes little more than they do."""
    with source.open() as file:
        return [json.loads(line) for line in file]


def peak() -> int:
    """Return the process's peak memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(source: Path) -> dict[str, Any]:
    """Return the drops and pairs of `collectors.dedup`, with seconds and memory."""
    from collectors.dedup import candidates, deduplicate
    from collectors.document import RawRecord, document
    from collectors.minhash import MinHashConfig, band_keys, jaccard, shingles, sign

    texts = read_texts(source)
    documents = [
        document(
            source="benchmark",
            native_id=str(number),
            version="1",
            text=text,
            url="",
            title="",
            published=datetime.fromtimestamp(number, UTC),  # so that both sides meet them in this order
            published_precision="second",
            date_evidence=(),
            license="",
            license_evidence="",
            redistributable=False,
            language="",
            language_probability=0.0,
            raw=RawRecord(shard="", offset=0, sha256=""),
            extractor="",
        )
        for number, text in enumerate(texts)
    ]
    held, start = peak(), time.perf_counter()
    config = MinHashConfig(permutations=PERMUTATIONS)
    signed = sign(documents, config)
    result = deduplicate(documents, signed, [], corpus="benchmark", threshold=THRESHOLD)
    seconds, used = time.perf_counter() - start, peak()

    number_of = {d.id: int(d.native_id) for d in documents}
    drops = {number_of[d.id]: [number_of[d.duplicate.id]] for d in result if d.duplicate}
    keys = band_keys(signed.signatures, config)
    sets = [shingles(text) for text in texts]
    numbers = [number_of[id_] for id_ in signed.ids]
    pairs = {
        (min(numbers[a], numbers[b]), max(numbers[a], numbers[b]))
        for a, others in candidates(keys, keys)
        for b in others.tolist()
        if a < b and jaccard(sets[numbers[a]], sets[numbers[b]]) >= THRESHOLD
    }
    return {"seconds": seconds, "held": held, "peak": used, "drops": drops, "pairs": sorted(pairs)}


def datasketch(source: Path) -> dict[str, Any]:
    """Return the drops and pairs of datasketch's MinHashLSH, with seconds and memory."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    from collectors.minhash import normalised

    def grams(text: str) -> set[bytes]:
        words = re.findall(r"\w+", normalised(text))
        return {" ".join(words[k : k + 5]).encode() for k in range(max(1, len(words) - 4))}

    texts = read_texts(source)
    held, start = peak(), time.perf_counter()
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    drops, signatures = {}, []
    sets = (grams(text) for text in texts)
    # Its fastest way: one set of permutations for all texts, and xxHash instead of the default SHA-1.
    for number, signature in enumerate(
        MinHash.generator(sets, num_perm=PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
    ):
        signatures.append(signature)
        if near := index.query(signature):
            drops[number] = sorted(near)
        else:
            index.insert(number, signature)
    seconds, used = time.perf_counter() - start, peak()

    everything = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    pairs = []
    for number, signature in enumerate(signatures):
        pairs += [(other, number) for other in everything.query(signature)]
        everything.insert(number, signature)
    return {"seconds": seconds, "held": held, "peak": used, "drops": drops, "pairs": sorted(pairs)}


def truth(source: Path) -> tuple[int, Pairs]:
    """Return the number of texts and every pair with an exact Jaccard similarity at the threshold."""
    import numpy as np
    from scipy.sparse import csr_array

    from collectors.minhash import normalised

    sets = []
    for text in read_texts(source):
        words = re.findall(r"\w+", normalised(text))
        grams = {tuple(words[k : k + 5]) for k in range(max(1, len(words) - 4))} if words else set()
        sets.append(np.fromiter(map(hash, grams), np.int64, len(grams)))
    sizes = np.array([len(grams) for grams in sets])
    distinct, columns = np.unique(np.concatenate(sets), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(columns), np.int32), columns, starts), shape=(len(sets), len(distinct)))
    transposed = matrix.T.tocsr()
    pairs: Pairs = []
    for start in range(0, len(sets), 500):
        shared = (matrix[start : start + 500] @ transposed).tocoo()
        rows, others = shared.row + start, shared.col
        similar = shared.data / (sizes[rows] + sizes[others] - shared.data) >= THRESHOLD
        chosen = similar & (rows < others)
        pairs += zip(rows[chosen].tolist(), others[chosen].tolist(), strict=True)
    return len(sets), pairs


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Run a function in a process of its own, so that nothing else counts towards its peak memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def judged(side: dict[str, Any], documents: int, true: set[tuple[int, int]]) -> dict[str, float]:
    """Return the figures of one side."""
    pairs, drops = set(side["pairs"]), side["drops"]
    wrong = sum(not any((other, number) in true for other in named) for number, named in drops.items())
    missed = {b for a, b in true if a not in drops and b not in drops}
    return {
        "precision": len(pairs & true) / max(1, len(pairs)),
        "recall": len(pairs & true) / max(1, len(true)),
        "drops": len(drops),
        "wrong_drops": wrong,
        "missed_drops": len(missed),
        "documents_per_second": documents / side["seconds"],
        "peak_mb": side["peak"] / 1e6,
        "held_before_mb": side["held"] / 1e6,
    }


def main() -> int:
    """Run both sides, print the figures, and return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="JSON files that are lists of strings")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_TEXTS} original texts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"
        # This process stays small: on Linux a child's peak starts from its parent's.
        alone(build, options.folder, options.quick, source)
        rounds = [[alone(function, source) for function in (ours, datasketch)] for _ in range(ROUNDS)]
        documents, pairs = alone(truth, source)
    figures = {}
    for name, runs in zip(("ours", "datasketch"), zip(*rounds, strict=True), strict=True):
        figures[name] = judged(min(runs, key=lambda run: run["seconds"]), documents, set(pairs))
    ratio = figures["ours"]["documents_per_second"] / figures["datasketch"]["documents_per_second"]
    print(f"{documents} documents, {len(pairs)} pairs with Jaccard similarity >= {THRESHOLD}")
    print(f"{'':22}{'ours':>12}{'datasketch':>12}")
    for name, value in figures["ours"].items():
        other = figures["datasketch"][name]
        digits = 4 if name in ("precision", "recall") else 0
        print(f"{name:22}{value:12.{digits}f}{other:12.{digits}f}")
    bars = {
        "precision >= 0.99": figures["ours"]["precision"] >= 0.99,
        "recall >= 0.97": figures["ours"]["recall"] >= 0.97,
        "faster than datasketch": ratio > 1,
    }
    for name, met in bars.items():
        print(f"{'met' if met else 'MISSED'}: {name}")
    print(json.dumps({"documents": documents, "pairs": len(pairs), "speed_ratio": ratio} | figures))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
