"""The file that `compress` writes: what it takes to decompress it, and the stream.

    8 bytes     89 46 42 43 0D 0A 1A 0A: says what it is, and breaks where a transfer changes bytes or ends of lines
    4 bytes     length of the header
    header      JSON, deflated (RFC 1950) behind a preset dictionary of what headers often say
    payload     the stream; see `stream`
    4 bytes     CRC-32 of all before

Numbers are big-endian. The header says which format it is, so that a later one can be told from damage.
"""

import json
import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any

from collectors.document import UserError

FORMAT = 1
_MAGIC = b"\x89FBC\r\n\x1a\n"
_MOST_HEADER = 1 << 16

# Part of the format; what is likelier stands nearer the end.
_OFTEN = (
    b'"full/512/128","full/1024/256","full/1900/512","none","bos","separator","</s>","<s>","<|endoftext|>","float16",'
    b'"bfloat16","float32","","bitsandbytes-4bit","bitsandbytes-8bit","torchao-int8","eager","flash_attention_2","sdpa",'
    b'"sdpa_behind_cache","torch 2.13.0, transformers 5.23.0","cuda","cuda NVIDIA H100 80GB HBM3, CUDA 13.0","cpu",'
    b'"cpu aarch64 DEFAULT","cpu x86_64 AVX2","cpu x86_64 AVX512",2,1,"[1,"smollm2-135m","sha256:'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What it takes to decompress a file.

    Attributes:
        model: the model's key in params.yaml, or its file's name.
        weights: what identifies them; see `weights.identity`.
        protocol: `full`, window and stride.
        prefix: what stood before the file: `none`, `bos` or `separator`.
        separator: that token as the tokenizer writes it, empty for others.
        dtype: precision of weights and activations.
        quantization: how the weights were quantised, empty where they were not.
        attention: implementation of attention.
        software: versions of the libraries that computed the probabilities.
        device: type of the device, such as `cpu`.
        machine: what kernels were chosen by; see `next_token.machine`.
        threads: that computed them.
        fingerprint: of the arithmetic; see `next_token.fingerprint`.
        n_tokens: of the file.
        n_bytes: its length.
        sha256: its hex digest.
        n_payload: length of the stream in bytes.
    """

    model: str
    weights: str
    protocol: str
    prefix: str
    separator: str
    dtype: str
    quantization: str
    attention: str
    software: str
    device: str
    machine: str
    threads: int
    fingerprint: str
    n_tokens: int
    n_bytes: int
    sha256: str
    n_payload: int


def pack(header: Header, payload: bytes) -> bytes:
    """Return the file."""
    writer = zlib.compressobj(9, zdict=_OFTEN)
    said = json.dumps([FORMAT, *asdict(header).values()], separators=(",", ":"))
    facts = writer.compress(said.encode()) + writer.flush()
    body = _MAGIC + len(facts).to_bytes(4) + facts + payload
    return body + zlib.crc32(body).to_bytes(4)


def unpack(file: bytes, name: str) -> tuple[Header, bytes]:
    """Return header and stream of a file.

    Args:
        file: all of it.
        name: what to call it.

    Raises:
        UserError: when it is no such file, cut short, altered, or of another format.
    """
    if not file.startswith(_MAGIC):
        raise UserError(
            f"{name} is no file that `compress` wrote; "
            + ("it is empty" if not file else "name one that is, or fetch it again as binary")
        )
    start = len(_MAGIC) + 4
    end = start + int.from_bytes(file[len(_MAGIC) : start])
    values = _facts(file[start:end]) if end - start <= _MOST_HEADER else None
    if end > len(file) or values is None:
        raise UserError(f"{name} ends within its header or is damaged there; fetch it again")
    if values[:1] != [FORMAT]:
        found = f"format {str(values[0])[:20]}" if values and type(values[0]) is int else "no known format"
        raise UserError(
            f"{name} is of {found}, and this version reads format {FORMAT}; decompress it with the version of "
            "freshbits that wrote it"
        )
    header = _header(values[1:], name)
    whole = end + header.n_payload + 4
    if len(file) != whole:
        what = "is cut short" if len(file) < whole else "has more behind its end"
        raise UserError(f"{name} {what}: it has {len(file)} bytes of {whole}; fetch it again")
    if zlib.crc32(file[:-4]) != int.from_bytes(file[-4:]):
        raise UserError(f"{name} is damaged: its checksum is another; fetch it again")
    return header, file[end:-4]


def _facts(data: bytes) -> list[Any] | None:
    reader = zlib.decompressobj(zdict=_OFTEN)
    try:
        facts = json.loads(reader.decompress(data, _MOST_HEADER))
    except (zlib.error, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, list) and reader.eof else None


def _header(values: list[Any], name: str) -> Header:
    known = fields(Header)
    right = len(values) == len(known) and all(
        type(value) is field.type and (str(value).isprintable() if field.type is str else value >= 0)
        for value, field in zip(values, known, strict=True)
    )
    if not right:
        raise UserError(f"the header of {name} is not one of format {FORMAT}; fetch it again")
    return Header(**{field.name: value for field, value in zip(known, values, strict=True)})
