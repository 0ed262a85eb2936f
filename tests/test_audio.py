import io
import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from ser_pipeline import audio
from ser_pipeline.errors import PipelineError

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", None)])
def test_every_width_and_format_gives_the_same_samples(kind: str, subtype: str | None) -> None:
    decoded = audio.decode(encoded(SOUND, kind=kind, subtype=subtype), "a", 16_000)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, SOUND, atol=1 / 32768)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_lossy_formats_have_the_length_that_their_header_announces(kind: str) -> None:
    data = encoded(np.tile(SOUND, 4), kind=kind)
    head = audio.header(data, "a")
    assert len(audio.decode(data, "a", 16_000)) == audio.span(head, 16_000, None, None)[2]


def test_channels_are_averaged() -> None:
    both = np.stack([SOUND, -SOUND], axis=1)
    assert np.abs(audio.decode(encoded(both, subtype="FLOAT"), "a", 16_000)).max() == 0


@pytest.mark.parametrize("rate", [48_000, 44_100, 8_000])
def test_another_rate_is_resampled_as_librosa_does(rate: int) -> None:
    data = encoded(SOUND, rate, subtype="FLOAT")
    expected = librosa.resample(SOUND, orig_sr=rate, target_sr=16_000)
    decoded = audio.decode(data, "a", 16_000)
    assert len(decoded) == audio.span(audio.header(data, "a"), 16_000, None, None)[2]
    np.testing.assert_allclose(decoded, expected, atol=1e-6)


def test_a_stretch_is_what_lies_between_its_seconds() -> None:
    part = audio.decode(encoded(SOUND, subtype="FLOAT"), "a", 16_000, 0.1, 0.2)
    np.testing.assert_array_equal(part, SOUND[1600:3200])


NOISE = encoded(SOUND)
BROKEN = {
    "an empty file": (b"", "is an empty file"),
    "text": (b"hello " * 100, "not readable audio"),
    "a header alone": (NOISE[:44], "is truncated"),
    "half a wav": (NOISE[: len(NOISE) // 2], "is truncated"),
    "half a flac": (encoded(SOUND, kind="FLAC")[:6000], "is truncated"),
    "not a number": (encoded(np.full(100, np.nan, np.float32), subtype="FLOAT"), "NaN"),
    "no samples": (encoded(SOUND[:0]), "no samples"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_audio_is_named_with_what_is_wrong(case: str) -> None:
    data, said = BROKEN[case]
    with pytest.raises(PipelineError, match=rf"^bad\.wav.*{said}.*--skip-bad"):
        audio.decode(data, "bad.wav", 16_000)


def test_a_wav_of_unknown_length_written_to_a_pipe_is_not_called_truncated() -> None:
    streamed = bytearray(NOISE)
    streamed[40:44] = (0xFFFFFFFF).to_bytes(4, "little")
    assert len(audio.decode(bytes(streamed), "a", 16_000)) == len(SOUND)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 8_000])
@pytest.mark.parametrize("size", [1_000, 4_096])
def test_a_long_recording_in_blocks_has_the_samples_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, rate: int, size: int
) -> None:
    data = encoded(SOUND, rate)
    whole = audio.decode(data, "a", 16_000, 0.05)
    monkeypatch.setattr(audio, "BLOCK", size)
    parts = list(audio.blocks(data, "a", 16_000, 0.05))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_file_too_long_for_memory_is_read_from_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(NOISE)
    monkeypatch.setattr(audio, "WHOLE", 100)
    np.testing.assert_array_equal(audio.decode(tmp_path / "a.wav", "a", 16_000), audio.decode(NOISE, "a", 16_000))


def test_a_pipe_a_folder_and_a_device_without_end_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for place in (tmp_path / "pipe.wav", tmp_path, Path("/dev/zero")):
        with pytest.raises(PipelineError, match=r"^bad\.wav is not a file but a folder, a pipe or a device"):
            audio.decode(place, "bad.wav", 16_000)


@pytest.mark.parametrize("rate", [1, 7, 999, 768_001, 1_000_000_000])
def test_a_rate_that_no_recording_has_is_named(rate: int) -> None:
    with pytest.raises(
        PipelineError, match=rf"^bad\.wav has a sampling rate of {rate} Hz; it must be 1,000 to 768,000 Hz"
    ):
        audio.header(encoded(SOUND, rate), "bad.wav")


@pytest.mark.parametrize("rate", [1_000, 768_000])
def test_the_slowest_and_the_fastest_rate_are_read(rate: int) -> None:
    assert audio.decode(encoded(SOUND, rate), "a", 16_000).any()


def test_a_stretch_that_begins_far_beyond_the_end_holds_nothing() -> None:
    assert len(audio.decode(NOISE, "a", 16_000, 1e308)) == 0


@pytest.mark.parametrize(
    ("kind", "subtype", "sure"),
    [("WAV", "PCM_16", True), ("WAV", "FLOAT", False), ("FLAC", "PCM_16", False), ("AIFF", "PCM_16", False)],
)
def test_ordinary_16_bit_files_are_known_to_be_whole_without_being_decoded(kind: str, subtype: str, sure: bool) -> None:
    with audio.Recording(encoded(SOUND, kind=kind, subtype=subtype), "a") as recording:
        assert recording.sure == sure
