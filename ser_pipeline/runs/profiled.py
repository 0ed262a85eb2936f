"""Size, time and memory of a run's models, as last measured by `ser-pipeline profile` on each kind of device.

They are stored in the run's folder for the report and for model cards. Training does not write them.
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
    """Time of one part of the models."""

    part: str
    batch: int  # recordings per batch
    median_ms: float
    p95_ms: float
    real_time_factor: float  # seconds of computation per second of audio


@dataclass(frozen=True)
class Profile:
    """The cost of a run's models on one device."""

    device: str  # name of the device
    measured: str  # UTC
    seconds: float  # length of the noise used as input
    folds: list[str]
    parameters: dict[str, int]
    gflops: dict[str, float]  # for this input; empty if they cannot be counted
    megabytes: dict[str, float]  # sizes of files
    memory_megabytes: dict[str, float]  # peak memory
    start_seconds: dict[str, float]  # from the start of the command to its first prediction
    torch: list[Timing]
    onnx: list[Timing] = field(default_factory=list)  # on the CPU

    @property
    def timings(self) -> list[tuple[str, Timing]]:
        """Each timing with the name of its engine, "torch" or "onnx"."""
        return [("torch", one) for one in self.torch] + [("onnx", one) for one in self.onnx]

    @property
    def heard(self) -> str:
        """The device, date and input of the measurement, in words."""
        when = self.measured.partition("T")[0]
        return f"{self.device}, {when}: {self.seconds:g} s of noise, {plural(len(self.folds), 'fold')}"

    @property
    def sums(self) -> list[tuple[str, str]]:
        """All values except the timings, with their names."""
        return [
            *((f"parameters, {name}", f"{count:,}") for name, count in self.parameters.items()),
            *((f"GFLOPs, {name}", f"{value:.3f}") for name, value in self.gflops.items()),
            *((f"MB, {name}", f"{value:.1f}") for name, value in self.megabytes.items()),
            *((f"MB of peak memory, {name}", f"{value:,.0f}") for name, value in self.memory_megabytes.items()),
            *((f"seconds to the first answer, {name}", f"{value:.2f}") for name, value in self.start_seconds.items()),
        ]


def amounts(found: Mapping[str, float]) -> str:
    """Format numbers with their names.

    >>> amounts({"torch": 2.31, "onnx": 0.5})
    'torch 2.3, onnx 0.5'
    """
    return ", ".join(f"{name} {value:,.1f}" for name, value in found.items())


def keep(run: Path, kind: str, found: Mapping[str, Any]) -> None:
    """Store a profile in a run's folder, and replace an earlier one of the same kind of device.

    Args:
        run: folder of the run.
        kind: kind of device: cpu, cuda or mps.
        found: the fields of `Profile`.

    Raises:
        PipelineError: the folder is not writable.
    """
    file = run / layout.PROFILE
    before = read_shape(file, dict[str, Any]) if profiles(run) else {}
    try:
        write_json(file, before | {kind: found})
    except OSError as error:
        raise PipelineError(unwritable(run, error)) from None


def profiles(run: Path) -> list[Profile]:
    """Read the profiles of a run; if the file is damaged, log a warning and return none."""
    file = run / layout.PROFILE
    try:
        return list(read_shape(file, dict[str, Profile]).values()) if file.is_file() else []
    except PipelineError as error:
        log.warning("%s: %s; run `ser-pipeline profile` again", run.name, error)
        return []
