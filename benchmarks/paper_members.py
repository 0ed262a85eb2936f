"""Models of the paper's sizes with random weights, for benchmarks of prediction."""

from __future__ import annotations

import json
from collections.abc import Iterable

import torch
from transformers import Wav2Vec2Config

from ser_pipeline import config
from ser_pipeline.export.folder import Members
from ser_pipeline.model import build_model

LABELS = ("anger", "happiness", "neutral", "sadness")

RATE = 16_000
"""Sample rate in Hz."""


def paper_members(folds: int, device: torch.device, overrides: Iterable[str] = ()) -> Members:
    """Models of preset `paper` with wav2vec 2.0 base in evaluation mode, a different one for each fold.

    Args:
        folds: number of models.
        device: device of the models.
        overrides: `KEY=VALUE` pairs over the preset.
    """
    settings = config.load("paper", None, list(overrides))
    speech = {**Wav2Vec2Config().to_dict(), "preprocessor": {"do_normalize": True, "sampling_rate": RATE}}
    models = []
    for fold in range(folds):
        torch.manual_seed(fold)
        model = build_model(
            settings.model,
            audio=settings.model_audio,
            features=settings.features,
            classes=len(LABELS),
            pretrained=False,
            speech_settings=json.loads(json.dumps(speech, default=str)),
        )
        models.append(model.eval().requires_grad_(False).to(device))
    return Members(LABELS, settings, tuple(str(fold) for fold in range(folds)), tuple(models), {})
