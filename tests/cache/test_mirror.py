"""Training from a cache at a URL: shards are copied into a folder of limited size when they are first read."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import Result

from ser_pipeline.cache import catalogue, manifest, mirror, transfer
from ser_pipeline.cache.mirror import local_cache
from ser_pipeline.cache.store import Store
from ser_pipeline.errors import PipelineError
from ser_pipeline.remote import RemoteFolder
from support.killed import TINY
from support.results import predictions

NAMES = ("mfcc", "spectrogram", "waveform")


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put mirrors into a folder of the test, and forget those that are open."""
    monkeypatch.setenv("SER_PIPELINE_LOCAL", str(tmp_path / "mirrors"))
    mirror._shelf.cache_clear()
    yield
    mirror._shelf.cache_clear()


def stores(cache: Path) -> dict[str, Store]:
    folder = catalogue.find(cache, "emodb").folder
    return {name: Store(next(folder.glob(f"{name}-*"))) for name in NAMES}


def here(tmp_path: Path) -> list[str]:
    """Return the features whose shards have been copied."""
    return sorted(file.parent.name.partition("-")[0] for file in tmp_path.glob("mirrors/*/features/*/*/*.h5"))


def test_runs_from_a_url_are_those_of_a_folder(
    url: str, made: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    transfer.push(made, url)
    words = ["train", "--corpus", "emodb", "--preset", "demo", "--protocol", "group-2"]
    words += ["--accept", "counts", "--accept", "class-untrained"]
    words += ["--jobs", "1", "--quiet", *(word for setting in TINY for word in ("--set", setting))]
    far = run(*words, "--cache", url, "--runs-root", "far/runs").stdout
    assert run(*words, "--cache", made, "--runs-root", "near/runs").stdout == far.replace("far/", "near/")
    assert predictions(tmp_path / "far") == predictions(tmp_path / "near") != {}


def test_shards_are_copied_as_they_are_read_and_the_first_of_them_go(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer.push(made, address := f"file://{tmp_path / 'far'}")
    near = stores(made)
    sizes = {name: store.shards[0].file.stat().st_size for name, store in near.items()}
    monkeypatch.setenv("SER_PIPELINE_LOCAL_GB", str((sizes["waveform"] + sizes["mfcc"] + 1) / 1e9))
    place = local_cache(address)
    assert here(tmp_path) == []
    assert manifest.read(catalogue.find(place, "emodb").folder).keys
    far = stores(place)
    rows = np.arange(len(near["mfcc"]))[::-1]
    for name in ("waveform", "spectrogram", "mfcc", "waveform", "mfcc", "spectrogram"):
        assert np.array_equal(far[name].read(rows), near[name].read(rows))
        assert name in here(tmp_path)
        assert sum(sizes[one] for one in here(tmp_path)) <= sizes["waveform"] + sizes["mfcc"] + 1
    assert np.array_equal(far["waveform"].piece(1, 5, 9), near["waveform"].piece(1, 5, 9))


def test_a_shard_that_is_being_read_stays(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer.push(made, address := f"file://{tmp_path / 'far'}")
    monkeypatch.setenv("SER_PIPELINE_LOCAL_GB", "1e-9")
    far = stores(local_cache(address))
    shard = far["mfcc"].shards[0]
    with shard.rows.shelf.shard(shard.file, shard.rows.inputs):
        far["waveform"].read(np.arange(1))
        assert here(tmp_path) == ["mfcc", "waveform"]
    far["spectrogram"].read(np.arange(1))
    assert here(tmp_path) == ["spectrogram"]


def test_a_copy_that_is_stopped_or_damaged_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer.push(made, address := f"file://{tmp_path / 'far'}")
    place, fetch = local_cache(address), RemoteFolder.fetch

    def stopped(remote: RemoteFolder, name: str, file: Path) -> None:
        fetch(remote, name, file)
        file.write_bytes(file.read_bytes()[:5000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "fetch", stopped)
        with pytest.raises(KeyboardInterrupt):
            stores(place)
    assert here(tmp_path) == []
    shard = next(tmp_path.glob("far/*/mfcc-*/000.h5"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(
        PipelineError, match=r"^emodb-\w+/mfcc-\w+/000.h5 at .* is damaged \(row \d+: its checksum differs\)"
    ):
        stores(place)
    assert here(tmp_path) == []
    shard.write_bytes(data)
    assert len(stores(place)["mfcc"])


def test_a_mirror_follows_its_url(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer.push(made, address := f"file://{tmp_path / 'far'}")
    names, fetch = list[str](), RemoteFolder.fetch

    def counted(self: RemoteFolder, name: str, file: Path) -> None:
        names.append(name)
        fetch(self, name, file)

    monkeypatch.setattr(RemoteFolder, "fetch", counted)
    assert local_cache(address) == local_cache(f"{address}/")
    assert names.count("emodb.json") == 2, "the pointer, which names the current features of a corpus"
    assert max(map(names.count, set(names) - {"emodb.json"})) == 1
    assert names.index("emodb.json") < min(place for place, name in enumerate(names) if name.endswith("index.json"))


def test_what_cannot_be_trained_from_is_one_line(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run("features", "demo", "--cache", "s3://bucket/x", status=2).stderr
    assert re.search(r"s3://bucket/x is a URL, which\s+only\s+train\s+reads", said)
    fsspec.filesystem("memory").pipe("/nothing/notes/a.txt", b"a")
    with pytest.raises(PipelineError, match="there are no features at memory://nothing; `ser-pipeline cache push`"):
        local_cache("memory://nothing")
    monkeypatch.setenv("SER_PIPELINE_LOCAL_GB", "much")
    with pytest.raises(PipelineError, match="SER_PIPELINE_LOCAL_GB is 'much', not a number of gigabytes above 0"):
        local_cache("memory://nothing")
