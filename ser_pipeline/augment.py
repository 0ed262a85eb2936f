"""Changes of training segments on the device, drawn from torch's seeded generator.

Every change keeps the three views of a segment in step: what is done to the waveform is done to its frames.
Shapes: B batch, N samples, T frames, F bins, K coefficients, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.batch import Batch
from ser_pipeline.config import Augment, Config

NOISE = (10.0, 30.0)  # dB: speech over noise
SCALE = 255 / 80  # grey levels a dB, with the paper's range


def augment(batch: Batch, config: Config) -> Batch:
    """`batch` with the changes of `config.augment`; its labels stay."""
    settings = config.augment
    if settings.speed:
        batch = _speed(batch, settings.speed, config.heard.segment)
    if settings.gain:
        batch = _gain(batch, settings.gain, config.features.mfcc.n_mels)
    if settings.noise:
        batch = _noise(batch, settings.noise)
    return _mask(batch, settings, config.heard.frames)


def _speed(batch: Batch, largest: float, whole: int) -> Batch:
    """Faster or slower speech: the waveform resampled, the frames with it, and the bins moved with the pitch."""
    factor = 1 + largest * (2 * torch.rand(len(batch.label), device=batch.label.device) - 1)
    changed = {}
    if batch.waveform is not None:
        changed["waveform"] = _resample(batch.waveform[:, None], factor)[:, 0]
    if batch.mfcc is not None:
        changed["mfcc"] = _resample(batch.mfcc.transpose(1, 2), factor).transpose(1, 2).contiguous()
    if batch.spectrogram is not None:
        slower = _resample(batch.spectrogram, factor)
        changed["spectrogram"] = _resample(slower.transpose(1, 2), 1 / factor).transpose(1, 2).contiguous()
    samples = (batch.samples / factor).round().clamp(max=whole).to(batch.samples.dtype)
    return batch._replace(samples=samples, **changed)


def _resample(rows: Tensor, factor: Tensor) -> Tensor:
    """(B, K, N) read `factor` (B,) times as fast along the last axis, linearly; nothing comes after the end."""
    length = rows.shape[-1]
    place = torch.arange(length, device=rows.device) * factor[:, None]
    low = place.floor()
    share = (place - low)[:, None]
    index = low.long().clamp(max=length)[:, None]
    padded = F.pad(rows, (0, 2))
    first = padded.gather(2, index.expand(-1, rows.shape[1], -1)).float()
    second = padded.gather(2, (index + 1).expand(-1, rows.shape[1], -1)).float()
    mixed = first + share * (second - first)
    return (mixed if rows.is_floating_point() else mixed.round()).to(rows.dtype)


def _gain(batch: Batch, largest: float, n_mels: int) -> Batch:
    """Louder or softer speech; the spectrogram, relative to the utterance's maximum, does not know it."""
    decibels = largest * (2 * torch.rand(len(batch.label), device=batch.label.device) - 1)
    changed = {}
    if batch.waveform is not None:
        louder = batch.waveform.float() * 10 ** (decibels[:, None] / 20)
        changed["waveform"] = louder.round().clamp(-32768, 32767).to(batch.waveform.dtype)
    if batch.mfcc is not None:
        real = batch.mfcc.abs().sum(2) > 0
        shift = math.sqrt(n_mels) * decibels[:, None] * real  # the DCT of a constant
        changed["mfcc"] = torch.cat([(batch.mfcc[..., 0] + shift)[..., None], batch.mfcc[..., 1:]], 2).half()
    return batch._replace(**changed)


def _noise(batch: Batch, share: float) -> Batch:
    """White noise under the waveform and the spectrogram of a share of the segments."""
    size, device = len(batch.label), batch.label.device
    chosen = torch.rand(size, device=device) < share
    ratio = NOISE[0] + (NOISE[1] - NOISE[0]) * torch.rand(size, device=device)
    changed = {}
    if batch.waveform is not None:
        speech = batch.waveform.float()
        power = speech.square().sum(1) / batch.samples.clamp(min=1)
        level = (power * 10 ** (-ratio / 10)).sqrt() * chosen
        noisy = speech + level[:, None] * torch.randn_like(speech)
        changed["waveform"] = noisy.round().clamp(-32768, 32767).to(batch.waveform.dtype)
    if batch.spectrogram is not None:
        power = 10 ** (batch.spectrogram.float() / SCALE / 10)
        floor = power.mean((1, 2)) * 10 ** (-ratio / 10) * chosen
        levels = SCALE * 10 * torch.log10(power + floor[:, None, None])
        changed["spectrogram"] = levels.round().clamp(0, 255).to(batch.spectrogram.dtype)
    return batch._replace(**changed)


def _mask(batch: Batch, settings: Augment, frames: int) -> Batch:
    """SpecAugment: stretches of frames and bands silenced. Source: Park et al., Interspeech 2019."""
    for _ in range(settings.frame_masks):
        hidden = _stretch(len(batch.label), frames, settings.frame_mask, batch.label.device)
        if batch.mfcc is not None:
            batch = batch._replace(mfcc=batch.mfcc.masked_fill(hidden[:, :, None], 0))
        if batch.spectrogram is not None:
            batch = batch._replace(spectrogram=batch.spectrogram.masked_fill(hidden[:, None], 0))
    for _ in range(settings.bin_masks):
        if batch.spectrogram is not None:
            bins = batch.spectrogram.shape[1]
            hidden = _stretch(len(batch.label), bins, settings.bin_mask, batch.label.device)
            batch = batch._replace(spectrogram=batch.spectrogram.masked_fill(hidden[:, :, None], 0))
    return batch


def _stretch(size: int, length: int, longest: int, device: torch.device) -> Tensor:
    """(size, length) bool: one random stretch of at most `longest` a row."""
    width = torch.rand(size, 1, device=device) * longest
    first = torch.rand(size, 1, device=device) * (length - width)
    place = torch.arange(length, device=device)
    return (place >= first) & (place < first + width)
