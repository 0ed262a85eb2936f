"""A bidirectional LSTM on the parameters of torch's, whose steps are one kernel per layer.

The kernel is used on CUDA under autocast to half precision; otherwise torch's own LSTM runs. Shapes: B batch, T frames,
K coefficients, H units of a direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.fast import kernels
from ser_pipeline.model.paper import plain_lstm

WIDTHS = (16, 32, 64, 128, 256)
"""Units of a direction that the kernel can hold on the chip."""


def fits(lstm: nn.LSTM) -> bool:
    """Whether the kernel supports the LSTM."""
    plain = lstm.bidirectional and lstm.bias and lstm.batch_first and not lstm.proj_size
    return plain and lstm.hidden_size in WIDTHS


def fused_lstm(lstm: nn.LSTM, frames: Tensor) -> Tensor:
    """Hidden states (B, T, 2 H) of all frames (B, T, K)."""
    dtype = kernels.precision(frames)
    if not kernels.usable(frames, dtype):
        return plain_lstm(lstm, frames)
    hidden = frames.to(dtype)
    for layer in range(lstm.num_layers):
        if layer:
            hidden = F.dropout(hidden, lstm.dropout, lstm.training)
        directions = (f"l{layer}", f"l{layer}_reverse")
        weight = torch.cat([getattr(lstm, f"weight_ih_{name}") for name in directions])
        bias = torch.cat([getattr(lstm, f"bias_ih_{name}") + getattr(lstm, f"bias_hh_{name}") for name in directions])
        recurrent = torch.stack([getattr(lstm, f"weight_hh_{name}") for name in directions])
        added = F.linear(hidden, weight.to(dtype), bias.to(dtype)).view(*hidden.shape[:2], 2, -1)
        hidden = kernels.recurrence(added, recurrent.to(dtype)).flatten(2)
    return hidden
