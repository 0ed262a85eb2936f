"""Recognition of recordings that a run's models were trained on, by the content of their files."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import read_text
from ser_pipeline.runs.shapes import FoldsFile, read_shape
from ser_pipeline.text import unguarded

PARTS = ("train", "validation")
"""Parts of a fold that its model was trained on, or that chose its epoch."""


@dataclass(frozen=True)
class Learned:
    """The utterances of a run's corpus, and the folds that trained or tested on them."""

    keys: Mapping[str, tuple[str, ...]]  # ids by the hash of their content, as in the manifest
    spans: tuple[tuple[str, str], ...] = ()  # start and end of utterances that are parts of a file, as text
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)  # folds whose model was trained on it, by id
    tested: Mapping[str, str] = field(default_factory=dict)  # fold that tested on it, by id
    kept: bool = True  # False for a run of an earlier version without a list of its utterances

    def folds(self, digest: str, asked: Iterable[str]) -> tuple[frozenset[str], str]:
        """Return which `asked` folds trained on a file with this SHA-256, and a fold that tested on it, or ""."""
        ids = [name for key in self._keys(digest) for name in self.keys.get(key, ())] if digest else []
        seen = frozenset(fold for name in ids for fold in self.seen.get(name, ()))
        tested = [self.tested[name] for name in ids if name in self.tested]
        return seen & frozenset(asked), next((fold for fold in tested if fold not in seen), "")

    def _keys(self, digest: str) -> list[str]:
        """Return the keys that utterances of such a file would have, as computed by `features.measure.content_key`."""
        parts = (f"{digest}:{start}:{end}".encode() for start, end in self.spans)
        return [digest[:32], *(hashlib.sha256(text).hexdigest()[:32] for text in parts)]


def read_learned(run: Path) -> Learned:
    """Read the utterances of a run; runs of an earlier version have no list of them."""
    if not (run / layout.CONTENTS).exists():
        return Learned({}, kept=False)
    keys: dict[str, tuple[str, ...]] = {}
    spans: dict[tuple[str, str], None] = {}
    for row in _contents(run / layout.CONTENTS):
        keys[row["key"]] = (*keys.get(row["key"], ()), unguarded(row["id"]))
        if row["start"] or row["end"]:
            spans[row["start"] or "None", row["end"] or "None"] = None
    seen: dict[str, set[str]] = {}
    tested: dict[str, str] = {}
    for fold in read_shape(run / layout.FOLDS, FoldsFile).folds:
        for name in (name for part in PARTS for name in getattr(fold, part)):
            seen.setdefault(name, set()).add(fold.name)
        tested |= dict.fromkeys((*fold.test, *fold.undecided), fold.name)
    return Learned(keys, tuple(spans), {name: frozenset(folds) for name, folds in seen.items()}, tested)


def _contents(file: Path) -> list[dict[str, str]]:
    """Read a run's list of utterances.

    Raises:
        PipelineError: the file is damaged.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(file), newline="")))
        return [{name: row[name] + "" for name in ("key", "id", "start", "end")} for row in rows]
    except (csv.Error, KeyError, TypeError):
        raise PipelineError(f"{file} is damaged: it lacks a column, or part of a line") from None
