"""Locate the store of a feature by its settings: the folders that stage 1 writes and stage 2 opens."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ser_pipeline.cache import catalogue, manifest, shards
from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Config, keyed
from ser_pipeline.corpora import CORPORA
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.entry import PARTIAL, Entry, read_index
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.inputs import INPUTS
from ser_pipeline.names import unknown
from ser_pipeline.splits import joining
from ser_pipeline.text import few

FROZEN = tuple(name for name, row in INPUTS.items() if not row.function)
"""Features that a frozen speech encoder computes from the stored waveforms."""

RESOLVED = ("content", "depth", "frames", "width")
"""Settings of these features that are filled in from the encoder's store."""

log = logging.getLogger(__name__)

Place = tuple[Path, int, int]
"""Shard file, first row and number of rows of an utterance."""


def store_entry(folder: Path, name: str, config: Config) -> Entry:
    """The store of feature `name` in a features folder; its key covers everything its values depend on.

    Args:
        folder: features folder of a corpus.
        name: name of the feature.
        config: settings that its values depend on.
    """
    if name not in FEATURES:
        raise PipelineError(unknown("feature", name, FEATURES))
    made = {"feature": name, "version": FEATURES[name].version, "shards": shards.FORMAT}
    settings = plain_settings(getattr(config.features, FEATURES[name].table, None))
    return Entry.keyed(folder, name, {**made, "audio": config.audio, "settings": settings})


def known_rows(cache: Path, store: Entry) -> dict[str, Place]:
    """Find rows that complete stores of the same settings, of this corpus or another, already contain, by audio key."""
    places: dict[str, Place] = {}
    for folder in sorted(cache.glob(f"*/{store.path.name}")):
        if folder.parent.name.endswith(PARTIAL):
            continue
        for file in sorted(folder.glob("*.h5")):
            try:
                shard = shards.open_shard(file, store.inputs)
            except shards.DamagedError as error:
                log.warning("%s; its rows are computed again", error)
                continue
            for key, first, count in zip(shard.keys, shard.firsts.tolist(), shard.counts.tolist(), strict=True):
                places.setdefault(key, (file, first, count))
    return places


def copied(place: Place | None, opened: dict[Path, shards.Shard]) -> Any:
    """The rows at `place`, verified; None if there are none or they are damaged."""
    if place is None:
        return None
    file, first, count = place
    try:
        shard = opened.get(file) or opened.setdefault(file, shards.open_shard(file))
        shard.check(range(first, first + count))
    except shards.DamagedError as error:
        log.warning("%s; its rows are computed again", error)
        return None
    return np.array(shard.rows[first : first + count])


def plain_settings(settings: Any) -> dict[str, Any]:
    """The settings of a feature that are part of its key; empty for a feature without settings."""
    return keyed(settings) if settings is not None else {}


def read_manifest(sources: Sources) -> Manifest:
    """Read the manifest of a corpus, or of several joined corpora."""
    found = [manifest.read(folder) for folder in sources.folders]
    return joining.join(found, dict(sources.classes), sources.tested) if len(found) > 1 else found[0]


def on_disk(utterances: Iterable[Utterance], sources: Sources) -> tuple[Utterance, ...]:
    """Utterances of joined corpora with the full paths of their files.

    Args:
        utterances: utterances from `joining.join`; their files are below a folder named after their corpus, unless
            one corpus is the test corpus.
        sources: the joined corpora.
    """
    roots = {one.corpus: one.root.resolve() for one in sources.sets}
    names = (one.file if sources.tested else one.file.partition("/")[2] for one in utterances)
    return tuple(replace(one, file=str(roots[one.corpus] / name)) for one, name in zip(utterances, names, strict=True))


def rendered(names: Iterable[str], config: Config) -> tuple[str, ...]:
    """The features among `names` that are computed from stored waveforms: none unless only waveforms are stored.

    Deltas reach beyond the ends of a segment, so MFCCs with deltas are always stored.

    >>> rendered(["mfcc", "waveform"], Config()), rendered(["mfcc", "waveform"], Config(store="waveform"))
    ((), ('mfcc',))
    """
    if config.store != "waveform":
        return ()
    return tuple(
        name for name in names if INPUTS[name].level and not getattr(getattr(config.features, name), "deltas", 0)
    )


def stored(names: Sequence[str], config: Config) -> tuple[str, ...]:
    """The names of what is stored for the features `names`: their rows, or waveforms and levels.

    >>> stored(["mfcc", "embedding"], Config(store="waveform"))
    ('mfcc_level', 'waveform', 'embedding')
    """
    made = rendered(names, config)
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys([f"{name}_level", "waveform"] if name in made else [name])
    return tuple(found)


def with_store(features: Sequence[Path], config: Config) -> Config:
    """`config` with `store` adapted to the stores that exist.

    Waveforms alone are used, and a line is logged, if they are stored and the rows are not. Rows are used if none of
    the model's features can be computed from waveforms.

    Args:
        features: the features folder of each corpus.
        config: the settings.
    """
    if config.store == "waveform":
        return config if rendered(config.model.reads, config) else replace(config, store="features")
    alone = replace(config, store="waveform")
    if not rendered(config.model.reads, alone):
        return config
    there = [
        all(_store(folder, name, one).done for folder in features for name in stored(config.model.reads, one))
        for one in (config, alone)
    ]
    if there != [False, True]:
        return config
    log.info(
        "only the waveforms are stored: %s are computed on the device", ", ".join(rendered(config.model.reads, alone))
    )
    return alone


def require_shards(store: Entry, names: Sequence[str]) -> None:
    """Refuse to publish a store that has lost a shard.

    Raises:
        PipelineError: `cache verify` or somebody removed a shard.
    """
    gone = [] if store.done else [name for name in names if not (store.partial / name).exists()]
    if gone and not store.done:
        raise PipelineError(f"{store.partial} lacks {few(gone)}, removed in the meantime; run the same command again")


def find_stores(features: Sequence[Path], config: Config) -> tuple[tuple[str, tuple[Path, ...]], ...]:
    """Find every feature that the model reads, and its store in each of the folders.

    Raises:
        PipelineError: a store is missing.
    """
    wanted = stored(config.model.reads, config)
    stores = {name: [_store(folder, name, config) for folder in features] for name in wanted}
    for place, folder in enumerate(features):
        missing = [name for name, entries in stores.items() if not entries[place].done]
        if missing:
            corpus = folder.name.rpartition("-")[0]
            known = (
                shlex.join([corpus, str(catalogue.find(folder.parents[1], corpus).root)])
                if corpus in CORPORA
                else "table FILE"
            )
            raise PipelineError(
                f"{folder} lacks {', '.join(missing)} with these settings; run `ser-pipeline features {known}` "
                "with the same --preset, --config and --set first"
            )
    return tuple((name, tuple(entry.path for entry in entries)) for name, entries in stores.items())


def made_for(stores: Iterable[Path]) -> dict[str, float]:
    """Total `cpu_seconds` and `gpu_seconds` of computing `stores`; empty if the cost of any is unknown."""
    said = [read_index(store) for store in stores]
    names = ("cpu_seconds", "gpu_seconds")
    if not all(name in one for one in said for name in names):
        return {}
    return {name: round(sum(float(one[name]) for one in said), 3) for name in names}


def encoders_of(stores: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Feature -> hash and, if known, revision of the frozen encoder, for each of `stores` that an encoder computed."""
    said = [read_index(store)["inputs"] for store in stores]
    return {
        one["feature"]: {name: one[name] for name in ("content", "revision") if name in one}
        for one in said
        if "content" in one
    }


def _store(folder: Path, name: str, config: Config) -> Entry:
    return find(folder, config, name) if name in FROZEN else store_entry(folder, name, config)


def find(folder: Path, config: Config, name: str) -> Entry:
    """Find the store of a frozen encoder's feature by the settings of `config`, including `content` if it is set.

    If several encoders had the same name, the store that was computed or requested last is returned. The entry is not
    `done` if there is none.

    Args:
        folder: a features folder.
        config: `audio` and the feature's own settings are used.
        name: one of FROZEN.
    """
    known, wanted = [], frozen_settings(config, name)
    for index in folder.glob(f"{name}-*/index.json"):
        inputs = read_index(index.parent)["inputs"]
        same = {key: inputs.get(key) for key in wanted} == wanted
        if same and getattr(config.features, name).content in ("", inputs["content"]):
            known.append(index)
    if not known:
        return Entry(folder / name, {})
    latest = max(known, key=lambda index: index.stat().st_mtime_ns).parent
    return Entry(latest, read_index(latest)["inputs"])


def resolved(config: Config, folder: Path, name: str) -> Config:
    """Fill in what the store of feature `name` says of its encoder, if the model reads that feature.

    Args:
        config: the settings.
        folder: features folder of a corpus.
        name: name of the feature.
    """
    store = find(folder, config, name)
    if name not in config.model.reads or not store.done:
        return config
    table = getattr(config.features, name)
    found = {key: store.inputs[key] for key in RESOLVED if hasattr(table, key)}
    return replace(config, features=replace(config.features, **{name: replace(table, **found)}))


def frozen_settings(config: Config, name: str) -> dict[str, Any]:
    """The settings by which a frozen encoder's store is found, in JSON's types."""
    chosen = plain_settings(getattr(config.features, name))
    return {
        "feature": name,
        "version": INPUTS[name].version,
        "shards": shards.FORMAT,
        "audio": asdict(config.audio),
        "settings": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in chosen.items()
            if key not in RESOLVED
        },
    }
