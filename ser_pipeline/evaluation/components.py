"""Where scores differ: between speakers, between trainings, or in what is left.

Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (two crossed random sources, one score a
cell, by analysis of variance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ser_pipeline.arrays import Floats


@dataclass(frozen=True)
class Components:
    """Standard deviations of a score by source, of one speaker and one seed; they add up as squares."""

    speaker: float | None  # between speakers; None of one speaker
    seed: float | None  # between trainings; None of one seed
    rest: float | None  # speaker and seed together, and the luck of few utterances; None of one seed


def components(scores: Floats) -> Components:
    """The sources of what differs in `scores` (R, K), by seed and speaker.

    With one seed nothing tells speakers from the rest, and `speaker` is both. A variance that comes out below 0 is 0.
    """
    seeds, speakers = scores.shape
    if speakers < 2:
        return Components(None, None, None)
    if seeds < 2:
        return Components(float(scores[0].std(ddof=1)), None, None)
    of_seeds, of_speakers = scores.mean(1), scores.mean(0)
    left = scores - of_seeds[:, None] - of_speakers + scores.mean()
    rest = float(np.square(left).sum() / ((seeds - 1) * (speakers - 1)))
    speaker = float(of_speakers.var(ddof=1)) - rest / seeds
    seed = float(of_seeds.var(ddof=1)) - rest / speakers
    return Components(*(float(np.sqrt(max(0.0, value))) for value in (speaker, seed, rest)))
