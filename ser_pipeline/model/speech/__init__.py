"""Pre-trained speech encoders, by hub name or folder: the wav2vec 2.0 family, conformers, Whisper, and any other.

`open_encoder` gives a `FrameEncoder`. A family is a row of `FAMILIES`; transformers is imported by the families that
need it, since that takes seconds, and `plain` has the modules of those whose weights were kept beside a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import plain
from ser_pipeline.model.speech.conformer import ConformerEncoder, FilterbankEncoder
from ser_pipeline.model.speech.frames import SPARE, FrameEncoder, Inputs, Options, States, check_rate
from ser_pipeline.model.speech.generic import open_other
from ser_pipeline.model.speech.hub import revision
from ser_pipeline.model.speech.loading import Source, open_source, transformers_config, transformers_model
from ser_pipeline.model.speech.wav2vec2 import SpeechEncoder
from ser_pipeline.model.speech.whisper import open_whisper
from ser_pipeline.model.undrawn import Undrawn

__all__ = [
    "FAMILIES",
    "SPARE",
    "FrameEncoder",
    "Inputs",
    "KeptEncoder",
    "Options",
    "SpeechEncoder",
    "States",
    "open_encoder",
    "open_frozen",
]

Open = Callable[[Source, Options], FrameEncoder]


def open_encoder(
    name: str,
    options: Options,
    *,
    weights: bool = True,
    settings: Mapping[str, Any] | None = None,
    setting: str = "model.speech_encoder",
    rate: int = 16_000,
) -> FrameEncoder:
    """Open the speech encoder `name`, float32 on the CPU, with or without its weights.

    Code from a folder or repository is never run.

    Args:
        name: name on the Hugging Face hub, or a folder with `config.json`, `preprocessor_config.json` and the weights.
        options: how the encoder is used.
        weights: False gives the same architecture with random weights.
        settings: a description from `FrameEncoder.description`; then nothing is looked up and the weights are random.
        setting: the setting that contains the name, for error messages.
        rate: sample rate of the audio in Hz.

    Raises:
        PipelineError: the weights or the configuration are not available, belong to no speech encoder, or need another
            sample rate.
    """
    source = open_source(name, weights=weights, settings=settings, setting=setting)
    check_rate(source.front, name, rate)
    kind = str(source.config.get("model_type"))
    if options.window != "cut" and kind != "whisper":
        raise PipelineError(f"a window of {options.window} is for Whisper; '{name}' is a {kind} model: set it to cut")
    encoder = FAMILIES.get(kind, open_other)(source, options)
    if source.folder is not None:
        encoder.revision = revision(source.folder)
    return encoder


class KeptEncoder(NamedTuple):
    """A speech encoder that is stored next to a model, so that nothing needs to be looked up."""

    settings: Mapping[str, Any]
    """The encoder's `FrameEncoder.description`."""
    weights: Mapping[str, Tensor]
    """The encoder's `state_dict`."""


def open_frozen(
    name: str, options: Options, *, setting: str, rate: int, kept: KeptEncoder | None = None
) -> FrameEncoder:
    """Open the speech encoder `name` with its weights, or `kept`, which was stored under that name.

    Args:
        name: name on the Hugging Face hub, or a folder.
        options: how the encoder is used.
        setting: the setting that contains the name, for error messages.
        rate: sample rate of the audio in Hz.
        kept: its description and weights; None looks them up.

    Raises:
        PipelineError: as in `open_encoder`.
    """
    if kept is None:
        return open_encoder(name, options, setting=setting, rate=rate)
    with Undrawn():
        encoder = open_encoder(name, options, settings=kept.settings, setting=setting, rate=rate)
    encoder.load_state_dict(kept.weights, assign=True)  # on a processor they stay in their file
    return encoder


def _of_transformers(kind: type[SpeechEncoder]) -> Open:
    """Opens a family whose parts are transformers' own, or, where no file is read, such as transformers has."""

    def opened(source: Source, options: Options) -> FrameEncoder:
        if source.folder is None and plain.fits(source.config):
            return kind(plain.PlainModel(source.config), options, source.front)
        return kind(transformers_model(source, transformers_config(source)), options, source.front)

    return opened


FAMILIES: Mapping[str, Open] = {
    "wav2vec2": _of_transformers(SpeechEncoder),
    "hubert": _of_transformers(SpeechEncoder),
    "wavlm": _of_transformers(SpeechEncoder),
    "data2vec-audio": _of_transformers(SpeechEncoder),
    "unispeech": _of_transformers(SpeechEncoder),
    "unispeech-sat": _of_transformers(SpeechEncoder),
    "wav2vec2-conformer": _of_transformers(ConformerEncoder),
    "wav2vec2-bert": _of_transformers(FilterbankEncoder),
    "whisper": open_whisper,
}
"""Value of `model_type` -> the function that opens its models; other models of transformers can only be used frozen."""
