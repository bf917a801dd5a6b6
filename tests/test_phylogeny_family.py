"""Kinship is recognised: in a family that is trained here and whose tree is known, and in a real model.

Behaviour tells ancestry where what was learnt is passed on, as `benchmarks/phylogeny_family.py` sees to.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_smollm2 import model

from benchmarks import phylogeny_family
from benchmarks.phylogeny_family import LEAVES, true_tree
from evaluate import trees
from evaluate.alleles import PRESETS, first_token, sampled
from evaluate.distances import Overlaps, clipped, distances, overlaps, resampled_distances
from evaluate.genomes import Genome
from evaluate.same_model import same_model
from evaluate.trees import Array, Tree

pytestmark = pytest.mark.slow

N_GENES = 256
SENTENCES = (
    "The first thing that she noticed about the house was",
    "In the early days of the railway, most of the passengers",
    "def parse_header(line):\n    name, value = line.split(",
    "Water boils at a lower temperature in the mountains, because",
    "He put the letter back into the drawer and",
    "The committee will meet again in March to discuss",
    "To install the package, run the following command:\n",
    "Many birds that breed in the north spend the winter",
    "Let n be a natural number such that",
    "My grandmother used to say that a good soup needs",
    "The results of the second experiment suggest that",
    "Dear Mr. Harrison,\n\nThank you for your",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices are no work for two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> list[Genome]:
    """The first tokens of the eight leaves of a family, behind texts that none was trained on."""
    folder = tmp_path_factory.mktemp("family")
    folders = phylogeny_family.train(folder, seed=1)
    genes = phylogeny_family.pool(folder, seed=1, n=N_GENES)
    return [first_token(phylogeny_family.loaded(folders[name], name), genes) for name in LEAVES]


def some(whole: Overlaps, start: int, n: int) -> Overlaps:
    """Return what the leaves share in n genes."""
    return replace(whole, genes=whole.genes[start : start + n])


def joined(apart: Array) -> Tree:
    """Return the tree of distances between leaves."""
    return trees.neighbour_joining(clipped(apart), LEAVES)


def test_a_language_keeps_the_words_of_its_parent_but_for_some() -> None:
    """A hundred of four hundred words change places, and all stay words of one meaning each."""
    words = phylogeny_family.words(1)
    parent = phylogeny_family.changed({word: word for word in words}, random.Random(1))
    child = phylogeny_family.changed(parent, random.Random(2))
    assert len(set(words)) == 400
    assert set(child.values()) == set(words)
    assert sum(parent[word] != word for word in words) == 100
    assert sum(child[word] != parent[word] for word in words) == 100


@pytest.mark.parametrize("n", [64, 128, 256])
def test_first_tokens_give_the_tree_of_a_family(genomes: list[Genome], n: int) -> None:
    """All five splits of eight leaves, from each set of 64 genes or more; the sets share no gene."""
    whole = overlaps(genomes, "bhattacharyya")
    assert len(trees.splits(true_tree())) == 5
    for start in range(0, N_GENES, n):
        tree = joined(distances(some(whole, start, n)))
        assert trees.robinson_foulds(tree, true_tree()) == 0


def test_the_distance_of_the_paper_takes_more_genes(genomes: list[Genome]) -> None:
    """With Nei's distance it is the same tree from 256 genes."""
    tree = joined(distances(overlaps(genomes, "unbiased")))
    assert trees.robinson_foulds(tree, true_tree()) == 0


def test_true_clades_are_supported(genomes: list[Genome]) -> None:
    """Each of them is in nine of ten trees, and more, of 128 genes drawn anew."""
    found = some(overlaps(genomes, "bhattacharyya"), 0, 128)
    replicates = (joined(apart) for apart in resampled_distances(found, replicates=100, seed=1))
    tree = trees.with_support(joined(distances(found)), replicates)
    supports = [node.support for node in trees.nodes(tree) if node.support is not None]
    assert len(supports) == 5
    assert min(supports) > 0.9


@pytest.mark.parametrize("estimator", ["bhattacharyya", "unbiased"])
def test_a_leaf_is_nearest_to_its_sister(genomes: list[Genome], estimator: str) -> None:
    """And cousins are nearer than the leaves on the other side of the root, on average."""
    apart = distances(overlaps(genomes, estimator))
    np.fill_diagonal(apart, np.inf)
    assert apart.argmin(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    sisters, cousins, far = (
        np.mean([apart[i, j] for i in range(8) for j in range(8) if (i ^ j).bit_length() == n])
        for n in (1, 2, 3)
    )
    assert sisters < cousins < far


def test_a_real_model_is_itself_in_bfloat16_but_not_at_another_temperature() -> None:
    """Two samples of SmolLM2-135M may be of one model, rounded or not; one at twice the temperature is of another.

    With 12 genes and 32 probes each, p-values are 0.31 for a second sample, 0.58 for one in bfloat16 (0.04
    to 0.81 over eight pairs of seeds), and the least possible, 0.001, for the other temperature.
    """
    paper = PRESETS["paper"]
    exact = model()
    one, other = (sampled(exact, SENTENCES, paper, seed) for seed in (1, 2))
    hot = sampled(exact, SENTENCES, replace(paper, temperature=2 * paper.temperature), seed=3)
    rounded = sampled(model(dtype="bfloat16"), SENTENCES, paper, seed=5)
    assert one.alleles != other.alleles
    again, low, apart = (same_model(one, second) for second in (other, rounded, hot))
    assert again.p_value > 0.01
    assert low.p_value > 0.01
    assert apart.p_value == 0.001
    assert again.distance is not None
    assert low.distance is not None
    assert apart.interval
    assert apart.interval[0] > max(again.distance, low.distance, 0)
