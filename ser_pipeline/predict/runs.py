"""Opening of a trained run or a model folder for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ser_pipeline.config import Config
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.folder import Members, read_members
from ser_pipeline.export.names import is_model_folder
from ser_pipeline.features.frozen import MAKERS, Maker
from ser_pipeline.features.rendering import WAVEFORM, Renderer, Rendering
from ser_pipeline.features.stores import FROZEN, rendered
from ser_pipeline.predict.device_rows import DeviceRows
from ser_pipeline.predict.front import FrontEnd, StoredRows
from ser_pipeline.predict.heading import read_settings
from ser_pipeline.predict.learned import read_learned
from ser_pipeline.predict.models import FoldModels, all_models, in_half, open_models
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.runs.shapes import read_run_file
from ser_pipeline.targets import TARGETS


def open_run(run: Path, device: torch.device, folds: Sequence[str] = (), precision: str = "auto") -> Predictor:
    """Open the models of the finished folds of `run`, or of those in `folds`.

    Args:
        run: folder of the run, or a model folder.
        device: device of the models.
        folds: names of folds; () for all finished ones.
        precision: as in `opening.load`.

    Raises:
        PipelineError: the folder is not a run, or a fold is missing or unfinished.
    """
    if is_model_folder(run):
        return of_members(_chosen(read_members(run, device), folds), device, precision)
    labels, settings, asked = read_settings(run, folds)
    folders = tuple(run / name for name in asked)
    models = open_models(folders, settings, len(labels), device, precision)
    told = _classes(labels, settings), _scale(run, settings)
    made = _predictor(*told, settings, asked, _makers(settings, device), models)
    return replace(made, learned=read_learned(run), folders=folders)


def _classes(labels: tuple[str, ...], settings: Config) -> tuple[str, ...]:
    """Return the classes that models predict; () if they predict only attributes."""
    return labels if TARGETS[settings.train.target].classes else ()


def _scale(run: Path, settings: Config) -> tuple[float, ...]:
    """Return the ends of the scale of a run's attributes; () if it has none.

    Raises:
        PipelineError: the scale is missing.
    """
    if not TARGETS[settings.train.target].attributes:
        return ()
    scale = tuple(read_run_file(run).scale)
    if len(scale) != 2:
        raise PipelineError(f"{run} lacks the scale of its attributes; copy the run again")
    return scale


def run_members(run: Path, device: torch.device, folds: Sequence[str] = ()) -> Members:
    """Load the models of a run, or of its folds in `folds`, into memory, for an export.

    Args:
        run: folder of the run.
        device: device of the models.
        folds: names of folds; () for all finished ones.

    Raises:
        PipelineError: the folder is not a run, or a fold is missing or unfinished.
    """
    labels, settings, asked = read_settings(run, folds)
    models = all_models([run / name for name in asked], settings, len(labels), device)
    told = _classes(labels, settings)
    return Members(told, settings, asked, models, _makers(settings, device), _scale(run, settings))


def of_members(members: Members, device: torch.device, precision: str = "auto") -> Predictor:
    """Return models in memory as a function of recordings.

    Args:
        members: the models.
        device: device of the models.
        precision: as in `opening.load`.
    """
    half, target = in_half(precision, members.config, device), members.config.train.target
    models = FoldModels(members.models, device, half, target=target, classes=len(members.labels))
    return _predictor(members.labels, members.scale, members.config, members.folds, members.makers, models)


def _predictor(
    labels: tuple[str, ...],
    scale: tuple[float, ...],
    settings: Config,
    folds: tuple[str, ...],
    makers: Mapping[str, Maker],
    models: FoldModels,
) -> Predictor:
    window = (settings.audio if settings.model.whole else settings.model_audio).seconds
    return Predictor(
        labels,
        settings.audio.rate,
        window,
        _front(settings, makers, models),
        models,
        folds,
        how=settings.model.utterance_score,
        least=settings.least_samples,
        target=settings.train.target,
        scale=(scale[0], scale[1]) if scale else None,
    )


def _front(settings: Config, makers: Mapping[str, Maker], models: FoldModels) -> FrontEnd:
    """Return the front end: the one of training, or one on the device, which rounds differently."""
    made = rendered(settings.model.reads, settings)
    alone = StoredRows(settings, makers)
    if made:
        alone = replace(alone, rendering=_rendering(made, settings, models.device), rendered=made)
    there = rendered(settings.model.reads, replace(settings, store="waveform"))
    could = not settings.model.whole and {*there, WAVEFORM} >= {*settings.model.reads}
    if models.device.type != "cuda" or not could or not (models.half or made == there):
        return alone
    rendering = _rendering(there, settings, models.device)
    return DeviceRows(replace(alone, rendering=rendering, rendered=there), rendering)


def _rendering(names: tuple[str, ...], settings: Config, device: torch.device) -> Rendering:
    return Renderer(names, settings.model_audio, settings.features).on(device)


def _chosen(members: Members, folds: Sequence[str]) -> Members:
    """Select the models of `folds`; all if it is empty.

    Raises:
        PipelineError: a fold is missing.
    """
    missing = [name for name in folds if name not in members.folds]
    if missing:
        raise PipelineError(f"the folder has no fold {', '.join(missing)}; it has {', '.join(members.folds)}")
    asked = tuple(folds) or members.folds
    models = tuple(members.models[members.folds.index(name)] for name in asked)
    return replace(members, folds=asked, models=models)


def _makers(settings: Config, device: torch.device) -> dict[str, Maker]:
    """Load the frozen speech encoders of the run's features.

    Raises:
        PipelineError: an encoder is not available, or its weights have changed.
    """
    makers = {name: MAKERS[name](_undrawn(settings), device) for name in FROZEN if name in settings.model.reads}
    for name, maker in makers.items():
        wanted = getattr(settings.features, name)
        if maker.content != wanted.content:
            raise PipelineError(f"the weights of {wanted.encoder} differ from those that computed the run's {name}")
    return makers


def _undrawn(settings: Config) -> Config:
    """Return `settings` without augmented copies, which only training needs."""
    features = settings.features
    return replace(settings, features=replace(features, statistics=replace(features.statistics, draws=0)))
