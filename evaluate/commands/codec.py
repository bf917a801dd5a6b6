"""The commands `compress` and `decompress`: a file to fewer bytes with a model's predictions, and back."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from collectors.document import UserError, replacing
from evaluate import backends, params
from evaluate.backends.compressors import CODECS
from evaluate.commands import chosen
from evaluate.journal import digest
from evaluate.model import ModelEntry

SUFFIX = ".fb"


def compress(arguments: argparse.Namespace) -> None:
    """Compress a file, and print what it came to beside every compressor."""
    source: Path = arguments.file
    target = arguments.output or Path(f"{source}{SUFFIX}")
    _check_free(target)
    data = source.read_bytes()
    known = _known()
    entry = chosen.entry(known, arguments)
    backends.check_open(entry, "does not show the distribution of its next token", "compress")
    protocol = params.settings(known, protocol=None, precision=None).protocol
    model = backends.load_open(entry)

    from evaluate.codec import files
    from evaluate.codec.stream import Progress

    begin = time.monotonic()
    with chosen.kept_until_done(_staging("compress", source, entry)) as folder:
        progress = Progress(journal_file=folder / "windows.jsonl", label=entry.slug)
        made = files.compress(data, model, entry, protocol, progress)
        seconds = time.monotonic() - begin
        sizes = {name: len(codec.compress(data)) for name, codec in CODECS.items()}
        with replacing(target) as temporary:
            temporary.write_bytes(made.file)
    facts = {
        "file": os.fspath(target),
        "model": entry.slug,
        "weights": made.header.weights,
        "protocol": made.header.protocol,
        "n_bytes": len(data),
        "n_compressed": len(made.file),
        "n_payload": len(made.stream.payload),
        "n_tokens": len(made.stream.tokens),
        "token_bits": float(made.stream.token_bits.sum()),
        "side_bits": made.stream.side_bits,
        "seconds": seconds,
        "compressors": sizes,
    }
    print(json.dumps(facts, indent=2) if arguments.json else _summary(facts))


def decompress(arguments: argparse.Namespace) -> None:
    """Restore a file that `compress` wrote."""
    source: Path = arguments.file
    if arguments.output is None and source.suffix != SUFFIX:
        raise UserError(f"{_shown(source)} does not end in {SUFFIX}; say with -o where its content goes")
    target = arguments.output or source.with_suffix("")
    _check_free(target)
    file = source.read_bytes()

    from evaluate.codec import files
    from evaluate.codec.container import unpack

    header, _ = unpack(file, _shown(source))
    entry = _entry(arguments, header.model, header.weights, source)
    begin = time.monotonic()
    with chosen.kept_until_done(_staging("decompress", source, entry)) as folder:
        journal_file = folder / "windows.jsonl"
        data = files.restore(file, _shown(source), entry, chosen.warn, journal_file=journal_file)
        with replacing(target) as temporary:
            temporary.write_bytes(data)
    seconds = time.monotonic() - begin
    facts = {
        "file": os.fspath(target),
        "model": entry.slug,
        "n_bytes": len(data),
        "sha256": header.sha256,
        "n_tokens": header.n_tokens,
        "seconds": seconds,
    }
    rate = f"{header.n_tokens / max(seconds, 1e-9):.1f} tokens/s"
    print(
        json.dumps(facts, indent=2)
        if arguments.json
        else f"{_shown(target)}: {len(data):,} bytes restored by {entry.slug}, {rate}, sha256 as it was"
    )


def _known() -> dict[str, Any]:
    return params.read() if params.PARAMS.exists() else {}


def _entry(arguments: argparse.Namespace, slug: str, weights: str, source: Path) -> ModelEntry:
    """Return the entry that is named, or that of params.yaml which the file was compressed with."""
    known = _known()
    if arguments.model:
        return chosen.entry(known, arguments)
    models = known.get("models", {})
    if slug in models:
        return params.entry(slug, models[slug])
    raise UserError(
        f"{_shown(source)} was compressed with {slug!r} of weights {weights}, which is not in params.yaml; name its "
        "file, folder or hub id with --model"
    )


def _check_free(target: Path) -> None:
    """Raise if a file cannot be written there, before hours are spent on it."""
    if os.path.lexists(target):
        raise UserError(f"{_shown(target)} exists; remove it, or name another file with -o")
    trial = target.with_name(f".{target.name}.tmp")  # the name that `replacing` writes under
    try:
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise UserError(
            f"{_shown(target)} cannot be written ({error.strerror}); name another file with -o"
        ) from error


def _staging(command: str, source: Path, entry: ModelEntry) -> Path:
    return chosen.STAGING / command / digest(os.fsencode(source.resolve()).hex(), entry.slug)[:24]


def _shown(path: Path) -> str:
    """Return a name for a person, whatever bytes it is made of."""
    return os.fsencode(path).decode(errors="replace")


def _summary(facts: dict[str, Any]) -> str:
    n, size = facts["n_bytes"], facts["n_compressed"]
    rate = f", {8 * size / n:.4f} bits per byte" if n else ""
    speed = f"; {facts['n_tokens']:,} tokens, {facts['n_tokens'] / max(facts['seconds'], 1e-9):.1f}/s"
    others = ", ".join(f"{name} {size:,}" for name, size in facts["compressors"].items())
    return (
        f"{_shown(Path(facts['file']))}: {n:,} bytes to {size:,}{rate}, header {size - facts['n_payload']:,}{speed}\n"
        f"without a model: {others}"
    )
