"""A local model folder or one on the Hugging Face hub, as a function of audio."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin

from ser_pipeline.export import names
from ser_pipeline.export.folder import fetched
from ser_pipeline.predict.opening import load
from ser_pipeline.predict.predictor import Predictor


class SpeechEmotion(
    ModelHubMixin, library_name="ser-pipeline", tags=["speech-emotion-recognition"], pipeline_tag="audio-classification"
):
    """The models of a folder that `ser-pipeline export` wrote; call it like a run that `load` opened.

    `SpeechEmotion.from_pretrained(FOLDER)` opens a folder, and `from_pretrained("OWNER/NAME")` one on the hub.
    `save_pretrained` copies it, and `push_to_hub("OWNER/NAME")` publishes it with its model card.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        """Use the models of a folder."""
        self.predictor = predictor
        self.folder = folder
        self._files = {file.name: file.read_text(encoding="utf-8") for file in [folder / names.ABOUT]}

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the probabilities."""
        return self.predictor.labels

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Predict a recording; the arguments are those of `ser_pipeline.predict.predictor.Predictor`."""
        return self.predictor(*args, **options)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        device: str = "auto",
        **options: Any,
    ) -> SpeechEmotion:
        """Open a folder, or a repository of the hub, which is downloaded first.

        Args:
            model_id: the folder, or a name on the hub.
            device: "cuda", "mps" or "cpu"; "auto" for the first one available.
            options: `revision`, `cache_dir`, `token`, `local_files_only` and `force_download` control the download.

        Raises:
            PipelineError: it is not a model folder.
        """
        folder = fetched(model_id, **options)
        return cls(load(folder, device), folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Copy the folder; `ModelHubMixin` has removed `config.json` before, even if both folders are the same."""
        for name, text in self._files.items():
            (save_directory / name).write_text(text, encoding="utf-8")
        for file in sorted(self.folder.iterdir()):
            kept = save_directory / file.name
            if file.is_file() and file.name not in self._files and not (kept.exists() and kept.samefile(file)):
                shutil.copyfile(file, kept)
