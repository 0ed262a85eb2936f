"""Changes of training segments on the device, drawn from torch's seeded generator.

Every change keeps the three views of a segment in step: what is done to the waveform is done to its frames.
Shapes: B batch, N samples, T frames, F bins, K coefficients, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.config import Augment, Config
from ser_pipeline.data.batch import Batch

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
    same = torch.ones_like(factor)
    changed = {}
    if batch.waveform is not None:
        changed["waveform"] = _reread(batch.waveform[:, None], same, factor)[:, 0]
    if batch.mfcc is not None:
        changed["mfcc"] = _reread(batch.mfcc, factor, same)
    if batch.spectrogram is not None:
        changed["spectrogram"] = _reread(batch.spectrogram, 1 / factor, factor)
    samples = (batch.samples / factor).round().clamp(max=whole).to(batch.samples.dtype)
    return batch._replace(samples=samples, **changed)


def _reread(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """(B, H, W) read `down` and `across` (B,) times as fast, linearly; nothing comes after an end.

    >>> _reread(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), torch.tensor([1.0]), torch.tensor([1.5]))
    tensor([[[0., 3., 6., 0.]]])
    """
    places = (_places(images, 2, across)[:, None], _places(images, 1, down)[:, :, None])
    grid = torch.stack([part.expand(images.shape) for part in places], 3)
    found = F.grid_sample(images[:, None].float(), grid, align_corners=True)[:, 0]
    return (found if images.is_floating_point() else found.round()).to(images.dtype)


def _places(images: Tensor, axis: int, factor: Tensor) -> Tensor:
    """Where an axis (B, N) is read: -1 its first place, 1 its last."""
    last = max(images.shape[axis] - 1, 1)
    return torch.arange(images.shape[axis], device=images.device) * (factor[:, None] * (2 / last)) - 1


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
        changed["spectrogram"] = _raised(batch.spectrogram, 10 ** (-ratio / 10) * chosen)
    return batch._replace(**changed)


def _raised(images: Tensor, share: Tensor) -> Tensor:
    """Spectrograms uint8 (B, F, T) with noise of `share` (B,) times their mean power in every place.

    Through tables, as there are 256 levels: of their powers, and of what a segment's noise makes of each.
    """
    power = 10 ** (torch.arange(256, device=images.device) / SCALE / 10)
    floor = power.index_select(0, images.flatten().int()).view_as(images).mean((1, 2)) * share
    table = (SCALE * 10 * torch.log10(power + floor[:, None])).round().clamp(0, 255).to(images.dtype)
    first = 256 * torch.arange(len(images), dtype=torch.int32, device=images.device)
    return table.flatten().index_select(0, (images + first[:, None, None]).flatten()).view_as(images)


def _mask(batch: Batch, settings: Augment, frames: int) -> Batch:
    """SpecAugment: stretches of frames and bands silenced. Source: Park et al., Interspeech 2019."""
    size, device = len(batch.label), batch.label.device
    silent = _stretches(settings.frame_masks, size, frames, settings.frame_mask, device)
    if batch.mfcc is not None and settings.frame_masks:
        batch = batch._replace(mfcc=batch.mfcc.masked_fill(silent[:, :, None], 0))
    if batch.spectrogram is not None and settings.frame_masks + settings.bin_masks:
        bands = _stretches(settings.bin_masks, size, batch.spectrogram.shape[1], settings.bin_mask, device)
        hidden = silent[:, None] | bands[:, :, None]
        batch = batch._replace(spectrogram=batch.spectrogram.masked_fill(hidden, 0))
    return batch


def _stretches(count: int, size: int, length: int, longest: int, device: torch.device) -> Tensor:
    """(size, length) bool: `count` random stretches of at most `longest` in every row."""
    width = torch.rand(count, size, 1, device=device) * longest
    first = torch.rand(count, size, 1, device=device) * (length - width)
    place = torch.arange(length, device=device)
    return ((place >= first) & (place < first + width)).any(0)
