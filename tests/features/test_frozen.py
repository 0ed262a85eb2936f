"""Statistics of a frozen speech encoder over whole utterances, and linear heads on them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from click.testing import Result
from sklearn.linear_model import Ridge

from ser_pipeline.cache import manifest
from ser_pipeline.cache.store import Store
from ser_pipeline.config import Train, load
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import frozen
from ser_pipeline.features.hours import StoredSignal, summed_up
from ser_pipeline.features.statistics import StatisticsMaker, drawing, open_statistics
from ser_pipeline.features.utterances import UtteranceFrames
from ser_pipeline.training.linear import HEADS, HeadRows, ridge
from support.sounds import tone, write_emodb, write_wav
from support.speech_models import write_whisper

CPU = torch.device("cpu")
RATE = 16_000


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small Whisper with random weights in the usual format."""
    return write_whisper(tmp_path_factory.mktemp("whisper"))


def words(encoder: Path, *more: str) -> list[str]:
    """Return the options of the preset with that encoder."""
    pairs = [f"features.statistics.encoder={encoder}", *more]
    return ["--preset", "frozen", *(word for pair in pairs for word in ("--set", pair))]


def maker(encoder: Path, *more: str) -> StatisticsMaker:
    pairs = [f"features.statistics.encoder={encoder}", "features.statistics.draws=0", *more]
    return open_statistics(load("frozen", None, pairs), CPU)


def signals(*seconds: float) -> list[np.ndarray]:
    return [tone(number, length, 120 + 40 * number).astype(np.float32) for number, length in enumerate(seconds)]


def test_statistics_are_those_of_the_frames_that_transformers_gives(encoder: Path) -> None:
    (signal,) = signals(30.0)  # a whole window, which transformers does not pad
    made = maker(encoder, "features.statistics.layers=[1, 3]").of([signal])[0]
    inputs = transformers.WhisperFeatureExtractor()(signal, sampling_rate=RATE, return_tensors="pt").input_features
    model = transformers.WhisperModel.from_pretrained(encoder).get_encoder().eval()
    with torch.no_grad():
        states = model(inputs, output_hidden_states=True).hidden_states
    expected = []
    for layer in (1, 3):
        frames = torch.nn.functional.layer_norm(states[layer][0], (32,))
        third = len(frames) // 3
        expected += [frames.mean(0), frames.std(0, correction=0), frames[:third].mean(0), frames[-third:].mean(0)]
    np.testing.assert_allclose(made, torch.cat(expected).numpy(), atol=2e-3)


def test_statistics_do_not_depend_on_what_else_is_asked(encoder: Path) -> None:
    several, made = signals(0.4, 2.1, 0.9, 3.7, 1.3), maker(encoder)
    np.testing.assert_array_equal(made.of(several), np.concatenate([made.of([signal]) for signal in several]))


def test_frames_hardly_depend_on_what_else_is_in_the_batch(encoder: Path) -> None:
    several, made = signals(0.4, 2.1, 0.9), maker(encoder)
    through = UtteranceFrames(made.encoder, (), CPU)
    layers, real = through.frames(several)
    for row, signal in enumerate(several):
        alone, whole = through.frames([signal])
        assert whole.all()
        torch.testing.assert_close(layers[:, row][:, real[row]], alone[:, 0], atol=1e-4, rtol=1e-4)


def test_an_utterance_longer_than_the_encoders_window_is_heard_to_its_end(encoder: Path) -> None:
    first, last = signals(40.0, 25.0)
    made = maker(encoder, 'features.statistics.kinds=["mean"]')
    whole = made.of([np.concatenate([first, last])])[0]
    pieces = np.array_split(np.concatenate([first, last]), 3)
    np.testing.assert_allclose(whole, np.mean(made.of(pieces).astype(np.float32), axis=0), atol=3e-3)


def test_a_drawing_follows_from_the_recording_and_its_number_alone() -> None:
    settings = load("frozen").features.statistics
    (signal,) = signals(1.0)
    one, again, other = (drawing(signal, key * 16, number, settings, RATE) for key, number in ("a1", "a1", "a2"))
    np.testing.assert_array_equal(one, again)
    assert len(one) != len(other) or not np.array_equal(one, other)
    assert abs(len(one) / len(signal) - 1) <= 0.12
    still = load("frozen", None, [f"features.statistics.{name}=0" for name in ("speed", "gain", "noise")])
    np.testing.assert_allclose(drawing(signal, "b" * 16, 1, still.features.statistics, RATE), signal, atol=1e-6)


@pytest.mark.parametrize("seconds", [65.3, 12.0])
def test_an_utterance_of_hours_is_summed_up_piece_by_piece_alike(encoder: Path, seconds: float) -> None:
    options = ["features.statistics.draws=3", "features.statistics.layers=[1, 3]", "features.statistics.noise=0.7"]
    made, segment, longest = maker(encoder, *options), 4_000, []
    whole = (signals(seconds)[0] * 32_767).astype(np.int16)
    segments = np.zeros((-(-len(whole) // segment), 1 + segment), np.int16)
    segments[:, 1:].flat[: len(whole)] = whole
    samples = np.array([min(segment, len(whole) - first) for first in range(0, len(whole), segment)])

    def read(first: int, last: int) -> np.ndarray:
        longest.append((last - first) * segment)
        return segments[first:last]

    found = summed_up(made, StoredSignal(read, segment, len(whole)), "a1" * 16)
    (expected,) = made(segments, samples, np.array([len(segments)]), ["a1" * 16])
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=3e-3)
    assert max(longest) <= (30 * 1.2 + 2 * segment / RATE) * RATE


def test_long_utterances_go_piece_by_piece(
    run: Callable[..., Result], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=2, takes=1)
    stores = []
    for long in (frozen.LONG, 0):
        monkeypatch.setattr(frozen, "LONG", long)
        monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / f"cache-{long}"))
        folder = Path(run("features", "emodb", root, *words(encoder), "--quiet").stdout.strip())
        (store,) = (Store(path) for path in folder.glob("statistics-*"))
        stores.append(store.read(np.arange(len(store))))
    np.testing.assert_allclose(stores[1], stores[0], atol=3e-3)


def test_a_layer_or_kind_that_there_is_not_is_one_line(encoder: Path) -> None:
    with pytest.raises(PipelineError, match=r"'features.statistics.layers' lists layers 0 to 3 of .*, not \[7\]"):
        maker(encoder, "features.statistics.layers=[7]")
    with pytest.raises(PipelineError, match=r"'features.statistics.kinds' is a list of mean, deviation, first, last"):
        maker(encoder, 'features.statistics.kinds=["median"]')


def test_from_features_to_a_prediction(run: Callable[..., Result], encoder: Path, tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=4, takes=2)
    folder = Path(run("features", "emodb", root, *words(encoder), "--quiet").stdout.strip())
    assert sorted(path.name.partition("-")[0] for path in folder.glob("*-*")) == ["statistics", "waveform"]
    data = manifest.read(folder)
    (store,) = (Store(path) for path in folder.glob("statistics-*"))
    assert (len(store), store.shape) == (len(data.utterances), (3, 4 * 32))
    assert "everything is as written" in run("cache", "verify").stdout
    made = Path(run("train", "--accept", "counts", "--jobs", "1", *words(encoder), "--quiet").stdout.strip())
    with (made / "03" / "predictions.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["segments"] for row in rows} == {"1"}
    files = [root / row["file"] for row in rows]
    said = json.loads(run("predict", made, *files, "--fold", "03", "--device", "cpu", "--json").stdout)
    for row, answer in zip(rows, said, strict=True):
        found = answer["probabilities"]
        scores = np.exp([float(row[f"log_p:{label}"]) for label in found])
        np.testing.assert_allclose(list(found.values()), scores / scores.sum(), atol=1e-4)
    assert (made / "03" / "last.pt").exists() is False
    again = run("train", "--accept", "counts", "--jobs", "1", *words(encoder), "--dry-run").stdout
    assert again.count("\tdone") == 4


@pytest.mark.parametrize("solver", ["svm", "logistic"])
def test_baselines_are_rows(run: Callable[..., Result], encoder: Path, tmp_path: Path, solver: str) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=4, takes=2)
    run("features", "emodb", root, *words(encoder), "--quiet")
    made = Path(
        run(
            "train", "--accept", "counts", "--jobs", "1", *words(encoder), "--ablation", solver, "--quiet"
        ).stdout.strip()
    )
    assert f"-{solver}-" in made.name
    assert json.loads((made / "03" / "result.json").read_text())["epochs"] == 1


def test_a_baseline_wants_a_linear_head(run: Callable[..., Result], tmp_path: Path) -> None:
    run("features", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=1), "--quiet")
    said = run("train", "--accept", "counts", "--preset", "demo", "--ablation", "svm", "--dry-run", status=1).stderr
    assert "it needs a linear head over whole utterances" in said


def random_rows(size: int = 60, inputs: int = 20, classes: int = 3) -> HeadRows:
    random = np.random.default_rng(0)
    labels = np.resize([0, 0, 1, 2], size)
    made = random.standard_normal((size, inputs)) + 2.0 * np.eye(classes, inputs)[labels]
    made -= made.mean(0)
    return HeadRows(torch.from_numpy(made), torch.from_numpy(labels), torch.arange(size))


def test_ridge_is_that_of_scikit_learn_with_classes_of_equal_weight() -> None:
    rows = random_rows()
    labels, inputs = rows.labels.numpy(), rows.inputs.numpy()
    share = 1 / np.bincount(labels)[labels]
    share /= share.sum()
    theirs = Ridge(alpha=2.0 * inputs.shape[1] / len(labels), fit_intercept=False)
    theirs.fit(inputs, np.eye(3)[labels] - 1 / 3, sample_weight=share)
    weights, bias = ridge(rows, 3, Train(ridge=2.0))
    np.testing.assert_allclose(weights.numpy().T, theirs.coef_, atol=1e-9)
    assert not bias.any()


@pytest.mark.parametrize("solver", sorted(HEADS))
def test_a_linear_head_learns_what_can_be_learned(solver: str) -> None:
    rows = random_rows(size=120)
    weights, bias = HEADS[solver](rows, 3, Train(solver=solver), [str(row % 6) for row in range(120)])
    right = (rows.inputs @ weights + bias).argmax(1) == rows.labels
    assert right.float().mean() > 0.8


def test_a_class_that_no_training_row_has_is_never_predicted() -> None:
    rows = random_rows()
    two = rows.labels < 2
    some = HeadRows(rows.inputs[two], rows.labels[two], rows.utterances[two])
    for solver in ("svm", "logistic"):
        weights, bias = HEADS[solver](some, 3, Train(solver=solver), [str(row % 6) for row in range(60)])
        found = (rows.inputs @ weights + bias).argmax(1)
        assert set(found.tolist()) == {0, 1}
        assert (found[two] == some.labels).float().mean() > 0.8


def test_silence_has_statistics(encoder: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "silent.wav", np.zeros(100))
    assert np.isfinite(maker(encoder).of([np.zeros(100, np.float32)])).all()
