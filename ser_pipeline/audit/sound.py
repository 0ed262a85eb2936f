"""Listening to a corpus: what each utterance's audio is like, decoded in parallel."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ser_pipeline import audio
from ser_pipeline.audit.copies import UNMARKED, Landmarks, landmarks
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError

FULL = 0.999  # of full scale: a sample there is at the converter's limit
RUN = 3  # samples at the limit in a row, from which on they are clipping and not a peak
FRAME = 0.02  # s
SILENT = 40.0  # dB below the utterance's loudest frame


@dataclass(frozen=True)
class Sound:
    """What an utterance's audio is like."""

    seconds: float = 0.0
    rate: int = 0  # Hz
    channels: int = 0
    peak: float = 0.0  # largest magnitude, 1 is full scale
    clipped: float = 0.0  # share of samples in runs at full scale
    silent: float = 0.0  # share of frames that are silent against the loudest one
    digest: str = ""  # of rate and decoded samples; "" where they are all zero, or broken
    marks: Landmarks = field(default=UNMARKED, compare=False, repr=False)  # none where it is broken
    fault: str = ""  # "missing", "truncated", "unreadable", "not-finite", or ""
    detail: str = ""  # of the fault, in words


def listen(
    utterances: Sequence[Utterance],
    folder: Path,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sound]:
    """The sound of every utterance, in order.

    Args:
        utterances: their files are below `folder`.
        folder: the corpus's.
        jobs: threads; all cores where None.
        progress: called with how many are done, and of how many.
    """
    work = Parallel(n_jobs=jobs or -1, prefer="threads", batch_size=8, return_as="generator")
    sounds = []
    for sound in work(delayed(listen_to)(folder, utterance) for utterance in utterances):
        sounds.append(sound)
        if progress:
            progress(len(sounds), len(utterances))
    return sounds


def listen_to(folder: Path, utterance: Utterance) -> Sound:
    """The sound of one utterance; a fault is told, never raised."""
    try:
        samples, rate, wanted = _decode(folder, utterance)
    except OSError as error:
        return Sound(fault="missing", detail=f"{utterance.file}: {error.strerror}")
    except (PipelineError, soundfile.LibsndfileError, ValueError) as error:
        return Sound(fault="truncated" if "truncated" in str(error) else "unreadable", detail=str(error))
    if len(samples) < wanted or not len(samples):
        return Sound(fault="truncated", detail=f"{utterance.file}: {len(samples)} of {wanted} samples are there")
    if not np.isfinite(samples).all():
        return Sound(fault="not-finite", detail=f"{utterance.file} holds NaN or infinite samples")
    return _describe(samples, rate)


def read_mono(folder: Path, utterance: Utterance) -> tuple[NDArray[np.float32], int]:
    """Samples (samples,), the mean of the channels, and rate in Hz of an utterance that `listen_to` found whole."""
    samples, rate, _ = _decode(folder, utterance)
    return samples.mean(axis=1, dtype=np.float32), rate


def _decode(folder: Path, utterance: Utterance) -> tuple[NDArray[np.float32], int, int]:
    """Samples (samples, channels), rate in Hz, and how many samples there should be."""
    data = (folder / utterance.file).read_bytes()
    head = audio.header(data, utterance.file)
    first, last, _ = audio.span(head, head.rate, utterance.start, utterance.end)
    samples, _ = soundfile.read(io.BytesIO(data), start=first, stop=last, dtype="float32", always_2d=True)
    return samples, head.rate, last - first


def _describe(samples: NDArray[np.float32], rate: int) -> Sound:
    loudest = np.abs(samples).max(axis=1)
    mono = samples.mean(axis=1, dtype=np.float32)
    digest = hashlib.sha256(rate.to_bytes(4, "little") + mono.tobytes()).hexdigest() if mono.any() else ""
    return Sound(
        seconds=len(samples) / rate,
        rate=rate,
        channels=samples.shape[1],
        peak=float(loudest.max()),
        clipped=_clipped(loudest),
        silent=_silent(mono, rate),
        digest=digest,
        marks=landmarks(mono, rate),
    )


def _clipped(loudest: NDArray[np.float32]) -> float:
    """Share of samples in runs of at least `RUN` at full scale.

    >>> _clipped(np.array([0, 1, 1, 1, 1, 0, 1, 0], np.float32))
    0.5
    """
    full = np.concatenate([[False], loudest >= FULL, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(full))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= RUN].sum() / len(loudest))


def _silent(mono: NDArray[np.float32], rate: int) -> float:
    """Share of whole frames whose power lies `SILENT` dB or more below the loudest one's."""
    length = max(1, round(FRAME * rate))
    frames = mono[: max(1, len(mono) // length) * length].reshape(-1, min(length, len(mono)))
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return float((power <= power.max() * 10 ** (-SILENT / 10)).mean())


QUIET = 0.001  # peak: -60 dB of full scale
