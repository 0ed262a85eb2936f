"""Which runs a report is about, and which two of their groups it compares."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ser_pipeline.errors import PipelineError
from ser_pipeline.names import guess
from ser_pipeline.report.compare import Comparison, compare
from ser_pipeline.report.groups import Group, Panel, panel_key
from ser_pipeline.runs.records import LeftOut, RunHeader

if TYPE_CHECKING:
    from ser_pipeline.report.contents import Choice


def matches(pattern: str, header: RunHeader) -> bool:
    """Whether a glob pattern matches the ablation of a run, or its folder with or without key and seed."""
    parts = [header.name.rsplit("-", cut)[0] for cut in (1, 2)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in (header.ablation, header.path.name, header.name, *parts))


def chosen(
    headers: Sequence[RunHeader], none: Sequence[LeftOut], choice: Choice
) -> tuple[list[RunHeader], list[LeftOut]]:
    """The runs that a report is about, and what it leaves out.

    Args:
        headers: of all runs that were found.
        none: what was found that is no run to report on.
        choice: of corpus and runs.

    Raises:
        PipelineError: no run is chosen.
    """
    left_out = [one for one in none if one.corpus in ("", choice.corpus)]
    own = [header for header in headers if header.corpus == choice.corpus]
    reasons = {header.path: choice.reason_against(header) for header in own}
    left_out += [LeftOut(header.path.name, reasons[header.path]) for header in own if reasons[header.path]]
    kept = [header for header in own if not reasons[header.path]]
    if not kept:
        raise PipelineError(_nothing(own, choice))
    return kept, left_out


def _nothing(own: Sequence[RunHeader], choice: Choice) -> str:
    """Return the message that no run of a corpus is chosen, by the first option that no run fits."""
    there = sorted({header.protocol for header in own})
    if choice.protocol and choice.protocol not in there:
        known = f"{guess(choice.protocol, there)}known: {', '.join(there)}"
        return f"no run of {choice.corpus} has the protocol '{choice.protocol}'; {known}"
    of = [header for header in own if choice.protocol in (None, header.protocol)]
    names = sorted({header.ablation for header in of})
    by = f" by the protocol '{choice.protocol}'" if choice.protocol else ""
    pattern = choice.patterns[0]
    wanted = " or ".join(f"'{one}'" for one in choice.patterns)
    return f"no run of {choice.corpus}{by} matches {wanted}; {guess(pattern, names)}known: {', '.join(names)}"


def comparison(found: Sequence[Panel], names: tuple[str, str], speaker: np.ndarray) -> Comparison:
    """Compare the two groups that the user named, from the same experiment if possible.

    Args:
        found: the experiments.
        names: two ablations, or patterns of folder names.
        speaker: each utterance's speaker, by row of the utterance table.

    Raises:
        PipelineError: a name matches no finished run, or the groups share no seed or utterance.
    """
    groups = [group for panel in found for group in panel.whole]
    sides = [[part for group in groups if (part := _named(pattern, group))] for pattern in names]
    for pattern, side in zip(names, sides, strict=True):
        if not side:
            raise PipelineError(_unmatched(found, pattern))
    pairs = [(one, other) for one in sides[0] for other in sides[1] if one.runs != other.runs]
    alike = [(one, other) for one, other in pairs if one.header.labels == other.header.labels]
    if pairs and not alike:
        raise PipelineError(f"{names[0]} and {names[1]} have different classes, so they cannot be compared")
    for one, other in sorted(alike, key=lambda pair: _unlike(*pair)):
        result = compare(one, other, speaker)
        if result:
            return result
    raise PipelineError(f"{names[0]} and {names[1]} share no seed or no test utterance")


def _unmatched(found: Sequence[Panel], pattern: str) -> str:
    """Return the message that no finished run matches a pattern, and whether an unfinished one does."""
    of = found[0].header.corpus
    for group in (group for panel in found for group in panel.groups):
        for run in group.unfinished:
            if pattern == group.name or matches(pattern, run.header):
                done = f"{len(run.folds)} of {len(run.header.fold_names)} folds"
                return f"'{pattern}' of {of} is unfinished ({done}); the same train command continues it"
    known = list(dict.fromkeys(group.name for panel in found for group in panel.whole))
    return f"no finished run of {of} matches '{pattern}'; {guess(pattern, known)}known: {', '.join(known) or 'none'}"


def _named(pattern: str, group: Group) -> Group | None:
    """Return the group with the runs that `pattern` matches, or all for its own name; None if there are none."""
    chosen = tuple(run for run in group.runs if pattern == group.name or matches(pattern, run.header))
    return replace(group, runs=chosen) if chosen else None


def _unlike(one: Group, other: Group) -> int:
    """Return the number of properties in which the experiments of two groups differ."""
    return sum(a != b for a, b in zip(panel_key(one.header), panel_key(other.header), strict=True))
