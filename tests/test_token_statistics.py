"""Statistics of tokens, held against a plain forward of the whole model and sums in float64."""

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_hidden_states import EXTRA
from test_transformers_model import CONFIGS, STATEFUL, read, save_model

from evaluate.backends.token_statistics import token_statistics
from evaluate.backends.transformers_model import LOGITS_AT_A_TIME, load
from evaluate.membership import standardised
from samples import ROOT

ALL = {**CONFIGS, **STATEFUL}
TOKENS: NDArray[np.int64] = np.random.default_rng(0).integers(2, 258, 101)


@torch.inference_mode()
def naive(whole: Any, tokens: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Return (ln p, mean, deviation) of each token but the first."""
    return of_logits(whole(input_ids=torch.tensor(tokens)[None], use_cache=False).logits[0, :-1], tokens)


def of_logits(logits: torch.Tensor, tokens: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Return (ln p, mean, deviation) of each token but the first, by loops in float64."""
    found = []
    for row, token in zip(logits.double().numpy(), tokens[1:], strict=True):
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        own = p > 0
        logs = np.log(p[own])
        mean = math.fsum(p[own] * logs)
        found.append((math.log(p[token]), mean, math.sqrt(math.fsum(p[own] * logs**2) - mean**2)))
    return found


def saved(folder: Path, architecture: str) -> Path:
    """Write a tiny model of an architecture."""
    return save_model(folder, copy.deepcopy({**ALL, **EXTRA}[architecture]))


@pytest.mark.parametrize("architecture", ALL)
def test_statistics_are_those_of_all_logits(architecture: str, tmp_path: Path) -> None:
    """Of every token but the first, whatever the model does to its logits, and in however many pieces."""
    folder = saved(tmp_path, architecture)
    found = token_statistics(load(str(folder), name="t"), TOKENS)
    log_p, mean, deviation = np.array(naive(read(folder), TOKENS)).T
    np.testing.assert_allclose(found.log_p, log_p, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(found.mean, mean, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(found.deviation, deviation, rtol=2e-4, atol=2e-4)
    assert {column.dtype for column in (found.log_p, found.mean, found.deviation)} == {np.dtype(np.float64)}


def test_a_large_vocabulary_comes_in_pieces() -> None:
    """The test above has seen a boundary between two of them."""
    assert 1 < LOGITS_AT_A_TIME["cpu"] // ALL["gemma2-256k"].vocab_size < len(TOKENS) - 1


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mamba"])
def test_probabilities_are_those_that_scores_are_made_of(architecture: str, tmp_path: Path) -> None:
    """The token in the text costs what `nll` says."""
    model = load(str(saved(tmp_path, architecture)), name="t")
    (nll,) = model.nll([TOKENS[:-1]], [TOKENS[1:]])
    np.testing.assert_allclose(-token_statistics(model, TOKENS).log_p, nll, rtol=1e-6, atol=1e-6)


def test_a_single_token_predicts_nothing(tmp_path: Path) -> None:
    """Three empty columns."""
    found = token_statistics(load(str(saved(tmp_path, "llama")), name="t"), TOKENS[:1])
    assert (len(found.log_p), len(found.mean), len(found.deviation)) == (0, 0, 0)


def test_a_flat_distribution_deviates_by_nothing(tmp_path: Path) -> None:
    """Every token is as likely as every other, and none is a surprise."""
    model = load(str(saved(tmp_path, "llama")), name="t")
    model.head.lm_head.weight.data.zero_()
    found = token_statistics(model, TOKENS)
    np.testing.assert_allclose(found.log_p, -math.log(300), rtol=1e-6)
    np.testing.assert_allclose(found.mean, -math.log(300), rtol=1e-6)
    assert found.deviation.max() < 1e-6
    np.testing.assert_allclose(standardised(found.log_p, found.mean, found.deviation), 0, atol=0.05)


def test_a_certain_model_is_finite(tmp_path: Path) -> None:
    """Where one token has all the probability, what it expects is no surprise, and anything else an enormous one."""
    folder = saved(tmp_path, "llama")
    model = load(str(folder), name="t")
    model.head.lm_head.weight.data.mul_(1e4)
    ids = torch.tensor(TOKENS)[None]
    with torch.inference_mode():
        best = int(model.head(inputs_embeds=model.decoder(ids)[0], use_cache=False).logits[0, -2].argmax())
    found = token_statistics(model, np.array([*TOKENS[:-1], best]))
    values = standardised(found.log_p, found.mean, found.deviation)
    assert np.isfinite(values).all()
    assert values[-1] == pytest.approx(0, abs=1e-6)
    assert values[:-1].min() < -1e3


def test_tokens_that_a_model_rules_out_count_for_nothing(tmp_path: Path) -> None:
    """A logit of minus infinity is a probability of 0, which times its logarithm is 0."""
    folder = saved(tmp_path, "phi-bias")
    model, whole = load(str(folder), name="t"), read(folder)
    for each in (model.head, whole):
        each.lm_head.bias.data[290:] = -math.inf
    found = token_statistics(model, TOKENS)
    log_p, mean, deviation = np.array(naive(whole, TOKENS)).T
    np.testing.assert_allclose(found.log_p, log_p, rtol=1e-4)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-4)


def test_half_precision_loses_no_more_than_the_model_itself(tmp_path: Path) -> None:
    """Logits of bfloat16 are taken to float32 first: the sums add no error of their own."""
    model = load(str(saved(tmp_path, "llama")), name="t", dtype="bfloat16")
    found = token_statistics(model, TOKENS)
    with torch.inference_mode():
        states = model.decoder(torch.tensor(TOKENS)[None], use_cache=False)[0][:, :-1]
        logits = model.head(inputs_embeds=states, use_cache=False).logits[0]
    assert logits.dtype == torch.bfloat16
    log_p, mean, deviation = np.array(of_logits(logits, TOKENS)).T
    np.testing.assert_allclose(found.log_p, log_p, rtol=1e-6)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-6)


_PEAK = """
import resource, sys
import numpy as np
from evaluate.backends.token_statistics import token_statistics
from evaluate.backends.transformers_model import load
model = load(sys.argv[1], name="t")
token_statistics(model, np.arange(2, 102))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
token_statistics(model, np.arange(2, 502) % 256 + 2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_tokens_times_vocabulary(tmp_path: Path) -> None:
    """400 tokens more take less than half of what their logits would, of a vocabulary of 256,000."""
    folder = saved(tmp_path, "gemma2-256k")
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", _PEAK, str(folder)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    kilobytes = int(ran.stdout)
    assert kilobytes * 1024 < 400 * 256_000 * 4 / 2
