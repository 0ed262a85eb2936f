"""The model folder on disk: names of its files, its weights, and how models are made of it without a run or corpus.

Weights that are the same in all members, as those of a frozen encoder are, stand once under `shared.`; those of the
encoder that made a stored feature under `made.FEATURE.`; all others under `members.NUMBER.`.
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
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.objective import outputs_of


@dataclass(frozen=True)
class Members:
    """The models of a folder, whose log-probabilities are averaged."""

    labels: tuple[str, ...]  # none where attributes alone are told
    config: Config
    folds: tuple[str, ...]
    models: tuple[SpeechEmotionModel, ...]
    makers: Mapping[str, Maker]
    scale: tuple[float, ...] = ()  # ends of that of attributes; none where no attributes are told

    @property
    def outputs(self) -> int:
        """Outputs of a model: one a class, and one an attribute."""
        return outputs_of(self.config.train.target, len(self.labels))


def fetched(name: str, **options: Any) -> Path:
    """A model folder: `name` itself, or a repository of the hub, which is fetched where it is not in the local cache.

    Args:
        name: the folder, or a name on the hub.
        options: of `huggingface_hub.snapshot_download`.

    Raises:
        PipelineError: it is no model folder.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, **options))
    if not names.is_model_folder(folder):
        raise PipelineError(f"{name} is no model folder; `ser-pipeline export RUN DIR` writes one")
    return folder


def read_members(folder: Path, device: torch.device) -> Members:
    """The models of a folder in evaluation mode; neither the hub nor the run nor the corpus is asked.

    Args:
        folder: as `export` writes it.
        device: where the models will be.

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
        raise PipelineError(f"{folder} is not a whole model folder ({said}); {names.AGAIN}") from error
    ready = tuple(one.to(device).eval() for one in models)
    if bool(about.scale) != TARGETS[settings.train.target].attributes:
        raise PipelineError(f"{folder / names.ABOUT} is damaged (a scale goes with attributes alone); {names.AGAIN}")
    return Members(about.labels, settings, about.folds, ready, makers, about.scale)


def _of(state: Mapping[str, Tensor], *starts: str) -> dict[str, Tensor]:
    """The weights whose names begin with one of `starts`, named by what follows."""
    return {name[len(start) :]: state[name] for start in starts for name in state if name.startswith(start)}


def _member(
    settings: Config, outputs: int, speech: Mapping[str, Any] | None, state: Mapping[str, Tensor]
) -> SpeechEmotionModel:
    """A model with its weights.

    Args:
        settings: of the run.
        outputs: of classes and attributes.
        speech: description of its speech encoder; None without a pre-trained one.
        state: its weights.
    """
    model = build_model(
        settings.model,
        audio=settings.model_audio,
        features=settings.features,
        classes=outputs,
        pretrained=False,
        speech_settings=dict(speech) if speech else None,
    )
    model.load_state_dict(state, assign=True)  # on a processor they stay in their file, which is mapped into memory
    free_memory()
    return model.requires_grad_(False)


def write_weights(file: Path, models: Sequence[nn.Module], makers: Mapping[str, Maker]) -> None:
    """Write the weights of all members and of the encoders that made their features.

    Args:
        file: to write.
        models: the members.
        makers: feature -> what makes it.
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
