"""SpecAugment on frames of a speech encoder, drawn from torch's seeded generator on the device.

Shapes: B batch, T frames, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def mask(hidden: Tensor, token: Tensor | None, settings: Any) -> Tensor:
    """SpecAugment on (B, T, D) with the speech encoder's own settings; same distribution as transformers' numpy code.

    Spans of time are replaced by the learned `token` (D,), spans of channels by zero.

    Args:
        hidden: frames (B, T, D).
        token: (D,); None masks no spans of time.
        settings: the encoder's configuration, with transformers' `mask_*`.
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
    """Mask (batch, size) that is true within random spans of `length`; their starts differ, but spans may overlap.

    A row has `share * size / length` spans, rounded up or down at random (the same for all rows), at least `least`
    and no more than fit.

    Args:
        batch: number of rows.
        size: places of a row.
        share: share of a row that the spans would cover if none overlapped, 0 to 1.
        length: places of a span.
        least: minimum spans of a row.
        device: device of the result.

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
