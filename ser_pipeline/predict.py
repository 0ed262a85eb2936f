"""A trained run and audio files to emotions: every fold's model is asked, and their log-probabilities are averaged."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline import audio, config
from ser_pipeline.audit.corpus import SHORT
from ser_pipeline.audit.sound import QUIET
from ser_pipeline.config import Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import JOIN
from ser_pipeline.device import pick_device
from ser_pipeline.entry import read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.folder import Members, is_model_folder, read_members
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.frozen import MAKERS, Maker
from ser_pipeline.features.stores import FROZEN
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.runs import layout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a run says of one file."""

    file: Path
    emotion: str
    probabilities: dict[str, float]  # class -> 0..1, summing to 1
    left_out_by: str = ""  # for a recording that models asked had learned from: the fold that left it out


@dataclass(frozen=True)
class Predictor:
    """The models of a run's finished folds."""

    labels: tuple[str, ...]
    config: Config
    models: tuple[SpeechEmotionModel, ...]
    device: torch.device
    asked: frozenset[str]  # folds of the models
    tested: Mapping[tuple[str, str], str]  # file name and seconds of the corpus's recordings -> fold
    makers: Mapping[str, Maker] = field(default_factory=dict)  # of the features that a frozen encoder makes

    def __call__(self, file: Path | str) -> Prediction:
        """The emotion of an audio file.

        Raises:
            PipelineError: the file cannot be read.
        """
        file = Path(file)
        samples = _samples(file, self.config.audio.rate)
        seconds = len(samples) / self.config.audio.rate
        if np.abs(samples).max(initial=0) < QUIET or seconds < SHORT:
            what = "silent" if seconds >= SHORT else f"only {seconds:.3f} s long"
            log.warning("%s is %s: what is predicted of it means little", file, what)
        probabilities = self.scores(samples).softmax(0).cpu().tolist()
        named = dict(zip(self.labels, probabilities, strict=True))
        fold = self.tested.get((file.name, f"{seconds:.3f}"), "")
        learned = fold and self.asked != {fold}
        return Prediction(file, max(named, key=lambda name: named[name]), named, fold if learned else "")

    @torch.inference_mode()
    def scores(self, samples: NDArray[np.float32]) -> Tensor:
        """Log-probabilities (C,), the mean over segments and models, of samples (N,) at the models' rate, -1 to 1."""
        batch = self._batch(samples)
        scores = [F.log_softmax(model(batch).logits.float(), dim=-1).mean(0) for model in self.models]
        return torch.stack(scores).mean(0)

    def _batch(self, samples: NDArray[np.float32]) -> Batch:
        """All segments of an utterance as one batch on the device."""
        settings, count = self.config.model_audio, self.config.model_audio.segments(len(samples))
        left = np.clip(len(samples) - np.arange(count) * settings.segment, 0, settings.segment)
        rows = {name: self._rows(name, samples, left) for name in self.config.model.reads}
        nothing = torch.zeros(count, dtype=torch.int64, device=self.device)
        return Batch(rows, torch.from_numpy(left).to(self.device), nothing, nothing)

    def _rows(self, name: str, samples: NDArray[np.float32], left: NDArray[np.int64]) -> Tensor:
        """Rows of a feature on the device; `left` (S,) are the real samples of every segment."""
        settings = self.config.features
        if name in self.makers:
            audio = self.config.audio
            waveforms = FEATURES["waveform"].rows(samples, audio, None)
            real = np.clip(len(samples) - np.arange(len(waveforms)) * audio.segment, 0, audio.segment)
            (rows,) = self.makers[name](waveforms, real, np.array([len(waveforms)]), ["0" * 16])
            return self._joined(name, torch.from_numpy(rows).to(self.device))
        rows = FEATURES[name].rows(samples, self.config.model_audio, getattr(settings, name, None))
        return torch.from_numpy(rows).to(self.device)

    def _joined(self, name: str, rows: Tensor) -> Tensor:
        """Rows of stored segments as those of the segments that the model hears."""
        several = self.config.model.segments
        if several == 1:
            return rows
        missing = rows.new_zeros(-len(rows) % several, *rows.shape[1:])
        return JOIN[INPUTS[name].form](torch.unflatten(torch.cat([rows, missing]), 0, (-1, several)))


def load(run: Path | str, device: str = "auto", folds: Sequence[str] = ()) -> Predictor:
    """A run, or a model folder that `export` wrote, as a function of audio files.

    Args:
        run: the folder.
        device: "cuda", "mps", "cpu"; "auto" takes what is there.
        folds: ask the models of these folds alone; by default all, averaged.

    Raises:
        PipelineError: not a run, or no such finished fold.
    """
    return open_run(Path(run), pick_device(device), folds)


def open_run(run: Path, device: torch.device, folds: Sequence[str] = ()) -> Predictor:
    """The models of the finished folds of `run`, or of those in `folds`.

    Args:
        run: folder of the run, or a model folder.
        device: on which it predicts.
        folds: names; empty: all that are finished.

    Raises:
        PipelineError: not a run, or no such finished fold.
    """
    if is_model_folder(run):
        return _opened(read_members(run, device), device, folds)
    if not (run / layout.RUN).is_file():
        raise PipelineError(f"{run} is not a run; `ser-pipeline train` prints the folders of runs")
    about = read_json(run / layout.RUN)
    settings = config.loads((run / layout.CONFIG).read_text(encoding="utf-8"), str(run / layout.CONFIG))
    finished = [name for name in about["folds"] if (run / name / "index.json").is_file()]
    missing = [name for name in folds if name not in finished]
    if not finished:
        raise PipelineError(f"{run} has no finished fold yet; `ser-pipeline train` goes on with it")
    if missing:
        raise PipelineError(f"{run} has no finished fold {', '.join(missing)}; there are {', '.join(finished)}")
    labels = tuple(about["labels"])
    asked = list(folds or finished)
    models = tuple(_model(run / name, settings, len(labels)).to(device).eval() for name in asked)
    tested = dict(_tested(run, finished))
    return Predictor(labels, settings, models, device, frozenset(asked), tested, _makers(settings, device))


def _opened(members: Members, device: torch.device, folds: Sequence[str]) -> Predictor:
    """The models of a model folder, or those of `folds`.

    Args:
        members: of the folder.
        device: on which they are.
        folds: names; empty: all.

    Raises:
        PipelineError: no such fold.
    """
    missing = [name for name in folds if name not in members.folds]
    if missing:
        raise PipelineError(f"the folder has no fold {', '.join(missing)}; there are {', '.join(members.folds)}")
    models = tuple(
        model for name, model in zip(members.folds, members.models, strict=True) if not folds or name in folds
    )
    asked = frozenset(folds or members.folds)
    return Predictor(members.labels, members.config, models, device, asked, {}, members.makers)


def _tested(run: Path, folds: Iterable[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """File name and seconds of every test recording, with its fold."""
    for fold in folds:
        with suppress(FileNotFoundError), (run / fold / layout.PREDICTIONS).open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                yield (Path(row["file"]).name, row["seconds"]), fold


def _makers(settings: Config, device: torch.device) -> dict[str, Maker]:
    """The frozen speech encoders that the run's features were made with.

    Raises:
        PipelineError: one cannot be had, or its weights are others by now.
    """
    makers = {name: MAKERS[name](_undrawn(settings), device) for name in FROZEN if name in settings.model.reads}
    for name, maker in makers.items():
        wanted = getattr(settings.features, name)
        if maker.content != wanted.content:
            raise PipelineError(f"the weights of {wanted.encoder} are not those that the run's {name} were made with")
    return makers


def _undrawn(settings: Config) -> Config:
    """`settings` without augmented drawings, which only training wants."""
    features = settings.features
    return replace(settings, features=replace(features, statistics=replace(features.statistics, draws=0)))


def _model(fold: Path, settings: Config, classes: int) -> SpeechEmotionModel:
    speech = read_json(fold / layout.SPEECH) if (fold / layout.SPEECH).exists() else None
    model = build_model(
        settings.model,
        audio=settings.model_audio,
        features=settings.features,
        classes=classes,
        pretrained=False,
        speech_settings=speech,
    )
    model.load_state_dict(load_file(fold / layout.WEIGHTS))
    return model


def _samples(file: Path, rate: int) -> NDArray[np.float32]:
    try:
        return audio.decode(file, str(file), rate)
    except OSError as error:
        raise PipelineError(f"cannot read {file}: {error.strerror}") from None
    except PipelineError as error:
        raise PipelineError(str(error).removesuffix(audio.ADVICE)) from None
