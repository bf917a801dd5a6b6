"""What happens in the process of one measurement: a side is loaded, warmed up, timed and weighed.

Everything heavy is imported inside, so that the process that starts these stays small.
"""

import ctypes
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scoring_material import Case

WARM_UP = 400  # characters


class Counted:
    """A `LanguageModel` that keeps count of what is asked of it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.forwarded = self.pairs = self.rows = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def nll(self, inputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        """Count whole windows."""
        for row, wanted in zip(inputs, targets, strict=True):
            self._add(len(row), 0, len(wanted))
        return self._model.nll(inputs, targets)

    def sink_nll(self, inputs: Sequence[Any], targets: Sequence[Any], *, window: int, stride: int) -> Any:
        """Count a first window, then strides behind what the cache keeps, the sinks read again for each."""
        from evaluate.windows import SINKS

        for row, wanted in zip(inputs, targets, strict=True):
            self._add(min(len(row), window), 0, len(wanted))
            for start in range(window, len(row), stride):
                read = min(stride, len(row) - start)
                self._add(read, window - stride, 0)
                self._add(SINKS, 0, 0)
        return self._model.sink_nll(inputs, targets, window=window, stride=stride)

    def _add(self, read: int, kept: int, rows: int) -> None:
        self.forwarded += read
        self.pairs += read * kept + read * (read + 1) // 2
        self.rows += rows


def matmul_peak(case: Case) -> float:
    """Return the most floating-point operations per second that a matrix product reaches."""
    import torch

    torch.set_num_threads(case.threads)
    on_gpu = case.device == "cuda"
    shapes = [
        (1024, 1024, 1024),
        (2048, 2048, 2048),
        (1900, 576, 1536),
        (1900, 2048, 2048),
        (512, 576, 49152),
    ]
    if on_gpu:
        shapes = [(4096, 4096, 4096), (8192, 8192, 8192), (16384, 8192, 8192), (16384, 2048, 8192)]
    best = 0.0
    for rows, inner, columns in shapes:
        a = torch.randn(rows, inner, device=case.device, dtype=getattr(torch, case.dtype))
        b = torch.randn(inner, columns, device=case.device, dtype=getattr(torch, case.dtype))
        out = a @ b
        for _ in range(5):
            settle(case.device)
            start = time.perf_counter()
            for _ in range(10 if on_gpu else 1):
                torch.matmul(a, b, out=out)
            settle(case.device)
            done = 2 * rows * inner * columns * (10 if on_gpu else 1)
            best = max(best, done / (time.perf_counter() - start))
    return best


def settle(device: str) -> None:
    """Wait for all work given to a device."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def memory(device: str, *, peak: bool) -> int:
    """Return the bytes held now, or the most since `forget_peak`."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def forget_peak(device: str) -> None:
    """Let the peak count from now on."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def load_ours(case: Case) -> Any:
    """Return the model as this repository loads it."""
    from evaluate.backends.transformers_model import load

    dtype: Any = case.dtype
    return load(case.folder, name=case.name, separator=case.separator, dtype=dtype, device=case.device)


def scorer(side: str, case: Case) -> Callable[[Sequence[str], int, int], Any]:
    """Load the model and return a side's function from texts, window and stride to a `Measurement`."""
    from benchmarks.scoring_peers import PEERS, Measurement, Settings

    if side in PEERS:
        import torch
        import transformers

        auto: Any = transformers.AutoModelForCausalLM
        tokenizer = transformers.AutoTokenizer.from_pretrained(case.folder)
        whole = auto.from_pretrained(case.folder, dtype=getattr(torch, case.dtype)).eval().to(case.device)

        def by_peer(texts: Sequence[str], window: int, stride: int) -> Any:
            settings = Settings(window=window, stride=stride, chunk=min(window, Settings().chunk))
            return PEERS[side](whole, tokenizer, texts, settings)

        return by_peer

    from evaluate.likelihood import likelihoods
    from evaluate.windows import ScoringProtocol

    model = load_ours(case)

    def by_us(texts: Sequence[str], window: int, stride: int) -> Any:
        counted: Any = Counted(model)
        apart = side == "no overlap"
        protocol = ScoringProtocol(
            name="full" if apart else side, window=window, stride=window if apart else stride
        )
        rows = likelihoods(counted, [(str(k), text) for k, text in enumerate(texts)], protocol)
        return Measurement(
            nats=sum(row.nll for row in rows),
            scored=sum(row.n_tokens or 0 for row in rows),
            forwarded=counted.forwarded,
            pairs=counted.pairs,
            rows=counted.rows,
            characters=sum(row.n_characters for row in rows),
        )

    return by_us


def quiet(case: Case) -> None:
    """Set the threads, and keep progress and warnings out of the table."""
    import torch
    import transformers

    torch.set_num_threads(case.threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    os.environ["TQDM_DISABLE"] = "1"


def measured(side: str, case: Case) -> dict[str, Any]:
    """Return what a side found, in how many seconds and bytes."""
    quiet(case)
    texts = json.loads(Path(case.texts).read_text(encoding="utf-8"))["texts"]
    score = scorer(side, case)
    if case.device == "cuda":  # kernels are chosen by shape
        score(texts[:1], case.window, case.stride)
    else:
        score([texts[0][:WARM_UP]], 32, 16)
    settle(case.device)
    # What loading freed is given back, or it would count as the model's on a side whose allocator keeps it.
    ctypes.CDLL(None).malloc_trim(0)
    held = memory(case.device, peak=False)
    forget_peak(case.device)
    start = time.perf_counter()
    found = score(texts, case.window, case.stride)
    settle(case.device)
    seconds = time.perf_counter() - start
    return asdict(found) | {"seconds": seconds, "memory": memory(case.device, peak=True) - held}


def saved(case: Case) -> dict[str, Any]:
    """Return what scoring passages to the case's precision takes, of all that there are."""
    import numpy as np

    from evaluate.likelihood import likelihoods
    from evaluate.stopping import interval, looks, order, precise
    from evaluate.windows import ScoringProtocol

    quiet(case)
    passages = json.loads(Path(case.texts).read_text(encoding="utf-8"))["passages"]
    characters = np.array([len(passage) for passage in passages])
    turns = order(len(passages), 0, case.name)
    protocol = ScoringProtocol(name="full", window=case.window, stride=case.stride)
    model = load_ours(case)
    rows: list[Any] = []
    for size in looks(len(passages)):
        batch = [(str(k), passages[k]) for k in turns[len(rows) : size]]
        rows += likelihoods(model, batch, protocol)
        if precise(rows, characters, "character", case.precision):
            break
    low, high = interval(rows, characters, "character")
    return {"scored": len(rows), "passages": len(passages), "low": low, "high": high}
