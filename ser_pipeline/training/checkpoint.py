"""What a fold keeps of its epochs: the best weights, and all that a stopped one needs to go on.

An epoch is copied from the device at once and written in the background, while the next one is trained. Where epochs
take less time than a disk needs to have them for certain, not every one is written: what a kill costs is seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ser_pipeline.config import Config
from ser_pipeline.entry import write_text, writing
from ser_pipeline.runs import layout
from ser_pipeline.training.step import Step
from ser_pipeline.training.tensorboard import log_epochs

WRITE_SECONDS = 5.0
"""Seconds of training that a kill may cost, at most, beside the epoch at work."""

TOLD_SECONDS = 0.25
"""Seconds between two writings of the history alone, which progress is read from."""

Record = dict[str, Any]


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
        values = {
            "ua": record["ua"],
            "wa": record["wa"],
            "wa+ua": record["wa"] + record["ua"],
            "loss": -record["validation_loss"],
            "last": float(self.epoch),
        }
        if values[monitor] > self.best:
            self.best, self.best_epoch = values[monitor], self.epoch

    def finished(self, config: Config) -> bool:
        """Whether the fold has had its epochs, or its patience is out."""
        return self.epoch >= config.train.epochs or self.epoch - self.best_epoch >= config.train.patience


class Checkpoints:
    """The files of a fold's epochs in its folder, written one epoch after the other by a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._best: dict[str, Tensor] | None = None  # the best weights, while the disk has not got them
        self._written = time.monotonic()
        self._told = 0.0

    @property
    def begun(self) -> bool:
        """Whether an epoch was kept before."""
        return (self.folder / layout.STATE).exists()

    def best(self, progress: FoldProgress) -> Path:
        """The weights of the best epoch; under their final name once the fold has been tested."""
        file = self.folder / _weights(progress.best_epoch)
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
        self.close()
        return FoldProgress([json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line], 1.0, 1)

    def resume(self, step: Step) -> FoldProgress:
        """How far a stopped fold had come, with its state put back; a new one otherwise."""
        if not self.begun:
            return FoldProgress()
        state = torch.load(self.folder / layout.STATE, map_location="cpu", weights_only=True)
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

    def _write(self, state: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        history = state["history"]
        if weights is not None:
            with writing(self.folder / _weights(state["best_epoch"])) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
        log_epochs(self.folder, history)
        with writing(self.folder / layout.STATE) as temporary:
            torch.save(state, temporary)
        self._write_history(history)
        for old in self.folder.glob("epoch-*.safetensors"):
            if old.name != _weights(state["best_epoch"]):
                old.unlink()

    def _write_history(self, history: list[Record]) -> None:
        """What the progress bar and the report read; the state has it too, so it need not be flushed."""
        text = "".join(json.dumps(record) + "\n" for record in history)
        write_text(self.folder / layout.HISTORY, text, flush=False)


def _weights(epoch: int) -> str:
    return f"epoch-{epoch}.safetensors"


def _copied(value: Any) -> Any:
    """Nested dictionaries and lists with a copy of every tensor on the CPU, which later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
