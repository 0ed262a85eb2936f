"""Statistics of a frozen speech encoder's frames over whole utterances, as they are and in augmented drawings.

An utterance goes through the encoder whole (`utterances`). Each frame is normalised to zero mean and unit variance over
its width, so that no layer and no loud frame outweighs the others.

Shapes: U utterances, N samples, T frames, D width of the encoder, V one more than the drawings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.config import Config, Statistics
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.embeddings import check_layers
from ser_pipeline.features.utterances import Signal, UtteranceFrames, utterance_signals
from ser_pipeline.model import speech

RATIOS = (10.0, 30.0)
"""dB of speech over noise in augmented drawings, least and most."""


def thirds(frames: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last third of frames (T, D); one frame at least."""
    count = max(1, len(frames) // 3)
    return frames[:count], frames[-count:]


KINDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda frames: frames.mean(0),
    "deviation": lambda frames: frames.std(0, correction=0),
    "first": lambda frames: thirds(frames)[0].mean(0),
    "last": lambda frames: thirds(frames)[1].mean(0),
}
"""Kind of statistic -> its value (D,) for the frames (T, D) of an utterance; the last two are means of outer thirds."""


@dataclass(frozen=True)
class StatisticsMaker:
    """A frozen speech encoder on its device, of whose frames statistics are kept."""

    encoder: speech.FrameEncoder
    settings: Statistics
    content: str  # hash of its configuration and weights
    device: torch.device

    @torch.inference_mode()
    def __call__(
        self, waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64], keys: Sequence[str]
    ) -> list[NDArray[np.float16]]:
        """Statistics (1, V, width) of each utterance: as it is first, then the drawings."""
        signals = list(utterance_signals(waveforms, samples, counts))
        drawn = [
            drawing(signal, key, number, self.settings, self.encoder.rate) if number else signal
            for signal, key in zip(signals, keys, strict=True)
            for number in range(1 + self.settings.draws)
        ]
        made = self.of(drawn).reshape(len(signals), 1, 1 + self.settings.draws, -1)
        return list(made)

    def of(self, signals: Sequence[Signal]) -> NDArray[np.float16]:
        """Statistics (len(signals), width) of float32 signals (N,) in [-1, 1]."""
        frames = self._through(signals, lambda layers: F.layer_norm(layers, layers.shape[-1:]))
        rows = [self._summed_up(list(layers)) for layers in frames]
        return np.asarray(torch.stack(rows).half().cpu().numpy())

    def found(self) -> dict[str, Any]:
        """Numbers an utterance, and the hash of the weights."""
        width = len(self._through.numbers) * len(self.settings.kinds) * self.encoder.width
        return {"content": self.content, "width": width, **self.encoder.origin}

    @property
    def _through(self) -> UtteranceFrames:
        return UtteranceFrames(self.encoder, self.settings.layers, self.device)

    def _summed_up(self, layers: Sequence[Tensor]) -> Tensor:
        """Statistics (width,) of the frames of each layer."""
        return torch.cat([KINDS[kind](frames) for frames in layers for kind in self.settings.kinds])


def open_statistics(config: Config, device: torch.device, kept: speech.KeptEncoder | None = None) -> StatisticsMaker:
    """The encoder of `features.statistics`, ready to be called.

    Args:
        config: names the encoder and how it is read.
        device: on which it runs.
        kept: the encoder itself, where it was kept beside a model; None: it is looked up by its name.

    Raises:
        PipelineError: it cannot be had, or has no such layer, or there is no such kind of statistic.
    """
    settings = config.features.statistics
    unknown = [kind for kind in settings.kinds if kind not in KINDS]
    if unknown or not settings.kinds:
        raise PipelineError(f"'features.statistics.kinds' is a list of {', '.join(KINDS)}, not {list(settings.kinds)}")
    options = speech.Options(window=settings.window, frozen=True, inner=tuple(settings.layers) != (-1,))
    encoder = speech.open_frozen(
        settings.encoder, options, setting="features.statistics.encoder", rate=config.audio.rate, kept=kept
    )
    check_layers(encoder, settings.layers, settings.encoder, "features.statistics.layers")
    encoder = encoder.to(device).eval()
    return StatisticsMaker(encoder, settings, encoder.fingerprint(), device)


def drawing(signal: Signal, key: str, number: int, settings: Statistics, rate: int) -> Signal:
    """An augmented drawing of a signal (N,), the same on every machine: speed with pitch, level, white noise.

    Args:
        signal: float32 in [-1, 1].
        key: of the utterance; with `number`, what the drawing follows from.
        number: of the drawing, from 1 on.
        settings: how far a drawing may go.
        rate: samples a second.
    """
    random = np.random.Generator(np.random.PCG64([int(key[:16], 16), number]))
    factor = 1 + settings.speed * random.uniform(-1, 1)
    level = 10 ** (settings.gain * random.uniform(-1, 1) / 20)
    noisy, ratio = random.random() < settings.noise, random.uniform(*RATIOS)
    count = max(1, round(len(signal) / factor))
    changed = np.interp(np.arange(count) * factor, np.arange(len(signal)), signal)
    if noisy:
        power = float(np.mean(np.square(changed)))
        changed = changed + np.sqrt(power * 10 ** (-ratio / 10)) * random.standard_normal(count)
    drawn: Signal = np.clip(level * changed, -1, 1).astype(np.float32)
    return drawn
