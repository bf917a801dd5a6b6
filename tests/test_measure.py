"""Measurements carried through: protocols that stand or do not, precision, shards."""

import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray
from test_transformers_model import WIDE, save_model

from collectors.document import UserError
from evaluate import engine, estimate, measure, rates, scores, stopping, worker
from evaluate.corpus import Corpus, folder
from evaluate.likelihood import likelihoods
from evaluate.measure import Settings
from evaluate.model import Likelihood, ModelEntry, Tokens
from evaluate.scores import Scored
from evaluate.windows import ScoringProtocol, full_windows
from evaluate.worker import Facts, Shard, Trial
from samples import ByteModel

WORDS = [
    "the",
    "a",
    "of",
    "model",
    "text",
    "window",
    "token",
    "cache",
    "rate",
    "bits",
    "corpus",
    "and",
    "is",
    "was",
]
SINK = ScoringProtocol(name="sink", window=64, stride=16)
FULL = SINK.exact
BYTES = ModelEntry(slug="bytes", backend="transformers")


def make_corpus(path: Path, texts: Sequence[str], ids: Sequence[str] = ()) -> Corpus:
    """Write texts as JSON lines and return them as a corpus."""
    path.mkdir(parents=True)
    names = ids or [f"d{number}" for number in range(len(texts))]
    lines = [json.dumps({"id": i, "text": t}) + "\n" for i, t in zip(names, texts, strict=True)]
    (path / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder(path, "text")


def prose(n: int, length: int, *, seed: int = 0) -> list[str]:
    """Return texts of few or many different words, each of about so many characters."""
    chosen = random.Random(seed)
    texts = []
    for _ in range(n):
        known = chosen.sample(WORDS, k=chosen.randint(2, len(WORDS)))
        texts.append(" ".join(chosen.choices(known, k=round(chosen.uniform(0.6, 1.4) * length / 5))))
    return texts


def carry_on(
    model: ByteModel, corpus: Corpus, settings: Settings, *, entry: ModelEntry = BYTES
) -> tuple[Scored, list[str], list[list[Shard | Trial]]]:
    """Measure with a model at hand: what was found, what was said, and what the workers were asked for."""
    said: list[str] = []
    asked: list[list[Shard | Trial]] = []
    exchange = measure.measure(entry, corpus, settings, journals=Path("journals"), say=said.append)
    tasks = next(exchange)
    while True:
        asked.append(list(tasks))
        try:
            tasks = exchange.send([answer(model, task) for task in tasks])
        except StopIteration as stop:
            return stop.value, said, asked


def answer(model: ByteModel, task: Shard | Trial) -> list[Likelihood] | Facts:
    """Do what a worker does, with a model that no backend loads."""
    if isinstance(task, Trial):
        return worker._facts(model, task)
    return likelihoods(model, task.documents, task.protocol)


def conduct(
    entry: ModelEntry, corpus: Corpus, settings: Settings, journals: Path
) -> tuple[Scored, list[str]]:
    """Measure as the commands do, in this process."""
    said: list[str] = []
    found: list[Scored] = []
    exchange = measure.measure(entry, corpus, settings, journals=journals, say=said.append)
    measure.conduct({0: exchange}, "local", lambda _, scored: found.append(scored), together=False)
    (scored,) = found
    return scored, said


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    """A tiny Llama: sinks are valid for it."""
    source = save_model(tmp_path_factory.mktemp("llama"), transformers.LlamaConfig(**WIDE))
    return ModelEntry(
        slug="llama", backend="transformers", options={"source": str(source), "separator": "<|endoftext|>"}
    )


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    """A tiny GPT-2: its learned positions have no room for a rolling cache."""
    config = transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    source = save_model(tmp_path_factory.mktemp("gpt2"), config)
    return ModelEntry(slug="gpt2", backend="transformers", options={"source": str(source)})


@pytest.fixture
def long_texts(tmp_path: Path) -> Corpus:
    """Documents of several windows, and one that fits into a single one."""
    return make_corpus(tmp_path / "long", [*prose(20, 200), "short"])


@pytest.fixture
def many(tmp_path: Path) -> Corpus:
    """Many small documents, much alike."""
    return make_corpus(tmp_path / "many", prose(200, 120))


def rows_of(scored: Scored) -> dict[str, float]:
    """Return nats by document."""
    return {row.document: row.nll for row in scored.likelihoods}


@pytest.mark.parametrize("name", ["full", "huang2024"])
def test_exact_protocols_are_scored_as_they_are(
    name: str, llama: ModelEntry, long_texts: Corpus, tmp_path: Path
) -> None:
    """One shard, the documents in the order of the corpus, and no sample of anything."""
    protocol = ScoringProtocol(name=name, window=64, stride=16)
    scored, said = conduct(llama, long_texts, Settings(protocol=protocol), tmp_path / "j")
    model = worker._model(llama)
    assert scored.likelihoods == likelihoods(model, long_texts.documents(), protocol)
    assert (scored.protocol, said, scored.unscored) == (f"{name}/64/16", [], [])
    assert scored.first_token == {"full": "prefix", "huang2024": "unscored"}[name]
    assert (scored.prefix, scored.context_length) == ("separator <|endoftext|> (0)", 512)
    assert scored.conditions is not None
    assert (scored.conditions.dtype, scored.conditions.device) == ("float32", "cpu")
    assert [row.exact_nll for row in scored.likelihoods] == [None] * 21


def test_sink_is_scored_with_its_deviation(llama: ModelEntry, long_texts: Corpus, tmp_path: Path) -> None:
    """The documents sampled carry what both protocols say, and the rest was read once."""
    settings = Settings(protocol=SINK)
    scored, said = conduct(llama, long_texts, settings, tmp_path / "j")
    model = worker._model(llama)
    once = likelihoods(model, long_texts.documents(), SINK)
    exact = {row.document: row.nll for row in likelihoods(model, long_texts.documents(), FULL)}
    assert rows_of(scored) == pytest.approx({row.document: row.nll for row in once}, rel=1e-6)
    sampled = {row.document: row.exact_nll for row in scored.likelihoods if row.exact_nll is not None}
    assert sampled == pytest.approx({name: exact[name] for name in sampled}, rel=1e-6)
    assert len(sampled) == measure.SAMPLE_DOCUMENTS
    order = stopping.order(21, settings.seed, long_texts.sha256)
    assert sampled.keys() == {f"d{i}" for i in [i for i in order if i != 20][: measure.SAMPLE_DOCUMENTS]}
    value = sum(rows_of(scored)[name] for name in sampled) / sum(exact[name] for name in sampled) - 1
    assert f"llama on long: sink deviates by {value:+.3%} [" in said[0]
    assert "from full on 8 documents" in said[0]
    assert len(said) == 1


def test_a_deviation_lands_in_every_row_and_in_the_table(
    llama: ModelEntry, long_texts: Corpus, tmp_path: Path
) -> None:
    """With its interval and how many documents it is from."""
    scored, _ = conduct(llama, long_texts, Settings(protocol=SINK), tmp_path / "j")
    found = rates.deviation(scored.likelihoods)
    assert found is not None
    rows = scores.summarise(llama, long_texts, scored)
    assert {(s.deviation, s.deviation_low, s.deviation_high, s.n_deviation) for s in rows} == {
        (found.value, found.low, found.high, 8)
    }
    scores.write_scores(tmp_path / "scores.csv", rows)
    table = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert {row["deviation"] for row in table} == {f"{found.value:.9g}"}
    assert {row["n_deviation"] for row in table} == {"8"}


@pytest.mark.parametrize(("tolerance", "taken"), [(10.0, "sink"), (1e-12, "full")])
def test_auto_takes_sink_where_it_is_close(
    tolerance: float,
    taken: str,
    llama: ModelEntry,
    long_texts: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says how far sink was, and numbers are those of the protocol it took."""
    monkeypatch.setattr(measure, "TOLERANCE", tolerance)
    scored, said = conduct(llama, long_texts, Settings(protocol=SINK, auto=True), tmp_path / "j")
    protocol = ScoringProtocol(name=taken, window=64, stride=16)
    assert scored.protocol == str(protocol)
    expected = likelihoods(worker._model(llama), long_texts.documents(), protocol)
    assert rows_of(scored) == pytest.approx({row.document: row.nll for row in expected}, rel=1e-6)
    assert said[0].endswith(
        f" on 8 documents{', perhaps by more than 0.0%' * (taken == 'full')}; scored as {taken}"
    )
    n_sampled = sum(row.exact_nll is not None for row in scored.likelihoods)
    assert n_sampled == (8 if taken == "sink" else 0)


def test_a_deviation_that_may_be_too_large_is_too_large(
    llama: ModelEntry, long_texts: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole interval must be within the tolerance, not its middle alone."""
    scored, _ = conduct(llama, long_texts, Settings(protocol=SINK), tmp_path / "j")
    found = rates.deviation(scored.likelihoods)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    widest = max(abs(found.low), abs(found.high))
    assert widest > abs(found.value)
    for tolerance, taken in (((abs(found.value) + widest) / 2, "full"), (widest * 1.01, "sink")):
        monkeypatch.setattr(measure, "TOLERANCE", tolerance)
        chosen, _ = conduct(llama, long_texts, Settings(protocol=SINK, auto=True), tmp_path / "j")
        assert chosen.protocol == f"{taken}/64/16"


def test_a_model_without_sinks_is_scored_in_full_or_refused(
    gpt2: ModelEntry, long_texts: Corpus, tmp_path: Path
) -> None:
    """`auto` takes what is valid; who asks for `sink` is told why not."""
    scored, _ = conduct(gpt2, long_texts, Settings(protocol=SINK, auto=True), tmp_path / "j")
    assert scored.protocol == "full/64/16"
    assert scored.first_token == "uniform"
    with pytest.raises(
        UserError, match="gpt2 cannot be scored under protocol sink: .*; use protocol full or auto"
    ):
        conduct(gpt2, long_texts, Settings(protocol=SINK), tmp_path / "j")


@pytest.mark.parametrize("texts", [prose(30, 40), prose(1, 3000), prose(6, 300)])
def test_auto_asks_for_no_sample_that_costs_more_than_it_saves(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of one window each, a single text, or a few: full is as cheap, and nothing is said."""
    monkeypatch.setattr(measure, "TOLERANCE", 10.0)
    corpus = make_corpus(tmp_path / "c", texts)
    scored, said, asked = carry_on(ByteModel(), corpus, Settings(protocol=SINK, auto=True))
    assert scored.protocol == "full/64/16"
    assert said == []
    assert [[type(task).__name__ for task in tasks] for tasks in asked] == [["Trial"], ["Shard"]]
    assert [row.exact_nll for row in scored.likelihoods] == [None] * len(texts)


def test_a_sample_costs_no_more_than_sink_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for under `auto`, counted in tokens read, is less than the exact protocol alone."""
    monkeypatch.setattr(measure, "TOLERANCE", 10.0)
    for n in range(1, 40, 3):
        texts = prose(n, 200, seed=n)
        corpus = make_corpus(tmp_path / str(n), texts)
        _, _, asked = carry_on(ByteModel(), corpus, Settings(protocol=SINK, auto=True))
        read = sum(tokens_read(task) for tasks in asked for task in tasks if isinstance(task, Shard))
        exact = sum(tokens_read_by(FULL, text) for text in texts)
        assert read <= exact
        assert (read < exact) == (n > 10)


def tokens_read(shard: Shard) -> int:
    """Return the tokens that a shard's documents make a model without prefix read."""
    return sum(tokens_read_by(shard.protocol, text) for _, text in shard.documents)


def tokens_read_by(protocol: ScoringProtocol, text: str) -> int:
    """Return how many tokens of a text are read, a token per character: few enough for one segment."""
    if protocol.name == "sink":
        return len(text) - 1
    return sum(window.n_inputs for window in full_windows(len(text), protocol, prefix=False))


def test_texts_of_one_window_need_no_sample(tmp_path: Path) -> None:
    """Under `sink` they are scored as under `full`, and there is no deviation to speak of."""
    corpus = make_corpus(tmp_path / "c", prose(10, 40))
    scored, said, _ = carry_on(ByteModel(), corpus, Settings(protocol=SINK))
    assert (scored.protocol, said) == ("sink/64/16", [])
    assert scored.likelihoods == likelihoods(ByteModel(), corpus.documents(), FULL)


def test_a_short_context_is_said(tmp_path: Path) -> None:
    """The window is cut, and so is what the row says."""
    cut = "scored as full/32/8, which is not comparable with full/64/16"
    corpus = make_corpus(tmp_path / "c", prose(3, 200))
    scored, said, _ = carry_on(ByteModel(context_length=32), corpus, Settings(protocol=FULL))
    assert said == [f"bytes reads 32 tokens, fewer than the window of 64: {cut}"]
    assert (scored.protocol, scored.context_length) == ("full/32/8", 32)


def test_precision_stops_early_with_an_interval_of_the_corpus(many: Corpus, tmp_path: Path) -> None:
    """A prefix of the seeded order is scored, the others are named, and the interval holds what all of them cost."""
    settings = Settings(protocol=FULL, precision=0.012)
    scored, _, _ = carry_on(ByteModel(), many, settings)
    every = likelihoods(ByteModel(), many.documents(), FULL)
    n = len(scored.likelihoods)
    order = stopping.order(200, settings.seed, many.sha256)
    assert n in stopping.looks(200)[:-1]
    assert scored.likelihoods == [every[i] for i in sorted(order[:n])]
    texts = dict(many.documents())
    assert scored.unscored == [
        (f"d{i}", len(texts[f"d{i}"]), len(texts[f"d{i}"].encode())) for i in sorted(order[n:])
    ]
    for row in scores.summarise(BYTES, many, scored):
        assert (row.n_documents, row.n_unscored_documents) == (n, 200 - n)
        if row.metric == "bits_per_token":  # how many tokens the others have is not known
            assert (row.low, row.high) == (None, None)
            continue
        unit: rates.Unit = "character" if row.metric == "bits_per_character" else "byte"
        population = [len(text) for text in texts.values()]
        assert (row.low, row.high) == stopping.interval(scored.likelihoods, population, unit)
        assert row.low is not None
        assert row.high is not None
        assert row.low < rates.rate(every, unit) < row.high
        assert (row.high - row.low) / 2 / row.value <= 0.012
    scores.write_cell(tmp_path / "cell.parquet", BYTES, many, [scored], "key")
    assert scores.read_cell(tmp_path / "cell.parquet", "") == scores.summarise(BYTES, many, scored)


def test_a_greater_precision_scores_more(many: Corpus) -> None:
    """Up to all documents, whose interval is that of another such corpus again."""
    sizes = []
    for precision in (0.1, 0.012, 0.008, 1e-6):
        scored, _, _ = carry_on(ByteModel(), many, Settings(protocol=FULL, precision=precision))
        sizes.append(len(scored.likelihoods))
    assert sizes == sorted(set(sizes))
    assert sizes[0] == stopping.FIRST_LOOK
    assert sizes[-1] == 200
    row = scores.summarise(BYTES, many, scored)[0]
    assert (row.low, row.high) == rates.interval(scored.likelihoods, "character")


def test_models_share_the_documents_of_a_precision(many: Corpus) -> None:
    """The order is of the corpus and the seed; another model only stops elsewhere in it."""

    def found(model: ByteModel, precision: float, seed: int) -> set[str]:
        scored, _, _ = carry_on(model, many, Settings(protocol=FULL, precision=precision, seed=seed))
        return set(rows_of(scored))

    other = ByteModel(name="other", revision="2", vocabulary_size=5000)
    small, large = found(other, 0.1, 1), found(ByteModel(), 0.01, 1)
    assert len(small) < len(large)
    assert small < large
    assert found(other, 0.1, 2) != small


def test_every_look_asks_for_new_documents_alone(many: Corpus) -> None:
    """Nothing is scored twice."""
    _, _, asked = carry_on(ByteModel(), many, Settings(protocol=FULL, precision=0.01))
    sizes = [sum(len(task.documents) for task in tasks if isinstance(task, Shard)) for tasks in asked]
    looks = stopping.looks(200)
    assert len(sizes) > 3
    assert list(np.cumsum(sizes[1:])) == looks[: len(sizes) - 1]
    names = [
        name for tasks in asked for task in tasks if isinstance(task, Shard) for name, _ in task.documents
    ]
    assert len(set(names)) == len(names)
    journals = [task.journal_file for tasks in asked for task in tasks if isinstance(task, Shard)]
    assert len(set(journals)) == len(journals)


def test_precision_goes_with_sink(tmp_path: Path) -> None:
    """The sample is of the first look, so that it is never more than what is scored."""
    texts = prose(120, 150)
    corpus = make_corpus(tmp_path / "c", texts)
    first = [int(i) for i in stopping.order(120, 1, corpus.sha256)[: stopping.FIRST_LOOK]]
    for known in (
        corpus,
        replace(make_corpus(tmp_path / "d", shortened(texts, first[5:])), sha256=corpus.sha256),
    ):
        scored, said, asked = carry_on(ByteModel(), known, Settings(protocol=SINK, precision=0.1))
        sampled = {row.document for row in scored.likelihoods if row.exact_nll is not None}
        assert len(sampled) == (measure.SAMPLE_DOCUMENTS if known is corpus else 5)
        assert sampled <= {f"d{i}" for i in first} <= rows_of(scored).keys()
        assert "sink deviates by" in said[0]
        shards = [task for tasks in asked for task in tasks if isinstance(task, Shard)]
        once = [task for task in shards if task.protocol.name == "sink"]
        assert sum(len(task.documents) for task in once) == len(scored.likelihoods)


def shortened(texts: Sequence[str], which: Sequence[int]) -> list[str]:
    """Return the texts, some of them cut to less than a window."""
    return [text[:50] if i in which else text + text for i, text in enumerate(texts)]


def test_empty_documents_do_no_harm(tmp_path: Path) -> None:
    """They cost nothing, wherever they fall: scored or not, sampled or not, even if a first look sees no other."""
    texts = prose(130, 100)
    for i in stopping.order(130, 1, make_corpus(tmp_path / "probe", texts).sha256)[:40]:
        texts[i] = ""
    for precision, protocol in ((0.1, FULL), (None, FULL), (None, SINK), (0.1, SINK)):
        corpus = make_corpus(tmp_path / f"{precision}-{protocol.name}", texts)
        scored, _, _ = carry_on(ByteModel(), corpus, Settings(protocol=protocol, precision=precision))
        names = [*rows_of(scored), *(name for name, _, _ in scored.unscored)]
        assert sorted(names) == sorted(f"d{i}" for i in range(130))
        for row in scored.likelihoods:
            if not texts[int(row.document[1:])]:
                assert (row.nll, row.n_tokens, row.n_characters, row.lossless) == (0.0, 0, 0, True)
        assert scores.summarise(BYTES, corpus, scored)[0].value > 0


def test_a_first_look_at_nothing_looks_on(tmp_path: Path) -> None:
    """An order that begins with empty documents stops where there is something to be precise about."""
    full, empty = prose(60, 100), [""] * 400
    corpus = make_corpus(tmp_path / "c", [*full, *empty])
    order = stopping.order(460, 5, corpus.sha256)
    assert len([i for i in order[: stopping.FIRST_LOOK] if i < 60]) < 8
    scored, _, _ = carry_on(ByteModel(), corpus, Settings(protocol=FULL, precision=0.05, seed=5))
    assert sum(row.n_characters > 0 for row in scored.likelihoods) > 1


@pytest.mark.parametrize("texts", [["one text"], ["x"], ["", "x", ""], ["ab", "cd"]])
@pytest.mark.parametrize("precision", [None, 0.01])
def test_tiny_corpora_are_scored_whole(texts: list[str], precision: float | None, tmp_path: Path) -> None:
    """A document, a character: there is nothing to leave out."""
    corpus = make_corpus(tmp_path / "c", texts)
    scored, _, _ = carry_on(ByteModel(), corpus, Settings(protocol=SINK, auto=True, precision=precision))
    assert [row.n_characters for row in scored.likelihoods] == [len(text) for text in texts]
    assert scored.unscored == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": 0.01, "protocol": ScoringProtocol(name="huang2024")}, "protocol huang2024 joins"),
        ({"precision": 0}, "precision 0 must be a number above 0 and below 0.5"),
        ({"precision": 0.5}, "precision 0.5 must be"),
        ({"precision": -0.1}, "precision -0.1 must be"),
        ({"precision": "small"}, "precision 'small' must be"),
        ({"precision": True}, "precision True must be"),
        ({"precision": float("nan")}, "precision nan must be"),
        ({"seed": "x"}, "seed 'x' must be a whole number"),
        ({"seed": True}, "seed True must be a whole number"),
        ({"seed": 1.5}, "seed 1.5 must be a whole number"),
        ({"engine": "spark"}, "engine 'spark' is unknown; choose one of local, ray"),
    ],
)
def test_wrong_settings_are_one_line(arguments: dict[str, Any], message: str) -> None:
    """The value, the rule, the remedy."""
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        Settings(**{"protocol": ScoringProtocol(), **arguments})
    assert len(str(caught.value).splitlines()) == 1


def test_settings_name_all_that_moves_a_number() -> None:
    """A seed where something is drawn; never the engine."""
    names = [
        str(Settings(protocol=FULL)),
        str(Settings(protocol=SINK)),
        str(Settings(protocol=SINK, seed=2)),
        str(Settings(protocol=SINK, auto=True)),
        str(Settings(protocol=FULL, precision=0.01)),
        str(Settings(protocol=FULL, precision=0.02)),
        str(Settings(protocol=FULL, precision=0.02, seed=2)),
        str(Settings(protocol=SINK, precision=0.02)),
        str(Settings(protocol=SINK, auto=True, precision=0.02)),
    ]
    assert len(set(names)) == len(names)
    assert str(Settings(protocol=FULL, seed=2)) == str(Settings(protocol=FULL, engine="ray")) == names[0]


def test_shards_change_no_likelihood(
    llama: ModelEntry, long_texts: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut for several workers, documents cost what they cost together, in the order of the corpus."""
    settings = Settings(protocol=SINK)
    whole, _ = conduct(llama, long_texts, settings, tmp_path / "a")
    monkeypatch.setattr(measure, "SHARD_CHARACTERS", 300)
    parts, _ = conduct(llama, long_texts, settings, tmp_path / "b")
    assert len(list((tmp_path / "b").iterdir())) > len(list((tmp_path / "a").iterdir())) + 5
    assert list(rows_of(parts)) == list(rows_of(whole)) == [f"d{i}" for i in range(21)]
    assert rows_of(parts) == pytest.approx(rows_of(whole), rel=1e-6)  # float32, in other batches


def test_shards_of_an_exact_model_are_exact(many: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a row does not depend on its batch, not a bit differs, with a precision too."""
    for settings in (Settings(protocol=SINK), Settings(protocol=FULL, precision=0.012)):
        whole, _, _ = carry_on(ByteModel(), many, settings)
        with monkeypatch.context() as patch:
            patch.setattr(measure, "SHARD_CHARACTERS", 500)
            parts, _, asked = carry_on(ByteModel(), many, settings)
        assert parts == whole
        assert max(len(tasks) for tasks in asked) > 5


def test_a_stream_is_never_cut(many: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under huang2024 every document is context of the next, so one worker scores them all."""
    monkeypatch.setattr(measure, "SHARD_CHARACTERS", 500)
    settings = Settings(protocol=ScoringProtocol(name="huang2024", window=64, stride=16))
    _, _, asked = carry_on(ByteModel(), many, settings)
    assert [len(tasks) for tasks in asked] == [1, 1]
    (shard,) = asked[1]
    assert isinstance(shard, Shard)
    assert len(shard.documents) == 200


def test_documents_of_one_id_share_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a user's own files may repeat; two workers must not write to one file."""
    monkeypatch.setattr(measure, "SHARD_CHARACTERS", 10)
    corpus = make_corpus(tmp_path / "c", ["the same text"] * 3, ["same"] * 3)
    scored, _, asked = carry_on(ByteModel(), corpus, Settings(protocol=FULL))
    assert len({task.journal_file for task in asked[1] if isinstance(task, Shard)}) == 3
    assert len(scored.likelihoods) == 3


def test_a_finished_journal_is_not_scored_again(
    llama: ModelEntry, long_texts: Corpus, tmp_path: Path
) -> None:
    """A command that is begun again asks for the same shards, and takes from them what is there."""
    settings = Settings(protocol=SINK, precision=0.3)
    first, _ = conduct(llama, long_texts, settings, tmp_path / "j")
    before = {path: path.read_bytes() for path in (tmp_path / "j").iterdir()}
    again, _ = conduct(llama, long_texts, settings, tmp_path / "j")
    assert again == first
    assert {path: path.read_bytes() for path in (tmp_path / "j").iterdir()} == before


def test_calibration_is_worth_it_only_for_much_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little text is scored without a word; for more, every way is estimated under the model's name."""
    corpus = make_corpus(tmp_path / "c", prose(40, 300))
    settings = Settings(protocol=SINK, precision=0.2)
    _, said, asked = carry_on(ByteModel(), corpus, settings)
    assert [task.timed for task in asked[0] if isinstance(task, Trial)] == [False]
    assert not any("reads" in line for line in said)
    monkeypatch.setattr(estimate, "WORTH_CALIBRATING", 1000)
    entry = ModelEntry(slug="timed", backend="transformers", price={"per_million_tokens": 1000.0})
    _, said, asked = carry_on(ByteModel(), corpus, settings, entry=entry)
    assert [task.timed for task in asked[0] if isinstance(task, Trial)] == [True]
    exact = sum(tokens_read_by(FULL, text) for _, text in corpus.documents())
    once = sum(tokens_read_by(SINK, text) for _, text in corpus.documents())
    assert said[0].startswith(f"timed on c, full: reads {exact:,} tokens, about ")
    assert said[1].startswith(f"timed on c, sink: reads {once:,} tokens, about ")
    assert said[2].startswith("timed on c, full to 0.2, likely after 30 of 40 documents: reads ")
    assert said[3].startswith("timed on c, sink to 0.2, likely after 30 of 40 documents: reads ")
    assert all(", cost " in line for line in said[:4])


class Crowded(ByteModel):
    """A model for which memory never suffices."""

    def nll(self, *_: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        raise MemoryError("12 GB")


def test_a_calibration_without_memory_leaves_it_to_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring says what does not fit, in a line."""
    monkeypatch.setattr(estimate, "WORTH_CALIBRATING", 100)
    corpus = make_corpus(tmp_path / "c", prose(4, 300))
    entry = ModelEntry(slug="crowded", backend="transformers")
    with pytest.raises(UserError, match="a single window of 64 tokens does not fit into memory"):
        carry_on(Crowded(), corpus, Settings(protocol=FULL), entry=entry)


def test_nothing_to_measure_needs_no_worker() -> None:
    """Current cells and compressors start no engine, and import no deep-learning library to count GPUs."""
    finished: list[Any] = []
    measure.conduct({}, "ray", lambda name, scored: finished.append((name, scored)), together=True)
    assert finished == []


def test_several_measurements_finish_under_their_names(
    llama: ModelEntry, gpt2: ModelEntry, tmp_path: Path
) -> None:
    """Each as if it were alone."""
    corpora = {
        "a": make_corpus(tmp_path / "a", prose(5, 200)),
        "b": make_corpus(tmp_path / "b", prose(4, 90)),
    }
    settings = Settings(protocol=FULL)
    found: dict[tuple[str, str], Scored] = {}
    exchanges = {
        (entry.slug, name): measure.measure(
            entry, corpus, settings, journals=tmp_path / "j" / entry.slug, say=print
        )
        for entry in (llama, gpt2)
        for name, corpus in corpora.items()
    }
    measure.conduct(exchanges, "local", lambda name, scored: found.update({name: scored}), together=False)
    assert list(found) == [("llama", "a"), ("llama", "b"), ("gpt2", "a"), ("gpt2", "b")]
    for entry in (llama, gpt2):
        for name, corpus in corpora.items():
            alone, _ = conduct(entry, corpus, settings, tmp_path / "alone" / entry.slug / name)
            assert found[entry.slug, name] == alone


@pytest.mark.slow
def test_two_processes_find_what_one_finds(
    llama: ModelEntry, gpt2: ModelEntry, long_texts: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of two models, each scored by whichever process is free."""
    settings = Settings(protocol=FULL)
    monkeypatch.setattr(measure, "SHARD_CHARACTERS", 1000)
    exchanges: Callable[[str], list[Any]] = lambda where: [  # noqa: E731
        measure.measure(entry, long_texts, settings, journals=tmp_path / where / entry.slug, say=print)
        for entry in (llama, gpt2)
    ]
    together = exchanges("two")
    asked = [next(exchange) for exchange in together]
    trials = [worker.work(task) for (task,) in asked]
    shards = [exchange.send([facts]) for exchange, facts in zip(together, trials, strict=True)]
    assert min(len(part) for part in shards) > 2
    answers = engine.in_processes(worker.work, [task for part in shards for task in part], [{}, {}])
    for exchange, part, entry in zip(together, shards, (llama, gpt2), strict=True):
        with pytest.raises(StopIteration) as stop:
            exchange.send([next(answers) for _ in part])
        alone, _ = conduct(entry, long_texts, settings, tmp_path / "one" / entry.slug)
        assert rows_of(stop.value.value) == pytest.approx(rows_of(alone), rel=1e-6)
        assert stop.value.value.revision == alone.revision
