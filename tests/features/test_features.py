from pathlib import Path

import librosa
import numpy as np
import pytest

from ser_pipeline import audio
from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram
from ser_pipeline.features import acoustic as features
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.tables import mel_triangles
from support.sounds import tone

AUDIO = Audio()
SETTINGS = {"mfcc": Mfcc(deltas=1), "spectrogram": Spectrogram(), "logmel": LogMel(), "waveform": None}
LENGTHS = [1, 159, 160, 8_000, 47_999, 48_000, 48_160, 100_001]


def sound(length: int, seed: int = 0) -> np.ndarray:
    return tone(seed, length / 16_000, 140.0)[:length].astype(np.float32)


def librosa_mfcc(samples: np.ndarray, n_mfcc: int = 40) -> np.ndarray:
    return librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=n_mfcc, hop_length=160, htk=True).T


def librosa_decibels(samples: np.ndarray) -> np.ndarray:
    spectrum = np.abs(librosa.stft(samples, n_fft=800, hop_length=160, win_length=640, window="hamming"))
    return librosa.amplitude_to_db(spectrum, ref=np.max)[:200]


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("length", LENGTHS)
def test_mfcc_equals_librosa(length: int) -> None:
    samples = sound(length)
    np.testing.assert_allclose(features.mfcc(samples, AUDIO, Mfcc()), librosa_mfcc(samples), atol=1e-3)


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("length", LENGTHS)
def test_decibels_equal_librosa_before_they_are_quantised(length: int) -> None:
    samples = sound(length)
    np.testing.assert_allclose(
        features.spectrogram(samples, AUDIO, Spectrogram()), librosa_decibels(samples), atol=0.01
    )


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("length", LENGTHS)
def test_mel_spectrograms_equal_librosa_before_they_are_quantised(length: int) -> None:
    samples = sound(length)
    power = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=1024, hop_length=160, n_mels=64, htk=True)
    expected = librosa.power_to_db(power, ref=np.max, top_db=80.0)
    np.testing.assert_allclose(features.logmel(samples, AUDIO, LogMel()), expected, atol=0.01)
    rows = FEATURES["logmel"].rows(samples, AUDIO, LogMel())
    levels = np.concatenate([*rows], axis=1)[:, : expected.shape[1]]
    assert np.abs(levels - (expected + 80) * (255 / 80) + 0.5).max() <= 0.55


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("length", LENGTHS)
def test_deltas_equal_librosa(length: int) -> None:
    samples = sound(length)
    plain = librosa_mfcc(samples)
    mode = "interp" if len(plain) >= 9 else "nearest"  # librosa refuses mode "interp" there
    orders = [librosa.feature.delta(plain, order=order, axis=0, mode=mode) for order in (1, 2)]
    made = features.mfcc(samples, AUDIO, Mfcc(deltas=2))
    np.testing.assert_allclose(made, np.concatenate([plain, *orders], axis=1), atol=1e-3)
    np.testing.assert_array_equal(features.mfcc(samples, AUDIO, Mfcc(deltas=1)), made[:, :80])


def test_silence_is_the_floor_and_not_a_fault() -> None:
    silent = np.zeros(16_000, np.float32)
    # The first coefficient is -1,131 here, where float32 sums of 128 bands differ by a few of their last digits.
    np.testing.assert_allclose(features.mfcc(silent, AUDIO, Mfcc()), librosa_mfcc(silent), rtol=2e-6, atol=1e-3)
    assert np.isfinite(features.spectrogram(silent, AUDIO, Spectrogram())).all()


def test_pre_emphasis_is_applied_before_the_transform() -> None:
    samples = sound(16_000)
    emphasised = librosa.effects.preemphasis(samples, coef=0.97, zi=[0.0])
    made = features.mfcc(samples, AUDIO, Mfcc(pre_emphasis=0.97))
    np.testing.assert_allclose(made, librosa_mfcc(emphasised), atol=2e-3)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", SETTINGS)
def test_rows_have_their_shape_and_type_and_padding_at_the_end(name: str, length: int) -> None:
    feature = FEATURES[name]
    rows = feature.rows(sound(length), AUDIO, SETTINGS[name])
    assert rows.shape == (AUDIO.segments(length), *feature.shape(AUDIO, SETTINGS[name]))
    assert rows.dtype == feature.dtype
    frames = 1 + length // 160 - 300 * (len(rows) - 1)
    padding = {"mfcc": np.s_[frames:], "waveform": np.s_[1 + length % 48_000 :]}
    assert not rows[-1][padding.get(name, np.s_[:, frames:])].any()


def test_segments_are_the_utterance_cut_and_quantised() -> None:
    samples = sound(100_001)
    whole = features.spectrogram(samples, AUDIO, Spectrogram())
    rows = FEATURES["spectrogram"].rows(samples, AUDIO, Spectrogram())
    off = np.abs(rows[1] - np.floor((whole[:, 300:600] + 80) * (255 / 80)))
    assert off.max() <= 1
    assert off.mean() < 1e-4  # float32 may round a level that is almost an integer
    coefficients = features.mfcc(samples, AUDIO, Mfcc())
    np.testing.assert_array_equal(
        FEATURES["mfcc"].rows(samples, AUDIO, Mfcc())[1], coefficients[300:600].astype(np.float16)
    )


def test_the_waveform_keeps_16_bit_audio_exactly_with_the_sample_before_each_segment() -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32768, 100_000).astype(np.int16)
    rows = FEATURES["waveform"].rows(pcm.astype(np.float32) / 32768, AUDIO, None)
    assert rows[0, 0] == 0
    np.testing.assert_array_equal(rows[0, 1:], pcm[:48_000])
    np.testing.assert_array_equal(rows[1], pcm[47_999:96_000])


@pytest.mark.filterwarnings("ignore:n_fft")
def test_settings_with_an_odd_transform_equal_librosa() -> None:
    samples = sound(20_100)
    settings = Spectrogram(n_fft=801, window=640)
    spectrum = np.abs(librosa.stft(samples, n_fft=801, hop_length=160, win_length=640, window="hamming"))
    expected = librosa.amplitude_to_db(spectrum, ref=np.max)[:200]
    np.testing.assert_allclose(features.spectrogram(samples, AUDIO, settings), expected, atol=0.01)


@pytest.mark.parametrize("n_mels", [20, 64, 100])
def test_any_number_of_mel_bands_equals_librosa(n_mels: int) -> None:
    samples = sound(20_000)
    expected = librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=13, hop_length=160, htk=True, n_mels=n_mels).T
    made = features.mfcc(samples, AUDIO, Mfcc(n_mfcc=13, n_mels=n_mels))
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_mel_filters_equal_librosa() -> None:
    sums = mel_triangles(16_000, 2048, 128)
    dense = np.zeros((128, 1025), np.float32)
    parts = np.split(sums.weights, np.cumsum(sums.bins)[:-1])
    for row, first, part in zip(dense, sums.first, parts, strict=True):
        row[first : first + len(part)] = part
    np.testing.assert_allclose(dense, librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=128, htk=True), atol=1e-8)


def test_golden_numbers() -> None:
    samples = sound(16_000, seed=5)
    coefficients = features.mfcc(samples, AUDIO, Mfcc())
    np.testing.assert_allclose(coefficients[50, :4], [-161.821, 88.851, 64.902, 26.628], atol=0.01)
    pixels = FEATURES["spectrogram"].rows(samples, AUDIO, Spectrogram())[0]
    assert np.abs(pixels[[7, 14, 100], 50].astype(int) - [229, 199, 119]).max() <= 1


def test_real_speech_equals_librosa(emodb: Path) -> None:
    for file in sorted((emodb / "wav").glob("*.wav"))[::40]:
        samples = audio.decode(file.read_bytes(), file.name, 16_000)
        np.testing.assert_allclose(features.mfcc(samples, AUDIO, Mfcc()), librosa_mfcc(samples), atol=1e-3)
        np.testing.assert_allclose(
            features.spectrogram(samples, AUDIO, Spectrogram()), librosa_decibels(samples), atol=0.01
        )
