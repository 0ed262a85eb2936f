"""Names of a model folder's files and weights, in one place for who writes them and who reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_pipeline.entry import read_as, read_json
from ser_pipeline.errors import PipelineError

ABOUT = "config.json"
"""Settings, labels and what the encoders are, in the form that transformers reads."""

FRONT = "preprocessor_config.json"
"""What transformers' feature extractor is made of."""

WEIGHTS = "model.safetensors"
"""The weights of all members, and of the encoders that made their features."""

CODE = "speech_emotion.py"
"""What transformers imports with `trust_remote_code=True`."""

CARD = "README.md"
"""The model card."""

ONNX = "model.onnx"
"""The ONNX graph, where it was asked for."""

MODEL_TYPE = "ser-pipeline"
"""Value of `model_type` in `config.json`."""

AGAIN = "export it again"
"""What mends a damaged model folder."""

SHARED, MEMBERS, MADE = "shared.", "members.", "made."
"""How names of weights begin."""

ONNX_INT8 = "model.int8.onnx"
"""The ONNX graph whose products are of 8 bits, where it was asked for."""


def is_graph(file: Path) -> bool:
    """Whether `file` is named as ONNX graphs are."""
    return file.suffix == ".onnx"


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` is one that `export` wrote."""
    file = folder / ABOUT
    return (folder / CODE).is_file() or (file.is_file() and read_json(file).get("model_type") == MODEL_TYPE)


@dataclass(frozen=True)
class About:
    """`config.json`: what a model folder says of its models."""

    settings: dict[str, Any]  # of the run
    id2label: dict[str, str]  # number of a class -> its name
    folds: tuple[str, ...]  # of which the models are
    encoders: dict[str, dict[str, Any]]  # what frozen encoders are
    scale: tuple[float, ...] = ()  # ends of that of attributes, where the models tell some

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return tuple(self.id2label[str(number)] for number in range(len(self.id2label)))


def read_about(folder: Path) -> About:
    """What the model folder `folder` says of its models.

    Raises:
        PipelineError: it is missing or damaged, or its classes are not numbered from 0 on, or it has no fold.
    """
    about = read_as(folder / ABOUT, About, AGAIN)
    if about.scale and not (len(about.scale) == 2 and about.scale[0] < about.scale[1]):
        raise PipelineError(f"{folder / ABOUT} is damaged (its scale must be two numbers that rise); {AGAIN}")
    if set(about.id2label) != {str(number) for number in range(len(about.id2label))} or not about.folds:
        raise PipelineError(f"{folder / ABOUT} is damaged (it must number its classes and name its folds); {AGAIN}")
    return about
