"""Prediction for recordings: decode, compute rows, run the models in batches across files, combine the results.

Shapes: F folds, S segments, C classes, A attributes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Ints
from ser_pipeline.audio import QUIET, SHORT
from ser_pipeline.corpora.ratings import CENTRED, DIMENSIONS, moved_to
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import probabilities, utterance_means, utterance_scores
from ser_pipeline.predict.ahead import Held
from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.predict.asking import Beside, Outputs, Pending, Scorer, enter, scored
from ser_pipeline.predict.decoders import held
from ser_pipeline.predict.excerpts import Excerpt, Question, excerpts
from ser_pipeline.predict.front import FrontEnd
from ser_pipeline.predict.learned import Learned
from ser_pipeline.predict.recordings import Channels, Opened, Source
from ser_pipeline.predict.turns import SpeakerTurn
from ser_pipeline.targets import TARGETS

if TYPE_CHECKING:
    from ser_pipeline.predict.confidence import Threshold

Progress = Callable[[float, int], None]
"""A function that is called with the number of recordings done, fractions included, and of all."""


NO_NUMBER = "the models' output is not a finite number; try --precision fp32, or check the weights"
"""Error of a recording for which arithmetic overflows."""

_Shares = Sequence[tuple[list[float], float | None]]


@dataclass(frozen=True)
class Predictor:
    """A run, or an exported model, as a function of recordings; any number of threads may call it."""

    labels: tuple[str, ...]  # the classes; () if only attributes are predicted
    rate: int  # sampling rate of the models in Hz
    window: float  # length of the model's segment in seconds, or of a stored segment for models of whole utterances
    front: FrontEnd
    scorer: Scorer
    folds: tuple[str, ...] = ()  # names of the models' folds, in their order
    learned: Learned = field(default_factory=lambda: Learned({}))
    folders: tuple[Path, ...] = ()  # folders of the folds
    how: str = "log-probability"  # key of `evaluation.metrics.SCORES`: how segments are combined to utterances
    least: int = 0  # a last segment with fewer samples does not count
    target: str = "class"  # key of `TARGETS`
    scale: tuple[float, float] | None = None  # ends of the attributes' scale; None without attributes

    def __call__(
        self, source: Source | NDArray[Any], rate: int | None = None, *, channels: Channels = "mix", unsure: float = 0.0
    ) -> Answer:
        """Predict one recording.

        Args:
            source: path of a file, "-" for standard input, the bytes of a file, or samples: float -1 to 1 or signed
                integers, (N,) or (N, channels).
            rate: sampling rate of samples in Hz.
            channels: "mix" for their mean, or the number of a channel, counted from 1.
            unsure: smallest probability for which an emotion is given, 0 to 1.

        Raises:
            PipelineError: the recording cannot be read, is damaged, or has no such channel.
        """
        if channels == "split":
            raise PipelineError("for an answer per channel use `each`: model.each([...], channels='split')")
        given = self.each([_source(source, rate)], channels=channels, unsure=unsure)
        return _one(given)

    def timeline(
        self,
        source: Source | NDArray[Any],
        rate: int | None = None,
        *,
        window: float | None = None,
        stride: float | None = None,
        channels: Channels = "mix",
        turns: Sequence[SpeakerTurn] = (),
        unsure: float = 0.0,
    ) -> list[Answer]:
        """Predict windows of one recording, each as if it were a recording of its own, or its turns.

        Args:
            source: as in `__call__`.
            rate: sampling rate of samples in Hz.
            window: length of a window in seconds; by default the model's segment.
            stride: seconds between the starts of two windows; by default the window's length.
            channels: "mix", "split" or a number.
            turns: who spoke when, for an answer per turn, or per window of each turn if `window` is given.
            unsure: smallest probability for which an emotion is given, 0 to 1.

        Raises:
            PipelineError: as in `__call__`, or a turn has no audio.
        """
        size = window if turns else window or self.window
        question = Question(size, stride, channels, tuple(turns), unsure)
        given = list(self.ask([_source(source, rate)], question))
        for answer in given:
            if isinstance(answer, Unanswered):
                raise PipelineError(answer.error)
        return [answer for answer in given if isinstance(answer, Answer)]

    def each(
        self, sources: Iterable[Source], *, channels: Channels = "mix", unsure: float = 0.0
    ) -> Iterator[Answer | Unanswered]:
        """Predict recordings in order, with batches across recordings.

        Args:
            sources: as in `__call__`; samples are given with their rate: (samples, rate).
            channels: "mix", "split" or a number.
            unsure: smallest probability for which an emotion is given, 0 to 1.
        """
        return self.ask(sources, Question(channels=channels, unsure=unsure))

    def ask(
        self,
        sources: Iterable[Source],
        question: Question,
        *,
        progress: Progress = lambda done, total: None,
        heard: Callable[[Opened], None] = lambda recording: None,
    ) -> Iterator[Answer | Unanswered]:
        """Predict the excerpts of recordings that a question asks for, in order.

        Args:
            sources: as in `each`.
            question: the excerpts to predict.
            progress: called with the progress if `sources` is a sequence.
            heard: called with every decoded recording, while its samples can be read.
        """
        if question.unsure and not self.labels:
            raise PipelineError(f"`unsure` needs classes, but these models predict {TARGETS[self.target].words}")
        total = len(sources) if isinstance(sources, Sequence) else 0
        order: deque[Pending | Unanswered] = deque()
        done = [0.0]

        def parts() -> Iterator[Excerpt]:
            fast = isinstance(self.scorer, Beside) and self.scorer.ahead > 0
            for number, one in enumerate(held(sources, self.rate, question.channels, fast=fast)):
                for part in self._parts(one, question, heard):
                    if isinstance(part, Unanswered):
                        order.append(part)
                    else:
                        order.append(Pending(part))
                        done[0] = number + part.first / part.track.samples.count
                        yield part

        for pieces, found in scored(self.scorer, self.front(parts())):
            enter(pieces, found, order)
            progress(done[0], total)
            yield from self._finished(order, question)
        yield from self._finished(order, question)
        progress(total, total)

    def threshold(self, right: float) -> Threshold:
        """Return the smallest confidence at which a share `right`, 0 to 1, of validation answers was correct.

        Raises:
            PipelineError: the model is not a run, has no validation predictions, or no confidence reaches the share.
        """
        if not self.folders:
            raise PipelineError("a confidence is chosen on the validation rows of a run, which an exported model lacks")
        from ser_pipeline.predict.confidence import chosen  # reads runs, which an ONNX graph does not need

        return chosen(right, self.folders, self.labels, self.target)

    def _parts(self, one: Held, question: Question, heard: Callable[[Opened], None]) -> Iterator[Excerpt | Unanswered]:
        """Yield the excerpts of one recording, and close it afterwards."""
        with one.closing:
            if isinstance(one.recording, Unanswered):
                yield one.recording
                return
            heard(one.recording)
            some = False
            for part in excerpts(one.recording, question, self.rate):
                some = True
                yield part
            if not some:
                yield Unanswered(one.recording.name, "no turn belongs to this recording")

    def _finished(self, order: deque[Pending | Unanswered], question: Question) -> Iterator[Answer | Unanswered]:
        """Yield the answers that are ready, in order."""
        ready = []
        while order and (isinstance(order[0], Unanswered) or order[0].done):
            ready.append(order.popleft())
        answers = self._answers([one for one in ready if isinstance(one, Pending)], question)
        for one in ready:
            yield one if isinstance(one, Unanswered) else next(answers)

    def _answers(self, several: Sequence[Pending], question: Question) -> Iterator[Answer | Unanswered]:
        """Combine the models' outputs for several excerpts at once, averaged over segments and models."""
        if not several:
            return
        parts = [pending.counted(self.least) for pending in several]
        position = np.repeat(np.arange(len(parts)), [len(real) for _, real in parts])
        outputs, real = np.concatenate([out for out, _ in parts], axis=1), np.concatenate([real for _, real in parts])
        several_told = zip(
            several,
            self._classes(outputs[..., : len(self.labels)], position, real, len(parts)),
            self._attributes(outputs[..., len(self.labels) :], position, real, len(parts)),
            strict=True,
        )
        for pending, (mean, spread), attributes in several_told:
            yield self._answer(pending, mean, spread, attributes, question)

    def _answer(
        self,
        pending: Pending,
        mean: list[float],
        spread: float | None,
        attributes: dict[str, float],
        question: Question,
    ) -> Answer | Unanswered:
        """Return the answer for one excerpt.

        Args:
            pending: the excerpt.
            mean: probability of each class (C,).
            spread: standard deviation over models of the likeliest class's probability; None for one model.
            attributes: attributes by name.
            question: has the smallest probability of an answer.
        """
        excerpt, highest = pending.excerpt, max(mean, default=-1.0)
        if not math.isfinite(sum([*mean, *attributes.values()])):
            return Unanswered(excerpt.recording.name, NO_NUMBER)
        seen, left_out_by = self.learned.folds(excerpt.recording.digest, self.folds)
        return Answer(
            file=excerpt.recording.name,
            start=excerpt.first / self.rate,
            end=excerpt.last / self.rate,
            emotion=self.labels[mean.index(highest)] if mean and highest >= question.unsure else None,
            probabilities=dict(zip(self.labels, mean, strict=True)),
            spread=spread,
            attributes=attributes,
            channel=excerpt.track.channel,
            speaker=excerpt.speaker,
            note=", ".join(_notes(pending, self.rate, bool(seen), left_out_by)),
            left_out_by=left_out_by if seen else "",
        )

    def _classes(self, log_prob: Outputs, position: Ints, real: Ints, count: int) -> _Shares:
        """Return the probability of each class (C,) for every excerpt, and the spread of the likeliest class's.

        Args:
            log_prob: log-probabilities (F, S, C).
            position: excerpt of each segment (S,).
            real: number of samples of each segment without padding (S,).
            count: number of excerpts.
        """
        if not self.labels:
            return [([], None)] * count
        scores = np.stack([utterance_scores(one, position, count, self.how, real) for one in log_prob])
        mean = probabilities(scores.mean(0))
        if len(scores) == 1:
            return [(row, None) for row in mean.tolist()]
        spread = probabilities(scores)[:, np.arange(count), mean.argmax(1)].std(0)
        return list(zip(mean.tolist(), spread.tolist(), strict=True))

    def _attributes(self, told: Outputs, position: Ints, real: Ints, count: int) -> list[dict[str, float]]:
        """Return arousal, valence and dominance on the corpus's scale, averaged over models; {} without attributes.

        Args:
            told: attributes (F, S, A), -1 to 1.
            position: as in `_classes`.
            real: as in `_classes`.
            count: as in `_classes`.
        """
        if self.scale is None:
            return [{}] * count
        mean = np.stack([utterance_means(one, position, count, self.how, real) for one in told]).mean(0)
        return [dict(zip(DIMENSIONS, row, strict=True)) for row in moved_to(self.scale, mean, CENTRED).tolist()]


def _source(source: Any, rate: int | None) -> Source:
    """Return a source, with the rate that samples need."""
    if isinstance(source, str | Path | bytes | tuple):
        return source
    if rate is None:
        raise PipelineError("samples need their rate in Hz: model(samples, rate=16000)")
    return np.asarray(source), rate


def _one(given: Iterator[Answer | Unanswered]) -> Answer:
    (answer,) = given
    if isinstance(answer, Unanswered):
        raise PipelineError(answer.error)
    return answer


def _notes(pending: Pending, rate: int, learned: bool, left_out_by: str) -> Iterator[str]:
    """Yield reasons to trust an answer less.

    Args:
        pending: the excerpt.
        rate: sampling rate in Hz.
        learned: whether one of the models was trained on the recording.
        left_out_by: a fold whose model was not, or "".
    """
    seconds = len(pending.excerpt) / rate
    yield from pending.excerpt.recording.notes
    if pending.peak < QUIET:
        yield "silent"
    if seconds < SHORT:
        yield f"only {seconds:.3f} s long"
    if learned:
        yield "seen in training" + (f", except by fold {left_out_by}" if left_out_by else "")
