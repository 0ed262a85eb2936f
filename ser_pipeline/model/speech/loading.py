"""Read a speech encoder's files: configuration, feature extractor, weights. No code in the files is ever run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import hub
from ser_pipeline.model.speech.frames import SPARE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The opened files of a speech encoder."""

    name: str
    """The name or folder as the user gave it."""
    folder: Path | None
    """None if only the configuration is given."""
    config: dict[str, Any]
    front: dict[str, Any]
    """The feature extractor's configuration; empty if there is none."""
    weights: bool
    """Whether the weights are read; otherwise they are random."""

    @property
    def where(self) -> str:
        """The name of the encoder in error messages."""
        return f"'{self.name}'"


def open_source(name: str, *, weights: bool, settings: Mapping[str, Any] | None, setting: str) -> Source:
    """Open the files of `name`, or use the configuration `settings` (`FrameEncoder.description`) with random weights.

    Args:
        name: name on the Hugging Face hub, or a folder with `config.json` and the weights.
        weights: whether the weights are needed.
        settings: the configuration; if given, nothing is looked up.
        setting: the setting that contains the name, for error messages.

    Raises:
        PipelineError: the files are not available or cannot be read.
    """
    if settings is not None:
        config = {key: value for key, value in settings.items() if key != "preprocessor"}
        return Source(name, None, config, dict(settings.get("preprocessor", {})), False)
    folder = hub.locate(name, weights=weights, setting=setting)
    config = _json(folder / hub.CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise PipelineError(f"{folder / hub.CONFIG} names no model_type; give a folder that transformers has written")
    if weights:
        for file in hub.weight_files(folder):
            _check_weights(file)
    return Source(name, folder, config, _front(folder), weights)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"cannot read {file}: {error}; download it again") from error
    if not isinstance(found, dict):
        raise PipelineError(f"{file} is not a table of settings; download it again")
    return found


def _front(folder: Path) -> dict[str, Any]:
    """The settings of the feature extractor in `folder`."""
    for name in hub.FRONT:
        if (folder / name).is_file():
            found = _json(folder / name)
            front = found.get("feature_extractor", found)
            return front if isinstance(front, dict) else {}
    return {}


def _check_weights(file: Path) -> None:
    """Refuse a weight file that is truncated, or a Git LFS pointer in its place."""
    with file.open("rb") as data:
        pointer = data.read(40).startswith(b"version https://git-lfs")
    if pointer:
        raise PipelineError(f"{file} is a Git LFS pointer, not the weights; fetch them with 'git lfs pull'")
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise PipelineError(
                f"cannot load the speech encoder in {file.parent}: {file.name} is damaged or truncated ({error}); "
                "download it again"
            ) from error


def read_weights(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors of the weights in `folder` whose names are `wanted`, one at a time.

    Raises:
        PipelineError: a file is damaged, or contains more than tensors.
    """
    for file in hub.weight_files(folder):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                yield from ((name, tensors.get_tensor(name)) for name in filter(wanted, tensors.keys()))
        else:
            try:
                held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:
                raise PipelineError(_unsafe(file, error)) from error
            yield from ((name, tensor) for name, tensor in held.items() if wanted(name))


def _unsafe(file: Path, error: Exception) -> str:
    return (
        f"cannot load the speech encoder in {file.parent}: {file.name} is damaged or contains objects other "
        f"than weights, which are never loaded ({first_line(error)}); use a folder with model.safetensors"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def transformers_config(source: Source) -> Any:
    """Read the configuration of `source` with transformers.

    Raises:
        PipelineError: transformers does not know the model, or would have to run code of the folder.
    """
    from transformers import AutoConfig

    kind = source.config.get("model_type")
    try:
        with _quiet():
            if source.folder is None:
                return AutoConfig.for_model(**source.config)
            return AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        log.debug("transformers' answer", exc_info=error)
        if "auto_map" in source.config:
            raise PipelineError(
                f"speech encoder {source.where} needs code of its own, which is never run: transformers has no model "
                f"type '{kind}'; choose an encoder that transformers supports"
            ) from error
        raise PipelineError(
            f"cannot load the speech encoder {source.where}: {first_line(error)} (config.json, model type '{kind}')"
        ) from error


def transformers_model(source: Source, config: Any) -> nn.Module:
    """Build transformers' model of `source`: float32, with its weights or random ones.

    Raises:
        PipelineError: the weights cannot be read, or are incomplete.
    """
    from transformers import AutoModel

    try:
        with _quiet():
            if source.folder is None or not source.weights:
                made: nn.Module = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)  # type: ignore[no-untyped-call]
                return made
            model, report = AutoModel.from_pretrained(
                str(source.folder),
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:
        log.debug("transformers' answer", exc_info=error)
        raise PipelineError(
            f"cannot load the speech encoder {source.where}: {first_line(error)}; "
            "give a folder with config.json and model.safetensors of one model, as transformers writes them"
        ) from error
    check_missing(source, report["missing_keys"])
    return model  # type: ignore[no-any-return]


def check_missing(source: Source, names: Iterable[str]) -> None:
    """Refuse weights that lack the parameters `names`, except for those that frames do not need."""
    missing = sorted(name for name in names if name not in SPARE)
    if missing:
        raise PipelineError(
            f"the weights of speech encoder {source.where} lack {len(missing)} parameters, such as {missing[0]}; "
            "give a folder or hub name of a complete model"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and reports of transformers on stderr."""
    from transformers.utils import logging as hub_logging

    level, bars = hub_logging.get_verbosity(), hub_logging.is_progress_bar_enabled()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
        if bars:
            hub_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
