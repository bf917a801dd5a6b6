"""From the world to corpora: collect, extract and deduplicate text with proof of when it was published."""

from importlib.util import find_spec

if find_spec("pyarrow") is None:
    raise SystemExit(
        "error: this Python lacks what freshbits needs; `make setup`, then `. .venv/bin/activate`"
    )
