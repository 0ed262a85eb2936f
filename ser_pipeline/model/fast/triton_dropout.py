"""Dropout in Triton kernels with masks that are never stored.

A hash of two random words and of an element's number decides whether the element is kept, forward and backward, at a
fraction of the cost of a counter-based generator.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

SHARES = 2.0**32  # number of steps to which a dropout rate is rounded


@dataclass(frozen=True)
class Dropped:
    """A dropout rate: how many of the 2 ** 32 hash values drop an element, and the factor of the others."""

    count: int
    larger: float

    @staticmethod
    def share(dropout: float) -> Dropped:
        """Convert a dropout rate, 0 to 1."""
        return Dropped(min(int(dropout * SHARES), 2**32 - 1), 1 / (1 - dropout) if dropout < 1 else 0.0)


@triton.jit
def keeps(words, number, dropped):
    """Whether each element is kept, from a multiplicative hash of its number and both words.

    Args:
        words: pointer to two random int32.
        number: numbers of the elements, uint32.
        dropped: `Dropped.count`.
    """
    hashed = number * tl.full((), 0x9E3779B9, tl.uint32) + tl.load(words).to(tl.uint32)
    hashed = (hashed ^ (hashed >> 16)) * tl.full((), 0x21F0AAAD, tl.uint32)
    hashed = (hashed ^ (hashed >> 15) ^ tl.load(words + 1).to(tl.uint32)) * tl.full((), 0xD35A2D97, tl.uint32)
    return hashed >= dropped.to(tl.uint32)
