"""The interface of all speech encoders: waveforms to the hidden states of each layer, and a mask of real frames.

Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.inputs import EPSILON

SPARE = ("masked_spec_embed",)
"""Parameters that a usable checkpoint may lack; SpecAugment then starts from a random vector."""

INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
"""Entries of a configuration that do not affect the frames."""


class Inputs(NamedTuple):
    """The input of a speech encoder."""

    values: Tensor  # float32: a waveform (B, N), or its features in the model's own layout
    lengths: Tensor | None  # (B,): number of real positions of `values` in time; None if all are real


class States(NamedTuple):
    """The hidden states of a batch."""

    layers: list[Tensor]  # each (B, T, D): the first layer's input, then every layer's output
    real: Tensor  # (B, T) bool: frames of audio, not of padding


@dataclass(frozen=True)
class Options:
    """How a speech encoder is used; options that a family does not support are ignored."""

    mask_padding: bool = True
    """Whether each utterance is encoded as if alone: padding reaches no attention, convolution or statistic.

    If false, padding counts as audio, and the wav2vec 2.0 family reads the same input as the paper's model: a waveform
    normalised over the padded segment.
    """
    frozen: bool = False
    """Whether the encoder has no gradient and no dropout."""
    layer_mix: bool = False
    """Whether frames are a learned mix of all layers."""
    inner: bool = False
    """Whether layers below the last are read: an adapter after the last, of another width and rate, is then removed."""
    masking: bool = False
    """Whether SpecAugment is applied in training, as the configuration describes."""
    layer_drop: bool = False
    """Whether layers are skipped at random in training, as the configuration describes."""
    window: str = "cut"
    """Whisper's window: "cut" to the length of the audio, or padded with silence to the "30s" of its training."""


class FrameEncoder(nn.Module, ABC):
    """A speech encoder: float32 waveforms (B, N) in [-1, 1] at `rate` Hz to hidden states."""

    width: int
    """Width D of the frames."""
    layers: int
    """Number of layers; there is one more hidden state, the first layer's input."""
    rate: int = 16_000
    """Sample rate of the audio that the encoder reads, in Hz."""
    longest: int | None = None
    """Maximum samples of an utterance; None for no limit."""
    revision: str = ""
    """Commit of the weights in the hub's repository, if known."""

    def __init__(self, config: Mapping[str, Any], front: Mapping[str, Any], options: Options) -> None:
        """Store the encoder's description.

        Args:
            config: the model's configuration, in JSON's types.
            front: the feature extractor's configuration (`preprocessor_config.json`); empty if there is none.
            options: how the encoder is used.
        """
        super().__init__()
        self.config, self.front, self.options = dict(config), dict(front), options
        self.mix: nn.Parameter | None = None

    def finish(self) -> None:
        """Add the learned mix and freeze the weights as the options say; called once the parts exist."""
        if self.options.frozen:
            self.requires_grad_(False)
        if self.options.layer_mix:
            self.mix = nn.Parameter(torch.zeros(self.layers + 1))

    @property
    def mask_padding(self) -> bool:
        """Whether padding is kept out of the frames."""
        return self.options.mask_padding

    @property
    def reads_raw(self) -> bool:
        """Whether `hear` needs raw audio; otherwise it needs waveforms normalised over the padded segment."""
        return True

    @abstractmethod
    def prepare(self, samples: Tensor, lengths: Tensor | None = None) -> Inputs:
        """Convert waveforms to the model's input.

        Waveforms are float32 (B, N), un-normalised in [-1, 1], padded at the end with zeros. `lengths` (B,) are the
        numbers of real samples; None if all are real.
        """

    @abstractmethod
    def states(self, inputs: Inputs, upto: int | None = None) -> States:
        """Hidden states of the layers 0 to `upto` (None: the last); layers above it are not computed."""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Number T of frames of `samples` samples."""

    def hear(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) of the last layer or of the learned mix, and a mask of the real ones (B, T)."""
        return self._frames(self.prepare(samples, lengths))

    def _frames(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.options.frozen):
            states = self.states(inputs)
        if self.mix is None:
            return states.layers[-1], states.real
        return torch.einsum("l,lbtd->btd", self.mix.softmax(0), torch.stack(states.layers)), states.real

    def train(self, mode: bool = True) -> FrameEncoder:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.options.frozen)

    @property
    def origin(self) -> dict[str, str]:
        """The hub's `revision`, if known: a part of the key of everything computed with the encoder."""
        return {"revision": self.revision} if self.revision else {}

    def description(self) -> dict[str, Any]:
        """The configuration, from which `speech.open_encoder` builds the encoder without its weights."""
        return {**self.config, "preprocessor": self.front}

    def fingerprint(self) -> str:
        """Hash of the configuration and weights that frozen frames depend on: twelve hex digits."""
        said = {name: value for name, value in self.description().items() if name not in INCIDENTAL}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._weights().items()):
            if name not in SPARE:  # random if a checkpoint lacks them; frames without SpecAugment do not need them
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:12]

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.state_dict().items() if name != "mix"}

    def _upto(self, upto: int | None) -> int:
        """The layer that `upto` refers to; negative numbers count from the end."""
        last = self.layers if upto is None else upto + (upto < 0) * (self.layers + 1)
        if not 0 <= last <= self.layers:
            raise PipelineError(f"layer {upto} of a speech encoder with layers 0 to {self.layers}: choose one of these")
        return last

    def _check(self, samples: int) -> None:
        """Refuse utterances that are too long for the model."""
        if self.longest is not None and samples > self.longest:
            raise PipelineError(
                f"{samples / self.rate:.1f} s of audio for a speech encoder that reads at most "
                f"{self.longest / self.rate:.1f} s; cut the audio into shorter pieces"
            )


def within(size: int, lengths: Tensor) -> Tensor:
    """True (B, size) at positions before `lengths` (B,).

    >>> within(3, torch.tensor([1, 3])).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def additive(real: Tensor, dtype: torch.dtype) -> Tensor:
    """Values (B, 1, 1, T) that restrict attention to `real` keys (B, T) when added to the scores."""
    return torch.zeros_like(real, dtype=dtype).masked_fill(~real, torch.finfo(dtype).min)[:, None, None]


def unit_variance(samples: Tensor, lengths: Tensor | None) -> Tensor:
    """Waveforms (B, N) with zero mean and unit variance over their real samples; zeros after them."""
    if lengths is None:
        centred = samples - samples.mean(1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(1, keepdim=True) + EPSILON)
    real = within(samples.shape[1], lengths)
    count = lengths.clamp(min=1)[:, None]
    centred = samples - samples.masked_fill(~real, 0.0).sum(1, keepdim=True) / count
    centred = centred.masked_fill(~real, 0.0)
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + EPSILON)


def check_rate(front: Mapping[str, Any], name: str, rate: int) -> None:
    """Refuse the encoder `name` if its feature extractor reads another sample rate than `rate` Hz.

    Args:
        front: settings of its feature extractor.
        name: name of the encoder, for the message.
        rate: sample rate of the audio in Hz.
    """
    wanted = front.get("sampling_rate", rate)
    if wanted != rate:
        raise PipelineError(
            f"speech encoder '{name}' reads audio at {wanted} Hz (its preprocessor_config.json), but the pipeline's is "
            f"at {rate} Hz; choose an encoder for {rate} Hz"
        )
