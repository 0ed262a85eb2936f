"""Writing of models as an ONNX graph in a single file, its check on recordings, and its 8-bit quantisation."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import probabilities
from ser_pipeline.export import names
from ser_pipeline.export.folder import Members
from ser_pipeline.export.graph import Listener
from ser_pipeline.export.session import INPUTS, OUTPUT, TINY, WholeWaveforms, open_graph
from ser_pipeline.predict.models import is_large
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.text import plural

OPSET = 20
"""Version of ONNX's operators, from 2023; onnxruntime 1.17 and later support it."""

AGREEMENT = 1e-3
"""Largest difference of a probability that can be rounding error."""

LONGEST_LARGE = 20.0
"""Largest input of a large model's graph in seconds; a model of wav2vec 2.0's size needs about 20 MB per second."""

LARGEST = 2_000_000_000
"""Largest size in bytes of the weights of an ONNX graph."""

APART = 64_000_000
"""Size of a graph in bytes from which its weights are a separate file, which is mapped into memory and not copied."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """Agreement of an ONNX graph with the model in torch."""

    count: int  # number of recordings or noise signals
    difference: float  # largest difference of a probability for the same input
    same: int  # number of recordings with the same label
    longest: float  # largest input of the graph in seconds
    parted: float  # largest difference of a probability in torch between a long recording in parts and as a whole

    def __str__(self) -> str:
        share = f"{100 * self.same / self.count:.4g} % of {plural(self.count, 'label')} as in torch"
        return (
            f"{share}; probabilities differ by at most {self.difference:.1g}; recordings over {self.longest:g} s are "
            f"split into equal parts and averaged, so it is normal that theirs differ by up to {self.parted:.1g}"
        )


def write_graph(file: Path, members: Members, about: Mapping[str, Any]) -> None:
    """Write models as one ONNX graph from waveforms to probabilities, with any batch size and length.

    Args:
        file: the file to write.
        members: the models.
        about: contents of `config.json`.

    Raises:
        PipelineError: an input or encoder has no ONNX form, the model is too large, or onnx is not installed.
    """
    onnx, optimizer = _libraries()
    listener = Listener(members).eval()
    if sum(tensor.numel() * tensor.element_size() for tensor in listener.state_dict().values()) > LARGEST:
        raise PipelineError("an ONNX graph has at most 2 GB; export fewer folds with --fold, or without --onnx")
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            listener,
            _example(members),
            dynamo=True,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC}),
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        with tempfile.TemporaryDirectory() as room:
            program.save(str(Path(room) / file.name))
            model = optimizer.optimize(onnx.load(Path(room) / file.name))
    _name_axes(model)
    onnx.helper.set_model_props(model, {"ser-pipeline": json.dumps(_facts(members, about))})
    _save(model, file)


def _save(model: Any, file: Path) -> None:
    """Write a graph, and its weights beside it where they are large."""
    onnx, _ = _libraries()
    weights = names.graph_weights(file)
    weights.unlink(missing_ok=True)  # those of an earlier graph would stay before new ones
    if model.ByteSize() < APART:
        onnx.save(model, file)
        return
    onnx.save(model, file, save_as_external_data=True, location=weights.name)
    weights.chmod(file.stat().st_mode)


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxscript.optimizer as optimizer
    except ImportError:
        raise PipelineError(
            "onnx and onnxscript are not installed; install them with: pip install 'ser-pipeline[onnx]'"
        ) from None
    return onnx, optimizer


def _example(members: Members) -> tuple[torch.Tensor, torch.Tensor]:
    """Return waveforms of two lengths, with which the graph is traced."""
    audio = members.config.model_audio
    length = members.config.audio.rate * 5 if members.config.model.whole else audio.segment + audio.segment // 2
    samples = torch.tensor([length, length * 2 // 5])
    return torch.randn(2, length, generator=torch.Generator().manual_seed(0)).mul(0.1), samples


def _facts(members: Members, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the graph's metadata: everything else that a prediction needs."""
    config, maker = members.config, members.makers.get("statistics")
    longest = getattr(maker.encoder, "longest", None) if maker else None
    seconds = longest / config.audio.rate if longest else None
    encoders = [one.encoder for one in members.makers.values()]
    if seconds is None and any(map(is_large, [members.models[0], *encoders])):
        seconds = LONGEST_LARGE
    return {
        "labels": list(members.labels),
        "rate": config.audio.rate,
        "window": (config.audio if config.model.whole else config.model_audio).seconds,
        "longest": seconds,
        "folds": list(members.folds),
        "run": about["run"]["name"],
        "commit": about["commit"],
        "version": about["ser_pipeline_version"],
    }


def _name_axes(model: Any) -> None:
    """Name the dynamic axes batch and length."""
    waveform = next(one for one in model.graph.input if one.name == INPUTS[0])
    old = [axis.dim_param for axis in waveform.type.tensor_type.shape.dim]
    named = dict(zip(old, ("batch", "length"), strict=True))
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in named:
                axis.dim_param = named[axis.dim_param]
    del model.graph.value_info[:]


def check_graph(file: Path, members: Members, recordings: Sequence[NDArray[np.float32]]) -> Check:
    """Compare the predictions of a graph with those of the models in torch.

    A recording that the graph splits into parts is predicted in torch in the same parts, and as a whole. A recording
    of 1.5 times the graph's largest input, built from the others, is included.

    Args:
        file: the graph.
        members: the models.
        recordings: samples (N,) at the models' rate.
    """
    from ser_pipeline.predict.runs import of_members

    graph, model, rate = open_graph(file), of_members(members, torch.device("cpu")), members.config.audio.rate
    front = cast(WholeWaveforms, graph.front)
    long = np.resize(np.concatenate(recordings), round(1.5 * front.longest * rate))
    difference, same, parted = 0.0, 0, 0.0
    for number, samples in enumerate([*recordings, long]):
        found, whole = (_asked(one, samples, rate) for one in (graph, model))
        heard = [samples[slice(*part)] for part in front.parts(len(samples))]
        wanted = whole if len(heard) == 1 else np.mean([_asked(model, part, rate) for part in heard], 0)
        difference = max(difference, _apart(found, wanted))
        parted = max(parted, _apart(wanted, whole))
        same += int(number < len(recordings) and found.argmax() == whole.argmax())
    return Check(len(recordings), difference, same, front.longest, parted)


def _asked(predictor: Predictor, samples: NDArray[np.float32], rate: int) -> Floats:
    """Return the log-probabilities (C,) of a recording."""
    return np.log(np.array(list(predictor(samples, rate).probabilities.values())) + TINY)


def _apart(one: Floats, other: Floats) -> float:
    """Return the largest difference of a probability."""
    return float(np.abs(probabilities(one[None]) - probabilities(other[None])).max())


def write_int8(file: Path, source: Path) -> None:
    """Write a graph with 8-bit integer weights in matrix products; everything else stays in float32.

    Convolutions, the front end and the classifier are not quantised: they are small, and most sensitive to rounding.

    Args:
        file: the file to write.
        source: the graph in float32.
    """
    onnx, _ = _libraries()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    # The quantiser splits a Gemm into a MatMul and a sum first, and gives it another name.
    names_of = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and _stays(node)]
    kept = [
        *names_of,
        *(f"{name}_MatMul" for name in names_of),
    ]
    with _quiet():
        quantize_dynamic(
            model,
            file,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            extra_options={"MatMulConstBOnly": True},
        )
    found = onnx.load(file)
    onnx.helper.set_model_props(found, {entry.key: entry.value for entry in model.metadata_props})
    _save(found, file)


def _stays(node: Any) -> bool:
    """Whether a product stays in float32: in the front end, a classifier, or the weights of co-attention."""
    told = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "")
    front = "'front'" in told and not re.search(r"'front\.\S*encoder\.(encoder|model)", told)
    return front or ".classifier'" in told or ".attention.linear'" in told


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings and log lines of the exporter and the quantiser, which are meant for their developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root", "")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def write_graphs(
    folder: Path,
    members: Members,
    about: Mapping[str, Any],
    recordings: Sequence[NDArray[np.float32]],
    int8: bool,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Write a graph into a model folder and check it; with `int8` also one with 8-bit matrix products.

    Args:
        folder: the model folder.
        members: the models.
        about: contents of `config.json`.
        recordings: samples (N,) at the models' rate, for the check.
        int8: whether to write the 8-bit graph.
        say: called with what is done next.

    Returns:
        a line about the agreement of each graph.

    Raises:
        PipelineError: a graph cannot be written, or does not agree with torch.
    """
    file = folder / names.ONNX
    checking = f"checking it against the models on {plural(len(recordings), 'recording')}"
    say(f"writing {names.ONNX}")
    write_graph(file, members, about)
    say(checking)
    found = check_graph(file, members, recordings)
    if found.difference > AGREEMENT:
        raise PipelineError(
            f"the ONNX graph does not agree with the model: a probability differs by {found.difference:.2g}, more than "
            f"{AGREEMENT:g}; export without --onnx, and report it with the run's config.toml"
        )
    yield f"{names.ONNX}: opset {OPSET}, {_size(file)}; {found}"
    if int8:
        small = folder / names.ONNX_INT8
        say(f"writing {names.ONNX_INT8}")
        write_int8(small, file)
        say(checking)
        yield f"{names.ONNX_INT8}: {_size(small)}; {check_graph(small, members, recordings)}"


def _size(file: Path) -> str:
    return f"{names.graph_size(file) / 1e6:.1f} MB"
