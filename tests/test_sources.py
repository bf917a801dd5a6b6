"""Every source keeps its promises: recorded answers give the documents they gave, and the guide is true.

`tests/golden/<source>.records.json` holds a request and what a server answered, in words of our own;
`<source>.documents.json` what extraction must make of it. After a change that is meant, run
`python tests/test_sources.py` and read the difference before it is committed.
"""

import base64
import json
import re
import types
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from collectors.document import Document, RawRecord
from collectors.request import Request, request
from collectors.source import SOURCES, Source
from collectors.warc import Record
from samples import ROOT, collected
from world import Answer, World

GOLDEN = ROOT / "tests" / "golden"
SHOWN = (
    *("native_id", "version", "url", "title", "text", "published_precision", "license", "license_evidence"),
    *("redistributable", "language", "drop_reason", "metadata"),
)


def recorded(name: str) -> tuple[Request, list[tuple[RawRecord, Record]]]:
    """Return a fixture's request and records."""
    fixture = json.loads((GOLDEN / f"{name}.records.json").read_text())
    return request(f"{name}-golden", fixture["request"]), [
        (RawRecord(shard="golden", offset=number, sha256="0" * 64), _record(values))
        for number, values in enumerate(fixture["records"])
    ]


def _record(values: Mapping[str, Any]) -> Record:
    """Return a record from JSON, where its payload is `text` or `base64`."""
    payload = base64.b64decode(values["base64"]) if "base64" in values else values["text"].encode()
    rest = {key: value for key, value in values.items() if key not in {"base64", "text", "date"}}
    return Record(payload=payload, date=datetime.fromisoformat(values["date"]), **rest)


def documents(name: str) -> list[dict[str, Any]]:
    """Return what a source makes of its recorded answers, as plain values."""
    asked, records = recorded(name)
    found = sorted(SOURCES[name].extract(records, asked, 1), key=lambda d: d.native_id)
    return [_plain(document) for document in found]


def _plain(document: Document) -> dict[str, Any]:
    shown = {key: getattr(document, key) for key in SHOWN}
    evidence = [f"{e.kind}: {e.value}" for e in document.date_evidence]
    return {**shown, "published": document.published.isoformat(), "date_evidence": evidence}


@pytest.mark.parametrize("name", SOURCES)
def test_recorded_answers_give_the_documents_they_gave(name: str) -> None:
    """A change of any extractor or rule shows here first."""
    assert documents(name) == json.loads((GOLDEN / f"{name}.documents.json").read_text())


def test_the_source_in_the_guide_works(tmp_path: Path, world: World) -> None:
    """CONTRIBUTING's example, as it stands there: collected from a server, and extracted."""
    (code,) = re.findall(
        r"```python\n(\"\"\"Minutes.+?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL
    )
    module = types.ModuleType("minutes")
    exec(code, module.__dict__)  # noqa: S102  our own guide
    minutes = cast("Source", module)
    listing = [
        {
            "url": f"https://council.example/m/{day}",
            "title": f"Meeting {day}",
            "held": f"2026-09-{day}T18:00:00Z",
        }
        for day in ("10", "20")
    ]
    listing.append({**listing[0], "url": "https://council.example/m/old", "held": "2026-08-01T18:00:00Z"})
    world.on("council.example", "/parks.json", _json(listing))
    for day in ("10", "20"):
        world.on("council.example", f"/m/{day}", f"On day {day} the council met.")
    entry = {"source": "minutes", "content": "prose", "since": "2026-09-01", "until": "2026-10-01"}
    asked = request("minutes-2026-09", entry)
    snapshot, records = collected(tmp_path, world, asked, minutes)
    assert snapshot.gaps == ()
    found = list(minutes.extract(records, asked, 1))
    assert [d.text for d in found] == ["On day 10 the council met.", "On day 20 the council met."]
    assert "/m/old" not in world.paths("council.example")


def _json(value: Any) -> Answer:
    return Answer(body=json.dumps(value).encode(), media_type="application/json")


if __name__ == "__main__":
    for source in SOURCES:
        path = GOLDEN / f"{source}.documents.json"
        path.write_text(json.dumps(documents(source), indent=1, ensure_ascii=False) + "\n")
