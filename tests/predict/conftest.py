"""Runs for prediction, trained once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import ser_pipeline
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.training.stage import prepare
from support.reducing import TINY
from support.sounds import write_emodb
from support.speech_models import write_whisper

ALIKE = {"device": "cpu", "jobs": 1}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small corpus: 3 speakers, 4 emotions, 2 takes, some longer than a segment."""
    return write_emodb(tmp_path_factory.mktemp("corpus") / "emodb", speakers=3, takes=2)


@pytest.fixture(scope="session")
def segments_run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run whose model reads two segments at a time."""
    place = tmp_path_factory.mktemp("segments")
    chosen = {"preset": "demo", "overrides": [*TINY, "model.segments=2"]}
    return _trained(corpus, place, chosen)


@pytest.fixture(scope="session")
def whole_run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run on statistics of a frozen encoder over whole utterances, with a linear head."""
    place = tmp_path_factory.mktemp("whole")
    encoder = write_whisper(place / "encoder")
    return _trained(corpus, place, {"preset": "frozen", "overrides": [f"features.statistics.encoder={encoder}"]})


@pytest.fixture(params=["segments_run", "whole_run"])
def trained(request: pytest.FixtureRequest) -> Path:
    """Return each kind of run in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def asked(trained: Path) -> Callable[..., Predictor]:
    """Return a function that loads the run: `asked("03")` uses one fold."""
    return lambda *folds: ser_pipeline.load(trained, "cpu", folds)


def _trained(corpus: Path, place: Path, chosen: dict[str, object]) -> Path:
    ser_pipeline.extract("emodb", corpus, cache=place / "cache", **ALIKE, **chosen)  # type: ignore[arg-type]
    places = {"cache": place / "cache", "runs": place / "runs"}
    prepared = prepare("emodb", accept=["counts"], **places, **ALIKE, **chosen)  # type: ignore[arg-type]
    (run,) = prepared.train()
    return run
