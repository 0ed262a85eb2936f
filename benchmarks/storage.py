"""Size and speed of the shards, compared with a pickle of float32 and with compressed shards."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import Corpus
from benchmarks.table import Row, rounds
from ser_pipeline import audio
from ser_pipeline.cache import shard_writing, shards
from ser_pipeline.config import Config
from ser_pipeline.features.acoustic import FEATURES

Rows = dict[str, list[NDArray[Any]]]

SOME = 60  # files
OURS = "shards, checked"


def measure(corpus: Corpus, place: Path, count: int = 3) -> list[Row]:
    """Rows of the table on writing and reading whole stores."""
    place.mkdir()
    parts = _extract(corpus.first(SOME))
    segments = sum(map(len, parts["mfcc"]))
    float32 = {name: np.concatenate(rows).astype(np.float32) for name, rows in parts.items()}
    ways: dict[str, tuple[Callable[[], object], Callable[[], object], str]] = {
        "pickle of float32, as in the reference": (
            lambda: (place / "all.pkl").write_bytes(pickle.dumps(float32, protocol=4)),
            lambda: pickle.loads((place / "all.pkl").read_bytes()),
            "*.pkl",
        ),
        OURS: (lambda: _write(place / "plain", parts, False), lambda: _read(place / "plain"), "plain*.h5"),
        "shards, compressed": (
            lambda: _write(place / "small", parts, True),
            lambda: _read(place / "small"),
            "small*.h5",
        ),
    }
    written = rounds({name: _all(way[0], segments) for name, way in ways.items()}, count)
    read = rounds({name: _all(way[1], segments) for name, way in ways.items()}, count)
    rows = []
    for name, (_, _, files) in ways.items():
        size = sum(file.stat().st_size for file in place.glob(files)) / segments
        ours = sum(file.stat().st_size for file in place.glob("plain*.h5")) / segments
        rows.append(Row("storage, per segment", f"{name}: size", f"{size / 1000:,.0f} kB", size / ours))
        rows.append(Row("", f"{name}: write", f"{written[name]:,.0f} segments/s", written[OURS] / written[name]))
        rows.append(Row("", f"{name}: read", f"{read[name]:,.0f} segments/s", read[OURS] / read[name]))
    return rows


def _extract(corpus: Corpus) -> Rows:
    config = Config()
    settings = {"mfcc": config.features.mfcc, "spectrogram": config.features.spectrogram, "waveform": None}
    parts: Rows = {name: [] for name in settings}
    for utterance in corpus.utterances:
        samples = audio.decode((corpus.root / utterance.file).read_bytes(), utterance.file, config.audio.rate)
        for name, chosen in settings.items():
            parts[name].append(FEATURES[name].rows(samples, config.audio, chosen))
    return parts


def _write(file: Path, parts: Rows, compress: bool) -> None:
    for name, rows in parts.items():
        keys = [f"{number:032x}" for number in range(len(rows))]
        place = file.with_name(f"{file.name}-{name}.h5")
        shard_writing.write_shard(place, name, {}, keys, rows, extremes=FEATURES[name].extremes, compress=compress)


def _read(file: Path) -> int:
    """Read and verify every row; return the number of bytes."""
    total = 0
    for place in sorted(file.parent.glob(f"{file.name}-*.h5")):
        shard = shards.open_shard(place)
        rows = np.array(shard.rows[:])
        for number, row in enumerate(rows):
            shard.compare(number, row)
        total += rows.nbytes
    return total


def _all(way: Callable[[], object], segments: int) -> Callable[[], float]:
    def timed() -> float:
        way()
        return segments

    return timed
