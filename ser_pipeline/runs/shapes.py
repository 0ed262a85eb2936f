"""What each JSON file of a run's folder holds, as types that `shape.shaped` makes, or says what is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import FileName
from ser_pipeline.provenance import Fact
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import read_text
from ser_pipeline.shape import PathText, Spelled, shaped
from ser_pipeline.text import few

T = TypeVar("T")

Label = Annotated[str, Spelled(re.compile(r"[^\x00-\x1f]+").fullmatch, "the name of a class")]


@dataclass(frozen=True)
class RunFile:
    """`run.json`: what a run says of itself before its first fold."""

    corpus: str
    labels: tuple[Label, ...]  # in the order of all arrays
    protocol: str
    selection: str
    ablation: str
    seed: int
    preset: str
    features: str
    folds: tuple[FileName, ...]
    synthetic: bool
    title: str = ""
    device: str = ""
    precision: str = ""
    test_corpus: str = ""
    audio_root: PathText = ""
    audio_roots: dict[str, PathText] = field(default_factory=dict)  # of corpora that are trained together, by name
    features_cost: dict[str, float] = field(default_factory=dict)  # seconds that the features took
    pretrained: dict[str, Any] = field(default_factory=dict)  # hashes of pre-trained weights
    rated: bool = False  # whether utterances of no class train
    scale: list[float] = field(default_factory=list)  # ends of that of attributes, where they are the target
    utterances: int = 0  # of the corpus; 0: of an earlier version
    started: str = ""  # UTC; earlier versions did not say it, nor what follows
    manifest: str = ""  # SHA-256
    encoders: dict[str, dict[str, str]] = field(default_factory=dict)  # `content` and `revision` of each


@dataclass(frozen=True)
class FoldMembers:
    """The ids of the parts of a fold."""

    name: FileName
    train: list[str]
    validation: list[str]
    test: list[str]
    undecided: list[str] = field(default_factory=list)  # of no class, tested against raters alone


@dataclass(frozen=True)
class FoldsFile:
    """`folds.json`: who trains, validates and tests."""

    protocol: str
    selection: str
    folds: list[FoldMembers]


@dataclass(frozen=True)
class ResultFile:
    """`result.json`: counts of a fold, and its course."""

    best_epoch: int
    epochs: int
    seconds: float
    counts: list[list[int]]  # (C, C)
    silent: float = 0.0
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None


@dataclass(frozen=True)
class IndexFile:
    """`index.json` of a whole run or fold."""

    versions: dict[str, str] = field(default_factory=dict)
    made: dict[str, Fact | list[Fact]] = field(default_factory=dict)  # of a run: the distinct values of its folds
    ended: str = ""  # UTC; of a run
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)  # name -> digest of each file beside it; earlier versions: none


def read_run_file(run: Path) -> RunFile:
    """What the run in the folder `run` says of itself.

    Raises:
        PipelineError: it is no run, or its `run.json` is damaged.
    """
    file = run / layout.RUN
    if not file.is_file():
        raise PipelineError("it has no run.json, so it is not a run")
    said = read_shape(file, RunFile)
    for what, names in (("class", said.labels), ("fold", said.folds)):
        if not names or len(set(names)) < len(names):
            raise PipelineError(
                f"{layout.RUN} is damaged (it must name each {what} once, and has {few(names) or 'none'})"
            )
    return said


def read_shape(file: Path, wanted: type[T]) -> T:
    """A JSON file of a run as the type `wanted`.

    Raises:
        PipelineError: it is missing or damaged; named with its folder.
    """
    text = read_text(file)
    try:
        return shaped(json.loads(text), wanted)
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{file.parent.name}/{file.name} is damaged ({error})") from None
