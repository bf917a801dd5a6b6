"""How familiar a text is to a model: statistics of its tokens that are higher for text it was trained on.

Training raises the probability of what is trained on, and most where the model knew least. Min-K% Prob
(Shi et al. 2024, arXiv 2310.16789) therefore averages ln p over the least likely tokens of a text alone, and
Min-K%++ (Zhang et al. 2024, arXiv 2404.02936) over those least likely for their place: each ln p is first held
against what the model gives to the other tokens that could stand there.

None of them tells a text that was seen from one that is easy. A figure of a single document proves
nothing; see `verdict` for what a corpus of them can.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collectors.document import UserError

Array = NDArray[np.float64]

# Smaller deviations are those of distributions that are flat or certain, up to the rounding of float32.
LEAST_DEVIATION = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The section `membership` of params.yaml.

    Attributes:
        tokens: the most tokens of a document that are read, the prefix among them.
        share: of the predicted tokens that count, those least likely.
    """

    tokens: int = 512
    share: float = 0.2

    def __post_init__(self) -> None:
        if type(self.tokens) is not int or self.tokens < 2:
            raise UserError(f"tokens {self.tokens!r} of `membership` must be a whole number from 2")
        if type(self.share) not in {int, float} or not 0 < self.share <= 1:
            raise UserError(
                f"share {self.share!r} of `membership` must be above 0 and at most 1, such as 0.2"
            )

    @property
    def protocol(self) -> str:
        """What stands in every row of a cell."""
        return f"membership/{self.tokens}/{self.share:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiarity:
    """What a model pays for the beginning of a document, and how it pays.

    Attributes:
        n_tokens: tokens that were predicted.
        n_characters: Unicode code points that those tokens restore.
        bits: what they cost together.
        min_k: mean of ln p over the least likely of them, nats.
        min_k_plus_plus: the same of standardised ln p, in standard deviations.
    """

    n_tokens: int
    n_characters: int
    bits: float
    min_k: float
    min_k_plus_plus: float


def familiarity(
    log_p: Array, mean: Array, deviation: Array, *, n_characters: int, share: float
) -> Familiarity:
    """Return all figures of a document.

    Args:
        log_p: ln p of its tokens, nats, shape [n], at least one.
        mean: of ln p over the vocabulary under the model's own distribution, at each token.
        deviation: standard deviation of ln p, likewise.
        n_characters: that the tokens restore.
        share: of the tokens that count.

    Raises:
        ValueError: when there is no token, or a figure is not finite.
    """
    found = Familiarity(
        n_tokens=len(log_p),
        n_characters=n_characters,
        bits=-math.fsum(log_p) / math.log(2),
        min_k=mean_of_lowest(log_p, share),
        min_k_plus_plus=mean_of_lowest(standardised(log_p, mean, deviation), share),
    )
    if not all(map(math.isfinite, (found.bits, found.min_k, found.min_k_plus_plus))):
        raise ValueError("the probability of a token is not a number above 0")
    return found


def standardised(log_p: Array, mean: Array, deviation: Array) -> Array:
    """Return (ln p - mean) / deviation of each token, as Zhang et al. 2024 (arXiv 2404.02936) define Min-K%++.

    A deviation of 0 is that of a distribution that is flat, or certain of one token. `LEAST_DEVIATION`
    stands in for it: the token that such a distribution expects then gets 0, any other a very low number.

    Args:
        log_p: nats, shape [n].
        mean: of ln p under the model's own distribution, shape [n].
        deviation: of ln p, shape [n].
    """
    return (log_p - mean) / np.maximum(deviation, LEAST_DEVIATION)


def mean_of_lowest(values: Array, share: float) -> float:
    """Return the mean of the lowest values, as Shi et al. 2024 (arXiv 2310.16789) define Min-K% Prob.

    As in the released code of both papers a share that is no whole number of values is rounded down;
    a single value is the fewest.

    Args:
        values: shape [n], at least one.
        share: of the values, above 0 and at most 1.

    Raises:
        ValueError: when there is no value.
    """
    if not len(values):
        raise ValueError("nothing has no lowest value")
    n = max(1, int(len(values) * share))
    return math.fsum(np.sort(values)[:n]) / n


def saving(bits: Array, characters: Array, reference_bits: Array, reference_characters: Array) -> Array:
    """Return by how many bits per character a model is cheaper than a reference, of each document.

    The ratio of two likelihoods of one text: what makes a text hard for everyone cancels (Carlini et al. 2021,
    arXiv 2012.07805, section 5.2). Each counts its own characters, for what a number of tokens covers differs
    by tokenizer.

    Args:
        bits: the model's, shape [documents].
        characters: that they pay for.
        reference_bits: of a reference model or a compressor.
        reference_characters: that those pay for.
    """
    return reference_bits / reference_characters - bits / characters
