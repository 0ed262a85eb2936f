"""Types of the JSON files in a run's folder; `shape.shaped` validates them."""

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
    """`run.json`: the description of a run, written before its first fold."""

    corpus: str
    labels: tuple[Label, ...]  # in the order of classes in all arrays
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
    audio_roots: dict[str, PathText] = field(default_factory=dict)  # by corpus, if there are several
    features_cost: dict[str, float] = field(default_factory=dict)  # seconds of extraction
    pretrained: dict[str, Any] = field(default_factory=dict)  # hashes of pre-trained weights
    rated: bool = False  # whether utterances without a class are used in training
    scale: list[float] = field(default_factory=list)  # ends of the attributes' scale, if they are the target
    utterances: int = 0  # utterances that folds could test; 0 if an earlier version wrote it
    started: str = ""  # UTC; earlier versions did not write this field and the following ones
    manifest: str = ""  # SHA-256
    encoders: dict[str, dict[str, str]] = field(default_factory=dict)  # `content` and `revision` of each


@dataclass(frozen=True)
class FoldMembers:
    """Ids of the utterances in the parts of a fold."""

    name: FileName
    train: list[str]
    validation: list[str]
    test: list[str]
    undecided: list[str] = field(default_factory=list)  # without a class, tested only against raters


@dataclass(frozen=True)
class FoldsFile:
    """`folds.json`: the training, validation and test utterances of each fold."""

    protocol: str
    selection: str
    folds: list[FoldMembers]


@dataclass(frozen=True)
class ResultFile:
    """`result.json`: the counts, epochs and time of a fold."""

    best_epoch: int
    epochs: int
    seconds: float
    counts: list[list[int]]  # (C, C)
    silent: float = 0.0
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None


@dataclass(frozen=True)
class IndexFile:
    """`index.json` of a finished run or fold."""

    versions: dict[str, str] = field(default_factory=dict)
    made: dict[str, Fact | list[Fact]] = field(default_factory=dict)  # in a run, the distinct values of its folds
    ended: str = ""  # UTC; in a run
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)  # digest of each other file by name; {} in earlier versions


def require_run(run: Path) -> None:
    """Check that a folder is a run.

    Raises:
        PipelineError: it is not; says where the names of runs come from.
    """
    if not (run / layout.RUN).is_file():
        raise PipelineError(f"{run} is not a run; `ser-pipeline train` prints the folders of runs")


def read_run_file(run: Path) -> RunFile:
    """Read the `run.json` of the run in the folder `run`.

    Raises:
        PipelineError: the folder is not a run, or its `run.json` is damaged.
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
    """Read a JSON file of a run as the type `wanted`.

    Raises:
        PipelineError: the file is missing or damaged; the message names it with its folder.
    """
    text = read_text(file)
    try:
        return shaped(json.loads(text), wanted)
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{file.parent.name}/{file.name} is damaged ({error})") from None
