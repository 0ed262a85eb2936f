"""Measure audio files for a manifest: each is read once, for its hash, its length and its faults."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from ser_pipeline import audio
from ser_pipeline.cache.file_index import File, FileIndex, stamp
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Classes, Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.processes import cores
from ser_pipeline.text import plural

log = logging.getLogger(__name__)

PAST = 0.05  # seconds; utterances that end this little after their file are accepted silently, since tables round
FILES_A_TASK = 64  # files in one task of a thread


def measure(
    corpus: str,
    classes: Classes,
    utterances: Sequence[Utterance],
    root: Path,
    settings: Audio,
    *,
    memory: Path | None = None,
    skip_bad: bool = False,
    bad: Callable[[str], None] = lambda message: None,
) -> Manifest:
    """Build the manifest of `utterances` below `root`: every file is read once, for its hash and its header.

    With `memory`, files that have not changed since they were last measured are not read at all. With `skip_bad`, audio
    is decoded to its end to find faults; broken utterances are left out and reported to `bad`.

    Args:
        corpus: name of the corpus.
        classes: class -> labels that are mapped to it.
        utterances: utterances of the corpus.
        root: folder that contains their files.
        settings: sample rate, in which samples are counted, hop and segment length.
        memory: folder of all features, which remembers measured files.
        skip_bad: whether to leave broken audio out.
        bad: called with one line for each utterance that is left out.

    Raises:
        PipelineError: a missing, empty, unreadable or truncated file; or no utterance is left.
    """
    ordered = sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.id))
    files = _files(sorted({utterance.file for utterance in ordered}), root, FileIndex(root, memory), skip_bad)
    kept: list[tuple[Utterance, str, int]] = []
    for utterance in ordered:
        try:
            kept.append((utterance, *_measure(utterance, files[utterance.file], settings.rate)))
        except PipelineError as error:
            if not skip_bad:
                raise
            bad(str(error).removesuffix(audio.ADVICE))
    if not kept:
        raise PipelineError(f"no readable utterances are left below {root}")
    _tell_cut([utterance for utterance, _, _ in kept], files)
    kept_utterances, keys, samples = zip(*kept, strict=True)
    return Manifest(corpus, classes, settings, kept_utterances, keys, np.array(samples, np.int64))


def _tell_cut(utterances: Sequence[Utterance], files: Mapping[str, File | PipelineError]) -> None:
    """Warn once about utterances that end after their files do."""
    cut = []
    for utterance in utterances:
        file = files[utterance.file]
        if utterance.end is not None and isinstance(file, File):
            seconds = file.header.frames / file.header.rate
            cut += [(utterance, seconds)] if utterance.end > seconds + PAST else []
    if cut:
        utterance, seconds = cut[0]
        number = plural(len(cut), "utterance") + (" ends" if len(cut) == 1 else " end")
        which = f"{utterance.id} ends at {utterance.end:g} s, and {utterance.file} at {seconds:.2f} s"
        log.warning("%s past the end of the file and is read to it: %s", number, which)


def _files(names: Sequence[str], root: Path, seen: FileIndex, deep: bool) -> dict[str, File | PipelineError]:
    """Measure each file; a broken file's error is returned instead, so that all of them can be reported."""

    def several(part: Sequence[str]) -> list[File | PipelineError]:
        return [_file(name, root, seen, deep) for name in part]

    parts = [names[first : first + FILES_A_TASK] for first in range(0, len(names), FILES_A_TASK)]
    with ThreadPoolExecutor(cores()) as threads:
        files = dict(zip(names, chain.from_iterable(threads.map(several, parts)), strict=True))
    seen.save()
    return files


def _file(name: str, root: Path, seen: FileIndex, deep: bool) -> File | PipelineError:
    try:
        now = stamp(root / name)
        known = seen.find(name, now)
        if known is not None and (known.decoded or not deep):
            return known
        with audio.Recording(root / name, name) as recording:
            for _ in recording.blocks() if deep and not recording.sure else ():
                pass
            file, notes = File(recording.digest(), recording.header, deep), recording.notes
    except OSError as error:
        return _unreadable(root / name, error)
    except PipelineError as error:
        return error
    for note in notes:
        log.warning("%s %s", name, note)
    if not notes:  # files with notes are measured again, so that the notes are repeated
        seen.add(name, now, file)
    return file


def _measure(utterance: Utterance, file: File | PipelineError, rate: int) -> tuple[str, int]:
    """Key and number of samples of an utterance."""
    if isinstance(file, PipelineError):
        raise file
    _, _, samples = audio.span(file.header, rate, utterance.start, utterance.end)
    if samples == 0:
        seconds = file.header.frames / file.header.rate
        stretch = f"from {utterance.start or 0:g} to {utterance.end or seconds:g} s"
        raise PipelineError(f"{utterance.file} has no samples {stretch}: it is {seconds:.2f} s long")
    return content_key(file.digest, utterance), samples


def content_key(digest: str, utterance: Utterance) -> str:
    """Hash an audio file's `digest` and the utterance's stretch, on which its features depend, to 32 hex digits."""
    if (utterance.start, utterance.end) == (None, None):
        return digest[:32]
    return hashlib.sha256(f"{digest}:{utterance.start}:{utterance.end}".encode()).hexdigest()[:32]


def opened(root: Path, name: str) -> audio.Recording:
    """Open the audio file `name` below `root`."""
    try:
        return audio.Recording(root / name, name)
    except OSError as error:
        raise _unreadable(root / name, error) from None


def _unreadable(file: Path, error: OSError) -> PipelineError:
    return PipelineError(f"cannot read {file}: {error.strerror}")
