"""Pool the frames of an utterance or segment into one vector, in models without co-attention.

Shapes: B batch, T frames, D width of the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ser_pipeline.model.contours import FLOOR
from ser_pipeline.model.small import SpeechFrames


class MeanPooling(nn.Module):
    """The mean of the real frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = width

    def forward(self, speech: SpeechFrames) -> Tensor:
        """The pooled frames (B, D)."""
        return speech.mean()


class MomentPooling(nn.Module):
    """Mean and deviation of the real frames. Source: x-vectors, Snyder et al., ICASSP 2018."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = 2 * width

    def forward(self, speech: SpeechFrames) -> Tensor:
        """Means, then deviations: (B, 2 D)."""
        mean = speech.mean()
        away = SpeechFrames((speech.frames - mean[:, None]).square(), speech.real)
        return torch.cat([mean, (away.mean() + FLOOR).sqrt()], 1)


class AttentionPooling(nn.Module):
    """The real frames weighted by a learned score. Source: Mirsamadi et al., ICASSP 2017."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = width
        self.score = nn.Linear(width, 1, bias=False)  # the weights sum to 1 with any bias
        nn.init.zeros_(self.score.weight)  # training starts from the mean

    def forward(self, speech: SpeechFrames) -> Tensor:
        """The pooled frames (B, D)."""
        scores = self.score(speech.frames)[..., 0]
        if speech.real is not None:
            scores = scores.masked_fill(speech.real == 0, -torch.inf)
        return torch.bmm(scores.softmax(1)[:, None], speech.frames)[:, 0]


POOLINGS: Mapping[str, Callable[[int], nn.Module]] = {
    "mean": MeanPooling,
    "mean+deviation": MomentPooling,
    "attention": AttentionPooling,
}
"""Value of the setting `model.pooling`, except for co-attention -> the class that pools frames of a given width."""
