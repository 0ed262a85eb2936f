"""Training of the small heads of several folds as one model with stacked parameters.

Every fold keeps its own model, optimiser and schedule, whose tensors are views of the stacked ones. It is therefore
evaluated, saved and resumed as in training fold by fold. A fold draws random numbers from its own generator, in the
same order as alone. The last batch of an epoch is padded with rows that do not count, as in training fold by fold, and
a fold without a batch left in an epoch does not change.

Shapes: K folds, B segments of a batch, C classes, G groups of parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ser_pipeline.data.augment import drawn
from ser_pipeline.data.batch import Batch, Mix
from ser_pipeline.data.stream import Resident
from ser_pipeline.inputs import INPUTS, VECTOR
from ser_pipeline.training.step import Step

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Parameters of AdamW: torch's defaults, which the steps of single folds use too."""

NORM = 1e-6
"""Added to the norm in gradient clipping, as in `torch.nn.utils.clip_grad_norm_`."""

State = dict[str, Tensor]
"""Values (K, ...) of a parameter or buffer, by name."""


class GivenDropout(nn.Module):
    """Dropout with a mask (B, ...) that was drawn beforehand; the identity in evaluation."""

    mask: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply `rows` (B, ...) by the mask in training."""
        return rows * self.mask if self.training else rows


@dataclass(frozen=True)
class DropPlace:
    """A dropout layer of the model: the layer that draws its masks, and the one that applies them."""

    draw: nn.Dropout
    shape: tuple[int, ...]  # of its input, without the batch
    given: GivenDropout


@dataclass(frozen=True)
class Draws:
    """Random draws of the folds for one step; empty if nothing is drawn."""

    drawings: Mapping[str, Tensor]  # number of the augmented copy (K, B), by input of whole utterances
    mix: tuple[Tensor, ...]  # arguments of `Mix`: other rows (K, B) and weights (K, B, 1)
    masks: tuple[Tensor, ...]  # masks of the dropout layers (K, B, ...), in the order of use


class Stack:
    """Training steps of several folds with the same settings, taken together."""

    def __init__(self, steps: Sequence[Step], source: Resident) -> None:
        """Stack the parameters and the optimisers' states, and make those of the folds views of them.

        Args:
            steps: the steps of folds whose settings differ only in the seed.
            source: all rows, resident on the device.
        """
        self.steps, self.source, self.first = tuple(steps), source, steps[0]
        self.settings, self.device = self.first.config, source.device
        models = [step.model for step in steps]
        self._template, self._drops = _with_given(models[0], source)
        self.fixed = _stacked([dict(model.named_buffers()) for model in models])
        self.trained = _shared(models)
        for values in self.trained.values():
            values.requires_grad_()
        means = [step.mean for step in steps if step.mean is not None]
        self.means = _shared(means) if means else {}
        self.moments = [self._moments(name) for name in self.trained]
        self.counts = torch.tensor([float(step.done) for step in steps], device=self.device)
        self._share_moments()
        groups = {
            id(parameter): number for number, group in enumerate(self.first.groups) for parameter in group.parameters
        }
        self._group = [groups[id(parameter)] for parameter in self.first.trained]
        weights = [step.weights for step in steps if step.weights is not None]
        self.weights = torch.stack(weights)[:, None] if weights else None
        self._one = vmap(self._fold)

    def draw(self, randoms: Sequence[RandomState | None]) -> Draws:
        """Draw the random numbers of each fold for a batch.

        Args:
            randoms: the generator of each fold, which advances; None for a fold without a batch.
        """
        parts = list[list[Tensor]]()
        for random in randoms:
            if random is None:
                parts.append([])
                continue
            with random:
                parts.append(self._draw())
        nothing = [torch.zeros_like(tensor) for tensor in max(parts, key=len)]
        filled = [torch.stack(each) for each in zip(*(part or nothing for part in parts), strict=True)]
        names = [name for name in self.source.features if INPUTS[name].form == VECTOR]
        rest = filled[len(names) :]
        mixed = 2 if self.settings.augment.mixup else 0
        return Draws(dict(zip(names, filled, strict=False)), tuple(rest[:mixed]), tuple(rest[mixed:]))

    def __call__(self, rows: Tensor, share: Tensor, rates: Tensor, draws: Draws, resting: Tensor | None) -> Tensor:
        """Take a step and return each fold's summed loss (K,), on the device.

        Args:
            rows: rows of segments, int64 (K, B).
            share: share of each segment in its fold's loss, float32 (K, B); 0 for padding of the batch.
            rates: learning rates, float32 (G, K).
            draws: from `draw`.
            resting: folds without a batch, bool (K,), which do not change; None if there are none.
        """
        samples, utterance, inputs = self._read(rows, draws.drawings)
        targets = self.first.objective.targets(utterance)
        self._template.train()
        logits, targets = self._one(self.trained, self.fixed, inputs, samples, targets, draws.masks, draws.mix)
        losses = self.first.objective.losses(logits.float(), targets, (share > 0).float(), self.weights)
        for values in self.trained.values():
            values.grad = None
        torch.autograd.backward((losses * share).sum())
        self._update(rates, resting)
        return (losses.detach() * (share > 0)).sum(1)

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """Return the outputs (K, B, C) for segments (K, B), in evaluation mode, with the weights that are saved."""
        samples, _, inputs = self._read(rows, {})
        self._template.eval()
        found: Tensor = self._one(self.means or self.trained, self.fixed, inputs, samples, samples, (), ())[0]
        return found

    def _fold(
        self,
        trained: State,
        fixed: State,
        inputs: State,
        samples: Tensor,
        targets: Tensor,
        masks: tuple[Tensor, ...],
        mix: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (B, C) and targets (B, C) of one fold; `vmap` maps this over all folds.

        Args:
            trained: its parameters.
            fixed: its buffers.
            inputs: rows of every input.
            samples: numbers of samples without padding (B,).
            targets: (B, C).
            masks: masks of the dropout layers; empty in evaluation.
            mix: arguments of `Mix`; empty for no mixup.
        """
        for place, mask in zip(self._drops, masks, strict=False):
            place.given.mask = mask
        mixed = Mix(*mix) if mix else None
        output = functional_call(
            self._template, (trained, fixed), (Batch(inputs, samples, samples, samples), mixed), strict=True
        )
        return output.logits, mixed(targets) if mixed else targets

    def _read(self, rows: Tensor, drawings: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, State]:
        """Return numbers of samples and utterances (K, B) of segments, and the rows of the augmented copies."""
        samples, _, utterance = (column[rows] for column in self.source.columns)
        inputs = {}
        for name, stored in self.source.features.items():
            if INPUTS[name].form == VECTOR:
                inputs[name] = stored[rows, drawings.get(name, torch.zeros_like(rows))][:, :, None]
            else:
                inputs[name] = stored[rows]
        return samples, utterance, inputs

    def _draw(self) -> list[Tensor]:
        """Draw the random numbers of one fold for a batch, in the same order as `Step`."""
        size = self.settings.train.batch
        found = [
            drawn(size, stored.shape[1], self.device)
            for name, stored in self.source.features.items()
            if INPUTS[name].form == VECTOR
        ]
        if share := self.settings.augment.mixup:
            found += Mix.draw(size, share, self.device)
        return found + [place.draw(torch.ones(size, *place.shape, device=self.device)) for place in self._drops]

    def _moments(self, name: str) -> tuple[Tensor, Tensor]:
        """Return both running moments (K, ...) of a parameter: those of resumed folds, or zeros."""
        values = self.trained[name].detach()
        found = torch.zeros_like(values), torch.zeros_like(values)
        for number, step in enumerate(self.steps):
            state = step.optimiser.state.get(dict(step.model.named_parameters())[name], {})
            for moment, key in zip(found, ("exp_avg", "exp_avg_sq"), strict=True):
                if key in state:
                    moment[number] = state[key]
        return found

    def _share_moments(self) -> None:
        """Replace the state of every fold's optimiser by views of the stacked one."""
        for number, step in enumerate(self.steps):
            for parameter, (first, second) in zip(step.trained, self.moments, strict=True):
                moments = {"exp_avg": first[number], "exp_avg_sq": second[number]}
                step.optimiser.state[parameter] = {"step": self.counts[number], **moments}

    @torch.no_grad()
    def _update(self, rates: Tensor, resting: Tensor | None) -> None:
        """Update all folds but the resting ones by AdamW. Source: Loshchilov and Hutter, ICLR 2019."""
        kept = [] if resting is None else [(values, values[resting].clone()) for values in self._changing()]
        if self.settings.train.clip:
            self._clip(self.settings.train.clip)
        self.counts += 1
        first_left, second_left = (1 - beta**self.counts for beta in BETAS)
        pairs = zip(self.trained.values(), self.moments, self._group, strict=True)
        for values, (first, second), group in pairs:
            gradient = values.grad
            assert gradient is not None
            rate = _wide(rates[group], values)
            values.mul_(1 - rate * self.first.groups[group].decay)
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            size = (second.sqrt() / _wide(second_left.sqrt(), values)).add_(EPSILON)
            values.sub_(first.div(size).mul_(rate / _wide(first_left, values)))
        self._follow()
        for values, before in kept:
            values[resting] = before

    def _follow(self) -> None:
        """Update the running means of the weights, which start with the weights after the first step."""
        for name, mean in self.means.items():
            weight = torch.where(self.counts > 1, 1 - self.settings.train.ema, 1.0)
            mean.lerp_(self.trained[name], _wide(weight, mean))

    def _clip(self, most: float) -> None:
        """Clip the norm of each fold's gradient at `most`."""
        gradients = [values.grad for values in self.trained.values() if values.grad is not None]
        norm = torch.stack([part.flatten(1).norm(dim=1) for part in gradients]).norm(dim=0)
        scale = (most / (norm + NORM)).clamp(max=1)
        for part in gradients:
            part.mul_(_wide(scale, part))

    def _changing(self) -> list[Tensor]:
        """Return all tensors that a step changes."""
        moments = [moment for pair in self.moments for moment in pair]
        return [*(values.detach() for values in self.trained.values()), *moments, *self.means.values(), self.counts]


class RandomState:
    """A fold's own state of torch's generators, which a `with` block restores, and saves at its end."""

    def __init__(self, device: torch.device) -> None:
        """Start with the current state of the generators."""
        self.device = device
        self._keep()

    def __enter__(self) -> None:
        torch.set_rng_state(self._state)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self.device)

    def __exit__(self, *error: object) -> None:
        self._keep()

    def _keep(self) -> None:
        self._state = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None


def _stacked(parts: Sequence[Mapping[str, Tensor]]) -> State:
    return {name: torch.stack([part[name].detach() for part in parts]) for name in parts[0]}


def _shared(models: Sequence[nn.Module]) -> State:
    """Stack the parameters of models, and make those of the models views of them."""
    stacked = _stacked([dict(model.named_parameters()) for model in models])
    for number, model in enumerate(models):
        for name, parameter in model.named_parameters():
            parameter.data = stacked[name][number]
    return stacked


def _with_given(model: nn.Module, source: Resident) -> tuple[Any, list[DropPlace]]:
    """Return a copy of a model whose dropout layers take given masks, and these layers in the order of use."""
    template, used = copy.deepcopy(model), list[tuple[nn.Dropout, tuple[int, ...]]]()

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Dropout)
        used.append((module, tuple(args[0].shape[1:])))

    kinds = [module for module in template.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    hooks = [module.register_forward_pre_hook(note) for module in kinds]
    template.eval()
    with torch.no_grad():
        template(Batch({name: rows[:1] for name, rows in source.features.items()}, *(x[:1] for x in source.columns)))
    for hook in hooks:
        hook.remove()
    places = {id(module): DropPlace(module.train(), shape, GivenDropout()) for module, shape in used}
    for parent in list(template.modules()):
        for name, child in parent.named_children():
            if id(child) in places:
                setattr(parent, name, places[id(child)].given)
    return template, list(places.values())


def _wide(numbers: Tensor, like: Tensor) -> Tensor:
    """Reshape a number per fold (K,) to (K, 1, ...), which broadcasts over `like`."""
    return numbers.view(-1, *[1] * (like.dim() - 1))
