"""Features computed on the device from stored waveforms equal stored features, in training and in prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_pipeline import config
from ser_pipeline.cache import manifest
from ser_pipeline.config import Config
from ser_pipeline.corpora import demo
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.rendered import Rendered, RenderedData, with_surroundings
from ser_pipeline.data.stream import Data, open_data, open_source
from ser_pipeline.data.surroundings import AROUND, PLACE
from ser_pipeline.features import on_device
from ser_pipeline.features.acoustic import FEATURES, rounded
from ser_pipeline.features.rendering import Renderer
from ser_pipeline.features.stage import extract
from ser_pipeline.features.stores import find_stores
from support.sounds import tone, write_emodb

THREE = ("mfcc", "spectrogram", "logmel")
WANTED = 'model.inputs=["mfcc", "spectrogram", "logmel", "waveform"]'
CPU = torch.device("cpu")
SHARE = 1e-3
"""Share of the grey levels that may differ by one."""


def require_alike(name: str, made: np.ndarray, stored: np.ndarray) -> None:
    """Refuse rows that differ by more than the rounding of float32 and float16."""
    assert (made.shape, made.dtype) == (stored.shape, stored.dtype)
    if name == "mfcc":
        np.testing.assert_allclose(made.astype(float), stored.astype(float), atol=0.02, rtol=1e-3)
        assert np.array_equal(made.any(2), stored.any(2)), "both have the same real frames"
    else:
        apart = np.abs(made.astype(int) - stored.astype(int))
        assert apart.max() <= 1
        assert (apart > 0).mean() < SHARE


def opened(folder: Path, chosen: Config) -> tuple[Data, Data, Rendered]:
    """Open a corpus by its stored rows, and by its waveforms with the source that computes features from them."""
    data = manifest.read(folder)
    alone, reads = replace(chosen, store="waveform"), chosen.model.reads
    rows = open_data(data, dict(find_stores((folder,), chosen)))
    renderer = Renderer(THREE, chosen.audio, chosen.features)
    waves = open_data(data, dict(find_stores((folder,), alone)))
    waves = with_surroundings(waves, reads, renderer.before, renderer.after)
    return rows, waves, Rendered(open_source(waves, CPU, "stream"), renderer.on(CPU, reads))


def require_same(folder: Path, chosen: Config, count: int = 400) -> None:
    """Compare batches of both in a shuffled order, and the extremes of the images."""
    rows, waves, source = opened(folder, chosen)
    segments = np.random.default_rng(0).permutation(len(rows.manifest.segments))[:count]
    pairs = zip(open_source(rows, CPU, "stream").batches(segments, 50), source.batches(segments, 50), strict=True)
    for stored, made in pairs:
        assert list(made.inputs) == list(chosen.model.reads)
        for name in THREE:
            require_alike(name, made[name].numpy(), stored[name].numpy())
        assert torch.equal(made["waveform"], stored["waveform"])
        assert torch.equal(made.samples, stored.samples)
    everybody = np.arange(len(rows.manifest.utterances))
    assert isinstance(waves, RenderedData)
    for one, other in zip(
        rows.extremes("spectrogram", everybody), waves.extremes("spectrogram", everybody), strict=True
    ):
        assert np.abs(one.astype(int) - other).max() <= 1


def extracted(corpus: str, root: Path | None, cache: Path, *pairs: str) -> tuple[Path, Config]:
    """Extract a corpus into a cache in both ways; returns the cache and the settings."""
    overrides = [WANTED, *pairs]
    for store in ("features", "waveform"):
        both = [*overrides, f'store="{store}"']
        made = extract(corpus, root, preset="paper", overrides=both, cache=cache, jobs=1)
    return made.folder, config.load("paper", None, overrides)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ("features.mfcc.pre_emphasis=0.97", "features.spectrogram.pre_emphasis=0.97", "features.mfcc.pad_mode=reflect"),
        ("features.spectrogram.pad_mode=reflect", "features.logmel.pad_mode=reflect", "features.logmel.pre_emphasis=1"),
        ("audio.segment=1600", "features.mfcc.n_fft=4096", "features.logmel.top_db=40"),  # frames exceed segments
    ],
)
def test_rows_made_of_waveforms_are_those_of_the_stores(tmp_path: Path, pairs: tuple[str, ...]) -> None:
    demo.write(tmp_path / "cache" / "corpora" / "demo", utterances_per_speaker=4)
    require_same(*extracted("demo", None, tmp_path / "cache", *pairs))


def test_rows_made_of_the_waveforms_of_emodb_are_those_of_the_stores(tmp_path: Path, emodb: Path) -> None:
    require_same(*extracted("emodb", emodb, tmp_path / "cache"), count=300)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("length", [1, 2, 300, 47_999, 48_000, 48_100, 100_000])
def test_rows_of_a_recording_are_those_of_the_features(length: int, pad_mode: str) -> None:
    pairs = [f"features.{name}.pad_mode={pad_mode}" for name in THREE]
    chosen = config.load("paper", None, [*pairs, "features.mfcc.pre_emphasis=0.97"])
    samples = rounded(tone(3, 7.0, 140).astype(np.float32)[:length])
    made = Renderer(THREE, chosen.audio, chosen.features).on(CPU)
    for name in THREE:
        wanted = FEATURES[name].rows(samples, chosen.audio, getattr(chosen.features, name))
        require_alike(name, made.rows(name, samples), wanted)


def test_a_long_recording_is_made_a_stretch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config.load("paper")
    samples = rounded(np.concatenate([tone(1, 5.0, 120), 0.1 * tone(2, 6.0, 200)]).astype(np.float32))
    made = Renderer(THREE, chosen.audio, chosen.features).on(CPU)
    whole = {name: made.rows(name, samples) for name in THREE}
    monkeypatch.setattr("ser_pipeline.features.rendering.STRETCH", 1)
    for name in THREE:
        parts = list(made.parts(name, lambda first, last: samples[first:last], len(samples)))
        assert [len(part) for part in parts] == [1] * len(whole[name])
        require_alike(name, np.concatenate(parts), whole[name])


def test_a_step_makes_no_bins_that_no_row_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, made = config.load("paper"), list[int]()
    rendering = Renderer(("mfcc", "spectrogram"), chosen.audio, chosen.features).on(CPU, ("mfcc", "spectrogram"))
    squared = on_device.squared

    def counted(spectrum: torch.Tensor) -> torch.Tensor:
        made.append(spectrum.shape[2])
        return squared(spectrum)

    monkeypatch.setattr(on_device, "squared", counted)
    size, around = chosen.audio.segment, rendering.made.before + rendering.made.after
    rows = {"waveform": torch.ones(1, 1 + size), AROUND: torch.ones(1, around), PLACE: torch.tensor([[0, size]])}
    level = torch.zeros(1, 1)
    given = Batch({**rows, "mfcc_level": level, "spectrogram_level": level}, *torch.zeros(3, 1, dtype=torch.int64))
    assert rendering(given)["spectrogram"].shape == (1, 200, 300)
    assert made == [1024, 200]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_made_beside_a_step_are_those_made_alone(tmp_path: Path) -> None:
    chosen = config.load("paper", None, [WANTED])
    folder, _ = extracted("emodb", write_emodb(tmp_path / "corpus", speakers=2, takes=1), tmp_path / "cache")
    _, waves, plain = opened(folder, chosen)
    device, rows = torch.device("cuda"), np.arange(len(waves.manifest.segments)).repeat(20)
    render = Renderer(THREE, chosen.audio, chosen.features).on(device, chosen.model.reads)
    source, load = open_source(waves, device, "stream"), torch.randn(4096, 4096, device=device)
    alone = [render(batch) for batch in source.batches(rows, 8)]
    for made, wanted in zip(Rendered(source, render).batches(rows, 8), alone, strict=True):
        for name in THREE:
            require_alike(name, made[name].cpu().numpy(), wanted[name].cpu().numpy())
        load = load @ load / 64
    assert len(alone) == len(list(plain.batches(rows, 8)))


def test_waveforms_alone_take_half_of_the_space(tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=1, takes=1)
    folder, chosen = extracted("emodb", root, tmp_path / "cache")
    sizes = [
        sum(
            int(np.prod(store.shape)) * store.dtype.itemsize
            for store in open_data(manifest.read(folder), dict(found)).stores.values()
        )
        for found in (find_stores((folder,), one) for one in (chosen, replace(chosen, store="waveform")))
    ]
    assert sizes == [96_002 + 60_000 + 24_000 + 19_200, 96_002 + 4 * (1 + 401 + 1)]
