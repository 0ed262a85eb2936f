"""The settings of stage 1: segments of recordings, and the features that are extracted from them."""

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
"""Padding of an utterance before its transform, by numpy's names: silence, or its own samples reflected."""

WINDOWS = ("cut", "30s")
"""Input of a Whisper encoder after the audio: nothing, or silence up to the length of its training."""

WINDOW = "input of a Whisper encoder: cut to the audio's length, or padded with silence to the 30 s of its training"
"""Meaning of the settings with one of `WINDOWS`."""

Count = TypeVar("Count", int, "NDArray[np.int64]")


@dataclass(frozen=True)
class Audio:
    """Division of recordings into frames and segments. A change affects every store."""

    rate: int = setting(16_000, "samples per second", unit="Hz", source=EXTRACTION, least=4_000, most=192_000)
    segment: int = setting(
        48_000, "length of a segment: 3 s", unit="samples", source=EXTRACTION, least=1, most=60 * 192_000
    )
    hop: int = setting(
        160, "distance between two frames: 10 ms", unit="samples", source=EXTRACTION, least=1, most=192_000
    )

    @property
    def frames(self) -> int:
        """Frames in a segment: 300 with the paper's values."""
        return self.segment // self.hop

    @property
    def frame_rate(self) -> float:
        """Frames per second: 100 with the paper's values."""
        return self.rate / self.hop

    @property
    def seconds(self) -> float:
        """Length of a segment in seconds: 3 with the paper's values."""
        return self.segment / self.rate

    @property
    def whole(self) -> Audio:
        """The same, with segments longer than any utterance."""
        return replace(self, segment=self.hop << 40)

    def joined(self, count: int) -> Audio:
        """Return the same settings with `count` of these segments joined to one."""
        return replace(self, segment=count * self.segment)

    def segments(self, samples: Count) -> Count:
        """Return the number of segments of utterances with `samples` samples (a number or an array).

        Source: reference code; 11,002 over the four classes of IEMOCAP.

        >>> Audio().segments(16_000), Audio().segments(47_999), Audio().segments(48_000)
        (1, 1, 2)
        """
        return -(-(1 + samples // self.hop) // self.frames)

    def heard(self, samples: Count, least: int) -> Count:
        """Return the number of segments with at least `least` samples without padding; the first one always counts.

        Only the last of several segments can have padding. It has no samples at all if an utterance ends with the
        previous segment.

        Args:
            samples: numbers of samples of utterances, a number or an array.
            least: number of samples; 0 for all segments.

        >>> Audio().heard(48_000, 0), Audio().heard(48_399, 400), Audio().heard(48_400, 400), Audio().heard(1, 400)
        (2, 1, 2, 1)
        """
        count = self.segments(samples)
        last = samples - (count - 1) * self.segment
        return count - ((count > 1) & (last < least))


@dataclass(frozen=True)
class Mfcc:
    """Mel-frequency cepstral coefficients, as `librosa.feature.mfcc(htk=True)`."""

    n_mfcc: int = setting(40, "coefficients per frame", source=EXTRACTION, least=1, most=512)
    n_fft: int = setting(
        2048,
        "points of the DFT, with a Hann window",
        unit="samples",
        source=f"{LIBROSA}; {CODE}",
        least=16,
        most=16_384,
    )
    n_mels: int = setting(128, "mel bands", source=f"{LIBROSA}; {CODE}", least=1, most=512)
    top_db: float = setting(
        80.0, "range below the utterance's loudest band", unit="dB", source=LIBROSA, least=1, most=200
    )
    pre_emphasis: float = setting(0.0, "a in y[t] = x[t] - a x[t-1]; the reference code uses 0.97", least=0, most=1)
    deltas: int = setting(0, "orders of deltas over 9 frames, appended to the coefficients", choices=(0, 1, 2))
    pad_mode: str = setting(
        "constant",
        "padding of the utterance before the transform: silence, or with reflect its own samples reflected, as in "
        "librosa 0.8.1",
        choices=PAD_MODES,
        added=True,
    )

    @property
    def size(self) -> int:
        """Numbers per frame, including deltas."""
        return self.n_mfcc * (1 + self.deltas)


@dataclass(frozen=True)
class Spectrogram:
    """Magnitude spectrogram in dB relative to the utterance's maximum."""

    n_fft: int = setting(800, "points of the DFT", unit="samples", source=EXTRACTION, least=16, most=16_384)
    window: int = setting(640, "Hamming window: 40 ms", unit="samples", source=EXTRACTION, least=16, most=16_384)
    bins: int = setting(200, "the lowest bins: 0 to 4 kHz", source=EXTRACTION, least=1, most=2_049)
    top_db: float = setting(80.0, "range below the utterance's maximum", unit="dB", source=CODE, least=1, most=200)
    pre_emphasis: float = setting(0.0, "as for MFCC; the reference code uses 0.97", least=0, most=1)
    pad_mode: str = setting("constant", "as for MFCC; the reference code uses reflect", choices=PAD_MODES, added=True)

    def bin_hertz(self, rate: int) -> float:
        """Return the distance between two bins in Hz at a sampling rate in Hz: 20 with the paper's values."""
        return rate / self.n_fft


@dataclass(frozen=True)
class LogMel:
    """Mel spectrogram in dB relative to the utterance's maximum, as `librosa.feature.melspectrogram(htk=True)`."""

    n_fft: int = setting(1024, "Hann window: 64 ms", unit="samples", least=16, most=16_384)
    n_mels: int = setting(64, "mel bands", least=1, most=512)
    top_db: float = setting(80.0, "range below the utterance's maximum", unit="dB", source=LIBROSA, least=1, most=200)
    pre_emphasis: float = setting(0.0, "as for MFCC", least=0, most=1)
    pad_mode: str = setting("constant", "as for MFCC", choices=PAD_MODES, added=True)


@dataclass(frozen=True)
class Embedding:
    """Frames of a frozen speech encoder, computed from the stored waveforms; the input "embedding" reads them."""

    encoder: str = setting("facebook/wav2vec2-base", "name on the Hugging Face hub, or folder")
    layers: tuple[int, ...] = setting(
        (-1,),
        "layers to store: 0 is the input of the first one, -1 the output of the last one, [] all; the model averages "
        "them, or learns their weights (model.layer_mix)",
    )
    context: str = setting(
        "segment",
        "context of a frame in the encoder: its segment, or its utterance in parts of 30 s",
        choices=("segment", "utterance"),
        added=True,
    )
    mask_padding: bool = setting(
        False, "whether frames after the end of the audio are zeros, which the model ignores", added=True
    )
    window: str = setting("cut", WINDOW, choices=WINDOWS, added=True)
    content: str = setting("", "hash of the encoder's weights; if empty, `train` reads it from the features")
    depth: int = setting(
        0, "layers that are stored; if 0, `train` reads it from the features", least=0, most=1_000, added=True
    )
    frames: int = setting(0, "frames per segment; if 0, `train` reads it from the features", least=0, most=100_000)
    width: int = setting(0, "numbers per frame; if 0, `train` reads it from the features", least=0, most=65_536)


@dataclass(frozen=True)
class Statistics:
    """Statistics of a frozen speech encoder's frames over an utterance, computed from the stored waveforms."""

    encoder: str = setting("openai/whisper-tiny.en", "name on the Hugging Face hub, or folder")
    layers: tuple[int, ...] = setting(
        (2,), "layers to use: 0 is the input of the first one, -1 the output of the last one, [] all"
    )
    kinds: tuple[str, ...] = setting(
        ("mean", "deviation", "first", "last"),
        "mean and standard deviation over all frames, and means over the first and last third",
    )
    window: str = setting("cut", WINDOW, choices=WINDOWS, added=True)
    draws: int = setting(2, "augmented copies of every utterance, in addition to the original", least=0, most=16)
    speed: float = setting(
        0.1, "largest relative change of tempo and pitch together in an augmented copy", least=0, most=0.5
    )
    gain: float = setting(6.0, "largest change of level in an augmented copy", unit="dB", least=0, most=40)
    noise: float = setting(
        0.5, "share of augmented copies with white noise at 10 to 30 dB below the speech", least=0, most=1
    )
    content: str = setting("", "hash of the encoder's weights; if empty, `train` reads it from the features")
    width: int = setting(0, "numbers per utterance; if 0, `train` reads it from the features", least=0, most=2**20)


@dataclass(frozen=True)
class _Known:
    """Settings of the features, one table per feature. A change affects only the store of that feature."""

    mfcc: Mfcc = field(default_factory=Mfcc)
    spectrogram: Spectrogram = field(default_factory=Spectrogram)
    logmel: LogMel = field(default_factory=LogMel)
    embedding: Embedding = field(default_factory=Embedding)
    statistics: Statistics = field(default_factory=Statistics, metadata=ADDED)


def _with_declared(known: type[Any]) -> type[Any]:
    """Extend `known` by a table for every input that declares settings of its own."""
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
