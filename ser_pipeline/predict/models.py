"""The models of a run's folds as one function of rows, in memory together or one after the other.

Legend of shapes: F folds, S segments, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_pipeline.config import Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.device import batches_beside, free_memory, precision
from ser_pipeline.entry import require_digest
from ser_pipeline.errors import PipelineError
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.ensemble import Ensemble
from ser_pipeline.model.kept import read_weights, require_shared, shared_file
from ser_pipeline.predict.device_rows import fetched, on_device
from ser_pipeline.predict.graphs import Graphed
from ser_pipeline.runs import layout
from ser_pipeline.runs.shapes import IndexFile, read_shape
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.objective import outputs_of, split

RESIDENT = 1 << 29
"""Bytes of weights up to which all folds' models are kept in memory on a processor; more are read one by one."""

LARGE = 20_000_000
"""Weights of a model from which on it is given few segments at a time on a processor."""

FEW, MANY = 1, 8
"""Segments that a large and a small model compute at a time on a processor."""

SEVERAL = 4
"""Batches of a small model that are given at a time on a processor, so that they are of segments of similar length."""

ON_GPU = 128, 256
"""The same on a GPU."""

AHEAD = 2
"""Batches that a GPU is given before the first is waited for."""

PRECISIONS = ("auto", "fp32", "bf16")
"""Arithmetic in which models may be asked."""

ROUND = 256
"""Segments that are asked of one model before the next one's weights are read in its place."""


_TURN = Lock()
"""Held while the weights of a single model change."""


@dataclass(frozen=True)
class FoldModels:
    """The models of a run's folds, or of an exported folder."""

    models: tuple[SpeechEmotionModel, ...]
    device: torch.device
    half: bool = False  # whether they compute in bf16
    folders: tuple[Path, ...] = ()  # folds whose weights the single model takes in turn; none: all models are there
    target: str = "class"  # what they tell
    classes: int = 0  # C, of account where they tell attributes too

    @property
    def size(self) -> int:
        """Segments that are best given at a time."""
        several = SEVERAL if self.device.type == "cpu" and not is_large(self.models[0]) else 1
        return ROUND if self.folders else several * self._batch

    @property
    def _batch(self) -> int:
        few, many = (FEW, MANY) if self.device.type == "cpu" else ON_GPU
        return few if is_large(self.models[0]) else many

    @property
    def ahead(self) -> int:
        """Batches that are best begun before the first of them is waited for."""
        return AHEAD if self.device.type == "cuda" else 0

    @cached_property
    def _ensemble(self) -> Ensemble:
        return Ensemble(self.models)

    @cached_property
    def _graphed(self) -> Graphed:
        return Graphed(self.models, self._batch, half=self.half, forward=self._forward)

    def __call__(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-probabilities and attributes (F, S, C + A); as `asking.Scorer`."""
        return self.begin(rows, samples)()

    @torch.inference_mode()
    def begin(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> Callable[[], NDArray[np.float32]]:
        """Begin with what a call does; what it returns waits for the device.

        Args:
            rows: name of an input -> its rows (S, ...), arrays or tensors.
            samples: (S,) real samples of each segment.
        """
        given = {name: x if isinstance(x, Tensor) else on_device(x, self.device) for name, x in rows.items()}
        real = on_device(samples, self.device)
        nothing = torch.zeros_like(real)
        batch = Batch(given, real, nothing, nothing)
        with _TURN if self.folders else nullcontext():
            found = torch.cat([self._outputs(some, batch) for some in self._each()])
        return fetched(found)

    def _each(self) -> Iterator[Ensemble]:
        """All models together, or one after the other."""
        if not self.folders:
            yield self._ensemble
        for folder in self.folders:
            yield Ensemble([_with_weights(self.models[0], folder)])

    def _outputs(self, ensemble: Ensemble, batch: Batch) -> Tensor:
        """Log-probabilities and attributes (F, S, C + A) on the device."""
        if self.device.type == "cpu" and not self.half and ensemble.needs_no_silence:
            return self._without_silence(ensemble, batch)
        size = self._batch
        parts = [batch.part(slice(first, first + size)) for first in range(0, len(batch), size)]
        return torch.cat([self._of_batch(ensemble, part) for part in parts], 1)

    def _of_batch(self, ensemble: Ensemble, batch: Batch) -> Tensor:
        if self.device.type == "cuda" and self._graphed.takes(len(batch)):
            with torch.cuda.device(self.device):
                return self._graphed(batch)
        return self._forward(ensemble, batch)

    def _without_silence(self, ensemble: Ensemble, batch: Batch) -> Tensor:
        """The same by segments of similar length, as many batches at a time as there are cores."""
        order = batch.samples.argsort(stable=True)

        @torch.inference_mode()
        def outputs(rows: Tensor) -> Tensor:
            return self._told(ensemble.cut(batch.map(lambda column: column[rows])))

        with batches_beside(self.device) as threads:
            found = torch.cat(list(threads.map(outputs, torch.split(order, self._batch))), 1)
        return found[:, order.argsort()]

    def _forward(self, ensemble: Ensemble, batch: Batch) -> Tensor:
        with self._arithmetic():
            logits = ensemble(batch).float()
        return self._told(logits)

    def _told(self, logits: Tensor) -> Tensor:
        log_prob, attributes = split(logits, self.classes or logits.shape[-1], TARGETS[self.target])
        return log_prob if attributes is None else torch.cat([log_prob, attributes], -1)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.half:
            return torch.autocast(self.device.type, torch.bfloat16)
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False)
        return exact if self.device.type == "cuda" else nullcontext()


def is_large(model: nn.Module) -> bool:
    """Whether a model has so many weights that it is given little at a time on a processor."""
    return sum(weights.numel() for weights in model.parameters()) > LARGE


def in_half(wanted: str, config: Config, device: torch.device) -> bool:
    """Whether models are asked in bf16: for "auto", where they were trained in it and the device is faster in it.

    Args:
        wanted: "auto", "fp32" or "bf16".
        config: of the run.
        device: on which they are asked.

    Raises:
        PipelineError: another word.
    """
    if wanted not in PRECISIONS:
        raise PipelineError(f"precision is one of {', '.join(PRECISIONS)}, not {wanted}")
    if wanted == "auto":
        return config.train.precision == "bf16" and precision("auto", device) == "bf16"
    return wanted == "bf16"


def open_models(
    folders: Sequence[Path], config: Config, classes: int, device: torch.device, wanted: str = "auto"
) -> FoldModels:
    """The models of whole folds, ready to be asked: all at once where they fit into memory, else in turn.

    Args:
        folders: of the folds.
        config: of the run.
        classes: how many.
        device: on which they are asked.
        wanted: as `in_half` takes it.
    """
    half = in_half(wanted, config, device)
    size = _size(folders)
    if len(folders) > 1 and size > _room(device):
        model = _built(folders[0], config, classes).to(device).eval().requires_grad_(False)
        for folder in folders:
            _require_weights(folder)
        return FoldModels((model,), device, half, tuple(folders), config.train.target, classes)
    models = all_models(folders, config, classes, device)
    return FoldModels(models, device, half, (), config.train.target, classes)


def all_models(
    folders: Sequence[Path], config: Config, classes: int, device: torch.device
) -> tuple[SpeechEmotionModel, ...]:
    """The models of whole folds in evaluation mode, each in memory.

    Args:
        folders: of the folds.
        config: of the run.
        classes: how many.
        device: where they are.
    """
    first = _built(folders[0], config, classes).to(device).eval().requires_grad_(False)
    for folder in folders:
        _require_weights(folder)
    # On a processor weights are exchanged for those in the files; until then the models may share them.
    alike = {id(one): one for one in first.parameters()} if _mapped(first) else {}
    several = [first, *(copy.deepcopy(first, dict(alike)) for _ in folders[1:])]
    return tuple(_with_weights(model, folder) for model, folder in zip(several, folders, strict=True))


def _size(folders: Sequence[Path]) -> int:
    """Bytes of the weights of folds, what they share counted once."""
    found = dict[Path, int]()
    for folder in folders:
        with _naming(folder):
            for file in (folder / layout.WEIGHTS, shared_file(folder)):
                found |= {file: file.stat().st_size} if file else {}
    return sum(found.values())


def _room(device: torch.device) -> int:
    """Bytes of weights that may be kept at a time."""
    return int(torch.cuda.mem_get_info(device)[0] // 2) if device.type == "cuda" else RESIDENT


def _require_weights(folder: Path) -> None:
    """Refuse the weights of a fold that are not those that training wrote: once, however often they are read."""
    with _naming(folder):
        require_digest(folder / layout.WEIGHTS, read_shape(folder / "index.json", IndexFile).files)
        require_shared(folder)


def _with_weights(model: SpeechEmotionModel, folder: Path) -> SpeechEmotionModel:
    """The model with the weights of a fold; on a processor they stay in their file, which is mapped into memory."""
    with _naming(folder):
        model.load_state_dict(read_weights(folder), assign=_mapped(model))
    free_memory()
    return model


def _mapped(model: SpeechEmotionModel) -> bool:
    """Whether weights stay in their files, which are mapped into memory."""
    return next(model.parameters()).device.type == "cpu"


def _built(fold: Path, config: Config, classes: int) -> SpeechEmotionModel:
    with _naming(fold):
        speech = read_shape(fold / layout.SPEECH, dict[str, Any]) if (fold / layout.SPEECH).exists() else None
        return build_model(
            config.model,
            audio=config.model_audio,
            features=config.features,
            classes=outputs_of(config.train.target, classes),
            pretrained=False,
            speech_settings=speech,
        )


@contextmanager
def _naming(fold: Path) -> Iterator[None]:
    """Say which fold cannot be asked: libraries raise a dozen kinds for weights and settings of another shape.

    Raises:
        PipelineError: for whatever is raised in the block.
    """
    try:
        yield
    except Exception as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise PipelineError(
            f"fold {fold.name} of {fold.parent} cannot be asked ({said}); copy the run again, or ask others with --fold"
        ) from None
