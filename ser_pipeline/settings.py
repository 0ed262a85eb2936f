"""The settings, as frozen dataclasses whose fields declare default, unit, source and limits; here are those of stage 2.

"The paper" is Zou et al., ICASSP 2022. "Reference code" is its authors' published code, which has the values that the
paper does not give. Limits that involve several settings are in `agreement`.
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
"""Inputs whose frames are weighted; a model reads at most one of them."""

INPUTS = tuple(TABLE)
"""All inputs, in the order in which the classifier concatenates them."""

TRAINING = "paper, section 3.2"
"""Source of the defaults of training that the paper gives."""

SELECTIONS = ("validation", "test", "reference")
"""Rows on which a fold chooses its epoch. "test" and "reference" use the test rows, so that scores are too high. With
"test" the validation rows are not trained on; with "reference" they are, as in the published code."""

ON_TEST = SELECTIONS[1:]
"""The `SELECTIONS` that choose the epoch on the test rows."""

UTTERANCE_SCORES = ("log-probability", "probability", "vote", "duration")
"""Ways to combine the scores of segments to those of an utterance, the keys of `evaluation.metrics.SCORES`."""

STORES = ("features", "waveform")
"""Forms in which acoustic features are stored: their rows, or only the waveforms."""

EPOCHS = 100_000
"""Largest value of `train.epochs` and `train.patience`."""


@dataclass(frozen=True)
class Model:
    """The co-attention model, and the processing of its inputs on the device."""

    inputs: tuple[str, ...] = setting(PAPER, "inputs of the classifier")
    segments: int = setting(1, "neighbouring segments that are joined to one; 2 gives 6 s", least=1, most=100)
    co_attention: bool = setting(
        True, "whether co-attention weights the speech encoder's frames; false: their mean", source="paper, Table 2"
    )
    pooling: str = setting(
        "co-attention",
        "pooling of speech frames; co-attention depends on co_attention, the others do not use further inputs",
        choices=("co-attention", "mean", "mean+deviation", "attention"),
        added=True,
    )
    attention: str = setting(
        "relu", "activation of the co-attention weights", source="paper, eq. 4", choices=("relu", "softmax")
    )
    speech_encoder: str = setting("facebook/wav2vec2-base", 'name on the Hugging Face hub, folder, or "small"')
    speech_weights: bool = setting(True, "whether to load pre-trained weights; false: random ones")
    freeze_speech_encoder: bool = setting(False, "whether to stop all gradients at the speech encoder")
    freeze: str = setting(
        "none",
        "frozen part of the speech encoder: none, features (all before its layers), first-K (also K layers), or all",
        added=True,
    )
    mask_padding: bool = setting(
        False,
        "whether padding is excluded from attention, norms and pooling of a pre-trained speech encoder",
        added=True,
    )
    speech_window: str = setting("cut", WINDOW, choices=WINDOWS, added=True)
    lora_rank: int = setting(
        0, "rank of adapters trained instead of a pre-trained encoder; 0: none", least=0, most=1_024, added=True
    )
    lora_alpha: float = setting(16.0, "scale of adapters is lora_alpha / lora_rank", least=0.01, most=4_096, added=True)
    lora_targets: tuple[str, ...] = setting(
        ("q_proj", "v_proj"), "linear layers with adapters", source="Hu et al., ICLR 2022", added=True
    )
    layer_mix: bool = setting(
        False, "whether to learn weights of the encoder's layers; false: its last one, or the mean of stored ones"
    )
    spec_augment: bool = setting(
        True, "whether to mask spans of frames in training, with the speech encoder's own probabilities"
    )
    layer_drop: bool = setting(
        False, "whether to skip layers in training, with the encoder's own probability, as in the reference code"
    )
    spectrogram_encoder: str = setting(
        "alexnet", "encoder of spectrogram and logmel", source="paper", choices=tuple(TABLE["spectrogram"].encoders)
    )
    spectrogram_weights: str = setting("imagenet", '"imagenet", "none", or a file of torchvision\'s AlexNet')
    mfcc_encoder: str = setting("bilstm", "encoder of MFCC", source="paper", choices=tuple(TABLE["mfcc"].encoders))
    lstm_width: int = setting(256, "width of the BiLSTM, per direction", source=TRAINING, least=1, most=2_048)
    lstm_layers: int = setting(2, "layers of the BiLSTM", source=TRAINING, least=1, most=16)
    lstm_dropout: float = setting(0.5, "dropout between layers of the BiLSTM", source=TRAINING, least=0, most=1)
    width: int = setting(128, "width of every projected feature", source=CODE, least=1, most=4_096)
    dropout: float = setting(0.1, "dropout before every projection", source=CODE, least=0, most=1)
    small_width: int = setting(64, 'channels of the "small" encoders', least=1, most=1_024)
    small_layers: int = setting(2, 'transformer layers of the "small" speech encoder', least=0, most=24)
    small_drop: float = setting(
        0.5,
        'share of training segments without the learned paths of the "small" encoders; 1: these are never used',
        least=0,
        most=1,
    )
    pre_emphasis: float = setting(
        0.0, "pre-emphasis of the waveform, on the device; the reference code uses 0.97", least=0, most=1
    )
    pad_front: bool = setting(False, "whether to pad a short waveform at its start, as in the reference code")
    pad_loud: bool = setting(False, "whether to pad a short spectrogram with its maximum, as in the reference code")
    rescale_images: bool = setting(
        True,
        "whether to scale the grey levels of each bin to the extremes of the fold's training rows",
        source=CODE,
        added=True,
    )
    normalise_frames: bool = setting(
        False,
        "whether to scale stored frames to zero mean and unit variance over their width, which Whisper's need",
        added=True,
    )
    utterance_score: str = setting(
        "log-probability",
        "combination of segments: mean log-probability, the same weighted by their samples without padding (duration), "
        "mean probability, or majority vote",
        source=CODE,
        choices=UTTERANCE_SCORES,
        added=True,
    )
    least_speech: float = setting(
        0.0,
        "shortest audio of a segment that is used in training and scores; 0 for all segments, otherwise at least 25",
        unit="ms",
        least=0,
        most=60_000,
        added=True,
    )
    head: str = setting(
        "fusion",
        "fusion (paper, eq. 6), or for a single pooled input or whole utterances: linear, or mlp with a hidden layer "
        "of model.width",
        choices=("fusion", "linear", "mlp"),
        added=True,
    )

    def __post_init__(self) -> None:
        if not self.inputs or not set(self.inputs) <= set(INPUTS):
            raise PipelineError(f"setting 'model.inputs' takes a list of {', '.join(INPUTS)}, not {list(self.inputs)}")
        if len(set(self.inputs)) < len(self.inputs):
            once = list(dict.fromkeys(self.inputs))
            raise PipelineError(f"setting 'model.inputs' names an input twice: {list(self.inputs)}; use {once}")
        if set(SPEECH) <= set(self.inputs):
            raise PipelineError("setting 'model.inputs' can have only one of waveform and embedding")
        whole = [name for name in self.inputs if TABLE[name].kind == "utterance"]
        if whole and len(whole) < len(self.inputs):
            alone = " and ".join(whole)
            raise PipelineError(f"setting 'model.inputs' cannot combine {alone} of whole utterances with other inputs")

    @property
    def speech(self) -> str:
        """The input whose frames are pooled; "" if there is none."""
        return next((name for name in SPEECH if name in self.inputs), "")

    @property
    def pooled(self) -> str:
        """Pooling of the speech encoder's frames: co-attention, mean, mean+deviation or attention."""
        return self.pooling if self.co_attention or self.pooling != "co-attention" else "mean"

    @property
    def attends(self) -> bool:
        """Whether acoustic features weight the speech encoder's frames."""
        return self.pooled == "co-attention" and bool(self.speech)

    @property
    def acoustic(self) -> tuple[str, ...]:
        """The acoustic features that are read: those among the inputs, or the paper's if co-attention needs them."""
        given = tuple(name for name in ACOUSTIC if name in self.inputs)
        return given or (PAPER[:2] if self.attends else ())

    @property
    def reads(self) -> tuple[str, ...]:
        """All features that are read."""
        if self.whole:
            return self.inputs
        return (*self.acoustic, self.speech) if self.speech else self.acoustic

    @property
    def whole(self) -> bool:
        """Whether the model reads whole utterances instead of segments."""
        return TABLE[self.inputs[0]].kind == "utterance"


@dataclass(frozen=True)
class Train:
    """The objective and its optimiser."""

    batch: int = setting(64, "batch size", unit="segments", source=TRAINING, least=1, most=65_536)
    lr: float = setting(1e-5, "learning rate of AdamW", source=TRAINING, least=0, most=1)
    weight_decay: float = setting(0.01, "weight decay of AdamW", source=f"torch's default; {CODE}", least=0, most=100)
    epochs: int = setting(100, "largest number of epochs", unit="epochs", source=CODE, least=1, most=EPOCHS)
    patience: int = setting(
        8, "epochs without improvement after which a fold stops", unit="epochs", source=CODE, least=1, most=EPOCHS
    )
    selection: str = setting(
        "validation",
        "rows that choose the epoch; with test and reference scores are too high, and reference also trains on the "
        "validation rows, as the reference code does",
        choices=SELECTIONS,
    )
    monitor: str = setting(
        "ua",
        "score that chooses the epoch (ccc: mean over attributes), or always the last epoch",
        choices=("ua", "wa", "wa+ua", "loss", "last", "ccc"),
    )
    precision: str = setting(
        "auto", "bf16 is autocast; auto: bf16 if the device is faster in it", choices=("auto", "fp32", "bf16")
    )
    warmup: float = setting(0.0, "share of all steps in which the learning rate rises from 0", least=0, most=1)
    schedule: str = setting(
        "constant",
        "learning rate after warm-up; cosine and linear decrease it to 0",
        choices=("constant", "cosine", "linear"),
    )
    clip: float = setting(0.0, "largest norm of the gradient; 0: no clipping", least=0, most=1e6)
    speech_lr: float = setting(
        0.0, "learning rate of a pre-trained speech encoder; 0: the same as lr", least=0, most=1, added=True
    )
    mix_lr: float = setting(
        0.0, "learning rate of weights of layers (model.layer_mix); 0: the same as lr", least=0, most=1, added=True
    )
    layer_decay: float = setting(
        1.0, "factor of speech_lr from each layer of the encoder to the one below", least=0.01, most=1, added=True
    )
    decay_norms: bool = setting(True, "whether weight decay includes norms and biases", added=True)
    head_epochs: int = setting(
        0,
        "epochs at the start in which a pre-trained encoder is frozen",
        unit="epochs",
        least=0,
        most=EPOCHS,
        added=True,
    )
    ema: float = setting(
        0.0,
        "decay per step of a running mean of the weights, which is evaluated and saved; 0: the weights themselves",
        least=0,
        most=0.99999,
    )
    label_smoothing: float = setting(0.0, "share of the target that is spread over all classes", least=0, most=1)
    class_weights: bool = setting(False, "whether the loss of a class is weighted by the inverse of its share")
    balanced: bool = setting(False, "whether an epoch has the segments of equally many utterances of each class")
    corpus_weights: str = setting(
        "size",
        "utterances per epoch with several corpora: each once (size), or equally many of each corpus (equal)",
        choices=("size", "equal"),
        added=True,
    )
    solver: str = setting(
        "adamw",
        "optimiser, or solver of a linear head (all others)",
        source="paper",
        choices=("adamw", "ridge", "svm", "logistic"),
        added=True,
    )
    threads: int = setting(
        1,
        "CPU threads per fold; part of the key, because the last digit of a sum depends on them",
        least=1,
        most=1_024,
        added=True,
    )
    target: str = setting(
        "class",
        "what the model predicts: the label, the raters' distribution, or arousal, valence and dominance",
        choices=tuple(TARGETS),
        added=True,
    )
    vad_weight: float = setting(
        1.0, "weight of 1 - CCC relative to the cross-entropy, for vad+class", least=0.001, most=1_000, added=True
    )
    ridge: float = setting(
        1.0, "strength of ridge regression, in utterances of mean variance", least=1e-6, most=1e6, added=True
    )


@dataclass(frozen=True)
class Augment:
    """Random changes of the training segments in every epoch; none by default, as in the paper."""

    speed: float = setting(
        0.0, "largest relative change of tempo and pitch together; 0.1: 0.9 to 1.1", least=0, most=0.9
    )
    gain: float = setting(0.0, "largest change of level", unit="dB", least=0, most=60)
    noise: float = setting(0.0, "share of segments with white noise at 10 to 30 dB below the speech", least=0, most=1)
    frame_masks: int = setting(0, "number of masked stretches of frames in MFCC and images", least=0, most=100)
    frame_mask: int = setting(30, "longest masked stretch", unit="frames", least=0, most=6_000)
    bin_masks: int = setting(0, "number of masked bands in images", least=0, most=100)
    bin_mask: int = setting(20, "widest masked band", unit="bins", least=0, most=2_049)
    mixup: float = setting(
        0.0, "share of segments whose encoded inputs and target are mixed with those of another", least=0, most=1
    )


@dataclass(frozen=True)
class Config:
    """Everything that a result depends on, except for the data."""

    audio: Audio = field(default_factory=Audio)
    features: Features = field(default_factory=Features)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    augment: Augment = field(default_factory=Augment)
    seed: int = setting(0, "seed of all random numbers", least=0, most=2**32 - 1)
    store: str = setting(
        "features",
        "stored form of acoustic features: their rows, or only waveforms, from which each training step computes them",
        choices=STORES,
        added=True,
    )

    @property
    def least_samples(self) -> int:
        """Smallest number of samples without padding of a segment that is used."""
        return round(self.model.least_speech * self.audio.rate / 1000)

    @property
    def model_audio(self) -> Audio:
        """The audio settings of the model's segments: the stored ones, or several of them joined."""
        return self.audio.whole if self.model.whole else self.audio.joined(self.model.segments)
