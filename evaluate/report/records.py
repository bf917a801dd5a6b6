"""Rows of the tables that the report reads, and what the page shows, as records."""

from dataclasses import dataclass, field

from evaluate.passage_cells import Passage
from evaluate.trees import Tree

# Sizes of models and factors of power laws go beyond what a rate can be.
_WIDE = {"largest": 1e300}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The columns of scores.csv that the page shows: one rate or one entropy of one model on one corpus.

    Attributes:
        family: of models that differ in size alone; empty without one.
        n_parameters: weights of the model, None where they were not counted.
        metric: the unit of `value`: `bits_per_character`, `bits_per_byte` or `bits_per_token`; else a figure
            of matrix entropy.
        value: None where a model calls the text impossible, so that its bits are not finite.
        low: lower end of the 95 % interval of `value`, as `high` is its upper end; None without one.
        nll: nats that the documents scored cost, None where they are not finite.
        n_unscored_documents: documents that a precision left out.

    The others are those of `scores.Score`.
    """

    model: str
    name: str
    backend: str
    family: str
    revision: str
    corpus: str
    corpus_sha256: str
    protocol: str
    prefix: str
    first_token: str
    context_length: int | None
    dtype: str
    quantization: str
    device: str
    attention: str
    unused_ids: int
    softcap: float | None
    tied_embeddings: bool | None
    special_text: str
    metric: str
    value: float | None
    nll: float | None
    low: float | None
    high: float | None
    deviation: float | None
    deviation_low: float | None
    deviation_high: float | None
    n_deviation: int
    n_documents: int
    n_unscored_documents: int
    n_tokens: int | None
    n_unscored_tokens: int
    n_lossy: int
    repair_nll: float
    n_parameters: int | None
    cutoff: str
    cutoff_evidence: str
    freshness: str
    software: str

    @property
    def is_rate(self) -> bool:
        """Whether it says how much a text costs, and not how a model represents it."""
        return not self.protocol.startswith("entropy/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row of differences.csv: bits per character of `model` less those of `other`, on shared documents."""

    corpus: str
    model: str
    other: str
    protocol: str
    other_protocol: str
    difference: float
    low: float
    high: float
    n_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A row of fits.csv: benchmark score against bits per character; `refused` says why there is none."""

    dataset: str
    study: str
    area: str
    x: str
    y: str
    form: str
    n: int
    slope: float | None
    intercept: float | None
    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    spearman: float | None
    rmse: float | None
    loo_rmse: float | None
    best_form: str
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A row of points.csv: one model in one fit; `reason` says why one that is not used is left out.

    `freshness` is that of its score, empty for published ones.
    """

    dataset: str
    x: str
    y: str
    model: str
    x_value: float
    y_value: float
    used: bool
    reason: str
    freshness: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyRate:
    """A row of trend.csv: bits per character of one model on what was published in one month.

    Attributes:
        month: `YYYY-MM`.
        bits_per_character: None where they are not finite.
        corpora: those that the documents are from.
        cutoff: day, month or year that the model's training text may reach into; empty where it is unknown.
        cutoff_evidence: as in `Score`; empty for compressors.
        cutoff_source: address of the evidence.
        cutoff_until: first day after the cutoff, ISO; empty where it is unknown.
        freshness: whether the whole month lies behind the cutoff, as in `Score`.
    """

    model: str
    name: str
    backend: str
    content: str
    month: str
    protocol: str
    bits_per_character: float | None
    low: float | None
    high: float | None
    n_documents: int
    corpora: str
    cutoff: str
    cutoff_evidence: str
    cutoff_source: str
    cutoff_until: str
    freshness: str

    @property
    def trained(self) -> bool:
        """Whether it is a language model, not a compressor."""
        return self.backend != "compressors"

    @property
    def short(self) -> str:
        """The name of the model without the organisation before it."""
        return (self.name or self.model).rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A row of law.csv: a published correlation and ours, which is None where it cannot be recomputed."""

    kind: str
    benchmark: str
    corpus: str
    published_pearson: float | None
    pearson: float | None
    published_rmse: float | None
    rmse: float | None
    difference: float | None
    n: int | None
    location: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A row of unmatched.csv: a scored model that enters no fit."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A row of entropy.csv: one figure of one layer's hidden states, over the documents of a corpus.

    Attributes:
        layer: from 0, the embeddings, to `n_layers`, the last.
        value: None where it is not finite.
        ceiling: the most that `value` can be, None for figures without such a bound.
        n_skipped: documents that have no entropy.
    """

    model: str
    name: str
    corpus: str
    layer: int
    n_layers: int
    metric: str
    value: float | None
    low: float | None
    high: float | None
    ceiling: float | None
    n_documents: int
    n_skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFit:
    """A row of scaling.csv, see `scaling.run`: a figure of entropy with size, rates or benchmark scores."""

    family: str
    x: str
    y: str
    form: str
    n: int
    a: float | None = field(metadata=_WIDE)
    b: float | None
    b_low: float | None
    b_high: float | None
    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    r2: float | None
    rmse: float | None
    loo_rmse: float | None
    best_form: str
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """A row of scaling_points.csv: one model in a fit; without x it cannot be drawn, and `reason` says why."""

    family: str
    x: str
    y: str
    model: str
    x_value: float | None = field(metadata=_WIDE)
    y_value: float
    ceiling: float | None
    used: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A row of relatives.csv: two models, each pair once, and how alike their continuations are.

    Attributes:
        alleles: how the models were asked to continue genes.
        estimator: of the similarity, one of `distances.ESTIMATORS`.
        n_genes: short contexts that both continued.
        similarity: S, 1 for equal models; the unbiased estimate may exceed 1.
        similarity_low: the least that S can be, whichever alleles the pruned mass belongs to.
        similarity_high: the most.
        distance: -ln S.
        standard_error: of the distance, over genes; None where it has none.
    """

    model: str
    name: str
    other: str
    other_name: str
    alleles: str
    estimator: str
    n_genes: int
    similarity: float
    similarity_low: float
    similarity_high: float
    distance: float
    standard_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phylogeny:
    """A tree.json: the tree of the models in relatives.csv, rooted halfway along its longest path.

    Attributes:
        tree: its leaves are slugs.
        path_rmse: by how much paths along the tree miss the distances, root mean square.
        negative_branches: lengths below 0, least first.
    """

    tree: Tree
    path_rmse: float
    negative_branches: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row of map.csv: where a model lies; the shares of the variance on both axes are those of the map."""

    model: str
    x: float
    y: float
    share_x: float
    share_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A row of predictions.csv: scores of families predicted from the other families, see `prediction`.

    Attributes:
        benchmark: whose scores of `study` they are.
        method: `ridge` or `ica15-sigmoid` for distances; else what these are to be held against.
        refused: why there is no prediction; empty where there is one.
    """

    benchmark: str
    study: str
    method: str
    n: int
    n_families: int
    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    rmse: float | None
    skill: float | None
    skill_low: float | None
    skill_high: float | None
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """A corpus.json: what a corpus holds, from a half-open window of ISO dates, and what was dropped."""

    name: str
    source: str
    content: str
    since: str
    until: str
    documents_sha256: str
    n_documents: int
    n_characters: int
    n_bytes: int
    published_from: str | None
    published_until: str | None
    dropped: dict[str, int]
    licenses: dict[str, int]
    date_evidence: dict[str, int]
    gaps: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything the page shows, one field per kind of input file; passages need not have been compressed."""

    scores: tuple[Score, ...]
    trend: tuple[MonthlyRate, ...]
    differences: tuple[Difference, ...]
    fits: tuple[Fit, ...]
    points: tuple[Observation, ...]
    law: tuple[Law, ...]
    unmatched: tuple[Unmatched, ...]
    profiles: tuple[Profile, ...]
    scaling: tuple[ScalingFit, ...]
    scaling_points: tuple[ScalingPoint, ...]
    relatives: tuple[Relative, ...]
    phylogeny: Phylogeny | None
    places: tuple[Place, ...]
    predictions: tuple[Prediction, ...]
    corpora: tuple[CorpusFacts, ...]
    passages: tuple[Passage, ...] = ()
