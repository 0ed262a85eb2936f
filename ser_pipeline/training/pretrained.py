"""Which pre-trained weights a run starts from: their hashes are part of its key, and not only where they were found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ser_pipeline.config import Config
from ser_pipeline.inputs import IMAGE, INPUTS
from ser_pipeline.model.speech import hub

Known = dict[tuple[str, bool], dict[str, str]]
"""A speech encoder's name and whether its weights are read -> what is known of its files."""


def pretrained(config: Config, known: Known) -> dict[str, Any]:
    """Hash and revision of the speech encoder, and hash of a file of AlexNet's weights, where the model reads them.

    A speech encoder that is not here is downloaded, so that a run has one key before that and after.

    Args:
        config: the settings of a run.
        known: what was found for other runs of the plan; what is found now is added.

    Raises:
        PipelineError: the encoder cannot be had.
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
