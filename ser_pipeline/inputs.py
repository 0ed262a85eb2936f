"""The inputs of the model, with one row each that defines how it is stored, encoded, joined, augmented and named.

Everything that depends on the input follows from `INPUTS`: the features that can be extracted, the encoders that the
settings may name, the way in which neighbouring segments are joined, the supported augmentation, the processing of rows
on the device, the probes of a fold, and the name in the report. Functions are named as "module:function" and imported
when they are first used, so that the report can read the table without torch.

Shapes: B batch, T frames of a segment, K numbers per frame, F bands, N samples of a segment, D width of an encoder,
L stored layers, V versions of an utterance, S statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any

from ser_pipeline.limits import setting

if TYPE_CHECKING:
    from ser_pipeline.config import Audio

CEPSTRA = "cepstra"
"""Form with float16 (B, T, K), where the first number of a frame increases with the level."""

IMAGE = "image"
"""Form with uint8 (B, F, T): 0 is `top_db` below the utterance's maximum, 255 the maximum."""

SAMPLES = "samples"
"""Form with int16 (B, 1 + N): the sample before the segment, then the segment."""

FRAMES = "frames"
"""Form with float16 (B, L, T, D): frames of several layers of a frozen speech encoder, padded with zeros."""

BYTES = {"uint8": 1, "int16": 2, "float16": 2, "float32": 4}
"""Bytes per number, by the type of a store."""

VECTOR = "vector"
"""Form with float16 or float32 (B, V, S): statistics of an utterance, the original and V - 1 augmented copies."""

LEVEL = "level"
"""Form with float32 (B, 1) or (B, 1 + 2 F): the logarithm of an utterance's largest power, and extremes per band."""

FUNCTIONALS = {"ComParE_2016": 6_373, "eGeMAPSv02": 88}
"""Sets of functionals by openSMILE's names, with the number of their values."""


@dataclass(frozen=True)
class Input:
    """One input of the model and its stored feature, which have the same name."""

    name: str  # also the name of its table of settings in "features", and of the folder of its store
    kind: str  # "acoustic": gives co-attention weights; "speech": frames that are weighted; "utterance"; "level"
    words: str  # its name in the report
    form: str  # CEPSTRA, IMAGE, SAMPLES, FRAMES or VECTOR
    shape: Callable[[Audio, Any], tuple[int, ...]]  # shape of a row, from the settings of the audio and its own
    dtype: str  # type of its store
    version: int  # increased when the same settings give other values
    source: str  # source of its definition
    function: str = ""  # maps samples (N,), audio, settings to rows (S, *shape); "" for a speech encoder's output
    extremes: bool = False  # whether shards contain each utterance's minimum and maximum per band
    encoders: Mapping[str, str] = field(default_factory=dict)  # functions that build encoders, by name
    setting: str = ""  # setting of the model that names the encoder; "" if there is no choice
    otherwise: str = ""  # function that builds an encoder of any other name
    follows: frozenset[str] = frozenset()  # supported kinds of `augment`; others are refused
    settings: Mapping[str, Any] = field(default_factory=dict)  # its own settings, declared by `limits.setting`
    joins: bool = True  # whether neighbouring segments can be joined
    level: str = ""  # as `function`, to float32 (S, 1 or more), stored if rows are computed from waveforms; or ""
    of: str = ""  # the input whose settings it uses; "" for its own

    @property
    def table(self) -> str:
        """The name of its table of settings in "features"."""
        return self.of or self.name

    def bytes(self, audio: Audio, settings: Any) -> int:
        """Return the size of a row in bytes."""
        return prod(self.shape(audio, settings)) * BYTES[self.dtype]

    def rows(self, samples: Any, audio: Audio, settings: Any) -> Any:
        """Compute the rows (S, *shape) of an utterance.

        Args:
            samples: float32 samples of the whole utterance (N,), -1 to 1.
            audio: their sampling rate, hop and segment.
            settings: settings of this input in `features`; None if it has none.
        """
        return resolve(self.function)(samples, audio, settings)

    def encoder(self, name: str) -> Callable[..., Any]:
        """Return the function that builds the encoder `name`, which has been validated."""
        builder: Callable[..., Any] = resolve(self.encoders.get(name, self.otherwise))
        return builder


@cache
def resolve(name: str) -> Any:
    """Import the function that "module:function" names.

    >>> resolve("math:floor")(1.5)
    1
    """
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


_ROWS = "ser_pipeline.features.acoustic:"
_BUILT = "ser_pipeline.model.registry:"

_TABLE = (
    Input(
        name="mfcc",
        kind="acoustic",
        words="MFCC",
        form=CEPSTRA,
        shape=lambda audio, settings: (audio.frames, settings.size),
        dtype="float16",
        version=3,
        source="Zou et al. 2022, section 3.1; librosa.feature.mfcc",
        function=_ROWS + "mfcc_rows",
        level=_ROWS + "mel_level",
        encoders={"bilstm": _BUILT + "bilstm", "small": _BUILT + "small_cepstra"},
        setting="mfcc_encoder",
        follows=frozenset({"speed", "gain", "noise", "frame_masks"}),
    ),
    Input(
        name="spectrogram",
        kind="acoustic",
        words="spectrogram",
        form=IMAGE,
        shape=lambda audio, settings: (settings.bins, audio.frames),
        dtype="uint8",
        version=3,
        source="Zou et al. 2022, section 3.1; librosa.amplitude_to_db",
        function=_ROWS + "spectrogram_rows",
        level=_ROWS + "spectrogram_level",
        extremes=True,
        encoders={"alexnet": _BUILT + "alexnet", "small": _BUILT + "small_linear_image"},
        setting="spectrogram_encoder",
        follows=frozenset({"speed", "gain", "noise", "frame_masks"}),
    ),
    Input(
        name="logmel",
        kind="acoustic",
        words="log-mel",
        form=IMAGE,
        shape=lambda audio, settings: (settings.n_mels, audio.frames),
        dtype="uint8",
        version=2,
        source="librosa.feature.melspectrogram, librosa.power_to_db",
        function=_ROWS + "logmel_rows",
        level=_ROWS + "mel_level",
        encoders={"alexnet": _BUILT + "alexnet", "small": _BUILT + "small_image"},
        setting="spectrogram_encoder",
        follows=frozenset({"gain", "noise", "frame_masks"}),  # a change of pitch does not scale mel bands uniformly
    ),
    Input(
        name="waveform",
        kind="speech",
        words="W2E",
        form=SAMPLES,
        shape=lambda audio, settings: (audio.segment + 1,),
        dtype="int16",
        version=1,
        source="Zou et al. 2022, section 3.1",
        function=_ROWS + "waveform_rows",
        encoders={"small": _BUILT + "small_speech"},
        setting="speech_encoder",
        otherwise=_BUILT + "pretrained_speech",
        follows=frozenset({"speed", "gain", "noise", "frame_masks"}),
    ),
    Input(
        name="embedding",
        kind="speech",
        words="frozen W2E",
        form=FRAMES,
        shape=lambda audio, settings: (settings.depth, settings.frames, settings.width),
        dtype="float16",
        version=2,
        source="the hidden states of a frozen speech encoder",
        otherwise=_BUILT + "stored_frames",
    ),
    Input(
        name="statistics",
        kind="utterance",
        words="frozen statistics",
        form=VECTOR,
        shape=lambda audio, settings: (1 + settings.draws, settings.width),
        dtype="float16",
        version=1,
        source="moments of the hidden states of a frozen speech encoder",
        otherwise=_BUILT + "stored_statistics",
        joins=False,
    ),
    Input(
        name="functionals",
        kind="utterance",
        words="openSMILE",
        form=VECTOR,
        shape=lambda audio, settings: (1, FUNCTIONALS[settings.set]),
        dtype="float32",
        version=1,
        source="Eyben et al., openSMILE, 2010; Schuller et al., ComParE, 2016; Eyben et al., eGeMAPS, 2016",
        function="ser_pipeline.features.functionals:functional_rows",
        settings={"set": setting("ComParE_2016", "set of openSMILE's functionals", choices=tuple(FUNCTIONALS))},
        otherwise=_BUILT + "stored_functionals",
        joins=False,
    ),
)

INPUTS: dict[str, Input] = {row.name: row for row in _TABLE}
"""Inputs by name, in the order in which the classifier concatenates them."""


def _level_shape(row: Input, audio: Audio, settings: Any) -> tuple[int, ...]:
    return (1 + 2 * row.extremes * row.shape(audio, settings)[0],)


LEVELS: dict[str, Input] = {
    f"{row.name}_level": replace(
        row,
        name=f"{row.name}_level",
        kind="level",
        words=f"level of the {row.words}",
        form=LEVEL,
        shape=partial(_level_shape, row),
        dtype="float32",
        function=row.level,
        extremes=False,
        encoders={},
        level="",
        of=row.name,
    )
    for row in _TABLE
    if row.level
}
"""Features stored in place of an input's rows if these are computed from waveforms; models do not read them."""

PAPER = ("mfcc", "spectrogram", "waveform")
"""Inputs of the paper's full model; without an acoustic input, the first two still give co-attention weights."""
