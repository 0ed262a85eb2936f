from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from ser_pipeline import audio, config
from ser_pipeline.cache import manifest
from ser_pipeline.config import Audio
from ser_pipeline.data.neighbours import Neighbours, longer
from ser_pipeline.data.stream import open_data, open_source
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.extract import DEFAULT_FEATURES
from ser_pipeline.features.stores import store_entry
from support.stores import CONFIG, make

CPU = torch.device("cpu")


@pytest.mark.parametrize("way", ["resident", "stream"])
def test_neighbours_joined_are_what_longer_segments_would_have_been(
    small_emodb: Path, tmp_path: Path, way: str
) -> None:
    folder = make(small_emodb, tmp_path / "cache")
    short = manifest.read(folder)
    long = longer(short, 2)
    assert len(long.segments) < len(short.segments)
    stores = {name: [store_entry(folder, name, CONFIG).path] for name in DEFAULT_FEATURES}
    source = Neighbours(open_source(open_data(short, stores), CPU, way), short, long)
    sounds = [audio.decode((small_emodb / one.file).read_bytes(), one.file, 16_000) for one in long.utterances]
    rows = np.random.default_rng(0).permutation(len(long.segments))
    batches = list(map(copied, source.batches(rows, 5)))
    assert [len(batch.label) for batch in batches] == [min(5, len(rows) - first) for first in range(0, len(rows), 5)]
    for name in DEFAULT_FEATURES:
        settings = getattr(CONFIG.features, name, None)
        with threadpool_limits(1):  # as `features` computes them: the last digit of a product depends on its threads
            wanted = np.concatenate([FEATURES[name].rows(sound, Audio(segment=96_000), settings) for sound in sounds])
        found = torch.cat([batch[name] for batch in batches]).numpy()
        np.testing.assert_array_equal(found, wanted[rows])
    utterance, _, samples = long.segments[rows].T
    assert torch.cat([batch.utterance for batch in batches]).tolist() == utterance.tolist()
    assert torch.cat([batch.samples for batch in batches]).tolist() == samples.tolist()


def copied(batch):  # type: ignore[no-untyped-def]
    return batch.map(torch.clone)


def test_what_is_heard_at_a_time_is_a_setting_of_the_model() -> None:
    chosen = config.load(overrides=["model.segments=2"])
    assert (chosen.audio.segment, chosen.model_audio.segment) == (48_000, 96_000)
    with pytest.raises(PipelineError, match=r"model\.segments"):
        config.load(overrides=["model.segments=0"])
