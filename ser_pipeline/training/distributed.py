"""Training of one run by several processes that `torchrun` started."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes that train together; by default a single one."""

    rank: int = 0
    size: int = 1
    local: int = 0  # index of this process's device on its machine

    @property
    def is_main(self) -> bool:
        """Whether this process writes, prints and evaluates."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """Return the device of this process; of several processes, each has a GPU of its own if there are GPUs."""
        if self.size > 1 and wanted in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local}"
        return "cpu" if self.size > 1 and wanted == "auto" else wanted

    def broadcast(self, value: Value) -> Value:
        """Return the `value` of the first process in every process."""
        if self.size == 1:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum each of `tensors` over all processes, in place, with one exchange for all of them."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(old) for part, old in zip(parts, tensors, strict=True)])

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Set `tensors` to the first process's values in every process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Wait until every process has reached this point."""
        if self.size > 1:
            distributed.barrier()


def join_world(device: str = "auto") -> World:
    """Join the processes that `torchrun` describes in the environment; without it, return a single process."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    world = World(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    if not distributed.is_initialized():
        cuda = device != "cpu" and torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(world.local)
        distributed.init_process_group("nccl" if cuda else "gloo")
        atexit.register(_leave)
    return world


def _leave() -> None:
    """Leave the process group before the interpreter ends; its threads would abort the process otherwise."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
