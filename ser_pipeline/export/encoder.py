"""Export of the speech encoder alone, as a model folder of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ser_pipeline.device import pick_device
from ser_pipeline.entry import write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.export import names
from ser_pipeline.export.folder import Members
from ser_pipeline.export.writing import new_folder
from ser_pipeline.model.speech import FrameEncoder
from ser_pipeline.predict.runs import run_members
from ser_pipeline.text import portable

USUAL_FRONT = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "do_normalize": True,
}
"""Feature extractor of an encoder that reads waveforms normalised to zero mean and unit variance."""


def export_encoder(run: Path | str, folder: Path | str, folds: Sequence[str] = ()) -> Path:
    """Write the fine-tuned or frozen speech encoder of a run as a model folder of transformers.

    Args:
        run: folder of the run.
        folder: the folder to write; it must be new or empty.
        folds: the fold whose encoder to write; any fold if it is frozen.

    Raises:
        PipelineError: the run has no pre-trained encoder, its folds have different ones, or the folder is not empty.
    """
    members = run_members(Path(run), pick_device("cpu"), folds)
    encoder = _encoder(members, str(run))
    with new_folder(Path(folder)) as partial:
        described = portable(encoder.description())
        front = described.pop("preprocessor", {}) or {**USUAL_FRONT, "sampling_rate": encoder.rate}
        write_json(partial / names.ABOUT, described)
        write_json(partial / names.FRONT, front)
        state = encoder.state_dict()
        weights = {name.removeprefix("model."): state[name].contiguous() for name in state if name != "mix"}
        save_file(weights, partial / names.WEIGHTS, metadata={"format": "pt"})
        (partial / names.WEIGHTS).chmod((partial / names.ABOUT).stat().st_mode)
    return Path(folder)


def _encoder(members: Members, run: str) -> FrameEncoder:
    """Return the pre-trained encoder that all models share.

    Raises:
        PipelineError: there is none, or the models have different ones.
    """
    if members.makers:
        return next(iter(members.makers.values())).encoder
    found: list[Any] = [model.encoders[model.speech] for model in members.models if model.speech]
    encoders = [encoder for encoder in found if isinstance(encoder, FrameEncoder)]
    if not encoders:
        raise PipelineError(f"{run} has no pre-trained speech encoder; leave out --encoder to export its models")
    first = encoders[0].state_dict()
    if not all(_equal(first, encoder.state_dict()) for encoder in encoders[1:]):
        raise PipelineError(f"every fold of {run} fine-tuned its own encoder: choose one with --fold")
    return encoders[0]


def _equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())
