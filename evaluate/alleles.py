"""Alleles: what a model continues a gene with, sampled as in PhyloLM or computed exactly.

Yax et al. 2024 (PhyloLM, arXiv 2404.04671) draw a few tokens and keep the first four characters of
their text. With the weights at hand the distribution that those draws come from can be computed:
paths of tokens are followed until four characters are certain, and paths that spell the same four
are added up. Sampling walks the same tree with counts in place of probabilities, so a gene is read
once, and continuations that begin with the same tokens are read once, however many probes there are.

Four characters are certain once no further token can change them. Trailing bytes of an unfinished
character are not: they are shown as U+FFFD until the character is complete. Special tokens that do
not end a text spell nothing, as the model's own generation shows them, but count as tokens.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError
from evaluate.genomes import Genome

if TYPE_CHECKING:
    from torch import Tensor

    from evaluate.backends.continuations import Continuations, Texts
    from evaluate.backends.transformers_model import TransformersModel

LENGTH = 4
"""Characters of an allele."""

RAREST = 1e-6
"""Alleles of less probability are not kept one by one: they count as pruned."""

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How continuations are drawn and read.

    Attributes:
        temperature: divides the logits.
        top_k: how many of the most probable tokens may be drawn, None for all.
        n_tokens: tokens of a continuation at most.
        n_probes: draws for each gene.
        strips: whether an allele begins behind spaces and the line breaks that follow them.
        ends: whether a text may end early; if not, tokens that end one are never drawn.
    """

    temperature: float
    top_k: int | None
    n_tokens: int
    n_probes: int
    strips: bool
    ends: bool


PRESETS = {
    "paper": Preset(temperature=0.7, top_k=None, n_tokens=5, n_probes=32, strips=True, ends=True),
    "notebook": Preset(temperature=1.0, top_k=50, n_tokens=4, n_probes=16, strips=False, ends=False),
}
"""What the paper describes (top_p = 1 leaves nothing out), and what its authors' notebook does by default."""


def sampled(model: "TransformersModel", genes: Sequence[str], preset: Preset, seed: int) -> Genome:
    """Draw continuations of each gene.

    What is drawn for a gene follows from the seed, the gene and the model, its name included, and not from
    the other genes. Two models draw independently under one seed, as the standard errors of distances
    assume, and so does one model under two names.

    Args:
        model: the model.
        genes: contexts.
        preset: one of `PRESETS`, or another.
        seed: where the random numbers begin, from 0 on.

    Returns:
        For each gene the share of the probes that each allele has.

    Raises:
        UserError: when a gene does not fit the model, or the preset or the seed is no number to draw with.
        MemoryError: when a batch does not fit.
    """
    counts = (preset.n_probes, preset.n_tokens, 1 if preset.top_k is None else preset.top_k)
    if min(counts) < 1 or seed < 0:
        raise UserError(f"{preset} with seed {seed} draws nothing; give counts from 1 and a seed from 0 on")

    def draw(node: _Node, p: Weights) -> Weights:
        name = json.dumps([seed, model.name, model.revision, genes[node.gene], node.path])
        digest = hashlib.sha256(name.encode()).digest()
        random = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
        steps = np.cumsum(p)
        drawn = np.searchsorted(steps, random.random(round(node.weight)) * steps[-1], side="right")
        return np.bincount(drawn, minlength=len(p)).astype(np.float64)

    found, _ = _walked(model, genes, preset, draw, weight=preset.n_probes, epsilon=0.0, floor=0.0)
    return Genome(
        model=model.name,
        alleles=tuple(_ordered({a: n / preset.n_probes for a, n in own.items()}) for own in found),
        n_probes=preset.n_probes,
        pruned=(0.0,) * len(genes),
    )


def exact(
    model: "TransformersModel", genes: Sequence[str], temperature: float = 1.0, epsilon: float = 1e-3
) -> Genome:
    """Compute the distribution that four-character alleles are drawn from, with the rules of `paper`.

    The temperature is 1 unless given: the model's own distribution. Any other sharpens or flattens each
    token on its own, so that how a tokenizer cuts the text moves the result. Give 0.7 to compare with
    published values or with samples of `PRESETS["paper"]`.

    Args:
        model: the model.
        genes: contexts.
        temperature: divides the logits.
        epsilon: paths of less probability are not followed further. Costs rise as it falls; at 0
            nothing is left out, and only a vocabulary of a few tokens can be gone through.

    Returns:
        For each gene the probability of each allele. The true one is larger by the gene's pruned mass
        at most, which counts the paths not followed and the alleles rarer than `RAREST` (or epsilon).

    Raises:
        UserError: when a gene does not fit the model, or temperature or epsilon are out of range.
        MemoryError: when a batch does not fit.
    """
    if not 0 <= epsilon < 1:
        raise UserError(f"epsilon {epsilon} is no probability to prune below; give one from 0 to below 1")
    rarest = min(RAREST, epsilon)
    rules = Preset(temperature=temperature, top_k=None, n_tokens=5, n_probes=1, strips=True, ends=True)

    def share(node: _Node, p: Weights) -> Weights:
        return node.weight * p

    # A thousandth: paths to one allele add up before the rare ones are told apart.
    found, lost = _walked(model, genes, rules, share, weight=1.0, epsilon=epsilon, floor=rarest / 1000)
    return _genome(model, found, lost, rarest)


def first_token(model: "TransformersModel", genes: Sequence[str], temperature: float = 1.0) -> Genome:
    """Compute the distribution of the first token behind each gene.

    Alleles are tokens as the tokenizer writes them, so only models of one vocabulary can be compared.
    Tokens that end a text are alleles as any other. For the temperature, see `exact`.

    Returns:
        For each gene the probability of each token, those rarer than `RAREST` pruned.

    Raises:
        UserError: when a gene does not fit the model, or the temperature is not positive.
        MemoryError: when a batch does not fit.
    """
    from evaluate.backends import continuations

    names = np.array(continuations.token_names(model), dtype=object)
    found: list[dict[str, float]] = [{} for _ in genes]
    lost = [0.0] * len(genes)
    for group, state in continuations.begun(model, genes, 1, cached=False):
        p = _probabilities(state.logits, temperature, None, ())
        for gene, own in zip(group, p, strict=True):
            kept = np.flatnonzero(own >= RAREST)
            found[gene] = dict(zip(names[kept], own[kept].tolist(), strict=True))
            lost[gene] = float(own[own < RAREST].sum())
    return _genome(model, found, lost, RAREST)


@dataclass(frozen=True, slots=True)
class _Node:
    """A path of tokens behind a gene, with its probability or the number of its probes."""

    gene: int
    path: tuple[int, ...]
    weight: float


def _walked(
    model: "TransformersModel",
    genes: Sequence[str],
    rules: Preset,
    weigh: Callable[[_Node, Weights], Weights],
    *,
    weight: float,
    epsilon: float,
    floor: float,
) -> tuple[list[dict[str, float]], list[float]]:
    """Return for each gene the weight of each allele, and the weight left out.

    Args:
        model: the model.
        genes: contexts.
        rules: how a continuation is read.
        weigh: shares the weight of a node among the next tokens, given their probabilities.
        weight: of a gene.
        epsilon: unfinished paths of less weight are left out.
        floor: alleles of no more weight at one node are left out.
    """
    from evaluate.backends import continuations

    ended = continuations.end_tokens(model)
    spelling = _Spelling(continuations.Texts(model), ended, rules)
    ends = () if rules.ends else ended
    found: list[dict[str, float]] = [defaultdict(float) for _ in genes]
    lost = [0.0] * len(genes)
    cached = continuations.caches(model)

    def visit(state: "Continuations", nodes: Sequence[_Node]) -> None:
        rows, children = [], []
        p = _probabilities(state.logits, rules.temperature, rules.top_k, ends)
        for row, (node, own) in enumerate(zip(nodes, p, strict=True)):
            finished, unfinished, rest = spelling.alleles(node.path, weigh(node, own), floor)
            for allele, part in finished.items():
                found[node.gene][allele] += part
            followed = np.flatnonzero((unfinished > 0) & (unfinished >= epsilon)).tolist()
            rows += [row] * len(followed)
            children += [_Node(node.gene, (*node.path, t), float(unfinished[t])) for t in followed]
            unfinished[followed] = 0.0
            lost[node.gene] += rest + float(unfinished.sum())
        del p
        room = continuations.room(model, state.tokens.shape[1] + 1)
        for start in range(0, len(children), room):
            some = children[start : start + room]
            tokens = [child.path[-1] for child in some]
            visit(continuations.extend(model, state, rows[start : start + room], tokens), some)

    for group, state in continuations.begun(model, genes, rules.n_tokens, cached=cached):
        visit(state, [_Node(gene, (), weight) for gene in group])
    return found, lost


def _probabilities(logits: "Tensor", temperature: float, top_k: int | None, never: Sequence[int]) -> Weights:
    """Return the probability of each next token in float64, in which a vocabulary sums to 1."""
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature {temperature} divides no logits; give a positive number")
    scaled = logits.double() / temperature
    scaled[:, list(never)] = -math.inf
    if top_k is not None and top_k < scaled.shape[1]:
        scaled[scaled < scaled.topk(top_k).values[:, -1:]] = -math.inf
    p: Weights = scaled.softmax(-1).cpu().numpy()
    return p


def _genome(
    model: "TransformersModel", found: Sequence[Mapping[str, float]], lost: Sequence[float], rarest: float
) -> Genome:
    """Return exact distributions as a genome, their rare alleles pruned."""
    kept = [{allele: p for allele, p in own.items() if p >= rarest} for own in found]
    rare = [math.fsum(p for p in own.values() if p < rarest) for own in found]
    return Genome(
        model=model.name,
        alleles=tuple(map(_ordered, kept)),
        n_probes=None,
        pruned=tuple(a + b for a, b in zip(lost, rare, strict=True)),
    )


def _ordered(alleles: Mapping[str, float]) -> dict[str, float]:
    """Return alleles with the most probable first."""
    return dict(sorted(alleles.items(), key=lambda item: (-item[1], item[0])))


class _Spelling:
    """Which alleles paths of tokens spell, under the rules of a preset.

    Behind a path that spells whole characters, a token adds its own text, and what it completes is
    looked up for all tokens at once. Behind unfinished characters that holds for tokens that begin with
    a character of their own; the few others are spelled one by one.
    """

    def __init__(self, texts: "Texts", ends: Sequence[int], rules: Preset) -> None:
        self._texts = texts
        self._ends = list(ends)
        self._rules = rules
        self._tables: dict[tuple[str, int, bool], tuple[NDArray[np.int64], list[str]]] = {}

    def alleles(
        self, path: tuple[int, ...], weights: Weights, floor: float
    ) -> tuple[dict[str, float], Weights, float]:
        """Return what the next token finishes, what it leaves unfinished, and what is too rare to tell.

        Args:
            path: tokens before it.
            weights: of each next token, shape [rows of logits]; changed in place.
            floor: alleles, and tokens that have to be spelled one by one, of no more weight are left out.

        Returns:
            The weight of each allele, of each token that needs another one behind it, and the rest.
        """
        alleles: dict[str, float] = defaultdict(float)
        unfinished = np.zeros_like(weights)
        rest = 0.0
        last = len(path) + 1 == self._rules.n_tokens
        text, certain = self._texts.of(path), self._texts.certain(path)
        if (weight := float(weights[self._ends].sum())) > 0:
            alleles[self._stripped(text)[:LENGTH]] += weight
            weights[self._ends] = 0.0
        if text != certain:
            joins = self._texts.joins
            common = joins[weights[joins] > floor]
            for token in common.tolist():
                whole = (*path, token)
                settled = self._texts.of(whole) if last else self._texts.certain(whole)
                spelled = self._stripped(settled)[:LENGTH]
                if last or len(spelled) == LENGTH:
                    alleles[spelled] += float(weights[token])
                else:
                    unfinished[token] = weights[token]
            weights[common] = 0.0
            rest += float(weights[joins].sum())
            weights[joins] = 0.0
        start, (labels, names) = self._completions(text, last)
        totals = np.bincount(labels, weights, minlength=len(names) + 1)
        for i in np.flatnonzero(totals[1:] > floor).tolist():
            alleles[start + names[i]] += float(totals[i + 1])
        rest += float(totals[1:][totals[1:] <= floor].sum())
        unfinished += np.where(labels == 0, weights, 0.0)
        return alleles, unfinished, rest

    def _completions(self, text: str, last: bool) -> tuple[str, tuple[NDArray[np.int64], list[str]]]:
        """Return how the allele of a text begins, and a table of what each token adds to it.

        The table labels each token 0 where the allele stays unfinished, else by 1 + its place in the names.
        """
        start = self._stripped(text)[:LENGTH]
        blanks = ""
        if not start and self._rules.strips:
            blanks = "\n" if "\n" in text else " "
        key = (blanks, LENGTH - len(start), last)
        if key not in self._tables:
            numbers: dict[str, int] = {}
            texts = self._texts.of_tokens if last else self._texts.certain_of_tokens
            labels = np.zeros(len(texts), dtype=np.int64)
            for token, own in enumerate(texts):
                added = own.lstrip(" ") if blanks == " " else own
                added = added.lstrip("\n") if blanks else added
                if last or len(added) >= key[1]:
                    labels[token] = 1 + numbers.setdefault(added[: key[1]], len(numbers))
            self._tables[key] = labels, list(numbers)
        return start, self._tables[key]

    def _stripped(self, text: str) -> str:
        return text.lstrip(" ").lstrip("\n") if self._rules.strips else text
