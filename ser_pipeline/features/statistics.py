"""Statistics of a frozen speech encoder's frames over whole utterances, as they are and in augmented drawings.

An utterance goes through the encoder whole, as encoders were trained, and not in crops; those beyond the encoder's
length (30 s) in equal pieces. Each frame is normalised to zero mean and unit variance over its width, so that no layer
and no loud frame outweighs the others.

Shapes: U utterances, N samples, T frames, D width of the encoder, V one more than the drawings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.config import Config, Statistics
from ser_pipeline.device import batches_beside
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.embeddings import check_layers
from ser_pipeline.model import speech

FULL_SCALE = 32_768.0
"""Largest magnitude of int16 samples."""

BATCH_SECONDS = 10.0
"""Seconds of audio, padding included, that go through the encoder at a time on a core; 64 times as many on a GPU."""

LONGEST = 30.0
"""Seconds that go through an encoder without a limit of its own at a time."""

RATIOS = (10.0, 30.0)
"""dB of speech over noise in augmented drawings, least and most."""

Signal = NDArray[np.float32]


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
        signals = list(_signals(waveforms, samples, counts))
        drawn = [
            drawing(signal, key, number, self.settings, self.encoder.rate) if number else signal
            for signal, key in zip(signals, keys, strict=True)
            for number in range(1 + self.settings.draws)
        ]
        made = self.of(drawn).reshape(len(signals), 1, 1 + self.settings.draws, -1)
        return list(made)

    def of(self, signals: Sequence[Signal]) -> NDArray[np.float16]:
        """Statistics (len(signals), width) of float32 signals (N,) in [-1, 1], batched by length."""
        pieces = [piece for signal in signals for piece in self._pieces(signal)]
        owner = [number for number, signal in enumerate(signals) for _ in self._pieces(signal)]
        frames: dict[int, list[Tensor]] = {}
        order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
        batches = list(self._batches(order, pieces))
        with batches_beside(self.device) as threads:
            made = threads.map(self._frames, ([pieces[place] for place in batch] for batch in batches))
            for batch, found in zip(batches, made, strict=True):
                frames |= zip(batch, found, strict=True)
        rows = []
        for number in range(len(signals)):
            mine = [frames[place] for place, of in enumerate(owner) if of == number]
            rows.append(self._summed_up([torch.cat(layer) for layer in zip(*mine, strict=True)]))
        return np.asarray(torch.stack(rows).half().cpu().numpy())

    def found(self) -> dict[str, Any]:
        """Numbers an utterance, and the hash of the weights."""
        width = len(self._layers) * len(self.settings.kinds) * self.encoder.width
        return {"content": self.content, "width": width, **self.encoder.origin}

    @property
    def _layers(self) -> list[int]:
        """Numbers of the layers, from 0 on."""
        count = self.encoder.layers + 1
        return [layer % count for layer in self.settings.layers] or list(range(count))

    def _pieces(self, signal: Signal) -> list[Signal]:
        """A signal whole, or in as many equal pieces as the encoder's length asks for."""
        most = self.encoder.longest or round(LONGEST * self.encoder.rate)
        return np.array_split(signal, max(1, -(-len(signal) // most)))

    def _batches(self, order: Sequence[int], pieces: Sequence[Signal]) -> Iterator[list[int]]:
        """Pieces of about one length, as many at a time as `BATCH_SECONDS` hold."""
        most = BATCH_SECONDS * self.encoder.rate * (1 if self.device.type == "cpu" else 64)
        batch: list[int] = []
        for place in order:
            if batch and (len(batch) + 1) * len(pieces[place]) > most:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @torch.inference_mode()
    def _frames(self, pieces: Sequence[Signal]) -> list[list[Tensor]]:
        """Normalised frames (T, D) of the chosen layers, for each piece."""
        lengths = torch.tensor([max(1, len(piece)) for piece in pieces])
        padded = torch.zeros(len(pieces), int(lengths.max()))
        for row, piece in zip(padded, pieces, strict=True):
            row[: len(piece)] = torch.from_numpy(piece)
        inputs = self.encoder.prepare(padded.to(self.device), lengths.to(self.device))
        states = self.encoder.states(inputs, upto=max(self._layers))
        return [
            [F.layer_norm(layer, layer.shape[-1:]) for layer in (states.layers[n][row][real] for n in self._layers)]
            for row, real in enumerate(states.real)
        ]

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


def _signals(waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[Signal]:
    """The signal float32 (N,) of every utterance from its stored segments."""
    for rows, real in zip(
        np.split(waveforms, np.cumsum(counts)[:-1]), np.split(samples, np.cumsum(counts)[:-1]), strict=True
    ):
        yield (rows[:, 1:].reshape(-1)[: int(real.sum())] / np.float32(FULL_SCALE)).astype(np.float32)
