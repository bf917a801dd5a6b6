"""A model's genome on a set of genes: which alleles, how certain, and what a killed run has finished.

The genes are cut from corpora that are newer than the models, so that none was trained on them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from collectors.document import UserError
from evaluate import alleles, backends, cells
from evaluate.distances import ESTIMATORS
from evaluate.genes import Genes
from evaluate.genomes import Genome
from evaluate.journal import digest, journal
from evaluate.model import ModelEntry

if TYPE_CHECKING:
    from evaluate.backends.transformers_model import TransformersModel

# Part of every key: raise it when the same inputs would give other numbers.
ARITHMETIC = 1

KINDS = ("exact", "first-token", *alleles.PRESETS)

# Genes between two marks in the journal: what they share costs a second or two each time.
_AT_A_TIME = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The section `phylogeny` of params.yaml.

    Attributes:
        genes: how many to cut from the corpora.
        seed: of the genes, and of samples.
        alleles: `exact` four characters, the exact `first-token`, or samples as `paper` or `notebook` draw them.
        temperature: of exact alleles; samples have that of their preset.
        epsilon: paths of less probability are not followed by `exact`.
        estimator: of similarities, one of `distances.ESTIMATORS`; no genome depends on it.
    """

    genes: int = 128
    seed: int = 1
    alleles: str = "exact"
    temperature: float = 0.7
    epsilon: float = 1e-3
    estimator: str = "unbiased"

    def __post_init__(self) -> None:
        for name in ("genes", "seed"):
            value = getattr(self, name)
            if type(value) is not int or value < (name == "genes"):
                raise UserError(
                    f"{name} {value!r} of `phylogeny` must be a whole number from {int(name == 'genes')}"
                )
        if self.alleles not in KINDS:
            raise UserError(f"alleles {self.alleles!r} of `phylogeny` are none of {', '.join(KINDS)}")
        if self.estimator not in ESTIMATORS:
            raise UserError(f"estimator {self.estimator!r} of `phylogeny` is none of {', '.join(ESTIMATORS)}")
        if self.estimator == "bhattacharyya" and self.alleles in alleles.PRESETS:
            raise UserError(
                f"estimator bhattacharyya of `phylogeny` is for exact alleles, not for samples such as {self.alleles}; "
                "set `alleles: exact`, or `estimator: unbiased`"
            )
        for name, value in (("temperature", self.temperature), ("epsilon", self.epsilon)):
            if type(value) not in {int, float} or not 0 < value < 100:
                raise UserError(f"{name} {value!r} of `phylogeny` must be a number above 0")

    def __str__(self) -> str:
        if self.alleles == "exact":
            return f"exact/{self.temperature:g}/{self.epsilon:g}"
        if self.alleles == "first-token":
            return f"first-token/{self.temperature:g}"
        return f"{self.alleles} from {self.seed}"


def key(entry: ModelEntry, weights: str, settings: Settings, genes: Genes) -> str:
    """Return the key of a cell; see `cells.key`."""
    return cells.key(ARITHMETIC, entry, weights, str(settings), genes.sha256)


def check(entry: ModelEntry) -> None:
    """Refuse a model whose next tokens cannot be followed.

    Raises:
        UserError: with what to use instead.
    """
    backends.check_open(entry, "continues no text for us", "phylogeny")


def measure(
    entry: ModelEntry, genes: Genes, settings: Settings, *, journal_file: Path
) -> tuple[Genome, dict[str, Any]]:
    """Return a model's genome, and the columns of its cell that say what it came from.

    Args:
        entry: the model's.
        genes: contexts to continue.
        settings: which alleles.
        journal_file: what an interrupted run has finished, the caller's to remove.

    Raises:
        UserError: as `backends.load`, when a gene does not fit the model, or memory is short.
    """
    from evaluate.backends import continuations

    check(entry)
    model = backends.load_open(entry)
    origin = {
        "model": entry.slug,
        "backend": entry.backend,
        "revision": model.revision,
        "genes_sha256": genes.sha256,
        "alleles": str(settings),
        "vocabulary_sha256": digest(*continuations.token_names(model)),
        "dtype": model.conditions.dtype,
        "quantization": model.conditions.quantization,
        "device": model.conditions.device,
        "software": model.software,
    }
    parts = [genes.contexts[i : i + _AT_A_TIME] for i in range(0, len(genes.contexts), _AT_A_TIME)]
    found: list[Genome] = []
    with (
        journal(journal_file, digest(model.revision, str(settings), genes.sha256)) as (done, add),
        tqdm(total=len(genes.contexts), desc=f"genome of {entry.slug}", unit=" genes", disable=None) as bar,
    ):
        for i, part in enumerate(parts):
            genome = _remembered(done.get(i), entry.slug, len(part))
            if genome is None:
                try:
                    genome = _genome(model, part, settings)
                except MemoryError as error:
                    raise UserError(
                        f"{entry.slug} does not fit into memory with its genes ({error}); choose dtype bfloat16 or "
                        "another device"
                    ) from error
                add(i, [genome.n_probes, list(genome.pruned), [dict(gene) for gene in genome.alleles]])
            found.append(genome)
            bar.update(len(part))
    whole = Genome(
        model=entry.slug,
        alleles=tuple(gene for genome in found for gene in genome.alleles),
        n_probes=found[0].n_probes,
        pruned=tuple(mass for genome in found for mass in genome.pruned),
    )
    return whole, origin


def _genome(model: "TransformersModel", contexts: tuple[str, ...], settings: Settings) -> Genome:
    if settings.alleles == "exact":
        return alleles.exact(model, contexts, settings.temperature, settings.epsilon)
    if settings.alleles == "first-token":
        return alleles.first_token(model, contexts, settings.temperature)
    return alleles.sampled(model, contexts, alleles.PRESETS[settings.alleles], settings.seed)


def _remembered(entry: Any, model: str, n: int) -> Genome | None:
    """Return what a journal holds of some genes, None where it holds nothing that we would have written."""
    try:
        n_probes, pruned, own = entry
        genome = Genome(model=model, alleles=tuple(map(dict, own)), n_probes=n_probes, pruned=tuple(pruned))
    except (TypeError, ValueError):
        return None
    return genome if len(genome.alleles) == n else None
