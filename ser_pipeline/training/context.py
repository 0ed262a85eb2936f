"""What stays the same while a fold is trained and tested."""

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
"""Times the training batch that is evaluated at once: without gradients that takes less memory than a step."""


@dataclass(frozen=True)
class FoldContext:
    """What stays the same while a fold is trained."""

    fold: Fold
    data: Data
    source: BatchSource
    config: Config
    device: torch.device
    world: World
    autocast: Callable[[], Any]
    micro: int = 0  # segments computed at a time; 0: the whole batch
    meter: Meter | None = None  # of the fold alone, from its beginning; None: others are trained with it
    trackers: tuple[str, ...] = ()  # where epochs and scores are logged beside the fold's files

    @cached_property
    def objective(self) -> Objective:
        """The targets, and their loss."""
        return Objective.of(self.data.manifest, self.config.train, self.device)

    @property
    def seed(self) -> int:
        """The fold's own seed, the same on every machine."""
        return zlib.crc32(f"{self.config.seed}:{self.fold.name}".encode())

    @property
    def on_gpu(self) -> bool:
        """Whether the fold holds a GPU."""
        return self.device.type != "cpu"

    def score(self, forward: Forward, utterances: Rows, change: scoring.Change | None = None) -> Scores:
        """The model's output over the segments of `utterances`.

        Args:
            forward: the model.
            utterances: rows (U,) of the manifest.
            change: of a batch before the model sees it; None: as it is.
        """
        how = self.config.model.utterance_score
        return scoring.score(forward, self.segments(utterances), self.objective, change, how)

    def swapped(self, name: str) -> scoring.Change:
        """A change of test batches that gives every utterance another one's input `name`."""
        rows = scoring.shuffled(self.data.manifest, self.fold.test, self.config.seed)
        return scoring.swapped(name, self._large(rows))

    def segments(self, utterances: Rows) -> Iterator[Batch]:
        """The segments of `utterances`, in batches as large as those of an evaluation."""
        return self._large(self.data.manifest.rows(utterances))

    def _large(self, rows: Rows) -> Iterator[Batch]:
        return self.source.batches(rows, EVALUATION * (self.micro or self.config.train.batch))
