"""Targets of a model, and the loss between its outputs and its targets.

Shapes: B segments of a batch, C classes, A attributes, K outputs: C, A or C + A, depending on the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.targeted import values_of
from ser_pipeline.config import Train
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.targets import TARGETS, Target

TINY = 1e-8
"""Added to the denominator of CCC, which is 0 if all values are equal."""


def outputs_of(target: str, classes: int) -> int:
    """Return the number of outputs K of a model: one per class and one per attribute, if the target has them.

    >>> [outputs_of(name, 4) for name in TARGETS]
    [4, 4, 3, 7]
    """
    row = TARGETS[target]
    return classes * row.classes + len(DIMENSIONS) * row.attributes


@dataclass(frozen=True, eq=False)
class Objective:
    """The targets of all utterances, and the loss of outputs."""

    row: Target
    classes: int  # C; 0 if the target has no classes
    values: Tensor  # (U, K) float32
    smoothing: float = 0.0  # label smoothing: share of a distribution that is spread over all classes
    weight: float = 1.0  # of the attributes' loss, relative to that of classes

    @classmethod
    def of(cls, manifest: Manifest, settings: Train, device: torch.device) -> Objective:
        """Return the objective for the utterances of `manifest`.

        Args:
            manifest: manifest of the utterances that have the target.
            settings: `target`, `label_smoothing` and `vad_weight` are used.
            device: device of the batches.
        """
        row = TARGETS[settings.target]
        values = torch.from_numpy(values_of(manifest, row)).float().to(device)
        classes = len(manifest.labels) * row.classes
        return cls(row, classes, values, settings.label_smoothing, settings.vad_weight)

    def targets(self, utterance: Tensor) -> Tensor:
        """Return the targets (..., K) of utterance rows (...), with label smoothing."""
        found = self.values[utterance]
        if not self.classes:
            return found
        shares = found[..., : self.classes]
        smoothed = shares * (1 - self.smoothing) + self.smoothing / self.classes * shares.sum(-1, keepdim=True)
        return smoothed if not self.row.attributes else torch.cat([smoothed, found[..., self.classes :]], -1)

    def losses(self, outputs: Tensor, targets: Tensor, counts: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of each segment (..., B); the loss of attributes is that of the batch in all its segments.

        Args:
            outputs: float32 (..., B, K).
            targets: (..., B, K).
            counts: 1 for a segment that counts, 0 for padding of the batch, (..., B).
            weights: weight of each class (..., C), or None.
        """
        if not self.row.attributes:
            return cross_entropy(outputs, targets, weights)
        apart = discordance(outputs[..., self.classes :], targets[..., self.classes :], counts)
        if not self.row.classes:
            return apart
        shares = cross_entropy(outputs[..., : self.classes], targets[..., : self.classes], weights)
        return shares + self.weight * apart

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split outputs (..., K) into log-probabilities (..., C) and attributes (..., A)."""
        return split(outputs, self.classes, self.row)


def split(outputs: Tensor, classes: int, row: Target) -> tuple[Tensor, Tensor | None]:
    """Split outputs into log-probabilities (..., C) and, if the target has them, attributes (..., A), -1 to 1.

    Args:
        outputs: float32 (..., K).
        classes: C; ignored if the target has no classes.
        row: the target.
    """
    count = classes if row.classes else 0
    return F.log_softmax(outputs[..., :count], dim=-1), outputs[..., count:] if row.attributes else None


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the cross-entropy of each segment (...), in nats.

    Args:
        logits: (..., C).
        targets: (..., C).
        weights: weight of each class (C,), or None.
    """
    weighted = targets if weights is None else targets * weights
    return -(weighted * F.log_softmax(logits, dim=-1)).sum(-1)


def discordance(outputs: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Return 1 - CCC over a batch, averaged over attributes and repeated for each segment (..., B).

    Source: Lin, Biometrics 45, 1989.

    Args:
        outputs: (..., B, A).
        targets: (..., B, A).
        counts: 1 for a segment that counts, 0 for padding of the batch, (..., B).
    """
    share = (counts / counts.sum(-1, keepdim=True).clamp(min=1))[..., None]
    mean, wanted = ((share * x).sum(-2, keepdim=True) for x in (outputs, targets))
    over, under = outputs - mean, targets - wanted
    both, one, other = ((share * x).sum(-2) for x in (over * under, over**2, under**2))
    found = 2 * both / (one + other + (mean - wanted)[..., 0, :] ** 2 + TINY)
    return (1 - found.mean(-1))[..., None].expand(counts.shape)
