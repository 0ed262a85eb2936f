import io

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
    "text": (b"hello " * 100, "no readable audio"),
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
