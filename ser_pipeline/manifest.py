"""What a corpus holds, measured: every utterance with its class, its length and the hash of its audio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline import audio
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Classes, Utterance
from ser_pipeline.entry import Entry, read_index, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import segment_count
from ser_pipeline.processes import cores
from ser_pipeline.seen import File, Seen, stamp

Rows = NDArray[np.int64]

FILE = "manifest.jsonl"
DEFAULTS = {field.name: field.default for field in fields(Utterance)}
VALUES = attrgetter(*DEFAULTS)
TOGETHER = 64  # files that a thread takes at a time


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
        return np.asarray(segment_count(self.samples, self.audio), np.int64)

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

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Everything that the stores depend on."""
        return {
            "corpus": self.corpus,
            "classes": dict(self.classes),
            "audio": self.audio,
            "utterances": _digest(self._text),
        }

    def write(self, folder: Path) -> None:
        """Write `manifest.jsonl`, a line an utterance, into `folder`."""
        write_text(folder / FILE, self._text)

    @cached_property
    def _text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        plain = json.JSONEncoder(ensure_ascii=False).encode
        for utterance, key, samples in zip(self.utterances, self.keys, self.samples.tolist(), strict=True):
            values = zip(DEFAULTS, VALUES(utterance), strict=True)
            known = {name: value for name, value in values if value != DEFAULTS[name]}
            yield plain({**known, "key": key, "samples": samples})


def read(folder: Path) -> Manifest:
    """The manifest of a whole features folder.

    Raises:
        PipelineError: the folder is not whole or its files are damaged.
    """
    inputs = read_index(folder)["inputs"]
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
        if _digest(text) != inputs["utterances"]:
            raise ValueError("checksum")
        records = [json.loads(line) for line in text.splitlines()]
        keys = tuple(record.pop("key") for record in records)
        samples = np.array([record.pop("samples") for record in records], np.int64)
        return Manifest(
            inputs["corpus"],
            {name: tuple(merged) for name, merged in inputs["classes"].items()},
            Audio(**inputs["audio"]),
            tuple(Utterance(**record) for record in records),
            keys,
            samples,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{folder / FILE} is damaged ({error}); delete {folder} and run `features` again") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def measure(
    corpus: str,
    classes: Classes,
    utterances: Sequence[Utterance],
    root: Path,
    settings: Audio,
    *,
    memory: Path | None = None,
    skip_bad: bool = False,
    bad: Callable[[str], None] = lambda message: None,
) -> Manifest:
    """The manifest of `utterances` below `root`: every file is read once, for its hash and its header.

    With `memory`, the folder of all features, files that have not changed since they were last measured are not
    read at all. With `skip_bad`, broken audio is decoded to its end to find it, left out, and told to `bad`.

    Raises:
        PipelineError: a missing, empty, unreadable or truncated file, named; or nothing is left.
    """
    ordered = sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.id))
    files = _files(sorted({utterance.file for utterance in ordered}), root, Seen(root, memory), skip_bad)
    kept: list[tuple[Utterance, str, int]] = []
    for utterance in ordered:
        try:
            kept.append((utterance, *_measure(utterance, files[utterance.file], settings.rate)))
        except PipelineError as error:
            if not skip_bad:
                raise
            bad(str(error))
    if not kept:
        raise PipelineError(f"no readable utterances are left below {root}")
    kept_utterances, keys, samples = zip(*kept, strict=True)
    return Manifest(corpus, classes, settings, kept_utterances, keys, np.array(samples, np.int64))


def _files(names: Sequence[str], root: Path, seen: Seen, deep: bool) -> dict[str, File | PipelineError]:
    """What is to be known of each file; the error itself where it is broken, so that all of them can be told."""

    def several(part: Sequence[str]) -> list[File | PipelineError]:
        return [_file(name, root, seen, deep) for name in part]

    parts = [names[first : first + TOGETHER] for first in range(0, len(names), TOGETHER)]
    with ThreadPoolExecutor(cores()) as threads:
        files = dict(zip(names, chain.from_iterable(threads.map(several, parts)), strict=True))
    seen.save()
    return files


def _file(name: str, root: Path, seen: Seen, deep: bool) -> File | PipelineError:
    try:
        now = stamp(root / name)
        known = seen.find(name, now)
        if known is not None and (known.decoded or not deep):
            return known
        data = (root / name).read_bytes()
        head = audio.header(data, name)
        if deep:
            audio.decode(data, name, head.rate)
    except OSError as error:
        return _unreadable(root / name, error)
    except PipelineError as error:
        return error
    file = File(hashlib.sha256(data).hexdigest(), head, deep)
    seen.add(name, now, file)
    return file


def _measure(utterance: Utterance, file: File | PipelineError, rate: int) -> tuple[str, int]:
    """Key and samples of an utterance."""
    if isinstance(file, PipelineError):
        raise file
    _, _, samples = audio.span(file.header, rate, utterance.start, utterance.end)
    if samples == 0:
        raise PipelineError(f"{utterance.file} holds no samples from {utterance.start} to {utterance.end} s")
    return content_key(file.digest, utterance), samples


def read_audio(root: Path, name: str) -> bytes:
    """The bytes of the audio file `name` below `root`."""
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise _unreadable(root / name, error) from None


def content_key(digest: str, utterance: Utterance) -> str:
    """32 hex digits of the audio file's `digest` and of the stretch: what its features depend on."""
    if (utterance.start, utterance.end) == (None, None):
        return digest[:32]
    return hashlib.sha256(f"{digest}:{utterance.start}:{utterance.end}".encode()).hexdigest()[:32]


def _unreadable(file: Path, error: OSError) -> PipelineError:
    return PipelineError(f"cannot read {file}: {error.strerror}")
