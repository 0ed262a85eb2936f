"""Speech encoders of transformers: wav2vec 2.0, HuBERT, WavLM, data2vec-audio, by hub name or folder.

The parts are transformers' own; the way through them is written out here, so that masking and layer drop draw
from torch's seeded generator on the device (transformers draws them with numpy on the CPU), and so that nothing
waits for the device. transformers itself is imported where it is asked: that takes a second, which models without it
do not have to wait. Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from ser_pipeline.errors import PipelineError

FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
"""Values of `model_type` whose models have the parts that `SpeechEncoder` walks through."""

SPARE = ("masked_spec_embed",)
"""Parameters that a usable checkpoint may lack: masking then starts from a random vector."""

log = logging.getLogger(__name__)


class SpeechEncoder(nn.Module):
    """A transformers speech encoder: float32 (B, N) to frames (B, T, D)."""

    def __init__(
        self,
        model: nn.Module,
        *,
        masking: bool = True,
        layer_drop: bool = False,
        layer_mix: bool = False,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        parts: Any = model
        self.settings: Any = parts.config
        self.masking = masking and getattr(self.settings, "apply_spec_augment", True)
        self.layer_drop = float(getattr(self.settings, "layerdrop", 0.0)) if layer_drop else 0.0
        self.width = int(self.settings.hidden_size)
        layers = int(self.settings.num_hidden_layers)
        self.mix = nn.Parameter(torch.zeros(layers + 1)) if layer_mix else None
        self.frozen = frozen
        if frozen:
            model.requires_grad_(False)
        if not self.masking and hasattr(model, "masked_spec_embed"):
            model.masked_spec_embed.requires_grad_(False)

    def frames(self, samples: int) -> int:
        """Frames T that `samples` give."""
        return int(self.model._get_feat_extract_output_lengths(samples))  # type: ignore[operator]

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Training mode; a frozen encoder stays as it is for evaluation."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, waveform: Tensor) -> Tensor:
        """Frames (B, T, D): of the last layer, or the learned mix of all layers."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.states(waveform)
        if self.mix is None:
            return states[-1]
        return torch.einsum("l,lbtd->btd", self.mix.softmax(0), torch.stack(states))

    def states(self, waveform: Tensor) -> list[Tensor]:
        """What transformers calls the hidden states: the input of the first layer, then every layer's output."""
        model: Any = self.model
        projected = model.feature_projection(model.feature_extractor(waveform).transpose(1, 2))
        hidden = projected[0] if isinstance(projected, tuple) else projected
        if self.masking and model.training:
            hidden = mask(hidden, getattr(model, "masked_spec_embed", None), self.settings)
        states = self._layers(model.encoder, hidden)
        if getattr(model, "adapter", None) is not None:
            states[-1] = model.adapter(states[-1])
        return states

    def _layers(self, encoder: Any, hidden: Tensor) -> list[Tensor]:
        stable = bool(getattr(self.settings, "do_stable_layer_norm", False))
        hidden = hidden + encoder.pos_conv_embed(hidden)
        hidden = encoder.dropout(hidden if stable else encoder.layer_norm(hidden))
        states = [hidden]
        context: dict[str, Tensor] = {}
        for layer in encoder.layers:
            output = layer(hidden, **context)
            if isinstance(output, tuple):  # WavLM hands the first layer's relative positions on to the others
                output, context["position_bias"] = output
            first_of_wavlm = bool(context) and len(states) == 1  # never skipped: the others need its positions
            if self.layer_drop and encoder.training and not first_of_wavlm:
                output = torch.where(torch.rand((), device=hidden.device) < self.layer_drop, hidden, output)
            hidden = output
            states.append(hidden)
        if stable:
            states[-1] = encoder.layer_norm(hidden)
        return states


def mask(hidden: Tensor, token: Tensor | None, settings: Any) -> Tensor:
    """SpecAugment on (B, T, D) with the speech encoder's own settings; same distribution as transformers' numpy code.

    Spans of time are replaced by the learned `token` (D,), spans of channels by zero.
    """
    batch, frames, width = hidden.shape
    if settings.mask_time_prob > 0 and token is not None:
        rows = spans(
            batch,
            frames,
            settings.mask_time_prob,
            settings.mask_time_length,
            settings.mask_time_min_masks,
            hidden.device,
        )
        hidden = torch.where(rows[:, :, None], token.to(hidden.dtype), hidden)
    if settings.mask_feature_prob > 0:
        columns = spans(
            batch,
            width,
            settings.mask_feature_prob,
            settings.mask_feature_length,
            settings.mask_feature_min_masks,
            hidden.device,
        )
        hidden = hidden.masked_fill(columns[:, None, :], 0.0)
    return hidden


def spans(batch: int, size: int, share: float, length: int, least: int, device: torch.device) -> Tensor:
    """True (batch, size) within random spans of `length`; their starts differ, the spans may overlap.

    A row has `share * size / length` spans, rounded up or down at random (alike for all rows), at least `least`
    and no more than fit.

    >>> spans(2, 20, 0.5, 5, 0, torch.device("cpu")).sum(1).le(10).tolist()
    [True, True]
    """
    length = min(length, size)
    wanted = share * size / length
    most = max(1, min(max(int(wanted) + 1, least), size // length, size - length + 1))
    start = torch.rand(batch, size - length + 1, device=device).topk(most, dim=1).indices
    count = (wanted + torch.rand((), device=device)).floor().clamp(min=least)
    active = torch.arange(most, device=device) < count
    offset = torch.arange(size, device=device) - start[:, :, None]
    return ((offset >= 0) & (offset < length) & active[:, None]).any(1)


def load(
    name: str, *, weights: bool = True, settings: dict[str, Any] | None = None, setting: str = "model.speech_encoder"
) -> nn.Module:
    """The speech encoder `name` (hub name or folder) of transformers, float32, with or without its weights.

    Args:
        name: name on the Hugging Face hub, or a folder with `config.json` and the weights.
        weights: False gives the same architecture with random weights.
        settings: a configuration as `to_dict` gives it; then nothing is looked up and the weights are random.
        setting: what gave the name, for an error to say.

    Raises:
        PipelineError: the weights or the configuration cannot be had, or are not of a speech encoder.
    """
    from transformers import AutoConfig, AutoModel

    with _quiet():
        config = AutoConfig.for_model(**settings) if settings is not None else _look_up(name, _configuration, setting)
        if config.model_type not in FAMILIES:
            raise PipelineError(
                f"'{name}' is a {config.model_type} model; a speech encoder is one of {', '.join(FAMILIES)}"
            )
        if settings is not None or not weights:
            made: nn.Module = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
            return made
        model, report = _look_up(name, _weights, setting)
    missing = sorted(key for key in report["missing_keys"] if key not in SPARE)
    if missing:
        raise PipelineError(
            f"the weights of speech encoder '{name}' lack {len(missing)} parameters, such as {missing[0]}; "
            "give a folder or hub name of a whole model"
        )
    return model  # type: ignore[no-any-return]


def _configuration(name: str, local: bool) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(name, local_files_only=local)


def _weights(name: str, local: bool) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(name, local_files_only=local, dtype=torch.float32, output_loading_info=True)


def _look_up(name: str, read: Any, setting: str) -> Any:
    """`read(name, local)`: from the folder or the local cache, else from the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir() or name.startswith((".", "/", "~")):
        return _from_folder(folder, read)
    try:
        return read(name, True)
    except (OSError, ValueError):
        log.info("speech encoder '%s' is not in the local Hugging Face cache; asking the hub", name)
    try:
        if not _reachable():
            raise OSError("the hub's name is not known here")
        return read(name, False)
    except Exception as error:
        log.debug("the hub's answer", exc_info=error)
        raise PipelineError(
            f"cannot load speech encoder '{name}': not in the local Hugging Face cache and the hub cannot be reached "
            f"or does not have it; download it where there is a network (hf download {name} --local-dir DIR) and pass "
            f"--set {setting}=DIR; --preset scratch needs no pre-trained weights"
        ) from error


def _reachable() -> bool:
    """Whether it is worth asking the hub, whose library tries again for half a minute before it gives up."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        host = urlsplit(constants.ENDPOINT).hostname
        return bool(getproxies()) or bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def _from_folder(folder: Path, read: Any) -> Any:
    if not (folder / "config.json").is_file():
        raise PipelineError(
            f"no speech encoder in {folder}: it needs config.json and model.safetensors, as "
            f"'hf download NAME --local-dir {folder}' writes them"
        )
    try:
        return read(str(folder), True)
    except Exception as error:
        log.debug("transformers' answer", exc_info=error)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PipelineError(f"cannot load the speech encoder in {folder}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers without progress bars and reports on stderr."""
    from transformers.utils import logging as hub_logging

    level, bars = hub_logging.get_verbosity(), hub_logging.is_progress_bar_enabled()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
        if bars:
            hub_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
