"""What differs between two versions of the corpora, document by document, and why.

A document is known by its id, its text by its digest. What one version keeps and the other does not has a
cause that the other version's files state: the row in its `dropped.parquet` names the filter, the match or
the removal; without one, its source did not give it. The files are joined by DuckDB and never read whole:
texts are opened for the verification of near duplicates alone.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
from tqdm import tqdm

from collectors import causes, changes, params, resemblance
from collectors.changes import SCHEMA, Version
from collectors.document import UserError
from collectors.revisions import Revision

SECTIONS = ("dedup", "filters", "snapshots")
"""Sections of params.yaml that decide what a corpus holds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter that differs: its dotted key, and its values as JSON, empty where it is not set."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key} {self.before or 'unset'} → {self.after or 'unset'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one version of a snapshot holds.

    Attributes:
        documents: documents kept.
        characters: their Unicode code points.
        published_from: UTC, the earliest publication among them; None when there are none.
        published_until: the latest.
    """

    documents: int = 0
    characters: int = 0
    published_from: datetime | None = None
    published_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Documents that came, went or changed for one cause.

    Attributes:
        change: added, removed, changed or metadata.
        cause: one of those that `SCHEMA` explains.
        reason: the filter, kind of duplicate, rule, removal or names of metadata, empty for other causes.
        because: what differs between the versions and explains it, empty where nothing is known to.
        documents: how many.
        characters: theirs, in the version that has them; in the later one for those that both have.
        repeated: how many of the added are near duplicates of a document of the earlier version;
            None where signatures cannot be compared.
    """

    change: str
    cause: str
    reason: str
    because: str
    documents: int
    characters: int
    repeated: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDiff:
    """What differs in one snapshot: None for a version that does not have it."""

    name: str
    before: Holding | None
    after: Holding | None
    changes: tuple[Change, ...]

    def documents(self, change: str) -> int:
        """Return how many documents were added, removed, changed or are of other metadata."""
        return sum(c.documents for c in self.changes if c.change == change)

    def characters(self, change: str) -> int:
        """Return how many characters these documents have."""
        return sum(c.characters for c in self.changes if c.change == change)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Diff:
    """What differs between two versions.

    Attributes:
        before: the earlier version.
        after: the later one.
        parameters: what differs in params.yaml, by key.
        snapshots: those that either version has, in the order of params.yaml, new ones last.
        rows: a row for each document that differs; see `SCHEMA`.
        incomparable: why near duplicates could not be looked for, empty where they were.
        outdated: the parameters of each workspace among the two under which dvc.lock does not record its corpora.
    """

    before: Revision
    after: Revision
    parameters: tuple[Parameter, ...]
    snapshots: tuple[SnapshotDiff, ...]
    rows: pa.Table
    incomparable: str
    outdated: tuple[Parameter, ...]

    def facts(self) -> dict[str, Any]:
        """Return all of it but the rows as plain values for JSON."""
        return {
            "before": {"revision": self.before.name, "commit": self.before.commit},
            "after": {"revision": self.after.name, "commit": self.after.commit},
            "parameters": [asdict(parameter) for parameter in self.parameters],
            "incomparable": self.incomparable,
            "outdated": [asdict(parameter) for parameter in self.outdated],
            "snapshots": [
                json.loads(json.dumps(asdict(snapshot), default=datetime.isoformat))
                for snapshot in self.snapshots
            ],
        }


def diff(before: Revision, after: Revision, names: Sequence[str] | None = None) -> Diff:
    """Return what differs between two versions.

    Args:
        before: the earlier version.
        after: the later one.
        names: the snapshots to compare; all that either version has, when None.

    Raises:
        UserError: when neither version has a snapshot of `names`, or a file of either cannot be had or read.
    """
    old, new = _version(before), _version(after)
    known = tuple(dict.fromkeys((*old.built, *new.built)))
    unknown = next((name for name in names or () if name not in known), None)
    if unknown is not None:
        raise UserError(
            f"neither {before} nor {after} has the corpus {unknown!r}; they have {', '.join(known) or 'none'}"
        )
    chosen = [name for name in known if names is None or name in names]
    parameters = _parameters(old, new, chosen)
    with duckdb.connect() as connection:
        try:
            changes.create(connection)
            causes.create(connection, old, new, [(each.key, str(each)) for each in parameters])
            shown = tqdm(chosen, desc="comparing", unit=" corpora", disable=None, leave=False)
            for position, name in enumerate(shown):
                if changes.compare(connection, position, name, old, new):
                    causes.find(connection, position, name, old, new)
            incomparable = _find_repeats(connection, chosen, old, new)
            causes.explain(connection)
            rows = connection.sql("SELECT * EXCLUDE (position) FROM rows ORDER BY position, id")
            snapshots = tuple(
                _summary(connection, name, old, new, compared=not incomparable) for name in chosen
            )
            table = rows.to_arrow_table().cast(SCHEMA)
        except duckdb.Error as error:
            found = str(error).splitlines()[0]
            raise UserError(
                f"the corpora of {before} and {after} cannot be compared ({found}); compare versions whose files "
                "have the columns of corpora/README.md"
            ) from error
    return Diff(
        before=before,
        after=after,
        parameters=parameters,
        snapshots=snapshots,
        rows=table,
        incomparable=incomparable,
        outdated=tuple(dict.fromkeys(each for version in (old, new) for each in _outdated(version, chosen))),
    )


def _version(revision: Revision) -> Version:
    stated = revision.params()
    listed = [str(name) for name in params.section(stated, "snapshots")]
    built = [name for name in listed if revision.exists(f"corpora/{name}/documents.parquet")]
    return Version(revision=revision, params=stated, built=tuple(built))


def _parameters(old: Version, new: Version, names: Sequence[str]) -> tuple[Parameter, ...]:
    """Return the parameters that differ, of those that decide what these corpora hold."""
    contents = {version.content(name) for version in (old, new) for name in names}
    both = [name for name in names if name in old.built and name in new.built]
    deciding = (
        "dedup.",
        *(f"filters.{content}." for content in contents),
        *(f"snapshots.{name}." for name in both),
    )
    return tuple(each for each in _differing(old.params, new.params) if each.key.startswith(deciding))


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[Parameter]:
    before, after = (
        {key: value for section in SECTIONS for key, value in _leaves(section, stated.get(section))}
        for stated in (old, new)
    )
    return [
        Parameter(key=key, before=before.get(key, ""), after=after.get(key, ""))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _outdated(version: Version, names: Sequence[str]) -> Iterator[Parameter]:
    """Yield the parameters that differ from those with which DVC last made the corpora on disk."""
    if version.revision.files is None:
        for name in names:
            made = version.revision.recorded(f"dedup@{name}")
            yield from _differing(made, version.params) if made is not None else ()


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif value is not None:
        yield key, json.dumps(value, ensure_ascii=False, default=str)


def _find_repeats(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], old: Version, new: Version
) -> str:
    """Find which added documents repeat one of the earlier version; return why that cannot be, if so."""
    config, threshold = params.minhash(new.params), params.threshold(new.params)
    others = [old.texts(name) for name in old.built]
    for name in names:
        added = connection.execute(
            "SELECT id FROM rows WHERE snapshot = ? AND change = 'added' ORDER BY id", [name]
        ).fetchall()
        if not added:
            continue
        own = new.texts(name)
        made = [resemblance.identity(texts) for texts in (own, *others)]
        if differing := [each for each in made if each != made[0]]:
            return f"signatures made with {made[0]} are not comparable with those made with {differing[0]}"
        found = resemblance.repeats(own, [row[0] for row in added], others, config, threshold)
        matches = pa.table(
            {
                "id": list(found),
                "corpus": [match.corpus for match in found.values()],
                "match": [match.id for match in found.values()],
                "similarity": [match.similarity for match in found.values()],
            }
        )
        connection.register("matches", matches)
        connection.execute(
            """UPDATE rows SET near_id = m.match, near_corpus = m.corpus, near_similarity = m.similarity
            FROM matches m WHERE rows.id = m.id AND snapshot = ? AND change = 'added'""",
            [name],
        )
        connection.unregister("matches")
    return ""


def _summary(
    connection: duckdb.DuckDBPyConnection, name: str, old: Version, new: Version, *, compared: bool
) -> SnapshotDiff:
    before, after = (
        _holding(connection, version.kept(name)) if name in version.built else None for version in (old, new)
    )
    groups = connection.execute(
        """SELECT change, cause, reason, because, count(*) AS documents,
            sum(coalesce(n_characters_after, n_characters_before))::BIGINT, count(near_id)
        FROM rows WHERE snapshot = ? GROUP BY ALL ORDER BY change, documents DESC, cause, reason, because""",
        [name],
    ).fetchall()
    grouped = tuple(
        Change(
            change=change,
            cause=cause,
            reason=reason,
            because=because,
            documents=documents,
            characters=characters,
            repeated=repeated if change == "added" and compared else None,
        )
        for change, cause, reason, because, documents, characters, repeated in groups
    )
    return SnapshotDiff(name=name, before=before, after=after, changes=grouped)


def _holding(connection: duckdb.DuckDBPyConnection, path: str) -> Holding:
    documents, characters, first, last = connection.execute(
        """SELECT count(*), coalesce(sum(n_characters), 0)::BIGINT, epoch_us(min(published)), epoch_us(max(published))
        FROM read_parquet(?)""",
        [path],
    ).fetchall()[0]
    start, end = (None if at is None else _EPOCH + timedelta(microseconds=at) for at in (first, last))
    return Holding(documents=documents, characters=characters, published_from=start, published_until=end)
