"""Metadata of an exported corpus in the Croissant format, which data set search and loaders read.

Croissant 1.0 (Akhtar et al. 2024, arXiv 2403.19546; docs.mlcommons.org/croissant) is JSON-LD: files with their
digests, and record sets that say which column of which file is what.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.document import sha256_of

# The vocabulary that the format prescribes: names of its own, and those that it takes over from schema.org.
_OWN = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
    *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
    *(
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
    ),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _OWN},
}


def metadata(folder: Path, files: Sequence[str], **facts: Any) -> dict[str, Any]:
    """Return the metadata of Parquet files in a folder.

    Columns of plain values are declared as fields; those of lists and mappings are in the files alone.

    Args:
        folder: where they are.
        files: their names, each of which becomes a record set of the same name without its suffix.
        facts: properties of schema.org that the data set has, such as `name` and `license`.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **facts,
        "distribution": [_file(folder / name) for name in files],
        "recordSet": [_records(folder / name) for name in files],
    }


def _file(path: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256_of(path),
    }


def _records(path: Path) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{path.stem}/{column.name}",
            "name": f"{path.stem}/{column.name}",
            "dataType": _data_type(column.type),
            "source": {"fileObject": {"@id": path.name}, "extract": {"column": column.name}},
        }
        for column in pq.read_schema(path)
        if not pa.types.is_nested(column.type)
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": path.stem,
        "name": path.stem,
        "key": {"@id": f"{path.stem}/id"},
        "field": fields,
    }


def _data_type(type_: pa.DataType) -> str:
    kinds = (
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_timestamp, "sc:DateTime"),
    )
    return next((name for is_kind, name in kinds if is_kind(type_)), "sc:Text")
