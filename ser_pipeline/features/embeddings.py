"""Embeddings of a frozen speech encoder: made once from the stored waveforms, so that only a head is trained.

A store like those of `extract`: whole or absent, resumable shard by shard, and rows that an earlier store of the same
settings has are copied from there. It stands apart because it needs torch, and wants a GPU. Its key holds a hash of
the encoder's weights; `train` finds it by the encoder's name, so that the encoder need not be at hand then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ser_pipeline.cache import manifest, shards
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Config, Embedding
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.stores import EMBEDDING, Place, copied, embedding_settings, known_rows, store_entry
from ser_pipeline.model import speech

ENCODER_BATCH = 32
"""Segments that go through the encoder at a time."""

LARGEST = 65_504.0
"""Of float16."""


@dataclass(frozen=True)
class Embedder:
    """A frozen speech encoder on its device."""

    encoder: speech.FrameEncoder
    layers: tuple[int, ...]  # whose mean is taken: 0 is the input of the first; empty: all
    content: str  # hash of its configuration and weights
    device: torch.device
    finish: FinishWaveform = field(default_factory=lambda: FinishWaveform(unit=False))

    @torch.inference_mode()
    def __call__(self, waveform: NDArray[np.int16], samples: NDArray[np.int64]) -> NDArray[np.float16]:
        """Frames (S, T, D) of stored waveforms (S, 1 + N) with `samples` (S,) real ones."""
        parts = []
        for first in range(0, len(waveform), ENCODER_BATCH):
            part = slice(first, first + ENCODER_BATCH)
            rows, real = (torch.from_numpy(x[part]).to(self.device) for x in (waveform, samples))
            states = self.encoder.states(self.encoder.prepare(self.finish(rows, real), real)).layers
            mean = torch.stack([states[layer] for layer in self.layers or range(len(states))]).mean(0)
            parts.append(mean.clamp(-LARGEST, LARGEST).half().cpu())
        return np.asarray(torch.cat(parts).numpy())

    def shape(self, samples: int) -> tuple[int, int]:
        """Frames and width of a segment of `samples`."""
        return self.encoder.frames(samples), self.encoder.width


def open_embedder(settings: Embedding, device: torch.device) -> Embedder:
    """The encoder of `settings`, ready to be called.

    Raises:
        PipelineError: it cannot be had, or has no such layer.
    """
    options = speech.Options(mask_padding=False, frozen=True, inner=tuple(settings.layers) != (-1,))
    encoder = speech.open_encoder(settings.encoder, options, setting="features.embedding.encoder")
    count = encoder.layers + 1
    if any(not -count <= layer < count for layer in settings.layers):
        raise PipelineError(
            f"'features.embedding.layers' is a list of 0 to {count - 1} for {settings.encoder}, or of -1 for the last "
            f"and so on, not {list(settings.layers)}"
        )
    return Embedder(encoder.to(device).eval(), settings.layers, encoder.fingerprint(), device)


def embed(
    folder: Path,
    config: Config,
    *,
    device: torch.device,
    compress: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """The whole store of embeddings in the features folder `folder`, made now where it is not there.

    Args:
        folder: a whole features folder with a store of waveforms.
        config: `audio` and `features.embedding` are used.
        device: where the encoder runs.
        compress: whether new shards are packed.
        progress: called with the utterances done and wanted.

    Raises:
        PipelineError: the encoder or the waveforms cannot be had, or the disk is full; what is finished is kept.
    """
    if compress:
        shards.compression()
    waveform = store_entry(folder, "waveform", config)
    if not waveform.done:
        raise PipelineError(f"{folder} lacks waveform; run `ser-pipeline features` with --feature waveform first")
    data, embedder = manifest.read(folder), open_embedder(config.features.embedding, device)
    frames, width = embedder.shape(config.audio.segment)
    wanted = {
        **embedding_settings(config),
        "waveform": waveform.path.name,
        "content": embedder.content,
        "frames": frames,
        "width": width,
    }
    store = Entry.keyed(folder, EMBEDDING, wanted)
    with Entry(folder, {}).lock():
        if store.done:
            (store.path / "index.json").touch()  # of several with this encoder's name, `find` takes the latest
        else:
            names = _write(store, data, shards.Store(waveform.path), embedder, compress, progress)
            store.publish(shards=names, rows=int(data.counts.sum()))
    return store.path


def _write(
    store: Entry,
    data: Manifest,
    waveforms: shards.Store,
    embedder: Embedder,
    compress: bool,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Write the shards that `store` misses; returns the names of all."""
    store.partial.mkdir(parents=True, exist_ok=True)
    known, names = known_rows(store.path.parent.parent, store), []
    kept = {name: store.inputs[name] for name in ("audio", "version", "content")} | store.inputs["settings"]
    for number, (first, last) in enumerate(shards.shard_bounds(data.counts)):
        names.append(shards.name(number))
        progress(first, len(data.utterances))
        if not (store.partial / names[-1]).exists():
            parts = _parts(np.arange(first, last), data, waveforms, embedder, known)
            shards.write_shard(
                store.partial / names[-1],
                EMBEDDING,
                kept,
                list(data.keys[first:last]),
                parts,
                extremes=False,
                compress=compress,
            )
    progress(len(data.utterances), len(data.utterances))
    return names


def _parts(
    utterances: NDArray[np.int64],
    data: Manifest,
    waveforms: shards.Store,
    embedder: Embedder,
    known: Mapping[str, Place],
) -> list[NDArray[np.float16]]:
    """The rows of each of `utterances`: copied where they are known, or through the encoder, many at a time."""
    opened: dict[Path, shards.Shard] = {}
    parts = {row: copied(known.get(data.keys[row]), opened) for row in utterances.tolist()}
    left = np.array([row for row, part in parts.items() if part is None], np.int64)
    if len(left):
        rows = data.rows(left)
        made = embedder(waveforms.read(rows), np.ascontiguousarray(data.segments[rows, 2]))
        parts |= zip(left.tolist(), np.split(made, np.cumsum(data.counts[left])[:-1]), strict=True)
    return [parts[row] for row in utterances.tolist()]
