"""The co-attention model: three encoders, attention weights over speech frames, fusion and classifier.

"Eq." refers to Zou et al., ICASSP 2022. Shapes: B batch, T speech frames, D width of the speech encoder, W projected
width, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ser_pipeline.config import Audio, Features, Model
from ser_pipeline.data.batch import Batch, Mix
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model.contours import PathDropout
from ser_pipeline.model.pooling import POOLINGS
from ser_pipeline.model.registry import Sizes, Stored, make_encoder, make_finish, projected_size
from ser_pipeline.model.small import SmallSpeech, SpeechFrames
from ser_pipeline.model.speech import FrameEncoder


class Output(NamedTuple):
    """The model's output for a batch; float32 outside autocast."""

    logits: Tensor  # (B, C)
    w2e: Tensor | None  # (B, W): the feature of waveform or embedding; None if the model reads neither
    fused: Tensor  # (B, W): the last hidden layer
    attention: Tensor | None  # (B, T): weights over speech frames; None without co-attention


class Known(NamedTuple):
    """Values computed for a batch beforehand, because the models of several folds share them."""

    finished: Mapping[str, Tensor] = {}  # name of an input -> what its encoder reads
    statistics: Mapping[str, Tensor] = {}  # name of an input -> statistics (B, S) of its encoder, not yet standardised
    speech: SpeechFrames | None = None
    encoded: Mapping[str, Tensor] = {}  # name of an acoustic input -> its encoder's output (B, size)


NOTHING_KNOWN = Known()


class Projection(nn.Sequential):
    """Dropout, a linear layer, ReLU."""

    def __init__(self, size: int, width: int, dropout: float) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(size, width), nn.ReLU())


class CoAttention(nn.Module):
    """Attention weights over speech frames, computed from the acoustic features; eq. 4 and 5."""

    def __init__(self, size: int, frames: int, dropout: float, kind: str) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, frames)
        self.kind = kind

    def forward(self, acoustic: Tensor, speech: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted sum (B, D) of the frames (B, T, D), and the weights (B, T).

        Frames that `real` marks as padding get no weight.

        Args:
            acoustic: (B, size).
            speech: (B, T, D).
            real: 1 for real frames, 0 for padding (B, T); None if all frames are real.
        """
        scores = self.linear(self.dropout(acoustic))[:, : speech.shape[1]]  # padding frames may have been cut off
        if real is not None:
            scores = scores.masked_fill(real == 0, -torch.inf)
        weights = scores.softmax(1) if self.kind == "softmax" else scores.relu()
        return torch.bmm(weights[:, None].to(speech.dtype), speech)[:, 0], weights


class Streams(Protocol):
    """Runs the acoustic encoders while the speech encoder runs."""

    def aside(self, name: str) -> AbstractContextManager[None]:
        """Context in which the encoder called `name` runs."""

    def join(self) -> None:
        """Wait for all encoders."""


class InTurn:
    """Runs one encoder after the other, with the rest of the model."""

    def aside(self, name: str) -> AbstractContextManager[None]:
        """Run the encoder where everything else runs."""
        return nullcontext()

    def join(self) -> None:
        """Return at once: there is nothing to wait for."""


class SpeechEmotionModel(nn.Module):
    """Logits of emotion classes from a batch of stored rows."""

    def __init__(self, settings: Model, sizes: Sizes, classes: int) -> None:
        super().__init__()
        self.settings, self.audio = settings, sizes.audio
        self.streams: Streams = InTurn()
        self.inputs = tuple(name for name in INPUTS if name in settings.inputs)
        self.attends, self.acoustic, self.speech = settings.attends, settings.acoustic, settings.speech
        rows = [INPUTS[name] for name in settings.reads]
        self.finish = nn.ModuleDict({row.name: make_finish(row, settings, sizes) for row in rows})
        self.encoders = nn.ModuleDict({row.name: make_encoder(row, settings, sizes) for row in rows})
        self.register_load_state_dict_pre_hook(_without_unread)  # type: ignore[no-untyped-call]
        encoder = self.encoders[self.speech] if self.speech else None
        if isinstance(encoder, FrameEncoder):
            self.finish[self.speech].unit = not encoder.reads_raw  # type: ignore[assignment]
        width, dropout = settings.width, settings.dropout
        self.flat = settings.inputs if settings.whole else settings.acoustic
        sizes_of = {name: projected_size(encoder) for name, encoder in self.encoders.items()}
        if encoder is not None and not self.attends:
            before = int(encoder.width)  # type: ignore[arg-type]
            self.pool = POOLINGS[settings.pooled](before)
            sizes_of[self.speech] += int(self.pool.size) - before  # type: ignore[arg-type]
        bare = self.inputs if settings.head != "fusion" else ()
        self.projections = nn.ModuleDict(
            {
                name: nn.Identity() if name in bare else Projection(size, width, dropout)
                for name, size in sizes_of.items()
            }
        )
        if self.attends:
            frames = self.encoders[self.speech].frames(sizes.audio.segment)  # type: ignore[operator]
            self.attention = CoAttention(len(self.acoustic) * width, frames, dropout, settings.attention)
        joined = sum(sizes_of[name] if name in bare else width for name in self.inputs)
        self.fusion: nn.Module = nn.Identity()
        if settings.head == "mlp":
            self.fusion = Projection(joined, width, dropout)
        elif settings.head == "fusion":
            self.fusion = nn.Sequential(Projection(joined, width, dropout), Projection(width, width, dropout))
        self.classifier = nn.Linear(joined if settings.head == "linear" else width, classes)
        self.path = PathDropout(settings.small_drop)

    def fit_scaler(self, name: str, minimum: Tensor, maximum: Tensor) -> None:
        """Keep the extremes, uint8 (bins,), of the image `name` over the fold's training rows.

        Args:
            name: name of the input.
            minimum: smallest level of each bin, uint8 (bins,).
            maximum: largest level of each bin, uint8 (bins,).
        """
        self.finish[name].fit(minimum, maximum)  # type: ignore[operator]

    @property
    def speech_settings(self) -> dict[str, Any] | None:
        """The speech encoder's configuration, from which `build_model` builds it without its weights."""
        encoder = self.encoders[self.speech] if self.speech else None
        return encoder.description() if isinstance(encoder, FrameEncoder) else None

    def finished(self, batch: Batch, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The inputs of the encoders, in float32 whatever the precision of the rest of the model.

        Args:
            batch: stored rows.
            names: names of the inputs; None for all.
        """
        wanted = [name for name in self.encoders if names is None or name in names]
        with torch.autocast(batch.samples.device.type, enabled=False):
            return {name: self.finish[name](batch[name], batch.samples) for name in wanted}

    def forward(self, batch: Batch, mix: Mix | None = None, known: Known = NOTHING_KNOWN) -> Output:
        """Logits and features of a batch.

        Args:
            batch: stored rows.
            mix: mixes the encoders' outputs within the batch; None mixes nothing.
            known: values that were already computed.
        """
        done = {*known.finished, *known.encoded, *([self.speech] if self.speech and known.speech else [])}
        missing = [name for name in self.encoders if name not in done]
        read = {**known.finished, **self.finished(batch, missing)}
        projected = {}
        for name in self.flat:
            given = {"statistics": known.statistics[name]} if name in known.statistics else {}
            with self.streams.aside(name):
                known_of = known.encoded.get(name)
                encoded = self.encoders[name](read[name], **given) if known_of is None else known_of
                projected[name] = self._project(name, encoded, mix)
        speech = self.hear(read, batch.samples, known) if self.speech else None
        self.streams.join()
        attention = None
        if speech is not None:
            if self.attends:
                acoustic = torch.cat([projected[name] for name in self.acoustic], 1)
                acoustic = acoustic if speech.rows is None else acoustic[speech.rows]
                summary, attention = self.attention(acoustic, speech.frames, speech.real)
            else:
                summary = self.pool(speech)
            if speech.rows is not None:
                summary, attention = speech.spread(summary), None if attention is None else speech.spread(attention)
            if speech.whole is not None:
                path = self.path(summary) if speech.rows is None else summary
                summary = torch.cat([path, speech.whole], 1)
            projected[self.speech] = self._project(self.speech, summary, mix)
        fused = self.fusion(torch.cat([projected[name] for name in self.inputs], 1))
        return Output(self.classifier(fused), projected.get(self.speech), fused, attention)

    def _project(self, name: str, encoded: Tensor, mix: Mix | None) -> Tensor:
        """The feature (B, W) of one input from its encoder's output (B, size)."""
        return self.projections[name](mix(encoded) if mix else encoded)  # type: ignore[no-any-return]

    def hear(self, read: Mapping[str, Tensor], samples: Tensor, known: Known = NOTHING_KNOWN) -> SpeechFrames:
        """Run the speech encoder, unless its frames are known; the paper's encoder treats padding as speech.

        Args:
            read: inputs of the encoders, from `finished`.
            samples: number of real samples (B,).
            known: values that were already computed.
        """
        if known.speech is not None:
            return known.speech
        encoder, speech = self.encoders[self.speech], read[self.speech]
        if isinstance(encoder, FrameEncoder) and encoder.reads_raw:
            frames, real = encoder.hear(speech, samples)
            return SpeechFrames(frames, real.to(frames.dtype))
        if isinstance(encoder, Stored):
            return SpeechFrames(encoder(speech), encoder.real(speech))
        if isinstance(encoder, SmallSpeech):
            return encoder(speech, samples, known.statistics.get(self.speech))  # type: ignore[no-any-return]
        return SpeechFrames(encoder(speech))

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Fit the standardisation of the small encoders' statistics to `batches`, the fold's training rows."""
        small: dict[str, Any] = {
            name: encoder for name, encoder in self.encoders.items() if hasattr(encoder, "standard")
        }
        found: dict[str, list[Tensor]] = {name: [] for name in small}
        for batch in batches if small else ():
            read = self.finished(batch)
            for name, encoder in small.items():
                found[name].append(encoder.statistics(read[name], batch.samples))
        for name, encoder in small.items():
            encoder.standard.fit(found[name])


def build_model(
    settings: Model,
    *,
    audio: Audio,
    features: Features,
    classes: int,
    pretrained: bool = True,
    speech_settings: dict[str, Any] | None = None,
) -> SpeechEmotionModel:
    """Build the model of `settings`: float32, on the CPU, in training mode, initialised with torch's seeded generator.

    Args:
        settings: the `model` table of the configuration.
        audio: sample rate, segment length and hop.
        features: settings of the stored features, which give their sizes.
        classes: number of emotions.
        pretrained: False leaves every weight random, for a model whose own weights are loaded next.
        speech_settings: the speech encoder's configuration (`SpeechEmotionModel.speech_settings`), which allows
            building a saved model without the hub or the encoder's folder.

    Raises:
        PipelineError: pre-trained weights are not available.
    """
    return SpeechEmotionModel(settings, Sizes(audio, features, pretrained, speech_settings), classes)


def _without_unread(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Drop state that earlier versions stored for inputs that the model does not read."""
    finish: Any = model.finish
    for key in [key for key in state if key.startswith(f"{prefix}finish.")]:
        if key.removeprefix(f"{prefix}finish.").partition(".")[0] not in finish:
            del state[key]
