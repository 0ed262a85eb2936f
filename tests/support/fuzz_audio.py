"""Malformed recordings of every readable format: changed bytes, and headers with a wrong number."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_pipeline import audio
from ser_pipeline.containers import ffmpeg
from support.fuzz_targets import other_bytes

UNREAD = ("RAW", "SD2")
"""Formats of libsndfile without a header or with a header in another file, which are not read."""

ENCODED: Mapping[str, tuple[str, ...]] = {
    "m4a": ("-c:a", "aac"),
    "webm": ("-c:a", "libopus"),
    "mka": ("-c:a", "ac3"),
    "wv": ("-c:a", "wavpack"),
    "wma": ("-c:a", "wmav2"),
    "mp4": ("-c:a", "alac"),
}
"""File extensions that libsndfile does not read, and ffmpeg's arguments to encode them."""

NUMBERS = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff")


def written() -> Iterator[tuple[str, bytes]]:
    """Yield a short recording in every format and encoding that libsndfile writes and reads: (format, bytes)."""
    samples = np.random.default_rng(0).normal(0, 0.1, 1_500).astype(np.float32)
    for kind in sorted(set(soundfile.available_formats()) - set(UNREAD)):
        for subtype in soundfile.available_subtypes(kind):
            for rate, channels in ((16_000, 2), (16_000, 1), (8_000, 1)):
                file = io.BytesIO()
                try:
                    soundfile.write(file, np.tile(samples, (channels, 1)).T, rate, format=kind, subtype=subtype)
                except (soundfile.LibsndfileError, ValueError):
                    continue
                yield kind, file.getvalue()
                break


def other_sound(data: bytes, rng: random.Random) -> bytes:
    """Return a recording's bytes with a wrong number in the header, repeated, or changed anywhere."""
    kind = rng.randrange(4)
    if kind == 0:
        place, width = rng.randrange(min(len(data), 128)), rng.choice((1, 2, 4, 8))
        return data[:place] + b"".join(rng.choices(NUMBERS, k=width)) + data[place + width :]
    if kind == 1 and rng.random() < 0.2:
        return data + other_bytes(data, rng)
    return other_bytes(data, rng)


def of_audio(folder: Path) -> Callable[[random.Random], None]:
    """Feed everything that libsndfile reads, as a whole or decoded in blocks like a file too long for memory."""
    known: dict[str, list[bytes]] = {}
    for kind, data in written():
        known.setdefault(kind, []).append(data)
    kinds = sorted(known)

    def feed(rng: random.Random) -> None:
        data = other_sound(rng.choice(known[rng.choice(kinds)]), rng)
        stretch = rng.choice(((None, None), (None, None), (0.02, 0.05), (0.05, 1e300)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ffmpeg, "there", lambda: False)
            if rng.random() < 0.9:
                audio.decode(data, "strange", 16_000, *stretch)
                return
            patch.setattr(audio, "WHOLE", 0)
            file = folder / "strange"
            file.write_bytes(data)
            audio.decode(file, "strange", 16_000, *stretch)

    return feed


def of_ffmpeg(folder: Path) -> Callable[[random.Random], None]:
    """Feed formats that are read with ffmpeg, if installed."""
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    known = []
    for ending, codec in ENCODED.items():
        file = folder / f"sound.{ending}"
        source = ("-f", "lavfi", "-i", "sine=duration=0.3:sample_rate=16000")
        made = subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *codec, file], check=False)
        if made.returncode == 0:
            known.append(file.read_bytes())
    assert known, "ffmpeg encodes no format"

    def feed(rng: random.Random) -> None:
        audio.decode(other_sound(rng.choice(known), rng), "strange", 16_000)

    return feed
