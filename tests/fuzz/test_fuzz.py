"""Strange input is taken, or refused in one line. `$SER_PIPELINE_FUZZ` sets how many inputs a target is fed."""

import os
from pathlib import Path

import pytest

from support.fuzz_all import ALL
from support.fuzz_targets import one_line

COUNT = int(os.environ.get("SER_PIPELINE_FUZZ", "60"))


@pytest.mark.parametrize("name", ALL)
def test_strange_input_is_taken_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    feed = ALL[name](tmp_path)
    for seed in range(COUNT):
        one_line(feed, seed)
