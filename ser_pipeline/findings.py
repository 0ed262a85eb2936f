"""What a check found: of a corpus, of folds, of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")
"""The gravest first: a number is wrong, a number misleads, a number needs a remark."""


@dataclass(frozen=True)
class Finding:
    """One remark on a corpus, its folds or its runs."""

    severity: str  # one of SEVERITIES
    name: str  # one word or two, the same for the same kind
    message: str
    cost: str = ""  # what it may do to a score
    rows: tuple[str, ...] = ()  # utterances or runs that it is about


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes; each in the order in which they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
