"""Decoding of recordings in threads ahead of the models, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.errors import PipelineError
from ser_pipeline.predict.answers import Unanswered
from ser_pipeline.predict.recordings import Channels, Opened, Source, name_of, opened
from ser_pipeline.processes import cores

THREADS = 8
"""Largest number of threads; more of them would wait for the interpreter."""

MANY, BYTES = 256, 1 << 25
"""Largest number of recordings, and of bytes of their files, decoded ahead; at least one always is."""


@dataclass(frozen=True)
class Held:
    """A decoded recording, kept until it is closed."""

    recording: Opened | Unanswered
    closing: ExitStack


def decoded(source: Source, rate: int, channels: Channels) -> Held:
    """Decode a recording, or return why it cannot be read.

    Args:
        source: the recording.
        rate: sampling rate of the result in Hz.
        channels: the channels to decode.
    """
    with ExitStack() as closing:
        try:
            recording = closing.enter_context(opened(source, rate, channels))
        except PipelineError as error:
            return Held(Unanswered(name_of(source), str(error)), ExitStack())
        return Held(recording, closing.pop_all())


def in_order(sources: Iterable[Source], rate: int, channels: Channels) -> Iterator[Held]:
    """Yield recordings in order, decoded ahead; the caller closes each one, and the rest are closed at the end.

    Args:
        sources: the recordings.
        rate: sampling rate of the result in Hz.
        channels: the channels to decode.
    """
    if isinstance(sources, Sequence) and len(sources) == 1:
        yield decoded(sources[0], rate, channels)
        return
    waiting: deque[tuple[int, Future[Held]]] = deque()
    size = 0
    with ThreadPoolExecutor(min(THREADS, cores())) as pool:
        try:
            for source in sources:
                waiting.append((size_of(source), pool.submit(decoded, source, rate, channels)))
                size += waiting[-1][0]
                while len(waiting) > MANY or (size > BYTES and len(waiting) > 1):
                    first, one = waiting.popleft()
                    size -= first
                    yield one.result()
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, one in waiting:
                if not one.cancel():
                    one.result().closing.close()


def size_of(source: Source) -> int:
    """Return the size of a source in bytes; 0 if it is unknown."""
    if isinstance(source, str | Path):
        with suppress(OSError, ValueError):
            return Path(source).stat().st_size
        return 0
    return len(source) if isinstance(source, bytes) else source[0].nbytes
