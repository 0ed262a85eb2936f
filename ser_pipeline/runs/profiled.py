"""What the models of a run cost to use, as `ser-pipeline profile` measured it last on each kind of device.

It stands in the run's folder for the report and for model cards, and is no part of what training left.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_pipeline.entry import write_json
from ser_pipeline.errors import PipelineError, unwritable
from ser_pipeline.runs import layout
from ser_pipeline.runs.shapes import read_shape
from ser_pipeline.text import plural

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """How long one part of the models takes."""

    part: str
    batch: int  # recordings at a time
    median_ms: float
    p95_ms: float
    real_time_factor: float  # seconds of work for a second of audio


@dataclass(frozen=True)
class Profile:
    """The cost of a run's models on one device."""

    device: str  # in words
    measured: str  # UTC
    seconds: float  # of the noise that was heard
    folds: list[str]
    parameters: dict[str, int]
    gflops: dict[str, float]  # for that noise; empty where they cannot be counted
    megabytes: dict[str, float]  # of files
    memory_megabytes: dict[str, float]  # at most
    start_seconds: dict[str, float]  # from the command to its first answer
    torch: list[Timing]
    onnx: list[Timing] = field(default_factory=list)  # on the processor

    @property
    def timings(self) -> list[tuple[str, Timing]]:
        """The name of the engine with each of its times."""
        return [("torch", one) for one in self.torch] + [("onnx", one) for one in self.onnx]

    @property
    def heard(self) -> str:
        """Where it was measured, when, and on what."""
        when = self.measured.partition("T")[0]
        return f"{self.device}, {when}: {self.seconds:g} s of noise, {plural(len(self.folds), 'fold')}"

    @property
    def sums(self) -> list[tuple[str, str]]:
        """Everything but times, in words."""
        return [
            *((f"parameters, {name}", f"{count:,}") for name, count in self.parameters.items()),
            *((f"GFLOPs, {name}", f"{value:.3f}") for name, value in self.gflops.items()),
            *((f"MB, {name}", f"{value:.1f}") for name, value in self.megabytes.items()),
            *((f"MB of memory at most, {name}", f"{value:,.0f}") for name, value in self.memory_megabytes.items()),
            *((f"seconds to the first answer, {name}", f"{value:.2f}") for name, value in self.start_seconds.items()),
        ]


def amounts(found: Mapping[str, float]) -> str:
    """Numbers with their names.

    >>> amounts({"torch": 2.31, "onnx": 0.5})
    'torch 2.3, onnx 0.5'
    """
    return ", ".join(f"{name} {value:,.1f}" for name, value in found.items())


def keep(run: Path, kind: str, found: Mapping[str, Any]) -> None:
    """Keep what was measured on a kind of device in a run's folder, in the place of what was measured there before.

    Args:
        run: folder of the run.
        kind: of device: cpu, cuda, mps.
        found: what `Profile` holds.

    Raises:
        PipelineError: nothing can be written there.
    """
    file = run / layout.PROFILE
    before = read_shape(file, dict[str, Any]) if profiles(run) else {}
    try:
        write_json(file, before | {kind: found})
    except OSError as error:
        raise PipelineError(unwritable(run, error)) from None


def profiles(run: Path) -> list[Profile]:
    """What was measured of a run, by kind of device; none where nothing was, or the file is damaged, with a line."""
    file = run / layout.PROFILE
    try:
        return list(read_shape(file, dict[str, Profile]).values()) if file.is_file() else []
    except PipelineError as error:
        log.warning("%s: %s; `ser-pipeline profile` measures again", run.name, error)
        return []
