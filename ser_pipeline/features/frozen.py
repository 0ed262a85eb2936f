"""Features of a frozen speech encoder: computed once from the stored waveforms, so that training trains only a head.

These stores resemble those of `extract`: they are complete or absent, resume shard by shard, and copy rows from an
earlier store of the same settings. This module is separate because it needs torch and runs best on a GPU. A store's key
includes a hash of the encoder's weights; `train` finds a store by the encoder's name, so it does not need the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ser_pipeline.arrays import Rows
from ser_pipeline.cache import manifest, shard_writing, shards
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.store import Store
from ser_pipeline.claims import Claims, at_work
from ser_pipeline.config import Config
from ser_pipeline.cost import Meter
from ser_pipeline.device import fixed_threads
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.embeddings import open_embedder
from ser_pipeline.features.hours import LONG, StoredSignal, summed_up
from ser_pipeline.features.statistics import StatisticsMaker, open_statistics
from ser_pipeline.features.stores import Place, copied, find, frozen_settings, known_rows, require_shards, store_entry
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model.speech import FrameEncoder, KeptEncoder
from ser_pipeline.parts import Parts, once, own_first
from ser_pipeline.processes import handed_here


class Maker(Protocol):
    """Computes one feature with a frozen speech encoder."""

    @property
    def content(self) -> str:
        """Hash of the encoder's configuration and weights."""

    @property
    def encoder(self) -> FrameEncoder:
        """The frozen speech encoder itself."""

    def found(self) -> dict[str, Any]:
        """The settings of the feature that follow from the encoder."""

    def __call__(
        self, waveforms: NDArray[np.int16], samples: Rows, counts: Rows, keys: Sequence[str]
    ) -> list[NDArray[np.float16]]:
        """The rows of each utterance.

        Args:
            waveforms: (S, 1 + N) stored segments of the utterances, one utterance after the other.
            samples: (S,) number of real samples of each segment.
            counts: (U,) segments of each utterance.
            keys: (U,) keys of the utterances, which seed augmented versions.
        """


class OpenMaker(Protocol):
    """Opens the encoder of a feature."""

    def __call__(self, config: Config, device: torch.device, kept: KeptEncoder | None = None) -> Maker:
        """Open the encoder on its device.

        Args:
            config: names the encoder.
            device: device that the encoder runs on.
            kept: the encoder itself, if it is stored next to a model; None looks it up by its name.
        """


MAKERS: Mapping[str, OpenMaker] = {
    "embedding": open_embedder,
    "statistics": open_statistics,
}
"""Feature -> the function that opens its encoder."""


def embed(
    folder: Path,
    config: Config,
    name: str,
    *,
    device: torch.device,
    part: tuple[int, int] | None = None,
    compress: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Return the complete store of feature `name` in the features folder `folder`; compute it if it is missing.

    Args:
        folder: a complete features folder with a store of waveforms.
        config: `audio` and the feature's own settings are used.
        name: one of MAKERS.
        device: device that the encoder runs on.
        part: K and N: begin with share K of N, where several processes share the work.
        compress: whether to compress new shards.
        progress: called with the number of utterances that are done, and the total.

    Raises:
        PipelineError: the encoder or the waveforms are missing, or the disk is full; finished work is kept.
    """
    if compress:
        shards.compression()
    waveform = store_entry(folder, "waveform", config)
    if not waveform.done:
        raise PipelineError(f"{folder} has no waveforms; run `ser-pipeline features` with --feature waveform first")
    meter = Meter(gpu=device.type != "cpu")
    data, maker = manifest.read(folder), MAKERS[name](config, device)
    wanted = {**frozen_settings(config, name), "waveform": waveform.path.name, **maker.found()}
    store = Entry.keyed(folder, name, wanted)
    if store.done:
        if find(folder, config, name).path != store.path:
            (store.path / "index.json").touch()  # of several stores for this encoder's name, `find` returns the latest
        return store.path
    claims = Claims.beside(folder)
    with fixed_threads(1):
        names, made = _write(store, data, Store(waveform.path), maker, claims, part, compress, progress)
    # the total cost is unknown if a killed call or another process did part of the work
    cost: dict[str, Any] = meter.read() if made == len(names) else {}
    require_shards(store, names)
    publish = partial(store.publish, shards=names, rows=int(_rows_of(data, name).stored.sum()), **cost)
    once(claims, f"{folder.name}/{store.path.name}", lambda: store.done, publish)
    if not at_work(folder):
        claims.remove(folder.name)
    return store.path


def _rows_of(data: Manifest, name: str) -> Manifest:
    """The manifest whose segments are the rows of the feature `name`."""
    return data.whole if INPUTS[name].kind == "utterance" else data


def _write(
    store: Entry,
    data: Manifest,
    waveforms: Store,
    maker: Maker,
    claims: Claims,
    part: tuple[int, int] | None,
    compress: bool,
    progress: Callable[[int, int], None],
) -> tuple[list[str], int]:
    """Write the shards that `store` lacks and no other process writes; return all names and the number written here."""
    store.begin()
    known, feature = known_rows(store.path.parent.parent, store), str(store.inputs["feature"])
    kept, made = shards.shard_settings(store.inputs), 0
    bounds = list(shards.shard_bounds(_rows_of(data, feature).stored))
    names = [shards.name(number) for number, _ in enumerate(bounds)]

    def write(number: int) -> None:
        first, last = bounds[number]
        progress(first, len(data.utterances))
        rows = _parts(np.arange(first, last), data, waveforms, maker, known)
        keys, file = list(data.keys[first:last]), store.partial / names[number]
        try:
            shard_writing.write_shard(file, feature, kept, keys, rows, extremes=False, compress=compress)
        except FileNotFoundError:
            if not store.done:
                raise

    parts = Parts(
        claims,
        own_first(range(len(names)), part),
        lambda number: f"{store.path.parent.name}/{store.path.name}-{number:03}",
        lambda number: store.done or (store.partial / names[number]).exists(),
    )
    with parts.sharing():
        for number, _ in handed_here(write, parts):
            parts.end(number)
            made += 1
    progress(len(data.utterances), len(data.utterances))
    return names, made


def _parts(
    utterances: Rows, data: Manifest, waveforms: Store, maker: Maker, known: Mapping[str, Place]
) -> list[NDArray[np.float16]]:
    """The rows of each of `utterances`: copied if they are already stored, otherwise computed in batches."""
    opened: dict[Path, shards.Shard] = {}
    parts = {row: copied(known.get(data.keys[row]), opened) for row in utterances.tolist()}
    if isinstance(maker, StatisticsMaker):
        for row in [row for row, part in parts.items() if part is None and data.samples[row] > LONG * data.audio.rate]:
            parts[row] = summed_up(maker, _stored(data, waveforms, row), data.keys[row])
    left = np.array([row for row, part in parts.items() if part is None], np.int64)
    if len(left):
        rows = data.rows(left)
        samples = np.ascontiguousarray(data.segments[rows, 2])
        made = maker(waveforms.read(rows), samples, data.stored[left], [data.keys[row] for row in left])
        parts |= zip(left.tolist(), made, strict=True)
    return [parts[row] for row in utterances.tolist()]


def _stored(data: Manifest, waveforms: Store, utterance: int) -> StoredSignal:
    """An utterance read from the store of waveforms."""
    rows = data.rows(np.array([utterance]))
    return StoredSignal(
        lambda first, last: waveforms.read(rows[first:last]), data.audio.segment, int(data.samples[utterance])
    )
