"""Files compressed with a model, and restored: which model it takes, and whether this machine may.

Guaranteed is that the same weights with the same software on the same class of device restore the file: one text at a
time, token by token, with as many threads as compressed it. Anything else is refused where the arithmetic of
fixed texts tells, and by the digest of what comes out where it does not; a wrong file is never returned.
"""

import hashlib
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from collectors.document import UserError
from evaluate import backends
from evaluate.backends import next_token
from evaluate.backends.next_token import Reader, reproducible
from evaluate.backends.transformers_model import TransformersModel
from evaluate.codec import stream
from evaluate.codec.container import Header, pack, unpack
from evaluate.codec.segments import MOST_TOKENS_PER_BYTE
from evaluate.codec.stream import Progress, Stream
from evaluate.journal import digest
from evaluate.model import ModelEntry
from evaluate.windows import ScoringProtocol

_MOST_THREADS = 1024
_UNSEEN = Progress()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compressed:
    """A compressed file.

    Attributes:
        file: all of it.
        header: what it says of itself.
        stream: its stream, and what each token costs there.
    """

    file: bytes
    header: Header
    stream: Stream


def compress(
    data: bytes,
    model: TransformersModel,
    entry: ModelEntry,
    protocol: ScoringProtocol,
    progress: Progress = _UNSEEN,
) -> Compressed:
    """Compress a file.

    Args:
        data: the file.
        model: a loaded model.
        entry: what it was loaded from.
        protocol: whose window and stride are taken; the protocol is `full` within the model's context.
        progress: where finished windows are kept, and what the bar says; the key is made here.

    Raises:
        UserError: as `stream.encode`, and when this device computes one thing twice in two ways.
    """
    protocol = replace(protocol, name="full").within(model.context_length)
    n_threads = next_token.threads()
    with reproducible(n_threads):
        first, again = (_fingerprint(model, protocol, len(data)) for _ in range(2))
        if first != again:
            raise UserError(
                f"{next_token.machine(model)} computes {model.name} in another way every time, so that nothing could "
                "be restored; choose another device, dtype or attention"
            )
        header = Header(
            model=entry.slug,
            weights=model.revision,
            protocol=str(protocol),
            prefix=model.prefix.kind,
            separator=model.prefix.text if model.prefix.kind == "separator" else "",
            dtype=model.conditions.dtype,
            quantization=model.conditions.quantization,
            attention=model.conditions.attention,
            software=model.software,
            device=model.conditions.device,
            machine=next_token.machine(model),
            threads=n_threads,
            fingerprint=first,
            n_tokens=0,
            n_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            n_payload=0,
        )
        found = stream.encode(model, data, protocol, replace(progress, key=_key(header)))
    header = replace(header, n_tokens=len(found.tokens), n_payload=len(found.payload))
    return Compressed(file=pack(header, found.payload), header=header, stream=found)


def restore(
    file: bytes,
    name: str,
    entry: ModelEntry,
    say: Callable[[str], object],
    *,
    journal_file: Path | None = None,
    model: TransformersModel | None = None,
) -> bytes:
    """Return the file that was compressed.

    Args:
        file: the compressed one.
        name: what to call it.
        entry: the model's.
        say: is told what is not as it was, and may do no harm.
        journal_file: keeps finished windows.
        model: what the entry loads to, if it is loaded already.

    Raises:
        UserError: when the file is damaged, or the model or what computes it is another.
    """
    header, payload = unpack(file, name)
    entry = _as_it_was(header, name, entry)
    known = _loaded(header, name, entry) if model is None else model
    protocol = _protocol(header, name)
    for what, then, now in (
        ("weights", header.weights, known.revision),
        ("prefix", header.prefix, known.prefix.kind),
        ("dtype", header.dtype, known.conditions.dtype),
        ("quantization", header.quantization, known.conditions.quantization),
        ("device", header.device, known.conditions.device),
        ("attention", header.attention, known.conditions.attention),
    ):
        if then != now:
            raise UserError(
                f"{name} was compressed with {what} {then or 'none'!r} of {header.model}, and {entry.slug} has "
                f"{now or 'none'!r}; name the same model with --model, and run it alike"
            )
    if not (
        1 <= header.threads <= _MOST_THREADS
        and header.n_tokens <= MOST_TOKENS_PER_BYTE * header.n_bytes
        and protocol == protocol.within(known.context_length)
    ):
        raise UserError(f"the header of {name} says what no file has; fetch it again")
    there = f"{header.machine}, {header.software}"
    here = f"{next_token.machine(known)}, {known.software}"
    with reproducible(header.threads):
        if _fingerprint(known, protocol, header.n_bytes) != header.fingerprint:
            other = f"another machine like this one ({there})" if there == here else there
            raise UserError(
                f"{name} was compressed on {other}, whose arithmetic differs from that of {here}; decompress it there"
            )
        if there != here:
            say(
                f"{name} was compressed on {there}, and this is {here}; they seem to compute alike, and a digest will "
                "tell"
            )
        progress = Progress(
            journal_file=journal_file,
            key=digest(_key(header), here, str(zlib.crc32(payload))),
            label=entry.slug,
        )
        wrong = "what comes out is not what went in"
        try:
            parts = stream.decode(known, payload, header.n_tokens, header.n_bytes, protocol, progress)
            data = b"".join(parts)
        except ValueError as error:
            data, wrong = b"", str(error)
        except MemoryError as error:
            raise UserError(f"{name} does not fit into memory; free some") from error
    if len(data) != header.n_bytes or hashlib.sha256(data).hexdigest() != header.sha256:
        if journal_file is not None:
            journal_file.unlink(missing_ok=True)  # or the next run would begin with what is wrong
        raise UserError(
            f"{name} cannot be restored, so nothing is written: {wrong}; it is damaged, or this machine ({here}) "
            f"computes otherwise than the one that compressed it ({there}): decompress it there"
        )
    return data


def _as_it_was(header: Header, name: str, entry: ModelEntry) -> ModelEntry:
    """Return an entry with the options under which a file was compressed."""
    backends.check_open(entry, "does not show the distribution of its next token", "decompress")
    options = {"dtype": header.dtype, "quantization": header.quantization}
    if header.device != "cpu" and not str(entry.options.get("device", "")).startswith(header.device):
        options["device"] = header.device
    elif header.device == "cpu":
        options["device"] = "cpu"
    if header.separator:
        options["separator"] = header.separator
    if re.fullmatch("[0-9a-f]{40}", header.weights) and not backends.weights_of(entry):
        options["revision"] = header.weights  # of a hub id, which has moved on since
    found = replace(entry, options={**entry.options, **options})
    weights = backends.weights_of(found)
    if weights and weights != header.weights:
        raise UserError(
            f"{name} was compressed with {header.model} of weights {header.weights}, and {entry.slug} has {weights}; "
            "name the same model with --model"
        )
    return found


def _loaded(header: Header, name: str, entry: ModelEntry) -> TransformersModel:
    try:
        return backends.load_open(entry)
    except UserError as error:
        if header.device == "cpu":
            raise
        raise UserError(
            f"{name} was compressed on {header.machine}, and here {error}; decompress it on such a machine"
        ) from error


def _protocol(header: Header, name: str) -> ScoringProtocol:
    found = re.fullmatch(r"full/(\d{1,9})/(\d{1,9})", header.protocol, re.ASCII)
    if not found:
        raise UserError(f"{name} names protocol {header.protocol[:30]!r}, which is none that compresses")
    return ScoringProtocol(name="full", window=int(found[1]), stride=int(found[2]))


def _fingerprint(model: TransformersModel, protocol: ScoringProtocol, n_bytes: int) -> str:
    """Return a digest of the arithmetic on the shapes that a file of this length needs."""
    if not n_bytes:
        return ""
    window = protocol.window
    lengths = [min(64, window // 2)]
    if n_bytes > 2 * window:
        lengths.append(max(1, window - protocol.stride))  # what a later window reads at once
    return next_token.fingerprint(Reader(model, window), lengths, model.rows_of_logits)[:16]


def _key(header: Header) -> str:
    return digest(*map(str, asdict(header).values()))
