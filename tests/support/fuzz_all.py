"""Every target of the fuzzers, by name."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from support.fuzz_audio import of_audio, of_ffmpeg
from support.fuzz_caches import of_caches
from support.fuzz_corpora import of_labels, of_names
from support.fuzz_targets import TARGETS

ALL: Mapping[str, Callable[[Path], Callable[[random.Random], None]]] = {
    "audio": of_audio,
    "ffmpeg": of_ffmpeg,
    **TARGETS,
    "labels": of_labels,
    "names": of_names,
    "caches": of_caches,
}
"""Name -> function of an empty folder that returns a function which feeds one malformed input."""
