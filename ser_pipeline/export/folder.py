"""Reading and writing of a model folder's weights, without a run or a corpus.

Weights that all models share, such as those of a frozen encoder, are stored once with the prefix `shared.`. Those of
an encoder that computes a stored feature have the prefix `made.FEATURE.`, and all others `members.NUMBER.`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ser_pipeline import config
from ser_pipeline.config import Config
from ser_pipeline.device import free_memory
from ser_pipeline.errors import PipelineError
from ser_pipeline.export import names
from ser_pipeline.features.frozen import MAKERS, Maker
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.speech import KeptEncoder
from ser_pipeline.model.undrawn import Undrawn
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.objective import outputs_of


@dataclass(frozen=True)
class Members:
    """The models of a folder, whose log-probabilities are averaged."""

    labels: tuple[str, ...]  # the classes; () if only attributes are predicted
    config: Config
    folds: tuple[str, ...]
    models: tuple[SpeechEmotionModel, ...]
    makers: Mapping[str, Maker]  # frozen encoders, by the feature that they compute
    scale: tuple[float, ...] = ()  # ends of the attributes' scale; () without attributes

    @property
    def outputs(self) -> int:
        """Number of outputs of a model: one per class, and one per attribute."""
        return outputs_of(self.config.train.target, len(self.labels))


def fetched(name: str, **options: Any) -> Path:
    """Return a model folder: `name` itself, or a repository of the hub, downloaded if it is not in the local cache.

    Args:
        name: the folder, or a name on the hub.
        options: options of `huggingface_hub.snapshot_download`.

    Raises:
        PipelineError: it is not a model folder.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, **options))
    if not names.is_model_folder(folder):
        raise PipelineError(f"{name} is not a model folder; write one with `ser-pipeline export RUN DIR`")
    return folder


def read_members(folder: Path, device: torch.device) -> Members:
    """Load the models of a folder in evaluation mode, without the hub, the run or the corpus.

    Args:
        folder: a folder that `export` wrote.
        device: device of the models.

    Raises:
        PipelineError: a file is missing or damaged.
    """
    about = names.read_about(folder)
    try:
        state = load_file(folder / names.WEIGHTS, str(device))
        settings = config.merge(Config(), about.settings)
        models = tuple(
            _member(
                settings,
                outputs_of(settings.train.target, len(about.labels)),
                about.encoders.get("model"),
                _of(state, names.SHARED, f"{names.MEMBERS}{number}."),
            )
            for number in range(len(about.folds))
        )
        makers = {
            name: MAKERS[name](settings, device, KeptEncoder(kept, _of(state, f"{names.MADE}{name}.")))
            for name, kept in about.encoders.items()
            if name in MAKERS
        }
    except PipelineError as error:
        raise PipelineError(f"{folder / names.ABOUT}: {error}") from error
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise PipelineError(f"{folder} is not a complete model folder ({said}); {names.AGAIN}") from error
    ready = tuple(one.to(device).eval() for one in models)
    if bool(about.scale) != TARGETS[settings.train.target].attributes:
        raise PipelineError(f"{folder / names.ABOUT} is damaged (attributes need a scale, classes none); {names.AGAIN}")
    return Members(about.labels, settings, about.folds, ready, makers, about.scale)


def _of(state: Mapping[str, Tensor], *starts: str) -> dict[str, Tensor]:
    """Return the weights whose names start with one of `starts`, without this prefix."""
    return {name[len(start) :]: state[name] for start in starts for name in state if name.startswith(start)}


def _member(
    settings: Config, outputs: int, speech: Mapping[str, Any] | None, state: Mapping[str, Tensor]
) -> SpeechEmotionModel:
    """Build a model with its weights.

    Args:
        settings: settings of the run.
        outputs: number of classes and attributes.
        speech: description of the speech encoder; None without a pre-trained one.
        state: the weights.
    """
    with Undrawn():
        model = build_model(
            settings.model,
            audio=settings.model_audio,
            features=settings.features,
            classes=outputs,
            pretrained=False,
            speech_settings=dict(speech) if speech else None,
        )
    model.load_state_dict(state, assign=True)  # on a CPU they are mapped from their file
    free_memory()
    return model.requires_grad_(False)


def write_weights(file: Path, models: Sequence[nn.Module], makers: Mapping[str, Maker]) -> None:
    """Write the weights of all models, and of the encoders that compute their features.

    Args:
        file: the file to write.
        models: the models.
        makers: encoders by the feature that they compute.
    """
    states = [model.state_dict() for model in models]
    found: dict[str, Tensor] = {}
    for name, first in states[0].items():
        if all(torch.equal(first, state[name]) for state in states[1:]):
            found[names.SHARED + name] = first
        else:
            found |= {f"{names.MEMBERS}{number}.{name}": state[name] for number, state in enumerate(states)}
    for feature, maker in makers.items():
        found |= {f"{names.MADE}{feature}.{name}": tensor for name, tensor in maker.encoder.state_dict().items()}
    kept = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}
    save_file(kept, file, metadata={"format": "pt"})
