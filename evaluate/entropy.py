"""Matrix entropy of hidden states: how many directions a model's representation of a text spreads over.

The states of N tokens are centred, and each is divided by its length; the spectrum is that of their
covariance, divided by its trace, and the matrix entropy is the entropy of that spectrum:

    H = -sum(lambda ln lambda), in nats (Wei et al. 2024, "Large Language Model Evaluation via Matrix
    Entropy"); exp(H) is the effective rank (Roy and Vetterli 2007), and the fall of it in training is
    Diff-eRank (Wei et al. 2024, arXiv 2401.17139).

Centred rows span at most N - 1 directions, so H is at most ln(min(N - 1, d)), whatever the model: a figure
says little without that `ceiling`. Nor is a d x d matrix needed where N <= d: the N x N matrix of inner
products has the same non-zero eigenvalues.

All arithmetic is in float64, on the device of the states. The unit of sampling is the document.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# Of the released code of Zang et al. 2025: it keeps the directions without any variance finite.
RIDGE = 1e-6
# Rounding moves the mean of N rows by at most some N * 1e-16 of the longest centred row, and by far less
# on average. A row that close to the mean has no direction of its own, only that of the rounding.
_NO_DIRECTION = 1e-12
# Values resampled at once, 8 MB of them.
_CHUNK = 1 << 20

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How uneven a spectrum is: the figures of Zang et al. 2025, "Compression Hacking" (arXiv 2505.17793).

    With mu the eigenvalues of the d x d covariance plus `RIDGE` on its diagonal, divided by their sum:

    Attributes:
        anisotropy: kappa = max(mu) / min(mu).
        compression: differential entropy, -sum(ln mu), in nats.
        semantic_cv: anisotropy / compression, the semantic coefficient of variation; lower is better.
        smoothed_compression: compression with each mu replaced by the largest, -d ln max(mu), in nats.
        spectral_entropy: -sum(mu ln mu), in nats; the matrix entropy but for the ridge.
    """

    anisotropy: float
    compression: float
    semantic_cv: float
    smoothed_compression: float
    spectral_entropy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is measured of one document's states under one layer.

    Attributes:
        entropy: matrix entropy, in nats.
        nuclear_norm: as of `nuclear_norm`.
        anisotropy: as of `Geometry`.
        semantic_cv: as of `Geometry`.
        smoothed_compression: as of `Geometry`, in nats.
        n_tokens: N, at least 2.
        width: d, at least 2.
    """

    entropy: float
    nuclear_norm: float
    anisotropy: float
    semantic_cv: float
    smoothed_compression: float
    n_tokens: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """One metric over the documents of a corpus.

    Attributes:
        metric: its name, of `METRICS` or `diff_erank`.
        value: the estimate.
        low: lower end of the 95 % interval, None for a single document.
        high: upper end.
        ceiling: what the value would be if each document's entropy were the largest that its length
            allows; None for metrics without such a bound.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    ceiling: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How the figures of documents become one of a corpus: `outer` of the mean over documents of `inner`.

    Attributes:
        inner: of one document.
        outer: of means, elementwise.
        bounded: whether the ceiling of the entropy bounds the metric.
    """

    inner: Callable[[Figures], float]
    outer: Callable[[Array], Array] = np.positive
    bounded: bool = False


# The three aggregations of matrix entropy are those of the released code of Wei et al.: a is mean(H / ln d),
# b is exp(mean H) / d, c is mean(exp(H) / d). Li et al. divide the nuclear norm by the number of tokens before
# they take its mean. Anisotropy spans orders of magnitude, so the mean is of its logarithm; that of the
# semantic coefficient of variation is arithmetic, as Zang et al. take it.
METRICS: Mapping[str, Metric] = {
    "matrix_entropy_a": Metric(inner=lambda f: f.entropy / math.log(f.width), bounded=True),
    "matrix_entropy_b": Metric(inner=lambda f: f.entropy - math.log(f.width), outer=np.exp, bounded=True),
    "matrix_entropy_c": Metric(inner=lambda f: math.exp(f.entropy) / f.width, bounded=True),
    "effective_rank": Metric(inner=lambda f: f.entropy, outer=np.exp, bounded=True),
    "nuclear_norm": Metric(inner=lambda f: f.nuclear_norm / f.n_tokens),
    "log_anisotropy": Metric(inner=lambda f: math.log(f.anisotropy)),
    "semantic_cv": Metric(inner=lambda f: f.semantic_cv),
    "smoothed_compression": Metric(inner=lambda f: f.smoothed_compression),
}


def normalised(states: "Tensor") -> "Tensor":
    """Return rows less their mean, each divided by its Euclidean length.

    Args:
        states: floats, shape [N, d], N and d at least 1.

    Returns:
        Shape [N, d], float64. A row that is the mean, to within rounding, is zero.

    Raises:
        ValueError: when states are of another shape or not finite.
    """
    import torch

    if states.ndim != 2 or not states.numel():
        raise ValueError(f"states of shape {list(states.shape)} must be a matrix of at least one token")
    values = states.detach().double()
    # From the first row on, an offset that all rows share costs no digits, and equal rows are exactly zero.
    rows = values - values[0]
    largest = torch.linalg.vector_norm(rows, math.inf).item()
    if not math.isfinite(largest):
        raise ValueError("states must be finite")
    if largest:
        rows /= largest  # so that squares neither overflow nor vanish
    rows -= rows.mean(0)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    zero = norms <= _NO_DIRECTION * norms.max()
    return rows.div_(norms.masked_fill(zero, 1.0)).masked_fill_(zero, 0.0)


def spectrum(rows: "Tensor") -> "Tensor":
    """Return the eigenvalues of the covariance of rows, divided by its trace.

    Args:
        rows: float64, shape [N, d], as `normalised` returns them.

    Returns:
        Shape [min(N, d)], descending, not negative, of sum 1; eigenvalues left out are 0.

    Raises:
        ValueError: when all rows are zero.
    """
    import torch

    matrix = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    values: Tensor = torch.linalg.eigvalsh(matrix).flip(0).clamp_(min=0)
    if not (total := values.sum()):
        raise ValueError("rows that are all zero have no spectrum")
    return values.div_(total)


def matrix_entropy(values: "Tensor") -> float:
    """Return the entropy of a spectrum, -sum(lambda ln lambda), in nats; 0 ln 0 is 0."""
    import torch

    return float(torch.special.entr(values).sum())


def ceiling(n_tokens: int, width: int) -> float:
    """Return the largest matrix entropy, in nats, that N tokens of width d can have: ln(min(N - 1, d)).

    Raises:
        ValueError: when there are fewer than two tokens, or no width.
    """
    if n_tokens < 2 or width < 1:
        raise ValueError(
            f"{n_tokens} tokens of width {width} have no matrix entropy: 2 of width 1 are the fewest"
        )
    return math.log(min(n_tokens - 1, width))


def nuclear_norm(rows: "Tensor") -> float:
    """Return the matrix nuclear norm of Li et al. 2024 (arXiv 2410.10672), which needs no spectrum.

    It is the sum of the min(N, d) largest Euclidean norms of columns of `normalised` rows, shape [N, d].
    """
    import torch

    norms = torch.linalg.vector_norm(rows, dim=0)
    return float(norms.topk(min(rows.shape)).values.sum())


def geometry(values: "Tensor", rows: "Tensor") -> Geometry:
    """Return the figures of Zang et al. 2025, by the definitions of their released code.

    The covariance is rows^T rows / (N - 1); what the spectrum leaves out is the ridge alone.

    Args:
        values: `spectrum` of the rows.
        rows: `normalised` states, shape [N, d], N and d at least 2.

    Raises:
        ValueError: when N or d is 1: the covariance, or the differential entropy to divide by, is then 0 / 0.
    """
    n_tokens, width = rows.shape
    if n_tokens < 2 or width < 2:
        raise ValueError(f"{n_tokens} tokens of width {width} have no geometry: 2 is the fewest of each")
    eigenvalues = values.new_full((width,), RIDGE)
    eigenvalues[: len(values)] += values * (rows.square().sum() / (n_tokens - 1))
    mu = eigenvalues / eigenvalues.sum()
    anisotropy, compression = float(mu.max() / mu.min()), -float(mu.log().sum())
    return Geometry(
        anisotropy=anisotropy,
        compression=compression,
        semantic_cv=anisotropy / compression,
        smoothed_compression=-width * float(mu.max().log()),
        spectral_entropy=matrix_entropy(mu),
    )


def figures(states: "Tensor") -> Figures | None:
    """Return what is measured of a document's states, shape [N, d], of any floating type.

    Returns:
        None where there is nothing to measure: fewer than two tokens, one dimension, or all rows equal.

    Raises:
        ValueError: when states are no matrix or not finite.
    """
    if min(states.shape) < 2:
        return None
    rows = normalised(states)
    if not rows.any():
        return None
    values = spectrum(rows)
    shape = geometry(values, rows)
    return Figures(
        entropy=matrix_entropy(values),
        nuclear_norm=nuclear_norm(rows),
        anisotropy=shape.anisotropy,
        semantic_cv=shape.semantic_cv,
        smoothed_compression=shape.smoothed_compression,
        n_tokens=rows.shape[0],
        width=rows.shape[1],
    )


def aggregate(documents: Sequence[Figures], *, seed: int = 0, resamples: int = 1000) -> list[Aggregate]:
    """Return every one of `METRICS` over documents, with 95 % percentile bootstrap intervals.

    Args:
        documents: figures of one model and layer, at least one document.
        seed: of the resampling; the same draws of documents serve all metrics.
        resamples: how many.

    Raises:
        ValueError: when there is no document.
    """
    columns = _columns(documents, METRICS.values())
    values, resampled = columns.mean(1), resampled_means(columns, seed, resamples)
    full = [replace(f, entropy=ceiling(f.n_tokens, f.width)) for f in documents]
    ceilings = _columns(full, METRICS.values()).mean(1)
    found = []
    for k, (name, metric) in enumerate(METRICS.items()):
        low, high = interval(metric.outer(resampled[k]))
        bound = float(metric.outer(ceilings[k])) if metric.bounded else None
        value = float(metric.outer(values[k]))
        found.append(Aggregate(metric=name, value=value, low=low, high=high, ceiling=bound))
    return found


def diff_erank(
    untrained: Sequence[Figures], trained: Sequence[Figures], *, seed: int = 0, resamples: int = 1000
) -> Aggregate:
    """Return exp(mean H) of a model before training less that after it (Wei et al. 2024, arXiv 2401.17139).

    A resample takes the same documents of both: what makes a document rich for either cancels.

    Args:
        untrained: figures of documents under the model with its initial weights, at least one.
        trained: figures of the same documents, in the same order, under the model.
        seed: of the resampling.
        resamples: how many.

    Raises:
        ValueError: when there is no document, or the two are not of the same documents.
    """
    if [f.n_tokens for f in untrained] != [f.n_tokens for f in trained]:
        raise ValueError(
            "the untrained and the trained model must be measured on the same documents, in order"
        )
    erank = METRICS["effective_rank"]
    columns = np.concatenate([_columns(side, [erank]) for side in (untrained, trained)])
    before, after = erank.outer(columns.mean(1))
    resampled = erank.outer(resampled_means(columns, seed, resamples))
    low, high = interval(resampled[0] - resampled[1])
    return Aggregate(metric="diff_erank", value=float(before - after), low=low, high=high, ceiling=None)


def _columns(documents: Sequence[Figures], metrics: Iterable[Metric]) -> Array:
    """Return the inner figures, shape [metrics, documents]."""
    if not documents:
        raise ValueError("no document was measured: there is nothing to aggregate")
    return np.array([[metric.inner(f) for f in documents] for metric in metrics])


def resampled_means(columns: Array, seed: int, resamples: int) -> Array:
    """Return means of each row of [rows, n] over n documents drawn with replacement, [rows, resamples].

    No resamples where a single document would be drawn again and again.
    """
    rows, n = columns.shape
    means = np.empty((rows, resamples if n > 1 else 0))
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // columns.size)
    for begin in range(0, means.shape[1], step):
        sample = random.integers(n, size=(min(step, resamples - begin), n))
        means[:, begin : begin + step] = columns.take(sample, axis=1).mean(-1)
    return means


def interval(values: Array) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % percentile interval of resampled values, shape [resamples]; of none without any."""
    if not values.size:
        return None, None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
