"""What answers for recordings, opened by its name; torch is imported for what needs it alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ser_pipeline.errors import PipelineError
from ser_pipeline.export.names import is_graph

if TYPE_CHECKING:
    from ser_pipeline.predict.predictor import Predictor


def load(run: Path | str, device: str = "auto", folds: Sequence[str] = (), precision: str = "auto") -> Predictor:
    """A run, a model folder or an ONNX graph that `export` wrote, as a function of recordings.

    Args:
        run: the folder, or the graph, which onnxruntime computes on the processor, without torch.
        device: "cuda", "mps", "cpu"; "auto" takes what is there.
        folds: ask the models of these folds alone; by default all, averaged.
        precision: "fp32", "bf16"; "auto" is that of training, as far as the device is faster in it.

    Raises:
        PipelineError: none of the three, no such finished fold, or a graph with folds or a precision.
    """
    if is_graph(run := Path(run)):
        from ser_pipeline.export.session import open_graph

        if folds or precision != "auto":
            raise PipelineError(f"{run.name} is one graph: folds and a precision are for runs and model folders")
        return open_graph(run)
    from ser_pipeline.device import pick_device
    from ser_pipeline.predict.runs import open_run

    return open_run(run, pick_device(device), folds, precision)
