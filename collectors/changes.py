"""What one version of a corpus keeps and another does not, or keeps otherwise.

The SQL of `versions`: Parquet files in, one row for each document that came, went or changed. No text is read;
`causes` says why each did.
"""

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from collectors.params import section
from collectors.resemblance import Texts
from collectors.revisions import Revision

SCHEMA = pa.schema(
    [
        ("snapshot", pa.string()),
        ("id", pa.string()),
        ("change", pa.string()),
        ("cause", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("match_id", pa.string()),
        ("match_corpus", pa.string()),
        ("similarity", pa.float64()),
        ("because", pa.string()),
        ("native_id", pa.string()),
        ("url", pa.string()),
        ("published", pa.timestamp("us", tz="UTC")),
        ("text_sha256_before", pa.string()),
        ("text_sha256_after", pa.string()),
        ("n_characters_before", pa.int64()),
        ("n_characters_after", pa.int64()),
        ("extractor_before", pa.string()),
        ("extractor_after", pa.string()),
        ("near_id", pa.string()),
        ("near_corpus", pa.string()),
        ("near_similarity", pa.float64()),
        (
            "fields",
            pa.list_(pa.struct([("name", pa.string()), ("before", pa.string()), ("after", pa.string())])),
        ),
    ]
)
"""A row for each document that came, went or changed.

`change` is added, removed, changed (it has another text) or metadata (the text is the same; `fields` names each
column that differs, with both values, lists as JSON; verdicts of filters are not compared). `cause` and its
details say what keeps the document out of the version that lacks it: `snapshot` (that version has no such
snapshot), `filter` (`reason`, `value`, `threshold`), `duplicate` (`reason`, `match_*`, `similarity`), `removal`
(`reason` is the one given), `rule` (`reason` of the source), `source` (the source did not give it), `unbuilt` (it
was extracted, and the corpus not built since; or that version lists the snapshot, and has no corpus of it).
Of a document with another text or other metadata it says what made the difference: `extractor` (its version
differs), `source` (the raw bytes differ), `code` (neither does); for metadata `reason` lists the names. `because`
names what differs between the versions and explains the row. A parameter of a filter, or the threshold of
duplicates, does where what one version refused passes under that of the other; else the value, the text or the
match was another. `near_*` is the document of the earlier version that an added one repeats. Name and address are
blank where the cause is `removal`: what was asked to be forgotten is not named again.
"""

_TABLES = """
SET TimeZone = 'UTC';
CREATE TABLE rows (
    position INTEGER, snapshot VARCHAR, id VARCHAR, change VARCHAR, cause VARCHAR,
    reason VARCHAR, value DOUBLE, threshold DOUBLE, match_id VARCHAR, match_corpus VARCHAR,
    similarity DOUBLE, because VARCHAR, native_id VARCHAR, url VARCHAR, published TIMESTAMPTZ,
    text_sha256_before VARCHAR, text_sha256_after VARCHAR, n_characters_before BIGINT,
    n_characters_after BIGINT, extractor_before VARCHAR, extractor_after VARCHAR,
    near_id VARCHAR, near_corpus VARCHAR, near_similarity DOUBLE,
    fields STRUCT(name VARCHAR, before VARCHAR, after VARCHAR)[]
);
CREATE TABLE restated (id VARCHAR, fields STRUCT(name VARCHAR, before VARCHAR, after VARCHAR)[]);
CREATE MACRO restated(name, before, after) AS CASE WHEN before IS DISTINCT FROM after
    THEN {name: name, before: to_json(before) ->> '$', after: to_json(after) ->> '$'} END;
CREATE MACRO described(path) AS TABLE
    SELECT * EXCLUDE (text, source, version, n_bytes, filters, drop_reason, duplicate)
        REPLACE (raw.sha256 AS raw)  -- where in a shard it lies says nothing of the document
    FROM read_parquet(path);
CREATE MACRO kept(path) AS TABLE
    SELECT id, text_sha256, n_characters, published, extractor, raw, native_id, url, hash(d) AS described
    FROM described(path) d;
"""

_ONE_SIDED = """
INSERT INTO rows BY NAME
SELECT $position AS position, $snapshot AS snapshot, id, $change AS change,
    $cause AS cause, '' AS reason, $because AS because, native_id, url, published,
    if(change = 'removed', text_sha256, NULL) AS text_sha256_before,
    if(change = 'added', text_sha256, NULL) AS text_sha256_after,
    if(change = 'removed', n_characters, NULL) AS n_characters_before,
    if(change = 'added', n_characters, NULL) AS n_characters_after,
    if(change = 'removed', extractor, NULL) AS extractor_before,
    if(change = 'added', extractor, NULL) AS extractor_after
FROM kept($kept)
"""

_DIFFERING = """
CREATE OR REPLACE TABLE differing AS
SELECT coalesce(a.id, b.id) AS id, a, b,
    CASE WHEN a.id IS NULL THEN 'removed' WHEN b.id IS NULL THEN 'added'
    WHEN a.text_sha256 <> b.text_sha256 THEN 'changed' ELSE 'metadata' END AS change
FROM kept($old) b FULL JOIN kept($new) a ON a.id = b.id
WHERE a.id IS NULL OR b.id IS NULL OR a.text_sha256 <> b.text_sha256 OR a.described <> b.described
"""

# Hashes have said of which documents: of all others none of these columns is held in memory.
_RESTATED = """
CREATE OR REPLACE TABLE restated AS
SELECT id, list_filter([
    restated('url', b.url, a.url),
    restated('title', b.title, a.title),
    restated('published', b.published, a.published),
    restated('published_precision', b.published_precision, a.published_precision),
    restated('date_evidence', b.date_evidence, a.date_evidence),
    restated('first_seen', b.first_seen, a.first_seen),
    restated('fetched', b.fetched, a.fetched),
    restated('license', b.license, a.license),
    restated('license_evidence', b.license_evidence, a.license_evidence),
    restated('redistributable', b.redistributable, a.redistributable),
    restated('language', b.language, a.language),
    restated('language_probability', b.language_probability, a.language_probability),
    restated('raw', b.raw, a.raw),
    restated('extractor', b.extractor, a.extractor),
    restated('metadata', b.metadata, a.metadata)
], lambda f: f IS NOT NULL) AS fields
FROM described($old) b JOIN described($new) a USING (id)
SEMI JOIN (SELECT id FROM differing WHERE change = 'metadata') USING (id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One of the versions that are compared.

    Attributes:
        revision: its files.
        params: its params.yaml.
        built: the snapshots of which it has a corpus, in the order of params.yaml.
    """

    revision: Revision
    params: dict[str, Any]
    built: tuple[str, ...]

    def content(self, name: str) -> str:
        """Return which profile of filters a snapshot has, empty where the version does not list it."""
        return str(self.entry(name).get("content", ""))

    def entry(self, name: str) -> dict[str, Any]:
        """Return what params.yaml says of a snapshot, empty where the version does not list it."""
        found = section(self.params, "snapshots").get(name)
        return found if isinstance(found, dict) else {}

    def kept(self, name: str) -> str:
        """Return where the documents of a corpus are."""
        return str(self.revision.local(f"corpora/{name}/documents.parquet"))

    def dropped(self, name: str) -> str:
        """Return where the documents left out of it are."""
        return str(self.revision.local(f"corpora/{name}/dropped.parquet"))

    def extracted(self, name: str) -> str:
        """Return where all documents of the snapshot are."""
        return str(self.revision.local(f"corpora/documents/{name}.parquet"))

    def texts(self, name: str) -> Texts:
        """Return the corpus as resemblance needs it."""
        signatures = self.revision.local(f"corpora/documents/{name}.signatures.parquet")
        documents = self.revision.local(f"corpora/{name}/documents.parquet")
        return Texts(name=name, documents=documents, signatures=signatures)


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the empty table `rows` in an empty database."""
    connection.execute(_TABLES)


def compare(
    connection: duckdb.DuckDBPyConnection, position: int, name: str, old: Version, new: Version
) -> bool:
    """Compare a snapshot that either version has.

    One that only one of them has adds its rows here. Of one that both have, those that differ are left in the
    tables `differing` and `restated`, for `causes.find`.

    Args:
        connection: to the database of `create`.
        position: where the rows stand among those of other snapshots.
        name: of the snapshot.
        old: the earlier version.
        new: the later one.

    Returns:
        Whether there is something to find causes of.
    """
    if name not in old.built or name not in new.built:
        change, holder, other = ("added", new, old) if name in new.built else ("removed", old, new)
        cause, because = "snapshot", ""
        if name in section(other.params, "snapshots"):
            cause = "unbuilt"
            if other.revision.files is None:
                because = f"corpora/{name} is not there; restore it with `dvc checkout`, or build it with `dvc repro`"
        given = {"change": change, "cause": cause, "because": because, "kept": holder.kept(name)}
        connection.execute(_ONE_SIDED, {"position": position, "snapshot": name, **given})
        return False
    both = {"old": old.kept(name), "new": new.kept(name)}
    if both["old"] == both["new"]:
        return False  # the cache names files by their content
    connection.execute(_DIFFERING, both)
    found = {row[0] for row in connection.execute("SELECT DISTINCT change FROM differing").fetchall()}
    if "metadata" in found:
        connection.execute(_RESTATED, both)
    return bool(found)
