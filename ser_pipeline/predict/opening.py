"""Loading of a run, model folder or ONNX graph by its path; torch is imported only if needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ser_pipeline.errors import PipelineError
from ser_pipeline.export.names import is_graph, is_model_folder
from ser_pipeline.predict.heading import finished_folds

if TYPE_CHECKING:
    from ser_pipeline.predict.predictor import Predictor


def load(run: Path | str, device: str = "auto", folds: Sequence[str] = (), precision: str = "auto") -> Predictor:
    """Load a run, a model folder or an ONNX graph that `export` wrote, as a function of recordings.

    Args:
        run: the folder, or the graph, which runs in onnxruntime on the CPU, without torch.
        device: "cuda", "mps" or "cpu"; "auto" for the first one available.
        folds: names of the folds whose models to use; by default all, averaged.
        precision: "fp32" or "bf16"; "auto" for that of training, if the device is faster in it.

    Raises:
        PipelineError: the path is none of the three, a fold is missing, or a graph is used with folds or a precision.
    """
    if is_graph(run := Path(run)):
        from ser_pipeline.export.session import open_graph

        if folds or precision != "auto":
            raise PipelineError(f"{run.name} is an ONNX graph: folds and a precision need a run or a model folder")
        return open_graph(run)
    if not is_model_folder(run):
        finished_folds(run, folds)  # before torch is imported, which takes seconds
    from ser_pipeline.device import pick_device
    from ser_pipeline.predict.runs import open_run

    return open_run(run, pick_device(device), folds, precision)
