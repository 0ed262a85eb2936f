"""Names of a model folder's files and weights, in one place for who writes them and who reads them."""

from __future__ import annotations

from pathlib import Path

from ser_pipeline.entry import read_json

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

SHARED, MEMBERS, MADE = "shared.", "members.", "made."
"""How names of weights begin."""

ONNX_INT8 = "model.int8.onnx"
"""The ONNX graph whose products are of 8 bits, where it was asked for."""


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` is one that `export` wrote."""
    file = folder / ABOUT
    return file.is_file() and read_json(file).get("model_type") == MODEL_TYPE
