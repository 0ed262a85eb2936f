"""Rows of recordings that are too long to be computed at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ser_pipeline
from ser_pipeline.config import Config
from ser_pipeline.predict import front
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.front import Piece, StoredRows
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.recordings import Decoded, Opened, Track
from support.sounds import tone

RATE = 16_000


def excerpt(samples: np.ndarray) -> Excerpt:
    track = Track(Decoded([samples.astype(np.float32)]), None)
    return Excerpt(Opened("a", "", (track,)), track, 0, len(samples))


def joined(pieces: Iterator[tuple[Excerpt, Piece]]) -> tuple[dict[str, np.ndarray], list[int], int]:
    found = [piece for _, piece in pieces]
    assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True]
    rows = {name: np.concatenate([piece.rows[name] for piece in found]) for name in found[0].rows}
    return rows, np.concatenate([piece.samples for piece in found]).tolist(), len(found)


@pytest.mark.parametrize("overrides", [[], ["model.segments=2", "features.mfcc.deltas=2"]])
@pytest.mark.parametrize("seconds", [96.0, 97.3])
def test_rows_in_parts_are_those_of_the_whole(
    overrides: list[str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Config = ser_pipeline.load_config("paper", None, overrides)
    samples = tone(3, seconds, 200)
    samples[50 * RATE : 60 * RATE] *= 8  # all rows are relative to this part
    rows, real, one = joined(StoredRows(config)([excerpt(samples)]))
    monkeypatch.setattr(front, "LONGEST", 20.0)
    parts, also, several = joined(StoredRows(config)([excerpt(samples)]))
    assert one == 1 and several > 1 and also == real
    for name, whole in rows.items():
        assert parts[name].dtype == whole.dtype and parts[name].shape == whole.shape
        np.testing.assert_allclose(
            parts[name].astype(float), whole.astype(float), atol=0.0 if name == "waveform" else 1
        )
        assert (parts[name] != whole).mean() < 1e-3


def test_an_answer_in_parts_is_that_of_the_whole(segments_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Predictor = ser_pipeline.load(segments_run, "cpu")
    samples = tone(4, 100.0, 150)
    whole = model(samples, RATE)
    monkeypatch.setattr(front, "LONGEST", 10.0)
    parts = model(samples, RATE)
    np.testing.assert_allclose(list(parts.probabilities.values()), list(whole.probabilities.values()), atol=1e-4)


def test_no_more_than_a_part_is_asked_for_at_a_time(asked: object, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Predictor = asked()  # type: ignore[operator]
    monkeypatch.setattr(front, "LONGEST", 10.0)
    monkeypatch.setattr(front, "TOGETHER", 10.0)
    largest = [0]
    read = Decoded.read

    def watched(self: Decoded, first: int, last: int) -> np.ndarray:
        largest[0] = max(largest[0], last - first)
        return read(self, first, last)

    monkeypatch.setattr(Decoded, "read", watched)
    answer = model(tone(5, 300.0, 150), RATE)
    assert answer.end == 300.0
    assert largest[0] <= max(16 * 2 * 3, 17) * RATE  # 16 segments of 6 s, or one block
