"""Measures `collectors.versions.diff` on a million documents against a join of Python dictionaries.

    python benchmarks/versions.py [--quick]

Two versions of one corpus are generated: of every hundred documents of the earlier one, one is dropped by a
filter, one is gone and one has another text in the later one, which has one new document for them that repeats
the one that is gone with a few words changed. Texts are short; nothing but the verification of near duplicates
reads them.

- ours: the difference with every cause, the totals, and the near duplicates among the added documents.
- dict: ids, digests and reasons to drop in dictionaries, joined in Python; no near duplicates.
- seconds: the best of three rounds in which the sides take turns, each in a process of its own.
- memory: ru_maxrss of that process, less what it held before.

Bars: the planted differences and nothing else, every planted repetition, and, of a million, less memory
than the dictionaries take. The last line is JSON; the exit status is 1 when a bar is missed. Runs on Linux.
"""

import argparse
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from anywhere

DOCUMENTS, QUICK_DOCUMENTS = 1_000_000, 50_000
EVERY = 100
ROUNDS = 3
PARAMS = """\
snapshots:
  moss: {source: test, content: prose, since: "2026-09-01", until: "2026-10-01"}
filters: {prose: {min_characters: THRESHOLD}}
dedup: {threshold: 0.7}
"""


def text(number: int) -> str:
    """Return 40 words of a document's own."""
    return " ".join(f"w{number}x{k}" for k in range(40))


def generate(folder: Path, count: int) -> None:
    """Write both versions."""
    import hashlib

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from collectors.document import SCHEMA
    from collectors.minhash import MinHashConfig, shingles, signature

    config = MinHashConfig()
    rng = np.random.default_rng(1)
    ids = np.array(sorted(hashlib.sha256(str(k).encode()).hexdigest() for k in range(count)))
    new = np.array(sorted(hashlib.sha256(f"new {k}".encode()).hexdigest() for k in range(count // EVERY)))
    random_digests = rng.bytes(32 * count).hex()
    values = rng.integers(0, 2**32, (count, config.permutations), np.uint32)
    gone = list(range(1, count, EVERY))
    repeated = np.stack([signature(shingles(text(k)), config) for k in gone])
    values[gone] = repeated
    texts = [text(k) if k % EVERY == 1 else "short" for k in range(count)]
    copies = [f"{text(k)} and more" for k in gone[: len(new)]]
    copied = np.stack([signature(shingles(copy), config) for copy in copies])

    def digests(changed: str) -> list[str]:
        own = [random_digests[64 * k : 64 * k + 64] for k in range(count)]
        return [changed * 64 if k % EVERY == 2 else digest for k, digest in enumerate(own)]

    def write(name: str, chosen: Any, columns: dict[str, Any], **fixed: Any) -> None:
        order = np.argsort(columns["id"][chosen])
        rows = chosen[order]
        every = {field: pa.nulls(len(rows), SCHEMA.field(field).type) for field in SCHEMA.names}
        for field, values in columns.items():
            every[field] = pa.array(np.asarray(values, object)[rows], SCHEMA.field(field).type)
        for field, value in fixed.items():
            every[field] = pa.array([value] * len(rows), SCHEMA.field(field).type)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(every, schema=SCHEMA)
        pq.write_table(table, folder / name, compression="zstd", row_group_size=10_000)

    def sign(name: str, listed: Any, signed: Any) -> None:
        order = np.argsort(listed)
        kind = pa.list_(pa.uint32(), config.permutations)
        made = json.dumps({"algorithm": 1, "permutations": 112, "seed": 1, "words": 5}, sort_keys=True)
        flat = pa.FixedSizeListArray.from_arrays(signed[order].ravel(), type=kind)
        table = pa.table({"id": listed[order], "normalised_sha256": listed[order], "signature": flat})
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"minhash": made}), folder / name, compression="zstd")

    numbers = np.arange(count)
    plain = {
        "extractor": "test/1",
        "native_id": "",
        "url": "",
        "n_characters": 300,
        "published": 1_790_000_000_000_000,
    }
    short = [{"name": "min_characters", "value": 300.0, "threshold": 301.0, "passed": False}]
    before = {"id": ids, "text_sha256": digests("0"), "text": texts}
    write("before/corpora/moss/documents.parquet", numbers, before, **plain, metadata=[])
    write("before/corpora/moss/dropped.parquet", numbers[:0], before, **plain, metadata=[])
    sign("before/corpora/documents/moss.signatures.parquet", ids, values)
    after: dict[str, Any] = {
        "id": np.concatenate([ids, new]),
        "text_sha256": digests("1") + ["2" * 64] * len(new),
        "text": texts + copies,
    }
    kept = np.concatenate(
        [numbers[(numbers % EVERY != 0) & (numbers % EVERY != 1)], count + np.arange(len(new))]
    )
    dropped = numbers[numbers % EVERY == 0]
    write("after/corpora/moss/documents.parquet", kept, after, **plain, metadata=[])
    write(
        "after/corpora/moss/dropped.parquet", dropped, after,
        **plain, metadata=[], drop_reason="min_characters", filters=short,
    )  # fmt: skip
    extracted = np.concatenate([kept, dropped])
    write("after/corpora/documents/moss.parquet", extracted, after, **plain, metadata=[])
    write("before/corpora/documents/moss.parquet", numbers, before, **plain, metadata=[])
    signed = np.concatenate([values, copied])
    sign("after/corpora/documents/moss.signatures.parquet", after["id"][extracted], signed[extracted])
    for name, threshold in (("before", "300"), ("after", "301")):
        (folder / name / "params.yaml").write_text(PARAMS.replace("THRESHOLD", threshold))


def peak() -> int:
    """Return the process's peak memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(folder: Path) -> dict[str, Any]:
    """Return what `diff` finds, with seconds and memory."""
    from collectors.revisions import open_revision
    from collectors.versions import diff

    held, start = peak(), time.perf_counter()
    found = diff(open_revision("workspace", folder / "before"), open_revision("workspace", folder / "after"))
    seconds, used = time.perf_counter() - start, peak()
    changes = found.snapshots[0].changes
    return {
        "seconds": seconds,
        "memory": used - held,
        "found": {f"{c.change} {c.reason or c.cause}": c.documents for c in changes},
        "repeated": sum(c.repeated or 0 for c in changes),
    }


def dictionaries(folder: Path) -> dict[str, Any]:
    """Return what a join in Python finds, with seconds and memory."""
    import pyarrow.parquet as pq

    held, start = peak(), time.perf_counter()

    def column(version: str, name: str, value: str) -> dict[str, str]:
        table = pq.read_table(folder / version / "corpora/moss" / name, columns=["id", value])
        return dict(zip(table["id"].to_pylist(), table[value].to_pylist(), strict=True))

    before = column("before", "documents.parquet", "text_sha256")
    after = column("after", "documents.parquet", "text_sha256")
    dropped = column("after", "dropped.parquet", "drop_reason")
    found: Counter[str] = Counter()
    for id_ in before.keys() | after.keys():
        if id_ not in after:
            found[f"removed {dropped.get(id_, 'source')}"] += 1
        elif id_ not in before:
            found["added source"] += 1
        elif before[id_] != after[id_]:
            found["changed code"] += 1
    return {"seconds": time.perf_counter() - start, "memory": peak() - held, "found": dict(found)}


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Run a function in a process of its own, so that nothing else counts towards its peak memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> int:
    """Run both sides, print the figures, and return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DOCUMENTS:,} documents")
    count = QUICK_DOCUMENTS if parser.parse_args().quick else DOCUMENTS
    sides = [ours, dictionaries]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone(generate, folder, count)
        rounds = []
        for number in range(ROUNDS):
            order = random.Random(number).sample(sides, 2)
            done = {side.__name__: alone(side, folder) for side in order}
            rounds.append([done[side.__name__] for side in sides])
    best = [min(runs, key=lambda run: run["seconds"]) for runs in zip(*rounds, strict=True)]
    share = count // EVERY
    planted = {
        "added source": share,
        "changed code": share,
        "removed min_characters": share,
        "removed source": share,
    }
    print(f"{count:,} documents, {share:,} planted differences of each kind")
    for side, figures in zip(sides, best, strict=True):
        print(f"{side.__name__:>14}{figures['seconds']:8.2f} s{figures['memory'] / 1e6:8.0f} MB")
    bars = {
        "the planted differences and nothing else": best[0]["found"] == planted == best[1]["found"],
        "every planted repetition": best[0]["repeated"] == share,
    }
    if count == DOCUMENTS:  # of fewer, what DuckDB needs at least decides
        bars["less memory than dictionaries"] = best[0]["memory"] < best[1]["memory"]
    for bar, met in bars.items():
        print(f"{'met' if met else 'MISSED'}: {bar}")
    figures = {
        side.__name__: {key: run[key] for key in ("seconds", "memory")}
        for side, run in zip(sides, best, strict=True)
    }
    ratio = best[0]["seconds"] / best[1]["seconds"]
    print(json.dumps({"documents": count, "seconds_ratio": ratio, **figures}))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
