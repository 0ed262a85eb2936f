"""Fuzzing by hand that follows which lines an input reaches: `python -m tests.fuzz.guided TARGET [OPTION…]`.

Needs `pip install atheris`. Draws of a target are the bytes that libFuzzer changes; those of `recordings` are the file
itself. No input may end in anything but the one line, take more than 5 seconds, or need more than 1 GB beyond what was
there before it. `-max_total_time=600` ends it after ten minutes, and the file of a fault, named after the options,
feeds it again.
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
"""Modules whose functions numba compiles, which must be as they are."""

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
        feed(b"")  # which loads what the others use
        limit_memory()
        atheris.Setup([sys.argv[0], f"-timeout={SECONDS}", "-rss_limit_mb=0", *options, str(seeds)], feed)
        atheris.Fuzz()


def _drawn(name: str, folder: Path, seeds: Path) -> Callable[[bytes], None]:
    """A target of all fuzzers, whose draws the bytes are.

    Args:
        name: of the target.
        folder: to work in.
        seeds: what libFuzzer begins with is written there.
    """
    place = folder / name
    place.mkdir()
    for number in range(32):
        (seeds / str(number)).write_bytes(random.Random(number).randbytes(400))
    one = ALL[name](place)
    return lambda data: one_line(one, Drawn(data)) and None


def _recordings(seeds: Path) -> Callable[[bytes], None]:
    """Recordings; what libFuzzer begins with is written to `seeds`."""
    for number, (kind, data) in enumerate(written()):
        (seeds / f"{number:03}.{kind}").write_bytes(data)

    def feed(data: bytes) -> None:
        one_line(lambda _: audio.decode(data, "strange", 16_000), Drawn(b""))

    return feed


if __name__ == "__main__":
    main()
