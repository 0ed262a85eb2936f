"""Where a run comes from: who trained its folds, from which data and weights; written when it is whole, and read."""

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
    """What the `index.json` of a run says of its making, once all folds are whole.

    Args:
        run: folder of the run.
        folds: their names.
    """
    ended, started = now(), read_run_file(run).started
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds() if started else 0.0
    made = together(read_json(run / name / "index.json").get("made", {}) for name in folds)
    return {"made": made, "ended": ended, "seconds": seconds}


def origin(said: RunFile, index: IndexFile) -> Origin:
    """The origin of a run, by its `run.json` and its `index.json`, which is empty while it is unfinished."""
    return Origin(
        made={name: value if isinstance(value, list) else [value] for name, value in index.made.items()},
        started=said.started,
        ended=index.ended,
        seconds=index.seconds,
        manifest=said.manifest,
        contents=index.files.get(layout.CONTENTS, ""),
        encoders=said.encoders,
    )
