"""A whole training step as one CUDA graph: a step of the full model launches about 3,000 kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ser_pipeline.batch import Batch

Step = Callable[[Batch], Tensor]

WARM_UP = 3
"""Steps before a capture, in which libraries choose their kernels and compilers run."""


class Captured:
    """A step on batches of one size, replayed as a CUDA graph; batches of other sizes take the step itself.

    The first steps are taken as they are, so none is lost. The step must launch the same work whatever the batch
    holds, draw from the device's generator alone, and not wait for the device; an optimiser in it has to be
    `capturable`.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._taken = 0
        self._size = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._result: Tensor | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """What the step gives for `batch`."""
        self._size = self._size or len(batch.samples)
        if len(batch.samples) != self._size:
            return self._step(batch)
        if self._taken < WARM_UP:
            self._taken += 1
            return self._aside(batch)
        if self._graph is None:
            self._capture(batch)
        return self._replay(batch)

    def _aside(self, batch: Batch) -> Tensor:
        """The step on a stream of its own, as a capture needs it."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _capture(self, batch: Batch) -> None:
        self._batch = Batch._make(None if part is None else part.clone() for part in batch)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._step(self._batch)

    def _replay(self, batch: Batch) -> Tensor:
        assert self._graph is not None and self._batch is not None and self._result is not None
        for kept, part in zip(self._batch, batch, strict=True):
            if kept is not None and part is not None:
                kept.copy_(part, non_blocking=True)
        self._graph.replay()
        return self._result.clone()
