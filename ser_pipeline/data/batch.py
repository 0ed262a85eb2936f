"""A batch as it reaches the model: compact rows, which the model finishes on the device; and mixtures of segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of the feature stores and what is known of them; `ser_pipeline.inputs` has the forms of the rows."""

    inputs: Mapping[str, Tensor]  # name of an input -> its rows (B, ...), as they are stored
    samples: Tensor  # int32 (B,): real samples in the segment, the rest is padding at its end
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
        """The batch of some of the segments."""
        return self.map(lambda tensor: tensor[rows])

    def changed(self, inputs: Mapping[str, Tensor], samples: Tensor | None = None) -> Batch:
        """The batch with some of its inputs, or the real samples, replaced."""
        return Batch(
            {**self.inputs, **inputs}, self.samples if samples is None else samples, self.label, self.utterance
        )

    def tensors(self) -> list[Tensor]:
        """Everything in it, in an order that `of` takes back: what a CUDA graph is called with."""
        return [self.samples, self.label, self.utterance, *self.inputs.values()]

    @classmethod
    def of(cls, names: Sequence[str], tensors: Sequence[Tensor]) -> Batch:
        """The batch with inputs of these `names` whose `tensors()` are given."""
        samples, label, utterance, *inputs = tensors
        return cls(dict(zip(names, inputs, strict=True)), samples, label, utterance)


class Mix(NamedTuple):
    """Which segments are mixed with which others of their batch, and how much of them is kept."""

    other: Tensor  # int64 (B,): row of the other segment
    weight: Tensor  # float32 (B, 1): 1 where a segment stays as it is

    @classmethod
    def draw(cls, size: int, share: float, device: torch.device) -> Mix:
        """A share of the segments mixed with another, half and half on average.

        Source: Zhang et al., mixup, ICLR 2018, with a Beta(1, 1) weight.

        Args:
            size: segments of the batch.
            share: of the segments that are mixed, 0 to 1.
            device: on which the batch is.
        """
        chosen = torch.rand(size, 1, device=device) < share
        weight = torch.where(chosen, torch.rand(size, 1, device=device), 1.0)
        return cls(torch.randperm(size, device=device), weight)

    def __call__(self, rows: Tensor) -> Tensor:
        """Vectors (B, D) of the segments, mixed."""
        return torch.lerp(rows[self.other], rows, self.weight.to(rows.dtype))
