"""Checkpoints of a fold: the weights of its best epoch, and the state from which a stopped fold resumes.

An epoch's state is copied from the device and written in the background while the next epoch is trained. Epochs that
are shorter than `WRITE_SECONDS` are not all written, so that a killed process loses a few seconds of training.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from xxhash import xxh3_128

from ser_pipeline.config import Config
from ser_pipeline.entry import file_digest, read_json, write_text, writing
from ser_pipeline.runs import layout
from ser_pipeline.training.step import Step
from ser_pipeline.training.trackers import log_epochs

CHECKSUM, WEIGHTS_DIGEST = "checksum", "weights_digest"
"""Keys of a state with the digest of the state itself, and of the file of the best weights."""

DRAWN = "drawn"
"""Key of a state with the way in which augmentation draws random changes; if absent, batch by batch."""

WRITE_SECONDS = 5.0
"""Seconds of training that a killed process may lose, in addition to the current epoch."""

TOLD_SECONDS = 0.25
"""Minimum seconds between two writes of the history, from which progress is read."""

Record = dict[str, Any]

MONITORS: Mapping[str, Callable[[Record], float]] = {
    "ua": lambda record: float(record["ua"]),
    "wa": lambda record: float(record["wa"]),
    "wa+ua": lambda record: float(record["wa"] + record["ua"]),
    "ccc": lambda record: float(record["ccc"]),
    "loss": lambda record: -float(record["validation_loss"]),
    "last": lambda record: float(record["epoch"]),
}
"""Value that each `train.monitor` maximises to choose the best epoch."""

log = logging.getLogger(__name__)


@dataclass
class FoldProgress:
    """The epochs of a fold so far, with which a resumed fold continues as if it had never stopped."""

    history: list[Record] = field(default_factory=list)
    best: float = -np.inf
    best_epoch: int = 0

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def add(self, record: Record, monitor: str) -> None:
        """Add an epoch, and note whether it is the best by `monitor`, a key of `MONITORS`."""
        self.history.append(record)
        value = MONITORS[monitor](record)
        if value > self.best:
            self.best, self.best_epoch = value, self.epoch

    def finished(self, config: Config) -> bool:
        """Whether the fold has trained all its epochs, or has run out of patience."""
        return self.epoch >= config.train.epochs or self.epoch - self.best_epoch >= config.train.patience


class Checkpoints:
    """The checkpoint files of a fold, which a background thread writes.

    Args:
        folder: folder of the fold.
        trackers: names of trackers that also log the epochs.
    """

    def __init__(self, folder: Path, trackers: Sequence[str] = ()) -> None:
        self.folder = folder
        self.trackers = trackers
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._best: dict[str, Tensor] | None = None  # the best weights, until they are written
        self._written = time.monotonic()
        self._told = 0.0
        self._state = self._intact()

    @property
    def begun(self) -> bool:
        """Whether there is an intact checkpoint to resume from."""
        return self._state is not None

    def require_drawn(self, how: str | None) -> None:
        """Discard the checkpoint if its epochs were trained with random changes drawn in another way.

        Args:
            how: the required value of `DRAWN` in the state.
        """
        if self._state is not None and self._state.get(DRAWN) != how:
            file = self.folder / layout.STATE
            log.warning("%s has random changes of another kind, as of an earlier version: the fold starts again", file)
            self._begin_anew()

    def best(self, progress: FoldProgress) -> Path:
        """Return the file with the weights of the best epoch; it has its final name once the fold has been tested."""
        return self._best_file(progress.best_epoch)

    def _best_file(self, epoch: int) -> Path:
        file = self.folder / _weights(epoch)
        return file if file.exists() else self.folder / layout.WEIGHTS

    def save(self, progress: FoldProgress, step: Step, *, last: bool) -> None:
        """Save the epoch: its weights if they are the best so far, and the state from which a fold resumes.

        Before the `last` epoch, the files are written at most once every `WRITE_SECONDS`. Until then, a copy of the
        best weights stays on the device.

        Args:
            progress: the epochs so far.
            step: has the weights and the state of the optimiser.
            last: whether this is the last epoch.
        """
        improved = progress.best_epoch == progress.epoch
        if not last and time.monotonic() - self._written < WRITE_SECONDS:
            if improved:
                self._best = {name: tensor.clone() for name, tensor in step.evaluated.state_dict().items()}
            if time.monotonic() - self._told >= TOLD_SECONDS:
                self._write_history(progress.history)
                self._told = time.monotonic()
            return
        weights = step.evaluated.state_dict() if improved else self._best
        state = {
            **step.state(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "history": list(progress.history),
            "best": progress.best,
            "best_epoch": progress.best_epoch,
        }
        self.wait()  # for the write of the previous epoch, so that memory holds one copy
        self._pending = self._thread.submit(self._write, _copied(state), _copied(weights))
        self._best = None
        self._written = time.monotonic()

    def keep(self, progress: FoldProgress, model: nn.Module) -> None:
        """Write the weights and the history of a model that was solved in closed form or by scikit-learn."""
        with writing(self.folder / _weights(progress.best_epoch)) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
        self._write_history(progress.history)
        self.close()

    def solved(self) -> FoldProgress:
        """Return the progress of a model that is solved rather than trained: finished, or not started."""
        file = self.folder / layout.HISTORY
        if not (file.exists() and (self.folder / _weights(1)).exists()):
            return FoldProgress()
        try:
            history = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
            load_file(self.folder / _weights(1))
        except (ValueError, OSError, SafetensorError):
            log.warning("%s is damaged: the fold starts again", self.folder)
            return FoldProgress()
        self.close()
        return FoldProgress(history, 1.0, 1)

    def resume(self, step: Step) -> FoldProgress:
        """Restore the state of a stopped fold and return its progress; without a checkpoint, return a new one."""
        state, self._state = self._state, None
        if state is None:
            return FoldProgress()
        step.restore(state)
        torch.set_rng_state(state["random"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
        return FoldProgress(state["history"], state["best"], state["best_epoch"])

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            PipelineError: the files could not be written.
        """
        if self._pending is not None:
            self._pending.result()

    def close(self) -> None:
        """Finish all writes and end the background thread."""
        self._thread.shutdown()

    def _intact(self) -> dict[str, Any] | None:
        """Read the state of the last saved epoch; None if there is none, or if it was damaged and is now removed."""
        file = self.folder / layout.STATE
        if not file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            wanted = state.pop(CHECKSUM)
            intact = _checksum(state) == wanted
            intact = intact and file_digest(self._best_file(state["best_epoch"])) == state[WEIGHTS_DIGEST]
            if intact and (self.folder / layout.SPEECH).exists():
                read_json(self.folder / layout.SPEECH)
        except Exception as error:  # torch raises many kinds of errors for a damaged file
            log.debug("%s: %s", file, error)
            intact = False
        if intact:
            return state
        log.warning("%s is damaged, or from another version: the fold starts again", file)
        self._begin_anew()
        return None

    def _begin_anew(self) -> None:
        """Remove all saved epochs."""
        self._state = None
        names = (layout.STATE, layout.SPEECH, layout.WEIGHTS)
        for old in (*(self.folder / name for name in names), *self.folder.glob("epoch-*.safetensors")):
            old.unlink(missing_ok=True)

    def _write(self, state: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        history = state["history"]
        if weights is not None:
            with writing(self.folder / _weights(state["best_epoch"])) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
        log_epochs(self.trackers, self.folder, history)
        kept = {**state, WEIGHTS_DIGEST: file_digest(self.folder / _weights(state["best_epoch"]))}
        with writing(self.folder / layout.STATE) as temporary, temporary.open("wb") as stream:
            torch.save({**kept, CHECKSUM: _checksum(kept)}, stream)  # given a path, torch hides the cause of an error
        self._write_history(history)
        for old in self.folder.glob("epoch-*.safetensors"):
            if old.name != _weights(state["best_epoch"]):
                old.unlink()

    def _write_history(self, history: list[Record]) -> None:
        """Write the history for the progress bar and the report; unflushed, since the state contains it as well."""
        text = "".join(json.dumps(record) + "\n" for record in history)
        write_text(self.folder / layout.HISTORY, text, flush=False)


def spare(folder: Path) -> list[str]:
    """Return the names of the files that a finished fold no longer needs."""
    return [layout.STATE, *(file.name for file in folder.glob("epoch-*.safetensors"))]


def _weights(epoch: int) -> str:
    return f"epoch-{epoch}.safetensors"


def _checksum(value: Any) -> str:
    """Hash nested dictionaries and lists, with the type, shape and bytes of each tensor; 32 hex digits."""
    found = xxh3_128()
    _add(found, value)
    return found.hexdigest()


def _add(found: xxh3_128, value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            found.update(f"{key!r}:".encode())
            _add(found, part)
    elif isinstance(value, list | tuple):
        found.update(f"{len(value)}[".encode())
        for part in value:
            _add(found, part)
    else:
        found.update(repr(value).encode())


def _copied(value: Any) -> Any:
    """Copy nested dictionaries and lists, with every tensor on the CPU, so that later steps do not change them."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
