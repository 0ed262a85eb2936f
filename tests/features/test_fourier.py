import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_pipeline.features import fourier
from ser_pipeline.features.fourier import logarithms
from ser_pipeline.features.tables import FLOOR, Sums
from support.places import ROOT

RNG = np.random.default_rng(0)


def power(signal: np.ndarray, window: np.ndarray, n: int, hop: int) -> np.ndarray:
    """Compute the power of the same frames with numpy in float64, (bins, T)."""
    margin = n // 2 - (n - len(window)) // 2
    padded = np.concatenate([np.zeros(margin), signal, np.zeros(n)])
    frames = [padded[first : first + len(window)] * window for first in range(0, len(signal) + 1, hop)]
    return np.abs(np.fft.rfft(frames, n)).T ** 2


def every_bin(n: int) -> Sums:
    bins = n // 2 + 1
    return Sums(np.arange(bins), np.ones(bins, np.int64), np.ones(bins, np.float32))


@pytest.mark.parametrize(
    ("n", "length", "hop"),
    [(2048, 2048, 160), (800, 640, 160), (400, 400, 441), (89 * 3, 200, 7), (31, 31, 10), (5, 3, 2), (2, 2, 1)],
)
def test_power_equals_numpy_for_any_size(n: int, length: int, hop: int) -> None:
    signal, window = RNG.standard_normal(5_000).astype(np.float32), np.hanning(length + 2)[1:-1].astype(np.float32)
    logs, loudest = logarithms(signal, window, n, hop, every_bin(n))
    expected = power(signal, window, n, hop)
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-3, atol=1e-6 * expected.max())
    np.testing.assert_allclose(loudest, expected.max(axis=0), rtol=1e-5)


def test_sums_are_of_neighbouring_bins_and_logarithms_stop_at_the_floor() -> None:
    signal, window = RNG.standard_normal(5_000).astype(np.float32), np.hanning(512).astype(np.float32)
    sums = Sums(np.array([3, 0, 200]), np.array([4, 0, 57]), RNG.random(61).astype(np.float32))
    logs, _ = logarithms(signal, window, 512, 160, sums)
    bins = power(signal, window, 512, 160)
    np.testing.assert_allclose(logs[0], np.log(sums.weights[:4] @ bins[3:7]), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(logs[1], np.log(FLOOR))
    np.testing.assert_allclose(logs[2], np.log(sums.weights[4:] @ bins[200:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1e-7, 1.0, 1e7])
def test_logarithms_are_exact_to_float32(scale: float) -> None:
    signal, window = np.full(1_600, scale, np.float32), np.ones(2, np.float32)
    logs, _ = logarithms(signal, window, 2, 1, every_bin(2))
    np.testing.assert_allclose(logs[0, 1:-1], np.log(max(4 * np.float64(np.float32(scale)) ** 2, 1e-10)), rtol=2e-7)


def test_what_follows_does_not_change_the_first_frames() -> None:
    signal, window = RNG.standard_normal(40_000).astype(np.float32), np.hanning(512).astype(np.float32)
    whole, _ = logarithms(signal, window, 512, 160, every_bin(512))
    again, _ = logarithms(signal.copy(), window, 512, 160, every_bin(512))
    start, _ = logarithms(signal[: 160 * 40], window, 512, 160, every_bin(512))
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_array_equal(whole[:, :32], start[:, :32])


@pytest.mark.slow(reason="compiles the transforms anew")
def test_compiled_code_is_kept_in_the_users_cache_and_not_in_the_package(tmp_path: Path) -> None:
    """What a program adds to an installed package stays there when pip removes it."""
    code = "import numba, ser_pipeline.features.fourier as f; f._compiled(); assert not numba.config.CACHE_DIR"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path)}
    before = {file.stat().st_mtime_ns for file in Path(fourier.__file__).parent.rglob("*.nb?")}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    assert {file.suffix for file in (tmp_path / "ser-pipeline").rglob("*.*")} == {".nbi", ".nbc"}
    assert {file.stat().st_mtime_ns for file in Path(fourier.__file__).parent.rglob("*.nb?")} == before
