"""What a trained model says of a fold's test rows, and the files that keep it.

Legend of shapes: U utterances, S segments, C classes, D width of an embedding, T frames of the speech encoder.
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
    """A model's output over a batch, in evaluation mode."""

    def __init__(self, model: nn.Module, autocast: Callable[[], Any], pool: Any = None) -> None:
        """Keep the model.

        With the `pool` of a captured step, batches as large as the first come from a graph in that memory.
        """
        self.model, self.autocast = model, autocast
        self._names: tuple[str, ...] = ()
        self._taken = self._take if pool is None else Captured(self._take, "evaluations", pool=pool, search=False)

    def __call__(self, batch: Batch) -> Output:
        """The output of the model as its weights are now."""
        self.model.eval()
        self._names = tuple(batch.inputs)
        return Output(*self._taken(*batch.tensors()))

    def release(self) -> None:
        """Let go of what was captured."""
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
    """A model's output over `batches`; `change` alters a batch before the model sees it.

    Args:
        forward: the model.
        batches: of segments.
        objective: what the outputs are of, and their loss.
        change: of a batch before the model sees it; None: as it is.
        how: an utterance is scored by its segments.
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
    """The loss over many batches: the mean over segments, and of attributes that of all segments at once."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._sums: list[torch.Tensor] = []
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows = 0

    def add(self, outputs: torch.Tensor, log_prob: torch.Tensor, batch: Batch) -> None:
        """Take a batch into account.

        Args:
            outputs: float32 (B, K).
            log_prob: of classes, (B, C).
            batch: what they are of.
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
        """The loss so far."""
        if not self._kept:
            return float(torch.stack(self._sums).sum()) / self._rows
        outputs, targets = (torch.cat(part) for part in zip(*self._kept, strict=True))
        return float(self.objective.losses(outputs, targets, torch.ones_like(outputs[:, 0])).mean())


def _to_numpy(parts: list[torch.Tensor]) -> Array:
    return torch.cat(parts).cpu().numpy()


def confusion(scores: Scores, manifest: Manifest, utterances: Rows) -> Confusion:
    """The confusion matrix over the utterance rows `utterances`, whose segments `scores` holds in order.

    Args:
        scores: of the segments of `utterances`, in their order.
        manifest: of the corpus.
        utterances: rows (U,) of the manifest.
    """
    position = np.repeat(np.arange(len(utterances)), manifest.counts[utterances])
    prediction = scores.utterances(position, len(utterances)).argmax(axis=1)
    return Confusion.of(manifest.target[utterances], prediction, len(manifest.labels))


def measured(scores: Scores, manifest: Manifest, utterances: Rows) -> dict[str, Any]:
    """Loss, and WA, UA and CCC as far as the target has them, of the utterance rows `utterances`.

    Args:
        scores: of the segments of `utterances`, in their order.
        manifest: of the corpus.
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
    """Segment rows of other utterances, one for each segment row of `utterances`.

    Every utterance gets the segments of one other, from its first on and around again where it has fewer.

    Args:
        manifest: of the corpus.
        utterances: rows (U,) of the manifest.
        seed: of the run.
    """
    order = np.random.Generator(np.random.PCG64([seed, len(utterances)])).permutation(len(utterances))
    giver = np.empty_like(order)
    giver[order] = np.roll(order, 1)  # one cycle: nobody gives to itself
    counts = manifest.counts[utterances]
    target = np.repeat(np.arange(len(utterances)), counts)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    source = giver[target]
    return np.asarray(manifest.firsts[utterances][source] + inside % counts[source], np.int64)


def zeroed(name: str) -> Change:
    """A change of batches that silences one input."""

    def change(batch: Batch) -> Batch:
        return batch.changed({name: torch.zeros_like(batch[name])})

    return change


def swapped(name: str, others: Iterable[Batch]) -> Change:
    """A change of batches that takes one input from the batches of `others`, in step."""
    stream = iter(others)

    def change(batch: Batch) -> Batch:
        return batch.changed({name: next(stream)[name]})

    return change
