"""Cut the silence after segments, which small encoders do not need: their results stay the same.

Shapes: B batch, N samples, S statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ser_pipeline.config import Audio
from ser_pipeline.data.batch import Batch
from ser_pipeline.inputs import CEPSTRA, IMAGE, INPUTS, SAMPLES
from ser_pipeline.model.coattention import SpeechEmotionModel
from ser_pipeline.model.small import SmallSpeech, Summarised

SHORTEST = 0.064
"""Minimum seconds that are read: more than the longest frame of any statistics."""


def is_heard_alone(model: SpeechEmotionModel) -> bool:
    """Whether a model consists of small encoders that take nothing from the silence after a segment."""
    settings = model.settings
    plain = not (settings.pre_emphasis or settings.pad_front or settings.pad_loud)
    return plain and all(isinstance(encoder, SmallSpeech | Summarised) for encoder in model.encoders.values())


def is_kept(model: SpeechEmotionModel) -> bool:
    """Whether silence in images is still 0 after rescaling; it is not where a bin was always loud in training."""
    scales: list[Any] = [model.finish[name] for name in model.encoders if INPUTS[name].form == IMAGE]
    return not any(scale(torch.zeros_like(scale.minimum)[None, :, None], torch.zeros(1)).any() for scale in scales)


def until(samples: float, audio: Audio) -> int:
    """Number of samples to read for segments of at most `samples` real samples, including a little silence.

    >>> until(0, Audio()), until(20_000, Audio()), until(47_999, Audio())
    (1024, 20320, 48000)
    """
    followed = -(-int(samples) // audio.hop) * audio.hop + 2 * audio.hop
    return min(audio.segment, max(round(SHORTEST * audio.rate), followed))


def shown(name: str, rows: Tensor, longest: int, audio: Audio) -> Tensor:
    """Rows (B, ...) of an input up to a sample.

    Args:
        name: name of the input.
        rows: rows as stored.
        longest: number of samples.
        audio: settings of whole segments.
    """
    frames = min(audio.frames, 1 + longest // audio.hop)
    cut = {SAMPLES: (..., slice(1 + longest)), CEPSTRA: (..., slice(frames), slice(None))}
    return rows[cut.get(INPUTS[name].form, (..., slice(frames)))]


def finished(model: SpeechEmotionModel, name: str, rows: Tensor, samples: Tensor) -> Tensor:
    """What an encoder reads of cut rows.

    Args:
        model: the encoder's model.
        name: name of the input.
        rows: rows from `shown`.
        samples: number of real samples (B,).
    """
    whole = {"whole": model.audio.segment} if INPUTS[name].form == SAMPLES else {}
    return model.finish[name](rows, samples, **whole)  # type: ignore[no-any-return]


def statistics(model: SpeechEmotionModel, name: str, read: Tensor, samples: Tensor) -> Tensor:
    """Statistics (B, S) of what an encoder reads of cut rows.

    Args:
        model: the encoder's model.
        name: name of the input.
        read: result of `finished`.
        samples: number of real samples (B,).
    """
    frames = {} if INPUTS[name].form == SAMPLES else {"frames": model.audio.frames}
    return model.encoders[name].statistics(read, samples, **frames)  # type: ignore[no-any-return, operator]


def cut(batch: Batch, model: SpeechEmotionModel) -> Batch:
    """Cut a batch shortly after the end of its longest segment."""
    longest = until(int(batch.samples.max()), model.audio)
    return batch.changed({name: shown(name, batch[name], longest, model.audio) for name in model.encoders})


def read(model: SpeechEmotionModel, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """What an encoder reads of a cut batch, and its statistics (B, S).

    Args:
        model: the encoder's model.
        name: name of the input.
        batch: result of `cut`.
    """
    done = finished(model, name, batch[name], batch.samples)
    return done, statistics(model, name, done, batch.samples)
