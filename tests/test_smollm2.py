"""The default model, for real: SmolLM2-135M from its GGUF file, which `make models` fetches."""

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml

from evaluate import params
from evaluate.backends.transformers_model import TransformersModel, load
from evaluate.likelihood import likelihoods
from evaluate.model import Conditions
from evaluate.windows import ScoringProtocol
from samples import ROOT

pytestmark = pytest.mark.slow

LISTED = params.entry(
    "smollm2-135m", yaml.safe_load((ROOT / "params.yaml").read_text())["models"]["smollm2-135m"]
)
ENTRY = {name: value for name, value in LISTED.options.items() if name != "source"}
PROSE = ["pytest", "idna"]
CODE = ["attr/_make", "funcy/seqs"]


def texts() -> list[tuple[str, str]]:
    """Return four real texts of installed distributions, each cut at 800 characters."""
    site = Path(str(metadata.distribution("pytest").locate_file("")))
    prose = [str(metadata.metadata(name).json["description"]) for name in PROSE]
    code = [(site / f"{name}.py").read_text() for name in CODE]
    return [(str(i), text.replace("\r\n", "\n")[:800]) for i, text in enumerate([*prose, *code])]


def model(**options: Any) -> TransformersModel:
    """Load the model as params.yaml lists it, with other options where given."""
    source = ROOT / "models" / "smollm2-135m-instruct-q4_1.gguf"
    cache = ROOT / "models" / "converted"
    return load(str(source), name="smollm2-135m", cache=cache, **{**ENTRY, **options})


@pytest.fixture(scope="module")
def exact() -> TransformersModel:
    """The model in float32."""
    return model()


def plain_costs(exact: TransformersModel, dtype: torch.dtype) -> list[float]:
    """Return what each text costs in one forward of all of it: all logits, log-softmax in float64."""
    folder = next((ROOT / "models" / "converted").glob(f"{str(ENTRY['sha256'])[:16]}*"))
    auto: Any = transformers.AutoModelForCausalLM
    whole = auto.from_pretrained(folder, dtype=dtype).eval()
    costs = []
    for _, text in texts():
        tokens = torch.from_numpy(exact.encode([text])[0])
        with torch.inference_mode():
            logits = whole(input_ids=torch.cat([torch.tensor([0]), tokens])[None]).logits[0, :-1].double()
        costs.append(float(-logits.log_softmax(-1).gather(-1, tokens[:, None]).sum()))
    return costs


@pytest.fixture(scope="module")
def plain(exact: TransformersModel) -> list[float]:
    """The plain costs in float32."""
    return plain_costs(exact, torch.float32)


def test_the_fast_path_equals_a_plain_scorer(exact: TransformersModel, plain: list[float]) -> None:
    """Text by text to 1e-6, on real code and prose, and every text is restored."""
    rows = likelihoods(exact, texts(), ScoringProtocol())
    assert [row.nll for row in rows] == pytest.approx(plain, rel=1e-6)
    assert all(row.lossless for row in rows)


def test_windows_of_real_text_stay_close_to_the_whole(exact: TransformersModel, plain: list[float]) -> None:
    """Less context costs more, never less than all of it saves: windows of 96 lose under a tenth."""
    rows = likelihoods(exact, texts(), ScoringProtocol(window=96, stride=48))
    lost = sum(row.nll for row in rows) / sum(plain) - 1
    assert 0 < lost < 0.1


def test_a_cache_with_sinks_stays_close_to_the_exact_protocol(exact: TransformersModel) -> None:
    """On real prose far beyond the window, each token read once: to 1 %, a cache without sinks is off by 12."""
    document = ("guide", (ROOT / "README.md").read_text()[:2000])
    sink = ScoringProtocol(name="sink", window=192, stride=48)
    approximate, full = (likelihoods(exact, [document], p)[0] for p in (sink, sink.exact))
    assert approximate.n_tokens == full.n_tokens
    assert (full.n_tokens or 0) > 2 * sink.window
    assert approximate.nll == pytest.approx(full.nll, rel=1e-2)
    assert approximate.nll != full.nll


def test_bfloat16_equals_a_plain_scorer_in_bfloat16(exact: TransformersModel, plain: list[float]) -> None:
    """To 1e-3, the noise of its kernels; rounding the weights moves the rate itself by up to 2e-3."""
    rows = likelihoods(model(dtype="bfloat16"), texts(), ScoringProtocol())
    total = sum(row.nll for row in rows)
    assert total == pytest.approx(sum(plain_costs(exact, torch.bfloat16)), rel=1e-3)
    assert total == pytest.approx(sum(plain), rel=3e-3)


def test_text_is_cut_into_the_tokens_of_llama_cpp(exact: TransformersModel) -> None:
    """Ids that llama.cpp gives for white space before digits, special-token text, accents and emoji.

    Recorded from llama.cpp (xllamacpp 2026.10.11549). Over 1,250 news, wiki and Python texts the
    repaired tokenizer gave its ids without exception; what transformers builds differed in 38.
    """
    text = "x = [\n        0,\n  12]\tand   3 apples\n\n    <|endoftext|> naïve 東京 🙂  2026-10-01\n"
    assert exact.encode([text])[0].tolist() == [
        104, 446, 933, 466, 32, 28, 11181, 33, 34, 77, 197, 397, 333, 35, 13855, 1004, 2067, 108, 486, 1714,
        2692, 108, 46, 15486, 46494, 17097, 247, 126, 16736, 122, 47526, 256, 34, 32, 34, 38, 29, 33, 32, 29,
        32, 33, 198,
    ]  # fmt: skip
    assert exact.decode(exact.encode([text])[0]) == text


def test_the_separator_stands_before_every_document(exact: TransformersModel) -> None:
    """Its tokenizer adds no BOS, so the entry names what stood between documents in training."""
    assert (exact.prefix.kind, exact.prefix.token) == ("separator", 0)
    assert exact.context_length == 8192
    assert exact.revision == f"sha256:{ENTRY['sha256']}"


def test_what_can_move_its_rate_is_named(exact: TransformersModel) -> None:
    """Every condition, as a row of scores will say it."""
    assert exact.conditions == Conditions(
        dtype="float32", device=exact.decoder.device.type, attention="sdpa", tied_embeddings=True
    )
    assert exact.sink_refusal == ""
