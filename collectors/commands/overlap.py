"""The command `overlap`: which documents share word n-grams with other texts."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from collectors import references, sketch
from collectors.commands import places
from collectors.document import UserError, sha256_of
from collectors.sketch import Input, Sketch

_SHOWN = 10
_BYTES_PER_NGRAM = 6  # of English; a compressed byte is worth about four
_SECONDS = 30  # between two times that a growing sketch is written
_COMPRESSED = (".parquet", ".gz", ".zst")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the documents, and what they are compared with."""
    command.add_argument(
        "documents",
        metavar="DOCUMENTS",
        help="a corpus of params.yaml, or a file or folder of texts as for --with",
    )
    command.add_argument(
        "--with",
        dest="others",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help=f"a corpus, or files or folders of files that end in {', '.join(references.SUFFIXES)}",
    )
    command.add_argument(
        "--sketch", type=Path, metavar="FILE", help="keep the sketch of --with, or take one that was kept"
    )
    command.add_argument(
        "--words", type=places.positive, metavar="N", help=f"of an n-gram (default: {sketch.WORDS})"
    )
    command.add_argument(
        "--threshold",
        type=_share,
        default=0.1,
        metavar="SHARE",
        help="of its n-grams, from which a document is named (default: 0.1)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print what the documents share with the others, most first."""
    if not arguments.others and not arguments.sketch:
        raise UserError(
            "overlap compares with other texts; name them by --with, or a sketch of them by --sketch"
        )
    documents = places.CORPORA / arguments.documents
    if not (documents / "corpus.json").is_file():
        documents = Path(arguments.documents)
    own = references.files([documents])
    made = _sketch(arguments)
    found = list(sketch.overlaps(made, _documents(own, made.words)))
    found.sort(key=lambda overlap: (-overlap.share, -overlap.longest, overlap.document))
    named = [overlap for overlap in found if overlap.share >= arguments.threshold]
    by_chance = made.false_positive_rate
    if arguments.json:
        print(
            json.dumps(
                {
                    "words": made.words,
                    "inputs": [asdict(given) for given in made.inputs],
                    "n_ngrams": made.n_ngrams,
                    "false_positive_rate": by_chance,
                    "threshold": arguments.threshold,
                    "n_documents": len(found),
                    "n_above": len(named),
                    "documents": [asdict(overlap) for overlap in found],
                },
                indent=2,
            )
        )
        return
    for overlap in named[:_SHOWN]:
        print(
            f"{overlap.share:>6.1%}  {overlap.longest:>7,} words in a row  {places.line(overlap.document)[:80]}"
        )
    if len(named) > _SHOWN:
        print(f"and {len(named) - _SHOWN} more")
    n = sum(overlap.n_ngrams for overlap in found)
    shared = sum(overlap.share * overlap.n_ngrams for overlap in found)
    print(
        f"{len(named)} of {len(found)} documents share {arguments.threshold:.0%} or more of their {made.words}-grams "
        f"with {_count(len(made.inputs), 'file')} of {_count(made.n_ngrams, 'n-gram')}; of all {n:,} n-grams "
        f"{shared / n if n else 0:.2%}, corrected for {by_chance:.2%} that are found by chance"
    )


def _share(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no share above 0, up to 1")
    return share


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _documents(files: Sequence[Path], words: int) -> Iterator[tuple[str, str]]:
    with tqdm(desc="documents", unit=" documents", disable=None) as bar:
        for path in files:
            for document in references.texts(path, words):
                yield document
                bar.update()


def _sketch(arguments: argparse.Namespace) -> Sketch:
    """Return the sketch that is named, with all inputs that are; kept as it grows, so that a killed run goes on."""
    kept: Path | None = arguments.sketch
    others = references.files(arguments.others)
    if kept and kept.exists():
        made = sketch.read(kept)
        if arguments.words not in {None, made.words}:
            raise UserError(
                f"{kept} holds n-grams of {made.words} words, not {arguments.words}; name another file"
            )
    elif others:
        size = sum(path.stat().st_size * (4 if path.suffix in _COMPRESSED else 1) for path in others)
        made = sketch.empty(size // _BYTES_PER_NGRAM, arguments.words or sketch.WORDS)
    else:
        made = sketch.read(arguments.sketch)
    known = {given.sha256: given for given in made.inputs}
    written = time.monotonic()
    for path in others:
        digest = sha256_of(path)
        given = known.get(digest, Input(name=path.name, sha256=digest))
        if given.complete:
            continue
        texts = references.texts(path, made.words)
        for _ in sketch.extend(made, given, tqdm(texts, desc=path.name, unit=" texts", disable=None)):
            if kept and time.monotonic() - written > _SECONDS:
                sketch.write(kept, made)
                written = time.monotonic()
    if kept and others:
        sketch.write(kept, made)
    return made
