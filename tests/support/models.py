"""Small models, and batches for them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ser_pipeline.config import Audio, Features, Model
from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel, build_model

SMALL = Model(speech_encoder="small", spectrogram_encoder="small", mfcc_encoder="small", small_width=16, small_layers=1)


def make_batch(size: int, device: torch.device | str = "cpu", audio: Audio | None = None) -> Batch:
    audio = audio or Audio()
    generator = torch.Generator().manual_seed(0)
    waveform, spectrogram, mfcc, *known = (
        torch.randint(-3000, 3000, (size, audio.segment + 1), generator=generator, dtype=torch.int16),
        torch.randint(0, 256, (size, 200, audio.frames), generator=generator, dtype=torch.uint8),
        torch.randn(size, audio.frames, 40, generator=generator).half(),
        torch.full((size,), audio.segment, dtype=torch.int32),
        torch.randint(0, 4, (size,), generator=generator),
        torch.arange(size),
    )
    rows = {"waveform": waveform, "spectrogram": spectrogram, "mfcc": mfcc}
    return Batch(rows, *known).map(lambda row: row.to(device))


def followed_by_silence(batch: Batch, lengths: Sequence[int]) -> Batch:
    """Return a batch whose segments have these lengths, followed by silence."""
    samples = torch.tensor(lengths, dtype=torch.int32)
    frames = 1 + samples // 160
    after = torch.arange(batch["waveform"].shape[1]) > samples[:, None]
    late = torch.arange(batch["mfcc"].shape[1]) >= frames[:, None]
    changed = {
        "waveform": batch["waveform"].masked_fill(after, 0),
        "mfcc": batch["mfcc"].masked_fill(late[..., None], 0),
        "spectrogram": batch["spectrogram"].masked_fill(late[:, None], 0),
    }
    return batch.changed(changed, samples)


def small_model(speech_settings: dict[str, Any] | None = None, **changes: Any) -> SpeechEmotionModel:
    torch.manual_seed(0)
    return build_model(
        replace(SMALL, **changes), audio=Audio(), features=Features(), classes=4, speech_settings=speech_settings
    )
