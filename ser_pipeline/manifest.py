"""What a corpus holds, measured: every utterance with its class, its length and the hash of its audio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ser_pipeline import audio
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Classes, Utterance
from ser_pipeline.entry import Entry, read_index, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import segment_count

Rows = NDArray[np.int64]

FILE = "manifest.jsonl"
OPTIONAL = {field.name: field.default for field in fields(Utterance) if field.name not in ("id", "file")}


@dataclass(frozen=True)
class Manifest:
    """The utterances of a corpus in the order of every store: by speaker, then id."""

    corpus: str
    classes: Classes
    audio: Audio
    utterances: tuple[Utterance, ...]  # `emotion` is a class
    keys: tuple[str, ...]  # 32 hex digits of the audio's bytes (and of the stretch)
    samples: Rows  # (U,) samples at `audio.rate`

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return tuple(self.classes)

    @cached_property
    def target(self) -> Rows:
        """(U,) class of each utterance as an index into `labels`."""
        index = {label: number for number, label in enumerate(self.labels)}
        return np.array([index[utterance.emotion] for utterance in self.utterances], np.int64)

    @cached_property
    def counts(self) -> Rows:
        """(U,) segments of each utterance."""
        return np.array([segment_count(int(samples), self.audio) for samples in self.samples], np.int64)

    @cached_property
    def firsts(self) -> Rows:
        """(U,) row of each utterance's first segment."""
        return np.asarray(np.cumsum(self.counts) - self.counts, np.int64)

    @cached_property
    def segments(self) -> Rows:
        """(S, 3) utterance row, first sample and real samples of every segment."""
        utterance = np.repeat(np.arange(len(self.utterances)), self.counts)
        first = (np.arange(len(utterance)) - self.firsts[utterance]) * self.audio.segment
        return np.stack([utterance, first, np.clip(self.samples[utterance] - first, 0, self.audio.segment)], axis=1)

    def rows(self, utterances: NDArray[np.integer[Any]]) -> Rows:
        """The segment rows of the utterance rows `utterances`, in their order."""
        counts = self.counts[utterances]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(np.repeat(self.firsts[utterances], counts) + inside, np.int64)

    def entry(self, root: Path) -> Entry:
        """The folder below `root` where this manifest and its stores are kept."""
        return Entry.keyed(root, self.corpus, self.inputs)

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything that the stores depend on."""
        digest = hashlib.sha256("".join(self._lines()).encode()).hexdigest()
        return {"corpus": self.corpus, "classes": dict(self.classes), "audio": self.audio, "utterances": digest}

    def write(self, folder: Path) -> None:
        """Write `manifest.jsonl`, a line an utterance, into `folder`."""
        write_text(folder / FILE, "".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for utterance, key, samples in zip(self.utterances, self.keys, self.samples.tolist(), strict=True):
            known = {name: value for name, value in asdict(utterance).items() if value != OPTIONAL.get(name, utterance)}
            yield json.dumps({**known, "key": key, "samples": samples}, ensure_ascii=False) + "\n"


def read(folder: Path) -> Manifest:
    """The manifest of a whole features folder.

    Raises:
        PipelineError: the folder is not whole or its files are damaged.
    """
    inputs = read_index(folder)["inputs"]
    try:
        records = [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
        keys = tuple(record.pop("key") for record in records)
        samples = np.array([record.pop("samples") for record in records], np.int64)
        manifest = Manifest(
            inputs["corpus"],
            {name: tuple(merged) for name, merged in inputs["classes"].items()},
            Audio(**inputs["audio"]),
            tuple(Utterance(**record) for record in records),
            keys,
            samples,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{folder / FILE} is damaged ({error}); delete {folder} and run `features` again") from None
    if manifest.inputs["utterances"] != inputs["utterances"]:
        raise PipelineError(f"{folder / FILE} is damaged (checksum); delete {folder} and run `features` again")
    return manifest


def measure(
    corpus: str,
    classes: Classes,
    utterances: Sequence[Utterance],
    root: Path,
    settings: Audio,
    *,
    skip_bad: bool = False,
    bad: Callable[[str], None] = lambda message: None,
) -> Manifest:
    """The manifest of `utterances` below `root`: reads every file once for its hash and its header.

    With `skip_bad`, broken audio is decoded to its end to find it, left out, and told to `bad`.

    Raises:
        PipelineError: a missing, empty, unreadable or truncated file, named; or nothing is left.
    """
    ordered = sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.id))
    check = delayed(_measure)
    measured = Parallel(n_jobs=-1, prefer="threads", batch_size=64)(
        check(root, utterance, settings.rate, skip_bad) for utterance in ordered
    )
    kept: list[tuple[Utterance, str, int]] = []
    for utterance, result in zip(ordered, measured, strict=True):
        if not isinstance(result, PipelineError):
            kept.append((utterance, *result))
        elif skip_bad:
            bad(str(result))
        else:
            raise result
    if not kept:
        raise PipelineError(f"no readable utterances are left below {root}")
    kept_utterances, keys, samples = zip(*kept, strict=True)
    return Manifest(corpus, classes, settings, kept_utterances, keys, np.array(samples, np.int64))


def _measure(root: Path, utterance: Utterance, rate: int, deep: bool) -> tuple[str, int] | PipelineError:
    """Key and samples of an utterance; the error itself where it is broken, so that all of them can be told."""
    try:
        data = read_audio(root, utterance)
        _, _, samples = audio.span(audio.header(data, utterance.file), rate, utterance.start, utterance.end)
        if samples == 0:
            raise PipelineError(f"{utterance.file} holds no samples from {utterance.start} to {utterance.end} s")
        if deep:
            audio.decode(data, utterance.file, rate, utterance.start, utterance.end)
    except PipelineError as error:
        return error
    return content_key(data, utterance), samples


def read_audio(root: Path, utterance: Utterance) -> bytes:
    """The bytes of an utterance's file."""
    try:
        return (root / utterance.file).read_bytes()
    except OSError as error:
        raise PipelineError(f"cannot read {root / utterance.file}: {error.strerror}") from None


def content_key(data: bytes, utterance: Utterance) -> str:
    """32 hex digits of the audio file's bytes and of the stretch: what its features depend on."""
    stretch = f"{utterance.start}:{utterance.end}" if (utterance.start, utterance.end) != (None, None) else ""
    return hashlib.sha256(data + stretch.encode()).hexdigest()[:32]
