"""Trees: recovered where the distances have one, equal to the method as first published where they do not."""

import itertools
import json
import math
import random
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from collectors.document import UserError
from evaluate import trees
from evaluate.trees import Tree

Array = NDArray[np.float64]
Edges = dict[int, dict[int, float]]

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 18)


def named(n: int, rng: random.Random) -> list[str]:
    """Return n labels in an order that is not theirs."""
    return rng.sample([f"m{i:03}" for i in range(n)], n)


def walks(edges: Edges, n: int) -> Array:
    """Return the lengths of the paths between the first n nodes of a tree, walked one by one."""
    paths = np.zeros((n, n))
    for start in range(n):
        waiting = [(start, start, 0.0)]
        while waiting:
            node, before, walked = waiting.pop()
            if node < n:
                paths[start, node] = walked
            waiting += [(other, node, walked + far) for other, far in edges[node].items() if other != before]
    return paths


def halves(groups: list[frozenset[str]], labels: list[str]) -> set[frozenset[str]]:
    """Return the splits that groups of labels make: no single label, the side without the first."""
    sides = {frozenset(labels) - group if min(labels) in group else group for group in groups}
    return {side for side in sides if 2 <= len(side) <= len(labels) - 2}


def grown(n: int, rng: random.Random) -> tuple[list[str], Array, set[frozenset[str]]]:
    """Return labels, path lengths and splits of a random binary tree with branches of 0.01 to 1."""
    labels = named(n, rng)
    edges: Edges = {i: {} for i in range(n)}
    groups = {i: frozenset([label]) for i, label in enumerate(labels)}
    loose = list(range(n))
    while len(loose) > 1:
        new = len(edges)
        edges[new] = {}
        pair = rng.sample(loose, 2)
        for node in pair:
            edges[new][node] = edges[node][new] = rng.uniform(0.01, 1)
        groups[new] = groups[pair[0]] | groups[pair[1]]
        loose = [node for node in loose if node not in pair] + [new]
    return labels, walks(edges, n), halves(list(groups.values()), labels)


def noisy(n: int, rng: random.Random) -> tuple[list[str], Array]:
    """Return distances that fit no tree."""
    matrix = np.array([[rng.random() for _ in range(n)] for _ in range(n)])
    matrix += matrix.T
    np.fill_diagonal(matrix, 0)
    return named(n, rng), matrix


def joined(n: int, seed: int) -> tuple[Tree, list[str], Array]:
    """Return the tree of distances that fit none, with what it was made of."""
    labels, matrix = noisy(n, random.Random(seed))
    return trees.neighbour_joining(matrix, labels), labels, matrix


def all_branches(far: dict[tuple[int, int], float], units: list[int], pair: tuple[int, int]) -> float:
    """Return how long all branches are together if a pair is joined and the rest is a star (eq. 4)."""
    i, j = pair
    rest = [k for k in units if k not in pair]
    to_rest = sum(far[i, k] + far[j, k] for k in rest) / (2 * len(rest))
    return to_rest + far[i, j] / 2 + sum(far[k, h] for k, h in itertools.combinations(rest, 2)) / len(rest)


def published(matrix: Array, labels: list[str]) -> tuple[Array, set[frozenset[str]]]:
    """Neighbour joining as Saitou & Nei wrote it in 1987, with its sums and mean distances, pair by pair.

    The distance of a pair is the mean of both, so that a branch to a pair is longer by half of what the
    pair was apart.
    """
    n = len(labels)
    far = {(i, j): float(matrix[i, j]) for i in range(n) for j in range(n)}
    groups = {i: frozenset([label]) for i, label in enumerate(labels)}
    inside = dict.fromkeys(range(n), 0.0)
    edges: Edges = {i: {} for i in range(n)}
    units = list(range(n))

    def branch(a: int, b: int, length: float) -> None:
        edges[a][b] = edges[b][a] = length

    while len(units) > 3:
        m = len(units)
        i, j = min(itertools.combinations(units, 2), key=partial(all_branches, far, units))
        rest = [k for k in units if k not in (i, j)]
        i_rest, j_rest = (sum(far[a, k] for k in rest) / (m - 2) for a in (i, j))
        new = len(edges)
        edges[new] = {}
        branch(new, i, (far[i, j] + i_rest - j_rest) / 2 - inside[i])
        branch(new, j, (far[i, j] + j_rest - i_rest) / 2 - inside[j])
        for k in rest:
            far[new, k] = far[k, new] = (far[i, k] + far[j, k]) / 2
        inside[new] = far[i, j] / 2
        groups[new] = groups[i] | groups[j]
        units = [*rest, new]
    a, b, c = units
    new = len(edges)
    edges[new] = {}
    for x, y, z in ((a, b, c), (b, c, a), (c, a, b)):
        branch(new, x, (far[x, y] + far[x, z] - far[y, z]) / 2 - inside[x])
    return walks(edges, n), halves(list(groups.values()), labels)


def test_the_example_of_the_method() -> None:
    """Five models whose tree is known: every branch comes out with its length."""
    a, b, c, d, e = np.eye(5)
    branches = [(2, a), (3, b), (4, c), (2, d), (1, e), (3, a + b), (2, d + e)]
    matrix = sum(
        (length * np.abs(side[:, None] - side[None, :]) for length, side in branches), np.zeros((5, 5))
    )
    tree = trees.neighbour_joining(matrix, list("abcde"))
    assert trees.newick(tree) == "(d:2,e:1,(c:4,(a:2,b:3):3):2);"
    assert trees.newick(trees.rooted_by(tree, "c")) == "(c:2,((a:2,b:3):3,(d:2,e:1):2):2);"


@given(sizes, seeds)
def test_a_tree_is_recovered_from_its_paths(n: int, seed: int) -> None:
    """Of additive distances, splits and path lengths are exact."""
    labels, matrix, splits = grown(n, random.Random(seed))
    tree = trees.neighbour_joining(matrix, labels)
    assert trees.splits(tree) == splits
    assert trees.path_distances(tree, labels) == pytest.approx(matrix, abs=1e-9)
    assert not trees.negative_branches(tree)


@given(st.integers(3, 12), seeds)
def test_distances_of_no_tree_give_the_published_one(n: int, seed: int) -> None:
    """Criterion, distances and lengths of 1987, summed pair by pair, give the same splits and paths."""
    tree, labels, matrix = joined(n, seed)
    paths, splits = published(matrix, labels)
    assert halves(list(trees.clades(tree).values()), labels) == splits
    assert trees.path_distances(tree, labels) == pytest.approx(paths, abs=1e-9)


@given(sizes, seeds, st.booleans())
def test_the_order_of_rows_changes_nothing(n: int, seed: int, ties: bool) -> None:
    """To the last digit, and where many pairs are equally close."""
    rng = random.Random(seed)
    labels, matrix = noisy(n, rng)
    if ties:
        matrix = np.round(matrix)
        np.fill_diagonal(matrix, 0)
    order = rng.sample(range(n), n)
    other = trees.neighbour_joining(matrix[np.ix_(order, order)], [labels[i] for i in order])
    tree = trees.neighbour_joining(matrix, labels)
    assert trees.newick(tree) == trees.newick(other)
    assert trees.newick(trees.midpoint_rooted(tree)) == trees.newick(trees.midpoint_rooted(other))


def test_equal_pairs_join_in_the_order_of_their_labels() -> None:
    """Six models equally far from one another: the first two are a pair, which is no split."""
    tree = trees.neighbour_joining(1 - np.eye(6), list("fbdeca"))
    assert frozenset("ab") in trees.clades(tree).values()
    assert trees.splits(tree) == set()
    assert trees.path_distances(tree, list("abcdef")) == pytest.approx(1 - np.eye(6))


@pytest.mark.parametrize(
    ("matrix", "tree"),
    [
        ([[0]], "a;"),
        ([[0, 3], [3, 0]], "(a:1.5,b:1.5);"),
        ([[0, 3, 4], [3, 0, 5], [4, 5, 0]], "(a:1,b:2,c:3);"),
        ([[0, 0], [0, 0]], "(a:0,b:0);"),
    ],
)
def test_few_models_have_a_tree(matrix: list[list[float]], tree: str) -> None:
    """One is a leaf, two share a branch, three meet in the middle."""
    assert trees.newick(trees.neighbour_joining(np.array(matrix, float), list("abc")[: len(matrix)])) == tree


def test_negative_branches_are_kept_and_told() -> None:
    """Where a way round is shorter than the way, no tree fits; the paths of three models still do."""
    matrix = np.array([[0, 1, 1], [1, 0, 3], [1, 3, 0]], float)
    tree = trees.neighbour_joining(matrix, list("abc"))
    assert trees.newick(tree) == "(a:-0.5,b:1.5,c:1.5);"
    assert trees.negative_branches(tree) == [-0.5]
    assert trees.path_distances(tree, list("abc")) == pytest.approx(matrix)
    assert trees.path_distances(trees.midpoint_rooted(tree), list("abc")) == pytest.approx(matrix)
    rounded = Tree(children=(Tree(name="a", length=-1e-15), Tree(name="b", length=1)))
    assert trees.negative_branches(rounded) == []


def test_decimals_of_a_file_are_no_asymmetry() -> None:
    """The mean of both ways is taken where they differ by less than one in a million."""
    matrix = trees.symmetric(np.array([[0, 1], [1.0000004, 0]]), list("ab"))
    assert matrix == pytest.approx(np.array([[0, 1.0000002], [1.0000002, 0]]), abs=1e-12)
    assert (matrix == matrix.T).all()


def test_rounding_of_zero_is_no_asymmetry() -> None:
    """Where all entries are 0 but for what a logarithm left."""
    matrix = trees.symmetric(np.array([[0, 0], [-1e-17, 0]]), list("ab"))
    assert matrix == pytest.approx(np.zeros((2, 2)), abs=1e-16)


def test_large_distances_make_a_tree() -> None:
    """The largest that are taken overflow nowhere, squared or summed."""
    matrix = 0.99e150 * (1 - np.eye(5))
    tree = trees.midpoint_rooted(trees.neighbour_joining(matrix, list("abcde")))
    assert trees.path_distances(tree, list("abcde")) == pytest.approx(matrix)
    assert trees.path_error(tree, matrix, list("abcde")) < 1e140
    assert np.isfinite(trees.classical_mds(matrix)[0]).all()


@given(sizes, seeds)
def test_the_midpoint_halves_the_longest_path(n: int, seed: int) -> None:
    """Two leaves on different sides of the root are half the longest path away, and no leaf is farther."""
    labels, matrix, splits = grown(n, random.Random(seed))
    tree = trees.midpoint_rooted(trees.neighbour_joining(matrix, labels))
    depths = [trees.path_distances(Tree(children=(tree, Tree(name="-"))), [*labels, "-"])[-1, :-1]]
    assert max(depths[0]) == pytest.approx(matrix.max() / 2)
    sides = [max(depths[0][labels.index(name)] for name in trees.leaves(child)) for child in tree.children]
    assert sorted(sides)[-2] == pytest.approx(matrix.max() / 2)
    assert trees.splits(tree) == splits
    assert trees.path_distances(tree, labels) == pytest.approx(matrix, abs=1e-9)


def test_a_midpoint_on_a_node_adds_none() -> None:
    """Where the middle is a node already, it becomes the root; of equal models too."""
    star = Tree(children=tuple(Tree(name=name, length=2) for name in "abcd"))
    assert trees.newick(trees.midpoint_rooted(star)) == "(a:2,b:2,c:2,d:2);"
    assert trees.newick(trees.midpoint_rooted(trees.rooted_by(star, "a"))) == "(a:2,b:2,c:2,d:2);"
    same = trees.neighbour_joining(np.zeros((4, 4)), list("abcd"))
    assert trees.path_distances(trees.midpoint_rooted(same), list("abcd")) == pytest.approx(np.zeros((4, 4)))


@given(sizes, seeds)
def test_an_outgroup_is_alone_on_its_side(n: int, seed: int) -> None:
    """Of a tree with any root, and its branch is halved; paths and splits stay."""
    tree, labels, _ = joined(n, seed)
    rooted = trees.rooted_by(trees.midpoint_rooted(tree), labels[0])
    alone, rest = sorted(rooted.children, key=lambda child: child.name != labels[0])
    assert alone.name == labels[0]
    assert alone.length == pytest.approx(rest.length)
    assert trees.robinson_foulds(tree, rooted) == 0
    assert trees.path_distances(rooted, labels) == pytest.approx(trees.path_distances(tree, labels))
    with pytest.raises(UserError, match="no model is named 'x'; root by one of m000"):
        trees.rooted_by(tree, "x")


def four(first: str, second: str) -> Tree:
    """Return a tree of four leaves in two pairs."""
    pairs = (
        Tree(length=1, children=tuple(Tree(name=name, length=1) for name in two)) for two in (first, second)
    )
    return Tree(children=tuple(pairs))


def test_distance_between_trees_counts_splits() -> None:
    """Two trees of four leaves share their only split or neither's; a root changes nothing."""
    assert trees.robinson_foulds(four("ab", "cd"), four("dc", "ba")) == 0
    assert trees.robinson_foulds(four("ab", "cd"), four("ac", "bd")) == 2
    assert trees.robinson_foulds(four("ab", "cd"), trees.rooted_by(four("ab", "cd"), "c")) == 0
    star = Tree(children=tuple(Tree(name=name, length=1) for name in "abcd"))
    assert trees.robinson_foulds(four("ab", "cd"), star) == 1
    with pytest.raises(UserError, match="only one has d, e"):
        trees.robinson_foulds(four("ab", "cd"), four("ab", "ce"))


@given(st.integers(4, 14), seeds, seeds)
def test_distance_between_trees_is_a_metric_within_its_bound(n: int, seed: int, other: int) -> None:
    """Symmetric, 0 for the same, and at most all inner branches of both."""
    a, b = joined(n, seed)[0], joined(n, other)[0]
    assert trees.robinson_foulds(a, a) == 0
    assert trees.robinson_foulds(a, b) == trees.robinson_foulds(b, a) <= 2 * (n - 3)


def test_support_is_the_share_of_replicates_with_the_clade() -> None:
    """Three of four have it; leaves, and the top, have none."""
    replicates = [four("ab", "cd"), four("ac", "bd"), four("ba", "dc"), four("ab", "cd")]
    tree = trees.with_support(four("ab", "cd"), iter(replicates))
    assert trees.newick(tree) == "((a:1,b:1)0.75:1,(c:1,d:1)0.75:1);"
    assert tree.support is None
    assert trees.newick(trees.with_support(tree, [])) == "((a:1,b:1):1,(c:1,d:1):1);"
    with pytest.raises(UserError, match="replicate 2 has other models"):
        trees.with_support(tree, [tree, four("ab", "ce")])


def one_by_one(*sizes: int, far: float) -> Array:
    """Return distances of models that are the same within groups of these sizes, and far apart else."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    return np.where(group[:, None] != group, far, 0.0)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_no_order_of_labels_is_a_clade(scale: float) -> None:
    """Of two models under three names each, one split has support, and none that labels would choose.

    Nor is there any where all are one model, or all equally far apart; at any scale of the distances.
    """
    labels, rng = list("abcdef"), np.random.default_rng(0)
    far = scale * rng.uniform(0.5, 2, size=20)
    for sizes, clades in (
        ((3, 3), {frozenset("def")}),
        ((6,), set()),
        ((1,) * 6, set()),
        ((5, 1), set()),
    ):
        replicates = [trees.neighbour_joining(one_by_one(*sizes, far=f), labels) for f in far]
        tree = trees.with_support(trees.neighbour_joining(one_by_one(*sizes, far=scale), labels), replicates)
        rooted = trees.midpoint_rooted(tree)
        assert trees.splits(tree) == trees.splits(rooted) == clades
        assert {node.support for node in trees.nodes(rooted)} == ({None, 1.0} if clades else {None})


def test_a_replicate_without_the_branch_does_not_support_it() -> None:
    """Where it has no length, or a negative one, the order of labels or a misfit made it."""
    resolved, star = four("ab", "cd"), trees.neighbour_joining(1 - np.eye(4), list("abcd"))
    bent = Tree(children=tuple(replace(child, length=-1) for child in resolved.children))
    assert any(clade == frozenset("ab") for clade in trees.clades(star).values())
    supports = {
        node.support for node in trees.nodes(trees.with_support(resolved, [resolved, star, bent, star]))
    }
    assert supports == {None, 0.25}
    assert {node.support for node in trees.nodes(trees.with_support(bent, [resolved]))} == {None}


@given(st.integers(4, 14), seeds)
def test_support_stays_with_its_branch_under_any_root(n: int, seed: int) -> None:
    """A support belongs to a split, not to the node below it."""
    rng = random.Random(seed)
    tree, labels, matrix = joined(n, seed)
    replicates = []
    for _ in range(5):
        noise = np.triu(np.array([[rng.random() for _ in labels] for _ in labels]), 1)
        replicates.append(trees.neighbour_joining(matrix + noise + noise.T, labels))
    tree = trees.with_support(tree, replicates)

    def supports(tree: Tree) -> set[tuple[frozenset[str], float]]:
        sides = ((halves([below], labels), node.support) for node, below in trees.clades(tree).items())
        return {(side, support) for found, support in sides for side in found if support is not None}

    held = [trees.splits(replicate) for replicate in replicates]
    expected = {(split, sum(split in one for one in held) / 5) for split in trees.splits(tree)}
    for rooted in (tree, trees.midpoint_rooted(tree), trees.rooted_by(tree, labels[-1])):
        assert supports(rooted) == expected


def test_both_sides_of_a_root_are_one_branch() -> None:
    """Each says the support of it; told on one side alone, it is not lost under another root."""
    pairs = [
        Tree(length=1, support=share, children=four(two, "xy").children[0].children)
        for two, share in (("ab", None), ("cd", 0.5))
    ]
    for first, second in (pairs, pairs[::-1]):
        tree = trees.rooted_by(Tree(children=(first, second)), "a")
        assert trees.newick(tree) == "(a:0.5,(b:1,(c:1,d:1)0.5:2):0.5);"
        assert trees.newick(trees.midpoint_rooted(tree)) == "((a:1,b:1)0.5:1,(c:1,d:1)0.5:1);"


Parsed = tuple[str, float, list["Parsed"]]


def parsed(text: str) -> Parsed:
    """Read Newick by its grammar: nested (label, length, children)."""
    tokens = re.findall(r"'(?:[^']|'')*'|[(),:;]|[^\s(),:;']+", text)
    assert "".join(tokens) == text

    def node() -> Parsed:
        children = []
        if tokens[0] == "(":
            while tokens.pop(0) in "(,":
                children.append(node())
                if tokens[0] == ")":
                    tokens.pop(0)
                    break
        label = "" if tokens[0] in (",", ")", ":", ";") else tokens.pop(0)
        label = label[1:-1].replace("''", "'") if label.startswith("'") else label.replace("_", " ")
        length = float(tokens[1]) if tokens[0] == ":" else 0.0
        del tokens[: 2 if tokens[0] == ":" else 0]
        return label, length, children

    found = node()
    assert tokens == [";"]
    return found


@given(st.lists(st.text(min_size=1), min_size=1, max_size=9, unique=True), seeds)
def test_newick_can_be_read_back(labels: list[str], seed: int) -> None:
    """Any label, and every length to ten digits, in the same order."""
    matrix = noisy(len(labels), random.Random(seed))[1]
    tree = trees.neighbour_joining(matrix, labels)

    def same(node: Tree, found: Parsed) -> None:
        assert found[0] == node.name
        assert found[1] == pytest.approx(node.length, rel=1e-9, abs=1e-12)
        for child, other in zip(node.children, found[2], strict=True):
            same(child, other)

    same(tree, parsed(trees.newick(tree)))


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("Qwen1.5-72B", "Qwen1.5-72B"),
        ("my model", "'my model'"),
        ("llama (7b)", "'llama (7b)'"),
        ("O'Brien", "'O''Brien'"),
        ("a,b", "'a,b'"),
        ("a:b", "'a:b'"),
        ("a;b", "'a;b'"),
        ("[x]", "'[x]'"),
        ("open_chat", "'open_chat'"),
        ("größe", "'größe'"),
    ],
)
def test_labels_are_quoted_where_newick_would_take_them_apart(label: str, written: str) -> None:
    """An underscore too: without quotes it is a blank."""
    assert trees.newick(Tree(name=label)) == f"{written};"


def test_a_ladder_of_a_thousand_models_is_no_trouble() -> None:
    """Nothing here calls itself once for each level."""
    tree = Tree(name="m0000", length=1)
    for i in range(1, 1200):
        tree = Tree(length=1, children=(tree, Tree(name=f"m{i:04}", length=1)))
    rooted = trees.rooted_by(tree, "m0000")
    assert trees.leaves(rooted)[0] == "m0000"
    assert len(trees.splits(trees.with_support(rooted, [tree]))) == 1200 - 3
    assert trees.newick(rooted).count("(") == 1199


@given(sizes, seeds)
def test_a_tree_comes_back_from_json(n: int, seed: int) -> None:
    """With every name, length and support, through the text that a file holds."""
    labels, paths, _ = grown(n, random.Random(seed))
    tree = trees.neighbour_joining(paths, labels)
    tree = trees.midpoint_rooted(trees.with_support(tree, [tree]))
    written = json.dumps(trees.as_json(tree))
    back = trees.from_json(json.loads(written))
    assert json.dumps(trees.as_json(back)) == written
    assert trees.newick(back) == trees.newick(tree)


def test_json_of_a_tree_is_nested() -> None:
    """One object for each node, with all four of its facts."""
    tree = Tree(
        children=(Tree(name="a", length=1.5), Tree(length=2, support=0.5, children=(Tree(name="b"),)))
    )
    leaf = {"name": "b", "length": 0.0, "support": None, "children": []}
    assert trees.as_json(tree) == {
        "name": "",
        "length": 0.0,
        "support": None,
        "children": [
            {"name": "a", "length": 1.5, "support": None, "children": []},
            {"name": "", "length": 2, "support": 0.5, "children": [leaf]},
        ],
    }


def test_a_deep_tree_comes_back_from_json() -> None:
    """Deeper than Python calls itself."""
    tree = Tree(name="m0")
    for i in range(1, 3000):
        tree = Tree(children=(tree, Tree(name=f"m{i}", length=i)))
    assert trees.newick(trees.from_json(trees.as_json(tree))) == trees.newick(tree)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": 1},
        {"length": "1"},
        {"length": True},
        {"length": math.nan},
        {"length": -math.inf},
        {"length": 10**400},
        {"support": 1.5},
        {"support": math.nan},
        {"support": True},
        {"children": None},
        {"children": [{"name": "b", "length": 1, "support": None, "children": []}]},
        {"children": ["b"], "name": ""},
        {"children": [{}], "name": ""},
    ],
)
def test_json_that_is_no_tree_is_refused(change: dict[str, object]) -> None:
    """Below the top too: a leaf has a name and no children, and numbers are finite."""
    leaf: dict[str, object] = {"name": "a", "length": 1, "support": 0.5, "children": []}
    top = {"name": "", "length": 0, "support": None}
    assert trees.leaves(trees.from_json({**top, "children": [leaf]})) == ["a"]
    with pytest.raises(UserError, match="is no node of a tree; write trees with `as_json`") as error:
        trees.from_json({**top, "children": [{**leaf, **change}]})
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@given(st.integers(1, 12), seeds)
def test_points_of_a_plane_are_mapped_as_they_lie(n: int, seed: int) -> None:
    """Up to rotation and reflection: their distances come back, and two axes show all there is."""
    points = np.random.default_rng(seed).normal(size=(n, 2))
    coordinates, shares = trees.classical_mds(cdist(points, points))
    assert cdist(coordinates, coordinates) == pytest.approx(cdist(points, points), abs=1e-6)
    assert coordinates.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert shares[0] >= shares[1] >= 0
    assert shares.sum() == pytest.approx(1 if n > 1 else 0)
    assert all(axis.max() >= -axis.min() - 1e-9 for axis in coordinates.T)


def test_what_a_map_cannot_show_is_missing_from_its_shares() -> None:
    """Four corners of a tetrahedron need three equal axes; a way round shorter than the way needs none."""
    assert trees.classical_mds(1 - np.eye(4), 3)[1] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert trees.classical_mds(1 - np.eye(4), 2)[1].sum() == pytest.approx(2 / 3)
    bent = np.array([[0, 1, 1], [1, 0, 3], [1, 3, 0]], float)
    coordinates, shares = trees.classical_mds(bent)
    # Of -J D² J / 2 the eigenvalues are 9/2, along b and c, and -5/6, along a against both.
    assert shares == pytest.approx([4.5 / (4.5 + 5 / 6), 0])
    assert np.abs(coordinates[:, 0]) == pytest.approx([0, 1.5, 1.5])


@pytest.mark.parametrize(
    ("matrix", "labels", "message"),
    [
        ([[0, 1]], "ab", "2 models need a matrix of 2 rows"),
        ([], "", "0 models need a matrix"),
        ([[0, 1], [1, 0]], "aa", "'a' is empty or stands twice"),
        ([[0, math.nan], [math.nan, 0]], "ab", "between a and b stands nan"),
        ([[0, math.inf], [math.inf, 0]], "ab", "between a and b stands inf"),
        ([[0, 1.7e308], [1.7e308, 0]], "ab", r"between a and b stands 1.7e\+308; .*, below 1e\+150"),
        ([[0, 1], [1.1, 0]], "ab", "from a to b it is 1, and back 1.1"),
        ([[0, 1], [1, 0.5]], "ab", "from b to itself it is 0.5"),
    ],
)
def test_a_matrix_that_is_none_is_refused(matrix: list[list[float]], labels: str, message: str) -> None:
    """The message names the models, the value and the rule."""
    with pytest.raises(UserError, match=message):
        trees.neighbour_joining(np.array(matrix, float), list(labels))
