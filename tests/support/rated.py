"""A cache of the demo that includes turns without a class, for tests of ratings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ser_pipeline
from ser_pipeline.corpora import demo
from support.speech_models import write_whisper

SAME = {"device": "cpu", "jobs": 1}
"""Options that all stages accept."""


def write_rated(place: Path, preset: str, utterances: int, features: Sequence[str] = ()) -> list[str]:
    """Write demo, encoder and cache below `place`; returns the settings that name the encoder.

    Args:
        place: empty folder.
        preset: preset of the features.
        utterances: number of utterances of each speaker.
        features: features to store; by default those that the preset reads.
    """
    overrides = [f"features.statistics.encoder={write_whisper(place / 'encoder')}"]
    demo.write(place / "demo", utterances_per_speaker=utterances)
    options = {"cache": place / "cache", "rated": True, "features": features, "overrides": overrides, **SAME}
    ser_pipeline.extract("demo", place / "demo", preset=preset, **options)
    return overrides
