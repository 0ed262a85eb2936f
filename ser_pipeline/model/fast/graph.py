"""Repeated work as one CUDA graph: a training step of the full model launches about 3,000 kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

Result = Tensor | tuple[Tensor | None, ...]

WARM_UP = 3
"""Steps before the capture, in which libraries choose their kernels and compilers run."""


class Captured:
    """A step on inputs of one shape, replayed as a CUDA graph; inputs of other shapes run the step directly.

    Steps that share a `pool` (`torch.cuda.graph_pool_handle()`) share the memory that each needs only while it runs, on
    streams that both use.

    The first steps run directly and count, so none is lost. The step must launch the same work whatever the values of
    its inputs, draw only from the device's generator, and never wait for the device. An optimiser in it has to be
    `capturable`.
    """

    def __init__(self, step: Callable[..., Any], kind: str, *, pool: Any = None, search: bool = True) -> None:
        """Prepare the step; nothing runs before the first call.

        Args:
            step: the function to capture.
            kind: names the stream of the capture. Only one graph of a kind may be in use at a time, since torch frees
                what its libraries hold for a stream together with any graph that was captured there.
            pool: memory that is shared with other graphs.
            search: let cuDNN benchmark its kernels before the capture, unless they must be bit-for-bit reproducible.
        """
        self._step, self._kind, self._pool = step, kind, pool
        self._searching = _searching if search else nullcontext
        self._taken = 0
        self._shapes: list[torch.Size | None] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor | None] = []
        self._result: Result | None = None

    def __call__(self, *inputs: Tensor | None) -> Any:
        """Run the step on `inputs`; returns its result on the device: a tensor, or a tuple of tensors."""
        shapes = [None if part is None else part.shape for part in inputs]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            return self._step(*inputs)
        if self._taken < WARM_UP:
            self._taken += 1
            with self._searching():
                return self._aside(inputs)
        if self._graph is None:
            with self._searching():
                self._capture(inputs)
        return self._replay(inputs)

    def release(self) -> None:
        """Free the graph and its memory, at a time when nothing else runs."""
        self._graph, self._result, self._inputs = None, None, []

    def _aside(self, inputs: tuple[Tensor | None, ...]) -> Any:
        """Run the step on a stream of its own, as a capture requires."""
        stream = side_stream(self._kind, torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._step(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _capture(self, inputs: tuple[Tensor | None, ...]) -> None:
        self._inputs = [None if part is None else part.clone() for part in inputs]
        graph, stream = torch.cuda.CUDAGraph(), side_stream(self._kind, torch.cuda.current_device())
        # Capture on a stream of this device: torch's own stays on the first one. Other threads may work meanwhile, such
        # as the one that writes checkpoints.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            self._result = self._step(*self._inputs)
        self._graph = graph

    def _replay(self, inputs: tuple[Tensor | None, ...]) -> Result:
        assert self._graph is not None and self._result is not None
        for kept, part in zip(self._inputs, inputs, strict=True):
            if kept is not None and part is not None:
                kept.copy_(part, non_blocking=True)
        self._graph.replay()
        if isinstance(self._result, Tensor):
            return self._result.clone()
        return tuple(None if part is None else part.clone() for part in self._result)


@cache
def side_stream(name: str, device: int, priority: int = 0) -> torch.cuda.Stream:
    """A device's stream with that name; it stays the same for the lifetime of the process.

    CUDA's libraries hold a workspace of 32 MiB or more for every stream that they ever worked on, in the memory of a
    graph if the stream was captured there. With new streams, every fold would leave half a gigabyte behind.

    Args:
        name: purpose of the stream.
        device: index of a CUDA device.
        priority: CUDA's priority; negative numbers run sooner.
    """
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


@contextmanager
def _searching() -> Iterator[None]:
    """Let cuDNN benchmark its kernels, only for a shape that recurs."""
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False
