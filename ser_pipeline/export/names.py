"""Names of a model folder's files and weights, shared by the code that writes them and the code that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_pipeline.entry import read_as, read_json
from ser_pipeline.errors import PipelineError

ABOUT = "config.json"
"""Settings, labels and descriptions of the encoders, in the form that transformers reads."""

FRONT = "preprocessor_config.json"
"""Settings of transformers' feature extractor."""

WEIGHTS = "model.safetensors"
"""The weights of all models, and of the encoders that compute their features."""

CODE = "speech_emotion.py"
"""Module that transformers imports with `trust_remote_code=True`."""

CARD = "README.md"
"""The model card."""

ONNX = "model.onnx"
"""The ONNX graph of `export --onnx`."""

MODEL_TYPE = "ser-pipeline"
"""Value of `model_type` in `config.json`."""

AGAIN = "export it again"
"""Advice on a damaged model folder."""

SHARED, MEMBERS, MADE = "shared.", "members.", "made."
"""Prefixes of the names of weights."""

ONNX_INT8 = "model.int8.onnx"
"""The ONNX graph with 8-bit matrix products of `export --int8`."""


def graph_weights(graph: Path) -> Path:
    """The file beside an ONNX graph that has its weights, where these are large."""
    return graph.with_name(f"{graph.name}.data")


def graph_size(graph: Path) -> int:
    """Bytes of an ONNX graph with its weights."""
    return sum(file.stat().st_size for file in (graph, graph_weights(graph)) if file.is_file())


def is_graph(file: Path) -> bool:
    """Whether `file` has the suffix of ONNX graphs."""
    return file.suffix == ".onnx"


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` is a model folder."""
    file = folder / ABOUT
    return (folder / CODE).is_file() or (file.is_file() and read_json(file).get("model_type") == MODEL_TYPE)


@dataclass(frozen=True)
class About:
    """`config.json`: the description of the models in a model folder."""

    settings: dict[str, Any]  # settings of the run
    id2label: dict[str, str]  # names of the classes by number
    folds: tuple[str, ...]  # names of the models' folds
    encoders: dict[str, dict[str, Any]]  # descriptions of encoders
    scale: tuple[float, ...] = ()  # ends of the attributes' scale; () without attributes

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return tuple(self.id2label[str(number)] for number in range(len(self.id2label)))


def read_about(folder: Path) -> About:
    """Read the description of the models in the model folder `folder`.

    Raises:
        PipelineError: it is missing or damaged, its classes are not numbered from 0, or it has no fold.
    """
    about = read_as(folder / ABOUT, About, AGAIN)
    if about.scale and not (len(about.scale) == 2 and about.scale[0] < about.scale[1]):
        raise PipelineError(f"{folder / ABOUT} is damaged (its scale must be two increasing numbers); {AGAIN}")
    if set(about.id2label) != {str(number) for number in range(len(about.id2label))} or not about.folds:
        raise PipelineError(f"{folder / ABOUT} is damaged (it must number its classes and name its folds); {AGAIN}")
    return about


def require_new(folder: Path) -> None:
    """Require that a model folder can be written there.

    Raises:
        PipelineError: `folder` is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PipelineError(f"{folder} already exists; name a new folder, or delete it")
