"""What a trained model says of a fold's test rows, and the files that keep it.

Legend of shapes: U utterances, S segments, C classes, D width of an embedding, T frames of the speech encoder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ser_pipeline.batch import Batch
from ser_pipeline.entry import write_text, writing
from ser_pipeline.manifest import Manifest
from ser_pipeline.metrics import Confusion, utterance_scores
from ser_pipeline.model.coattention import Output
from ser_pipeline.model.fast.graph import Captured
from ser_pipeline.neighbours import Source

Rows = NDArray[np.int64]
Array = NDArray[Any]

EXAMPLES = 3  # right ones, and wrong ones, whose attention is kept to be drawn


@dataclass(frozen=True)
class Scores:
    """A model's output over segments, on the CPU."""

    log_prob: Array  # (S, C) float32
    loss: float  # mean cross-entropy over segments
    w2e: Array | None  # (S, D) float16
    fused: Array  # (S, D) float16
    attention: Array | None  # (S, T) float16

    @property
    def silent(self) -> float:
        """Share of segments without any co-attention: rectified weights that are all zero."""
        return 0.0 if self.attention is None else float((self.attention.max(axis=1) == 0).mean())

    def utterances(self, segment_utterance: Rows, count: int) -> Array:
        """Mean log-probabilities of utterances (U, C); `segment_utterance` (S,) is in 0..count - 1."""
        return utterance_scores(self.log_prob, segment_utterance, count)


Change = Callable[[Batch], Batch]


class Forward:
    """A model's output over a batch, in evaluation mode."""

    def __init__(self, model: nn.Module, autocast: Callable[[], Any], pool: Any = None) -> None:
        """With the `pool` of a captured step, batches as large as the first come from a graph in that memory."""
        self.model, self.autocast = model, autocast
        self._taken = self._take if pool is None else Captured(self._take, "evaluations", pool=pool, search=False)

    def __call__(self, batch: Batch) -> Output:
        """The output of the model as its weights are now."""
        self.model.eval()
        return Output(*self._taken(*batch))

    def release(self) -> None:
        """Let go of what was captured."""
        if isinstance(self._taken, Captured):
            self._taken.release()

    def _take(self, *parts: Any) -> Output:
        with self.autocast():
            return self.model(Batch(*parts))  # type: ignore[no-any-return]


def score(forward: Forward, batches: Iterable[Batch], change: Change | None = None) -> Scores:
    """A model's output over `batches`; `change` alters a batch before the model sees it."""
    parts: dict[str, list[torch.Tensor]] = {"log_prob": [], "w2e": [], "fused": [], "attention": []}
    losses: list[torch.Tensor] = []
    with torch.inference_mode():
        for batch in batches:
            output = forward(batch if change is None else change(batch))
            log_prob = F.log_softmax(output.logits.float(), dim=-1)
            losses.append(F.nll_loss(log_prob, batch.label, reduction="sum"))
            parts["log_prob"].append(log_prob)
            for name in ("w2e", "fused", "attention"):
                if getattr(output, name) is not None:
                    parts[name].append(getattr(output, name).half())
    rows = sum(len(part) for part in parts["log_prob"])
    loss = float(torch.stack(losses).sum()) / rows
    w2e, attention = (_joined(parts[name]) if parts[name] else None for name in ("w2e", "attention"))
    return Scores(_joined(parts["log_prob"]), loss, w2e, _joined(parts["fused"]), attention)


def _joined(parts: list[torch.Tensor]) -> Array:
    return torch.cat(parts).cpu().numpy()


def confusion(scores: Scores, manifest: Manifest, utterances: Rows) -> Confusion:
    """The confusion matrix over the utterance rows `utterances`, whose segments `scores` holds in order."""
    position = np.repeat(np.arange(len(utterances)), manifest.counts[utterances])
    prediction = scores.utterances(position, len(utterances)).argmax(axis=1)
    return Confusion.of(manifest.target[utterances], prediction, len(manifest.labels))


def shuffled(manifest: Manifest, utterances: Rows, seed: int) -> Rows:
    """Segment rows of other utterances, one for each segment row of `utterances`.

    Every utterance gets the segments of one other, from its first on and around again where it has fewer.
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
        return batch._replace(**{name: torch.zeros_like(getattr(batch, name))})

    return change


def swapped(name: str, others: Iterable[Batch]) -> Change:
    """A change of batches that takes one input from the batches of `others`, in step."""
    stream = iter(others)

    def change(batch: Batch) -> Batch:
        return batch._replace(**{name: getattr(next(stream), name)})

    return change


def write_segments(file: Path, scores: Scores, manifest: Manifest, utterances: Rows, probes: dict[str, Array]) -> None:
    """Write `segments.npz`: scores, embeddings and probes of every segment."""
    arrays = {
        "utterance": np.repeat(np.arange(len(utterances), dtype=np.int32), manifest.counts[utterances]),
        "log_prob": scores.log_prob,
        "w2e": scores.w2e,
        "fused": scores.fused,
        "attention": scores.attention,
        **probes,
    }
    with writing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})


def pick_examples(scores: Scores, manifest: Manifest, utterances: Rows) -> Rows:
    """Positions in `utterances` of the surest right and the surest wrong ones, in turn; short ones last.

    An utterance of one segment that is at least half full comes before the others.
    """
    counts = manifest.counts[utterances]
    log_prob = scores.utterances(np.repeat(np.arange(len(utterances)), counts), len(utterances))
    right = log_prob.argmax(axis=1) == manifest.target[utterances]
    easy_to_see = (counts == 1) & (2 * manifest.samples[utterances] >= manifest.audio.segment)
    ranked = np.lexsort((-log_prob.max(axis=1), ~easy_to_see))
    pairs = zip_longest(*([place for place in ranked if right[place] == kind][:EXAMPLES] for kind in (True, False)))
    return np.array([place for pair in pairs for place in pair if place is not None], np.int64)


def write_examples(file: Path, scores: Scores, manifest: Manifest, source: Source, utterances: Rows) -> None:
    """Write `examples.npz`: spectrogram and attention of the first segment of a few utterances."""
    chosen = pick_examples(scores, manifest, utterances)
    counts = manifest.counts[utterances]
    rows = manifest.firsts[utterances[chosen]]
    (spectrograms,) = (batch.spectrogram for batch in source.batches(rows, len(rows)))
    assert spectrograms is not None
    assert scores.attention is not None
    with writing(file) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            spectrogram=spectrograms.cpu().numpy(),
            attention=scores.attention[(np.cumsum(counts) - counts)[chosen]],
            utterance=chosen.astype(np.int32),
        )


def write_predictions(file: Path, scores: Scores, manifest: Manifest, utterances: Rows) -> None:
    """Write `predictions.csv`: a line an utterance, with its mean log-probability of each class."""
    position = np.repeat(np.arange(len(utterances)), manifest.counts[utterances])
    means = scores.utterances(position, len(utterances))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ("id", "file", "speaker", "session", "dialogue", "script", "seconds", "segments", "label", "prediction")
    writer.writerow([*about, *(f"log_p:{label}" for label in manifest.labels)])
    for row, mean in zip(utterances.tolist(), means, strict=True):
        one = manifest.utterances[row]
        known = [one.id, one.file, one.speaker, one.session, one.dialogue, one.script]
        lengths = [f"{manifest.samples[row] / manifest.audio.rate:.3f}", manifest.counts[row]]
        found = [one.emotion, manifest.labels[int(mean.argmax())], *(f"{value:.6f}" for value in mean)]
        writer.writerow([*known, *lengths, *found])
    write_text(file, text.getvalue())
