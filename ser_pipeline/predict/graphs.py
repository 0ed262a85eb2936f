"""Batches of one size, again and again, on a CUDA device: by the models' faster modules, as one graph.

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
"""Batches that are computed plainly first: the kernels take seconds to be made, which few recordings are not worth."""

PATHS = FastPaths(channels_last=False)
"""All but the one that lays weights out anew, which belong to other graphs and to plain modules as well."""

_numbers = count()


class Graphed:
    """What models say of batches of up to `size` segments; those that are smaller are filled up."""

    def __init__(
        self,
        models: Sequence[SpeechEmotionModel],
        size: int,
        *,
        half: bool,
        forward: Callable[[Ensemble, Batch], Tensor],
        capture: Callable[..., Any] = Captured,
    ) -> None:
        """Wait for enough batches; nothing is made before.

        Args:
            models: in evaluation, on their device; they stay as they are, and their weights may change in place.
            size: segments of a batch.
            half: whether `forward` computes in half precision.
            forward: outputs (F, B, K) of a batch.
            capture: makes a graph of a step.
        """
        self._models, self._size, self._half, self._forward, self._capture = models, size, half, forward, capture
        self._plain, self._lock = PLAIN_FIRST, Lock()
        self._names: tuple[str, ...] = ()
        self._taken: Callable[..., Tensor] | None = None

    def takes(self, count: int) -> bool:
        """Whether it is for a batch of so many segments: at least half a whole one, after enough of them."""
        if not self._size // 2 <= count <= self._size:
            return False
        with self._lock:
            self._plain -= self._plain > 0
            return not self._plain

    def __call__(self, batch: Batch) -> Tensor:
        """Outputs (F, B, K)."""
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
    """A copy of the model's modules on the same numbers."""
    return copy.deepcopy(model, {id(numbers): numbers for numbers in chain(model.parameters(), model.buffers())})
