"""Scores are predicted from other families alone, and published figures are met."""

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate import prediction
from evaluate.prediction import METHODS, KnownModel, Prediction, predict

Array = NDArray[np.float64]
GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("ash", "beech", "cedar", "elm", "fir")


def world(
    *sizes: int, seed: int = 0, noise: float = 0.0
) -> tuple[Array, list[str], list[KnownModel], dict[str, float]]:
    """Models at points in space; squared distances, and a score that is linear in the point.

    The difference of two columns of squared distances is linear in the point, and so the score is linear
    in the distances to any models that span the space.
    """
    rng = np.random.default_rng(seed)
    names = [f"{FAMILIES[f]}-{i}" for f, size in enumerate(sizes) for i in range(size)]
    points = rng.normal(size=(len(names), 2))
    distances = np.sum((points[:, None] - points[None]) ** 2, axis=2)
    y = 0.5 + 0.1 * points @ [0.8, -0.6] + noise * rng.normal(size=len(names))
    models = [
        KnownModel(
            name=name,
            family=name.split("-")[0],
            n_parameters=float(np.exp(rng.normal())),
            training_flops=float(np.exp(rng.normal())),
            bits_per_character=float(np.exp(rng.normal())),
        )
        for name in names
    ]
    return distances, names, models, dict(zip(names, y.tolist(), strict=True))


def table(name: str) -> list[dict[str, str]]:
    """Rows of a file of facts, whose first line is their source."""
    with (GOLDEN / name).open(newline="") as lines:
        assert next(lines).startswith("# Source: ")
        return list(csv.DictReader(lines))


def published(benchmark: str) -> tuple[Array, list[str], list[KnownModel], dict[str, float]]:
    """What predict() takes, of 40 base models in 8 families."""
    similarities = table("phylolm.similarities.csv")
    names = [row["model"] for row in similarities]
    distances = -np.log(np.array([[float(row[name]) for name in names] for row in similarities]))
    facts = table("phylolm.models.csv")
    models = [
        KnownModel(
            name=row["model"],
            family=row["family"],
            n_parameters=float(row["n_parameters"]) * 1e9,
            training_flops=float(row["training_flops"]) * 1e21 if row["training_flops"] else None,
        )
        for row in facts
    ]
    return distances, names, models, {row["model"]: float(row[benchmark]) for row in facts}


def by_method(found: tuple[Prediction, ...]) -> dict[str, Prediction]:
    """The predictions by the name of their method."""
    return {prediction.method: prediction for prediction in found}


# Correlations of ridge, size and training FLOPs, with the root mean squared error of ridge. Our figures are
# held to 0.005. Those from an earlier, independent run on the same data had another penalty: its ridge is
# met to 0.012, but on TruthfulQA (0.303), of which distances tell little, and GSM8K (0.808).
PUBLISHED = {
    "ARC-C": (0.929, 0.054, 0.778, 0.967),
    "HellaSwag": (0.958, 0.060, 0.852, 0.922),
    "MMLU": (0.920, 0.086, 0.199, 0.626),
    "TruthfulQA": (0.405, 0.065, -0.599, -0.440),
    "Winogrande": (0.883, 0.048, 0.843, 0.934),
    "GSM8K": (0.840, 0.154, 0.017, 0.412),
}
EARLIER = {
    "ARC-C": (0.936, 0.012),
    "HellaSwag": (0.954, 0.012),
    "MMLU": (0.911, 0.012),
    "TruthfulQA": (0.303, 0.11),
    "Winogrande": (0.891, 0.012),
    "GSM8K": (0.808, 0.04),
}
ICA = {
    "ARC-C": (0.935, 0.057),
    "HellaSwag": (0.955, 0.079),
    "MMLU": (0.878, 0.103),
    "TruthfulQA": (0.422, 0.065),
    "Winogrande": (0.871, 0.055),
    "GSM8K": (0.891, 0.182),
}


@pytest.mark.parametrize("benchmark", PUBLISHED)
def test_published_distances_predict_published_scores(benchmark: str) -> None:
    """Ridge, size and FLOPs give the figures known of PhyloLM's matrix and public benchmark scores."""
    r, rmse, by_size, by_compute = PUBLISHED[benchmark]
    found = by_method(predict(*published(benchmark)))
    ridge = found["ridge"]
    assert (ridge.n_models, ridge.n_families) == (40, 8)
    assert ridge.pearson == pytest.approx(r, abs=0.005)
    assert ridge.rmse == pytest.approx(rmse, abs=0.002)
    earlier, tolerance = EARLIER[benchmark]
    assert ridge.pearson == pytest.approx(earlier, abs=tolerance)
    assert found["ln parameters"].pearson == pytest.approx(by_size, abs=0.01)
    assert found["ln training FLOPs"].pearson == pytest.approx(by_compute, abs=0.01)
    assert found["ln training FLOPs"].n_models == 38
    assert found["bits per character"].n_models == 0
    assert "add families" in found["bits per character"].refused


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ICA)
def test_the_published_method_gives_its_figures(benchmark: str) -> None:
    """FastICA and the sigmoid meet an earlier run with another library, which drew other starting weights."""
    r, rmse = ICA[benchmark]
    found = predict(*published(benchmark), method="ica15-sigmoid", resamples=0)[0]
    assert found.pearson == pytest.approx(r, abs=0.03 if benchmark == "TruthfulQA" else 0.01)
    assert found.rmse == pytest.approx(rmse, abs=0.005)


def test_a_planted_relation_is_recovered() -> None:
    """A score that is linear in the distances is predicted for families that no fit has seen."""
    found = by_method(predict(*world(7, 6, 6, 5)))
    assert found["ridge"].pearson == pytest.approx(1, abs=1e-4)
    ridge = found["ridge"]
    assert ridge.skill == pytest.approx(1, abs=1e-3)
    assert ridge.skill_low
    assert ridge.skill_low > 0.99
    assert found["ln parameters"].skill is not None
    assert found["ln parameters"].skill < 0.5


def test_bits_per_character_and_distances_add_up() -> None:
    """A score that is partly linear in each is predicted by both together, and by neither alone."""
    distances, names, models, scores = world(7, 6, 6, 5)
    scores = {m.name: scores[m.name] - 0.08 * (m.bits_per_character or 0) for m in models}
    found = by_method(predict(distances, names, models, scores))
    assert found["bits per character + ridge"].skill == pytest.approx(1, abs=1e-3)
    assert max(found[name].skill or 0 for name in ("ridge", "bits per character")) < 0.95


@pytest.mark.parametrize(
    ("title", "column"), [("ln parameters", "n_parameters"), ("ln training FLOPs", "training_flops")]
)
def test_a_baseline_finds_a_line_in_its_logarithm(title: str, column: str) -> None:
    """A score that is linear in it is predicted exactly by it, and not by the other."""
    distances, names, models, _ = world(4, 4, 4)
    found = by_method(
        predict(distances, names, models, {m.name: 0.3 + 0.1 * math.log(getattr(m, column)) for m in models})
    )
    exact = [name for name in ("ln parameters", "ln training FLOPs") if (found[name].skill or 0) > 1 - 1e-12]
    assert exact == [title]


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_the_family_left_out_do_not_leak(method: str) -> None:
    """Whatever a family scores, its own predictions stay the same to the last bit, and others' change."""
    distances, names, models, scores = world(6, 5, 5, noise=0.05)
    own = [name for name in names if name.startswith("ash")]
    changed = scores | dict(zip(own, [0.9, 0.1, 0.2, 0.8, 0.95, 0.05], strict=True))
    before = predict(distances, names, models, scores, method=method, resamples=0)
    after = predict(distances, names, models, changed, method=method, resamples=0)
    for first, second in zip(before, after, strict=True):
        assert [first.predicted[name] for name in own] == [second.predicted[name] for name in own]
        assert first.predicted["cedar-0"] != second.predicted["cedar-0"]


@pytest.mark.parametrize("method", METHODS)
def test_models_of_the_family_left_out_do_not_leak(method: str) -> None:
    """Neither distances to siblings nor the distances of siblings change what is predicted of a model."""
    distances, names, models, scores = world(6, 5, 5, noise=0.05)
    changed = distances.copy()
    changed[0, :6] = changed[:6, 0] = 99
    changed[1:6] *= 7
    changed[:, 1:6] *= 7
    before, after = (
        predict(d, names, models, scores, method=method, resamples=0)[0] for d in (distances, changed)
    )
    assert before.predicted["ash-0"] == pytest.approx(after.predicted["ash-0"], rel=1e-12)
    assert before.predicted["ash-1"] != pytest.approx(after.predicted["ash-1"], rel=1e-3)


@given(st.permutations(range(16)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_models_does_not_matter(order: list[int]) -> None:
    """Rows, facts and scores in another order give the same numbers to the last bit."""
    distances, names, models, scores = world(6, 5, 4, 1, noise=0.05)
    found = predict(distances, names, models, scores, resamples=50)
    shuffled = predict(
        distances[np.ix_(order, order)],
        [names[i] for i in order],
        [models[i] for i in reversed(order)],
        {names[i]: scores[names[i]] for i in order},
        resamples=50,
    )
    assert shuffled == found


def test_the_order_of_models_does_not_matter_to_components() -> None:
    """Nor does it where the components' start is drawn."""
    distances, names, models, scores = world(6, 5, 4, 1, noise=0.05)
    first = predict(distances, names, models, scores, method="ica15-sigmoid", resamples=0)
    turned = distances[::-1, ::-1]
    assert predict(turned, names[::-1], models, scores, method="ica15-sigmoid", resamples=0) == first


def test_a_family_of_one_is_predicted_from_the_others() -> None:
    """It is a fold like any other."""
    found = predict(*world(7, 6, 6, 1))[0]
    assert (found.n_models, found.n_families) == (20, 4)
    assert found.predicted["elm-0"] == pytest.approx(world(7, 6, 6, 1)[3]["elm-0"], abs=0.01)


def test_three_families_of_one_are_enough() -> None:
    """Two training models give numbers, and no warning."""
    for method in METHODS:
        found = predict(*world(1, 1, 1), method=method)
        assert all(math.isfinite(p) for trial in found for p in trial.predicted.values())
        assert all(len(trial.predicted) == 3 for trial in found)


def test_models_without_a_figure_leave_only_that_baseline() -> None:
    """The others still use them, and every method tells how many it had."""
    distances, names, models, scores = world(4, 4, 4, 4)
    models[0] = dataclasses.replace(models[0], training_flops=None)
    models[4:] = [dataclasses.replace(model, bits_per_character=None) for model in models[4:]]
    del scores["elm-3"]
    found = by_method(predict(distances, names, models, scores))
    assert {name: (p.n_models, p.n_families) for name, p in found.items()} == {
        "ridge": (15, 4),
        "mean of the other families": (15, 4),
        "ln parameters": (15, 4),
        "ln training FLOPs": (14, 4),
        "bits per character": (4, 1),
        "bits per character + ridge": (4, 1),
    }
    assert "ash-0" not in found["ln training FLOPs"].predicted
    assert "elm-3" not in found["ridge"].predicted
    refused = found["bits per character"]
    assert refused.refused == (
        "bits per character: its 4 models are of 1 families, and leaving one out needs 3: add families"
    )
    assert (refused.pearson, refused.rmse, refused.skill, refused.predicted) == (None, None, None, {})


def test_the_figures_are_those_of_the_pooled_predictions() -> None:
    """Correlation, error and skill recompute from `predicted`; the sign of a correlation is kept."""
    distances, names, models, scores = world(5, 5, 4, 6, noise=0.2)
    family = np.array([name.split("-")[0] for name in names])
    for found in predict(distances, names, models, scores):
        p, y = np.array([(found.predicted[name], scores[name]) for name in names]).T
        of_others = np.array([y[family != own].mean() for own in family])
        assert found.pearson == pytest.approx(np.corrcoef(p, y)[0, 1])
        assert found.rmse == pytest.approx(math.sqrt(np.mean((p - y) ** 2)))
        assert found.skill == pytest.approx(1 - np.mean((p - y) ** 2) / np.mean((of_others - y) ** 2))
        if found.method == "mean of the other families":
            assert p == pytest.approx(of_others)
            assert (found.skill, found.skill_low, found.skill_high) == (0, 0, 0)
    assert by_method(predict(*published("TruthfulQA")))["ln parameters"].pearson == pytest.approx(
        -0.599, abs=0.01
    )


def test_the_interval_draws_whole_families() -> None:
    """It is that of correlations over families drawn with replacement, each with all of its models."""
    distances, names, models, scores = world(6, 3, 1, 4, 3, noise=0.1)
    found = predict(distances, names, models, scores, seed=3, resamples=4000)[0]
    drawn = np.random.default_rng(3).multinomial(5, [0.2] * 5, size=4000)
    correlations, skills = [], []
    mean = predict(distances, names, models, scores, resamples=0)[1].predicted
    for counts in drawn:
        part = [
            name for family, n in zip(FAMILIES, counts, strict=True) for name in names * n if family in name
        ]
        p, y, of_others = np.array([(found.predicted[name], scores[name], mean[name]) for name in part]).T
        skills.append(1 - np.sum((p - y) ** 2) / np.sum((of_others - y) ** 2))
        if len(set(part)) > 1:
            correlations.append(np.corrcoef(p, y)[0, 1])
    assert found.resamples == len(correlations) < 4000
    assert (found.pearson_low, found.pearson_high) == pytest.approx(
        tuple(np.quantile(correlations, [0.025, 0.975])), abs=1e-9
    )
    assert (found.skill_low, found.skill_high) == pytest.approx(
        tuple(np.quantile(skills, [0.025, 0.975])), abs=1e-9
    )
    without = predict(distances, names, models, scores, resamples=0)[0]
    assert (without.pearson_low, without.skill_low, without.skill_high) == (None, None, None)


def of_noise(seed: int, signal: float) -> dict[str, Prediction]:
    """Predict scores of 24 models in 8 families that are noise, but for so much of one axis of their space."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(24, 4))
    names = [f"m{i:02}" for i in range(24)]
    models = [
        KnownModel(name=name, family=f"f{i // 3}", n_parameters=float(np.exp(rng.normal())))
        for i, name in enumerate(names)
    ]
    y = rng.random(24) + signal * points[:, 0]
    apart = np.sqrt(np.sum((points[:, None] - points[None]) ** 2, axis=2))
    return by_method(predict(apart, names, models, dict(zip(names, y.tolist(), strict=True)), resamples=200))


def test_correlations_of_noise_are_negative_and_skill_is_not_positive() -> None:
    """What is left out lowers the mean of the rest: r is below 0, its interval too; skill claims nothing.

    Of distances r is -0.3 on average and its interval below 0 in every second draw or more; that of skill lies
    above 0 in no more than by chance.
    """
    drawn = [of_noise(seed, 0) for seed in range(60)]
    for method in ("ridge", "ln parameters"):
        found = [each[method] for each in drawn]
        assert np.mean([each.pearson for each in found]) < -0.2
        assert np.mean([(each.pearson_high or 0) < 0 for each in found]) > 0.3
        assert np.mean([each.skill for each in found]) < 0
        assert np.mean([(each.skill_low or 0) > 0 for each in found]) <= 0.05
    assert max(each["mean of the other families"].pearson or 0 for each in drawn) < -0.1


def test_skill_of_a_signal_is_high() -> None:
    """And its interval is above 0 in every draw."""
    found = [of_noise(seed, 1)["ridge"] for seed in range(20)]
    assert np.mean([each.skill for each in found]) > 0.6
    assert min(each.skill_low or 0 for each in found) > 0


def test_the_mean_of_other_families_is_against_a_family_of_one() -> None:
    """Of n scores it is (sum - y) / (n - 1): a falling line, whose correlation with y is -1."""
    found = predict(*world(1, 1, 1, 1, 1))[1]
    assert found.method == "mean of the other families"
    assert found.pearson == pytest.approx(-1)


def naive_ridge(fixed: Array, shrunk: Array, y: Array, new_fixed: Array, new_shrunk: Array) -> Array:
    """Penalised normal equations and their whole hat matrix, for every penalty of the grid."""
    mean, scale = shrunk.mean(axis=0), shrunk.std(axis=0)
    x = np.column_stack([np.ones(len(y)), fixed, (shrunk - mean) / scale])
    new = np.column_stack([np.ones(len(new_fixed)), new_fixed, (new_shrunk - mean) / scale])
    free = [0.0] * (1 + fixed.shape[1])
    best, predicted = math.inf, np.array([])
    for exponent in np.arange(4, -4.1, -0.25):
        penalty = np.diag([*free, *[len(y) * 10**exponent] * shrunk.shape[1]])
        solved = np.linalg.solve(x.T @ x + penalty, x.T)
        hat = x @ solved
        criterion = np.mean((y - hat @ y) ** 2) / (1 - np.trace(hat) / len(y)) ** 2
        if criterion < best:
            best, predicted = criterion, new @ solved @ y
    return predicted


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("p", [0, 3, 30])
@pytest.mark.parametrize("noise", [0.05, 3.0])
def test_ridge_is_that_of_the_normal_equations(k: int, p: int, noise: float) -> None:
    """With more columns than rows or fewer, and with columns that are not shrunk."""
    rng = np.random.default_rng(k + 10 * p)
    z, x = rng.normal(2, 3, size=(18, k)), rng.normal(1, 2, size=(18, p)) * np.arange(1, p + 1)
    y = 0.4 + x[:, :2].sum(axis=1) - z.sum(axis=1) + noise * rng.normal(size=18)
    args = (z[:12], x[:12], y[:12], z[12:], x[12:])
    assert prediction.ridge(*args) == pytest.approx(naive_ridge(*args), rel=1e-6)


def test_a_column_that_is_constant_in_training_tells_nothing() -> None:
    """Not even of a new row where it differs."""
    x = np.column_stack([np.arange(5.0), np.full(5, 0.1)])
    y, new = 2 * x[:, 0] + 1, np.array([[7.0, 0.9]])
    assert prediction.ridge(x, x[:, :0], y, new, new[:, :0]) == pytest.approx([15])


def sources(n: int) -> Array:
    """Four independent sources of unit variance, far from normal; shape [n, 4]."""
    rng = np.random.default_rng(5)
    made = np.stack(
        [rng.uniform(size=n), rng.laplace(size=n), rng.choice([0.0, 1.0], size=n), rng.exponential(size=n)],
        axis=1,
    )
    return np.asarray((made - made.mean(axis=0)) / made.std(axis=0))


def test_mixed_sources_are_taken_apart() -> None:
    """Each component is one source, whatever mixed them, up to sign and order."""
    made = sources(4000)
    mixed = made @ np.random.default_rng(6).normal(size=(4, 7)) + 3
    mean, unmixing = prediction.independent_components(mixed, 15)
    found = (mixed - mean) @ unmixing
    assert found.shape == made.shape
    agreement = np.abs(made.T @ found / len(made))
    assert np.sort(agreement, axis=1)[:, -1] == pytest.approx(1, abs=0.01)
    assert sorted(agreement.argmax(axis=1)) == [0, 1, 2, 3]


def test_components_are_white_and_a_fixed_point() -> None:
    """Uncorrelated, of unit variance, and where symmetric FastICA with g = tanh stays where it is."""
    mixed = sources(300) @ np.random.default_rng(7).normal(size=(4, 4))
    mean, unmixing = prediction.independent_components(mixed, 3)
    found = (mixed - mean) @ unmixing
    assert found.T @ found / len(found) == pytest.approx(np.eye(3), abs=1e-9)
    g = np.tanh(found)
    step = g.T @ found / len(found) - np.diag(np.mean(1 - g**2, axis=0))
    step *= np.sign(np.diag(step))[:, None]
    assert step == pytest.approx(step.T, abs=0.015 * np.diag(step).max())
    assert np.all(np.linalg.eigvalsh(step + step.T) > 0)


def naive_sigmoid(x: Array, y: Array, new: Array) -> Array:
    """Adam (Kingma and Ba 2015) with its decay added to the gradient, written out."""
    design, w = np.column_stack([x, np.ones(len(x))]), np.zeros(x.shape[1] + 1)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step in range(1, 1001):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = 2 * design.T @ ((p - y) * p * (1 - p)) / len(y) + 0.01 * w
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= 1e-3 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return np.asarray(1 / (1 + np.exp(-np.column_stack([new, np.ones(len(new))]) @ w)))


def test_the_sigmoid_layer_is_trained_as_published() -> None:
    """1000 steps of Adam at 1e-3 on the mean squared error, with weight decay 0.01."""
    rng = np.random.default_rng(8)
    x, y, new = rng.normal(size=(20, 3)), rng.uniform(size=20), rng.normal(size=(4, 3))
    assert prediction.sigmoid_layer(x, y, new) == pytest.approx(naive_sigmoid(x, y, new), abs=1e-7)


def arguments(**changes: Any) -> dict[str, Any]:
    """What predict() takes, with changes."""
    distances, labels, models, scores = world(3, 3, 3)
    return {"distances": distances, "labels": labels, "models": models, "scores": scores} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "lasso"}, "method 'lasso' is none of ridge, ica15-sigmoid: use one of them"),
        ({"seed": -1}, "seed -1 is no whole number"),
        ({"resamples": 1.5}, "resamples 1.5 is no whole number"),
        ({"distances": np.zeros((9, 8))}, "9 labels, but distances of shape (9, 8): give n x n"),
        ({"distances": np.full((9, 9), np.inf)}, "a distance is not finite"),
        ({"labels": [*world(3, 3, 3)[1][:8], "oak"]}, "'cedar-2' is 0 labels and 1 models: give one of each"),
        ({"labels": ["ash-0", *world(3, 3, 3)[1][:8]]}, "'ash-0' is 2 labels and 1 models: give one of each"),
        ({"models": world(3, 3, 3)[2][1:]}, "'ash-0' is 1 labels and 0 models: give one of each"),
        ({"scores": {"oak": 0.3}}, "'oak' has a score but no distances"),
        ({"scores": {}}, "ridge: its 0 models are of 0 families, and leaving one out needs 3: add families"),
        ({"scores": {"ash-0": 0.1, "elm-0": 0.2}}, "'elm-0' has a score"),
        ({"scores": {"ash-0": 0.1, "ash-1": 0.2, "beech-1": 0.3}}, "3 models are of 2 families"),
        ({"scores": dict.fromkeys(world(3, 3, 3)[1], 0.25)}, "the score is 0.25 for all 9 models"),
        ({"scores": world(3, 3, 3)[3] | {"ash-1": math.nan}}, "score nan of ash-1 is not finite"),
        (
            {"scores": world(3, 3, 3)[3] | {"ash-1": 61.2}, "method": "ica15-sigmoid"},
            "score 61.2 of ash-1 is not from 0 to 1",
        ),
        ({"family": ""}, "ash-0 has no family"),
        ({"n_parameters": 0}, "n_parameters 0 of ash-0 is not above 0"),
        ({"training_flops": math.inf}, "training_flops inf of ash-0"),
        ({"bits_per_character": math.nan}, "bits_per_character nan of ash-0"),
    ],
)
def test_mistakes_name_value_rule_and_remedy(changes: dict[str, Any], message: str) -> None:
    """One line each."""
    given = arguments(**changes)
    facts = {field.name for field in dataclasses.fields(KnownModel)} & given.keys()
    first = dataclasses.replace(given["models"][0], **{name: given.pop(name) for name in facts})
    given["models"] = [first, *given["models"][1:]]
    with pytest.raises(UserError) as caught:
        predict(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
