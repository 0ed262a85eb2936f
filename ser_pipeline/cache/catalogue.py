"""Which features belong to which corpus: a small pointer a corpus, written by `features`, read by the later stages."""

from __future__ import annotations

import logging
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from ser_pipeline.corpora import CORPORA
from ser_pipeline.entry import read_as, write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import FileName
from ser_pipeline.names import closest
from ser_pipeline.shape import PathText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSet:
    """A corpus that has features."""

    corpus: str
    folder: Path  # of its manifest and stores
    root: Path  # where its audio was last seen
    preset: str = ""  # of the settings that they were last made with; "": of an earlier version
    settings: tuple[str, ...] = ()  # `KEY=VALUE` pairs over that preset


@dataclass(frozen=True)
class Sources:
    """The corpora of a run, in their order: one, several that are trained together, or with one more to test on."""

    sets: tuple[FeatureSet, ...]
    tested: bool = False  # whether the last one is tested on and the others are trained
    classes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # of several, each with its labels; (): what all have

    @property
    def folders(self) -> tuple[Path, ...]:
        """The features folder of each corpus."""
        return tuple(one.folder for one in self.sets)

    @property
    def trained(self) -> tuple[FeatureSet, ...]:
        """The corpora that are trained."""
        return self.sets[: len(self.sets) - self.tested]

    @property
    def together(self) -> bool:
        """Whether several corpora stand beside each other, none of them set apart to test on."""
        return len(self.sets) > 1 and not self.tested


@dataclass(frozen=True)
class BrokenPointer:
    """A pointer that cannot be followed."""

    file: Path
    what: str

    @property
    def corpus(self) -> str:
        """Whose features it should name."""
        return self.file.stem

    @property
    def command(self) -> str:
        """What writes it anew."""
        return f"ser-pipeline features {self.corpus if self.corpus in CORPORA else 'table'} ROOT"


@dataclass(frozen=True)
class _Pointer:
    """What a pointer's file holds."""

    folder: FileName
    root: PathText
    preset: str = ""
    settings: tuple[str, ...] = ()


def features_root(cache: Path) -> Path:
    """Where a cache keeps features."""
    return cache / "features"


def register(cache: Path, source: FeatureSet) -> FeatureSet | None:
    """Make `source` the features that `train` takes for its corpus; returns others that it took until now.

    Without a preset, that of the call before is kept: one more feature of any model was made. Where all of it is known
    already, nothing is written.
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
    """Every corpus that has features, by name, and the pointers that cannot be followed."""
    sources, broken = list[FeatureSet](), list[BrokenPointer]()
    for file in sorted(features_root(cache).glob("[!.]*.json")):
        try:
            sources.append(read_pointer(file))
        except PipelineError as error:
            broken.append(BrokenPointer(file, str(error)))
    return sources, broken


def sources(cache: Path) -> list[FeatureSet]:
    """Every corpus that has features, by name; a pointer that cannot be followed is passed over, and said."""
    found, broken = pointers(cache)
    for pointer in broken:
        log.warning("passed over a pointer: %s; `%s` writes it anew", pointer.what, pointer.command)
    return found


def find(cache: Path, corpus: str | None) -> FeatureSet:
    """The features of `corpus`, or, where None, of the only corpus that has some.

    Raises:
        PipelineError: there are none, or several to choose from.
    """
    there = sources(cache)
    names = ", ".join(source.corpus for source in there)
    if not there:
        command = shlex.join(["ser-pipeline", "features", *([corpus] if corpus else [])])
        raise PipelineError(f"no features in {cache}; make some first: {command}")
    if corpus is None and len(there) > 1:
        raise PipelineError(f"several corpora have features: {names}; choose one with --corpus")
    for source in there:
        if corpus in (None, source.corpus):
            return source
    if corpus == "table":
        raise PipelineError(f"features of a table are named after its file; choose one with --corpus: {names}")
    meant = closest(str(corpus), [source.corpus for source in there])
    mend = f"did you mean '{meant}'?" if meant else f"ser-pipeline features {shlex.quote(str(corpus))} ROOT"
    raise PipelineError(f"no features of '{corpus}' in {cache} (there are {names}): {mend}")


def find_together(cache: Path, corpus: str | None) -> tuple[FeatureSet, ...]:
    """The features of `corpus`, or of each of several with `+` between them.

    Raises:
        PipelineError: there are none of one of them, or one stands there twice.
    """
    if corpus is None or any(one.corpus == corpus for one in sources(cache)):
        return (find(cache, corpus),)
    names = corpus.split("+")
    if twice := [name for name in names if names.count(name) > 1]:
        raise PipelineError(f"--corpus names {twice[0]} twice; name each corpus once")
    if "" in names:
        raise PipelineError(f"--corpus {corpus} names no corpus beside a +; write A+B")
    return tuple(find(cache, name) for name in names)


def read_pointer(file: Path) -> FeatureSet:
    """What the pointer of a corpus says.

    Raises:
        PipelineError: it is damaged, or names a folder that is not the corpus's.
    """
    said = read_as(file, _Pointer, advice="")
    if not re.fullmatch(re.escape(file.stem) + "-[0-9a-f]{12}", said.folder):
        raise PipelineError(f"{file} names {said.folder}, which is no folder of features of {file.stem}")
    return FeatureSet(file.stem, file.parent / said.folder, Path(said.root), said.preset, said.settings)
