"""What params.yaml may say about models and scoring."""

import re
from typing import Any

import pytest
import yaml

from collectors.document import UserError
from evaluate import params
from evaluate.measure import Settings
from evaluate.model import ModelEntry
from evaluate.windows import ScoringProtocol
from samples import ROOT


def settings(section: Any, *, protocol: str | None = None, precision: float | None = None) -> Settings:
    """Return what a section `score` comes to."""
    return params.settings({"score": section}, protocol=protocol, precision=precision)


def test_without_a_section_the_protocol_is_chosen() -> None:
    """Window and stride of the paper, every document, in this process."""
    assert params.settings({}, protocol=None, precision=None) == Settings(
        protocol=ScoringProtocol(name="sink", window=1900, stride=512), auto=True
    )


def test_every_setting_is_taken() -> None:
    """As it is written."""
    section = {
        "protocol": "full",
        "window": 100,
        "stride": 30,
        "precision": 0.01,
        "seed": 7,
        "engine": "ray",
    }
    assert settings(section) == Settings(
        protocol=ScoringProtocol(name="full", window=100, stride=30), precision=0.01, seed=7, engine="ray"
    )


def test_the_command_line_comes_first() -> None:
    """Window and stride stay."""
    section = {"protocol": "full", "precision": 0.01, "window": 100, "stride": 30}
    assert settings(section, protocol="sink", precision=0.02) == Settings(
        protocol=ScoringProtocol(name="sink", window=100, stride=30), precision=0.02
    )
    assert settings(section, protocol="auto").auto


@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize("protocol", ["auto", "sink", "full", "huang2024"])
def test_every_protocol_and_engine_can_be_named(protocol: str, engine: str) -> None:
    """`auto` is sink until it is not."""
    found = settings({"protocol": protocol, "engine": engine})
    assert found.auto == (protocol == "auto")
    assert found.protocol.name == ("sink" if protocol == "auto" else protocol)
    assert found.engine == engine


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"protocol": "ful"}, "protocol 'ful' is unknown; choose one of auto, full, huang2024, sink"),
        ({"protocol": None}, "protocol None is unknown; choose one of auto,"),
        ({"protocol": ["full"]}, "protocol ['full'] is unknown"),
        ({"seed": "x"}, "seed 'x' must be a whole number"),
        ({"engine": "spark"}, "engine 'spark' is unknown; choose one of local, ray"),
        ({"engine": None}, "engine None is unknown"),
        ({"precision": 2}, "precision 2 must be a number above 0 and below 0.5"),
        ({"precision": "0.01 "}, "precision '0.01 ' must be a number"),
        ({"precision": 0.01, "protocol": "huang2024"}, "use protocol full, sink or auto"),
        ({"window": 0}, "must be at least 2"),
        ({"window": "wide"}, "window 'wide' and stride 512 must be whole numbers"),
        ({"window": None}, "window None and stride 512 must be whole numbers"),
        ({"protocol": "sink", "stride": 1900}, "protocol sink keeps 4 tokens and reads 1900 at a time"),
        ({"windows": 9, 3: 4}, "takes protocol, window, stride, precision, seed and engine, not 3, windows"),
        ([1], "`score` in params.yaml must be a mapping, not [1]"),
        (None, "`score` in params.yaml must be a mapping, not None"),
    ],
)
def test_a_wrong_section_is_one_line(section: Any, message: str) -> None:
    """The value, the rule, the remedy."""
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        settings(section)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_is_what_its_entry_says() -> None:
    """Name and price are ours, the backend gets the rest; the entry itself stays as it was."""
    options = {
        "backend": "endpoint",
        "name": "org/model",
        "url": "http://localhost:8000/v1",
        "price": {"per_hour": 2, "per_million_tokens": 0.1},
    }
    before = dict(options)
    assert params.entry("my-model.v2", options) == ModelEntry(
        slug="my-model.v2",
        backend="endpoint",
        name="org/model",
        options={"url": "http://localhost:8000/v1"},
        price={"per_hour": 2, "per_million_tokens": 0.1},
    )
    assert options == before


@pytest.mark.parametrize(
    ("slug", "options", "message"),
    [
        ("a/b", {}, "model name 'a/b' must be of letters"),
        ("..", {}, "model name '..' must be"),
        ("", {}, "model name '' must be"),
        (7, {}, "model name 7 must be"),
        (None, {}, "model name None must be"),
        ("m", None, "model m in params.yaml must be a mapping with a `backend`, not None"),
        ("m", {"price": 3}, "`price` of model m in params.yaml takes per_hour and per_million_tokens"),
        ("m", {"price": {"per_day": 1}}, "numbers from 0, not {'per_day': 1}"),
        ("m", {"price": {"per_hour": "2"}}, "numbers from 0, not {'per_hour': '2'}"),
        ("m", {"price": {"per_hour": True}}, "numbers from 0, not {'per_hour': True}"),
    ],
)
def test_a_wrong_entry_is_one_line(slug: Any, options: Any, message: str) -> None:
    """The model is named."""
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        params.entry(slug, options)
    assert len(str(caught.value).splitlines()) == 1


def test_the_parameters_of_this_repository_are_right() -> None:
    """Every model and the section `score`."""
    known = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert {params.entry(*model).backend for model in known["models"].items()} >= {
        "transformers",
        "compressors",
    }
    assert isinstance(params.settings(known, protocol=None, precision=None), Settings)
