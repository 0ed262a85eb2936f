"""Frames of a frozen speech encoder, or their statistics, for batches, as part of an ONNX graph.

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
    """Whisper's log-mel spectrogram by matrix products, with the tables of `WhisperLogMel`."""

    filters: Tensor

    def __init__(self, source: WhisperLogMel) -> None:
        super().__init__()
        self.power = ProductPower(source.window.numpy(), POINTS, HOP, POINTS // 2 + 1)
        self.register_buffer("filters", source.filters.T.contiguous(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the log-mel (B, K, M) of waveforms float32 (B, N), with reflection before and silence after them."""
        count = (samples.shape[1] + HOP - 1) // HOP
        silent = F.pad(samples, (0, count * HOP + self.power.after - samples.shape[1]))
        mirrored = F.pad(samples, (0, POINTS))[:, 1 : 1 + POINTS // 2].flip(1)
        level = (self.power(torch.cat([mirrored, silent], 1)) @ self.filters).clamp(min=LEAST).log10()
        most = level.amax((1, 2), keepdim=True)
        return ((torch.maximum(level, most - RANGE) + 4.0) / 4.0).transpose(1, 2)


class SegmentFrames(nn.Module):
    """Computes the frames of segments, rounded to float16 as in stores."""

    def __init__(self, maker: Embedder) -> None:
        """Use the encoder of a maker, with its log-mel computed by matrix products.

        Raises:
            PipelineError: the encoder uses the utterance as context of a segment.
        """
        super().__init__()
        if type(maker) is not Embedder:
            raise PipelineError(
                "features.embedding.context=utterance has no ONNX form yet, only segment: leave out --onnx"
            )
        self.encoder, self.layers, self.finish = _in_products(maker.encoder, "embedding"), maker.layers, maker.finish

    def forward(self, rows: Tensor, samples: Tensor) -> Tensor:
        """Return the frames (B, L, T, D) of stored segments (B, 1 + N) with `samples` (B,) samples."""
        states, heard = self.encoder.states(self.encoder.prepare(self.finish(rows, samples), samples))
        layers = torch.stack([states[layer] for layer in self.layers or range(len(states))], 1)
        if self.encoder.mask_padding:
            layers = layers.masked_fill(~heard[:, None, :, None], 0.0)
        return layers.clamp(-LARGEST, LARGEST).half()


def _in_products(encoder: FrameEncoder, feature: str) -> FrameEncoder:
    """Copy an encoder, with Whisper's log-mel computed by matrix products.

    Raises:
        PipelineError: the encoder always reads 30 s.
    """
    if encoder.options.window != "cut":
        raise PipelineError(f"features.{feature}.window=30s has no ONNX form yet, only cut: leave out --onnx")
    copied = deepcopy(encoder)
    if isinstance(copied, WhisperEncoder):
        copied.logmel = ProductLogMel(copied.logmel)  # type: ignore[assignment]
    return copied


class PooledStatistics(nn.Module):
    """Computes the statistics of waveforms, rounded to float16 as in stores."""

    def __init__(self, maker: StatisticsMaker) -> None:
        """Use the encoder of a maker, with its log-mel computed by matrix products.

        Raises:
            PipelineError: the encoder is not Whisper's, the only one that is known to have an ONNX form.
        """
        super().__init__()
        if not isinstance(maker.encoder, WhisperEncoder):
            kind = maker.encoder.config.get("model_type")
            raise PipelineError(
                f"statistics of a {kind} encoder have no ONNX form yet, only Whisper's: leave out --onnx"
            )
        self.encoder = _in_products(maker.encoder, "statistics")
        self.encoder.longest = None  # it would become a limit of the graph; the caller splits the audio instead
        self.kinds, self.layers = maker.settings.kinds, maker.through.numbers

    def forward(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Return the statistics (B, S) of waveforms float32 (B, N) with `samples` (B,) samples."""
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
    """Return the weights (B, T) of frames for each kind of mean, which sum to 1 over the `real` ones (B, T)."""
    place, count = torch.arange(real.shape[1], device=real.device), real.sum(1, keepdim=True)
    third = torch.div(count, 3, rounding_mode="floor").clamp(min=1)
    chosen = {"mean": real, "first": real & (place < third), "last": real & (place >= count - third)}
    return {name: mask / mask.sum(1, keepdim=True) for name, mask in chosen.items()}


def _mean(frames: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights[:, None], frames)[:, 0]
