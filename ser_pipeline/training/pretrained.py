"""Hashes of the pre-trained weights that a run starts from; they are part of the run's key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ser_pipeline.config import Config
from ser_pipeline.inputs import IMAGE, INPUTS
from ser_pipeline.model.speech import hub

Known = dict[tuple[str, bool], dict[str, str]]
"""Revision and hash of a speech encoder, by its name and whether its weights are read."""


def pretrained(config: Config, known: Known) -> dict[str, Any]:
    """Return the hash and revision of the speech encoder, and the hash of a file of AlexNet's weights, if used.

    A missing speech encoder is downloaded first, so that the run's key does not depend on whether it was there.

    Args:
        config: the settings of a run.
        known: results for other runs of the plan; new results are added.

    Raises:
        PipelineError: the encoder is not available.
    """
    model, found = config.model, dict[str, Any]()
    if model.speech == "waveform" and model.speech_encoder not in INPUTS["waveform"].encoders:
        asked = (model.speech_encoder, model.speech_weights)
        if asked not in known:
            known[asked] = hub.identity(model.speech_encoder, weights=model.speech_weights)
        found["speech"] = known[asked]
    file = Path(model.spectrogram_weights).expanduser()
    images = any(INPUTS[name].form == IMAGE for name in model.reads)
    if images and model.spectrogram_encoder == "alexnet" and file.is_file():
        found["spectrogram"] = {"content": hub.content([file])}
    return found
