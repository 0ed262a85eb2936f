"""Acoustic features computed on the device: from stored waveforms in a training step, or from a recording's samples.

The frames of a segment reach into the samples around it, which are read from the neighbouring segments
(`data.surroundings`). Its levels are relative to the loudest frame of the whole utterance, which is stored with each
segment (`inputs.LEVELS`).

Shapes: B segments, N samples of a segment, T its frames, K bins or bands, P samples of a segment with those around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.config import Audio, Features
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.surroundings import AROUND, PLACE
from ser_pipeline.features.acoustic import rounded
from ser_pipeline.features.on_device import FRONTS, Bands, Front
from ser_pipeline.features.on_device import rounded as rounded_there
from ser_pipeline.inputs import CEPSTRA, INPUTS

EMPHASIS = 2
"""Samples before a frame's own that pre-emphasis and reflection need."""

AT_A_TIME = {"cpu": 2}
"""Type of device -> segments that are transformed at once: as many as fit a processor's cache."""

ON_OTHERS = 128
"""Segments that are transformed at once on any other device: half a gigabyte of frames."""

STRETCH = 96
"""Segments of a recording whose logarithms are in memory at once: a multiple of `streamed.SEGMENTS`."""

WAVEFORM = "waveform"
"""The input that is stored unchanged."""

Read = Callable[[int, int], NDArray[np.float32]]
"""Reads samples of a recording, -1 to 1, from the first position to before the last."""


@dataclass(frozen=True)
class Renderer:
    """Names and settings of features that are computed from samples, without a device."""

    names: tuple[str, ...]
    audio: Audio  # settings of the segments
    features: Features

    @cached_property
    def fronts(self) -> dict[str, Front]:
        """The module of each feature."""
        return {name: FRONTS[name](self.audio, getattr(self.features, name)) for name in self.names}

    @property
    def before(self) -> int:
        """Samples before a segment that its features depend on."""
        return EMPHASIS + max((front.bands.before for front in self.fronts.values()), default=0)

    @property
    def after(self) -> int:
        """Samples after a segment that its features depend on."""
        return max((front.bands.after for front in self.fronts.values()), default=0)

    def on(self, device: torch.device, reads: tuple[str, ...] = ()) -> Rendering:
        """The features on a device.

        Args:
            device: device that computes the features.
            reads: the inputs of a batch, in their order; those that are not computed are passed through as stored.
        """
        return Rendering(self, device, reads)


@dataclass(frozen=True)
class Rendering:
    """Computes features on a device."""

    made: Renderer
    device: torch.device
    reads: tuple[str, ...] = ()
    fronts: dict[str, Front] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fronts", {name: one.to(self.device) for name, one in self.made.fronts.items()})

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Replace the levels and surroundings of a batch of waveforms by the features."""
        wave, around, before = batch["waveform"], batch[AROUND], self.made.before
        made: dict[str, list[Tensor]] = {name: [] for name in self.made.names}
        for part in self._parts(len(batch)):
            padded = torch.cat([around[part, :before], wave[part, 1:], around[part, before:]], 1).float() / FULL_SCALE
            places, real = batch[PLACE][part], self._real(batch[PLACE][part])
            for name, rows in made.items():
                with exact(self.device):
                    logs = self.fronts[name].bands.kept(self._signal(name, padded, places))
                rows.append(self._rows(name, logs, batch[f"{name}_level"][part, :1, None], real))
        found = {name: rows[0] if len(rows) == 1 else torch.cat(rows) for name, rows in made.items()}
        inputs = {name: found[name] if name in found else batch[name] for name in self.reads}
        return Batch(inputs, batch.samples, batch.label, batch.utterance)

    def rows(self, name: str, samples: NDArray[np.float32]) -> NDArray[Any]:
        """The rows (S, ...) of a feature of a whole utterance (N,), -1 to 1, as stores contain them."""
        return np.concatenate(list(self.parts(name, lambda first, last: samples[first:last], len(samples))))

    @torch.no_grad()
    def several(self, samples: Tensor, spans: Tensor, utterance: Tensor) -> dict[str, Tensor]:
        """The rows (B, ...) of the features and of the stored waveforms for the segments of several whole utterances.

        Args:
            samples: all utterances, one after the other, -1 to 1 (N,).
            spans: for each segment, where its utterance begins in `samples`, where the segment begins in the utterance,
                and the number of samples of the utterance (B, 3).
            utterance: number of each segment's utterance, from 0 on (B,).
        """
        size, before = self.made.audio.segment, self.made.before
        first, start, length = spans.unbind(1)
        place = start[:, None] + torch.arange(-before, size + self.made.after, device=self.device)
        inside = (place >= 0) & (place < length[:, None])
        whole = rounded_there(samples)[(first[:, None] + place).clamp(0, len(samples) - 1)] * inside
        rows = {WAVEFORM: whole[:, before - 1 : before + size].to(torch.int16)}
        padded, places = whole / FULL_SCALE, torch.stack([start, length - start], 1)
        for name in self.made.names:
            parts = [self._logarithms(name, padded[part], places[part]) for part in self._parts(len(spans))]
            logs, largest, real = (torch.cat(each) for each in zip(*parts, strict=True))
            heard = largest.masked_fill(~real, -torch.inf).amax((1, 2))
            loudest = torch.full_like(heard, -torch.inf).scatter_reduce(0, utterance, heard, "amax")
            rows[name] = self._rows(name, logs, loudest[utterance, None, None], real)
        return rows

    @torch.no_grad()
    def parts(self, name: str, read: Read, samples: int) -> Iterator[NDArray[Any]]:
        """The rows of a feature of a recording, read a stretch at a time; several stretches are read twice.

        Args:
            name: name of the feature.
            read: reads samples of the recording.
            samples: number of samples.
        """
        total = self.made.audio.segments(samples)
        spans = [(first, min(first + STRETCH, total)) for first in range(0, total, STRETCH)]
        loudest = torch.tensor(-torch.inf, device=self.device)
        for span in spans:
            kept = self._heard(name, read, samples, span)
            loudest = torch.maximum(loudest, kept[1].masked_fill(~kept[2], -torch.inf).amax())
        for span in spans:
            logs, _, real = kept if len(spans) == 1 else self._heard(name, read, samples, span)
            yield self._rows(name, logs, loudest, real).cpu().numpy()

    def _heard(self, name: str, read: Read, samples: int, span: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms, their maxima and the real frames of the segments `span` of a recording."""
        size, before, after = self.made.audio.segment, self.made.before, self.made.after
        first, last = span[0] * size - before, span[1] * size + after
        given = torch.from_numpy(rounded(read(max(0, first), min(samples, last)))).to(self.device)
        padded = F.pad(given, (max(0, -first), max(0, last - samples)))
        several = padded.unfold(0, before + size + after, size)
        starts = torch.arange(*span, device=self.device) * size
        places = torch.stack([starts, samples - starts], 1)
        parts = [self._logarithms(name, several[part], places[part]) for part in self._parts(len(several))]
        logs, largest, real = (torch.cat(each) for each in zip(*parts, strict=True))
        return logs, largest, real

    def _parts(self, count: int) -> list[slice]:
        """Split `count` segments into slices of as many as are transformed at once."""
        most = AT_A_TIME.get(self.device.type, ON_OTHERS)
        return [slice(first, first + most) for first in range(0, count, most)]

    def _logarithms(self, name: str, padded: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms (B, T, K), the largest of each frame (B, T, 1), and which frames are real.

        Args:
            name: name of the feature.
            padded: segments with the samples around them (B, P).
            places: samples of the utterance before each segment, and from the segment's start on (B, 2).
        """
        with exact(self.device):
            logs, largest = self.fronts[name].bands.logarithms(self._signal(name, padded, places))
        return logs, largest, self._real(places)

    def _signal(self, name: str, padded: Tensor, places: Tensor) -> Tensor:
        """The samples (B, before + N + after) that a feature's bands or bins need; arguments as in `_logarithms`."""
        bands, before = self.fronts[name].bands, self.made.before
        whole = _as_heard(padded, places, bands, before)
        return whole[:, before - bands.before : before + self.made.audio.segment + bands.after]

    def _real(self, places: Tensor) -> Tensor:
        """Which frames (B, T, 1) of segments at `places` (B, 2) are real."""
        frame = torch.arange(self.made.audio.frames, device=places.device)
        return (frame <= places[:, 1:] // self.made.audio.hop)[..., None]

    def _rows(self, name: str, logs: Tensor, loudest: Tensor, real: Tensor) -> Tensor:
        with exact(self.device):
            rows = self.fronts[name].rows(logs, loudest, real)
        return rows.half() if INPUTS[name].form == CEPSTRA else rows.to(torch.uint8)


def _as_heard(padded: Tensor, places: Tensor, bands: Bands, before: int) -> Tensor:
    """Apply pre-emphasis to segments with the samples around them (B, P), and mirror them where the utterance ends.

    Args:
        padded: samples, 0 beyond the utterance.
        places: as in `Rendering._logarithms`.
        bands: bands or bins, with their pre-emphasis and padding.
        before: samples before the segment.
    """
    place = torch.arange(padded.shape[1], device=padded.device) - before
    start, left = places[:, :1], places[:, 1:]
    if bands.pre_emphasis:
        emphasised = padded - bands.pre_emphasis * F.pad(padded, (1, 0))[:, :-1]
        padded = emphasised * ((place >= -start) & (place < left))
    if bands.pad_mode != "reflect":
        return padded
    last = start + left - 1
    turned = (place + start) % (2 * last).clamp(min=1)
    turned = torch.where(turned > last, 2 * last - turned, turned) - start + before
    return padded.gather(1, turned.clamp(0, padded.shape[1] - 1))


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute products in float32 whatever precision training uses: the ten bits of TF32 would change the MFCCs."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
