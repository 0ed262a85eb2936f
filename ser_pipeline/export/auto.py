"""Classes with which transformers' Auto classes and pipelines load a model folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BatchFeature, PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto import modeling_auto

from ser_pipeline.export.folder import Members, fetched, read_members
from ser_pipeline.export.names import MODEL_TYPE
from ser_pipeline.predict.answers import Unanswered
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.runs import of_members
from ser_pipeline.targets import TARGETS


class SpeechEmotionConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """The contents of a model folder's `config.json`."""

    model_type = MODEL_TYPE


class SpeechEmotionFeatureExtractor(SequenceFeatureExtractor):
    """Pads waveforms with zeros at the end; the model computes its own features."""

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012  (as in transformers)

    def __call__(
        self, raw_speech: Any, sampling_rate: int | None = None, return_tensors: str | None = None, **options: Any
    ) -> BatchFeature:
        """Return float32 waveforms (B, N), and a mask that is 1 for samples and 0 for padding.

        Args:
            raw_speech: a waveform (N,) in [-1, 1], or a list of them.
            sampling_rate: sampling rate of the waveforms in Hz.
            return_tensors: "pt" or "np".
            options: options of `pad`.

        Raises:
            ValueError: the sampling rate is not the model's.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(f"the model needs {self.sampling_rate} Hz, not {sampling_rate} Hz: resample the audio")
        single = not isinstance(raw_speech, list | tuple) or np.isscalar(raw_speech[0])
        rows = [np.asarray(one, np.float32) for one in ([raw_speech] if single else raw_speech)]
        options.setdefault("padding", True)
        return self.pad(BatchFeature({"input_values": rows}), return_tensors=return_tensors, **options)


class SpeechEmotionForAudioClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The models of a model folder; the logits are their averaged log-probabilities."""

    config_class = SpeechEmotionConfig
    main_input_name = "input_values"

    def __init__(self, config: SpeechEmotionConfig, opened: Members) -> None:
        """Use the models of an opened folder."""
        super().__init__(config)
        self.members = nn.ModuleList(opened.models)
        self.makers = nn.ModuleDict({name: maker.encoder for name, maker in opened.makers.items()})
        self.opened, self.predictor = opened, of_members(opened, torch.device("cpu"))
        self.eval()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name: str, *args: Any, config: SpeechEmotionConfig | None = None, **options: Any
    ) -> SpeechEmotionForAudioClassification:
        """Open a model folder, or a repository of the hub.

        Args:
            name: the folder, or a name on the hub.
            args: ignored.
            config: the configuration; None to read it from the folder.
            options: `revision`, `cache_dir`, `token`, `local_files_only` and `force_download` control the download.
        """
        known = ("revision", "cache_dir", "token", "local_files_only", "force_download")
        folder = fetched(name, **{key: options[key] for key in known if key in options})
        opened = read_members(folder, torch.device("cpu"))
        if not opened.labels:
            told = TARGETS[opened.config.train.target].words
            raise ValueError(f"{name} predicts {told} and no classes: open it with SpeechEmotion.from_pretrained")
        return cls(config or SpeechEmotionConfig.from_pretrained(folder), opened)

    @torch.inference_mode()
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> SequenceClassifierOutput:
        """Return the log-probabilities (B, C) of waveforms.

        Args:
            input_values: float32 (B, N) in [-1, 1].
            attention_mask: 1 for samples, followed by 0 for padding; None without padding.
            options: ignored.
        """
        rows = input_values.float().cpu().numpy()
        lengths = [rows.shape[1]] * len(rows) if attention_mask is None else attention_mask.sum(1).tolist()
        given = [(row[: int(real)], int(self.config.sampling_rate)) for row, real in zip(rows, lengths, strict=True)]
        scores = []
        for answer in self._placed().each(given):
            if isinstance(answer, Unanswered):
                raise ValueError(answer.error)
            scores.append(np.log(list(answer.probabilities.values())))
        return SequenceClassifierOutput(logits=torch.tensor(np.array(scores), dtype=torch.float32))

    def _placed(self) -> Predictor:
        """Return the predictor on the device that the models were moved to."""
        device = self.device
        if self.predictor.scorer.device != device:  # type: ignore[attr-defined]
            makers: dict[str, Any] = dict(self.opened.makers)
            moved = {name: replace(maker, device=device) for name, maker in makers.items()}
            self.predictor = of_members(replace(self.opened, makers=moved), device)
        return self.predictor


modeling_auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES.setdefault(
    MODEL_TYPE, SpeechEmotionForAudioClassification.__name__
)  # otherwise transformers' pipeline warns that the model is not supported
