"""The weights of a trained fold on disk; weights that training did not change are stored once for all folds.

Unchanged weights, such as those of a frozen encoder, are in a file next to the folds, named by the hash of its bytes.
Any number of processes may therefore write it, and a reader can check it. The metadata of a fold's own file name the
file that completes it. Without such an entry the fold's file is complete, as in earlier versions.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from xxhash import xxh3_128

from ser_pipeline.entry import file_digest, require_digest, writing
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout

FROZEN = "frozen"
"""Metadata entry of a fold's weights: the name of the file that completes them."""


def keep_weights(whole: Path, fold: Path, frozen: Collection[str]) -> None:
    """Write the weights of a fold from a file with all of them.

    Args:
        whole: the file with all weights.
        fold: folder of the fold, in the folder of its run.
        frozen: names of the weights that training did not change.
    """
    if not frozen:
        whole.replace(fold / layout.WEIGHTS)
        return
    state = load_file(whole)
    name = _kept_once(fold.parent, {name: state.pop(name) for name in frozen})
    with writing(fold / layout.WEIGHTS) as temporary:
        save_file(state, temporary, metadata={FROZEN: name})


def _kept_once(run: Path, shared: dict[str, Tensor]) -> str:
    """Name of the run's file with these weights, which is written if it is missing or damaged."""
    content = save(shared)
    name = layout.FROZEN.format(xxh3_128(content).hexdigest())
    if not (run / name).is_file() or file_digest(run / name) not in name:
        with writing(run / name) as temporary:
            temporary.write_bytes(content)
    return name


def shared_file(fold: Path) -> Path | None:
    """The file that completes the weights of a fold; None if the fold's own file is complete.

    Raises:
        PipelineError: the metadata contain an invalid name.
    """
    with safe_open(fold / layout.WEIGHTS, "pt") as weights:
        name = (weights.metadata() or {}).get(FROZEN)
    if name and name != Path(name).name:
        raise PipelineError(f"its {layout.WEIGHTS} is damaged")
    return fold.parent / name if name else None


def require_shared(fold: Path) -> None:
    """Refuse a damaged file of shared weights.

    Raises:
        PipelineError: the file is missing, or its hash differs from its name.
    """
    if file := shared_file(fold):
        require_digest(file, {file.name: file.stem.rpartition("-")[2]})


def read_weights(fold: Path) -> dict[str, Tensor]:
    """All weights of a fold; they stay in their files, which are memory-mapped."""
    shared = shared_file(fold)
    return load_file(fold / layout.WEIGHTS) | (load_file(shared) if shared else {})
