"""Choice of a confidence threshold for a given accuracy, on a run's validation speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import probabilities
from ser_pipeline.runs import layout
from ser_pipeline.runs.reading import read_predictions
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import percent, plural


@dataclass(frozen=True)
class Threshold:
    """The smallest confidence of an answer, and its effect on validation rows."""

    confidence: float  # 0 to 1
    right: float  # share of correct answers among those at or above it
    answered: float  # share of rows at or above it
    rows: int  # number of validation rows

    def __str__(self) -> str:
        return (
            f"answers need a confidence of at least {self.confidence:.4f}: of "
            f"{plural(self.rows, 'validation utterance')}, {percent(self.answered, 1)} reach it, and "
            f"{percent(self.right, 1)} of these are correct"
        )


def least_confidence(wanted: float, confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Threshold | None:
    """Return the smallest confidence at or above which a share of answers is correct; None if there is none.

    Args:
        wanted: the share, 0 to 1.
        confidence: probability of the likeliest class, (U,).
        right: whether it is the true class, (U,).

    >>> least_confidence(0.75, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, True, False, True, False]))
    Threshold(confidence=0.6, right=0.75, answered=0.8, rows=5)
    """
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(np.diff(confidence[order]) != 0, True)  # answers with equal confidence count together
    good = np.flatnonzero((share >= wanted) & ends)
    if not len(good):
        return None
    last = good[-1]
    return Threshold(float(confidence[order][last]), float(share[last]), float((last + 1) / len(order)), len(order))


def chosen(wanted: float, folders: Sequence[Path], labels: Sequence[str], target: str) -> Threshold:
    """Choose the threshold for a share of correct answers on the validation rows of folds, predicted by their models.

    Args:
        wanted: share of answers that must be correct, 0 to 1.
        folders: folders of the folds.
        labels: the classes in their order.
        target: target of the run.

    Raises:
        PipelineError: the run has no validation predictions or no classes, or no confidence reaches the share.
    """
    missing = [folder for folder in folders if not (folder / layout.VALIDATION).is_file()]
    if missing:
        raise PipelineError(
            f"{missing[0].parent} has no predictions of validation rows, which are needed to choose a confidence; "
            "train it again: ser-pipeline train --fresh"
        )
    row = TARGETS[target]
    if not row.classes:
        raise PipelineError(f"a confidence needs classes, but the run predicts {row.words}")
    tables = [read_predictions(folder / layout.VALIDATION, labels, row) for folder in folders]
    scores = probabilities(np.concatenate([table.log_prob for table in tables]))
    true = np.array([labels.index(facts[-1]) for table in tables for facts in table.facts])
    right = scores.argmax(1) == true
    found = least_confidence(wanted, scores.max(1), right)
    if found is None:
        best = max((np.cumsum(right[np.argsort(-scores.max(1))]) / np.arange(1, len(right) + 1)).tolist())
        raise PipelineError(
            f"no confidence gives {percent(wanted, 1)} correct answers on validation rows; the highest share is "
            f"{percent(best, 1)}"
        )
    return found
