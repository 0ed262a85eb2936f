"""Models of several folds as an ensemble: values that they share are computed once.

Inputs are shared if the folds' scales are equal, prosody and other statistics have no weights, and a frozen speech
encoder is the same in every fold. Shapes: F folds, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from ser_pipeline.data.batch import Batch
from ser_pipeline.model import silence
from ser_pipeline.model.coattention import Known, SpeechEmotionModel
from ser_pipeline.model.small import SmallSpeech, Summarised


class Ensemble(nn.Module):
    """Logits of several models with the same settings, all in evaluation mode."""

    def __init__(self, models: Sequence[SpeechEmotionModel]) -> None:
        """Find what the models share.

        Args:
            models: at least one model.
        """
        super().__init__()
        self.models = nn.ModuleList(models)
        first = models[0]
        several = len(models) > 1
        self.finished = tuple(
            name for name in first.encoders if several and _alike([model.finish[name] for model in models])
        )
        kinds = {name: first.encoders[name] for name in self.finished}
        self.summed_up = tuple(name for name, kind in kinds.items() if isinstance(kind, SmallSpeech | Summarised))
        self.hears_once = first.speech in kinds and _alike([model.encoders[model.speech] for model in models])

    @cached_property
    def needs_no_silence(self) -> bool:
        """Whether `cut` may be used."""
        return all(silence.is_heard_alone(model) and silence.is_kept(model) for model in self._each())

    def forward(self, batch: Batch) -> Tensor:
        """Logits (F, B, C) of a batch."""
        known = self._known(batch)
        return torch.stack([model(batch, known=known).logits for model in self._each()])

    def cut(self, batch: Batch) -> Tensor:
        """Logits (F, B, C) of a batch, without computing anything for the silence after the longest segment."""
        first, *_ = self._each()
        batch = silence.cut(batch, first)
        common = {name: silence.read(first, name, batch) for name in self.finished}
        found = []
        for model in self._each():
            own = {name: silence.read(model, name, batch) for name in model.encoders if name not in common}
            finished, statistics = ({name: read[place] for name, read in {**common, **own}.items()} for place in (0, 1))
            known = Known(finished, statistics)
            speech = first.hear(finished, batch.samples, known) if self.hears_once else None
            found.append(model(batch, known=known._replace(speech=speech)).logits)
        return torch.stack(found)

    def _known(self, batch: Batch) -> Known:
        """Compute what all models share."""
        first, *_ = self._each()
        finished = first.finished(batch, self.finished)
        statistics = {
            name: first.encoders[name].statistics(finished[name], batch.samples)  # type: ignore[operator]
            for name in self.summed_up
        }
        return Known(finished, statistics, first.hear(finished, batch.samples) if self.hears_once else None)

    def _each(self) -> Iterator[SpeechEmotionModel]:
        return iter(self.models)  # type: ignore[arg-type]


def _alike(modules: Sequence[nn.Module]) -> bool:
    """Whether modules with the same settings contain the same numbers."""
    first, *others = (module.state_dict() for module in modules)
    return all(
        one.data_ptr() == first[name].data_ptr() or torch.equal(one, first[name])
        for other in others
        for name, one in other.items()
    )
