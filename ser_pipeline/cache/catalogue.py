"""Which features belong to which corpus: a small pointer a corpus, written by `features`, read by the later stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ser_pipeline.entry import read_json, write_json
from ser_pipeline.errors import PipelineError


@dataclass(frozen=True)
class FeatureSet:
    """A corpus that has features."""

    corpus: str
    folder: Path  # of its manifest and stores
    root: Path  # where its audio was last seen
    preset: str = ""  # of the settings that they were last made with; "": of an earlier version
    settings: tuple[str, ...] = ()  # `KEY=VALUE` pairs over that preset


def features_root(cache: Path) -> Path:
    """Where a cache keeps features."""
    return cache / "features"


def register(cache: Path, source: FeatureSet) -> FeatureSet | None:
    """Make `source` the features that `train` takes for its corpus; returns others that it took until now.

    Without a preset, that of the call before is kept: one more feature of any model was made.
    """
    before = next((known for known in sources(cache) if known.corpus == source.corpus), None)
    if before and not source.preset:
        source = replace(source, preset=before.preset, settings=before.settings)
    made = {"preset": source.preset, "settings": source.settings} if source.preset else {}
    value = {"folder": source.folder.name, "root": str(source.root.resolve()), **made}
    write_json(features_root(cache) / f"{source.corpus}.json", value)
    return before if before and before.folder != source.folder else None


def sources(cache: Path) -> list[FeatureSet]:
    """Every corpus that has features, by name."""
    return [_read(file) for file in sorted(features_root(cache).glob("*.json"))]


def find(cache: Path, corpus: str | None) -> FeatureSet:
    """The features of `corpus`, or, where None, of the only corpus that has some.

    Raises:
        PipelineError: there are none, or several to choose from.
    """
    there = sources(cache)
    names = ", ".join(source.corpus for source in there)
    if not there:
        raise PipelineError(f"no features in {cache}; make some first: ser-pipeline features {corpus or ''}".rstrip())
    if corpus is None and len(there) > 1:
        raise PipelineError(f"several corpora have features: {names}; choose one with --corpus")
    for source in there:
        if corpus in (None, source.corpus):
            return source
    if corpus == "table":
        raise PipelineError(f"features of a table are named after its file; choose one with --corpus: {names}")
    raise PipelineError(
        f"no features of '{corpus}' in {cache} (there are {names}): ser-pipeline features {corpus} ROOT"
    )


def _read(file: Path) -> FeatureSet:
    value = read_json(file)
    preset, pairs = str(value.get("preset", "")), tuple(map(str, value.get("settings", ())))
    return FeatureSet(file.stem, file.parent / value["folder"], Path(value["root"]), preset, pairs)
