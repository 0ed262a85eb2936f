"""Manual fuzzing guided by coverage: `python -m tests.fuzz.guided TARGET [OPTION…]`.

Needs `pip install atheris`. A target draws its choices from the bytes that libFuzzer changes; for `recordings`, these
bytes are the file itself. Every input must be accepted or refused with a one-line error, within 5 seconds and 1 GB of
additional memory. `-max_total_time=600` ends the run after ten minutes. A fault's file, given after the options, is
fed again.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

COMPILED = ["ser_pipeline.features.fourier", "ser_pipeline.features.lanes"]
"""Modules with functions that numba compiles, which must not be instrumented."""

with atheris.instrument_imports(include=["ser_pipeline"], exclude=COMPILED):
    from ser_pipeline import audio
    from support.fuzz_all import ALL
    from support.fuzz_audio import written
    from support.fuzz_limits import SECONDS, limit_memory
    from support.fuzz_targets import Drawn, one_line


def main() -> None:
    """Feed one target until libFuzzer ends the process."""
    _, name, *options = sys.argv
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        feed = _recordings(seeds) if name == "recordings" else _drawn(name, Path(folder), seeds)
        feed(b"")  # loads what the others use
        limit_memory()
        atheris.Setup([sys.argv[0], f"-timeout={SECONDS}", "-rss_limit_mb=0", *options, str(seeds)], feed)
        atheris.Fuzz()


def _drawn(name: str, folder: Path, seeds: Path) -> Callable[[bytes], None]:
    """Return a function that feeds a target of all fuzzers, which draws its choices from the given bytes.

    Args:
        name: name of the target.
        folder: working folder.
        seeds: folder to which libFuzzer's first inputs are written.
    """
    place = folder / name
    place.mkdir()
    for number in range(32):
        (seeds / str(number)).write_bytes(random.Random(number).randbytes(400))
    one = ALL[name](place)
    return lambda data: one_line(one, Drawn(data)) and None


def _recordings(seeds: Path) -> Callable[[bytes], None]:
    """Return a function that feeds recordings; libFuzzer's first inputs are written to `seeds`."""
    for number, (kind, data) in enumerate(written()):
        (seeds / f"{number:03}.{kind}").write_bytes(data)

    def feed(data: bytes) -> None:
        one_line(lambda _: audio.decode(data, "strange", 16_000), Drawn(b""))

    return feed


if __name__ == "__main__":
    main()
