"""Frames of a frozen speech encoder, from several layers: of whole utterances, or of one segment at a time.

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
"""Segments in one batch of the encoder on a GPU, where each segment is encoded alone."""

CORE_BATCH = 1
"""Segments in one batch on a CPU. Every core works on a batch of its own, so no segment's frames depend on another."""

LARGEST = 65_504.0
"""The largest finite float16 number."""


@dataclass(frozen=True)
class Embedder:
    """A frozen speech encoder on its device that encodes each segment alone."""

    encoder: speech.FrameEncoder
    layers: tuple[int, ...]  # layers to store: 0 is the input of the first; empty: all
    content: str  # hash of the encoder's configuration and weights
    segment: int  # samples
    device: torch.device
    finish: FinishWaveform = field(default_factory=lambda: FinishWaveform(unit=False))

    def __call__(
        self, waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64], keys: Sequence[str]
    ) -> list[NDArray[np.float16]]:
        """Frames (S, L, T, D) of each utterance's segments."""
        size = CORE_BATCH if self.device.type == "cpu" else ENCODER_BATCH
        batches = [slice(first, first + size) for first in range(0, len(waveforms), size)]
        with batches_beside(self.device) as threads:
            parts = list(threads.map(self._batch, *([x[part] for part in batches] for x in (waveforms, samples))))
        return np.split(np.asarray(torch.cat(parts).numpy()), np.cumsum(counts)[:-1])

    @torch.inference_mode()
    def _batch(self, waveforms: NDArray[np.int16], samples: NDArray[np.int64]) -> Tensor:
        """Frames (S, L, T, D), float16, of a batch of S segments."""
        rows, real = (torch.from_numpy(part).to(self.device) for part in (waveforms, samples))
        states, heard = self.encoder.states(self.encoder.prepare(self.finish(rows, real), real))
        layers = torch.stack([states[layer] for layer in self.layers or range(len(states))], 1)
        if self.encoder.mask_padding:
            layers = layers.masked_fill(~heard[:, None, :, None], 0.0)
        return _half(layers).cpu()

    def found(self) -> dict[str, Any]:
        """Number of layers, frames and width of a segment, and the hash of the weights."""
        depth, width = len(self.layers) or self.encoder.layers + 1, self.encoder.width
        sizes = {"depth": depth, "frames": self._frames, "width": width}
        return {"content": self.content, **sizes, **self.encoder.origin}

    @property
    def _frames(self) -> int:
        return self.encoder.frames(self.segment)


@dataclass(frozen=True)
class UtteranceEmbedder(Embedder):
    """A frozen speech encoder that encodes whole utterances, whose frames are then cut into segments."""

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
        """Cut the frames (L, N, D) of an utterance into those of its segments (count, L, T, D)."""
        most, stride = self._frames, self._through.stride
        rows = frames.new_zeros(count, len(frames), most, frames.shape[2])
        for number, row in enumerate(rows):
            first, end = (round(place * self.segment / stride) for place in (number, number + 1))
            part = frames[:, first : min(end, first + most)]
            row[:, : part.shape[1]] = part
        return np.asarray(rows.numpy())


EMBEDDERS = {"segment": Embedder, "utterance": UtteranceEmbedder}
"""Value of the setting `features.embedding.context` -> the class that computes the frames."""


def _half(frames: Tensor) -> Tensor:
    """Convert frames to float16; values beyond its range are clipped and stay finite."""
    return frames.clamp(-LARGEST, LARGEST).half()


def open_embedder(config: Config, device: torch.device, kept: speech.KeptEncoder | None = None) -> Embedder:
    """Open the encoder of `features.embedding`.

    Args:
        config: names the encoder and its options.
        device: device that the encoder runs on.
        kept: the encoder itself, if it is stored next to a model; None looks it up by its name.

    Raises:
        PipelineError: the encoder is not available, or lacks one of the layers.
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
        layers: value of the setting.
        name: name of the encoder.
        setting: name of the setting, for the message.

    Raises:
        PipelineError: names the valid layers.
    """
    count = encoder.layers + 1
    if any(not -count <= layer < count for layer in layers):
        raise PipelineError(
            f"'{setting}' lists layers 0 to {count - 1} of {name}, or -1 for the last and so on, not {list(layers)}"
        )
