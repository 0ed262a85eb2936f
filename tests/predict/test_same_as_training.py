"""A run predicts for its corpus's own files what it stored in training, in any batch and by any interface."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.predict.predictor import Predictor

Asked = Callable[..., Predictor]


def stored(run: Path, corpus: Path, fold: str) -> dict[Path, np.ndarray]:
    """Return the files of a fold's test speaker with the probabilities stored in training."""
    with (run / fold / "predictions.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    labels = [name for name in rows[0] if name.startswith("log_p:")]
    scores = np.exp([[float(row[name]) for name in labels] for row in rows])
    files = [corpus / row["file"] for row in rows]
    return dict(zip(files, scores / scores.sum(1, keepdims=True), strict=True))


def shares(answers: list[Answer | Unanswered]) -> np.ndarray:
    assert all(isinstance(answer, Answer) for answer in answers)
    return np.array([list(answer.probabilities.values()) for answer in answers])


def test_predictions_of_own_files_are_those_of_training(trained: Path, asked: Asked, corpus: Path) -> None:
    for fold in ("03", "04", "05"):
        expected, model = stored(trained, corpus, fold), asked(fold)
        files = list(expected)
        random.Random(fold).shuffle(files)
        found = shares(list(model.each(files)))
        np.testing.assert_allclose(found, [expected[file] for file in files], atol=2e-6)  # six decimals are stored
        for file in files[:3]:
            alone = shares([model(file)])[0]
            np.testing.assert_allclose(alone, expected[file], atol=2e-6)
            (window,) = model.timeline(file, window=60.0)
            assert (window.start, window.probabilities) == (0.0, model(file).probabilities)


@pytest.mark.parametrize("size", [1, 3])
def test_answers_do_not_depend_on_the_batch(
    trained: Path, asked: Asked, corpus: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, model = sorted(corpus.rglob("*.wav"))[:6], asked()
    together = shares(list(model.each(files)))
    monkeypatch.setattr("ser_pipeline.predict.models.MANY", size)
    monkeypatch.setattr("ser_pipeline.predict.front.TOGETHER", 0.0)
    np.testing.assert_allclose(shares(list(asked().each(files))), together, atol=1e-6)


def test_models_that_do_not_fit_together_are_asked_in_turn(
    asked: Asked, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, model, checked = sorted(corpus.rglob("*.wav"))[:5], asked(), list[str]()
    monkeypatch.setattr("ser_pipeline.predict.models.RESIDENT", 0)
    monkeypatch.setattr(
        "ser_pipeline.predict.models.require_digest", lambda file, digests: checked.append(file.parent.name)
    )
    one_by_one = asked()
    assert len(model.scorer.models) == 3 and len(one_by_one.scorer.models) == 1  # type: ignore[attr-defined]
    assert list(model.each(files)) == list(one_by_one.each(files)) == list(one_by_one.each(files))
    assert sorted(checked) == ["03", "04", "05"], "each file once, though its weights are read in every round"


def test_what_models_learned_from_is_known_by_its_content(asked: Asked, corpus: Path, tmp_path: Path) -> None:
    file = next(corpus.rglob("03a01*.wav"))
    renamed = tmp_path / "someone.wav"
    renamed.write_bytes(file.read_bytes())
    changed = tmp_path / file.name
    changed.write_bytes(file.read_bytes() + b"LIST\x04\0\0\0more")
    everyone, its_own, another = asked(), asked("03"), asked("04")
    assert everyone(renamed).left_out_by == everyone(file.read_bytes()).left_out_by == "03"
    assert everyone(renamed).note == "seen in training, except by fold 03"
    assert everyone(changed).note == its_own(renamed).note == ""
    assert another(renamed).left_out_by == "03"


def test_the_folds_differ_by_their_spread(asked: Asked, corpus: Path) -> None:
    file = next(corpus.rglob("*.wav"))
    answer = asked()(file)
    each = [asked(fold)(file) for fold in ("03", "04", "05")]
    own = [one.probabilities[answer.emotion or ""] for one in each]
    assert answer.spread == pytest.approx(np.std(own), abs=1e-6)
    assert [one.spread for one in each] == [None] * 3
    scores = np.log([list(one.probabilities.values()) for one in each]).mean(0)
    np.testing.assert_allclose(shares([answer])[0], np.exp(scores) / np.exp(scores).sum(), atol=1e-6)
