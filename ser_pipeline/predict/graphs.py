"""Predictions for batches of a fixed size on a CUDA device, by the models' fast modules in one CUDA graph.

Shapes: F models, B segments of a batch, K outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import chain, count
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel
from ser_pipeline.model.ensemble import Ensemble
from ser_pipeline.model.fast import FastPaths, accelerate
from ser_pipeline.model.fast.graph import Captured

PLAIN_FIRST = 4
"""Number of batches that are computed without a graph first, since compiling its kernels takes seconds."""

PATHS = FastPaths(channels_last=False)
"""All fast paths except the one that changes the layout of weights, which other graphs and plain modules share."""

_numbers = count()


class Graphed:
    """Outputs of models for batches of up to `size` segments; smaller batches are padded."""

    def __init__(
        self,
        models: Sequence[SpeechEmotionModel],
        size: int,
        *,
        half: bool,
        forward: Callable[[Ensemble, Batch], Tensor],
        capture: Callable[..., Any] = Captured,
    ) -> None:
        """Prepare a graph, which is captured after enough batches.

        Args:
            models: models in evaluation mode on their device; they do not change, but their weights may, in place.
            size: number of segments of a batch.
            half: whether `forward` computes in half precision.
            forward: returns the outputs (F, B, K) for a batch.
            capture: captures a graph of a step.
        """
        self._models, self._size, self._half, self._forward, self._capture = models, size, half, forward, capture
        self._plain, self._lock = PLAIN_FIRST, Lock()
        self._names: tuple[str, ...] = ()
        self._taken: Callable[..., Tensor] | None = None

    def takes(self, count: int) -> bool:
        """Whether to use the graph for a batch of `count` segments: at least half a batch, after enough batches."""
        if not self._size // 2 <= count <= self._size:
            return False
        with self._lock:
            self._plain -= self._plain > 0
            return not self._plain

    def __call__(self, batch: Batch) -> Tensor:
        """Return the outputs (F, B, K) for a batch."""
        missing = self._size - len(batch)
        full = batch.map(lambda x: torch.cat([x, x[:1].expand(missing, *x.shape[1:])])) if missing else batch
        with self._lock, torch.inference_mode():
            if self._taken is None:
                self._taken = self._made(batch)
            return self._taken(*full.tensors())[:, : len(batch)]

    def _made(self, batch: Batch) -> Callable[..., Tensor]:
        device, names = batch.samples.device, tuple(batch.inputs)
        ensemble = Ensemble(
            [accelerate(_shared(model), device, half=self._half, paths=PATHS).eval() for model in self._models]
        )

        def step(*parts: Tensor) -> Tensor:
            return self._forward(ensemble, Batch.of(names, parts))

        return self._capture(step, f"answers {next(_numbers)}", search=self._half)  # type: ignore[no-any-return]


def _shared(model: SpeechEmotionModel) -> SpeechEmotionModel:
    """Copy the model's modules, with shared weights."""
    return copy.deepcopy(model, {id(numbers): numbers for numbers in chain(model.parameters(), model.buffers())})
