"""Decode every recording of a folder to mono float32, compared with plain calls of soundfile on the same bytes.

    python -m benchmarks.decoding AUDIO…

Prints the seconds of both and their ratio, each the best of seven alternating rounds. Files are in memory before the
first round, so that neither waits for the disk, and are decoded at their own sample rate.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import soundfile

from ser_pipeline import audio

TURNS = 7


def ours(data: bytes) -> object:
    """The package's decoder, including all its checks of the header."""
    with audio.Recording(data, "a") as recording:
        return recording.samples(recording.header.rate)


def plain(data: bytes) -> object:
    """Soundfile's decoder, which trusts the header."""
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].mean(axis=1)


def seconds(decode: Callable[[bytes], object], files: list[bytes]) -> float:
    """Seconds to decode all files once."""
    began = time.perf_counter()
    for data in files:
        decode(data)
    return time.perf_counter() - began


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    files = [file.read_bytes() for file in parser.parse_args().audio]
    turns = [(seconds(ours, files), seconds(plain, files)) for _ in range(TURNS)]
    mine, peers = (min(column) for column in zip(*turns, strict=True))
    print(f"{len(files)} files: {mine:.3f} s here, {peers:.3f} s with soundfile: {peers / mine:.2f} times as fast")


if __name__ == "__main__":
    main()
