"""Findings of the audit of a run's corpus and folds, and the errors that the user accepted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ser_pipeline.entry import read_json, write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.findings import SEVERITIES, Finding
from ser_pipeline.runs import layout


def audited(run: Path) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return the findings of a run's audit, and the names of accepted errors; both are empty without an audit.

    Raises:
        PipelineError: the file is damaged.
    """
    if not (run / layout.AUDIT).is_file():
        return (), ()
    said = read_json(run / layout.AUDIT)
    try:
        found = [
            Finding(
                item["severity"] if item["severity"] in SEVERITIES else "note",
                str(item["name"]),
                str(item["message"]),
                str(item.get("cost") or ""),
                tuple(map(str, item.get("rows", ()))),
            )
            for item in said["findings"]
        ]
        return tuple(found), tuple(map(str, said.get("accepted", ())))
    except (KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"its audit.json is damaged ({error})") from None


def accept(run: Path, names: Collection[str]) -> None:
    """Add `names` to the accepted errors in the audit of a finished run."""
    found, before = audited(run)
    now = {finding.name for finding in found if finding.severity == "error"} & {*names, *before}
    if now != set(before):
        write_json(run / layout.AUDIT, read_json(run / layout.AUDIT) | {"accepted": sorted(now)})
