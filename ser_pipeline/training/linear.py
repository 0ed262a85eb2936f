"""Linear heads that are solved for and not trained: balanced ridge regression, a linear SVM, logistic regression.

Ridge regression to 0 and 1 with every class of equal weight is linear discriminant analysis by least squares. Its
strength is told in utterances, each as heavy as the inputs' mean variance, so that it does not depend on how many
inputs there are. Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., sections 3.4.1
and 4.2. The other two are scikit-learn's, on the utterances as they are, with their strength chosen among `STRENGTHS`
on groups of the training speakers. One scale then turns scores into probabilities; the validation rows choose it.

Shapes: N rows, S inputs, C classes.
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


@dataclass(frozen=True)
class HeadRows:
    """What a linear head learns from."""

    inputs: Tensor  # (N, S) float64, standardised
    labels: Tensor  # (N,) class index
    utterances: Tensor  # (N,) row of the manifest; drawings of an utterance follow it as it is


Solution = tuple[Tensor, Tensor]
"""Weights (S, C) and bias (C,), float64."""


@torch.no_grad()
def solve_head(
    model: SpeechEmotionModel,
    train: Iterable[Batch],
    validation: Iterable[Batch],
    settings: Train,
    speakers: Sequence[str],
) -> float:
    """Set the classifier of a model with a linear head; returns the mean cross-entropy over the training rows.

    Args:
        model: its inputs are standardised already.
        train: the rows to learn from, drawings included.
        validation: rows that choose the scale of the probabilities and nothing else.
        settings: `solver` and `ridge` are used.
        speakers: of every utterance of the manifest.
    """
    model.eval()
    rows, held = encode(model, train), encode(model, validation)
    weights, bias = HEADS[settings.solver](rows, model.classifier.out_features, settings, speakers)
    scale = _best_scale(held.inputs @ weights + bias, held.labels)
    model.classifier.weight.copy_((scale * weights.T).float())
    model.classifier.bias.copy_((scale * bias).float())
    return float(F.cross_entropy(scale * (rows.inputs @ weights + bias), rows.labels))


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


def _best_scale(scores: Tensor, labels: Tensor) -> float:
    """The factor of scores (N, C) under which the classes are likeliest, none of them for certain."""
    losses = torch.stack([F.cross_entropy(float(scale) * scores, labels, label_smoothing=DOUBT) for scale in SCALES])
    return float(SCALES[int(losses.argmin())])


HEADS: Mapping[str, Callable[[HeadRows, int, Train, Sequence[str]], Solution]] = {
    "ridge": ridge,
    "svm": svm,
    "logistic": logistic,
}
"""Setting `train.solver` -> weights and bias of a linear head."""
