"""Builders for the rows of `ser_pipeline.inputs`: encoders of each form, and the modules that prepare their inputs.

A builder takes the input's row, the model's settings and the sizes of the stored features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ser_pipeline.config import Audio, Features, Model
from ser_pipeline.inputs import CEPSTRA, FRAMES, IMAGE, SAMPLES, VECTOR, Input
from ser_pipeline.model import speech
from ser_pipeline.model.contours import Standard
from ser_pipeline.model.inputs import FinishEmbedding, FinishMfcc, FinishSpectrogram, FinishVector, FinishWaveform
from ser_pipeline.model.paper import BiLstm, averages, build_alexnet
from ser_pipeline.model.small import BANDS, SmallMfcc, SmallSpectrogram, SmallSpeech, bands
from ser_pipeline.model.speech.lora import add_adapters


@dataclass(frozen=True)
class Sizes:
    """What the builders of encoders need besides the model's settings."""

    audio: Audio
    features: Features
    pretrained: bool
    speech_settings: dict[str, Any] | None

    def shape(self, row: Input) -> tuple[int, ...]:
        """Shape of a stored segment of an input."""
        return row.shape(self.audio, getattr(self.features, row.name, None))


class Stored(nn.Module):
    """Takes the place of a speech encoder whose frames were computed beforehand."""

    def __init__(self, depth: int, frames: int, width: int, *, mask_padding: bool, layer_mix: bool) -> None:
        """Prepare to read stored frames.

        Args:
            depth: number L of stored layers.
            frames: number T of frames of a segment.
            width: width D of a frame.
            mask_padding: whether frames that are all zero count as padding.
            layer_mix: whether the layers are averaged with learned weights instead of equal ones.
        """
        super().__init__()
        self.count, self.width, self.mask_padding = frames, width, mask_padding
        self.mix = nn.Parameter(torch.zeros(depth)) if layer_mix else None

    def frames(self, samples: int) -> int:
        """Frames T of a segment."""
        return self.count

    def forward(self, layers: Tensor) -> Tensor:
        """Frames (B, T, D) from stored layers (B, L, T, D)."""
        if self.mix is None:
            return layers.mean(1) if layers.shape[1] > 1 else layers[:, 0]
        return torch.einsum("l,bltd->btd", self.mix.softmax(0), layers)

    def real(self, layers: Tensor) -> Tensor | None:
        """1 for frames of audio, 0 for padding (B, T); None if all count. Without any audio, all frames count."""
        if not self.mask_padding:
            return None
        heard = layers.abs().amax((1, 3)) > 0
        return (heard | ~heard.any(1, keepdim=True)).to(layers.dtype)


class StoredStatistics(nn.Module):
    """Takes the place of a speech encoder whose statistics (B, size) were stored, and standardises them."""

    def __init__(self, size: int, scaled: bool = False) -> None:
        """Prepare to read stored statistics.

        Args:
            size: statistics per utterance.
            scaled: whether their magnitudes differ by many orders.
        """
        super().__init__()
        self.size = size
        self.standard = Standard(size, scaled)

    def forward(self, statistics: Tensor) -> Tensor:
        """The statistics (B, size), standardised."""
        return self.standard(statistics)  # type: ignore[no-any-return]

    def statistics(self, rows: Tensor, samples: Tensor | None = None) -> Tensor:
        """The statistics (B, size) as stored."""
        return rows


def make_encoder(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Build the encoder that the settings choose for an input.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    name = str(getattr(settings, row.setting)) if row.setting else ""
    made: nn.Module = row.encoder(name)(row, settings, sizes)
    return made


def projected_size(encoder: nn.Module) -> int:
    """Width of the vector that is projected: a flat feature, or a weighted sum of speech frames."""
    return int(getattr(encoder, "size", 0) or encoder.width)  # type: ignore[arg-type]


def bilstm(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """The paper's encoder of cepstra.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    frames, coefficients = sizes.shape(row)
    return BiLstm(frames, coefficients, settings)


def small_cepstra(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Statistics of cepstra, together with convolutions over them.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    return SmallMfcc(sizes.shape(row)[1], settings, sizes.audio.frame_rate)


def alexnet(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """The paper's encoder of images.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    bins, frames = sizes.shape(row)
    return build_alexnet(bins, frames, settings.spectrogram_weights if sizes.pretrained else "none")


def small_linear_image(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Small encoder of an image with evenly spaced bins in Hz, which are converted to mel bands.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    hertz = getattr(sizes.features, row.name).bin_hertz(sizes.audio.rate)
    return SmallSpectrogram(bands(sizes.shape(row)[0], BANDS, hertz), settings, sizes.audio.frame_rate)


def small_image(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Small encoder of an image whose bands are already spaced on a perceptual scale.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    return SmallSpectrogram(averages(sizes.shape(row)[0], BANDS), settings, sizes.audio.frame_rate)


def pretrained_speech(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """A pre-trained speech encoder from the hub or a folder.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    options = speech.Options(
        mask_padding=settings.mask_padding,
        window=settings.speech_window,
        frozen=settings.freeze_speech_encoder,
        layer_mix=settings.layer_mix,
        masking=settings.spec_augment,
        layer_drop=settings.layer_drop,
    )
    weights = settings.speech_weights and sizes.pretrained
    encoder = speech.open_encoder(
        settings.speech_encoder, options, weights=weights, settings=sizes.speech_settings, rate=sizes.audio.rate
    )
    if settings.lora_rank:
        add_adapters(encoder, settings.lora_rank, settings.lora_alpha, settings.lora_targets)
    return encoder


def small_speech(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """A speech encoder that is trained from scratch.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    encoder = SmallSpeech(
        settings.small_width, settings.small_layers, settings.dropout, sizes.audio, layer_mix=settings.layer_mix
    )
    return encoder.requires_grad_(not settings.freeze_speech_encoder)


def stored_frames(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Stored frames of a speech encoder that ran beforehand.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    (depth, frames, width), stored = sizes.shape(row), sizes.features.embedding
    masked = stored.mask_padding or stored.context == "utterance" or settings.segments > 1
    return Stored(depth, frames * settings.segments, width, mask_padding=masked, layer_mix=settings.layer_mix)


def stored_statistics(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Stored statistics of a speech encoder that ran beforehand, standardised.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    return StoredStatistics(sizes.shape(row)[1])


def stored_functionals(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Functionals of whole utterances, standardised whatever their magnitudes.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    return StoredStatistics(sizes.shape(row)[1], scaled=True)


def make_finish(row: Input, settings: Model, sizes: Sizes) -> nn.Module:
    """Build the module that converts an input's stored rows and real samples (B,) to what its encoder reads, float32.

    Args:
        row: the input.
        settings: settings of the model.
        sizes: sizes of the stored features.
    """
    return FINISH[row.form](row, settings, sizes)


FINISH: Mapping[str, Callable[[Input, Model, Sizes], nn.Module]] = {
    CEPSTRA: lambda row, settings, sizes: FinishMfcc(unit=getattr(settings, row.setting) != "small"),
    IMAGE: lambda row, settings, sizes: FinishSpectrogram(
        sizes.audio, sizes.shape(row)[0], settings.pad_loud, settings.rescale_images
    ),
    SAMPLES: lambda row, settings, sizes: FinishWaveform(settings.pre_emphasis, settings.pad_front),
    FRAMES: lambda row, settings, sizes: FinishEmbedding(settings.normalise_frames),
    VECTOR: lambda row, settings, sizes: FinishVector(),
}
"""Form of an input -> the builder of its module; the small encoder of cepstra needs the level, so it is kept there."""
