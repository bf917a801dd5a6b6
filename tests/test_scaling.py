"""Matrix entropy against size, bits per character and benchmarks: planted laws come out, and numpy agrees."""

import csv
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate import benchmarks, fit
from samples import ROOT

PUBLISHED = ROOT / "evaluate" / "published_correlations.csv"
SIZES = [70e6, 160e6, 410e6, 1e9, 1.4e9, 2.8e9]
ENTROPIES = [0.71, 0.66, 0.67, 0.58, 0.55, 0.56]
CURVES: dict[str, Callable[[float, float, float], float]] = {
    "log": lambda a, b, x: a + b * math.log(x),
    "power": lambda a, b, x: a * x**-b,
    "linear": lambda a, b, x: a + b * x,
}

Row = dict[str, object]


def row(number: int, metric: str, value: float, **other: object) -> Row:
    """A row of scores.csv for the model of this number."""
    entropy = metric != "bits_per_character"
    common = {"backend": "transformers", "family": "", "corpus": "news"}
    protocol = "entropy/512" if entropy else "full/1900/512"
    named = {"model": f"m{number}", "name": f"org/m{number}", "protocol": protocol}
    return {**common, **named, "metric": metric, "value": value, **other}


def entropies(values: Iterable[float], metric: str = "matrix_entropy_a", **other: object) -> list[Row]:
    """Rows of models of the sizes `SIZES`."""
    return [
        row(i, metric, value, **{"n_parameters": int(SIZES[i % len(SIZES)]), **other})
        for i, value in enumerate(values)
    ]


def rates(values: Iterable[float], **other: object) -> list[Row]:
    """Rows of bits per character of the same models."""
    return [row(i, "bits_per_character", value, **other) for i, value in enumerate(values)]


def run(
    folder: Path,
    rows: Iterable[Row],
    targets: Sequence[benchmarks.BenchmarkScore] = (),
    *,
    seed: int = 0,
    resamples: int = 200,
) -> Path:
    """Run the fit stage on these rows and benchmark scores; return the folder of its outputs."""
    folder.mkdir(exist_ok=True)
    benchmarks.add(folder / "b.csv", [score("nobody", 0.5), *targets])
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fit.MEASURED_COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    fit.run(folder / "scores.csv", folder / "b.csv", PUBLISHED, folder, seed=seed, resamples=resamples)
    return folder


def score(model: str, value: float, benchmark: str = "PIQA", category: str = "") -> benchmarks.BenchmarkScore:
    """A benchmark score of a study of its own."""
    return benchmarks.BenchmarkScore(
        model=f"name of {model}",
        hf_id=f"org/{model}",
        category=category,
        benchmark=benchmark,
        shots=0,
        value=value,
        unit="fraction",
        study="planted",
        source="planted",
    )


def table(path: Path, **where: str) -> list[dict[str, str]]:
    """The lines of a table that hold these values."""
    with path.open(newline="") as file:
        return [line for line in csv.DictReader(file) if all(line[k] == v for k, v in where.items())]


def test_a_figure_on_text_that_may_have_been_seen_is_shown_and_not_used(tmp_path: Path) -> None:
    """Neither against size nor against rates; the fits are those without the model."""
    stale = {"freshness": "not-after", "cutoff": "2024", "cutoff_evidence": "declared"}
    seen = [{**rows[-1], **stale, "value": 9.0} for rows in (entropies(ENTROPIES), rates(ENTROPIES))]
    others = [*entropies(ENTROPIES[:-1]), *rates(ENTROPIES[:-1])]
    one, other = run(tmp_path / "one", [*others, *seen]), run(tmp_path / "other", others)
    assert fits(one) == fits(other) != []
    reasons = {row["reason"] for row in table(one / "scaling_points.csv", model="m5")}
    assert reasons == {"news does not postdate its training cutoff, 2024"}
    assert {row["freshness"] for row in table(one / "scaling_points.csv", model="m5")} == {"not-after"}


def fits(folder: Path, **where: str) -> list[dict[str, str]]:
    """The rows of scaling.csv that hold these values."""
    return table(folder / "scaling.csv", **where)


def only(folder: Path, **where: str) -> dict[str, str]:
    """The one row of scaling.csv that holds these values."""
    (found,) = fits(folder, **where)
    return found


def line(form: str, x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Coefficients a and b of a form by numpy."""
    u = np.array(x) if form == "linear" else np.log(x)
    b, a = np.polyfit(u, np.log(y) if form == "power" else np.array(y), 1)
    return (math.exp(a), -b) if form == "power" else (a, b)


def resampled(form: str, x: Sequence[float], y: Sequence[float], seed: int, resamples: int) -> list[float]:
    """Every b over the resamples that regression.py says it draws."""
    hashes = duckdb.execute(
        "SELECT hash(xor(hash(xor(hash($seed::BIGINT), b::UBIGINT)), i::UBIGINT)) "
        "FROM range($resamples) r(b), range($n) s(i) ORDER BY b, i",
        {"seed": seed, "resamples": resamples, "n": len(x)},
    ).fetchall()
    index = (np.array([h for (h,) in hashes], dtype=np.uint64) % np.uint64(len(x))).reshape(resamples, -1)
    drawn = [([x[i] for i in some], [y[i] for i in some]) for some in index.astype(int).tolist()]
    return [line(form, a, b)[1] for a, b in drawn if len(set(a)) > 1 and len(set(b)) > 1]


@pytest.mark.parametrize("form", ["log", "power"])
def test_planted_laws_of_size_are_recovered(tmp_path: Path, form: str) -> None:
    """Without noise a and b are those planted, nothing is left to explain, and the planted form is the better."""
    a, b = {"log": (1.7, -0.05), "power": (3.5, 0.08)}[form]
    out = run(tmp_path, entropies(CURVES[form](a, b, size) for size in SIZES))
    found = only(out, x="parameters", form=form)
    assert (found["y"], found["n"], found["family"]) == ("matrix_entropy_a on news", "6", "")
    assert (float(found["a"]), float(found["b"])) == pytest.approx((a, b), abs=1e-9)
    assert (float(found["b_low"]), float(found["b_high"])) == pytest.approx((b, b), abs=1e-9)
    assert [float(found[name]) for name in ("r2", "rmse", "loo_rmse")] == [1, 0, 0]
    assert {row["best_form"] for row in fits(out, x="parameters")} == {form}


def test_planted_lines_are_recovered(tmp_path: Path) -> None:
    """Entropy against bits per character, and benchmark scores against entropy, are lines in that direction."""
    bpc = [0.9, 0.8, 0.75, 0.6, 0.5]
    values = [0.2 + 0.6 * v for v in bpc]
    targets = [score(f"m{i}", round(0.9 - 0.5 * v, 9)) for i, v in enumerate(values)]
    out = run(tmp_path, entropies(values) + rates(bpc), targets)
    against_rates = only(out, x="bits per character on news")
    against_scores = only(out, x="matrix_entropy_a on news")
    assert (against_rates["y"], against_scores["y"]) == ("matrix_entropy_a on news", "PIQA (0-shot, planted)")
    for found, a, b in ((against_rates, 0.2, 0.6), (against_scores, 0.9, -0.5)):
        assert (float(found["a"]), float(found["b"])) == pytest.approx((a, b), abs=1e-8)
        assert (found["form"], found["r2"], found["best_form"]) == ("linear", "1.0", "")


@pytest.mark.parametrize("form", ["log", "power", "linear"])
def test_every_figure_is_that_of_numpy(tmp_path: Path, form: str) -> None:
    """Coefficients, R², both errors, with refits for the left-out one, and the interval: in units of y."""
    x = SIZES if form != "linear" else [0.9, 0.85, 0.87, 0.7, 0.65, 0.66]
    out = run(tmp_path, entropies(ENTROPIES) + (rates(x) if form == "linear" else []), seed=3)
    found = only(out, form=form)
    a, b = line(form, x, ENTROPIES)
    y = np.array(ENTROPIES)
    missed = y - [CURVES[form](a, b, v) for v in x]
    left = []
    for i in range(len(x)):
        others = line(form, [*x[:i], *x[i + 1 :]], [*ENTROPIES[:i], *ENTROPIES[i + 1 :]])
        left.append(ENTROPIES[i] - CURVES[form](*others, x[i]))
    low, high = np.quantile(resampled(form, x, ENTROPIES, 3, 200), [0.025, 0.975])
    u, v = (np.array(x) if form == "linear" else np.log(x)), (np.log(y) if form == "power" else y)
    expected = {
        "a": a,
        "b": b,
        "b_low": low,
        "b_high": high,
        "pearson": np.corrcoef(u, v)[0, 1],
        "r2": 1 - np.sum(missed**2) / np.sum((y - y.mean()) ** 2),
        "rmse": math.sqrt(np.mean(missed**2)),
        "loo_rmse": math.sqrt(np.mean(np.square(left))),
    }
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-8)


@settings(max_examples=10, deadline=None)
@given(
    exponents=st.lists(st.floats(7.5, 12.5), min_size=4, max_size=7, unique_by=lambda v: round(v, 2)),
    data=st.data(),
)
def test_forms_compare_by_what_they_miss_in_y(
    tmp_path_factory: pytest.TempPathFactory, exponents: list[float], data: st.DataObject
) -> None:
    """On any sizes and values the better form is that whose refits miss left-out models by less."""
    n = len(exponents)
    values = data.draw(
        st.lists(st.floats(0.1, 0.95), min_size=n, max_size=n, unique_by=lambda v: round(v, 3))
    )
    sizes = [round(10**e) for e in exponents]
    rows = [row(i, "matrix_entropy_a", values[i], n_parameters=sizes[i]) for i in range(n)]
    out = run(tmp_path_factory.mktemp("any"), rows, resamples=0)
    errors = {}
    for form in ("log", "power"):
        missed = []
        for i in range(n):
            others = line(form, sizes[:i] + sizes[i + 1 :], values[:i] + values[i + 1 :])
            missed.append(values[i] - CURVES[form](*others, sizes[i]))
        errors[form] = math.sqrt(np.mean(np.square(missed)))
        found = only(out, form=form)
        assert float(found["loo_rmse"]) == pytest.approx(errors[form], rel=1e-6, abs=1e-8)
        assert float(found["r2"]) <= 1
    if abs(errors["log"] - errors["power"]) > 1e-6:
        assert {found["best_form"] for found in fits(out)} == {min(errors, key=errors.__getitem__)}


def test_interval_contains_the_planted_slope(tmp_path: Path) -> None:
    """Under noise the 95 % interval of b holds what was planted, lies about the estimate, and is no point."""
    rng = np.random.default_rng(4)
    sizes = np.exp(np.linspace(math.log(1e8), math.log(1e11), 24))
    for form, b in (("log", -0.03), ("power", 0.05)):
        values = [CURVES[form](1.5, b, float(size)) + rng.normal(scale=0.01) for size in sizes]
        rows = [row(i, "matrix_entropy_a", v, n_parameters=int(sizes[i])) for i, v in enumerate(values)]
        found = only(run(tmp_path / form, rows, resamples=500), form=form)
        low, estimate, high = (float(found[name]) for name in ("b_low", "b", "b_high"))
        assert low < b < high
        assert low < estimate < high


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_models_are_refused_in_words(tmp_path: Path, n: int) -> None:
    """One or two models have no fit in any form, and their points are there all the same."""
    out = run(tmp_path, entropies(ENTROPIES[:n], ceiling=0.98) + rates([0.9, 0.8][:n]))
    found = fits(out)
    assert [(row["x"], row["form"]) for row in found] == [
        ("bits per character on news", "linear"),
        ("parameters", "log"),
        ("parameters", "power"),
    ]
    why = f"{n} model{'s' if n > 1 else ''}; a fit needs 3 or more"
    assert {(row["n"], row["refused"]) for row in found} == {(str(n), why)}
    numbers = ("a", "b", "b_low", "b_high", "pearson", "spearman", "r2", "rmse", "loo_rmse", "best_form")
    assert {row[name] for row in found for name in numbers} == {""}
    points = table(out / "scaling_points.csv", x="parameters")
    assert [(float(p["x_value"]), float(p["y_value"]), p["ceiling"]) for p in points] == [
        (SIZES[i], ENTROPIES[i], "0.98") for i in range(n)
    ]


def test_unknown_sizes_are_refused_in_words(tmp_path: Path) -> None:
    """Models whose parameters nobody counted, or without bits per character, are no models of that fit."""
    rows = entropies(ENTROPIES[:3], n_parameters="") + rates([0.9])
    out = run(tmp_path, rows)
    assert {row["refused"] for row in fits(out, x="parameters")} == {"0 models; a fit needs 3 or more"}
    assert {row["refused"] for row in fits(out, form="linear")} == {"1 model; a fit needs 3 or more"}
    points = table(out / "scaling_points.csv", used="false")
    assert [(p["model"], p["x_value"], p["reason"]) for p in points] == [
        ("m1", "", "it has no bits per character there under that protocol"),
        ("m2", "", "it has no bits per character there under that protocol"),
        *((f"m{i}", "", "its number of parameters is not known") for i in range(3)),
    ]


def test_what_is_not_finite_is_no_point(tmp_path: Path) -> None:
    """A figure that is no number is left out, and a rate or a size that is none is not known."""
    rows = entropies([*ENTROPIES[:4], math.nan]) + rates([0.9, 0.8, 0.75, math.inf, 0.6])
    rows[0]["n_parameters"] = 0
    rows[1]["n_parameters"] = "inf"
    out = run(tmp_path, rows)
    points = table(out / "scaling_points.csv")
    assert {(p["x"].split()[0], p["model"]) for p in points if p["used"] == "true"} == {
        ("parameters", "m2"),
        ("parameters", "m3"),
        ("bits", "m0"),
        ("bits", "m1"),
        ("bits", "m2"),
    }
    assert {(p["model"], p["reason"]) for p in points if p["used"] == "false"} == {
        ("m0", "its number of parameters is not known"),
        ("m1", "its number of parameters is not known"),
        ("m3", "it has no bits per character there under that protocol"),
    }
    assert only(out, form="linear")["n"] == "3"


def test_one_size_for_all_is_refused(tmp_path: Path) -> None:
    """Models of one size say nothing about size, and one figure for all nothing about the figure."""
    out = run(tmp_path, entropies(ENTROPIES, n_parameters=10**9) + entropies([7.5] * 4, "effective_rank"))
    same_x, same_y = (
        {row["refused"] for row in fits(out, y=f"{metric} on news")}
        for metric in ("matrix_entropy_a", "effective_rank")
    )
    assert same_x == {"x is the same for every model; a fit needs it to vary"}
    assert same_y == {"y is the same for every model; a correlation needs it to vary"}


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_no_power_law_goes_below_nought(tmp_path: Path, value: float) -> None:
    """A Diff-eRank that is not above 0 refuses the power law by name, and the logarithm is fitted."""
    values = [5.0, 4.0, value, 9.0]
    out = run(tmp_path, entropies(values, "diff_erank"))
    assert only(out, form="power")["refused"] == "y of m2 is not above 0, where no power law goes"
    log = only(out, form="log")
    a, b = line("log", SIZES[:4], values)
    assert (float(log["a"]), float(log["b"])) == pytest.approx((a, b), abs=1e-8)
    assert (log["refused"], log["best_form"]) == ("", "")


def test_families_are_fitted_separately_and_together(tmp_path: Path) -> None:
    """Two families on laws of their own are each recovered; all models together lie on neither."""
    laws = {"small": (1.7, -0.05), "wide": (2.2, -0.06)}
    rows = [
        {**line_, "family": family, "model": f"{family}-{line_['model']}", "name": ""}
        for family, law in laws.items()
        for line_ in entropies(CURVES["log"](*law, size) for size in SIZES)
    ] + [row(9, "matrix_entropy_a", 0.4, n_parameters=10**9)]
    out = run(tmp_path, rows)
    for family, law in laws.items():
        found = only(out, family=family, form="log")
        assert found["n"] == "6"
        assert (float(found["a"]), float(found["b"])) == pytest.approx(law, abs=1e-9)
    together = only(out, family="", form="log")
    assert together["n"] == "13"
    assert float(together["rmse"]) > 0.01
    points = table(out / "scaling_points.csv")
    counted = {family: sum(p["family"] == family for p in points) for family in ("", *laws)}
    assert counted == {"": 13, "small": 6, "wide": 6}


def test_rules_of_the_law_hold_for_entropies(tmp_path: Path) -> None:
    """Code models count in coding alone, contaminated ones not in math, and a published model counts once."""
    names = ["org/coder", "Qwen/Qwen-7B", *(f"org/m{i}" for i in range(2, 6))]
    rows = [{**line_, "name": name} for line_, name in zip(entropies(ENTROPIES), names, strict=True)] + [
        row(7, "matrix_entropy_a", 0.5, name="org/m5", n_parameters=10**9)
    ]
    targets = [
        benchmarks.BenchmarkScore(
            model=name.partition("/")[2],
            hf_id=name,
            category="code" if name == "org/coder" else "",
            benchmark=benchmark,
            shots=0,
            value=0.1 * i + 0.05,
            unit="fraction",
            study="planted",
            source="planted",
        )
        for i, name in enumerate(names)
        for benchmark in ("PIQA", "HumanEval", "GSM8K")
    ]
    out = run(tmp_path, rows, targets)
    counted = {row["y"].split()[0]: row["n"] for row in fits(out, x="matrix_entropy_a on news")}
    assert counted == {"PIQA": "5", "HumanEval": "6", "GSM8K": "4"}
    left = {
        (p["y"].split()[0], p["model"]): p["reason"] for p in table(out / "scaling_points.csv", used="false")
    }
    twin = "the same published model as m5"
    code = "a code model: the law counts it in coding only"
    assert {key: why for key, why in left.items() if key[1] != "m1"} == {
        ("PIQA", "m0"): code,
        ("GSM8K", "m0"): code,
        **{(y, "m7"): twin for y in ("PIQA", "HumanEval", "GSM8K", "matrix_entropy_a")},
    }
    assert "contaminated" in left["GSM8K", "m1"]
    assert len(left) == 7
    assert {row["n"] for row in fits(out, x="parameters")} == {"6"}
    x, y = ENTROPIES[1:], [0.1 * i + 0.05 for i in range(1, 6)]
    a, b = line("linear", x, y)
    (piqa,) = (row for row in fits(out, x="matrix_entropy_a on news") if row["y"].startswith("PIQA"))
    expected = math.sqrt(np.mean(np.square(np.array(y) - [a + b * v for v in x])))
    assert float(piqa["rmse"]) == pytest.approx(expected, abs=1e-8)
    assert piqa["loo_rmse"]


def test_compressors_and_other_metrics_are_passed_over(tmp_path: Path) -> None:
    """Rates of a compressor, other metrics of entropy, and bits per byte enter no series."""
    rows = entropies(ENTROPIES[:3]) + rates([0.9, 0.8, 0.7])
    extra = [
        row(0, "bits_per_character", 2.0, backend="compressors", model="xz", protocol="stream"),
        row(0, "bits_per_byte", 0.9, protocol="full/1900/512"),
        *entropies([3.0, 2.0, 1.0], "nuclear_norm"),
    ]
    tables = [
        (run(tmp_path / name, given) / "scaling.csv").read_bytes()
        for name, given in (("with", rows + extra), ("without", rows))
    ]
    assert tables[0] == tables[1]


def test_protocols_are_told_apart(tmp_path: Path) -> None:
    """Two ways to read a corpus, or to score it, are two series each, named by their protocols."""
    rows = [
        *entropies(ENTROPIES),
        *entropies([v / 2 for v in ENTROPIES], protocol="entropy/512/fixed"),
        *rates(ENTROPIES),
        *rates(ENTROPIES, protocol="first/1900/512"),
    ]
    out = run(tmp_path, rows)
    slopes = {(row["x"], row["y"]): float(row["b"]) for row in fits(out, form="linear")}
    factors = {"entropy/512": 1.0, "entropy/512/fixed": 0.5}
    assert slopes == pytest.approx(
        {
            (f"bits per character on news ({cut})", f"matrix_entropy_a on news ({read})"): factors[read]
            for cut, read in itertools.product(("full/1900/512", "first/1900/512"), factors)
        }
    )


def test_corpora_are_fitted_apart(tmp_path: Path) -> None:
    """Each corpus has its own series, and a model's rate on another corpus is none of its points."""
    rows = [*entropies(ENTROPIES), *entropies(ENTROPIES, corpus="code"), *rates(ENTROPIES, corpus="code")]
    out = run(tmp_path, rows)
    assert {(row["x"], row["y"]) for row in fits(out)} == {
        ("parameters", "matrix_entropy_a on news"),
        ("parameters", "matrix_entropy_a on code"),
        ("bits per character on code", "matrix_entropy_a on code"),
    }


def test_a_left_out_model_without_a_line_has_no_error(tmp_path: Path) -> None:
    """Where all others share one size, nothing predicts the model: there is no left-out error, nor a better form."""
    rows = [row(i, "matrix_entropy_a", ENTROPIES[i], n_parameters=10 ** (9 + (i == 3))) for i in range(4)]
    out = run(tmp_path, rows)
    assert {(row["loo_rmse"], row["best_form"], row["refused"]) for row in fits(out)} == {("", "", "")}


def test_sizes_beyond_any_scale_are_fitted(tmp_path: Path) -> None:
    """Sizes of a million million and close together give a steep power law, and finite figures or none."""
    rows = [
        row(i, "effective_rank", value, n_parameters=10**12 + i * 10**9)
        for i, value in enumerate((90, 20, 70, 9))
    ]
    found = only(run(tmp_path, rows), form="power")
    assert found["refused"] == ""
    assert all(math.isfinite(float(found[name])) for name in ("b", "r2", "rmse"))
    assert found["a"] == ""


def test_no_entropies_give_empty_tables(tmp_path: Path) -> None:
    """Where nothing was measured both tables hold their headers alone."""
    out = run(tmp_path, rates([0.9, 0.8, 0.7]))
    assert (out / "scaling.csv").read_text() == (
        "family,x,y,form,n,a,b,b_low,b_high,pearson,pearson_low,pearson_high,spearman,"
        "r2,rmse,loo_rmse,best_form,refused\n"
    )
    assert (out / "scaling_points.csv").read_text() == (
        "family,x,y,model,x_value,y_value,ceiling,used,reason,freshness\n"
    )


def test_entropies_leave_the_other_tables_alone(tmp_path: Path) -> None:
    """The fits of bits per character, their points and the metrics are the same bytes as without entropies."""
    bpc = rates([0.9, 0.8, 0.75, 0.6])
    targets = [score(f"m{i}", 0.2 + 0.1 * i) for i in range(4)]
    names = ("fits.csv", "points.csv", "unmatched.csv", "metrics.json")
    outputs = []
    for name, rows in (("with", [*entropies(ENTROPIES), *bpc]), ("without", bpc)):
        out = run(tmp_path / name, rows, targets)
        outputs.append([(out / output).read_bytes() for output in names])
    assert outputs[0] == outputs[1]
