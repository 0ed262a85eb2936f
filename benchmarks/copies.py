"""Duration of a search for near-copies, how many planted ones it finds, and its false alarms.

    python -m benchmarks.copies SPEECH [--utterances 10000] [--planted 100] [--jobs 2]

`SPEECH` is a folder of WAV files. Each is resampled to many speeds, 1 % apart, so that every utterance is a different
recording. The planted copies are louder or softer, cut at both ends and have noise at 30 dB.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser_pipeline.audit.copies import near_copies
from ser_pipeline.audit.sound import listen, read_mono
from ser_pipeline.corpora.corpus import Utterance

STEP = 0.01  # relative difference of two speeds: 20 ms over 2 s, several periods of a voice


def recordings(speech: Path, count: int) -> Iterator[tuple[NDArray[np.float32], int]]:
    """`count` recordings: each file of `speech` at several speeds."""
    files = sorted(speech.rglob("*.wav"))
    for number in range(count):
        samples, rate = soundfile.read(files[number % len(files)], dtype="float32")
        speed = 1 + STEP * (number // len(files))
        yield np.asarray(soxr.resample(samples, rate * speed, rate), np.float32), rate


def changed(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Make a near-copy of a recording."""
    cut = samples[rng.integers(1, len(samples) // 8) : -int(rng.integers(1, len(samples) // 8))]
    noise = rng.standard_normal(len(cut)) * np.sqrt(np.mean(cut**2) / 1000)
    return np.asarray(rng.uniform(0.3, 0.9) * (cut + noise), np.float32)


def write(folder: Path, speech: Path, count: int, planted: int) -> list[Utterance]:
    """Write a corpus of `count` recordings, followed by near-copies of the first `planted`."""
    rng = np.random.default_rng(0)
    utterances = []
    for number, (samples, rate) in enumerate(recordings(speech, count)):
        soundfile.write(folder / f"{number:06}.wav", samples, rate)
        utterances.append(Utterance(f"{number:06}", f"{number:06}.wav", "a", str(number % 10)))
        if number < planted:
            soundfile.write(folder / f"copy-{number:06}.wav", changed(samples, rng), rate)
    return utterances + [Utterance(f"copy-{row}", f"copy-{row:06}.wav", "a", "b") for row in range(planted)]


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        utterances = write(folder, options.speech, options.utterances, options.planted)
        begun, before = time.perf_counter(), time.process_time()
        sounds = listen(utterances, folder, options.jobs)
        heard = time.perf_counter()
        found = near_copies(
            [sound.marks for sound in sounds], lambda row, part: read_mono(folder, utterances[row], part)
        )
        done, busy = time.perf_counter(), time.process_time() - before
    wanted = {(row, options.utterances + row) for row in range(options.planted)}
    pairs = {(one.one, one.other) for one in found}
    hours = sum(sound.seconds for sound in sounds) / 3600
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(utterances)} utterances, {hours:.1f} h, {options.jobs} threads: {heard - begun:.0f} s to decode and "
        f"mark, {done - heard:.0f} s to compare, {busy:.0f} CPU-seconds; "
        f"{len(wanted & pairs)} of {len(wanted)} planted copies found, {len(pairs - wanted)} other pairs; "
        f"peak memory {peak:.1f} GB"
    )


if __name__ == "__main__":
    main()
