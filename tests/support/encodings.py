"""Speech in the encodings that people have, by what they keep of it."""

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
"""Encodings that keep all samples, and who writes them: libsndfile's format and kind, or ffmpeg's codec."""

CHANGED: dict[str, tuple[str, str | None] | str] = {
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "layer3.mp3": ("MP3", None),
    "aac.m4a": "aac",
}
"""Those that change them."""

ROUGH: dict[str, tuple[str, str | None] | str] = {
    "gsm.wav": ("WAV", "GSM610"),
    "alaw.wav": ("WAV", "ALAW"),
    "ulaw.au": ("AU", "ULAW"),
    "8.wav": ("WAV", "PCM_U8"),
}
"""Those that lose much: half of the band, or what is quiet, as the pauses of the demo's speech are."""

ALL = {**KEPT, **CHANGED, **ROUGH}


def coded(source: Path, file: Path, how: tuple[str, str | None] | str) -> Path:
    """A recording in another encoding; the test is skipped where that needs an ffmpeg that is not there."""
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
