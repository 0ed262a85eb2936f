"""Variance components of scores: between speakers, between seeds, and the residual.

Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (two crossed random sources, one score per
cell, by analysis of variance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ser_pipeline.arrays import Floats


@dataclass(frozen=True)
class Components:
    """Standard deviations of the score of one speaker and one seed, by source; their squares add up."""

    speaker: float | None  # between speakers; None for one speaker
    seed: float | None  # between seeds; None for one seed
    rest: float | None  # interaction of speaker and seed, and sampling of utterances; None for one seed


def components(scores: Floats) -> Components:
    """Return the variance components of `scores` (R, K), by seed and speaker.

    With one seed, speakers cannot be separated from the residual, and `speaker` contains both. A variance estimated
    below 0 is set to 0.
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
