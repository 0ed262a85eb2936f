"""Speech emotion recognition with co-attention: cached features, leak-free folds, scores with intervals.

Each of the three stages is a function: `extract` (audio to HDF5 shards), `train` (shards to runs) and `report` (runs to
tables and figures). They exchange data only on disk. `load` opens a run, a model folder or an ONNX graph to predict
audio files, and `SpeechEmotion` opens a model folder, local or on the Hugging Face hub. `load_config` reads settings,
and `corpora` is the package of supported corpora. Each name is imported when it is first used. `docs/python.md` has
examples; the command line is in `ser_pipeline.cli`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_pipeline import corpora as corpora
    from ser_pipeline.config import load as load_config
    from ser_pipeline.errors import PipelineError
    from ser_pipeline.export.hub import SpeechEmotion
    from ser_pipeline.features.stage import extract
    from ser_pipeline.predict.opening import load
    from ser_pipeline.report import build as report
    from ser_pipeline.training.stage import train

__version__ = "0.1.0"

__all__ = ["PipelineError", "SpeechEmotion", "corpora", "extract", "load", "load_config", "report", "train"]

_FACES = {
    "PipelineError": "ser_pipeline.errors:PipelineError",
    "SpeechEmotion": "ser_pipeline.export.hub:SpeechEmotion",
    "extract": "ser_pipeline.features.stage:extract",
    "train": "ser_pipeline.training.stage:train",
    "load": "ser_pipeline.predict.opening:load",
    "load_config": "ser_pipeline.config:load",
}
"""Module and attribute of each public name; `corpora` and `report` are packages, and `report` can be called."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in ("corpora", "report"):
        return import_module(f"ser_pipeline.{name}")
    if name not in _FACES:
        raise AttributeError(f"module 'ser_pipeline' has no attribute '{name}'")
    module, _, found = _FACES[name].partition(":")
    return getattr(import_module(module), found)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
