"""The settings: frozen dataclasses, each field with its default, unit, source and limits; stage 2's stand here.

"The paper" is Zou et al., ICASSP 2022; "reference code" is its authors' published code, which holds the values
that the paper does not print. Limits that join several settings stand in `agreement`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ser_pipeline.errors import PipelineError
from ser_pipeline.feature_settings import CODE, WINDOW, WINDOWS, Audio, Features
from ser_pipeline.inputs import INPUTS as TABLE
from ser_pipeline.inputs import PAPER
from ser_pipeline.limits import setting
from ser_pipeline.targets import TARGETS

ACOUSTIC = tuple(row.name for row in TABLE.values() if row.kind == "acoustic")
"""Inputs whose features give the co-attention weights; the first two are the paper's."""

SPEECH = tuple(row.name for row in TABLE.values() if row.kind == "speech")
"""Inputs whose frames are weighed; a model reads one of them at most."""

INPUTS = tuple(TABLE)
"""All of them, in the order in which the classifier has them."""

TRAINING = "paper, section 3.2"
"""The source of the defaults of training that the paper prints."""

SELECTIONS = ("validation", "test", "reference")
"""What a fold chooses its epoch on. Both others than validation choose on the rows that they test, and read high; under
"test" the validation rows stay out of training, under "reference" they train, as in the published code."""

ON_TEST = SELECTIONS[1:]
"""Those of `SELECTIONS` whose epoch is chosen on the test rows."""

UTTERANCE_SCORES = ("log-probability", "probability", "vote", "duration")
"""Ways to make an utterance's score of its segments: `evaluation.metrics.SCORES` has them."""

STORES = ("features", "waveform")
"""What of the acoustic features is kept: their rows, or the waveforms alone."""

EPOCHS = 100_000
"""The most that `train.epochs` and `train.patience` may be."""


@dataclass(frozen=True)
class Model:
    """The co-attention model and the finishing of its inputs on the device."""

    inputs: tuple[str, ...] = setting(PAPER, "what reaches the classifier")
    segments: int = setting(1, "neighbouring segments of an utterance that are heard as one; 2: 6 s", least=1, most=100)
    co_attention: bool = setting(True, "false: the speech encoder's frames are averaged", source="paper, Table 2")
    pooling: str = setting(
        "co-attention",
        "of speech frames; co-attention: as co_attention says; under the others no other input weighs them",
        choices=("co-attention", "mean", "mean+deviation", "attention"),
        added=True,
    )
    attention: str = setting(
        "relu", "of the co-attention over frames", source="paper, eq. 4", choices=("relu", "softmax")
    )
    speech_encoder: str = setting("facebook/wav2vec2-base", 'name on the Hugging Face hub, folder, or "small"')
    speech_weights: bool = setting(True, "false: the same architecture from random weights")
    freeze_speech_encoder: bool = setting(False, "true: no gradient reaches the speech encoder")
    freeze: str = setting("none", "of it, what stays as it is: none, features, first-K layers too, or all", added=True)
    mask_padding: bool = setting(
        False,
        "true: what follows the audio's end reaches no attention, norm or pooling of a pre-trained speech encoder",
        added=True,
    )
    speech_window: str = setting("cut", WINDOW, choices=WINDOWS, added=True)
    lora_rank: int = setting(
        0, "of adapters that are trained in a pre-trained encoder's place; 0: none", least=0, most=1_024, added=True
    )
    lora_alpha: float = setting(16.0, "adapters count lora_alpha / lora_rank times", least=0.01, most=4_096, added=True)
    lora_targets: tuple[str, ...] = setting(
        ("q_proj", "v_proj"), "linear layers that have adapters", source="Hu et al., ICLR 2022", added=True
    )
    layer_mix: bool = setting(
        False, "true: learned weights over the encoder's layers, instead of its last, or of the mean of stored ones"
    )
    spec_augment: bool = setting(
        True, "spans of frames masked in training, with the speech encoder's own probabilities"
    )
    layer_drop: bool = setting(
        False, "true: layers skipped in training, with the encoder's own probability, as in the reference code"
    )
    spectrogram_encoder: str = setting(
        "alexnet", "of logmel alike", source="paper", choices=tuple(TABLE["spectrogram"].encoders)
    )
    spectrogram_weights: str = setting("imagenet", '"imagenet", "none", or a file of torchvision\'s AlexNet')
    mfcc_encoder: str = setting("bilstm", "of the MFCC", source="paper", choices=tuple(TABLE["mfcc"].encoders))
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
    rescale_images: bool = setting(
        True,
        "false: grey levels stay as they are stored; true: a bin's go to the extremes of the fold's training rows",
        source=CODE,
        added=True,
    )
    normalise_frames: bool = setting(
        False, "true: stored frames to zero mean and unit variance over their width, as Whisper's want it", added=True
    )
    utterance_score: str = setting(
        "log-probability",
        "of its segments: their mean log-probability, weighted by their real samples (duration) or not, mean "
        "probability, or majority vote",
        source=CODE,
        choices=UTTERANCE_SCORES,
        added=True,
    )
    least_speech: float = setting(
        0.0,
        "real audio without which a segment neither trains nor counts for its utterance; 0: all do, else 25 at least",
        unit="ms",
        least=0,
        most=60_000,
        added=True,
    )
    head: str = setting(
        "fusion",
        "fusion (paper, eq. 6); linear, or mlp with a hidden layer of model.width, over one pooled or whole input",
        choices=("fusion", "linear", "mlp"),
        added=True,
    )

    def __post_init__(self) -> None:
        if not self.inputs or not set(self.inputs) <= set(INPUTS):
            raise PipelineError(f"setting 'model.inputs' is a list of {', '.join(INPUTS)}, not {list(self.inputs)}")
        if len(set(self.inputs)) < len(self.inputs):
            once = list(dict.fromkeys(self.inputs))
            raise PipelineError(f"setting 'model.inputs' names an input twice: {list(self.inputs)}; leave {once}")
        if set(SPEECH) <= set(self.inputs):
            raise PipelineError("setting 'model.inputs' has one of waveform and embedding at most")
        whole = [name for name in self.inputs if TABLE[name].kind == "utterance"]
        if whole and len(whole) < len(self.inputs):
            raise PipelineError(f"setting 'model.inputs' has {' and '.join(whole)} alone: it is of whole utterances")

    @property
    def speech(self) -> str:
        """The input whose frames are weighed or averaged; empty without one."""
        return next((name for name in SPEECH if name in self.inputs), "")

    @property
    def pooled(self) -> str:
        """What makes one vector of the speech encoder's frames: co-attention, mean, mean+deviation or attention."""
        return self.pooling if self.co_attention or self.pooling != "co-attention" else "mean"

    @property
    def attends(self) -> bool:
        """Whether acoustic features weigh the speech encoder's frames."""
        return self.pooled == "co-attention" and bool(self.speech)

    @property
    def acoustic(self) -> tuple[str, ...]:
        """The acoustic features that are read: those among the inputs, or, where frames want weights, the paper's."""
        given = tuple(name for name in ACOUSTIC if name in self.inputs)
        return given or (PAPER[:2] if self.attends else ())

    @property
    def reads(self) -> tuple[str, ...]:
        """Every feature that is read."""
        if self.whole:
            return self.inputs
        return (*self.acoustic, self.speech) if self.speech else self.acoustic

    @property
    def whole(self) -> bool:
        """Whether utterances are heard whole, not in segments."""
        return TABLE[self.inputs[0]].kind == "utterance"


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
        "rows that choose the epoch; test reads high, and so does reference, which also trains on the rows that "
        "validate otherwise, as the reference code does",
        choices=SELECTIONS,
    )
    monitor: str = setting(
        "ua",
        "what chooses the epoch: a score of those rows (ccc: of attributes, their mean), or always the last",
        choices=("ua", "wa", "wa+ua", "loss", "last", "ccc"),
    )
    precision: str = setting(
        "auto", "bf16 is autocast; auto: bf16 on a device that is faster in it", choices=("auto", "fp32", "bf16")
    )
    warmup: float = setting(0.0, "share of all steps in which the rate rises from 0", least=0, most=1)
    schedule: str = setting(
        "constant", "of the rate after that; cosine and linear go down to 0", choices=("constant", "cosine", "linear")
    )
    clip: float = setting(0.0, "largest norm of the gradient; 0: none", least=0, most=1e6)
    speech_lr: float = setting(0.0, "rate of a pre-trained speech encoder; 0: as lr", least=0, most=1, added=True)
    mix_lr: float = setting(
        0.0, "rate of learned weights over layers (model.layer_mix); 0: as lr", least=0, most=1, added=True
    )
    layer_decay: float = setting(
        1.0, "of that rate from each layer of the encoder to the one below", least=0.01, most=1, added=True
    )
    decay_norms: bool = setting(True, "false: no weight decay of norms and biases", added=True)
    head_epochs: int = setting(
        0,
        "at the start, in which a pre-trained encoder stays as it is",
        unit="epochs",
        least=0,
        most=EPOCHS,
        added=True,
    )
    ema: float = setting(
        0.0,
        "decay a step of the running mean of the weights that is evaluated and kept; 0: the weights",
        least=0,
        most=0.99999,
    )
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", least=0, most=1)
    class_weights: bool = setting(False, "true: the loss of a class is weighted by the inverse of its share")
    balanced: bool = setting(False, "true: an epoch draws as many utterances' segments from every class")
    corpus_weights: str = setting(
        "size",
        "of several that are trained together, in an epoch: every utterance once (size), or as many of each (equal)",
        choices=("size", "equal"),
        added=True,
    )
    solver: str = setting(
        "adamw",
        "the others solve for a linear head",
        source="paper",
        choices=("adamw", "ridge", "svm", "logistic"),
        added=True,
    )
    threads: int = setting(
        1,
        "of the processor on which a fold is computed; part of the key, as the last digit of a sum depends on them",
        least=1,
        most=1_024,
        added=True,
    )
    target: str = setting(
        "class",
        "what a model learns to tell: the label, the raters' distribution, or arousal, valence and dominance",
        choices=tuple(TARGETS),
        added=True,
    )
    vad_weight: float = setting(
        1.0, "of 1 - CCC beside the cross-entropy under vad+class", least=0.001, most=1_000, added=True
    )
    ridge: float = setting(1.0, "strength of ridge, in utterances' mean variance", least=1e-6, most=1e6, added=True)


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
    store: str = setting(
        "features",
        "what of the acoustic features is kept: their rows, or the waveforms alone, of which a step makes them on its "
        "device",
        choices=STORES,
        added=True,
    )

    @property
    def least_samples(self) -> int:
        """Real samples without which a segment is not heard."""
        return round(self.model.least_speech * self.audio.rate / 1000)

    @property
    def model_audio(self) -> Audio:
        """What the model hears at a time: the stored segments, or several joined."""
        return self.audio.whole if self.model.whole else self.audio.joined(self.model.segments)
