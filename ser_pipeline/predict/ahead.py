"""Recordings decoded ahead of the models, in threads, and given in their order."""

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
"""Threads at most: more wait for the interpreter, not for the audio."""

MANY, BYTES = 256, 1 << 25
"""Recordings, and bytes of their files, that are decoded ahead at most; one always is, however long."""


@dataclass(frozen=True)
class Held:
    """A recording that is decoded and kept until it is let go of."""

    recording: Opened | Unanswered
    closing: ExitStack


def decoded(source: Source, rate: int, channels: Channels) -> Held:
    """A recording, or why it cannot be read.

    Args:
        source: what is asked about.
        rate: Hz of the samples that are wanted.
        channels: which of them.
    """
    with ExitStack() as closing:
        try:
            recording = closing.enter_context(opened(source, rate, channels))
        except PipelineError as error:
            return Held(Unanswered(name_of(source), str(error)), ExitStack())
        return Held(recording, closing.pop_all())


def in_order(sources: Iterable[Source], rate: int, channels: Channels) -> Iterator[Held]:
    """Every recording, decoded by the time it is wanted; the caller closes what it gets, and this all the others.

    Args:
        sources: what is asked about.
        rate: Hz of the samples that are wanted.
        channels: which of them.
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
    """Bytes of what is decoded; 0 where they are not known."""
    if isinstance(source, str | Path):
        with suppress(OSError, ValueError):
            return Path(source).stat().st_size
        return 0
    return len(source) if isinstance(source, bytes) else source[0].nbytes
