"""Malformed input is accepted, or refused with one line. `$SER_PIPELINE_FUZZ` sets the inputs for each target."""

import mmap
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as some

from support.fuzz_all import ALL
from support.fuzz_limits import BYTES, TooLongError, bounded_memory, bounded_time
from support.fuzz_targets import Drawn, one_line

COUNT = int(os.environ.get("SER_PIPELINE_FUZZ", "0"))
FEW = 60
"""Default number of inputs for each target: always the same ones."""


@pytest.mark.parametrize("name", ALL)
def test_strange_input_is_taken_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    feed = ALL[name](tmp_path)
    one_line(feed, random.Random(0))  # loads what the others use

    @trials(
        max_examples=COUNT or FEW,
        derandomize=not COUNT,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(some.randoms(use_true_random=False))
    def fed(rng: random.Random) -> None:
        with bounded_time():
            one_line(feed, rng)

    with bounded_memory():
        fed()


def test_bytes_stand_for_draws_and_zeros_for_what_they_lack() -> None:
    assert [Drawn(bytes([value])).choice("abcd") for value in (0, 32, 64, 96)] == ["a", "b", "c", "d"]
    assert Drawn(b"").sample(range(9), 9) == Drawn(b"").sample(range(9), 9)
    assert Drawn(b"\xff" * 7).random() < 1


def test_the_limits_of_an_input_hold() -> None:
    with pytest.raises(TooLongError), bounded_time():
        while True:
            sum(range(1_000))
    mmap.mmap(-1, 2 * BYTES).close()
    with pytest.raises((MemoryError, OSError)), bounded_memory():
        mmap.mmap(-1, 2 * BYTES)  # freed memory of the process could provide a few bytes
    assert bytearray(8)
