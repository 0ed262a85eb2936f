"""All kinds of recordings together, in every output format: the right answer, or one line with the reason."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result

import ser_pipeline
from ser_pipeline.predict.answers import Answer
from ser_pipeline.predict.predictor import Predictor
from support.encodings import ALL, KEPT, coded
from support.sounds import tone

RATE = 16_000
SOUND = (0.9 * tone(1, 1.5, 180)).astype(np.float32)
FORMS = ("table", "--json", "--jsonl", "--csv", "--timeline", "--timeline --json", "--timeline --csv")

ODD: dict[str, tuple[np.ndarray | bytes, str]] = {
    "a tenth of a second.wav": (SOUND[: RATE // 10], "only 0.100 s long"),
    "silent, 静か.wav": (np.zeros(RATE, np.float32), "silent"),
    "clippé.wav": (3 * SOUND / np.abs(SOUND).max(), "has samples up to 3 times full scale, which are clipped"),
    "ne\u0301e Müller — 張偉 😀.wav": (SOUND, ""),
}
"""Recordings with an answer, and their notes."""

BAD: dict[str, tuple[np.ndarray | bytes, str]] = {
    "nan.wav": (np.where(np.arange(9_000) == 8_000, np.nan, SOUND[:9_000]), "contains NaN or infinite samples"),
    "empty.wav": (b"", "is an empty file"),
    "no samples.wav": (SOUND[:0], "has no samples"),
    "words, 詩.mp3": (b"hello " * 100, "is not readable audio"),
}
"""Recordings without an answer, and the reasons."""


@dataclass(frozen=True)
class Said:
    """A line of the output in any format."""

    file: str
    emotion: str = ""
    note: str = ""
    error: str = ""


@pytest.fixture(scope="module")
def model(segments_run: Path) -> Predictor:
    return ser_pipeline.load(segments_run, "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write all of them to one folder; those that need ffmpeg only if it is installed."""
    place = tmp_path_factory.mktemp("every")
    soundfile.write(place / "original.wav", SOUND, RATE, subtype="PCM_16")
    for name, how in ALL.items():
        if isinstance(how, tuple) or shutil.which("ffmpeg"):
            coded(place / "original.wav", place / name, how)
    for name, (content, _) in {**ODD, **BAD}.items():
        if isinstance(content, bytes):
            (place / name).write_bytes(content)
        else:
            soundfile.write(place / name, content, RATE, subtype="FLOAT")
    return place


@pytest.fixture(scope="module")
def wanted(model: Predictor, folder: Path) -> dict[str, Answer]:
    """Return the model's answer for each file that has one."""
    files = sorted(str(file) for file in folder.iterdir() if file.name not in BAD)
    answers = [answer for answer in model.each(files) if isinstance(answer, Answer)]
    assert [answer.file for answer in answers] == files and len(files) >= 16
    return {Path(answer.file).name: answer for answer in answers}


def read(form: str, text: str) -> Iterator[Said]:
    """Parse the lines of an output."""
    if form.endswith("json"):
        for one in json.loads(text):
            yield Said(one["file"], one.get("emotion", ""), one.get("note") or "", one.get("error", ""))
    elif form.endswith("jsonl"):
        yield from (said for line in text.splitlines() for said in read("json", f"[{line}]"))
    elif form.endswith("csv"):
        for row in csv.DictReader(text.splitlines()):
            yield Said(row["file"], row["emotion"], row["note"], row["error"])
    else:
        yield from map(_of_table, text.splitlines()[1:])


def _of_table(line: str) -> Said:
    file, _, rest = line.partition("  ")
    rest = rest.strip()
    if rest.startswith("error: "):
        return Said(file, error=rest.removeprefix("error: "))
    emotion = next(word for word in rest.split() if word.isalpha())
    return Said(file, emotion, rest)


@pytest.mark.parametrize("form", FORMS)
def test_every_recording_has_its_answer_or_its_line(
    run: Callable[..., Result], segments_run: Path, folder: Path, wanted: dict[str, Answer], form: str
) -> None:
    done = run("predict", segments_run, folder, "--device", "cpu", *form.replace("table", "").split(), status=1)
    found = {Path(said.file).name: said for said in read(form, done.stdout)}
    assert found.keys() == wanted.keys() | BAD.keys()
    assert len(list(read(form, done.stdout))) == len(found)  # none is longer than a window
    for name, (_, why) in BAD.items():
        assert found[name] == Said(str(folder / name), error=found[name].error) and why in found[name].error, name
    for name, answer in wanted.items():
        assert (found[name].emotion, found[name].error) == (answer.emotion, ""), name
        assert ODD.get(name, (b"", ""))[1] in found[name].note, name
    for name in KEPT.keys() & wanted.keys():
        assert found[name].emotion == wanted["original.wav"].emotion, name
    assert done.stderr == f"error: no prediction for {len(BAD)} of {len(found)} recordings\n"
