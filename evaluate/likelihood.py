"""Bits per document: windows go through a model in batches, sums come back in float64, nothing is done twice.

The rate of a corpus is sum(nll) / (ln 2 * sum(characters)), as in equation 2 of Huang et al. 2024
(arXiv 2404.09937); their released code sums the loss in bfloat16, which moves it by up to 0.5 %, so
here sums are float64 under either protocol.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from collectors.document import UserError
from evaluate.journal import journal
from evaluate.model import LanguageModel, Likelihood, Tokens
from evaluate.windows import ScoringProtocol, Window, full_windows, huang2024_windows

Unit = Literal["character", "byte", "token"]

# One window of the paper's length a batch: on a CPU larger batches bring no speed, only memory.
# The sums depend on it in their last bits, so it is part of a journal's key and not an option.
BATCH_TOKENS = 2048
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """All that is to be scored: one token stream per document, or one for all of them.

    Attributes:
        prefix: tokens at the head of every window, at most one.
        streams: token ids.
        owners: for each stream, the index of the document that each token belongs to.
        batches: windows of equal input and target length, so that no batch is padded, as
            (index of the stream, window).
        nll: nats already owed per document, for first tokens without context.
        n_tokens: tokens paid for per document.
        lossless: per document.
    """

    prefix: tuple[int, ...]
    streams: list[Tokens]
    owners: list[NDArray[np.int64]]
    batches: list[list[tuple[int, Window]]]
    nll: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    lossless: list[bool]


def likelihoods(
    model: LanguageModel,
    documents: Sequence[tuple[str, str]],
    protocol: ScoringProtocol,
    *,
    journal_file: Path | None = None,
    key: str = "",
    label: str = "",
) -> list[Likelihood]:
    """Return what each document costs the model.

    Args:
        model: the model.
        documents: (id, text) pairs.
        protocol: how the texts are cut into windows; its window must fit the model's context.
        journal_file: keeps finished batches, so that a killed run goes on where it stopped. It is
            left in place: the caller removes it once the result is safe.
        key: what the results depend on; batches journalled under another key are not used.
        label: what the progress bar says.

    Raises:
        UserError: when the corpus is empty, is too short for `huang2024`, or a likelihood is not finite.
    """
    if not any(text for _, text in documents):
        raise UserError("the corpus holds no text; collect or name at least one document that is not empty")
    plan = _plan(model, [text for _, text in documents], protocol)
    nll = plan.nll.copy()
    for sums in _batch_sums(model, plan, journal_file, f"{key}|{BATCH_TOKENS}", label):
        for owner, nats in sums:
            nll[owner] += nats
    for (document_id, _), nats in zip(documents, nll, strict=True):
        if not np.isfinite(nats):
            raise UserError(
                f"{model.name} gives document {document_id} a likelihood that is not finite ({nats}); its "
                "weights are damaged or overflow in this precision: try --dtype float32"
            )
    return [
        Likelihood(
            document=document_id,
            nll=float(nll[i]),
            n_tokens=int(plan.n_tokens[i]),
            n_characters=len(text),
            n_bytes=len(text.encode()),
            lossless=plan.lossless[i],
        )
        for i, (document_id, text) in enumerate(documents)
    ]


def rate(likelihoods: Sequence[Likelihood], unit: Unit) -> float:
    """Return bits per character, byte or token of a corpus: total bits over total units.

    Raises:
        UserError: when there is nothing to divide by.
    """
    units = _units(likelihoods, unit)
    if not units.sum():
        raise UserError(f"a corpus without a single {unit} has no rate")
    return float(sum(row.nll for row in likelihoods) / units.sum() / np.log(2))


def interval(likelihoods: Sequence[Likelihood], unit: Unit, *, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of `rate` by resampling documents, or None where fewer than two hold any text.

    A percentile bootstrap of the ratio: documents are the unit of sampling, because tokens within
    one are not independent (Efron and Tibshirani 1993, chapter 13).
    """
    nll = np.array([row.nll for row in likelihoods])
    units = _units(likelihoods, unit)
    if np.count_nonzero(units) < 2:
        return None
    random = np.random.default_rng(seed)
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        sample = random.integers(len(nll), size=len(nll))
        total = units[sample].sum()
        ratios[i] = nll[sample].sum() / total if total else np.nan
    low, high = np.nanquantile(ratios, (0.025, 0.975)) / np.log(2)
    return float(low), float(high)


def _units(likelihoods: Sequence[Likelihood], unit: Unit) -> NDArray[np.float64]:
    if unit == "character":
        return np.array([row.n_characters for row in likelihoods], dtype=np.float64)
    if unit == "byte":
        return np.array([row.n_bytes for row in likelihoods], dtype=np.float64)
    return np.array([row.n_tokens or 0 for row in likelihoods], dtype=np.float64)


def _plan(model: LanguageModel, texts: Sequence[str], protocol: ScoringProtocol) -> _Plan:
    tokens = model.encode(texts)
    lossless = [model.decode(ids) == text for ids, text in zip(tokens, texts, strict=True)]
    if protocol.name == "huang2024":
        return _plan_huang2024(model, tokens, protocol, lossless)
    prefix = () if model.prefix.token is None else (model.prefix.token,)
    n_tokens = np.array([len(ids) for ids in tokens], dtype=np.int64)
    cuts = [
        (stream, window)
        for stream, ids in enumerate(tokens)
        for window in full_windows(len(ids), protocol, prefix=bool(prefix))
    ]
    return _Plan(
        prefix=prefix,
        streams=tokens,
        owners=[np.full(len(ids), i) for i, ids in enumerate(tokens)],
        batches=_batches(cuts),
        nll=np.where((n_tokens > 0) & (not prefix), np.log(model.vocabulary_size), 0.0),
        n_tokens=n_tokens,
        lossless=lossless,
    )


def _plan_huang2024(
    model: LanguageModel, tokens: Sequence[Tokens], protocol: ScoringProtocol, lossless: list[bool]
) -> _Plan:
    bos = [model.prefix.token] if model.prefix.kind == "bos" else []
    parts = [np.array([*bos, *ids] if len(ids) else [], dtype=np.int64) for ids in tokens]
    stream = np.concatenate(parts)
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    windows = list(huang2024_windows(len(stream), protocol))
    if not windows:
        raise UserError(
            f"the corpus has {len(stream)} tokens and protocol huang2024 scores nothing below "
            f"{protocol.window + 1}; add text or use protocol full"
        )
    return _Plan(
        prefix=(),
        streams=[stream],
        owners=[owner],
        batches=_batches([(0, window) for window in windows]),
        nll=np.zeros(len(tokens)),
        n_tokens=np.bincount(owner[1 : windows[-1].end], minlength=len(tokens)),
        lossless=lossless,
    )


def _batches(cuts: Sequence[tuple[int, Window]]) -> list[list[tuple[int, Window]]]:
    def shape(cut: tuple[int, Window]) -> tuple[int, int]:
        return (cut[1].end - cut[1].begin, cut[1].n_targets)

    batches = []
    # The largest first: what does not fit into memory fails at once, not after an hour.
    for (length, _), group in groupby(sorted(cuts, key=shape, reverse=True), key=shape):
        windows = list(group)
        size = max(1, BATCH_TOKENS // length)
        batches += [windows[i : i + size] for i in range(0, len(windows), size)]
    return batches


def _batch_sums(
    model: LanguageModel, plan: _Plan, journal_file: Path | None, key: str, label: str
) -> Iterator[list[tuple[int, float]]]:
    """Yield (document, nats) pairs batch by batch, in the same order whatever was done before."""
    sizes = [sum(window.end - 1 - window.begin for _, window in batch) for batch in plan.batches]
    with journal(journal_file, key) as (done, add):
        finished = sum(sizes[i] for i in done)
        bar = tqdm(total=sum(sizes), initial=finished, unit="tok", unit_scale=True, desc=label, disable=None)
        with bar:
            for i, batch in enumerate(plan.batches):
                if i not in done:
                    done[i] = _score(model, plan, batch)
                    add(i, done[i])
                    bar.update(sizes[i])
                yield done.pop(i)


def _score(model: LanguageModel, plan: _Plan, batch: list[tuple[int, Window]]) -> list[tuple[int, float]]:
    inputs = np.array([[*plan.prefix, *plan.streams[s][w.begin : w.end - 1]] for s, w in batch])
    targets = np.array([plan.streams[s][w.first : w.end] for s, w in batch])
    nll = model.nll(inputs, targets)
    sums: dict[int, float] = {}
    for row, (stream, window) in zip(nll, batch, strict=True):
        owners, positions = np.unique(plan.owners[stream][window.first : window.end], return_inverse=True)
        for owner, nats in zip(owners, np.bincount(positions, weights=row), strict=True):
            sums[int(owner)] = sums.get(int(owner), 0.0) + float(nats)
    return list(sums.items())
