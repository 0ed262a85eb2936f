"""Whether a run's folds keep test data apart from training data, by its own folds.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import Run, UtteranceTable
from ser_pipeline.runs.shapes import FoldMembers, FoldsFile
from ser_pipeline.shape import shaped
from ser_pipeline.splits.protocols import SHARED


@dataclass(frozen=True)
class LeakCheck:
    """Checks runs; folds that several runs share are checked only once."""

    roll: UtteranceTable
    seen: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def faults(self, run: Run) -> tuple[str, ...]:
        """The problems with the folds of `run`, a sentence each.

        Raises:
            PipelineError: folds.json is missing or damaged.
        """
        data = _read(run)
        tested = hashlib.sha256("\n".join(str(sorted(fold.rows.tolist())) for fold in run.folds).encode()).hexdigest()
        key = (hashlib.sha256(data).hexdigest(), tested, run.header.selection, run.header.protocol)
        if key not in self.seen:
            self.seen[key] = tuple(self._faults(run, _folds(data)))
        return self.seen[key]

    def _faults(self, run: Run, folds: dict[str, FoldMembers]) -> Iterator[str]:
        ids = self.roll.ids
        speakers = dict(zip(ids, self.roll.column("speaker").tolist(), strict=True))
        for fold in run.folds:
            if fold.name not in folds:
                yield f"folds.json has no fold {fold.name}"
                continue
            parts = {part: set(getattr(folds[fold.name], part)) for part in ("train", "validation", "test")}
            if parts["test"] != {ids[row] for row in fold.rows}:
                yield f"fold {fold.name} was tested on other utterances than in its folds.json"
            learnt = parts["train"] | (set() if run.header.on_test else parts["validation"])
            common = len(learnt & parts["test"])
            if common:
                yield f"fold {fold.name} trains on {common} of its test utterances"
            shared = {speakers[name] for name in learnt if name in speakers}
            shared &= {speakers[name] for name in parts["test"] if name in speakers}
            apart = run.header.protocol != SHARED and not run.header.test_corpus
            if shared and not common and apart:
                yield f"fold {fold.name} trains and tests on the same speaker: {', '.join(sorted(shared))}"


def trained_alike(one: Run, other: Run) -> bool:
    """Whether two runs train on the same utterances in all their common folds, by their own folds.json.

    Raises:
        PipelineError: a folds.json is missing or damaged.
    """
    first, second = (_folds(_read(run)) for run in (one, other))
    return all(set(first[name].train) == set(second[name].train) for name in first.keys() & second.keys())


def _read(run: Run) -> bytes:
    try:
        return (run.header.path / layout.FOLDS).read_bytes()
    except OSError as error:
        raise PipelineError(f"cannot read its folds.json: {error.strerror}") from None


def _folds(data: bytes) -> dict[str, FoldMembers]:
    try:
        return {fold.name: fold for fold in shaped(json.loads(data), FoldsFile).folds}
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"its folds.json is damaged ({error})") from None
