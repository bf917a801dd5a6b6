"""`python -m evaluate alignment` as a user types it."""

import json
from pathlib import Path

import pytest
from test_vision_language import picture, save_llava

from commands import run, run_json
from evaluate.alignment import RATIOS
from evaluate.backends.vision_language import PARTS

SENTENCES = ["A cat on a mat.", "Two dogs, one of them asleep", "x", "0123456789" * 4]


@pytest.fixture
def project(workspace: Path) -> Path:
    """A tiny LLaVA, four images and their texts, one of a single letter."""
    save_llava(workspace / "llava", bos=False)
    (workspace / "images").mkdir()
    lines = []
    for i, sentence in enumerate(SENTENCES):
        picture(i, 48, 36).save(workspace / "images" / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "text": sentence}))
    (workspace / "texts.jsonl").write_text("\n".join(lines))
    return workspace


NAMED = ("alignment", "--model", "llava", "--images", "images", "--texts", "texts.jsonl")


def test_effective_ranks_and_ratios_are_printed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with interval, and with a ceiling where it has one; what was skipped is told."""
    status, out, err = run(capsys, *NAMED)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0] == "llava on 3 pairs"
    assert lines[-1] == "  skipped 1: text of fewer than two tokens"
    found = run_json(capsys, *NAMED)
    assert [metric["metric"] for metric in found["metrics"]] == [*PARTS, *RATIOS]
    for line, metric in zip(lines[1:-1], found["metrics"], strict=True):
        assert metric["metric"].replace("_", " ") in line
        assert f"{metric['value']:.4g} [" in line
        assert ("of at most" in line) == (metric["metric"] in PARTS)
    assert not list((project / ".staging").rglob("*.jsonl"))


@pytest.mark.usefixtures("project")
def test_rotated_images_and_shuffled_texts_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure without its condition would be taken for another."""
    status, out, _ = run(capsys, *NAMED, "--rotate", "90", "--shuffle", "3", "--limit", "2")
    assert (status, out.splitlines()[0]) == (
        0,
        "llava on 2 pairs, rotated by 90 degrees, texts shuffled by seed 3",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rotate", "45"], "images cannot be rotated by 45 degrees; give a multiple of 90"),
        (["--shuffle", "-1"], "4 pairs cannot be shuffled by seed -1"),
        (["--limit", "0"], "limit 0 leaves no pair; give 1 or more"),
        (["--model", "nothing"], "nothing"),
        (["--images", "texts.jsonl"], "texts.jsonl is no folder"),
        (["--texts", "images"], "images is no file"),
    ],
)
@pytest.mark.usefixtures("project")
def test_mistakes_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The value, the rule and the remedy, without a traceback."""
    status, out, err = run(capsys, *NAMED, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
