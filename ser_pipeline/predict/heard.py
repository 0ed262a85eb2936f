"""Recordings whose sound a run's models learned from in other samples: louder, cut, resampled, coded or joined."""

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
    """A recording that holds the sound of an utterance that models learned from."""

    file: str
    utterance: str  # its id
    correlation: float  # of both waveforms where they overlap, to 1
    left_out_by: str  # the fold that tested on the utterance; "" where none did

    @property
    def note(self) -> str:
        """What it takes from the worth of an answer, in words."""
        return f"holds the sound of {self.utterance} (correlation {self.correlation:.3f}), learned from in training"


def heard_before(
    run: Path,
    files: Sequence[str],
    folds: Collection[str],
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Heard]:
    """Which of `files` hold the sound of what models of `folds` learned from, the surest pair of each.

    The run's whole corpus is decoded for it.

    Args:
        run: its folder.
        files: recordings on disk; those that cannot be read are passed over.
        folds: names, whose models are asked.
        jobs: threads that decode; all cores where None.
        progress: called with how many recordings are decoded, and of how many.

    Raises:
        PipelineError: the corpus is not where it was, or is not the one that was trained.
    """
    corpus, root = _trained(run)
    learned = read_learned(run)
    known = {one.id for one in corpus}
    unknown = sum(1 for name, where in learned.seen.items() if where & set(folds) and name not in known)
    if unknown:
        log.warning(
            "%s is of an earlier version, which does not say where %d of the utterances lie that models learned from; "
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
    """The utterances of the run's corpus, and the folder that their files are below."""
    about = read_run_file(run)
    root = Path(about.audio_root)
    if about.test_corpus or not about.audio_root:
        raise PipelineError(f"{run.name} is of several corpora; --near-copies compares with a run of one")
    if not root.is_dir():
        raise PipelineError(f"the audio of {run.name} is not in {root} any more; --near-copies compares with it")
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
