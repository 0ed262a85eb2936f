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
from ser_pipeline.data.batch import Batch
from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.model.coattention import Output
from ser_pipeline.model.fast.graph import Captured
from ser_pipeline.runs.writing import Scores

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
    forward: Forward, batches: Iterable[Batch], change: Change | None = None, how: str = "log-probability"
) -> Scores:
    """A model's output over `batches`; `change` alters a batch before the model sees it.

    Args:
        forward: the model.
        batches: of segments.
        change: of a batch before the model sees it; None: as it is.
        how: an utterance is scored by its segments.
    """
    parts: dict[str, list[torch.Tensor]] = {"log_prob": [], "w2e": [], "fused": [], "attention": [], "samples": []}
    losses: list[torch.Tensor] = []
    with torch.inference_mode():
        for batch in batches:
            output = forward(batch if change is None else change(batch))
            log_prob = F.log_softmax(output.logits.float(), dim=-1)
            losses.append(F.nll_loss(log_prob, batch.label, reduction="sum"))
            parts["log_prob"].append(log_prob)
            parts["samples"].append(batch.samples.clone())
            for name in ("w2e", "fused", "attention"):
                if getattr(output, name) is not None:
                    parts[name].append(getattr(output, name).half())
    rows = sum(len(part) for part in parts["log_prob"])
    loss = float(torch.stack(losses).sum()) / rows
    w2e, attention = (_to_numpy(parts[name]) if parts[name] else None for name in ("w2e", "attention"))
    found = {name: _to_numpy(parts[name]) for name in ("log_prob", "fused", "samples")}
    return Scores(**found, loss=loss, w2e=w2e, attention=attention, how=how)


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
