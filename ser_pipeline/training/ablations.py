"""Experiments as changed settings: the rows of the paper's Table 2, and others that vary one thing."""

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
"""Names of rows, which become part of a run's folder."""

log = logging.getLogger(__name__)


def ablated(
    config: Config, names: Sequence[str], own: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Config]:
    """The settings of every row in `names` that is worth a run; of any other a log line says why it is left out.

    Args:
        config: what the rows change.
        names: keys of `ABLATIONS` or of `own`.
        own: rows of the user, as `own_ablations` reads them.

    Raises:
        PipelineError: no row is left.
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
            why = f"with these settings it would be '{same}' again"
            log.info("ablation '%s' is left out: %s", name, why)
        else:
            rows[name] = changed
    if not rows:
        raise PipelineError(f"ablation '{names[-1]}' is left out: {why}; choose another row or other settings")
    return rows


def ablation_names(text: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """Rows of the ablation table from a comma-separated list; "all" is every row that reads what the others read.

    Those of the user are among them.

    Args:
        text: the list.
        own: rows of the user.

    Raises:
        PipelineError: an unknown row.
    """
    known = [*ABLATIONS, *(own or {})]
    apart = [name for name, row in BASELINES.items() if "model" in row]  # want features of their own
    every = [name for name in known if name not in apart]
    names = every if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise PipelineError(unknown("ablation", name, known))
    return names


def own_ablations(file: Path | None) -> dict[str, Mapping[str, Any]]:
    """The tables `[ablations.NAME]` of a TOML file: settings that a row changes, as those of `ABLATIONS`.

    Raises:
        PipelineError: a name that is taken or could not be part of a folder's name, or settings that are not valid.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    for name, changes in settings.tables(file).get("ablations", {}).items():
        if not NAME.fullmatch(name):
            raise PipelineError(
                f"{file}: ablation '{name}' cannot name a folder; use up to 40 letters, digits, '-', '_' and '.', "
                "and begin with a letter or digit"
            )
        if name in ABLATIONS:
            raise PipelineError(f"{file}: ablation '{name}' is a row already; choose another name")
        if not isinstance(changes, Mapping):
            raise PipelineError(f"{file}: ablation '{name}' is a table of settings, such as [ablations.{name}.train]")
        try:
            settings.merge(Config(), changes)
        except PipelineError as error:
            raise PipelineError(f"{file}: ablation '{name}': {error}") from None
        rows[name] = changes
    return rows


def _unfit(name: str, config: Config, changed: Config) -> str:
    """Why the row `name`, which makes `changed` of `config`, has nothing to vary there; "" where it has."""
    if name in ENCODERS_OF_SPEECH and config.model.speech_encoder == "small":
        return "it names a pre-trained speech encoder, and these settings train a small one"
    if name in BASELINES and changed.model.head != "linear":
        return "it is for a linear head over whole utterances, as preset frozen has"
    if config.model.whole and not changed.model.whole:
        return "it reads segments, and these settings read whole utterances"
    return ""


def _with_speech(config: Config, speech: str) -> Config:
    """`config` with the input `speech` in the place of the waveform, of which the rows speak."""
    inputs = tuple(speech if name == "waveform" and speech else name for name in config.model.inputs)
    return replace(config, model=replace(config.model, inputs=inputs))


def _effective(config: Config) -> Config:
    """`config` with every setting of the model that nothing reads at its default."""
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
    if model.speech and not model.attends:  # two ways to say the mean
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
"""Rows that put another pre-trained speech encoder in the place of the preset's."""

BASELINES: Mapping[str, Mapping[str, Any]] = {
    "svm": {"train": {"solver": "svm"}},
    "logistic": {"train": {"solver": "logistic"}},
    "compare-svm": _functionals("ComParE_2016", "svm"),
    "compare-logistic": _functionals("ComParE_2016", "logistic"),
    "egemaps-svm": _functionals("eGeMAPSv02", "svm"),
    "egemaps-logistic": _functionals("eGeMAPSv02", "logistic"),
}
"""Rows that put a plain classifier of scikit-learn in the place of a linear head, some on openSMILE's functionals."""

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
"""Ablation -> settings that it changes, as nested tables over those of the preset."""
