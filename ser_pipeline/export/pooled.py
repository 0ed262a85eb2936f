"""Frames of a frozen speech encoder, or their statistics, as a part of an ONNX graph: what its maker gives for batches.

Shapes: B utterances or segments, N samples, L layers, T frames, D width of the encoder, S statistics.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.errors import PipelineError
from ser_pipeline.export.front import ProductPower
from ser_pipeline.features.embeddings import LARGEST, Embedder
from ser_pipeline.features.statistics import StatisticsMaker
from ser_pipeline.model.speech import FrameEncoder
from ser_pipeline.model.speech.logmel import HOP, LEAST, POINTS, RANGE, WhisperLogMel
from ser_pipeline.model.speech.whisper import WhisperEncoder


class ProductLogMel(nn.Module):
    """Whisper's log-mel spectrogram by products, with the tables of `WhisperLogMel`."""

    filters: Tensor

    def __init__(self, source: WhisperLogMel) -> None:
        super().__init__()
        self.power = ProductPower(source.window.numpy(), POINTS, HOP, POINTS // 2 + 1)
        self.register_buffer("filters", source.filters.T.contiguous(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-mel (B, K, M) of waveforms float32 (B, N), mirrored before their start and silent after their end."""
        count = (samples.shape[1] + HOP - 1) // HOP
        silent = F.pad(samples, (0, count * HOP + self.power.after - samples.shape[1]))
        mirrored = F.pad(samples, (0, POINTS))[:, 1 : 1 + POINTS // 2].flip(1)
        level = (self.power(torch.cat([mirrored, silent], 1)) @ self.filters).clamp(min=LEAST).log10()
        most = level.amax((1, 2), keepdim=True)
        return ((torch.maximum(level, most - RANGE) + 4.0) / 4.0).transpose(1, 2)


class SegmentFrames(nn.Module):
    """Segments to frames, rounded to float16 as stores keep them."""

    def __init__(self, maker: Embedder) -> None:
        """Take the encoder of a maker, the log-mel of which becomes products.

        Raises:
            PipelineError: the encoder hears more with a segment than the segment.
        """
        super().__init__()
        if type(maker) is not Embedder:
            raise PipelineError(
                "features.embedding.context=utterance has no ONNX form yet, only segment: leave out --onnx"
            )
        self.encoder, self.layers, self.finish = _in_products(maker.encoder, "embedding"), maker.layers, maker.finish

    def forward(self, rows: Tensor, samples: Tensor) -> Tensor:
        """Frames (B, L, T, D) of segments as they are stored (B, 1 + N), of `samples` (B,)."""
        states, heard = self.encoder.states(self.encoder.prepare(self.finish(rows, samples), samples))
        layers = torch.stack([states[layer] for layer in self.layers or range(len(states))], 1)
        if self.encoder.mask_padding:
            layers = layers.masked_fill(~heard[:, None, :, None], 0.0)
        return layers.clamp(-LARGEST, LARGEST).half()


def _in_products(encoder: FrameEncoder, feature: str) -> FrameEncoder:
    """A copy of an encoder whose log-mel, where it is Whisper's, is made by products.

    Raises:
        PipelineError: it hears 30 s whatever the length.
    """
    if encoder.options.window != "cut":
        raise PipelineError(f"features.{feature}.window=30s has no ONNX form yet, only cut: leave out --onnx")
    copied = deepcopy(encoder)
    if isinstance(copied, WhisperEncoder):
        copied.logmel = ProductLogMel(copied.logmel)  # type: ignore[assignment]
    return copied


class PooledStatistics(nn.Module):
    """Waveforms to statistics, rounded to float16 as stores keep them."""

    def __init__(self, maker: StatisticsMaker) -> None:
        """Take the encoder of a maker, whose log-mel becomes products.

        Raises:
            PipelineError: the encoder is not Whisper's, whose parts alone are known to have an ONNX form.
        """
        super().__init__()
        if not isinstance(maker.encoder, WhisperEncoder):
            kind = maker.encoder.config.get("model_type")
            raise PipelineError(
                f"statistics of a {kind} encoder have no ONNX form yet, only Whisper's: leave out --onnx"
            )
        self.encoder = _in_products(maker.encoder, "statistics")
        self.encoder.longest = None  # which would become a limit of the graph; whoever calls it cuts the audio
        self.kinds, self.layers = maker.settings.kinds, maker.through.numbers

    def forward(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Statistics (B, S) of waveforms float32 (B, N) of `samples` (B,)."""
        states = self.encoder.states(self.encoder.prepare(waveform, samples), upto=max(self.layers))
        weights = _weights(states.real)
        found = []
        for number in self.layers:
            frames = F.layer_norm(states.layers[number], states.layers[number].shape[-1:])
            means = {name: _mean(frames, share) for name, share in weights.items()}
            spread = _mean((frames - means["mean"][:, None]).square(), weights["mean"]).sqrt()
            found += [means.get(kind, spread) for kind in self.kinds]
        return torch.cat(found, 1).half().float()


def _weights(real: Tensor) -> dict[str, Tensor]:
    """Weights (B, T) of the frames for each kind of mean, which sum to 1 over the frames that are `real` (B, T)."""
    place, count = torch.arange(real.shape[1], device=real.device), real.sum(1, keepdim=True)
    third = torch.div(count, 3, rounding_mode="floor").clamp(min=1)
    chosen = {"mean": real, "first": real & (place < third), "last": real & (place >= count - third)}
    return {name: mask / mask.sum(1, keepdim=True) for name, mask in chosen.items()}


def _mean(frames: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights[:, None], frames)[:, 0]
