"""What the parts of a model need of the settings, besides the limits of each: told before anything is read or made.

Features know nothing of it: their stores serve any model.
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
"""Name of the encoders that are trained from nothing."""

WEIGHTS = 2**28
"""The most weights of one layer: 1 GiB of float32, and three times that for its gradient and the optimiser."""


def require_needs(config: Config) -> None:
    """Refuse settings that the encoders of the model cannot follow.

    Raises:
        PipelineError: names the setting, and the nearest value that would do.
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
    """The inputs of a form whose encoder the settings name so."""
    rows = [INPUTS[name] for name in config.model.reads]
    return [row.name for row in rows if row.form == form and getattr(config.model, row.setting) == encoder]


def _long(config: Config) -> Iterator[str]:
    """The BiLSTM's outputs are all projected."""
    model, frames = config.model, config.model_audio.frames
    weights = frames * 2 * model.lstm_width * model.width
    if weights > WEIGHTS and _encoded(config, CEPSTRA, "bilstm"):
        fitting = WEIGHTS // (frames * 2 * model.width)
        change = f"lstm_width={fitting}" if fitting else f"width={max(1, WEIGHTS // (frames * 2 * model.lstm_width))}"
        yield (
            f"{frames} frames of model.lstm_width={model.lstm_width} and model.width={model.width} are a layer of "
            f"{weights} weights, over {WEIGHTS}; the nearest is model.{change}"
        )


def _padding(config: Config) -> Iterator[str]:
    model = config.model
    if model.speech == "embedding":
        for name, other in (("mask_padding", "mask_padding"), ("speech_window", "window")):
            if getattr(model, name) != getattr(Model(), name):
                yield (
                    f"model.{name} is of an encoder that is run in training; "
                    f"stored frames have features.embedding.{other}"
                )
        if model.layer_mix and config.features.embedding.depth == 1:
            yield "model.layer_mix weighs several layers, and one is stored; --set features.embedding.layers=[] has all"
    if model.speech == "waveform" and model.mask_padding and model.pad_front:
        yield "model.mask_padding leaves out what follows the audio; the nearest is model.pad_front=false"


def _adapters(config: Config) -> Iterator[str]:
    model = config.model
    if not model.lora_rank or not model.speech:
        return
    if model.speech != "waveform" or model.speech_encoder == SMALL:
        yield "model.lora_rank is of a pre-trained encoder that is run in training; the nearest is model.lora_rank=0"
    if model.freeze_speech_encoder or model.freeze == "all":
        yield "model.lora_rank trains adapters of an encoder that is to stay as it is; the nearest is model.lora_rank=0"
    if not find_spec("peft"):
        yield MISSING


def _idle(config: Config) -> Iterator[str]:
    """What the small speech encoder has not."""
    if _encoded(config, SAMPLES, SMALL):
        for name in ("spec_augment", "layer_drop"):
            usual = getattr(Model(), name)
            if getattr(config.model, name) != usual:
                yield (
                    f"model.{name} is of a pre-trained speech encoder, and this one is small; "
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
            f"model.small_width={model.small_width} does not part into heads of {HEAD_WIDTH} or a little more; "
            f"the nearest is model.small_width={nearest}"
        )
    if model.pad_front:
        yield "the small speech encoder reads speech from the segment's start on; the nearest is model.pad_front=false"


def _small_images(config: Config) -> Iterator[str]:
    images = _encoded(config, IMAGE, SMALL)
    if not images:
        return
    audio, fastest = config.audio, RHYTHM[-1][1]
    if audio.frame_rate < 2 * fastest:
        most = max(hop for hop in range(1, int(audio.rate / (2 * fastest)) + 1) if audio.segment % hop == 0)
        yield (
            f"audio.hop={audio.hop} makes {audio.frame_rate:.4g} frames a second, and the small encoder of "
            f"{images[0]} reads changes of up to {fastest:g} Hz, for which it needs {2 * fastest:g}; "
            f"the nearest is audio.hop={most}"
        )
    if config.model.pad_loud:
        yield f"the small encoder of {images[0]} takes loud padding for speech; the nearest is model.pad_loud=false"
