"""Stage 1 as one call: from a corpus and settings to a folder with all requested features."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

from ser_pipeline import config as settings
from ser_pipeline.cache import catalogue
from ser_pipeline.cache.catalogue import FeatureSet
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.shards import shard_bounds
from ser_pipeline.config import Config
from ser_pipeline.corpora import audio_folder, class_table, demo, find_corpus, read_corpus, require_root
from ser_pipeline.corpora.classes import parse_classes
from ser_pipeline.corpora.corpus import Corpus
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.default_preset import default_preset
from ser_pipeline.features.extract import extract as extract_stores
from ser_pipeline.features.extract import wanted_features
from ser_pipeline.features.measure import measure
from ser_pipeline.features.stores import FROZEN, rendered, stored
from ser_pipeline.inputs import INPUTS
from ser_pipeline.limits import require_counts
from ser_pipeline.names import unknown
from ser_pipeline.remote import copied, is_url

log = logging.getLogger(__name__)

MOST_BYTES = 500e9
"""Limit for storing the rows of features when the settings leave it open: the rows of some 5,000 hours."""

Bar = Callable[[int, int], None]
"""Called with what is done and the total."""

Bars = Callable[[str, str], AbstractContextManager[Bar]]
"""Maps a title and a unit to a context with a progress bar."""


@dataclass(frozen=True)
class Extracted:
    """Result of `extract`."""

    folder: Path  # the features folder
    manifest: Manifest
    left_out: tuple[str, ...] = ()  # reasons why audio was left out, with `skip_bad`
    replaced: FeatureSet | None = field(default=None, repr=False)  # the corpus's features before this call


@contextmanager
def no_bar(title: str, unit: str) -> Iterator[Bar]:
    """A progress bar that shows nothing."""
    yield lambda done, total: None


def extract(
    corpus: str = "demo",
    root: Path | str | None = None,
    *,
    preset: str | None = None,
    config: Path | str | None = None,
    overrides: Iterable[str] = (),
    classes: str | None = None,
    subset: str = "",
    features: Sequence[str] = (),
    device: str = "auto",
    jobs: int | None = None,
    part: tuple[int, int] | None = None,
    compress: bool = False,
    skip_bad: bool = False,
    rated: bool = False,
    cache: Path | str = "cache",
    bars: Bars = no_bar,
) -> Extracted:
    """Extract features of a corpus into the cache; features that are already there are not computed again.

    Args:
        corpus: a name that `ser-pipeline corpora` lists; "demo" is synthesised.
        root: the corpus's folder, or the file of a table; a URL that fsspec reads is copied into the cache.
        preset: named settings; by default those that suit the corpus and the machine (`default_preset`).
        config: TOML file of settings over the preset.
        overrides: `KEY=VALUE` pairs over both.
        classes: classes and merges, such as "neutral=neu,happy=hap+exc".
        subset: part of the corpus.
        features: features to extract; by default all that the model of the settings reads.
        device: device that a frozen speech encoder runs on.
        jobs: processes; by default as many as the amount of audio keeps busy.
        part: K and N: begin with share K of N, where several processes share the work.
        compress: whether to compress new shards.
        skip_bad: whether to leave out, and report, audio that cannot be read.
        rated: whether to keep utterances without a class that have votes for one, or attributes.
        cache: folder of the features.
        bars: shows progress.

    Raises:
        PipelineError: an unknown corpus, feature or setting, broken audio, a full disk, or an unavailable encoder.
    """
    require_counts(jobs=jobs)
    cache = Path(cache)
    asked = _Asked(corpus, root, preset, config, tuple(overrides), classes, subset, tuple(features), device)
    found = _measured(asked, cache, skip_bad, rated, bars)
    data, chosen = found.data, found.chosen
    made = list(dict.fromkeys(features or wanted_features(chosen)))
    if "store" not in settings.given(Path(config) if config else None, asked.overrides):
        chosen = _store(data, chosen, made)
    folder = _stores(data, found.audio_root, chosen, cache, made, device, jobs, part, compress, bars)
    made_with = ("", ()) if features and not preset else (found.preset, _changes(found.preset, chosen))
    replaced = catalogue.register(cache, FeatureSet(data.corpus, folder, found.audio_root, *made_with))
    return Extracted(folder, data, found.left_out, replaced)


def shard_count(*args: Any, **options: Any) -> int:
    """Measure a corpus for all processes that will extract it; return the number of shards of each feature.

    Args:
        args: positional arguments of `extract`.
        options: keyword arguments of `extract`.

    Raises:
        PipelineError: as in `extract`.
    """
    bound = signature(extract).bind(*args, **options)
    bound.apply_defaults()
    given = bound.arguments
    asked = _Asked(**{field.name: given[field.name] for field in fields(_Asked)})
    measured = _measured(asked, Path(given["cache"]), given["skip_bad"], given["rated"], given["bars"])
    return len(list(shard_bounds(measured.data.stored)))


@dataclass(frozen=True)
class _Asked:
    """The arguments of `extract` that decide which features of which utterances are extracted."""

    corpus: str
    root: Path | str | None
    preset: str | None
    config: Path | str | None
    overrides: Iterable[str]
    classes: str | None
    subset: str
    features: Sequence[str]
    device: str


@dataclass(frozen=True)
class _Measured:
    """A corpus whose files were measured, and its settings."""

    data: Manifest
    audio_root: Path
    chosen: Config
    preset: str
    left_out: tuple[str, ...]


def _measured(asked: _Asked, cache: Path, skip_bad: bool, rated: bool, bars: Bars) -> _Measured:
    """Read the labels of a corpus and measure its files.

    Args:
        asked: the user's arguments.
        cache: folder of the features, which remembers measured files.
        skip_bad: whether to leave out audio that cannot be read.
        rated: whether to keep utterances without a class.
        bars: shows progress.
    """
    row, preset, features = find_corpus(asked.corpus), asked.preset, asked.features
    overrides, file = list(asked.overrides), Path(asked.config) if asked.config else None
    settings.load(preset or row.preset, file, overrides)  # reports mistakes before any other work is done
    for name in features:
        if name not in settings.INPUTS:
            raise PipelineError(unknown("feature", name, settings.INPUTS))
    place = _place(asked, cache, bars)
    wanted = parse_classes(asked.classes) if asked.classes else None
    utterances = read_corpus(asked.corpus, place, wanted, asked.subset, check_audio=not skip_bad, rated=rated)
    labels = class_table(row, utterances, wanted)
    named = _preset(row, preset, file, overrides, features, asked.device)
    chosen = settings.load(named, file, overrides)
    audio_root, left_out = audio_folder(place), list[str]()
    data = measure(
        _name(asked.corpus, place),
        labels,
        utterances,
        audio_root,
        chosen.audio,
        memory=catalogue.features_root(cache),
        skip_bad=skip_bad,
        bad=left_out.append,
    )
    return _Measured(data, audio_root, chosen, named, tuple(left_out))


def _preset(
    row: Corpus, preset: str | None, file: Path | None, overrides: Sequence[str], names: Sequence[str], device: str
) -> str:
    """The preset that the user named, or else the default one; features requested by name fit any model."""
    if preset or names:
        return preset or row.preset
    found = default_preset(row, file, overrides, device)
    log.info("%s", found.line)
    return found.name


def _changes(preset: str, chosen: Config) -> tuple[str, ...]:
    """The `KEY=VALUE` pairs by which these settings of features differ from the preset; `train` applies them."""
    usual = settings.load(preset)
    made = replace(usual, audio=chosen.audio, features=chosen.features, store=chosen.store)
    return tuple(settings.pairs(made, usual))


def _store(data: Manifest, chosen: Config, made: Sequence[str]) -> Config:
    """The settings, with waveforms alone stored if the rows of all features would exceed `MOST_BYTES`.

    Args:
        data: the corpus.
        chosen: the settings, without a user's value of `store`.
        made: the requested features.
    """
    alone = replace(chosen, store="waveform")
    rows = [INPUTS[name] for name in rendered(made, alone)]
    each = sum(row.bytes(chosen.audio, getattr(chosen.features, row.name)) for row in rows)
    if each * int(data.stored.sum()) <= MOST_BYTES:
        return chosen
    names, size = ", ".join(row.name for row in rows), each * int(data.stored.sum()) / 1e9
    log.info("%s would take %.0f GB: only the waveforms are stored (--store features stores the rows)", names, size)
    return alone


def _stores(
    data: Manifest,
    root: Path,
    chosen: Config,
    cache: Path,
    made: Sequence[str],
    device: str,
    jobs: int | None,
    part: tuple[int, int] | None,
    compress: bool,
    bars: Bars,
) -> Path:
    """Extract every feature in `made` and return the folder; frozen encoders read the stored waveforms."""
    frozen = [name for name in made if name in FROZEN]
    plain = list(stored([name for name in made if name not in FROZEN], chosen))
    plain += ["waveform"] if frozen and "waveform" not in plain else []
    with bars("features", "utterances") as bar:
        folder = extract_stores(
            data,
            root,
            chosen,
            catalogue.features_root(cache),
            names=plain,
            jobs=jobs,
            part=part,
            compress=compress,
            progress=bar,
        )
    if frozen:
        from ser_pipeline.device import pick_device  # needs torch, as the encoders do
        from ser_pipeline.features.frozen import embed

        for name in frozen:
            with bars(name, "utterances") as bar:
                embed(folder, chosen, name, device=pick_device(device), part=part, compress=compress, progress=bar)
    return folder


def _name(corpus: str, place: Path) -> str:
    """The name of the features; a table and a user's own folder give theirs."""
    own = {"table": place.stem, "folder": place.resolve().name}.get(corpus, corpus)
    return re.sub(r"[^\w.-]+", "_", own).strip(".") or corpus if corpus == "folder" else own


def _place(asked: _Asked, cache: Path, bars: Bars) -> Path:
    """The folder of a corpus or the file of a table; the target of a URL is copied into the cache."""
    if asked.root is None:
        require_root(asked.corpus, asked.root)
        return _demo(cache, bars)
    if not is_url(asked.root):
        return Path(asked.root)
    with bars("copy", "files") as bar:
        return copied(str(asked.root), cache / "corpora" / "copied", bar)


def _demo(cache: Path, bars: Bars) -> Path:
    """The folder of the demo corpus, synthesised now if it is missing."""
    place = cache / "corpora" / "demo"
    with Entry(place, {}).lock(reading=place.exists()), bars("synthetic speech", "utterances") as bar:
        demo.write(place, progress=bar)
    return place
