"""Transformer layers of speech encoders, sharing transformers' parameters.

One product computes queries, keys and values, and torch's fused kernels compute attention (for WavLM too, whose gated
positions are an additive mask). No Python code between the operations gets in a compiler's way.

Shapes: B batch, T frames, D width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.fast import kernels
from ser_pipeline.model.fast.convolutions import is_gelu
from ser_pipeline.model.fast.dropout import drop
from ser_pipeline.model.speech.frames import additive

Forward = Callable[[Any, Tensor, Tensor | None, Tensor | None], Tensor]

HEADS = (16, 32, 64)
"""Head widths that the attention kernel can hold on the chip."""


class FusedLayer(nn.Module):
    """A layer of wav2vec 2.0, HuBERT, data2vec-audio or WavLM, sharing the parameters of the original."""

    def __init__(self, original: nn.Module, *, stable: bool, forward: Forward) -> None:
        super().__init__()
        parts: Any = original
        self.attention: Any = parts.attention
        self.dropout: Any = parts.dropout
        self.layer_norm: Any = parts.layer_norm
        self.feed_forward: Any = parts.feed_forward
        self.final_layer_norm: Any = parts.final_layer_norm
        self.stable = stable
        self.gated = hasattr(self.attention, "gru_rel_pos_linear")
        self.run = forward

    @staticmethod
    def fits(original: nn.Module) -> bool:
        """Whether `original` has the parts of a plain layer and no others."""
        known = {"attention", "dropout", "layer_norm", "feed_forward", "final_layer_norm"}
        attention: Any = getattr(original, "attention", None)
        if {name for name, _ in original.named_children()} != known or attention.k_proj.bias is None:
            return False
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        return all(type(part) is nn.Linear for part in parts)  # an adapter in place of a linear layer would be ignored

    def forward(
        self, hidden: Tensor, position_bias: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Frames (B, T, D) of the next layer; for WavLM also the relative positions (H, T, T), computed in the first.

        Args:
            hidden: frames (B, T, D).
            position_bias: WavLM's relative positions from the previous layer.
            attention_mask: mask of the frames that are attended to (B, T), or values that are added to the scores of
                keys (B, 1, 1, T); None attends to all.
        """
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            attention_mask = additive(attention_mask, hidden.dtype)
        if not self.gated:
            return self.run(self, hidden, None, attention_mask)
        if position_bias is None:
            position_bias = relative_positions(self.attention, hidden.shape[1])
        return self.run(self, hidden, position_bias, attention_mask), position_bias


def layer_forward(layer: Any, hidden: Tensor, positions: Tensor | None, keys: Tensor | None = None) -> Tensor:
    """The layer's frames (B, T, D); a `stable` layer normalises before each block, others after it.

    Args:
        layer: a `FusedLayer`.
        hidden: frames (B, T, D).
        positions: (B, H, T, T) or (H, T, T), added to the scores; None for no relative positions.
        keys: (B, 1, 1, T), added to the scores of keys; None attends to all.
    """
    if layer.stable:
        hidden = hidden + layer.dropout(attend(layer.attention, layer.layer_norm(hidden), positions, keys))
        return hidden + feed_forward(layer.feed_forward, layer.final_layer_norm(hidden))
    hidden = layer.layer_norm(hidden + layer.dropout(attend(layer.attention, hidden, positions, keys)))
    return layer.final_layer_norm(hidden + feed_forward(layer.feed_forward, hidden))  # type: ignore[no-any-return]


def kernel_forward(layer: Any, hidden: Tensor, positions: Tensor | None, keys: Tensor | None = None) -> Tensor:
    """Compute `layer_forward` with Triton kernels where they are supported; the frames are then in half precision.

    Args:
        layer: as in `layer_forward`.
        hidden: as in `layer_forward`.
        positions: as in `layer_forward`.
        keys: as in `layer_forward`.
    """
    dtype = kernels.precision(hidden)
    if positions is not None or not kernels.usable(hidden, dtype):
        return layer_forward(layer, hidden, positions, keys)
    words = kernels.random_words(4, hidden.device, drawn=layer.training)
    bias = None if keys is None else keys[:, 0, 0].contiguous()
    own = [parameter for part in products(layer) for parameter in (part.weight, part.bias)]
    own += [parameter for part in norms(layer) for parameter in (part.weight, part.bias)]
    return kernels.transformer_layer(layer, hidden.to(dtype).contiguous(), bias, words, own)


def products(layer: Any) -> list[Any]:
    """The linear layers of a `FusedLayer`: queries, keys, values, output, and both of the feed-forward block."""
    attention, block = layer.attention, layer.feed_forward
    mixing = [attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj]
    return [*mixing, block.intermediate_dense, block.output_dense]


def norms(layer: Any) -> list[Any]:
    """The norms of a `FusedLayer`."""
    return [layer.layer_norm, layer.final_layer_norm]


def takes_kernels(layer: nn.Module) -> bool:
    """Whether `kernel_forward` supports a `FusedLayer`."""
    parts: Any = layer
    known = all(type(part) is nn.Linear and part.bias is not None for part in products(layer))
    known = known and all(norm.elementwise_affine for norm in norms(layer))
    plain = not parts.stable and not parts.gated
    return plain and known and parts.attention.head_dim in HEADS and is_gelu(parts.feed_forward.intermediate_act_fn)


def project(attention: Any, hidden: Tensor) -> Tensor:
    """Queries, keys and values (B, T, 3, H, D / H) of frames (B, T, D), by one product."""
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    projected = F.linear(hidden, weight, bias)
    return projected.view(*hidden.shape[:2], 3, attention.num_heads, -1)


def attend(attention: Any, hidden: Tensor, positions: Tensor | None, keys: Tensor | None = None) -> Tensor:
    """Self-attention (B, T, D) with relative positions (H, T, T) where the encoder has them.

    Args:
        attention: the encoder's own module.
        hidden: frames (B, T, D).
        positions: as in `layer_forward`.
        keys: as in `layer_forward`.
    """
    batch, frames, width = hidden.shape
    query, key, value = project(attention, hidden).permute(2, 0, 3, 1, 4).unbind(0)
    mask = None if positions is None else gate(attention, hidden) * positions
    if keys is not None:
        mask = keys if mask is None else mask + keys
    dropout = attention.dropout if attention.training else 0.0
    mixed = mix(query, key, value, mask if mask is None else mask.to(query.dtype), dropout)
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, frames, width))  # type: ignore[no-any-return]


def mix(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Compute torch's `scaled_dot_product_attention`, which has no fused kernel for dropout on the CPU.

    Args:
        query: (B, H, T, D / H).
        key: (B, H, T, D / H).
        value: (B, H, T, D / H).
        mask: float: added to the scores; bool: true for keys that are attended to; None attends to all.
        dropout: share of the weights that is dropped, 0 to 1.
    """
    if dropout and query.device.type == "cpu":
        return weighted(query, key, value, mask, dropout)
    return F.scaled_dot_product_attention(query, key, value, mask, dropout)


def weighted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Values (B, H, T, D / H) weighted by the attention of queries to keys, with dropout of the weights.

    Args:
        query: (B, H, T, D / H).
        key: (B, H, T, D / H).
        value: (B, H, T, D / H).
        mask: float: added to the scores; bool: true for keys that are attended to; None attends to all.
        dropout: share of the weights that is dropped, 0 to 1.
    """
    scores = query / math.sqrt(query.shape[-1]) @ key.mT
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return drop(weights.to(value.dtype), dropout) @ value


def feed_forward(block: Any, hidden: Tensor) -> Tensor:
    """The two linear layers with their activation and dropout."""
    hidden = block.intermediate_dropout(block.intermediate_act_fn(block.intermediate_dense(hidden)))
    return block.output_dropout(block.output_dense(hidden))  # type: ignore[no-any-return]


def gate(attention: Any, hidden: Tensor) -> Tensor:
    """WavLM's gates (B, H, T, 1) of the relative positions, computed from the frames."""
    batch, frames, _ = hidden.shape
    heads = hidden.view(batch, frames, attention.num_heads, -1).transpose(1, 2)
    halves = attention.gru_rel_pos_linear(heads).view(batch, attention.num_heads, frames, 2, 4).sum(-1)
    first, second = torch.sigmoid(halves).chunk(2, dim=-1)
    return first * (second * attention.gru_rel_pos_const - 1.0) + 2.0  # type: ignore[no-any-return]


def relative_positions(attention: Any, frames: int) -> Tensor:
    """WavLM's biases (H, T, T) of keys relative to queries; each of the 2 T - 1 distances is looked up once."""
    table = attention.rel_attn_embed
    distance = torch.arange(1 - frames, frames, device=table.weight.device)
    values = table(attention._relative_positions_bucket(distance))  # (2 T - 1, H)
    return values.T.unfold(1, frames, 1).flip(1)  # type: ignore[no-any-return]
