"""The audit and `features` accept and refuse the same files, as they share one reader."""

import io
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_pipeline.audit.sound import listen_to
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.measure import measure

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)


def encoded(kind: str, subtype: str | None = None, rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, NOISE, rate, format=kind, subtype=subtype)
    return out.getvalue()


def announcing(size: int) -> bytes:
    """Return a WAV file whose header announces `size` bytes of samples."""
    data = encoded("WAV")
    return data[:40] + struct.pack("<I", size) + data[44:]


def told(total: int) -> bytes:
    """Return a FLAC file whose header announces `total` samples, at most 2^32 - 1."""
    data = encoded("FLAC")
    return data[:21] + bytes([data[21] & 0xF0]) + struct.pack(">I", total) + data[26:]


TAKEN: dict[str, Callable[[], bytes]] = {
    "GSM 6.10": lambda: encoded("WAV", "GSM610", 8_000),
    "G.721": lambda: encoded("WAV", "G721_32", 8_000),
    "WAV from a pipe": lambda: announcing(0x7FFFF000),
    "WAV of size 0": lambda: announcing(0),
    "WAV that counts its header in": lambda: announcing(2 * len(NOISE) + 16),
    "FLAC of unknown length": lambda: told(0),
    "FLAC of too many samples": lambda: told(2**32 - 1),
    "MP3s joined": lambda: 2 * encoded("MP3"),
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "half a WAV": lambda: encoded("WAV")[:20_000],
    "FLAC of twice its samples": lambda: told(2 * len(NOISE)),
    "7 Hz": lambda: encoded("WAV", rate=7),
    "1 GHz": lambda: encoded("WAV", rate=1_000_000_000),
    "words": lambda: b"no sound at all " * 100,
    "nothing": lambda: b"",
}


def features_take(folder: Path, utterance: Utterance) -> bool:
    try:
        measure("my", {"sad": ("sad",)}, [utterance], folder, Audio(), skip_bad=True)
    except PipelineError as error:
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("case", [*TAKEN, *REFUSED])
def test_what_the_audit_takes_features_take_and_nothing_else(tmp_path: Path, case: str) -> None:
    (tmp_path / "a").write_bytes((TAKEN | REFUSED)[case]())
    utterance = Utterance("a", "a", "sad", "Ann")
    assert (listen_to(tmp_path, utterance).fault == "") == features_take(tmp_path, utterance) == (case in TAKEN)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_and_a_start_beyond_all_ends_are_refused_by_both(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "a.wav").write_bytes(encoded("WAV"))
    for utterance in (Utterance("a", "pipe.wav", "sad", "Ann"), Utterance("a", "a.wav", "sad", "Ann", start=1e308)):
        assert listen_to(tmp_path, utterance).fault == "unreadable"
        assert not features_take(tmp_path, utterance)


def test_an_end_beyond_all_ends_is_that_of_the_file_and_is_said_by_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ser_pipeline"), "propagate", True)  # commands switch this off
    (tmp_path / "a.wav").write_bytes(encoded("WAV"))
    utterance = Utterance("a", "a.wav", "sad", "Ann", start=0.0, end=1e308)
    assert listen_to(tmp_path, utterance).notes == ("ends at 2.00 s, before the utterance's end, 1e+308 s",)
    assert features_take(tmp_path, utterance)
    assert "is read to it: a ends at 1e+308 s, and a.wav at 2.00 s" in caplog.text
