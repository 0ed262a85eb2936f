"""How much of every run in a folder is there, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.entry import PARTIAL
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.shapes import read_run_file


@dataclass(frozen=True)
class RunState:
    """A run and how far it is."""

    name: str  # of its folder once it is whole
    folds: int
    trained: int  # folds that are whole
    whole: bool


def run_states(runs: Path) -> list[RunState]:
    """The runs in the folder `runs`, by name; what is no run, or damaged, is left to `report`, which says why."""
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
