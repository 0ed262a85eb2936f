"""A linear head in closed form: class-balanced ridge regression to the classes, then one scale for probabilities.

Regression to 0 and 1 with every class of equal weight is linear discriminant analysis by least squares. Its strength is
told in utterances, each as heavy as the inputs' mean variance, so that it does not depend on how many inputs there are.
Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., sections 3.4.1 and 4.2.

Shapes: B batch, N rows, S inputs, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel

SCALES = torch.logspace(-1, 2.5, 64, dtype=torch.float64)
"""Factors of the scores that are tried for the probabilities."""


@torch.no_grad()
def solve_head(
    model: SpeechEmotionModel, train: Iterable[Batch], validation: Iterable[Batch], strength: float
) -> float:
    """Set the classifier of a model with a linear head; returns the mean cross-entropy over the training rows.

    Args:
        model: its statistics are standardised already.
        train: the rows to learn from, drawings included.
        validation: rows that choose the scale of the probabilities and nothing else.
        strength: of the ridge: it weighs as much as the inputs' mean variance over as many utterances.
    """
    model.eval()
    rows, labels, count = _encoded(model, train)
    held, truth, _ = _encoded(model, validation)
    classes = model.classifier.out_features
    weights = solve(rows, labels, classes, strength / count)
    scale = _best_scale(held @ weights, truth)
    model.classifier.weight.copy_((scale * weights.T).float())
    model.classifier.bias.zero_()
    return float(F.cross_entropy(scale * (rows @ weights), labels))


def solve(rows: Tensor, labels: Tensor, classes: int, strength: float) -> Tensor:
    """Weights (S, C) of the balanced ridge regression of classes on standardised inputs, float64.

    Args:
        rows: (N, S) float64, standardised.
        labels: (N,) class index.
        classes: C.
        strength: of the ridge, relative to the inputs' mean variance.

    >>> rows = torch.tensor([[1.0], [1.0], [-1.0]], dtype=torch.float64)
    >>> solve(rows, torch.tensor([0, 0, 1]), 2, 1.0).round(decimals=3).tolist()
    [[0.25, -0.25]]
    """
    share = 1 / torch.bincount(labels, minlength=classes).clamp(min=1).double()[labels]
    share = share / share.sum()
    targets = F.one_hot(labels, classes).double() - 1 / classes
    weighted = rows * share[:, None]
    size = rows.shape[1]
    ridge = strength * torch.eye(size, dtype=rows.dtype, device=rows.device)
    found: Tensor = torch.linalg.solve(weighted.T @ rows / size + ridge, weighted.T @ targets / size)
    return found


def _encoded(model: SpeechEmotionModel, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, int]:
    """Inputs of the head (N, S) float64, the classes (N,), and how many utterances they are of."""
    parts = [(model(batch).fused.double(), batch.label.clone(), batch.utterance.clone()) for batch in batches]
    rows, labels, utterances = map(torch.cat, zip(*parts, strict=True))
    return rows, labels, int(utterances.unique().numel())  # type: ignore[no-untyped-call]


def _best_scale(scores: Tensor, labels: Tensor) -> float:
    """The factor of scores (N, C) under which the classes are likeliest."""
    losses = torch.stack([F.cross_entropy(float(scale) * scores, labels) for scale in SCALES])
    return float(SCALES[int(losses.argmin())])
