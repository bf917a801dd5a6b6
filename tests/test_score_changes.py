"""Scores of two revisions, paired by model, corpus and protocol."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collectors.revisions import WORKSPACE, Revision
from evaluate.score_changes import SCORES, changes

FULL, SINK = "full/1900/512", "sink/1900/512"


def scored(folder: Path, **nll: float) -> Revision:
    """Return a folder with one cell, in which one document costs so much under each protocol."""
    protocols = {"full": FULL, "sink": SINK, "stream": "stream"}
    rows = [
        {
            "protocol": protocols[name],
            "corpus_sha256": "x",
            "document": "d",
            "nll": value,
            "n_characters": 100,
        }
        for name, value in nll.items()
    ]
    path = folder / SCORES / "m" / "c.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return Revision(name=WORKSPACE, commit="", root=folder, remote="", files=None)


@pytest.mark.parametrize(("before", "after"), [("sink", "full"), ("full", "sink")])
def test_a_model_read_as_sink_is_compared_with_itself_read_as_full(
    tmp_path: Path, before: str, after: str
) -> None:
    """It stands under full, and the protocol is named among what differs."""
    (row,) = changes(scored(tmp_path / "a", **{before: 50.0}), scored(tmp_path / "b", **{after: 60.0}))
    assert (row.protocol, row.changed, row.refused) == (FULL, ("protocol",), "")
    assert row.impact
    assert row.impact.after / row.impact.before == pytest.approx(1.2)


def test_protocols_of_both_revisions_are_compared_as_they_are(tmp_path: Path) -> None:
    """Sink with sink, full with full where both are had; one without a counterpart is said to be absent."""
    both = {"full": 50.0, "sink": 70.0}
    rows = list(changes(scored(tmp_path / "a", **both), scored(tmp_path / "b", **both, stream=9.0)))
    assert [(row.protocol, row.changed, bool(row.refused)) for row in rows] == [
        (FULL, (), False),
        (SINK, (), False),
        ("stream", (), True),
    ]
    rates = [row.impact.before for row in rows if row.impact]
    assert rates[1] / rates[0] == pytest.approx(1.4)
    rows = list(changes(scored(tmp_path / "c", sink=70.0), scored(tmp_path / "d", sink=70.0)))
    assert [(row.protocol, row.changed) for row in rows] == [(SINK, ())]
