"""Statistics of a frozen Whisper encoder, beside transformers called plainly on the same recordings, in one run.

    python -m benchmarks.frames ENCODER AUDIO… [--device cpu]

ENCODER is a folder with a Whisper encoder. Transformers is called as its own pages show: its feature extractor pads
every recording to 30 s, and the whole encoder runs in batches. Rates are seconds of audio a CPU-second on a processor,
and a second elsewhere; starts are apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from ser_pipeline.config import load
from ser_pipeline.features.statistics import open_statistics

BATCH = 16
"""Recordings that transformers has at a time."""

Signals = list[np.ndarray[Any, np.dtype[np.float32]]]


def rate(work: Callable[[Signals], object], signals: Signals, device: torch.device) -> float:
    """Seconds of audio that `work` takes a second, after a first call on a few of them."""
    work(signals[:2])
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    began = clock()
    work(signals)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return sum(map(len, signals)) / 16_000 / (clock() - began)


def plainly(encoder: str, device: torch.device) -> Callable[[Signals], object]:
    """Transformers' own extractor and encoder, as they are."""
    from transformers import WhisperFeatureExtractor, WhisperModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    extractor = WhisperFeatureExtractor.from_pretrained(encoder)
    model: Any = WhisperModel.from_pretrained(encoder, dtype=torch.float32).get_encoder().to(device).eval()

    @torch.inference_mode()
    def work(signals: Signals) -> None:
        for first in range(0, len(signals), BATCH):
            part = signals[first : first + BATCH]
            inputs = extractor(part, sampling_rate=16_000, return_tensors="pt").input_features.to(device)
            model(inputs, output_hidden_states=True)

    return work


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="folder of a Whisper encoder")
    parser.add_argument("audio", nargs="+", type=Path, help="recordings of 16 kHz, one channel")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    signals = [soundfile.read(file, dtype="float32")[0] for file in options.audio]
    ours = load("frozen", None, [f"features.statistics.encoder={options.encoder}", "features.statistics.draws=0"])
    own = rate(open_statistics(ours, device).of, signals, device)
    theirs = rate(plainly(options.encoder, device), signals, device)
    told = f"{own:.0f} x real time, transformers {theirs:.1f}, ratio {own / theirs:.1f}"
    print(f"{len(signals)} recordings, {device}: {told}")


if __name__ == "__main__":
    main()
