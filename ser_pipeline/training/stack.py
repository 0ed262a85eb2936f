"""Small heads of several folds as one model with stacked parameters, which takes a step of all folds at a time.

Every fold keeps its own model, optimiser and schedule, whose tensors are views of the stacked ones: what is evaluated,
kept and resumed is what training fold by fold has. What is drawn, a fold draws from its own generator, in the order in
which it would alone. The last batch of an epoch is filled up with rows that count nothing, as it is fold by fold, and a
fold that has no batch left in an epoch stays as it is.

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
"""AdamW's, as torch has them by default and the steps of single folds do."""

NORM = 1e-6
"""Added to a norm that is clipped, as `torch.nn.utils.clip_grad_norm_` does."""

State = dict[str, Tensor]
"""Name of a parameter or buffer -> its values (K, ...)."""


class GivenDropout(nn.Module):
    """Dropout by a mask (B, ...) that was drawn beforehand; nothing in evaluation."""

    mask: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """(B, ...), each number times that of the mask in training."""
        return rows * self.mask if self.training else rows


@dataclass(frozen=True)
class DropPlace:
    """A dropout of the model: what draws its masks, and where they are put."""

    draw: nn.Dropout
    shape: tuple[int, ...]  # of what it reads, without the batch
    given: GivenDropout


@dataclass(frozen=True)
class Draws:
    """What the folds drew for one step; empty where nothing is drawn."""

    drawings: Mapping[str, Tensor]  # input of whole utterances -> number of the drawing (K, B)
    mix: tuple[Tensor, ...]  # of `Mix`: other rows (K, B) and weights (K, B, 1)
    masks: tuple[Tensor, ...]  # of every dropout, in the order in which they are used: (K, B, ...)


class Stack:
    """The steps of several folds of one setting, taken together."""

    def __init__(self, steps: Sequence[Step], source: Resident) -> None:
        """Stack the parameters and the optimisers' state, of which those of the folds become views.

        Args:
            steps: of folds whose settings differ in nothing but the seed.
            source: all rows on the device.
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
        """What the folds draw for a batch each.

        Args:
            randoms: the generator of each fold, which goes on; None: it has no batch.
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
        """Take a step; returns each fold's summed loss (K,), still on the device.

        Args:
            rows: int64 (K, B) segments.
            share: float32 (K, B) of each segment in its fold's loss; 0 for those that only fill up.
            rates: float32 (G, K) learning rates.
            draws: from `draw`.
            resting: bool (K,) folds without a batch, which stay as they are; None: there are none.
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
        """Outputs (K, B, C) of segments (K, B), in evaluation mode, of the weights that are kept."""
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
        """Logits (B, C) and targets (B, C) of one fold: what is mapped over all of them.

        Args:
            trained: its parameters.
            fixed: its buffers.
            inputs: rows of every input.
            samples: real ones (B,).
            targets: (B, C).
            masks: of every dropout; none in evaluation.
            mix: of `Mix`; empty: nothing is mixed.
        """
        for place, mask in zip(self._drops, masks, strict=False):
            place.given.mask = mask
        mixed = Mix(*mix) if mix else None
        output = functional_call(
            self._template, (trained, fixed), (Batch(inputs, samples, samples, samples), mixed), strict=True
        )
        return output.logits, mixed(targets) if mixed else targets

    def _read(self, rows: Tensor, drawings: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, State]:
        """Real samples and utterances (K, B) of segments, and the rows of every input, in the given drawings."""
        samples, _, utterance = (column[rows] for column in self.source.columns)
        inputs = {}
        for name, stored in self.source.features.items():
            if INPUTS[name].form == VECTOR:
                inputs[name] = stored[rows, drawings.get(name, torch.zeros_like(rows))][:, :, None]
            else:
                inputs[name] = stored[rows]
        return samples, utterance, inputs

    def _draw(self) -> list[Tensor]:
        """What one fold draws for a batch, in the order in which `Step` does."""
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
        """Both running moments (K, ...) of a parameter: those of folds that went on before, or zeros."""
        values = self.trained[name].detach()
        found = torch.zeros_like(values), torch.zeros_like(values)
        for number, step in enumerate(self.steps):
            state = step.optimiser.state.get(dict(step.model.named_parameters())[name], {})
            for moment, key in zip(found, ("exp_avg", "exp_avg_sq"), strict=True):
                if key in state:
                    moment[number] = state[key]
        return found

    def _share_moments(self) -> None:
        """Make the state of every fold's optimiser views of the stacked one."""
        for number, step in enumerate(self.steps):
            for parameter, (first, second) in zip(step.trained, self.moments, strict=True):
                moments = {"exp_avg": first[number], "exp_avg_sq": second[number]}
                step.optimiser.state[parameter] = {"step": self.counts[number], **moments}

    @torch.no_grad()
    def _update(self, rates: Tensor, resting: Tensor | None) -> None:
        """AdamW on all folds but those that rest. Source: Loshchilov and Hutter, ICLR 2019."""
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
        """Let the running means of the weights follow them; they start from those after the first step."""
        for name, mean in self.means.items():
            weight = torch.where(self.counts > 1, 1 - self.settings.train.ema, 1.0)
            mean.lerp_(self.trained[name], _wide(weight, mean))

    def _clip(self, most: float) -> None:
        """Scale each fold's gradient down to a norm of at most `most`."""
        gradients = [values.grad for values in self.trained.values() if values.grad is not None]
        norm = torch.stack([part.flatten(1).norm(dim=1) for part in gradients]).norm(dim=0)
        scale = (most / (norm + NORM)).clamp(max=1)
        for part in gradients:
            part.mul_(_wide(scale, part))

    def _changing(self) -> list[Tensor]:
        """Everything that a step changes."""
        moments = [moment for pair in self.moments for moment in pair]
        return [*(values.detach() for values in self.trained.values()), *moments, *self.means.values(), self.counts]


class RandomState:
    """A fold's own place in torch's generators: in a `with` block they are there, and after it as they were left."""

    def __init__(self, device: torch.device) -> None:
        """Begin where the generators are now."""
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
    """The parameters of models, stacked; those of the models become views."""
    stacked = _stacked([dict(model.named_parameters()) for model in models])
    for number, model in enumerate(models):
        for name, parameter in model.named_parameters():
            parameter.data = stacked[name][number]
    return stacked


def _with_given(model: nn.Module, source: Resident) -> tuple[Any, list[DropPlace]]:
    """A copy of a model whose dropouts take given masks, and these in the order in which they are used."""
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
    """A number for each fold (K,) in the shape (K, 1, ...) that is spread over `like`."""
    return numbers.view(-1, *[1] * (like.dim() - 1))
