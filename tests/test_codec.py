"""Any bytes to fewer and back with tiny random models: lossless, resumable, and as long as `likelihoods` says."""

import math
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_smollm2
import torch
import transformers
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from test_transformers_model import CONFIGS, STATEFUL, WIDE, save_model
from tokenizers import normalizers

from collectors.document import UserError
from evaluate.backends.next_token import Reader, reproducible
from evaluate.backends.transformers_model import TransformersModel, load
from evaluate.codec import files, stream
from evaluate.codec.container import pack, unpack
from evaluate.codec.files import Compressed
from evaluate.codec.order0 import ByteModel
from evaluate.codec.range_coder import Encoder, frequencies
from evaluate.codec.segments import segments
from evaluate.codec.stream import Progress
from evaluate.journal import journal as opened
from evaluate.likelihood import likelihoods
from evaluate.model import ModelEntry
from evaluate.windows import ScoringProtocol
from samples import ROOT

PROTOCOL = ScoringProtocol(window=20, stride=7)
TEXT = "A tale of <|endoftext|> in the middle, and naïve café owners: 東京 🙂\t\tend\r\n"
SEPARATED: dict[str, Any] = {"separator": "<|endoftext|>"}
MODELS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "none": (CONFIGS["llama"], {}, {}),
    "bos": (CONFIGS["llama-tied"], {"bos": True}, {}),
    "separator": (CONFIGS["gpt2"], {}, SEPARATED),
    "mamba": (STATEFUL["mamba"], {}, SEPARATED),
    "hybrid": (STATEFUL["lfm2"], {}, SEPARATED),
    "lossy": (CONFIGS["opt"], {"normalizer": normalizers.Lowercase()}, SEPARATED),
    "expanding": (CONFIGS["gpt-neox"], {"normalizer": normalizers.NFKC()}, SEPARATED),
}
BYTES = (
    st.binary(max_size=30)
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from(
        [b"<|endoftext|>", b"<s>", "🙂𝄞".encode(), "ﷺ".encode() * 3, b"ABCDEFGH abc " * 2, b"\r\n"]
    )
)
FILES = st.lists(BYTES, max_size=3).map(b"".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, TransformersModel]:
    """Tiny models of every kind."""
    found = {}
    for name, (config, options, how) in MODELS.items():
        found[name] = load(str(save_model(folder / name, config, **options)), name=name, **how)
    return found


@pytest.fixture(scope="module")
def tiny(models: dict[str, TransformersModel]) -> TransformersModel:
    """One of them."""
    return models["none"]


@pytest.fixture(scope="module")
def entry(folder: Path, tiny: TransformersModel) -> ModelEntry:
    """What it was loaded from."""
    return ModelEntry(slug=tiny.name, backend="transformers", options={"source": str(folder / "none")})


@pytest.fixture(scope="module")
def made(tiny: TransformersModel, entry: ModelEntry) -> Compressed:
    """A text of several windows and bytes that are none, compressed."""
    return files.compress(DATA, tiny, entry, PROTOCOL)


DATA = b"\xff\xfe" + TEXT.encode()


def restored(file: bytes, entry: ModelEntry, model: TransformersModel | None = None) -> bytes:
    """Restore a file of which nothing is to be said."""
    said: list[object] = []
    data = files.restore(file, "a.fb", entry, said.append, model=model)
    assert not said
    return data


def check_refused(file: bytes, entry: ModelEntry, model: TransformersModel, reason: str) -> None:
    """Check that nothing comes out, and that one line says why."""
    with pytest.raises(UserError, match=reason) as error:
        files.restore(file, "a.fb", entry, print, model=model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(data=FILES)
def test_any_bytes_come_back(name: str, models: dict[str, TransformersModel], data: bytes) -> None:
    """Text, special tokens, bytes that are no text, whatever the model and its tokenizer."""
    found = stream.encode(models[name], data, PROTOCOL)
    parts = stream.decode(models[name], found.payload, len(found.tokens), len(data), PROTOCOL)
    assert b"".join(parts) == data
    bits = found.side_bits + found.token_bits.sum()
    assert abs(8 * len(found.payload) - bits) < 8.01


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x80", b"a" * 50, b"\0" * 9, bytes(range(256)) + TEXT.encode()]
)
def test_whole_files_come_back(data: bytes, tiny: TransformersModel, entry: ModelEntry) -> None:
    """With their headers: empty, of one byte, of one letter, and with all bytes there are."""
    found = files.compress(data, tiny, entry, PROTOCOL)
    assert restored(found.file, entry, tiny) == data
    header, payload = unpack(found.file, "a.fb")
    assert (header, payload) == (found.header, found.stream.payload)
    assert (header.n_bytes, header.n_tokens) == (len(data), len(found.stream.tokens))
    assert len(found.file) - len(payload) < 400


@pytest.mark.parametrize("name", MODELS)
def test_a_text_costs_what_its_likelihood_says(name: str, models: dict[str, TransformersModel]) -> None:
    """To 0.05 % in many windows: the first token's even odds, the patch and a few bytes aside."""
    model = models[name]
    (row,) = likelihoods(model, [("a", TEXT)], PROTOCOL)
    found = stream.encode(model, TEXT.encode(), PROTOCOL)
    ideal = (row.nll - row.repair_nll) / math.log(2)
    assert len(found.tokens) == row.n_tokens
    assert row.n_tokens > 3 * PROTOCOL.window
    even = 0.0 if model.prefix.token is not None else math.log2(model.rows_of_logits / model.vocabulary_size)
    assert found.token_bits.sum() == pytest.approx(ideal + even, rel=5e-4)
    assert found.side_bits < 40 + 1.5 * row.repair_nll / math.log(2)


@pytest.mark.parametrize("name", ["none", "separator", "mamba"])
def test_a_reader_says_what_a_forward_of_the_whole_says(
    name: str, models: dict[str, TransformersModel]
) -> None:
    """Token by token, whether the model has a cache or not, and again after a restart."""
    model, tokens = models[name], np.arange(2, 14)
    reader = Reader(model, 12)
    with torch.inference_mode():
        hidden = model.decoder(input_ids=torch.from_numpy(tokens[None]), use_cache=False)[0]
        whole = model.head(inputs_embeds=hidden, use_cache=False).logits[0].numpy()
    for _ in range(2):
        read = [reader.restart(tokens[:4]), *(reader.step(int(token)) for token in tokens[4:])]
        np.testing.assert_allclose(read, whole[3:], rtol=1e-3, atol=1e-4)


def test_what_cannot_be_read_as_text_is_escaped(tiny: TransformersModel) -> None:
    """Bytes that are no UTF-8, and what lies between them if it is short, cost about 8 bits each."""
    noise = np.random.default_rng(0).bytes(2000)
    found = stream.encode(tiny, noise + TEXT.encode(), PROTOCOL)
    text = stream.encode(tiny, TEXT.encode(), PROTOCOL)
    assert found.tokens.tolist() == text.tokens.tolist()
    assert found.side_bits < 8.5 * len(noise)


def test_a_normaliser_that_spells_one_character_by_many_is_done_without(
    models: dict[str, TransformersModel],
) -> None:
    """A ligature of three bytes becomes 18 letters: more tokens than are believed of any file."""
    data = "ﷺ".encode() * 400
    (segment,) = segments(models["expanding"], data)
    assert (segment.escaped, len(segment.tokens), segment.patch) == (data, 0, b"")


def test_text_that_its_tokens_restore_is_never_escaped(tiny: TransformersModel) -> None:
    """However few bits its bytes alone would cost."""
    (segment,) = segments(tiny, b"a" * 50)
    assert (segment.escaped, len(segment.tokens), segment.patch) == (b"", 50, b"")


def test_a_patch_that_costs_more_than_the_bytes_is_done_without(models: dict[str, TransformersModel]) -> None:
    """What a tokenizer spoils altogether is escaped; what it spoils a little is mended."""
    spoiled = bytes(np.random.default_rng(0).integers(65, 91, 300, dtype=np.uint8))
    assert [segment.escaped for segment in segments(models["lossy"], spoiled)] == [spoiled]
    (mended,) = segments(models["lossy"], b"Some words in lower case, and one capital at the start")
    assert mended.escaped == b""
    assert 0 < len(mended.patch) < 12


def test_a_run_resumes_behind_any_line_of_its_journal(tmp_path: Path, tiny: TransformersModel) -> None:
    """Compressing and restoring: whatever a kill has left, the result is the same, and no line comes twice."""
    journal = tmp_path / "j"
    progress = Progress(journal_file=journal, key="k")
    whole = stream.encode(tiny, DATA, PROTOCOL, progress)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 8
    for n in range(0, len(lines) + 1, 3):
        journal.write_bytes(b"".join(lines[:n]) + b"".join(lines[n : n + 1])[:9])
        again = stream.encode(tiny, DATA, PROTOCOL, progress)
        assert again.payload == whole.payload
        assert again.token_bits.tolist() == whole.token_bits.tolist()
        assert journal.read_bytes().splitlines(keepends=True) == lines
        journal.write_bytes(b"".join(lines[:n]))
        parts = stream.decode(tiny, whole.payload, len(whole.tokens), len(DATA), PROTOCOL, progress)
        assert b"".join(parts) == DATA


def test_what_a_journal_holds_is_not_computed_again(tmp_path: Path, tiny: TransformersModel) -> None:
    """A window that was planted there is taken as it is; one of another key is not."""
    journal = tmp_path / "j"
    whole = stream.encode(tiny, DATA, PROTOCOL, Progress(journal_file=journal, key="k"))
    first = int(whole.tokens[0])
    journal.unlink()
    with opened(journal, "k") as (_, add):
        add(0, [[first, 0, 2**31]])
    planted, other = (
        stream.encode(tiny, DATA, PROTOCOL, Progress(journal_file=journal, key=key)) for key in "kl"
    )
    assert planted.token_bits[0] == 1
    journal.unlink()
    with opened(journal, "k") as (_, add):
        add(0, [[first + 1, 0, 2**31]])
    with pytest.raises(UserError, match="another file"):
        stream.encode(tiny, DATA, PROTOCOL, Progress(journal_file=journal, key="k"))
    assert planted.token_bits[1:].tolist() == whole.token_bits[1:].tolist()
    assert other.payload == whole.payload


def test_the_thread_count_and_all_else_is_put_back() -> None:
    """For a while PyTorch computes as it did, and then as before."""
    before = torch.get_num_threads()
    with reproducible(before + 1):
        assert torch.get_num_threads() == before + 1
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_model_is_loaded_as_it_was(models: dict[str, TransformersModel], folder: Path) -> None:
    """Precision and separator come from the file, whatever the entry says."""
    source = {"source": str(folder / "separator")}
    half = load(source["source"], name="half", dtype="bfloat16", **SEPARATED)
    entry = ModelEntry(slug="half", backend="transformers", options=source)
    found = files.compress(DATA, half, entry, PROTOCOL)
    assert restored(found.file, replace(entry, options={**source, "dtype": "float32"})) == DATA
    check_refused(
        found.file, entry, models["separator"], "with dtype 'bfloat16' of half, and half has 'float32'"
    )


def test_other_weights_are_refused(
    made: Compressed, models: dict[str, TransformersModel], folder: Path, tmp_path: Path, entry: ModelEntry
) -> None:
    """Before they are loaded where that can be told, and by what is loaded where it cannot."""
    save_model(tmp_path, transformers.LlamaConfig(**WIDE, rms_norm_eps=1e-5))
    other = replace(entry, options={"source": str(tmp_path)})
    check_refused(made.file, other, models["none"], "name the same model with --model")
    changed = replace(models["none"], revision="sha256:1")
    check_refused(made.file, entry, changed, "with weights 'sha256:.*' of none, and none has 'sha256:1'")
    prefixed = replace(entry, options={**entry.options, **SEPARATED})
    check_refused(
        made.file, prefixed, load(str(folder / "none"), name="p", **SEPARATED), "with prefix 'none'"
    )


def test_a_hub_id_is_loaded_at_the_commit_that_compressed(made: Compressed, entry: ModelEntry) -> None:
    """Whatever its branch holds since: the header names the commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub = replace(entry, options={"source": "org/name"})
    found = files._as_it_was(replace(made.header, weights=commit), "a.fb", hub)
    assert found.options["revision"] == commit
    other = replace(hub, options={"source": "org/name", "revision": commit[::-1]})
    with pytest.raises(UserError, match=f"of weights {commit}, and .* has {commit[::-1]}"):
        files._as_it_was(replace(made.header, weights=commit), "a.fb", other)


def test_a_file_of_a_device_that_is_not_here_names_it(made: Compressed, entry: ModelEntry) -> None:
    """And not the model, which is all right."""
    header = replace(made.header, device="cuda", machine="cuda Some GPU, CUDA 13.0")
    with pytest.raises(
        UserError, match=r"a\.fb was compressed on cuda Some GPU, .*decompress it on such a machine"
    ):
        files.restore(pack(header, made.stream.payload), "a.fb", entry, print)


def test_bytes_that_are_no_text_take_linear_memory(tiny: TransformersModel) -> None:
    """A megabyte of them is one segment, and takes no more than a few times its size."""
    data = bytes(random.Random(0).choices([0x20, 0xFE, 0xFF], k=1 << 20))
    tracemalloc.start()
    (segment,) = segments(tiny, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert segment.escaped == data
    assert peak < 12 * len(data)


@pytest.mark.parametrize("how", [{"dtype": "bfloat16"}, {"attention": "eager"}])
def test_other_arithmetic_is_refused(
    how: dict[str, Any], made: Compressed, tiny: TransformersModel, folder: Path, entry: ModelEntry
) -> None:
    """Where nothing in the header tells it, the arithmetic of fixed texts does."""
    other = replace(load(str(folder / "none"), name="t", **how), conditions=tiny.conditions)
    check_refused(made.file, entry, other, "whose arithmetic differs from that of .*; decompress it there")


def test_arithmetic_that_differs_elsewhere_never_gives_a_wrong_file(
    made: Compressed, folder: Path, entry: ModelEntry
) -> None:
    """A token that is in no fixed text comes out another way: what follows it is noticed by the digest."""
    other = load(str(folder / "none"), name="t")
    (letter,) = other.encode(["w"])[0].tolist()
    with torch.no_grad():
        other.decoder.get_input_embeddings().weight[letter] += 1
    check_refused(
        made.file, entry, other, "cannot be restored, so nothing is written: .*computes otherwise than"
    )


def test_what_went_wrong_is_not_taken_up_again(
    made: Compressed, tiny: TransformersModel, folder: Path, entry: ModelEntry, tmp_path: Path
) -> None:
    """Windows that a failed run has finished serve nobody; those of another machine are not taken either."""
    broken = load(str(folder / "none"), name="t")
    (letter,) = broken.encode(["w"])[0].tolist()
    with torch.no_grad():
        broken.decoder.get_input_embeddings().weight[letter] += 1
    journal = tmp_path / "j"
    with pytest.raises(UserError, match="cannot be restored"):
        files.restore(made.file, "a.fb", entry, print, journal_file=journal, model=broken)
    assert not journal.exists()
    right = files.restore(made.file, "a.fb", entry, print, journal_file=journal, model=tiny)
    kept = journal.read_bytes()
    elsewhere = replace(tiny, software="torch of elsewhere")
    again = files.restore(made.file, "a.fb", entry, lambda _: None, journal_file=journal, model=elsewhere)
    assert right == again == DATA
    assert journal.read_bytes().splitlines()[1:] == kept.splitlines()[1:]
    assert journal.read_bytes() != kept


def test_another_machine_that_computes_alike_is_told(
    made: Compressed, tiny: TransformersModel, entry: ModelEntry
) -> None:
    """A name of a machine refuses nothing."""
    said: list[str] = []
    file = altered(made, machine="cpu elsewhere")
    assert files.restore(file, "a.fb", entry, lambda line: said.append(str(line)), model=tiny) == DATA
    assert len(said) == 1
    assert said[0].startswith("a.fb was compressed on cpu elsewhere, ")


def altered(made: Compressed, payload: bytes | None = None, **facts: Any) -> bytes:
    """Return a file with another payload or other facts, its checksum right."""
    payload = made.stream.payload if payload is None else payload
    return pack(replace(made.header, **{"n_payload": len(payload), **facts}), payload)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"threads": 0}, "says what no file has"),
        ({"threads": 10**6}, "says what no file has"),
        ({"n_tokens": 10**12}, "says what no file has"),
        ({"protocol": "full/999999999/1"}, "says what no file has"),
        ({"protocol": "full/20/7/1"}, "names protocol"),
        ({"protocol": "full/²/1"}, "names protocol"),
        ({"protocol": f"full/{'9' * 5000}/1"}, "names protocol"),
        ({"protocol": "full/7/20"}, "stride 20 must be"),
        ({"protocol": "sink/20/7"}, "names protocol"),
        ({"protocol": "full/20/8"}, "arithmetic differs|cannot be restored"),
        ({"n_tokens": 10}, "its segments are not those of such a file"),
        ({"n_bytes": 10**15}, "whose arithmetic differs|cannot be restored"),
        ({"n_bytes": 0, "n_tokens": 0}, "whose arithmetic differs"),
        ({"sha256": "0" * 64}, "nothing is written: what comes out is not what went in"),
        ({"fingerprint": ""}, "whose arithmetic differs"),
        ({"device": "abacus"}, "with device 'abacus'"),
        ({"prefix": "bos"}, "with prefix 'bos' of none, and none has 'none'"),
        ({"attention": "none"}, "with attention 'none' of none, and none has"),
    ],
    ids=str,
)
def test_headers_that_lie_are_refused(
    facts: dict[str, Any], reason: str, made: Compressed, tiny: TransformersModel, entry: ModelEntry
) -> None:
    """Whatever they claim, nothing wrong comes out."""
    check_refused(altered(made, **facts), entry, tiny, reason)


@settings(max_examples=15)
@given(data=st.data())
def test_any_payload_ends(
    data: st.DataObject, made: Compressed, tiny: TransformersModel, entry: ModelEntry
) -> None:
    """Noise, altered bytes, and noise behind a right beginning: soon, with the file itself or one line."""
    right = made.stream.payload
    noise = data.draw(st.binary(max_size=60))
    place = data.draw(st.integers(0, len(right)))
    payload = right[:place] + noise + data.draw(st.sampled_from([b"", right[place + len(noise) :]]))
    found, refusal = DATA, ""
    try:
        found = files.restore(altered(made, payload), "a.fb", entry, print, model=tiny)
    except UserError as error:
        refusal = str(error)
    assert found == DATA  # the end of a stream is one of several numbers
    assert not refusal or refusal.startswith("a.fb cannot be restored, so nothing is written: ")


def coded(numbers: list[int], aside: bytes = b"", rest: bytes = b"") -> bytes:
    """Return a stream of any numbers, what is escaped or mends, and raw bytes behind."""
    coder = Encoder()
    for number in numbers:
        stream._write_number(coder, number)
    ByteModel().encode(coder, aside)
    return coder.finish() + rest


def bomb(n: int) -> bytes:
    """Return a patch that makes n letters: blocks of 128 KiB, each of four bytes; see `repair`."""
    small = zstandard.ZstdCompressionParameters(
        window_log=17, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    return bytes([20]) + zstandard.ZstdCompressor(compression_params=small).compress(b"a" * n)


BOMB, HALF = bomb(1 << 23), bomb(3_000_000)


@pytest.mark.parametrize(
    ("n_bytes", "n_tokens", "payload", "reason"),
    [
        (10**12, 0, coded([10**11]), "it ends before its last symbol"),
        (10**12, 0, coded([1, 10**12, 0, 0]), "it ends before its last symbol"),
        (10**12, 10**12, coded([1, 0, 10**12, 0]), "a number in it is above 16000000"),
        (
            10**12,
            16 * 10**6,
            coded([1, 0, 16 * 10**6, 0], rest=bytes(range(250))),
            "it ends before its last symbol|a token that is none",
        ),
        (10**12, 0, coded([1, 0, 0, 10**12]), "a number in it is above 4000000"),
        (10**12, 0, coded([1, 0, 0, len(BOMB)], BOMB), "the patch makes more than 4000000 bytes"),
        (1 << 20, 0, coded([1, 0, 0, len(BOMB)], BOMB), "the patch makes more than 1048576 bytes"),
        (5_999_999, 0, coded([2, *[0, 0, len(HALF)] * 2], HALF * 2), "it holds more than the file"),
        (20, 0, coded([2, 15, 0, 0, 15, 0, 0], b"a" * 30), "its segments are not those"),
        (20, 0, b"\xff" * 30, "a number in it is above 20"),
        (100, 0, coded([1, 0, 0, 1], b"\xff"), "a patch does not begin with 255"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_crafted_streams_take_neither_time_nor_memory(
    n_bytes: int, n_tokens: int, payload: bytes, reason: str, tiny: TransformersModel
) -> None:
    """What is claimed is not made before it is paid for."""
    with pytest.raises(ValueError, match=reason):
        b"".join(stream.decode(tiny, payload, n_tokens, n_bytes, PROTOCOL))


def test_weights_that_give_no_numbers_are_refused(folder: Path) -> None:
    """By name, with what may help."""
    broken = load(str(folder / "none"), name="broken")
    with torch.no_grad():
        broken.decoder.get_input_embeddings().weight[5] = math.nan
    text = broken.decode(np.array([5, 5, 5]))
    with pytest.raises(UserError, match="broken gives logits that cannot be coded: a logit is not finite"):
        stream.encode(broken, text.encode() * 8, PROTOCOL)


def test_frequencies_of_a_model_leave_no_token_out(tiny: TransformersModel) -> None:
    """Ids that are no token of its tokenizer too."""
    bounds = frequencies(Reader(tiny, 12).restart(np.array([5, 6])))
    assert len(bounds) == tiny.rows_of_logits + 1 == 301
    assert np.diff(bounds).min() >= 1


@pytest.mark.slow
def test_real_text_comes_back_from_a_real_model() -> None:
    """Prose and code of this repository by SmolLM2-135M: to the bit, and as long as `score` says to 0.05 %."""
    known = test_smollm2.model()
    source = str(ROOT / str(test_smollm2.LISTED.options["source"]))
    entry = replace(test_smollm2.LISTED, options={**test_smollm2.LISTED.options, "source": source})
    protocol = ScoringProtocol(window=48, stride=20)
    for path in (ROOT / "README.md", ROOT / "evaluate" / "windows.py"):
        text = path.read_text()[:300]
        (row,) = likelihoods(known, [("a", text)], protocol)
        found = files.compress(text.encode(), known, entry, protocol)
        assert restored(found.file, entry, known) == text.encode()
        assert len(found.stream.tokens) == row.n_tokens
        assert row.n_tokens > 48
        assert found.stream.token_bits.sum() == pytest.approx(row.nll / math.log(2), rel=5e-4)
        assert len(found.file) < row.nll / math.log(2) / 8 * 1.0005 + 420
        assert found.stream.side_bits <= 48
