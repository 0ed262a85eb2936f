"""A bidirectional LSTM on the parameters of torch's, with the recurrence in one kernel a layer.

Shapes: B rows, T steps, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.fast import kernels

WIDTHS = (32, 64, 128, 256, 512)
"""Hidden units that the kernel takes."""


class Lstm(nn.LSTM):
    """Torch's LSTM; on CUDA in half precision by the kernel, elsewhere as it is."""

    @staticmethod
    def fits(original: nn.LSTM) -> bool:
        """Whether `original` is such as the kernel handles."""
        return original.bidirectional and original.bias and not original.proj_size and original.hidden_size in WIDTHS

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:  # type: ignore[override]  # noqa: A002
        """Outputs (B, T, 2 * H) of inputs (B, T, K); the kernel gives no final state."""
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else input.dtype
        if hx is not None or not kernels.usable(input, dtype):
            return super().forward(input, hx)
        with torch.autocast("cuda", enabled=False):
            rows = input.transpose(0, 1).to(dtype)
            for layer in range(self.num_layers):
                rows = self._layer(rows, layer)
                if layer + 1 < self.num_layers:
                    rows = F.dropout(rows, self.dropout, self.training)
        return rows.transpose(0, 1), ()

    def _layer(self, rows: Tensor, layer: int) -> Tensor:
        """Outputs (T, B, 2 * H) of one layer."""
        weight, bias = self._both("weight_ih", layer), self._both("bias_ih", layer) + self._both("bias_hh", layer)
        gates = torch.baddbmm(
            bias[:, None].to(rows.dtype), rows.flatten(0, 1).expand(2, -1, -1), weight.mT.to(rows.dtype)
        )
        gates = gates.view(2, *rows.shape[:2], -1)
        return kernels.recurrence(gates, self._both("weight_hh", layer).to(rows.dtype))

    def _both(self, name: str, layer: int) -> Tensor:
        """A parameter of both directions, one after the other on a new first axis."""
        return torch.stack([getattr(self, f"{name}_l{layer}{suffix}") for suffix in ("", "_reverse")])
