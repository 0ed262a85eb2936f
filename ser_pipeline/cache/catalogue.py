"""Pointers from each corpus to its features: small files that `features` writes and the later stages read."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ser_pipeline.corpora import reading
from ser_pipeline.corpora.table import SUFFIXES
from ser_pipeline.entry import read_as, write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import FileName
from ser_pipeline.names import closest
from ser_pipeline.shape import PathText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSet:
    """The features of a corpus."""

    corpus: str
    folder: Path  # folder of the manifest and the stores
    root: Path  # where the audio was last seen
    preset: str = ""  # preset of the latest settings; "" if an earlier version wrote the pointer
    settings: tuple[str, ...] = ()  # `KEY=VALUE` pairs over that preset


@dataclass(frozen=True)
class Sources:
    """The corpora of a run, in order: one corpus, several training corpora, or training corpora and a test corpus."""

    sets: tuple[FeatureSet, ...]
    tested: bool = False  # whether the last one is the test corpus and the others are training corpora
    classes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # for several corpora: class, labels; (): those that all have

    @property
    def folders(self) -> tuple[Path, ...]:
        """The features folder of each corpus."""
        return tuple(one.folder for one in self.sets)

    @property
    def trained(self) -> tuple[FeatureSet, ...]:
        """The training corpora."""
        return self.sets[: len(self.sets) - self.tested]

    @property
    def together(self) -> bool:
        """Whether several corpora are joined without a separate test corpus."""
        return len(self.sets) > 1 and not self.tested


@dataclass(frozen=True)
class BrokenPointer:
    """A pointer that cannot be followed."""

    file: Path
    what: str

    @property
    def corpus(self) -> str:
        """The corpus whose features it should name."""
        return self.file.stem

    @property
    def command(self) -> str:
        """The command that writes the pointer again."""
        return reading("features", self.corpus)


@dataclass(frozen=True)
class _Pointer:
    """The contents of a pointer's file."""

    folder: FileName
    root: PathText
    preset: str = ""
    settings: tuple[str, ...] = ()


def features_root(cache: Path) -> Path:
    """The folder of all features in a cache."""
    return cache / "features"


def register(cache: Path, source: FeatureSet) -> FeatureSet | None:
    """Make `source` the features that `train` uses for its corpus; return other features that it used until now.

    Without a preset, the previous one is kept, since one more feature was added for any model. If the pointer already
    contains all of this, nothing is written.
    """
    before = next((known for known in pointers(cache)[0] if known.corpus == source.corpus), None)
    if before and not source.preset:
        source = replace(source, preset=before.preset, settings=before.settings)
    now = replace(source, root=source.root.resolve())
    if before is None or replace(before, folder=now.folder) != now or before.folder.name != now.folder.name:
        made = {"preset": now.preset, "settings": now.settings} if now.preset else {}
        value = {"folder": now.folder.name, "root": str(now.root), **made}
        write_json(features_root(cache) / f"{now.corpus}.json", value)
    return before if before and before.folder != source.folder else None


def pointers(cache: Path) -> tuple[list[FeatureSet], list[BrokenPointer]]:
    """All corpora with features, by name, and the pointers that cannot be followed."""
    sources, broken = list[FeatureSet](), list[BrokenPointer]()
    for file in sorted(features_root(cache).glob("[!.]*.json")):
        try:
            sources.append(read_pointer(file))
        except PipelineError as error:
            broken.append(BrokenPointer(file, str(error)))
    return sources, broken


def sources(cache: Path) -> list[FeatureSet]:
    """All corpora with features, by name; pointers that cannot be followed are skipped with a warning."""
    found, broken = pointers(cache)
    for pointer in broken:
        log.warning("skipped a pointer: %s; `%s` writes it again", pointer.what, pointer.command)
    return found


def find(cache: Path, corpus: str | None, command: str = "features") -> FeatureSet:
    """The features of `corpus`, or, if None, of the only corpus with features.

    Args:
        cache: folder of the features.
        corpus: name of the corpus.
        command: the command that reads the corpus if it has no features, for the message.

    Raises:
        PipelineError: there are none, or several to choose from.
    """
    there = sources(cache)
    names = [source.corpus for source in there]
    if corpus is None and there:
        if len(there) > 1:
            raise PipelineError(f"several corpora have features: {', '.join(names)}; choose one with --corpus")
        return there[0]
    for source in there:
        if source.corpus == corpus:
            return source
    if corpus == "table" and there and command == "features":
        raise PipelineError(
            f"features of a table are named after its file; choose one with --corpus: {', '.join(names)}"
        )
    raise PipelineError(_nothing(cache, corpus, names, command))


def _nothing(cache: Path, corpus: str | None, names: Sequence[str], command: str) -> str:
    """Return the message that a corpus has no features.

    Args:
        cache: folder of the features.
        corpus: the user's name of the corpus.
        names: the corpora that have features.
        command: the command that reads the corpus if it has no features.
    """
    line = reading(command, corpus) if corpus else "ser-pipeline features"
    mend = "extract some first" if line.startswith("ser-pipeline features") else "read the corpus itself"
    if not names or corpus is None:
        return f"no features in {cache}; {mend}: {line}"
    asked = Path(corpus).stem if Path(corpus).suffix.lower() in SUFFIXES else corpus
    listed = f"known: {', '.join(names)}"
    if (meant := closest(asked, names)) and (command == "features" or not Path(corpus).exists()):
        return f"no features of '{corpus}' in {cache}; did you mean '{meant}'? {listed}"
    return f"no features of '{corpus}' in {cache}; {listed}; {mend}: {line}"


def find_together(cache: Path, corpus: str | None, command: str = "features") -> tuple[FeatureSet, ...]:
    """The features of `corpus`, or of each corpus in `A+B`.

    Args:
        cache: folder of the features.
        corpus: name of one corpus, or of several with + between.
        command: the command that reads the corpus if it has no features, for the message.

    Raises:
        PipelineError: one corpus has no features, or is named twice.
    """
    if corpus is None or "+" not in corpus or any(one.corpus == corpus for one in sources(cache)):
        return (find(cache, corpus, command),)
    names = corpus.split("+")
    if twice := [name for name in names if names.count(name) > 1]:
        raise PipelineError(f"--corpus names {twice[0]} twice; name each corpus once")
    if "" in names:
        raise PipelineError(f"--corpus {corpus} has a + without a corpus; write A+B")
    return tuple(find(cache, name) for name in names)


def read_pointer(file: Path) -> FeatureSet:
    """Read the pointer of a corpus.

    Raises:
        PipelineError: it is damaged, or names another corpus's folder.
    """
    said = read_as(file, _Pointer, advice="")
    if not re.fullmatch(re.escape(file.stem) + "-[0-9a-f]{12}", said.folder):
        raise PipelineError(f"{file} names {said.folder}, which is not a folder of features of {file.stem}")
    return FeatureSet(file.stem, file.parent / said.folder, Path(said.root), said.preset, said.settings)
