"""Augmentation of training segments on the device, drawn from torch's seeded generator.

Every change keeps the three inputs of a segment consistent: a change of the waveform is also applied to its frames.
Shapes: B batch, N samples, T frames, F bins, K coefficients, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.config import Augment, Config, Features
from ser_pipeline.data.batch import Batch
from ser_pipeline.inputs import CEPSTRA, IMAGE, INPUTS, SAMPLES, VECTOR

NOISE = (10.0, 30.0)  # dB: signal-to-noise ratio


def augment(batch: Batch, config: Config) -> Batch:
    """Apply the changes of `config.augment` to a batch; its labels stay the same.

    Each input is changed according to its form. Combinations that are not supported are refused before training starts.
    """
    settings, audio = config.augment, config.model_audio
    batch = _drawn(batch)
    size, device = len(batch), batch.label.device
    if settings.speed:
        batch = speed(batch, factors(torch.rand(size, device=device), settings), audio.segment)
    if settings.gain:
        batch = gain(batch, decibels(torch.rand(size, device=device), settings), config.features)
    if settings.noise:
        chosen = torch.rand(size, device=device) < settings.noise
        batch = noise(batch, chosen, ratios(torch.rand(size, device=device)), config.features)
    return _mask(batch, settings, audio.frames)


def factors(drawn: Tensor, settings: Augment) -> Tensor:
    """Speed factors (B,) from random numbers between 0 and 1."""
    return 1 + settings.speed * (2 * drawn - 1)


def decibels(drawn: Tensor, settings: Augment) -> Tensor:
    """Level changes in dB (B,) from random numbers between 0 and 1."""
    return settings.gain * (2 * drawn - 1)


def ratios(drawn: Tensor) -> Tensor:
    """Signal-to-noise ratios in dB (B,) from random numbers between 0 and 1."""
    return NOISE[0] + (NOISE[1] - NOISE[0]) * drawn


def _of_form(batch: Batch, form: str) -> dict[str, Tensor]:
    """Inputs of a batch that have the form `form`, by name."""
    return {name: rows for name, rows in batch.inputs.items() if INPUTS[name].form == form}


def _drawn(batch: Batch) -> Batch:
    """Choose one of the augmented versions computed beforehand for each utterance, in every input that has them."""
    changed = {}
    for name, rows in _of_form(batch, VECTOR).items():
        chosen = drawn(len(batch), rows.shape[1], rows.device)
        changed[name] = rows[torch.arange(len(batch), device=rows.device), chosen][:, None]
    return batch.changed(changed)


def drawn(size: int, count: int, device: torch.device) -> Tensor:
    """Random numbers, int64 (size,), of the augmented version that each of `size` utterances uses.

    Args:
        size: utterances of the batch.
        count: number of versions, including the unchanged utterance.
        device: device of the batch.
    """
    return torch.randint(count, (size,), device=device)


def drawings(batch: Batch) -> Iterator[Batch]:
    """Yield the unchanged batch, then the batch with each of the augmented versions computed beforehand."""
    vectors = _of_form(batch, VECTOR)
    for number in range(max((rows.shape[1] for rows in vectors.values()), default=1)):
        yield batch.changed({name: rows[:, min(number, rows.shape[1] - 1)][:, None] for name, rows in vectors.items()})


def speed(batch: Batch, factor: Tensor, whole: int) -> Batch:
    """Change the speed of speech: resample the waveform and the frames, and move the bins with the pitch.

    Args:
        batch: stored rows.
        factor: speed factors (B,).
        whole: samples of a segment, which no segment exceeds.
    """
    same = torch.ones_like(factor)
    changed = {name: _reread(rows[:, None], same, factor)[:, 0] for name, rows in _of_form(batch, SAMPLES).items()}
    changed |= {name: _reread(rows, factor, same) for name, rows in _of_form(batch, CEPSTRA).items()}
    changed |= {name: _reread(rows, 1 / factor, factor) for name, rows in _of_form(batch, IMAGE).items()}
    return batch.changed(changed, lasting(batch.samples, factor, whole))


def lasting(samples: Tensor, factor: Tensor, whole: int) -> Tensor:
    """Real samples (B,) of speech that is `factor` (B,) times as fast, at most `whole`.

    Args:
        samples: real samples before the change (B,).
        factor: speed factors (B,).
        whole: samples of a segment.

    >>> lasting(torch.tensor([100, 200]), torch.tensor([2.0, 0.5]), 300)
    tensor([ 50, 300])
    """
    return (samples / factor).round().clamp(max=whole).to(samples.dtype)


def _reread(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Resample (B, H, W) linearly, read `down` and `across` (B,) times as fast; zeros follow the end.

    >>> _reread(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), torch.tensor([1.0]), torch.tensor([1.5]))
    tensor([[[0., 3., 6., 0.]]])
    """
    places = (_places(images, 2, across)[:, None], _places(images, 1, down)[:, :, None])
    grid = torch.stack([part.expand(images.shape) for part in places], 3)
    found = F.grid_sample(images[:, None].float(), grid, align_corners=True)[:, 0]
    return (found if images.is_floating_point() else found.round()).to(images.dtype)


def _places(images: Tensor, axis: int, factor: Tensor) -> Tensor:
    """Positions at which an axis (B, N) is read: -1 is its first, 1 its last element."""
    last = max(images.shape[axis] - 1, 1)
    return torch.arange(images.shape[axis], device=images.device) * (factor[:, None] * (2 / last)) - 1


def gain(batch: Batch, decibels: Tensor, features: Features) -> Batch:
    """Change the level of speech; images are relative to the utterance's maximum and stay the same.

    Args:
        batch: stored rows.
        decibels: changes in dB (B,).
        features: settings of the cepstra.
    """
    changed = {}
    for name, rows in _of_form(batch, SAMPLES).items():
        louder = rows.float() * 10 ** (decibels[:, None] / 20)
        changed[name] = louder.round().clamp(-32768, 32767).to(rows.dtype)
    for name, rows in _of_form(batch, CEPSTRA).items():
        real = rows.abs().sum(2) > 0
        shift = math.sqrt(getattr(features, name).n_mels) * decibels[:, None] * real  # the DCT of a constant
        changed[name] = torch.cat([(rows[..., 0] + shift)[..., None], rows[..., 1:]], 2).half()
    return batch.changed(changed)


def noise(
    batch: Batch,
    chosen: Tensor,
    ratio: Tensor,
    features: Features,
    white: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Batch:
    """Add white noise to the waveform and the images of some segments; cepstra stay as stored.

    Args:
        batch: stored rows.
        chosen: bool (B,): the segments that get noise.
        ratio: signal-to-noise ratio in dB (B,).
        features: settings of the images.
        white: returns noise of unit power with the size of a waveform (B, N).
    """
    changed = {}
    for name, rows in _of_form(batch, SAMPLES).items():
        speech = rows.float()
        power = speech.square().sum(1) / batch.samples.clamp(min=1)
        level = (power * 10 ** (-ratio / 10)).sqrt() * chosen
        noisy = speech + level[:, None] * white(speech)
        changed[name] = noisy.round().clamp(-32768, 32767).to(rows.dtype)
    for name, rows in _of_form(batch, IMAGE).items():
        changed[name] = _raised(rows, 10 ** (-ratio / 10) * chosen, 255 / getattr(features, name).top_db)
    return batch.changed(changed)


def _raised(images: Tensor, share: Tensor, scale: float) -> Tensor:
    """Add noise to images uint8 (B, F, T) with `scale` levels per dB: `share` (B,) times their mean power everywhere.

    The 256 levels allow lookup tables: one of their powers, and one per segment of the level after adding noise.
    """
    power = 10 ** (torch.arange(256, device=images.device) / scale / 10)
    floor = power.index_select(0, images.flatten().int()).view_as(images).mean((1, 2)) * share
    table = (scale * 10 * torch.log10(power + floor[:, None])).round().clamp(0, 255).to(images.dtype)
    first = 256 * torch.arange(len(images), dtype=torch.int32, device=images.device)
    return table.flatten().index_select(0, (images + first[:, None, None]).flatten()).view_as(images)


def _mask(batch: Batch, settings: Augment, frames: int) -> Batch:
    """SpecAugment: silences stretches of frames and bands. Source: Park et al., Interspeech 2019."""
    size, device = len(batch), batch.label.device
    if not settings.frame_masks + settings.bin_masks:
        return batch

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        return torch.rand(count, size, 1, device=device), torch.rand(count, size, 1, device=device)

    silent = stretches(drawn(settings.frame_masks), frames, settings.frame_mask)
    changed = {}
    if settings.frame_masks:
        changed = {name: rows.masked_fill(silent[..., None], 0) for name, rows in _of_form(batch, CEPSTRA).items()}
    for name, rows in _of_form(batch, IMAGE).items():
        bands = stretches(drawn(settings.bin_masks), rows.shape[1], settings.bin_mask)
        changed[name] = rows.masked_fill(silent[:, None] | bands[:, :, None], 0)
    return batch.changed(changed)


def stretches(drawn: tuple[Tensor, Tensor], length: int, longest: int, shown: int | None = None) -> Tensor:
    """Mask (B, length), bool: random stretches of at most `longest` in every row.

    Args:
        drawn: random numbers from 0 to 1, (count, B, 1) each: the width of every stretch, and its start.
        length: length of a row.
        longest: maximum length of a stretch.
        shown: number of leading elements to return; None returns all.
    """
    width = drawn[0] * longest
    first = drawn[1] * (length - width)
    place = torch.arange(length if shown is None else shown, device=width.device)
    return ((place >= first) & (place < first + width)).any(0)
