"""Whisper's encoder written out in torch: transformers is not imported, and the decoder is never read.

Shapes: B batch, N samples, K bands, M log-mel frames of 10 ms, T frames of 20 ms, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.errors import PipelineError
from ser_pipeline.feature_settings import WINDOWS
from ser_pipeline.model.speech.frames import FrameEncoder, Inputs, Options, States, within
from ser_pipeline.model.speech.loading import Source, check_missing, read_weights
from ser_pipeline.model.speech.logmel import HOP, WhisperLogMel

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
"""Name of an activation in a configuration -> its function."""


class Attention(nn.Module):
    """Self-attention; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, real: Tensor | None) -> Tensor:
        """Frames (B, T, D) that attend to keys which are `real` (B, 1, 1, T)."""
        parts = (self.q_proj(hidden), self.k_proj(hidden), self.v_proj(hidden))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, real)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transformer layer that normalises before attention and before the two linear layers."""

    def __init__(self, width: int, heads: int, inner: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.activation = activation

    def forward(self, hidden: Tensor, real: Tensor | None) -> Tensor:
        """Frames (B, T, D) of the next layer."""
        hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden), real)
        inner = self.activation(self.fc1(self.final_layer_norm(hidden)))
        return hidden + self.fc2(inner)  # type: ignore[no-any-return]


class WhisperEncoder(FrameEncoder):
    """The encoder of a Whisper model, with parameters named as in transformers."""

    def __init__(self, config: Mapping[str, Any], front: Mapping[str, Any], options: Options) -> None:
        super().__init__(config, front, options)
        if options.window not in WINDOWS:
            raise PipelineError(f"a window for Whisper is one of {', '.join(WINDOWS)}, not '{options.window}'")
        name = config.get("activation_function", "gelu")
        if name not in ACTIVATIONS:
            raise PipelineError(f"Whisper's activation '{name}' is not supported; it may be {', '.join(ACTIVATIONS)}")
        bands, width = int(config["num_mel_bins"]), int(config["d_model"])
        if front.get("feature_size", bands) != bands:
            raise PipelineError(
                f"the Whisper model reads {bands} bands, but its preprocessor_config.json gives "
                f"{front['feature_size']}; take both from one source"
            )
        self.width, self.layers = width, int(config["encoder_layers"])
        self.positions = int(config.get("max_source_positions", 1500))
        self.longest = self.positions * 2 * HOP
        self.logmel = WhisperLogMel(bands)
        self.encoder = nn.ModuleDict(
            {
                "conv1": nn.Conv1d(bands, width, 3, padding=1),
                "conv2": nn.Conv1d(width, width, 3, stride=2, padding=1),
                "embed_positions": nn.Embedding(self.positions, width),
                "layers": nn.ModuleList(
                    Block(
                        width, int(config["encoder_attention_heads"]), int(config["encoder_ffn_dim"]), ACTIVATIONS[name]
                    )
                    for _ in range(self.layers)
                ),
                "layer_norm": nn.LayerNorm(width),
            }
        )
        self.encoder["embed_positions"].requires_grad_(False)
        self.finish()

    def _weights(self) -> dict[str, Tensor]:
        return self.encoder.state_dict()

    def frames(self, samples: int) -> int:
        """Number T of frames of `samples` samples: one every 20 ms, or those of 30 s."""
        return self.positions if self.options.window == "30s" else max(1, -(-samples // (2 * HOP)))

    def prepare(self, samples: Tensor, lengths: Tensor | None = None) -> Inputs:
        """Log-mel (B, K, M) of waveforms float32 (B, N), un-normalised in [-1, 1]; zero after the end of the audio.

        The lengths in the result are in log-mel frames.
        """
        self._check(samples.shape[1])
        if not self.mask_padding or lengths is None:
            lengths = torch.full(samples.shape[:1], samples.shape[1], device=samples.device)
        samples = samples.float() * within(samples.shape[1], lengths)
        size = self.longest if self.options.window == "30s" else max(samples.shape[1], 1)
        level = self.logmel(F.pad(samples, (0, size - samples.shape[1])))  # type: ignore[operator]
        count = torch.div(lengths.clamp(min=1) + HOP - 1, HOP, rounding_mode="floor")
        if self.options.window == "cut":
            level = level * within(level.shape[2], count)[:, None]
        return Inputs(level, count)

    def states(self, inputs: Inputs, upto: int | None = None) -> States:
        """Hidden states (B, T, D) as in transformers; the last follows the closing norm.

        With the window "cut", no frame attends to those after the end of the audio.
        """
        last, parts = self._upto(upto), dict[str, Any](self.encoder.items())
        level, count = inputs
        if count is None:
            count = torch.full(level.shape[:1], level.shape[2], device=level.device)
        real = within((level.shape[2] + 1) // 2, torch.div(count + 1, 2, rounding_mode="floor"))
        hidden = F.gelu(parts["conv1"](level))
        if self.options.window == "cut":
            hidden = hidden * within(level.shape[2], count)[:, None]  # the next convolution needs zeros beyond the end
        hidden = F.gelu(parts["conv2"](hidden)).transpose(1, 2)
        hidden = hidden + parts["embed_positions"].weight[: hidden.shape[1]]
        states, attended = [hidden], self._attended(real)
        for block in parts["layers"][:last]:
            hidden = block(hidden, attended)
            states.append(hidden)
        if last == self.layers:
            states[-1] = parts["layer_norm"](hidden)
        return States(states, real)

    def _attended(self, real: Tensor) -> Tensor | None:
        """Mask of the keys (B, 1, 1, T) that are attended to; None for all, if that is known without a device sync."""
        known = real.device.type == "cpu" and not torch.compiler.is_exporting()
        if self.options.window == "30s" or (known and bool(real.all())):
            return None
        return real[:, None, None]


def open_whisper(source: Source, options: Options) -> WhisperEncoder:
    """Open the encoder of the Whisper model of `source`, with its weights in float32 or random ones.

    Raises:
        PipelineError: the weights are damaged, or incomplete.
    """
    try:
        encoder = WhisperEncoder(source.config, source.front, options)
    except KeyError as error:
        raise PipelineError(
            f"the configuration of speech encoder {source.where} lacks {error}; download it again"
        ) from error
    if source.weights and source.folder is not None:
        wanted = encoder._weights()
        found: dict[str, Tensor] = {}
        for name, tensor in read_weights(source.folder, lambda name: _short(name) in wanted):
            found[_short(name)] = tensor.float()
        check_missing(source, [name for name in wanted if name not in found])
        wrong = [name for name in wanted if found[name].shape != wanted[name].shape]
        if wrong:
            raise PipelineError(
                f"the weights of speech encoder {source.where} do not fit its config.json: {wrong[0]} has the shape "
                f"{tuple(found[wrong[0]].shape)}, not {tuple(wanted[wrong[0]].shape)}; take both from one source"
            )
        encoder.encoder.load_state_dict(found)
    return encoder


def _short(name: str) -> str:
    """The name of a parameter within the encoder, whether it was stored alone or in a complete model."""
    return name.partition("encoder.")[2] or name
