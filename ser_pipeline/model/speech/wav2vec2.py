"""wav2vec 2.0 and its family in transformers: HuBERT, WavLM, data2vec-audio, UniSpeech, UniSpeech-SAT.

The parts are transformers' own, but the forward pass is written out here for three reasons. SpecAugment and layer drop
draw from torch's seeded generator on the device (transformers draws with numpy on the CPU). Nothing waits for the
device. Padding can be kept out of everything. Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.speech.frames import FrameEncoder, Inputs, Options, States, additive, unit_variance, within
from ser_pipeline.model.speech.spec_augment import mask


class SpeechEncoder(FrameEncoder):
    """An encoder of the wav2vec 2.0 family: convolutions on waveforms, then transformer layers."""

    def __init__(self, model: nn.Module, options: Options, front: Mapping[str, Any] | None = None) -> None:
        """Wrap `model`.

        Args:
            model: transformers' model, or one of `plain`.
            options: how it is used.
            front: the feature extractor's configuration; empty or None: that of transformers' defaults.
        """
        parts: Any = model
        super().__init__(parts.config.to_dict(), front or {}, options)
        self.settings: Any = parts.config
        self.model = model
        self.masking = options.masking and getattr(self.settings, "apply_spec_augment", True)
        self.layer_drop = float(getattr(self.settings, "layerdrop", 0.0)) if options.layer_drop else 0.0
        self.layers = int(self.settings.num_hidden_layers)
        if getattr(model, "adapter", None) is not None and (options.inner or options.layer_mix):
            model.adapter = None  # type: ignore[assignment]
        self._stable = bool(getattr(self.settings, "do_stable_layer_norm", False))
        self.adapted = getattr(model, "adapter", None) is not None
        self.width = int(self.settings.output_hidden_size if self.adapted else self.settings.hidden_size)
        if not self.masking and hasattr(model, "masked_spec_embed"):
            model.masked_spec_embed.requires_grad_(False)
        self.finish()

    @property
    def reads_raw(self) -> bool:
        """Whether `hear` needs raw audio, which is the case if padding is kept out."""
        return self.mask_padding

    def description(self) -> dict[str, Any]:
        """The configuration, including the feature extractor's if it is used."""
        return super().description() if self.mask_padding else self.settings.to_dict()

    def _weights(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def frames(self, samples: int) -> int:
        """Number T of frames of `samples` samples."""
        return int(self._lengths(torch.tensor(max(samples, self._least())))[1])

    def prepare(self, samples: Tensor, lengths: Tensor | None = None) -> Inputs:
        """Waveforms float32 (B, N) as the model was trained on them: unchanged, or with zero mean and unit variance.

        Without `mask_padding`, they are normalised over the padded segment, as the paper's model reads them.
        """
        if not self.mask_padding:
            return Inputs(unit_variance(samples, None), None)
        if self.front.get("do_normalize", True):
            samples = unit_variance(samples, lengths)
        elif lengths is not None:
            samples = samples * within(samples.shape[1], lengths)
        return Inputs(F.pad(samples, (0, max(0, self._least() - samples.shape[1]))), lengths)

    def forward(self, waveform: Tensor) -> Tensor:
        """Frames (B, T, D) of a prepared waveform (B, N) without padding: the last layer, or the learned mix."""
        return self._frames(Inputs(waveform, None))[0]

    def hear(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) of the last layer or of the learned mix, and a mask of the real ones (B, T).

        Without `mask_padding`, `samples` must already be normalised.
        """
        return self._frames(self.prepare(samples, lengths) if self.mask_padding else Inputs(samples, None))

    def states(self, inputs: Inputs, upto: int | None = None) -> States:
        """Hidden states as in transformers; the last follows the closing norm, and the adapter if there is one."""
        last = self._upto(upto)
        model: Any = self.model
        inner, outer = self._real(inputs)
        projected = model.feature_projection(self._convolve(inputs, inner).transpose(1, 2))
        hidden = projected[0] if isinstance(projected, tuple) else projected
        if self.masking and model.training:
            hidden = mask(hidden, getattr(model, "masked_spec_embed", None), self.settings)
        states = self._layers(model.encoder, hidden, inner, last)
        if last == self.layers and self.adapted:
            states[-1], inner = self._adapt(states[-1], inner), outer
        if inner is None:
            inner = torch.ones(states[-1].shape[:2], dtype=torch.bool, device=hidden.device)
        return States(states, inner)

    def _least(self) -> int:
        """Number of samples that the first frame needs."""
        field = 1
        for kernel, stride in zip(
            reversed(self.settings.conv_kernel), reversed(self.settings.conv_stride), strict=True
        ):
            field = (field - 1) * stride + kernel
        return int(field)

    def _lengths(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of frames of the layers and of the last state, from numbers of real samples; at least one each."""
        inner = samples.clamp(min=self._least())
        for kernel, stride in zip(self.settings.conv_kernel, self.settings.conv_stride, strict=True):
            inner = torch.div(inner - kernel, stride, rounding_mode="floor") + 1
        outer = inner
        for _ in range(self.settings.num_adapter_layers if self.adapted else 0):
            outer = self._shortened(outer)
        return inner, outer.clamp(min=1)

    def _real(self, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
        """Masks of the real frames of the layers and of the last state; None if all are real."""
        if inputs.lengths is None:
            return None, None
        whole = self._lengths(torch.tensor(inputs.values.shape[1]))
        part = self._lengths(inputs.lengths)
        inner, outer = (within(int(size), real) for size, real in zip(whole, part, strict=True))
        return inner, outer

    def _convolve(self, inputs: Inputs, real: Tensor | None) -> Tensor:
        """The feature encoder's frames (B, C, T); a group norm computes its statistics over the real samples only."""
        model: Any = self.model
        extractor = model.feature_extractor
        norm = getattr(extractor.conv_layers[0], "layer_norm", None) if real is not None else None
        if not isinstance(norm, nn.GroupNorm):
            return extractor(inputs.values)  # type: ignore[no-any-return]
        count = inputs.lengths.clamp(min=self._least()) - self.settings.conv_kernel[0]  # type: ignore[union-attr]
        count = torch.div(count, self.settings.conv_stride[0], rounding_mode="floor") + 1
        if getattr(extractor, "heeds_counts", False):
            return extractor(inputs.values, count)  # type: ignore[no-any-return]
        first, *rest = extractor.conv_layers
        hidden = first.conv(inputs.values[:, None])
        hidden = first.activation(_norm_over_real(hidden, norm, count))
        for layer in rest:
            hidden = layer(hidden)
        return hidden  # type: ignore[no-any-return]

    def _layers(
        self, encoder: Any, hidden: Tensor, real: Tensor | None = None, last: int | None = None
    ) -> list[Tensor]:
        """The input of the first layer and the outputs of `last` layers (None for all)."""
        if real is not None:
            hidden = hidden * real[..., None]
        hidden, context = self._enter(encoder, hidden, real)
        states = [hidden]
        quiet = _unwarned() if real is not None and self.settings.model_type == "wavlm" else nullcontext()
        with quiet:
            for layer in encoder.layers[: self.layers if last is None else last]:
                output = layer(hidden, **context)
                if isinstance(output, tuple):
                    output, *more = output
                    if self.settings.model_type == "wavlm":  # the first layer's positions are passed on to the others
                        context["position_bias"] = more[0]
                first_of_wavlm = (
                    "position_bias" in context and len(states) == 1
                )  # never skipped, since the others need its positions
                if self.layer_drop and encoder.training and not first_of_wavlm:
                    output = torch.where(torch.rand((), device=hidden.device) < self.layer_drop, hidden, output)
                hidden = output
                states.append(hidden)
        if len(states) > self.layers:
            states[-1] = self._close(encoder, hidden)
        return states

    def _enter(self, encoder: Any, hidden: Tensor, real: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The first layer's input, and the arguments of every layer besides the frames."""
        hidden = hidden + _positions(encoder.pos_conv_embed, hidden, real)
        hidden = encoder.dropout(hidden if self._stable else encoder.layer_norm(hidden))
        return hidden, {} if real is None else {"attention_mask": self._attention_mask(real, hidden)}

    def _close(self, encoder: Any, hidden: Tensor) -> Tensor:
        """The last hidden state from the last layer's output."""
        return encoder.layer_norm(hidden) if self._stable else hidden

    def _adapt(self, hidden: Tensor, real: Tensor | None) -> Tensor:
        """The adapter's frames from those of the last layer; its convolutions see only `real` ones (B, T)."""
        adapter: Any = self.model.adapter
        if adapter.proj is not None:
            hidden = adapter.proj_layer_norm(adapter.proj(hidden))
        columns, count = hidden.transpose(1, 2), None if real is None else real.sum(1)
        for layer in adapter.layers:
            if count is not None:
                columns = columns * within(columns.shape[2], count)[:, None]
                count = self._shortened(count)
            columns = layer(columns)
        return columns.transpose(1, 2)

    def _shortened(self, count: Tensor) -> Tensor:
        """Frames after one layer of the adapter, whose convolution pads one frame on each side."""
        kernel, stride = self.settings.adapter_kernel_size, self.settings.adapter_stride
        return torch.div(count + 2 - kernel, stride, rounding_mode="floor") + 1

    def _attention_mask(self, real: Tensor, hidden: Tensor) -> Tensor:
        """Mask of the keys that count, in the form that the layers' attention expects: (B, T), or (B, 1, 1, T)."""
        if self.settings.model_type == "wavlm":
            return real
        return additive(real, hidden.dtype)


def _positions(convolution: Any, hidden: Tensor, real: Tensor | None) -> Tensor:
    """The positional convolution of frames (B, T, D) whose padding is zero."""
    several = getattr(convolution, "layers", None)  # of data2vec
    norm = getattr(convolution, "batch_norm", None)  # of HuBERT
    if real is None or (several is None and norm is None):
        return convolution(hidden)  # type: ignore[no-any-return]
    columns, pad = hidden.transpose(1, 2), ~real[:, None]
    if norm is not None:
        columns = norm(columns).masked_fill(pad, 0.0)
        columns = convolution.activation(convolution.padding(convolution.conv(columns)))
    for layer in several or ():
        columns = layer(columns).masked_fill(pad, 0.0)
    return columns.transpose(1, 2)


def _norm_over_real(hidden: Tensor, norm: nn.GroupNorm, count: Tensor) -> Tensor:
    """Group norm with one channel per group of (B, C, T), over the first `count` (B,) frames of each row."""
    real = within(hidden.shape[2], count)[:, None]
    share = count.clamp(min=1)[:, None, None]
    mean = hidden.masked_fill(~real, 0.0).sum(2, keepdim=True) / share
    centred = (hidden - mean).masked_fill(~real, 0.0)
    scale = torch.rsqrt(centred.square().sum(2, keepdim=True) / share + norm.eps)
    return centred * (scale * norm.weight[:, None]) + norm.bias[:, None]


class _unwarned(warnings.catch_warnings):  # noqa: N801  (a context, as in contextlib)
    """Silence torch's warning that WavLM's attention mixes a bool and a float mask, which is intended."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
