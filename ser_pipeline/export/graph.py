"""The models of a folder as one torch module from waveforms to probabilities, which can be exported to ONNX.

Shapes: B utterances, N samples, S segments, L frames of a segment, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.config import Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.folder import Members
from ser_pipeline.export.front import DeltaFront, ProductPower, waveform_front
from ser_pipeline.export.pooled import PooledStatistics, SegmentFrames
from ser_pipeline.features.embeddings import Embedder
from ser_pipeline.features.frozen import Maker
from ser_pipeline.features.on_device import FRONTS, MfccFront, rounded
from ser_pipeline.features.statistics import StatisticsMaker
from ser_pipeline.model.ensemble import Ensemble


class Segmented(nn.Module):
    """The front end of models of segments: computes the rows of every segment of utterances."""

    def __init__(self, config: Config, makers: Mapping[str, Maker]) -> None:
        """Build the front end of each feature that the model reads.

        Args:
            config: settings of the run.
            makers: frozen encoders, by the feature that they compute.

        Raises:
            PipelineError: a feature has no ONNX form.
        """
        super().__init__()
        self.audio, self.reads, self.least = config.model_audio, config.model.reads, config.least_samples
        self.how = config.model.utterance_score
        if self.how not in ("log-probability", "duration"):
            raise PipelineError(f"model.utterance_score={self.how} has no ONNX form yet; export without --onnx")
        made: dict[str, nn.Module] = {}
        for name in self.reads:
            if name in FRONTS:
                settings = getattr(config.features, name)
                kind = DeltaFront if getattr(settings, "deltas", 0) else FRONTS[name]
                made[name] = kind(self.audio, settings, ProductPower)
            elif isinstance(maker := makers.get(name), Embedder) and config.model.segments == 1:
                made[name] = SegmentFrames(maker)
            elif name != "waveform":
                raise PipelineError(f"the input '{name}' has no ONNX form yet; export without --onnx")
        self.fronts = nn.ModuleDict(made)

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[Batch, Tensor]:
        """Return the segments (B S) as a batch, and their weights (B, S), which sum to 1 in each utterance."""
        audio = self.audio
        count = (waveform.shape[1] // audio.hop + audio.frames) // audio.frames
        signal = F.pad(waveform, (0, count * audio.segment - waveform.shape[1]))
        frame = torch.arange(count * audio.frames, device=signal.device)
        real = (frame <= samples[:, None] // audio.hop)[..., None]
        first = torch.arange(count, device=signal.device) * audio.segment
        left = (samples[:, None] - first).clamp(0, audio.segment)
        rows = {name: self._rows(name, signal, samples, real, left) for name in self.reads}
        heard = first <= samples[:, None] // audio.hop * audio.hop
        heard = heard & ((left >= self.least) | (first == 0))
        weights = heard * (left if self.how == "duration" else torch.ones_like(left))
        nothing = torch.zeros_like(left.flatten())
        return Batch(rows, left.flatten(), nothing, nothing), weights / weights.sum(1, keepdim=True)

    def _rows(self, name: str, signal: Tensor, samples: Tensor, real: Tensor, left: Tensor) -> Tensor:
        if name == "waveform":
            return waveform_front(signal, self.audio.segment)
        if isinstance(self.fronts[name], SegmentFrames):
            return self.fronts[name](waveform_front(signal, self.audio.segment), left.flatten())  # type: ignore[no-any-return]
        rows = self.fronts[name](signal, samples, real)
        if isinstance(self.fronts[name], MfccFront):
            return rows.reshape(-1, self.audio.frames, rows.shape[2])  # type: ignore[no-any-return]
        bands = rows.shape[1]
        parted = rows.reshape(signal.shape[0], bands, -1, self.audio.frames).transpose(1, 2)
        return parted.reshape(-1, bands, self.audio.frames)  # type: ignore[no-any-return]


class Listener(nn.Module):
    """Maps waveforms to probabilities: front end, all models, and the mean of their log-probabilities."""

    def __init__(self, members: Members) -> None:
        """Build the module.

        Raises:
            PipelineError: an input has no ONNX form.
        """
        super().__init__()
        self.members = Ensemble(members.models)
        maker = members.makers.get("statistics")
        self.whole = isinstance(maker, StatisticsMaker)
        self.front: nn.Module
        if isinstance(maker, StatisticsMaker):
            self.front = PooledStatistics(maker)
        else:
            self.front = Segmented(members.config, members.makers)

    def forward(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Return the probabilities (B, C).

        Args:
            waveform: float32 (B, N), -1 to 1; the padding may have any values.
            samples: number of samples without padding, int64 (B,), at least 1.
        """
        inside = torch.arange(waveform.shape[1], device=waveform.device) < samples[:, None]
        waveform = waveform * inside
        if self.whole:
            vectors = self.front(rounded(waveform) / FULL_SCALE, samples)
            batch = Batch({"statistics": vectors[:, None]}, samples, samples, samples)
            return self._scores(batch).softmax(1)
        batch, weights = self.front(waveform, samples)
        scores = self._scores(batch)
        return (scores.reshape(waveform.shape[0], -1, scores.shape[1]) * weights[..., None]).sum(1).softmax(1)  # type: ignore[no-any-return]

    def _scores(self, batch: Batch) -> Tensor:
        """Return the models' mean log-probabilities (B, C)."""
        return F.log_softmax(self.members(batch), dim=-1).mean(0)
