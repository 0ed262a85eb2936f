"""Any other audio model of transformers, frozen, through its hidden states and its own feature extractor on the CPU.

Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech.frames import FrameEncoder, Inputs, Options, States, within
from ser_pipeline.model.speech.loading import Source, first_line, transformers_config, transformers_model

AUDIO = ("input_values", "input_features")
"""Names that transformers uses for the main input of audio models."""

LEAST = 400
"""Samples to which shorter utterances are padded: 25 ms, one frame of the usual front ends."""

AST_HOP = 160
"""Samples between frames of the Audio Spectrogram Transformer, whose extractor limits audio in frames."""


class OtherEncoder(FrameEncoder):
    """An unmodified audio model of transformers; each utterance is encoded alone or with others of equal length."""

    def __init__(self, model: nn.Module, extractor: Any, source: Source, options: Options) -> None:
        """Run the model on a second of silence to find its layers and width.

        Args:
            model: transformers' model.
            extractor: its feature extractor.
            source: source of both.
            options: how the encoder is used.

        Raises:
            PipelineError: the model returns no hidden states, or it is not used frozen.
        """
        super().__init__(source.config, source.front, options)
        if not options.frozen:
            raise PipelineError(
                f"a {source.config['model_type']} model such as {source.where} can only be used frozen; pass "
                "--set model.freeze_speech_encoder=true, or compute its frames with ser-pipeline features"
            )
        parts: Any = model
        self.model = parts.get_encoder() if getattr(parts.config, "is_encoder_decoder", False) else model
        self.extractor = extractor
        self.accepted = set(inspect.signature(self.model.forward).parameters)
        self.longest = _longest(extractor)
        self.counts: dict[int, int] = {}
        self._stack: nn.ModuleList | None = None
        self.model.eval()
        try:
            states = self._run(torch.zeros(1, self.rate))
        except Exception as error:
            raise PipelineError(
                f"the hidden states of speech encoder {source.where} cannot be read ({first_line(error)}); choose "
                "another encoder"
            ) from error
        self.layers, self.width = len(states) - 1, int(states[-1].shape[2])
        self._stack = self._layers_of(states)
        self.finish()

    def frames(self, samples: int) -> int:
        """Number T of frames of `samples` samples, found by running the model."""
        if samples not in self.counts:
            zeros = torch.zeros(1, samples, device=next(self.model.parameters()).device)
            self.counts[samples] = self._run(zeros)[-1].shape[1]
        return self.counts[samples]

    def prepare(self, samples: Tensor, lengths: Tensor | None = None) -> Inputs:
        """Return the waveforms unchanged: the feature extractor needs each utterance without padding."""
        self._check(samples.shape[1])
        return Inputs(samples, lengths if self.mask_padding else None)

    @torch.no_grad()
    def states(self, inputs: Inputs, upto: int | None = None) -> States:
        """Hidden states (B, T, D) of each utterance alone, zero after its end.

        Layers above `upto` are not computed if the model's layers are in one list, as they are in most models.
        """
        last, samples = self._upto(upto), inputs.values
        sizes = [samples.shape[1]] * len(samples) if inputs.lengths is None else inputs.lengths.tolist()
        of_size = {size: [row for row, other in enumerate(sizes) if other == size] for size in sorted(set(sizes))}
        made = {size: self._run(samples[rows, :size], last)[: last + 1] for size, rows in of_size.items()}
        counts = torch.tensor([made[size][-1].shape[1] for size in sizes], device=samples.device)
        order = torch.tensor([row for rows in of_size.values() for row in rows], device=samples.device)
        back, layers = order.argsort(), []
        for layer in zip(*made.values(), strict=True):
            longest = max(state.shape[1] for state in layer)
            layers.append(torch.cat([F.pad(state, (0, 0, 0, longest - state.shape[1])) for state in layer])[back])
        return States(layers, within(layers[-1].shape[1], counts))

    @torch.no_grad()
    def _run(self, samples: Tensor, last: int | None = None) -> list[Tensor]:
        """Hidden states (B, T, D) of waveforms (B, N) without padding, by transformers' own extractor and model.

        They reach at least up to the layer `last`; None returns all.
        """
        rows = list(F.pad(samples, (0, max(0, LEAST - samples.shape[1]))).cpu().numpy())
        read = self.extractor(rows, sampling_rate=self.rate, return_tensors="pt")
        device = next(self.model.parameters()).device
        known = {name: value.to(device) for name, value in read.items() if name in self.accepted}
        if self._stack is not None and last is not None and last < self.layers:
            return _up_to(self._stack, last, lambda: self.model(**known, return_dict=True))
        output = self.model(**known, output_hidden_states=True, return_dict=True)
        states = list(output.hidden_states)
        if output.last_hidden_state.shape == states[-1].shape or not self.options.inner:
            states[-1] = output.last_hidden_state
        if any(state.dim() != 3 for state in states):
            raise ValueError(f"its hidden states are not frames but have the shape {tuple(states[0].shape)}")
        return states

    def _layers_of(self, states: list[Tensor]) -> nn.ModuleList | None:
        """The list of the model's layers, in which layer n reads hidden state n; None if there is no such list."""
        zeros = torch.zeros(1, self.rate)
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.layers:
                self._stack = module
                read = self._run(zeros, self.layers - 1)
                if len(read) == self.layers and all(map(_alike, read, states)):
                    return module
        return None


def _alike(read: object, state: Tensor) -> bool:
    return isinstance(read, Tensor) and torch.equal(read, state)


class _EnoughError(Exception):
    """Raised when all requested layers are computed."""


def _up_to(layers: nn.ModuleList, last: int, run: Callable[[], Any]) -> list[Tensor]:
    """The inputs of layers 0 to `last` during `run`, which is stopped before layer `last`.

    Args:
        layers: all layers, in order.
        last: number of a layer.
        run: runs the whole model.
    """
    read: list[Any] = []

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read.append(args[0] if args else kwargs.get("hidden_states"))
        if layer is layers[last]:
            raise _EnoughError

    held = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in list(layers)[: last + 1]]
    try:
        with suppress(_EnoughError):
            run()
    finally:
        for hook in held:
            hook.remove()
    return read


def _longest(extractor: Any) -> int | None:
    """Number of samples after which a feature extractor cuts audio off; None if it does not."""
    for name in ("n_samples", "nb_max_samples"):
        if isinstance(getattr(extractor, name, None), int):
            return int(getattr(extractor, name))
    if type(extractor).__name__ == "ASTFeatureExtractor":
        return int(extractor.max_length) * AST_HOP
    return None


def open_other(source: Source, options: Options) -> OtherEncoder:
    """Open the audio model of `source` with its feature extractor.

    Raises:
        PipelineError: the model is not available, or reads no audio.
    """
    from transformers import MODEL_MAPPING, AutoFeatureExtractor

    config = transformers_config(source)
    kind: Any = MODEL_MAPPING.get(type(config), None)
    kind = kind[0] if isinstance(kind, tuple) else kind
    reads = getattr(kind, "main_input_name", "")
    if reads not in AUDIO:
        what = {"input_ids": "text", "pixel_values": "images"}.get(reads, "no audio")
        raise PipelineError(
            f"{source.where} is a {config.model_type} model, which reads {what}; a speech encoder reads audio, such as "
            "openai/whisper-tiny.en, microsoft/wavlm-base-plus or facebook/wav2vec2-base"
        )
    try:
        if source.folder is None:
            kept = {key: value for key, value in source.front.items() if key != "feature_extractor_type"}
            extractor = _extractor_class(source.front["feature_extractor_type"])(**kept)
        else:
            read: Any = AutoFeatureExtractor.from_pretrained
            extractor = read(source.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise PipelineError(
            f"cannot read the feature extractor of speech encoder {source.where}: {first_line(error)}; it needs "
            "preprocessor_config.json, as transformers writes it"
        ) from error
    return OtherEncoder(transformers_model(source, config), extractor, source, options)


def _extractor_class(name: str) -> Any:
    import transformers

    return getattr(transformers, name)
