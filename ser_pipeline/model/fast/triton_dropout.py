"""Dropout in Triton kernels: masks that are never stored.

A hash of two random words and of an element's number says whether it is kept, forward and backward, at a fraction of
the cost of a counter-based generator.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

SHARES = 2.0**32  # a share of elements that is dropped is rounded to one in so many


@dataclass(frozen=True)
class Dropped:
    """How a share of elements is dropped: of the 2 ** 32 values of a hash so many, and what the others grow by."""

    count: int
    larger: float

    @staticmethod
    def share(dropout: float) -> Dropped:
        """To drop a share, 0 to 1."""
        return Dropped(min(int(dropout * SHARES), 2**32 - 1), 1 / (1 - dropout) if dropout < 1 else 0.0)


@triton.jit
def keeps(words, number, dropped):
    """Whether the elements of those numbers are kept: a multiplicative hash of the number and both words.

    Args:
        words: pointer to two random int32.
        number: of the elements, uint32.
        dropped: `Dropped.count`.
    """
    hashed = number * tl.full((), 0x9E3779B9, tl.uint32) + tl.load(words).to(tl.uint32)
    hashed = (hashed ^ (hashed >> 16)) * tl.full((), 0x21F0AAAD, tl.uint32)
    hashed = (hashed ^ (hashed >> 15) ^ tl.load(words + 1).to(tl.uint32)) * tl.full((), 0xD35A2D97, tl.uint32)
    return hashed >= dropped.to(tl.uint32)
