"""Linear heads that are solved instead of trained: balanced ridge regression, a linear SVM, logistic regression.

Ridge regression to targets 0 and 1 with equal class weights is linear discriminant analysis by least squares. Its
strength is given in utterances, relative to the inputs' mean variance, so that it does not depend on the number of
inputs. Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., sections 3.4.1 and 4.2.
The other two are scikit-learn's, fitted without augmented rows, with their strength chosen among `STRENGTHS` by
cross-validation over groups of the training speakers. The scores are then multiplied by one scale, which is chosen on
the validation rows, to turn them into probabilities.

For the raters' votes, the targets of the regression are the shares of votes minus their mean, all utterances have the
same weight, and the bias is the logarithm of the mean shares: with a scale of 0 the prediction is the mean
distribution. For attributes, the targets are their values, and the predictions are then stretched around their mean to
the largest CCC on the validation rows.

Shapes: N rows, S inputs, C classes, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.config import Train
from ser_pipeline.data.batch import Batch
from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.model import SpeechEmotionModel
from ser_pipeline.training.objective import Objective

SCALES = torch.logspace(-1, 2.5, 64, dtype=torch.float64)
"""Candidates for the scale of the scores."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for scikit-learn's C."""

DOUBT = 0.05
"""Label smoothing of validation rows, which keeps the scale finite if all of them are predicted correctly."""

GROUPS = 3
"""Groups of training speakers, each held out once to choose among `STRENGTHS`."""

ITERATIONS = 2_000
"""Largest number of iterations of scikit-learn's solvers."""

LEAST_SHARE = 1e-4
"""Lower limit of a class's mean share of votes, which keeps its logarithm finite."""

SMALLEST = 1e-12
"""Lower limit of the variance of predictions, which avoids a division by 0."""

STRETCH = (1.0, 4.0)
"""Smallest and largest stretch of predicted attributes, which ridge regression shrinks towards their mean."""


@dataclass(frozen=True)
class HeadRows:
    """Inputs and labels of a linear head."""

    inputs: Tensor  # (N, S) float64, standardised
    labels: Tensor  # (N,) class index; -1 for no class
    utterances: Tensor  # (N,) row of the manifest; an utterance comes first, then its augmented copies

    def where(self, kept: Tensor) -> HeadRows:
        """Return the rows selected by a mask (N,)."""
        return HeadRows(self.inputs[kept], self.labels[kept], self.utterances[kept])


Solution = tuple[Tensor, Tensor]
"""Weights (S, C) and bias (C,), float64."""


@torch.no_grad()
def solve_head(
    model: SpeechEmotionModel,
    train: Iterable[Batch],
    validation: Iterable[Batch],
    objective: Objective,
    settings: Train,
    speakers: Sequence[str],
) -> float:
    """Solve the last layer of a model with a linear head; return the loss over the training rows.

    Args:
        model: the model, which standardises its inputs.
        train: training rows, augmented copies included.
        validation: rows that choose the scale of the outputs and nothing else.
        objective: the targets of all utterances.
        settings: `solver` and `ridge` are used.
        speakers: speaker of every utterance of the manifest.
    """
    model.eval()
    rows, held = encode(model, train), encode(model, validation)
    parts = list[Solution]()
    if objective.row.votes:
        parts.append(_to_votes(rows, held, objective, settings))
    elif objective.row.classes:
        parts.append(_to_classes(rows, held, objective.classes, settings, speakers))
    if objective.row.attributes:
        parts.append(_to_attributes(rows, held, objective, settings))
    weights, bias = (torch.cat(columns, -1) for columns in zip(*parts, strict=True))
    model.classifier.weight.copy_(weights.T.float())
    model.classifier.bias.copy_(bias.float())
    outputs = rows.inputs @ weights + bias
    if objective.row.name == "class":
        return float(F.cross_entropy(outputs, rows.labels))
    targets = objective.values.double()[rows.utterances]
    return float(objective.losses(outputs, targets, torch.ones_like(outputs[:, 0])).mean())


def _to_classes(rows: HeadRows, held: HeadRows, classes: int, settings: Train, speakers: Sequence[str]) -> Solution:
    """Return the weights and bias of the chosen solver, scaled to the largest likelihood of the validation rows.

    Args:
        rows: training rows.
        held: validation rows.
        classes: C.
        settings: `solver` and `ridge` are used.
        speakers: speaker of every utterance of the manifest.
    """
    rows, held = (part.where(part.labels >= 0) for part in (rows, held))
    weights, bias = HEADS[settings.solver](rows, classes, settings, speakers)
    scale = _best_scale(held.inputs @ weights + bias, F.one_hot(held.labels, classes).double())
    return scale * weights, scale * bias


def _to_votes(rows: HeadRows, held: HeadRows, objective: Objective, settings: Train) -> Solution:
    """Return the weights and bias of ridge regression to the raters' shares, scaled as in `_to_classes`.

    Args:
        rows: training rows.
        held: validation rows.
        objective: has the shares.
        settings: `ridge` is used.
    """
    shares = objective.values.double()
    wanted, prior = shares[rows.utterances], shares[rows.utterances].mean(0)
    weights = _regression(rows, wanted - prior, settings)
    bias = prior.clamp(min=LEAST_SHARE).log()
    scale = _best_scale(held.inputs @ weights, shares[held.utterances], bias)
    return scale * weights, bias


def _to_attributes(rows: HeadRows, held: HeadRows, objective: Objective, settings: Train) -> Solution:
    """Return the weights and bias of ridge regression to attributes, stretched to the largest CCC on validation rows.

    For predictions with variance v, targets with variance w, covariance c and a difference d between their means, the
    stretch s multiplies the predictions. Its CCC, 2 s c / (s² v + w + d²), is largest at s² v = w + d².

    Args:
        rows: training rows.
        held: validation rows.
        objective: has the attributes.
        settings: `ridge` is used.
    """
    values = objective.values[:, objective.classes :].double()
    wanted, mean = values[rows.utterances], values[rows.utterances].mean(0)
    weights = _regression(rows, wanted - mean, settings)
    said, true = held.inputs @ weights, values[held.utterances]
    apart = said.mean(0) + mean - true.mean(0)
    stretch = ((true.var(0, unbiased=False) + apart**2) / said.var(0, unbiased=False).clamp(min=SMALLEST)).sqrt()
    return weights * stretch.clamp(*STRETCH), mean


def _regression(rows: HeadRows, targets: Tensor, settings: Train) -> Tensor:
    """Return the weights (S, K) of ridge regression to centred targets (N, K), with equal weights of all rows."""
    count, size = rows.inputs.shape
    strength = settings.ridge / len(set(rows.utterances.tolist()))
    penalty = strength * torch.eye(size, dtype=rows.inputs.dtype, device=rows.inputs.device)
    products = rows.inputs.T @ rows.inputs / (count * size)
    weights: Tensor = torch.linalg.solve(products + penalty, rows.inputs.T @ targets / (count * size))
    return weights


def encode(model: SpeechEmotionModel, batches: Iterable[Batch]) -> HeadRows:
    """Compute the inputs of the head for `batches`."""
    parts = [(model(batch).fused.double(), batch.label.clone(), batch.utterance.clone()) for batch in batches]
    return HeadRows(*map(torch.cat, zip(*parts, strict=True)))


def ridge(rows: HeadRows, classes: int, settings: Train, speakers: Sequence[str] = ()) -> Solution:
    """Return the weights of balanced ridge regression; the bias is 0 because the inputs are centred.

    Args:
        rows: training rows.
        classes: C.
        settings: `ridge` is the strength.
        speakers: unused.

    >>> inputs = torch.tensor([[1.0], [1.0], [-1.0]], dtype=torch.float64)
    >>> weights, bias = ridge(HeadRows(inputs, torch.tensor([0, 0, 1]), torch.arange(3)), 2, Train(ridge=3.0))
    >>> weights.round(decimals=3).tolist(), bias.tolist()
    ([[0.25, -0.25]], [0.0, 0.0])
    """
    inputs, size = rows.inputs, rows.inputs.shape[1]
    share = 1 / torch.bincount(rows.labels, minlength=classes).clamp(min=1).double()[rows.labels]
    weighted = inputs * (share / share.sum())[:, None]
    targets = F.one_hot(rows.labels, classes).double() - 1 / classes
    strength = settings.ridge / len(set(rows.utterances.tolist()))
    penalty = strength * torch.eye(size, dtype=inputs.dtype, device=inputs.device)
    weights: Tensor = torch.linalg.solve(weighted.T @ inputs / size + penalty, weighted.T @ targets / size)
    return weights, torch.zeros(classes, dtype=inputs.dtype, device=inputs.device)


def svm(rows: HeadRows, classes: int, settings: Train, speakers: Sequence[str]) -> Solution:
    """Return the weights and bias of scikit-learn's linear SVM, one class against the others.

    Args:
        rows: training rows.
        classes: C.
        settings: unused.
        speakers: speaker of every utterance of the manifest; groups of them choose the strength.
    """
    from sklearn.svm import LinearSVC

    return _chosen(
        lambda strength: LinearSVC(C=strength, class_weight="balanced", max_iter=ITERATIONS, random_state=0),
        rows,
        classes,
        speakers,
    )


def logistic(rows: HeadRows, classes: int, settings: Train, speakers: Sequence[str]) -> Solution:
    """Return the weights and bias of scikit-learn's multinomial logistic regression.

    Args:
        rows: training rows.
        classes: C.
        settings: unused.
        speakers: speaker of every utterance of the manifest; groups of them choose the strength.
    """
    from sklearn.linear_model import LogisticRegression

    return _chosen(
        lambda strength: LogisticRegression(C=strength, class_weight="balanced", max_iter=ITERATIONS),
        rows,
        classes,
        speakers,
    )


def _chosen(make: Callable[[float], Any], rows: HeadRows, classes: int, speakers: Sequence[str]) -> Solution:
    """Fit a model of scikit-learn with the strength that scores best on held-out training speakers."""
    utterances = rows.utterances.cpu().numpy()
    plain = np.unique(utterances, return_index=True)[1]
    inputs, labels = rows.inputs.cpu().numpy()[plain], rows.labels.cpu().numpy()[plain]
    names = np.array([speakers[row] for row in utterances[plain]])
    group = np.unique(names, return_inverse=True)[1] % GROUPS
    left, sizes, axes = np.linalg.svd(inputs, full_matrices=False)  # exact, since solutions lie in the rows' span
    turned = left * sizes
    found = {strength: _held_out(make, strength, turned, labels, group, classes) for strength in STRENGTHS}
    best = max(found, key=lambda strength: found[strength])
    weights, bias = _by_class(make(best).fit(turned, labels), classes, turned.shape[1])
    return torch.from_numpy(axes.T @ weights).to(rows.inputs), torch.from_numpy(bias).to(rows.inputs)


def _held_out(
    make: Callable[[float], Any],
    strength: float,
    inputs: NDArray[np.float64],
    labels: NDArray[np.int64],
    group: NDArray[np.int64],
    classes: int,
) -> float:
    """Return the UA over all rows, each predicted by a model that was not fitted to its group of speakers."""
    predicted = np.zeros_like(labels)
    for held in np.unique(group):
        mine = group == held
        if len(np.unique(labels[~mine])) > 1:
            predicted[mine] = make(strength).fit(inputs[~mine], labels[~mine]).predict(inputs[mine])
    return Confusion.of(labels, predicted, classes).ua


def _by_class(fitted: Any, classes: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights (S, C) and bias (C,) of a fitted model; a class without training rows is never predicted."""
    weights, bias = np.zeros((size, classes)), np.full(classes, -1e3)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.hstack([-intercepts, intercepts])
    weights[:, fitted.classes_], bias[fitted.classes_] = coefficients.T, intercepts
    return weights, bias


def _best_scale(scores: Tensor, shares: Tensor, bias: Tensor | float = 0.0) -> float:
    """Return the scale of the scores with the smallest cross-entropy to label-smoothed shares.

    Args:
        scores: scores without their bias, (N, C).
        shares: share of each class, (N, C), with a sum of 1 per row.
        bias: bias (C,), which is not scaled.
    """
    doubted = shares * (1 - DOUBT) + DOUBT / shares.shape[1]
    losses = torch.stack([F.cross_entropy(float(scale) * scores + bias, doubted) for scale in SCALES])
    return float(SCALES[int(losses.argmin())])


HEADS: Mapping[str, Callable[[HeadRows, int, Train, Sequence[str]], Solution]] = {
    "ridge": ridge,
    "svm": svm,
    "logistic": logistic,
}
"""Function that returns the weights and bias of a linear head, by `train.solver`."""
