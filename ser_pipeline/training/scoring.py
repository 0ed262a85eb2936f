"""Outputs and scores of a model on the rows of a fold.

Shapes: U utterances, S segments, C classes, B segments of a batch, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.corpora.ratings import CENTRED, moved_to
from ser_pipeline.data.batch import Batch
from ser_pipeline.evaluation.attributes import ccc, sums_of
from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.model.coattention import Output
from ser_pipeline.model.fast.graph import Captured
from ser_pipeline.runs.writing import Scores
from ser_pipeline.training.objective import Objective

Change = Callable[[Batch], Batch]


class Forward:
    """A model's output for a batch, in evaluation mode."""

    def __init__(self, model: nn.Module, autocast: Callable[[], Any], pool: Any = None) -> None:
        """Prepare the forward pass.

        Args:
            model: the model.
            autocast: context manager of the arithmetic.
            pool: memory of a captured training step, in which batches of the first batch's size run as a CUDA graph;
                None for no graph.
        """
        self.model, self.autocast = model, autocast
        self._names: tuple[str, ...] = ()
        self._taken = self._take if pool is None else Captured(self._take, "evaluations", pool=pool, search=False)

    def __call__(self, batch: Batch) -> Output:
        """Return the output of the model with its current weights."""
        self.model.eval()
        self._names = tuple(batch.inputs)
        return Output(*self._taken(*batch.tensors()))

    def release(self) -> None:
        """Release the captured graph."""
        if isinstance(self._taken, Captured):
            self._taken.release()

    def _take(self, *parts: Any) -> Output:
        with self.autocast():
            return self.model(Batch.of(self._names, parts))  # type: ignore[no-any-return]


def score(
    forward: Forward,
    batches: Iterable[Batch],
    objective: Objective,
    change: Change | None = None,
    how: str = "log-probability",
) -> Scores:
    """Compute a model's outputs and loss over `batches`.

    Args:
        forward: the model.
        batches: batches of segments.
        objective: the targets and their loss.
        change: changes each batch before it is given to the model; None for no change.
        how: how segments are combined to utterances, a key of `evaluation.metrics.SCORES`.
    """
    names = ("log_prob", "vad", "w2e", "fused", "attention", "samples")
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    losses = Losses(objective)
    with torch.inference_mode():
        for batch in batches:
            output = forward(batch if change is None else change(batch))
            outputs = output.logits.float()
            log_prob, vad = objective.split(outputs)
            losses.add(outputs, log_prob, batch)
            parts["log_prob"].append(log_prob)
            parts["samples"].append(batch.samples.clone())
            parts["vad"] += [] if vad is None else [vad]
            for name in ("w2e", "fused", "attention"):
                if getattr(output, name) is not None:
                    parts[name].append(getattr(output, name).half())
    found: dict[str, Any] = {name: _to_numpy(tensors) if tensors else None for name, tensors in parts.items()}
    return Scores(**found, loss=losses.mean(), how=how)


class Losses:
    """The loss over many batches: the mean over segments, or for attributes the loss of all segments together."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._sums: list[torch.Tensor] = []
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows = 0

    def add(self, outputs: torch.Tensor, log_prob: torch.Tensor, batch: Batch) -> None:
        """Add a batch.

        Args:
            outputs: float32 (B, K).
            log_prob: log-probabilities of classes (B, C).
            batch: the batch.
        """
        row = self.objective.row
        self._rows += len(outputs)
        if row.attributes:
            self._kept.append((outputs, self.objective.values[batch.utterance]))
        elif row.votes:
            self._sums.append(-(self.objective.values[batch.utterance] * log_prob).sum())
        else:
            self._sums.append(F.nll_loss(log_prob, batch.label, reduction="sum"))

    def mean(self) -> float:
        """Return the loss so far."""
        if not self._kept:
            return float(torch.stack(self._sums).sum()) / self._rows
        outputs, targets = (torch.cat(part) for part in zip(*self._kept, strict=True))
        return float(self.objective.losses(outputs, targets, torch.ones_like(outputs[:, 0])).mean())


def _to_numpy(parts: list[torch.Tensor]) -> Array:
    return torch.cat(parts).cpu().numpy()


def confusion(scores: Scores, manifest: Manifest, utterances: Rows) -> Confusion:
    """Return the confusion matrix of utterances.

    Args:
        scores: outputs for the segments of `utterances`, in their order.
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
    """
    position = np.repeat(np.arange(len(utterances)), manifest.counts[utterances])
    prediction = scores.utterances(position, len(utterances)).argmax(axis=1)
    return Confusion.of(manifest.target[utterances], prediction, len(manifest.labels))


def measured(scores: Scores, manifest: Manifest, utterances: Rows) -> dict[str, Any]:
    """Return the loss of utterances, and their WA, UA and CCC if the target has them.

    Args:
        scores: outputs for the segments of `utterances`, in their order.
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
    """
    found: dict[str, Any] = {"validation_loss": scores.loss}
    if scores.log_prob.shape[1]:
        table = confusion(scores, manifest, utterances)
        found |= {"wa": table.wa, "ua": table.ua}
    if scores.vad is not None:
        position = np.repeat(np.arange(len(utterances)), manifest.counts[utterances])
        said = moved_to(manifest.scale, scores.attributes(position, len(utterances)), CENTRED)
        found["ccc"] = float(np.mean(ccc(sums_of(manifest.attributes[utterances], said).sum(0))))
    return found


def shuffled(manifest: Manifest, utterances: Rows, seed: int) -> Rows:
    """Return segment rows of other utterances, one for each segment of `utterances`.

    Every utterance gets the segments of one other utterance, starting with its first segment, and repeated if there are
    fewer.

    Args:
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
        seed: seed of the run.
    """
    order = np.random.Generator(np.random.PCG64([seed, len(utterances)])).permutation(len(utterances))
    giver = np.empty_like(order)
    giver[order] = np.roll(order, 1)  # a single cycle, so no utterance gets its own segments
    counts = manifest.counts[utterances]
    target = np.repeat(np.arange(len(utterances)), counts)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    source = giver[target]
    return np.asarray(manifest.firsts[utterances][source] + inside % counts[source], np.int64)


def zeroed(name: str) -> Change:
    """Return a change of batches that sets one input to zero."""

    def change(batch: Batch) -> Batch:
        return batch.changed({name: torch.zeros_like(batch[name])})

    return change


def swapped(name: str, others: Iterable[Batch]) -> Change:
    """Return a change of batches that takes one input from the corresponding batches of `others`."""
    stream = iter(others)

    def change(batch: Batch) -> Batch:
        return batch.changed({name: next(stream)[name]})

    return change
