"""Writing of a run as a model folder that needs neither the run nor the corpus nor the hub."""

from __future__ import annotations

import glob
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ser_pipeline import __version__
from ser_pipeline.config import dumps
from ser_pipeline.device import pick_device
from ser_pipeline.entry import PARTIAL, read_json, write_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.export import names
from ser_pipeline.export.card import card, run_report
from ser_pipeline.export.checking import noise, tested_recordings
from ser_pipeline.export.folder import Members, write_weights
from ser_pipeline.export.profile import figures, measured
from ser_pipeline.locks import hold, is_held
from ser_pipeline.predict.runs import run_members
from ser_pipeline.runs import layout
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import portable

REMOTE = '''"""Classes that transformers imports with trust_remote_code=True; their code is in ser-pipeline."""

from ser_pipeline.export.auto import (
    SpeechEmotionConfig,
    SpeechEmotionFeatureExtractor,
    SpeechEmotionForAudioClassification,
)

__all__ = ["SpeechEmotionConfig", "SpeechEmotionFeatureExtractor", "SpeechEmotionForAudioClassification"]
'''
"""The code of a model folder: a single import, which is easy to review and receives updates of the package."""

AUTO = {
    "AutoConfig": "SpeechEmotionConfig",
    "AutoFeatureExtractor": "SpeechEmotionFeatureExtractor",
    "AutoModelForAudioClassification": "SpeechEmotionForAudioClassification",
}
"""Class of `auto.py`, by the Auto class of transformers that returns it."""

FACTS = ("corpus", "title", "synthetic", "protocol", "selection", "ablation", "seed", "preset", "precision", "device")
"""Fields of `run.json` that are published with a model."""


def export(
    run: Path | str,
    folder: Path | str,
    folds: Sequence[str] = (),
    *,
    onnx: bool = False,
    int8: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the models of a run as a folder that loads without the run, the corpus and the hub.

    Args:
        run: folder of the run.
        folder: the folder to write; it must be new or empty.
        folds: names of the folds whose models are averaged; () for all finished ones.
        onnx: whether to write an ONNX graph as well.
        int8: whether to write an ONNX graph with 8-bit matrix products as well.
        say: called with a message about the agreement of each graph with torch.

    Raises:
        PipelineError: `run` is not a run, a fold is missing, the folder is not empty, or the models have no ONNX form.
    """
    run = Path(run)
    with new_folder(Path(folder)) as partial:
        members = run_members(run, pick_device("cpu"), folds)
        if members.scale and (onnx or int8):
            told = TARGETS[members.config.train.target].words
            raise PipelineError(
                f"an ONNX graph predicts classes, but {run} predicts {told}; export without --onnx and --int8"
            )
        about = describe(run, members)
        agreed = list(_graphs(partial, run, members, about, int8, say)) if onnx or int8 else []
        write_parts(partial, members, about)
        files = sorted(file.name for file in partial.iterdir())
        cost = [*figures(members, partial / names.WEIGHTS), *measured(run)]
        write_text(partial / names.CARD, card(about, run_report(run), files, cost, agreed))
    return Path(folder)


def _graphs(
    folder: Path, run: Path, members: Members, about: Mapping[str, Any], int8: bool, say: Callable[[str], None]
) -> Iterator[str]:
    """Write the ONNX graphs and check them on recordings of the run, or on noise; yield the results of the checks."""
    from ser_pipeline.export.onnx_writing import write_graphs

    recordings = list(tested_recordings(run, members.config.audio.rate))
    if not recordings:
        say("the recordings of the run were not found: the graph is checked on noise")
        recordings = noise(members.config.audio.rate)
    for line in write_graphs(folder, members, about, recordings, int8, say):
        say(line)
        yield line


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a partial folder, which becomes `folder` if the block succeeds; remove those of killed processes.

    Raises:
        PipelineError: `folder` is a file, or a folder that is not empty.
    """
    names.require_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{glob.escape(folder.name)}.*{PARTIAL}"):
        if not is_held(left / folder.name):  # its process was killed
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", suffix=PARTIAL, dir=folder.parent) as room:
        partial = Path(room) / folder.name
        partial.mkdir()
        with hold(partial):
            yield partial
        with suppress(FileNotFoundError):
            folder.rmdir()
        partial.rename(folder)


def write_parts(folder: Path, members: Members, about: Mapping[str, Any]) -> None:
    """Write the files of a model folder, except for its card.

    Args:
        folder: the model folder.
        members: the models.
        about: contents of `config.json`.
    """
    write_weights(folder / names.WEIGHTS, members.models, members.makers)
    write_json(folder / names.ABOUT, about)
    (folder / names.WEIGHTS).chmod((folder / names.ABOUT).stat().st_mode)
    write_json(folder / names.FRONT, _front(about))
    write_text(folder / names.CODE, REMOTE)


def describe(run: Path, members: Members) -> dict[str, Any]:
    """Return the contents of `config.json` for the models of a run.

    Args:
        run: folder of the run.
        members: its models.
    """
    header, config = read_json(run / layout.RUN), members.config
    folds = [name for name in header["folds"] if name in members.folds]
    encoders = {name: portable(maker.encoder.description()) for name, maker in members.makers.items()}
    speech = members.models[0].speech_settings
    labels = {str(number): label for number, label in enumerate(members.labels)}
    found: dict[str, Any] = portable(
        {
            "settings": tomllib.loads(dumps(config)),
            "encoders": encoders | ({"model": speech} if speech else {}),
            "run": {name: header.get(name, "") for name in FACTS}
            | {"name": run.name.removesuffix(PARTIAL), "folds": len(header["folds"])},
        }
    )
    return found | {
        "model_type": names.MODEL_TYPE,
        "architectures": [AUTO["AutoModelForAudioClassification"]],
        "auto_map": {name: _imported(name) for name in ("AutoConfig", "AutoModelForAudioClassification")},
        "id2label": labels,
        "label2id": {label: int(number) for number, label in labels.items()},
        **({"scale": list(members.scale)} if members.scale else {}),
        "sampling_rate": config.audio.rate,
        "segment": 0 if config.model.whole else config.model_audio.segment,
        "folds": folds,
        "commit": _commit(run),
        "ser_pipeline_version": __version__,
    }


def _imported(name: str) -> str:
    """Return the name of the class for an Auto class, with the folder's module that transformers imports it from."""
    return f"{Path(names.CODE).stem}.{AUTO[name]}"


def _front(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of transformers' feature extractor."""
    return {
        "feature_extractor_type": AUTO["AutoFeatureExtractor"],
        "auto_map": {"AutoFeatureExtractor": _imported("AutoFeatureExtractor")},
        "sampling_rate": about["sampling_rate"],
        "feature_size": 1,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": True,
        "do_normalize": False,
    }


def _commit(run: Path) -> str:
    """Return the commit of the code that trained a run, and whether its source was modified; "" if unknown."""
    made = read_json(run / "index.json").get("made", {}) if (run / "index.json").is_file() else {}
    commits = ", ".join(map(str, made.get("commit", ())))
    return f"{commits} (modified)" if commits and True in made.get("modified", ()) else commits
