"""Recordings that are modified copies of a run's training utterances: louder, cut, resampled, coded or joined."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.audit.copies import near_copies
from ser_pipeline.audit.sound import listen, read_mono
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.predict.learned import read_learned
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import read_text
from ser_pipeline.runs.shapes import read_run_file
from ser_pipeline.text import unguarded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """A recording that contains the sound of an utterance that models were trained on."""

    file: str
    utterance: str  # id of the utterance
    correlation: float  # correlation of both waveforms where they overlap, up to 1
    left_out_by: str  # the fold that tested on the utterance, or ""

    @property
    def note(self) -> str:
        """The note of an answer for this recording."""
        return f"contains the sound of {self.utterance} (correlation {self.correlation:.3f}), seen in training"


def heard_before(
    run: Path,
    files: Sequence[str],
    folds: Collection[str],
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Heard]:
    """Find the `files` that contain the sound of training utterances, with the best match of each.

    The run's whole corpus is decoded.

    Args:
        run: folder of the run.
        files: recordings on disk; unreadable ones are ignored.
        folds: names of the folds whose models are used.
        jobs: number of threads that decode; None for all cores.
        progress: called with the number of decoded recordings, and of all.

    Raises:
        PipelineError: the corpus was moved, or the run has several corpora.
    """
    corpus, root = _trained(run)
    learned = read_learned(run)
    known = {one.id for one in corpus}
    unknown = sum(1 for name, where in learned.seen.items() if where & set(folds) and name not in known)
    if unknown:
        log.warning(
            "%s is from an earlier version, which did not store the files of %d training utterances; "
            "these are not compared",
            run.name,
            unknown,
        )
    asked = [Utterance(file, str(Path(file).resolve()), "", "") for file in files]
    every = [*corpus, *asked]
    sounds = listen(every, root, jobs, progress)
    found: dict[str, Heard] = {}
    for copy in near_copies([sound.marks for sound in sounds], lambda row, part: read_mono(root, every[row], part)):
        if copy.one >= len(corpus) or copy.other < len(corpus):
            continue
        name, file = corpus[copy.one].id, files[copy.other - len(corpus)]
        if learned.seen.get(name, frozenset()) & set(folds):
            found.setdefault(file, Heard(file, name, copy.correlation, learned.tested.get(name, "")))
    return list(found.values())


def _trained(run: Path) -> tuple[list[Utterance], Path]:
    """Return the utterances of the run's corpus, and the folder that their files are relative to."""
    about = read_run_file(run)
    root = Path(about.audio_root)
    if about.test_corpus or not about.audio_root:
        raise PipelineError(f"{run.name} has several corpora; --near-copies needs a run with a single corpus")
    if not root.is_dir():
        raise PipelineError(f"the audio of {run.name} is no longer in {root}; --near-copies needs it")
    contents = _rows(run / layout.CONTENTS)
    tested = [
        row
        for fold in about.folds
        if (run / fold / layout.PREDICTIONS).is_file()
        for row in _rows(run / fold / layout.PREDICTIONS)
    ]
    files = {unguarded(row["id"]): unguarded(row["file"]) for row in (*tested, *contents) if "file" in row}
    spans = {unguarded(row["id"]): (row["start"], row["end"]) for row in contents}
    utterances = []
    for name, file in files.items():
        start, end = (float(text) if text else None for text in spans.get(name, ("", "")))
        utterances.append(Utterance(name, file, "", "", start=start, end=end))
    return utterances, root


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_text(file), newline="")))
