"""What a change of data or of models did to a rate, split into new scores of old texts and other texts.

Of a corpus in two versions, let r be the rate over all documents scored, bits over characters as in `rates`,
and s the rate over the same documents: those that both versions scored, with equal id and equal text. Then

    r' - r = (s' - s) + ((r' - s') - (r - s))

exactly. The first part, *rescored*, is what the model pays now for the same text and did not before: it is 0 unless
the model, its settings or the software changed. The second, *composition*, is how far the other documents pull
the rate away from that of the same ones, now less before: it is 0 unless documents came, went or changed their
text. A version in which everything costs more by one constant has that as its first part and 0 as its
second. Without a document in common there is no first part, and the second is all.

Intervals are 95 % percentile bootstraps over the documents of both versions together (Efron and Tibshirani 1993,
chapter 8): a resample takes a document with all that it cost before and after, so the parts add up in every
resample too, and what makes a document dear in both versions cancels. Where few documents differ there is none (see
`bootstrap`): a resample says how often these were drawn, not how much others would have differed.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evaluate import bootstrap
from evaluate.rates import RESAMPLES

Array = NDArray[np.float64]

# Draws at once: enough to leave Python's loop, few enough to stay in cache.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A difference in bits per character, positive where the text became dearer.

    Attributes:
        value: later less earlier.
        low: lower end of its 95 % interval; None where some documents differ, but fewer than `bootstrap.FEWEST`.
        high: upper end.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """How the rate of one model on one corpus changed; see the module's text for the parts.

    Attributes:
        before: bits per character of the earlier version.
        after: of the later one.
        difference: the whole change; its value is the sum of those of the parts.
        rescored: same documents, new score; None without a document in common.
        composition: other documents.
        n_before: documents scored in the earlier version.
        n_after: in the later one.
        n_same: in both, with equal id and text.
        n_changed: in both by id, with another text.
    """

    before: float
    after: float
    difference: Effect
    rescored: Effect | None
    composition: Effect
    n_before: int
    n_after: int
    n_same: int
    n_changed: int


def impact(before: pa.Table, after: pa.Table, *, seed: int = 0) -> Impact | None:
    """Return how a rate changed, or None where a version has no text or costs that are not finite.

    Args:
        before: documents scored in the earlier version: `document`, its id, once each; `text_sha256`;
            `nll`, nats; `n_characters`.
        after: likewise, in the later version.
        seed: of the bootstrap.
    """
    ids = pa.concat_arrays([part["document"].combine_chunks() for part in (before, after)]).unique()
    ids = ids.take(pc.sort_indices(ids))
    texts = pa.concat_arrays([part["text_sha256"].combine_chunks() for part in (before, after)]).unique()
    old_nll, old, old_text = _scattered(before, ids, texts)
    new_nll, new, new_text = _scattered(after, ids, texts)
    in_old, in_new, same = old_text >= 0, new_text >= 0, (old_text == new_text) & (old_text >= 0)
    if not (old.any() and new.any() and np.isfinite(old_nll).all() and np.isfinite(new_nll).all()):
        return None
    # A cost that did not change is a column of zeros, which adds up to exactly 0.
    extra = np.where(same, new_nll - old_nll, 0)
    bits = np.column_stack([old_nll, new_nll, extra]) / np.log(2)
    columns = np.hstack([bits, np.column_stack([old, new, np.where(same, new, 0)])])
    shared, complete = bool(columns[:, 5].any()), bool(same.all())
    rescored, composition, total = _parts(columns.sum(axis=0), shared=shared, complete=complete)
    n_rescored, n_other = int(np.count_nonzero(extra)), int(columns[~same].any(axis=1).sum())
    # Where nothing differs, nothing does whichever documents are drawn.
    draws = _resampled_sums(columns, seed) if n_rescored + n_other else columns.sum(axis=0)[None]
    drawn = _parts(draws, shared=shared, complete=complete)
    return Impact(
        before=float(bits[:, 0].sum() / old.sum()),
        after=float(bits[:, 1].sum() / new.sum()),
        difference=_effect(total, drawn[2], n_rescored + n_other),
        rescored=_effect(rescored, drawn[0], n_rescored) if shared else None,
        composition=_effect(composition, drawn[1], n_other),
        n_before=int(in_old.sum()),
        n_after=int(in_new.sum()),
        n_same=int(same.sum()),
        n_changed=int((in_old & in_new & ~same).sum()),
    )


def _scattered(part: pa.Table, ids: pa.Array, texts: pa.Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return nats, characters and number of the text of each id, shape [n]; 0, 0 and -1 where there is none."""
    where = pc.index_in(part["document"], value_set=ids).to_numpy()
    nll, characters, text = np.zeros(len(ids)), np.zeros(len(ids)), np.full(len(ids), -1)
    nll[where] = part["nll"].to_numpy()
    characters[where] = part["n_characters"].to_numpy()
    text[where] = pc.index_in(part["text_sha256"], value_set=texts).to_numpy()
    return nll, characters, text


def _parts(sums: Array, *, shared: bool, complete: bool) -> tuple[Array, Array, Array]:
    """Return both parts of a difference, and their sum.

    Args:
        sums: bits before, after, and extra for the same documents; characters before, after, and of the
            same documents; shape [..., 6].
        shared: whether there are same documents.
        complete: whether there are no others.

    Returns:
        Rescored, composition and the difference, each of shape [...]; not finite where a resample lacks what they need.
    """
    old_bits, new_bits, extra, old, new, same = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rescored = extra / same if shared else np.zeros_like(extra)
        composition = np.zeros_like(extra) if complete else new_bits / new - old_bits / old - rescored
        return rescored, composition, rescored + composition


def _resampled_sums(columns: Array, seed: int) -> Array:
    """Return sums over resamples of the rows; `columns` has shape [n, k], what is returned [RESAMPLES, k]."""
    random = np.random.default_rng(seed)
    n = len(columns)
    step = max(1, _CHUNK // n)
    sums = []
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        drawn = random.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        sums.append(np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) @ columns)
    return np.concatenate(sums)


def _effect(value: Array, drawn: Array, n: int) -> Effect:
    low, high = bootstrap.ends(drawn, n)
    return Effect(value=float(value), low=low, high=high)
