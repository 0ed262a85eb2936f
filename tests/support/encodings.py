"""Common encodings of speech, by how much of it they keep."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
import soxr

KEPT: dict[str, tuple[str, str | None] | str] = {
    "16.wav": ("WAV", "PCM_16"),
    "24.wav": ("WAV", "PCM_24"),
    "32.wav": ("WAV", "PCM_32"),
    "float.wav": ("WAV", "FLOAT"),
    "plain.flac": ("FLAC", "PCM_16"),
    "plain.aiff": ("AIFF", "PCM_16"),
    "alac.m4a": "alac",
}
"""Lossless encodings, and their writer: libsndfile's format and subtype, or ffmpeg's codec."""

CHANGED: dict[str, tuple[str, str | None] | str] = {
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "layer3.mp3": ("MP3", None),
    "aac.m4a": "aac",
}
"""Lossy encodings."""

ROUGH: dict[str, tuple[str, str | None] | str] = {
    "gsm.wav": ("WAV", "GSM610"),
    "alaw.wav": ("WAV", "ALAW"),
    "ulaw.au": ("AU", "ULAW"),
    "8.wav": ("WAV", "PCM_U8"),
}
"""Very lossy encodings: they lose half of the band, or quiet parts such as the pauses of the demo's speech."""

ALL = {**KEPT, **CHANGED, **ROUGH}


def coded(source: Path, file: Path, how: tuple[str, str | None] | str) -> Path:
    """Encode a recording; the test is skipped if that needs ffmpeg, which is not installed."""
    samples, rate = soundfile.read(source)
    if file.name.endswith("gsm.wav"):
        samples, rate = soxr.resample(samples, rate, rate // 2), rate // 2
    if isinstance(how, tuple):
        soundfile.write(file, samples, rate, format=how[0], subtype=how[1])
    elif not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    else:
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", source, "-c:a", how, file], check=True)
    return file
