"""The co-attention model, its encoders, and the ablations that vary them."""

from ser_pipeline.model.ablations import ABLATIONS, ablated
from ser_pipeline.model.coattention import ENCODERS, Output, SpeechEmotionModel, build_model

__all__ = ["ABLATIONS", "ENCODERS", "Output", "SpeechEmotionModel", "ablated", "build_model"]
