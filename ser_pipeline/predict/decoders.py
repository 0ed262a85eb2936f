"""Decoding of many recordings by worker processes, which write the samples to shared memory.

Threads wait for each other in the interpreter, and a GPU predicts faster than one process can decode.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.errors import PipelineError
from ser_pipeline.predict.ahead import Held, decoded, in_order, size_of
from ser_pipeline.predict.answers import Unanswered
from ser_pipeline.predict.recordings import STDIN, Channels, InMemory, Opened, Source, Track
from ser_pipeline.processes import cores, spread

FILES = 512
"""Smallest number of recordings that take longer to decode than processes take to start."""

PROCESSES = 8
"""Largest number of processes that decode."""

CHUNK = 32
"""Number of recordings that a process decodes per task."""

SLOT = 1 << 24
"""Bytes of memory for the samples of a chunk; a recording that does not fit is decoded in this process."""

SHARED = Path("/dev/shm")
"""Folder in which Linux keeps files in memory."""


class Chunk(NamedTuple):
    """A task of a process: some recordings to decode."""

    number: int
    place: str  # file of the shared memory
    slot: int
    files: tuple[str, ...]
    rate: int
    channels: Channels


class Lying(NamedTuple):
    """A recording whose samples are in a slot of the shared memory."""

    digest: str
    notes: tuple[str, ...]
    tracks: tuple[tuple[int | None, int, int], ...]  # channel, first sample, number of samples


def held(sources: Iterable[Source], rate: int, channels: Channels, *, fast: bool) -> Iterator[Held]:
    """Yield recordings in order, decoded ahead: by processes if there are many and the models are fast, or by threads.

    Args:
        sources: the recordings.
        rate: sampling rate of the result in Hz.
        channels: the channels to decode.
        fast: whether the models predict faster than one process decodes.
    """
    processes = min(PROCESSES, cores() - 1)
    with ExitStack() as sharing:
        memory = None
        if fast and processes > 1 and _many_files(sources):
            with suppress(OSError):
                memory = sharing.enter_context(_shared(2 * processes))
        if memory is None:
            yield from in_order(sources, rate, channels)
        else:
            yield from _by_processes([str(file) for file in sources], rate, channels, processes, memory)


def _many_files(sources: Iterable[Source]) -> bool:
    if not isinstance(sources, Sequence) or len(sources) < FILES:
        return False
    return all(isinstance(source, str | Path) and str(source) != STDIN for source in sources)


def decode(chunk: Chunk) -> list[Lying | Unanswered | None]:
    """Decode the recordings of a chunk into its slot, in a worker process; None for one that does not fit."""
    memory = _mapped(chunk.place)[chunk.slot]
    found: list[Lying | Unanswered | None] = []
    used = 0
    for file in chunk.files:
        if size_of(file) > SLOT:
            found.append(None)
            continue
        with (one := decoded(file, chunk.rate, chunk.channels)).closing:
            found.append(
                one.recording if isinstance(one.recording, Unanswered) else _laid(one.recording, memory[used:])
            )
        if isinstance(last := found[-1], Lying):
            found[-1] = last._replace(tracks=tuple((track, used + first, count) for track, first, count in last.tracks))
            used += sum(count for *_, count in last.tracks)
    return found


def _laid(recording: Opened, memory: NDArray[np.float32]) -> Lying | None:
    """Write the samples of a recording to memory, one track after the other; None if they do not fit."""
    tracks, used = [], 0
    for track in recording.tracks:
        count = track.samples.count
        if used + count > len(memory):
            return None
        memory[used : used + count] = track.samples.read(0, count)
        tracks.append((track.channel, used, count))
        used += count
    return Lying(recording.digest, recording.notes, tuple(tracks))


def _by_processes(
    files: Sequence[str], rate: int, channels: Channels, processes: int, memory: tuple[str, NDArray[np.float32]]
) -> Iterator[Held]:
    """Yield the recordings in order, decoded by processes.

    Args:
        files: paths of the recordings.
        rate: sampling rate of the result in Hz.
        channels: the channels to decode.
        processes: number of processes.
        memory: file of the shared memory, and its slots.
    """
    place, slots = memory
    free, found, wanted = deque(range(len(slots))), dict[int, tuple[Chunk, Any]](), 0

    def chunks() -> Iterator[Chunk | None]:
        for number, first in enumerate(range(0, len(files), CHUNK)):
            while not free:
                yield None
            yield Chunk(number, place, free.popleft(), tuple(files[first : first + CHUNK]), rate, channels)

    try:
        for chunk, several in spread(decode, chunks(), processes):
            found[chunk.number] = chunk, several
            while wanted in found:
                done, recordings = found.pop(wanted)
                for file, one in zip(done.files, recordings, strict=True):
                    yield decoded(file, rate, channels) if one is None else _held(file, one, slots[done.slot])
                free.append(done.slot)
                wanted += 1
    except BrokenProcessPool:
        raise PipelineError("a process that decodes recordings was killed, probably because memory ran out") from None


def _held(file: str, one: Lying | Unanswered, memory: NDArray[np.float32]) -> Held:
    if isinstance(one, Unanswered):
        return Held(one, ExitStack())
    tracks = tuple(Track(InMemory(memory[first : first + count]), channel) for channel, first, count in one.tracks)
    return Held(Opened(file, one.digest, tracks, one.notes), ExitStack())


@contextmanager
def _shared(slots: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Create memory that processes share, and yield its file and its slots (slots, samples).

    Raises:
        OSError: there is not enough memory.
    """
    size = slots * SLOT
    place = next((folder for folder in (SHARED, Path(tempfile.gettempdir())) if _free(folder) > 2 * size), None)
    if place is None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.NamedTemporaryFile(dir=place, prefix="ser-pipeline-") as file:
        file.truncate(size)
        yield file.name, _slots(mmap.mmap(file.fileno(), 0))


def _free(folder: Path) -> int:
    """Return the free bytes in a folder; 0 if it does not exist."""
    return shutil.disk_usage(folder).free if folder.is_dir() else 0


@cache
def _mapped(place: str) -> NDArray[np.float32]:
    """Map the shared memory in a worker process."""
    with Path(place).open("r+b") as file:
        return _slots(mmap.mmap(file.fileno(), 0))


def _slots(memory: mmap.mmap) -> NDArray[np.float32]:
    return np.frombuffer(memory, np.float32).reshape(-1, SLOT // 4)
