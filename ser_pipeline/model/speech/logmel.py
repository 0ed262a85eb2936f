"""Whisper's log-mel spectrogram in torch, on the device of the audio.

The values equal those of transformers' Whisper feature extractor for audio followed by silence. Shapes: B batch,
N samples, M frames of 10 ms, K bands.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POINTS, HOP = 400, 160
"""Samples of a window (25 ms at 16 kHz) and between windows (10 ms)."""
LEAST = 1e-10
"""Smallest power before the logarithm."""
RANGE = 8.0
"""Dynamic range below an utterance's maximum in decades of power (80 dB)."""
CORNER, LINEAR, STEP = 1000.0, 200 / 3, math.log(6.4) / 27
"""Slaney's mel scale: upper limit in Hz of its linear part, Hz per mel there, log ratio per mel above.

Source: Auditory Toolbox, 1998.
"""


class WhisperLogMel(nn.Module):
    """Waveforms to log-mel spectrograms as Whisper reads them."""

    window: Tensor
    filters: Tensor

    def __init__(self, bands: int, rate: int = 16_000) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(POINTS), persistent=False)
        self.register_buffer("filters", slaney_filters(bands, rate).float(), persistent=False)

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        """Log-mel (B, K, M) of waveforms float32 (B, N) in [-1, 1]; M = ceil(N / 160) frames, one centred every 10 ms.

        The audio is mirrored before its start and followed by silence, and the level is limited to 80 dB below the
        utterance's maximum.
        """
        count = -(-samples.shape[1] // HOP)
        padded = F.pad(samples, (0, POINTS + count * HOP - samples.shape[1]))
        padded = F.pad(padded[:, None], (POINTS // 2, 0), mode="reflect")[:, 0]
        with torch.autocast(samples.device.type, enabled=False):
            bins = torch.stft(padded, POINTS, HOP, window=self.window, center=False, return_complex=True)
            power = torch.view_as_real(bins).square().sum(-1)
            level = (self.filters @ power).clamp(min=LEAST).log10()
        most = level.amax((1, 2), keepdim=True)
        return (torch.maximum(level, most - RANGE)[..., :count] + 4.0) / 4.0


def slaney_filters(bands: int, rate: int) -> Tensor:
    """Triangular filters float64 (K, 201) of equal area, even on Slaney's mel scale up to half the rate.

    >>> filters = slaney_filters(80, 16_000)
    >>> (filters.sum(1) * 16_000 / 400).sub(1).abs().max().item() < 0.3
    True
    """
    top = CORNER / LINEAR + math.log(rate / 2 / CORNER) / STEP
    mel = torch.linspace(0.0, top, bands + 2, dtype=torch.float64)
    corner = CORNER / LINEAR
    edges = torch.where(mel < corner, mel * LINEAR, CORNER * torch.exp(STEP * (mel - corner)))[:, None]
    bins = torch.linspace(0.0, rate / 2, POINTS // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (edges[2:] - edges[:-2])
