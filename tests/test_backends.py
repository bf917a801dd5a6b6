"""From an entry of params.yaml to a model."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from test_transformers_model import WIDE, save_model

from collectors.document import UserError
from evaluate import backends
from evaluate.backends import gguf_model
from evaluate.model import ModelEntry
from samples import ROOT


def entry(backend: str, **options: Any) -> ModelEntry:
    """Return an entry of that backend."""
    return ModelEntry(slug="m", backend=backend, options=options)


def test_an_entry_is_loaded_with_its_options(tmp_path: Path) -> None:
    """Under its slug; what identifies its weights is known without loading."""
    source = save_model(tmp_path / "tiny", transformers.LlamaConfig(**WIDE))
    chosen = entry("transformers", source=str(source), separator="<|endoftext|>", dtype="bfloat16")
    model = backends.load(chosen)
    assert (model.name, model.prefix.text, model.conditions.dtype) == ("m", "<|endoftext|>", "bfloat16")
    assert model.revision == backends.weights_of(chosen)
    assert re.fullmatch("sha256:[0-9a-f]{64}", model.revision)


@pytest.mark.parametrize(
    ("chosen", "weights"),
    [
        (entry("transformers", source="org/name"), ""),
        (entry("transformers", source="org/name", revision="abc"), "abc"),
        (
            entry("endpoint", url="http://x/v1", model="x", tokenizer="org/x", revision="2026-09"),
            "declared:2026-09",
        ),
        (entry("compressors"), "codec:m"),
        (entry("compressors", codec="xz"), "codec:xz"),
    ],
)
def test_weights_are_known_without_loading(chosen: ModelEntry, weights: str) -> None:
    """A hub id without a revision may change under its name, so that it has none."""
    assert backends.weights_of(chosen) == weights


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            entry("vllm"),
            "backend 'vllm' of m is unknown; choose one of transformers, llama.cpp, endpoint, compressors",
        ),
        (entry(""), "backend '' of m is unknown"),
        (
            entry("transformers"),
            "model m in params.yaml lacks source; backend transformers needs source as text",
        ),
        (entry("transformers", source=7), "lacks source"),
        (entry("llama.cpp", sha256="0"), "lacks source; backend llama.cpp needs source as text"),
        (
            entry("endpoint", url="http://localhost:1/v1"),
            "lacks model, tokenizer, revision; backend endpoint needs url, model, tokenizer, revision as text",
        ),
        (
            entry("transformers", source="x/y", speed=9),
            "wrong options (speed); backend transformers takes source,",
        ),
        (entry("transformers", source="x/y", cache="elsewhere"), "wrong options (cache)"),
        (
            entry("llama.cpp", source="a.gguf", dtype="float32"),
            "wrong options (dtype); backend llama.cpp takes",
        ),
        (
            ModelEntry(slug="m", backend="transformers", options={"source": "x/y", 3: 4}),  # type: ignore[dict-item]
            "wrong options (3)",
        ),
        (
            entry("transformers", source="x/y", dtype="int8"),
            "`dtype` of model m in params.yaml is 'int8'; backend transformers takes float32 or",
        ),
        (
            entry("transformers", source="x/y", quantization="int3"),
            "quantization 'int3' is unknown; choose one of bitsandbytes-8bit,",
        ),
        (
            entry("transformers", source="missing.gguf"),
            "model 'missing.gguf' is neither a name in params.yaml",
        ),
        (entry("llama.cpp", source="x/y"), "llama.cpp reads no other; use backend transformers"),
    ],
)
def test_wrong_entries_are_one_line(chosen: ModelEntry, message: str) -> None:
    """Backend, option or value is named, before anything large is loaded."""
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        backends.load(chosen)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_beyond_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its backend raises."""

    def crowded(source: str, *, name: str) -> None:
        raise MemoryError(f"9 GB for {source} as {name}")

    monkeypatch.setattr(gguf_model, "load", crowded)
    with pytest.raises(UserError, match="model m does not fit into memory .9 GB for a.gguf as m.; free some"):
        backends.load(entry("llama.cpp", source="a.gguf"))


@pytest.mark.parametrize("backend", ["transformers", "llama.cpp", "endpoint"])
def test_what_identifies_no_weights_is_said(backend: str) -> None:
    """Also where nothing is loaded."""
    with pytest.raises(UserError, match=f"lacks .*; backend {backend} needs"):
        backends.weights_of(entry(backend))


WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from evaluate.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "options", "message"),
    [
        ("llama_cpp", "{backend: llama.cpp, source: a.gguf}", "llama-cpp-python"),
        (
            "bitsandbytes",
            "{backend: transformers, source: org/x, quantization: bitsandbytes-8bit}",
            "quantization bitsandbytes-8bit needs bitsandbytes",
        ),
    ],
)
def test_a_missing_extra_is_one_line(library: str, options: str, message: str, tmp_path: Path) -> None:
    """What to install is named."""
    (tmp_path / "params.yaml").write_text(f"{{models: {{m: {options}}}, snapshots: {{}}}}")
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "a.txt").write_text("a text")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, library, "score", "--model", "m", "--text", "a.txt"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1
