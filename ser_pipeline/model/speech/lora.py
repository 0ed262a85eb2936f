"""Low-rank adapters in a speech encoder whose own weights stay as they are; needs the extra `lora`.

Source: Hu et al., LoRA, ICLR 2022. They are kept beside the weights that they change, so that a run's folder has both.
"""

from __future__ import annotations

from typing import Any

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech.frames import FrameEncoder

MISSING = "model.lora_rank needs the package peft: pip install 'ser-pipeline[lora]'"
"""What is said where the package is not installed."""


def add_adapters(encoder: FrameEncoder, rank: int, alpha: float, targets: tuple[str, ...]) -> None:
    """Put adapters beside the linear layers of an encoder that `targets` name; they alone are trained from now on.

    Args:
        encoder: with its weights.
        rank: of the product that is added to a layer's weights.
        alpha: the product counts alpha / rank times.
        targets: last parts of the layers' names.

    Raises:
        PipelineError: the package is not installed, or the encoder has no such layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise PipelineError(MISSING) from None
    inner: Any = encoder.encoder if hasattr(encoder, "encoder") else encoder.model
    inject: Any = inject_adapter_in_model
    try:
        inject(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)), inner)
    except ValueError as error:
        raise PipelineError(
            f"no layer of the speech encoder is named as in model.lora_targets={list(targets)}; its attention has "
            "q_proj, k_proj, v_proj and out_proj, or names that the model's own code tells"
        ) from error
