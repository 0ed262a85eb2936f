"""Row-wise training of the small encoders on a CPU, which computes nothing that a step does not need.

The augmentation of a row depends only on the run's seed, the epoch and the row. Its statistics, which have no weights,
are therefore computed once for all folds. A learned path that path dropout removes for a segment is not computed, and
neither is the padding: rows of similar length go through an encoder together. The result equals that of the plain
model up to rounding.

Shapes: B batch, R selected rows, S statistics.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.arrays import Rows
from ser_pipeline.config import Config
from ser_pipeline.data import augment
from ser_pipeline.data.augment import drawings
from ser_pipeline.data.batch import Batch, Mix
from ser_pipeline.device import precision
from ser_pipeline.inputs import CEPSTRA, IMAGE, INPUTS
from ser_pipeline.model import SpeechEmotionModel, silence
from ser_pipeline.model.coattention import Known, Output
from ser_pipeline.model.small import SmallSpeech, SpeechFrames
from ser_pipeline.training.checkpoint import DRAWN
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.rows import Numbered, NumberedSource, RowDraws, StatisticsMemory, draws, masked, white
from ser_pipeline.training.scoring import Forward
from ser_pipeline.training.step import Step

TOGETHER = 16
"""Number of rows of similar length that go through an encoder at once; few enough for the CPU's cache."""

STEP = 8_000
"""Lengths are rounded up to multiples of so many samples where rows must not depend on each other."""

BY_ROW = "row"
"""Value of `DRAWN` in the state of a fold with row-wise training."""

_MEMORIES: WeakKeyDictionary[Any, StatisticsMemory] = WeakKeyDictionary()
"""Statistics that this process has computed, by the source of the rows."""


def fits(model: SpeechEmotionModel, context: FoldContext) -> bool:
    """Whether row-wise training applies to a fold: small encoders in float32 on a CPU, with augmentation."""
    config = context.config
    change = config.augment
    random = change.speed or change.gain or change.noise or change.frame_masks or change.bin_masks
    small = silence.is_heard_alone(model)
    alone = context.world.size == 1 and not context.micro and isinstance(context.source, NumberedSource)
    exact = context.device.type == "cpu" and precision(config.train.precision, context.device) == "fp32"
    return bool(random and small and alone and exact and config.model.small_drop < 1)


class Rowwise:
    """Computes the inputs of a fold's model from rows: statistics that do not depend on weights, and learned paths."""

    def __init__(self, model: Any, context: FoldContext) -> None:
        """Use the statistics that other folds of this process have computed.

        Args:
            model: the fold's model, with small encoders.
            context: the fold.
        """
        self.model: SpeechEmotionModel = model
        self.config = context.config
        source: Any = context.source
        while hasattr(source, "source"):
            source = source.source
        self.memory = _MEMORIES.setdefault(source, StatisticsMemory())
        self.count = len(context.data.manifest.segments)
        self.encoders: Mapping[str, Any] = model.encoders
        self.audio = self.config.model_audio
        self.whole = self.audio.segment

    def fit_statistics(self, batches: Iterator[Batch]) -> None:
        """Fit the standardisation of the statistics on the fold's training rows, without augmentation."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.encoders}
        for batch in batches:
            assert isinstance(batch, Numbered)
            for name, rows in self.statistics(batch, None).items():
                found[name].append(rows)
        for name, encoder in self.encoders.items():
            encoder.standard.fit(found[name])

    def known(self, batch: Numbered, epoch: int | None) -> Known:
        """Compute the encoders' outputs for a batch, with cached statistics and only the learned paths that are kept.

        Args:
            batch: compact rows, as they are stored.
            epoch: epoch of training, counted from 0, which determines the augmentation; None for no augmentation and
                no path dropout.
        """
        statistics = self.statistics(batch, epoch)
        share = self.config.model.small_drop
        whole, speech = {}, None
        for name, encoder in self.encoders.items():
            wanted = torch.arange(len(batch))
            if epoch is not None:
                wanted = wanted[torch.rand(len(batch)) >= share]
            standard = encoder.standard(statistics[name])
            if isinstance(encoder, SmallSpeech):
                speech = self._frames(name, batch, wanted, epoch)._replace(whole=standard)
            else:
                parts = [(rows, encoder.learned(read)) for rows, read, _ in self._read(name, batch, wanted, epoch)]
                path = standard.new_zeros(len(batch), encoder.contours.size)
                if parts:
                    path = path.index_copy(0, *(torch.cat(each) for each in zip(*parts, strict=True)))
                whole[name] = torch.cat([standard, path], 1)
        return Known(encoded=whole, speech=speech)

    @torch.no_grad()
    def statistics(self, batch: Numbered, epoch: int | None) -> dict[str, Tensor]:
        """Return the statistics (B, S) of each input of a batch, and compute those that are not cached.

        Args:
            batch: compact rows, as they are stored.
            epoch: epoch of the augmentation; None for none.
        """
        found = {}
        for name, encoder in self.encoders.items():
            table = self.memory.table(self._key(name, epoch), (self.count, encoder.standard.size))
            missing = torch.from_numpy(np.flatnonzero(np.isnan(table[batch.rows, 0])))
            for rows, read, samples in self._read(name, batch, missing, epoch, alike=True):
                table[batch.rows[rows.numpy()]] = silence.statistics(self.model, name, read, samples).numpy()
            found[name] = torch.from_numpy(table[batch.rows])
        return found

    def _key(self, name: str, epoch: int | None) -> Hashable:
        """Return everything that the statistics of an input depend on."""
        config = self.config
        scale = tuple(value.numpy().tobytes() for value in self.model.finish[name].state_dict().values())
        drawn = None if epoch is None else (config.seed, epoch, config.augment)
        return name, drawn, config.model_audio, config.features, config.model.small_width, scale

    def _frames(self, name: str, batch: Numbered, wanted: Tensor, epoch: int | None) -> SpeechFrames:
        """Compute the frames of some rows of a batch.

        Args:
            name: name of the speech input.
            batch: compact rows.
            wanted: positions (R,) in the batch.
            epoch: epoch of the augmentation; None for none.
        """
        encoder = self.encoders[name]
        heard = [(rows, *encoder.hear(read, samples)) for rows, read, samples in self._read(name, batch, wanted, epoch)]
        if not heard:
            return SpeechFrames(torch.zeros(0, 1, encoder.width), torch.zeros(0, 1), rows=wanted)
        longest = max(real.shape[1] for _, _, real in heard) if epoch is not None else encoder.frames(self.whole)
        frames = torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for _, part, _ in heard])
        real = torch.cat([F.pad(part, (0, longest - part.shape[1])) for _, _, part in heard])
        return SpeechFrames(frames, real, rows=torch.cat([rows for rows, _, _ in heard]))

    @torch.no_grad()
    def _read(
        self, name: str, batch: Numbered, wanted: Tensor, epoch: int | None, *, alike: bool = False
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield groups of rows: their positions (R,) in the batch, the encoder's input, and their numbers of samples.

        Args:
            name: name of the input.
            batch: compact rows.
            wanted: positions (R,) in the batch.
            epoch: epoch of the augmentation; None for none.
            alike: whether the result for a row must be independent of the other rows, to the last digit.
        """
        table = None if epoch is None else draws(self.config, epoch, self.count)
        form = INPUTS[name].form
        noisy = torch.zeros(len(wanted), dtype=torch.bool)
        if table is not None and form != CEPSTRA:
            noisy = torch.from_numpy(table.chosen[batch.rows[wanted.numpy()]])
        samples = self._lasting(batch.samples[wanted], table, batch.rows[wanted.numpy()])
        length = torch.where(noisy, self.whole, samples) if form == IMAGE else samples  # noise fills an image's silence
        for noise in (False, True):
            some = (noisy == noise).nonzero()[:, 0]
            for part, longest in self._groups(some, length, alike=alike):
                rows = wanted[part]
                changed = self._cut(name, batch, rows, longest if table is None else self._faster(longest))
                if table is not None:
                    changed = self._changed(changed, table, batch.rows[rows.numpy()], noise=noise, longest=longest)
                yield rows, silence.finished(self.model, name, changed[name], changed.samples), changed.samples

    def _groups(self, some: Tensor, length: Tensor, *, alike: bool) -> Iterator[tuple[Tensor, int]]:
        """Yield groups of rows of similar length, with the number of samples that are read of each row.

        Args:
            some: positions (R,) in `length`.
            length: lengths of rows, in samples.
            alike: whether the samples that are read of a row depend only on its own length.
        """
        ranked = some[length[some].argsort(stable=True)]
        steps = length[ranked].div(STEP, rounding_mode="floor").tolist() if alike else [0] * len(ranked)
        for step, group in groupby(zip(steps, ranked.tolist(), strict=True), key=itemgetter(0)):
            for part in torch.split(torch.tensor([place for _, place in group]), TOGETHER):
                yield part, self._longest((step + 1) * STEP if alike else int(length[part].max()))

    def _lasting(self, samples: Tensor, table: RowDraws | None, rows: Rows) -> Tensor:
        """Return the numbers of samples (R,) of rows after a change of speed, without padding.

        Args:
            samples: numbers of samples as stored (R,).
            table: the random draws; None for no augmentation.
            rows: rows of the manifest (R,).
        """
        if table is None or not self.config.augment.speed:
            return samples
        return augment.lasting(samples, self._factors(table, rows), self.whole)

    def _factors(self, table: RowDraws, rows: Rows) -> Tensor:
        """Return the factors of speed (R,) of rows of the manifest."""
        return augment.factors(torch.from_numpy(table.numbers["speed"][rows]), self.config.augment)

    def _longest(self, samples: int) -> int:
        """Return the number of samples to read of rows with up to `samples` samples; it includes some padding."""
        return silence.until(samples, self.audio)

    def _faster(self, longest: int) -> int:
        """Return the largest number of stored samples that rows of `longest` samples after a speed change need."""
        return min(self.whole, round(longest * (1 + self.config.augment.speed)))

    def _cut(self, name: str, batch: Batch, rows: Tensor, longest: int) -> Batch:
        """Select rows of one input of a batch, cut to `longest` samples.

        Args:
            name: name of the input.
            batch: compact rows.
            rows: positions (R,) in the batch.
            longest: number of samples.
        """
        cut = silence.shown(name, batch[name], longest, self.audio).index_select(0, rows)
        return Batch({name: cut}, batch.samples[rows], batch.label[rows], batch.utterance[rows])

    def _changed(self, batch: Batch, table: RowDraws, rows: Rows, *, noise: bool, longest: int) -> Batch:
        """Apply the augmentation of an epoch to a batch.

        Args:
            batch: a batch with one input, cut.
            table: the random draws.
            rows: rows of the manifest (R,).
            noise: whether noise is added to all rows, or to none.
            longest: number of samples that are read of each row.
        """
        settings, features = self.config.augment, self.config.features
        own = {name: torch.from_numpy(value[rows]) for name, value in table.numbers.items()}
        if settings.speed:
            batch = augment.speed(batch, self._factors(table, rows), self.whole)
            read = batch.inputs.items()
            batch = batch.changed({name: silence.shown(name, rows, longest, self.audio) for name, rows in read})
        if settings.gain:
            batch = augment.gain(batch, augment.decibels(own["gain"], settings), features)
        if noise:
            everything, ratio = torch.ones(len(batch), dtype=torch.bool), augment.ratios(own["ratio"])
            seeds, counts = table.seeds[rows].tolist(), batch.samples.tolist()
            batch = augment.noise(batch, everything, ratio, features, lambda like: white(like, seeds, counts))
        return masked(batch, own, self.config)


class RowwiseStep(Step):
    """A training step on rows with the augmentation of their epoch, which computes only the paths that are kept."""

    def __init__(self, model: SpeechEmotionModel, config: Config, *, rowwise: Rowwise, **options: Any) -> None:
        """Prepare a step.

        Args:
            model: the model to train.
            config: `train` and `augment` are used.
            rowwise: computes the model's inputs.
            options: options of `Step`.
        """
        super().__init__(model, config, **options)
        self.rowwise, self.epoch = rowwise, 0
        self.rows: Rows = np.zeros(0, np.int64)

    def __call__(self, batch: Batch, real: int, total: int) -> Tensor:
        """Take a step and return the summed loss of the first `real` segments; the others are not computed.

        Args:
            batch: a `Numbered` batch.
            real: number of segments that count.
            total: number of segments that count in all processes.
        """
        assert isinstance(batch, Numbered)
        count = self.config.train.epochs
        self.epoch, self.rows = self.done * count // self.steps, batch.rows[:real]
        return super().__call__(batch.first(real), real, total)

    def state(self) -> dict[str, Any]:
        """Return the state for a resumed fold, which must draw its augmentation in the same way."""
        return {**super().state(), DRAWN: BY_ROW}

    def _changed(self, batch: Batch) -> Batch:
        return batch

    def _output(self, batch: Batch, mix: Mix | None) -> Output:
        numbered = Numbered(batch.inputs, batch.samples, batch.label, batch.utterance, self.rows)
        output: Output = self.model(batch, mix, self.rowwise.known(numbered, self.epoch))
        return output


class RowwiseForward(Forward):
    """A model's output for a batch in evaluation mode, with cached statistics and without computing padding."""

    def __init__(self, rowwise: Rowwise, context: FoldContext) -> None:
        super().__init__(rowwise.model, context.autocast)
        self.rowwise = rowwise

    def __call__(self, batch: Batch) -> Output:
        """Return the output of the model with its current weights."""
        if not isinstance(batch, Numbered):  # a changed batch, as in a probe
            return super().__call__(batch)
        self.model.eval()
        output: Output = self.model(batch, None, self.rowwise.known(batch, None))
        return output


def fit_statistics(model: SpeechEmotionModel, context: FoldContext) -> None:
    """Fit the standardisation of the small encoders' statistics on a fold's training rows."""
    batches = context.segments(context.fold.train)
    if fits(model, context):
        Rowwise(model, context).fit_statistics(batches)
    else:
        model.fit_statistics(part for batch in batches for part in drawings(batch))


def forward_of(step: Step, context: FoldContext) -> Forward:
    """Return the forward pass that evaluates the model of a step during training."""
    if isinstance(step, RowwiseStep):
        return RowwiseForward(Rowwise(step.evaluated, context), context)
    return Forward(step.evaluated, context.autocast, step.pool)
