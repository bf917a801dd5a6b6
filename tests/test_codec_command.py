"""`compress` and `decompress` as a user types them: across processes and threads, after kills, and refused."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from test_transformers_model import WIDE, save_model

from commands import run, run_json
from evaluate.__main__ import main
from samples import ROOT, replant

TEXT = "The quick brown fox jumps over the lazy dog, and then some — żółw.\n"
NAME = os.fsdecode(b"na\xefve \xff.txt")
MODELS: dict[str, Any] = {
    "tiny": {"backend": "transformers", "source": "tiny", "separator": "<|endoftext|>"},
    "gone": {"backend": "transformers", "source": "gone"},
    "gzip": {"backend": "compressors"},
    "quick": {"backend": "llama.cpp", "source": "tiny.gguf"},
    "far": {
        "backend": "endpoint",
        "url": "http://127.0.0.1:9/v1",
        "model": "m",
        "tokenizer": "t",
        "revision": "r",
    },
}
SCORE = {"protocol": "sink", "window": 40, "stride": 13}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """What another process with one thread has begun can then go on here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with params.yaml and a tiny model."""
    save_model(workspace / "tiny", transformers.LlamaConfig(**WIDE))
    params = {"snapshots": {}, "models": MODELS, "score": SCORE}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


def names(folder: Path) -> set[str]:
    """Return what is in a folder."""
    return {path.name for path in folder.iterdir()}


def start(folder: Path, code: str, *arguments: str, threads: int = 1) -> "subprocess.Popen[str]":
    """Run code that knows `main` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom evaluate.__main__ import main\n{code}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_file_goes_and_comes_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside itself, or where -o says; every figure is what it says it is."""
    data = TEXT.encode() * 2 + b"\xff\0"
    (project / "a.txt").write_bytes(data)
    made = run_json(capsys, "compress", "a.txt", "--model", "tiny")
    file = (project / "a.txt.fb").read_bytes()
    assert (made["file"], made["model"], made["weights"][:7]) == ("a.txt.fb", "tiny", "sha256:")
    assert (made["protocol"], made["n_bytes"], made["n_compressed"]) == ("full/40/13", len(data), len(file))
    assert made["n_tokens"] == 2 * len(TEXT.encode())
    assert abs(made["token_bits"] + made["side_bits"] - 8 * made["n_payload"]) < 8.01
    assert {"order-0", "gzip", "xz", "ppmd"} <= set(made["compressors"])
    status, out, err = run(capsys, "decompress", "a.txt.fb", "--model", "tiny", "-o", "deep/b")
    assert (status, err) == (0, "")
    assert (project / "deep" / "b").read_bytes() == data
    assert f"deep/b: {len(data)} bytes restored by tiny" in out
    (project / "a.txt").unlink()
    again = run_json(capsys, "decompress", "a.txt.fb")
    assert (project / "a.txt").read_bytes() == data
    assert (again["file"], again["n_bytes"]) == ("a.txt", len(data))
    assert again["sha256"] == hashlib.sha256(data).hexdigest()
    status, out, _ = run(capsys, "compress", "a.txt", "--model", "tiny", "-o", "c")
    assert status == 0
    assert (
        f"c: {len(data)} bytes to {len(file)}, {8 * len(file) / len(data):.4f} bits per byte, header" in out
    )
    assert (project / "c").read_bytes() == file
    assert names(project) == {"a.txt", "a.txt.fb", "c", "deep", "tiny", "params.yaml", ".staging"}
    assert not [path for path in (project / ".staging").rglob("*") if path.is_file()]


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_names_and_contents_of_any_kind(
    flags: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is no UTF-8, one with spaces, and an empty file."""
    (project / NAME).write_bytes(b"")
    status, out, err = run(capsys, "compress", NAME, "--model", "tiny", *flags)
    assert status == 0, err
    (project / NAME).unlink()
    status, again, err = run(capsys, "decompress", f"{NAME}.fb", *flags)
    assert status == 0, err
    assert (project / NAME).read_bytes() == b""
    if flags:
        assert [json.loads(said)["file"] for said in (out, again)] == [f"{NAME}.fb", NAME]
    else:
        assert out.startswith("na\ufffdve \ufffd.txt.fb: 0 bytes to ")
        assert again.startswith("na\ufffdve \ufffd.txt: 0 bytes restored")


def test_a_link_is_never_replaced(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even one that leads nowhere."""
    (project / "a").write_text(TEXT)
    (project / "link").symlink_to("nowhere")
    status, _, err = run(capsys, "compress", "a", "--model", "tiny", "-o", "link")
    assert (status, err) == (2, "error: link exists; remove it, or name another file with -o\n")
    assert (project / "link").is_symlink()


def test_without_params_a_folder_is_named(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model's own context bounds the window; the file alone does not say where the model is."""
    save_model(workspace / "own", transformers.LlamaConfig(**WIDE))
    (workspace / "a").write_text(TEXT)
    made = run_json(capsys, "compress", "a", "--model", "own", "--dtype", "bfloat16", "--separator", "<s>")
    assert (made["model"], made["protocol"]) == ("own", "full/512/137")
    (workspace / "a").unlink()
    status, _, err = run(capsys, "decompress", "a.fb")
    assert status == 2
    assert f"'own' of weights {made['weights']}, which is not in params.yaml; name its file, folder or" in err
    assert run_json(capsys, "decompress", "a.fb", "--model", "./own")["n_bytes"] == len(TEXT.encode())
    assert (workspace / "a").read_text() == TEXT


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("compress a --model none -o c", "model 'none' is neither in params.yaml"),
        ("compress a --model gone -o c", "model 'gone' is neither a name"),
        (
            "compress a --model gzip -o c",
            "backend 'compressors', which does not show .* needs backend transformers",
        ),
        ("compress a --model quick -o c", "compress needs backend transformers"),
        ("compress a --model far -o c", "compress needs backend transformers"),
        ("compress b --model tiny", "No such file or directory: 'b'"),
        ("compress tiny --model tiny", "Is a directory: 'tiny'"),
        ("compress . --model tiny", "Is a directory: '.'"),
        ("compress / --model tiny", "Is a directory: '/'"),
        ("compress a/b --model tiny", "a/b.fb cannot be written"),
        (
            "compress a --model tiny -o params.yaml",
            "params.yaml exists; remove it, or name another file with -o",
        ),
        ("compress a --model tiny -o .", "exists; remove it"),
        ("compress a --model tiny -o a/b", "a/b cannot be written"),
        ("decompress a", "a does not end in .fb; say with -o where its content goes"),
        ("decompress a -o c", "a is no file that `compress` wrote; name one that is"),
        ("decompress gone.fb", "No such file or directory: 'gone.fb'"),
        ("decompress empty.fb", "empty.fb is no file that `compress` wrote; it is empty"),
        ("decompress a.fb", "a exists; remove it"),
        ("decompress a.fb -o c --model gzip", "decompress needs backend transformers"),
        ("decompress a.fb -o c --model other", "name the same model with --model"),
        ("decompress cut.fb -o c", "cut.fb is cut short"),
        ("decompress altered.fb -o c", "altered.fb is damaged: its checksum is another"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: str, reason: str, refusing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and nothing is written."""
    before = names(refusing)
    status, out, err = run(capsys, *arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(reason, err), err
    assert names(refusing) - {".staging"} == before - {".staging"}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, a file, and what became of it."""
    folder = tmp_path_factory.mktemp("ready")
    save_model(folder / "tiny", transformers.LlamaConfig(**WIDE))
    save_model(folder / "other", transformers.LlamaConfig(**WIDE, rms_norm_eps=1e-5))
    models = {**MODELS, "other": {**MODELS["tiny"], "source": "other"}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"snapshots": {}, "models": models, "score": SCORE}))
    (folder / "a").write_text(TEXT[:30])
    (folder / "empty.fb").touch()
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["compress", "a", "--model", "tiny"]) == 0
    finally:
        os.chdir(here)
    whole = (folder / "a.fb").read_bytes()
    (folder / "cut.fb").write_bytes(whole[:-5])
    (folder / "altered.fb").write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    return folder


@pytest.fixture
def refusing(ready: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working directory."""
    monkeypatch.chdir(ready)
    return ready


@pytest.mark.slow
def test_processes_and_threads_restore_each_others_files(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one thread has compressed two restore, and the other way round, in a process of their own."""
    for name in "ab":
        (project / name).write_text(TEXT)
    run_json(capsys, "compress", "a", "--model", "tiny")
    code = (
        "assert not main(['decompress', 'a.fb', '-o', 'c'])\n"
        "assert not main(['compress', 'b', '--model', 'tiny'])\n"
        "import torch\nprint(torch.get_num_threads())"
    )
    other = start(project, code, threads=2)
    out, err = other.communicate(timeout=300)
    assert other.returncode == 0, err
    assert out.splitlines()[-1] == "2"
    assert (project / "c").read_text() == TEXT
    run_json(capsys, "decompress", "b.fb", "-o", "d")
    assert (project / "d").read_text() == TEXT


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_beside_and_goes_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either way: a second run takes the finished windows and writes what an undisturbed one would."""
    text = TEXT * 10
    (project / "a").write_text(text)
    (project / "b").write_text(text)
    run_json(capsys, "compress", "a", "--model", "tiny")
    (project / "a").unlink()
    killed("decompress", "a.fb", project)
    journal = killed("compress", "b", project)
    assert names(project) == {"a.fb", "b", "tiny", "params.yaml", ".staging"}
    kept = journal.read_bytes()
    run_json(capsys, "decompress", "a.fb")
    assert (project / "a").read_text() == text
    # A window that was planted shows that finished ones are taken.
    lines = [json.loads(line)[:2] for line in kept.splitlines()[1:]]
    lines[0][1][0][2] += 1
    replant(journal, *lines)
    run_json(capsys, "compress", "b", "--model", "tiny", "-o", "planted")
    assert (project / "planted").read_bytes() != (project / "a.fb").read_bytes()
    journal.parent.mkdir()
    journal.write_bytes(kept)
    run_json(capsys, "compress", "b", "--model", "tiny")
    assert (project / "b.fb").read_bytes() == (project / "a.fb").read_bytes()
    assert not [path for path in (project / ".staging").rglob("*") if path.is_file()]


def killed(command: str, file: str, project: Path) -> Path:
    """Run a command, and kill it once its journal, which is returned, holds some windows."""
    process = start(project, "sys.exit(main(sys.argv[1:]))", command, file, "--model", "tiny")
    journals = project / ".staging" / command
    while not any(path.read_bytes().count(b"\n") > 3 for path in journals.rglob("windows.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (journal,) = journals.rglob("windows.jsonl")
    return journal
