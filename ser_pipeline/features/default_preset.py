"""Which preset is taken where none is named: what suits the corpus and the machine, and why.

A corpus with a preset of its own has that. On a GPU it is the paper's. Without one, `frozen` asks nothing of a laptop
where its speech encoder can be had, and `scratch` needs no encoder. Settings that these would not follow, given by the
user, are over the corpus's own preset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline import config as settings
from ser_pipeline.corpora.corpus import Corpus
from ser_pipeline.errors import PipelineError
from ser_pipeline.processes import apart

FOLLOWED = ("audio.", "features.statistics.", "seed", "store")
"""Beginnings of the settings that `frozen` follows; others, where given, speak of another model."""

COST = "it takes about an hour of processor time for 500 recordings, frozen a minute"
"""What training from nothing costs: 3,200 CPU-seconds on EMO-DB's 535 recordings, ten folds, against 41."""

ENCODER = "features.statistics.encoder"
"""The setting that names the encoder of `frozen`."""


@dataclass(frozen=True)
class ChosenPreset:
    """A preset and why it is taken; empty where the user named it."""

    name: str
    why: str = ""

    @property
    def line(self) -> str:
        """Both, for the user."""
        return f"preset {self.name}: {self.why}; --preset takes another"


def default_preset(row: Corpus, file: Path | None, overrides: Sequence[str], device: str) -> ChosenPreset:
    """The preset for a corpus on this machine. The encoder of `frozen` is fetched where it is not here.

    Args:
        row: the corpus.
        file: the user's TOML file of settings.
        overrides: the user's `KEY=VALUE` pairs.
        device: "auto", or what the user chose.

    Raises:
        PipelineError: settings that are not valid, or an encoder that the user named and that cannot be had.
    """
    if row.preset != Corpus.preset:
        return ChosenPreset(row.preset, f"it suits {row.name}")
    given = settings.given(file, overrides)
    if any(not name.startswith(FOLLOWED) for name in given):
        return ChosenPreset(row.preset, "settings of a model are given, and are changes of this one")
    return apart(_by_machine, row, file, overrides, device)


def _by_machine(row: Corpus, file: Path | None, overrides: Sequence[str], device: str) -> ChosenPreset:
    """The preset for this machine, which takes torch to see: half a gigabyte that extraction has no use for."""
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
        return ChosenPreset("scratch", f"{without}, and no speech encoder for preset frozen ({reason}); {COST}")
    return ChosenPreset("frozen", f"{without}, and its speech encoder {name} is here")
