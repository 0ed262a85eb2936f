"""The paper's encoders of MFCCs and of the spectrogram.

Each computes a flat vector (B, `size`), which the model projects. Shapes: B batch, T frames, F frequency bins,
K coefficients, D width. torchvision is imported only when it is needed, since not every model needs it.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable
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

IMAGE = (256, 384)
"""Height and width of AlexNet's image in pixels (reference code)."""

CELLS = 6
"""Rows and columns of AlexNet's average pooling."""

FEATURES = (
    (3, 64, 11, 4, 2, True),
    (64, 192, 5, 1, 2, True),
    (192, 384, 3, 1, 1, False),
    (384, 256, 3, 1, 1, False),
    (256, 256, 3, 1, 1, True),
)
"""AlexNet's convolutions: channels before and after, kernel, stride, padding, whether pooling follows (torchvision)."""

CLASSIFIER = (256 * CELLS * CELLS, 4096, 4096, 1000)
"""Widths of AlexNet's classifier."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's red, green and blue, from 0 to 1, with which torchvision's weights were trained."""

log = logging.getLogger(__name__)


class BiLstm(nn.Module):
    """Eq. 1: a bidirectional LSTM over MFCC frames, with all of its outputs flattened."""

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
        self.run: Callable[[nn.LSTM, Tensor], Tensor] = plain_lstm

    def forward(self, mfcc: Tensor) -> Tensor:
        """Frames (B, T, K) to (B, T * 2 * lstm_width): 153,600 with the paper's values."""
        with torch.autocast("cpu", enabled=False):  # few processors support an LSTM in half precision
            return self.run(self.lstm, mfcc).flatten(1)


def plain_lstm(lstm: nn.LSTM, frames: Tensor) -> Tensor:
    """Hidden states (B, T, 2 H) of all frames (B, T, K), by torch."""
    output: Tensor = lstm(frames)[0]
    return output


class AlexNet(nn.Module):
    """Eq. 2: AlexNet's convolutions and average pooling, flattened, without its classifier."""

    mean: Tensor
    deviation: Tensor
    pool_rows: Tensor
    pool_columns: Tensor

    def __init__(self, bins: int, frames: int) -> None:
        super().__init__()
        self.features: nn.Module = _alexnet_features()
        height, width = (_after_features(size) for size in IMAGE)
        self.register_buffer("pool_rows", averages(height, CELLS), persistent=False)
        self.register_buffer("pool_columns", averages(width, CELLS), persistent=False)
        self.rows = Resize(bins, IMAGE[0], flip=True)
        self.columns = Resize(frames, IMAGE[1])
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)
        self.size = 256 * CELLS * CELLS
        self.convolve: Callable[[AlexNet, Tensor], Tensor] = plain_convolutions

    def forward(self, level: Tensor) -> Tensor:
        """Integer grey levels (B, F, T) to (B, 9216)."""
        cells = self.convolve(self, level)
        cells = self.pool_rows.to(cells.dtype) @ cells @ self.pool_columns.to(cells.dtype).T
        return cells.flatten(1)

    @torch.no_grad()
    def image(self, level: Tensor) -> Tensor:
        """Grey levels (B, F, T) to float32 (B, 3, 256, 384): low frequencies at the bottom, ImageNet's scale."""
        return torch.addcmul(-self.mean / self.deviation, self.grey(level)[:, None], 1 / (255 * self.deviation))

    @torch.no_grad()
    def grey(self, level: Tensor) -> Tensor:
        """Grey levels (B, F, T) to integers in float32 (B, 256, 384), low frequencies at the bottom."""
        pixels: Tensor = self.rows(self.columns(level.int(), 2), 1).float()
        return pixels


def _alexnet_features() -> nn.Sequential:
    """The layers of torchvision's `alexnet().features`, whose import takes seconds, in their order.

    Its classifier is drawn too, and left out, so that a seed draws the same numbers here and for what is built next.
    """
    layers: list[nn.Module] = []
    for before, after, kernel, stride, padding, pooled in FEATURES:
        layers += [nn.Conv2d(before, after, kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pooled else []
    for size in itertools.pairwise(CLASSIFIER):
        nn.Linear(*size)
    return nn.Sequential(*layers)


def plain_convolutions(alexnet: AlexNet, level: Tensor) -> Tensor:
    """The output of AlexNet's convolutions for integer grey levels (B, F, T)."""
    cells: Tensor = alexnet.features(alexnet.image(level))
    return cells


def averages(old: int, new: int) -> Tensor:
    """Float32 matrix (new, old) whose product is `AdaptiveAvgPool1d(new)`; its gradient is bit-for-bit reproducible.

    >>> averages(3, 2).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    return F.adaptive_avg_pool1d(torch.eye(old), new).T.contiguous()


def _after_features(pixels: int) -> int:
    """Rows or columns that AlexNet's convolutions leave of an image."""
    for *_, kernel, stride, padding, pooled in FEATURES:
        pixels = (pixels + 2 * padding - kernel) // stride + 1
        pixels = (pixels - 3) // 2 + 1 if pooled else pixels
    return pixels


def build_alexnet(bins: int, frames: int, weights: str) -> AlexNet:
    """AlexNet with `weights`: "imagenet" (torchvision's), "none", or a file of torchvision's AlexNet.

    Args:
        bins: bins of the image.
        frames: frames of the image.
        weights: "imagenet", "none" or a file.

    Raises:
        PipelineError: the weights are not available, or are not AlexNet's.
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


def imagenet_file() -> Path:
    """The file of AlexNet's ImageNet weights in torch's cache, whether it exists or not."""
    from torchvision.models import AlexNet_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name


def _imagenet() -> dict[str, Tensor]:
    """Torchvision's ImageNet weights, from torch's local cache or the network."""
    from torchvision.models import AlexNet_Weights

    url, file = AlexNet_Weights.IMAGENET1K_V1.url, imagenet_file()
    if file.is_file():
        return _from_file(file)
    log.info("downloading %s", url)
    try:
        with redirect_stdout(sys.stderr):  # torch prints what it downloads
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
