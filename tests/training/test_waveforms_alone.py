"""A run that computes features in each step equals one on stored features, from training to predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import ser_pipeline
from ser_pipeline import config
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import stage
from ser_pipeline.training.stage import prepare
from support.reducing import TINY
from support.sounds import write_emodb

ALIKE = {"preset": "demo", "jobs": 1}
ALONE = 'store="waveform"'


def predictions(run: Path) -> tuple[list[str], np.ndarray]:
    """Return files and log-probabilities of every test utterance."""
    rows = [row for file in sorted(run.glob("*/predictions.csv")) for row in csv.DictReader(file.open())]
    names = [name for name in rows[0] if name.startswith("log_p:")]
    return [row["file"] for row in rows], np.array([[float(row[name]) for name in names] for row in rows])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a corpus of three speakers."""
    return write_emodb(tmp_path_factory.mktemp("corpus"), speakers=3, takes=1)


def trained(corpus: Path, place: Path, *pairs: str) -> Path:
    """Train a run of the corpus with its own features."""
    overrides = [*TINY, "model.segments=2", *pairs]
    ser_pipeline.extract("emodb", corpus, cache=place / "cache", overrides=overrides, **ALIKE)  # type: ignore[arg-type]
    places = {"cache": place / "cache", "runs": place / "runs"}
    prepared = prepare("emodb", accept=["counts"], device="cpu", overrides=overrides, **places, **ALIKE)  # type: ignore[arg-type]
    (run,) = prepared.train()
    return run


@pytest.mark.slow(reason="trains three folds twice")
def test_a_run_on_waveforms_alone_is_that_of_stored_features(corpus: Path, tmp_path: Path) -> None:
    rows, alone = trained(corpus, tmp_path / "rows"), trained(corpus, tmp_path / "alone", ALONE)
    assert rows.name.rpartition("-")[0] == alone.name.rpartition("-")[0]
    assert rows.name != alone.name
    stores = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "alone" / "cache" / "features").glob("*/*-*"))
    assert stores == ["mfcc_level", "spectrogram_level", "waveform"]
    files, expected = predictions(rows)
    assert predictions(alone)[0] == files
    np.testing.assert_allclose(predictions(alone)[1], expected, atol=0.01)
    probes = [np.load(next(run.glob("*/segments.npz"))) for run in (rows, alone)]
    assert set(probes[0]) == set(probes[1])
    model, own = ser_pipeline.load(alone, "cpu", ["03"]), [name for name in files if Path(name).name.startswith("03")]
    told = dict(zip(files, predictions(alone)[1], strict=True))
    for name in own:
        scores = np.exp(told[name])
        found = list(model(corpus / name).probabilities.values())
        np.testing.assert_allclose(found, scores / scores.sum(), atol=1e-4)


def test_train_takes_the_waveforms_where_these_alone_are_stored(corpus: Path, tmp_path: Path) -> None:
    ser_pipeline.extract("emodb", corpus, cache=tmp_path, overrides=[ALONE], **ALIKE)  # type: ignore[arg-type]
    places = {"cache": tmp_path, "runs": tmp_path / "runs", "accept": ["counts"], "device": "cpu"}
    for named in ({}, {"preset": "demo"}):  # the preset of the features, and one that does not mention stores
        (run,) = prepare("emodb", **places, **named).planned  # type: ignore[arg-type]
        assert run.config.store == "waveform"
        assert sorted(run.entry.inputs["stores"]) == ["mfcc_level", "spectrogram_level", "waveform"]
    ser_pipeline.extract("emodb", corpus, cache=tmp_path, overrides=['store="features"'], **ALIKE)  # type: ignore[arg-type]
    (run,) = prepare("emodb", preset="demo", **places).planned  # type: ignore[arg-type]
    assert run.config.store == "features"


def test_a_model_of_waveforms_alone_has_the_same_run_either_way(corpus: Path, tmp_path: Path) -> None:
    only = 'model.inputs=["waveform"]', "model.co_attention=false"
    ser_pipeline.extract("emodb", corpus, cache=tmp_path, overrides=[*only, ALONE], **ALIKE)  # type: ignore[arg-type]
    places = {"cache": tmp_path, "runs": tmp_path / "runs", "accept": ["counts"], "device": "cpu"}
    keys = {
        prepare("emodb", preset="demo", overrides=[*only, *more], **places).planned[0].entry.path.name  # type: ignore[arg-type]
        for more in ((), (ALONE,))
    }
    assert len(keys) == 1


def test_deltas_are_stored_whatever_is_asked(corpus: Path, tmp_path: Path) -> None:
    made = ser_pipeline.extract("emodb", corpus, cache=tmp_path, overrides=[ALONE, "features.mfcc.deltas=1"], **ALIKE)  # type: ignore[arg-type]
    names = {path.name.rpartition("-")[0] for path in made.folder.glob("*-*")}
    assert names == {"mfcc", "spectrogram_level", "waveform"}


def test_a_large_corpus_is_stored_as_waveforms_unless_told_otherwise(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "MOST_BYTES", 1e5)
    made = ser_pipeline.extract("emodb", corpus, cache=tmp_path, **ALIKE)  # type: ignore[arg-type]
    assert {path.name.rpartition("-")[0] for path in made.folder.glob("*-*")} == {
        "mfcc_level",
        "spectrogram_level",
        "waveform",
    }
    pointer = json.loads((tmp_path / "features" / "emodb.json").read_text())
    assert pointer["settings"] == [ALONE]
    told = ser_pipeline.extract("emodb", corpus, cache=tmp_path / "other", overrides=['store="features"'], **ALIKE)  # type: ignore[arg-type]
    assert {path.name.rpartition("-")[0] for path in told.folder.glob("*-*")} == {"mfcc", "spectrogram", "waveform"}


def test_another_word_is_refused() -> None:
    with pytest.raises(PipelineError, match="store"):
        config.load("demo", None, ["store=nothing"])
