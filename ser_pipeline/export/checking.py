"""Recordings for the check of an exported model: test recordings of its run, or noise."""

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
"""Largest number of recordings for the check of a graph, evenly spaced among the run's test recordings."""

LENGTHS = (0.4, 1.7, 3.3, 7.1)
"""Lengths in seconds of the noise signals that replace missing recordings."""


def tested_recordings(run: Path, rate: int, most: int = MOST) -> Iterator[NDArray[np.float32]]:
    """Yield the samples (N,) of test recordings of a run that still exist.

    Args:
        run: folder of the run.
        rate: sampling rate of the result in Hz.
        most: largest number of recordings.
    """
    root, files = Path(read_json(run / layout.RUN).get("audio_root", "")), list(_files(run))
    root = root if root.is_dir() else root.parent
    for place in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int):
        with suppress(OSError, PipelineError):
            file = root / files[place]
            yield audio.decode(file.read_bytes(), str(file), rate)


def noise(rate: int) -> list[NDArray[np.float32]]:
    """Return noise signals, which are the same every time."""
    random = np.random.default_rng(0)
    return [(0.1 * random.standard_normal(round(seconds * rate))).astype(np.float32) for seconds in LENGTHS]


def _files(run: Path) -> Iterator[str]:
    """Yield the names of the folds' test files; for a final model, those of the validation files."""
    tables = sorted(run.glob(f"*/{layout.PREDICTIONS}")) or sorted(run.glob(f"*/{layout.VALIDATION}"))
    for table in tables:
        with table.open(encoding="utf-8", newline="") as lines:
            yield from (row["file"] for row in csv.DictReader(lines))
