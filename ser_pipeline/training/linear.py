"""Linear heads that are solved for and not trained: balanced ridge regression, a linear SVM, logistic regression.

Ridge regression to 0 and 1 with every class of equal weight is linear discriminant analysis by least squares. Its
strength is told in utterances, each as heavy as the inputs' mean variance, so that it does not depend on how many
inputs there are. Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., sections 3.4.1
and 4.2. The other two are scikit-learn's, on the utterances as they are, with their strength chosen among `STRENGTHS`
on groups of the training speakers. One scale then turns scores into probabilities; the validation rows choose it.

To the raters' distribution the same regression goes from their mean shares, every utterance as heavy as the other, and
the logarithms of these shares are the bias: without any scale the prediction is the mean distribution. Attributes are
regressed to as they are, and each is then stretched from its mean so that its CCC on the validation rows is largest.

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
"""Factors of the scores that are tried for the probabilities."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Values of scikit-learn's C that are tried."""

DOUBT = 0.05
"""Share of a validation row that counts for all classes, so that rows which are all right leave a finite scale."""

GROUPS = 3
"""Groups of training speakers, each held out once to choose among `STRENGTHS`."""

ITERATIONS = 2_000
"""Most iterations of scikit-learn's solvers."""

LEAST_SHARE = 1e-4
"""Mean share of votes that a class has at least, so that its logarithm is finite."""

SMALLEST = 1e-12
"""Variance under which predictions are all alike."""

STRETCH = (1.0, 4.0)
"""Least and largest factor by which predicted attributes are stretched: ridge regression draws them together."""


@dataclass(frozen=True)
class HeadRows:
    """What a linear head learns from."""

    inputs: Tensor  # (N, S) float64, standardised
    labels: Tensor  # (N,) class index; -1 of none
    utterances: Tensor  # (N,) row of the manifest; drawings of an utterance follow it as it is

    def where(self, kept: Tensor) -> HeadRows:
        """The rows of a mask (N,)."""
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
    """Set the last layer of a model with a linear head; returns the loss over the training rows.

    Args:
        model: its inputs are standardised already.
        train: the rows to learn from, drawings included.
        validation: rows that choose the scale of the outputs and nothing else.
        objective: the targets of all utterances.
        settings: `solver` and `ridge` are used.
        speakers: of every utterance of the manifest.
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
    """Weights and bias of the solver that is set, scaled so that validation rows are likeliest.

    Args:
        rows: to learn from.
        held: validation rows.
        classes: C.
        settings: `solver` and `ridge`.
        speakers: of every utterance of the manifest.
    """
    rows, held = (part.where(part.labels >= 0) for part in (rows, held))
    weights, bias = HEADS[settings.solver](rows, classes, settings, speakers)
    scale = _best_scale(held.inputs @ weights + bias, F.one_hot(held.labels, classes).double())
    return scale * weights, scale * bias


def _to_votes(rows: HeadRows, held: HeadRows, objective: Objective, settings: Train) -> Solution:
    """Ridge regression to the raters' shares, from their mean; its scale as that of classes.

    Args:
        rows: to learn from.
        held: validation rows.
        objective: has the shares.
        settings: `ridge`.
    """
    shares = objective.values.double()
    wanted, prior = shares[rows.utterances], shares[rows.utterances].mean(0)
    weights = _regression(rows, wanted - prior, settings)
    bias = prior.clamp(min=LEAST_SHARE).log()
    scale = _best_scale(held.inputs @ weights, shares[held.utterances], bias)
    return scale * weights, bias


def _to_attributes(rows: HeadRows, held: HeadRows, objective: Objective, settings: Train) -> Solution:
    """Ridge regression to attributes, stretched from their mean to the largest CCC on the validation rows.

    With predictions of variance v, wanted ones of variance w, and means d apart, CCC is largest where the stretched
    variance is w + d²: the derivative of 2 s c / (s² v + w + d²) by s is 0 there.

    Args:
        rows: to learn from.
        held: validation rows.
        objective: has the attributes.
        settings: `ridge`.
    """
    values = objective.values[:, objective.classes :].double()
    wanted, mean = values[rows.utterances], values[rows.utterances].mean(0)
    weights = _regression(rows, wanted - mean, settings)
    said, true = held.inputs @ weights, values[held.utterances]
    apart = said.mean(0) + mean - true.mean(0)
    stretch = ((true.var(0, unbiased=False) + apart**2) / said.var(0, unbiased=False).clamp(min=SMALLEST)).sqrt()
    return weights * stretch.clamp(*STRETCH), mean


def _regression(rows: HeadRows, targets: Tensor, settings: Train) -> Tensor:
    """Weights (S, K) of ridge regression to centred targets (N, K), every utterance as heavy as the other."""
    count, size = rows.inputs.shape
    strength = settings.ridge / len(set(rows.utterances.tolist()))
    penalty = strength * torch.eye(size, dtype=rows.inputs.dtype, device=rows.inputs.device)
    products = rows.inputs.T @ rows.inputs / (count * size)
    weights: Tensor = torch.linalg.solve(products + penalty, rows.inputs.T @ targets / (count * size))
    return weights


def encode(model: SpeechEmotionModel, batches: Iterable[Batch]) -> HeadRows:
    """The inputs of the head over `batches`."""
    parts = [(model(batch).fused.double(), batch.label.clone(), batch.utterance.clone()) for batch in batches]
    return HeadRows(*map(torch.cat, zip(*parts, strict=True)))


def ridge(rows: HeadRows, classes: int, settings: Train, speakers: Sequence[str] = ()) -> Solution:
    """Weights of balanced ridge regression; no bias, as inputs are centred.

    Args:
        rows: what to learn from.
        classes: C.
        settings: `ridge` is the strength.
        speakers: of no account.

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
    """Weights and bias of scikit-learn's linear SVM, one class against the others.

    Args:
        rows: inputs, labels and groups of the training segments.
        classes: how many.
        settings: of training.
        speakers: of the training utterances: a fold each where the strength is chosen.
    """
    from sklearn.svm import LinearSVC

    return _chosen(
        lambda strength: LinearSVC(C=strength, class_weight="balanced", max_iter=ITERATIONS, random_state=0),
        rows,
        classes,
        speakers,
    )


def logistic(rows: HeadRows, classes: int, settings: Train, speakers: Sequence[str]) -> Solution:
    """Weights and bias of scikit-learn's multinomial logistic regression.

    Args:
        rows: inputs, labels and groups of the training segments.
        classes: how many.
        settings: of training.
        speakers: of the training utterances: a fold each where the strength is chosen.
    """
    from sklearn.linear_model import LogisticRegression

    return _chosen(
        lambda strength: LogisticRegression(C=strength, class_weight="balanced", max_iter=ITERATIONS),
        rows,
        classes,
        speakers,
    )


def _chosen(make: Callable[[float], Any], rows: HeadRows, classes: int, speakers: Sequence[str]) -> Solution:
    """A model of scikit-learn with the strength that does best on training speakers it had not learned from."""
    utterances = rows.utterances.cpu().numpy()
    plain = np.unique(utterances, return_index=True)[1]
    inputs, labels = rows.inputs.cpu().numpy()[plain], rows.labels.cpu().numpy()[plain]
    names = np.array([speakers[row] for row in utterances[plain]])
    group = np.unique(names, return_inverse=True)[1] % GROUPS
    left, sizes, axes = np.linalg.svd(inputs, full_matrices=False)  # as good, as no solution leaves the rows' span
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
    """UA over all rows, each predicted by a model that had not learned from its group of speakers."""
    predicted = np.zeros_like(labels)
    for held in np.unique(group):
        mine = group == held
        if len(np.unique(labels[~mine])) > 1:
            predicted[mine] = make(strength).fit(inputs[~mine], labels[~mine]).predict(inputs[mine])
    return Confusion.of(labels, predicted, classes).ua


def _by_class(fitted: Any, classes: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (S, C) and bias (C,) of a fitted model; a class that it never saw is never predicted."""
    weights, bias = np.zeros((size, classes)), np.full(classes, -1e3)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.hstack([-intercepts, intercepts])
    weights[:, fitted.classes_], bias[fitted.classes_] = coefficients.T, intercepts
    return weights, bias


def _best_scale(scores: Tensor, shares: Tensor, bias: Tensor | float = 0.0) -> float:
    """The factor of scores (N, C) under which classes with `shares` (N, C) are likeliest, none of them for certain.

    Args:
        scores: without their bias.
        shares: of each class, 1 in all.
        bias: (C,) that is not scaled.
    """
    doubted = shares * (1 - DOUBT) + DOUBT / shares.shape[1]
    losses = torch.stack([F.cross_entropy(float(scale) * scores + bias, doubted) for scale in SCALES])
    return float(SCALES[int(losses.argmin())])


HEADS: Mapping[str, Callable[[HeadRows, int, Train, Sequence[str]], Solution]] = {
    "ridge": ridge,
    "svm": svm,
    "logistic": logistic,
}
"""Setting `train.solver` -> weights and bias of a linear head."""
