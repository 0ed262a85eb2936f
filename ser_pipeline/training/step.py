"""A training step: augmentation, forward pass, loss, backward pass, gradient clipping, update.

On CUDA the whole step is captured as one graph, which the CPU launches with a single call. Nothing in it waits for the
device. The values that change from step to step, the learning rate and the weight of each segment, are tensors on the
device.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ser_pipeline.config import Config, Train
from ser_pipeline.data.augment import augment
from ser_pipeline.data.batch import Batch, Mix
from ser_pipeline.model.coattention import Output
from ser_pipeline.model.fast.graph import Captured
from ser_pipeline.training.distributed import World
from ser_pipeline.training.groups import parameter_groups
from ser_pipeline.training.objective import Objective


class AdamW(torch.optim.AdamW):
    """torch's AdamW without the wrappers that import its unused compiler, which costs seconds at every start."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Step:
    """A training step of a model, with the state that a resumed fold needs."""

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        *,
        objective: Objective,
        steps: int,
        weights: Tensor | None,
        autocast: Callable[[], Any],
        micro: int = 0,
        world: World | None = None,
    ) -> None:
        """Prepare the optimiser and the schedule.

        Args:
            model: the model to train, on its device.
            config: `train` and `augment` are used.
            objective: the targets and their loss.
            steps: number of steps of the whole fold, for the schedule.
            weights: weight of each class in the loss (C,), or None.
            autocast: context manager of the arithmetic.
            micro: segments computed at once; 0 for the whole batch.
            world: the processes that share every batch; None for this process alone.
        """
        self.model, self.config, self.objective, self.steps = model, config, objective, steps
        self.weights, self.autocast, self.micro, self.world = weights, autocast, micro, world or World()
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        device = self.trained[0].device
        self.rate = torch.tensor(config.train.lr, device=device)
        self.groups = parameter_groups(model, config.train)
        self.rates = [
            self.rate * group.factor if group.speech or group.factor != 1 else self.rate for group in self.groups
        ]
        self.optimiser = AdamW(
            [
                {"params": group.parameters, "lr": rate, "weight_decay": group.decay}
                for group, rate in zip(self.groups, self.rates, strict=True)
            ],
            fused=True,
            capturable=device.type == "cuda",
        )
        self.mean = copy.deepcopy(model) if config.train.ema else None
        self.done = 0
        self._names: tuple[str, ...] = ()
        self.pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._taken = self._take if self.pool is None else Captured(self._take, "steps", pool=self.pool)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and saved: the running mean of the weights if there is one, or the weights."""
        return self.model if self.mean is None else self.mean

    def __call__(self, batch: Batch, real: int, total: int) -> Tensor:
        """Take a step and return the summed loss of the first `real` segments, on the device.

        Args:
            batch: the segments of this process; those after the first `real` are padding.
            real: number of segments that count.
            total: number of segments that count in all processes.
        """
        self.set_rates()
        counts = (torch.arange(len(batch.label), device=batch.label.device) < real).float()
        self._names = tuple(batch.inputs)
        losses = self._taken(*batch.tensors(), counts, counts / total)
        self.done += 1
        self._follow()
        return losses

    def taken(self, count: int) -> None:
        """Count `count` steps that were taken together with those of other folds."""
        self.done += count - 1
        self.set_rates()
        self.done += 1

    def release(self) -> None:
        """Release the captured graph; no further steps can be taken."""
        if isinstance(self._taken, Captured):
            self._taken.release()

    def state(self) -> dict[str, Any]:
        """Return the state for a resumed fold."""
        return {
            "model": self.model.state_dict(),
            "mean": None if self.mean is None else self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.done,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from `state()`."""
        self.model.load_state_dict(state["model"])
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate  # the tensor that `__call__` changes; the loaded one is a copy
        self.done = state["steps"]

    def group_rates(self, step: int) -> list[float]:
        """Return the learning rate of every group at a step, counted from 0; it is 0 for an encoder in head epochs."""
        settings = self.config.train
        rate = settings.lr * factor(settings, step, self.steps)
        resting = step < settings.head_epochs * self.steps / settings.epochs
        return [0.0 if group.speech and resting else rate * group.factor for group in self.groups]

    def set_rates(self) -> None:
        """Write the learning rates of this step to the tensors that the optimiser reads."""
        self.rate.fill_(self.config.train.lr * factor(self.config.train, self.done, self.steps))
        for own, rate in zip(self.rates, self.group_rates(self.done), strict=True):
            if own is not self.rate:
                own.fill_(rate)

    def _take(self, *inputs: Any) -> Tensor:
        """Take a step on the tensors of a batch, whether each segment counts (B,), and its share of the loss (B,)."""
        *parts, counts, share = inputs
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        batch, targets = self._prepared(Batch.of(self._names, parts))
        share_mixed = self.config.augment.mixup
        summed = torch.zeros((), device=counts.device)
        micro = self.micro or len(counts)
        for first in range(0, len(counts), micro):
            part = slice(first, first + micro)
            mix = Mix.draw(len(counts[part]), share_mixed, counts.device) if share_mixed else None
            with self.autocast():
                output = self._output(batch.part(part), mix)
            wanted = mix(targets[part]) if mix else targets[part]
            losses = self.objective.losses(output.logits.float(), wanted, counts[part], self.weights)
            (losses * share[part]).sum().backward()
            summed += (losses.detach() * counts[part]).sum()
        self._add_up()
        if self.config.train.clip:
            nn.utils.clip_grad_norm_(self.trained, self.config.train.clip)
        self.optimiser.step()
        return summed

    def _add_up(self) -> None:
        """Sum the gradients over all processes; a parameter without one here may have one in another process."""
        if self.world.size > 1:
            for parameter in self.trained:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self.world.all_reduce([parameter.grad for parameter in self.trained if parameter.grad is not None])

    def _follow(self) -> None:
        """Update the running mean of the weights, which starts with the weights after the first step."""
        if self.mean is not None:
            decay = self.config.train.ema if self.done > 1 else 0.0
            with torch.no_grad():
                torch._foreach_lerp_(list(self.mean.parameters()), list(self.model.parameters()), 1 - decay)

    def _prepared(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Return the augmented batch and its targets (B, K)."""
        targets = self.objective.targets(batch.utterance)
        with torch.no_grad():
            return self._changed(batch), targets

    def _changed(self, batch: Batch) -> Batch:
        """Return the augmented batch."""
        return augment(batch, self.config)

    def _output(self, batch: Batch, mix: Mix | None) -> Output:
        """Return the model's output for segments, or for their mixtures."""
        return self.model(batch, mix)  # type: ignore[no-any-return]


def factor(settings: Train, step: int, steps: int) -> float:
    """Return the learning rate of a step as a share of the highest one, 0 to 1.

    Args:
        settings: `schedule` and `warmup` are used.
        step: number of the step, counted from 0.
        steps: number of steps of the whole training.

    >>> [round(factor(Train(warmup=0.5, schedule="linear"), step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = settings.warmup * steps
    if step < rising:
        return (step + 1) / max(rising, 1.0)
    left = 1 - (step - rising) / max(steps - rising, 1)
    return {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[settings.schedule]
