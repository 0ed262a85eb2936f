"""Frames of a frozen speech encoder, several layers side by side: of whole utterances, or a segment at a time.

Shapes: S segments, L layers, T frames of a segment, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_pipeline.config import Config
from ser_pipeline.device import batches_beside
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.utterances import UtteranceFrames, utterance_signals
from ser_pipeline.model import speech
from ser_pipeline.model.inputs import FinishWaveform

ENCODER_BATCH = 32
"""Segments that go through the encoder at a time, where each is alone."""

CORE_BATCH = 1
"""The same on the processor, where every core has a batch of its own: frames then depend on no other segment."""

LARGEST = 65_504.0
"""The largest finite number of float16."""


@dataclass(frozen=True)
class Embedder:
    """A frozen speech encoder on its device, whose frames of each segment are kept, which it hears alone."""

    encoder: speech.FrameEncoder
    layers: tuple[int, ...]  # that are kept: 0 is the input of the first; empty: all
    content: str  # hash of its configuration and weights
    segment: int  # samples
    device: torch.device
    finish: FinishWaveform = field(default_factory=lambda: FinishWaveform(unit=False))

    def __call__(
        self, waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64], keys: Sequence[str]
    ) -> list[NDArray[np.float16]]:
        """Frames (S, L, T, D) of each utterance."""
        size = CORE_BATCH if self.device.type == "cpu" else ENCODER_BATCH
        batches = [slice(first, first + size) for first in range(0, len(waveforms), size)]
        with batches_beside(self.device) as threads:
            parts = list(threads.map(self._batch, *([x[part] for part in batches] for x in (waveforms, samples))))
        return np.split(np.asarray(torch.cat(parts).numpy()), np.cumsum(counts)[:-1])

    @torch.inference_mode()
    def _batch(self, waveforms: NDArray[np.int16], samples: NDArray[np.int64]) -> Tensor:
        """Frames float16 (S, L, T, D) of a batch of S segments."""
        rows, real = (torch.from_numpy(part).to(self.device) for part in (waveforms, samples))
        states, heard = self.encoder.states(self.encoder.prepare(self.finish(rows, real), real))
        layers = torch.stack([states[layer] for layer in self.layers or range(len(states))], 1)
        if self.encoder.mask_padding:
            layers = layers.masked_fill(~heard[:, None, :, None], 0.0)
        return _half(layers).cpu()

    def found(self) -> dict[str, Any]:
        """Layers, frames and width of a segment, and the hash of the weights."""
        depth, width = len(self.layers) or self.encoder.layers + 1, self.encoder.width
        sizes = {"depth": depth, "frames": self._frames, "width": width}
        return {"content": self.content, **sizes, **self.encoder.origin}

    @property
    def _frames(self) -> int:
        return self.encoder.frames(self.segment)


@dataclass(frozen=True)
class UtteranceEmbedder(Embedder):
    """A frozen speech encoder whose frames of each segment are kept, which it hears with the rest of the utterance."""

    def __call__(
        self, waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64], keys: Sequence[str]
    ) -> list[NDArray[np.float16]]:
        """Frames (S, L, T, D) of each utterance; zeros after its end."""
        signals = list(utterance_signals(waveforms, samples, counts))
        frames = self._through(signals, lambda layers: _half(layers).cpu())
        return [self._segments(whole, count) for whole, count in zip(frames, counts.tolist(), strict=True)]

    @property
    def _through(self) -> UtteranceFrames:
        return UtteranceFrames(self.encoder, self.layers, self.device)

    @property
    def _frames(self) -> int:
        return -int(-self.segment // self._through.stride)

    def _segments(self, frames: Tensor, count: int) -> NDArray[np.float16]:
        """Frames (L, N, D) of an utterance as those of its segments (count, L, T, D)."""
        most, stride = self._frames, self._through.stride
        rows = frames.new_zeros(count, len(frames), most, frames.shape[2])
        for number, row in enumerate(rows):
            first, end = (round(place * self.segment / stride) for place in (number, number + 1))
            part = frames[:, first : min(end, first + most)]
            row[:, : part.shape[1]] = part
        return np.asarray(rows.numpy())


EMBEDDERS = {"segment": Embedder, "utterance": UtteranceEmbedder}
"""Setting `features.embedding.context` -> what makes the frames."""


def _half(frames: Tensor) -> Tensor:
    """Frames in float16, the largest of which stay finite."""
    return frames.clamp(-LARGEST, LARGEST).half()


def open_embedder(config: Config, device: torch.device, kept: speech.KeptEncoder | None = None) -> Embedder:
    """The encoder of `features.embedding`, ready to be called.

    Args:
        config: names the encoder and how it is read.
        device: on which it runs.
        kept: the encoder itself, where it was kept beside a model; None: it is looked up by its name.

    Raises:
        PipelineError: it cannot be had, or has no such layer.
    """
    settings = config.features.embedding
    options = speech.Options(
        mask_padding=settings.mask_padding or settings.context == "utterance",
        window=settings.window,
        frozen=True,
        inner=tuple(settings.layers) != (-1,),
    )
    encoder = speech.open_frozen(
        settings.encoder, options, setting="features.embedding.encoder", rate=config.audio.rate, kept=kept
    )
    check_layers(encoder, settings.layers, settings.encoder, "features.embedding.layers")
    encoder = encoder.to(device).eval()
    return EMBEDDERS[settings.context](encoder, settings.layers, encoder.fingerprint(), config.audio.segment, device)


def check_layers(encoder: speech.FrameEncoder, layers: Sequence[int], name: str, setting: str) -> None:
    """Refuse layers that an encoder does not have.

    Args:
        encoder: the encoder.
        layers: what the setting says.
        name: of the encoder.
        setting: name of the setting, for the message.

    Raises:
        PipelineError: names the layers that there are.
    """
    count = encoder.layers + 1
    if any(not -count <= layer < count for layer in layers):
        raise PipelineError(
            f"'{setting}' is a list of 0 to {count - 1} for {name}, or of -1 for the last and so on, not {list(layers)}"
        )
