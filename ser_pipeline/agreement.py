"""Limits that involve several settings; each error message has the nearest valid value.

`model.needs` has the further requirements of a model's parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

from ser_pipeline.errors import PipelineError
from ser_pipeline.feature_settings import Audio
from ser_pipeline.inputs import IMAGE, INPUTS
from ser_pipeline.limits import number
from ser_pipeline.settings import Config, Model
from ser_pipeline.targets import CHANGES, TARGETS

SECONDS = 60
"""Largest length of a model's segment in seconds."""

FRAMES = 6_000
"""Largest number of frames of a model's segment: 60 s with a hop of 10 ms."""

LEAST_SPEECH = 25.0
"""Usual length of a frame of speech in milliseconds; a shorter segment does not contain one."""

FACTOR = 61
"""Largest prime factor of the points of a transform; transforms of larger primes take minutes instead of seconds."""


def require_agreement(config: Config) -> None:
    """Refuse settings that contradict each other.

    Raises:
        PipelineError: names the settings, and the nearest valid value of one of them.
    """
    for part in (_audio, _features, _model_audio, _masks, _head, _choice, _rates, _heard, _target):
        for said in part(config):
            raise PipelineError(said)


def _audio(config: Config) -> Iterator[str]:
    audio = config.audio
    if audio.segment % audio.hop or audio.segment < audio.hop:
        nearest = audio.hop * max(1, round(audio.segment / audio.hop))
        yield (
            f"audio.segment={audio.segment} is not a whole number of frames of audio.hop={audio.hop} samples; "
            f"the nearest is audio.segment={nearest}"
        )


def _model_audio(config: Config) -> Iterator[str]:
    audio, joined = config.audio, config.model.segments
    together = audio.joined(joined)
    several = f" of model.segments={joined}" if joined > 1 else ""
    if together.seconds > SECONDS:
        fitting = SECONDS * audio.rate // joined // audio.hop * audio.hop
        change = f"audio.segment={fitting}" if fitting else f"model.segments={max(1, _fitting(audio))}"
        yield (
            f"audio.segment={audio.segment}{several} is {number(together.seconds)} s, over {SECONDS} s; "
            f"the nearest is {change}"
        )
    if together.frames > FRAMES:
        yield (
            f"audio.hop={audio.hop} gives {together.frames} frames of audio.segment={audio.segment}{several}, "
            f"over {FRAMES}; the nearest is audio.hop={_hop(audio, joined)}"
        )


def _fitting(audio: Audio) -> int:
    """Return the largest number of stored segments that a model's segment may join."""
    return SECONDS * audio.rate // audio.segment


def _hop(audio: Audio, joined: int) -> int:
    """Return the shortest hop that divides `joined` segments into few enough frames."""
    most = max(1, FRAMES // joined)
    return next(
        audio.segment // frames for frames in range(min(most, audio.segment), 0, -1) if not audio.segment % frames
    )


def _features(config: Config) -> Iterator[str]:
    features = config.features
    for item in fields(features):
        name, table = f"features.{item.name}", getattr(features, item.name)
        points = getattr(table, "n_fft", 0)
        if points and _largest_factor(points) > FACTOR:
            yield (
                f"{name}.n_fft={points} has a prime factor over {FACTOR}, which takes minutes to transform; "
                f"the nearest is {name}.n_fft={_nearest_points(points)}"
            )
        if points and hasattr(table, "n_mels"):
            yield from _above(f"{name}.n_mels", table.n_mels, points // 2, f"half of {name}.n_fft={points}")
    mfcc, spectrogram = features.mfcc, features.spectrogram
    points, bins = spectrogram.n_fft, 1 + spectrogram.n_fft // 2
    yield from _above("features.mfcc.n_mfcc", mfcc.n_mfcc, mfcc.n_mels, f"features.mfcc.n_mels={mfcc.n_mels}")
    told = f"features.spectrogram.n_fft={points}"
    yield from _above("features.spectrogram.window", spectrogram.window, points, told)
    yield from _above("features.spectrogram.bins", spectrogram.bins, bins, f"the {bins} bins of {told}")


def _above(name: str, value: int, most: int, what: str) -> Iterator[str]:
    """Yield the message about a setting above `most`, which is described by `what`."""
    if value > most:
        yield f"{name}={value} is over {what}; the nearest is {name}={most}"


def _head(config: Config) -> Iterator[str]:
    model, train = config.model, config.train
    if model.head != "fusion" and not (model.whole or model.inputs == (model.speech,)):
        yield (
            f"model.head='{model.head}' needs inputs of whole utterances, such as statistics, or only frames, "
            "such as model.inputs=[\"embedding\"]; the nearest is model.head='fusion'"
        )
    if train.solver != "adamw" and model.head != "linear":
        yield f"train.solver='{train.solver}' needs a linear head: --set model.head=linear"
    if train.solver != "adamw" and not model.whole:
        yield (
            f"train.solver='{train.solver}' needs statistics of whole utterances, because the pooling of frames is "
            "trained; the nearest is train.solver='adamw'"
        )
    if train.solver != "adamw" and train.corpus_weights != "size":
        yield (
            f"train.corpus_weights='{train.corpus_weights}' needs training in epochs, but "
            f"train.solver='{train.solver}' has none; the nearest is train.corpus_weights='size'"
        )
    if model.pooling != "co-attention" and not model.speech:
        yield (
            f"model.pooling='{model.pooling}' needs frames of a speech encoder, but model.inputs has none; "
            "the nearest is model.pooling='co-attention'"
        )
    if not re.fullmatch(r"none|features|first-[1-9]\d?|all", model.freeze):
        yield f"model.freeze must be none, features, first-K (such as first-6) or all, not '{model.freeze}'"


def _choice(config: Config) -> Iterator[str]:
    train = config.train
    if train.selection == "test" and train.monitor == "last":
        yield (
            "train.selection='test' has no effect with train.monitor='last', which always uses the last epoch; "
            "the nearest is train.monitor='ua'"
        )


def _rates(config: Config) -> Iterator[str]:
    for name in ("speech_lr", "mix_lr"):
        if config.train.lr == 0 and getattr(config.train, name):
            yield f"train.{name} needs a train.lr above 0; the nearest is train.lr=1e-9"


def _target(config: Config) -> Iterator[str]:
    train, row = config.train, TARGETS[config.train.target]
    for name, values in (("monitor", row.monitors), ("solver", row.solvers)):
        if getattr(train, name) not in values:
            yield (
                f"train.{name}='{getattr(train, name)}' is not possible with train.target='{row.name}', which allows "
                f"{', '.join(values)}; the nearest is train.{name}='{values[0]}'"
            )
    for name, idle in CHANGES.items():
        if getattr(train, name) != idle and name not in row.follows:
            yield (
                f"train.{name} has no effect with train.target='{row.name}', whose loss is {row.loss}; "
                f"the nearest is train.{name}={str(idle).lower()}"
            )


def _heard(config: Config) -> Iterator[str]:
    model, longest = config.model, 1000 * config.model_audio.seconds
    if model.whole and (model.least_speech or model.utterance_score != Model().utterance_score):
        yield "model.utterance_score and model.least_speech need segments, but this model reads whole utterances"
    elif 0 < model.least_speech < LEAST_SPEECH:
        yield (
            f"model.least_speech={number(model.least_speech)} ms is shorter than a frame of speech; the nearest is "
            f"model.least_speech={number(LEAST_SPEECH)}"
        )
    elif model.least_speech > longest:
        yield (
            f"model.least_speech={number(model.least_speech)} is over the {number(longest)} ms of a segment; the "
            f"nearest is model.least_speech={number(longest)}"
        )


def _largest_factor(count: int) -> int:
    """Return the largest prime factor of a number.

    >>> _largest_factor(800), _largest_factor(1009)
    (5, 1009)
    """
    largest, rest, factor = 1, count, 2
    while rest > 1:
        while rest % factor == 0:
            largest, rest = factor, rest // factor
        factor += 1
    return largest


def _nearest_points(points: int) -> int:
    """Return the number nearest to `points` without large prime factors.

    >>> _nearest_points(1009)
    1008
    """
    steps = (points + sign * step for step in range(points) for sign in (-1, 1))
    return next(count for count in steps if _largest_factor(count) <= FACTOR)


def _masks(config: Config) -> Iterator[str]:
    settings, frames = config.augment, config.model_audio.frames
    if settings.frame_masks:
        yield from _above("augment.frame_mask", settings.frame_mask, frames, f"the {frames} frames of a segment")
    for name in config.model.reads if settings.bin_masks else ():
        row = INPUTS[name]
        if row.form == IMAGE:
            bands = row.shape(config.audio, getattr(config.features, name))[0]
            yield from _above("augment.bin_mask", settings.bin_mask, bands, f"the {bands} bands of {name}")
