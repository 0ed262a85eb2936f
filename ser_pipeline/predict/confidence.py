"""The confidence from which on answers are right often enough, chosen on a run's validation speakers."""

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


@dataclass(frozen=True)
class Threshold:
    """The least confidence of an answer, and what came of it on validation rows."""

    confidence: float  # 0 to 1
    right: float  # share of the answers at or above it that were right
    answered: float  # share of all rows
    rows: int

    def __str__(self) -> str:
        return (
            f"answers from a confidence of {self.confidence:.4f} on: {self.right:.1%} of them were right, and "
            f"{self.answered:.1%} of the {self.rows:,} validation utterances answered"
        )


def least_confidence(wanted: float, confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Threshold | None:
    """The least confidence from which on a share of answers is right; None where there is none.

    Args:
        wanted: the share, 0 to 1.
        confidence: of the likeliest class, (U,).
        right: whether it was the true one, (U,).

    >>> least_confidence(0.75, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, True, False, True, False]))
    Threshold(confidence=0.6, right=0.75, answered=0.8, rows=5)
    """
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(np.diff(confidence[order]) != 0, True)  # of answers of one confidence all count, or none
    good = np.flatnonzero((share >= wanted) & ends)
    if not len(good):
        return None
    last = good[-1]
    return Threshold(float(confidence[order][last]), float(share[last]), float((last + 1) / len(order)), len(order))


def chosen(wanted: float, folders: Sequence[Path], labels: Sequence[str], target: str) -> Threshold:
    """The threshold for a share of right answers, over the validation rows of folds by their own models.

    Args:
        wanted: share of the answers that shall be right, 0 to 1.
        folders: of the folds.
        labels: the classes in their order.
        target: of the run.

    Raises:
        PipelineError: a run of before validation predictions were kept, or no confidence gives that share.
    """
    missing = [folder for folder in folders if not (folder / layout.VALIDATION).is_file()]
    if missing:
        raise PipelineError(
            f"{missing[0].parent} keeps no predictions of validation rows, on which a confidence is chosen; "
            "train it again: ser-pipeline train --fresh"
        )
    row = TARGETS[target]
    if not row.classes:
        raise PipelineError(f"a confidence is of classes, and the run tells {row.words}")
    tables = [read_predictions(folder / layout.VALIDATION, labels, row) for folder in folders]
    scores = probabilities(np.concatenate([table.log_prob for table in tables]))
    true = np.array([labels.index(facts[-1]) for table in tables for facts in table.facts])
    right = scores.argmax(1) == true
    found = least_confidence(wanted, scores.max(1), right)
    if found is None:
        best = max((np.cumsum(right[np.argsort(-scores.max(1))]) / np.arange(1, len(right) + 1)).tolist())
        raise PipelineError(
            f"no confidence leaves {wanted:.1%} of the answers right on validation rows; the most is {best:.1%}"
        )
    return found
