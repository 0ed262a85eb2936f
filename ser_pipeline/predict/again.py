"""Check of a run's predictions, recomputed from its weights and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.catalogue import FeatureSet, Sources, features_root
from ser_pipeline.config import Config, loads
from ser_pipeline.corpora.ratings import CENTRED, moved_to
from ser_pipeline.device import autocasting, fixed_threads, pick_device
from ser_pipeline.entry import Entry, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.predict.models import all_models
from ser_pipeline.runs import layout
from ser_pipeline.runs.reading import read_predictions
from ser_pipeline.runs.records import read_text
from ser_pipeline.runs.shapes import RunFile, read_run_file
from ser_pipeline.runs.verifying import RunCheck
from ser_pipeline.splits.folds import Fold
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.distributed import World
from ser_pipeline.training.scoring import Forward
from ser_pipeline.training.workers import FoldJob, QueueOptions, data_of

LIMITS = {"fp32": 1e-5, "bf16": 0.05}
"""Largest allowed difference of a log-score or attribute, absolute up to 1 and relative above, by arithmetic.

Predictions are written with six decimals, and another device or CPU adds float32 numbers in another order. bf16 has
8 bits of precision, and the errors of a model's many layers add up.
"""


def predicted_again(
    run: Path, cache: Path, device: str = "auto", progress: Callable[[int, int], None] = lambda done, total: None
) -> RunCheck:
    """Check that the weights of a run reproduce its predictions for the test utterances of all folds.

    Args:
        run: folder of a finished run.
        cache: folder of the features.
        device: the device of the models.
        progress: called with the number of finished folds, and of all.
    """
    name = "predictions from the weights"
    try:
        said = read_run_file(run)
        config = loads(read_text(run / layout.CONFIG), f"{run.name}/{layout.CONFIG}")
        sources = _sources(run, said, cache)
        worst = dict[str, float]()
        for fold in said.folds:
            progress(len(worst), len(said.folds))
            worst[fold] = _difference(run / fold, said, config, sources, device)
    except PipelineError as error:
        return RunCheck(name, str(error))
    fold = max(worst, key=lambda fold: worst[fold])
    found = f"largest difference of a score {worst[fold]:.1e}, in fold {fold}"
    wrong = not worst[fold] <= LIMITS.get(config.train.precision, LIMITS["bf16"])
    return RunCheck(name, found if wrong else "", found)


def _sources(run: Path, said: RunFile, cache: Path) -> Sources:
    """Find the features of a run in the cache.

    Raises:
        PipelineError: they are not in the cache.
    """
    made = read_json(run / "index.json").get("inputs", {})
    folders = [features_root(cache) / name for name in said.features.split("+")]
    missing = [folder for folder in folders if not (folder / "index.json").is_file()]
    if missing:
        raise PipelineError(f"its features {missing[0].name} are not in {cache}; choose another folder with --cache")
    sets = tuple(FeatureSet(folder.name.rpartition("-")[0], folder, folder) for folder in folders)
    classes = tuple((name, tuple(labels)) for name, labels in made.get("classes", {}).items())
    return Sources(sets, bool(said.test_corpus), classes)


def _difference(folder: Path, said: RunFile, config: Config, sources: Sources, device: str) -> float:
    """Return the largest difference between a fold's stored predictions and the recomputed ones."""
    place = pick_device(device)
    row = TARGETS[config.train.target]
    written = read_predictions(folder / layout.PREDICTIONS, said.labels, row)
    nobody = np.empty(0, np.int64)
    fold = Fold(folder.name, nobody, nobody, nobody)
    options = QueueOptions(jobs=1, stack=False)
    with fixed_threads(config.train.threads):
        data, source = data_of(FoldJob(Entry(folder, {}), fold, config, sources, (str(place),), options), str(place))
        rows = _rows(written.ids, [one.id for one in data.manifest.utterances])
        (model,) = all_models([folder], config, len(said.labels), place)
        autocast = autocasting(config, place)
        context = FoldContext(fold, data, source, config, place, World(), autocast)
        scores = context.score(Forward(model, autocast), rows)
    position, worst = np.repeat(np.arange(len(rows)), data.manifest.counts[rows]), [0.0]
    if row.classes:
        worst.append(_apart(scores.utterances(position, len(rows)), written.log_prob))
    if written.attributes is not None:
        again = moved_to(data.manifest.scale, scores.attributes(position, len(rows)), CENTRED)
        worst.append(_apart(again, written.attributes[1]))
    return max(worst)


def _apart(again: Array, written: Array) -> float:
    """Return the largest difference, absolute for values up to 1 and relative above."""
    return float((np.abs(again - written) / np.maximum(1, np.abs(written))).max())


def _rows(ids: Sequence[str], there: Sequence[str]) -> Rows:
    """Return the rows of `ids` in the manifest.

    Raises:
        PipelineError: an id is missing.
    """
    row = {name: number for number, name in enumerate(there)}
    missing = [name for name in ids if name not in row]
    if missing:
        raise PipelineError(f"its features have no utterance {missing[0]}")
    return np.array([row[name] for name in ids], np.int64)
