"""Benchmark scores of models from their distances to other models, one family left out at a time.

A model is described by its distances to the training models alone, and no model of its own family is among
those: whatever is fitted (means, scales, penalty, components, weights) is fitted to the other families. The
predictions of all families are pooled, and judged beside those from size, training compute and bits per
character: distances say something only where they beat these.

All are held against the mean of the other families. It is the higher the lower the scores of the family that
is left out, so that its correlation with these is negative by construction (-1 for families of one), and
whatever predicts little but that mean shares it: correlations are below 0 where nothing is told, their
intervals too. `skill`, the share of its squared errors that is avoided, is then 0 or less.

`ridge`, the default, is deterministic. Its penalty minimises generalised cross-validation (Golub, Heath and
Wahba 1979) within the training models: a closed form that, unlike a fixed penalty, follows how much the
distances tell of a benchmark. It leaves out single models, whose siblings stay: that favours lighter
penalties than folds of families would. `ica15-sigmoid` is the method of Yax et al. 2024 (PhyloLM, arXiv
2404.04671): 15 independent components of the distances, and one linear layer behind a sigmoid.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.regression import MAX_RESAMPLES

METHODS = ("ridge", "ica15-sigmoid")
COMPONENTS = 15
# Of the mean squared error, on standardised columns; the heaviest first, so that a tie shrinks more.
_PENALTIES = np.logspace(4, -4, 33)

Array = NDArray[np.float64]
# Predicts from columns not shrunk and distances, given those of training, its scores, and those of the others.
_Method = Callable[[Array, Array, Array, Array, Array], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """What is known of a model besides its distances; None where it is not.

    Attributes:
        name: its label in the matrix of distances.
        family: what is left out together: models that share training data or weights.
        n_parameters: its size.
        training_flops: floating-point operations spent on training it, in any unit shared by all models.
        bits_per_character: its mean on one corpus.
    """

    name: str
    family: str
    n_parameters: float | None = None
    training_flops: float | None = None
    bits_per_character: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How well scores of families were predicted by a method fitted to the other families.

    Attributes:
        method: one of `METHODS`, `mean of the other families`, `ln parameters`, `ln training FLOPs`,
            `bits per character`, or `bits per character + ridge`.
        n_models: models that have a score and what the method needs. Figures of methods with different
            models do not compare: predict again from the scores of the models that they share.
        n_families: families among these.
        refused: why there is no prediction, else empty; all that follows is then None or empty.
        pearson: signed correlation of the pooled predictions with the scores, which is below 0 where nothing
            is told of them, see the module; None where either is constant.
        pearson_low: lower end of its 95 % percentile interval, from resamples of whole families; the
            predictions are not made anew. None without resamples.
        pearson_high: upper end.
        resamples: resamples that this interval rests on; those without a correlation are left out.
        rmse: root of the mean squared error, in units of the score.
        skill: 1 - squared errors / those of the mean of the other families, of the same models; below 0 where
            that mean predicts better.
        skill_low: lower end of its 95 % percentile interval, from the same resamples, both sums of each.
        skill_high: upper end.
        predicted: the prediction of each model, by name.
    """

    method: str
    n_models: int
    n_families: int
    refused: str = ""
    pearson: float | None = None
    pearson_low: float | None = None
    pearson_high: float | None = None
    resamples: int = 0
    rmse: float | None = None
    skill: float | None = None
    skill_low: float | None = None
    skill_high: float | None = None
    predicted: Mapping[str, float]


def predict(
    distances: Array,
    labels: Sequence[str],
    models: Sequence[KnownModel],
    scores: Mapping[str, float],
    *,
    method: str = "ridge",
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[Prediction, ...]:
    """Predict one benchmark's score of each model from the models of the other families.

    Args:
        distances: shape [n, n].
        labels: names of the n models, in the order of the rows; that order changes nothing.
        models: one for each label, in any order.
        scores: by name; models without one are left out.
        method: one of `METHODS`.
        seed: of the bootstrap.
        resamples: of the bootstrap; 0 leaves the intervals out.

    Returns:
        First the prediction from distances, then what it is to be held against: the mean of the other
        families, size, training FLOPs, bits per character, and ridge regression on the distances beside
        bits per character, whose coefficient is not shrunk. A model that lacks what one of these needs is
        left out of that one, as `n_models` tells; where too few have it, `refused` says so.

    Raises:
        UserError: when labels, models and scores do not match, a value is no finite number, there are fewer
            than 3 families, the scores are all equal, or the sigmoid's scores are not from 0 to 1.
    """
    if method not in METHODS:
        raise UserError(f"method {method!r} is none of {', '.join(METHODS)}: use one of them")
    for name, number, bound in (("seed", seed, 2**63 - 1), ("resamples", resamples, MAX_RESAMPLES)):
        if type(number) is not int or not 0 <= number <= bound:
            raise UserError(f"{name} {number!r} is no whole number from 0 to {bound}: give one")
    facts = _checked(distances, labels, models, scores)
    names = [model.name for model in facts]
    for model in facts:
        _check_values(model, scores[model.name], sigmoid=method == "ica15-sigmoid")
    rows = [labels.index(name) for name in names]
    d = np.asarray(distances, dtype=np.float64)[np.ix_(rows, rows)]
    y = np.array([float(scores[name]) for name in names])
    families = np.array([model.family for model in facts])
    columns = [[m.n_parameters, m.training_flops, m.bits_per_character] for m in facts]
    size, compute, rate = np.array(columns, dtype=np.float64).reshape(-1, 3).T[:, :, None]

    def trial(title: str, fit: _Method, column: Array) -> Prediction:
        part = np.flatnonzero(~np.isnan(column).any(axis=1))
        target, groups = y[part], families[part]
        found = Prediction(
            method=title,
            n_models=len(part),
            n_families=len(np.unique(groups)),
            refused=_refusal(title, target, groups),
            predicted={},
        )
        if found.refused:
            return found
        near = d[np.ix_(part, part)]
        predicted, mean = (_left_out(groups, how, column[part], near, target) for how in (fit, _mean))
        correlations, skills = _resampled(predicted, mean, target, groups, seed, resamples)
        low, high = _interval(correlations)
        skill_low, skill_high = _interval(skills)
        return replace(
            found,
            pearson=_pearson(predicted, target),
            pearson_low=low,
            pearson_high=high,
            resamples=len(correlations),
            rmse=math.sqrt(np.mean((predicted - target) ** 2)),
            skill=float(1 - np.sum((predicted - target) ** 2) / np.sum((mean - target) ** 2)),
            skill_low=skill_low,
            skill_high=skill_high,
            predicted=dict(zip([names[i] for i in part], predicted.tolist(), strict=True)),
        )

    found = (
        trial(method, ridge if method == "ridge" else _sigmoid_of_components, rate[:, :0]),
        trial("mean of the other families", _mean, rate[:, :0]),
        trial("ln parameters", _line, np.log(size)),
        trial("ln training FLOPs", _line, np.log(compute)),
        trial("bits per character", _line, rate),
        trial("bits per character + ridge", ridge, rate),
    )
    if found[0].refused:
        raise UserError(found[0].refused)
    return found


def ridge(fixed: Array, shrunk: Array, y: Array, new_fixed: Array, new_shrunk: Array) -> Array:
    """Predict by ridge regression with an intercept, its penalty chosen on the training rows.

    Columns are standardised by mean and standard deviation of the training rows. The penalty lambda
    minimises RSS / (n - rank - trace)^2 over 33 values from 1e-4 to 1e4, in (1/n) RSS + lambda |w|^2;
    rank is of the columns that are not shrunk, trace of what is fitted to the others.

    Args:
        fixed: shape [n, k], k from 0: columns whose coefficients are not shrunk.
        shrunk: shape [n, p], p from 0: columns whose coefficients w are.
        y: shape [n].
        new_fixed: shape [m, k], of the rows to predict.
        new_shrunk: shape [m, p].

    Returns:
        shape [m].
    """
    z, new_z = (np.column_stack([np.ones(len(rows)), rows]) for rows in _standardised(fixed, new_fixed))
    a, new_a = _standardised(shrunk, new_shrunk)
    inverse = np.linalg.pinv(z)
    rest = y - z @ (inverse @ y)
    u, s, vt = np.linalg.svd(a - z @ (inverse @ a), full_matrices=False)
    along = u.T @ rest
    kept = s**2 / (s**2 + len(y) * _PENALTIES[:, None])
    errors = np.sum((rest - (kept * along) @ u.T) ** 2, axis=1)
    criterion = errors / np.maximum(len(y) - np.linalg.matrix_rank(z) - kept.sum(axis=1), 1e-9) ** 2
    penalty = len(y) * _PENALTIES[np.argmin(criterion)]
    weights = vt.T @ (s / (s**2 + penalty) * along)
    return np.asarray(new_z @ (inverse @ (y - a @ weights)) + new_a @ weights)


def independent_components(x: Array, n_components: int, *, seed: int = 42) -> tuple[Array, Array]:
    """Find independent components by FastICA: symmetric, contrast ln cosh, components of unit variance.

    Hyvarinen and Oja 2000, "Independent component analysis: algorithms and applications", section 6. The
    iteration stops where no direction turns by more than 1e-4 (1 - |cosine|), or after 200 steps.

    Args:
        x: shape [n, p]; where its centred rank is below `n_components`, there are as many as that.
        n_components: the most components.
        seed: of the rotation it starts from.

    Returns:
        the mean of x, shape [p], and the unmixing matrix, shape [p, components]: the components of rows are
        (rows - mean) @ unmixing. They have no order, and no sign.
    """
    n, mean = len(x), x.mean(axis=0)
    _, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    k = min(n_components, int(np.sum(s > 1e-10 * s[0])))
    whitening = vt[:k].T / s[:k] * math.sqrt(n)
    white = (x - mean) @ whitening
    w = _orthogonal(np.random.default_rng(seed).normal(size=(k, k)))
    for _ in range(200):
        g = np.tanh(white @ w.T)
        w, before = _orthogonal(g.T @ white / n - np.mean(1 - g**2, axis=0)[:, None] * w), w
        if np.all(np.abs(np.abs(np.sum(w * before, axis=1)) - 1) < 1e-4):
            break
    return mean, whitening @ w.T


def sigmoid_layer(x: Array, y: Array, new: Array) -> Array:
    """Return predictions of sigmoid(x w + b) with the schedule of Yax et al. 2024.

    Mean squared error, 1000 full-batch steps of Adam, rate 1e-3, weight decay 0.01. It starts from zeros,
    not from random weights: the order and the signs of independent components then change nothing. These
    steps move a weight by about 1 at most: predictions may lie nearer to 0.5 than the scores, with a good
    correlation and a large error. Shapes: x [n, k], y [n] from 0 to 1, new [m, k], and [m] is returned.
    """
    import torch

    rows, target = torch.from_numpy(np.column_stack([x, np.ones(len(x))])), torch.from_numpy(y)
    weights = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=1e-3, weight_decay=0.01)
    for _ in range(1000):
        optimizer.zero_grad()
        torch.mean((torch.sigmoid(rows @ weights) - target) ** 2).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    fitted = weights.detach().numpy()
    return np.asarray((1 + np.tanh((new @ fitted[:-1] + fitted[-1]) / 2)) / 2)


def _sigmoid_of_components(_: Array, distances: Array, y: Array, __: Array, new: Array) -> Array:
    mean, unmixing = independent_components(distances, COMPONENTS)
    return sigmoid_layer((distances - mean) @ unmixing, y, (new - mean) @ unmixing)


def _line(x: Array, distances: Array, y: Array, new_x: Array, new: Array) -> Array:
    return ridge(x, distances[:, :0], y, new_x, new[:, :0])


def _mean(_: Array, __: Array, y: Array, ___: Array, new: Array) -> Array:
    return np.full(len(new), y.mean())


def _left_out(families: NDArray[np.str_], fit: _Method, x: Array, distances: Array, y: Array) -> Array:
    predicted = np.empty(len(families))
    for family in np.unique(families):
        test, train = families == family, families != family
        near, new = distances[np.ix_(train, train)], distances[np.ix_(test, train)]
        predicted[test] = fit(x[train], near, y[train], x[test], new)
    return predicted


def _orthogonal(w: Array) -> Array:
    u, _, vt = np.linalg.svd(w)
    return np.asarray(u @ vt)


def _standardised(rows: Array, new: Array) -> tuple[Array, Array]:
    """Scale both by the first; a column that is constant there becomes 0 in both."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-12 * np.maximum(1, np.abs(mean)), scale, np.inf)
    return (rows - mean) / scale, (new - mean) / scale


def _pearson(a: Array, b: Array) -> float | None:
    if not _varies(a) or not _varies(b):
        return None
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def _resampled(
    predicted: Array, mean: Array, y: Array, families: NDArray[np.str_], seed: int, resamples: int
) -> tuple[Array, Array]:
    """Correlations, and skills, when as many families are drawn again, each with all of its models."""
    distinct, a, b = np.unique(families), predicted - predicted.mean(), y - y.mean()
    errors = [(predicted - y) ** 2, (mean - y) ** 2]
    of_models = np.stack([np.ones(len(y)), a, b, a * a, b * b, a * b, *errors], axis=1)
    of_families = np.stack([of_models[families == family].sum(axis=0) for family in distinct])
    evenly = np.full(len(distinct), 1 / len(distinct))
    drawn = np.random.default_rng(seed).multinomial(len(distinct), evenly, size=resamples)
    n, sa, sb, saa, sbb, sab, missed, by_mean = (drawn @ of_families).T
    va, vb = saa - sa**2 / n, sbb - sb**2 / n
    sound, told = (va > 1e-12 * saa) & (vb > 1e-12 * sbb), by_mean > 0
    correlations = (sab - sa * sb / n)[sound] / np.sqrt(va[sound] * vb[sound])
    return np.clip(correlations, -1, 1), 1 - missed[told] / by_mean[told]


def _interval(figures: Array) -> tuple[float | None, float | None]:
    if not len(figures):
        return None, None
    low, high = np.quantile(figures, [0.025, 0.975])
    return float(low), float(high)


def _varies(values: Array) -> bool:
    return bool(np.ptp(values) > 1e-12 * max(1.0, float(np.max(np.abs(values)))))


def _refusal(title: str, y: Array, families: NDArray[np.str_]) -> str:
    if (n := len(np.unique(families))) < 3:
        return f"{title}: its {len(y)} models are of {n} families, and leaving one out needs 3: add families"
    if not _varies(y):
        return f"{title}: the score is {y[0]:g} for all {len(y)} models, and must vary: add models"
    return ""


def _checked(
    distances: Array, labels: Sequence[str], models: Sequence[KnownModel], scores: Mapping[str, float]
) -> list[KnownModel]:
    """Return the models that have a score, in the order of their names, if all arguments name the same."""
    if np.shape(distances) != (len(labels), len(labels)):
        raise UserError(f"{len(labels)} labels, but distances of shape {np.shape(distances)}: give n x n")
    if not np.all(np.isfinite(distances)):
        raise UserError("a distance is not finite: bound similarities from below before their logarithm")
    rows, facts = Counter(labels), Counter(model.name for model in models)
    for name in sorted(rows | facts):
        if (rows[name], facts[name]) != (1, 1):
            raise UserError(f"{name!r} is {rows[name]} labels and {facts[name]} models: give one of each")
    for name in sorted(scores.keys() - rows.keys()):
        raise UserError(f"{name!r} has a score but no distances: leave it out, or measure them")
    return sorted((model for model in models if model.name in scores), key=lambda model: model.name)


def _check_values(model: KnownModel, score: float, *, sigmoid: bool) -> None:
    if not model.family:
        raise UserError(f"{model.name} has no family, which is what is left out: name one")
    for field in ("n_parameters", "training_flops", "bits_per_character"):
        value = getattr(model, field)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{field} {value!r} of {model.name} is not above 0: correct it, or give None")
    if not math.isfinite(score):
        raise UserError(f"score {score!r} of {model.name} is not finite: leave it out")
    if sigmoid and not 0 <= score <= 1:
        raise UserError(f"score {score!r} of {model.name} is not from 0 to 1, as a sigmoid is: divide it")
