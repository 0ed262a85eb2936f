"""The settings: frozen dataclasses, each field with its default, unit, source and limits.

"The paper" is Zou et al., ICASSP 2022; "reference code" is its authors' published code, which holds the values
that the paper does not print. Limits that join several settings stand in `agreement`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import INPUTS as TABLE
from ser_pipeline.inputs import PAPER
from ser_pipeline.limits import setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ACOUSTIC = tuple(row.name for row in TABLE.values() if row.kind == "acoustic")
"""Inputs whose features give the co-attention weights; the first two are the paper's."""

SPEECH = tuple(row.name for row in TABLE.values() if row.kind == "speech")
"""Inputs whose frames are weighed; a model reads one of them at most."""

INPUTS = tuple(TABLE)
"""All of them, in the order in which the classifier has them."""

# Sources of defaults.
EXTRACTION = "paper, section 3.1"
TRAINING = "paper, section 3.2"
CODE = "reference code"
LIBROSA = "librosa's default"

EPOCHS = 100_000
"""The most that `train.epochs` and `train.patience` may be."""

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

    def segments(self, samples: Count) -> Count:
        """Segments of utterances of `samples` samples (a number or an array), the last one padded.

        Source: reference code; 11,002 over the four classes of IEMOCAP.

        >>> Audio().segments(16_000), Audio().segments(47_999), Audio().segments(48_000)
        (1, 1, 2)
        """
        return -(-(1 + samples // self.hop) // self.frames)


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

    @property
    def size(self) -> int:
        """Numbers a frame."""
        return self.n_mfcc * (1 + self.deltas)


@dataclass(frozen=True)
class Spectrogram:
    """Magnitude spectrogram in dB below the utterance's maximum."""

    n_fft: int = setting(800, "points of the DFT", unit="samples", source=EXTRACTION, least=16, most=16_384)
    window: int = setting(640, "Hamming window: 40 ms", unit="samples", source=EXTRACTION, least=16, most=16_384)
    bins: int = setting(200, "the lowest bins: 0 to 4 kHz", source=EXTRACTION, least=1, most=2_049)
    top_db: float = setting(80.0, "range below the utterance's maximum", unit="dB", source=CODE, least=1, most=200)
    pre_emphasis: float = setting(0.0, "as of the MFCC; the reference code has 0.97", least=0, most=1)

    def bin_hertz(self, rate: int) -> float:
        """From one bin to the next, in Hz, at `rate` samples a second: 20 with the paper's values."""
        return rate / self.n_fft


@dataclass(frozen=True)
class LogMel:
    """Mel spectrogram in dB below the utterance's maximum, as `librosa.feature.melspectrogram(htk=True)`."""

    n_fft: int = setting(1024, "Hann window: 64 ms", unit="samples", least=16, most=16_384)
    n_mels: int = setting(64, "mel bands", least=1, most=512)
    top_db: float = setting(80.0, "range below the utterance's maximum", unit="dB", source=LIBROSA, least=1, most=200)
    pre_emphasis: float = setting(0.0, "as of the MFCC", least=0, most=1)


@dataclass(frozen=True)
class Embedding:
    """Frames of a frozen speech encoder, made from the stored waveforms; read by the input "embedding"."""

    encoder: str = setting("facebook/wav2vec2-base", "name on the Hugging Face hub, or folder")
    layers: tuple[int, ...] = setting(
        (-1,), "layers that are averaged: 0 is the input of the first, -1 the output of the last; []: all"
    )
    content: str = setting("", "hash of the encoder's weights; empty: as `train` finds it")
    frames: int = setting(0, "frames a segment; 0: as `train` finds it", least=0, most=100_000)
    width: int = setting(0, "numbers a frame; 0: as `train` finds it", least=0, most=65_536)


@dataclass(frozen=True)
class Features:
    """What is extracted, one table a feature. A change here touches that feature's store alone."""

    mfcc: Mfcc = field(default_factory=Mfcc)
    spectrogram: Spectrogram = field(default_factory=Spectrogram)
    logmel: LogMel = field(default_factory=LogMel)
    embedding: Embedding = field(default_factory=Embedding)


@dataclass(frozen=True)
class Model:
    """The co-attention model and the finishing of its inputs on the device."""

    inputs: tuple[str, ...] = setting(PAPER, "what reaches the classifier")
    segments: int = setting(1, "neighbouring segments of an utterance that are heard as one; 2: 6 s", least=1, most=100)
    co_attention: bool = setting(True, "false: the speech encoder's frames are averaged", source="paper, Table 2")
    attention: str = setting(
        "relu", "of the co-attention over frames", source="paper, eq. 4", choices=("relu", "softmax")
    )
    speech_encoder: str = setting("facebook/wav2vec2-base", 'name on the Hugging Face hub, folder, or "small"')
    speech_weights: bool = setting(True, "false: the same architecture from random weights")
    freeze_speech_encoder: bool = setting(False, "true: no gradient reaches the speech encoder")
    layer_mix: bool = setting(False, "true: learned weights over the encoder's layers, instead of its last")
    spec_augment: bool = setting(
        True, "spans of frames masked in training, with the speech encoder's own probabilities"
    )
    layer_drop: bool = setting(
        False, "true: layers skipped in training, with the encoder's own probability, as in the reference code"
    )
    spectrogram_encoder: str = setting("alexnet", "of logmel alike", source="paper", choices=("alexnet", "small"))
    spectrogram_weights: str = setting("imagenet", '"imagenet", "none", or a file of torchvision\'s AlexNet')
    mfcc_encoder: str = setting("bilstm", "of the MFCC", source="paper", choices=("bilstm", "small"))
    lstm_width: int = setting(256, "of the BiLSTM, a direction", source=TRAINING, least=1, most=2_048)
    lstm_layers: int = setting(2, "of the BiLSTM", source=TRAINING, least=1, most=16)
    lstm_dropout: float = setting(0.5, "between layers of the BiLSTM", source=TRAINING, least=0, most=1)
    width: int = setting(128, "of every projected feature", source=CODE, least=1, most=4_096)
    dropout: float = setting(0.1, "before every projection", source=CODE, least=0, most=1)
    small_width: int = setting(64, 'channels of the "small" encoders', least=1, most=1_024)
    small_layers: int = setting(2, 'transformer layers of the "small" speech encoder', least=0, most=24)
    small_drop: float = setting(
        0.5,
        'share of training segments without the "small" encoders\' learned paths; 1: none has them',
        least=0,
        most=1,
    )
    pre_emphasis: float = setting(0.0, "of the waveform, on the device; the reference code has 0.97", least=0, most=1)
    pad_front: bool = setting(False, "true: zeros before a short waveform, as the reference code has it")
    pad_loud: bool = setting(
        False, "true: a short spectrogram is padded with its maximum, as the reference code has it"
    )

    def __post_init__(self) -> None:
        if not self.inputs or not set(self.inputs) <= set(INPUTS):
            raise PipelineError(f"setting 'model.inputs' is a list of {', '.join(INPUTS)}, not {list(self.inputs)}")
        if len(set(self.inputs)) < len(self.inputs):
            once = list(dict.fromkeys(self.inputs))
            raise PipelineError(f"setting 'model.inputs' names an input twice: {list(self.inputs)}; leave {once}")
        if set(SPEECH) <= set(self.inputs):
            raise PipelineError("setting 'model.inputs' has one of waveform and embedding at most")

    @property
    def speech(self) -> str:
        """The input whose frames are weighed or averaged; empty without one."""
        return next((name for name in SPEECH if name in self.inputs), "")

    @property
    def attends(self) -> bool:
        """Whether acoustic features weigh the speech encoder's frames."""
        return self.co_attention and bool(self.speech)

    @property
    def acoustic(self) -> tuple[str, ...]:
        """The acoustic features that are read: those among the inputs, or, where frames want weights, the paper's."""
        given = tuple(name for name in ACOUSTIC if name in self.inputs)
        return given or (PAPER[:2] if self.attends else ())

    @property
    def reads(self) -> tuple[str, ...]:
        """Every feature that is read."""
        return (*self.acoustic, self.speech) if self.speech else self.acoustic


@dataclass(frozen=True)
class Train:
    """The objective and its optimiser."""

    batch: int = setting(64, "a step", unit="segments", source=TRAINING, least=1, most=65_536)
    lr: float = setting(1e-5, "rate of AdamW", source=TRAINING, least=0, most=1)
    weight_decay: float = setting(0.01, "of AdamW", source=f"torch's default; {CODE}", least=0, most=100)
    epochs: int = setting(100, "at most", unit="epochs", source=CODE, least=1, most=EPOCHS)
    patience: int = setting(8, "without gain before a fold stops", unit="epochs", source=CODE, least=1, most=EPOCHS)
    selection: str = setting(
        "validation",
        "rows that choose the epoch; test is the reference code's way, and reads high",
        choices=("validation", "test"),
    )
    monitor: str = setting(
        "ua",
        "what chooses the epoch: a score of those rows, or always the last",
        choices=("ua", "wa", "wa+ua", "loss", "last"),
    )
    precision: str = setting(
        "auto", "bf16 is autocast; auto: bf16 on a device that is faster in it", choices=("auto", "fp32", "bf16")
    )
    warmup: float = setting(0.0, "share of all steps in which the rate rises from 0", least=0, most=1)
    schedule: str = setting(
        "constant", "of the rate after that; cosine and linear go down to 0", choices=("constant", "cosine", "linear")
    )
    clip: float = setting(0.0, "largest norm of the gradient; 0: none", least=0, most=1e6)
    ema: float = setting(
        0.0,
        "decay a step of the running mean of the weights that is evaluated and kept; 0: the weights",
        least=0,
        most=0.99999,
    )
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", least=0, most=1)
    class_weights: bool = setting(False, "true: the loss of a class is weighted by the inverse of its share")
    balanced: bool = setting(False, "true: an epoch draws as many utterances' segments from every class")


@dataclass(frozen=True)
class Augment:
    """Changes of the training segments, drawn anew every time; none by default, as in the paper."""

    speed: float = setting(
        0.0, "largest relative change of tempo and pitch together; 0.1: 0.9 to 1.1", least=0, most=0.9
    )
    gain: float = setting(0.0, "largest change of level", unit="dB", least=0, most=60)
    noise: float = setting(0.0, "share of segments with white noise at 10 to 30 dB under the speech", least=0, most=1)
    frame_masks: int = setting(0, "stretches of frames that are silenced in MFCC and images", least=0, most=100)
    frame_mask: int = setting(30, "longest of them", unit="frames", least=0, most=6_000)
    bin_masks: int = setting(0, "bands that are silenced in images", least=0, most=100)
    bin_mask: int = setting(20, "widest of them", unit="bins", least=0, most=2_049)
    mixup: float = setting(
        0.0, "share of segments whose encoded inputs and target are mixed with another's", least=0, most=1
    )


@dataclass(frozen=True)
class Config:
    """Everything that a result depends on, besides the data."""

    audio: Audio = field(default_factory=Audio)
    features: Features = field(default_factory=Features)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    augment: Augment = field(default_factory=Augment)
    seed: int = setting(0, "of everything that is drawn", least=0, most=2**32 - 1)

    @property
    def heard(self) -> Audio:
        """What the model hears at a time: the stored segments, or several joined."""
        return replace(self.audio, segment=self.model.segments * self.audio.segment)
