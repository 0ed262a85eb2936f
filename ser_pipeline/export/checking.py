"""Recordings to check an exported model on: those that its run was tested on, or noise."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_pipeline import audio
from ser_pipeline.entry import read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout

MOST = 100
"""Recordings that a graph is checked on, evenly taken from those that the run was tested on."""

LENGTHS = (0.4, 1.7, 3.3, 7.1)
"""Seconds of the stretches of noise that take the place of recordings."""


def tested_recordings(run: Path, rate: int, most: int = MOST) -> Iterator[NDArray[np.float32]]:
    """Samples (N,) of recordings that a run was tested on, where they still are.

    Args:
        run: folder of the run.
        rate: Hz at which they are wanted.
        most: how many.
    """
    root, files = Path(read_json(run / layout.RUN).get("audio_root", "")), list(_files(run))
    root = root if root.is_dir() else root.parent
    for place in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int):
        with suppress(OSError, PipelineError):
            file = root / files[place]
            yield audio.decode(file.read_bytes(), str(file), rate)


def noise(rate: int) -> list[NDArray[np.float32]]:
    """Stretches of noise, the same every time."""
    random = np.random.default_rng(0)
    return [(0.1 * random.standard_normal(round(seconds * rate))).astype(np.float32) for seconds in LENGTHS]


def _files(run: Path) -> Iterator[str]:
    """Names of the files that the folds were tested on; of a final model, that its epoch was chosen on."""
    tables = sorted(run.glob(f"*/{layout.PREDICTIONS}")) or sorted(run.glob(f"*/{layout.VALIDATION}"))
    for table in tables:
        with table.open(encoding="utf-8", newline="") as lines:
            yield from (row["file"] for row in csv.DictReader(lines))
