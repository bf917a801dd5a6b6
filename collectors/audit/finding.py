"""What an audit finds."""

from collections.abc import Iterable
from dataclasses import dataclass

from collectors.document import UserError

REBUILD = "`dvc repro`"
_LISTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        what: what was found.
        where: the file, relative to the repository.
        rule: what should hold.
        remedy: what a person can do about it.
    """

    what: str
    where: str
    rule: str
    remedy: str


def anew(stage: str) -> str:
    """Return how to run a stage of which DVC may believe that it is up to date."""
    return f"`dvc repro --force --single-item {stage}`, then {REBUILD}"


def refusal(error: UserError, where: str, rule: str) -> Finding:
    """Return an error as a finding: what follows its last semicolon is the remedy."""
    what, _, remedy = str(error).rpartition("; ")
    return Finding(what=what or remedy, where=where, rule=rule, remedy=remedy if what else REBUILD)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in their order, those of one file that break one rule as one: the first few, and how many."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        groups.setdefault((finding.where, finding.rule, finding.remedy), []).append(finding.what)
    return [
        Finding(what=some(whats), where=where, rule=rule, remedy=remedy)
        for (where, rule, remedy), whats in groups.items()
    ]


def some(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
