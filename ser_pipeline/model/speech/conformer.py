"""Speech encoders with conformer layers of transformers: wav2vec2-conformer and w2v-BERT 2.0, which reads filterbanks.

Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech.fbank import STRIDE, Filterbank
from ser_pipeline.model.speech.frames import Inputs, Options, States, additive, within
from ser_pipeline.model.speech.spec_augment import mask
from ser_pipeline.model.speech.wav2vec2 import SpeechEncoder

ADAPTER = ("residual_conv", "self_attn_conv")
"""Convolutions of a layer of w2v-BERT's adapter."""


class ConformerEncoder(SpeechEncoder):
    """wav2vec 2.0 with conformer layers, and relative or rotary positions."""

    def __init__(self, model: nn.Module, options: Options, front: Mapping[str, Any] | None = None) -> None:
        super().__init__(model, options, front)
        self._pad: Tensor | None = None
        parts: Any = model
        mixing = [layer.conv_module.pointwise_conv1 for layer in parts.encoder.layers]
        if self.adapted:
            mixing += [
                getattr(layer, name) for layer in parts.adapter.layers for name in ADAPTER if hasattr(layer, name)
            ]
        for convolution in mixing:
            convolution.register_forward_pre_hook(self._without_padding)

    def _without_padding(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        """Zero the padding (B, D, T) before a layer's convolution, which has no bias before it mixes frames."""
        return args if self._pad is None else (args[0].masked_fill(self._pad, 0.0),)

    def _enter(self, encoder: Any, hidden: Tensor, real: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        self._pad = None if real is None else ~real[:, None]
        context: dict[str, Tensor] = {} if real is None else {"attention_mask": additive(real, hidden.dtype)}
        hidden = encoder.dropout(hidden)
        if encoder.embed_positions is not None:
            context["relative_position_embeddings"] = encoder.embed_positions(hidden)
        return hidden, context

    def _close(self, encoder: Any, hidden: Tensor) -> Tensor:
        return encoder.layer_norm(hidden)  # type: ignore[no-any-return]


class FilterbankEncoder(ConformerEncoder):
    """w2v-BERT 2.0: stacked filterbanks through conformer layers whose convolutions are causal."""

    def __init__(self, model: nn.Module, options: Options, front: Mapping[str, Any] | None = None) -> None:
        super().__init__(model, options, front)
        bins, stride = self.front.get("num_mel_bins", 80), self.front.get("stride", STRIDE)
        if bins * stride != self.settings.feature_projection_input_dim:
            raise PipelineError(
                f"the speech encoder reads {self.settings.feature_projection_input_dim} features per frame, but its "
                f"preprocessor_config.json gives {bins} x {stride}; take both from one source"
            )
        self.bank = Filterbank(bins, stride)

    @property
    def reads_raw(self) -> bool:
        """Always true: the filterbanks are computed from raw audio."""
        return True

    def prepare(self, samples: Tensor, lengths: Tensor | None = None) -> Inputs:
        """Filterbanks (B, T, features) of waveforms float32 (B, N), each band normalised over the utterance."""
        if not self.mask_padding or lengths is None:
            lengths = torch.full(samples.shape[:1], samples.shape[1], device=samples.device)
        return Inputs(*self.bank(samples, lengths))

    def hear(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) of the last layer or of the learned mix, and a mask of the real ones (B, T)."""
        return self._frames(self.prepare(samples, lengths))

    def states(self, inputs: Inputs, upto: int | None = None) -> States:
        """Hidden states as in transformers; the last follows the closing block, and the adapter if there is one."""
        last = self._upto(upto)
        model: Any = self.model
        hidden = model.feature_projection(inputs.values)[0]
        if self.masking and model.training:
            hidden = mask(hidden, getattr(model, "masked_spec_embed", None), self.settings)
        frames = inputs.lengths if inputs.lengths is not None else torch.tensor([hidden.shape[1] * self.bank.stride])
        whole, every = (count.expand(len(hidden)) for count in self.bank.stacked(frames.to(hidden.device)))
        real = within(hidden.shape[1], whole)
        states = self._layers(model.encoder, hidden, real, last)
        if last == self.layers:
            if model.intermediate_ffn:
                states[-1] = states[-1] + 0.5 * model.intermediate_ffn(states[-1])
            if self.adapted:
                states[-1], real = self._adapted(states[-1], whole, every)
        return States(states, real)

    def frames(self, samples: int) -> int:
        """Number T of frames of `samples` samples."""
        return int(self._lengths(torch.tensor(samples))[1])

    def _lengths(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        inner = outer = self.bank.stacked(self.bank.frames(samples))[1]
        for _ in range(self.settings.num_adapter_layers if self.adapted else 0):
            outer = self._shortened(outer)
        return inner, outer.clamp(min=1)

    def _shortened(self, count: Tensor) -> Tensor:
        """Frames after one layer of the adapter, whose convolutions pad half a stride on each side."""
        kernel, stride = self.settings.adapter_kernel_size, self.settings.adapter_stride
        return torch.div(count + 2 * (stride // 2) - kernel, stride, rounding_mode="floor") + 1

    def _adapted(self, hidden: Tensor, whole: Tensor, every: Tensor) -> tuple[Tensor, Tensor]:
        """The adapter's frames from those of the last layer, and a mask of the real ones.

        Attention sees the `whole` (B,) frames. Convolutions also see the half-empty last frame, which `every` (B,)
        includes, as in transformers when it reads the utterance alone.
        """
        adapter: Any = self.model.adapter
        if adapter.proj is not None:
            hidden = adapter.proj_layer_norm(adapter.proj(hidden))
        for layer in adapter.layers:
            self._pad = ~within(hidden.shape[1], every)[:, None]
            whole, every = (self._shortened(count).clamp(min=1) for count in (whole, every))
            hidden = layer(hidden, attention_mask=self._pad, sub_sampled_lengths=whole)
        return hidden, within(hidden.shape[1], whole)

    def _close(self, encoder: Any, hidden: Tensor) -> Tensor:
        return hidden
