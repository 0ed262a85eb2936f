"""Recordings of every encoding and length, and those that cannot be read."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ser_pipeline
from ser_pipeline.errors import PipelineError
from ser_pipeline.predict import recordings
from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.recordings import listed, opened
from support.sounds import tone

RATE = 16_000
SOUND = tone(1, 3.4, 180).astype(np.float32)

BY_LIBSNDFILE = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "double.wav": ("WAV", "DOUBLE"),
    "mulaw.wav": ("WAV", "ULAW"),
    "plain.flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "layer3.mp3": ("MP3", None),
    "plain.aiff": ("AIFF", "PCM_16"),
    "plain.w64": ("W64", "PCM_16"),
}
BY_FFMPEG = {
    "alac.m4a": "alac",
    "aac.m4a": "aac",
    "opus.webm": "libopus",
    "amr.amr": "libopencore_amrnb",
    "adpcm.wav": "adpcm_ms",
}
CLOSE = {"mulaw.wav": 0.4, "vorbis.ogg": 0.4, "layer3.mp3": 0.4, "aac.m4a": 0.4, "opus.webm": 0.4, "adpcm.wav": 0.4}
"""Largest difference of a probability from the original's, for lossy encodings."""


@pytest.fixture(scope="module")
def model(segments_run: Path) -> Predictor:
    return ser_pipeline.load(segments_run, "cpu")


def shares(answer: Answer) -> np.ndarray:
    return np.array(list(answer.probabilities.values()))


@pytest.mark.parametrize("name", [*BY_LIBSNDFILE, *BY_FFMPEG])
def test_every_encoding_has_about_the_answer_of_its_original(model: Predictor, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name in BY_LIBSNDFILE:
        kind, subtype = BY_LIBSNDFILE[name]
        soundfile.write(file, SOUND, RATE, format=kind, subtype=subtype)
    else:
        _by_ffmpeg(file, BY_FFMPEG[name])
    found, original = model(file), model(SOUND, RATE)
    assert found.end == pytest.approx(original.end, abs=0.2)
    np.testing.assert_allclose(shares(found), shares(original), atol=CLOSE.get(name, 0.01))


def _by_ffmpeg(file: Path, codec: str) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    source = file.with_suffix(".source.wav")
    soundfile.write(source, SOUND, RATE)
    narrow = ["-ar", "8000"] if "amr" in codec else []
    words = ["ffmpeg", "-v", "error", "-y", "-i", source, "-c:a", codec, *narrow, file]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip(f"ffmpeg here does not write {codec}")


def test_rates_channels_samples_and_bytes_are_heard_alike(model: Predictor, tmp_path: Path) -> None:
    file = tmp_path / "née Müller, 張偉.wav"
    soundfile.write(file, SOUND, RATE, subtype="FLOAT")
    expected = shares(model(file))
    stereo = np.stack([SOUND, SOUND], axis=1)
    whole = np.round(SOUND * 32768).astype(np.int16)
    for same in (model(str(file)), model(file.read_bytes()), model(SOUND, RATE), model(stereo, RATE)):
        np.testing.assert_allclose(shares(same), expected, atol=1e-6)
    np.testing.assert_allclose(shares(model(whole, RATE)), expected, atol=2e-3)
    assert model(file).file == str(file)
    low, high = model(SOUND[::2].copy(), RATE // 2), model(np.repeat(SOUND, 2), 2 * RATE)
    assert low.end == high.end == model(file).end


@pytest.mark.parametrize("seconds", [1 / RATE, 0.1, 2.9999, 3.0, 6.0, 6.1])
def test_lengths_around_a_segment_have_an_answer(model: Predictor, seconds: float) -> None:
    answer = model(np.resize(SOUND, max(1, round(seconds * RATE))), RATE)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert (answer.note != "") == (seconds <= 0.1)


def test_silent_and_clipped_recordings_say_so(model: Predictor, tmp_path: Path) -> None:
    assert model(np.zeros(RATE), RATE).note == "silent"
    full = SOUND / np.abs(SOUND).max()
    assert model(full * 3, RATE).note == "has samples up to 3 times full scale, which are clipped"
    soundfile.write(tmp_path / "whole numbers.wav", full * 32_768, RATE, subtype="FLOAT")
    said = model(tmp_path / "whole numbers.wav").note
    assert said == "has samples up to 32768 times full scale, which are clipped"


def wav(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="WAV", subtype="FLOAT")
    return out.getvalue()


BROKEN = {
    "nan.wav": (wav(np.where(np.arange(9_000) == 8_000, np.nan, SOUND[:9_000])), "contains NaN or infinite samples"),
    "infinite.wav": (wav(np.full(100, np.inf, np.float32)), "contains NaN or infinite samples"),
    "empty.wav": (b"", "is an empty file"),
    "no samples.wav": (wav(np.empty(0, np.float32)), "has no samples"),
    "words.wav": (b"hello " * 100, "is not readable audio"),
    "half.wav": (wav(SOUND)[:20_000], "is truncated"),
}


def test_what_cannot_be_heard_has_its_line_and_the_others_are_answered(model: Predictor, tmp_path: Path) -> None:
    files = []
    for name, (content, _) in BROKEN.items():
        (tmp_path / name).write_bytes(content)
        soundfile.write(tmp_path / f"{name}.good.wav", SOUND, RATE)
        files += [tmp_path / name, tmp_path / f"{name}.good.wav"]
    files += [tmp_path / "missing.wav", tmp_path]
    found = list(model.each(files))
    assert [answer.file for answer in found] == list(map(str, files))
    good, bad = found[1:-2:2], [*found[0:-2:2], *found[-2:]]
    original = model(SOUND, RATE)
    for answer in good:
        assert isinstance(answer, Answer)
        np.testing.assert_allclose(shares(answer), shares(original), atol=2e-3)
    reasons = [*(said for _, said in BROKEN.values()), "No such file or directory", "is not a file but a folder"]
    for answer, said in zip(bad, reasons, strict=True):
        assert isinstance(answer, Unanswered) and said in answer.error and "\n" not in answer.error
        assert "--skip-bad" not in answer.error


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (SOUND, None, "need their rate"),
        (SOUND[:0], RATE, "has no samples"),
        (SOUND.reshape(1, 2, -1), RATE, "must be (N,) or (N, channels)"),
        (SOUND > 0, RATE, "samples of bool"),
        (np.full(100, np.nan), RATE, "NaN"),
    ],
)
def test_samples_that_make_no_sense_are_one_line(
    model: Predictor, samples: np.ndarray, rate: int | None, said: str
) -> None:
    with pytest.raises(PipelineError) as error:
        model(samples, rate)
    assert said in str(error.value)


def test_channels_are_heard_alone_together_or_one(model: Predictor, tmp_path: Path) -> None:
    other = tone(2, 3.4, 320).astype(np.float32)
    soundfile.write(tmp_path / "call.wav", np.stack([SOUND, other], axis=1), RATE, subtype="FLOAT")
    first, second = model.each([tmp_path / "call.wav"], channels="split")
    assert isinstance(first, Answer) and isinstance(second, Answer)
    assert (first.channel, second.channel) == (1, 2)
    np.testing.assert_allclose(shares(first), shares(model(SOUND, RATE)), atol=1e-6)
    np.testing.assert_allclose(shares(second), shares(model(tmp_path / "call.wav", channels=2)), atol=1e-6)
    np.testing.assert_allclose(
        shares(model(tmp_path / "call.wav")), shares(model((SOUND + other) / 2, RATE)), atol=1e-6
    )
    with pytest.raises(PipelineError, match=r"call.wav has no channel 3: its channels are 1 to 2"):
        model(tmp_path / "call.wav", channels=3)


def test_a_folder_gives_all_recordings_in_it_by_name(tmp_path: Path) -> None:
    for name in ("b/2.WAV", "b/1.flac", "a.mp3", "b/notes.txt", "b/c/d.m4a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    inside = [str(tmp_path / name) for name in ("a.mp3", "b/1.flac", "b/2.WAV", "b/c/d.m4a")]
    assert listed(["-", str(tmp_path), "x.txt"]) == ["-", *inside, "x.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="no recordings in the folder"):
        listed([str(tmp_path / "empty")])


def test_long_recordings_lie_on_disk_and_are_read_in_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recordings, "MEMORY", 1000)
    made: list[tempfile.SpooledTemporaryFile[bytes]] = []
    kind = tempfile.SpooledTemporaryFile

    def make(size: int) -> tempfile.SpooledTemporaryFile[bytes]:
        made.append(kind(size))
        return made[-1]

    monkeypatch.setattr(recordings, "SpooledTemporaryFile", make)
    soundfile.write(tmp_path / "a.wav", SOUND, RATE, subtype="FLOAT")
    with opened(tmp_path / "a.wav", RATE) as recording:
        (track,) = recording.tracks
        np.testing.assert_array_equal(track.samples.read(100, 900), SOUND[100:900])
        assert made[0]._rolled  # type: ignore[attr-defined]
    assert made[0].closed


def test_any_number_of_threads_may_ask(asked: Callable[..., Predictor], corpus: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, files = asked(), sorted(corpus.rglob("*.wav"))[:8]
    expected = [model(file) for file in files]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(model, files * 3))
    for answer, wanted in zip(found, expected * 3, strict=True):
        np.testing.assert_allclose(shares(answer), shares(wanted), atol=1e-6)
