"""Low-rank adapters in a speech encoder whose own weights stay unchanged; needs the extra `lora`.

Source: Hu et al., LoRA, ICLR 2022. The adapters are stored together with the weights that they modify.
"""

from __future__ import annotations

from typing import Any

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech.frames import FrameEncoder

MISSING = "model.lora_rank needs the package peft: pip install 'ser-pipeline[lora]'"
"""Error message if the package is not installed."""


def add_adapters(encoder: FrameEncoder, rank: int, alpha: float, targets: tuple[str, ...]) -> None:
    """Add adapters to the linear layers of an encoder that `targets` name; only the adapters are trained from then on.

    Args:
        encoder: encoder with its weights.
        rank: rank of the product that is added to a layer's weights.
        alpha: the product is scaled by alpha / rank.
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
            f"no layer of the speech encoder has a name in model.lora_targets={list(targets)}; its attention has "
            "q_proj, k_proj, v_proj and out_proj, or other names, which the model's code shows"
        ) from error
