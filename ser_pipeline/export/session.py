"""Prediction with an ONNX graph by onnxruntime, without importing torch or its libraries.

The graph takes whole recordings of up to `LONGEST` seconds. Longer ones are split into equal parts, whose predictions
are averaged.
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
from ser_pipeline.export.names import graph_weights
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.front import Piece
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.shape import shaped

INPUTS = ("waveform", "samples")
"""Inputs of a graph: float32 (batch, length), -1 to 1, and the numbers of samples without padding, int64 (batch,)."""

OUTPUT = "probabilities"
"""Output of a graph: float32 (batch, classes)."""

LONGEST = 60.0
"""Largest input of a graph in seconds; its front end needs about 3 MB per second of audio."""

TINY = 1e-30
"""Added to a probability before its logarithm."""


@dataclass(frozen=True)
class GraphFacts:
    """The metadata of a graph."""

    labels: tuple[str, ...]
    rate: int  # Hz
    window: float  # length of the model's segment in seconds
    longest: float | None  # largest input of its encoder in seconds; None for any
    folds: tuple[str, ...] = ()


@dataclass(frozen=True)
class WholeWaveforms:
    """Front end of a graph, which contains its own: passes recordings on, long ones in equal parts."""

    rate: int
    longest: float  # seconds

    def __call__(self, excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        """Yield the parts of every excerpt in order."""
        for excerpt in excerpts:
            for first, last in self.parts(len(excerpt)):
                samples = excerpt.read(first, last)
                peak = float(np.abs(samples).max(initial=0))
                yield (
                    excerpt,
                    Piece({INPUTS[0]: samples[None]}, np.array([len(samples)], np.int64), peak, last == len(excerpt)),
                )

    def parts(self, count: int) -> list[tuple[int, int]]:
        """Return the first and last (exclusive) samples of the equal parts of a recording with `count` samples."""
        edges = np.linspace(0, count, 1 + max(1, -(-count // round(self.longest * self.rate)))).round().astype(int)
        return list(pairwise(edges.tolist()))


@dataclass(frozen=True)
class OnnxScorer:
    """A graph as a scorer of one recording at a time, since recordings differ in length."""

    session: Any
    size: int = 1

    def __call__(self, rows: Mapping[str, NDArray[Any]], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the log-probabilities (1, S, C) of waveforms (S, N) with `samples` (S,) samples."""
        given = {INPUTS[0]: rows[INPUTS[0]].astype(np.float32), INPUTS[1]: np.maximum(samples, 1).astype(np.int64)}
        probabilities = self.session.run([OUTPUT], given)[0]
        return np.asarray(np.log(probabilities + TINY), np.float32)[None]


def open_session(file: Path, threads: int = 0) -> tuple[Any, GraphFacts]:
    """Open a graph, and return its session and metadata.

    Args:
        file: a graph that `export --onnx` wrote.
        threads: number of threads; 0 for one per core.

    Raises:
        PipelineError: onnxruntime is not installed, or the file is not such a graph.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PipelineError("onnxruntime is not installed; install it with: pip install onnxruntime") from None
    if not file.is_file():
        raise PipelineError(f"there is no file {file}; write one with `ser-pipeline export RUN DIR --onnx`")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        weights = graph_weights(file)
        if weights.name in str(error) and not weights.is_file():
            raise PipelineError(f"{file} needs its weights, {weights.name}, beside it; copy both files") from None
        raise PipelineError(f"{file} is not an ONNX graph ({str(error).splitlines()[0]}); export it again") from None
    facts = session.get_modelmeta().custom_metadata_map.get("ser-pipeline")
    if facts is None:
        raise PipelineError(f"{file} is not from ser-pipeline: its metadata lack the labels and the rate")
    try:
        found = shaped(json.loads(facts), GraphFacts)
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{file} is damaged (metadata: {error}); export it again") from None
    if not (found.labels and found.rate > 0 and found.window > 0 and (found.longest or 1) > 0):
        raise PipelineError(f"{file} is damaged (its metadata lack labels, rate or lengths); export it again")
    return session, found


def open_graph(file: Path | str) -> Predictor:
    """Load an ONNX graph as a function of recordings, without torch.

    Raises:
        PipelineError: onnxruntime is not installed, or the file is not a graph that `export --onnx` wrote.
    """
    session, facts = open_session(Path(file))
    front = WholeWaveforms(facts.rate, min(LONGEST, facts.longest or LONGEST))
    return Predictor(facts.labels, facts.rate, facts.window, front, OnnxScorer(session), ("onnx",))
