"""What outputs are compared with, and the loss between them, for every target.

Shapes: B segments of a batch, C classes, A attributes, K = C + A outputs or those of them that the target has.
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
"""Added to the denominator of CCC, which is 0 where all are alike."""


def outputs_of(target: str, classes: int) -> int:
    """Outputs K of a model: one a class, and one an attribute, as far as the target has them.

    >>> [outputs_of(name, 4) for name in TARGETS]
    [4, 4, 3, 7]
    """
    row = TARGETS[target]
    return classes * row.classes + len(DIMENSIONS) * row.attributes


@dataclass(frozen=True, eq=False)
class Objective:
    """The targets of all utterances, and the loss of outputs."""

    row: Target
    classes: int  # C; 0 where the target has none
    values: Tensor  # (U, K) float32
    smoothing: float = 0.0  # share of a distribution that is spread over all classes
    weight: float = 1.0  # of the attributes' loss beside that of classes

    @classmethod
    def of(cls, manifest: Manifest, settings: Train, device: torch.device) -> Objective:
        """The objective over the utterances of `manifest`.

        Args:
            manifest: of the utterances that have what the target wants.
            settings: `target`, `label_smoothing` and `vad_weight` are used.
            device: where batches are.
        """
        row = TARGETS[settings.target]
        values = torch.from_numpy(values_of(manifest, row)).float().to(device)
        classes = len(manifest.labels) * row.classes
        return cls(row, classes, values, settings.label_smoothing, settings.vad_weight)

    def targets(self, utterance: Tensor) -> Tensor:
        """Targets (..., K) of utterance rows (...), smoothed."""
        found = self.values[utterance]
        if not self.classes:
            return found
        shares = found[..., : self.classes]
        smoothed = shares * (1 - self.smoothing) + self.smoothing / self.classes * shares.sum(-1, keepdim=True)
        return smoothed if not self.row.attributes else torch.cat([smoothed, found[..., self.classes :]], -1)

    def losses(self, outputs: Tensor, targets: Tensor, counts: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss of each segment (..., B); that of attributes is the batch's, the same for all of its segments.

        Args:
            outputs: float32 (..., B, K).
            targets: (..., B, K).
            counts: 1 where a segment counts, 0 where it fills the batch up (..., B).
            weights: of each class (..., C), or None.
        """
        if not self.row.attributes:
            return cross_entropy(outputs, targets, weights)
        apart = discordance(outputs[..., self.classes :], targets[..., self.classes :], counts)
        if not self.row.classes:
            return apart
        shares = cross_entropy(outputs[..., : self.classes], targets[..., : self.classes], weights)
        return shares + self.weight * apart

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities (..., C) and attributes (..., A) of outputs (..., K)."""
        return split(outputs, self.classes, self.row)


def split(outputs: Tensor, classes: int, row: Target) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities (..., C) and, where there are some, attributes (..., A) of -1 to 1.

    Args:
        outputs: float32 (..., K).
        classes: C; of no account where the target has none.
        row: of the target.
    """
    count = classes if row.classes else 0
    return F.log_softmax(outputs[..., :count], dim=-1), outputs[..., count:] if row.attributes else None


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of each segment (...).

    Args:
        logits: (..., C).
        targets: (..., C).
        weights: of each class (C,), or None.
    """
    weighted = targets if weights is None else targets * weights
    return -(weighted * F.log_softmax(logits, dim=-1)).sum(-1)


def discordance(outputs: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """1 - CCC over a batch, the mean over attributes, for each of its segments (..., B).

    Source: Lin, Biometrics 45, 1989.

    Args:
        outputs: (..., B, A).
        targets: (..., B, A).
        counts: 1 or 0 for each segment (..., B).
    """
    share = (counts / counts.sum(-1, keepdim=True).clamp(min=1))[..., None]
    mean, wanted = ((share * x).sum(-2, keepdim=True) for x in (outputs, targets))
    over, under = outputs - mean, targets - wanted
    both, one, other = ((share * x).sum(-2) for x in (over * under, over**2, under**2))
    found = 2 * both / (one + other + (mean - wanted)[..., 0, :] ** 2 + TINY)
    return (1 - found.mean(-1))[..., None].expand(counts.shape)
