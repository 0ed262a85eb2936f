"""Every input of the model, one row each: how it is stored, encoded, joined, augmented, finished and named.

All that differs from input to input follows from `INPUTS`: what `features` can make, which encoders the settings may
name, how neighbouring segments are joined, which augmentation is followed and which refused, how rows are finished on
the device, which probes a fold has, and what the report calls it. Functions are named as "module:function" and
imported when they are first used, so that the report can read the table without torch.

Shapes: B batch, T frames of a segment, K numbers a frame, F bands, N samples of a segment, D width of an encoder,
L of its layers.
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
"""Form of float16 (B, T, K), whose first number a frame rises with the level."""

IMAGE = "image"
"""Form of uint8 (B, F, T): 0 is `top_db` under the utterance's maximum, 255 the maximum."""

SAMPLES = "samples"
"""Form of int16 (B, 1 + N): the sample before the segment, then the segment."""

FRAMES = "frames"
"""Form of float16 (B, L, T, D): frames of several layers of a frozen speech encoder; zeros where there are none."""

BYTES = {"uint8": 1, "int16": 2, "float16": 2, "float32": 4}
"""Type of a store's numbers -> bytes of one."""

VECTOR = "vector"
"""Form of float16 or float32 (B, V, S): statistics of a whole utterance, as it is and in V - 1 augmented drawings."""

LEVEL = "level"
"""Form of float32 (B, 1) or (B, 1 + 2 F): the logarithm of an utterance's largest power, and extremes a band."""

FUNCTIONALS = {"ComParE_2016": 6_373, "eGeMAPSv02": 88}
"""Sets of functionals, as openSMILE names them, and how many numbers each has."""


@dataclass(frozen=True)
class Input:
    """One input of the model and its stored feature, which share a name."""

    name: str  # also the table of its settings below "features", and the folder of its store
    kind: str  # "acoustic": gives co-attention weights; "speech": its frames are weighed; "utterance": whole; "level"
    words: str  # what the report calls it
    form: str  # CEPSTRA, IMAGE, SAMPLES, FRAMES or VECTOR
    shape: Callable[[Audio, Any], tuple[int, ...]]  # of one row, from the audio's settings and its own
    dtype: str  # of its store
    version: int  # raised when the same settings give other values
    source: str  # where the definition stands
    function: str = ""  # samples (N,), audio, settings -> rows (S, *shape); "": a speech encoder makes it
    extremes: bool = False  # whether shards keep each utterance's minimum and maximum a band
    encoders: Mapping[str, str] = field(default_factory=dict)  # name -> what builds it
    setting: str = ""  # which setting of the model names the encoder; "": there is no choice
    otherwise: str = ""  # what builds an encoder of any other name
    follows: frozenset[str] = frozenset()  # changes of `augment` that it follows; others are refused
    settings: Mapping[str, Any] = field(default_factory=dict)  # its own, as `limits.setting` declares them
    joins: bool = True  # whether neighbouring segments can be heard as one
    level: str = ""  # as `function`, -> float32 (S, 1 or more): with what it is made of stored waveforms; "": it is not
    of: str = ""  # the input of whose settings it is made; "": its own

    @property
    def table(self) -> str:
        """The table of its settings below "features"."""
        return self.of or self.name

    def bytes(self, audio: Audio, settings: Any) -> int:
        """The size of a row."""
        return prod(self.shape(audio, settings)) * BYTES[self.dtype]

    def rows(self, samples: Any, audio: Audio, settings: Any) -> Any:
        """The rows (S, *shape) of an utterance's float32 samples (N,).

        Args:
            samples: of the whole utterance, -1 to 1.
            audio: their rate, hop and segment.
            settings: of this input in `features`; None where it has none.
        """
        return resolve(self.function)(samples, audio, settings)

    def encoder(self, name: str) -> Callable[..., Any]:
        """What builds the encoder `name`, which the settings have checked."""
        builder: Callable[..., Any] = resolve(self.encoders.get(name, self.otherwise))
        return builder


@cache
def resolve(name: str) -> Any:
    """The function that "module:function" names.

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
        follows=frozenset({"gain", "noise", "frame_masks"}),  # pitch moves no band by a constant share
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
        settings={"set": setting("ComParE_2016", "of openSMILE's functionals", choices=tuple(FUNCTIONALS))},
        otherwise=_BUILT + "stored_functionals",
        joins=False,
    ),
)

INPUTS: dict[str, Input] = {row.name: row for row in _TABLE}
"""Name -> row, in the order in which the classifier has them."""


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
"""What is stored of an input in place of its rows, where these are made of stored waveforms; no input of a model."""

PAPER = ("mfcc", "spectrogram", "waveform")
"""The inputs of the paper's full model; the first two also weigh frames where no acoustic input is given."""
