"""What a process that answers holds in memory: not its weights twice, and no more of a longer recording."""

import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from ser_pipeline import config
from ser_pipeline.export.folder import Members
from ser_pipeline.export.names import WEIGHTS
from ser_pipeline.export.writing import describe, write_parts
from ser_pipeline.model import build_model
from support.speech_models import make

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the memory of a process is not told")

RATE = 16_000

ANSWERED = """
import resource, sys
from ser_pipeline.predict.opening import load
model = load(sys.argv[1], "cpu")
for file in sys.argv[2:]:
    model(file)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""

LOADED = """
import sys, torch
from pathlib import Path
from ser_pipeline.export.folder import read_members
def told(*names):
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(names)) / 1000
before, peak = told("RssAnon"), told("VmHWM")
members = read_members(Path(sys.argv[1]), torch.device("cpu"))
print(told("RssAnon") - before, told("VmHWM") - peak)
"""


def measured(code: str, *words: Path) -> list[float]:
    """The numbers that a process prints, MB."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def write_noise(file: Path, minutes: int) -> Path:
    with wave.open(str(file), "wb") as written:
        written.setparams((1, 2, RATE, 0, "NONE", ""))
        for minute in range(minutes):
            part = np.random.default_rng(minute).integers(-9_000, 9_000, RATE * 60, dtype=np.int16)
            written.writeframesraw(part.tobytes())
    return file


def test_a_longer_recording_takes_no_more_memory(segments_run: Path, tmp_path: Path) -> None:
    files = [write_noise(tmp_path / f"{minutes}.wav", minutes) for minutes in (6, 24)]
    short, long = measured(ANSWERED, segments_run, *files)
    assert long - short < 25, "18 minutes more have 69 MB of decoded samples"


def test_weights_stay_in_their_file_and_none_are_drawn_before(tmp_path: Path) -> None:
    made = config.load("paper")
    speech = json.loads(json.dumps(make("wav2vec2").config.to_dict(), default=str))
    model = build_model(
        made.model,
        audio=made.model_audio,
        features=made.features,
        classes=2,
        pretrained=False,
        speech_settings=speech,
    )
    members = Members(("calm", "angry"), made, ("0",), (model.eval(),), {})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"folds": ["0"]}), encoding="utf-8")
    (tmp_path / "model").mkdir()
    write_parts(tmp_path / "model", members, describe(tmp_path / "run", members))
    size = (tmp_path / "model" / WEIGHTS).stat().st_size / 1e6
    kept, peak = measured(LOADED, tmp_path / "model")
    assert size > 95 and kept < 0.2 * size and peak < 0.6 * size
