"""Inputs of the model: how each is encoded and finished, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ser_pipeline.config import Audio, Features, Model
from ser_pipeline.data.batch import Batch
from ser_pipeline.model import speech
from ser_pipeline.model.paper import BiLstm, averages, build_alexnet
from ser_pipeline.model.small import BANDS, SmallMfcc, SmallSpectrogram, SmallSpeech, bands


@dataclass(frozen=True)
class Sizes:
    """What the encoders' builders need to know besides the model's settings."""

    audio: Audio
    features: Features
    pretrained: bool
    speech_settings: dict[str, Any] | None


class Stored(nn.Module):
    """The place of a speech encoder whose frames were made beforehand."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.count, self.width = frames, width

    def frames(self, samples: int) -> int:
        """Frames T of a segment."""
        return self.count

    def forward(self, frames: Tensor) -> Tensor:
        """The frames (B, T, D) themselves."""
        return frames


def _encoder(name: str, settings: Model, sizes: Sizes) -> nn.Module:
    kind = str(getattr(settings, SETTING[name])) if name in SETTING else ""
    builders = ENCODERS[name]
    return (builders[kind] if kind in builders else builders["*"])(settings, sizes)


def projected_size(encoder: nn.Module) -> int:
    """Width of what is projected: a flat feature, or a weighted sum of speech frames."""
    return int(getattr(encoder, "size", 0) or encoder.width)  # type: ignore[arg-type]


def _bilstm(settings: Model, sizes: Sizes) -> nn.Module:
    return BiLstm(sizes.audio.frames, sizes.features.mfcc.size, settings)


def _small_mfcc(settings: Model, sizes: Sizes) -> nn.Module:
    return SmallMfcc(sizes.features.mfcc.size, settings)


def _alexnet(settings: Model, sizes: Sizes) -> nn.Module:
    weights = settings.spectrogram_weights if sizes.pretrained else "none"
    return build_alexnet(sizes.features.spectrogram.bins, sizes.audio.frames, weights)


def _small_spectrogram(settings: Model, sizes: Sizes) -> nn.Module:
    return SmallSpectrogram(bands(sizes.features.spectrogram.bins, BANDS), settings)


def _alexnet_mel(settings: Model, sizes: Sizes) -> nn.Module:
    weights = settings.spectrogram_weights if sizes.pretrained else "none"
    return build_alexnet(sizes.features.logmel.n_mels, sizes.audio.frames, weights)


def _small_mel(settings: Model, sizes: Sizes) -> nn.Module:
    return SmallSpectrogram(averages(sizes.features.logmel.n_mels, BANDS), settings)


def _transformers(settings: Model, sizes: Sizes) -> nn.Module:
    weights = settings.speech_weights and sizes.pretrained
    model = speech.load(settings.speech_encoder, weights=weights, settings=sizes.speech_settings)
    return speech.SpeechEncoder(
        model,
        masking=settings.spec_augment,
        layer_drop=settings.layer_drop,
        layer_mix=settings.layer_mix,
        frozen=settings.freeze_speech_encoder,
    )


def _small_speech(settings: Model, sizes: Sizes) -> nn.Module:
    encoder = SmallSpeech(
        settings.small_width, settings.small_layers, settings.dropout, sizes.audio.rate, layer_mix=settings.layer_mix
    )
    return encoder.requires_grad_(not settings.freeze_speech_encoder)


def _stored(settings: Model, sizes: Sizes) -> nn.Module:
    return Stored(sizes.features.embedding.frames, sizes.features.embedding.width)


Builder = Callable[[Model, Sizes], nn.Module]


ENCODERS: Mapping[str, Mapping[str, Builder]] = {
    "mfcc": {"bilstm": _bilstm, "small": _small_mfcc},
    "spectrogram": {"alexnet": _alexnet, "small": _small_spectrogram},
    "logmel": {"alexnet": _alexnet_mel, "small": _small_mel},
    "waveform": {"small": _small_speech, "*": _transformers},
    "embedding": {"*": _stored},
}
"""Feature -> name of an encoder -> its builder; "*" is any other name, such as a speech encoder of transformers."""


SETTING = {
    "mfcc": "mfcc_encoder",
    "spectrogram": "spectrogram_encoder",
    "logmel": "spectrogram_encoder",
    "waveform": "speech_encoder",
}
"""Feature -> the setting that names its encoder, where there is a choice."""


FINISH: Mapping[str, Callable[[nn.Module, Batch], Tensor]] = {
    "mfcc": lambda finish, batch: finish(batch.mfcc),
    "spectrogram": lambda finish, batch: finish(batch.spectrogram, batch.samples),
    "logmel": lambda finish, batch: finish(batch.logmel, batch.samples),
    "waveform": lambda finish, batch: finish(batch.waveform, batch.samples),
    "embedding": lambda finish, batch: finish(batch.embedding),
}
"""Feature -> how its rows are finished."""
