"""What the settings may be, beyond their types."""

from __future__ import annotations

import math

CHOICES: dict[str, tuple[str | int, ...]] = {
    "features.mfcc.deltas": (0, 1, 2),
    "model.attention": ("relu", "softmax"),
    "model.spectrogram_encoder": ("alexnet", "small"),
    "model.mfcc_encoder": ("bilstm", "small"),
    "train.selection": ("validation", "test"),
    "train.monitor": ("ua", "wa", "wa+ua", "loss", "last"),
    "train.precision": ("auto", "fp32", "bf16"),
    "train.schedule": ("constant", "cosine", "linear"),
    "train.solver": ("adamw", "ridge", "svm", "logistic"),
    "model.head": ("fusion", "linear"),
}
"""Settings that take one word or number of a list."""

ENDLESS = math.inf
"""No most."""

RANGES: dict[str, tuple[float, float]] = {
    "audio.rate": (1, ENDLESS),
    "audio.segment": (1, ENDLESS),
    "audio.hop": (1, ENDLESS),
    "model.segments": (1, ENDLESS),
    "model.width": (1, ENDLESS),
    "model.lstm_width": (1, ENDLESS),
    "model.lstm_layers": (1, ENDLESS),
    "model.small_width": (1, ENDLESS),
    "model.small_layers": (0, ENDLESS),
    "model.dropout": (0, 1),
    "model.lstm_dropout": (0, 1),
    "model.small_drop": (0, 1),
    "train.batch": (1, ENDLESS),
    "train.epochs": (1, ENDLESS),
    "train.patience": (1, ENDLESS),
    "train.lr": (0, ENDLESS),
    "train.weight_decay": (0, ENDLESS),
    "train.clip": (0, ENDLESS),
    "train.speech_lr": (0, 1),
    "train.layer_decay": (0.01, 1),
    "train.head_epochs": (0, ENDLESS),
    "train.ridge": (1e-6, 1e6),
    "features.statistics.draws": (0, 16),
    "features.statistics.speed": (0, 0.5),
    "features.statistics.gain": (0, 40),
    "features.statistics.noise": (0, 1),
    "features.statistics.width": (0, ENDLESS),
    "train.warmup": (0, 1),
    "train.ema": (0, 1),
    "train.label_smoothing": (0, 1),
    "augment.speed": (0, 0.9),
    "augment.gain": (0, ENDLESS),
    "augment.noise": (0, 1),
    "augment.mixup": (0, 1),
    "augment.frame_masks": (0, ENDLESS),
    "augment.frame_mask": (0, ENDLESS),
    "augment.bin_masks": (0, ENDLESS),
    "augment.bin_mask": (0, ENDLESS),
}
"""The least and the most that a number may be."""
