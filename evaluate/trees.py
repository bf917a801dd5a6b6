"""Trees of models from their distances: neighbour joining, roots, support, Newick; and a map.

Neighbour joining is Saitou & Nei 1987 (Mol. Biol. Evol. 4:406) as Studier & Keppler 1988 (5:729) put it.
A tree is unrooted, its top only where it is written down from, until `midpoint_rooted` or `rooted_by`
gives it a root. Every tree is written with small clades first and equal ones by their first label, so
that the order of rows changes nothing. One always comes out, of models with no common ancestor too: what
it does not fit shows in `negative_branches`, `path_distances` and the support of its clades.
"""

import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError

Array = NDArray[np.float64]

_ROUNDING = 1e-6  # of the largest entry: what decimals of a file may cost in symmetry
_TIE = 1e-12  # of the largest criterion: what the order of a sum may change
_NO_LENGTH = 1e-9  # of the longest branch: what rounding makes of a branch of length 0
_NOTHING = 1e-12  # what rounding makes of 0 where no other entry shows the scale
_ENDLESS = 1e150  # beyond it squares of lengths, and sums of these, are no numbers
_PLAIN = re.compile(r"[A-Za-z0-9.+-]+")  # what every reader of Newick takes as it stands


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tree:
    """A node with all that hangs from it; compared by identity, for equal nodes are different places.

    Attributes:
        name: label of a leaf, empty for inner nodes.
        length: of the branch to the node above, in units of the distances; may be negative; 0 at the top.
        support: share of replicate trees with the split of that branch, from 0 to 1; None where unknown.
        children: nodes below, none for a leaf.
    """

    name: str = ""
    length: float = 0.0
    support: float | None = None
    children: tuple["Tree", ...] = ()


@dataclass(slots=True)
class _Graph:
    """The same tree without a top: each node's name, and its branches (length, support) by neighbour."""

    names: list[str] = field(default_factory=list)
    branches: list[dict[int, tuple[float, float | None]]] = field(default_factory=list)

    def add(self, name: str = "") -> int:
        self.names.append(name)
        self.branches.append({})
        return len(self.names) - 1

    def join(self, a: int, b: int, length: float, support: float | None = None) -> None:
        self.branches[a][b] = self.branches[b][a] = (length, support)

    def cut(self, a: int, b: int) -> tuple[float, float | None]:
        del self.branches[b][a]
        return self.branches[a].pop(b)


def symmetric(matrix: Array, labels: Sequence[str]) -> Array:
    """Return a matrix [n, n] between labelled models, made exactly symmetric.

    Raises:
        UserError: it is not square with one label each, a label stands twice, an entry is not finite or
            1e150 or more, or the two entries of a pair differ by more than rounding.
    """
    n = len(labels)
    if matrix.shape != (n, n) or not n:
        raise UserError(
            f"{n} models need a matrix of {n} rows and columns, of one or more; not {matrix.shape}"
        )
    twice = [label for label, count in Counter(labels).items() if count > 1 or not label]
    if twice:
        raise UserError(f"the label {twice[0]!r} is empty or stands twice; give each model its own name")
    endless = ~(np.abs(matrix) < _ENDLESS)
    if endless.any():
        i, j = map(int, np.argwhere(endless)[0])
        raise UserError(
            f"between {labels[i]} and {labels[j]} stands {matrix[i, j]}; give a finite number, below {_ENDLESS:g}"
        )
    gap = np.abs(matrix - matrix.T)
    if gap.max() > max(_ROUNDING * np.abs(matrix).max(), _NOTHING):
        i, j = divmod(int(gap.argmax()), n)
        raise UserError(
            f"from {labels[i]} to {labels[j]} it is {matrix[i, j]:.6g}, and back {matrix[j, i]:.6g}; "
            "give a symmetric matrix, such as the mean of both ways"
        )
    return np.asarray((matrix + matrix.T) / 2)


def neighbour_joining(distances: Array, labels: Sequence[str]) -> Tree:
    """Return the unrooted neighbour-joining tree: three branches meet at its top, two or none for n < 3.

    The distances are [n, n], symmetric with a zero diagonal, between n labels, each there once.
    The pair with the least (n - 2) d_ij - sum_k d_ik - sum_k d_jk is joined; of equal pairs, the first in
    the order of labels (of a joined pair, its first). Branches come out negative where the distances fit no
    tree; they are kept, so that paths keep their lengths.

    Raises:
        UserError: as `symmetric`, or the diagonal is not zero.
    """
    distances = symmetric(distances, labels)
    for label, entry in zip(labels, np.diagonal(distances), strict=True):
        if entry:
            raise UserError(f"from {label} to itself it is {entry:.6g}; a distance is 0 there")
    order = sorted(range(len(labels)), key=labels.__getitem__)
    distances = distances[np.ix_(order, order)]
    graph = _Graph()
    waiting = [graph.add(labels[i]) for i in order]
    while len(waiting) > 3:
        sums = distances.sum(axis=1)
        criterion = (len(waiting) - 2) * distances - (sums[:, None] + sums[None, :])
        tie = _TIE * np.abs(criterion).max()
        np.fill_diagonal(criterion, np.inf)
        i, j = divmod(int(np.argmax(criterion <= criterion.min() + tie)), len(waiting))
        middle, skew = distances[i, j] / 2, (sums[i] - sums[j]) / (2 * (len(waiting) - 2))
        joined = graph.add()
        graph.join(joined, waiting[i], float(middle + skew))
        graph.join(joined, waiting[j], float(middle - skew))
        waiting[i] = joined
        del waiting[j]
        distances[i] = distances[:, i] = (distances[i] + distances[j]) / 2 - middle
        distances[i, i] = 0
        distances = np.delete(np.delete(distances, j, axis=0), j, axis=1)
    if len(waiting) == 1:
        return _hung(graph, waiting[0])
    if len(waiting) == 2:
        graph.join(0, 1, float(distances[0, 1]))
        return _rooted(graph, 0, 1, float(distances[0, 1]) / 2)
    top = graph.add()
    for i, node in enumerate(waiting):
        j, k = (i + 1) % 3, (i + 2) % 3
        graph.join(top, node, float(distances[i, j] + distances[i, k] - distances[j, k]) / 2)
    return _hung(graph, top)


def midpoint_rooted(tree: Tree) -> Tree:
    """Return the tree with its root halfway along the longest path between two leaves (Farris 1972).

    That is where the ancestor lies if all models changed at the same pace. Support stays with its branch.
    """
    graph, names = _unrooted(tree), leaves(tree)
    if len(names) < 2:
        return tree
    paths = path_distances(tree, names)
    np.fill_diagonal(paths, -np.inf)
    end, start = (graph.names.index(names[i]) for i in divmod(int(paths.argmax()), len(names)))
    half = float(paths.max()) / 2
    walked, slack = 0.0, 1e-9 * abs(half)
    above, b = _above(graph, start), end
    while True:
        a, b = b, above[b]
        length, _ = graph.branches[a][b]
        walked += length
        if b == start or walked >= half - slack:
            break
    if abs(walked - half) <= slack and not graph.names[b]:
        return _hung(graph, b)
    return _rooted(graph, a, b, min(max(half - walked + length, 0.0), length))


def rooted_by(tree: Tree, outgroup: str) -> Tree:
    """Return the tree with its root in the middle of the branch of one leaf. Support stays with its branch.

    Raises:
        UserError: no leaf has that label.
    """
    if outgroup not in leaves(tree):
        raise UserError(f"no model is named {outgroup!r}; root by one of {', '.join(sorted(leaves(tree)))}")
    graph = _unrooted(tree)
    leaf = graph.names.index(outgroup)
    for neighbour, (length, _) in graph.branches[leaf].items():
        return _rooted(graph, leaf, neighbour, length / 2)
    return tree  # of one leaf


def nodes(tree: Tree) -> Iterator[Tree]:
    """Yield every node, each before those below it, in the order in which the tree is written."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.children))


def leaves(tree: Tree) -> list[str]:
    """Return the labels in the order in which the tree is written."""
    return [node.name for node in nodes(tree) if not node.children]


def clades(tree: Tree) -> dict[Tree, frozenset[str]]:
    """Return the labels below every node, of a leaf its own."""
    below: dict[Tree, frozenset[str]] = {}
    for node in reversed(list(nodes(tree))):
        own = frozenset() if node.children else frozenset([node.name])
        below[node] = own.union(*(below[child] for child in node.children))
    return below


def splits(tree: Tree) -> set[frozenset[str]]:
    """Return how inner branches divide the leaves, wherever the root is: the side without the first label.

    A branch no longer than rounding, or negative, divides nothing: where models are equally far apart, the
    order of labels chose it.
    """
    everything = frozenset(leaves(tree))
    # Both sides of a root are one branch.
    lengths: dict[frozenset[str], float] = defaultdict(float)
    for node, clade in clades(tree).items():
        lengths[_side(clade, everything)] += node.length
    least = _no_length(tree)
    return {
        side for side, length in lengths.items() if length > least and 2 <= len(side) <= len(everything) - 2
    }


def robinson_foulds(a: Tree, b: Tree) -> int:
    """Return the number of splits in one tree alone (Robinson & Foulds 1981), at most 2 (n - 3).

    Raises:
        UserError: the trees have different leaves.
    """
    apart = set(leaves(a)) ^ set(leaves(b))
    if apart:
        raise UserError(f"trees of different models do not compare; only one has {', '.join(sorted(apart))}")
    return len(splits(a) ^ splits(b))


def with_support(tree: Tree, replicates: Iterable[Tree]) -> Tree:
    """Return the tree with the share of replicates that have each inner branch's split (Felsenstein 1985).

    There is no support without replicates, nor for a branch that is not among `splits`.

    Raises:
        UserError: a replicate has other leaves than the tree.
    """
    everything = frozenset(leaves(tree))
    held = dict.fromkeys(splits(tree), 0)
    n = 0
    for n, replicate in enumerate(replicates, start=1):
        if set(leaves(replicate)) != everything:
            raise UserError(f"replicate {n} has other models than the tree; resample the same models")
        for split in splits(replicate) & held.keys():
            held[split] += 1
    below = clades(tree)
    built: dict[Tree, Tree] = {}
    for node in reversed(list(nodes(tree))):
        count = held.get(_side(below[node], everything))
        children = tuple(built[child] for child in node.children)
        built[node] = replace(node, support=None if count is None or not n else count / n, children=children)
    return built[tree]


def path_distances(tree: Tree, labels: Sequence[str]) -> Array:
    """Return the lengths of the paths between leaves (cophenetic distances), [n, n] in the order of labels."""
    at = {node: i for i, node in enumerate(nodes(tree))}
    between = np.zeros((len(at), len(at)))
    above = {child: i for node, i in at.items() for child in node.children}
    for node, i in list(at.items())[1:]:
        between[i, :i] = between[:i, i] = between[above[node], :i] + node.length
    leaf = {node.name: i for node, i in at.items() if not node.children}
    return between[np.ix_(*[[leaf[label] for label in labels]] * 2)]


def path_error(tree: Tree, distances: Array, labels: Sequence[str]) -> float:
    """Return by how much paths of a tree miss the distances, [n, n]: the root mean square over pairs."""
    pairs = np.triu_indices(len(labels), 1)
    return float(np.sqrt(np.mean((path_distances(tree, labels) - distances)[pairs] ** 2)))


def negative_branches(tree: Tree) -> list[float]:
    """Return the lengths of the branches below zero by more than rounding, least first."""
    least = _no_length(tree)
    return sorted(node.length for node in nodes(tree) if node.length < -least)


def newick(tree: Tree) -> str:
    """Return the tree as Newick, with lengths to ten digits and support as labels of inner nodes.

    Labels are quoted unless every reader takes them as they stand: an underscore without quotes is a blank.
    """
    written: dict[Tree, str] = {}
    for node in reversed(list(nodes(tree))):
        below = ",".join(written.pop(child) for child in node.children)
        support = "" if node.support is None else f"{node.support:.4g}"
        text = f"({below}){support}" if node.children else _quoted(node.name)
        written[node] = text if node is tree else f"{text}:{node.length:.10g}"
    return f"{written[tree]};"


def as_json(tree: Tree) -> dict[str, Any]:
    """Return the tree for JSON: nested objects of name, length, support and children."""
    made: dict[Tree, dict[str, Any]] = {}
    for node in reversed(list(nodes(tree))):
        below = [made.pop(child) for child in node.children]
        made[node] = {"name": node.name, "length": node.length, "support": node.support, "children": below}
    return made[tree]


def from_json(value: Any) -> Tree:
    """Return the tree that `as_json` made a value of.

    Raises:
        UserError: it is no such value, or has a length or a support that none can be.
    """
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        if not _is_node(node):
            raise UserError(f"{reprlib.repr(node)} is no node of a tree; write trees with `as_json`")
        found.append(node)
        waiting.extend(node["children"])
    built: dict[int, Tree] = {}
    for node in reversed(found):
        children = tuple(built[id(child)] for child in node["children"])
        name, length, support = node["name"], float(node["length"]), node["support"]
        built[id(node)] = Tree(name=name, length=length, support=support, children=children)
    return built[id(value)]


def classical_mds(distances: Array, dimensions: int = 2) -> tuple[Array, Array]:
    """Return the map [n, k] in k dimensions of distances [n, n], and the share [k] that each axis shows.

    Torgerson 1952: eigenvectors of -J D² J / 2, J the centring matrix, times the roots of the eigenvalues.
    A share is an eigenvalue over the sum of all absolute ones, so that what no map in any number of
    dimensions can show counts as missing. An axis' sign is arbitrary: its largest coordinate is positive.
    """
    n = len(distances)
    squares = distances**2
    means = squares.mean(axis=0)
    centred = -(squares - means - means[:, None] + means.mean()) / 2
    values, vectors = (part[..., ::-1] for part in np.linalg.eigh(centred))
    shown = np.maximum(values[:dimensions], 0)
    coordinates, shares = np.zeros((n, dimensions)), np.zeros(dimensions)
    coordinates[:, : len(shown)] = vectors[:, : len(shown)] * np.sqrt(shown)
    shares[: len(shown)] = shown / (np.abs(values).sum() or 1)
    peaks = coordinates[np.abs(coordinates).argmax(axis=0), np.arange(dimensions)]
    return coordinates * np.where(peaks < 0, -1, 1), shares


def _no_length(tree: Tree) -> float:
    return _NO_LENGTH * max(abs(node.length) for node in nodes(tree))


def _side(clade: frozenset[str], everything: frozenset[str]) -> frozenset[str]:
    return everything - clade if min(everything) in clade else clade


def _quoted(label: str) -> str:
    return label if _PLAIN.fullmatch(label) else "'" + label.replace("'", "''") + "'"


def _is_node(value: Any) -> bool:
    match value:
        case {
            "name": str(name),
            "length": float() | int() as length,
            "support": support,
            "children": list(below),
        }:
            sure = support is None or (type(support) in {int, float} and 0 <= support <= 1)
            return sure and abs(length) < _ENDLESS and type(length) is not bool and bool(name) != bool(below)
    return False


def _unrooted(tree: Tree) -> _Graph:
    """Return the tree as a graph; a root with two branches is a point on one, not a node."""
    graph = _Graph()
    at = {node: graph.add(node.name) for node in nodes(tree)}
    for node, i in at.items():
        for child in node.children:
            graph.join(i, at[child], child.length, child.support)
    if len(tree.children) == 2:
        a, b = (at[child] for child in tree.children)
        (length, support), (rest, other) = graph.cut(0, a), graph.cut(0, b)
        graph.join(a, b, length + rest, other if support is None else support)
    return graph


def _rooted(graph: _Graph, a: int, b: int, distance: float) -> Tree:
    """Hang the graph from a new node on the branch from a to b, at a distance from a."""
    length, support = graph.cut(a, b)
    root = graph.add()
    graph.join(root, a, distance, support)
    graph.join(root, b, length - distance, support)
    return _hung(graph, root)


def _above(graph: _Graph, top: int) -> dict[int, int]:
    """Return every node's neighbour on the way to the top, nodes nearer to it first."""
    above = {top: top}
    waiting = [top]
    for node in waiting:
        for neighbour in graph.branches[node]:
            if neighbour != above[node]:
                above[neighbour] = node
                waiting.append(neighbour)
    return above


def _hung(graph: _Graph, top: int) -> Tree:
    """Hang the graph from one of its nodes: small clades first, equal ones by their first label."""
    above = _above(graph, top)
    built: dict[int, tuple[int, str, Tree]] = {}
    for node in reversed(above):
        near = (built[other] for other in graph.branches[node] if other != above[node])
        below = sorted(near, key=lambda child: child[:2])
        children = tuple(child for _, _, child in below)
        name, (length, support) = graph.names[node], graph.branches[node].get(above[node], (0.0, None))
        size, first = sum(child[0] for child in below) or 1, min((child[1] for child in below), default=name)
        built[node] = (size, first, Tree(name=name, length=length, support=support, children=children))
    return built[top][2]
