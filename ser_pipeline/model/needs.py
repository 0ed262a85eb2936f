"""Requirements of a model's parts on combinations of settings, checked before any data is read or computed.

They do not concern features, whose stores serve any model.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from ser_pipeline.config import Config, Model
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import CEPSTRA, IMAGE, INPUTS, SAMPLES
from ser_pipeline.model.contours import RHYTHM
from ser_pipeline.model.prosody import FRAME
from ser_pipeline.model.small import HEAD_WIDTH, heads
from ser_pipeline.model.speech.lora import MISSING

SMALL = "small"
"""Name of the encoders that are trained from scratch."""

WEIGHTS = 2**28
"""Maximum weights of one layer: 1 GiB of float32, and three times as much for its gradient and the optimiser."""


def require_needs(config: Config) -> None:
    """Refuse combinations of settings that the model's encoders do not support.

    Raises:
        PipelineError: names the setting, and the nearest valid value.
    """
    for said in (
        *_long(config),
        *_padding(config),
        *_adapters(config),
        *_idle(config),
        *_small_speech(config),
        *_small_images(config),
    ):
        raise PipelineError(said)


def _encoded(config: Config, form: str, encoder: str) -> list[str]:
    """Inputs of the form `form` whose encoder is the one called `encoder`."""
    rows = [INPUTS[name] for name in config.model.reads]
    return [row.name for row in rows if row.form == form and getattr(config.model, row.setting) == encoder]


def _long(config: Config) -> Iterator[str]:
    """Limit the layer that projects all outputs of the BiLSTM."""
    model, frames = config.model, config.model_audio.frames
    weights = frames * 2 * model.lstm_width * model.width
    if weights > WEIGHTS and _encoded(config, CEPSTRA, "bilstm"):
        fitting = WEIGHTS // (frames * 2 * model.width)
        change = f"lstm_width={fitting}" if fitting else f"width={max(1, WEIGHTS // (frames * 2 * model.lstm_width))}"
        yield (
            f"{frames} frames with model.lstm_width={model.lstm_width} and model.width={model.width} need a layer of "
            f"{weights} weights, more than {WEIGHTS}; the nearest is model.{change}"
        )


def _padding(config: Config) -> Iterator[str]:
    model = config.model
    if model.speech == "embedding":
        for name, other in (("mask_padding", "mask_padding"), ("speech_window", "window")):
            if getattr(model, name) != getattr(Model(), name):
                yield (
                    f"model.{name} applies to an encoder that runs during training; "
                    f"for stored frames, set features.embedding.{other}"
                )
        if model.layer_mix and config.features.embedding.depth == 1:
            yield "model.layer_mix needs several layers, but one is stored; --set features.embedding.layers=[] has all"
    if model.speech == "waveform" and model.mask_padding and model.pad_front:
        yield "model.mask_padding needs the audio at the segment's start; the nearest is model.pad_front=false"


def _adapters(config: Config) -> Iterator[str]:
    model = config.model
    if not model.lora_rank or not model.speech:
        return
    if model.speech != "waveform" or model.speech_encoder == SMALL:
        yield "model.lora_rank needs a pre-trained encoder that runs during training; the nearest is model.lora_rank=0"
    if model.freeze_speech_encoder or model.freeze == "all":
        yield "model.lora_rank trains adapters, but the encoder is frozen; the nearest is model.lora_rank=0"
    if not find_spec("peft"):
        yield MISSING


def _idle(config: Config) -> Iterator[str]:
    """Refuse settings that the small speech encoder does not have."""
    if _encoded(config, SAMPLES, SMALL):
        for name in ("spec_augment", "layer_drop"):
            usual = getattr(Model(), name)
            if getattr(config.model, name) != usual:
                yield (
                    f"model.{name} applies to pre-trained speech encoders, not to the small one; "
                    f"the nearest is model.{name}={str(usual).lower()}"
                )


def _small_speech(config: Config) -> Iterator[str]:
    if not _encoded(config, SAMPLES, SMALL):
        return
    model, audio = config.model, config.model_audio
    least = -(-round(FRAME * audio.rate) // audio.hop) * audio.hop
    if audio.segment < least:
        yield (
            f"{audio.segment} samples are too short for the small speech encoder, which reads {FRAME * 1000:g} ms at a "
            f"time; the nearest is audio.segment={-(-least // model.segments // audio.hop) * audio.hop}"
        )
    if model.small_layers and model.small_width % heads(model.small_width):
        nearest = min(
            (width for width in range(1, 2 * model.small_width) if width % heads(width) == 0),
            key=lambda width: abs(width - model.small_width),
        )
        yield (
            f"model.small_width={model.small_width} cannot be divided into heads of {HEAD_WIDTH} or slightly more; "
            f"the nearest is model.small_width={nearest}"
        )
    if model.pad_front:
        yield "the small speech encoder needs speech at the segment's start; the nearest is model.pad_front=false"


def _small_images(config: Config) -> Iterator[str]:
    images = _encoded(config, IMAGE, SMALL)
    if not images:
        return
    audio, fastest = config.audio, RHYTHM[-1][1]
    if audio.frame_rate < 2 * fastest:
        most = max(hop for hop in range(1, int(audio.rate / (2 * fastest)) + 1) if audio.segment % hop == 0)
        yield (
            f"audio.hop={audio.hop} gives {audio.frame_rate:.4g} frames per second, but the small encoder of "
            f"{images[0]} reads changes of up to {fastest:g} Hz, which needs {2 * fastest:g}; "
            f"the nearest is audio.hop={most}"
        )
    if config.model.pad_loud:
        yield f"the small encoder of {images[0]} mistakes loud padding for speech; the nearest is model.pad_loud=false"
