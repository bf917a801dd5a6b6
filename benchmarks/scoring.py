"""Measures scoring against the scorers that others use: same model, same text, in one run.

    python benchmarks/scoring.py [--quick] [--vocabulary 256000] [--text FILE ...]
    python benchmarks/scoring.py --device cuda --dtype bfloat16 --random 1b --tokens 32768 --documents 8

The model is the first of params.yaml that transformers loads, or --model; --vocabulary adds a small
random one with so many tokens, and --random takes a random one instead. The texts are the repository's
corpora of prose and of code, or the files of --text: lists of strings in JSON, or Parquet with a column
`text`. Their documents are joined until each has the tokens asked for, and cut so that the paper's
code drops no tail. A random model reads generated text, unless --text is given.

Sides: the three of `scoring_peers.py`; ours under its protocols `huang2024`, `full` and `sink`, and
`full` with the window as the stride. Each measurement has a process of its own, and in each round every
side has its turn. Columns, medians over rounds:

- tok/s: tokens scored a second, from text to sum; loading and a warm-up come before.
- read: tokens forwarded per token scored.
- memory: peak above what was held after the warm-up, in MB; on a GPU, of what tensors take.
- BPC: as the side defines it. Tokens nobody pays for: one for the paper, one a chunk for uncheatable_eval.
- ratio: tok/s over the paper's in the same round.
- of peak: arithmetic done a second, over that of the best matrix product of the same round. Counted are
  2 for each weight of the body and token forwarded, 4 for each query, key and channel that causal
  attention joins, 2 for each weight of the output layer and row computed;
  what a side computes and masks away is not counted.

Below each table: what --precision saves on the same source, cut into passages.

Bars, for texts of 8,192 tokens or more. On a CPU with a real model: `huang2024` at 1.25 times the
paper's speed and `sink` at 3, both at a quarter of its memory, `sink` within 0.1 % of `full`; without
overlap as fast as lm-evaluation-harness at half its memory. With 200,000 tokens in the vocabulary:
`huang2024` at 1.5 times the paper's speed. On a GPU with 1e9 parameters: `huang2024` at half the matrix
peak. For all texts in float32: `huang2024` within 1e-5 of the paper's BPC. The last line is JSON; the
exit status is 1 when a bar is missed, 2 when something is missing. Runs on Linux.
"""

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, from anywhere

from benchmarks.scoring_material import (  # noqa: E402
    RANDOM,
    SEPARATOR,
    Case,
    arithmetic,
    convert,
    write_random,
    write_texts,
)
from benchmarks.scoring_measuring import matmul_peak, measured, saved  # noqa: E402

ROUNDS = 3
JUDGED_FROM = 8192
PEERS = ("paper", "lm-eval", "uncheatable")
OURS = ("huang2024", "full", "sink", "no overlap")


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Run a function in a process of its own, so that nothing else counts towards its peak memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def figures_of(
    rounds: Sequence[dict[str, Any]], peaks: Sequence[float], needs: dict[str, int]
) -> dict[str, dict[str, float]]:
    """Return the columns of the table for each side."""
    result = {}
    for side in rounds[0]:
        runs = [one[side] for one in rounds]
        done = [
            needs["token"] * r["forwarded"] + needs["pair"] * r["pairs"] + needs["row"] * r["rows"]
            for r in runs
        ]
        speeds = [run["scored"] / run["seconds"] for run in runs]
        others = [one["paper"]["scored"] / one["paper"]["seconds"] for one in rounds]
        result[side] = {
            "tokens_per_second": statistics.median(speeds),
            "forwarded_per_scored": runs[0]["forwarded"] / runs[0]["scored"],
            "memory_mb": statistics.median(run["memory"] for run in runs) / 1e6,
            "bpc": runs[0]["nats"] / math.log(2) / runs[0]["characters"],
            "ratio": statistics.median(a / b for a, b in zip(speeds, others, strict=True)),
            "of_peak": statistics.median(
                work / run["seconds"] / best for work, run, best in zip(done, runs, peaks, strict=True)
            ),
        }
    return result


def bars_of(
    case: Case, figures: dict[str, dict[str, float]], needs: dict[str, int], least: int
) -> dict[str, bool]:
    """Return the bars that apply to a case, and whether each is met."""
    exact, sink, paper = (figures[side] for side in ("huang2024", "sink", "paper"))
    apart, lm_eval = figures["no overlap"], figures["lm-eval"]
    bars = {}
    if case.dtype == "float32":
        bars["huang2024 has the paper's BPC"] = abs(exact["bpc"] / paper["bpc"] - 1) <= 1e-5
    if least < JUDGED_FROM:
        return bars
    if case.device == "cuda":
        if needs["parameters"] >= 1e9:
            bars["huang2024 >= 50 % of peak"] = exact["of_peak"] >= 0.5
    elif needs["vocabulary"] >= 200_000:
        bars["huang2024 >= 1.5 x paper"] = exact["ratio"] >= 1.5
    elif not case.is_random:
        bars |= {
            "huang2024 >= 1.25 x paper": exact["ratio"] >= 1.25,
            "huang2024 <= 1/4 of its memory": exact["memory_mb"] <= paper["memory_mb"] / 4,
            "sink >= 3 x paper": sink["ratio"] >= 3,
            "sink <= 1/4 of its memory": sink["memory_mb"] <= paper["memory_mb"] / 4,
            "sink within 0.1 % of full": abs(sink["bpc"] / figures["full"]["bpc"] - 1) < 0.001,
            "no overlap >= 1 x lm-eval": apart["ratio"] >= lm_eval["ratio"],
            "no overlap <= 1/2 of its memory": apart["memory_mb"] <= lm_eval["memory_mb"] / 2,
        }
    return bars


def print_table(title: str, figures: dict[str, dict[str, float]]) -> None:
    """Print a side a line."""
    print(f"\n{title}")
    print(f"{'':12}{'tok/s':>10}{'read':>7}{'memory':>9}{'BPC':>10}{'ratio':>8}{'of peak':>9}")
    for side, row in figures.items():
        print(
            f"{side:12}{row['tokens_per_second']:10.1f}{row['forwarded_per_scored']:7.2f}{row['memory_mb']:9.0f}"
            f"{row['bpc']:10.6f}{row['ratio']:8.2f}{row['of_peak']:9.1%}"
        )


def run(case: Case, rounds: int) -> dict[str, Any]:
    """Measure all sides on a case, print the table, and return its figures."""
    least = alone(write_texts, case)
    if not least:
        raise SystemExit(
            missing(f"{case.name} holds too little text for --tokens and --documents; ask for less")
        )
    needs = alone(arithmetic, case.folder)
    runs, peaks = [], []
    for _ in range(rounds):
        peaks.append(alone(matmul_peak, case))
        runs.append({side: alone(measured, side, case) for side in (*PEERS, *OURS)})
    figures = figures_of(runs, peaks, needs)
    print_table(
        f"{case.name}, {case.documents} x {least} tokens, {case.dtype}, {case.device}, {case.threads} threads, "
        f"matrix peak {max(peaks) / 1e9:.0f} GFLOP/s, {rounds} rounds",
        figures,
    )
    savings = None
    if not case.is_random:
        savings = alone(saved, case)
        print(
            f"to a precision of {case.precision}: {savings['scored']} of {savings['passages']} passages, "
            f"95 % interval {savings['low']:.4f} to {savings['high']:.4f} bits per character"
        )
    bars = bars_of(case, figures, needs, least)
    for name, met in bars.items():
        print(f"{'met' if met else 'MISSED'}: {name}")
    return {
        "case": case.name,
        "tokens": least,
        "peaks": peaks,
        "figures": figures,
        "bars": bars,
        "precision": savings,
    }


def missing(line: str) -> int:
    """Say what is needed and return the exit status."""
    print(f"error: {line}", file=sys.stderr)
    return 2


def real_model(name: str | None) -> tuple[str, str, str | None]:
    """Return name, folder and separator of an entry of params.yaml."""
    import yaml

    entries = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["models"]
    chosen = name or next(key for key, entry in entries.items() if entry["backend"] == "transformers")
    if entries.get(chosen, {}).get("backend") != "transformers":
        raise SystemExit(missing(f"params.yaml has no model {chosen!r} with backend transformers"))
    source = entries[chosen].get("source", entries[chosen].get("name", ""))
    file = ROOT / source
    if source.endswith(".gguf") and not file.is_file():
        raise SystemExit(missing(f"{source} is missing: dvc pull it, or take --random small"))
    folder = alone(convert, str(file) if file.exists() else source, entries[chosen].get("sha256"))
    return chosen, folder, entries[chosen].get("separator")


def sources(options: argparse.Namespace, *, is_random: bool) -> dict[str, tuple[str, ...]]:
    """Return the files that texts are taken from, by name."""
    if options.text:
        if absent := [path for path in options.text if not path.is_file()]:
            raise SystemExit(missing(f"--text {absent[0]} is no file"))
        return {path.stem: (str(path),) for path in options.text}
    if is_random:
        return {"generated": ()}
    found = {
        kind: tuple(sorted(str(path) for path in (ROOT / "corpora").glob(f"{kind}-*/documents.parquet")))
        for kind in ("prose", "code")
    }
    if not all(found.values()):
        raise SystemExit(missing("corpora/ is empty: build it with dvc repro, or name files with --text"))
    return {"prose": found["prose"]} if options.quick else found


def main() -> int:
    """Run all sides on all models and texts, print the figures, and return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of one short text")
    parser.add_argument("--model", help="entry of params.yaml; the first for transformers without it")
    parser.add_argument("--random", choices=RANDOM, help="a random model instead")
    parser.add_argument("--vocabulary", type=int, help="also a small random model with so many tokens")
    parser.add_argument("--text", type=Path, nargs="+", help="JSON lists of strings, or Parquet files")
    parser.add_argument("--tokens", type=int, help="of each text, at least; 8192, with --quick 2048")
    parser.add_argument("--documents", type=int, default=1, help="texts that are scored together")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, with --quick one")
    parser.add_argument("--window", type=int, default=1900)
    parser.add_argument("--stride", type=int, default=512)
    parser.add_argument("--precision", type=float, help="relative; 0.05, with --quick 0.1")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        models: list[tuple[str, str, str | None, bool]] = []
        if options.random is None:
            models.append((*real_model(options.model), False))
        shapes = {f"random {options.random}": RANDOM[options.random]} if options.random else {}
        if options.vocabulary:
            shapes[f"random {options.vocabulary}"] = RANDOM["small"] | {"vocab_size": options.vocabulary}
        for number, (name, shape) in enumerate(shapes.items()):
            folder = f"{temporary}/model-{number}"
            alone(write_random, folder, shape)
            models.append((name, folder, SEPARATOR, True))
        results = [
            run(
                Case(
                    name=f"{name}, {text}",
                    folder=folder,
                    separator=separator,
                    is_random=is_random,
                    source=files,
                    texts=f"{temporary}/texts.json",
                    tokens=options.tokens or (2048 if options.quick else JUDGED_FROM),
                    documents=options.documents,
                    window=options.window,
                    stride=options.stride,
                    precision=options.precision or (0.1 if options.quick else 0.05),
                    dtype=options.dtype,
                    device=options.device,
                    threads=options.threads,
                ),
                options.rounds or (1 if options.quick else ROUNDS),
            )
            for name, folder, separator, is_random in models
            for text, files in sources(options, is_random=is_random).items()
        ]
    print(json.dumps({"scoring": results}))
    return 0 if all(met for result in results for met in result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
