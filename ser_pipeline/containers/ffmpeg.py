"""Decode audio that libsndfile does not read with the `ffmpeg` command, if it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,loas,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,shn,spx,tak,tta,voc,w64,wav,wv"
)
"""Formats that are tried. None is a playlist, which could make ffmpeg read other files. None has so weak a signature
that noise could be mistaken for it."""


def there() -> bool:
    """Whether the command is on the path."""
    return shutil.which("ffmpeg") is not None


def decoded(source: bytes | Path, closing: ExitStack) -> tuple[BinaryIO | None, str]:
    """The first audio track as a temporary WAV file of floats, and ffmpeg's message; None if ffmpeg fails.

    Args:
        source: the bytes of a file, or its path.
        closing: deletes temporary files.
    """
    if isinstance(source, bytes):
        named = closing.enter_context(_temporary(""))
        named.write(source)
        named.flush()
        source = Path(named.name)
    wave = closing.enter_context(_temporary(".wav"))
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-protocol_whitelist", "file"]
    command += ["-format_whitelist", FORMATS, "-i", f"file:{source.resolve()}", "-map", "0:a:0"]
    command += ["-map_metadata", "-1", "-c:a", "pcm_f32le", "-f", "wav", "-rf64", "auto", f"file:{wave.name}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
    return (cast(BinaryIO, wave) if done.returncode == 0 else None), said


def _temporary(suffix: str) -> AbstractContextManager[Any]:
    return tempfile.NamedTemporaryFile(prefix="ser-pipeline-", suffix=suffix)
