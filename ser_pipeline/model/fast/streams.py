"""Parts of the model that run in parallel on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ser_pipeline.model.fast.graph import side_stream


class CudaStreams:
    """CUDA streams by name; work on them starts after the work already queued on the current stream."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        number = torch.cuda.current_device() if device.index is None else device.index
        self._streams = {name: side_stream(name, number, -1) for name in names}

    def __deepcopy__(self, memo: object) -> CudaStreams:
        return self  # a copy of the model runs on the same streams

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """Queue the work of this context on the stream called `name`, if there is one."""
        stream = self._streams.get(name)
        if stream is None:
            yield
            return
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield

    def join(self) -> None:
        """Make later work on the current stream wait for all others."""
        for stream in self._streams.values():
            torch.cuda.current_stream().wait_stream(stream)
