"""Report which processes work on features or runs, and which have failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.claims import FOLDER, HELD, LEFT, Claims


@dataclass(frozen=True)
class SharedPart:
    """The latest claim on a part of features or of a run."""

    folder: str  # name of the features folder or run folder
    part: str
    state: str  # "held", "left" by a process that was killed, or "failed"
    who: str
    since: str  # ISO 8601, by the clock of the claiming machine
    why: str  # reason of a failure; "" otherwise


def shared_parts(root: Path) -> list[SharedPart]:
    """Parts of unfinished work in `root` that are claimed, or whose process died or failed, by name.

    Args:
        root: the folder of all features, or of all runs.
    """
    claims, found = Claims(root / FOLDER), list[SharedPart]()
    for folder in sorted(claims.folder.glob("*")):
        for part, record in claims.records(folder.name).items():
            if record.state == LEFT:  # it is complete, or was released in order
                continue
            holder = record.holder
            state = LEFT if record.state == HELD and holder.dead else record.state
            who = f"process {holder.process} on {holder.host}"
            found.append(SharedPart(folder.name, part, state, who, record.since, record.why))
    return found
