"""The models of a run's folds as one function of rows, in memory together or one after the other.

Shapes: F folds, S segments, C classes, A attributes.
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
from ser_pipeline.model.undrawn import Undrawn
from ser_pipeline.predict.device_rows import fetched, on_device
from ser_pipeline.predict.graphs import Graphed
from ser_pipeline.runs import layout
from ser_pipeline.runs.shapes import IndexFile, read_shape
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.objective import outputs_of, split

RESIDENT = 1 << 29
"""Largest size of all folds' weights in bytes that stays in memory on a CPU; more are read one by one."""

LARGE = 20_000_000
"""Number of weights above which a model is large, and computes few segments at once on a CPU."""

FEW, MANY = 1, 8
"""Segments that a large and a small model compute at once on a CPU."""

SEVERAL = 4
"""Batches of a small model per call on a CPU, which are then sorted into batches of similar length."""

ON_GPU = 128, 256
"""Segments that a large and a small model compute at once on a GPU."""

AHEAD = 2
"""Batches that a GPU gets before the result of the first one is awaited."""

PRECISIONS = ("auto", "fp32", "bf16")
"""Choices of arithmetic."""

ROUND = 256
"""Segments that one model computes before it is replaced by the next one's weights."""


_TURN = Lock()
"""Lock while the weights of a single model change."""


@dataclass(frozen=True)
class FoldModels:
    """The models of a run's folds, or of an exported folder."""

    models: tuple[SpeechEmotionModel, ...]
    device: torch.device
    half: bool = False  # whether they compute in bf16
    folders: tuple[Path, ...] = ()  # folds whose weights a single model loads in turn; () if all models are in memory
    target: str = "class"  # key of `TARGETS`
    classes: int = 0  # C; only used if the target has attributes too

    @property
    def size(self) -> int:
        """Best number of segments per call."""
        several = SEVERAL if self.device.type == "cpu" and not is_large(self.models[0]) else 1
        return ROUND if self.folders else several * self._batch

    @property
    def _batch(self) -> int:
        few, many = (FEW, MANY) if self.device.type == "cpu" else ON_GPU
        return few if is_large(self.models[0]) else many

    @property
    def ahead(self) -> int:
        """Best number of batches to start before waiting for the first one."""
        return AHEAD if self.device.type == "cuda" else 0

    @cached_property
    def _ensemble(self) -> Ensemble:
        return Ensemble(self.models)

    @cached_property
    def _graphed(self) -> Graphed:
        return Graphed(self.models, self._batch, half=self.half, forward=self._forward)

    def __call__(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return log-probabilities and attributes (F, S, C + A), as an `asking.Scorer`."""
        return self.begin(rows, samples)()

    @torch.inference_mode()
    def begin(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> Callable[[], NDArray[np.float32]]:
        """Start a call, and return a function that waits for its result.

        Args:
            rows: rows (S, ...) by input, arrays or tensors.
            samples: number of samples of each segment without padding (S,).
        """
        given = {name: x if isinstance(x, Tensor) else on_device(x, self.device) for name, x in rows.items()}
        real = on_device(samples, self.device)
        nothing = torch.zeros_like(real)
        batch = Batch(given, real, nothing, nothing)
        with _TURN if self.folders else nullcontext():
            found = torch.cat([self._outputs(some, batch) for some in self._each()])
        return fetched(found)

    def _each(self) -> Iterator[Ensemble]:
        """Yield all models together, or one after the other."""
        if not self.folders:
            yield self._ensemble
        for folder in self.folders:
            yield Ensemble([_with_weights(self.models[0], folder)])

    def _outputs(self, ensemble: Ensemble, batch: Batch) -> Tensor:
        """Compute log-probabilities and attributes (F, S, C + A) on the device."""
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
        """Compute the same in batches of segments of similar length without their padding, one batch per core."""
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
    """Whether a model has so many weights that it computes few segments at once on a CPU."""
    return sum(weights.numel() for weights in model.parameters()) > LARGE


def in_half(wanted: str, config: Config, device: torch.device) -> bool:
    """Whether models compute in bf16; for "auto", if they were trained in bf16 and the device is faster in it.

    Args:
        wanted: "auto", "fp32" or "bf16".
        config: settings of the run.
        device: device of the models.

    Raises:
        PipelineError: `wanted` is something else.
    """
    if wanted not in PRECISIONS:
        raise PipelineError(f"precision must be one of {', '.join(PRECISIONS)}, not {wanted}")
    if wanted == "auto":
        return config.train.precision == "bf16" and precision("auto", device) == "bf16"
    return wanted == "bf16"


def open_models(
    folders: Sequence[Path], config: Config, classes: int, device: torch.device, wanted: str = "auto"
) -> FoldModels:
    """Open the models of finished folds: all in memory if they fit, otherwise one after the other.

    Args:
        folders: folders of the folds.
        config: settings of the run.
        classes: C.
        device: device of the models.
        wanted: precision, as in `in_half`.
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
    """Load the models of finished folds in evaluation mode, all in memory.

    Args:
        folders: folders of the folds.
        config: settings of the run.
        classes: C.
        device: device of the models.
    """
    first = _built(folders[0], config, classes).to(device).eval().requires_grad_(False)
    for folder in folders:
        _require_weights(folder)
    # On a CPU the weights are replaced by those mapped from the files, so the models may share them until then.
    alike = {id(one): one for one in first.parameters()} if _mapped(first) else {}
    several = [first, *(copy.deepcopy(first, dict(alike)) for _ in folders[1:])]
    return tuple(_with_weights(model, folder) for model, folder in zip(several, folders, strict=True))


def _size(folders: Sequence[Path]) -> int:
    """Return the size of the folds' weights in bytes, with shared weights counted once."""
    found = dict[Path, int]()
    for folder in folders:
        with _naming(folder):
            for file in (folder / layout.WEIGHTS, shared_file(folder)):
                found |= {file: file.stat().st_size} if file else {}
    return sum(found.values())


def _room(device: torch.device) -> int:
    """Return the largest size of weights in bytes that may stay in memory."""
    return int(torch.cuda.mem_get_info(device)[0] // 2) if device.type == "cuda" else RESIDENT


def _require_weights(folder: Path) -> None:
    """Check that the weights of a fold are those that training wrote; done once, however often they are read."""
    with _naming(folder):
        require_digest(folder / layout.WEIGHTS, read_shape(folder / "index.json", IndexFile).files)
        require_shared(folder)


def _with_weights(model: SpeechEmotionModel, folder: Path) -> SpeechEmotionModel:
    """Load the weights of a fold into the model; on a CPU they are mapped from their file."""
    with _naming(folder):
        model.load_state_dict(read_weights(folder), assign=_mapped(model))
    free_memory()
    return model


def _mapped(model: SpeechEmotionModel) -> bool:
    """Whether weights are mapped from their files."""
    return next(model.parameters()).device.type == "cpu"


def _built(fold: Path, config: Config, classes: int) -> SpeechEmotionModel:
    with _naming(fold), Undrawn():
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
    """Replace any error of the block by one that names the fold; libraries raise many kinds for damaged weights.

    Raises:
        PipelineError: an error was raised in the block.
    """
    try:
        yield
    except Exception as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise PipelineError(
            f"fold {fold.name} of {fold.parent} cannot be loaded ({said}); copy the run again, or use others with "
            "--fold"
        ) from None
