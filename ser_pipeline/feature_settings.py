"""The settings of stage 1: how a recording becomes segments, and the features that are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ser_pipeline.inputs import INPUTS
from ser_pipeline.limits import ADDED, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Sources of defaults.
EXTRACTION = "paper, section 3.1"
CODE = "reference code"
LIBROSA = "librosa's default"

PAD_MODES = ("constant", "reflect")
"""What stands around an utterance before it is transformed, by numpy's names: silence, or its own samples."""

WINDOWS = ("cut", "30s")
"""What a Whisper encoder hears after the audio: nothing, or silence up to the length that it was trained on."""

WINDOW = "of a Whisper encoder: cut to the audio's length, or silence up to the 30 s of its training"
"""What the settings that are one of `WINDOWS` mean."""

Count = TypeVar("Count", int, "NDArray[np.int64]")


@dataclass(frozen=True)
class Audio:
    """How a recording becomes frames and segments. A change here touches every store."""

    rate: int = setting(16_000, "samples a second", unit="Hz", source=EXTRACTION, least=4_000, most=192_000)
    segment: int = setting(
        48_000, "length of a segment: 3 s", unit="samples", source=EXTRACTION, least=1, most=60 * 192_000
    )
    hop: int = setting(
        160, "from one frame to the next: 10 ms", unit="samples", source=EXTRACTION, least=1, most=192_000
    )

    @property
    def frames(self) -> int:
        """Frames in a segment: 300 with the paper's values."""
        return self.segment // self.hop

    @property
    def frame_rate(self) -> float:
        """Frames a second: 100 with the paper's values."""
        return self.rate / self.hop

    @property
    def seconds(self) -> float:
        """Length of a segment: 3 s with the paper's values."""
        return self.segment / self.rate

    @property
    def whole(self) -> Audio:
        """The same, with segments longer than any utterance."""
        return replace(self, segment=self.hop << 40)

    def joined(self, count: int) -> Audio:
        """The same, with segments of `count` of these."""
        return replace(self, segment=count * self.segment)

    def segments(self, samples: Count) -> Count:
        """Segments of utterances of `samples` samples (a number or an array), the last one padded.

        Source: reference code; 11,002 over the four classes of IEMOCAP.

        >>> Audio().segments(16_000), Audio().segments(47_999), Audio().segments(48_000)
        (1, 1, 2)
        """
        return -(-(1 + samples // self.hop) // self.frames)

    def heard(self, samples: Count, least: int) -> Count:
        """Those of `segments` that hold at least `least` real samples; the first one always.

        The last of several is the only one that may hold less than a whole segment: none at all where an utterance ends
        with the segment before it.

        Args:
            samples: of utterances, a number or an array.
            least: samples; 0: all segments.

        >>> Audio().heard(48_000, 0), Audio().heard(48_399, 400), Audio().heard(48_400, 400), Audio().heard(1, 400)
        (2, 1, 2, 1)
        """
        count = self.segments(samples)
        last = samples - (count - 1) * self.segment
        return count - ((count > 1) & (last < least))


@dataclass(frozen=True)
class Mfcc:
    """Mel-frequency cepstral coefficients, as `librosa.feature.mfcc(htk=True)`."""

    n_mfcc: int = setting(40, "coefficients a frame", source=EXTRACTION, least=1, most=512)
    n_fft: int = setting(
        2048,
        "points of the DFT, under a Hann window",
        unit="samples",
        source=f"{LIBROSA}; {CODE}",
        least=16,
        most=16_384,
    )
    n_mels: int = setting(128, "mel bands", source=f"{LIBROSA}; {CODE}", least=1, most=512)
    top_db: float = setting(
        80.0, "range below the utterance's loudest band", unit="dB", source=LIBROSA, least=1, most=200
    )
    pre_emphasis: float = setting(0.0, "a of y[t] = x[t] - a x[t-1]; the reference code has 0.97", least=0, most=1)
    deltas: int = setting(0, "orders of change over 9 frames that follow the coefficients", choices=(0, 1, 2))
    pad_mode: str = setting(
        "constant",
        "around the utterance before the transform: silence, or with reflect its own samples turned round, as librosa "
        "0.8.1 has it",
        choices=PAD_MODES,
        added=True,
    )

    @property
    def size(self) -> int:
        """How many numbers a frame has, deltas included."""
        return self.n_mfcc * (1 + self.deltas)


@dataclass(frozen=True)
class Spectrogram:
    """Magnitude spectrogram in dB below the utterance's maximum."""

    n_fft: int = setting(800, "points of the DFT", unit="samples", source=EXTRACTION, least=16, most=16_384)
    window: int = setting(640, "Hamming window: 40 ms", unit="samples", source=EXTRACTION, least=16, most=16_384)
    bins: int = setting(200, "the lowest bins: 0 to 4 kHz", source=EXTRACTION, least=1, most=2_049)
    top_db: float = setting(80.0, "range below the utterance's maximum", unit="dB", source=CODE, least=1, most=200)
    pre_emphasis: float = setting(0.0, "as of the MFCC; the reference code has 0.97", least=0, most=1)
    pad_mode: str = setting("constant", "as of the MFCC; the reference code has reflect", choices=PAD_MODES, added=True)

    def bin_hertz(self, rate: int) -> float:
        """The distance of neighbouring bins in Hz, at `rate` samples a second: 20 with the paper's values."""
        return rate / self.n_fft


@dataclass(frozen=True)
class LogMel:
    """Mel spectrogram in dB below the utterance's maximum, as `librosa.feature.melspectrogram(htk=True)`."""

    n_fft: int = setting(1024, "Hann window: 64 ms", unit="samples", least=16, most=16_384)
    n_mels: int = setting(64, "mel bands", least=1, most=512)
    top_db: float = setting(80.0, "range below the utterance's maximum", unit="dB", source=LIBROSA, least=1, most=200)
    pre_emphasis: float = setting(0.0, "as of the MFCC", least=0, most=1)
    pad_mode: str = setting("constant", "as of the MFCC", choices=PAD_MODES, added=True)


@dataclass(frozen=True)
class Embedding:
    """Frames of a frozen speech encoder, made from the stored waveforms; read by the input "embedding"."""

    encoder: str = setting("facebook/wav2vec2-base", "name on the Hugging Face hub, or folder")
    layers: tuple[int, ...] = setting(
        (-1,),
        "layers, side by side: 0 is the input of the first, -1 the output of the last; []: all; the model averages "
        "them, or learns weights (model.layer_mix)",
    )
    context: str = setting(
        "segment",
        "what the encoder hears with a frame: its segment, or its utterance, 30 s at a time",
        choices=("segment", "utterance"),
        added=True,
    )
    mask_padding: bool = setting(
        False, "true: frames of the audio alone, zeros after its end, which the model leaves out", added=True
    )
    window: str = setting("cut", WINDOW, choices=WINDOWS, added=True)
    content: str = setting("", "hash of the encoder's weights; empty: as `train` finds it")
    depth: int = setting(0, "layers that are stored; 0: as `train` finds it", least=0, most=1_000, added=True)
    frames: int = setting(0, "frames a segment; 0: as `train` finds it", least=0, most=100_000)
    width: int = setting(0, "numbers a frame; 0: as `train` finds it", least=0, most=65_536)


@dataclass(frozen=True)
class Statistics:
    """Statistics of a frozen speech encoder's frames over a whole utterance, made from the stored waveforms."""

    encoder: str = setting("openai/whisper-tiny.en", "name on the Hugging Face hub, or folder")
    layers: tuple[int, ...] = setting(
        (2,), "layers, side by side: 0 is the input of the first, -1 the output of the last; []: all"
    )
    kinds: tuple[str, ...] = setting(
        ("mean", "deviation", "first", "last"), "of the frames: all, and those of outer thirds"
    )
    window: str = setting("cut", WINDOW, choices=WINDOWS, added=True)
    draws: int = setting(2, "augmented drawings of every utterance, beside it as it is", least=0, most=16)
    speed: float = setting(0.1, "of a drawing: largest relative change of tempo and pitch together", least=0, most=0.5)
    gain: float = setting(6.0, "of a drawing: largest change of level", unit="dB", least=0, most=40)
    noise: float = setting(
        0.5, "share of the drawings with white noise at 10 to 30 dB under the speech", least=0, most=1
    )
    content: str = setting("", "hash of the encoder's weights; empty: as `train` finds it")
    width: int = setting(0, "numbers an utterance; 0: as `train` finds it", least=0, most=2**20)


@dataclass(frozen=True)
class _Known:
    """What is extracted, one table a feature. A change here touches that feature's store alone."""

    mfcc: Mfcc = field(default_factory=Mfcc)
    spectrogram: Spectrogram = field(default_factory=Spectrogram)
    logmel: LogMel = field(default_factory=LogMel)
    embedding: Embedding = field(default_factory=Embedding)
    statistics: Statistics = field(default_factory=Statistics, metadata=ADDED)


def _with_declared(known: type[Any]) -> type[Any]:
    """`known` with a table for every input whose row declares settings of its own."""
    tables = []
    for row in INPUTS.values():
        if row.settings:
            columns = [(name, type(item.default), item) for name, item in row.settings.items()]
            about = {"__doc__": f"Settings of the input `{row.name}`. Source: {row.source}."}
            table = make_dataclass(f"{row.name.capitalize()}Settings", columns, namespace=about, frozen=True)
            tables.append((row.name, table, field(default_factory=table, metadata=ADDED)))
    for made in (
        *(table for _, table, _ in tables),
        found := make_dataclass("Features", tables, bases=(known,), frozen=True),
    ):
        made.__module__ = __name__
        globals()[made.__name__] = made
    found.__doc__ = known.__doc__
    return found


if TYPE_CHECKING:
    Features = _Known
else:
    Features = _with_declared(_Known)
