"""States of the runs in a folder, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.entry import PARTIAL
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.shapes import read_run_file


@dataclass(frozen=True)
class RunState:
    """The state of a run."""

    name: str  # name of its folder when finished
    folds: int  # number of folds
    trained: int  # number of finished folds
    whole: bool  # whether the run is finished


def run_states(runs: Path) -> list[RunState]:
    """Return the runs in the folder `runs` by name, without damaged ones, about which `report` has messages."""
    found = []
    for folder in sorted(runs.glob("*-*")):
        try:
            names = read_run_file(folder).folds
        except PipelineError:
            continue
        trained = sum((folder / name / "index.json").is_file() for name in names)
        whole = not folder.name.endswith(PARTIAL)
        found.append(RunState(folder.name.removesuffix(PARTIAL), len(names), trained, whole))
    return found
