"""The context of a fold: its data, settings and device, which are constant during training and testing."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ser_pipeline.arrays import Rows
from ser_pipeline.config import Config
from ser_pipeline.cost import Meter
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import BatchSource
from ser_pipeline.data.stream import Data
from ser_pipeline.runs.writing import Scores
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training import scoring
from ser_pipeline.training.distributed import World
from ser_pipeline.training.objective import Objective
from ser_pipeline.training.scoring import Forward

EVALUATION = 4
"""Size of an evaluation batch in training batches; without gradients it needs less memory than a training step."""


@dataclass(frozen=True)
class FoldContext:
    """The data, settings and device of a fold, which are constant while it is trained."""

    fold: Fold
    data: Data
    source: BatchSource
    config: Config
    device: torch.device
    world: World
    autocast: Callable[[], Any]
    micro: int = 0  # segments computed at a time; 0: the whole batch
    meter: Meter | None = None  # measures the fold from its start; None if other folds are trained at the same time
    trackers: tuple[str, ...] = ()  # names of trackers that also log epochs and scores

    @cached_property
    def objective(self) -> Objective:
        """The targets and their loss."""
        return Objective.of(self.data.manifest, self.config.train, self.device)

    @property
    def seed(self) -> int:
        """The fold's seed, which is the same on every machine."""
        return zlib.crc32(f"{self.config.seed}:{self.fold.name}".encode())

    @property
    def on_gpu(self) -> bool:
        """Whether the fold is trained on a GPU."""
        return self.device.type != "cpu"

    def score(self, forward: Forward, utterances: Rows, change: scoring.Change | None = None) -> Scores:
        """Return the model's outputs for `utterances`.

        Args:
            forward: the model.
            utterances: rows (U,) of the manifest.
            change: changes each batch before it is given to the model; None for no change.
        """
        how = self.config.model.utterance_score
        return scoring.score(forward, self.segments(utterances), self.objective, change, how)

    def swapped(self, name: str) -> scoring.Change:
        """Return a change of test batches that replaces the input `name` of every utterance by that of another one."""
        rows = scoring.shuffled(self.data.manifest, self.fold.test, self.config.seed)
        return scoring.swapped(name, self._large(rows))

    def segments(self, utterances: Rows) -> Iterator[Batch]:
        """Yield the segments of `utterances` in batches of the evaluation's size."""
        return self._large(self.data.manifest.rows(utterances))

    def _large(self, rows: Rows) -> Iterator[Batch]:
        return self.source.batches(rows, EVALUATION * (self.micro or self.config.train.batch))
