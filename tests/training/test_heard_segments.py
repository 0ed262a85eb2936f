"""Segments without speech are used neither for training nor for utterance scores; one more sample changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

from ser_pipeline import config
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.data.neighbours import Neighbours, longer
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.folder import Members
from ser_pipeline.model import build_model
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.runs import of_members
from support import trees
from support.reducing import TINY
from support.sounds import CODES, tone, write_wav

HOW = ("model.utterance_score=duration", "model.least_speech=25")
SETTINGS = [word for setting in (*TINY, *HOW) for word in ("--set", setting)]
LENGTHS = (1, 399, 47_999, 48_000, 48_399, 48_400, 96_000, 144_100)


def manifest(least: int) -> Manifest:
    utterances = trees.people(1, turns=len(LENGTHS))
    labels = sorted({utterance.emotion for utterance in utterances})
    keys = tuple(utterance.id for utterance in utterances)
    return Manifest("x", {name: (name,) for name in labels}, Audio(), tuple(utterances), keys, np.array(LENGTHS), least)


def test_what_is_not_heard_is_stored_all_the_same() -> None:
    every, heard = manifest(0), manifest(400)
    assert every.counts.tolist() == every.stored.tolist() == heard.stored.tolist() == [1, 1, 1, 2, 2, 2, 3, 4]
    assert heard.counts.tolist() == [1, 1, 1, 1, 1, 2, 2, 3]
    assert np.array_equal(every.segments, heard.segments)
    utterances = np.arange(len(LENGTHS))
    rows = heard.rows(utterances)
    utterance, _, real = heard.segments[rows].T
    assert ((real >= 400) | (np.bincount(utterance)[utterance] == 1)).all()
    assert set(every.rows(utterances)) - set(rows) == {4, 6, 11, 15}


def test_joined_segments_are_read_where_they_are_stored() -> None:
    short = manifest(0)
    long = replace(longer(short, 2), least=400)
    assert long.counts.tolist() == [1, 1, 1, 1, 1, 1, 1, 2]
    assert long.stored.tolist() == [1, 1, 1, 1, 1, 1, 2, 2]
    source = Neighbours(None, short, long)  # type: ignore[arg-type]
    rows = long.rows(np.arange(len(LENGTHS)))
    places, there = source.places(rows)
    utterance = long.segments[rows, 0]
    assert (short.segments[places, 0] == utterance[:, None]).all()
    assert there.sum() == 15, "all stored segments but the last of 96,000 samples"


@pytest.mark.parametrize(
    ("preset", "pairs", "said"),
    [
        (
            "paper",
            "model.least_speech=24.9",
            "is shorter than a frame of speech; the nearest is model.least_speech=25$",
        ),
        ("paper", "model.least_speech=3001", "over the 3000 ms of a segment; the nearest is model.least_speech=3000$"),
        ("frozen", "model.least_speech=25", "this model reads whole utterances$"),
        ("frozen", "model.utterance_score=vote", "this model reads whole utterances$"),
        ("paper", "model.utterance_score=length", "one of log-probability, probability, vote, duration"),
    ],
)
def test_settings_that_cannot_act_are_refused(preset: str, pairs: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        config.load(preset, None, [pairs])


def test_the_paper_hears_every_segment_and_the_others_what_holds_speech() -> None:
    every = {name: (config.load(name).model.utterance_score, config.load(name).model.least_speech) for name in PRESETS}
    assert every["paper"] == every["reference"] == every["frozen"] == ("log-probability", 0)
    assert every["scratch"] == every["finetune"] == every["demo"] == ("duration", 25)


PRESETS = ("paper", "reference", "frozen", "scratch", "finetune", "demo")


def test_one_sample_more_changes_no_label(tmp_path: Path) -> None:
    """Classify 40 sounds that end with their segment or 25 ms later; with the paper's preset, some labels change."""
    voices = [tone(seed, 3.1, 90.0 + 5 * seed) for seed in range(40)]

    def labels(predictor: Predictor, samples: int) -> list[str]:
        found = []
        for number, voice in enumerate(voices):
            write_wav(tmp_path / f"{number}.wav", voice[:samples])
            found.append(predictor(tmp_path / f"{number}.wav").emotion)
        return found

    pairs = [*TINY, "train.precision=fp32"]
    own, paper = (
        config.load("demo", None, [*pairs, *more])
        for more in (HOW, (f"{HOW[0][:21]}=log-probability", "model.least_speech=0"))
    )
    torch.manual_seed(1)
    model = build_model(own.model, audio=own.model_audio, features=own.features, classes=4).eval()
    cpu = torch.device("cpu")
    asked = [of_members(Members(tuple(CODES), each, ("03",), (model,), {}), cpu) for each in (own, paper)]
    assert labels(asked[0], 47_999) == labels(asked[0], 48_000)
    assert labels(asked[0], 48_399) == labels(asked[0], 48_400)
    assert labels(asked[1], 47_999) != labels(asked[1], 48_000)


def test_a_run_trains_on_and_scores_what_holds_speech(run: Callable[..., Result], tmp_path: Path) -> None:
    for speaker in range(3):
        for emotion, code in enumerate(CODES.values()):
            for take, samples in enumerate((48_000, 60_000)):
                voice = tone(speaker * 100 + emotion * 10 + take, 4.0, 100 * (1 + 0.6 * emotion) + 3 * speaker)
                write_wav(tmp_path / "c" / "wav" / f"{speaker + 3:02d}a{take + 1:02d}{code}a.wav", voice[:samples])
    run("features", "emodb", tmp_path / "c")
    train = ("train", "--accept", "counts", "--preset", "demo", "--jobs", "1", "--device", "cpu")
    folder = Path(run(*train, *SETTINGS).stdout.strip().splitlines()[-1])
    real = []
    for file in sorted(folder.glob("*/segments.npz")):
        with np.load(file) as stored:
            real += stored["samples"].tolist()
            assert len(stored["samples"]) == len(stored["log_prob"]) == len(stored["utterance"]) == 12
    assert sorted(set(real)) == [12_000, 48_000]
    assert {json.loads(line)["epoch"] for line in (folder / "03" / "history.jsonl").read_text().splitlines()} == {1, 2}
    audited = run("audit", "emodb", tmp_path / "c", "--json", status=1).stdout
    (found,) = [one for one in json.loads(audited)["findings"] if one["name"] == "empty-end"]
    assert found["message"].startswith("12 of 24 utterances end in a segment of 3 s that contains less than 25 ms")
    assert len(found["rows"]) == 12
