"""The section on relatives: what it computes, what it leaves out, and what it refuses."""

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import (
    NAMES,
    Tags,
    rewrite,
    words,
    write_compared,
    write_csv,
    write_inputs,
    write_measured_entropies,
    write_measured_relatives,
)

from collectors.document import UserError
from evaluate.report import page
from evaluate.report.dendrograms import CAVEAT
from evaluate.report.records import ReportData
from evaluate.report.results import read

# Of the tree ((a:2,b:3):4,(c:3,d:5)), whose longest path, b to d, is 12.
PATHS = np.array([[0, 5, 9, 11], [5, 0, 10, 12], [9, 10, 0, 8], [11, 12, 8, 0]], float)
MODELS = {slug: f"org/{slug.upper()}-1b" for slug in "abcd"}
RIDGE = {"benchmark": "PIQA", "study": "a study", "method": "ridge", "n": 9, "n_families": 3}
RIDGE |= {"pearson": 0.81, "pearson_low": 0.5, "pearson_high": 0.93, "rmse": 0.05, "skill": 0.6}
RIDGE |= {"skill_low": 0.2, "skill_high": 0.75}
UNKNOWN = dict.fromkeys(
    ("pearson", "pearson_low", "pearson_high", "rmse", "skill", "skill_low", "skill_high"), ""
)


def compared(
    folder: Path, distances: Any = PATHS, models: dict[str, str] = MODELS, predictions: Sequence[Any] = ()
) -> ReportData:
    """Read the sample inputs with relatives."""
    results, corpora = write_inputs(folder)
    write_compared(results, np.asarray(distances, float), models, predictions)
    return read(results, corpora, NAMES)


def part(data: ReportData) -> str:
    """Return the section on relatives."""
    return page.render(data).partition('<section aria-labelledby="relatives">')[2].partition("</section>")[0]


def related(data: ReportData, families: dict[str, str]) -> ReportData:
    """Return the data with models, by slug, of these families."""
    scores = tuple(replace(data.scores[0], model=model, family=family) for model, family in families.items())
    return replace(data, scores=(*data.scores, *scores))


def table(section: str, label: str) -> str:
    """Return the words of a table below its head."""
    whole = section.partition(f'aria-label="{label}"')[2].partition("</table>")[0]
    return words(whole.partition("</thead>")[2]).strip()


def figures(section: str) -> list[str]:
    """Return the drawings."""
    return section.split("<figure>")[1:]


def said(figure: str) -> str:
    """Return what the lines above a drawing say."""
    return " ".join(re.findall(r'<text class="note"[^>]*>([^<]*)<', figure))


@pytest.mark.parametrize(
    ("n", "sentence"),
    [
        (0, "0 models were asked to continue genes; a tree needs 2 or more."),
        (1, "1 model was asked to continue genes; a tree needs 2 or more."),
    ],
)
def test_fewer_than_two_models_are_one_sentence(tmp_path: Path, n: int, sentence: str) -> None:
    """No drawing and no table, and predictions are not spoken of."""
    refused = {**RIDGE, "rmse": "", "refused": "1 family; 3 are needed"}
    section = part(compared(tmp_path, np.zeros((n, n)), dict(list(MODELS.items())[:n]), [refused]))
    assert words(section).split() == f"Relatives {sentence}".split()


def test_two_models_have_one_distance(tmp_path: Path) -> None:
    """It stands in one row; no tree or map would say more, and the caveat is there all the same."""
    section = part(compared(tmp_path, PATHS[:2, :2] / 5, {"a": "org/A-1b", "b": "org/B-1b"}))
    text = words(section)
    assert "There are two, A-1b and B-1b: their distance is 1.00, with a standard error of 0.12." in text
    assert table(section, "Nearest relatives") == "A-1b B-1b 0.368 0.331 to 0.368 1.00 0.12"
    assert CAVEAT in text
    assert "<figure>" not in section


def test_tree_and_map_are_drawn_with_their_caveat(tmp_path: Path) -> None:
    """The dendrogram has all of it beside it, the other drawings its first words."""
    section = part(compared(tmp_path))
    tree, unrooted, plane = figures(section)
    assert CAVEAT in said(tree)
    assert "rooted halfway along the longest path. Paths along the tree miss the distances by 0.012" in said(
        tree
    )
    assert "not proof of descent." in said(unrooted)
    assert "not proof of descent." in said(plane)
    assert words(section).count(CAVEAT) == 1
    for figure in (tree, unrooted, plane):
        assert all(f">{letter}-1b</text>" in figure for letter in "ABCD")
    assert "In the order of the tree: A-1b, B-1b, C-1b, D-1b." in tree


def test_the_unrooted_tree_has_no_root(tmp_path: Path) -> None:
    """The branch that the root divides into 3 and 1 is whole, with its support once."""
    tree, unrooted, _ = figures(part(compared(tmp_path)))
    lengths = [
        sorted(float(length) for length in re.findall(r"branch of length ([\d.]+)", figure))
        for figure in (tree, unrooted)
    ]
    assert lengths == [[1, 2, 3, 3, 3, 5], [2, 3, 3, 4, 5]]
    assert len(re.findall("; support", tree)) == 2
    assert len(re.findall("; support", unrooted)) == 1


@pytest.mark.parametrize("outer", [0, 1])
def test_a_root_beside_a_leaf_is_left_out_too(tmp_path: Path, outer: int) -> None:
    """Of three models, with the leaf on either side of the root."""
    data = compared(tmp_path, PATHS[:3, :3], {slug: MODELS[slug] for slug in "abc"})
    assert data.phylogeny
    top = data.phylogeny.tree
    turned = replace(top, children=top.children[:: -1 if outer else 1])
    _, unrooted, _ = figures(part(replace(data, phylogeny=replace(data.phylogeny, tree=turned))))
    lengths = sorted(float(length) for length in re.findall(r"branch of length ([\d.]+)", unrooted))
    assert lengths == [2, 3, 7]


def test_support_is_explained_where_there_is_some(tmp_path: Path) -> None:
    """Three models have no inner branch, and the drawing no word on it."""
    told = "the share of trees from resampled genes"
    assert told in said(figures(part(compared(tmp_path / "4")))[0])
    three = compared(tmp_path / "3", PATHS[:3, :3], {slug: MODELS[slug] for slug in "abc"})
    assert told not in said(figures(part(three))[0])


def test_negative_branches_are_told(tmp_path: Path) -> None:
    """How many, and the least."""
    fit = compared(tmp_path / "fit")
    assert "shorter than 0" not in part(fit)
    bent = compared(tmp_path / "bent", [[0, 1, 1], [1, 0, 3], [1, 3, 0]], dict(list(MODELS.items())[:3]))
    assert "1 branch is shorter than 0, down to −0.50: the distances fit no tree there; drawn as 0." in said(
        figures(part(bent))[0]
    )


def test_nearest_relatives_are_those_of_least_distance(tmp_path: Path) -> None:
    """Of each model, whichever column it stands in; the closest first, each with bounds and standard error."""
    rng = np.random.default_rng(5)
    upper = np.triu(rng.random((7, 7)) + 0.1, 1)
    distances = upper + upper.T
    models = {f"m{i}": f"org/m{i}" for i in range(7)}
    expected = []
    for i in range(7):
        far, j = min((distances[i, j], j) for j in range(7) if j != i)
        low, high = 0.9 * math.exp(-far), math.exp(-far)
        similar = f"{high:.3f} {low:.3f} to {high:.3f}"
        expected.append((far, f"m{i} m{j} {similar}"))
    rows = table(part(compared(tmp_path, distances, models)), "Nearest relatives")
    places = [rows.find(row) for _, row in sorted(expected)]
    assert -1 not in places
    assert places == sorted(places)


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    """No standard error, and no bounds where nothing was pruned; a similarity above 1 is shown."""
    data = compared(tmp_path, PATHS[:2, :2], {"a": "org/A", "b": "org/B"})
    row = replace(
        data.relatives[0],
        similarity=1.01,
        similarity_low=1.01,
        similarity_high=1.01,
        distance=-0.00995,
        standard_error=None,
    )
    section = part(replace(data, relatives=(row,)))
    assert table(section, "Nearest relatives") == "A B 1.01 −0.00995 –"
    assert "their distance is −0.00995." in words(section)


def test_models_are_grouped_by_family(tmp_path: Path) -> None:
    """In the table, with those of none last; kin that are nearest are counted and marked."""
    data = related(compared(tmp_path), {"a": "x", "b": "x", "c": "w"})
    section = part(data)
    rows = table(section, "Nearest relatives")
    groups = re.findall(r'scope="rowgroup">([^<]*)<', section)
    assert groups == ["w", "x", "of no known family"]
    assert "A-1b B-1b the same family" in rows
    assert rows.count("the same family") == 2
    assert "Of 2 models with kin of the same family here, 2 are nearest to one of them." in words(section)
    without = part(compared(tmp_path / "none"))
    assert "rowgroup" not in without
    assert "kin" not in words(without)


def test_kin_that_are_not_nearest_are_counted(tmp_path: Path) -> None:
    """A family that distances take apart is told as such."""
    section = part(related(compared(tmp_path), {"a": "x", "c": "x", "b": "y", "d": "y"}))
    assert "Of 4 models with kin of the same family here, 0 are nearest to one of them." in words(section)
    assert "the same family" not in table(section, "Nearest relatives")


def test_a_family_has_one_mark(tmp_path: Path) -> None:
    """The same in the unrooted tree and on the map, in whatever order the table of the map is."""
    models = dict(zip("abcd", ("Z", "Y", "X", "W"), strict=True))
    data = related(compared(tmp_path, PATHS, models), {"d": "x", "a": "y", "b": "z"})
    _, unrooted, plane = figures(part(replace(data, places=data.places[::-1])))
    legends = [
        dict(re.findall(r'class="(mark[^"]*)"[^>]*/>\s*<text class="name"[^>]*>([xyz])<', figure))
        for figure in (unrooted, plane)
    ]
    assert legends[0] == legends[1]
    assert sorted(legends[0].values()) == ["x", "y", "z"]


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By their slugs; one without a published name has its slug alone."""
    models = {"a": "org/same", "b": "else/same", "c": "", "d": "org/"}
    section = part(compared(tmp_path, PATHS, models))
    tree = figures(section)[0]
    assert "In the order of the tree: same (a), same (b), c, d." in tree


@pytest.mark.parametrize(
    ("estimator", "formula"),
    [("unbiased", "Σpq / √(Σp² Σq²)"), ("bhattacharyya", "Σ√(pq) over alleles, the mean over genes")],
)
def test_how_it_was_measured_is_told(tmp_path: Path, estimator: str, formula: str) -> None:
    """Genes, alleles and the estimator with its formula."""
    data = compared(tmp_path)
    rows = tuple(replace(row, estimator=estimator, n_genes=1234) for row in data.relatives)
    text = words(part(replace(data, relatives=rows))).replace("&nbsp;", " ")
    assert f"Similarity S is {formula}," in text
    assert f"1,234 genes, with alleles exact/1.0/0.001 and the estimator {estimator} ." in text


def test_predictions_stand_beside_their_baselines(tmp_path: Path) -> None:
    """Every method of a benchmark with what is known of it, in the order of the file; refused ones with the reason."""
    predictions = [
        RIDGE,
        {
            **RIDGE,
            "method": "mean of the other families",
            "rmse": 0.08,
            "skill": 0,
            "skill_low": 0,
            "skill_high": 0,
        },
        {**RIDGE, "method": "ln parameters", "rmse": 0.07, "skill": -0.25, "skill_low": -0.5},
        {**RIDGE, "method": "bits per character", "n": 2, "rmse": "", "refused": "2 models have a rate"},
        {**RIDGE, "method": "bits per character + ridge", "pearson": "", "pearson_low": "", "rmse": 0.04},
    ]
    section = part(compared(tmp_path, predictions=predictions))
    assert table(section, "Predictions from distances") == (
        "PIQA (a study) "
        "distances (ridge) 9 3 r = 0.810 [0.500, 0.930] 0.0500 0.600 [0.200, 0.750] "
        "mean of the other families 9 3 r = 0.810 [0.500, 0.930] 0.0800 0.000 [0.000, 0.000] "
        "ln parameters 9 3 r = 0.810 [0.500, 0.930] 0.0700 −0.250 [−0.500, 0.750] "
        "bits per character 2 3 2 models have a rate "
        "bits per character and distances (ridge) 9 3 – 0.0400 0.600 [0.200, 0.750]"
    )
    assert "Without a prediction" not in section
    assert "it decides, not r, which is below 0 where nothing is told" in words(section)


def test_baselines_are_shown_without_a_prediction_from_distances(tmp_path: Path) -> None:
    """What can be predicted stays, and beside it why distances do not."""
    refused = {**RIDGE, **UNKNOWN, "refused": "distances are all equal"}
    section = part(compared(tmp_path, predictions=[refused, {**RIDGE, "method": "ln parameters"}]))
    assert table(section, "Predictions from distances") == (
        "PIQA (a study) distances (ridge) 9 3 distances are all equal "
        "ln parameters 9 3 r = 0.810 [0.500, 0.930] 0.0500 0.600 [0.200, 0.750]"
    )
    assert "Without a prediction" not in section
    assert "Distances alone" not in words(section)


@pytest.mark.parametrize("method", ["ridge", "ica15-sigmoid"])
@pytest.mark.parametrize(
    ("low", "rivals", "said"),
    [
        (0.2, [], (1, None)),
        (-0.01, [], (0, None)),
        ("", [{"skill_low": 0.1}], (None, None)),  # no resamples, no interval
        (0.2, [{"skill_low": 0.1}], (1, 1)),
        (0.2, [{"skill_low": -0.1}, {"skill_low": 0.3, "method": "bits per character"}], (1, 1)),
        (0.2, [{"skill_low": -0.1}], (1, 0)),
        (-0.2, [{"skill_low": 0.1, "method": "bits per character + ridge"}], (0, None)),
        (0.2, [{"skill_low": 0.0, "method": "mean of the other families"}], (1, None)),
        (0.2, [{**UNKNOWN, "refused": "no size"}], (1, None)),
    ],
)
def test_distances_are_held_against_the_mean_of_the_other_families(
    tmp_path: Path,
    method: str,
    low: float | str,
    rivals: list[dict[str, object]],
    said: tuple[int | None, int | None],
) -> None:
    """By the interval of their skill, not its middle; and so is what knows nothing of them, with either method."""
    own = {**RIDGE, "method": method, "skill_low": low}
    predictions = [own, *({**RIDGE, "method": "ln parameters", **rival} for rival in rivals)]
    text = words(part(compared(tmp_path, predictions=predictions)))
    alone = re.findall(
        r"Distances alone predict (\d) of 1 score better than the mean of the other families", text
    )
    others = re.findall(
        r"By the same measure size, .* predict (\d) of 1 score; whether .* is not tested", text
    )
    assert [alone, others] == [[] if n is None else [str(n)] for n in said]


def test_refused_predictions_are_gathered_by_reason(tmp_path: Path) -> None:
    """Scores that nothing predicts stand in one row for each reason."""
    refused = {**RIDGE, **UNKNOWN, "refused": "2 families; 3 are needed"}
    predictions = [
        refused,
        {**refused, "benchmark": "MMLU"},
        {**refused, "benchmark": "ARC", "refused": "all scores are equal"},
    ]
    section = part(compared(tmp_path, predictions=predictions))
    assert table(section, "Without a prediction") == (
        "2 families; 3 are needed PIQA (a study), MMLU (a study) all scores are equal ARC (a study)"
    )
    assert "Predictions from distances" not in section


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    """Neither of pairs nor of places."""
    data = related(compared(tmp_path), {"a": "x", "b": "x"})
    turned = replace(data, relatives=data.relatives[::-1], places=data.places[::-1])
    assert page.render(turned) == page.render(data)


def test_the_section_is_accessible(tmp_path: Path) -> None:
    """Captions, scopes, descriptions, and names of regions that scroll; nothing runs."""
    results, corpora = write_inputs(tmp_path)
    write_measured_entropies(results, 6)
    write_measured_relatives(results, 6)
    section = part(read(results, corpora, NAMES))
    seen = Tags(section).seen
    tags = [tag for tag, _ in seen]
    assert tags.count("table") == tags.count("caption") == 3
    assert tags.count("svg") == tags.count("desc") == 3
    assert all(attributes.get("scope") for tag, attributes in seen if tag == "th")
    labels = [attributes["aria-label"] for _, attributes in seen if "tabindex" in attributes]
    assert len(labels) == len(set(labels)) == 6
    assert "script" not in tags


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("relatives.csv", ",distance,", ",far,", "it has no column 'distance'"),
        ("relatives.csv", "b,org/B-1b,exact", "a,org/B-1b,exact", "a and a: it compares a model with itself"),
        ("relatives.csv", "a,org/A-1b,d", "d,org/A-1b,a", ""),
        ("relatives.csv", "c,org/C-1b,d,", "a,org/C-1b,d,", "a and d: it compares these two twice"),
        ("relatives.csv", "c,org/C-1b,d,", "c,org/C-1b,e,", "it does not compare a and e"),
        ("relatives.csv", "D-1b,exact/1.0/0.001", "D-1b,exact/1.0/0.1", "distances of two kinds do not compare"),
        ("relatives.csv", "D-1b,exact/1.0/0.001,unbiased", "D-1b,exact/1.0/0.001,plug-in", "its 'estimator' is"),
        ("relatives.csv", ",12.0,", ",inf,", "column 'distance': inf is no finite measurement"),
        ("map.csv", "\nd,", "\nc,", "its models are not those of relatives.csv, each once"),
        ("map.csv", "\nd,", "\ne,", "its models are not those of relatives.csv, each once"),
        ("tree.json", '"d"', '"c"', "its models are not those of relatives.csv, each once"),
        ("tree.json", '"midpoint"', '"a"', "it holds no tree with a root at its midpoint"),
        ("tree.json", '"tree"', '"trees"', "it holds no tree with a root at its midpoint"),
        ("tree.json", '"length": 2.0', '"length": "2"', "is no node of a tree"),
        ("tree.json", '"length": 2.0', '"length": 2e12', "a length in it is no finite measurement"),
        ("tree.json", "0.0123", "NaN", "a length in it is no finite measurement"),
        ("tree.json", '"negative_branches": []', '"negative_branches": ["x"]', "a length in it is no finite"),
        ("tree.json", '"negative_branches": []', '"negative_branches": {}', "it holds no tree with a root"),
        ("tree.json", "{", "[" * 100_000, "tree.json cannot be read"),
        ("predictions.csv", "ridge,9", "ridge,nine", "line 2, column 'n'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named(tmp_path: Path, name: str, old: str, new: str, why: str) -> None:
    """Tables and tree speak of the same models, each two once and in one way; else the file is named."""
    results, corpora = write_inputs(tmp_path)
    write_compared(results, PATHS, MODELS, [RIDGE])
    rewrite(results / name, old, new)
    if not why:  # which of a pair stands first is no matter
        assert read(results, corpora, NAMES)
        return
    with pytest.raises(UserError, match=rf"{name} cannot be read: .*; rebuild it with `dvc repro`") as error:
        read(results, corpora, NAMES)
    assert why in str(error.value)


def test_models_without_their_tree_are_refused(tmp_path: Path) -> None:
    """And a tree without its models."""
    results, corpora = write_inputs(tmp_path)
    write_compared(results, PATHS, MODELS)
    tree = (results / "tree.json").read_text()
    (results / "tree.json").write_text("{}")
    with pytest.raises(UserError, match=r"tree\.json cannot be read: it holds no tree"):
        read(results, corpora, NAMES)
    write_compared(results, np.zeros((0, 0)), {})
    (results / "tree.json").write_text(tree)
    with pytest.raises(UserError, match=r"tree\.json cannot be read: its models are not those of relatives"):
        read(results, corpora, NAMES)


def test_additional_columns_and_facts_are_left_alone(tmp_path: Path) -> None:
    """A later version of the pipeline may write more."""
    results, corpora = write_inputs(tmp_path)
    write_compared(results, PATHS, MODELS)
    before = page.render(read(results, corpora, NAMES))
    facts = json.loads((results / "tree.json").read_text())
    (results / "tree.json").write_text(json.dumps({**facts, "replicates": 100}))
    with (results / "map.csv").open(newline="", encoding="utf-8") as file:
        rows = [{**row, "z": 0} for row in csv.DictReader(file)]
    write_csv(results / "map.csv", rows)
    assert page.render(read(results, corpora, NAMES)) == before
