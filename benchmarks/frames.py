"""Statistics of a frozen Whisper encoder, compared with plain calls of transformers on the same recordings.

    python -m benchmarks.frames ENCODER AUDIO… [--device cpu]

ENCODER is a folder with a Whisper encoder, AUDIO are recordings at 16 kHz with one channel. Transformers is called as
its documentation shows: its feature extractor pads every recording to 30 s, and the whole encoder runs in batches. The
last figure is for the whole stage, from audio files to stores of waveforms and statistics; augmented versions do not
count as audio. Rates are seconds of audio per CPU-second on a CPU, and per second on other devices. Start-up is
excluded: everything ran once before on a few recordings.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch

from ser_pipeline.config import load
from ser_pipeline.features.stage import extract
from ser_pipeline.features.statistics import open_statistics

BATCH = 16
"""Recordings in one batch of transformers."""

RATE = 16_000
"""Sample rate in Hz."""

Signals = list[np.ndarray[Any, np.dtype[np.float32]]]


def rate(work: Callable[[Signals], object], signals: Signals, device: torch.device) -> float:
    """Seconds of audio that `work` processes per second, after a warm-up on a few of them."""
    work(signals[:2])
    began = clock(device)
    work(signals)
    return sum(map(len, signals)) / RATE / (clock(device) - began)


def plainly(encoder: str, device: torch.device) -> Callable[[Signals], object]:
    """Transformers' own extractor and encoder, unmodified."""
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


def whole_stage(encoder: str, files: list[Path], folder: Path, device: torch.device, draws: int) -> float:
    """Seconds that `ser_pipeline.extract` takes from audio files to stores, in the cache `folder`.

    Args:
        encoder: folder of the encoder.
        files: the recordings.
        folder: folder for the table of recordings and for the cache.
        device: device that the encoder runs on.
        draws: augmented versions of each recording.
    """
    folder.mkdir()
    rows = [f"{file.resolve()},{'ab'[place % 2]},{place % 4}" for place, file in enumerate(files)]
    table = folder / "recordings.csv"
    table.write_text("\n".join(["file,emotion,speaker", *rows, ""]))
    overrides = [f"features.statistics.encoder={encoder}", f"features.statistics.draws={draws}"]
    began = clock(device)
    extract("table", table, preset="frozen", overrides=overrides, device=device.type, cache=folder / "cache")
    return clock(device) - began


def clock(device: torch.device) -> float:
    """CPU-seconds of this process and its children on a CPU, seconds on other devices."""
    if device.type == "cpu":
        return sum(os.times()[:4])
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="folder of a Whisper encoder")
    parser.add_argument("audio", nargs="+", type=Path, help="recordings at 16 kHz, one channel")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    signals = [soundfile.read(file, dtype="float32")[0] for file in options.audio]
    ours = load("frozen", None, [f"features.statistics.encoder={options.encoder}", "features.statistics.draws=0"])
    own = rate(open_statistics(ours, device).of, signals, device)
    theirs = rate(plainly(options.encoder, device), signals, device)
    told = f"{own:.0f} x real time, transformers {theirs:.1f}, ratio {own / theirs:.1f}"
    print(f"{len(signals)} recordings, {device}: {told}")
    seconds = sum(map(len, signals)) / RATE
    with TemporaryDirectory() as folder:
        for draws in (0, 2):
            whole_stage(options.encoder, options.audio[:4], Path(folder) / f"start {draws}", device, draws)
            took = whole_stage(options.encoder, options.audio, Path(folder) / f"all {draws}", device, draws)
            print(
                f"files to stores, {draws} augmented versions: {seconds / took:.0f} x real time "
                f"({seconds:.0f} s in {took:.2f} s)"
            )


if __name__ == "__main__":
    main()
