"""Settings: frozen dataclasses with the paper's values, presets, TOML files and single overrides.

Layers, each over the one before: the defaults below, a preset, a TOML file, `KEY=VALUE` pairs. An unknown key
or a value of the wrong type is one line that names the valid ones.

"The paper" is Zou et al., ICASSP 2022; "reference code" is its authors' published code, which holds the values
that the paper does not print.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import tomli_w

from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import INPUTS as TABLE
from ser_pipeline.inputs import PAPER
from ser_pipeline.limits import CHOICES, ENDLESS, RANGES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ACOUSTIC = tuple(row.name for row in TABLE.values() if row.kind == "acoustic")
"""Inputs whose features give the co-attention weights; the first two are the paper's."""

SPEECH = tuple(row.name for row in TABLE.values() if row.kind == "speech")
"""Inputs whose frames are weighed; a model reads one of them at most."""

INPUTS = tuple(TABLE)
"""All of them, in the order in which the classifier has them."""


Count = TypeVar("Count", int, "NDArray[np.int64]")


@dataclass(frozen=True)
class Audio:
    """How a recording becomes frames and segments. A change here touches every store."""

    rate: int = 16_000  # Hz (paper, section 3.1)
    segment: int = 48_000  # samples: 3 s (paper, section 3.1)
    hop: int = 160  # samples: 10 ms (paper, section 3.1)

    @property
    def frames(self) -> int:
        """Frames in a segment: 300 with the paper's values."""
        return self.segment // self.hop

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

    n_mfcc: int = 40  # coefficients a frame (paper, section 3.1)
    n_fft: int = 2048  # samples (librosa's default; reference code)
    n_mels: int = 128  # bands (librosa's default; reference code)
    top_db: float = 80.0  # dB below the utterance's loudest band (librosa's default)
    pre_emphasis: float = 0.0  # y[t] = x[t] - a x[t-1]; the reference code has 0.97
    deltas: int = 0  # orders of change over 9 frames that follow the coefficients: 0, 1 or 2

    @property
    def size(self) -> int:
        """Numbers a frame."""
        return self.n_mfcc * (1 + self.deltas)


@dataclass(frozen=True)
class Spectrogram:
    """Magnitude spectrogram in dB below the utterance's maximum."""

    n_fft: int = 800  # points of the DFT (paper, section 3.1)
    window: int = 640  # samples: 40 ms Hamming (paper, section 3.1)
    bins: int = 200  # the lowest bins: 0 to 4 kHz (paper, section 3.1)
    top_db: float = 80.0  # dB (reference code)
    pre_emphasis: float = 0.0  # the reference code has 0.97


@dataclass(frozen=True)
class LogMel:
    """Mel spectrogram in dB below the utterance's maximum, as `librosa.feature.melspectrogram(htk=True)`."""

    n_fft: int = 1024  # samples of a Hann window: 64 ms
    n_mels: int = 64  # bands
    top_db: float = 80.0  # dB (librosa's default)
    pre_emphasis: float = 0.0


@dataclass(frozen=True)
class Embedding:
    """Frames of a frozen speech encoder, made from the stored waveforms; read by the input "embedding"."""

    encoder: str = "facebook/wav2vec2-base"  # name on the Hugging Face hub, or folder
    layers: tuple[int, ...] = (-1,)  # averaged: 0 is the input of the first, -1 the output of the last; []: all
    content: str = ""  # hash of the encoder's weights; empty: as `train` finds it
    frames: int = 0  # a segment; 0: as `train` finds it
    width: int = 0  # of a frame; 0: as `train` finds it


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

    inputs: tuple[str, ...] = PAPER  # what reaches the classifier
    segments: int = 1  # neighbouring segments of an utterance that are heard as one; 2: 6 s
    co_attention: bool = True  # False: the speech encoder's frames are averaged (paper, Table 2)
    attention: str = "relu"  # "relu" (paper, eq. 4) or "softmax" over frames
    speech_encoder: str = "facebook/wav2vec2-base"  # name on the Hugging Face hub, folder, or "small"
    speech_weights: bool = True  # False: the same architecture from random weights
    freeze_speech_encoder: bool = False  # True: no gradient reaches the speech encoder
    layer_mix: bool = False  # True: learned weights over the encoder's layers, instead of its last
    spec_augment: bool = True  # spans of frames masked in training, with the encoder's own probabilities
    layer_drop: bool = False  # True: layers skipped in training, with the encoder's own probability (reference code)
    spectrogram_encoder: str = "alexnet"  # "alexnet" (paper) or "small"; of logmel alike
    spectrogram_weights: str = "imagenet"  # "imagenet", "none", or a file of torchvision's AlexNet
    mfcc_encoder: str = "bilstm"  # "bilstm" (paper) or "small"
    lstm_width: int = 256  # a direction (paper, section 3.2)
    lstm_layers: int = 2  # (paper, section 3.2)
    lstm_dropout: float = 0.5  # (paper, section 3.2)
    width: int = 128  # of every projected feature (reference code)
    dropout: float = 0.1  # before every projection (reference code)
    small_width: int = 64  # channels of the "small" encoders
    small_layers: int = 2  # transformer layers of the "small" speech encoder
    small_drop: float = 0.5  # share of training segments without the "small" encoders' learned paths; 1: none has them
    pre_emphasis: float = 0.0  # of the waveform, on the device; the reference code has 0.97
    pad_front: bool = False  # True: zeros before a short waveform, as the reference code has it
    pad_loud: bool = False  # True: a short spectrogram is padded with its maximum, as the reference code has it

    def __post_init__(self) -> None:
        if not self.inputs or not set(self.inputs) <= set(INPUTS):
            raise PipelineError(f"setting 'model.inputs' is a list of {', '.join(INPUTS)}, not {list(self.inputs)}")
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

    batch: int = 64  # segments a step (paper, section 3.2)
    lr: float = 1e-5  # AdamW (paper, section 3.2)
    weight_decay: float = 0.01  # AdamW's default in torch (reference code)
    epochs: int = 100  # at most (reference code)
    patience: int = 8  # epochs without gain before a fold stops (reference code)
    selection: str = "validation"  # rows that choose the epoch; "test" is the reference code's way, and reads high
    monitor: str = "ua"  # what chooses the epoch: "ua", "wa", "wa+ua" or "loss" of those rows, or always the "last"
    precision: str = "auto"  # "fp32", "bf16" (autocast), or "auto": bf16 on a device that is faster in it
    warmup: float = 0.0  # share of all steps in which the rate rises from 0; 0 to 1
    schedule: str = "constant"  # of the rate after that: "constant", or "cosine" or "linear" down to 0
    clip: float = 0.0  # largest norm of the gradient; 0: none
    ema: float = 0.0  # decay a step of the running mean of the weights that is evaluated and kept; 0: the weights
    label_smoothing: float = 0.0  # share of the target spread over all classes; 0 to 1
    class_weights: bool = False  # True: the loss of a class is weighted by the inverse of its share
    balanced: bool = False  # True: an epoch draws as many utterances' segments from every class


@dataclass(frozen=True)
class Augment:
    """Changes of the training segments, drawn anew every time; none by default, as in the paper."""

    speed: float = 0.0  # largest relative change of tempo and pitch together; 0.1: 0.9 to 1.1
    gain: float = 0.0  # dB: largest change of level
    noise: float = 0.0  # share of segments with white noise at 10 to 30 dB under the speech
    frame_masks: int = 0  # stretches of frames that are silenced in MFCC and spectrogram
    frame_mask: int = 30  # frames: longest of them
    bin_masks: int = 0  # bands that are silenced in the spectrogram
    bin_mask: int = 20  # bins: widest of them
    mixup: float = 0.0  # share of segments whose encoded inputs and target are mixed with another's; 0 to 1


@dataclass(frozen=True)
class Config:
    """Everything that a result depends on, besides the data."""

    audio: Audio = field(default_factory=Audio)
    features: Features = field(default_factory=Features)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    augment: Augment = field(default_factory=Augment)
    seed: int = 0

    @property
    def heard(self) -> Audio:
        """What the model hears at a time: the stored segments, or several joined."""
        return replace(self.audio, segment=self.model.segments * self.audio.segment)


T = TypeVar("T")


def presets() -> tuple[str, ...]:
    """Names of the presets, sorted.

    >>> "paper" in presets()
    True
    """
    folder = resources.files("ser_pipeline.presets")
    return tuple(sorted(Path(str(file)).stem for file in folder.iterdir() if str(file).endswith(".toml")))


def load(preset: str = "paper", file: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Config from the layers: defaults, `preset`, `file`, then `KEY=VALUE` pairs such as `train.lr=1e-4`.

    Raises:
        PipelineError: an unknown preset, key or choice, a value of the wrong type, or TOML that cannot be read.
    """
    if preset not in presets():
        raise PipelineError(f"unknown preset '{preset}'; there are {', '.join(presets())}")
    text = (resources.files("ser_pipeline.presets") / f"{preset}.toml").read_text(encoding="utf-8")
    config = merge(Config(), parse(text, f"preset {preset}"))
    if file is not None:
        config = merge(config, parse(_read(file), str(file)))
    for pair in overrides:
        config = merge(config, _pair(pair))
    return config


def loads(text: str, source: str) -> Config:
    """Config from TOML text such as `dumps` gives; keys that are absent keep their defaults."""
    return merge(Config(), parse(text, source))


def dumps(config: Config) -> str:
    """The whole of `config` as TOML."""
    return tomli_w.dumps(asdict(config))


def parse(text: str, source: str) -> dict[str, Any]:
    """The tables of TOML `text`; a fault names `source`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PipelineError(f"{source} is not valid TOML: {error}") from None


def merge(config: T, changes: Mapping[str, Any], prefix: str = "") -> T:
    """A copy of the dataclass `config` with the nested `changes`, checked by name, type and choice."""
    hints = get_type_hints(type(config))
    values: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise PipelineError(_unknown(name, [f"{prefix}{f.name}" for f in fields(config)]))  # type: ignore[arg-type]
        current = getattr(config, key)
        if is_dataclass(current) and not isinstance(current, type):
            if not isinstance(value, Mapping):
                raise PipelineError(
                    f"setting '{name}' is a table; set one of its keys, such as '{name}.{_first(current)}'"
                )
            values[key] = merge(current, value, f"{name}.")
        else:
            values[key] = _in_range(name, _convert(name, hints[key], value))
    return replace(config, **values)  # type: ignore[type-var]


def differences(old: Any, new: Any) -> list[str]:
    """Names of the settings in which two configs of one type differ, with both values.

    >>> differences(Config(), Config(seed=3))
    ['seed: 0 -> 3']
    """
    return [f"{name}: {before} -> {after}" for name, before, after in _differing(old, new)]


def pairs(config: Any, other: Any) -> list[str]:
    """The `KEY=VALUE` pairs that turn `other` into `config`.

    >>> pairs(Config(model=Model(layer_mix=True)), Config())
    ['model.layer_mix=true']
    """
    # What JSON says of a word, a number, a truth value or a list of them, TOML says alike.
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value, _ in _differing(config, other)]


def _differing(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of every setting in which two configs differ."""
    for item in fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if is_dataclass(before):
            yield from _differing(before, after, f"{prefix}{item.name}.")
        elif before != after:
            yield f"{prefix}{item.name}", before, after


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot read the settings in {file}: {error.strerror}") from None


def _pair(pair: str) -> dict[str, Any]:
    """`a.b=1` as nested tables; a value that is not TOML is taken as a string."""
    name, equals, text = pair.partition("=")
    if not equals or not name.strip():
        raise PipelineError(f"'{pair}' is not KEY=VALUE, such as train.lr=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return dict(value)


def _convert(name: str, wanted: Any, value: Any) -> Any:
    """`value` as the annotated type; integers pass as floats and lists as tuples."""
    if get_origin(wanted) is tuple:
        inner = get_args(wanted)[0]
        if isinstance(value, list | tuple) and all(isinstance(item, inner) for item in value):
            return tuple(value)
    elif isinstance(wanted, types.UnionType):
        if isinstance(value, get_args(wanted)):
            return value
    elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        if name in CHOICES and value not in CHOICES[name]:
            raise PipelineError(f"setting '{name}' is one of {', '.join(map(str, CHOICES[name]))}, not '{value}'")
        return value
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}.get(wanted, "a list")
    raise PipelineError(f"setting '{name}' must be {kind}, not {value!r}")


def _in_range(name: str, value: Any) -> Any:
    """`value`, if the setting may have it."""
    least, most = RANGES.get(name, (-ENDLESS, ENDLESS))
    if name in RANGES and not least <= value <= most:
        allowed = f"{least:g} or more" if most == ENDLESS else f"{least:g} to {most:g}"
        raise PipelineError(f"setting '{name}' is {allowed}, not {value:g}")
    return value


def _unknown(name: str, valid: list[str]) -> str:
    """What is said of the setting `name`, where its table has those that are `valid`."""
    key = name.rpartition(".")[2]
    alike = [one for one in _names(Config()) if one.rpartition(".")[2] == key]
    close = alike or difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown setting '{name}'; {guess}valid: {', '.join(sorted(valid))}"


def _names(config: Any, prefix: str = "") -> Iterator[str]:
    """Names of all settings."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from _names(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


def _first(table: Any) -> str:
    return fields(table)[0].name
