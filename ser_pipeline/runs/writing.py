"""A run's files as `train` writes them; `reading.py` has the other half.

Legend of shapes: U utterances, S segments, C classes, D width of an embedding, T frames of the speech encoder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.targeted import votes_of
from ser_pipeline.config import Config, dumps
from ser_pipeline.corpora.ratings import CENTRED, DIMENSIONS, moved_to
from ser_pipeline.entry import write_json, write_text, writing
from ser_pipeline.evaluation.metrics import utterance_means, utterance_scores
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import FACTS, PREDICTED
from ser_pipeline.targets import Target
from ser_pipeline.text import guarded


def begin_run(
    folder: Path, config: Config, about: Mapping[str, Any], members: Mapping[str, Any], manifest: Manifest
) -> None:
    """Write what a run says of itself before its first fold; `folds.json` comes last.

    Args:
        folder: of the unfinished run.
        config: its whole settings.
        about: what `run.json` says.
        members: what `folds.json` says: ids of every part.
        manifest: of the corpus.
    """
    write_text(folder / layout.CONFIG, dumps(config))
    write_json(folder / layout.RUN, about)
    write_text(folder / layout.CONTENTS, _contents(manifest))
    write_json(folder / layout.FOLDS, members)


def _contents(manifest: Manifest) -> str:
    """A line an utterance: id, the manifest's hash of its content, start and end where it is part of a file, file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "key", "start", "end", "file"])
    for one, key in zip(manifest.utterances, manifest.keys, strict=True):
        writer.writerow([guarded(one.id), key, one.start, one.end, guarded(one.file)])
    return text.getvalue()


EXAMPLES = 3
"""Right ones, and wrong ones, whose attention is kept to be drawn."""


@dataclass(frozen=True)
class Scores:
    """A model's output over segments, on the CPU."""

    log_prob: Array  # (S, C) float32; (S, 0) where the target has no classes
    loss: float  # of the target, over segments
    w2e: Array | None  # (S, D) float16
    fused: Array  # (S, D) float16
    attention: Array | None  # (S, T) float16
    samples: Array  # (S,) real samples
    how: str = "log-probability"  # key of `evaluation.metrics.SCORES`: the score of an utterance by its segments
    vad: Array | None = None  # (S, 3) float32, -1 to 1; None where the target has no attributes

    @property
    def silent(self) -> float:
        """Share of segments without any co-attention: rectified weights that are all zero."""
        return 0.0 if self.attention is None else float((self.attention.max(axis=1) == 0).mean())

    def utterances(self, segment_utterance: Rows, count: int) -> Array:
        """Scores of utterances (U, C), logarithms; `segment_utterance` (S,) is in 0..count - 1."""
        return utterance_scores(self.log_prob, segment_utterance, count, self.how, self.samples)

    def attributes(self, segment_utterance: Rows, count: int) -> Array:
        """Attributes of utterances (U, 3), -1 to 1: the means of their segments; arguments as of `utterances`."""
        assert self.vad is not None
        return utterance_means(self.vad, segment_utterance, count, self.how, self.samples)


def write_segments(file: Path, scores: Scores, manifest: Manifest, utterances: Rows, probes: dict[str, Array]) -> None:
    """Write `segments.npz`: scores, embeddings and probes of every segment.

    Args:
        file: to write.
        scores: of the segments of `utterances`, in their order.
        manifest: of the corpus.
        utterances: rows (U,) of the manifest.
        probes: name -> an array with a row for each segment.
    """
    arrays = {
        "utterance": np.repeat(np.arange(len(utterances), dtype=np.int32), manifest.counts[utterances]),
        "samples": scores.samples.astype(np.int32),
        "log_prob": scores.log_prob if scores.log_prob.shape[1] else None,
        "vad": scores.vad,
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

    Args:
        scores: of the segments of `utterances`, in their order.
        manifest: of the corpus.
        utterances: rows (U,) of the manifest.
    """
    counts = manifest.counts[utterances]
    log_prob = scores.utterances(np.repeat(np.arange(len(utterances)), counts), len(utterances))
    right = log_prob.argmax(axis=1) == manifest.target[utterances]
    easy_to_see = (counts == 1) & (2 * manifest.samples[utterances] >= manifest.audio.segment)
    ranked = np.lexsort((-log_prob.max(axis=1), ~easy_to_see))
    pairs = zip_longest(*([place for place in ranked if right[place] == kind][:EXAMPLES] for kind in (True, False)))
    return np.array([place for pair in pairs for place in pair if place is not None], np.int64)


def write_examples(
    file: Path, scores: Scores, manifest: Manifest, utterances: Rows, chosen: Rows, spectrograms: Array
) -> None:
    """Write `examples.npz`: spectrogram and attention of the first segment of a few utterances.

    Args:
        file: where to.
        scores: of the segments of `utterances`, with attention.
        manifest: what the utterances are.
        utterances: (U,) rows of the manifest.
        chosen: (E,) positions in `utterances`, as `pick_examples` gives them.
        spectrograms: (E, bins, frames) uint8 of their first segments.
    """
    assert scores.attention is not None
    counts = manifest.counts[utterances]
    with writing(file) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            spectrogram=spectrograms,
            attention=scores.attention[(np.cumsum(counts) - counts)[chosen]],
            utterance=chosen.astype(np.int32),
        )


def write_predictions(file: Path, scores: Scores, manifest: Manifest, utterances: Rows, row: Target) -> None:
    """Write `predictions.csv`: a line an utterance, with what the target has of scores, votes and attributes.

    Args:
        file: to write.
        scores: of the segments of `utterances`, in their order.
        manifest: of the corpus.
        utterances: rows (U,) of the manifest.
        row: of the target.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    told = _told(scores, manifest, utterances, row)
    writer.writerow(["id", *FACTS, *told])
    for place, *found in zip(utterances.tolist(), *told.values(), strict=True):
        one = manifest.utterances[place]
        known = [one.id, one.file, one.speaker, one.session, one.dialogue, one.script]
        known += [one.gender, "" if one.age is None else str(one.age), one.language]
        lengths = [f"{manifest.samples[place] / manifest.audio.rate:.3f}", manifest.counts[place]]
        writer.writerow(map(guarded, [*known, *lengths, one.emotion, *found]))
    write_text(file, text.getvalue())


def _told(scores: Scores, manifest: Manifest, utterances: Rows, row: Target) -> dict[str, list[str]]:
    """Column -> what it holds of each utterance; arguments as of `write_predictions`.

    Args:
        scores: of the segments.
        manifest: of the corpus.
        utterances: rows (U,) of the manifest.
        row: of the target.
    """
    position, labels = np.repeat(np.arange(len(utterances)), manifest.counts[utterances]), manifest.labels
    found: dict[str, list[str]] = {}
    if row.classes:
        means = scores.utterances(position, len(utterances))
        found["prediction"] = [labels[place] for place in means.argmax(1).tolist()]
        found |= {f"log_p:{label}": _decimals(column) for label, column in zip(labels, means.T, strict=True)}
    if row.votes:
        weights = votes_of(manifest)[utterances]
        found |= {f"votes:{label}": _decimals(column) for label, column in zip(labels, weights.T, strict=True)}
    if row.attributes:
        said = moved_to(manifest.scale, scores.attributes(position, len(utterances)), CENTRED)
        for prefix, values in (("", manifest.attributes[utterances]), (PREDICTED, said)):
            columns = zip(DIMENSIONS, values.T, strict=True)
            found |= {f"{prefix}{name}": _decimals(column) for name, column in columns}
    return found


def _decimals(column: Array) -> list[str]:
    return [f"{value:.6f}" for value in column]
