"""An ONNX graph to answers, by onnxruntime alone: neither torch nor any of its libraries is imported.

The graph hears recordings whole, of up to `LONGEST` seconds; what is longer is heard in equal parts, whose answers are
averaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.errors import PipelineError
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.front import Piece
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.shape import shaped

INPUTS = ("waveform", "samples")
"""What a graph takes: float32 (batch, length) in -1 to 1, and int64 (batch,), how many samples of each are real."""

OUTPUT = "probabilities"
"""What a graph gives: float32 (batch, classes)."""

LONGEST = 60.0
"""Seconds that a graph hears at a time; its front end takes about 3 MB a second of audio."""

TINY = 1e-30
"""Added to a probability before its logarithm."""


@dataclass(frozen=True)
class GraphFacts:
    """What the metadata of a graph say."""

    labels: tuple[str, ...]
    rate: int  # Hz
    window: float  # seconds that a model hears at a time
    longest: float | None  # seconds that its encoder takes; None: any
    folds: tuple[str, ...] = ()


@dataclass(frozen=True)
class WholeWaveforms:
    """The front end of a graph that has its own: recordings as they are, long ones in equal parts."""

    rate: int
    longest: float  # seconds

    def __call__(self, excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        """The parts of every excerpt, in order."""
        for excerpt in excerpts:
            for first, last in self.parts(len(excerpt)):
                samples = excerpt.read(first, last)
                peak = float(np.abs(samples).max(initial=0))
                yield (
                    excerpt,
                    Piece({INPUTS[0]: samples[None]}, np.array([len(samples)], np.int64), peak, last == len(excerpt)),
                )

    def parts(self, count: int) -> list[tuple[int, int]]:
        """First and last+1 sample of the equal parts of a recording of `count` samples."""
        edges = np.linspace(0, count, 1 + max(1, -(-count // round(self.longest * self.rate)))).round().astype(int)
        return list(pairwise(edges.tolist()))


@dataclass(frozen=True)
class OnnxScorer:
    """A graph as what a predictor asks, a recording at a time, as no two are of one length."""

    session: Any
    size: int = 1

    def __call__(self, rows: Mapping[str, NDArray[Any]], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-probabilities (1, S, C) of waveforms (S, N) of `samples` (S,)."""
        given = {INPUTS[0]: rows[INPUTS[0]].astype(np.float32), INPUTS[1]: np.maximum(samples, 1).astype(np.int64)}
        probabilities = self.session.run([OUTPUT], given)[0]
        return np.asarray(np.log(probabilities + TINY), np.float32)[None]


def open_session(file: Path, threads: int = 0) -> tuple[Any, GraphFacts]:
    """The session of a graph, and what its metadata say.

    Args:
        file: that `export --onnx` wrote.
        threads: on which it computes; 0: one a core.

    Raises:
        PipelineError: onnxruntime is not installed, or this is no such graph.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PipelineError("onnxruntime is not installed; install it with: pip install onnxruntime") from None
    if not file.is_file():
        raise PipelineError(f"there is no file {file}; `ser-pipeline export RUN DIR --onnx` writes one")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of no common class
        raise PipelineError(f"{file} is no ONNX graph ({str(error).splitlines()[0]}); export it again") from None
    facts = session.get_modelmeta().custom_metadata_map.get("ser-pipeline")
    if facts is None:
        raise PipelineError(f"{file} is not of ser-pipeline: its metadata say neither labels nor rate")
    try:
        found = shaped(json.loads(facts), GraphFacts)
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{file} is damaged (of its metadata, {error}); export it again") from None
    if not (found.labels and found.rate > 0 and found.window > 0 and (found.longest or 1) > 0):
        raise PipelineError(f"{file} is damaged (its metadata name no labels, rate or seconds); export it again")
    return session, found


def open_graph(file: Path | str) -> Predictor:
    """An ONNX graph as a function of recordings, without torch.

    Raises:
        PipelineError: onnxruntime is not installed, or this is no graph of `export --onnx`.
    """
    session, facts = open_session(Path(file))
    front = WholeWaveforms(facts.rate, min(LONGEST, facts.longest or LONGEST))
    return Predictor(facts.labels, facts.rate, facts.window, front, OnnxScorer(session), ("onnx",))
