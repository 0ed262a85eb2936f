"""Findings of checks of corpora, folds and runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ser_pipeline.errors import PipelineError
from ser_pipeline.text import few

SEVERITIES = ("error", "warning", "note")
"""Severities, the worst first: a number is wrong, may mislead, or needs a remark."""


@dataclass(frozen=True)
class Finding:
    """One finding about a corpus, its folds or its runs."""

    severity: str  # one of SEVERITIES
    name: str  # a short name of the kind of finding
    message: str
    cost: str = ""  # effect on a score
    rows: tuple[str, ...] = ()  # ids of the utterances, or names of the runs, that it concerns


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings by severity, and otherwise keep their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def refuse(findings: Sequence[Finding], accepted: Collection[str], kept: str = "") -> None:
    """Raise an error if `findings` contain an error that was not accepted by name.

    Args:
        findings: findings of an audit.
        accepted: names of accepted findings.
        kept: text about results that are kept despite the error, or "".

    Raises:
        PipelineError: names the first such error, the number of others, and the options that accept them.
    """
    errors = [finding for finding in findings if finding.severity == "error" and finding.name not in accepted]
    if errors:
        names = list(dict.fromkeys(finding.name for finding in errors))
        more = f" (and {len(errors) - 1} more: {few(names, 4)})" if len(errors) > 1 else ""
        options = " ".join(f"--accept {name}" for name in names)
        raise PipelineError(
            f"the audit found an error, {errors[0].name}: {errors[0].message.rstrip('.')}{more}; {kept}fix it "
            f"(see `ser-pipeline audit`), or accept it with {options}, which the report then shows"
        )
