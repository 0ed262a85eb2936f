"""An utterance of hours has the same features as it would have if it were computed in memory."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ser_pipeline.config import Config
from ser_pipeline.features import extract, streamed
from ser_pipeline.features.acoustic import FEATURES
from support.sounds import tone, write_emodb
from support.stores import contents, make

SPEECH = tone(0, 200.0, 150).astype(np.float32) * np.linspace(0.1, 1, 3_200_000, dtype=np.float32)


@pytest.mark.parametrize("name", ["mfcc", "spectrogram", "logmel", "waveform"])
@pytest.mark.parametrize("samples", [3_200_000, 3_199_999, 768_000 + 77, 768_000, 30_000, 1])
def test_rows_made_a_stretch_at_a_time_are_those_of_the_whole(name: str, samples: int) -> None:
    config = Config()
    settings = getattr(config.features, name, None)
    signal = SPEECH[-samples:]
    blocks = np.array_split(signal, max(1, samples // 250_000))
    with threadpool_limits(1):
        made = streamed.rows(name, lambda: iter(blocks), samples, config.audio, settings)
        whole = FEATURES[name].rows(signal, config.audio, settings)
    assert made.dtype == whole.dtype
    if name == "mfcc":  # the last digit of a product depends on its size
        np.testing.assert_allclose(made.astype("f4"), whole.astype("f4"), rtol=2e-3, atol=2e-3)
    else:
        np.testing.assert_array_equal(made, whole)


def test_what_is_reflected_at_the_ends_is_not_reflected_at_the_ends_of_stretches() -> None:
    config = Config()
    settings = replace(config.features.spectrogram, pad_mode="reflect")
    blocks = np.array_split(SPEECH, 11)
    made = streamed.rows("spectrogram", lambda: iter(blocks), len(SPEECH), config.audio, settings)
    np.testing.assert_array_equal(made, FEATURES["spectrogram"].rows(SPEECH, config.audio, settings))


def test_deltas_reach_over_the_ends_of_stretches() -> None:
    config = Config()
    settings = replace(config.features.mfcc, deltas=2)
    blocks = np.array_split(SPEECH, 11)
    with threadpool_limits(1):
        made = streamed.rows("mfcc", lambda: iter(blocks), len(SPEECH), config.audio, settings)
        whole = FEATURES["mfcc"].rows(SPEECH, config.audio, settings)
    np.testing.assert_allclose(made.astype("f4"), whole.astype("f4"), rtol=2e-3, atol=2e-3)


def test_extraction_of_long_utterances_gives_the_same_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_emodb(tmp_path / "corpus", speakers=2)
    short = contents(make(corpus, tmp_path / "short", names=["spectrogram", "waveform"]))
    monkeypatch.setattr(extract, "LONG", 0)
    assert contents(make(corpus, tmp_path / "long", names=["spectrogram", "waveform"])) == short


HOURS = """
import re, sys, wave
from pathlib import Path
import numpy as np
from ser_pipeline.cli import main
folder = Path(sys.argv[1])
speech = np.random.default_rng(0).integers(-9_000, 9_000, 16_000 * 60, dtype=np.int16).tobytes()
with wave.open(str(folder / "long.wav"), "wb") as out:
    out.setparams((1, 2, 16_000, 0, "NONE", ""))
    for _ in range(180):
        out.writeframesraw(speech)
(folder / "my.csv").write_text("file,emotion,speaker\\nlong.wav,calm,Ada\\n")
try:
    main([*sys.argv[2:], "table", str(folder / "my.csv"), "--quiet"], standalone_mode=False)
except BaseException as error:
    assert getattr(error, "exit_code", None) == 1, error
status = Path("/proc/self/status").read_text()  # what getrusage says is that of the process that started this one
print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024)
"""


def peak(folder: Path, *command: str) -> int:
    done = subprocess.run([sys.executable, "-c", HOURS, folder, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("peak ")[2])


@pytest.mark.slow("three hours of sound are written and heard")
@pytest.mark.parametrize("command", ["audit", "features"])
def test_a_recording_of_three_hours_takes_less_than_a_gigabyte(tmp_path: Path, command: str) -> None:
    options = ["--cache", str(tmp_path / "cache")] + (
        ["--jobs", "1", "--preset", "paper"] if command == "features" else []
    )
    assert peak(tmp_path, command, *options) < 1_000
