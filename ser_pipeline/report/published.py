"""Published results for IEMOCAP's four classes, in percent.

Source: tables 1 and 2 of Zou et al., Speech emotion recognition with co-attention based multi-level acoustic
information, ICASSP 2022, whose authors chose the epoch on the test fold; for other rows, the work named there.
"""

from __future__ import annotations

from dataclasses import dataclass

CORPUS = "iemocap"
LABELS = frozenset({"neutral", "happy", "angry", "sad"})


@dataclass(frozen=True)
class Published:
    """A published score, in percent."""

    name: str
    wa: float | None
    ua: float | None
    selection: str = ""  # one of `SELECTIONS`; "": unknown


PAPER = "Zou et al. 2022: co-attention"

TABLE_1: dict[str, tuple[Published, ...]] = {
    "session": (
        Published("CNN-ELM + STC attention", 61.32, 60.43),
        Published("Audio25", 60.64, 61.32),
        Published("IS09-classification", 68.1, 63.8),
        Published(PAPER, 69.80, 71.05, "reference"),
        Published("WavLM-large, frozen", 69.1, 69.5, "validation"),
        Published("Whisper-large-v3 encoder, frozen", 72.9, 73.5, "validation"),
    ),
    "speaker": (
        Published("RNN(prop.)-ELM", 62.85, 63.89),
        Published("3D ACRNN", None, 64.74),
        Published("BLSTM-CTC-CA", 69.0, 67.0),
        Published("CNN GRU-SeqCap", 72.73, 59.71),
        Published("CNN TF attention pooling", 71.75, 68.06),
        Published("HNSD", 70.5, 72.5),
        Published(PAPER, 71.64, 72.70, "reference"),
    ),
}
"""Protocol -> rows of table 1, and later work with the same classes."""

ANY_PROTOCOL: tuple[Published, ...] = (
    Published("co-attention, re-run by others (arXiv 2304.00860)", 69.2, None, "validation"),
)
"""Published results that are shown for either protocol."""

TABLE_2: dict[tuple[frozenset[str], bool], Published] = {
    (frozenset({"mfcc"}), False): Published("MFCC", 57.60, 58.09),
    (frozenset({"spectrogram"}), False): Published("spectrogram", 62.13, 62.25),
    (frozenset({"waveform"}), False): Published("W2E", 64.03, 65.67),
    (frozenset({"waveform"}), True): Published("W2E", 67.55, 68.65),
    (frozenset({"mfcc", "waveform"}), False): Published("MFCC + W2E", 64.62, 65.93),
    (frozenset({"mfcc", "waveform"}), True): Published("MFCC + W2E", 69.11, 70.30),
    (frozenset({"spectrogram", "waveform"}), False): Published("spectrogram + W2E", 66.20, 67.22),
    (frozenset({"spectrogram", "waveform"}), True): Published("spectrogram + W2E", 70.05, 71.30),
    (frozenset({"mfcc", "spectrogram", "waveform"}), False): Published("all three", 67.22, 67.81),
    (frozenset({"mfcc", "spectrogram", "waveform"}), True): Published("all three", 71.64, 72.70),
}
"""(inputs, with co-attention) -> score in table 2, which is leave-one-speaker-out."""

TABLE_2_PROTOCOL = "speaker"

TABLE_2_NAMES = frozenset(
    {
        "full",
        "full-mean",
        "mfcc",
        "spectrogram",
        "w2e",
        "w2e-mean",
        "mfcc-w2e",
        "mfcc-w2e-mean",
        "spectrogram-w2e",
        "spectrogram-w2e-mean",
    }
)
"""Ablations in table 2; others change more than inputs and co-attention."""
