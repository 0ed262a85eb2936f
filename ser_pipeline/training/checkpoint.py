"""What a fold keeps of its epochs: the best weights, and all that a stopped one needs to go on.

An epoch is copied from the device at once and written in the background, while the next one is trained. Where epochs
take less time than a disk needs to have them for certain, not every one is written: what a kill costs is seconds.
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
"""What a state holds beside itself: a digest of all of it, and of the file of the best weights."""

DRAWN = "drawn"
"""What a state holds of how its rows were changed at random; without it, batch by batch."""

WRITE_SECONDS = 5.0
"""Seconds of training that a kill may cost, at most, beside the epoch at work."""

TOLD_SECONDS = 0.25
"""Seconds between two writings of the history alone, which progress is read from."""

Record = dict[str, Any]

MONITORS: Mapping[str, Callable[[Record], float]] = {
    "ua": lambda record: float(record["ua"]),
    "wa": lambda record: float(record["wa"]),
    "wa+ua": lambda record: float(record["wa"] + record["ua"]),
    "ccc": lambda record: float(record["ccc"]),
    "loss": lambda record: -float(record["validation_loss"]),
    "last": lambda record: float(record["epoch"]),
}
"""Setting `train.monitor` -> what is largest at the epoch that it chooses."""

log = logging.getLogger(__name__)


@dataclass
class FoldProgress:
    """How far a fold has come: what a resumed one needs to go on as if it had never stopped."""

    history: list[Record] = field(default_factory=list)
    best: float = -np.inf
    best_epoch: int = 0

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def add(self, record: Record, monitor: str) -> None:
        """Add an epoch, and note where it is the best by what the setting `monitor` names."""
        self.history.append(record)
        value = MONITORS[monitor](record)
        if value > self.best:
            self.best, self.best_epoch = value, self.epoch

    def finished(self, config: Config) -> bool:
        """Whether the fold has had its epochs, or its patience is out."""
        return self.epoch >= config.train.epochs or self.epoch - self.best_epoch >= config.train.patience


class Checkpoints:
    """The files of a fold's epochs in its folder, written one epoch after the other by a thread of their own.

    Args:
        folder: of the fold.
        trackers: where the epochs are logged beside it.
    """

    def __init__(self, folder: Path, trackers: Sequence[str] = ()) -> None:
        self.folder = folder
        self.trackers = trackers
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._best: dict[str, Tensor] | None = None  # the best weights, while the disk has not got them
        self._written = time.monotonic()
        self._told = 0.0
        self._state = self._intact()

    @property
    def begun(self) -> bool:
        """Whether an epoch was kept before, and can be gone on from."""
        return self._state is not None

    def require_drawn(self, how: str | None) -> None:
        """Begin anew where the epochs that were kept were trained on rows that were changed in another way.

        Args:
            how: what a state holds as `DRAWN` where they are changed as they will be.
        """
        if self._state is not None and self._state.get(DRAWN) != how:
            file = self.folder / layout.STATE
            log.warning("%s was trained on other random changes, as by an earlier version: the fold begins anew", file)
            self._begin_anew()

    def best(self, progress: FoldProgress) -> Path:
        """The weights of the best epoch; under their final name once the fold has been tested."""
        return self._best_file(progress.best_epoch)

    def _best_file(self, epoch: int) -> Path:
        file = self.folder / _weights(epoch)
        return file if file.exists() else self.folder / layout.WEIGHTS

    def save(self, progress: FoldProgress, step: Step, *, last: bool) -> None:
        """Keep the epoch: its weights where they are the best yet, and all that a resumed fold needs.

        Before the `last` epoch they reach the disk once in `WRITE_SECONDS`; the best weights wait on the device.

        Args:
            progress: the epochs so far.
            step: holds the weights and the optimiser.
            last: whether no epoch follows.
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
        self.wait()  # for the epoch before, so that no two are in memory
        self._pending = self._thread.submit(self._write, _copied(state), _copied(weights))
        self._best = None
        self._written = time.monotonic()

    def keep(self, progress: FoldProgress, model: nn.Module) -> None:
        """Write the weights and the history of a model that was solved for, in one go."""
        with writing(self.folder / _weights(progress.best_epoch)) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
        self._write_history(progress.history)
        self.close()

    def solved(self) -> FoldProgress:
        """How far a model to be solved for has come: it is there, or to be made."""
        file = self.folder / layout.HISTORY
        if not (file.exists() and (self.folder / _weights(1)).exists()):
            return FoldProgress()
        try:
            history = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
            load_file(self.folder / _weights(1))
        except (ValueError, OSError, SafetensorError):
            log.warning("%s is damaged: the fold begins anew", self.folder)
            return FoldProgress()
        self.close()
        return FoldProgress(history, 1.0, 1)

    def resume(self, step: Step) -> FoldProgress:
        """How far a stopped fold had come, with its state put back; a new one otherwise."""
        state, self._state = self._state, None
        if state is None:
            return FoldProgress()
        step.restore(state)
        torch.set_rng_state(state["random"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
        return FoldProgress(state["history"], state["best"], state["best_epoch"])

    def wait(self) -> None:
        """Go on when everything is on the disk.

        Raises:
            PipelineError: it could not be written.
        """
        if self._pending is not None:
            self._pending.result()

    def close(self) -> None:
        """End the thread that writes, once it has written."""
        self._thread.shutdown()

    def _intact(self) -> dict[str, Any] | None:
        """The state of the last epoch that was kept; None where there is none, or a damaged one was taken away."""
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
        except Exception as error:  # torch raises a dozen kinds for a damaged file
            log.debug("%s: %s", file, error)
            intact = False
        if intact:
            return state
        log.warning("%s is damaged, or of another version: the fold begins anew", file)
        self._begin_anew()
        return None

    def _begin_anew(self) -> None:
        """Take away what was kept."""
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
            torch.save({**kept, CHECKSUM: _checksum(kept)}, stream)  # by its own file, it would not say why it failed
        self._write_history(history)
        for old in self.folder.glob("epoch-*.safetensors"):
            if old.name != _weights(state["best_epoch"]):
                old.unlink()

    def _write_history(self, history: list[Record]) -> None:
        """What the progress bar and the report read; the state has it too, so it need not be flushed."""
        text = "".join(json.dumps(record) + "\n" for record in history)
        write_text(self.folder / layout.HISTORY, text, flush=False)


def spare(folder: Path) -> list[str]:
    """Names of the files of a fold that are of no use once it is whole."""
    return [layout.STATE, *(file.name for file in folder.glob("epoch-*.safetensors"))]


def _weights(epoch: int) -> str:
    return f"epoch-{epoch}.safetensors"


def _checksum(value: Any) -> str:
    """32 hex digits of nested dictionaries and lists: of each tensor's type, shape and bytes, and of all else."""
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
    """Nested dictionaries and lists with a copy of every tensor on the CPU, which later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
