"""Where a model listens: its attention over correctly and wrongly classified utterances, from several folds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.errors import PipelineError
from ser_pipeline.report import figures
from ser_pipeline.report.contents import Experiment
from ser_pipeline.report.drawing import Drawn, Plan
from ser_pipeline.report.groups import Group
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import FoldResult, RunHeader, UtteranceTable
from ser_pipeline.text import plural

EACH = 3
"""Number of correctly, and of wrongly, classified utterances whose attention is drawn."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """The first segment of an utterance with its attention."""

    fold: FoldResult
    place: int  # of the utterance in its fold
    spectrogram: NDArray[np.uint8]  # (bins, frames)
    attention: NDArray[np.floating]  # (T,)

    @property
    def right(self) -> bool:
        """Whether its class was predicted correctly."""
        return bool(self.fold.target[self.place] == self.fold.prediction[self.place])


def attention(experiment: Experiment, roll: UtteranceTable) -> Plan | None:
    """Weights over time of utterances from as many folds as possible; None if no fold stored any."""
    main = experiment.panel.main
    chosen = _chosen(main) if main else []
    if main is None or not chosen:
        return None
    panels = [_panel(one, main.header, roll) for one in chosen]
    names = list(dict.fromkeys(one.fold.name for one in chosen))
    folds = f"{'fold' if len(names) == 1 else 'folds'} {', '.join(names)}"
    caption = (
        "Co-attention weights over the first segment of test utterances, up to the end of the speech, each scaled to "
        f"its largest weight: the most confident correct and wrong answers of {folds}."
    )
    said = "; ".join(_title(one, main.header) for one in chosen)
    alt = f"Attention over spectrograms of {plural(len(panels), 'utterance')}: {said}."
    return Plan(
        "attention",
        "Where it listens: co-attention",
        caption,
        alt,
        panels,
        (3.2, 2.3),
        figures.ATTENTION_KEYS,
        columns=3,
        alike=True,
    )


def _chosen(group: Group) -> list[Example]:
    """Correct examples, then wrong ones, of the first seed, each from another fold if there are enough folds.

    Folds of middling UA come first.
    """
    folds = sorted(group.runs[0].folds, key=lambda fold: fold.confusion().ua)
    middle = len(folds) // 2
    kept = [_kept(fold) for fold in sorted(folds, key=lambda fold: abs(folds.index(fold) - middle))]
    found: list[Example] = []
    for right in (True, False):
        free = [one for one in kept if one and not any(one[0].fold is other.fold for other in found)]
        turns = [[one for one in fold if one.right == right] for fold in (*free, *(f for f in kept if f not in free))]
        deepest = max(map(len, turns), default=0)
        found += [fold[depth] for depth in range(deepest) for fold in turns if depth < len(fold)][:EACH]
    return found


def _kept(fold: FoldResult) -> list[Example]:
    """The examples that a fold stored; none if the file is missing or damaged."""
    return list(_read(fold)) if (fold.path / layout.EXAMPLES).is_file() else []


def _read(fold: FoldResult) -> Iterator[Example]:
    try:
        stored = fold.examples()
    except PipelineError as error:
        log.warning("no attention: %s", error)
        return
    for image, weights, place in zip(stored["spectrogram"], stored["attention"], stored["utterance"], strict=True):
        yield Example(fold, int(place), image, weights.astype(np.float64))


def _title(one: Example, header: RunHeader) -> str:
    true, taken = (header.labels[which[one.place]] for which in (one.fold.target, one.fold.prediction))
    return f"{true}, correct" if one.right else f"{true}, predicted {taken}"


def _panel(one: Example, header: RunHeader, roll: UtteranceTable) -> Drawn:
    """The panel of an utterance, without padding.

    Args:
        one: the utterance.
        header: of its run.
        roll: the utterances of all runs.
    """
    row, frame = int(one.fold.rows[one.place]), 1 / header.audio.frame_rate
    bins, frames = one.spectrogram.shape
    stretch = frames * frame / len(one.attention)  # seconds per weight
    speech = min(float(roll.numbers("seconds")[row]), frames * frame)
    shown, weighed = max(1, round(speech / frame)), max(1, round(speech / stretch))
    hertz, linear = header.spectrogram.bin_hertz(header.audio.rate), "spectrogram" in header.reads
    return figures.attention(
        f"{_title(one, header)}",
        one.spectrogram[:, :shown],
        np.asarray(one.attention[:weighed]),
        times=(np.arange(weighed) + 0.5) * stretch,
        length=shown * frame,
        top=bins * hertz / 1000 if linear else bins,  # any other image has auditory bands
        unit="kHz" if linear else "band",
        sound=str(roll.facts[row][0]),
    )
