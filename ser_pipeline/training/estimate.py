"""Estimate of the time of training before it starts, from earlier folds or from rates measured on other machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ser_pipeline import config as settings
from ser_pipeline.config import Config
from ser_pipeline.device import _devices
from ser_pipeline.errors import PipelineError
from ser_pipeline.processes import cores
from ser_pipeline.runs import layout
from ser_pipeline.text import duration
from ser_pipeline.training.plan import PlannedRun
from ser_pipeline.training.together import stackable
from ser_pipeline.training.workers import QueueOptions

if TYPE_CHECKING:
    from ser_pipeline.training.stage import Prepared
    from ser_pipeline.training.statuses import Status

PRETRAINED, SMALL, LINEAR = "pretrained", "small", "linear"

RATES = {
    PRETRAINED: {"cpu": 0.5, "cuda": 1600.0},
    SMALL: {"cpu": 90.0, "cuda": 12_000.0},
    LINEAR: {"cpu": 5_000.0, "cuda": 20_000.0},
}
"""Training segments per second of one core or one GPU, by kind of model and device.

Source: docs/speed.md, docs/scratch.md. The rate of `SMALL` is for width 64, and is assumed to fall with the square of
the width.
"""

START_SECONDS = 8.0
"""Seconds until the first step, mostly for importing libraries."""

MOST_RUNS = 20
"""Largest number of earlier runs that are read."""


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of training, and the source of the estimate."""

    seconds: float
    source: str
    folds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Seconds of each missing fold from its first to its last epoch, by the names of its run and of the fold."""
    at_once: float = 1.0  # number of folds that speed up in parallel


def kind_of(config: Config) -> str:
    """Return the kind of a model, a key of `RATES`."""
    model = config.model
    if model.head == "linear" or config.train.solver != "adamw":
        return LINEAR
    waveform = "waveform" in model.reads and model.speech_encoder != "small"
    image = "spectrogram" in model.reads and model.spectrogram_encoder != "small"
    return PRETRAINED if waveform or image else SMALL


def estimated(
    planned: Sequence[PlannedRun], statuses: Sequence[Status], device: torch.device, options: QueueOptions
) -> Estimate | None:
    """Estimate the time of the remaining folds; None if there are none, or the device's rate is unknown.

    Args:
        planned: the runs.
        statuses: the states of their folds.
        device: the device of training.
        options: has the number of folds trained in parallel.
    """
    parts = {(status.run, status.fold): status for status in statuses}
    each, known, apart, together = dict[tuple[str, str], float](), list[bool](), list[float](), list[float]()
    for run in planned:
        missing = [fold for fold in run.folds if not parts[run.entry.path.name, fold.name].done]
        before = list(_earlier(run, device)) if missing else []
        rate = _rate(run.config, device)
        stacked = options.stack and not options.micro and stackable(run.config, str(device))
        for fold in missing:
            place, epochs = (run.entry.path.name, fold.name), run.config.train.epochs
            segments = int(run.manifest.counts[fold.train].sum()) / run.config.model.segments
            if not before and rate is None:
                return None
            each[place] = sum(before) / len(before) if before else segments * epochs / (rate or 1.0)
            (together if stacked else apart).append(each[place] * (1 - min(parts[place].epoch / epochs, 1.0)))
            known.append(bool(before))
    if not each:
        return None
    training = sum(together) + sum(apart) / _at_once(len(apart), device, options)
    source = "estimated from earlier folds" if all(known) else "estimated from rates on other machines"
    at_once = (sum(together) + sum(apart)) / training if training else 1.0
    return Estimate(START_SECONDS + training, source, each, at_once)


def advice(prepared: Prepared, estimate: Estimate | None) -> Iterator[str]:
    """Yield the messages before training: the estimated time, and advice if it is far too long."""
    about = f"about {duration(estimate.seconds)}" if estimate else ""
    if estimate:
        yield f"{about} of training, {estimate.source}"
    if estimate and prepared.device.type == "cpu" and kind_of(prepared.config) == PRETRAINED:
        yield (
            f"warning: preset {prepared.preset} trains large pre-trained networks, which needs a GPU; "
            f"on this CPU it takes {about}. "
            "--preset frozen takes minutes, --preset scratch about an hour on one core for 500 recordings"
        )


def _earlier(run: PlannedRun, device: torch.device) -> Iterator[float]:
    """Yield the seconds of earlier folds with the same device and settings, and any seed."""
    wanted, prefix = replace(run.config, seed=0), run.entry.path.name.rsplit("-", 2)[0]
    folders = sorted(run.entry.path.parent.glob(f"{prefix}-s*"))[:MOST_RUNS]
    for folder in folders:
        try:
            said = json.loads((folder / layout.RUN).read_text(encoding="utf-8"))
            same = replace(settings.loads((folder / layout.CONFIG).read_text(encoding="utf-8"), ""), seed=0) == wanted
            if same and str(said.get("device")) == str(device):
                yield from _seconds(folder, run)
        except (OSError, ValueError, AttributeError, PipelineError):
            continue


def _seconds(folder: Path, run: PlannedRun) -> Iterator[float]:
    for fold in run.folds:
        file = folder / fold.name / layout.RESULT
        if file.is_file():
            yield float(json.loads(file.read_text(encoding="utf-8")).get("seconds", 0.0))


def _rate(config: Config, device: torch.device) -> float | None:
    """Return the segments per second of one core or GPU; None for a device that was not measured."""
    kind = kind_of(config)
    found = RATES[kind].get(device.type)
    if found is None:
        return None
    threads = config.train.threads if device.type == "cpu" else 1
    return found * threads * ((64 / config.model.small_width) ** 2 if kind == SMALL else 1.0)


def _at_once(folds: int, device: torch.device, options: QueueOptions) -> int:
    """Return the number of folds that speed up in parallel: at most one per core, or one per GPU."""
    places = cores() if device.type == "cpu" else len(_devices(device))
    return max(1, min(options.jobs or places, places, folds))
