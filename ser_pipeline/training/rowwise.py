"""Training of the small encoders on a processor, row by row: nothing is computed that a step does not need.

What a row is changed by in an epoch is drawn from the run's seed, the epoch and the row alone, so the statistics of the
changed row, which have no weights, are computed once for all folds. A learned path that a step leaves out of a segment
is not computed for it, nor is the silence after it: rows of similar length go through an encoder together. What a step
takes from this is what the plain model gives, to rounding. Shapes: B batch, R rows that are wanted, S statistics.
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
"""Rows of similar length that go through an encoder at once: few enough for the processor's cache."""

STEP = 8_000
"""Samples in which lengths are told apart where rows must not depend on each other."""

BY_ROW = "row"
"""What the state of a fold that is trained in this way holds as `DRAWN`."""

_MEMORIES: WeakKeyDictionary[Any, StatisticsMemory] = WeakKeyDictionary()
"""Where the rows come from -> what was computed of them in this process."""


def fits(model: SpeechEmotionModel, context: FoldContext) -> bool:
    """Whether a fold is trained in this way: small encoders on a processor, of rows that are changed at random."""
    config = context.config
    change = config.augment
    random = change.speed or change.gain or change.noise or change.frame_masks or change.bin_masks
    small = silence.is_heard_alone(model)
    alone = context.world.size == 1 and not context.micro and isinstance(context.source, NumberedSource)
    exact = context.device.type == "cpu" and precision(config.train.precision, context.device) == "fp32"
    return bool(random and small and alone and exact and config.model.small_drop < 1)


class Rowwise:
    """What a fold's model is given of rows beside the weights' own work."""

    def __init__(self, model: Any, context: FoldContext) -> None:
        """Find what was computed of these rows by other folds of this process.

        Args:
            model: of the fold, of small encoders.
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
        """Standardise the statistics over the fold's training rows, as they are stored."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.encoders}
        for batch in batches:
            assert isinstance(batch, Numbered)
            for name, rows in self.statistics(batch, None).items():
                found[name].append(rows)
        for name, encoder in self.encoders.items():
            encoder.standard.fit(found[name])

    def known(self, batch: Numbered, epoch: int | None) -> Known:
        """What the model makes of a batch, its statistics from before and its learned paths where they count.

        Args:
            batch: compact rows, as they are stored.
            epoch: of training, from 0 on, in which they are changed; None: they stay, and every path counts.
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
        """Name of an input -> statistics (B, S) of a batch, computed where no fold did so before.

        Args:
            batch: compact rows, as they are stored.
            epoch: in which they are changed; None: they stay.
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
        """What the statistics of an input depend on."""
        config = self.config
        scale = tuple(value.numpy().tobytes() for value in self.model.finish[name].state_dict().values())
        drawn = None if epoch is None else (config.seed, epoch, config.augment)
        return name, drawn, config.model_audio, config.features, config.model.small_width, scale

    def _frames(self, name: str, batch: Numbered, wanted: Tensor, epoch: int | None) -> SpeechFrames:
        """Frames of the rows `wanted` of a batch.

        Args:
            name: of the speech input.
            batch: compact rows.
            wanted: places (R,) in the batch.
            epoch: in which they are changed; None: they stay.
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
        """Places (R,) of some of the rows `wanted`, what the encoder reads of them, and their real samples.

        Args:
            name: of the input.
            batch: compact rows.
            wanted: places (R,) in the batch.
            epoch: in which they are changed; None: they stay.
            alike: whether what is made of a row must not depend on those beside it, to the last digit.
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
        """Rows of similar length, and the samples that are read of them.

        Args:
            some: places (R,) in `length`.
            length: samples.
            alike: whether the samples that are read of a row depend on its own length alone.
        """
        ranked = some[length[some].argsort(stable=True)]
        steps = length[ranked].div(STEP, rounding_mode="floor").tolist() if alike else [0] * len(ranked)
        for step, group in groupby(zip(steps, ranked.tolist(), strict=True), key=itemgetter(0)):
            for part in torch.split(torch.tensor([place for _, place in group]), TOGETHER):
                yield part, self._longest((step + 1) * STEP if alike else int(length[part].max()))

    def _lasting(self, samples: Tensor, table: RowDraws | None, rows: Rows) -> Tensor:
        """Real samples (R,) of rows as they are read.

        Args:
            samples: as they are stored (R,).
            table: what was drawn for the rows; None: they stay.
            rows: of the manifest (R,).
        """
        if table is None or not self.config.augment.speed:
            return samples
        return augment.lasting(samples, self._factors(table, rows), self.whole)

    def _factors(self, table: RowDraws, rows: Rows) -> Tensor:
        """How many times as fast rows of the manifest are (R,)."""
        return augment.factors(torch.from_numpy(table.numbers["speed"][rows]), self.config.augment)

    def _longest(self, samples: int) -> int:
        """Samples that are read of rows of at most so many: some silence follows."""
        return silence.until(samples, self.audio)

    def _faster(self, longest: int) -> int:
        """Stored samples that rows of so many samples are read from at most."""
        return min(self.whole, round(longest * (1 + self.config.augment.speed)))

    def _cut(self, name: str, batch: Batch, rows: Tensor, longest: int) -> Batch:
        """Rows of a batch in one input, up to `longest` samples.

        Args:
            name: of the input.
            batch: compact rows.
            rows: places (R,) in the batch.
            longest: samples.
        """
        cut = silence.shown(name, batch[name], longest, self.audio).index_select(0, rows)
        return Batch({name: cut}, batch.samples[rows], batch.label[rows], batch.utterance[rows])

    def _changed(self, batch: Batch, table: RowDraws, rows: Rows, *, noise: bool, longest: int) -> Batch:
        """A batch as its rows are changed in an epoch.

        Args:
            batch: of one input, cut.
            table: what was drawn for the rows.
            rows: of the manifest (R,).
            noise: whether there is noise under all of them, or under none.
            longest: samples that are read of them.
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
    """A step on rows that are changed as the epoch has drawn it, with no path computed that is left out."""

    def __init__(self, model: SpeechEmotionModel, config: Config, *, rowwise: Rowwise, **options: Any) -> None:
        """Prepare a step.

        Args:
            model: what is trained.
            config: `train` and `augment` are used.
            rowwise: what the model is given of rows.
            options: those of `Step`.
        """
        super().__init__(model, config, **options)
        self.rowwise, self.epoch = rowwise, 0
        self.rows: Rows = np.zeros(0, np.int64)

    def __call__(self, batch: Batch, real: int, total: int) -> Tensor:
        """Take a step; returns the summed loss of the first `real` segments; the others are not computed.

        Args:
            batch: with its rows.
            real: segments that count.
            total: segments that count over all processes.
        """
        assert isinstance(batch, Numbered)
        count = self.config.train.epochs
        self.epoch, self.rows = self.done * count // self.steps, batch.rows[:real]
        return super().__call__(batch.first(real), real, total)

    def state(self) -> dict[str, Any]:
        """What a resumed fold needs, which must draw as this one does."""
        return {**super().state(), DRAWN: BY_ROW}

    def _changed(self, batch: Batch) -> Batch:
        return batch

    def _output(self, batch: Batch, mix: Mix | None) -> Output:
        numbered = Numbered(batch.inputs, batch.samples, batch.label, batch.utterance, self.rows)
        output: Output = self.model(batch, mix, self.rowwise.known(numbered, self.epoch))
        return output


class RowwiseForward(Forward):
    """A model's output over a batch in evaluation mode, its statistics from before and no silence computed."""

    def __init__(self, rowwise: Rowwise, context: FoldContext) -> None:
        super().__init__(rowwise.model, context.autocast)
        self.rowwise = rowwise

    def __call__(self, batch: Batch) -> Output:
        """The output of the model as its weights are now."""
        if not isinstance(batch, Numbered):  # changed, as in a probe
            return super().__call__(batch)
        self.model.eval()
        output: Output = self.model(batch, None, self.rowwise.known(batch, None))
        return output


def fit_statistics(model: SpeechEmotionModel, context: FoldContext) -> None:
    """Standardise the statistics of the small encoders over a fold's training rows."""
    batches = context.segments(context.fold.train)
    if fits(model, context):
        Rowwise(model, context).fit_statistics(batches)
    else:
        model.fit_statistics(part for batch in batches for part in drawings(batch))


def forward_of(step: Step, context: FoldContext) -> Forward:
    """What evaluates the model of a step while it is trained."""
    if isinstance(step, RowwiseStep):
        return RowwiseForward(Rowwise(step.evaluated, context), context)
    return Forward(step.evaluated, context.autocast, step.pool)
