"""Who is at work on the features of a cache, and what stopped who was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.cache import catalogue
from ser_pipeline.claims import FOLDER, HELD, LEFT, Claims


@dataclass(frozen=True)
class SharedPart:
    """The latest claim on a part of a corpus's features."""

    corpus: str  # folder of the features
    part: str
    state: str  # "held", "left" or "failed"
    who: str
    since: str  # ISO 8601, by the clock of who claimed it
    why: str  # what stopped it; "" otherwise


def shared_parts(cache: Path) -> list[SharedPart]:
    """The parts of unfinished features that were claimed, by name; a process known to be dead holds nothing."""
    claims, found = Claims(catalogue.features_root(cache) / FOLDER), list[SharedPart]()
    for folder in sorted(claims.folder.glob("*")):
        for part, record in claims.records(folder.name).items():
            holder = record.holder
            state = LEFT if record.state == HELD and holder.dead else record.state
            who = f"process {holder.process} on {holder.host}"
            found.append(SharedPart(folder.name, part, state, who, record.since, record.why))
    return found
