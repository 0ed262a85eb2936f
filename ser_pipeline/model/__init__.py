"""The co-attention model and its encoders."""

from ser_pipeline.model.coattention import Output, SpeechEmotionModel, build_model

__all__ = ["Output", "SpeechEmotionModel", "build_model"]
