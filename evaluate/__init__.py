"""From corpora to scores, fits and the report: what a model's compression says about the model."""

from importlib.util import find_spec

if find_spec("pyarrow") is None:
    raise SystemExit(
        "error: this Python lacks what freshbits needs; `make setup`, then `. .venv/bin/activate`"
    )
