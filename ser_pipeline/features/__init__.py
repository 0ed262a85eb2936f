"""Stage 1: audio to stores of features."""

from ser_pipeline.features.acoustic import FEATURES as FEATURES
from ser_pipeline.features.acoustic import Feature as Feature
