"""Image-text alignment, held against entropies by another route, and hostile images and texts."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_vision_language import picture, save_llava

from collectors.document import UserError
from evaluate.alignment import (
    RATIOS,
    Alignment,
    image_reduction_ratio,
    image_text_alignment,
    measure,
    summarise,
)
from evaluate.backends.vision_language import PARTS, load
from evaluate.entropy import Aggregate
from evaluate.image_texts import MAX_LINE, Pair, read_image, read_pairs, rotated, shuffled
from samples import ROOT, replant

SENTENCES = ["A cat on a mat.", "Two dogs, one of them asleep", "xylophones", "0123456789" * 4]
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny LLaVA whose tokenizer adds BOS."""
    return str(save_llava(tmp_path_factory.mktemp("llava")))


def write_lines(texts: Path, *lines: Any) -> Path:
    """Write JSON lines; bytes are written as they are."""
    texts.write_bytes(
        b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)
    )
    return texts


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """Four images, of which one lies in a folder of its own, and their texts."""
    images = tmp_path / "images"
    names = ["a.png", "inner/b.png", "c.webp", "d.png"]
    for seed, name in enumerate(names):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, 48, 36).save(images / name, lossless=True)
    lines = [{"image": name, "text": text} for name, text in zip(names, SENTENCES, strict=True)]
    return images, write_lines(tmp_path / "texts.jsonl", *lines)


def by_metric(alignment: Alignment) -> dict[str, Aggregate]:
    """Return the figures by their names."""
    return {figure.metric: figure for figure in alignment.metrics}


def values(alignment: Alignment) -> list[float]:
    """Return the effective ranks of the five parts."""
    return [by_metric(alignment)[part].value for part in PARTS]


def naive_entropy(states: Array) -> float:
    """Return the entropy of singular values squared, by the definition: centred, unit rows."""
    rows = states - states.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    eigenvalues = np.linalg.svd(rows, compute_uv=False) ** 2 / len(rows)
    kept = eigenvalues[eigenvalues > 1e-12]
    return float(-(kept * np.log(kept)).sum())


def test_figures_of_a_data_set_are_those_of_its_pairs(llava: str, data: tuple[Path, Path]) -> None:
    """Effective ranks are exp of mean entropies, ratios are of those, ceilings are of shapes."""
    found = measure(llava, *data, name="tiny")
    model = load(llava, name="tiny")
    entropies, bounds = [], []
    for seed, text in enumerate(SENTENCES):
        states = model.states(picture(seed, 48, 36), text)
        entropies.append([naive_entropy(states[part].double().numpy()) for part in PARTS])
        bounds.append([np.log(min(len(states[part]) - 1, states[part].shape[1])) for part in PARTS])
    h = np.mean(entropies, 0)
    e = np.exp(h)
    expected = {
        **dict(zip(PARTS, e, strict=True)),
        "image_reduction_ratio": (e[0] - e[1]) / e[0],
        "image_text_alignment": e[2:].mean() / e[2:].max(),
        "image_reduction_ratio_entropy": (h[0] - h[1]) / h[0],
        "image_text_alignment_entropy": h[2:].mean() / h[2:].max(),
    }
    figures = by_metric(found)
    assert list(figures) == list(expected) == [*PARTS, *RATIOS]
    for metric, value in expected.items():
        assert figures[metric].value == pytest.approx(value, rel=1e-6)
        low, high = figures[metric].low, figures[metric].high
        assert low is not None
        assert high is not None
        assert low <= value <= high
        assert low < high
    ceilings = [figures[part].ceiling for part in PARTS]
    assert ceilings == pytest.approx(list(np.exp(np.mean(bounds, 0))))
    assert {figures[ratio].ceiling for ratio in RATIOS} == {None}
    assert (found.model, found.n_pairs, dict(found.skipped)) == ("tiny", 4, {})
    json.dumps(asdict(found), allow_nan=False)


POSITIVE = st.floats(1e-3, 1e6)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_alignment_lies_above_a_third_and_is_one_where_equal(a: float, b: float, c: float) -> None:
    """It is at most 1, does not depend on order or unit, and falls with the distance from equality."""
    ratio = float(image_text_alignment(*np.array([a, b, c])))
    assert 1 / 3 < ratio <= 1
    assert ratio == pytest.approx((a + b + c) / 3 / max(a, b, c))
    assert image_text_alignment(*np.array([c, a, b])) == pytest.approx(ratio)
    assert image_text_alignment(*(7 * np.array([a, b, c]))) == pytest.approx(ratio)
    assert image_text_alignment(*np.array([a, a, a])) == 1
    if max(a, b, c) > 1.001 * min(a, b, c):
        assert ratio < 1


@given(POSITIVE, POSITIVE)
def test_reduction_is_below_one(encoder: float, connector: float) -> None:
    """It is 0 where nothing is lost, and negative where the connector adds."""
    ratio = float(image_reduction_ratio(np.array(encoder), np.array(connector)))
    assert ratio <= 1
    assert (ratio > 0) == (connector < encoder)
    assert encoder * (1 - ratio) == pytest.approx(connector, rel=1e-9, abs=1e-9 * encoder)


def test_ratios_without_a_value_are_left_out() -> None:
    """Entropies of zero have ranks of one, whose ratios are known, and no ratio of their own."""
    found = {f.metric: f for f in summarise(np.zeros((5, 3)), np.ones((5, 3)))}
    assert set(found) == {*PARTS, "image_reduction_ratio", "image_text_alignment"}
    assert (found["image_reduction_ratio"].value, found["image_text_alignment"].value) == (0, 1)


def test_intervals_hold_what_was_planted() -> None:
    """Of 200 samples of 40 pairs, the interval of the alignment misses the truth about as often as it says."""
    random = np.random.default_rng(1)
    means = np.array([3.0, 2.5, 2.0, 2.2, 2.4])
    truth = np.exp(means[2:]).mean() / np.exp(means[2:]).max()
    missed = 0
    for _ in range(200):
        sample = random.normal(means[:, None], 0.3, (5, 40))
        figure = {f.metric: f for f in summarise(sample, sample, resamples=400)}["image_text_alignment"]
        assert figure.low is not None
        assert figure.high is not None
        missed += not figure.low <= truth <= figure.high
    assert 2 <= missed <= 24  # 10 expected


def test_a_single_pair_has_no_interval(llava: str, data: tuple[Path, Path]) -> None:
    """The limit takes pairs from the start; nothing is known of how they differ."""
    found = measure(llava, *data, limit=1)
    assert found.n_pairs == 1
    assert {figure.low for figure in found.metrics} == {None}


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_images_turn_clockwise_to_the_pixel(degrees: int) -> None:
    """NumPy turns the other way."""
    image = picture(3, 7, 5)
    turned = np.asarray(rotated(image, degrees))
    assert np.array_equal(turned, np.rot90(np.asarray(image), -degrees // 90))


def test_rotation_changes_what_images_take_part_in(llava: str, data: tuple[Path, Path]) -> None:
    """The text alone stays as it is, and a full turn changes nothing."""
    straight = measure(llava, *data)
    turned = measure(llava, *data, rotate=90)
    assert turned.rotate == 90
    changed = [part for part, a, b in zip(PARTS, values(straight), values(turned), strict=True) if a != b]
    assert changed == ["vision_encoder", "connector", "image", "image_text"]
    assert measure(llava, *data, rotate=360) == straight
    assert values(measure(llava, *data, rotate=-270)) == values(turned)


def test_shuffled_texts_change_image_with_text_alone(llava: str, data: tuple[Path, Path]) -> None:
    """Images are as they were, and so are texts, but for their order."""
    straight = measure(llava, *data)
    dealt = measure(llava, *data, shuffle=1)
    assert (straight.shuffle, dealt.shuffle) == (None, 1)
    assert values(dealt)[:3] == values(straight)[:3]
    assert values(dealt)[3] == pytest.approx(values(straight)[3], rel=1e-12)
    assert values(dealt)[4] != pytest.approx(values(straight)[4], rel=1e-9)
    assert measure(llava, *data, shuffle=1) == dealt


def pairs_of(n: int) -> list[Pair]:
    """Return pairs that differ."""
    return [Pair(where=f"texts:{i}", image=Path(f"{i}.png"), text=str(i)) for i in range(n)]


@given(st.integers(2, 40), st.integers(0, 2**32))
def test_no_image_keeps_its_text(n: int, seed: int) -> None:
    """A shuffle is a derangement: all texts are dealt, none to its own line, the same for the same seed."""
    dealt = shuffled(pairs_of(n), seed)
    assert [pair.image for pair in dealt] == [pair.image for pair in pairs_of(n)]
    assert Counter(pair.text for pair in dealt) == Counter(str(i) for i in range(n))
    assert all(pair.text != str(i) for i, pair in enumerate(dealt))
    assert dealt == shuffled(pairs_of(n), seed)


def test_all_derangements_are_dealt_alike() -> None:
    """Four texts have nine; 1800 seeds deal each some 200 times."""
    counts = Counter("".join(p.text for p in shuffled(pairs_of(4), seed)) for seed in range(1800))
    assert len(counts) == 9
    assert 140 < min(counts.values()) <= max(counts.values()) < 260


def test_pairs_that_cannot_be_measured_are_counted(tmp_path: Path, data: tuple[Path, Path]) -> None:
    """One token has no entropy; the other pairs are measured as without it."""
    model = str(save_llava(tmp_path / "model", bos=False))
    images, texts = data
    lines = texts.read_bytes()
    whole = measure(model, images, texts)
    texts.write_bytes(b'{"image": "d.png", "text": "a"}\n\n' + lines + b'{"image": "d.png", "text": ""}\n')
    found = measure(model, images, texts)
    assert (found.n_pairs, found.skipped) == (4, {"text of fewer than two tokens": 2})
    assert found.metrics == whole.metrics
    with pytest.raises(UserError, match=r"none of the 1 pairs.*fewer than two tokens: 1"):
        measure(model, images, texts, limit=1)


def test_a_text_with_a_placeholder_is_refused(llava: str, data: tuple[Path, Path]) -> None:
    """The instructions of LLaVA's own data hold one."""
    images, texts = data
    write_lines(
        texts, {"image": "a.png", "text": "Look."}, {"image": "a.png", "text": "<image>\nWhat is it?"}
    )
    with pytest.raises(UserError, match=r"texts.jsonl:2: the text holds <image>"):
        measure(llava, images, texts)


def test_a_torn_journal_is_gone_on_from(llava: str, data: tuple[Path, Path], tmp_path: Path) -> None:
    """Finished pairs are not measured again, torn lines are, and the figures are the same."""
    journal = tmp_path / "staging" / "journal"
    whole = measure(llava, *data, journal_file=journal)
    written = journal.read_bytes()
    lines = written.splitlines(keepends=True)
    assert len(lines) == 5
    journal.write_bytes(b"".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
    assert measure(llava, *data, journal_file=journal) == whole
    assert journal.read_bytes() == written
    number, parts, _checksum = json.loads(lines[1])
    parts[0][0] = 1e-3  # was not measured by anybody
    replant(journal, (number, parts))
    assert values(measure(llava, *data, journal_file=journal))[0] < values(whole)[0]


@pytest.mark.parametrize("change", ["image", "text", "rotate", "dtype"])
def test_a_journal_of_something_else_is_started_afresh(
    change: str, llava: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    """What it holds depends on every byte of images and texts, and on how they are measured."""
    images, texts = data
    journal = tmp_path / "journal"
    measure(llava, images, texts, journal_file=journal)
    options: dict[str, Any] = {}
    if change == "image":
        picture(99, 48, 36).save(images / "a.png")
    elif change == "text":
        texts.write_bytes(texts.read_bytes().replace(b"cat", b"cow"))
    else:
        options = {"rotate": 180} if change == "rotate" else {"dtype": "bfloat16"}
    found = measure(llava, images, texts, journal_file=journal, **options)
    assert found == measure(llava, images, texts, **options)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(llava: str, tmp_path: Path) -> None:
    """After kill -9 the same call ends with the figures of one that was left alone."""
    images, journal = tmp_path / "images", tmp_path / "journal"
    images.mkdir()
    lines = []
    for i in range(300):
        picture(i % 7, 48, 36).save(images / f"{i % 7}.png")
        lines.append({"image": f"{i % 7}.png", "text": f"{SENTENCES[i % 4]} {i}"})
    texts = write_lines(tmp_path / "texts.jsonl", *lines)
    code = (
        "import sys\nfrom pathlib import Path\nfrom evaluate.alignment import measure\n"
        "measure(sys.argv[1], *map(Path, sys.argv[2:4]), journal_file=Path(sys.argv[4]))"
    )
    command = [sys.executable, "-c", code, llava, *map(str, (images, texts, journal))]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ})
    while not journal.exists() or journal.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = journal.read_bytes().count(b"\n") - 1
    assert finished < 300
    kept = journal.read_bytes().splitlines()[1:finished]
    assert measure(llava, images, texts, journal_file=journal) == measure(llava, images, texts)
    assert journal.read_bytes().splitlines()[1:finished] == kept


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "no line of JSON"),
        (b'{"image": "a.png", "text": "\xff"}', "no line of JSON in UTF-8"),
        (b"[" * 50_000, "no line of JSON"),
        (b'["a.png", "A cat."]', "not of the form"),
        ({"image": "a.png"}, "not of the form"),
        ({"image": "a.png", "text": 7}, "not of the form"),
        ({"image": None, "text": "A cat."}, "not of the form"),
        (b'{"image": "a.png", "text": "\\ud800"}', "half of a surrogate pair"),
        ({"image": "a.png", "text": "a" * MAX_LINE}, "a line of more than"),
        ({"image": "", "text": "A cat."}, "no path inside"),
        ({"image": "/etc/passwd", "text": "A cat."}, "no path inside"),
        ({"image": "../outside.png", "text": "A cat."}, "no path inside"),
        ({"image": "inner/../../outside.png", "text": "A cat."}, "no path inside"),
        (b'{"image": "a\\u0000.png", "text": "A cat."}', "no path inside"),
        ({"image": "link.png", "text": "A cat."}, "a link out of the folder"),
        ({"image": "round.png", "text": "A cat."}, "is not in the folder"),
        ({"image": "absent.png", "text": "A cat."}, "is not in the folder"),
        ({"image": "a" * 5000, "text": "A cat."}, "is not in the folder"),
        ({"image": "inner", "text": "A cat."}, "is not in the folder"),
        ({"image": "pipe.png", "text": "A cat."}, "is not in the folder"),
    ],
)
def test_a_hostile_line_is_refused(line: Any, message: str, data: tuple[Path, Path]) -> None:
    """The message, of one line, names the file and the line."""
    images, texts = data
    picture(0).save(images.parent / "outside.png")
    (images / "link.png").symlink_to(images.parent / "outside.png")
    (images / "round.png").symlink_to(images / "round.png")
    os.mkfifo(images / "pipe.png")
    write_lines(texts, {"image": "a.png", "text": "A cat."}, line)
    with pytest.raises(UserError, match=message) as error:
        read_pairs(images, texts)
    assert str(error.value).startswith(f"{texts}:2: ")
    assert len(str(error.value).splitlines()) == 1


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a small PNG file that says to be of any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


PHOTOGRAPH = encoded(picture(5, 200, 200), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PNG, JPEG, WEBP image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no PNG, JPEG, WEBP image"),
        (encoded(picture(5), "GIF"), "is no PNG, JPEG, WEBP image"),
        (encoded(picture(5), "TIFF"), "is no PNG, JPEG, WEBP image"),
        (PHOTOGRAPH[: len(PHOTOGRAPH) // 2], "is broken"),
        (encoded(picture(5), "PNG")[:2000], "is broken"),
        (encoded(picture(5), "WEBP")[:1000], "is broken|is no PNG"),
        (png_header(40, 40), "is broken"),
        (png_header(9000, 9000), "67108864 are the most"),
        (png_header(60_000, 60_000), "bomb|are the most"),
        (encoded(Image.new("RGB", (4, 401)), "PNG"), "at most 100 times"),
        (encoded(Image.new("RGB", (3, 30)), "PNG"), "the shorter side takes 4"),
        (encoded(Image.fromarray(np.full((8, 8), 3000, np.uint16)), "PNG"), "of mode I;16"),
    ],
)
def test_a_hostile_image_is_refused(
    content: bytes, message: str, llava: str, data: tuple[Path, Path]
) -> None:
    """Before its pixels take memory, or when they do not come; the message names file, line and image."""
    images, texts = data
    (images / "bad.png").write_bytes(content)
    write_lines(texts, {"image": "a.png", "text": "A cat."}, {"image": "bad.png", "text": "A dog."})
    with pytest.raises(UserError, match=message) as error:
        measure(llava, images, texts)
    assert str(error.value).startswith(f"{texts}:2: ")
    assert "bad.png" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_any_plain_pixel_format_is_read(mode: str, tmp_path: Path) -> None:
    """Grey, palettes and transparency come to RGB; a transparent pixel keeps its colour."""
    image = picture(6, 9, 8).convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", "texts:1")
    assert (found.mode, found.size) == ("RGB", (9, 8))
    assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGBA").convert("RGB")))


def test_a_link_inside_the_folder_is_followed(data: tuple[Path, Path]) -> None:
    """Datasets share images by links; only those that lead out are refused."""
    images, texts = data
    (images / "again.png").symlink_to("a.png")
    write_lines(texts, {"image": "again.png", "text": "A cat.", "id": 7})
    assert [pair.image for pair in read_pairs(images, texts)] == [(images / "a.png").resolve()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": 45}, "rotated by 45 degrees; give a multiple of 90"),
        ({"limit": 0}, "limit 0 leaves no pair"),
        ({"shuffle": 1, "limit": 1}, "1 pairs cannot be shuffled"),
        ({"shuffle": -1}, "by seed -1"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], message: str, llava: str, data: tuple[Path, Path]
) -> None:
    """The message names the value and the rule."""
    with pytest.raises(UserError, match=message):
        measure(llava, *data, **options)


def test_missing_and_empty_inputs_are_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    """Each is named, before a model is loaded."""
    images, texts = data
    with pytest.raises(UserError, match="elsewhere is no folder"):
        read_pairs(tmp_path / "elsewhere", texts)
    with pytest.raises(UserError, match="elsewhere is no file"):
        read_pairs(images, tmp_path / "elsewhere")
    texts.write_bytes(b"\n \n")
    with pytest.raises(UserError, match="texts.jsonl is empty"):
        read_pairs(images, texts)
