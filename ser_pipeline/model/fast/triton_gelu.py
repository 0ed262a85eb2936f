"""The exact GELU and its derivative, for several Triton kernels.

One exponential serves the error function and its derivative.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def below(value):
    """Standard normal cumulative distribution and density at `value`, in float32.

    The error is at most 1e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26).
    """
    bell = tl.exp(-0.5 * value * value)
    step = 1.0 / (1.0 + 0.23164190 * tl.abs(value))
    tail = 1.061405429 * step - 1.453152027
    tail = tail * step + 1.421413741
    tail = tail * step - 0.284496736
    tail = tail * step + 0.254829592
    tail = 0.5 * tail * step * bell
    return tl.where(value < 0, tail, 1.0 - tail), bell * 0.3989422804014327


@triton.jit
def gelu(value):
    """The exact GELU of float32 values."""
    share, _ = below(value)
    return value * share


@triton.jit
def gelu_slope(value):
    """The derivative of the exact GELU at float32 values."""
    share, density = below(value)
    return share + value * density
