"""Experiments as changed settings: the rows of the paper's Table 2, and others that vary one thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _inputs(*names: str, co_attention: bool = True) -> dict[str, Any]:
    return {"model": {"inputs": list(names), "co_attention": co_attention}}


ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "full-mean": {"model": {"co_attention": False}},
    "mfcc": _inputs("mfcc", co_attention=False),
    "spectrogram": _inputs("spectrogram", co_attention=False),
    "w2e": _inputs("waveform"),
    "w2e-mean": _inputs("waveform", co_attention=False),
    "mfcc-w2e": _inputs("mfcc", "waveform"),
    "mfcc-w2e-mean": _inputs("mfcc", "waveform", co_attention=False),
    "spectrogram-w2e": _inputs("spectrogram", "waveform"),
    "spectrogram-w2e-mean": _inputs("spectrogram", "waveform", co_attention=False),
    "softmax": {"model": {"attention": "softmax"}},
    "frozen": {"model": {"freeze_speech_encoder": True}},
    "layer-mix": {"model": {"layer_mix": True}},
    "class-weights": {"train": {"class_weights": True}},
    "no-pretraining": {"model": {"speech_weights": False, "spectrogram_weights": "none"}},
}
"""Ablation -> settings that it changes, as nested tables over those of the preset."""
