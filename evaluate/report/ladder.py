"""The section on compression: from adaptive bytes to language models, files really written, and what weights cost.

On the ladder of a kind of text each document is read alone, by compressors as by models: what one may learn from
the documents before it, the other may too. A whole corpus is held against weights otherwise: there a compressor
has its better rate, which is nearly always that of one stream.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evaluate.passage_cells import Passage
from evaluate.report import charts, wording
from evaluate.report.measurements import Measurement
from evaluate.report.records import ReportData
from evaluate.report.surprise import View, views


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a model or compressor pays for all corpora of one kind of text.

    Attributes:
        model: its key in params.yaml.
        label: what to call it.
        classical: whether it is a compressor.
        stream: whether it is a compressor that read each corpus as one stream.
        seen: whether it may have been trained on one of the corpora.
        value: bits per character, each corpus with the weight of its characters.
    """

    model: str
    label: str
    classical: bool
    stream: bool
    seen: bool
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """From which amount of text a model with its weights takes fewer bits than the best compressor.

    Attributes:
        rate: of the model.
        decoder_bytes: of its weights.
        best: the compressor with the fewest bits per character.
        characters: None where the model never gets there.
    """

    rate: Rate
    decoder_bytes: int
    best: Rate
    characters: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """One kind of text: all that was measured on the same corpora, from most bits to fewest."""

    content: str
    summary: str
    chart: Markup
    break_even: tuple[BreakEven, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file really written.

    Attributes:
        label: what to call the model or compressor.
        passage: what was compressed to it.
    """

    label: str
    passage: Passage

    @property
    def rate(self) -> float:
        """Bits per character of the whole file."""
        return 8 * self.passage.file_bytes / self.passage.n_characters

    @property
    def token_bits(self) -> float:
        """The part of the payload that codes tokens."""
        return sum(piece.bits for piece in self.passage.pieces)

    @property
    def nll_bits(self) -> float:
        """What scoring charges for the passage."""
        return self.passage.nll / math.log(2)

    @property
    def deviation(self) -> float | None:
        """By how much coded tokens cost more than scoring charges; None for a compressor, and where that is nothing."""
        return None if self.passage.classical or not self.nll_bits else self.token_bits / self.nll_bits - 1

    @property
    def rest_bits(self) -> float:
        """The part of the payload that codes no token."""
        return 8 * self.passage.payload_bytes - self.token_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All of the section.

    Attributes:
        ladders: by kind of text.
        seen: whether a model on one of them may have been trained on the text.
        summary: of the files, in sentences.
        files: by passage, that is by corpus, the smallest file first.
        views: how surprising each model found each passage.
    """

    ladders: tuple[Ladder, ...]
    seen: bool
    summary: str
    files: tuple[tuple[Passage, tuple[File, ...]], ...]
    views: tuple[View, ...]


def section(data: ReportData, rows: Sequence[Measurement]) -> Section | None:
    """Return what the page says about compression, None where nothing was scored or compressed.

    Args:
        data: all inputs.
        rows: the finite rates.
    """
    if not rows and not data.passages:
        return None
    names = {row.score.model: row.short for row in rows}
    scored = {row.score.corpus for row in rows}
    weights: dict[str, dict[str, int]] = {}
    for corpus in data.corpora:
        if corpus.name in scored and corpus.n_characters:
            weights.setdefault(corpus.content, {})[corpus.name] = corpus.n_characters
    rates = {content: _rates(own, rows) for content, own in weights.items()}
    rungs = [rate for own in rates.values() for rate in own if not rate.stream]
    maximum = max((rate.value for rate in rungs), default=1.0)
    sizes = {passage.model: passage.decoder_bytes for passage in data.passages}
    files = _files(data.passages, names)
    return Section(
        ladders=tuple(
            _ladder(content, own, sizes, maximum, weights[content], rows)
            for content, own in rates.items()
            if any(not rate.stream for rate in own)
        ),
        seen=any(rate.seen for rate in rungs),
        summary=" ".join(_told(files)),
        files=files,
        views=views(data.passages, names),
    )


def break_even(decoder_bytes: int, rate: float, compressor: float) -> float | None:
    """Return from how many characters weights and payload together are smaller than a compressor's output.

    Weights of w bytes and n characters at r bits each take 8 w + n r bits, a compressor n c: equal at
    n = 8 w / (c - r).

    Args:
        decoder_bytes: size of the weights.
        rate: of the model, in bits per character.
        compressor: of the compressor, likewise.

    Returns:
        Characters, or None where the model is not better at any number of them.
    """
    return 8 * decoder_bytes / (compressor - rate) if rate < compressor else None


def _rates(weights: Mapping[str, int], rows: Sequence[Measurement]) -> list[Rate]:
    """Return the rates of whoever was measured on each of these corpora, fewest bits first.

    Args:
        weights: characters by corpus.
        rows: of these corpora and of others.
    """
    by_reader: dict[tuple[str, bool], dict[str, Measurement]] = {}
    for row in rows:
        if row.score.corpus in weights:
            reader = row.score.model, row.score.protocol == "stream"
            by_reader.setdefault(reader, {}).setdefault(row.score.corpus, row)  # the better of two protocols
    found = [
        Rate(
            model=model,
            label=next(iter(own.values())).short,
            classical=next(iter(own.values())).classical,
            stream=stream,
            seen=any(row.score.freshness == "not-after" for row in own.values()),
            value=sum(n * own[name].value for name, n in weights.items()) / sum(weights.values()),
        )
        for (model, stream), own in by_reader.items()
        if own.keys() == weights.keys()
    ]
    return sorted(found, key=lambda rate: (rate.value, rate.model))


def _ladder(
    content: str,
    rates: Sequence[Rate],
    sizes: Mapping[str, int],
    maximum: float,
    corpora: Collection[str],
    rows: Sequence[Measurement],
) -> Ladder:
    rungs = [rate for rate in reversed(rates) if not rate.stream]
    best = next((rate for rate in rates if rate.classical), None)
    kind = content or "content not named"
    placed = {rate.model for rate in rates}
    missing = sorted(
        {row.short for row in rows if row.score.corpus in corpora and row.score.model not in placed}
    )
    summary = " ".join(_climb(kind, rungs, best))
    if missing:
        summary += f" Not placed, for lack of a rate on each of these corpora: {', '.join(missing)}."
    chart = charts.dots(
        [
            charts.Row(
                group=f"{kind}, {len(corpora)} {'corpus' if len(corpora) == 1 else 'corpora'}",
                label=rate.label,
                detail="",
                value=rate.value,
                shape="diamond" if rate.classical else "circle",
                hollow=rate.seen,
            )
            for rate in rungs
        ],
        title=f"From compressors to models: {kind}",
        description=f"{summary} Every value stands at its dot.",
        unit="bits per character, fewer is better",
        maximum=maximum,
    )
    return Ladder(
        content=content,
        summary=summary,
        chart=Markup(chart),  # noqa: S704 - charts escape what comes from data
        break_even=tuple(
            BreakEven(
                rate=rate,
                decoder_bytes=sizes[rate.model],
                best=best,
                characters=break_even(sizes[rate.model], rate.value, best.value),
            )
            for rate in rates
            if best is not None and not rate.classical and rate.model in sizes
        ),
    )


def _climb(kind: str, rungs: Sequence[Rate], best: Rate | None) -> Iterator[str]:
    """Say how far it is from the top of the ladder to its foot, and what one stream would do."""
    if len(rungs) > 1:
        top, foot = rungs[0], rungs[-1]
        yield (
            f"On {kind}, {top.label} needs {top.value:.3f} bits per character and {foot.label} {foot.value:.3f}, "
            f"{wording.compared(1 - foot.value / top.value if top.value else 0.0)}."
        )
    if best is not None and best.stream:
        yield f"A corpus as one stream costs the best compressor, {best.label}, {best.value:.3f}."


def _files(
    passages: Sequence[Passage], names: Mapping[str, str]
) -> tuple[tuple[Passage, tuple[File, ...]], ...]:
    """Return the files by passage; models whose cells hold another one are apart."""
    by_text: dict[tuple[str, str, int], list[File]] = {}
    for passage in passages:
        file = File(label=names.get(passage.model, passage.model), passage=passage)
        by_text.setdefault((passage.corpus, passage.document, passage.n_characters), []).append(file)
    return tuple(
        (own[0].passage, tuple(sorted(own, key=lambda file: (file.passage.file_bytes, file.label))))
        for own in by_text.values()
    )


def _told(files: Sequence[tuple[Passage, Sequence[File]]]) -> Iterator[str]:
    every = [file for _, own in files for file in own]
    if not every:
        return
    broken = [f"{file.label} on {file.passage.corpus}" for file in every if not file.passage.restored]
    if broken:
        yield f"Not restored to the byte: {', '.join(broken)}."
    else:
        yield f"Restored to the byte: {len(every)} of {len(every)} file{'' if len(every) == 1 else 's'}."
    both = [own for _, own in files if len({file.passage.classical for file in own}) == 2]
    if both:
        won = sum(not own[0].passage.classical for own in both)
        payloads = sum(
            not min(own, key=lambda file: file.passage.payload_bytes).passage.classical for own in both
        )
        yield (
            f"Its weights not counted, a language model writes the smallest file for {won} of {len(both)} "
            f"passage{'' if len(both) == 1 else 's'}, and for {payloads} without its header, which says what it takes "
            "to restore the file and is as long for any text."
        )
    charged = {file: abs(file.deviation) for file in every if file.deviation is not None}
    if charged:
        miss = max(charged.values())
        rest = math.ceil(max(file.rest_bits for file in charged))
        yield (
            f"Coded tokens take what scoring charges, to within {max(miss, 1e-6):.4%}; the rest of a payload, {rest:,} "
            "bits at most, tells how many they are and fills the last byte."
        ).replace("%", " %")
