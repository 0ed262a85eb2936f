"""Encoders of the MFCC and of the spectrogram: the paper's, and small ones trained from nothing.

Each gives a flat vector (B, `size`), which the model projects. Shapes: B batch, T frames, F frequency bins,
K coefficients, D width. torchvision is imported where it is asked, as not every model needs it.
"""

from __future__ import annotations

import logging
import math
import sys
from abc import ABC, abstractmethod
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.config import Model
from ser_pipeline.errors import PipelineError
from ser_pipeline.model.inputs import Resize
from ser_pipeline.model.small import Convolution
from ser_pipeline.model.statistics import RHYTHM, PathDropout, Standard, centred, moments, rhythm, summary, trend

IMAGE = (256, 384)
"""Height and width of AlexNet's image in pixels (reference code)."""

CELLS = 6
"""Rows and columns of AlexNet's average pooling."""

BANDS = 28
"""Of the small encoder's spectrogram."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, in 0 to 1; what torchvision's weights were trained with."""

log = logging.getLogger(__name__)


class BiLstm(nn.Module):
    """Eq. 1: a bidirectional LSTM over MFCC frames, all of its outputs flattened."""

    def __init__(self, frames: int, coefficients: int, settings: Model) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            coefficients,
            settings.lstm_width,
            settings.lstm_layers,
            batch_first=True,
            bidirectional=True,
            dropout=settings.lstm_dropout if settings.lstm_layers > 1 else 0.0,
        )
        self.size = frames * 2 * settings.lstm_width

    def forward(self, mfcc: Tensor) -> Tensor:
        """Frames (B, T, K) as (B, T * 2 * lstm_width): 153,600 with the paper's values."""
        with torch.autocast("cpu", enabled=False):  # few processors have an LSTM in half precision
            output: Tensor = self.lstm(mfcc)[0]
        return output.flatten(1)


class AlexNet(nn.Module):
    """Eq. 2: AlexNet's convolutions and average pooling, flattened; its classifier is left out."""

    mean: Tensor
    deviation: Tensor
    pool_rows: Tensor
    pool_columns: Tensor

    def __init__(self, bins: int, frames: int) -> None:
        from torchvision.models import alexnet

        super().__init__()
        self.features: nn.Module = alexnet().features
        height, width = (_after_features(size) for size in IMAGE)
        self.register_buffer("pool_rows", averages(height, CELLS), persistent=False)
        self.register_buffer("pool_columns", averages(width, CELLS), persistent=False)
        self.rows = Resize(bins, IMAGE[0], flip=True)
        self.columns = Resize(frames, IMAGE[1])
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)
        self.size = 256 * CELLS * CELLS

    def forward(self, level: Tensor) -> Tensor:
        """Whole grey levels (B, F, T) as (B, 9216)."""
        cells: Tensor = self.features(self.image(level))
        cells = self.pool_rows.to(cells.dtype) @ cells @ self.pool_columns.to(cells.dtype).T
        return cells.flatten(1)

    @torch.no_grad()
    def image(self, level: Tensor) -> Tensor:
        """Grey levels (B, F, T) as float32 (B, 3, 256, 384): low frequencies at the bottom, ImageNet's scale."""
        pixels: Tensor = self.rows(self.columns(level.int(), 2), 1).float()
        return torch.addcmul(-self.mean / self.deviation, pixels[:, None], 1 / (255 * self.deviation))


def averages(old: int, new: int) -> Tensor:
    """Float32 (new, old): a product with it is `AdaptiveAvgPool1d(new)`, and its gradient repeats bit for bit.

    >>> averages(3, 2).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    return F.adaptive_avg_pool1d(torch.eye(old), new).T.contiguous()


def _after_features(pixels: int) -> int:
    """Rows or columns that AlexNet's convolutions leave of an image."""
    for kernel, stride, padding in ((11, 4, 2), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 2, 0)):
        pixels = (pixels + 2 * padding - kernel) // stride + 1
    return pixels


class Summarised(nn.Module, ABC):
    """Statistics of the contours of an input, beside convolutions over them; silent frames do not count."""

    def __init__(self, statistics: int, contours: int, settings: Model) -> None:
        super().__init__()
        self.standard = Standard(statistics)
        self.contours = Contours(contours, settings)
        self.size = self.standard.size + self.contours.size

    def forward(self, rows: Tensor) -> Tensor:
        """What is given, zero where there is no speech, as (B, size)."""
        read = self._read(rows)
        return torch.cat([self.standard(self._summed_up(*read)), self.contours(*read)], 1)

    def statistics(self, rows: Tensor) -> Tensor:
        """Statistics (B, S) of what is given, not yet standardised."""
        return self._summed_up(*self._read(rows))

    @abstractmethod
    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Contours (B, K, T), and which of their frames count (B, 1, T)."""

    @abstractmethod
    def _summed_up(self, contours: Tensor, real: Tensor) -> Tensor:
        """Statistics (B, S) of contours (B, K, T)."""


class SmallMfcc(Summarised):
    """MFCC frames (B, T, K) as they are."""

    def __init__(self, coefficients: int, settings: Model) -> None:
        super().__init__(4 * coefficients, coefficients, settings)

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        contours = rows.transpose(1, 2)
        return contours, present(contours)

    @torch.no_grad()
    def _summed_up(self, contours: Tensor, real: Tensor) -> Tensor:
        return torch.cat([summary(contours, real), trend(contours, real.expand_as(contours))], 1)


class SmallSpectrogram(Summarised):
    """Bands of whole grey levels (B, F, T), with their modulation."""

    pool: Tensor

    def __init__(self, pool: Tensor, settings: Model) -> None:
        """Bins become bands by a product with `pool` (BANDS, bins)."""
        super().__init__((3 + len(RHYTHM)) * BANDS, BANDS, settings)
        self.register_buffer("pool", pool, persistent=False)

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(rows.device.type, enabled=False):
            return self.pool @ rows / 255, present(rows)

    @torch.no_grad()
    def _summed_up(self, contours: Tensor, real: Tensor) -> Tensor:
        return torch.cat([summary(contours, real), rhythm(contours, real)], 1)


class Contours(nn.Module):
    """Convolutions over contours of zero mean and unit deviation; mean and deviation of their frames."""

    def __init__(self, count: int, settings: Model) -> None:
        super().__init__()
        width = settings.small_width
        self.layers = nn.ModuleList([Convolution(before, width) for before in (count, width, width)])
        self.dropout = nn.Dropout1d(settings.dropout)
        self.path = PathDropout(settings.small_drop)
        self.size = 2 * width

    def forward(self, contours: Tensor, real: Tensor) -> Tensor:
        """Contours (B, K, T) whose frames count where `real` (B, 1, T) is 1, as (B, 2 * small_width)."""
        hidden, real = self.dropout(centred(contours, real)).transpose(1, 2), real.transpose(1, 2)
        for layer in self.layers:
            hidden, real = layer(hidden, real)
        return self.path(torch.cat(moments(hidden.float().transpose(1, 2), real.transpose(1, 2)), 1))  # type: ignore[no-any-return]


def present(contours: Tensor) -> Tensor:
    """1 for frames of (B, K, T) that are not all zero, as padding and masked frames are; float32 (B, 1, T).

    >>> present(torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])).tolist()
    [[[1.0, 0.0]]]
    """
    return (contours.abs().amax(1, keepdim=True) > 0).float()  # several times as fast as `any` on a processor


def bands(bins: int, count: int) -> Tensor:
    """Float32 (count, bins): triangles of unit sum, evenly spaced on the mel scale over linear bins of 20 Hz.

    >>> bands(200, 28).sum(1).allclose(torch.ones(28))
    True
    """
    mel = torch.linspace(0, math.log1p(20 * bins / 700), count + 2)
    edges = 35 * mel.expm1()
    place = torch.arange(bins)[None] + 0.5
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangle = torch.minimum((place - low) / (peak - low), (high - place) / (high - peak)).clamp(min=0)
    nearest = F.one_hot(peak[:, 0].long().clamp(max=bins - 1), bins)
    triangle = torch.where(triangle.sum(1, keepdim=True) > 0, triangle, nearest.float())
    return triangle / triangle.sum(1, keepdim=True)


def build_alexnet(bins: int, frames: int, weights: str) -> AlexNet:
    """AlexNet with `weights`: "imagenet" (torchvision's), "none", or a file of torchvision's AlexNet.

    Raises:
        PipelineError: the weights cannot be had, or are not AlexNet's.
    """
    model = AlexNet(bins, frames)
    if weights == "none":
        return model
    state = _imagenet() if weights == "imagenet" else _from_file(Path(weights).expanduser())
    features = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    try:
        model.features.load_state_dict(features or state)
    except (RuntimeError, TypeError):
        raise PipelineError(
            f"the weights in {weights} are not those of torchvision's AlexNet: keys 'features.0.weight' … "
            "'features.10.bias' are needed"
        ) from None
    return model


def _imagenet() -> dict[str, Tensor]:
    """Torchvision's ImageNet weights, from torch's local cache or the network."""
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if file.is_file():
        return _from_file(file)
    log.info("fetching %s", url)
    try:
        with redirect_stdout(sys.stderr):  # where torch says what it fetches
            return dict(torch.hub.load_state_dict_from_url(url, progress=False, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"cannot load AlexNet's ImageNet weights: {file.name} is not in {file.parent} and {url} cannot be reached; "
            "download it where there is a network and pass --set model.spectrogram_weights=FILE "
            "(or --set model.spectrogram_weights=none to start from random weights; --preset scratch needs none)"
        ) from error


def _from_file(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise PipelineError(
            f"no such file: {file}; model.spectrogram_weights is 'imagenet', 'none' or a file of torchvision's AlexNet"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
        return dict(loaded)
    except Exception as error:
        raise PipelineError(f"cannot read weights from {file}: {str(error).splitlines()[0]}") from error
