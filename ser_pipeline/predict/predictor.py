"""Recordings to answers: decode, make rows, ask the models in batches that fill over files, sum up.

Legend of shapes: F folds, S segments, C classes.
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
"""Told how many recordings are done, parts of one counted as parts, and how many there are."""


NO_NUMBER = "the models' answer is no number; --precision fp32 may help, or the weights are damaged"
"""Why there is no answer where arithmetic overflows."""

_Shares = Sequence[tuple[list[float], float | None]]


@dataclass(frozen=True)
class Predictor:
    """A run, or an exported model, as a function of recordings; any number of threads may call it."""

    labels: tuple[str, ...]  # the classes; none where attributes alone are told
    rate: int  # Hz at which recordings are heard
    window: float  # seconds that the model hears at a time, or the length of a stored segment
    front: FrontEnd
    scorer: Scorer
    folds: tuple[str, ...] = ()  # of the models, in their order
    learned: Learned = field(default_factory=lambda: Learned({}))
    folders: tuple[Path, ...] = ()  # of the folds
    how: str = "log-probability"  # key of `evaluation.metrics.SCORES`: the score of an utterance by its segments
    least: int = 0  # real samples without which a last segment does not count
    target: str = "class"  # key of `TARGETS`: what is told
    scale: tuple[float, float] | None = None  # ends of that of attributes; None where none are told

    def __call__(
        self, source: Source | NDArray[Any], rate: int | None = None, *, channels: Channels = "mix", unsure: float = 0.0
    ) -> Answer:
        """The answer for one recording.

        Args:
            source: path of a file, "-" for standard input, the bytes of a file, or samples: float -1 to 1 or signed
                integers, (N,) or (N, channels).
            rate: Hz of samples.
            channels: "mix" for their mean, or the number of one of them, from 1 on.
            unsure: probability under which there is no answer.

        Raises:
            PipelineError: it cannot be read, is broken, or has no such channel.
        """
        if channels == "split":
            raise PipelineError(
                "one answer for every channel is what `each` gives: model.each([...], channels='split')"
            )
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
        """The answers for windows of one recording, each as if the recording were cut to it, or for its turns.

        Args:
            source: as for a call.
            rate: Hz of samples.
            window: seconds; by default what the model hears at a time.
            stride: seconds from one window to the next; by default the window.
            channels: "mix", "split" or a number.
            turns: who spoke when: an answer a turn, or for the windows of each where there is a `window`.
            unsure: probability under which there is no answer.

        Raises:
            PipelineError: as a call; or a turn without audio.
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
        """An answer for every recording, in order; batches are filled over recordings.

        Args:
            sources: as for a call; samples go with their rate: (samples, rate).
            channels: "mix", "split" or a number.
            unsure: probability under which there is no answer.
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
        """Answers to a question about every recording, in order.

        Args:
            sources: as for `each`.
            question: what is asked.
            progress: told how far it is, where `sources` is a sequence.
            heard: given every recording once it is decoded, while its samples can be read.
        """
        if question.unsure and not self.labels:
            raise PipelineError(f"an answer is unsure of a class, and these models tell {TARGETS[self.target].words}")
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
        """The confidence from which on a share of answers, 0 to 1, was right on validation rows.

        Raises:
            PipelineError: not a run, one of before its validation predictions were kept, or no such confidence.
        """
        if not self.folders:
            raise PipelineError("a confidence is chosen on the validation rows of a run, which an exported model lacks")
        from ser_pipeline.predict.confidence import chosen  # reads runs, which a graph is none of

        return chosen(right, self.folders, self.labels, self.target)

    def _parts(self, one: Held, question: Question, heard: Callable[[Opened], None]) -> Iterator[Excerpt | Unanswered]:
        """What is asked of one recording, which is let go of after it."""
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
                yield Unanswered(one.recording.name, "none of the turns is of this recording")

    def _finished(self, order: deque[Pending | Unanswered], question: Question) -> Iterator[Answer | Unanswered]:
        """The answers that are ready, from the first on."""
        ready = []
        while order and (isinstance(order[0], Unanswered) or order[0].done):
            ready.append(order.popleft())
        answers = self._answers([one for one in ready if isinstance(one, Pending)], question)
        for one in ready:
            yield one if isinstance(one, Unanswered) else next(answers)

    def _answers(self, several: Sequence[Pending], question: Question) -> Iterator[Answer | Unanswered]:
        """The models' outputs over the segments that count, averaged over models; of all at once."""
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
        """What is said of one excerpt.

        Args:
            pending: the excerpt.
            mean: probability of each class (C,).
            spread: how far the models differ on the likeliest.
            attributes: by name.
            question: what is asked.
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
        """Probability of each class (C,) in every excerpt, and how far the models differ on the likeliest.

        Args:
            log_prob: (F, S, C).
            position: excerpt of each segment (S,).
            real: samples of each segment (S,).
            count: of excerpts.
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
        """Arousal, valence and dominance on the corpus's scale, the mean over models; empty where none are told.

        Args:
            told: (F, S, A).
            position: as in `_classes`.
            real: as in `_classes`.
            count: as in `_classes`.
        """
        if self.scale is None:
            return [{}] * count
        mean = np.stack([utterance_means(one, position, count, self.how, real) for one in told]).mean(0)
        return [dict(zip(DIMENSIONS, row, strict=True)) for row in moved_to(self.scale, mean, CENTRED).tolist()]


def _source(source: Any, rate: int | None) -> Source:
    """A source with the rate that samples need."""
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
    """What makes an answer worth less.

    Args:
        pending: what is answered for.
        rate: Hz of its samples.
        learned: whether models asked had learned from it.
        left_out_by: the fold that had not, or "".
    """
    seconds = len(pending.excerpt) / rate
    yield from pending.excerpt.recording.notes
    if pending.peak < QUIET:
        yield "silent"
    if seconds < SHORT:
        yield f"only {seconds:.3f} s long"
    if learned:
        yield "learned from" + (f", except by fold {left_out_by}" if left_out_by else "")
