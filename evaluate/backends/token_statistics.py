"""What a model says of every token of a text, and of all others that could stand in its place."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.backends.pretrained import memory_errors
from evaluate.backends.transformers_model import LOGITS_AT_A_TIME, TransformersModel
from evaluate.model import Tokens

# Rows whose sums are taken at once. A few stay in the cache of a CPU, and their float64 copies leave no large
# holes in its memory, which would come to hundreds of megabytes.
ROWS_AT_A_TIME = {"cpu": 4}

# Probabilities below e^-10000 are 0 in every precision; their logarithm may be -inf, and 0 times that is no number.
_LEAST_LOG = -1e4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenStatistics:
    """Of each predicted token, in nats, shape [n].

    Attributes:
        log_p: ln p of the token that stands in the text.
        mean: of ln p over the vocabulary under the model's own distribution, the negative of its entropy.
        deviation: standard deviation of ln p, likewise.
    """

    log_p: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@torch.inference_mode()
def token_statistics(model: TransformersModel, tokens: Tokens) -> TokenStatistics:
    """Return the statistics of all tokens but the first, each predicted from those before it.

    The decoder reads all tokens once; the output layer runs over a few at a time, so that memory does not
    grow with tokens times vocabulary. As in scores, ids that no token has count as part of the vocabulary.

    Args:
        model: with its weights loaded.
        tokens: token ids, shape [n + 1], at least one; no more than the model's context.

    Raises:
        MemoryError: when the tokens do not fit.
    """
    with memory_errors():
        ids = torch.tensor(tokens, device=model.decoder.device)
        states = model.decoder(input_ids=ids[None], use_cache=False)[0][:, :-1]
        place, n = states.device.type, states.shape[1]
        size = max(1, LOGITS_AT_A_TIME.get(place, LOGITS_AT_A_TIME["cpu"]) // model.rows_of_logits)
        few = ROWS_AT_A_TIME.get(place, size)
        # Filled in place: small results, each kept behind a large piece, would leave holes in memory.
        found = torch.empty((3, n), dtype=torch.float64, device=states.device)
        for start in range(0, n, size):
            part = slice(start, start + size)
            logits = model.head(inputs_embeds=states[:, part], use_cache=False).logits[0]
            for rows, targets, own in zip(
                *(torch.split(whole, few, dim=-2) for whole in (logits, ids[1:][part, None])),
                torch.split(found[:, part], few, dim=1),
                strict=True,
            ):
                own.copy_(_moments(rows, targets))
            del logits, rows  # or they stay until the next ones are there
        log_p, mean, deviation = found.cpu().numpy()
    return TokenStatistics(log_p=log_p, mean=mean, deviation=deviation)


def _moments(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return ln p of one target, shape [rows, 1], its mean and deviation for each row of logits, shape [3, rows].

    Logarithms are float32, sums float64. The deviation is summed around the mean: the difference of two
    large sums would leave none of a distribution that is nearly flat or nearly certain.
    """
    logs = torch.log_softmax(logits, -1, dtype=torch.float32)
    log_p = logs.gather(-1, targets)[:, 0].double()
    weights = logs.clamp_(min=_LEAST_LOG).exp()
    total = weights.sum(-1, dtype=torch.float64)  # 1 but for rounding, which on a CPU is 4e-6
    mean = (weights * logs).sum(-1, dtype=torch.float64) / total
    weights *= logs.sub_(mean[:, None]).square_()
    variance = weights.sum(-1, dtype=torch.float64) / total
    return torch.stack([log_p - total.log(), mean - total.log(), variance.sqrt()])
