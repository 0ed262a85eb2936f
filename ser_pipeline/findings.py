"""What a check found: of a corpus, of folds, of runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ser_pipeline.errors import PipelineError
from ser_pipeline.text import few

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


def refuse(findings: Sequence[Finding], accepted: Collection[str], kept: str = "") -> None:
    """Stop where `findings` hold an error that was not accepted by its name.

    Args:
        findings: of an audit.
        accepted: names of findings that are taken as they are.
        kept: what is kept although it stops; "" where nothing was made.

    Raises:
        PipelineError: the first such error, how many more there are, and what takes them as they are.
    """
    errors = [finding for finding in findings if finding.severity == "error" and finding.name not in accepted]
    if errors:
        names = list(dict.fromkeys(finding.name for finding in errors))
        more = f" (and {len(errors) - 1} more: {few(names, 4)})" if len(errors) > 1 else ""
        options = " ".join(f"--accept {name}" for name in names)
        raise PipelineError(
            f"the audit has an error, {errors[0].name}: {errors[0].message.rstrip('.')}{more}; {kept}mend it "
            f"(`ser-pipeline audit` says more), or take it as it is with {options}, which the report then says"
        )
