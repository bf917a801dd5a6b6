"""Files of rows: Parquet, and JSON lines plain or compressed, read as they come."""

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from collectors.document import UserError
from collectors.warc import MAX_PAYLOAD_BYTES


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a Parquet file, or of JSON lines that may be compressed by gzip or Zstandard.

    Raises:
        UserError: naming the file, and the line where there are lines.
    """
    if path.name.endswith(".parquet"):
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=100):
                yield from batch.to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(
                f"{path.name} is no readable Parquet file ({str(error).splitlines()[0]})"
            ) from error
        return
    number = 0
    try:
        with path.open("rb") as file, _plain_lines(path.name, file) as lines:
            while line := lines.readline(MAX_PAYLOAD_BYTES):
                number += 1
                if line.strip():
                    yield dict(json.loads(line))
    except (OSError, EOFError, ValueError, TypeError, RecursionError, zstandard.ZstdError) as error:
        raise UserError(f"line {number} of {path.name} is no row as JSON ({error}); mend the file") from error


def _plain_lines(name: str, file: BinaryIO) -> BinaryIO:
    if name.endswith(".gz"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if name.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return file
