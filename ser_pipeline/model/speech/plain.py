"""The modules of wav2vec 2.0 and HuBERT with parameters named as in transformers, whose import takes seconds.

An encoder whose configuration was kept beside its weights is built of these. `SpeechEncoder` walks through them as
through transformers' own, to the same numbers. Shapes: B batch, N samples, C channels, T frames, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

KINDS = ("wav2vec2", "hubert")
"""Values of `model_type` whose modules are here."""

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
"""Names in a configuration -> modules."""

READ = (
    "activation_dropout",
    "attention_dropout",
    "conv_bias",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "do_stable_layer_norm",
    "feat_extract_activation",
    "feat_extract_norm",
    "feat_proj_dropout",
    "hidden_act",
    "hidden_dropout",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "mask_feature_length",
    "mask_feature_min_masks",
    "mask_feature_prob",
    "mask_time_length",
    "mask_time_min_masks",
    "mask_time_prob",
    "num_attention_heads",
    "num_conv_pos_embedding_groups",
    "num_conv_pos_embeddings",
    "num_feat_extract_layers",
    "num_hidden_layers",
)
"""Entries of a configuration that are read: transformers has values for those that are missing, this module none."""

OTHERS = {"add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False, "feat_proj_layer_norm": True}
"""Entries that ask for modules which are not here, and their usual values."""


class PlainSettings(SimpleNamespace):
    """A configuration whose entries are attributes, as transformers has them."""

    def to_dict(self) -> dict[str, Any]:
        """The entries by name."""
        return dict(vars(self))


def fits(config: Mapping[str, Any]) -> bool:
    """Whether the modules of a configuration are here."""
    return (
        config.get("model_type") in KINDS
        and all(name in config for name in READ)
        and all(config.get(name, usual) == usual for name, usual in OTHERS.items())
        and config["feat_extract_norm"] in ("group", "layer")
        and {config["hidden_act"], config["feat_extract_activation"]} <= set(ACTIVATIONS)
    )


class PlainConvolution(nn.Module):
    """A layer of the feature encoder."""

    def __init__(self, settings: PlainSettings, number: int) -> None:
        """Build the layer.

        Args:
            settings: of the encoder.
            number: of the layer, from 0 on.
        """
        super().__init__()
        before, channels = (1, *settings.conv_dim)[number], settings.conv_dim[number]
        kernel, stride = settings.conv_kernel[number], settings.conv_stride[number]
        self.conv = nn.Conv1d(before, channels, kernel, stride, bias=settings.conv_bias)
        self.activation = ACTIVATIONS[settings.feat_extract_activation]()
        if settings.feat_extract_norm == "layer":
            self.layer_norm: nn.Module | None = nn.LayerNorm(channels)
        else:
            self.layer_norm = nn.GroupNorm(channels, channels) if number == 0 else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Frames (B, C', T') of frames (B, C, T)."""
        hidden = self.conv(hidden)
        if isinstance(self.layer_norm, nn.LayerNorm):
            hidden = self.layer_norm(hidden.mT).mT
        elif self.layer_norm is not None:
            hidden = self.layer_norm(hidden)
        return self.activation(hidden)  # type: ignore[no-any-return]


class PlainConvolutions(nn.Module):
    """The feature encoder: waveforms to frames."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            PlainConvolution(settings, number) for number in range(settings.num_feat_extract_layers)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Frames (B, C, T) of waveforms (B, N)."""
        hidden = waveform[:, None]
        for layer in self.conv_layers:
            hidden = layer(hidden)
        return hidden


class PlainProjection(nn.Module):
    """Frames of the feature encoder to those of the transformer."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(settings.conv_dim[-1], settings.layer_norm_eps)
        self.projection = nn.Linear(settings.conv_dim[-1], settings.hidden_size)
        self.dropout = nn.Dropout(settings.feat_proj_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Frames (B, T, D) of frames (B, T, C)."""
        return self.dropout(self.projection(self.layer_norm(hidden)))  # type: ignore[no-any-return]


class PlainPositions(nn.Module):
    """Relative positions by a convolution over frames."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        width, kernel = settings.hidden_size, settings.num_conv_pos_embeddings
        groups = settings.num_conv_pos_embedding_groups
        convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        self.conv = parametrizations.weight_norm(convolution, dim=2)
        self.activation = ACTIVATIONS[settings.feat_extract_activation]()

    def forward(self, hidden: Tensor) -> Tensor:
        """Positions (B, T, D) of frames (B, T, D); an even kernel gives one frame more, which is left out."""
        columns = self.conv(hidden.mT)[..., : hidden.shape[1]]
        return self.activation(columns).mT  # type: ignore[no-any-return]


class PlainAttention(nn.Module):
    """Self-attention over frames, with queries, keys and values of all heads in one product each."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        width = settings.hidden_size
        self.num_heads, self.dropout = settings.num_attention_heads, settings.attention_dropout
        self.head_dim = width // self.num_heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Frames (B, T, D), given what is added to the scores of keys (B, 1, 1, T)."""
        parts = (self.q_proj(hidden), self.k_proj(hidden), self.v_proj(hidden))
        query, key, value = (part.unflatten(2, (-1, self.head_dim)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, mask, self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PlainFeedForward(nn.Module):
    """Two linear layers with an activation and dropout between them."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        self.intermediate_dropout = nn.Dropout(settings.activation_dropout)
        self.intermediate_dense = nn.Linear(settings.hidden_size, settings.intermediate_size)
        self.intermediate_act_fn = ACTIVATIONS[settings.hidden_act]()
        self.output_dense = nn.Linear(settings.intermediate_size, settings.hidden_size)
        self.output_dropout = nn.Dropout(settings.hidden_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Frames (B, T, D) of frames (B, T, D)."""
        hidden = self.intermediate_dropout(self.intermediate_act_fn(self.intermediate_dense(hidden)))
        return self.output_dropout(self.output_dense(hidden))  # type: ignore[no-any-return]


class PlainLayer(nn.Module):
    """A transformer layer, which normalises after attention and after the feed-forward block, or before them."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        self.stable = settings.do_stable_layer_norm
        self.attention = PlainAttention(settings)
        self.dropout = nn.Dropout(settings.hidden_dropout)
        self.layer_norm = nn.LayerNorm(settings.hidden_size, settings.layer_norm_eps)
        self.feed_forward = PlainFeedForward(settings)
        self.final_layer_norm = nn.LayerNorm(settings.hidden_size, settings.layer_norm_eps)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Frames (B, T, D) of the next layer.

        Args:
            hidden: frames (B, T, D).
            attention_mask: what is added to the scores of keys (B, 1, 1, T); None: all are attended to.
        """
        if self.stable:
            hidden = hidden + self.dropout(self.attention(self.layer_norm(hidden), attention_mask))
            return hidden + self.feed_forward(self.final_layer_norm(hidden))  # type: ignore[no-any-return]
        hidden = self.layer_norm(hidden + self.dropout(self.attention(hidden, attention_mask)))
        return self.final_layer_norm(hidden + self.feed_forward(hidden))  # type: ignore[no-any-return]


class PlainTransformer(nn.Module):
    """Positions and transformer layers."""

    def __init__(self, settings: PlainSettings) -> None:
        super().__init__()
        self.pos_conv_embed = PlainPositions(settings)
        self.layer_norm = nn.LayerNorm(settings.hidden_size, settings.layer_norm_eps)
        self.dropout = nn.Dropout(settings.hidden_dropout)
        self.layers = nn.ModuleList(PlainLayer(settings) for _ in range(settings.num_hidden_layers))


class PlainModel(nn.Module):
    """The parts of a model of transformers, which `SpeechEncoder` calls one after the other."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build the modules, with random weights.

        Args:
            config: one that `fits`.
        """
        super().__init__()
        self.config = settings = PlainSettings(**config)
        self.feature_extractor = PlainConvolutions(settings)
        self.feature_projection = PlainProjection(settings)
        if settings.mask_time_prob > 0 or settings.mask_feature_prob > 0:
            self.masked_spec_embed = nn.Parameter(torch.rand(settings.hidden_size))
        self.encoder = PlainTransformer(settings)
