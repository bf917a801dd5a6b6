"""What one version of a corpus keeps and another does not, and what the files of both say why.

The SQL of `versions`: Parquet files in, one row for each document that came, went or changed. No text is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from collectors.build import REMOVED
from collectors.params import section
from collectors.resemblance import Texts
from collectors.revisions import Revision

_TABLES = """
SET TimeZone = 'UTC';
CREATE TABLE rows (
    position INTEGER, content VARCHAR, snapshot VARCHAR, id VARCHAR, change VARCHAR, cause VARCHAR,
    reason VARCHAR, value DOUBLE, threshold DOUBLE, match_id VARCHAR, match_corpus VARCHAR,
    similarity DOUBLE, because VARCHAR, native_id VARCHAR, url VARCHAR, published TIMESTAMPTZ,
    text_sha256_before VARCHAR, text_sha256_after VARCHAR, n_characters_before BIGINT,
    n_characters_after BIGINT, extractor_before VARCHAR, extractor_after VARCHAR,
    near_id VARCHAR, near_corpus VARCHAR, near_similarity DOUBLE
);
CREATE TABLE parameters (key VARCHAR, said VARCHAR);
CREATE TABLE lacking (change VARCHAR, corpus VARCHAR);
CREATE MACRO kept(path) AS TABLE
    SELECT id, text_sha256, n_characters, published, extractor, raw.sha256 AS raw, native_id, url
    FROM read_parquet(path);
CREATE MACRO dropped(path) AS TABLE
    SELECT id, drop_reason, text_sha256, extractor, duplicate,
        list_filter(filters, lambda f: f.name = drop_reason AND NOT f.passed)[1] AS broken,
        coalesce(list_filter(metadata, lambda m: m.key = 'removal')[1].value, '') AS removal
    FROM read_parquet(path);
"""

_ONE_SIDED = """
INSERT INTO rows BY NAME
SELECT $position AS position, $content AS content, $snapshot AS snapshot, id, $change AS change,
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
    CASE WHEN a.id IS NULL THEN 'removed' WHEN b.id IS NULL THEN 'added' ELSE 'changed' END AS change
FROM kept($old) b FULL JOIN kept($new) a ON a.id = b.id
WHERE a.id IS NULL OR b.id IS NULL OR a.text_sha256 <> b.text_sha256
"""

_REFUSED = """
CREATE OR REPLACE TABLE refused AS
SELECT DISTINCT ON (id) * FROM (
    FROM dropped($new) SEMI JOIN (SELECT id FROM differing WHERE change = 'removed') USING (id)
    UNION ALL
    FROM dropped($old) SEMI JOIN (SELECT id FROM differing WHERE change = 'added') USING (id)
) ORDER BY id, drop_reason
"""

_UNEXPLAINED = """
CREATE OR REPLACE TABLE unexplained AS
SELECT id, change FROM differing ANTI JOIN refused USING (id) WHERE change <> 'changed';
CREATE OR REPLACE TABLE extracted (id VARCHAR);
"""

_EXTRACTED = """
INSERT INTO extracted SELECT DISTINCT id FROM read_parquet($path)
SEMI JOIN (SELECT id FROM unexplained WHERE change = $change) USING (id)
"""

_TWO_SIDED = """
INSERT INTO rows BY NAME
SELECT $position AS position, $content AS content, $snapshot AS snapshot, d.id, change,
    CASE WHEN change = 'changed' THEN
        CASE WHEN a.extractor <> b.extractor THEN 'extractor' WHEN a.raw <> b.raw THEN 'source' ELSE 'code' END
    WHEN r.id IS NULL THEN if(x.id IS NULL, 'source', 'unbuilt')
    WHEN drop_reason = $removed THEN 'removal'
    WHEN starts_with(drop_reason, 'duplicate-') THEN 'duplicate'
    WHEN broken IS NOT NULL THEN 'filter'
    ELSE 'rule' END AS cause,
    if(drop_reason = $removed, removal, coalesce(drop_reason, '')) AS reason,
    broken.value AS value, broken.threshold AS threshold,
    if(cause = 'duplicate', duplicate.id, NULL) AS match_id,
    if(cause = 'duplicate', duplicate.corpus, NULL) AS match_corpus,
    if(cause = 'duplicate', duplicate.similarity, NULL) AS similarity,
    coalesce(b.extractor, if(change = 'added', r.extractor, NULL)) AS extractor_before,
    coalesce(a.extractor, if(change = 'removed', r.extractor, NULL)) AS extractor_after,
    coalesce(b.text_sha256, if(change = 'added', r.text_sha256, NULL)) AS text_sha256_before,
    coalesce(a.text_sha256, if(change = 'removed', r.text_sha256, NULL)) AS text_sha256_after,
    CASE WHEN text_sha256_before = text_sha256_after THEN ''
    WHEN extractor_before <> extractor_after THEN 'extractor ' || extractor_before || ' → ' || extractor_after
    WHEN change <> 'changed' AND text_sha256_before <> text_sha256_after THEN 'other text'
    ELSE '' END AS because,
    if(cause = 'removal', '', coalesce(a.native_id, b.native_id)) AS native_id,
    if(cause = 'removal', '', coalesce(a.url, b.url)) AS url,
    coalesce(a.published, b.published) AS published,
    b.n_characters AS n_characters_before, a.n_characters AS n_characters_after
FROM differing d LEFT JOIN refused r ON r.id = d.id LEFT JOIN extracted x ON x.id = d.id
"""

_EXPLAINED = """
CREATE TABLE stated AS
SELECT content, snapshot, cause, reason, string_agg(said, '; ' ORDER BY key) AS said
FROM (SELECT DISTINCT content, snapshot, cause, reason FROM rows) JOIN parameters ON CASE cause
    WHEN 'filter' THEN starts_with(key || '.', 'filters.' || content || '.' || reason || '.')
    WHEN 'duplicate' THEN reason = 'duplicate-near' AND starts_with(key, 'dedup.')
    WHEN 'removal' THEN false
    WHEN 'snapshot' THEN false
    ELSE starts_with(key, 'snapshots.' || snapshot || '.') END
GROUP BY ALL;

UPDATE rows SET because = concat_ws('; ', s.said, nullif(because, '')) FROM stated s
WHERE rows.content = s.content AND rows.snapshot = s.snapshot AND rows.cause = s.cause AND rows.reason = s.reason;

UPDATE rows SET because = concat_ws('; ', nullif(because, ''), 'its match was ' || m.change)
FROM (SELECT id, snapshot, change FROM rows WHERE snapshot NOT IN (SELECT corpus FROM lacking)) m
WHERE rows.cause = 'duplicate' AND m.id = rows.match_id AND m.snapshot = rows.match_corpus
    AND m.change <> rows.change;

UPDATE rows SET because = concat_ws('; ', nullif(because, ''),
    'corpus ' || match_corpus || if(rows.change = 'removed', ' is new', ' is gone'))
FROM lacking l WHERE rows.cause = 'duplicate' AND l.change = rows.change AND l.corpus = match_corpus;
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
        entry = section(self.params, "snapshots").get(name)
        return str(entry.get("content", "")) if isinstance(entry, dict) else ""

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


def create(
    connection: duckdb.DuckDBPyConnection, old: Version, new: Version, parameters: Sequence[tuple[str, str]]
) -> None:
    """Make the empty table `rows`.

    Args:
        connection: to an empty database.
        old: the earlier version.
        new: the later one.
        parameters: key of each parameter that differs, and what to say of it.
    """
    connection.execute(_TABLES)
    for pair in parameters:
        connection.execute("INSERT INTO parameters VALUES (?, ?)", pair)
    for change, having, wanting in (("removed", new, old), ("added", old, new)):
        for name in sorted(set(having.built) - set(wanting.built)):
            connection.execute("INSERT INTO lacking VALUES (?, ?)", [change, name])


def compare(
    connection: duckdb.DuckDBPyConnection, position: int, name: str, old: Version, new: Version
) -> None:
    """Add the rows of one snapshot that either version has; `position` says where they stand."""
    holder = new if name in new.built else old
    fixed = {"position": position, "content": holder.content(name), "snapshot": name}
    if name not in old.built or name not in new.built:
        change, other = ("added", old) if holder is new else ("removed", new)
        cause, because = "snapshot", ""
        if name in section(other.params, "snapshots"):
            cause = "unbuilt"
            if other.revision.files is None:
                because = f"corpora/{name} is not there; restore it with `dvc checkout`, or build it with `dvc repro`"
        given = {"change": change, "cause": cause, "because": because, "kept": holder.kept(name)}
        connection.execute(_ONE_SIDED, {**fixed, **given})
        return
    if old.kept(name) == new.kept(name):
        return  # the cache names files by their content
    connection.execute(_DIFFERING, {"old": old.kept(name), "new": new.kept(name)})
    connection.execute(_REFUSED, {"old": old.dropped(name), "new": new.dropped(name)})
    connection.execute(_UNEXPLAINED)
    for change, version in (("removed", new), ("added", old)):
        if connection.execute("SELECT 1 FROM unexplained WHERE change = ? LIMIT 1", [change]).fetchone():
            # For most versions this file is not needed, and need not be fetched.
            connection.execute(_EXTRACTED, {"path": version.extracted(name), "change": change})
    connection.execute(_TWO_SIDED, {**fixed, "removed": REMOVED})


def explain(connection: duckdb.DuckDBPyConnection) -> None:
    """Say of each row which parameter, corpus or other document explains it, once all rows are there."""
    connection.execute(_EXPLAINED)
