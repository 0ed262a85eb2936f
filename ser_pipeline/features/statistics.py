"""Statistics of a frozen speech encoder's frames over whole utterances, unchanged and in augmented versions.

Each utterance goes through the encoder whole (`utterances`). Each frame is normalised to zero mean and unit variance
over its width, so that no layer and no loud frame outweighs the others.

Shapes: U utterances, N samples, T frames, D width of the encoder, V one more than the augmented versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from ser_pipeline.processes import cores

RATIOS = (10.0, 30.0)
"""Smallest and largest signal-to-noise ratio of augmented versions, dB."""

THREADS = 8
"""Maximum number of threads that compute augmented versions: with more, they wait for one another."""


def averaged(values: Tensor, real: Tensor) -> Tensor:
    """Means (B, D) of values (B, T, D) over the frames that are `real` (B, T) bool."""
    weights = real[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1)


def deviation(frames: Tensor, real: Tensor) -> Tensor:
    """Standard deviations (B, D) of frames (B, T, D) over the frames that are `real` (B, T) bool."""
    return averaged((frames - averaged(frames, real)[:, None]).square(), real).sqrt()


def thirds(real: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (B, T) bool of the first and of the last third of the frames that are `real`, at least one frame each."""
    place, total = real.cumsum(1), real.sum(1, keepdim=True)
    count = torch.div(total, 3, rounding_mode="floor").clamp(min=1)
    return real & (place <= count), real & (place > total - count)


KINDS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": averaged,
    "deviation": deviation,
    "first": lambda frames, real: averaged(frames, thirds(real)[0]),
    "last": lambda frames, real: averaged(frames, thirds(real)[1]),
}
"""Kind of statistic -> its function of frames (B, T, D) and `real` (B, T) with values (B, D)."""


@dataclass(frozen=True)
class StatisticsMaker:
    """A frozen speech encoder on its device that computes statistics of its frames."""

    encoder: speech.FrameEncoder
    settings: Statistics
    content: str  # hash of the encoder's configuration and weights
    device: torch.device

    @torch.inference_mode()
    def __call__(
        self, waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64], keys: Sequence[str]
    ) -> list[NDArray[np.float16]]:
        """Statistics (1, V, width) of each utterance: of the unchanged utterance, then of its augmented versions."""
        signals = list(utterance_signals(waveforms, samples, counts))
        numbers = range(1 + self.settings.draws)
        wanted = [(signal, key, number) for signal, key in zip(signals, keys, strict=True) for number in numbers]
        with ThreadPoolExecutor(min(cores(), THREADS)) as threads:
            drawn = list(threads.map(lambda one: self._drawn(*one), wanted))
        return list(self.of(drawn).reshape(len(signals), 1, len(numbers), -1))

    def of(self, signals: Sequence[Signal]) -> NDArray[np.float16]:
        """Statistics (len(signals), width) of float32 signals (N,) in [-1, 1]."""
        return np.asarray(self.through.summed_up(signals, self._summary).half().cpu().numpy())

    def found(self) -> dict[str, Any]:
        """Number of statistics of an utterance, and the hash of the weights."""
        width = len(self.through.numbers) * len(self.settings.kinds) * self.encoder.width
        return {"content": self.content, "width": width, **self.encoder.origin}

    @property
    def through(self) -> UtteranceFrames:
        """The encoder as a function of whole utterances."""
        return UtteranceFrames(self.encoder, self.settings.layers, self.device)

    def _drawn(self, signal: Signal, key: str, number: int) -> Signal:
        """The augmented version `number` of a signal; 0 is the signal itself."""
        return drawing(signal, key, number, self.settings, self.encoder.rate) if number else signal

    def _summary(self, layers: Tensor, real: Tensor) -> Tensor:
        """Statistics (B, width) of the frames (L, B, T, D) that are `real` (B, T), normalised over their width."""
        normal = F.layer_norm(layers, layers.shape[-1:])
        return torch.cat([KINDS[kind](frames, real) for frames in normal for kind in self.settings.kinds], 1)


def open_statistics(config: Config, device: torch.device, kept: speech.KeptEncoder | None = None) -> StatisticsMaker:
    """Open the encoder of `features.statistics`.

    Args:
        config: names the encoder and its options.
        device: device that the encoder runs on.
        kept: the encoder itself, if it is stored next to a model; None looks it up by its name.

    Raises:
        PipelineError: the encoder is not available or lacks one of the layers, or a kind of statistic is unknown.
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
    """An augmented version of a signal (N,), identical on every machine: speed with pitch, level, white noise.

    Args:
        signal: float32 in [-1, 1].
        key: key of the utterance; it seeds the changes together with `number`.
        number: number of the version, from 1 on.
        settings: ranges of the changes.
        rate: samples per second.
    """
    drawn = change(key, number, settings)
    count = max(1, round(len(signal) / drawn.factor))
    changed = np.interp(np.arange(count) * drawn.factor, np.arange(len(signal)), signal)
    return drawn.finished(changed, float(np.dot(changed, changed) / count) if drawn.noisy else 0.0)


@dataclass(frozen=True)
class Change:
    """The changes of one augmented version: speed, noise, level."""

    random: np.random.Generator  # generates the noise
    factor: float  # factor of the speed
    level: float  # factor of the amplitude
    noisy: bool
    ratio: float  # signal-to-noise ratio, dB

    def finished(self, changed: NDArray[np.float64], power: float) -> Signal:
        """Augment samples (N,) that already have the new speed, in place: a whole version or its next piece.

        Args:
            changed: samples.
            power: mean square of the samples of the whole version.
        """
        if self.noisy:
            noise = self.random.standard_normal(len(changed))
            noise *= np.sqrt(power * 10 ** (-self.ratio / 10))
            changed += noise
        changed *= self.level
        drawn: Signal = np.clip(changed, -1, 1, out=changed).astype(np.float32)
        return drawn


def change(key: str, number: int, settings: Statistics) -> Change:
    """The changes of the augmented version `number`, from 1 on, of the utterance `key`.

    Args:
        key: key of the utterance.
        number: number of the version.
        settings: ranges of the changes.
    """
    random = np.random.Generator(np.random.PCG64([int(key[:16], 16), number]))
    factor = 1 + settings.speed * random.uniform(-1, 1)
    level = 10 ** (settings.gain * random.uniform(-1, 1) / 20)
    return Change(random, factor, level, random.random() < settings.noise, random.uniform(*RATIOS))
