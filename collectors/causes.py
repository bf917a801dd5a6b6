"""Why a document is in one version of a corpus and not in the other, as the files and parameters of both tell it.

What one version refuses has a row in its `dropped.parquet`. A parameter that differs is to blame for it if that of
the version that keeps the document lets the same value pass.
"""

from collections.abc import Sequence
from typing import Any

import duckdb

from collectors.build import REMOVED
from collectors.changes import Version
from collectors.dedup import NEAR
from collectors.licenses import satisfied
from collectors.minhash import MinHashConfig
from collectors.params import section, threshold

_TABLES = """
CREATE TABLE parameters (key VARCHAR, said VARCHAR);
CREATE TABLE rules (
    snapshot VARCHAR, change VARCHAR, reason VARCHAR, said VARCHAR, bound DOUBLE, language VARCHAR, allowed VARCHAR[]
);
CREATE TABLE windows (snapshot VARCHAR, change VARCHAR, since TIMESTAMPTZ, until TIMESTAMPTZ);
CREATE TABLE lacking (change VARCHAR, corpus VARCHAR);
CREATE MACRO said(value) AS coalesce(nullif(value, ''), 'unknown');
CREATE MACRO otherwise(name, change, keeper, refuser) AS name || ' ' || if(
    change = 'removed', said(keeper) || ' → ' || said(refuser), said(refuser) || ' → ' || said(keeper)
);
CREATE MACRO dropped(path) AS TABLE
    SELECT id, drop_reason, text_sha256, extractor, duplicate, license, language, language_probability,
        list_filter(filters, lambda f: f.name = drop_reason AND NOT f.passed)[1] AS broken,
        coalesce(list_filter(metadata, lambda m: m.key = 'removal')[1].value, '') AS removal
    FROM read_parquet(path);
"""

_REFUSED = """
CREATE OR REPLACE TABLE refused AS
SELECT r.*, u.said AS rule
FROM (
    SELECT DISTINCT ON (id) * FROM (
        SELECT *, 'removed' AS change FROM dropped($new)
        SEMI JOIN (SELECT id FROM differing WHERE change = 'removed') USING (id)
        UNION ALL
        SELECT *, 'added' AS change FROM dropped($old)
        SEMI JOIN (SELECT id FROM differing WHERE change = 'added') USING (id)
    ) ORDER BY id, drop_reason
) r
LEFT JOIN rules u ON u.snapshot = $snapshot AND u.change = r.change AND u.reason = r.drop_reason AND CASE
    WHEN u.allowed IS NOT NULL THEN satisfied(r.license, u.allowed)
    WHEN u.bound IS NULL THEN true
    WHEN r.broken IS NULL THEN r.duplicate.similarity < u.bound
    WHEN u.language <> r.language THEN u.bound <= 0
    WHEN u.language IS NOT NULL THEN r.language_probability >= u.bound
    WHEN r.broken.value < r.broken.threshold THEN r.broken.value >= u.bound
    ELSE r.broken.value <= u.bound END
"""

_UNSETTLED = """
CREATE OR REPLACE TABLE unsettled AS
SELECT id, r.change, drop_reason FROM refused r JOIN differing d USING (id)
WHERE broken IS NOT NULL AND (rule IS NULL OR r.text_sha256 <> coalesce(a.text_sha256, b.text_sha256));
CREATE OR REPLACE TABLE measured (
    id VARCHAR, license VARCHAR, language VARCHAR, language_probability DOUBLE, value DOUBLE
);
"""

_MEASURED = """
INSERT INTO measured
SELECT k.id, license, language, language_probability, list_filter(k.filters, lambda f: f.name = u.drop_reason)[1].value
FROM read_parquet($path) k JOIN (FROM unsettled WHERE change = $change) u ON u.id = k.id
"""

_UNEXPLAINED = """
CREATE OR REPLACE TABLE unexplained AS
SELECT id, change FROM differing ANTI JOIN refused USING (id) WHERE change IN ('removed', 'added');
CREATE OR REPLACE TABLE extracted (id VARCHAR);
"""

_EXTRACTED = """
INSERT INTO extracted SELECT DISTINCT id FROM read_parquet($path)
SEMI JOIN (SELECT id FROM unexplained WHERE change = $change) USING (id)
"""

_TWO_SIDED = """
INSERT INTO rows BY NAME SELECT * EXCLUDE (rewritten, differently) FROM (
SELECT $position AS position, $snapshot AS snapshot, d.id, change,
    CASE WHEN change IN ('changed', 'metadata') THEN
        CASE WHEN a.extractor <> b.extractor THEN 'extractor' WHEN a.raw <> b.raw THEN 'source' ELSE 'code' END
    WHEN r.id IS NULL THEN if(x.id IS NULL, 'source', 'unbuilt')
    WHEN drop_reason = $removed THEN 'removal'
    WHEN starts_with(drop_reason, 'duplicate-') THEN 'duplicate'
    WHEN broken IS NOT NULL THEN 'filter'
    ELSE 'rule' END AS cause,
    CASE WHEN change = 'metadata' THEN array_to_string(list_transform(f.fields, lambda x: x.name), ', ')
    WHEN drop_reason = $removed THEN removal ELSE coalesce(drop_reason, '') END AS reason, f.fields AS fields,
    broken.value AS value, broken.threshold AS threshold,
    if(cause = 'duplicate', duplicate.id, NULL) AS match_id,
    if(cause = 'duplicate', duplicate.corpus, NULL) AS match_corpus,
    if(cause = 'duplicate', duplicate.similarity, NULL) AS similarity,
    coalesce(b.extractor, if(change = 'added', r.extractor, NULL)) AS extractor_before,
    coalesce(a.extractor, if(change = 'removed', r.extractor, NULL)) AS extractor_after,
    coalesce(b.text_sha256, if(change = 'added', r.text_sha256, NULL)) AS text_sha256_before,
    coalesce(a.text_sha256, if(change = 'removed', r.text_sha256, NULL)) AS text_sha256_after,
    CASE WHEN change <> 'metadata' AND text_sha256_before = text_sha256_after THEN ''
    WHEN extractor_before <> extractor_after THEN 'extractor ' || extractor_before || ' → ' || extractor_after
    WHEN change IN ('removed', 'added') AND text_sha256_before <> text_sha256_after THEN 'other text'
    ELSE '' END AS rewritten,
    CASE WHEN cause <> 'filter' THEN rewritten WHEN m.id IS NULL THEN ''
    WHEN drop_reason = 'license'
    THEN if(m.license = r.license, '', otherwise('license', change, m.license, r.license))
    WHEN drop_reason = 'language' AND m.language <> r.language
    THEN otherwise('language', change, m.language, r.language)
    WHEN rewritten <> '' THEN if(rule IS NULL OR m.value IS DISTINCT FROM broken.value, rewritten, '')
    WHEN m.value <> broken.value THEN 'other value' ELSE '' END AS differently,
    concat_ws('; ', rule, nullif(differently, '')) AS because,
    if(cause = 'removal', '', coalesce(a.native_id, b.native_id)) AS native_id,
    if(cause = 'removal', '', coalesce(a.url, b.url)) AS url,
    coalesce(a.published, b.published) AS published,
    b.n_characters AS n_characters_before, a.n_characters AS n_characters_after
FROM differing d LEFT JOIN (SELECT * EXCLUDE (change) FROM refused) r ON r.id = d.id
LEFT JOIN extracted x ON x.id = d.id
LEFT JOIN measured m ON m.id = d.id LEFT JOIN restated f ON f.id = d.id AND change = 'metadata')
"""

_EXPLAINED = """
CREATE TABLE stated AS
SELECT r.snapshot, id, string_agg(said, '; ' ORDER BY key) AS said
FROM rows r JOIN parameters ON starts_with(key, 'snapshots.' || r.snapshot || '.')
LEFT JOIN windows w ON w.snapshot = r.snapshot AND w.change = r.change
WHERE cause IN ('source', 'rule', 'code') AND CASE
    WHEN key = 'snapshots.' || r.snapshot || '.since' THEN coalesce(published < since, true)
    WHEN key = 'snapshots.' || r.snapshot || '.until' THEN coalesce(published >= until, true)
    ELSE true END
GROUP BY ALL;

UPDATE rows SET because = concat_ws('; ', s.said, nullif(because, '')) FROM stated s
WHERE rows.snapshot = s.snapshot AND rows.id = s.id;

UPDATE rows SET because = concat_ws('; ', nullif(because, ''), 'its match was ' || m.change)
FROM (SELECT id, snapshot, change FROM rows WHERE snapshot NOT IN (SELECT corpus FROM lacking)) m
WHERE rows.cause = 'duplicate' AND m.id = rows.match_id AND m.snapshot = rows.match_corpus
    AND m.change NOT IN (rows.change, 'metadata');

UPDATE rows SET because = concat_ws('; ', nullif(because, ''),
    'corpus ' || match_corpus || if(rows.change = 'removed', ' is new', ' is gone'))
FROM lacking l WHERE rows.cause = 'duplicate' AND l.change = rows.change AND l.corpus = match_corpus;

UPDATE rows SET because = m.said
FROM (SELECT string_agg(said, '; ' ORDER BY key) AS said FROM parameters WHERE starts_with(key, 'dedup.minhash.')) m
WHERE cause = 'duplicate' AND reason = 'duplicate-near' AND because = '' AND m.said IS NOT NULL;
"""


def create(
    connection: duckdb.DuckDBPyConnection, old: Version, new: Version, parameters: Sequence[tuple[str, str]]
) -> None:
    """Make the tables of what may explain rows.

    Args:
        connection: to the database of `changes.create`.
        old: the earlier version.
        new: the later one.
        parameters: key of each parameter that differs, and what to say of it.
    """
    connection.execute(_TABLES)
    connection.create_function("satisfied", satisfied, ["VARCHAR", "VARCHAR[]"], "BOOLEAN")
    for pair in parameters:
        connection.execute("INSERT INTO parameters VALUES (?, ?)", pair)
    for change, having, wanting in (("removed", new, old), ("added", old, new)):
        for name in sorted(set(having.built) - set(wanting.built)):
            connection.execute("INSERT INTO lacking VALUES (?, ?)", [change, name])


def find(connection: duckdb.DuckDBPyConnection, position: int, name: str, old: Version, new: Version) -> None:
    """Add the rows of one snapshot, which `changes.compare` has compared; `position` says where they stand."""
    sides = (("removed", old, new), ("added", new, old))
    for change, keeper, refuser in sides:
        _add_rules(connection, change, name, keeper, refuser)
    connection.execute(_REFUSED, {"old": old.dropped(name), "new": new.dropped(name), "snapshot": name})
    connection.execute(_UNSETTLED)
    connection.execute(_UNEXPLAINED)
    # For most versions these files are not needed, and need not be fetched or read again.
    unsettled = {row[0] for row in connection.execute("SELECT DISTINCT change FROM unsettled").fetchall()}
    unexplained = {row[0] for row in connection.execute("SELECT DISTINCT change FROM unexplained").fetchall()}
    for change, keeper, refuser in sides:
        if change in unsettled:
            connection.execute(_MEASURED, {"path": keeper.kept(name), "change": change})
        if change in unexplained:
            connection.execute(_EXTRACTED, {"path": refuser.extracted(name), "change": change})
    connection.execute(_TWO_SIDED, {"position": position, "snapshot": name, "removed": REMOVED})


def explain(connection: duckdb.DuckDBPyConnection) -> None:
    """Say of each row which parameter, corpus or other document explains it, once all rows are there."""
    connection.execute(_EXPLAINED)


def _add_rules(
    connection: duckdb.DuckDBPyConnection, change: str, name: str, keeper: Version, refuser: Version
) -> None:
    """Add what the version that keeps documents asks otherwise of them than the one that refuses them does."""
    entry = refuser.entry(name)
    window = [name, change, *(str(entry.get(end, "")) for end in ("since", "until"))]
    connection.execute(
        "INSERT INTO windows SELECT ?, ?, TRY_CAST(? AS TIMESTAMPTZ), TRY_CAST(? AS TIMESTAMPTZ)", window
    )
    own, theirs = (section(section(v.params, "filters"), v.content(name)) for v in (keeper, refuser))
    prefix = f"filters.{keeper.content(name)}."
    rules = [
        (f"{prefix}{reason}.", reason, own.get(reason))
        for reason in theirs
        if own.get(reason) != theirs[reason]
    ]
    if keeper.content(name) != refuser.content(name):
        rules = [(f"snapshots.{name}.content.", reason, rule) for _, reason, rule in rules]
    if threshold(keeper.params) != threshold(refuser.params):
        # Similarities over other shingles are other numbers: then no threshold can be held against them.
        same = _words(keeper) == _words(refuser)
        rules.append(
            ("dedup.threshold." if same else "dedup.", NEAR, threshold(keeper.params) if same else None)
        )
    for key, reason, rule in rules:
        language, bound = next(iter(rule.items()), (None, None)) if isinstance(rule, dict) else (None, rule)
        connection.execute(
            """INSERT INTO rules SELECT ?, ?, ?, string_agg(said, '; ' ORDER BY key), ?, ?, ?
            FROM parameters WHERE starts_with(key || '.', ?) HAVING count(*) > 0""",
            [
                *(name, change, reason),
                bound if isinstance(bound, int | float) else None,
                None if language is None else str(language),
                [str(each) for each in rule] if isinstance(rule, list) else None,
                key,
            ],
        )


def _words(version: Version) -> Any:
    """Return of how many words the shingles are by which similarity is measured."""
    return section(section(version.params, "dedup"), "minhash").get("words", MinHashConfig().words)
