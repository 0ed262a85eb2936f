"""The paper's training step on random data, shared by several benchmarks."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import Wav2Vec2Config

from ser_pipeline.config import Config, Model
from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel, build_model

CONFIG = Config()


CLASSES = 4


def make_batch(size: int, device: torch.device) -> Batch:
    """A batch of random stored rows."""
    generator = torch.Generator().manual_seed(size)
    waveform, spectrogram, mfcc, *known = (
        torch.randint(-3_000, 3_000, (size, CONFIG.audio.segment + 1), generator=generator, dtype=torch.int16),
        torch.randint(0, 256, (size, 200, 300), generator=generator, dtype=torch.uint8),
        torch.randn(size, 300, 40, generator=generator).half(),
        torch.full((size,), CONFIG.audio.segment, dtype=torch.int32),
        torch.randint(0, CLASSES, (size,), generator=generator),
        torch.arange(size),
    )
    rows = {"waveform": waveform, "spectrogram": spectrogram, "mfcc": mfcc}
    return Batch(rows, *known).map(lambda part: part.to(device))


def make_model(device: torch.device, settings: Model = CONFIG.model, **speech: float) -> SpeechEmotionModel:
    """The paper's model with random weights; `speech` changes wav2vec 2.0's own configuration."""
    torch.manual_seed(0)
    model = build_model(
        settings,
        audio=CONFIG.audio,
        features=CONFIG.features,
        classes=CLASSES,
        pretrained=False,
        speech_settings={**Wav2Vec2Config().to_dict(), **speech},
    )
    return model.to(device)


def make_optimiser(model: nn.Module, device: torch.device, *, fused: bool) -> torch.optim.Optimizer:
    if not fused:
        return torch.optim.AdamW(model.parameters(), lr=1e-5)
    return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True, capturable=device.type == "cuda")


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(step: Callable[[], object], device: torch.device, seconds: float, calls: int = 0) -> float:
    """Median seconds of a call, over rounds of `calls`, or of as many calls as take about `seconds` in total."""
    for _ in range(5 if device.type == "cuda" else 2):
        step()
    wait(device)
    started = time.perf_counter()
    step()
    wait(device)
    calls = calls or max(1, int(seconds / 5 / (time.perf_counter() - started)))
    found = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(calls):
            step()
        wait(device)
        found.append((time.perf_counter() - started) / calls)
    return statistics.median(found)


@contextmanager
def arithmetic(*, tf32: bool) -> Iterator[None]:
    """Use TF32 or plain float32 products; cuDNN benchmarks its kernels."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
