"""One step of the optimiser: augment, forward, loss, backward, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ser_pipeline.augment import augment, mixup
from ser_pipeline.batch import Batch
from ser_pipeline.config import Config, Train


class Step:
    """Changes a model by one batch at a time, and keeps all that a resumed fold must have back."""

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        *,
        classes: int,
        steps: int,
        weights: Tensor | None,
        autocast: Callable[[], Any],
        micro: int = 0,
        wrapped: nn.Module | None = None,
    ) -> None:
        """Prepare the optimiser.

        Args:
            model: what is trained, on its device.
            config: `train` and `augment` are used.
            classes: number of classes.
            steps: of the whole fold, for the schedule.
            weights: (C,) weight of each class in the loss, or None.
            autocast: context manager of the arithmetic.
            micro: segments that are computed at a time; 0: the whole batch.
            wrapped: `model` as DistributedDataParallel has it, where it trains over several processes.
        """
        self.model, self.config, self.classes, self.steps = model, config, classes, steps
        self.wrapped = wrapped or model
        self.weights, self.autocast, self.micro = weights, autocast, micro
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            trained,
            lr=config.train.lr,
            weight_decay=config.train.weight_decay,
            fused=trained[0].device.type == "cuda",
        )
        self.mean = _running_mean(model, config.train.ema) if config.train.ema else None
        self.done = 0

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and kept: the running mean of the weights, or the weights."""
        return self.model if self.mean is None else self.mean.module

    def __call__(self, batch: Batch, real: int, total: int) -> Tensor:
        """Take a step; returns the summed loss of the first `real` segments, still on the device.

        Args:
            batch: the segments of this process; those from `real` on only fill it up.
            real: segments that count.
            total: segments that count over all processes.
        """
        self._set_rate()
        self.wrapped.train()
        self.optimiser.zero_grad(set_to_none=True)
        size = len(batch.label)
        counts = (torch.arange(size, device=batch.label.device) < real).float()
        losses = torch.zeros((), device=batch.label.device)
        batch, targets = self._prepared(batch)
        micro = self.micro or size
        for first in range(0, size, micro):
            part = slice(first, first + micro)
            with self.autocast():
                output = self.wrapped(batch.part(part))
            loss = (self._loss(output.logits.float(), targets[part]) * counts[part]).sum()
            (loss * (self._processes() / total)).backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
        if self.config.train.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        self.optimiser.step()
        if self.mean is not None:
            self.mean.update_parameters(self.model)
        self.done += 1
        return losses

    def state(self) -> dict[str, Any]:
        """What a resumed fold needs."""
        return {
            "model": self.model.state_dict(),
            "mean": None if self.mean is None else self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.done,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.model.load_state_dict(state["model"])
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["steps"]

    def _prepared(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch as it is trained on, and its targets (B, C)."""
        smoothing = self.config.train.label_smoothing
        targets = F.one_hot(batch.label, self.classes).float() * (1 - smoothing) + smoothing / self.classes
        with torch.no_grad():
            batch = augment(batch, self.config)
            if self.config.augment.mixup:
                return mixup(batch, targets, self.config.augment.mixup)
        return batch, targets

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each segment (B,)."""
        weighted = targets if self.weights is None else targets * self.weights
        return -(weighted * F.log_softmax(logits, dim=-1)).sum(-1)

    def _processes(self) -> int:
        return torch.distributed.get_world_size() if self.wrapped is not self.model else 1

    def _set_rate(self) -> None:
        rate = self.config.train.lr * factor(self.config.train, self.done, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate


def _running_mean(model: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def factor(settings: Train, step: int, steps: int) -> float:
    """The learning rate of a step, as a share of the highest.

    >>> [round(factor(Train(warmup=0.5, schedule="linear"), step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = settings.warmup * steps
    if step < rising:
        return (step + 1) / rising
    left = 1 - (step - rising) / max(steps - rising, 1)
    return {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[settings.schedule]
