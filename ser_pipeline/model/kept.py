"""The weights of a trained fold on disk: what training left as it was, as a frozen encoder, stands once for all folds.

It is a file beside the folds, named by the hash of its bytes, so that any number of processes may write it and a reader
sees whether it is whole. A fold's own file says in its metadata which one completes it; one that says nothing is whole
by itself, as earlier versions wrote it.
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
    """Write the weights of a fold from a file that holds all of them.

    Args:
        whole: the file.
        fold: folder of the fold, in that of its run.
        frozen: names of the weights that training left as they were.
    """
    if not frozen:
        whole.replace(fold / layout.WEIGHTS)
        return
    state = load_file(whole)
    name = _kept_once(fold.parent, {name: state.pop(name) for name in frozen})
    with writing(fold / layout.WEIGHTS) as temporary:
        save_file(state, temporary, metadata={FROZEN: name})


def _kept_once(run: Path, shared: dict[str, Tensor]) -> str:
    """Name of the file of a run that holds these weights, written where it is not there yet."""
    content = save(shared)
    name = layout.FROZEN.format(xxh3_128(content).hexdigest())
    if not (run / name).is_file() or file_digest(run / name) not in name:
        with writing(run / name) as temporary:
            temporary.write_bytes(content)
    return name


def shared_file(fold: Path) -> Path | None:
    """The file that completes the weights of a fold; None where they are whole by themselves.

    Raises:
        PipelineError: it has a name that none was written under.
    """
    with safe_open(fold / layout.WEIGHTS, "pt") as weights:
        name = (weights.metadata() or {}).get(FROZEN)
    if name and name != Path(name).name:
        raise PipelineError(f"its {layout.WEIGHTS} is damaged")
    return fold.parent / name if name else None


def require_shared(fold: Path) -> None:
    """Refuse a file of shared weights that is not what was written.

    Raises:
        PipelineError: it is missing, or its bytes are not those of its name.
    """
    if file := shared_file(fold):
        require_digest(file, {file.name: file.stem.rpartition("-")[2]})


def read_weights(fold: Path) -> dict[str, Tensor]:
    """All weights of a fold; they stay in their files, which are mapped into memory."""
    shared = shared_file(fold)
    return load_file(fold / layout.WEIGHTS) | (load_file(shared) if shared else {})
