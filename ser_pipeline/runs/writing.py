"""Writing of a run's files; `reading.py` reads them.

Shapes: U utterances, S segments, C classes, D width of an embedding, T frames of the speech encoder.
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
    """Write the description of a run before its first fold; `folds.json` is written last.

    Args:
        folder: folder of the unfinished run.
        config: all settings.
        about: contents of `run.json`.
        members: contents of `folds.json`: the ids of every part.
        manifest: manifest of the corpus.
    """
    write_text(folder / layout.CONFIG, dumps(config))
    write_json(folder / layout.RUN, about)
    write_text(folder / layout.CONTENTS, _contents(manifest))
    write_json(folder / layout.FOLDS, members)


def _contents(manifest: Manifest) -> str:
    """Return one CSV line per utterance: id, hash of its content, its start and end within the file, and file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "key", "start", "end", "file"])
    for one, key in zip(manifest.utterances, manifest.keys, strict=True):
        writer.writerow([guarded(one.id), key, one.start, one.end, guarded(one.file)])
    return text.getvalue()


EXAMPLES = 3
"""Number of correct and of wrong utterances whose attention is stored for the report's figures."""


@dataclass(frozen=True)
class Scores:
    """A model's outputs for segments, on the CPU."""

    log_prob: Array  # (S, C) float32; (S, 0) if the target has no classes
    loss: float  # mean over segments
    w2e: Array | None  # (S, D) float16
    fused: Array  # (S, D) float16
    attention: Array | None  # (S, T) float16
    samples: Array  # (S,) number of samples without padding
    how: str = "log-probability"  # key of `evaluation.metrics.SCORES`: how segments are combined to utterances
    vad: Array | None = None  # (S, 3) float32, -1 to 1; None if the target has no attributes

    @property
    def silent(self) -> float:
        """Share of segments whose co-attention weights are all zero, 0 to 1."""
        return 0.0 if self.attention is None else float((self.attention.max(axis=1) == 0).mean())

    def utterances(self, segment_utterance: Rows, count: int) -> Array:
        """Return the log-scores of utterances (U, C); `segment_utterance` (S,) is 0 to `count` - 1."""
        return utterance_scores(self.log_prob, segment_utterance, count, self.how, self.samples)

    def attributes(self, segment_utterance: Rows, count: int) -> Array:
        """Return the mean attributes of utterances (U, 3), -1 to 1; the arguments are those of `utterances`."""
        assert self.vad is not None
        return utterance_means(self.vad, segment_utterance, count, self.how, self.samples)


def write_segments(file: Path, scores: Scores, manifest: Manifest, utterances: Rows, probes: dict[str, Array]) -> None:
    """Write `segments.npz`: scores, embeddings and probes of every segment.

    Args:
        file: the file to write.
        scores: outputs for the segments of `utterances`, in their order.
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
        probes: arrays with one row per segment, by name.
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
    """Return positions in `utterances` of the most confident correct and wrong predictions, alternately.

    Utterances with a single segment that is at least half filled are preferred.

    Args:
        scores: outputs for the segments of `utterances`, in their order.
        manifest: manifest of the corpus.
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
        file: the file to write.
        scores: outputs for the segments of `utterances`, with attention.
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
        chosen: positions (E,) in `utterances`, from `pick_examples`.
        spectrograms: uint8 (E, bins, frames) of their first segments.
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
    """Write `predictions.csv` with one line per utterance, and the target's scores, votes and attributes.

    Args:
        file: the file to write.
        scores: outputs for the segments of `utterances`, in their order.
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
        row: the target.
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
    """Return the columns of `write_predictions` that depend on the target, by name.

    Args:
        scores: outputs for the segments.
        manifest: manifest of the corpus.
        utterances: rows (U,) of the manifest.
        row: the target.
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
