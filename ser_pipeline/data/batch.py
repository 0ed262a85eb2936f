"""Batches as they reach the model: stored rows, which the model converts on the device; and mixtures of segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of the feature stores with their labels; `ser_pipeline.inputs` lists the forms of the rows."""

    inputs: Mapping[str, Tensor]  # name of an input -> its rows (B, ...), as stored
    samples: Tensor  # int32 (B,): number of real samples in the segment; the rest is padding at its end
    label: Tensor  # int64 (B,): class index
    utterance: Tensor  # int64 (B,): row of the manifest

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, name: str) -> Tensor:
        return self.inputs[name]

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `change` applied to every tensor."""
        return Batch.of(tuple(self.inputs), [change(tensor) for tensor in self.tensors()])

    def part(self, rows: slice) -> Batch:
        """A batch of some of the segments."""
        return self.map(lambda tensor: tensor[rows])

    def changed(self, inputs: Mapping[str, Tensor], samples: Tensor | None = None) -> Batch:
        """The batch with some of its inputs, or the real samples, replaced."""
        return Batch(
            {**self.inputs, **inputs}, self.samples if samples is None else samples, self.label, self.utterance
        )

    def tensors(self) -> list[Tensor]:
        """All tensors of the batch, in the order that `of` expects: the arguments of a CUDA graph."""
        return [self.samples, self.label, self.utterance, *self.inputs.values()]

    @classmethod
    def of(cls, names: Sequence[str], tensors: Sequence[Tensor]) -> Batch:
        """Build a batch from the `names` of its inputs and its `tensors()`."""
        samples, label, utterance, *inputs = tensors
        return cls(dict(zip(names, inputs, strict=True)), samples, label, utterance)


class Mix(NamedTuple):
    """Which segments are mixed with which others of their batch, and with what weights."""

    other: Tensor  # int64 (B,): row of the other segment
    weight: Tensor  # float32 (B, 1): weight of the segment itself; 1 leaves it unchanged

    @classmethod
    def draw(cls, size: int, share: float, device: torch.device) -> Mix:
        """Choose a share of the segments, each to be mixed with another, with a weight of one half on average.

        Source: Zhang et al., mixup, ICLR 2018, with a Beta(1, 1) weight.

        Args:
            size: segments of the batch.
            share: share of the segments that are mixed, 0 to 1.
            device: device of the batch.
        """
        chosen = torch.rand(size, 1, device=device) < share
        weight = torch.where(chosen, torch.rand(size, 1, device=device), 1.0)
        return cls(torch.randperm(size, device=device), weight)

    def __call__(self, rows: Tensor) -> Tensor:
        """Vectors (B, D) of the segments, mixed."""
        return torch.lerp(rows[self.other], rows, self.weight.to(rows.dtype))
