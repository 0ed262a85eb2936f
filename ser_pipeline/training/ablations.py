"""Ablations as changes of settings: the rows of the paper's Table 2, and others that vary one thing."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ser_pipeline import config as settings
from ser_pipeline.config import Config, Model
from ser_pipeline.errors import PipelineError
from ser_pipeline.names import unknown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""Valid names of ablations, which become part of the name of a run's folder."""

log = logging.getLogger(__name__)


def ablated(
    config: Config, names: Sequence[str], own: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Config]:
    """Return the settings of the ablations in `names`, without those that change nothing or cannot be applied.

    A log line says why an ablation is left out.

    Args:
        config: the settings that the ablations change.
        names: keys of `ABLATIONS` or of `own`.
        own: the user's ablations, from `own_ablations`.

    Raises:
        PipelineError: all ablations are left out.
    """
    rows: dict[str, Config] = {}
    table = {**ABLATIONS, **(own or {})}
    seen = {_effective(config): "full"}
    for name in names:
        changed = _with_speech(settings.merge(config, table[name]), config.model.speech)
        if why := _unfit(name, config, changed):
            log.info("ablation '%s' is left out: %s", name, why)
            continue
        same = seen.setdefault(_effective(changed), name)
        if same != name:
            why = f"with these settings it is the same as '{same}'"
            log.info("ablation '%s' is left out: %s", name, why)
        else:
            rows[name] = changed
    if not rows:
        raise PipelineError(f"ablation '{names[-1]}' is left out: {why}; choose another ablation or other settings")
    return rows


def ablation_names(text: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """Return the names of ablations from a comma-separated list.

    "all" stands for all ablations, the user's included, except for the baselines that need features of their own.

    Args:
        text: the list.
        own: the user's ablations.

    Raises:
        PipelineError: an unknown ablation.
    """
    known = [*ABLATIONS, *(own or {})]
    apart = [name for name, row in BASELINES.items() if "model" in row]  # they need features of their own
    every = [name for name in known if name not in apart]
    names = every if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise PipelineError(unknown("ablation", name, known))
    return names


def own_ablations(file: Path | None) -> dict[str, Mapping[str, Any]]:
    """Read the tables `[ablations.NAME]` of a TOML file: the settings that each ablation changes, as in `ABLATIONS`.

    Raises:
        PipelineError: a name that is taken or cannot be part of a folder's name, or invalid settings.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    for name, changes in settings.tables(file).get("ablations", {}).items():
        if not NAME.fullmatch(name):
            raise PipelineError(
                f"{file}: ablation '{name}' cannot name a folder; use up to 40 letters, digits, '-', '_' and '.', "
                "and start with a letter or digit"
            )
        if name in ABLATIONS:
            raise PipelineError(f"{file}: ablation '{name}' already exists; choose another name")
        if not isinstance(changes, Mapping):
            raise PipelineError(f"{file}: ablation '{name}' must be a table of settings, as [ablations.{name}.train]")
        try:
            settings.merge(Config(), changes)
        except PipelineError as error:
            raise PipelineError(f"{file}: ablation '{name}': {error}") from None
        rows[name] = changes
    return rows


def _unfit(name: str, config: Config, changed: Config) -> str:
    """Return why the ablation `name`, which changes `config` to `changed`, cannot be applied to it, or ""."""
    if name in ENCODERS_OF_SPEECH and config.model.speech_encoder == "small":
        return "it names a pre-trained speech encoder, and these settings train a small one"
    if name in BASELINES and changed.model.head != "linear":
        return "it needs a linear head over whole utterances, such as that of preset frozen"
    if config.model.whole and not changed.model.whole:
        return "it reads segments, and these settings read whole utterances"
    return ""


def _with_speech(config: Config, speech: str) -> Config:
    """Return `config` with the input `speech` in place of the waveform, which the ablations name."""
    inputs = tuple(speech if name == "waveform" and speech else name for name in config.model.inputs)
    return replace(config, model=replace(config.model, inputs=inputs))


def _effective(config: Config) -> Config:
    """Return `config` with every setting of the model that has no effect at its default."""
    model, usual = config.model, Model()
    idle: set[str] = set()
    if model.whole:
        idle |= {"co_attention", "attention", "spectrogram_weights"}
    if not model.speech:
        idle |= {"co_attention", "attention"}
    if model.speech != "waveform":
        idle |= {"speech_encoder", "freeze_speech_encoder"}
    if model.speech != "waveform" and not (model.speech == "embedding" and config.features.embedding.depth > 1):
        idle.add("layer_mix")
    if model.speech != "waveform" or model.speech_encoder == "small":
        idle |= {"speech_weights", "spec_augment", "layer_drop", "mask_padding", "speech_window"}
        idle |= {"lora_rank", "lora_alpha", "lora_targets"}
    if model.speech_encoder == "small" and model.small_layers == 0:
        idle.add("layer_mix")
    if not model.attends:
        idle.add("attention")
    if model.speech and not model.attends:  # two ways to set the same mean pooling
        model = replace(model, pooling=model.pooled, co_attention=False)
    if model.spectrogram_encoder == "small" or not {"spectrogram", "logmel"} & set(model.reads):
        idle.add("spectrogram_weights")
    return replace(config, model=replace(model, **{name: getattr(usual, name) for name in idle}))


def _inputs(*names: str, co_attention: bool = True) -> dict[str, Any]:
    return {"model": {"inputs": list(names), "co_attention": co_attention, "pooling": "co-attention"}}


def _speech(encoder: str) -> dict[str, Any]:
    return {"model": {"speech_encoder": encoder}}


def _functionals(name: str, solver: str) -> dict[str, Any]:
    return {
        "model": {"inputs": ["functionals"]},
        "features": {"functionals": {"set": name}},
        "train": {"solver": solver},
    }


ENCODERS_OF_SPEECH: Mapping[str, Mapping[str, Any]] = {
    "wav2vec2-large": _speech("facebook/wav2vec2-large"),
    "hubert": _speech("facebook/hubert-base-ls960"),
    "wavlm": _speech("microsoft/wavlm-base"),
    "data2vec": _speech("facebook/data2vec-audio-base"),
    "wav2vec2-large-robust": _speech("facebook/wav2vec2-large-robust"),
    "wav2vec2-xls-r-300m": _speech("facebook/wav2vec2-xls-r-300m"),
    "hubert-large": _speech("facebook/hubert-large-ll60k"),
    "wavlm-base-plus": _speech("microsoft/wavlm-base-plus"),
    "wavlm-large": _speech("microsoft/wavlm-large"),
    "w2v-bert-2.0": _speech("facebook/w2v-bert-2.0"),
    "whisper-tiny": _speech("openai/whisper-tiny"),
    "whisper-base": _speech("openai/whisper-base"),
    "whisper-small": _speech("openai/whisper-small"),
    "whisper-medium": _speech("openai/whisper-medium"),
    "whisper-large-v3": _speech("openai/whisper-large-v3"),
}
"""Ablations that replace the preset's pre-trained speech encoder by another one."""

BASELINES: Mapping[str, Mapping[str, Any]] = {
    "svm": {"train": {"solver": "svm"}},
    "logistic": {"train": {"solver": "logistic"}},
    "compare-svm": _functionals("ComParE_2016", "svm"),
    "compare-logistic": _functionals("ComParE_2016", "logistic"),
    "egemaps-svm": _functionals("eGeMAPSv02", "svm"),
    "egemaps-logistic": _functionals("eGeMAPSv02", "logistic"),
}
"""Baselines that replace the linear head by a classifier of scikit-learn, some on openSMILE's functionals."""

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "full-mean": {"model": {"co_attention": False, "pooling": "co-attention"}},
    "mfcc": _inputs("mfcc", co_attention=False),
    "spectrogram": _inputs("spectrogram", co_attention=False),
    "w2e": _inputs("waveform"),
    "w2e-mean": _inputs("waveform", co_attention=False),
    "mfcc-w2e": _inputs("mfcc", "waveform"),
    "mfcc-w2e-mean": _inputs("mfcc", "waveform", co_attention=False),
    "spectrogram-w2e": _inputs("spectrogram", "waveform"),
    "spectrogram-w2e-mean": _inputs("spectrogram", "waveform", co_attention=False),
    "relu": {"model": {"attention": "relu"}},
    "softmax": {"model": {"attention": "softmax"}},
    "frozen": {"model": {"freeze_speech_encoder": True, "lora_rank": 0}},
    "layer-mix": {"model": {"layer_mix": True}},
    "class-weights": {"train": {"class_weights": True}},
    "no-pretraining": {"model": {"speech_weights": False, "spectrogram_weights": "none"}},
    **ENCODERS_OF_SPEECH,
    **BASELINES,
}
"""Settings that each ablation changes, as nested tables that override the preset."""
