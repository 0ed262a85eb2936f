"""Choose the preset for a corpus and a machine where the user names none, and say why.

A corpus with a preset of its own gets that one. With a GPU, the choice is `paper`. Without a GPU it is `frozen`, which
any laptop can run, if its speech encoder is available, and otherwise `scratch`, which needs no encoder. If the user
gives settings that `frozen` and `scratch` would ignore, the corpus's own preset is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline import config as settings
from ser_pipeline.corpora.corpus import Corpus
from ser_pipeline.errors import PipelineError
from ser_pipeline.processes import apart
from ser_pipeline.text import capital

FOLLOWED = ("audio.", "features.statistics.", "seed", "store")
"""Prefixes of the settings that `frozen` uses; any other setting refers to another model."""

COST = "Preset scratch takes about 15 minutes of processor time for 500 recordings, frozen takes one minute"
"""Cost of training from scratch: about 1,000 CPU-seconds for ten folds of EMO-DB's 535 recordings, 33 for frozen."""

ENCODER = "features.statistics.encoder"
"""The setting that names the speech encoder of `frozen`."""


@dataclass(frozen=True)
class ChosenPreset:
    """A preset and the reason for it; the reason is empty where the user named the preset."""

    name: str
    why: str = ""

    @property
    def line(self) -> str:
        """The preset and the reason in one line for the user."""
        return f"preset {self.name}: {self.why}. Another can be chosen with --preset."


def default_preset(row: Corpus, file: Path | None, overrides: Sequence[str], device: str) -> ChosenPreset:
    """The preset for a corpus on this machine; downloads the encoder of `frozen` if it is missing.

    Args:
        row: the corpus.
        file: the user's TOML file of settings.
        overrides: the user's `KEY=VALUE` pairs.
        device: "auto", or what the user chose.

    Raises:
        PipelineError: invalid settings, or an encoder that the user named and that is not available.
    """
    if row.preset != Corpus.preset:
        return ChosenPreset(row.preset, f"it suits {row.name}")
    given = settings.given(file, overrides)
    if any(not name.startswith(FOLLOWED) for name in given):
        return ChosenPreset(row.preset, "settings of a model are given, and they change this preset")
    return apart(_by_machine, row, file, overrides, device)


def _by_machine(row: Corpus, file: Path | None, overrides: Sequence[str], device: str) -> ChosenPreset:
    """The preset for this machine; it needs torch, half a gigabyte for which extraction itself has no use."""
    from ser_pipeline.device import pick_device
    from ser_pipeline.model.speech import hub

    given = settings.given(file, overrides)
    place = pick_device(device).type
    if place == "cuda":
        return ChosenPreset(row.preset, "there is a GPU")
    without = "no GPU" if device == "auto" else f"on {place}"
    name = settings.load("frozen", file, overrides).features.statistics.encoder
    try:
        hub.locate(name, setting=ENCODER)
    except PipelineError as error:
        if ENCODER in given:
            raise
        reason = str(error).removesuffix(hub.WITHOUT)
        return ChosenPreset("scratch", f"{without}, and preset frozen has no encoder. {COST}. {capital(reason)}")
    return ChosenPreset("frozen", f"{without}, and its speech encoder {name} is here")
