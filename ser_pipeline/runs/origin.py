"""Provenance of a run: the machines and versions that trained its folds, its data and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ser_pipeline.entry import read_json
from ser_pipeline.provenance import now, together
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import Origin
from ser_pipeline.runs.shapes import IndexFile, RunFile, read_run_file


def gathered(run: Path, folds: Sequence[str]) -> dict[str, Any]:
    """Collect the provenance of a run's folds for its `index.json`, once all folds are finished.

    Args:
        run: folder of the run.
        folds: names of its folds.
    """
    ended, started = now(), read_run_file(run).started
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds() if started else 0.0
    made = together(read_json(run / name / "index.json").get("made", {}) for name in folds)
    return {"made": made, "ended": ended, "seconds": seconds}


def origin(said: RunFile, index: IndexFile) -> Origin:
    """Return the origin of a run from its `run.json` and its `index.json`, which is empty for an unfinished run."""
    return Origin(
        made={name: value if isinstance(value, list) else [value] for name, value in index.made.items()},
        started=said.started,
        ended=index.ended,
        seconds=index.seconds,
        manifest=said.manifest,
        contents=index.files.get(layout.CONTENTS, ""),
        encoders=said.encoders,
    )
